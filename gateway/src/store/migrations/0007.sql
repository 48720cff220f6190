-- Schema 7: answers to copies beside those that clients got: what is counted of each shadow, saved over and over.
-- Bytes that only the program reads; see comparison/known.rs.
CREATE TABLE comparisons (
    shadow TEXT PRIMARY KEY,
    at INTEGER NOT NULL, -- last change, microseconds since 1970
    bytes BLOB NOT NULL
) STRICT;

-- Pairs that differ, where the operator allows that payloads are kept (T27). A table of their own, so
-- that nothing that reads outcomes can meet them.
CREATE TABLE disagreements (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    shadow TEXT NOT NULL,
    at INTEGER NOT NULL,  -- when the request came, microseconds since 1970
    content TEXT NOT NULL -- JSON, without credentials
) STRICT;
CREATE INDEX disagreements_of ON disagreements (shadow, id);
