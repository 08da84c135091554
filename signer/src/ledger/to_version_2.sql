-- From schema version 1. // stored
ALTER TABLE authority ADD COLUMN packed_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE intent ADD COLUMN shard INTEGER;
ALTER TABLE certificate ADD COLUMN shard INTEGER;
ALTER TABLE certificate ADD COLUMN line TEXT;
DROP INDEX revoked;
CREATE INDEX revoked ON certificate (authority, serial, status, revoked_at, reason, not_after, profile, shard)
    WHERE status = 'R';
CREATE TABLE blocked_key (
    fingerprint BLOB PRIMARY KEY,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;
ALTER TABLE crl RENAME TO crl_1;
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
INSERT INTO crl (authority, scope, number, this_update, next_update, entries, last_revocation, digest, length)
    SELECT authority, 0, number, this_update, next_update, entries, last_revocation, digest, length FROM crl_1;
DROP TABLE crl_1;
