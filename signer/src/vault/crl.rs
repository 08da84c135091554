//! Signs CRLs when they are due, and hands them out in pieces.
//!
//! However many revocations wait, one CRL takes them all in. A number is spent on disk before
//! its CRLs are signed, so it rises strictly in every scope whatever breaks (invariant I7). A
//! root's CRLs are signed only at the console.

use std::collections::BTreeMap;

use protocol::message::{Answer, FetchCrl, Name};

use super::{Random, Vault};
use crate::{
    authority::Authority,
    calendar::UnixTime,
    clock::Moment,
    fault::Fault,
    ledger::{CrlRow, Ledger, scope_name},
};

mod files;
mod outlook;
mod round;
mod transfers;

pub(super) use files::follow;
pub(crate) use outlook::{Due, outlook};
use round::{Cache, sign};
use transfers::Transfers;

/// A revocation waits no longer than this for its CRL, even when no frontend asks: limits allow
/// 24 hours.
const REVOCATION_WAIT_S: i64 = 60;

/// A CRL is signed at once for a revocation, but a large one not for each: a second of pause for
/// so many entries, which cost about a hundredth of a second, and never more than the wait above.
const ENTRIES_PER_SECOND: u64 = 10_000;

/// What the vault keeps for its CRLs.
#[derive(Debug, Default)]
pub(super) struct Crls {
    caches: BTreeMap<Name, Cache>,
    pub(super) transfers: Transfers,
}

impl Vault {
    /// Answers with the piece that is asked for, after signing a CRL if one is due.
    pub(super) fn fetch_crl(&mut self, now: Moment, fetch: &FetchCrl) -> Result<Answer, Fault> {
        let (name, scope) = (&fetch.authority, fetch.scope);
        let unknown = Answer::CrlUnknown { authority: name.clone(), scope };
        let known = self.authorities.get(name).filter(|authority| authority.has_crl(scope));
        let Some(authority) = known else { return Ok(unknown) };
        // A long transfer is finished even if a newer CRL was signed meanwhile: were it begun
        // anew each time, frequent revocations would keep it from ever arriving.
        if let Some(position) = self.crls.transfers.resumed(fetch) {
            return self.crls.transfers.piece(position, fetch, now);
        }
        if authority.signs_unattended() && self.is_stale(authority, now.unix())? {
            self.sign_crl(name, now)?;
        }
        let authority = &self.authorities[name];
        let Some(newest) = self.ledger.newest_crl_of(authority.id(), scope)? else {
            return Ok(unknown);
        };
        if fetch.have == Some(newest.digest) {
            self.crls.transfers.forget(name, scope);
            return Ok(Answer::CrlUnchanged { authority: name.clone(), scope });
        }
        let position = match self.crls.transfers.position(fetch, newest.number) {
            Some(position) => position,
            None => match self.start_transfer(now, fetch, newest)? {
                Some(position) => position,
                None => return Ok(unknown),
            },
        };
        self.crls.transfers.piece(position, fetch, now)
    }

    /// Packs the newest CRL; nothing if its file is lost and nobody may sign another.
    fn start_transfer(
        &mut self,
        now: Moment,
        fetch: &FetchCrl,
        newest: CrlRow,
    ) -> Result<Option<usize>, Fault> {
        let (name, scope) = (&fetch.authority, fetch.scope);
        let authority = &self.authorities[name];
        // One patch and one whole for each CRL: packing costs time, and a peer may name any
        // reference.
        let reference = match fetch.have {
            Some(digest) if !self.crls.transfers.has_patch(fetch, newest.number) => {
                files::reference(authority, &self.ledger, scope, digest)?
            }
            _ => None,
        };
        if reference.is_none()
            && let Some(position) = self.crls.transfers.whole(fetch, newest.number)
        {
            return Ok(Some(position));
        }
        let (crl, der) = match files::stored(authority, &newest) {
            Some(der) => (newest, der),
            None => {
                let unattended = authority.signs_unattended();
                let (number, of) = (newest.number, scope_name(scope));
                self.warn(format!("{name}: the file of CRL {number} ({of}) is missing or damaged"));
                if !unattended {
                    return Ok(None);
                }
                self.sign_crl(name, now)?;
                let authority = &self.authorities[name];
                let newest = self.ledger.newest_crl_of(authority.id(), scope)?;
                let Some(newest) = newest else { return Ok(None) };
                let Some(der) = files::stored(authority, &newest) else { return Ok(None) };
                (newest, der)
            }
        };
        Ok(Some(self.crls.transfers.start(fetch, crl, &der, reference, now)))
    }

    /// Whether revocations wait that the newest CRL does not have, and a large CRL is not asked
    /// for too soon after the last.
    fn is_stale(&self, authority: &Authority, now: UnixTime) -> Result<bool, Fault> {
        let Some(newest) = self.ledger.newest_crl(authority.id())? else { return Ok(true) };
        let pause_s = i64::try_from(newest.entries / ENTRIES_PER_SECOND).unwrap_or(i64::MAX);
        // A clock a little behind the last signature signs with the time of that.
        let since = now.0.saturating_sub(newest.this_update.0).max(0);
        let rested = since >= pause_s.min(REVOCATION_WAIT_S);
        Ok(rested && self.ledger.lacks_changes(authority.id())?)
    }

    /// Signs every CRL whose time has come.
    pub(super) fn refresh_crls(&mut self, now: Moment) -> Result<(), Fault> {
        let mut due = Vec::new();
        for authority in self.authorities.values() {
            if authority.signs_unattended() && is_due(authority, &self.ledger, now.unix())? {
                due.push(authority.name().clone());
            }
        }
        for name in due {
            self.sign_crl(&name, now)?;
        }
        self.crls.transfers.forget_idle(now);
        Ok(())
    }

    pub(super) fn sign_crl(&mut self, name: &Name, now: Moment) -> Result<(), Fault> {
        let time = self.signing_time(now)?;
        let authority = &self.authorities[name];
        let cache = self.crls.caches.entry(name.clone()).or_default();
        let signed = sign(authority, &mut self.ledger, cache, time);
        if signed.is_err() {
            // What the cache holds now is not known to be what the ledger says.
            self.crls.caches.remove(name);
        }
        for crl in &signed? {
            let scope = scope_name(crl.scope);
            tracing::info!(authority = %name, scope, crl_number = crl.number, entries = crl.entries, "CRL signed");
        }
        self.follow_audit()
    }
}

/// Whether CRLs are to be signed by the clock, or because a scope has none yet.
fn is_due(authority: &Authority, ledger: &Ledger, now: UnixTime) -> Result<bool, Fault> {
    for scope in authority.crl_scopes() {
        match ledger.newest_crl_of(authority.id(), scope)? {
            Some(newest) if now.0 - newest.this_update.0 < refresh_s(authority) => {}
            _ => return Ok(true),
        }
    }
    let Some(newest) = ledger.newest_crl(authority.id())? else { return Ok(true) };
    let waiting = ledger.first_revocation_after(authority.id(), newest.last_revocation)?;
    Ok(waiting.is_some_and(|since| now.0 - since.0 >= REVOCATION_WAIT_S))
}

/// How old a CRL may become before it is signed anew.
fn refresh_s(authority: &Authority) -> i64 {
    i64::from(authority.config().crl.refresh_hours) * 3_600
}

/// Signs CRLs at the console: everything is read from the ledger, once. The full one comes first.
pub(crate) fn sign_crls(
    authority: &Authority,
    ledger: &mut Ledger,
    time: UnixTime,
) -> Result<Vec<CrlRow>, Fault> {
    sign(authority, ledger, &mut Cache::default(), time)
}

/// The same for who needs to know of the full CRL only.
pub(crate) fn sign_crl(
    authority: &Authority,
    ledger: &mut Ledger,
    time: UnixTime,
) -> Result<CrlRow, Fault> {
    let mut signed = sign_crls(authority, ledger, time)?;
    Ok(signed.swap_remove(0)) // a round signs the full CRL first, or fails
}

/// Eight random octets for a serial.
pub(crate) fn random_octets(random: &mut Random) -> Result<[u8; 8], Fault> {
    let mut octets = [0; 8];
    random(&mut octets)?;
    Ok(octets)
}
