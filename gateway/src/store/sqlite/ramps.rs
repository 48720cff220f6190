//! Ramps: where each stands, and its decisions in their order.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Fault, count, int};
use crate::store::{RampRow, RampStep, StoreError};

/// Adds the next decision and where it leaves the ramp; false if this very one is there already.
///
/// `Exists` if another one has its number, `Missing` if one before it is not there.
pub(super) fn add(transaction: &Transaction<'_>, step: &RampStep) -> Result<bool, Fault> {
    // Field by field, so that a new one does not compile until it is kept.
    let RampStep { experiment, number, settings, state, decision, audit: _ } = step;
    let newest: Option<i64> = transaction
        .prepare_cached("SELECT number FROM ramps WHERE experiment = ?1")?
        .query_row([experiment], |row| row.get(0))
        .optional()?;
    let newest = newest.map_or(0, count);
    if *number <= newest {
        let there: Option<String> = transaction
            .prepare_cached(
                "SELECT decision FROM ramp_decisions WHERE experiment = ?1 AND number = ?2",
            )?
            .query_row(params![experiment, int(*number)], |row| row.get(0))
            .optional()?;
        if there.as_ref() == Some(decision) {
            return Ok(false);
        }
        let taken = format!("decision {number} of the ramp of experiment {experiment}");
        return Err(StoreError::Exists(taken).into());
    }
    if *number > newest + 1 {
        let gap = format!("decision {} of the ramp of experiment {experiment}", newest + 1);
        return Err(StoreError::Missing(gap).into());
    }
    transaction
        .prepare_cached(
            "INSERT INTO ramps (experiment, number, settings, state) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (experiment) DO UPDATE SET
                number = excluded.number, settings = excluded.settings, state = excluded.state",
        )?
        .execute(params![experiment, int(*number), settings, state])?;
    transaction
        .prepare_cached(
            "INSERT INTO ramp_decisions (experiment, number, decision) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![experiment, int(*number), decision])?;
    Ok(true)
}

/// Where a ramp stands since a decision; nothing if it has decided since.
pub(super) fn set_state(
    transaction: &Transaction<'_>,
    experiment: &str,
    number: u64,
    state: &str,
) -> Result<(), Fault> {
    transaction
        .prepare_cached("UPDATE ramps SET state = ?3 WHERE experiment = ?1 AND number = ?2")?
        .execute(params![experiment, int(number), state])?;
    Ok(())
}

/// Every ramp, with its newest decisions.
pub(super) fn list(connection: &Connection, decisions: u32) -> Result<Vec<RampRow>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT experiment, number, settings, state FROM ramps ORDER BY experiment",
    )?;
    let mut newest = connection.prepare_cached(
        "SELECT decision FROM ramp_decisions WHERE experiment = ?1 ORDER BY number DESC LIMIT ?2",
    )?;
    let mut rows = statement.query([])?;
    let mut ramps = Vec::new();
    while let Some(row) = rows.next()? {
        let experiment: String = row.get(0)?;
        let mut made = newest
            .query_map(params![experiment, decisions], |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()?;
        made.reverse();
        ramps.push(RampRow {
            experiment,
            number: count(row.get(1)?),
            settings: row.get(2)?,
            state: row.get(3)?,
            decisions: made,
        });
    }
    Ok(ramps)
}
