-- Ramps: where each stands, and what it decided. One a name of an experiment; the next ramp of the
-- same experiment goes on with the numbers.
CREATE TABLE ramps (
    experiment TEXT PRIMARY KEY,
    number INTEGER NOT NULL,     -- of the newest decision: 1, 2, 3, …
    settings TEXT NOT NULL,      -- JSON
    state TEXT NOT NULL          -- JSON
) STRICT, WITHOUT ROWID;

CREATE TABLE ramp_decisions (
    experiment TEXT NOT NULL,
    number INTEGER NOT NULL,
    decision TEXT NOT NULL,      -- JSON, with the evidence
    PRIMARY KEY (experiment, number)
) STRICT, WITHOUT ROWID;
