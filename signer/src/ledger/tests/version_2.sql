-- The tables of schema version 2, as its program made them. Never edited.
CREATE TABLE authority (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    serial_counter INTEGER NOT NULL DEFAULT 4611686018427387904, -- first 8 octets of the last serial: from 2^62 on, all have 16
    crl_number INTEGER NOT NULL DEFAULT 0,      -- of the last CRL, signed or intended
    files_at INTEGER NOT NULL DEFAULT 0,        -- certificate.seq up to which the files are synced
    revocations_at INTEGER NOT NULL DEFAULT 0,  -- revocation.seq up to which index.txt shows them, synced
    index_stamp TEXT NOT NULL DEFAULT '',       -- length and mtime of index.txt as we left it
    packed_at INTEGER NOT NULL DEFAULT 0        -- certificate.seq up to which the copies are in packs
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
    shard INTEGER,                              -- of the CRL that it names; NULL where none
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
    shard INTEGER,                              -- of the CRL that it names; NULL where none
    line TEXT,                                  -- its index line as another program wrote it, where ours would differ
    UNIQUE (authority, serial)
) STRICT;
-- All that a CRL says, so that one is written without reading certificates.
CREATE INDEX revoked ON certificate (authority, serial, status, revoked_at, reason, not_after, profile, shard)
    WHERE status = 'R';
CREATE INDEX certificate_by_authority ON certificate (authority); -- and seq, as every index
CREATE TABLE crl (
    authority INTEGER NOT NULL REFERENCES authority,
    scope INTEGER NOT NULL DEFAULT 0,           -- 0 full, 1 delta, 2 + n shard n
    number INTEGER NOT NULL,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    last_revocation INTEGER NOT NULL,           -- revocation.seq that it covers
    digest BLOB NOT NULL,
    length INTEGER NOT NULL,
    base INTEGER,                               -- of a delta: the full CRL that it changes
    PRIMARY KEY (authority, scope, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE revocation (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    authority INTEGER NOT NULL REFERENCES authority,
    serial BLOB NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX revocation_by_authority ON revocation (authority, seq);
CREATE TABLE blocked_key (
    fingerprint BLOB PRIMARY KEY,               -- SHA-256 of the SubjectPublicKeyInfo
    at INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;
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
PRAGMA user_version = 2;
