-- Schema 9: outcomes in blocks. SQLite's part of keeping a row was three quarters of what a row cost, and a
-- third of its bytes; now one entry has all rows that one transaction brings for one slice of time.
-- `migrate.rs` fills the new table from the old one and drops that.
DROP VIEW requests;
DROP INDEX outcomes_not_ok;
ALTER TABLE outcomes RENAME TO outcomes_2;

-- Nothing is looked for by an index: the slice of a request, 64 milliseconds, is in its id, and a block
-- says in its first bytes what is not in it. See outcomes/block.rs.
CREATE TABLE outcomes (
    id INTEGER PRIMARY KEY, -- slice << 20, and the number of the block in it; a slice is a time >> 6
    boot INTEGER NOT NULL,  -- in `boots`
    rows INTEGER NOT NULL,  -- how many
    kinds INTEGER NOT NULL, -- bit n % 63 for each outcome in it, n: its number in `names`
    known TEXT NOT NULL,    -- what queries ask for: JSON, a list for each row; see below
    more BLOB NOT NULL      -- everything else; see outcomes/packed.rs
) STRICT;

-- Outcomes for people with the sqlite3 shell, in words. ORDER BY block DESC, timestamp DESC: the newest
-- first. A row of `known`: request id, milliseconds of its time that the slice leaves off, number in its
-- boot, way, status, outcome (in `names`; null: refused), t_total in microseconds (null: unknown), hash
-- of the unit (null: none).
CREATE VIEW requests AS SELECT
    r.value ->> 0 AS request_id,
    strftime('%Y-%m-%dT%H:%M:%fZ', ((o.id >> 20) * 64 + (r.value ->> 1)) / 1000.0, 'unixepoch')
        AS timestamp,
    (SELECT name FROM names WHERE id = w.route) AS route,
    (SELECT name FROM names WHERE id = w.experiment) AS experiment,
    (SELECT name FROM names WHERE id = w.variant) AS variant,
    (SELECT name FROM names WHERE id = w.served) AS served,
    (SELECT name FROM names WHERE id = w.backend) AS backend,
    (SELECT name FROM names WHERE id = r.value ->> 5) AS outcome,
    r.value ->> 4 AS status,
    r.value ->> 6 AS t_total,
    r.value ->> 7 AS unit_hash,
    o.boot AS boot,
    r.value ->> 2 AS seq,
    o.id AS block
FROM outcomes AS o CROSS JOIN json_each(o.known) AS r CROSS JOIN ways AS w ON w.id = r.value ->> 3;
