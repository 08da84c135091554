//! The files of CRLs: one for each number and scope, another name for the newest, `crlnumber`.
//!
//! Nothing here signs. A file counts only if it is what the ledger says was signed.

use std::collections::BTreeSet;

use protocol::message::{CrlScope, Digest};

use crate::{
    authority::{Authority, crl},
    durable,
    fault::Fault,
    ledger::{CrlRow, Ledger},
};

/// Full CRL files kept as patch references, newest first.
const KEPT_FULL: usize = 8;

/// The same of each other scope.
const KEPT_OTHER: usize = 2;

/// The most by which `crlnumber` may be ahead of the ledger: what a person's `openssl ca -gencrl`
/// added, not what a damaged file says.
const NUMBER_JUMP_MAX: u64 = 1 << 20;

fn kept(scope: CrlScope) -> usize {
    if scope == CrlScope::Full { KEPT_FULL } else { KEPT_OTHER }
}

/// Stores a CRL so that it survives a pulled plug.
pub(super) fn store(authority: &Authority, row: &CrlRow, der: &[u8]) -> Result<(), Fault> {
    durable::directory(&authority.layout().file("crl"), 0o755)?;
    durable::replace(&authority.layout().crl(row.scope, row.number), der, 0o644)
}

/// Gives the newest CRL of its scope its other name.
pub(super) fn show(authority: &Authority, row: &CrlRow) -> Result<(), Fault> {
    let layout = authority.layout();
    let (file, newest) = (layout.crl(row.scope, row.number), layout.newest_crl(row.scope));
    durable::link_lazily(&file, &newest, 0o644)
}

/// Writes the number that `openssl ca -gencrl` would use next.
pub(super) fn write_number(authority: &Authority, number: u64) -> Result<(), Fault> {
    let digits = format!("{:X}", number + 1);
    let padded = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits };
    let path = authority.layout().file("crlnumber");
    durable::replace_lazily(&path, format!("{padded}\n").as_bytes(), 0o644)
}

/// The number in `crlnumber`, where one can be read.
fn number_in_file(authority: &Authority) -> Option<u64> {
    let text = std::fs::read_to_string(authority.layout().file("crlnumber")).ok()?;
    u64::from_str_radix(text.trim_end(), 16).ok()
}

/// The number that a person's program would use next, if it can be believed beside ours.
pub(super) fn foreign_number(authority: &Authority, ours: u64) -> Option<u64> {
    number_in_file(authority).filter(|next| next.saturating_sub(ours) <= NUMBER_JUMP_MAX)
}

/// Brings `crlnumber` and the names of the newest CRLs to where the ledger is. A number above
/// ours, and not too far, is a person's: it is spent, so it stays until our next CRL goes above it
/// (invariant I7).
pub(in crate::vault) fn follow(authority: &Authority, ledger: &Ledger) -> Result<(), Fault> {
    let (_, number) = ledger.counters(authority.id())?;
    if foreign_number(authority, number).is_none_or(|next| next <= number) {
        write_number(authority, number)?;
    }
    for scope in authority.crl_scopes() {
        let Some(newest) = ledger.newest_crl_of(authority.id(), scope)? else { continue };
        let shown = std::fs::read(authority.layout().newest_crl(scope));
        let is_shown = shown.is_ok_and(|der| Digest::of(&der) == newest.digest);
        if !is_shown && stored(authority, &newest).is_some() {
            show(authority, &newest)?;
        }
    }
    Ok(())
}

/// The file of a CRL, if it is there and as it was signed.
pub(super) fn stored(authority: &Authority, row: &CrlRow) -> Option<Vec<u8>> {
    let der = std::fs::read(authority.layout().crl(row.scope, row.number)).ok()?;
    (Digest::of(&der) == row.digest).then_some(der)
}

/// The CRL that the frontend holds, if we still have it.
pub(super) fn reference(
    authority: &Authority,
    ledger: &Ledger,
    scope: CrlScope,
    digest: Digest,
) -> Result<Option<(Digest, Vec<u8>)>, Fault> {
    let number = ledger.crl_number_of(authority.id(), scope, digest, kept(scope))?;
    let file = number.map(|number| authority.layout().crl(scope, number));
    let bytes = file.and_then(|file| std::fs::read(file).ok());
    // A damaged one would give a patch that the frontend cannot undo: then it asks for the whole.
    Ok(bytes.map(|bytes| (digest, bytes)))
}

/// Removes CRL files that are no longer needed as references, also those of numbers that were
/// spent without a CRL. The ledger keeps its record.
pub(super) fn remove_old(
    authority: &Authority,
    ledger: &Ledger,
    newest: u64,
    base: Option<u64>,
) -> Result<(), Fault> {
    let mut keep = BTreeSet::new();
    for scope in authority.crl_scopes() {
        let numbers = ledger.newest_crl_numbers(authority.id(), scope, kept(scope))?;
        keep.extend(numbers.into_iter().map(|number| crl::file_name(scope, number)));
    }
    // Whoever has the delta CRL needs the full one that it changes.
    keep.extend(base.map(|number| crl::file_name(CrlScope::Full, number)));
    let directory = authority.layout().file("crl");
    let files = std::fs::read_dir(&directory).map_err(Fault::disk("read", &directory))?;
    for file in files {
        let name = file.map_err(Fault::disk("read", &directory))?.file_name();
        let Some(name) = name.to_str().filter(|name| !keep.contains(*name)) else { continue };
        // What a person put there under another name, or with a higher number, stays.
        if crl::named_by(name).is_some_and(|(number, _)| number <= newest) {
            // A file that cannot be removed does no harm; the next round tries again.
            let _ = std::fs::remove_file(directory.join(name));
        }
    }
    Ok(())
}
