//! The packed CRLs that the frontend is fetching, in pieces.
//!
//! A cut costs no more than the pieces under way: the frontend names the transfer and goes on.
//! What is kept is bounded in number, bytes and time, whatever references a peer names.

use std::collections::VecDeque;

use protocol::{
    message::{Answer, CrlPiece, CrlScope, Digest, FetchCrl, Name, PIECE_MAX},
    patch,
};

use crate::{authority::crl, clock::Moment, fault::Fault, ledger::CrlRow, vault::too_long};

/// The bytes of one piece: a third of a second of a line of 115,200 baud. A cut costs no more than
/// the two pieces under way; a connection that lasts for half a second brings the transfer on.
const PIECE: usize = 4 * 1024;

/// Packed CRLs kept while the frontend fetches their pieces.
const TRANSFERS_MAX: usize = 4;

/// And so many bytes of them, but for the newest: what a vault of 64 MiB can spare.
const BYTES_MAX: usize = 12 << 20;

/// A transfer that nobody asked about for so long is forgotten; it can be packed again.
const IDLE_US: i64 = 15 * 60 * 1_000_000;

const _: () = assert!(PIECE <= PIECE_MAX);

/// A CRL on its way to the frontend.
#[derive(Debug)]
struct Transfer {
    authority: Name,
    have: Option<Digest>,
    crl: CrlRow,
    packed: Vec<u8>,
    packed_digest: Digest,
    asked_us: i64,
}

impl Transfer {
    fn is_of(&self, authority: &Name, scope: CrlScope) -> bool {
        self.authority == *authority && self.crl.scope == scope
    }

    fn is_for(&self, fetch: &FetchCrl, number: u64) -> bool {
        self.is_of(&fetch.authority, fetch.scope) && self.crl.number == number
    }
}

/// The packed CRLs that are being fetched, oldest first.
#[derive(Debug, Default)]
pub(in crate::vault) struct Transfers(VecDeque<Transfer>);

impl Transfers {
    /// The transfer that the question goes on with, whether or not its CRL is still the newest.
    pub(super) fn resumed(&self, fetch: &FetchCrl) -> Option<usize> {
        let (digest, offset) = fetch.resume?;
        self.0.iter().position(|transfer| {
            transfer.is_of(&fetch.authority, fetch.scope)
                && transfer.packed_digest == digest
                && offset > 0
                && offset < transfer.packed.len() as u64
        })
    }

    /// The transfer of CRL `number` that goes on with what the frontend has.
    pub(super) fn position(&self, fetch: &FetchCrl, number: u64) -> Option<usize> {
        let fits =
            |transfer: &Transfer| transfer.is_for(fetch, number) && transfer.have == fetch.have;
        self.0.iter().position(fits)
    }

    /// Whether a patch of CRL `number` is kept.
    pub(super) fn has_patch(&self, fetch: &FetchCrl, number: u64) -> bool {
        self.0.iter().any(|transfer| transfer.is_for(fetch, number) && transfer.have.is_some())
    }

    /// The transfer of CRL `number` that needs no reference.
    pub(super) fn whole(&self, fetch: &FetchCrl, number: u64) -> Option<usize> {
        let fits = |transfer: &Transfer| transfer.is_for(fetch, number) && transfer.have.is_none();
        self.0.iter().position(fits)
    }

    /// Packs a CRL, against the one that the frontend has where it is still here.
    pub(super) fn start(
        &mut self,
        fetch: &FetchCrl,
        crl: CrlRow,
        der: &[u8],
        reference: Option<(Digest, Vec<u8>)>,
        now: Moment,
    ) -> usize {
        let patched = reference
            .and_then(|(digest, old)| patch::pack_spliced(der, &digest, &crl::common(&old, der)));
        let have = fetch.have.filter(|_| patched.is_some());
        if let (None, Some(position)) = (have, self.whole(fetch, crl.number)) {
            return position;
        }
        let mut packed = patched.unwrap_or_else(|| patch::pack_object(der, None));
        packed.shrink_to_fit();
        while self.0.len() >= TRANSFERS_MAX || self.bytes() + packed.len() > BYTES_MAX {
            if self.0.pop_front().is_none() {
                break;
            }
        }
        self.0.push_back(Transfer {
            authority: fetch.authority.clone(),
            have,
            packed_digest: Digest::of(&packed),
            packed,
            crl,
            asked_us: now.boot_us,
        });
        self.0.len() - 1
    }

    /// The piece of a transfer that is asked for; its first if the question names another.
    pub(super) fn piece(
        &mut self,
        position: usize,
        fetch: &FetchCrl,
        now: Moment,
    ) -> Result<Answer, Fault> {
        let transfer = &mut self.0[position];
        transfer.asked_us = now.boot_us;
        let length = transfer.packed.len() as u64;
        let offset = match fetch.resume {
            Some((digest, offset)) if digest == transfer.packed_digest && offset < length => {
                offset as usize // below the length of what is in memory
            }
            _ => 0,
        };
        let end = transfer.packed.len().min(offset + PIECE);
        Ok(Answer::CrlPiece(CrlPiece {
            authority: fetch.authority.clone(),
            scope: fetch.scope,
            crl_number: transfer.crl.number,
            crl_digest: transfer.crl.digest,
            crl_length: transfer.crl.length,
            packed_digest: transfer.packed_digest,
            packed_length: length,
            offset: offset as u64,
            bytes: transfer.packed[offset..end].to_vec().try_into().map_err(too_long)?,
        }))
    }

    /// The frontend has the newest CRL of this scope.
    pub(super) fn forget(&mut self, authority: &Name, scope: CrlScope) {
        self.0.retain(|transfer| !transfer.is_of(authority, scope));
    }

    /// Forgets what nobody asks about any more.
    pub(super) fn forget_idle(&mut self, now: Moment) {
        self.0.retain(|transfer| now.boot_us.saturating_sub(transfer.asked_us) < IDLE_US);
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|transfer| transfer.packed.len()).sum()
    }

    #[cfg(test)]
    pub(in crate::vault) fn count(&self) -> usize {
        self.0.len()
    }
}
