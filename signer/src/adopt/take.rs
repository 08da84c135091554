//! Does what the plan says: every authority of the tree, or none.
//!
//! Each is made in a directory beside its place, its rows go into one transaction, and the
//! transaction's commit is the moment from which all of them are there. What a pulled plug leaves
//! before is thrown away by the next attempt; after, only the first CRLs are missing.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use openssl::x509::X509;
use protocol::message::Name;

use super::{
    Plan, Planned, copies,
    lines::{self, Line},
    survey::{CopiesHash, digest_of_file},
    tree::{self, Wishes},
};
use crate::{
    audit::Event,
    authority::{
        Authority, Layout,
        index::{self, Hash, Left, Stamp},
    },
    calendar::UnixTime,
    durable,
    fault::Fault,
    keys::Secret,
    ledger::{self, AuthorityId, Ledger, Transaction},
    vault::{self, Random},
};

/// An authority that was taken over.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its name.
    pub name: Name,
    /// Its directory.
    pub directory: PathBuf,
    /// The number of its first CRL here, and how many entries it has.
    pub crl: (u64, u64),
}

/// The record of a take-over, in the authority's directory.
const RECORD: &str = "adopted.json";

/// Takes over what was planned. The caller has the store for itself.
pub fn take(
    plan: &Plan,
    store: &Path,
    ledger: &mut Ledger,
    passphrase: Option<&Secret>,
    random: &mut Random,
    now: UnixTime,
) -> Result<(), Fault> {
    if plan.problems.refusals() > 0 {
        return Err(Fault::Internal("a tree with refusals was to be taken over".into()));
    }
    let staged = stage_all(plan, store, ledger, passphrase, random, now);
    if staged.is_err() {
        // A half-made directory has a copy of the key: it is not left lying about. If it cannot
        // be removed, the next attempt does it.
        for planned in &plan.authorities {
            let _ = fs::remove_dir_all(staging(store, &planned.name));
        }
    }
    staged
}

fn stage_all(
    plan: &Plan,
    store: &Path,
    ledger: &mut Ledger,
    passphrase: Option<&Secret>,
    random: &mut Random,
    now: UnixTime,
) -> Result<(), Fault> {
    let mut tx = ledger.begin(now)?;
    let mut made = Vec::new();
    for planned in &plan.authorities {
        let id = tx.add_authority(&planned.name)?;
        let hash = stage(planned, id, &tx, store, passphrase, now)?;
        tx.raise_crl_number(id, planned.survey.crl_number)?;
        tx.audit(&event(planned)?)?;
        made.push((id, hash, planned));
    }
    sync(store)?;
    for (id, hash, planned) in made {
        let layout = Layout::new(store, &planned.name);
        if layout.directory().exists() {
            // What an attempt left whose plug was pulled before its commit; `Plan::make` looked.
            fs::remove_dir_all(layout.directory())
                .map_err(Fault::disk("remove", layout.directory()))?;
        }
        durable::crash_point("rename", layout.directory())?;
        let staging = staging(store, &planned.name);
        fs::rename(&staging, layout.directory()).map_err(Fault::disk("rename", &staging))?;
        durable::sync_directory(layout.directory())?;
        index::write_serial(&layout, ledger::SERIALS_FROM, vault::random_octets(random)?)?;
        let (certificate, revocation) = tx.adopted_to(id)?;
        // The next start finds the index as it was left, and reads none of it again.
        let stamp = index::metadata(&layout)?
            .map_or_else(Stamp::unknown, |metadata| Stamp::of(&metadata, hash));
        tx.set_files_at(id, &Left { stamp, certificate, revocation }.to_note())?;
    }
    tx.commit()?;
    Ok(())
}

/// Signs the first CRL of each authority that has none, and brings the audit files forward.
pub fn finish(
    names: &[Name],
    store: &Path,
    ledger: &mut Ledger,
    passphrase: Option<&Secret>,
    now: UnixTime,
) -> Result<Vec<Done>, Fault> {
    let mut done = Vec::new();
    for name in names {
        let authority = Authority::load(store, name, ledger, passphrase)?;
        let crl = match ledger.newest_crl(authority.id())? {
            Some(crl) => crl,
            // A person's direct command, so a root signs too.
            None => vault::sign_crl(&authority, ledger, now)?,
        };
        done.push(Done {
            name: name.clone(),
            directory: authority.layout().directory().to_owned(),
            crl: (crl.number, crl.entries),
        });
    }
    vault::follow_audit(store, ledger)?;
    Ok(done)
}

/// The names under which this very tree was taken over before; none if it was not.
pub fn finished(
    wishes: &Wishes,
    store: &Path,
    ledger: &Ledger,
) -> Result<Option<Vec<Name>>, Fault> {
    let mut names = Vec::new();
    for (directory, name) in tree::named_directories(wishes)? {
        let Some(name) = name else { return Ok(None) };
        let record = recorded(&Layout::new(store, &name));
        if ledger.authority(&name)?.is_none() || record.is_none() {
            return Ok(None);
        }
        let digest = digest_of_file(&directory.join("index.txt"))?.to_string();
        if record.is_some_and(|record| record != digest) {
            return Ok(None);
        }
        names.push(name);
    }
    Ok(Some(names).filter(|names| !names.is_empty()))
}

/// Whether there is nothing at an authority's place, or only what an attempt of ours left.
pub(crate) fn may_replace(layout: &Layout) -> bool {
    !layout.directory().exists() || recorded(layout).is_some()
}

/// The old index's SHA-256 in the record of a take-over.
fn recorded(layout: &Layout) -> Option<String> {
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.file(RECORD)).ok()?).ok()?;
    record["index_sha256"].as_str().map(str::to_owned)
}

fn staging(store: &Path, name: &Name) -> PathBuf {
    store.join("authorities").join(format!(".{name}.new"))
}

fn sync(store: &Path) -> Result<(), Fault> {
    let directory = store.join("authorities");
    let handle = File::open(&directory).map_err(Fault::disk("open", &directory))?;
    nix::unistd::syncfs(&handle).map_err(|errno| Fault::disk("sync", &directory)(errno.into()))
}

//------------ One authority -------------------------------------------------

/// Makes the directory of an authority and fills its rows.
fn stage(
    planned: &Planned,
    id: AuthorityId,
    tx: &Transaction<'_>,
    store: &Path,
    passphrase: Option<&Secret>,
    now: UnixTime,
) -> Result<Hash, Fault> {
    let directory = staging(store, &planned.name);
    if directory.exists() {
        fs::remove_dir_all(&directory).map_err(Fault::disk("remove", &directory))?;
    }
    durable::directory(&directory, 0o755)?;
    for (part, mode) in
        [("private", 0o700), ("profiles", 0o755), ("newcerts", 0o755), ("crl", 0o755)]
    {
        durable::directory(&directory.join(part), mode)?;
    }
    write_identity(planned, &directory, passphrase)?;
    for profile in &planned.profiles {
        let path = directory.join(format!("profiles/{}.toml", profile.name));
        durable::replace(&path, profile.toml.as_bytes(), 0o644)?;
    }
    let texts = [
        ("authority.toml", authority_toml(planned)),
        ("openssl.cnf", include_str!("../console/openssl.cnf").to_owned()),
        // Renewals have the subject of what they renew.
        ("index.txt.attr", "unique_subject = no\n".to_owned()),
        ("crlnumber", even(planned.survey.crl_number + 1)),
        (RECORD, record(planned, now)),
    ];
    for (name, text) in texts {
        durable::replace(&directory.join(name), text.as_bytes(), 0o644)?;
    }
    copy_index(planned, id, tx, &directory)
}

fn write_identity(
    planned: &Planned,
    directory: &Path,
    passphrase: Option<&Secret>,
) -> Result<(), Fault> {
    let missing = || Fault::Internal("an authority without certificate or key was planned".into());
    let (_, certificate) = planned.source.certificate.as_ref().ok_or_else(missing)?;
    let (_, key) = planned.source.key.as_ref().ok_or_else(missing)?;
    key.store(&directory.join("private/ca.key"), passphrase)?;
    let mut chain = certificate.to_pem()?;
    durable::replace(&directory.join("ca.crt"), &chain, 0o644)?;
    for above in &planned.source.chain {
        chain.extend(X509::from_der(above)?.to_pem()?);
    }
    durable::replace(&directory.join("chain.pem"), &chain, 0o644)
}

/// Copies index and copies byte for byte, and puts each line into the ledger.
fn copy_index(
    planned: &Planned,
    id: AuthorityId,
    tx: &Transaction<'_>,
    directory: &Path,
) -> Result<Hash, Fault> {
    let old = planned.source.file("index.txt");
    let changed = || {
        Fault::Configuration(format!(
            "{} or its copies changed while they were taken over; stop the old signer and whatever \
             else writes there, then run the same command again",
            old.display()
        ))
    };
    let as_planned = || Ok::<_, Fault>(planned.survey.index_digest == Some(digest_of_file(&old)?));
    if !as_planned()? {
        return Err(changed());
    }
    let path = directory.join("index.txt");
    durable::crash_point("write", &path)?;
    let file = File::create_new(&path).map_err(Fault::disk("create", &path))?;
    let mut out = BufWriter::with_capacity(1 << 16, file);
    let newcerts = planned.source.file("newcerts");
    let (mut copies_hash, mut index_hash) = (CopiesHash::default(), Hash::EMPTY);
    lines::for_each(&old, |_, line| {
        let raw = match line {
            Line::Entry(raw) => raw,
            Line::Comment => return Ok(()),
            Line::TooLong | Line::Cut => return Err(changed()),
        };
        let mut row = lines::read(raw).map_err(|_| changed())?;
        if let Some(copy) = copies::read(&copies::path_of(&newcerts, &row.serial))? {
            copies_hash.add(&copy);
            row.der = X509::from_pem(&copy).and_then(|own| own.to_der()).map_err(|_| changed())?;
            let path = copies::path_of(&directory.join("newcerts"), &row.serial);
            fs::write(&path, &copy).map_err(Fault::disk("write", &path))?;
        }
        tx.insert_adopted(id, &row)?;
        index_hash = index_hash.then(raw).then(b"\n");
        out.write_all(raw).and_then(|()| out.write_all(b"\n")).map_err(Fault::disk("write", &path))
    })?;
    out.flush().map_err(Fault::disk("write", &path))?;
    let same_copies = planned.survey.copies_digest == Some(copies_hash.finish());
    if same_copies && as_planned()? { Ok(index_hash) } else { Err(changed()) }
}

//------------ Texts ---------------------------------------------------------

/// Hexadecimal digits in pairs, as openssl writes numbers.
fn even(number: u64) -> String {
    let digits = format!("{number:X}");
    let zero = if digits.len() % 2 == 1 { "0" } else { "" };
    format!("{zero}{digits}\n")
}

fn authority_toml(planned: &Planned) -> String {
    let (unattended, days) = (planned.is_root() && planned.unattended, planned.crl_days);
    let hours = if days == 1 { 12 } else { 24 };
    let from = planned.directory().display();
    format!(
        "# What the operator sets for this authority; read when the signer starts.\n\
         # Taken over from {from}.\n\
         \n\
         # true: this root signs subscriber certificates on the link's word alone. CA/B BR\n\
         # 4.3.1.1 wants a person's direct command for each signature of a root.\n\
         unattended_root = {unattended}\n\
         \n\
         [crl]\n\
         next_update_days = {days} # nextUpdate lies so far after thisUpdate, as before\n\
         refresh_hours = {hours} # a new CRL after so long even without revocations\n\
         # openssl never took an entry out of a CRL, and what the old certificates were for is not\n\
         # known here: entries of adopted certificates stay for {KEEP_DAYS} days past expiry.\n\
         keep_days = {KEEP_DAYS}\n"
    )
}

/// A hundred years: longer than any certificate's afterlife, so the first CRL has every R line.
const KEEP_DAYS: u32 = 36_525;

fn record(planned: &Planned, now: UnixTime) -> String {
    let digest = |digest: Option<protocol::message::Digest>| digest.map(|it| it.to_string());
    let record = serde_json::json!({
        "from": planned.directory().display().to_string(),
        "at": now.to_string(),
        "lines": planned.survey.counts,
        "copies": planned.survey.copies,
        "index_sha256": digest(planned.survey.index_digest),
        "copies_sha256": digest(planned.survey.copies_digest),
    });
    format!("{record:#}\n")
}

fn event(planned: &Planned) -> Result<Event, Fault> {
    let facts = planned.certificate()?;
    let facts = facts.ok_or_else(|| Fault::Internal("an authority without certificate".into()))?;
    let survey = &planned.survey;
    Ok(Event::AuthorityAdopted {
        authority: planned.name.to_string(),
        subject: facts.subject,
        certificate: facts.digest.to_string(),
        valid: survey.counts.valid,
        revoked: survey.counts.revoked,
        expired: survey.counts.expired,
        copies: survey.copies,
        index: survey.index_digest.map(|digest| digest.to_string()).unwrap_or_default(),
    })
}
