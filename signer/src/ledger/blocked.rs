//! The operator's own table of keys that are never certified.
//!
//! A key is known by the SHA-256 of its SubjectPublicKeyInfo. Every change has its audit entry in
//! the same transaction.

use protocol::message::Digest;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Ledger, Transaction};
use crate::{audit::Event, calendar::UnixTime, fault::Fault};

/// A key that the operator blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedKey {
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fingerprint: Digest,
    /// Since when.
    pub at: UnixTime,
    /// Why, in the operator's words.
    pub reason: String,
}

impl Ledger {
    /// Every blocked key, in the order of the fingerprints.
    pub fn blocked_keys(&self) -> Result<Vec<BlockedKey>, Fault> {
        let sql = "SELECT fingerprint, at, reason FROM blocked_key ORDER BY fingerprint";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(BlockedKey {
                fingerprint: Digest::from_bytes(row.get(0)?),
                at: UnixTime(row.get(1)?),
                reason: row.get(2)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Why a key is blocked; nothing if it is not.
    pub fn blocked_key(&self, fingerprint: Digest) -> Result<Option<String>, Fault> {
        reason(&self.connection, fingerprint)
    }
}

impl Transaction<'_> {
    /// Why a key is blocked, this change included; nothing if it is not.
    pub fn blocked_key(&self, fingerprint: Digest) -> Result<Option<String>, Fault> {
        reason(&self.inner, fingerprint)
    }

    /// Blocks a key, or gives another reason for one that is blocked; answers whether that
    /// changed anything.
    pub fn block_key(&mut self, fingerprint: Digest, why: &str) -> Result<bool, Fault> {
        if self.blocked_key(fingerprint)?.is_some_and(|reason| reason == why) {
            return Ok(false);
        }
        let sql = "INSERT INTO blocked_key (fingerprint, at, reason) VALUES (?1, ?2, ?3)
                   ON CONFLICT (fingerprint) DO UPDATE SET reason = excluded.reason";
        self.inner.execute(sql, params![fingerprint.as_bytes(), self.now.0, why])?;
        let fingerprint = fingerprint.to_string();
        self.audit(&Event::KeyBlocked { fingerprint, reason: why.to_owned() })?;
        Ok(true)
    }

    /// Takes a key from the table; answers whether it was there.
    pub fn unblock_key(&mut self, fingerprint: Digest) -> Result<bool, Fault> {
        let sql = "DELETE FROM blocked_key WHERE fingerprint = ?1";
        if self.inner.execute(sql, [fingerprint.as_bytes()])? == 0 {
            return Ok(false);
        }
        self.audit(&Event::KeyUnblocked { fingerprint: fingerprint.to_string() })?;
        Ok(true)
    }
}

fn reason(connection: &Connection, fingerprint: Digest) -> Result<Option<String>, Fault> {
    let sql = "SELECT reason FROM blocked_key WHERE fingerprint = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([fingerprint.as_bytes()], |row| row.get(0)).optional()?)
}
