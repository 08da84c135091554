//! Keeps the openssl-style files and the audit segments where the ledger is.
//!
//! The files follow: they are written after the ledger's commit, synced when there is time, and
//! made good at the next start when a plug was pulled in between. Nothing here changes what the
//! ledger says, but for lines that a person added, which are adopted.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use protocol::message::{Digest, Name};

use super::{Vault, ledger_path, serial_counter};
use crate::{
    audit,
    authority::{self, Authority, index},
    clock::Moment,
    durable::{self, Lock},
    fault::Fault,
    ledger::{CertificateRow, FilesAt, Intent, Ledger, Status},
};

/// What is owed to the files.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Authorities whose index lines changed by a revocation.
    revoked: BTreeSet<Name>,
    /// No rewrite before this moment: a large index must not be rewritten for each revocation.
    rewrite_at_us: HashMap<Name, i64>,
    /// Authorities with files that are written but not synced.
    unsynced: BTreeSet<Name>,
    /// The stamps of the indexes as we left them.
    stamps: HashMap<Name, String>,
}

/// A rewrite may take a tenth of the time.
const REWRITE_SHARE: i64 = 10;

/// Audit entries in one segment file.
const SEGMENT_ENTRIES: u64 = 100_000;

impl Files {
    pub(super) fn note_revocation(&mut self, name: &Name) {
        self.revoked.insert(name.clone());
    }

    #[cfg(test)]
    pub(super) fn pause_rewrites(&mut self, name: &Name) {
        self.rewrite_at_us.insert(name.clone(), i64::MAX);
    }
}

impl Vault {
    /// Adds what was just issued to the indexes and to `newcerts/`.
    pub(super) fn follow_issued(
        &mut self,
        intents: &[Intent],
        signed: &[Vec<u8>],
    ) -> Result<(), Fault> {
        let mut by_authority: HashMap<Name, Vec<CertificateRow>> = HashMap::new();
        for (intent, der) in intents.iter().zip(signed) {
            let authority =
                self.authorities.values().find(|authority| authority.id() == intent.authority());
            let authority = authority.ok_or_else(|| {
                Fault::Internal(format!("serial {} has no authority", intent.serial()))
            })?;
            by_authority.entry(authority.name().clone()).or_default().push(CertificateRow {
                seq: 0,
                serial: intent.serial().clone(),
                not_after: intent.not_after(),
                subject: intent.subject().to_owned(),
                der: der.clone(),
                status: Status::Valid,
                file: "unknown".into(),
                profile: intent.profile().to_string(),
                line: None,
            });
        }
        for (name, rows) in by_authority {
            let _lock = lock(&self.authorities[&name])?;
            for row in &rows {
                index::write_certificate(self.authorities[&name].layout(), row)?;
            }
            match self.adopt_changes(&name)? {
                Index::AsWeLeftIt => index::append(self.authorities[&name].layout(), &rows)?,
                // Who wrote it read the ledger, and had some of these lines or none.
                Index::Changed { behind: true } => {
                    index::rewrite(&self.authorities[&name], &self.ledger)?;
                }
                Index::Changed { behind: false } => {}
            }
            self.write_serial(&name)?;
            self.note_index(&name)?;
        }
        Ok(())
    }

    fn write_serial(&mut self, name: &Name) -> Result<(), Fault> {
        let random = super::random_octets(&mut self.random)?;
        let authority = &self.authorities[name];
        let (counter, _) = self.ledger.counters(authority.id())?;
        index::write_serial(authority.layout(), counter, random)
    }

    /// Notes how we leave the index, and that it is not synced.
    fn note_index(&mut self, name: &Name) -> Result<(), Fault> {
        let stamp = index::stamp(self.authorities[name].layout())?;
        self.files.stamps.insert(name.clone(), stamp);
        self.files.unsynced.insert(name.clone());
        Ok(())
    }

    /// Takes in what other programs wrote to any index, before serials are chosen.
    pub(super) fn adopt_all_changes(&mut self) -> Result<(), Fault> {
        let names: Vec<Name> = self.authorities.keys().cloned().collect();
        for name in names {
            if self.adopt_changes(&name)? == (Index::Changed { behind: true }) {
                let _lock = lock(&self.authorities[&name])?;
                index::rewrite(&self.authorities[&name], &self.ledger)?;
                self.note_index(&name)?;
            }
        }
        Ok(())
    }

    /// If somebody else wrote the index since we did, takes their lines in first.
    fn adopt_changes(&mut self, name: &Name) -> Result<Index, Fault> {
        let stamp = index::stamp(self.authorities[name].layout())?;
        if self.files.stamps.get(name).is_none_or(|ours| *ours == stamp) {
            return Ok(Index::AsWeLeftIt);
        }
        tracing::info!(authority = %name, "the index was changed by another program");
        let behind = adopt(&self.authorities[name], &mut self.ledger)?;
        self.files.stamps.insert(name.clone(), stamp);
        self.files.unsynced.insert(name.clone());
        Ok(Index::Changed { behind })
    }

    /// Brings the files of the authorities that were just loaded to where the ledger is.
    pub(super) fn reconcile_new(&mut self) -> Result<(), Fault> {
        let is_new = |name: &&Name| !self.files.stamps.contains_key(*name);
        let names: Vec<Name> = self.authorities.keys().filter(is_new).cloned().collect();
        names.iter().try_for_each(|name| self.reconcile(name))
    }

    fn reconcile(&mut self, name: &Name) -> Result<(), Fault> {
        let authority = &self.authorities[name];
        let _lock = lock(authority)?;
        let id = authority.id();
        let at = self.ledger.files_at(id)?;
        if self.ledger.last_certificate(id)? > at.certificate
            || self.ledger.last_revocation(id)? > at.revocation
            || index::stamp(authority.layout())? != at.index_stamp
        {
            let behind = adopt(authority, &mut self.ledger)?;
            let restored = index::restore_certificates(authority, &self.ledger, at.certificate)?;
            if behind || restored > 0 {
                tracing::info!(authority = %name, restored, "files brought to the ledger's state");
                index::rewrite(authority, &self.ledger)?;
            }
            self.files.unsynced.insert(name.clone());
        }
        super::crl::follow(authority, &self.ledger)?;
        let (counter, _) = self.ledger.counters(id)?;
        if index::serial_is_behind(authority.layout(), counter) {
            self.write_serial(name)?;
        }
        let stamp = index::stamp(self.authorities[name].layout())?;
        self.files.stamps.insert(name.clone(), stamp);
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
            index::rewrite(&self.authorities[&name], &self.ledger)?;
            // A line costs about two microseconds; waiting is free when the index is small.
            let pause_us = (2 * lines_before.min(1 << 40) as i64) * REWRITE_SHARE;
            self.files.rewrite_at_us.insert(name.clone(), now.boot_us + pause_us);
            self.files.revoked.remove(&name);
            self.note_index(&name)?;
        }
        Ok(())
    }

    /// Waits for the disk and notes in the ledger how far the files are.
    pub(super) fn sync_files(&mut self) -> Result<(), Fault> {
        for name in std::mem::take(&mut self.files.unsynced) {
            let authority = &self.authorities[&name];
            // Else a row that the console has not followed yet would count as followed.
            let _lock = lock(authority)?;
            let mut at = followed(authority, &self.ledger)?;
            at.index_stamp = self.files.stamps.get(&name).cloned().unwrap_or_default();
            if self.files.revoked.contains(&name) {
                at.revocation = self.ledger.files_at(authority.id())?.revocation;
            }
            sync_authority(authority)?;
            let tx = self.ledger.begin(self.ledger.time_floor()?)?;
            tx.set_files_at(authority.id(), &at)?;
            tx.commit()?;
        }
        Ok(())
    }

    /// Appends new audit entries to the segment files.
    pub(super) fn follow_audit(&mut self) -> Result<(), Fault> {
        follow_audit(&self.directory, &mut self.ledger)
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

/// Takes foreign lines into the ledger; answers whether the file is behind the ledger.
fn adopt(authority: &Authority, ledger: &mut Ledger) -> Result<bool, Fault> {
    let differences = index::compare(authority, ledger)?;
    if differences.foreign.is_empty() {
        return Ok(differences.behind);
    }
    let (name, count) = (authority.name(), differences.foreign.len());
    let (ours, _) = ledger.counters(authority.id())?;
    let mut tx = ledger.begin(ledger.time_floor()?)?;
    for row in &differences.foreign {
        tx.adopt(authority.id(), row)?;
        // `openssl ca` counts up from the serial in our file: never take that one again. Serials
        // far from ours are another program's own, and must not use up our counter.
        if let Some(counter) = serial_counter(&row.serial).filter(|counter| is_near(*counter, ours))
        {
            tx.raise_serial_counter(authority.id(), counter)?;
        }
    }
    tx.commit()?;
    tracing::warn!(authority = %name, count, "adopted index lines of another program");
    Ok(differences.behind)
}

/// Whether a serial counter above ours was counted up from ours.
fn is_near(counter: u64, ours: u64) -> bool {
    counter.saturating_sub(ours) <= super::SERIAL_JUMP_MAX
}

/// How far the files are once everything that the ledger now has is written.
fn followed(authority: &Authority, ledger: &Ledger) -> Result<FilesAt, Fault> {
    Ok(FilesAt {
        certificate: ledger.last_certificate(authority.id())?,
        revocation: ledger.last_revocation(authority.id())?,
        index_stamp: String::new(),
    })
}

/// Appends new audit entries to the segment files of a store.
pub(crate) fn follow_audit(store: &Path, ledger: &mut Ledger) -> Result<(), Fault> {
    let done = ledger.audit_files_at()?;
    let mut segments: Vec<(PathBuf, String)> = Vec::new();
    let mut last = done;
    ledger.for_each_audit_line(done, |number, line, _| {
        let path = segment_path(store, number);
        match segments.last_mut() {
            Some((open, text)) if *open == path => {
                text.push_str(line);
                text.push('\n');
            }
            _ => segments.push((path, format!("{line}\n"))),
        }
        last = number;
        Ok(())
    })?;
    if last == done {
        return Ok(());
    }
    for (path, text) in segments {
        append_segment(&path, &text, done)?;
    }
    let time = ledger.time_floor()?;
    let tx = ledger.begin(time)?;
    tx.set_audit_files_at(last)?;
    tx.commit()?;
    Ok(())
}

/// The segment file of an audit entry, named by its first entry's number.
fn segment_path(store: &Path, number: u64) -> PathBuf {
    let first = (number - 1) / SEGMENT_ENTRIES * SEGMENT_ENTRIES + 1;
    store.join(format!("audit/{first:010}.log"))
}

/// Appends `text`, after cutting what a crash left behind entry `done`.
fn append_segment(path: &Path, text: &str, done: u64) -> Result<(), Fault> {
    let file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(Fault::disk("open", path))?;
    let kept = kept_length(path, done)?;
    let length = file.metadata().map_err(Fault::disk("read", path))?.len();
    if kept < length {
        file.set_len(kept).map_err(Fault::disk("cut", path))?;
    }
    durable::append(path, text.as_bytes(), 0o600)?;
    file.sync_data().map_err(Fault::disk("append to", path))
}

/// How much of a segment holds entries up to `done`. The tail is read from its end, since only
/// an append that a crash interrupted can be behind it.
fn kept_length(path: &Path, done: u64) -> Result<u64, Fault> {
    use std::io::{Read, Seek, SeekFrom};
    // One batch's entries and then some; doubled until an entry up to `done` is in it.
    let mut tail_length = 1 << 16;
    let mut file = std::fs::File::open(path).map_err(Fault::disk("open", path))?;
    let length = file.metadata().map_err(Fault::disk("read", path))?.len();
    let number_of = |line: &[u8]| {
        let value: serde_json::Value = serde_json::from_slice(line).ok()?;
        value["n"].as_u64()
    };
    loop {
        let start = length.saturating_sub(tail_length);
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(start))
            .and_then(|_| file.read_to_end(&mut tail))
            .map_err(Fault::disk("read", path))?;
        let mut end = tail.len();
        while end > 0 {
            let whole = tail[end - 1] == b'\n';
            let body = &tail[..end - usize::from(whole)];
            let line_start = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            if whole && number_of(&body[line_start..]).is_some_and(|number| number <= done) {
                return Ok(start + end as u64);
            }
            end = line_start;
        }
        if start == 0 {
            return Ok(0);
        }
        tail_length *= 2;
    }
}

fn sync_authority(authority: &Authority) -> Result<(), Fault> {
    // One call for all the small files of the batch: syncfs costs what the disk has to write,
    // however many files that is.
    let directory = authority.layout().directory();
    let handle = std::fs::File::open(directory).map_err(Fault::disk("open", directory))?;
    nix::unistd::syncfs(&handle).map_err(|errno| Fault::disk("sync", directory)(errno.into()))
}

/// One writer of an authority's files at a time: the vault, or the console beside it.
pub(crate) fn lock(authority: &Authority) -> Result<Lock, Fault> {
    Lock::wait(&authority.layout().file("files.lock"))
}

//------------ signer store check --------------------------------------------

/// What `signer store check` found.
#[derive(Debug, Default, serde::Serialize)]
pub struct CheckReport {
    /// How many certificates, CRLs and audit entries were looked at.
    pub certificates: u64,
    /// How many audit entries.
    pub audit_entries: u64,
    /// Sentences, each a finding.
    pub findings: Vec<String>,
}

/// Compares every file of a store with the ledger, and the ledger with itself. Changes nothing.
pub fn check(store: &Path, authorities: &[Authority]) -> Result<CheckReport, Fault> {
    let ledger = Ledger::open(&ledger_path(store))?;
    let mut report = CheckReport { findings: ledger.integrity()?, ..CheckReport::default() };
    for intent in ledger.open_intents()? {
        let serial = intent.serial();
        report.findings.push(format!("serial {serial} is not finished; the next start does it"));
    }
    for authority in authorities {
        check_authority(authority, &ledger, &mut report)?;
    }
    check_audit(store, &ledger, &mut report)?;
    Ok(report)
}

fn check_authority(
    authority: &Authority,
    ledger: &Ledger,
    report: &mut CheckReport,
) -> Result<(), Fault> {
    let name = authority.name();
    match index::compare(authority, ledger) {
        Ok(differences) => {
            for row in &differences.foreign {
                let serial = &row.serial;
                report.findings.push(format!(
                    "{name}: the index line of serial {serial} is not the ledger's; the next \
                     start adopts it"
                ));
            }
            if differences.behind {
                report.findings.push(format!(
                    "{name}: index.txt is behind the ledger; run `signer store rebuild`"
                ));
            }
        }
        Err(Fault::Damaged { what, why }) => {
            report.findings.push(format!("{what} is damaged: {why}; run `signer store rebuild`"))
        }
        Err(fault) => return Err(fault),
    }
    let public = authority.certificate().public_key()?;
    let (counter, _) = ledger.counters(authority.id())?;
    ledger.for_each_certificate(authority.id(), 0, |row| {
        report.certificates += 1;
        let serial = &row.serial;
        if !index::copy_is_right(authority.layout(), &row)? {
            report.findings.push(format!(
                "{name}: newcerts/{serial}.pem is missing or differs; run `signer store rebuild`"
            ));
        }
        if !row.der.is_empty() {
            let certificate = openssl::x509::X509::from_der(&row.der)?;
            if !certificate.verify(&public)? {
                report.findings.push(format!("{name}: serial {serial} has a bad signature"));
            }
        }
        if serial_counter(serial).is_some_and(|used| used > counter && is_near(used, counter)) {
            report.findings.push(format!("{name}: serial {serial} is above the counter {counter}"));
        }
        Ok(())
    })?;
    if let Some(crl) = ledger.newest_crl(authority.id())? {
        let stored = std::fs::read(authority.layout().crl(crl.number)).unwrap_or_default();
        if Digest::of(&stored) != crl.digest {
            let number = crl.number;
            report.findings.push(format!("{name}: CRL {number} is missing or differs"));
        }
    }
    Ok(())
}

fn check_audit(store: &Path, ledger: &Ledger, report: &mut CheckReport) -> Result<(), Fault> {
    let mut previous = audit::ORIGIN;
    let mut expected = 1;
    let mut segment: Option<(PathBuf, Option<(String, usize)>)> = None;
    let files_at = ledger.audit_files_at()?;
    ledger.for_each_audit_line(0, |number, line, hash| {
        match audit::verify(line, expected, previous) {
            Ok(found) if found == hash => {}
            Ok(_) => report.findings.push(format!("audit entry {number} was changed")),
            Err(why) => report.findings.push(format!("audit log: {why}")),
        }
        (previous, expected) = (hash, number + 1);
        report.audit_entries += 1;
        if number <= files_at {
            let path = segment_path(store, number);
            if segment.as_ref().is_none_or(|(open, _)| *open != path) {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                segment = Some((path.clone(), Some((text, 0))));
            }
            // Nothing after the first difference in a file is compared: it all has moved.
            if let Some((_, compared @ Some(_))) = &mut segment {
                let after = |(text, at): (String, usize)| {
                    let rest = text.get(at..)?.strip_prefix(line)?.strip_prefix('\n')?;
                    let at = text.len() - rest.len();
                    Some((text, at))
                };
                *compared = compared.take().and_then(after);
                if compared.is_none() {
                    let path = path.display();
                    report
                        .findings
                        .push(format!("{path} differs from the ledger at entry {number}"));
                }
            }
        }
        Ok(())
    })
}

//------------ signer store rebuild ------------------------------------------

/// Writes every openssl-style file again from the ledger; answers how many certificate copies.
/// Lines that the ledger does not know are adopted first, so none is lost.
pub fn rebuild(store: &Path, authority: &Authority, random: [u8; 8]) -> Result<u64, Fault> {
    let mut ledger = Ledger::open(&ledger_path(store))?;
    let _lock = lock(authority)?;
    match adopt(authority, &mut ledger) {
        Ok(_) => {}
        // What cannot be read cannot be adopted: it is kept beside the new file for a person.
        Err(Fault::Damaged { .. }) | Err(Fault::Disk { .. }) => {
            let path = authority.layout().file("index.txt");
            let aside = authority.layout().file("index.txt.damaged");
            if path.exists() {
                std::fs::rename(&path, &aside).map_err(Fault::disk("rename", &path))?;
            }
        }
        Err(fault) => return Err(fault),
    }
    bring_forward(authority, &mut ledger, 0, random)
}

/// Brings an authority's files to the ledger's state, at the console, which holds their lock.
pub(crate) fn settle(
    authority: &Authority,
    ledger: &mut Ledger,
    random: [u8; 8],
    _lock: &Lock,
) -> Result<(), Fault> {
    adopt(authority, ledger)?;
    let after = ledger.files_at(authority.id())?.certificate;
    bring_forward(authority, ledger, after, random).map(|_| ())
}

fn bring_forward(
    authority: &Authority,
    ledger: &mut Ledger,
    after: i64,
    random: [u8; 8],
) -> Result<u64, Fault> {
    // Taken first: what the vault records meanwhile is for the vault to follow.
    let mut at = followed(authority, ledger)?;
    let restored = index::restore_certificates(authority, ledger, after)?;
    index::rewrite(authority, ledger)?;
    let (counter, crl_number) = ledger.counters(authority.id())?;
    index::write_serial(authority.layout(), counter, random)?;
    super::crl::write_number(authority, crl_number)?;
    sync_authority(authority)?;
    at.index_stamp = index::stamp(authority.layout())?;
    let time = ledger.time_floor()?;
    let tx = ledger.begin(time)?;
    tx.set_files_at(authority.id(), &at)?;
    tx.commit()?;
    Ok(restored)
}

/// The authorities of a store that can be loaded.
pub fn load_all(
    store: &Path,
    passphrase: Option<&crate::keys::Secret>,
) -> Result<Vec<Authority>, Fault> {
    let ledger = Ledger::open(&ledger_path(store))?;
    let mut all = Vec::new();
    for name in authority::names(store)? {
        if ledger.authority(&name)?.is_some() {
            all.push(Authority::load(store, &name, &ledger, passphrase)?);
        }
    }
    Ok(all)
}
