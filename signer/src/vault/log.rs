//! Hands the audit log to the frontend, which remembers how far it came and what stood there.
//!
//! A log that was cut, or a store that was restored from a backup, so shows at the other end
//! (invariant I12). Each question costs one bounded reading and changes nothing.

use protocol::message::{Answer, FetchLog, LogPiece, PIECE_MAX};

use super::{Vault, too_long};
use crate::fault::Fault;

/// The bytes of one piece: half a second of a line of 115,200 baud at most, mostly a quarter of
/// one. A cut costs no more than the piece under way.
const PIECE: usize = 6 * 1024;

const _: () = assert!(PIECE <= PIECE_MAX);

impl Vault {
    /// Answers with what stands behind the entry that the frontend remembers.
    pub(super) fn fetch_log(&self, fetch: &FetchLog) -> Result<Answer, Fault> {
        let (last, head) = self.ledger.audit_head()?;
        // What the peer claims is compared before SQLite sees it: it has no number above i64.
        let known = match fetch.after {
            after if after <= last => self.ledger.audit_hash(after)?,
            _ => None,
        };
        let remembered = fetch.head.unwrap_or(crate::audit::ORIGIN);
        if known != Some(remembered) {
            return Ok(Answer::LogDiffers { last, head });
        }
        let (offset, bytes) = self.ledger.audit_bytes(fetch.after, fetch.offset, PIECE)?;
        let bytes = bytes.try_into().map_err(too_long)?;
        Ok(Answer::LogPiece(LogPiece { first: fetch.after + 1, offset, bytes, last, head }))
    }
}
