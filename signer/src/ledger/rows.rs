//! The ledger's rows as values, and the queries that read them.

use protocol::message::{Digest, Name, RefusalCode, RequestId, Serial};
use rusqlite::{Connection, Row, params};

use super::{AuthorityId, openpgp};
use crate::{calendar::UnixTime, fault::Fault, lint::LintedTbs};

/// A TBS certificate that is on disk and may be signed, exactly once.
#[derive(Debug)]
pub struct Intent {
    seq: i64,
    request: Option<RequestId>,
    authority: AuthorityId,
    profile: Name,
    serial: Serial,
    not_after: UnixTime,
    subject: String,
    tbs: Vec<u8>,
    shard: Option<u16>,
}

impl Intent {
    pub(super) fn stored(
        seq: i64,
        request: Option<RequestId>,
        authority: AuthorityId,
        profile: Name,
        tbs: LintedTbs,
    ) -> Self {
        let shard = tbs.shard();
        let (serial, not_after, subject, tbs) = tbs.into_parts();
        Self { seq, request, authority, profile, serial, not_after, subject, tbs, shard }
    }

    /// Its number.
    pub fn seq(&self) -> i64 {
        self.seq
    }

    /// For which request; none at the console.
    pub fn request(&self) -> Option<RequestId> {
        self.request
    }

    /// Who signs.
    pub fn authority(&self) -> AuthorityId {
        self.authority
    }

    /// By which profile.
    pub fn profile(&self) -> &Name {
        &self.profile
    }

    /// The serial number.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// The last second of validity.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// The subject in openssl's one-line form.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What is to be signed, DER.
    pub fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    /// The shard of the CRL that it names.
    pub fn shard(&self) -> Option<u16> {
        self.shard
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Open,
    /// A certificate.
    Issued,
    /// A certified OpenPGP key.
    Certified,
    /// A revocation.
    Revoked {
        /// When.
        at: UnixTime,
    },
    /// A certified user ID, or more, taken back.
    CertificationRevoked {
        /// When.
        at: UnixTime,
    },
    /// A refusal.
    Refused {
        /// By which rule.
        code: RefusalCode,
        /// In words.
        text: String,
    },
    /// Set aside.
    Quarantined {
        /// What happened.
        text: String,
    },
}

impl Outcome {
    /// The word in the ledger. // stored
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Issued => "issued",
            Self::Certified => "certified",
            Self::Revoked { .. } => "revoked",
            Self::CertificationRevoked { .. } => "certification-revoked",
            Self::Refused { .. } => "refused",
            Self::Quarantined { .. } => "quarantined",
        }
    }
}

/// A request in the ledger.
#[derive(Clone, Debug)]
pub struct Known {
    /// The digest of its body.
    pub digest: Digest,
    /// What became of it.
    pub outcome: Outcome,
    /// The certificate, X.509 or OpenPGP, or what takes one back, if that is what became of it.
    pub certificate: Option<Vec<u8>>,
}

/// The first column of an index line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// `V`
    Valid,
    /// `R`
    Revoked {
        /// When.
        at: UnixTime,
        /// Why, in openssl's words; with its own additions for CRL times, as they are.
        reason: Option<String>,
    },
    /// `E`, which `openssl ca -updatedb` writes.
    Expired,
}

impl Status {
    /// The letter in the index.
    pub fn letter(&self) -> &'static str {
        match self {
            Self::Valid => "V",
            Self::Revoked { .. } => "R",
            Self::Expired => "E",
        }
    }
}

/// A certificate in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRow {
    /// Its number in the ledger.
    pub seq: i64,
    /// The serial number.
    pub serial: Serial,
    /// The last second of validity.
    pub not_after: UnixTime,
    /// The subject in openssl's one-line form.
    pub subject: String,
    /// The certificate; empty where only an index line was adopted.
    pub der: Vec<u8>,
    /// Whether it is revoked.
    pub status: Status,
    /// The index's file column.
    pub file: String,
    /// Its profile; empty for adopted lines.
    pub profile: String,
    /// Its index line as another program wrote it, without the line end, where ours would differ.
    pub line: Option<String>,
}

/// A revoked serial number.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// The content octets of the serial number.
    pub serial: Vec<u8>,
    /// When.
    pub at: UnixTime,
    /// Why, in openssl's words.
    pub reason: Option<String>,
    /// The last second of the certificate's validity.
    pub not_after: UnixTime,
    /// The certificate's profile; empty for adopted ones.
    pub profile: String,
    /// The shard of the CRL that the certificate names.
    pub shard: Option<u16>,
}

pub(super) fn damaged(what: &str, why: impl ToString) -> Fault {
    Fault::Damaged { what: format!("a ledger row of table {what}"), why: why.to_string() }
}

pub(super) fn known(connection: &Connection, id: RequestId) -> Result<Option<Known>, Fault> {
    // No joins: most requests are asked about once, when there is nothing to find.
    let sql = "SELECT digest, outcome, code, text, at FROM request WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id.as_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let outcome: String = row.get(1)?;
    let text = || row.get::<_, Option<String>>(3).map(Option::unwrap_or_default);
    let outcome = match outcome.as_str() {
        "open" => Outcome::Open,
        "issued" => Outcome::Issued,
        "certified" => Outcome::Certified,
        "revoked" => Outcome::Revoked { at: UnixTime(row.get(4)?) },
        "certification-revoked" => Outcome::CertificationRevoked { at: UnixTime(row.get(4)?) },
        "refused" => {
            let code: String = row.get(2)?;
            let code = RefusalCode::from_name(&code)
                .ok_or_else(|| damaged("request", format!("unknown refusal code {code}")))?;
            Outcome::Refused { code, text: text()? }
        }
        "quarantined" => Outcome::Quarantined { text: text()? },
        other => return Err(damaged("request", format!("unknown outcome {other}"))),
    };
    let certificate = match outcome {
        Outcome::Issued => {
            one_blob(connection, "SELECT der FROM certificate WHERE request = ?1", id)?
        }
        Outcome::Certified => openpgp::answered(connection, id)?,
        Outcome::CertificationRevoked { .. } => {
            let sql = "SELECT certificate FROM openpgp_revocation WHERE request = ?1";
            one_blob(connection, sql, id)?
        }
        _ => None,
    };
    Ok(Some(Known { digest: Digest::from_bytes(row.get(0)?), outcome, certificate }))
}

pub(super) fn one_blob(
    connection: &Connection,
    sql: &str,
    id: RequestId,
) -> Result<Option<Vec<u8>>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id.as_bytes()])?;
    Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
}

pub(super) fn open_intents(connection: &Connection) -> Result<Vec<Intent>, Fault> {
    let sql = "SELECT seq, request, authority, profile, serial, not_after, subject, tbs, shard
               FROM intent ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut intents = Vec::new();
    while let Some(row) = rows.next()? {
        let request: Option<[u8; 16]> = row.get(1)?;
        let profile: String = row.get(3)?;
        intents.push(Intent {
            seq: row.get(0)?,
            request: request.map(RequestId::from_bytes),
            authority: AuthorityId(row.get(2)?),
            profile: profile.try_into().map_err(|error| damaged("intent", error))?,
            serial: serial_of(row.get(4)?)?,
            not_after: UnixTime(row.get(5)?),
            subject: row.get(6)?,
            tbs: row.get(7)?,
            shard: row.get(8)?,
        });
    }
    Ok(intents)
}

pub(super) const CERTIFICATE_COLUMNS: &str =
    "seq, serial, not_after, subject, der, status, revoked_at, reason, file, profile, line";

pub(super) fn certificate_row(row: &Row<'_>) -> Result<CertificateRow, Fault> {
    let letter: String = row.get(5)?;
    let status = match letter.as_str() {
        "V" => Status::Valid,
        "E" => Status::Expired,
        "R" => Status::Revoked { at: UnixTime(row.get(6)?), reason: row.get(7)? },
        other => return Err(damaged("certificate", format!("unknown status {other}"))),
    };
    Ok(CertificateRow {
        seq: row.get(0)?,
        serial: serial_of(row.get(1)?)?,
        not_after: UnixTime(row.get(2)?),
        subject: row.get(3)?,
        der: row.get(4)?,
        status,
        file: row.get(8)?,
        profile: row.get(9)?,
        line: row.get(10)?,
    })
}

fn serial_of(octets: Vec<u8>) -> Result<Serial, Fault> {
    Serial::from_magnitude(&octets).map_err(|error| damaged("certificate", error))
}

pub(super) fn certificate(
    connection: &Connection,
    authority: AuthorityId,
    serial: &Serial,
) -> Result<Option<CertificateRow>, Fault> {
    let sql = format!(
        "SELECT {CERTIFICATE_COLUMNS} FROM certificate WHERE authority = ?1 AND serial = ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![authority.0, serial.as_octets()])?;
    rows.next()?.map(certificate_row).transpose()
}
