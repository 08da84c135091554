//! The ledger: requests, intents, certificates, revocations, CRLs and audit entries in one
//! SQLite file. It is the truth; every other file of the store follows it.
//!
//! A [`Transaction`] is the only way to change it. [`Intent`]s come out of
//! [`Transaction::commit`] alone, so nothing can be signed that is not on disk (invariant I4).
//! Nothing here reads a clock or signs.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use protocol::message::{Digest, Name, RequestId, Serial};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, config::DbConfig,
};

use crate::{calendar::UnixTime, durable, fault::Fault};

mod adoption;
mod blocked;
mod bundles;
mod crls;
mod log;
mod openpgp;
mod packs;
mod rows;
#[cfg(test)]
mod tests;
mod transaction;

pub use blocked::BlockedKey;
pub use bundles::BundleRow;
pub use crls::{Change, CrlRow, scope_name};
pub(crate) use openpgp::{CERTIFICATE_IS_GONE, REVOCATION_IS_GONE};
pub use openpgp::{
    CertificationRow, Certified, CertifiedUserId, Earlier, Intended, OpenPgpAuthorityId,
    OpenPgpDraft, OpenPgpIntent, OpenPgpJob, Ours, Standing, StandingRow, StoredCertification,
    StoredRevocation, TakenBack, Valid,
};
pub use rows::{CertificateRow, Intent, Known, Outcome, Revocation, Status};
pub use transaction::{Committed, Transaction};

/// The version of the tables below; a later one comes with a migration.
const SCHEMA_VERSION: i64 = 3;

/// The serial counter before the first certificate: from 2^62 on, every serial has 16 octets.
pub const SERIALS_FROM: u64 = 1 << 62;

/// How long a statement waits for the other writer of the same store.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

// stored
const SCHEMA: &str = include_str!("ledger/schema.sql");

/// What turns each older version into the next, from version 1 on.
const MIGRATIONS: [&str; 2] =
    [include_str!("ledger/to_version_2.sql"), include_str!("ledger/to_version_3.sql")];

/// The store's SQLite file.
#[derive(Debug)]
pub struct Ledger {
    connection: Connection,
}

impl Ledger {
    /// Where it is in a store.
    pub fn path(store: &Path) -> PathBuf {
        store.join("ledger.sqlite")
    }

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
        let open = || {
            let ledger = Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            ledger.migrate(path)?;
            Ok(ledger)
        };
        open().map_err(|fault| by_the_system(path, fault))
    }

    /// Brings a store of an older version to this one, all at once or not at all.
    fn migrate(&self, path: &Path) -> Result<(), Fault> {
        let version = || -> Result<i64, Fault> {
            Ok(self.connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
        };
        if version()? == SCHEMA_VERSION {
            return Ok(());
        }
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        // Another program may have done it while we waited for the lock.
        let found = version()?;
        let steps = usize::try_from(found - 1).ok().and_then(|done| MIGRATIONS.get(done..));
        let Some(steps) = steps else {
            self.connection.execute_batch("ROLLBACK")?;
            return Err(Fault::Configuration(format!(
                "{} has schema version {found}, this program knows 1 to {SCHEMA_VERSION}; \
                 use the program that wrote it",
                path.display()
            )));
        };
        for step in steps {
            durable::crash_point("migrate", path)?;
            self.connection.execute_batch(step)?;
        }
        durable::crash_point("note the version of", path)?;
        self.connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        durable::crash_point("commit to", path)?;
        self.connection.execute_batch("COMMIT")?;
        durable::crash_point("go on after migrating", path)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, Fault> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(64);
        // One plan for each statement, whatever it is asked for: without this, a statement is
        // prepared anew each time that it is asked for the authority with number 1.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(Self { connection })
    }

    /// Begins a change; nothing of it is there before [`Transaction::commit`].
    pub fn begin(&mut self, now: UnixTime) -> Result<Transaction<'_>, Fault> {
        let inner = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        Ok(Transaction::new(inner, now))
    }

    /// Until it is dropped, all that is read is of one moment and costs one lock.
    pub fn read_together(&self) -> Result<impl Drop + use<'_>, Fault> {
        Ok(self.connection.unchecked_transaction()?)
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

    /// The certificates of an authority with a number above `after`, oldest first.
    pub fn for_each_certificate(
        &self,
        authority: AuthorityId,
        after: i64,
        mut visit: impl FnMut(CertificateRow) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.visit_certificates(authority, after, |row| visit(row).map(ControlFlow::Continue))
    }

    /// The certificate with this serial.
    pub fn certificate(
        &self,
        authority: AuthorityId,
        serial: &Serial,
    ) -> Result<Option<CertificateRow>, Fault> {
        rows::certificate(&self.connection, authority, serial)
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

/// What the system says of a ledger that SQLite cannot open: a read-only disk, a wrong owner.
fn by_the_system(path: &Path, fault: Fault) -> Fault {
    let code = match &fault {
        Fault::Ledger(error) => error.sqlite_error_code(),
        _ => None,
    };
    if !matches!(code, Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)) {
        return fault;
    }
    match std::fs::OpenOptions::new().append(true).open(path) {
        Err(error) => Fault::disk("open", path)(error),
        Ok(_) => fault,
    }
}

/// An authority's row in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
