//! What the next CRL of an authority will be, without signing it.
//!
//! Changes nothing; the console shows it.

use std::collections::HashSet;

use protocol::message::Serial;

use super::{REVOCATION_WAIT_S, files, refresh_s, round};
use crate::{
    authority::{Authority, crl},
    calendar::UnixTime,
    fault::Fault,
    ledger::{Change, CrlRow, Ledger},
};

/// When the next CRL is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// By the running signer, at this time at the latest.
    By(UnixTime),
    /// When a person types it: the authority is a root.
    ByHand,
}

/// The next full CRL of an authority.
#[derive(Debug)]
pub(crate) struct Outlook {
    /// The newest one so far.
    pub(crate) newest: Option<CrlRow>,
    /// When the next is signed.
    pub(crate) due: Due,
    /// What changes in it.
    pub(crate) changes: Vec<Change>,
    /// What leaves it by the rule: expired, and listed once after that.
    pub(crate) pruned: Vec<Serial>,
    /// How many entries it will have.
    pub(crate) entries: u64,
}

/// What the next full CRL will be if it is signed with what the ledger has now.
pub(crate) fn outlook(authority: &Authority, ledger: &Ledger) -> Result<Outlook, Fault> {
    let id = authority.id();
    let newest = ledger.newest_crl(id)?;
    let covered = newest.as_ref().map_or(0, |row| row.last_revocation);
    let changes = ledger.changes(id, covered, ledger.last_revocation(id)?)?;
    let (entries, listed) = round::preview(authority, ledger)?;
    let next: HashSet<&[u8]> =
        entries.iter().filter(|(_, mark)| listed(mark)).map(|(serial, _)| serial).collect();
    let changed: HashSet<&[u8]> = changes.iter().map(|change| &change.serial[..]).collect();
    let mut pruned = Vec::new();
    if let Some(der) = newest.as_ref().and_then(|row| files::stored(authority, row)) {
        let leaving =
            crl::listed(&der).filter(|serial| !next.contains(serial) && !changed.contains(serial));
        pruned.extend(leaving.filter_map(|serial| Serial::from_magnitude(serial).ok()));
    }
    let waiting = ledger.first_revocation_after(id, covered)?;
    let due = match (&newest, authority.signs_unattended()) {
        (_, false) => Due::ByHand,
        (None, true) => Due::By(UnixTime(0)),
        (Some(newest), true) => {
            let by_clock = newest.this_update.0 + refresh_s(authority);
            let by_wait = waiting.map(|since| since.0 + REVOCATION_WAIT_S);
            Due::By(UnixTime(by_wait.map_or(by_clock, |at| at.min(by_clock))))
        }
    };
    let entries = next.len() as u64;
    Ok(Outlook { newest, due, changes, pruned, entries })
}
