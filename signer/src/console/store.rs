//! `signer store check | rebuild | pack | find | export`.
//!
//! Checking and finding change nothing; packing and exporting work beside a running signer;
//! rebuilding needs the store for itself. No key is needed but for checking and rebuilding.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use protocol::message::{Name, Serial};

use super::{Failure, Passphrase, no_authority};
use crate::{
    authority::Layout,
    calendar::DAY_S,
    clock::Moment,
    durable::Lock,
    fault::Fault,
    keys::Secret,
    ledger::{AuthorityId, Ledger},
    vault::{self, Random},
};

mod find;
pub(super) mod progress;

use progress::Progress;

/// What can be done to the store's files.
#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Compare every file with the ledger; changes nothing
    Check(Passphrase),
    /// Write index, serial, newcerts and CRL number again from the ledger
    Rebuild(Passphrase),
    /// Move old copies from newcerts into packs, where `store find` and `store export` find them
    Pack(PackArguments),
    /// Say where a certificate is, and how it stands
    Find(FindArguments),
    /// Write authorities in openssl's layout, every copy a file of its own
    Export(ExportArguments),
}

/// What is packed.
#[derive(Debug, Args)]
pub(super) struct PackArguments {
    /// Only this authority
    authority: Option<Name>,
    /// Only copies of certificates whose validity began so many days ago
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    older_than: u32,
}

/// What is looked for.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("which").required(true)))]
pub(super) struct FindArguments {
    /// The serial number, hexadecimal
    #[arg(group = "which")]
    serial: Option<Serial>,
    /// The certificate itself, PEM or DER
    #[arg(long, value_name = "FILE", group = "which")]
    cert: Option<PathBuf>,
    /// A part of the subject in openssl's one-line form, as `/CN=www.example.org`
    #[arg(long, value_name = "TEXT", group = "which")]
    subject: Option<String>,
    /// Only at this authority
    #[arg(long)]
    authority: Option<Name>,
    /// Print the stored copy and nothing else
    #[arg(long, conflicts_with = "subject")]
    copy: bool,
}

/// What is written where.
#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// Gets a directory for each authority
    directory: PathBuf,
    /// Only this authority
    #[arg(long)]
    authority: Option<Name>,
    /// Copy the private keys too, as they are
    #[arg(long)]
    with_keys: bool,
}

/// Does what was typed.
pub(super) fn run(
    store: &Path,
    command: StoreCommand,
    random: &mut Random,
    now: Moment,
    json: bool,
) -> Result<(), Failure> {
    match command {
        StoreCommand::Check(passphrase) => check(store, passphrase.read()?.as_ref(), json),
        StoreCommand::Rebuild(passphrase) => rebuild(store, passphrase.read()?.as_ref(), random),
        StoreCommand::Pack(arguments) => pack(store, &arguments, now, json),
        StoreCommand::Find(arguments) => find::find(store, &arguments, json),
        StoreCommand::Export(arguments) => export(store, &arguments, json),
    }
}

/// Compares the files with the ledger and says every difference.
fn check(store: &Path, passphrase: Option<&Secret>, json: bool) -> Result<(), Failure> {
    let authorities = vault::load_all(store, passphrase)?;
    let mut progress = Progress::new("certificates looked at");
    let report = vault::check(store, &authorities, &mut |count| progress.at(count))?;
    drop(progress);
    if json {
        print_json(&report)?;
    } else {
        say!(
            "{} certificates of {} authorities, {} packs and {} audit entries looked at",
            report.certificates,
            authorities.len(),
            report.packs,
            report.audit_entries
        );
        for finding in &report.findings {
            say!("- {finding}");
        }
    }
    let running = Lock::is_taken(&store.join("lock"))?;
    match report.findings.len() {
        0 => Ok(()),
        _ if running => Err(Failure::Away(
            "the store has findings, see above; a signer is at work on it, so what it is writing \
             just now may be among them: stop it and check again"
                .into(),
        )),
        1 => Err(Failure::Away("the store has 1 finding; see above".into())),
        count => Err(Failure::Away(format!("the store has {count} findings; see above"))),
    }
}

/// Writes the openssl-style files again from the ledger.
fn rebuild(store: &Path, passphrase: Option<&Secret>, random: &mut Random) -> Result<(), Failure> {
    let _lock = Lock::try_take(&store.join("lock"))?.ok_or_else(|| {
        Fault::Configuration(format!(
            "a signer works on {}; stop it before rebuilding",
            store.display()
        ))
    })?;
    for authority in vault::load_all(store, passphrase)? {
        let restored = vault::rebuild(store, &authority, vault::random_octets(random)?)?;
        say!(
            "{}: index, serial and CRL number written, {restored} certificate copies restored",
            authority.name()
        );
    }
    Ok(())
}

/// Moves old copies into packs.
fn pack(store: &Path, arguments: &PackArguments, now: Moment, json: bool) -> Result<(), Failure> {
    let mut ledger = Ledger::open(&Ledger::path(store))?;
    let older_than_s = i64::from(arguments.older_than) * DAY_S;
    let cutoff = crate::calendar::UnixTime(now.unix().0 - older_than_s);
    let mut reports = serde_json::Map::new();
    for (name, id) in chosen(&ledger, arguments.authority.as_ref())? {
        let layout = Layout::new(store, &name);
        let mut progress = Progress::new("copies packed");
        let packed =
            vault::pack(&layout, id, &mut ledger, cutoff, &mut |count| progress.at(count))?;
        drop(progress);
        if json {
            reports.insert(name.to_string(), to_json(&packed)?);
            continue;
        }
        let (count, packs) = (packed.packed, packed.packs);
        say!("{name}: {count} copies packed, {packs} packs written");
        if packed.kept > 0 {
            say!("{name}: {} copies differ from their packs and stay files", packed.kept);
        }
    }
    if json {
        print_json(&reports)?;
    }
    Ok(())
}

/// Writes authorities in openssl's layout.
fn export(store: &Path, arguments: &ExportArguments, json: bool) -> Result<(), Failure> {
    let mut ledger = Ledger::open(&Ledger::path(store))?;
    let mut reports = serde_json::Map::new();
    for (name, id) in chosen(&ledger, arguments.authority.as_ref())? {
        let layout = Layout::new(store, &name);
        let mut progress = Progress::new("copies written");
        let count = vault::export(
            &layout,
            (&name, id),
            &mut ledger,
            &arguments.directory,
            arguments.with_keys,
            &mut |count| progress.at(count),
        )?;
        drop(progress);
        if json {
            reports.insert(name.to_string(), serde_json::json!({ "copies": count }));
        } else {
            let place = arguments.directory.join(name.as_str());
            let key = if arguments.with_keys { "with its key" } else { "without its key" };
            say!("{name}: {count} copies written to {}, {key}", place.display());
        }
    }
    vault::follow_audit(store, &mut ledger)?;
    if json {
        print_json(&reports)?;
    }
    Ok(())
}

/// The authority that was named, or all of them.
fn chosen(ledger: &Ledger, name: Option<&Name>) -> Result<Vec<(Name, AuthorityId)>, Failure> {
    let names = match name {
        Some(name) => vec![name.clone()],
        None => {
            let parse = |name: String| {
                name.parse().map_err(|error| Fault::Internal(format!("{name}: {error}")))
            };
            ledger.authorities()?.into_iter().map(parse).collect::<Result<_, _>>()?
        }
    };
    let mut chosen = Vec::new();
    for name in names {
        match ledger.authority(&name)? {
            Some(id) => chosen.push((name, id)),
            None => return Err(no_authority(&name)),
        }
    }
    Ok(chosen)
}

fn to_json(value: &impl serde::Serialize) -> Result<serde_json::Value, Fault> {
    serde_json::to_value(value).map_err(|error| Fault::Internal(format!("the report: {error}")))
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    say!("{}", to_json(value)?);
    Ok(())
}
