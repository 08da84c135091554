-- From schema version 2. // stored
CREATE TABLE bundle (
    peer BLOB NOT NULL,                         -- the frontend's public key on the link
    number INTEGER NOT NULL,                    -- of a bundle of requests that came on a medium
    digest BLOB NOT NULL,
    answer INTEGER NOT NULL,                    -- number of the newest bundle that answers it
    at INTEGER NOT NULL,
    PRIMARY KEY (peer, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE openpgp_authority (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,                  -- of its key; empty until an old store's key is loaded
    serial_counter INTEGER NOT NULL DEFAULT 4611686018427387904 -- as of the others
) STRICT;
-- What was certified before is of the one key that a store had, which gets this name.
INSERT INTO openpgp_authority (name, fingerprint) SELECT 'openpgp', '' WHERE EXISTS (SELECT 1 FROM openpgp_certification);
ALTER TABLE openpgp_intent ADD COLUMN format INTEGER NOT NULL DEFAULT 2;
ALTER TABLE openpgp_intent ADD COLUMN what BLOB;
ALTER TABLE openpgp_intent ADD COLUMN follows BLOB;
CREATE INDEX openpgp_intended ON openpgp_intent (what) WHERE what IS NOT NULL;
CREATE INDEX openpgp_following ON openpgp_intent (follows) WHERE follows IS NOT NULL;
ALTER TABLE openpgp_certification RENAME TO openpgp_certification_2;
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
INSERT INTO openpgp_certification (request, authority, policy, fingerprint, at, expires, head, certificate)
    SELECT request, (SELECT id FROM openpgp_authority WHERE name = 'openpgp'), '', fingerprint, at, 0, 0, certificate
    FROM openpgp_certification_2 ORDER BY at, request;
DROP TABLE openpgp_certification_2;
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
