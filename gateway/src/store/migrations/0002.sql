-- Schema 2: outcomes in few columns. A column costs every row 200 instructions when it is added, and
-- an index on 16 bytes more than one on two numbers; so what no query asks for lies in one blob.
-- `migrate.rs` fills the new table from the old one and drops that.
DROP INDEX outcomes_not_ok;
ALTER TABLE outcomes RENAME TO outcomes_1;

-- Where requests went. Few, as they are made of the operators' vocabulary, so that an outcome carries
-- one number for all six: `n`, a number in `names`; 0: none.
CREATE TABLE ways (
    id INTEGER PRIMARY KEY,
    route INTEGER NOT NULL,      -- n
    pattern INTEGER NOT NULL,    -- n
    experiment INTEGER NOT NULL, -- n
    variant INTEGER NOT NULL,    -- n
    served INTEGER NOT NULL,     -- n
    backend INTEGER NOT NULL,    -- n
    UNIQUE (route, pattern, experiment, variant, served, backend)
) STRICT;

-- Whole numbers and a blob. Not STRICT: looking at the type of every value would cost every row 400
-- instructions more, and who reads looks anyway. People read the view `requests`.
CREATE TABLE outcomes (
    id_high NOT NULL,            -- request id, a UUIDv7: the first 8 bytes, which grow with time,
    id_low NOT NULL,             -- and the last 8, both signed
    boot NOT NULL,               -- in `boots`; no foreign key, it would cost a look-up per row
    seq NOT NULL,
    way NOT NULL,                -- in `ways`
    status NOT NULL,
    outcome,                     -- in `names`; NULL: refused
    t_total,                     -- microseconds; NULL: unknown
    unit_hash,                   -- the same 64 bits, signed; NULL: none
    more NOT NULL,               -- everything else; see packed.rs
    UNIQUE (id_high, id_low)     -- new rows go to the right end of this index
);
-- What went wrong is rare and asked for most. Every other filter walks back in time from the
-- newest, in bounded steps: an index on each would cost every row as much as half the row does.
CREATE INDEX outcomes_not_ok ON outcomes (outcome, id_high, id_low) WHERE outcome <> 1;

-- Outcomes for people with the sqlite3 shell, in words. ORDER BY id_high DESC: the newest first.
CREATE VIEW requests AS SELECT
    substr(o.hex, 1, 8) || '-' || substr(o.hex, 9, 4) || '-' || substr(o.hex, 13, 4) || '-'
        || substr(o.hex, 17, 4) || '-' || substr(o.hex, 21) AS request_id,
    strftime('%Y-%m-%dT%H:%M:%fZ', (o.id_high >> 16) / 1000.0, 'unixepoch') AS timestamp,
    (SELECT name FROM names WHERE id = w.route) AS route,
    (SELECT name FROM names WHERE id = w.experiment) AS experiment,
    (SELECT name FROM names WHERE id = w.variant) AS variant,
    (SELECT name FROM names WHERE id = w.served) AS served,
    (SELECT name FROM names WHERE id = w.backend) AS backend,
    (SELECT name FROM names WHERE id = o.outcome) AS outcome,
    o.status AS status,
    o.t_total AS t_total,
    iif(o.unit_hash IS NULL, NULL, printf('%016x', o.unit_hash)) AS unit_hash,
    o.boot AS boot,
    o.seq AS seq,
    o.id_high AS id_high
FROM (SELECT *, printf('%016x%016x', id_high, id_low) AS hex FROM outcomes) AS o
CROSS JOIN ways AS w ON w.id = o.way;
