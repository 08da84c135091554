//! What the signer certified, user ID by user ID: rows of the store, for lists, exports and the
//! check of what is taken back.
//!
//! Only what [`super::answer`] verified gets in, in the transaction that finishes its request.

use protocol::message::{Name, OpenPgpReason, RequestId};
use rusqlite::{Connection, OptionalExtension, Row, params};
use sequoia_openpgp::{Cert, parse::Parse, serialize::SerializeInto};

use super::answer::{VerifiedCertification, VerifiedRevocation};
use crate::store::StoreError;

/// The register, in a connection or a transaction.
pub struct Register<'c>(pub &'c Connection);

/// One user ID of one key, as one authority last spoke of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who certified.
    pub authority: String,
    /// The primary key's fingerprint, upper-case hexadecimal.
    pub fingerprint: String,
    /// The user ID, as in the key.
    pub user_id: String,
    /// For which request.
    pub request: RequestId,
    /// The certification, a signature packet.
    pub certification: Vec<u8>,
    /// The signer's number for it.
    pub serial: Option<String>,
    /// When it was certified, in seconds since 1970-01-01 UTC.
    pub created_at: i64,
    /// When the certification ends.
    pub expires_at: i64,
    /// The revocation signature packet, if it was taken back since.
    pub revocation: Option<Vec<u8>>,
    /// When it was taken back.
    pub revoked_at: Option<i64>,
    /// Why.
    pub reason: Option<String>,
}

/// A user ID whose certification was taken back, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenBack {
    /// The user ID, as in the key.
    pub user_id: String,
    /// The revocation, a signature packet.
    pub revocation: Vec<u8>,
}

impl Entry {
    /// Whether the certification stands at this time.
    pub fn is_valid(&self, unix_s: i64) -> bool {
        self.revoked_at.is_none() && unix_s < self.expires_at
    }

    /// `valid`, `expired` or `revoked`.
    pub fn state(&self, unix_s: i64) -> &'static str {
        match (self.revoked_at, unix_s < self.expires_at) {
            (Some(_), _) => "revoked",
            (None, true) => "valid",
            (None, false) => "expired",
        }
    }
}

/// How many user IDs an authority has certified.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// The authority.
    pub authority: String,
    /// Keys with a valid certification.
    pub keys: u64,
    /// Valid certifications.
    pub valid: u64,
    /// Certifications that have expired.
    pub expired: u64,
    /// Certifications taken back.
    pub revoked: u64,
}

impl Register<'_> {
    /// Adds what `authority` certified for `request`.
    pub fn add(
        &self,
        authority: &Name,
        request: RequestId,
        key: &VerifiedCertification,
    ) -> Result<(), StoreError> {
        self.merge(key.fingerprint(), key.bytes())?;
        let mut statement = self.0.prepare_cached(
            "INSERT INTO openpgp_user_id
             (authority, fingerprint, user_id, request, certification, serial, created_at,
              expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (authority, fingerprint, user_id) DO UPDATE SET
                request = excluded.request, certification = excluded.certification,
                serial = excluded.serial, created_at = excluded.created_at,
                expires_at = excluded.expires_at, revocation = NULL, revoked_at = NULL,
                reason = NULL
             -- An answer that was long under way does not undo what came since.
             WHERE excluded.created_at >= openpgp_user_id.created_at
               AND (excluded.certification <> openpgp_user_id.certification
                    OR openpgp_user_id.revoked_at IS NULL)",
        )?;
        for one in key.certified() {
            statement.execute(params![
                authority.as_str(),
                key.fingerprint(),
                one.user_id,
                request.as_bytes(),
                one.packet,
                one.serial,
                one.created,
                one.expires,
            ])?;
        }
        self.mark_taken_back(authority, key.fingerprint())
    }

    /// Notes what `authority` took back. What is certified may come only later: revocations go
    /// before certifications on the cable, and answers are lost.
    pub fn revoke(
        &self,
        authority: &Name,
        key: &VerifiedRevocation,
        reason: OpenPgpReason,
    ) -> Result<(), StoreError> {
        self.merge(key.fingerprint(), key.bytes())?;
        let mut statement = self.0.prepare_cached(
            "INSERT INTO openpgp_taken_back
             (authority, fingerprint, user_id, revocation, revoked_at, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (authority, fingerprint, user_id) DO UPDATE SET
                revocation = excluded.revocation, revoked_at = excluded.revoked_at,
                reason = excluded.reason
             WHERE excluded.revoked_at >= openpgp_taken_back.revoked_at",
        )?;
        for (user_id, packet) in key.revoked() {
            statement.execute(params![
                authority.as_str(),
                key.fingerprint(),
                user_id,
                packet,
                key.at(),
                reason.name(),
            ])?;
        }
        self.mark_taken_back(authority, key.fingerprint())
    }

    /// What was certified before it was taken back is taken back, whichever came here first.
    fn mark_taken_back(&self, authority: &Name, fingerprint: &str) -> Result<(), StoreError> {
        let mut statement = self.0.prepare_cached(
            "UPDATE openpgp_user_id AS one SET
                revocation = back.revocation, revoked_at = back.revoked_at, reason = back.reason
             FROM openpgp_taken_back AS back
             WHERE one.authority = ?1 AND one.fingerprint = ?2
               AND back.authority = ?1 AND back.fingerprint = ?2 AND back.user_id = one.user_id
               AND one.created_at <= back.revoked_at",
        )?;
        statement.execute(params![authority.as_str(), fingerprint])?;
        Ok(())
    }

    /// The user IDs of a key that `authority` has certified, as far as it stands at this time.
    pub fn certified(
        &self,
        authority: &Name,
        fingerprint: &str,
        unix_s: i64,
    ) -> Result<Vec<String>, StoreError> {
        let entries = self.of_key(fingerprint)?.into_iter();
        let standing = entries.filter(|one| {
            one.authority == authority.as_str()
                && one.is_valid(unix_s)
                // One of the same second may have been made after.
                && one.created_at < unix_s
        });
        Ok(standing.map(|one| one.user_id).collect())
    }

    /// What the authorities said of the key with this fingerprint.
    pub fn of_key(&self, fingerprint: &str) -> Result<Vec<Entry>, StoreError> {
        self.entries("WHERE fingerprint = ?1", params![fingerprint])
    }

    /// What was certified for this request, as far as nothing newer came since.
    pub fn of_request(&self, id: RequestId) -> Result<Vec<Entry>, StoreError> {
        self.entries("WHERE request = ?1", params![id.as_bytes()])
    }

    /// Everything, by fingerprint.
    pub fn all(&self) -> Result<Vec<Entry>, StoreError> {
        self.entries("", params![])
    }

    /// What was taken back, where no row tells of it and no certification stands at `unix_s`: what
    /// was taken back never came here, or was renewed and the renewal has ended, though itself it
    /// may last longer. By key: its fingerprint, and of each user ID the revocation.
    pub fn taken_back_untold(
        &self,
        authority: Option<&str>,
        unix_s: i64,
    ) -> Result<Vec<(String, TakenBack)>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT fingerprint, user_id, revocation FROM openpgp_taken_back AS back
             WHERE authority = coalesce(?1, authority)
               AND NOT EXISTS (SELECT 1 FROM openpgp_user_id AS one
                               WHERE one.authority = back.authority
                                 AND one.fingerprint = back.fingerprint
                                 AND one.user_id = back.user_id
                                 AND (one.revocation IS NOT NULL OR ?2 < one.expires_at))
             ORDER BY fingerprint, rowid",
        )?;
        let rows = statement.query_map(params![authority, unix_s], |row| {
            Ok((row.get(0)?, TakenBack { user_id: row.get(1)?, revocation: row.get(2)? }))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn entries(
        &self,
        condition: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<Entry>, StoreError> {
        let sql = format!(
            "SELECT authority, fingerprint, user_id, request, certification, serial, created_at,
                    expires_at, revocation, revoked_at, reason
             FROM openpgp_user_id {condition} ORDER BY fingerprint, authority, rowid"
        );
        let mut statement = self.0.prepare_cached(&sql)?;
        let rows = statement.query_map(values, entry)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The key with all that came back for it.
    pub fn key(&self, fingerprint: &str) -> Result<Option<Cert>, StoreError> {
        let bytes = self.bytes_of(fingerprint)?;
        let damaged = |_| StoreError::Damaged { what: "OpenPGP key" };
        bytes.map(|bytes| Cert::from_bytes(&bytes)).transpose().map_err(damaged)
    }

    fn bytes_of(&self, fingerprint: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut statement =
            self.0.prepare_cached("SELECT certificate FROM openpgp_key WHERE fingerprint = ?1")?;
        Ok(statement.query_row(params![fingerprint], |row| row.get(0)).optional()?)
    }

    /// Puts what came back together with what is there: the owner may have added subkeys or
    /// extended the key since.
    fn merge(&self, fingerprint: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let damaged = |_| StoreError::Damaged { what: "OpenPGP key" };
        let new = Cert::from_bytes(bytes).map_err(damaged)?;
        let merged = match self.key(fingerprint)? {
            Some(held) => held.merge_public(new).map_err(damaged)?,
            None => new,
        };
        self.0
            .prepare_cached(
                "INSERT INTO openpgp_key (fingerprint, certificate) VALUES (?1, ?2)
                 ON CONFLICT (fingerprint) DO UPDATE SET certificate = excluded.certificate",
            )?
            .execute(params![fingerprint, merged.to_vec().map_err(damaged)?])?;
        Ok(())
    }

    /// How many there are, by authority.
    pub fn tallies(&self, unix_s: i64) -> Result<Vec<Tally>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT authority,
                    count(DISTINCT CASE WHEN revoked_at IS NULL AND expires_at > ?1
                                        THEN fingerprint END),
                    sum(revoked_at IS NULL AND expires_at > ?1),
                    sum(revoked_at IS NULL AND expires_at <= ?1),
                    sum(revoked_at IS NOT NULL)
             FROM openpgp_user_id GROUP BY authority ORDER BY authority",
        )?;
        let rows = statement.query_map(params![unix_s], |row| {
            let count = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
            Ok(Tally {
                authority: row.get(0)?,
                keys: count(1)?,
                valid: count(2)?,
                expired: count(3)?,
                revoked: count(4)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        authority: row.get(0)?,
        fingerprint: row.get(1)?,
        user_id: row.get(2)?,
        request: RequestId::from_bytes(row.get(3)?),
        certification: row.get(4)?,
        serial: row.get(5)?,
        created_at: row.get(6)?,
        expires_at: row.get(7)?,
        revocation: row.get(8)?,
        revoked_at: row.get(9)?,
        reason: row.get(10)?,
    })
}
