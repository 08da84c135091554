//! Signs CRLs when they are due, and hands them out in pieces.
//!
//! However many revocations wait, one CRL takes them all in. A number is spent on disk before
//! its CRL is signed, so it rises strictly whatever breaks (invariant I7). A root's CRL is signed
//! only at the console.

use std::collections::VecDeque;

use protocol::{
    message::{Answer, CrlPiece, Digest, FetchCrl, Name, PIECE_MAX},
    patch,
};

use super::{Random, Vault};
use crate::{
    authority::{Authority, crl},
    calendar::{DAY_S, UnixTime},
    clock::Moment,
    durable,
    fault::Fault,
    ledger::{CrlRow, Ledger},
};

/// A revocation waits no longer than this for its CRL, even when no frontend asks: limits allow
/// 24 hours.
const REVOCATION_WAIT_S: i64 = 60;

/// A CRL is signed at once for a revocation, but a large one not for each: a second of pause for
/// so many entries, which cost about a hundredth of a second, and never more than the wait above.
const ENTRIES_PER_SECOND: u64 = 10_000;

/// The most by which `crlnumber` may be ahead of the ledger: what a person's `openssl ca -gencrl`
/// added, not what a damaged file says.
const NUMBER_JUMP_MAX: u64 = 1 << 20;

/// CRL files kept as patch references, newest first.
const KEPT_CRLS: u64 = 8;

/// Packed CRLs kept while the frontend fetches their pieces.
const TRANSFERS_MAX: usize = 4;

/// A CRL on its way to the frontend.
#[derive(Debug)]
struct Transfer {
    authority: Name,
    have: Option<Digest>,
    crl: CrlRow,
    packed: Vec<u8>,
    packed_digest: Digest,
}

/// The packed CRLs that are being fetched.
#[derive(Debug, Default)]
pub(super) struct Transfers(VecDeque<Transfer>);

impl Vault {
    /// Answers with the piece that is asked for, after signing a CRL if one is due.
    pub(super) fn fetch_crl(&mut self, now: Moment, fetch: &FetchCrl) -> Result<Answer, Fault> {
        let Some(authority) = self.authorities.get(&fetch.authority) else {
            return Ok(Answer::CrlUnknown {
                authority: fetch.authority.clone(),
                scope: fetch.scope,
            });
        };
        if authority.signs_unattended() && self.is_stale(authority, now.unix())? {
            self.sign_crl(&fetch.authority, now)?;
        }
        let authority = &self.authorities[&fetch.authority];
        let Some(newest) = self.ledger.newest_crl(authority.id())? else {
            return Ok(Answer::CrlUnknown {
                authority: fetch.authority.clone(),
                scope: fetch.scope,
            });
        };
        if fetch.have == Some(newest.digest) {
            self.transfers.0.retain(|transfer| transfer.authority != fetch.authority);
            return Ok(Answer::CrlUnchanged {
                authority: fetch.authority.clone(),
                scope: fetch.scope,
            });
        }
        let position = match self.transfers.position(fetch, newest.number) {
            Some(position) => position,
            None => match self.start_transfer(now, fetch, newest)? {
                Some(position) => position,
                None => {
                    return Ok(Answer::CrlUnknown {
                        authority: fetch.authority.clone(),
                        scope: fetch.scope,
                    });
                }
            },
        };
        let transfer = &self.transfers.0[position];
        let offset = match fetch.resume {
            Some((digest, offset))
                if digest == transfer.packed_digest && offset < transfer.packed.len() as u64 =>
            {
                offset as usize
            }
            _ => 0,
        };
        let end = transfer.packed.len().min(offset + PIECE_MAX);
        let piece = CrlPiece {
            authority: fetch.authority.clone(),
            scope: fetch.scope,
            crl_number: transfer.crl.number,
            crl_digest: transfer.crl.digest,
            crl_length: transfer.crl.length,
            packed_digest: transfer.packed_digest,
            packed_length: transfer.packed.len() as u64,
            offset: offset as u64,
            bytes: transfer.packed[offset..end].to_vec().try_into().map_err(super::too_long)?,
        };
        Ok(Answer::CrlPiece(piece))
    }

    /// Packs the newest CRL; nothing if its file is lost and nobody may sign another.
    fn start_transfer(
        &mut self,
        now: Moment,
        fetch: &FetchCrl,
        newest: CrlRow,
    ) -> Result<Option<usize>, Fault> {
        let authority = &self.authorities[&fetch.authority];
        // One patch and one whole for each CRL: packing costs time, and a peer may name any
        // reference.
        let reference = match fetch.have {
            Some(digest) if !self.transfers.has_patch(&fetch.authority, newest.number) => {
                reference(authority, &self.ledger, digest, newest.number)?
            }
            _ => None,
        };
        if reference.is_none()
            && let Some(position) = self.transfers.whole(&fetch.authority, newest.number)
        {
            return Ok(Some(position));
        }
        let (crl, der) = match stored(authority, &newest) {
            Some(der) => (newest, der),
            None => {
                let unattended = authority.signs_unattended();
                let (number, name) = (newest.number, &fetch.authority);
                self.warn(format!("{name}: the file of CRL {number} is missing or damaged"));
                if !unattended {
                    return Ok(None);
                }
                let crl = self.sign_crl(&fetch.authority, now)?;
                let path = self.authorities[&fetch.authority].layout().crl(crl.number);
                (crl, durable::read(&path)?)
            }
        };
        let packed = patch::pack_object(&der, reference.as_deref());
        if self.transfers.0.len() == TRANSFERS_MAX {
            self.transfers.0.pop_front();
        }
        self.transfers.0.push_back(Transfer {
            authority: fetch.authority.clone(),
            have: fetch.have.filter(|_| reference.is_some()),
            packed_digest: Digest::of(&packed),
            packed,
            crl,
        });
        Ok(Some(self.transfers.0.len() - 1))
    }

    /// Whether revocations wait that the newest CRL does not have, and a large CRL is not asked
    /// for too soon after the last.
    fn is_stale(&self, authority: &Authority, now: UnixTime) -> Result<bool, Fault> {
        let Some(newest) = self.ledger.newest_crl(authority.id())? else { return Ok(true) };
        let pause_s = i64::try_from(newest.entries / ENTRIES_PER_SECOND).unwrap_or(i64::MAX);
        let rested = now.0.saturating_sub(newest.this_update.0) >= pause_s.min(REVOCATION_WAIT_S);
        Ok(rested && self.ledger.last_revocation(authority.id())? > newest.last_revocation)
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
        self.transfers.0.retain(|transfer| self.authorities.contains_key(&transfer.authority));
        Ok(())
    }

    fn sign_crl(&mut self, name: &Name, now: Moment) -> Result<CrlRow, Fault> {
        let time = self.signing_time(now)?;
        let authority = &self.authorities[name];
        let crl = sign(authority, &mut self.ledger, time)?;
        tracing::info!(authority = %name, crl_number = crl.number, entries = crl.entries, "CRL signed");
        self.transfers.0.retain(|transfer| transfer.authority != *name);
        self.follow_audit()?;
        Ok(crl)
    }
}

impl Transfers {
    /// The transfer that goes on with what the frontend has.
    fn position(&self, fetch: &FetchCrl, number: u64) -> Option<usize> {
        self.0.iter().position(|transfer| {
            transfer.authority == fetch.authority
                && transfer.have == fetch.have
                && transfer.crl.number == number
        })
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    fn has_patch(&self, authority: &Name, number: u64) -> bool {
        self.0.iter().any(|transfer| {
            transfer.authority == *authority
                && transfer.have.is_some()
                && transfer.crl.number == number
        })
    }

    /// The transfer of a CRL that needs no reference.
    fn whole(&self, authority: &Name, number: u64) -> Option<usize> {
        self.0.iter().position(|transfer| {
            transfer.authority == *authority
                && transfer.have.is_none()
                && transfer.crl.number == number
        })
    }
}

fn is_due(authority: &Authority, ledger: &Ledger, now: UnixTime) -> Result<bool, Fault> {
    let Some(newest) = ledger.newest_crl(authority.id())? else { return Ok(true) };
    let refresh_s = i64::from(authority.config().crl.refresh_hours) * 3_600;
    if now.0 - newest.this_update.0 >= refresh_s {
        return Ok(true);
    }
    let waiting = ledger.first_revocation_after(authority.id(), newest.last_revocation)?;
    Ok(waiting.is_some_and(|since| now.0 - since.0 >= REVOCATION_WAIT_S))
}

/// Signs a CRL with every revocation that the ledger has, stores it, makes it the newest.
pub(crate) fn sign(
    authority: &Authority,
    ledger: &mut Ledger,
    time: UnixTime,
) -> Result<CrlRow, Fault> {
    // One at a time: the console may sign beside the vault.
    let _lock = super::lock(authority)?;
    let (_, ours) = ledger.counters(authority.id())?;
    let theirs =
        number_in_file(authority).filter(|next| next.saturating_sub(ours) <= NUMBER_JUMP_MAX);
    let tx = ledger.begin(time)?;
    tx.raise_crl_number(authority.id(), theirs.map_or(0, |next| next.saturating_sub(1)))?;
    let number = tx.next_crl_number(authority.id())?;
    tx.commit()?;

    let last_revocation = ledger.last_revocation(authority.id())?;
    let mut entries = crl::Entries::default();
    ledger.for_each_revoked(authority.id(), |revocation| {
        entries.push(&revocation);
        Ok(())
    })?;
    let days = i64::from(authority.config().crl.next_update_days);
    let next_update = UnixTime(time.0 + days * DAY_S);
    let unsigned = crl::certificate_list(authority.issuer(), number, time, next_update, &entries);
    let der = authority.sign_crl(&unsigned)?;
    durable::directory(&authority.layout().file("crl"), 0o755)?;
    durable::replace(&authority.layout().crl(number), &der, 0o644)?;

    let row = CrlRow {
        number,
        this_update: time,
        next_update,
        entries: unsigned.entries(),
        last_revocation,
        digest: Digest::of(&der),
        length: der.len() as u64,
    };
    let mut tx = ledger.begin(time)?;
    tx.store_crl(authority.id(), &row)?;
    tx.commit()?;
    durable::replace_lazily(&authority.layout().file("crl/current.crl"), &der, 0o644)?;
    write_number(authority, number)?;
    remove_old(authority, number);
    Ok(row)
}

/// Writes the number that `openssl ca -gencrl` would use next.
pub(crate) fn write_number(authority: &Authority, number: u64) -> Result<(), Fault> {
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

/// Brings `crlnumber` and `crl/current.crl` to where the ledger is.
pub(super) fn follow(authority: &Authority, ledger: &Ledger) -> Result<(), Fault> {
    let (_, number) = ledger.counters(authority.id())?;
    if number_in_file(authority).is_none_or(|next| next <= number) {
        write_number(authority, number)?;
    }
    let Some(newest) = ledger.newest_crl(authority.id())? else { return Ok(()) };
    let current = authority.layout().file("crl/current.crl");
    let is_current = std::fs::read(&current).is_ok_and(|der| Digest::of(&der) == newest.digest);
    match stored(authority, &newest).filter(|_| !is_current) {
        Some(der) => durable::replace_lazily(&current, &der, 0o644),
        None => Ok(()),
    }
}

/// The file of a CRL, if it is there and as it was signed.
fn stored(authority: &Authority, crl: &CrlRow) -> Option<Vec<u8>> {
    let der = std::fs::read(authority.layout().crl(crl.number)).ok()?;
    (Digest::of(&der) == crl.digest).then_some(der)
}

/// The CRL that the frontend holds, if we still have it.
fn reference(
    authority: &Authority,
    ledger: &Ledger,
    digest: Digest,
    newest: u64,
) -> Result<Option<Vec<u8>>, Fault> {
    let oldest = newest.saturating_sub(KEPT_CRLS);
    let number = ledger.crl_number_of(authority.id(), digest, oldest)?;
    let bytes = number.and_then(|number| std::fs::read(authority.layout().crl(number)).ok());
    Ok(bytes.filter(|bytes| Digest::of(bytes) == digest))
}

/// Removes the CRL file that is no longer needed as a reference. The ledger keeps its record.
fn remove_old(authority: &Authority, number: u64) {
    if let Some(old) = number.checked_sub(KEPT_CRLS) {
        // A number that was spent without a CRL, or a file that a person took away, is no fault.
        let _ = std::fs::remove_file(authority.layout().crl(old));
    }
}

/// Eight random octets for a serial.
pub(crate) fn random_octets(random: &mut Random) -> Result<[u8; 8], Fault> {
    let mut octets = [0; 8];
    random(&mut octets)?;
    Ok(octets)
}
