//! Outcomes: how they are found and forgotten; `add` lays them out, `told` tells them.
//!
//! Request ids are UUIDv7 made when `started_unix_nanos` was read, so their order is the order of
//! time, new rows go to the end of table and index, and a time says where to look: no row keeps it
//! twice.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::Value;

use super::vocabulary::{self, Vocabulary};
use super::{Fault, count, int};
use crate::ids::RequestId;
use crate::store::{OutcomePage, OutcomeQuery};

mod add;
mod address;
mod packed;
mod schema_1;
mod told;

pub(super) use add::add;
pub(super) use schema_1::move_rows as move_from_schema_1;

/// Rows that one call may look at. About 20 ms: the recorder's batches wait that long at most.
const STEP: u32 = 20_000;

/// Number of the name `ok`; the migration and the index `outcomes_not_ok` say so too.
const OK: i64 = 1;

/// A request id as it is kept: two numbers are found and compared faster than 16 bytes. Signed, which
/// keeps the order of the ids that are made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    high: i64,
    low: i64,
}

impl Key {
    /// Not above any id.
    const LEAST: Self = Self { high: i64::MIN, low: i64::MIN };
    /// Above every id.
    const GREATEST: Self = Self { high: i64::MAX, low: i64::MAX };

    fn of(id: [u8; 16]) -> Self {
        let mut halves = [[0; 8]; 2];
        halves[0].copy_from_slice(&id[..8]);
        halves[1].copy_from_slice(&id[8..]);
        let [high, low] = halves.map(i64::from_be_bytes);
        Self { high, low }
    }

    fn id(self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.high.to_be_bytes());
        id[8..].copy_from_slice(&self.low.to_be_bytes());
        id
    }

    /// The least id of a request that started at this time, microseconds since 1970; or up to 244 ns
    /// before it.
    fn at(micros: i64) -> Self {
        Self::of(RequestId::new(count(micros).saturating_mul(1000), 0).0)
    }

    /// From the columns `id_high` and `id_low`.
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { high: row.get("id_high")?, low: row.get("id_low")? })
    }
}

/// Newest first, below ?1 and ?2, not below ?3 and ?4. `NULL` filters nothing.
const PAGE: &str = "SELECT o.*, w.*, b.boot AS boot_id
    FROM outcomes AS o CROSS JOIN ways AS w ON w.id = o.way CROSS JOIN boots AS b ON b.id = o.boot
    WHERE (o.id_high, o.id_low) < (?1, ?2) AND (o.id_high, o.id_low) >= (?3, ?4)
      AND (?5 IS NULL OR w.route = ?5) AND (?6 IS NULL OR w.experiment = ?6)
      AND (?7 IS NULL OR w.variant = ?7) AND (?8 IS NULL OR o.outcome = ?8)
      AND (?9 IS NULL OR o.t_total > ?9) AND (?10 IS NULL OR o.unit_hash = ?10)
    ORDER BY o.id_high DESC, o.id_low DESC LIMIT ?11";

/// The same for one outcome that is not `ok`, along its index.
const PAGE_NOT_OK: &str = "SELECT o.*, w.*, b.boot AS boot_id
    FROM outcomes AS o INDEXED BY outcomes_not_ok CROSS JOIN ways AS w ON w.id = o.way
    CROSS JOIN boots AS b ON b.id = o.boot
    WHERE (o.id_high, o.id_low) < (?1, ?2) AND (o.id_high, o.id_low) >= (?3, ?4)
      AND (?5 IS NULL OR w.route = ?5) AND (?6 IS NULL OR w.experiment = ?6)
      AND (?7 IS NULL OR w.variant = ?7) AND o.outcome = ?8 AND o.outcome <> 1
      AND (?9 IS NULL OR o.t_total > ?9) AND (?10 IS NULL OR o.unit_hash = ?10)
    ORDER BY o.id_high DESC, o.id_low DESC LIMIT ?11";

/// The id after ?3 steps back from ?1 and ?2: from the index alone.
const STEP_BACK: &str = "SELECT id_high, id_low FROM outcomes WHERE (id_high, id_low) < (?1, ?2)
    ORDER BY id_high DESC, id_low DESC LIMIT 1 OFFSET ?3";

const STEP_BACK_NOT_OK: &str = "SELECT id_high, id_low
    FROM outcomes INDEXED BY outcomes_not_ok
    WHERE outcome = ?4 AND outcome <> 1 AND (id_high, id_low) < (?1, ?2)
    ORDER BY id_high DESC, id_low DESC LIMIT 1 OFFSET ?3";

const DELETE_OLDEST: &str = "DELETE FROM outcomes WHERE rowid IN (
        SELECT rowid FROM outcomes WHERE (id_high, id_low) < (?1, ?2)
        ORDER BY id_high, id_low LIMIT ?3)";

/// Looks at no more than [`STEP`] rows.
pub(super) fn page(
    connection: &Connection,
    vocabulary: &mut Vocabulary,
    query: &OutcomeQuery,
) -> Result<OutcomePage, Fault> {
    let OutcomeQuery {
        route,
        experiment,
        variant,
        outcome,
        slower,
        unit_hash,
        since,
        before,
        limit,
    } = query;
    let nothing = OutcomePage { items: Vec::new(), next: None };
    if *limit == 0 {
        return Ok(nothing);
    }
    let mut numbers = [None; 4];
    for (number, text) in numbers.iter_mut().zip([route, experiment, variant, outcome]) {
        let Some(text) = text else { continue };
        *number = vocabulary::find(connection, text)?;
        // A name that no row ever carried.
        if number.is_none() {
            return Ok(nothing);
        }
    }
    let [route, experiment, variant, outcome] = numbers;
    let failed = outcome.filter(|&number| number != OK);

    let below = before.map_or(Key::GREATEST, Key::of);
    let oldest = since.map_or(Key::LEAST, Key::at);
    let step = match failed {
        Some(number) => connection
            .prepare_cached(STEP_BACK_NOT_OK)?
            .query_row(params![below.high, below.low, STEP - 1, number], Key::read),
        None => connection
            .prepare_cached(STEP_BACK)?
            .query_row(params![below.high, below.low, STEP - 1], Key::read),
    };
    // Past `oldest` there is nothing more to find.
    let step = step.optional()?.filter(|id| *id > oldest);
    let floor = step.unwrap_or(oldest);

    let text = if failed.is_some() { PAGE_NOT_OK } else { PAGE };
    let mut statement = connection.prepare_cached(text)?;
    let mut rows = statement.query(params![
        below.high,
        below.low,
        floor.high,
        floor.low,
        route,
        experiment,
        variant,
        outcome,
        slower.map(int),
        unit_hash.map(u64::cast_signed),
        limit
    ])?;
    let mut items = Vec::new();
    let mut last = None;
    while let Some(row) = rows.next()? {
        last = Some(Key::read(row)?);
        items.push(told::json(connection, vocabulary, row)?);
    }
    let full = u32::try_from(items.len()).is_ok_and(|found| found >= *limit);
    let next = if full { last } else { step };
    Ok(OutcomePage { items, next: next.map(Key::id) })
}

/// One outcome.
pub(super) fn one(
    connection: &Connection,
    vocabulary: &mut Vocabulary,
    id: [u8; 16],
) -> Result<Option<Value>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT o.*, w.*, b.boot AS boot_id
         FROM outcomes AS o JOIN ways AS w ON w.id = o.way JOIN boots AS b ON b.id = o.boot
         WHERE o.id_high = ?1 AND o.id_low = ?2",
    )?;
    let Key { high, low } = Key::of(id);
    let mut rows = statement.query([high, low])?;
    rows.next()?.map(|row| told::json(connection, vocabulary, row)).transpose()
}

/// Deletes the oldest rows that started before `before` (µs), at most `limit`; how many.
pub(super) fn delete(transaction: &Transaction<'_>, before: i64, limit: u32) -> Result<u64, Fault> {
    let before = Key::at(before);
    let deleted = transaction.prepare_cached(DELETE_OLDEST)?.execute(params![
        before.high,
        before.low,
        limit
    ])?;
    Ok(deleted as u64)
}

/// Every query that walks through outcomes, and the index it must use.
#[cfg(test)]
pub(super) fn plans() -> [(&'static str, &'static str); 5] {
    [
        (PAGE, "sqlite_autoindex_outcomes_1"),
        (PAGE_NOT_OK, "outcomes_not_ok"),
        (STEP_BACK, "COVERING INDEX sqlite_autoindex_outcomes_1"),
        (STEP_BACK_NOT_OK, "COVERING INDEX outcomes_not_ok"),
        (DELETE_OLDEST, "sqlite_autoindex_outcomes_1"),
    ]
}
