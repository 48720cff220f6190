-- Schema 1. One file a migration, run once, in one transaction; never edited after a release.
PRAGMA application_id = 1466263922; -- "Weir": tells our files from those of other programs

-- Secrets and identity, made at the first start.
CREATE TABLE installation (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    hash_key BLOB NOT NULL CHECK (length(hash_key) = 16),
    pepper BLOB NOT NULL CHECK (length(pepper) = 32),
    receipt_key BLOB NOT NULL CHECK (length(receipt_key) = 32),
    instance TEXT NOT NULL,
    -- Written by the sign of life, so that it asks the disk and not only the lock.
    beats INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    routes TEXT, -- JSON array; NULL for all
    hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    requests_per_second REAL,
    concurrent INTEGER,
    tokens_per_minute INTEGER
) STRICT;

CREATE TABLE revisions (
    experiment TEXT NOT NULL,
    revision INTEGER NOT NULL CHECK (revision > 0),
    state TEXT NOT NULL,
    weights TEXT NOT NULL, -- JSON: [["stable", 95.0], …]
    allocation BLOB NOT NULL,
    source TEXT NOT NULL,
    by_whom TEXT NOT NULL,
    at INTEGER NOT NULL,
    reason TEXT,
    buckets_moved INTEGER NOT NULL,
    undoes INTEGER,
    UNIQUE (experiment, revision)
) STRICT;

CREATE TABLE file_statements (
    experiment TEXT PRIMARY KEY,
    statement TEXT NOT NULL
) STRICT;

CREATE TABLE layers (
    name TEXT PRIMARY KEY,
    slots TEXT NOT NULL, -- JSON array
    bytes BLOB NOT NULL
) STRICT;

-- `entry` is canonical JSON and the truth; `hash` is BLAKE3 over the previous hash and these bytes.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    entry TEXT NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
-- Also keeps REPLACE away, which deletes without asking the trigger above.
CREATE TRIGGER audit_has_no_gaps BEFORE INSERT ON audit
WHEN NEW.id <> (SELECT coalesce(max(id), 0) + 1 FROM audit)
BEGIN SELECT RAISE(ABORT, 'audit entries are numbered without gaps'); END;

-- One row for each start of a process, with the running counts of D4, so that nobody has to walk
-- the outcomes to learn what was lost. Retention does not lower them.
CREATE TABLE boots (
    id INTEGER PRIMARY KEY,
    boot BLOB NOT NULL UNIQUE CHECK (length(boot) = 16),
    greatest_seq INTEGER NOT NULL DEFAULT 0,
    stored INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE tallies (
    boot INTEGER NOT NULL REFERENCES boots (id),
    route TEXT NOT NULL,
    experiment TEXT NOT NULL,
    revision INTEGER NOT NULL,
    variant TEXT NOT NULL,
    bytes BLOB NOT NULL,
    UNIQUE (boot, route, experiment, revision, variant)
) STRICT;

-- Words of the operators' vocabulary, so that outcomes carry one byte in their place. Nothing that
-- a client sent gets here: it would outlive retention.
CREATE TABLE names (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
-- The index below needs the number of this one.
INSERT INTO names (id, name) VALUES (1, 'ok');

-- `n`: a number in `names`. NULL: unknown. Times in µs, but `started` in ns since 1970.
CREATE TABLE outcomes (
    request_id BLOB NOT NULL UNIQUE, -- UUIDv7: new rows go to the right end of this index
    boot INTEGER NOT NULL,           -- in `boots`; no foreign key, it would cost a look-up per row
    seq INTEGER NOT NULL,
    started INTEGER NOT NULL,
    bits INTEGER NOT NULL,           -- yes/no members and the protocol; see outcomes.rs
    route INTEGER,                   -- n
    pattern INTEGER,                 -- n
    experiment INTEGER,              -- n
    revision INTEGER NOT NULL,
    variant INTEGER,                 -- n
    served INTEGER,                  -- n
    reason INTEGER,                  -- n
    bucket INTEGER,
    unit_hash INTEGER,               -- the same 64 bits, signed
    backend INTEGER,                 -- n
    endpoint BLOB,                   -- address and port, 6 or 18 bytes
    attempts INTEGER NOT NULL,
    upstream_status INTEGER NOT NULL,
    status INTEGER NOT NULL,
    outcome INTEGER,                 -- n; NULL: refused
    rejected INTEGER,                -- n
    flag INTEGER,                    -- n
    method TEXT,
    path TEXT,                       -- NULL: the same as `pattern`
    host TEXT,
    user_agent TEXT,
    key_id TEXT,
    peer BLOB NOT NULL,              -- address and port, 6 or 18 bytes
    client BLOB,                     -- address, 4 or 16 bytes; NULL: the peer's
    tls_version INTEGER,             -- n
    tls_cipher INTEGER,              -- n
    request_bytes INTEGER NOT NULL,
    response_bytes INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    request_model INTEGER,           -- n
    response_model TEXT,
    input_tokens INTEGER,
    output_tokens INTEGER,
    finish_reason TEXT,
    t_header INTEGER,
    t_auth INTEGER,
    t_connect INTEGER,
    t_send INTEGER,
    t_first_byte INTEGER,
    t_first_token INTEGER,
    t_stream INTEGER,
    t_total INTEGER,
    t_gateway INTEGER,
    trace BLOB,                      -- trace, span, parent span, span of the attempt: 40 bytes
    client_request_id TEXT,
    upstream_request_id TEXT
) STRICT;
-- What went wrong is rare and asked for most. Every other filter walks back in time from the
-- newest, in bounded steps: an index on each would cost every row as much as half the row does.
CREATE INDEX outcomes_not_ok ON outcomes (outcome, request_id) WHERE outcome <> 1;
