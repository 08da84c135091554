//! What the ledger holds of OpenPGP, read for `signer store check`: rows that must fit together,
//! and certificates with what is known of them. Changes nothing.

use protocol::message::RequestId;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{CertifiedUserId, serial_of};
use crate::{calendar::UnixTime, fault::Fault, ledger::Ledger};

/// A certificate with our certifications, and what the ledger notes of it.
#[derive(Debug)]
pub struct StoredCertification {
    /// The number of its row.
    pub seq: i64,
    /// For which request.
    pub request: RequestId,
    /// By whom.
    pub authority: String,
    /// The certified key's fingerprint.
    pub fingerprint: String,
    /// The bytes before the first user ID; 0 where an old program stored it and they are not known.
    pub head: usize,
    /// The certificate.
    pub certificate: Vec<u8>,
    /// Its user IDs.
    pub user_ids: Vec<CertifiedUserId>,
}

/// Certifications taken back.
#[derive(Debug)]
pub struct StoredRevocation {
    /// For which request.
    pub request: RequestId,
    /// By whom.
    pub authority: String,
    /// The key's fingerprint.
    pub fingerprint: String,
    /// When.
    pub at: UnixTime,
    /// The key and the user IDs with the revocations.
    pub certificate: Vec<u8>,
}

/// The user IDs of the certificate with this number, in its order.
pub(super) fn parts(connection: &Connection, seq: i64) -> Result<Vec<CertifiedUserId>, Fault> {
    let sql = "SELECT user_id, serial, expires, offset, own, ours FROM openpgp_user_id
               WHERE certification = ?1 ORDER BY position";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([seq])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let serial: Option<Vec<u8>> = row.get(1)?;
        found.push(CertifiedUserId {
            user_id: row.get(0)?,
            serial: serial.map(|octets| serial_of(&octets)).transpose()?,
            expires: UnixTime(row.get(2)?),
            offset: row.get(3)?,
            own: row.get(4)?,
            ours: row.get(5)?,
        });
    }
    Ok(found)
}

fn certification(row: &Row<'_>) -> rusqlite::Result<StoredCertification> {
    Ok(StoredCertification {
        seq: row.get(0)?,
        request: RequestId::from_bytes(row.get(1)?),
        authority: row.get(2)?,
        fingerprint: row.get(3)?,
        head: row.get(4)?,
        certificate: row.get(5)?,
        user_ids: Vec::new(),
    })
}

impl Ledger {
    /// The OpenPGP authorities with the fingerprints of their keys, in the order of their making;
    /// a fingerprint is empty where an old store's key was never loaded.
    pub fn openpgp_authorities(&self) -> Result<Vec<(String, String)>, Fault> {
        let sql = "SELECT name, fingerprint FROM openpgp_authority ORDER BY id";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The certificate that was made for this request.
    pub fn stored_certification(
        &self,
        request: RequestId,
    ) -> Result<Option<StoredCertification>, Fault> {
        let sql = "SELECT c.seq, c.request, a.name, c.fingerprint, c.head, c.certificate
                   FROM openpgp_certification c JOIN openpgp_authority a ON a.id = c.authority
                   WHERE c.request = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row(params![request.as_bytes()], certification).optional()?;
        let Some(mut found) = found else { return Ok(None) };
        found.user_ids = parts(&self.connection, found.seq)?;
        Ok(Some(found))
    }

    /// The number and the request of every certificate, oldest first.
    pub fn for_each_openpgp_request(
        &self,
        mut visit: impl FnMut(i64, RequestId),
    ) -> Result<(), Fault> {
        let sql = "SELECT seq, request FROM openpgp_certification ORDER BY seq";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            visit(row.get(0)?, RequestId::from_bytes(row.get(1)?));
        }
        Ok(())
    }

    /// Everything that was taken back, oldest first.
    pub fn for_each_openpgp_revocation(
        &self,
        mut visit: impl FnMut(StoredRevocation),
    ) -> Result<(), Fault> {
        let sql = "SELECT r.request, a.name, r.fingerprint, r.at, r.certificate
                   FROM openpgp_revocation r JOIN openpgp_authority a ON a.id = r.authority
                   ORDER BY r.seq";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            visit(StoredRevocation {
                request: RequestId::from_bytes(row.get(0)?),
                authority: row.get(1)?,
                fingerprint: row.get(2)?,
                at: UnixTime(row.get(3)?),
                certificate: row.get(4)?,
            });
        }
        Ok(())
    }

    /// Sentences about rows that are not there, or stand alone.
    pub fn check_openpgp(&self) -> Result<Vec<String>, Fault> {
        let mut findings = Vec::new();
        let mut ask = |sql: &str, what: &str| -> Result<(), Fault> {
            let mut statement = self.connection.prepare(sql)?;
            let ids = statement.query_map([], |row| row.get::<_, [u8; 16]>(0))?;
            for id in ids {
                findings.push(format!("request {} {what}", RequestId::from_bytes(id?)));
            }
            Ok(())
        };
        ask(
            "SELECT request FROM openpgp_intent ORDER BY request",
            "waits for an OpenPGP signature; the next start does it",
        )?;
        ask(
            "SELECT id FROM request WHERE outcome = 'certified'
               AND NOT EXISTS (SELECT 1 FROM openpgp_certification c WHERE c.request = id)
               AND NOT EXISTS (SELECT 1 FROM openpgp_answer n JOIN openpgp_certification c
                                 ON c.seq = n.certification WHERE n.request = id)",
            CERTIFICATE_IS_GONE,
        )?;
        ask(
            "SELECT id FROM request WHERE outcome = 'certification-revoked'
               AND NOT EXISTS (SELECT 1 FROM openpgp_revocation r WHERE r.request = id)",
            REVOCATION_IS_GONE,
        )?;
        ask(
            "SELECT request FROM openpgp_certification c WHERE head > 0
               AND NOT EXISTS (SELECT 1 FROM request WHERE id = c.request AND outcome = 'certified')",
            "has a certificate and is not noted as certified",
        )?;
        ask(
            "SELECT request FROM openpgp_revocation r WHERE NOT EXISTS
               (SELECT 1 FROM request WHERE id = r.request AND outcome = 'certification-revoked')",
            "has a revocation and is not noted as one that took back",
        )?;
        Ok(findings)
    }
}

/// What is said of a request whose certificate is missing.
pub(crate) const CERTIFICATE_IS_GONE: &str =
    "was certified, and its certificate is not in the ledger";

/// What is said of a request whose revocation is missing.
pub(crate) const REVOCATION_IS_GONE: &str =
    "took a certification back, and the revocation is not in the ledger";
