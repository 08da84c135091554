//! `signer revoke --weak-keys`: finds every valid certificate whose key is weak, and revokes them
//! all with one CRL for each authority.
//!
//! Certificates are read one after another and never held, so a million cost no more memory than
//! ten. It works beside a running signer. A run that was cut off is started again: what it revoked
//! stays revoked, and the CRL that it did not sign is signed then.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use openssl::bn::BigNum;
use protocol::message::{Digest, Name, RevocationReason, Serial};
use serde_json::{Value, json};

use super::{Failure, RevokeArguments, no_authority, store::progress::Progress};
use crate::{
    audit::Event,
    authority::{self, Authority, Layout, newcerts::Copies},
    blocklist::{self, Blocklist, Entries, Marks},
    calendar::UnixTime,
    clock::Moment,
    fault::Fault,
    intake::modulus,
    keys::Secret,
    ledger::{AuthorityId, CertificateRow, Ledger, Status},
    vault::{self, Random},
};

/// Revocations in one transaction: the running signer waits for no longer than it takes.
const CHUNK: usize = 1_000;

/// Looks through the ledger; with `--dry-run` that is all.
pub(super) fn revoke(
    store: &Path,
    arguments: &RevokeArguments,
    files: &[PathBuf],
    passphrase: Option<&Secret>,
    random: &mut Random,
    now: Moment,
    as_json: bool,
) -> Result<(), Failure> {
    let ledger = Ledger::open(&Ledger::path(store))?;
    let search = match files {
        [] => Search::known(store, &ledger)?,
        files => Search::files(files)?,
    };
    let names = names(store, &ledger, arguments.authority.as_ref())?;
    if arguments.dry_run {
        let mut report = Report::new(as_json, true);
        for (name, id) in names {
            let layout = Layout::new(store, &name);
            look_through(
                &ledger,
                id,
                &layout,
                &search,
                now.unix(),
                &mut report,
                &name,
                |_| Ok(()),
            )?;
        }
        report.finish(&[]);
        return Ok(());
    }
    // All keys and indexes first: a wrong passphrase or a damaged line must not be found half-way.
    let mut opened = Vec::new();
    for (name, _) in &names {
        let (authority, mut writer, time) = super::crl::open(store, name, passphrase, now)?;
        let lock = vault::lock(&authority)?;
        vault::take_in(&authority, &mut writer, &lock)?;
        opened.push((authority, writer, time));
    }
    let mut report = Report::new(as_json, false);
    let mut crls = Vec::new();
    for (authority, mut writer, time) in opened {
        let mut waiting: Vec<Serial> = Vec::new();
        let (id, name) = (authority.id(), authority.name());
        let mut revoked = 0;
        look_through(
            &ledger,
            id,
            authority.layout(),
            &search,
            time,
            &mut report,
            name,
            |serial| {
                waiting.push(serial);
                if waiting.len() == CHUNK {
                    revoked += revoke_chunk(&mut writer, &authority, &waiting, time)?;
                    waiting.clear();
                }
                Ok(())
            },
        )?;
        revoked += revoke_chunk(&mut writer, &authority, &waiting, time)?;
        report.revoked += revoked;
        // A run that was cut off may have revoked what no CRL has yet.
        if revoked > 0 || writer.lacks_changes(id)? {
            let lock = vault::lock(&authority)?;
            vault::settle(&authority, &mut writer, vault::random_octets(random)?, &lock)?;
            drop(lock);
            let crl = vault::sign_crl(&authority, &mut writer, time)?;
            vault::follow_audit(store, &mut writer)?;
            crls.push((name.clone(), crl.number, crl.entries));
        }
    }
    report.finish(&crls);
    Ok(())
}

fn names(
    store: &Path,
    ledger: &Ledger,
    wanted: Option<&Name>,
) -> Result<Vec<(Name, AuthorityId)>, Failure> {
    let mut names = Vec::new();
    for name in authority::names(store)? {
        if let Some(id) = ledger.authority(&name)?
            && wanted.is_none_or(|wanted| *wanted == name)
        {
            names.push((name, id));
        }
    }
    match wanted {
        Some(wanted) if names.is_empty() => Err(no_authority(wanted)),
        _ => Ok(names),
    }
}

fn revoke_chunk(
    ledger: &mut Ledger,
    authority: &Authority,
    serials: &[Serial],
    time: UnixTime,
) -> Result<u64, Fault> {
    if serials.is_empty() {
        return Ok(0);
    }
    let reason = RevocationReason::KeyCompromise;
    let mut revoked = 0;
    let mut tx = ledger.begin(time)?;
    for serial in serials {
        // Another may have revoked it since it was read.
        let row = tx.certificate(authority.id(), serial)?;
        if row.is_none_or(|row| row.status != Status::Valid) {
            continue;
        }
        tx.revoke(authority.id(), serial, reason)?;
        tx.audit(&Event::Revoked {
            request: "console".into(),
            authority: authority.name().to_string(),
            serial: serial.to_string(),
            reason: reason.name().to_owned(),
        })?;
        revoked += 1;
    }
    tx.commit()?;
    Ok(revoked)
}

//------------ Looking -------------------------------------------------------

/// Reports every valid certificate with a weak key, and hands its serial to `found`.
#[expect(clippy::too_many_arguments, reason = "one walk, called with and without keys")]
fn look_through(
    ledger: &Ledger,
    id: AuthorityId,
    layout: &Layout,
    search: &Search,
    now: UnixTime,
    report: &mut Report,
    name: &Name,
    mut found: impl FnMut(Serial) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut copies = Copies::open(layout)?;
    ledger.for_each_certificate(id, 0, |row| {
        if row.status != Status::Valid || row.not_after < now {
            return Ok(());
        }
        report.looked_at();
        let der = match row.der.is_empty() {
            true => adopted_copy(&mut copies, &row.serial)?,
            false => Some(row.der.clone()),
        };
        let Some(spki) = der.as_deref().and_then(blocklist::spki_of_certificate) else {
            report.unreadable += 1;
            return Ok(());
        };
        if let Some(why) = search.why(spki)? {
            report.weak(name, &row, &why);
            found(row.serial)?;
        }
        Ok(())
    })
}

/// The certificate of a line that was adopted without it.
fn adopted_copy(copies: &mut Copies, serial: &Serial) -> Result<Option<Vec<u8>>, Fault> {
    let Some((_, bytes)) = copies.find(serial)? else { return Ok(None) };
    let certificate = openssl::x509::X509::from_pem(&bytes);
    Ok(certificate.ok().and_then(|certificate| certificate.to_der().ok()))
}

/// What is looked for.
enum Search {
    /// The keys that some files list, each with the file's name.
    Files(Vec<(String, Entries)>),
    /// Whatever would be refused today.
    Known { blocklist: Box<Blocklist>, blocked: HashMap<Digest, String> },
}

impl Search {
    fn known(store: &Path, ledger: &Ledger) -> Result<Self, Fault> {
        let blocklist = Blocklist::open(store)?;
        if !blocklist.is_loaded() {
            tracing::warn!("{}", blocklist::NOT_LOADED);
        }
        let blocked = ledger.blocked_keys()?;
        let blocked = blocked.into_iter().map(|key| (key.fingerprint, key.reason)).collect();
        Ok(Self::Known { blocklist: Box::new(blocklist), blocked })
    }

    fn files(files: &[PathBuf]) -> Result<Self, Fault> {
        let read = |path: &PathBuf| {
            let mut entries = Entries::default();
            match blocklist::public_keys(path) {
                Ok(keys) => {
                    keys.iter().filter_map(|key| Marks::of_spki(key)).for_each(|m| entries.add(&m));
                }
                Err(Fault::Configuration(_)) => {
                    blocklist::read_source(path, &mut entries)?;
                }
                Err(fault) => return Err(fault),
            }
            entries.sort();
            Ok((path.display().to_string(), entries))
        };
        Ok(Self::Files(files.iter().map(read).collect::<Result<_, Fault>>()?))
    }

    /// Why the key in `spki` is weak; nothing if it is not.
    fn why(&self, spki: &[u8]) -> Result<Option<String>, Fault> {
        let marks = Marks::of_spki(spki);
        match self {
            Self::Files(files) => {
                let Some(marks) = marks else { return Ok(None) };
                let file = files.iter().find(|(_, entries)| entries.contain(&marks));
                Ok(file.map(|(name, _)| format!("the key is in {name}")))
            }
            Self::Known { blocklist, blocked } => {
                if let Some(reason) = blocked.get(&blocklist::fingerprint(spki)) {
                    return Ok(Some(format!("the key is blocked: {reason}")));
                }
                if let Some(hit) = marks.map_or(Ok(None), |marks| blocklist.find(&marks))? {
                    return Ok(Some(format!("the key is {hit}")));
                }
                let Some(number) = blocklist::rsa_modulus(spki) else { return Ok(None) };
                let flaw = modulus::flaw(&*BigNum::from_slice(number)?)?;
                Ok(flaw.map(|flaw| flaw.to_string()))
            }
        }
    }
}

//------------ Saying --------------------------------------------------------

/// A part of the one line of JSON; if the reader is gone there is nobody to tell.
fn write(part: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(part.as_bytes());
}

/// Says what is found as it is found, so that nothing is kept.
struct Report {
    as_json: bool,
    dry_run: bool,
    looked_at: u64,
    weak: u64,
    revoked: u64,
    unreadable: u64,
    progress: Progress,
}

impl Report {
    fn new(as_json: bool, dry_run: bool) -> Self {
        let progress = Progress::new("certificates looked at");
        if as_json {
            write(&format!("{{\"dry_run\":{dry_run},\"certificates\":["));
        }
        Self { as_json, dry_run, looked_at: 0, weak: 0, revoked: 0, unreadable: 0, progress }
    }

    fn looked_at(&mut self) {
        self.looked_at += 1;
        self.progress.at(self.looked_at);
    }

    fn weak(&mut self, authority: &Name, row: &CertificateRow, why: &str) {
        self.weak += 1;
        if self.as_json {
            let comma = if self.weak > 1 { "," } else { "" };
            let value = json!({
                "authority": authority.as_str(),
                "serial": row.serial.to_string(),
                "subject": row.subject,
                "not_after": row.not_after.to_string(),
                "why": why,
            });
            write(&format!("{comma}{value}"));
        } else {
            let (serial, not_after, subject) = (&row.serial, row.not_after, &row.subject);
            say!("{authority}  {serial}  until {not_after}  {subject}  {why}");
        }
    }

    fn finish(self, crls: &[(Name, u64, u64)]) {
        let Self { as_json, dry_run, looked_at, weak, revoked, unreadable, progress } = self;
        drop(progress);
        if as_json {
            let crls: Vec<Value> = crls
                .iter()
                .map(|(authority, number, entries)| {
                    json!({
                        "authority": authority.as_str(), "number": number, "entries": entries,
                    })
                })
                .collect();
            say!(
                "],\"looked_at\":{looked_at},\"weak\":{weak},\"revoked\":{revoked},\
                 \"unreadable\":{unreadable},\"crls\":{}}}",
                Value::Array(crls)
            );
            return;
        }
        say!("{looked_at} valid certificates looked at; {weak} have a weak key");
        if unreadable > 0 {
            say!(
                "{unreadable} could not be looked at: only their index lines were adopted, and no \
                 copy is in newcerts"
            );
        }
        match dry_run {
            true => say!("nothing was changed; without --dry-run they are revoked"),
            false => say!("{revoked} certificates are revoked, reason keyCompromise"),
        }
        for (authority, number, entries) in crls {
            say!("{authority}: CRL {number} with {entries} entries is signed");
        }
    }
}
