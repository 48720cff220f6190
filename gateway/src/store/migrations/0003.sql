-- Schema 3: what people said of answers.
-- `n`: a number in `names`. No text of a client is one: metrics stand here as text.
CREATE TABLE feedback (
    request_id BLOB NOT NULL,    -- UUIDv7: new rows go near the right end, and it says their age
    metric TEXT NOT NULL,
    key_id TEXT NOT NULL,        -- who said it
    id TEXT NOT NULL,            -- the client's own id of this answer; empty: none
    received INTEGER NOT NULL,   -- microseconds since 1970
    experiment INTEGER NOT NULL, -- n
    revision INTEGER NOT NULL,   -- under which the request was assigned
    variant INTEGER NOT NULL,    -- n
    unit_hash INTEGER NOT NULL,  -- the same 64 bits, signed
    eligible INTEGER NOT NULL,   -- 1: chance dealt the variant, so that it is evidence
    asked_by TEXT,               -- key that made the request; NULL: the same
    kind INTEGER NOT NULL,       -- 0: yes or no, 1: number, 2: text
    number REAL,                 -- yes: 1, no: 0; NULL: text
    text TEXT,
    segment TEXT,                -- JSON: {"country": "de"}; NULL: none
    PRIMARY KEY (request_id, metric, key_id, id)
) STRICT, WITHOUT ROWID;
