//! What the files ask of the ledger: rows for index lines, and how far the copies are packed.
//!
//! A line needs no certificate, so none is read for it. Nothing here changes anything but
//! `authority.packed_at`.

use std::ops::ControlFlow;

use protocol::message::Serial;
use rusqlite::params;

use super::{AuthorityId, CertificateRow, Ledger, rows};
use crate::{durable, fault::Fault};

/// The columns of a [`CertificateRow`], with nothing in the certificate's place.
const INDEX_COLUMNS: &str =
    "seq, serial, not_after, subject, x'', status, revoked_at, reason, file, profile, line";

impl Ledger {
    /// The rows of an authority with a number above `after`, oldest first, without certificates.
    pub fn for_each_index_row(
        &self,
        authority: AuthorityId,
        after: i64,
        mut visit: impl FnMut(CertificateRow) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let sql = format!(
            "SELECT {INDEX_COLUMNS} FROM certificate
             WHERE seq > ?2 AND authority = ?1 ORDER BY seq"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query(params![authority.0, after])?;
        while let Some(row) = found.next()? {
            visit(rows::certificate_row(row)?)?;
        }
        Ok(())
    }

    /// The row with this serial, without its certificate.
    pub fn index_row(
        &self,
        authority: AuthorityId,
        serial: &Serial,
    ) -> Result<Option<CertificateRow>, Fault> {
        let sql =
            format!("SELECT {INDEX_COLUMNS} FROM certificate WHERE authority = ?1 AND serial = ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query(params![authority.0, serial.as_octets()])?;
        found.next()?.map(rows::certificate_row).transpose()
    }

    /// The certificates with a number above `after`, oldest first, until `visit` has enough.
    pub fn visit_certificates(
        &self,
        authority: AuthorityId,
        after: i64,
        mut visit: impl FnMut(CertificateRow) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        let sql = format!(
            "SELECT {} FROM certificate WHERE seq > ?2 AND authority = ?1 ORDER BY seq",
            rows::CERTIFICATE_COLUMNS
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query(params![authority.0, after])?;
        while let Some(row) = found.next()? {
            if visit(rows::certificate_row(row)?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The newest certificates whose subject has `text` in it, at most `limit`.
    pub fn with_subject(
        &self,
        authority: AuthorityId,
        text: &str,
        limit: usize,
    ) -> Result<Vec<CertificateRow>, Fault> {
        let sql = format!(
            "SELECT {} FROM certificate WHERE authority = ?1 AND instr(subject, ?2) > 0
             ORDER BY seq DESC LIMIT ?3",
            rows::CERTIFICATE_COLUMNS
        );
        let mut statement = self.connection.prepare(&sql)?;
        let mut found = statement.query(params![authority.0, text, limit])?;
        let mut all = Vec::new();
        while let Some(row) = found.next()? {
            all.push(rows::certificate_row(row)?);
        }
        Ok(all)
    }

    /// Up to which certificate the copies have been packed.
    pub fn packed_at(&self, authority: AuthorityId) -> Result<i64, Fault> {
        let sql = "SELECT packed_at FROM authority WHERE id = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([authority.0], |row| row.get(0))?)
    }

    /// Notes up to which certificate the copies have been packed.
    pub fn set_packed_at(&mut self, authority: AuthorityId, seq: i64) -> Result<(), Fault> {
        durable::crash_point("note packs in", "the ledger")?;
        let sql = "UPDATE authority SET packed_at = ?2 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![authority.0, seq])?;
        durable::crash_point("go on after noting packs in", "the ledger")
    }
}
