//! The ledger: requests, intents, certificates, revocations, CRLs and audit entries in one
//! SQLite file. It is the truth; every other file of the store follows it.
//!
//! A [`Transaction`] is the only way to change it. [`Intent`]s come out of
//! [`Transaction::commit`] alone, so nothing can be signed that is not on disk (invariant I4).
//! Nothing here reads a clock or signs.

use std::path::Path;

use protocol::message::{Digest, Name, RefusalCode, RequestId, RevocationReason, Serial};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use crate::{
    audit::{self, Event},
    calendar::UnixTime,
    durable,
    fault::Fault,
    lint::LintedTbs,
};

mod rows;

pub use rows::{CertificateRow, CrlRow, Intent, Known, OpenPgpIntent, Outcome, Revocation, Status};

/// The version of the tables below; a later one comes with a migration.
const SCHEMA_VERSION: i64 = 1;

/// The serial counter before the first certificate: from 2^62 on, every serial has 16 octets.
pub const SERIALS_FROM: u64 = 1 << 62;

/// How long a statement waits for the other writer of the same store.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

// stored
const SCHEMA: &str = "
CREATE TABLE authority (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    serial_counter INTEGER NOT NULL DEFAULT 4611686018427387904, -- first 8 octets of the last serial: from 2^62 on, all have 16
    crl_number INTEGER NOT NULL DEFAULT 0,      -- of the last CRL, signed or intended
    files_at INTEGER NOT NULL DEFAULT 0,        -- certificate.seq up to which the files are synced
    revocations_at INTEGER NOT NULL DEFAULT 0,  -- revocation.seq up to which index.txt shows them, synced
    index_stamp TEXT NOT NULL DEFAULT ''        -- length and mtime of index.txt as we left it
) STRICT;
CREATE TABLE request (
    id BLOB PRIMARY KEY,
    digest BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    outcome TEXT NOT NULL,                      -- open issued certified revoked refused quarantined
    code TEXT,                                  -- of a refusal
    text TEXT,                                  -- of a refusal or quarantine
    at INTEGER,                                 -- of a revocation
    acknowledged INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE intent (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    request BLOB UNIQUE,                        -- NULL at the console
    authority INTEGER NOT NULL REFERENCES authority,
    profile TEXT NOT NULL,
    serial BLOB NOT NULL,
    not_after INTEGER NOT NULL,
    subject TEXT NOT NULL,
    tbs BLOB NOT NULL,
    UNIQUE (authority, serial)
) STRICT;
CREATE TABLE certificate (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    request BLOB UNIQUE,
    authority INTEGER NOT NULL REFERENCES authority,
    serial BLOB NOT NULL,
    profile TEXT NOT NULL,                      -- empty for adopted lines
    not_after INTEGER NOT NULL,
    subject TEXT NOT NULL,                      -- openssl's one-line form
    der BLOB NOT NULL,                          -- empty where only an index line was adopted
    status TEXT NOT NULL DEFAULT 'V',           -- V R E, as in the index
    revoked_at INTEGER,
    reason TEXT,                                -- as in the index, NULL where none
    file TEXT NOT NULL DEFAULT 'unknown',       -- the index's file column
    UNIQUE (authority, serial)
) STRICT;
CREATE INDEX revoked ON certificate (authority, serial) WHERE status = 'R';
CREATE INDEX certificate_by_authority ON certificate (authority); -- and seq, as every index
CREATE TABLE crl (
    authority INTEGER NOT NULL REFERENCES authority,
    number INTEGER NOT NULL,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    last_revocation INTEGER NOT NULL,           -- revocation.seq that it covers
    digest BLOB NOT NULL,
    length INTEGER NOT NULL,
    PRIMARY KEY (authority, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE revocation (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    authority INTEGER NOT NULL REFERENCES authority,
    serial BLOB NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX revocation_by_authority ON revocation (authority, seq);
CREATE TABLE openpgp_intent (
    request BLOB PRIMARY KEY,
    body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE openpgp_certification (
    request BLOB PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    at INTEGER NOT NULL,
    certificate BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    line TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('time_floor', 0), ('audit_files_at', 0);
";

/// The store's SQLite file.
#[derive(Debug)]
pub struct Ledger {
    connection: Connection,
}

impl Ledger {
    /// Makes a new ledger at `path`, where none may be but what a crash left of an earlier attempt.
    pub fn create(path: &Path) -> Result<Self, Fault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let ledger = Self::connect(path, flags)?;
        ledger.connection.pragma_update(None, "journal_mode", "WAL")?;
        // The version comes with the tables or not at all.
        ledger.connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        ))?;
        Ok(ledger)
    }

    /// Whether the file at `path` has tables: one whose making was cut off has none.
    pub fn is_made(path: &Path) -> Result<bool, Fault> {
        if !path.exists() {
            return Ok(false);
        }
        let ledger = Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let sql = "SELECT COUNT(*) FROM sqlite_schema";
        let count: i64 = ledger.connection.query_row(sql, [], |row| row.get(0))?;
        Ok(count > 0)
    }

    /// Opens the ledger for reading and writing.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let ledger = Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let version: i64 =
            ledger.connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version != SCHEMA_VERSION {
            return Err(Fault::Configuration(format!(
                "{} has schema version {version}, this program knows {SCHEMA_VERSION}; \
                 use the program that wrote it",
                path.display()
            )));
        }
        Ok(ledger)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, Fault> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Self { connection })
    }

    /// Begins a change; nothing of it is there before [`Transaction::commit`].
    pub fn begin(&mut self, now: UnixTime) -> Result<Transaction<'_>, Fault> {
        let inner = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        Ok(Transaction { inner, now, pending: Vec::new(), chain: None })
    }

    /// The row id of an authority.
    pub fn authority(&self, name: &Name) -> Result<Option<AuthorityId>, Fault> {
        let mut statement =
            self.connection.prepare_cached("SELECT id FROM authority WHERE name = ?1")?;
        let id = statement.query_row([name.as_str()], |row| row.get(0)).optional()?;
        Ok(id.map(AuthorityId))
    }

    /// The names of all authorities, in the order of their making.
    pub fn authorities(&self) -> Result<Vec<String>, Fault> {
        let mut statement =
            self.connection.prepare_cached("SELECT name FROM authority ORDER BY id")?;
        let names = statement.query_map([], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// The last second at which something was signed (invariant I13).
    pub fn time_floor(&self) -> Result<UnixTime, Fault> {
        self.meta("time_floor").map(UnixTime)
    }

    fn meta(&self, key: &str) -> Result<i64, Fault> {
        let mut statement =
            self.connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
        Ok(statement.query_row([key], |row| row.get(0))?)
    }

    /// How many certificates were issued or adopted.
    pub fn issued(&self) -> Result<u64, Fault> {
        // The highest number ever given, not a count over the table: status must stay cheap.
        let sql = "SELECT COALESCE(MAX(seq), 0) FROM certificate";
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }

    /// How many answers the frontend has not acknowledged.
    pub fn unacknowledged(&self) -> Result<u64, Fault> {
        let sql = "SELECT COUNT(*) FROM request WHERE acknowledged = 0 AND outcome <> 'open'";
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }

    /// The requests by outcome.
    pub fn outcomes(&self) -> Result<Vec<(String, u64)>, Fault> {
        let sql = "SELECT outcome, COUNT(*) FROM request GROUP BY outcome ORDER BY outcome";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What is known of a request.
    pub fn known(&self, id: RequestId) -> Result<Option<Known>, Fault> {
        rows::known(&self.connection, id)
    }

    /// Every intent that has no certificate yet: what a crash left open.
    pub fn open_intents(&self) -> Result<Vec<Intent>, Fault> {
        rows::open_intents(&self.connection)
    }

    /// Every OpenPGP intent without a certification.
    pub fn open_openpgp_intents(&self) -> Result<Vec<OpenPgpIntent>, Fault> {
        rows::open_openpgp_intents(&self.connection)
    }

    /// The certificates of an authority with a number above `after`, oldest first.
    pub fn for_each_certificate(
        &self,
        authority: AuthorityId,
        after: i64,
        visit: impl FnMut(CertificateRow) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        rows::for_each_certificate(&self.connection, authority, after, visit)
    }

    /// The certificate with this serial.
    pub fn certificate(
        &self,
        authority: AuthorityId,
        serial: &Serial,
    ) -> Result<Option<CertificateRow>, Fault> {
        rows::certificate(&self.connection, authority, serial)
    }

    /// The revoked serials of an authority in the order of their octets, for a CRL.
    pub fn for_each_revoked(
        &self,
        authority: AuthorityId,
        visit: impl FnMut(Revocation) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        rows::for_each_revoked(&self.connection, authority, visit)
    }

    /// The number of the newest revocation of an authority; 0 where there is none.
    pub fn last_revocation(&self, authority: AuthorityId) -> Result<i64, Fault> {
        let sql = "SELECT COALESCE(MAX(seq), 0) FROM revocation WHERE authority = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([authority.0], |row| row.get(0))?)
    }

    /// When the oldest revocation after number `after` was recorded.
    pub fn first_revocation_after(
        &self,
        authority: AuthorityId,
        after: i64,
    ) -> Result<Option<UnixTime>, Fault> {
        let sql =
            "SELECT at FROM revocation WHERE authority = ?1 AND seq > ?2 ORDER BY seq LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let at = statement.query_row(params![authority.0, after], |row| row.get(0)).optional()?;
        Ok(at.map(UnixTime))
    }

    /// The newest CRL of an authority.
    pub fn newest_crl(&self, authority: AuthorityId) -> Result<Option<CrlRow>, Fault> {
        rows::newest_crl(&self.connection, authority)
    }

    /// The number of the CRL with this digest, among those from number `oldest` on.
    pub fn crl_number_of(
        &self,
        authority: AuthorityId,
        digest: Digest,
        oldest: u64,
    ) -> Result<Option<u64>, Fault> {
        let sql = "SELECT number FROM crl WHERE authority = ?1 AND number >= ?3 AND digest = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let number = statement
            .query_row(params![authority.0, digest.as_bytes(), oldest], |row| row.get(0))
            .optional()?;
        Ok(number)
    }

    /// How far the files of an authority are, and are synced.
    pub fn files_at(&self, authority: AuthorityId) -> Result<FilesAt, Fault> {
        let sql = "SELECT files_at, revocations_at, index_stamp FROM authority WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([authority.0], |row| {
            Ok(FilesAt {
                certificate: row.get(0)?,
                revocation: row.get(1)?,
                index_stamp: row.get(2)?,
            })
        })?)
    }

    /// How many certificates an authority has.
    pub fn certificates(&self, authority: AuthorityId) -> Result<u64, Fault> {
        let sql = "SELECT COUNT(*) FROM certificate WHERE authority = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([authority.0], |row| row.get(0))?)
    }

    /// The last counters that an authority used: of serials and of CRLs.
    pub fn counters(&self, authority: AuthorityId) -> Result<(u64, u64), Fault> {
        let sql = "SELECT serial_counter, crl_number FROM authority WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([authority.0], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }

    /// The number of an authority's newest certificate; 0 where there is none.
    pub fn last_certificate(&self, authority: AuthorityId) -> Result<i64, Fault> {
        let sql = "SELECT COALESCE(MAX(seq), 0) FROM certificate WHERE authority = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([authority.0], |row| row.get(0))?)
    }

    /// Up to which entry the audit files are written.
    pub fn audit_files_at(&self) -> Result<u64, Fault> {
        self.meta("audit_files_at").map(|number| number.unsigned_abs())
    }

    /// The audit entries with a number above `after`, oldest first.
    pub fn for_each_audit_line(
        &self,
        after: u64,
        mut visit: impl FnMut(u64, &str, Digest) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let sql = "SELECT number, line, hash FROM audit WHERE number > ?1 ORDER BY number";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([after])?;
        while let Some(row) = rows.next()? {
            let line: String = row.get(1)?;
            visit(row.get(0)?, &line, Digest::from_bytes(row.get(2)?))?;
        }
        Ok(())
    }

    /// What SQLite itself finds wrong with the file; empty when nothing is.
    pub fn integrity(&self) -> Result<Vec<String>, Fault> {
        let mut statement = self.connection.prepare("PRAGMA integrity_check")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        let lines: Vec<String> = rows.collect::<Result<_, _>>()?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }
}

/// An authority's row in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AuthorityId(i64);

/// How far an authority's files follow the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesAt {
    /// The number of the newest certificate that has its line and its copy.
    pub certificate: i64,
    /// The number of the newest revocation that the index shows.
    pub revocation: i64,
    /// Length and time of the index as it was left.
    pub index_stamp: String,
}

/// A change of the ledger, all of it or nothing.
pub struct Transaction<'a> {
    inner: rusqlite::Transaction<'a>,
    now: UnixTime,
    pending: Vec<Intent>,
    chain: Option<(u64, Digest)>,
}

impl std::fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transaction({} intents pending)", self.pending.len())
    }
}

impl Transaction<'_> {
    /// Makes the change durable; what may now be signed comes out.
    pub fn commit(self) -> Result<Vec<Intent>, Fault> {
        durable::crash_point("commit to", "the ledger")?;
        self.inner.commit()?;
        durable::crash_point("go on after", "the ledger's commit")?;
        Ok(self.pending)
    }

    /// What is known of a request, this change included.
    pub fn known(&self, id: RequestId) -> Result<Option<Known>, Fault> {
        rows::known(&self.inner, id)
    }

    /// The certificate with this serial, this change included.
    pub fn certificate(
        &self,
        authority: AuthorityId,
        serial: &Serial,
    ) -> Result<Option<CertificateRow>, Fault> {
        rows::certificate(&self.inner, authority, serial)
    }

    /// Adds an authority.
    pub fn add_authority(&self, name: &Name) -> Result<AuthorityId, Fault> {
        self.inner.execute("INSERT INTO authority (name) VALUES (?1)", [name.as_str()])?;
        Ok(AuthorityId(self.inner.last_insert_rowid()))
    }

    /// Takes the next serial counter of an authority.
    pub fn next_serial_counter(&self, authority: AuthorityId) -> Result<u64, Fault> {
        self.next("serial_counter", authority)
    }

    /// Takes the next CRL number of an authority; a number is spent even if no CRL comes of it.
    pub fn next_crl_number(&self, authority: AuthorityId) -> Result<u64, Fault> {
        self.next("crl_number", authority)
    }

    fn next(&self, column: &'static str, authority: AuthorityId) -> Result<u64, Fault> {
        let sql = format!(
            "UPDATE authority SET {column} = {column} + 1 WHERE id = ?1 RETURNING {column}"
        );
        Ok(self.inner.prepare_cached(&sql)?.query_row([authority.0], |row| row.get(0))?)
    }

    /// Raises the CRL number of an authority to at least `number`.
    pub fn raise_crl_number(&self, authority: AuthorityId, number: u64) -> Result<(), Fault> {
        let sql = "UPDATE authority SET crl_number = MAX(crl_number, ?2) WHERE id = ?1";
        self.inner.prepare_cached(sql)?.execute(params![authority.0, number])?;
        Ok(())
    }

    /// Raises the serial counter to at least `counter`; answers the one before, if lower.
    pub fn raise_serial_counter(
        &self,
        authority: AuthorityId,
        counter: u64,
    ) -> Result<Option<u64>, Fault> {
        let before: u64 = self.inner.query_row(
            "SELECT serial_counter FROM authority WHERE id = ?1",
            [authority.0],
            |row| row.get(0),
        )?;
        if before >= counter {
            return Ok(None);
        }
        let sql = "UPDATE authority SET serial_counter = ?2 WHERE id = ?1";
        self.inner.execute(sql, params![authority.0, counter])?;
        Ok(Some(before))
    }

    /// Records a request that is being worked on.
    pub fn open_request(&self, id: RequestId, digest: Digest) -> Result<(), Fault> {
        self.insert_request(id, digest, &Outcome::Open)
    }

    /// Records a request together with its outcome.
    pub fn answer_request(
        &self,
        id: RequestId,
        digest: Digest,
        outcome: &Outcome,
    ) -> Result<(), Fault> {
        self.insert_request(id, digest, outcome)
    }

    fn insert_request(
        &self,
        id: RequestId,
        digest: Digest,
        outcome: &Outcome,
    ) -> Result<(), Fault> {
        let (code, text, at) = match outcome {
            Outcome::Refused { code, text } => (Some(code.name()), Some(text.as_str()), None),
            Outcome::Quarantined { text } => (None, Some(text.as_str()), None),
            Outcome::Revoked { at } => (None, None, Some(at.0)),
            Outcome::Open | Outcome::Issued | Outcome::Certified => (None, None, None),
        };
        let sql = "INSERT INTO request (id, digest, received_at, outcome, code, text, at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.inner.prepare_cached(sql)?.execute(params![
            id.as_bytes(),
            digest.as_bytes(),
            self.now.0,
            outcome.name(),
            code,
            text,
            at
        ])?;
        Ok(())
    }

    /// Stores what is about to be signed; it may be signed once the change is committed.
    pub fn store_intent(
        &mut self,
        request: Option<RequestId>,
        authority: AuthorityId,
        profile: &Name,
        tbs: LintedTbs,
    ) -> Result<(), Fault> {
        let sql =
            "INSERT INTO intent (request, authority, profile, serial, not_after, subject, tbs)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.inner.prepare_cached(sql)?.execute(params![
            request.map(|id| *id.as_bytes()),
            authority.0,
            profile.as_str(),
            tbs.serial().as_octets(),
            tbs.not_after().0,
            tbs.subject(),
            tbs.der()
        ])?;
        self.raise_time_floor(self.now)?;
        let seq = self.inner.last_insert_rowid();
        self.pending.push(Intent::stored(seq, request, authority, profile.clone(), tbs));
        Ok(())
    }

    /// Turns an intent into a certificate.
    pub fn store_certificate(&mut self, intent: &Intent, der: &[u8]) -> Result<(), Fault> {
        let deleted = self
            .inner
            .prepare_cached("DELETE FROM intent WHERE seq = ?1")?
            .execute([intent.seq()])?;
        if deleted != 1 {
            return Err(Fault::Internal(format!("intent {} was signed twice", intent.seq())));
        }
        let sql = "INSERT INTO certificate
                   (request, authority, profile, serial, not_after, subject, der)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.inner.prepare_cached(sql)?.execute(params![
            intent.request().map(|id| *id.as_bytes()),
            intent.authority().0,
            intent.profile().as_str(),
            intent.serial().as_octets(),
            intent.not_after().0,
            intent.subject(),
            der
        ])?;
        if let Some(id) = intent.request() {
            self.set_outcome(id, &Outcome::Issued)?;
        }
        let authority = self.authority_name(intent.authority())?;
        self.audit(&Event::Issued {
            request: intent.request().map(|id| id.to_string()),
            authority,
            profile: intent.profile().to_string(),
            serial: intent.serial().to_string(),
            subject: intent.subject().to_owned(),
            certificate: Digest::of(der).to_string(),
        })
    }

    fn set_outcome(&self, id: RequestId, outcome: &Outcome) -> Result<(), Fault> {
        let sql = "UPDATE request SET outcome = ?2 WHERE id = ?1";
        self.inner.prepare_cached(sql)?.execute(params![id.as_bytes(), outcome.name()])?;
        Ok(())
    }

    fn authority_name(&self, authority: AuthorityId) -> Result<String, Fault> {
        let sql = "SELECT name FROM authority WHERE id = ?1";
        Ok(self.inner.prepare_cached(sql)?.query_row([authority.0], |row| row.get(0))?)
    }

    /// Stores what is about to be certified.
    pub fn store_openpgp_intent(&self, intent: &OpenPgpIntent) -> Result<(), Fault> {
        let body = protocol::codec::encode(intent)?;
        let sql = "INSERT INTO openpgp_intent (request, body) VALUES (?1, ?2)";
        self.inner.execute(sql, params![intent.request.as_bytes(), body])?;
        self.raise_time_floor(self.now)
    }

    /// Turns an OpenPGP intent into a certification.
    pub fn store_certification(
        &mut self,
        intent: &OpenPgpIntent,
        certificate: &[u8],
    ) -> Result<(), Fault> {
        let id = intent.request;
        let sql = "DELETE FROM openpgp_intent WHERE request = ?1";
        if self.inner.execute(sql, [id.as_bytes()])? != 1 {
            return Err(Fault::Internal(format!("request {id} was certified twice")));
        }
        let sql = "INSERT INTO openpgp_certification (request, fingerprint, at, certificate)
                   VALUES (?1, ?2, ?3, ?4)";
        let fingerprint = intent.vetted.fingerprint().to_owned();
        self.inner.execute(sql, params![id.as_bytes(), fingerprint, intent.at.0, certificate])?;
        self.set_outcome(id, &Outcome::Certified)?;
        let user_ids = intent.vetted.user_ids().iter().map(|user_id| user_id.to_string()).collect();
        self.audit(&Event::Certified { request: id.to_string(), fingerprint, user_ids })
    }

    /// Marks a certificate as revoked, from now on.
    pub fn revoke(
        &self,
        authority: AuthorityId,
        serial: &Serial,
        reason: RevocationReason,
    ) -> Result<(), Fault> {
        let reason = Some(reason.name()).filter(|_| reason != RevocationReason::Unspecified);
        let sql = "UPDATE certificate SET status = 'R', revoked_at = ?3, reason = ?4
                   WHERE authority = ?1 AND serial = ?2";
        let octets = serial.as_octets();
        self.inner.prepare_cached(sql)?.execute(params![
            authority.0,
            octets,
            self.now.0,
            reason
        ])?;
        let sql = "INSERT INTO revocation (authority, serial, at) VALUES (?1, ?2, ?3)";
        self.inner.prepare_cached(sql)?.execute(params![authority.0, octets, self.now.0])?;
        Ok(())
    }

    /// Takes over a line that a person added to the index, with the certificate where there is one.
    pub fn adopt(&mut self, authority: AuthorityId, row: &CertificateRow) -> Result<(), Fault> {
        let sql = "INSERT INTO certificate
             (authority, serial, profile, not_after, subject, der, status, revoked_at, reason, file)
             VALUES (?1, ?2, '', ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (authority, serial) DO UPDATE SET
               status = excluded.status, revoked_at = excluded.revoked_at, reason = excluded.reason";
        let (revoked_at, reason) = match &row.status {
            Status::Revoked { at, reason } => (Some(at.0), reason.clone()),
            Status::Valid | Status::Expired => (None, None),
        };
        self.inner.execute(
            sql,
            params![
                authority.0,
                row.serial.as_octets(),
                row.not_after.0,
                row.subject,
                row.der,
                row.status.letter(),
                revoked_at,
                reason,
                row.file
            ],
        )?;
        if let Some(at) = revoked_at {
            let sql = "INSERT INTO revocation (authority, serial, at) VALUES (?1, ?2, ?3)";
            self.inner.execute(sql, params![authority.0, row.serial.as_octets(), at])?;
        }
        let authority = self.authority_name(authority)?;
        self.audit(&Event::Adopted { authority, serial: row.serial.to_string() })
    }

    /// Records a CRL that was signed.
    pub fn store_crl(&mut self, authority: AuthorityId, crl: &CrlRow) -> Result<(), Fault> {
        let sql = "INSERT INTO crl (authority, number, this_update, next_update, entries,
                   last_revocation, digest, length) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        self.inner.execute(
            sql,
            params![
                authority.0,
                crl.number,
                crl.this_update.0,
                crl.next_update.0,
                crl.entries,
                crl.last_revocation,
                crl.digest.as_bytes(),
                crl.length
            ],
        )?;
        self.raise_time_floor(crl.this_update)?;
        let name = self.authority_name(authority)?;
        self.audit(&Event::CrlSigned {
            authority: name,
            crl_number: crl.number,
            entries: crl.entries,
            crl: crl.digest.to_string(),
        })
    }

    /// Notes that the frontend has stored the answers.
    pub fn acknowledge(&self, ids: &[RequestId]) -> Result<(), Fault> {
        let sql = "UPDATE request SET acknowledged = 1 WHERE id = ?1 AND outcome <> 'open'";
        let mut statement = self.inner.prepare_cached(sql)?;
        for id in ids {
            statement.execute([id.as_bytes()])?;
        }
        Ok(())
    }

    /// Notes how far an authority's files are on disk.
    pub fn set_files_at(&self, authority: AuthorityId, at: &FilesAt) -> Result<(), Fault> {
        let sql = "UPDATE authority SET files_at = ?2, revocations_at = ?3, index_stamp = ?4
                   WHERE id = ?1";
        self.inner.prepare_cached(sql)?.execute(params![
            authority.0,
            at.certificate,
            at.revocation,
            at.index_stamp
        ])?;
        Ok(())
    }

    /// Notes up to which entry the audit files are on disk.
    pub fn set_audit_files_at(&self, number: u64) -> Result<(), Fault> {
        let sql = "UPDATE meta SET value = ?1 WHERE key = 'audit_files_at'";
        self.inner.prepare_cached(sql)?.execute([number])?;
        Ok(())
    }

    fn raise_time_floor(&self, time: UnixTime) -> Result<(), Fault> {
        let sql = "UPDATE meta SET value = MAX(value, ?1) WHERE key = 'time_floor'";
        self.inner.prepare_cached(sql)?.execute([time.0])?;
        Ok(())
    }

    /// Chains an audit entry; it becomes durable with the change it speaks about.
    pub fn audit(&mut self, event: &Event) -> Result<(), Fault> {
        let (number, previous) = match self.chain {
            Some(chain) => chain,
            None => self
                .inner
                .prepare_cached("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")?
                .query_row([], |row| Ok((row.get(0)?, Digest::from_bytes(row.get(1)?))))
                .optional()?
                .unwrap_or((0, audit::ORIGIN)),
        };
        let link = audit::Link::new(number + 1, previous, self.now, event);
        let sql = "INSERT INTO audit (number, line, hash) VALUES (?1, ?2, ?3)";
        self.inner.prepare_cached(sql)?.execute(params![
            link.number,
            link.line,
            link.hash.as_bytes()
        ])?;
        self.chain = Some((link.number, link.hash));
        Ok(())
    }

    /// Records a refusal and its audit entry.
    pub fn refuse(
        &mut self,
        id: RequestId,
        digest: Digest,
        code: RefusalCode,
        text: &str,
    ) -> Result<(), Fault> {
        self.answer_request(id, digest, &Outcome::Refused { code, text: text.to_owned() })?;
        self.audit(&Event::Refused {
            request: id.to_string(),
            code: code.name().to_owned(),
            text: text.to_owned(),
        })
    }
}
