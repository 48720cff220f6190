-- Schema 4: what each experiment's verdicts are made of, saved over and over. Bytes that only the
-- program reads; see evidence.rs.
CREATE TABLE evidence (
    experiment TEXT PRIMARY KEY,
    at INTEGER NOT NULL, -- last change, microseconds since 1970
    bytes BLOB NOT NULL
) STRICT;
