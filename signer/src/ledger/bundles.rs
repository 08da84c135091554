//! The bundles of requests that came on a medium: which numbers were taken, and what answers them.
//!
//! The highest number of each frontend stays for good, so what is old is refused after any
//! restart. A row and its audit entry are one change.

use protocol::message::Digest;
use rusqlite::{OptionalExtension, params};

use super::{Ledger, Transaction};
use crate::{audit::Event, calendar::UnixTime, fault::Fault};

/// A bundle of requests that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleRow {
    /// Its number.
    pub number: u64,
    /// The SHA-256 of what is in it.
    pub digest: Digest,
    /// The number of the newest bundle that answers it.
    pub answer: u64,
    /// When that was begun.
    pub at: UnixTime,
}

impl Ledger {
    /// The newest bundle that was taken from the frontend with this public key.
    pub fn last_bundle(&self, peer: &[u8; 32]) -> Result<Option<BundleRow>, Fault> {
        let sql = "SELECT number, digest, answer, at FROM bundle WHERE peer = ?1
                   ORDER BY number DESC LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let row = statement.query_row([peer], |row| {
            Ok(BundleRow {
                number: row.get(0)?,
                digest: Digest::from_bytes(row.get(1)?),
                answer: row.get(2)?,
                at: UnixTime(row.get(3)?),
            })
        });
        Ok(row.optional()?)
    }
}

impl Transaction<'_> {
    /// Notes that a bundle was taken and under which number it is answered; the same bundle may be
    /// answered again under another.
    pub fn note_bundle(
        &mut self,
        peer: &[u8; 32],
        number: u64,
        digest: Digest,
        answer: u64,
    ) -> Result<(), Fault> {
        let sql = "INSERT INTO bundle (peer, number, digest, answer, at)
                   VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT (peer, number) DO UPDATE SET
                     digest = excluded.digest, answer = excluded.answer, at = excluded.at";
        let at = self.now.0;
        self.inner.execute(sql, params![peer, number, digest.as_bytes(), answer, at])?;
        self.audit(&Event::BundleTaken { number, bundle: digest.to_string(), answer })
    }
}
