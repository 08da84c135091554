//! Keeps the openssl-style files where the ledger is.
//!
//! The files follow: they are written after the ledger's commit, synced when there is time, and
//! made good at the next start when a plug was pulled in between. Nothing here changes what the
//! ledger says, but for lines that a person added, which are adopted.

use std::{
    collections::{BTreeSet, HashMap},
    os::unix::fs::MetadataExt,
    path::Path,
};

use openssl::x509::X509;
use protocol::message::Name;

use super::{Vault, sign::Signed};
use crate::{
    authority::{
        self, Authority, Layout,
        index::{self, Left},
        newcerts,
        serial::serial_counter,
    },
    clock::Moment,
    durable::{self, Lock},
    fault::Fault,
    intake::der::{Reader, tag},
    ledger::{AuthorityId, CertificateRow, Intent, Ledger, Status},
};

mod audit;
mod check;
mod export;
mod packing;

pub(crate) use audit::follow as follow_audit;
pub use check::{CheckReport, check};
pub use export::export;
pub use packing::{PackReport, pack};

/// What is owed to the files.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Authorities whose index lines changed by a revocation.
    revoked: BTreeSet<Name>,
    /// No rewrite before this moment: a large index must not be rewritten for each revocation.
    rewrite_at_us: HashMap<Name, i64>,
    /// Authorities with files that are written but not synced.
    unsynced: BTreeSet<Name>,
    /// How we left the indexes.
    left: HashMap<Name, Left>,
    /// How we left the audit files.
    audit: audit::Left,
}

/// An index that was written so long ago is whole: `openssl ca` needs milliseconds.
const SETTLED_S: i64 = 2;

/// A rewrite may take a tenth of the time.
const REWRITE_SHARE: i64 = 10;

impl Files {
    /// Forgets what was put off.
    pub(super) fn hurry(&mut self) {
        self.rewrite_at_us.clear();
    }

    pub(super) fn note_revocation(&mut self, name: &Name) {
        self.revoked.insert(name.clone());
    }

    #[cfg(test)]
    pub(super) fn pause_rewrites(&mut self, name: &Name) {
        self.rewrite_at_us.insert(name.clone(), i64::MAX);
    }
}

impl Vault {
    /// Adds what was just issued to the indexes and to `newcerts/`. For each certificate one file
    /// is written; everything else is once for all.
    pub(super) fn follow_issued(&mut self, signed: &[Signed]) -> Result<(), Fault> {
        let mut by_authority: HashMap<AuthorityId, Vec<(&Intent, &[u8])>> = HashMap::new();
        for Signed { intent, der } in signed {
            by_authority.entry(intent.authority()).or_default().push((intent, der));
        }
        for (id, issued) in by_authority {
            let authority = self.authorities.values().find(|authority| authority.id() == id);
            let authority = authority
                .ok_or_else(|| Fault::Internal("a certificate has no authority".into()))?;
            let name = authority.name().clone();
            let _lock = lock(authority)?;
            for (intent, der) in &issued {
                newcerts::write(authority.layout(), intent.serial(), der)?;
            }
            self.add_lines(&name, &issued)?;
            self.write_serial(&name)?;
            self.files.unsynced.insert(name);
        }
        Ok(())
    }

    fn add_lines(&mut self, name: &Name, issued: &[(&Intent, &[u8])]) -> Result<(), Fault> {
        if self.adopt_changes(name)? == (Index::Changed { behind: true }) {
            // Who wrote it read the ledger, and had some of these lines or none.
            return self.rewrite(name);
        }
        let Some((newest, _)) = issued.last() else { return Ok(()) };
        let authority = &self.authorities[name];
        let row = self.ledger.index_row(authority.id(), newest.serial())?;
        let seq = row.map_or(0, |row| row.seq);
        let left = self.files.left.get_mut(name);
        let left = left.ok_or_else(|| Fault::Internal(format!("{name} was not reconciled")))?;
        if seq <= left.certificate {
            return Ok(()); // rewritten from the ledger since these were recorded, all at once
        }
        let rows: Vec<CertificateRow> = issued.iter().map(|(intent, _)| row_of(intent)).collect();
        left.stamp = index::append(authority.layout(), &rows, &left.stamp)?;
        left.certificate = seq;
        Ok(())
    }

    pub(super) fn write_serial(&mut self, name: &Name) -> Result<(), Fault> {
        let random = super::random_octets(&mut self.random)?;
        let authority = &self.authorities[name];
        let (counter, _) = self.ledger.counters(authority.id())?;
        index::write_serial(authority.layout(), counter, random)
    }

    /// Writes the index anew. The caller holds the lock.
    fn rewrite(&mut self, name: &Name) -> Result<(), Fault> {
        let authority = &self.authorities[name];
        let left = index::rewrite(authority.layout(), authority.id(), &self.ledger)?;
        self.files.left.insert(name.clone(), left);
        self.files.unsynced.insert(name.clone());
        Ok(())
    }

    /// Takes in what other programs wrote to any index, before serials are chosen.
    pub(super) fn adopt_all_changes(&mut self) -> Result<(), Fault> {
        self.adopt_changes_before(i64::MAX)
    }

    /// The same when nothing is asked of us, once whoever writes has had the time to end.
    pub(super) fn adopt_settled_changes(&mut self, now: Moment) -> Result<(), Fault> {
        self.adopt_changes_before(now.unix().0 - SETTLED_S)
    }

    fn adopt_changes_before(&mut self, moment_s: i64) -> Result<(), Fault> {
        let names: Vec<Name> = self.authorities.keys().cloned().collect();
        for name in names {
            let now = index::metadata(self.authorities[&name].layout())?;
            if now.is_some_and(|now| now.mtime() >= moment_s) {
                continue;
            }
            if self.is_as_we_left_it(&name)? {
                continue;
            }
            let _lock = lock(&self.authorities[&name])?;
            if self.adopt_changes(&name)? == (Index::Changed { behind: true }) {
                self.rewrite(&name)?;
            }
        }
        Ok(())
    }

    fn is_as_we_left_it(&self, name: &Name) -> Result<bool, Fault> {
        // One that is not reconciled yet is looked at then.
        let Some(left) = self.files.left.get(name) else { return Ok(true) };
        let now = index::metadata(self.authorities[name].layout())?;
        Ok(now.is_some_and(|now| left.stamp.is_of(&now)))
    }

    /// If somebody else wrote the index since we did, takes their lines in first. The caller
    /// holds the lock.
    fn adopt_changes(&mut self, name: &Name) -> Result<Index, Fault> {
        if self.is_as_we_left_it(name)? {
            return Ok(Index::AsWeLeftIt);
        }
        let authority = &self.authorities[name];
        let (layout, id) = (authority.layout(), authority.id());
        let noted = Left::noted(&self.ledger.files_at(id)?);
        let now = index::metadata(layout)?;
        let (left, behind) = if now.is_some_and(|now| noted.stamp.is_of(&now)) {
            // The console wrote it, from the ledger.
            let behind = self.ledger.last_certificate(id)? > noted.certificate
                || self.ledger.last_revocation(id)? > noted.revocation;
            (noted, behind)
        } else {
            tracing::info!(authority = %name, "the index was changed by another program");
            adopt(name, layout, id, &mut self.ledger, self.files.left.get(name))?
        };
        self.files.left.insert(name.clone(), left);
        self.files.unsynced.insert(name.clone());
        Ok(Index::Changed { behind })
    }

    /// Brings the files of the authorities that were just loaded to where the ledger is.
    pub(super) fn reconcile_new(&mut self) -> Result<(), Fault> {
        let is_new = |name: &&Name| !self.files.left.contains_key(*name);
        let names: Vec<Name> = self.authorities.keys().filter(is_new).cloned().collect();
        names.iter().try_for_each(|name| self.reconcile(name))
    }

    fn reconcile(&mut self, name: &Name) -> Result<(), Fault> {
        let authority = &self.authorities[name];
        let (layout, id) = (authority.layout(), authority.id());
        let _lock = lock(authority)?;
        let mut left = Left::noted(&self.ledger.files_at(id)?);
        if self.ledger.last_certificate(id)? > left.certificate
            || self.ledger.last_revocation(id)? > left.revocation
            || !index::metadata(layout)?.is_some_and(|now| left.stamp.is_of(&now))
        {
            let after = left.certificate;
            let (now, behind) = adopt(name, layout, id, &mut self.ledger, Some(&left))?;
            let restored = newcerts::restore(layout, id, &self.ledger, after)?;
            left = if behind { index::rewrite(layout, id, &self.ledger)? } else { now };
            if behind || restored > 0 {
                tracing::info!(authority = %name, restored, "files brought to the ledger's state");
            }
            self.files.unsynced.insert(name.clone());
        }
        super::crl::follow(authority, &self.ledger)?;
        let (counter, _) = self.ledger.counters(id)?;
        self.files.left.insert(name.clone(), left);
        if let Some(why) = index::serial_fault(layout, counter) {
            tracing::warn!(authority = %name, "the file serial is written again: {why}");
            self.write_serial(name)?;
        }
        Ok(())
    }

    /// Rewrites indexes in which a revocation changed a line.
    pub(super) fn follow_revocations(&mut self, now: Moment) -> Result<(), Fault> {
        let due: Vec<Name> = self
            .files
            .revoked
            .iter()
            .filter(|name| self.files.rewrite_at_us.get(*name).is_none_or(|at| *at <= now.boot_us))
            .cloned()
            .collect();
        for name in due {
            let _lock = lock(&self.authorities[&name])?;
            self.adopt_changes(&name)?;
            let lines_before = self.ledger.issued()?;
            self.rewrite(&name)?;
            // A line costs about two microseconds; waiting is free when the index is small.
            let pause_us = (2 * lines_before.min(1 << 40) as i64) * REWRITE_SHARE;
            self.files.rewrite_at_us.insert(name.clone(), now.boot_us + pause_us);
            self.files.revoked.remove(&name);
        }
        Ok(())
    }

    /// Waits for the disk and notes in the ledger how far the files are.
    pub(super) fn sync_files(&mut self) -> Result<(), Fault> {
        for name in std::mem::take(&mut self.files.unsynced) {
            let authority = &self.authorities[&name];
            // Else what the console writes just now would be noted as it was before.
            let _lock = lock(authority)?;
            let Some(left) = self.files.left.get(&name) else { continue };
            if !index::metadata(authority.layout())?.is_some_and(|now| left.stamp.is_of(&now)) {
                continue; // the next batch or start looks at it
            }
            sync_authority(authority.layout())?;
            let tx = self.ledger.begin(self.ledger.time_floor()?)?;
            tx.set_files_at(authority.id(), &left.to_note())?;
            tx.commit()?;
        }
        self.files.audit.sync(&mut self.ledger)
    }

    /// Appends new audit entries to the segment files.
    pub(super) fn follow_audit(&mut self) -> Result<(), Fault> {
        self.files.audit.follow(&self.directory, &self.ledger)
    }
}

/// What was found at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Index {
    AsWeLeftIt,
    /// Another program wrote it; its lines are in the ledger now.
    Changed {
        /// The ledger has more.
        behind: bool,
    },
}

/// The row of a certificate that was just issued, as its line needs it.
fn row_of(intent: &Intent) -> CertificateRow {
    CertificateRow {
        seq: 0,
        serial: intent.serial().clone(),
        not_after: intent.not_after(),
        subject: intent.subject().to_owned(),
        der: Vec::new(),
        status: Status::Valid,
        file: "unknown".into(),
        profile: intent.profile().to_string(),
        line: None,
    }
}

/// Takes foreign lines into the ledger. Answers how the index is now, and whether it is behind
/// the ledger. The caller holds the lock.
fn adopt(
    name: &Name,
    layout: &Layout,
    id: AuthorityId,
    ledger: &mut Ledger,
    left: Option<&Left>,
) -> Result<(Left, bool), Fault> {
    let found = index::compare(layout, id, ledger, left)?;
    if !found.foreign.is_empty() {
        let (ours, _) = ledger.counters(id)?;
        let mut intents = ledger.open_intents()?;
        intents.retain(|intent| intent.authority() == id);
        let mut tx = ledger.begin(ledger.time_floor()?)?;
        for row in &found.foreign {
            // In a restored backup: it was signed and handed out since, and a person brought it
            // back. It is not signed a second time.
            if let Some(intent) = intents.iter().find(|intent| *intent.serial() == row.serial) {
                check_is_of(layout, intent, &row.der)?;
                tx.store_certificate(intent, &row.der)?;
            }
            tx.adopt(id, row)?;
            // `openssl ca` counts up from the serial in our file: never take that one again.
            // Serials far from ours are another program's own, and must not use up our counter.
            if let Some(counter) =
                serial_counter(&row.serial).filter(|counter| is_near(*counter, ours))
            {
                tx.raise_serial_counter(id, counter)?;
            }
        }
        tx.commit()?;
        let count = found.foreign.len();
        tracing::warn!(authority = %name, count, "adopted index lines of another program");
    }
    let left = Left {
        stamp: found.stamp,
        certificate: ledger.last_certificate(id)?,
        revocation: ledger.last_revocation(id)?,
    };
    Ok((left, found.behind))
}

/// Whether this is the certificate that the intent is to become.
fn check_is_of(layout: &Layout, intent: &Intent, der: &[u8]) -> Result<(), Fault> {
    let tbs = || {
        let whole = Reader::new("a certificate", der).element("a certificate", tag::SEQUENCE);
        whole.is_ok_and(|whole| whole.content.starts_with(intent.tbs()))
    };
    let signed = || -> Result<bool, Fault> {
        let issuer = X509::from_pem(&durable::read(&layout.file("ca.crt"))?)?;
        Ok(X509::from_der(der)?.verify(&*issuer.public_key()?)?)
    };
    if !tbs() || !signed()? {
        let serial = intent.serial();
        return Err(Fault::Configuration(format!(
            "{}: serial {serial} is under way here, and newcerts/{serial}.pem is not its \
             certificate; put the one there that was handed out, or take the line out",
            layout.file("index.txt").display()
        )));
    }
    Ok(())
}

/// Whether a serial counter above ours was counted up from ours.
fn is_near(counter: u64, ours: u64) -> bool {
    counter.saturating_sub(ours) <= super::SERIAL_JUMP_MAX
}

fn sync_authority(layout: &Layout) -> Result<(), Fault> {
    // One call for all the small files of the batch: syncfs costs what the disk has to write,
    // however many files that is.
    let directory = layout.directory();
    let handle = std::fs::File::open(directory).map_err(Fault::disk("open", directory))?;
    nix::unistd::syncfs(&handle).map_err(|errno| Fault::disk("sync", directory)(errno.into()))
}

/// One writer of an authority's files at a time: the vault, or the console beside it.
pub(crate) fn lock(authority: &Authority) -> Result<Lock, Fault> {
    lock_files(authority.layout())
}

fn lock_files(layout: &Layout) -> Result<Lock, Fault> {
    Lock::wait(&layout.file("files.lock"))
}

/// Writes every openssl-style file again from the ledger; answers how many certificate copies.
/// Lines that the ledger does not know are adopted first, so none is lost.
pub fn rebuild(store: &Path, authority: &Authority, random: [u8; 8]) -> Result<u64, Fault> {
    let mut ledger = Ledger::open(&Ledger::path(store))?;
    let (layout, id) = (authority.layout(), authority.id());
    let _packs = packing::lock(layout)?;
    let _lock = lock(authority)?;
    match adopt(authority.name(), layout, id, &mut ledger, None) {
        Ok(_) => {}
        // What cannot be read cannot be adopted: it is kept beside the new file for a person.
        Err(Fault::Damaged { .. }) | Err(Fault::Disk { .. }) => {
            let path = layout.file("index.txt");
            let aside = layout.file("index.txt.damaged");
            if path.exists() {
                std::fs::rename(&path, &aside).map_err(Fault::disk("rename", &path))?;
            }
        }
        Err(fault) => return Err(fault),
    }
    let salvaged = packing::unpack_damaged(layout, id, &mut ledger)?;
    let restored = bring_forward(authority, &mut ledger, 0, random)?;
    if restored > 0 && ledger.packed_at(id)? > 0 {
        ledger.set_packed_at(id, 0)?; // packs are gone; what came back is to be packed again
    }
    Ok(salvaged + restored)
}

/// Takes in what other programs wrote to the index, at the console, which holds the files' lock.
/// Whoever records something at an authority does this first: an index that cannot be read stops
/// the command before anything is changed, and what `openssl ca` just did is known.
pub(crate) fn take_in(
    authority: &Authority,
    ledger: &mut Ledger,
    _lock: &Lock,
) -> Result<(), Fault> {
    let layout = authority.layout();
    let left = Left::noted(&ledger.files_at(authority.id())?);
    if index::metadata(layout)?.is_some_and(|now| left.stamp.is_of(&now)) {
        return Ok(()); // nobody wrote it since us
    }
    adopt(authority.name(), layout, authority.id(), ledger, Some(&left)).map(|_| ())
}

/// Brings an authority's files to the ledger's state, at the console, which holds their lock.
pub(crate) fn settle(
    authority: &Authority,
    ledger: &mut Ledger,
    random: [u8; 8],
    lock: &Lock,
) -> Result<(), Fault> {
    take_in(authority, ledger, lock)?;
    let after = ledger.files_at(authority.id())?.certificate;
    bring_forward(authority, ledger, after, random).map(|_| ())
}

fn bring_forward(
    authority: &Authority,
    ledger: &mut Ledger,
    after: i64,
    random: [u8; 8],
) -> Result<u64, Fault> {
    let (layout, id) = (authority.layout(), authority.id());
    let restored = newcerts::restore(layout, id, ledger, after)?;
    let left = index::rewrite(layout, id, ledger)?;
    let (counter, _) = ledger.counters(id)?;
    index::write_serial(layout, counter, random)?;
    super::crl::follow(authority, ledger)?;
    sync_authority(layout)?;
    let time = ledger.time_floor()?;
    let tx = ledger.begin(time)?;
    tx.set_files_at(id, &left.to_note())?;
    tx.commit()?;
    Ok(restored)
}

/// The authorities of a store that can be loaded.
pub fn load_all(
    store: &Path,
    passphrase: Option<&crate::keys::Secret>,
) -> Result<Vec<Authority>, Fault> {
    let ledger = Ledger::open(&Ledger::path(store))?;
    let mut all = Vec::new();
    for name in authority::names(store)? {
        if ledger.authority(&name)?.is_some() {
            all.push(Authority::load(store, &name, &ledger, passphrase)?);
        }
    }
    Ok(all)
}
