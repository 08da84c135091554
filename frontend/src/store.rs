//! The frontend's one database: opening it, its tables, and the small notes in it.
//!
//! SQLite with a write-ahead log and `synchronous=FULL`: what a transaction committed is there
//! after a power cut. The rooms `queue`, `inventory` and `catalogue` own the rows; nothing here
//! knows what they mean.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, config::DbConfig,
    params,
};
use serde::{Serialize, de::DeserializeOwned};

/// Why the store could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no store; `frontend init` makes one.
    #[error("no frontend store at `{path}`; make one with `frontend init`")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A store is there already.
    #[error("a frontend store stands at `{path}` already; nothing was changed")]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// The file is another program's, or a newer version's.
    #[error(
        "`{path}` is not a frontend store of schema {SCHEMA}, it has application id {found_application:#x} and schema {found_schema}; use the program version that made it"
    )]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// Its application id.
        found_application: i64,
        /// Its schema version.
        found_schema: i64,
    },
    /// SQLite failed: a full or broken disk, or the lock was held for too long. A retry can help.
    #[error("the store cannot be read or written; check the disk and try again")]
    Sqlite(#[from] rusqlite::Error),
    /// A row does not hold what the program wrote.
    #[error("the store holds a damaged {what}; restore DIR from a backup")]
    Damaged {
        /// Which kind of value.
        what: &'static str,
    },
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
}

impl Store {
    /// Makes a new store in the file `path`.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        if path.exists() {
            return Err(StoreError::Exists { path: path.to_owned() });
        }
        let mut store = Self { connection: Connection::open(path)? };
        store.set_up()?;
        let transaction = store.transaction()?;
        transaction.execute_batch(TABLES)?;
        transaction.execute_batch(LATER_INDEXES)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", SCHEMA)?;
        transaction.commit()?;
        Ok(store)
    }

    /// Opens the store in the file `path`.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let store = Self { connection: Connection::open_with_flags(path, flags)? };
        store.set_up()?;
        let pragma = |name| store.connection.pragma_query_value(None, name, |row| row.get(0));
        let (found_application, found_schema): (i64, i64) =
            (pragma("application_id")?, pragma("user_version")?);
        if (found_application, found_schema) != (APPLICATION, SCHEMA) {
            let path = path.to_owned();
            return Err(StoreError::Foreign { path, found_application, found_schema });
        }
        store.connection.execute_batch(LATER_INDEXES)?;
        Ok(store)
    }

    fn set_up(&self) -> Result<(), StoreError> {
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        self.connection.pragma_update(None, "journal_mode", "wal")?;
        self.connection.pragma_update(None, "synchronous", "full")?;
        self.connection.pragma_update(None, "foreign_keys", "on")?;
        self.connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
        // One plan for each statement: else it is prepared anew whenever a small number is asked for.
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(())
    }

    /// The connection, for reading.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// A transaction that may write; it takes the write lock at once, so it cannot fail half-way
    /// because another process wrote first.
    pub fn transaction(&mut self) -> Result<Transaction<'_>, StoreError> {
        Ok(self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
    }

    /// A number that changes when another process has committed something.
    pub fn data_version(&self) -> Result<i64, StoreError> {
        Ok(self.connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
    }
}

//------------ Notes ---------------------------------------------------------

/// Small values with a name: the link's state, the last time hint, the signer's status.
pub struct Notes<'c>(pub &'c Connection);

impl Notes<'_> {
    /// The note called `name`, if it was ever written. // stored
    pub fn read<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, StoreError> {
        match self.read_bytes(name)? {
            None => Ok(None),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|_| StoreError::Damaged { what: name }),
        }
    }

    /// Writes the note called `name`.
    pub fn write<T: Serialize>(&self, name: &'static str, value: &T) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(value).map_err(|_| StoreError::Damaged { what: name })?;
        self.write_bytes(name, &bytes)
    }

    /// The bytes of the note called `name`.
    pub fn read_bytes(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut statement = self.0.prepare_cached("SELECT value FROM note WHERE name = ?1")?;
        Ok(statement.query_row(params![name], |row| row.get(0)).optional()?)
    }

    /// Writes bytes as the note called `name`.
    pub fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.0
            .prepare_cached("INSERT OR REPLACE INTO note (name, value) VALUES (?1, ?2)")?
            .execute(params![name, bytes])?;
        Ok(())
    }
}

//------------ Alarms --------------------------------------------------------

/// Something that a person must look at, shown by `frontend status` until it is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// What it is about: `crl/NAME`, `catalogue`, `request/ID`, `link`.
    pub scope: String,
    /// What, where and what to do.
    pub text: String,
    /// Since when, microseconds since 1970-01-01 UTC.
    pub since_us: i64,
}

/// The alarms.
pub struct Alarms<'c>(pub &'c Connection);

impl Alarms<'_> {
    /// Raises the alarm of `scope`, or changes its text; `since` stays that of the first.
    pub fn raise(&self, scope: &str, text: &str, unix_us: i64) -> Result<(), StoreError> {
        self.0
            .prepare_cached(
                "INSERT INTO alarm (scope, text, since_us) VALUES (?1, ?2, ?3)
                 ON CONFLICT (scope) DO UPDATE SET text = excluded.text",
            )?
            .execute(params![scope, text, unix_us])?;
        Ok(())
    }

    /// Ends the alarm of `scope`, if there is one; says whether there was.
    pub fn clear(&self, scope: &str) -> Result<bool, StoreError> {
        let mut statement = self.0.prepare_cached("DELETE FROM alarm WHERE scope = ?1")?;
        Ok(statement.execute(params![scope])? > 0)
    }

    /// The text of the alarm of `scope`.
    pub fn text(&self, scope: &str) -> Result<Option<String>, StoreError> {
        let mut statement = self.0.prepare_cached("SELECT text FROM alarm WHERE scope = ?1")?;
        Ok(statement.query_row(params![scope], |row| row.get(0)).optional()?)
    }

    /// All of them, oldest first, at most [`ALARMS_SHOWN`].
    pub fn list(&self) -> Result<Vec<Alarm>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT scope, text, since_us FROM alarm ORDER BY since_us, scope LIMIT ?1",
        )?;
        let rows = statement.query_map(params![ALARMS_SHOWN], |row| {
            Ok(Alarm { scope: row.get(0)?, text: row.get(1)?, since_us: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// More alarms than a person reads at once.
pub const ALARMS_SHOWN: u32 = 100;

/// How long to wait for another process's transaction. The longest stores 64 answers.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// All statements of this program are fewer.
const STATEMENTS_CACHED: usize = 64;
/// Marks the file as ours: "FRNT".
const APPLICATION: i64 = 0x4652_4e54;
/// The version of [`TABLES`].
const SCHEMA: i64 = 1;

/// // stored
const TABLES: &str = "
CREATE TABLE request (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    kind         TEXT    NOT NULL CHECK (kind = 'issue' OR kind = 'certify' OR kind = 'revoke'),
    state        TEXT    NOT NULL CHECK (state = 'queued' OR state = 'sent' OR state = 'held'
                 OR state = 'done' OR state = 'refused' OR state = 'quarantined'),
    authority    TEXT,
    profile      TEXT,
    body         BLOB    NOT NULL,
    digest       BLOB    NOT NULL CHECK (length(digest) = 32),
    serial       BLOB,
    refusal_code TEXT,
    refusal_text TEXT,
    ticket       INTEGER,
    queued_us    INTEGER NOT NULL,
    sent_us      INTEGER,
    finished_us  INTEGER,
    acknowledged INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX request_open ON request (kind = 'revoke', seq) WHERE state IN ('queued', 'sent');
CREATE INDEX request_held ON request (seq) WHERE state = 'held';
CREATE INDEX request_state ON request (state, seq);

CREATE TABLE certificate (
    authority  TEXT    NOT NULL,
    serial     BLOB    NOT NULL,
    request    BLOB    NOT NULL UNIQUE REFERENCES request (id),
    der        BLOB    NOT NULL,
    subject    TEXT    NOT NULL,
    not_before INTEGER NOT NULL,
    not_after  INTEGER NOT NULL,
    state      TEXT    NOT NULL DEFAULT 'valid' CHECK (state IN ('valid', 'revoked')),
    revoked_at INTEGER,
    reason     TEXT,
    PRIMARY KEY (authority, serial)
) STRICT;
CREATE TABLE serial_high (
    authority TEXT PRIMARY KEY,
    counter   INTEGER NOT NULL
) STRICT;
CREATE TABLE certification (
    request     BLOB PRIMARY KEY REFERENCES request (id),
    fingerprint TEXT NOT NULL,
    certificate BLOB NOT NULL
) STRICT;

CREATE TABLE pin (
    name        TEXT PRIMARY KEY,
    certificate BLOB    NOT NULL,
    chain       BLOB    NOT NULL,
    since_us    INTEGER NOT NULL
) STRICT;
CREATE TABLE note (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE alarm (
    scope    TEXT PRIMARY KEY,
    text     TEXT    NOT NULL,
    since_us INTEGER NOT NULL
) STRICT;
";

/// What was added after the schema: it changes no row, so a store without it is given it when it is
/// opened, and an older program works on with it. // stored
const LATER_INDEXES: &str = "
CREATE INDEX IF NOT EXISTS request_revocation ON request (authority, serial)
    WHERE kind = 'revoke';
CREATE INDEX IF NOT EXISTS certificate_revoked ON certificate (authority, revoked_at)
    WHERE state = 'revoked';
-- For a longer IN, SQLite builds a table of its words whenever a row changes.
DROP INDEX IF EXISTS request_unacknowledged;
CREATE INDEX IF NOT EXISTS request_to_acknowledge ON request (seq)
    WHERE acknowledged = 0 AND finished_us IS NOT NULL;
CREATE TABLE IF NOT EXISTS openpgp_key (
    fingerprint TEXT PRIMARY KEY,
    certificate BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS openpgp_user_id (
    authority     TEXT    NOT NULL,
    fingerprint   TEXT    NOT NULL REFERENCES openpgp_key (fingerprint),
    user_id       TEXT    NOT NULL,
    request       BLOB    NOT NULL,
    certification BLOB    NOT NULL,
    serial        TEXT,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    revocation    BLOB,
    revoked_at    INTEGER,
    reason        TEXT,
    UNIQUE (authority, fingerprint, user_id)
) STRICT;
CREATE TABLE IF NOT EXISTS openpgp_taken_back (
    authority   TEXT    NOT NULL,
    fingerprint TEXT    NOT NULL,
    user_id     TEXT    NOT NULL,
    revocation  BLOB    NOT NULL,
    revoked_at  INTEGER NOT NULL,
    reason      TEXT    NOT NULL,
    UNIQUE (authority, fingerprint, user_id)
) STRICT;
CREATE TABLE IF NOT EXISTS revoked_first (
    authority  TEXT    NOT NULL,
    serial     BLOB    NOT NULL,
    revoked_at INTEGER NOT NULL,
    reason     TEXT    NOT NULL,
    PRIMARY KEY (authority, serial)
) STRICT;
CREATE INDEX IF NOT EXISTS openpgp_user_id_key ON openpgp_user_id (fingerprint);
CREATE INDEX IF NOT EXISTS openpgp_user_id_request ON openpgp_user_id (request);
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_an_earlier_version_gets_the_later_indexes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("frontend.sqlite");
        let count = |store: &Store| -> i64 {
            let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'request_revocation'";
            store.connection().query_row(sql, [], |row| row.get(0)).unwrap()
        };
        let store = Store::create(&path).unwrap();
        assert_eq!(count(&store), 1);
        store.connection().execute_batch("DROP INDEX request_revocation").unwrap();
        drop(store);
        assert_eq!(count(&Store::open(&path).unwrap()), 1);
    }

    #[test]
    fn a_store_opens_again_and_a_foreign_file_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("frontend.sqlite");
        assert!(matches!(Store::open(&path), Err(StoreError::Missing { .. })));
        let store = Store::create(&path).unwrap();
        Notes(store.connection()).write("spec", &"unix:/x").unwrap();
        drop(store);
        assert!(matches!(Store::create(&path), Err(StoreError::Exists { .. })));
        let store = Store::open(&path).unwrap();
        assert_eq!(
            Notes(store.connection()).read::<String>("spec").unwrap().as_deref(),
            Some("unix:/x")
        );
        let synchronous: i64 =
            store.connection().pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!(synchronous, 2, "FULL");

        let other = dir.path().join("other.sqlite");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        assert!(matches!(Store::open(&other), Err(StoreError::Foreign { .. })));
    }

    #[test]
    fn an_alarm_keeps_its_beginning_until_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("s")).unwrap();
        let alarms = Alarms(store.connection());
        alarms.raise("crl/a", "first", 5).unwrap();
        alarms.raise("crl/a", "second", 9).unwrap();
        let expected = Alarm { scope: "crl/a".to_owned(), text: "second".to_owned(), since_us: 5 };
        assert_eq!(alarms.list().unwrap(), [expected]);
        assert!(alarms.clear("crl/a").unwrap() && !alarms.clear("crl/a").unwrap());
        assert_eq!(alarms.list().unwrap(), []);
    }
}
