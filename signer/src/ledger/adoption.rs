//! Takes a whole old index into the ledger: many rows, one transaction, one audit entry.
//!
//! Rows come as they were written by another program; nothing here judges them.

use rusqlite::params;

use super::{AuthorityId, CertificateRow, Status, Transaction};
use crate::{calendar::UnixTime, fault::Fault};

/// One adopted row; what is done where its serial is known already may follow.
pub(super) const INSERT: &str = "INSERT INTO certificate
     (authority, serial, profile, not_after, subject, der, status, revoked_at, reason, file, line)
     VALUES (?1, ?2, '', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

impl Transaction<'_> {
    /// Adds an adopted certificate, and its revocation if it is revoked.
    pub fn insert_adopted(
        &self,
        authority: AuthorityId,
        row: &CertificateRow,
    ) -> Result<(), Fault> {
        match self.write_adopted(INSERT, authority, row)? {
            // A row that is in the table of revocations is in the next CRL (invariant I8).
            Some(at) => self.note_change(authority, &row.serial, at),
            None => Ok(()),
        }
    }

    /// Writes one row by [`INSERT`]; answers since when it is revoked.
    pub(super) fn write_adopted(
        &self,
        sql: &str,
        authority: AuthorityId,
        row: &CertificateRow,
    ) -> Result<Option<UnixTime>, Fault> {
        let (revoked_at, reason) = match &row.status {
            Status::Revoked { at, reason } => (Some(*at), reason.as_deref()),
            Status::Valid | Status::Expired => (None, None),
        };
        self.inner.prepare_cached(sql)?.execute(params![
            authority.0,
            row.serial.as_octets(),
            row.not_after.0,
            row.subject,
            row.der,
            row.status.letter(),
            revoked_at.map(|at| at.0),
            reason,
            row.file,
            row.line
        ])?;
        Ok(revoked_at)
    }

    /// How far the files of an authority are that was just filled, this change included.
    pub fn adopted_to(&self, authority: AuthorityId) -> Result<(i64, i64), Fault> {
        let last = |table: &str| -> Result<i64, Fault> {
            let sql = format!("SELECT COALESCE(MAX(seq), 0) FROM {table} WHERE authority = ?1");
            Ok(self.inner.query_row(&sql, [authority.0], |row| row.get(0))?)
        };
        Ok((last("certificate")?, last("revocation")?))
    }
}
