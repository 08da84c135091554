-- The tables of schema version 1. // stored: a later version comes with a migration.
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
PRAGMA user_version = 1;
