//! `signer crl`: show the CRLs there are, what the next one will be, and sign one now.
//!
//! Works beside a running signer; only `sign` changes anything.

use std::path::Path;

use protocol::message::Name;
use serde_json::{Value, json};

use super::{Failure, check_clock, no_authority};
use crate::{
    authority::{self, Authority},
    calendar::UnixTime,
    clock::Moment,
    fault::Fault,
    keys::Secret,
    ledger::{CrlRow, Ledger, scope_name},
    vault::{self, Due},
};

/// `signer crl show`
pub(super) fn show(
    store: &Path,
    name: Option<&Name>,
    passphrase: Option<&Secret>,
    now: Moment,
    as_json: bool,
) -> Result<(), Failure> {
    let ledger = Ledger::open(&Ledger::path(store))?;
    let mut told = Vec::new();
    for authority in load(store, name, &ledger, passphrase)? {
        for scope in authority.crl_scopes() {
            let of = scope_name(scope);
            let Some(row) = ledger.newest_crl_of(authority.id(), scope)? else {
                told.push(json!({ "authority": authority.name().as_str(), "scope": of }));
                continue;
            };
            told.push(described(&authority, &row, now.unix()));
        }
    }
    if as_json {
        say!("{}", json!({ "crls": told }));
        return Ok(());
    }
    for crl in &told {
        let (authority, scope) = (text(&crl["authority"]), text(&crl["scope"]));
        if crl["number"].is_null() {
            say!("{authority} {scope}: none yet; the running signer makes it, a person for a root");
            continue;
        }
        say!(
            "{authority} {scope}: number {}, {} entries, from {} to {}, runway {} h",
            crl["number"],
            crl["entries"],
            text(&crl["this_update"]),
            text(&crl["next_update"]),
            crl["runway_hours"]
        );
        say!("  {}", text(&crl["file"]));
        say!("  SHA-256 {}", text(&crl["sha256"]));
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn described(authority: &Authority, row: &CrlRow, now: UnixTime) -> Value {
    json!({
        "authority": authority.name().as_str(),
        "scope": scope_name(row.scope),
        "number": row.number,
        "base": row.base,
        "entries": row.entries,
        "length": row.length,
        "this_update": row.this_update.to_string(),
        "next_update": row.next_update.to_string(),
        "runway_hours": runway_hours(row, now),
        "sha256": row.digest.to_string(),
        "file": authority.layout().newest_crl(row.scope).display().to_string(),
    })
}

/// Hours until the CRL expires, to a tenth; negative when it has.
fn runway_hours(row: &CrlRow, now: UnixTime) -> f64 {
    ((row.next_update.0 - now.0) as f64 / 360.0).round() / 10.0
}

/// `signer crl next`
pub(super) fn next(
    store: &Path,
    name: &Name,
    passphrase: Option<&Secret>,
    as_json: bool,
) -> Result<(), Failure> {
    let ledger = Ledger::open(&Ledger::path(store))?;
    let Some(authority) = load(store, Some(name), &ledger, passphrase)?.pop() else {
        return Err(Fault::Internal(format!("authority {name} was not loaded")).into());
    };
    let outlook = vault::outlook(&authority, &ledger)?;
    let due = match outlook.due {
        Due::By(at) => at.to_string(),
        Due::ByHand => "by hand".to_owned(),
    };
    let (taken, restored): (Vec<_>, Vec<_>) =
        outlook.changes.iter().partition(|change| change.revocation.is_some());
    if as_json {
        let taken: Vec<_> = taken
            .iter()
            .filter_map(|change| Some((change, change.revocation.as_ref()?)))
            .map(|(change, revocation)| {
                let reason = revocation.reason.as_deref().unwrap_or("unspecified");
                json!({
                    "serial": serial_text(&change.serial),
                    "revoked_at": revocation.at.to_string(),
                    "reason": reason,
                })
            })
            .collect();
        let restored: Vec<String> =
            restored.iter().map(|change| serial_text(&change.serial)).collect();
        let pruned: Vec<String> = outlook.pruned.iter().map(ToString::to_string).collect();
        say!(
            "{}",
            json!({
                "authority": name.as_str(),
                "newest": outlook.newest.as_ref().map(|row| row.number),
                "due": due,
                "entries": outlook.entries,
                "takes_in": taken,
                "takes_out": restored,
                "prunes": pruned,
            })
        );
        return Ok(());
    }
    match (&outlook.due, &outlook.newest) {
        (Due::ByHand, Some(newest)) => say!(
            "{name}: a person signs the next CRL with `signer crl sign {name}`, before {}",
            newest.next_update
        ),
        (Due::ByHand, None) => say!("{name}: sign the first CRL with `signer crl sign {name}`"),
        (Due::By(_), _) => say!("{name}: the running signer signs the next CRL by {due}"),
    }
    say!("{} entries; new or changed {}:", outlook.entries, taken.len());
    for change in taken.iter().take(SHOWN_MAX) {
        let Some(revocation) = &change.revocation else { continue };
        let reason = revocation.reason.as_deref().unwrap_or("unspecified");
        say!("  {} {} {reason}", serial_text(&change.serial), revocation.at);
    }
    say!("taken out, because valid again: {}", restored.len());
    for change in restored.iter().take(SHOWN_MAX) {
        say!("  {}", serial_text(&change.serial));
    }
    say!("leaving, because expired: {}", outlook.pruned.len());
    for serial in outlook.pruned.iter().take(SHOWN_MAX) {
        say!("  {serial}");
    }
    if [taken.len(), restored.len(), outlook.pruned.len()].iter().any(|count| *count > SHOWN_MAX) {
        say!("the first {SHOWN_MAX} of each are shown; --json has all");
    }
    Ok(())
}

fn serial_text(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02X}")).collect()
}

/// Lines that a person reads.
const SHOWN_MAX: usize = 20;

/// `signer crl sign`
pub(super) fn sign(
    store: &Path,
    name: &Name,
    passphrase: Option<&Secret>,
    now: Moment,
) -> Result<(), Failure> {
    let (authority, mut ledger, time) = open(store, name, passphrase, now)?;
    let lock = vault::lock(&authority)?;
    vault::take_in(&authority, &mut ledger, &lock)?;
    drop(lock);
    sign_with(store, &authority, &mut ledger, time)
}

/// The authority and the ledger for a direct command, and the time to sign with.
pub(super) fn open(
    store: &Path,
    name: &Name,
    passphrase: Option<&Secret>,
    now: Moment,
) -> Result<(Authority, Ledger, UnixTime), Failure> {
    let ledger = Ledger::open(&Ledger::path(store))?;
    if ledger.authority(name)?.is_none() {
        return Err(no_authority(name));
    }
    let time = check_clock(&ledger, now)?;
    let authority = Authority::load(store, name, &ledger, passphrase)?;
    Ok((authority, ledger, time))
}

/// Signs what is due and says so.
pub(super) fn sign_with(
    store: &Path,
    authority: &Authority,
    ledger: &mut Ledger,
    time: UnixTime,
) -> Result<(), Failure> {
    let signed = vault::sign_crls(authority, ledger, time)?;
    vault::follow_audit(store, ledger)?;
    for crl in &signed {
        let of = match scope_name(crl.scope).as_str() {
            "full" => String::new(),
            other => format!(" ({other})"),
        };
        say!(
            "{}: CRL {}{of} with {} entries is signed; the next is due by {}",
            authority.name(),
            crl.number,
            crl.entries,
            crl.next_update
        );
    }
    Ok(())
}

/// The authority of this name, or all.
fn load(
    store: &Path,
    name: Option<&Name>,
    ledger: &Ledger,
    passphrase: Option<&Secret>,
) -> Result<Vec<Authority>, Failure> {
    let names = match name {
        Some(name) if ledger.authority(name)?.is_none() => {
            return Err(no_authority(name));
        }
        Some(name) => vec![name.clone()],
        None => authority::names(store)?,
    };
    let mut all = Vec::new();
    for name in names {
        if ledger.authority(&name)?.is_some() {
            all.push(Authority::load(store, &name, ledger, passphrase)?);
        }
    }
    Ok(all)
}
