//! `signer blocklist`: published lists of weak keys, and the keys that an operator blocks.
//!
//! All of it works beside a running signer, which takes notice before its next certificate.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use protocol::message::Digest;
use serde_json::json;

use super::Failure;
use crate::{
    audit::Event,
    blocklist::{self, Blocklist},
    calendar::UnixTime,
    clock::Moment,
    fault::Fault,
    ledger::{Ledger, Transaction},
    vault,
};

#[derive(Debug, Subcommand)]
pub(super) enum BlocklistCommand {
    /// Add published lists of weak keys: openssl-blacklist files, or badkeys' blocklist.dat
    Import {
        /// The lists, unpacked
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Show what the list of weak keys was made from, and check it
    Show,
    /// Block a key: no certificate is made for it from now on
    Add {
        #[command(flatten)]
        key: KeyArguments,
        /// Why; for the log, and never told to who asks for a certificate
        #[arg(long)]
        reason: String,
    },
    /// Take a key from the table of blocked ones
    Remove(KeyArguments),
    /// List the keys that were blocked by hand
    List,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("key").required(true)))]
pub(super) struct KeyArguments {
    /// The key, or a certificate or CSR that holds it, PEM or DER
    #[arg(group = "key")]
    file: Option<PathBuf>,
    /// The SHA-256 of its SubjectPublicKeyInfo, hexadecimal
    #[arg(long, group = "key", value_parser = fingerprint)]
    fingerprint: Option<Digest>,
}

fn fingerprint(text: &str) -> Result<Digest, String> {
    let digits = text.replace(':', "");
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let digit = |octet: &u8| char::from(*octet).to_digit(16);
    let octet = |[high, low]: &[u8; 2]| u8::try_from(digit(high)? << 4 | digit(low)?).ok();
    let octets: Option<Vec<u8>> = pairs.iter().map(octet).collect();
    let octets = octets.filter(|_| rest.is_empty()).and_then(|octets| octets.try_into().ok());
    octets.map(Digest::from_bytes).ok_or_else(|| "a SHA-256 has 64 hexadecimal digits".to_owned())
}

impl KeyArguments {
    fn fingerprints(&self) -> Result<Vec<Digest>, Fault> {
        let keys = match &self.file {
            Some(path) => blocklist::public_keys(path)?,
            None => Vec::new(),
        };
        let in_file = keys.iter().map(|spki| blocklist::fingerprint(spki));
        Ok(self.fingerprint.into_iter().chain(in_file).collect())
    }
}

/// Does what the command says.
pub(super) fn run(
    store: &Path,
    command: &BlocklistCommand,
    now: Moment,
    as_json: bool,
) -> Result<(), Failure> {
    let now = now.unix();
    match command {
        BlocklistCommand::Import { files } => import(store, files, now, as_json),
        BlocklistCommand::Show => show(store, as_json),
        BlocklistCommand::Add { key, reason } => {
            let changed = |tx: &mut Transaction<'_>, key| tx.block_key(key, reason);
            change(store, &key.fingerprints()?, now, changed, ["blocked", "was blocked before"])
        }
        BlocklistCommand::Remove(key) => {
            let changed = |tx: &mut Transaction<'_>, key| tx.unblock_key(key);
            change(
                store,
                &key.fingerprints()?,
                now,
                changed,
                ["no longer blocked", "was not blocked"],
            )
        }
        BlocklistCommand::List => list(store, as_json),
    }
}

fn import(store: &Path, files: &[PathBuf], now: UnixTime, as_json: bool) -> Result<(), Failure> {
    let imported = blocklist::import(store, files)?;
    let mut ledger = Ledger::open(&Ledger::path(store))?;
    let mut tx = ledger.begin(now)?;
    let sources = imported.sources.iter();
    tx.audit(&Event::BlocklistImported {
        sources: sources.map(|source| format!("{} {}", source.sha256, source.name)).collect(),
        entries: imported.entries,
    })?;
    tx.commit()?;
    vault::follow_audit(store, &mut ledger)?;
    if as_json {
        let value = json!({
            "sources": imported.sources,
            "added": imported.added,
            "entries": imported.entries,
        });
        say!("{value}");
        return Ok(());
    }
    for source in &imported.sources {
        say!("{}: {} keys ({})", source.name, source.entries, source.format);
    }
    say!("{} keys are new; {} weak keys are listed now", imported.added, imported.entries);
    Ok(())
}

fn show(store: &Path, as_json: bool) -> Result<(), Failure> {
    let list = Blocklist::open(store)?;
    list.verify()?;
    if as_json {
        let value = json!({
            "loaded": list.is_loaded(),
            "entries": list.entries(),
            "sources": list.sources(),
        });
        say!("{value}");
        return Ok(());
    }
    if !list.is_loaded() {
        say!("{}", blocklist::NOT_LOADED);
        return Ok(());
    }
    say!("{} weak keys are listed, from:", list.entries());
    for source in list.sources() {
        say!("  {} ({}, {} keys)", source.name, source.format, source.entries);
        say!("    SHA-256 {}", source.sha256);
    }
    Ok(())
}

fn change(
    store: &Path,
    fingerprints: &[Digest],
    now: UnixTime,
    change: impl Fn(&mut Transaction<'_>, Digest) -> Result<bool, Fault>,
    [done, nothing_to_do]: [&str; 2],
) -> Result<(), Failure> {
    let mut ledger = Ledger::open(&Ledger::path(store))?;
    let mut tx = ledger.begin(now)?;
    let mut lines = Vec::new();
    for fingerprint in fingerprints {
        let words = if change(&mut tx, *fingerprint)? { done } else { nothing_to_do };
        lines.push(format!("{fingerprint} {words}"));
    }
    tx.commit()?;
    vault::follow_audit(store, &mut ledger)?;
    for line in lines {
        say!("{line}");
    }
    Ok(())
}

fn list(store: &Path, as_json: bool) -> Result<(), Failure> {
    let keys = Ledger::open(&Ledger::path(store))?.blocked_keys()?;
    if as_json {
        let rows: Vec<_> = keys
            .iter()
            .map(|key| {
                json!({
                    "fingerprint": key.fingerprint.to_string(),
                    "at": key.at.to_string(),
                    "reason": key.reason,
                })
            })
            .collect();
        say!("{}", json!({ "blocked_keys": rows }));
        return Ok(());
    }
    if keys.is_empty() {
        say!("no key is blocked");
    }
    for key in keys {
        say!("{}  since {}  {}", key.fingerprint, key.at, key.reason);
    }
    Ok(())
}
