-- Schema 6: what webhooks are still to be told, and what lasts.

-- One row for each webhook and audit entry that it is told of, from the transaction that added the
-- entry until the receiver has taken it. What was given up stays a while, to be looked at.
CREATE TABLE outbox (
    webhook TEXT NOT NULL,       -- its name in the configuration
    audit INTEGER NOT NULL,      -- number of the entry: they are told in this order
    event TEXT NOT NULL,
    is_alerts INTEGER NOT NULL,  -- 1: a list of alerts
    at INTEGER NOT NULL,         -- of the entry, microseconds since 1970
    tries INTEGER NOT NULL,      -- that failed
    due INTEGER NOT NULL,        -- not before, microseconds since 1970
    refused INTEGER NOT NULL,    -- 1: the receiver refused this very message, so others do not wait for it
    why TEXT,                    -- what the last try met
    dead_at INTEGER,             -- when it was given up; NULL: it is still to be told
    body TEXT NOT NULL,          -- JSON: the event, or a list of alerts; last, since most looks leave it out
    PRIMARY KEY (webhook, audit, event)
) STRICT, WITHOUT ROWID;

-- What began and has not ended: told once, and its end once, over restarts.
CREATE TABLE alerts (
    name TEXT NOT NULL,
    experiment TEXT NOT NULL,
    about TEXT NOT NULL,         -- metric of a guardrail; else empty
    event TEXT NOT NULL,         -- that began it
    began INTEGER NOT NULL,      -- microseconds since 1970
    shown TEXT NOT NULL,         -- JSON: labels and annotations
    PRIMARY KEY (name, experiment, about)
) STRICT, WITHOUT ROWID;
