//! `signer openpgp create | import | list | show | check`: the keys that certify OpenPGP user IDs,
//! by a person's direct command.
//!
//! A revocation certificate is printed before its key is in its place, so nobody has a key whose
//! revocation was never shown; it is stored nowhere. Nothing here certifies.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use protocol::message::{Name, OPENPGP_AUTHORITIES_MAX};
use sequoia_openpgp::{Cert, parse::Parse};
use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeSeq as _},
};
use serde_json::json;

use super::{Failure, Passphrase, check_clock};
use crate::{
    audit::Event,
    clock::Moment,
    durable::{self, Lock},
    fault::Fault,
    intake::openpgp::kind::KeyKind,
    keys::Secret,
    ledger::{CertificationRow, Ledger, OpenPgpAuthorityId},
    openpgp::{
        self, Layout, Policy,
        import::{self, Source},
        key::{self, Algorithm},
    },
    vault,
};

#[derive(Debug, Subcommand)]
pub(super) enum OpenPgpCommand {
    /// Make a certify-only key; prints its revocation certificate once
    Create(CreateArguments),
    /// Take over a key of GnuPG 1 or 2; prints a revocation certificate for it once
    Import(ImportArguments),
    /// List the OpenPGP authorities and every certification: the records
    List {
        /// Only this authority's
        name: Option<Name>,
    },
    /// Show an OpenPGP authority: its key, its user IDs, its policies
    Show {
        /// Which
        name: Name,
    },
    /// Check a certification policy and name every fault of it
    Check {
        /// The policy, a TOML file
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct CreateArguments {
    /// Its name in requests and on disk
    #[arg(default_value = openpgp::UNNAMED)]
    name: Name,
    /// The user ID, as "Example CA <ca@example.org>"
    #[arg(long, visible_alias = "uid")]
    user_id: String,
    /// ed25519, rsa3072, rsa4096 (for correspondents with very old software), p256, p384, p521,
    /// brainpoolp256, brainpoolp384 or brainpoolp512
    #[arg(long, visible_alias = "key", default_value = "ed25519")]
    algorithm: Algorithm,
    #[command(flatten)]
    passphrase: Passphrase,
}

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// Its name in requests and on disk
    name: Name,
    /// The keyring with the secret key: secring.gpg of GnuPG 1, or what
    /// `gpg --export-secret-keys` of GnuPG 2 wrote
    #[arg(long, value_name = "FILE")]
    secring: PathBuf,
    /// The keyring with the public key: pubring.gpg, or what `gpg --export` wrote; its
    /// self-signatures and revocations may be newer
    #[arg(long, value_name = "FILE")]
    pubring: Option<PathBuf>,
    /// Which key, where the keyring has several secret ones
    #[arg(long)]
    fingerprint: Option<String>,
    /// A file whose first line is the passphrase that the key has in the keyring; without it,
    /// --passphrase-file
    #[arg(long, value_name = "FILE")]
    key_passphrase: Option<PathBuf>,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl OpenPgpCommand {
    /// Whether it reads or changes a store.
    pub(super) fn needs_store(&self) -> bool {
        !matches!(self, Self::Check { .. })
    }
}

/// Does what the command says.
pub(super) fn run(
    store: &Path,
    command: &OpenPgpCommand,
    now: Moment,
    as_json: bool,
) -> Result<(), Failure> {
    match command {
        OpenPgpCommand::Create(arguments) => create(store, arguments, now),
        OpenPgpCommand::Import(arguments) => take_over(store, arguments, now),
        OpenPgpCommand::List { name } => list(store, name.as_ref(), as_json),
        OpenPgpCommand::Show { name } => show(store, name, as_json),
        OpenPgpCommand::Check { file } => check(file, as_json),
    }
}

//------------ Making and taking over ----------------------------------------

fn create(store: &Path, arguments: &CreateArguments, now: Moment) -> Result<(), Failure> {
    let passphrase = arguments.passphrase.read()?;
    let (user_id, name) = (&arguments.user_id, &arguments.name);
    protocol::user_id::UserId::parse(user_id)
        .map_err(|fault| Fault::Configuration(format!("--user-id `{user_id}` {fault}")))?;
    let (_lock, mut ledger) = open(store, name, now)?;
    let (cert, revocation) = key::generate(user_id, now.unix(), arguments.algorithm)?;
    let fingerprint = cert.fingerprint().to_hex();
    let event =
        Event::OpenPgpCreated { authority: name.to_string(), fingerprint: fingerprint.clone() };
    print_revocation(&fingerprint, &revocation)?;
    let policy = openpgp::default_policy(user_id);
    put(store, &mut ledger, name, &cert, &policy, passphrase.as_ref(), now, event)?;
    eprintln!("the OpenPGP authority {name} is ready: {user_id}");
    tell_where(store, name);
    Ok(())
}

fn take_over(store: &Path, arguments: &ImportArguments, now: Moment) -> Result<(), Failure> {
    let passphrase = arguments.passphrase.read()?;
    let own = arguments.key_passphrase.as_deref().map(Secret::from_file).transpose()?;
    let name = &arguments.name;
    let (_lock, mut ledger) = open(store, name, now)?;
    let source = Source {
        secret_ring: arguments.secring.clone(),
        public_ring: arguments.pubring.clone(),
        fingerprint: arguments.fingerprint.clone(),
    };
    let imported = import::import(&source, own.as_ref().or(passphrase.as_ref()), now.unix())?;
    let fingerprint = imported.cert.fingerprint().to_hex();
    let event =
        Event::OpenPgpImported { authority: name.to_string(), fingerprint: fingerprint.clone() };
    let user_ids = user_ids(&imported.cert);
    print_revocation(&fingerprint, &imported.revocation)?;
    let policy = openpgp::default_policy(user_ids.first().map_or("", String::as_str));
    put(store, &mut ledger, name, &imported.cert, &policy, passphrase.as_ref(), now, event)?;
    eprintln!("the OpenPGP authority {name} is ready: {}", user_ids.join(", "));
    if imported.signed_anew {
        eprintln!(
            "its self-signatures were made anew, since readers no longer take the old ones: \
             publish its public key again"
        );
    }
    tell_where(store, name);
    Ok(())
}

/// Opens the ledger for a new authority, alone.
fn open(store: &Path, name: &Name, now: Moment) -> Result<(Lock, Ledger), Failure> {
    let lock = Lock::wait(&store.join("console.lock"))?;
    let ledger = Ledger::open(&Ledger::path(store))?;
    check_clock(&ledger, now)?;
    let names = openpgp::names(store)?;
    let fault = |text: String| Err(Fault::Configuration(text).into());
    if names.contains(name) || Layout::new(store, name).directory().exists() {
        return fault(format!("OpenPGP authority {name} is there already; nothing was changed"));
    }
    if names.len() >= OPENPGP_AUTHORITIES_MAX {
        return fault(format!(
            "the store has {OPENPGP_AUTHORITIES_MAX} OpenPGP authorities, more the frontend is \
             never told of; use another store"
        ));
    }
    if let Some((id, _)) = ledger.openpgp_authority(name)?
        && ledger.openpgp_has_certified(id)?
    {
        return fault(format!(
            "the ledger has certifications of OpenPGP authority {name}, but {} is gone; restore \
             it, or choose another name",
            Layout::new(store, name).directory().display()
        ));
    }
    Ok((lock, ledger))
}

#[expect(clippy::too_many_arguments, reason = "each is one fact of what is put where")]
fn put(
    store: &Path,
    ledger: &mut Ledger,
    name: &Name,
    cert: &Cert,
    policy: &str,
    passphrase: Option<&Secret>,
    now: Moment,
    event: Event,
) -> Result<(), Failure> {
    openpgp::write(store, name, cert, policy, passphrase, |made| {
        if made.public()?.len() > CERTIFICATE_MAX {
            let text = "its public key is too long for the catalogue; take fewer user IDs along";
            return Err(Fault::Configuration(text.into()));
        }
        let known = ledger.openpgp_authority(name)?;
        let mut tx = ledger.begin(now.unix())?;
        match known {
            Some((id, _)) => tx.set_openpgp_fingerprint(id, made.fingerprint())?,
            None => drop(tx.add_openpgp_authority(name, made.fingerprint())?),
        }
        tx.audit(&event)?;
        tx.commit()?;
        Ok(())
    })?;
    vault::follow_audit(store, ledger)?;
    Ok(())
}

/// What an authority's public key may have in the catalogue.
const CERTIFICATE_MAX: usize = 8192;

/// Nobody has it but this reader: what cannot be written must be said, before the key is there.
fn print_revocation(fingerprint: &str, revocation: &str) -> Result<(), Failure> {
    eprintln!("The revocation certificate of key {fingerprint} follows.");
    eprintln!("Print it, lock it away; it is not kept here and is never shown again.");
    let mut out = std::io::stdout();
    out.write_all(revocation.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Fault::disk("write the revocation certificate to", "standard output"))?;
    Ok(())
}

fn tell_where(store: &Path, name: &Name) {
    let layout = Layout::new(store, name);
    eprintln!("  public key  {}", layout.public().display());
    eprintln!("  policies    {}", layout.policies().display());
}

fn user_ids(cert: &Cert) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    cert.userids().map(|user_id| text(user_id.userid().value())).collect()
}

//------------ Reading -------------------------------------------------------

/// The public side of an authority, as a value for both forms.
fn authority_value(store: &Path, name: &Name) -> Result<serde_json::Value, Fault> {
    let layout = Layout::new(store, name);
    let path = layout.public();
    let damaged = |why: String| Fault::Damaged { what: path.display().to_string(), why };
    let cert = Cert::from_bytes(&durable::read(&path)?).map_err(|why| damaged(why.to_string()))?;
    let key = cert.primary_key().key();
    let kind = KeyKind::of(key).map_or_else(
        |_| key.pk_algo().to_string(),
        |(kind, bits)| match kind {
            KeyKind::Rsa => format!("rsa{bits}"),
            _ => kind.name().to_owned(),
        },
    );
    let mut policies = Vec::new();
    for path in openpgp::policy_files(&layout)? {
        let policy = Policy::load(&path)?;
        let entry = policy.entry()?;
        policies.push(json!({
            "name": policy.name().as_str(),
            "level": policy.level().name(),
            "digest": policy.digest().name(),
            "days_default": entry.days_default,
            "days_max": entry.days_max,
            "key_kinds": entry.key_kinds.iter().map(|kind| kind.to_string()).collect::<Vec<_>>(),
            "rsa_bits_min": entry.rsa_bits_min,
            "needs_encryption": entry.needs_encryption,
            "user_ids_max": entry.user_ids_max,
            "policy_uri": policy.policy_uri(),
            "serial_notation": policy.serial_notation(),
        }));
    }
    Ok(json!({
        "name": name.as_str(),
        "fingerprint": cert.fingerprint().to_hex(),
        "key": kind,
        "user_ids": user_ids(&cert),
        "policies": policies,
        "public_key": path.display().to_string(),
    }))
}

fn list(store: &Path, only: Option<&Name>, as_json: bool) -> Result<(), Failure> {
    let ledger = Ledger::open(&Ledger::path(store))?;
    let mut authorities = Vec::new();
    for name in openpgp::names(store)? {
        if only.is_none_or(|only| *only == name) {
            authorities.push(authority_value(store, &name)?);
        }
    }
    let id = match only {
        Some(name) => Some(known(&ledger, name)?),
        None => None,
    };
    if as_json {
        let certifications = Certifications { ledger: &ledger, only: id };
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let records = Records { authorities: &authorities, certifications };
        let written = serde_json::to_writer(&mut out, &records).map_err(std::io::Error::from);
        written
            .and_then(|()| writeln!(out))
            .and_then(|()| out.flush())
            .map_err(Fault::disk("write the records to", "standard output"))?;
        return Ok(());
    }
    if authorities.is_empty() {
        say!("no OpenPGP authority yet; make one with `signer openpgp create`");
    }
    for value in &authorities {
        print_head(value);
    }
    ledger.for_each_certification(id, |row| {
        let CertificationRow { authority, fingerprint, user_id, at, expires, .. } = &row;
        let state = match &row.revoked_at {
            Some(at) => format!("revoked {at}"),
            None => format!("until {expires}"),
        };
        let serial = row.serial.as_deref().unwrap_or("-");
        say!("{at}  {state}  {authority}  {serial}  {fingerprint}  {user_id}");
        Ok(())
    })?;
    Ok(())
}

/// What `list --json` says.
#[derive(Serialize)]
struct Records<'a> {
    authorities: &'a [serde_json::Value],
    certifications: Certifications<'a>,
}

/// Written row by row as they are read, so that a million of them need no memory.
struct Certifications<'a> {
    ledger: &'a Ledger,
    only: Option<OpenPgpAuthorityId>,
}

impl Serialize for Certifications<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(None)?;
        let mut failed = None;
        let read = self.ledger.for_each_certification(self.only, |row| {
            // One that cannot be written ends the reading; the fault itself is told below.
            rows.serialize_element(&row).map_err(|error| {
                let fault = Fault::Internal(error.to_string());
                failed = Some(error);
                fault
            })
        });
        match (failed, read) {
            (Some(error), _) => Err(error),
            (None, Err(fault)) => Err(S::Error::custom(fault)),
            (None, Ok(())) => rows.end(),
        }
    }
}

fn known(ledger: &Ledger, name: &Name) -> Result<OpenPgpAuthorityId, Failure> {
    let found = ledger.openpgp_authority(name)?;
    found.map(|(id, _)| id).ok_or_else(|| {
        let text =
            format!("there is no OpenPGP authority {name}; `signer openpgp list` shows them");
        Fault::Configuration(text).into()
    })
}

fn print_head(value: &serde_json::Value) {
    let text = |key: &str| value[key].as_str().unwrap_or("-").to_owned();
    say!("{}", text("name"));
    say!("  key          {} {}", text("key"), text("fingerprint"));
    for user_id in value["user_ids"].as_array().into_iter().flatten() {
        say!("  user ID      {}", user_id.as_str().unwrap_or_default());
    }
}

fn show(store: &Path, name: &Name, as_json: bool) -> Result<(), Failure> {
    known(&Ledger::open(&Ledger::path(store))?, name)?;
    openpgp::names(store)?; // an old store's key is given its name first
    let value = authority_value(store, name)?;
    if as_json {
        say!("{value}");
        return Ok(());
    }
    print_head(&value);
    say!("  public key   {}", value["public_key"].as_str().unwrap_or_default());
    for policy in value["policies"].as_array().into_iter().flatten() {
        say!(
            "  policy       {}: {}, {} days, at most {}",
            policy["name"].as_str().unwrap_or_default(),
            policy["level"].as_str().unwrap_or_default(),
            policy["days_default"],
            policy["days_max"]
        );
    }
    Ok(())
}

fn check(file: &Path, as_json: bool) -> Result<(), Failure> {
    let text = durable::read_text(file)?;
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name: Result<Name, _> = stem.to_owned().try_into();
    let mut faults: Vec<String> = Vec::new();
    match name {
        Ok(name) => {
            if let Err(found) = Policy::parse(name, &text) {
                faults.extend(found.iter().map(str::to_owned));
            }
        }
        Err(error) => faults.push(format!("the file's name: {error}")),
    }
    if as_json {
        say!("{}", json!({ "faults": faults }));
    } else {
        for fault in &faults {
            say!("{}: {fault}", file.display());
        }
    }
    match faults.len() {
        0 if as_json => Ok(()),
        0 => {
            say!("{}: policy {stem} is without fault", file.display());
            Ok(())
        }
        count => {
            let path = file.display();
            let what = if count == 1 { "a fault" } else { "faults" };
            let text = format!("{path} has {what}, see above; correct the policy");
            Err(Fault::Configuration(text).into())
        }
    }
}
