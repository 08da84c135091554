-- The tables of schema version 3. // stored: a later version comes with a migration.
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
    outcome TEXT NOT NULL,                      -- open issued certified revoked certification-revoked refused quarantined
    code TEXT,                                  -- of a refusal
    text TEXT,                                  -- of a refusal or quarantine
    at INTEGER,                                 -- of a revocation, of a certificate or a certification
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
CREATE TABLE openpgp_authority (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,                  -- of its key; empty until an old store's key is loaded
    serial_counter INTEGER NOT NULL DEFAULT 4611686018427387904 -- as of the others
) STRICT;
CREATE TABLE openpgp_intent (
    request BLOB PRIMARY KEY,
    body BLOB NOT NULL,                         -- empty where it waits for the outcome of another
    format INTEGER NOT NULL DEFAULT 2,          -- of the body: the schema version that it came with
    what BLOB,                                  -- digest of authority, policy, key and user IDs; NULL at revocations
    follows BLOB                                -- the request whose outcome it shares
) STRICT, WITHOUT ROWID;
CREATE INDEX openpgp_intended ON openpgp_intent (what) WHERE what IS NOT NULL;
CREATE INDEX openpgp_following ON openpgp_intent (follows) WHERE follows IS NOT NULL;
CREATE TABLE openpgp_certification (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    request BLOB NOT NULL UNIQUE,               -- the one that it was made for
    authority INTEGER NOT NULL REFERENCES openpgp_authority,
    policy TEXT NOT NULL,                       -- empty before schema version 3
    fingerprint TEXT NOT NULL,                  -- of the certified key
    what BLOB,                                  -- as of its intent; NULL before schema version 3
    at INTEGER NOT NULL,
    expires INTEGER NOT NULL,                   -- of the first of its user IDs to end
    revoked_at INTEGER,                         -- of the first of its user IDs to be taken back
    head INTEGER NOT NULL,                      -- bytes of the certificate before the first user ID; 0 where not known
    certificate BLOB NOT NULL
) STRICT;
CREATE INDEX openpgp_by_what ON openpgp_certification (what);
CREATE INDEX openpgp_by_key ON openpgp_certification (authority, fingerprint);
CREATE TABLE openpgp_user_id (
    certification INTEGER NOT NULL REFERENCES openpgp_certification,
    position INTEGER NOT NULL,
    user_id TEXT NOT NULL,                      -- as in the key
    serial BLOB,                                -- NULL before schema version 3
    expires INTEGER NOT NULL,
    revoked_at INTEGER,
    reason TEXT,
    offset INTEGER NOT NULL,                    -- where in the certificate
    own INTEGER NOT NULL,                       -- bytes of the user ID and its self-signature
    ours INTEGER NOT NULL,                      -- bytes of our certification behind it
    PRIMARY KEY (certification, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE openpgp_answer (
    request BLOB PRIMARY KEY,                   -- answered with what was certified for another
    certification INTEGER NOT NULL REFERENCES openpgp_certification
) STRICT, WITHOUT ROWID;
CREATE TABLE openpgp_revocation (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    request BLOB NOT NULL UNIQUE,
    authority INTEGER NOT NULL REFERENCES openpgp_authority,
    fingerprint TEXT NOT NULL,
    at INTEGER NOT NULL,
    certificate BLOB NOT NULL                   -- the key and the user IDs with our revocations
) STRICT;
CREATE INDEX openpgp_taken_back ON openpgp_revocation (authority, fingerprint);
CREATE TABLE bundle (
    peer BLOB NOT NULL,                         -- the frontend's public key on the link
    number INTEGER NOT NULL,                    -- of a bundle of requests that came on a medium
    digest BLOB NOT NULL,
    answer INTEGER NOT NULL,                    -- number of the newest bundle that answers it
    at INTEGER NOT NULL,
    PRIMARY KEY (peer, number)
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
