//! Evidence: one blob for each experiment, written over and over.

use rusqlite::{Connection, Transaction, params};

use super::Fault;
use super::changes::to_json;
use crate::evidence::EvidenceRow;
use crate::store::State;

/// Writes evidence over that of the same experiment.
pub(super) fn set(transaction: &Transaction<'_>, rows: &[EvidenceRow]) -> Result<(), Fault> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO evidence (experiment, at, bytes) VALUES (?1, ?2, ?3)
         ON CONFLICT (experiment) DO UPDATE SET at = excluded.at, bytes = excluded.bytes",
    )?;
    for EvidenceRow { experiment, at, bytes } in rows {
        statement.execute(params![experiment, at, bytes])?;
    }
    Ok(())
}

/// The evidence of every experiment, by name.
pub(super) fn all(connection: &Connection) -> Result<Vec<EvidenceRow>, Fault> {
    let mut statement = connection
        .prepare_cached("SELECT experiment, at, bytes FROM evidence ORDER BY experiment")?;
    let rows = statement.query_map([], |row| {
        Ok(EvidenceRow { experiment: row.get(0)?, at: row.get(1)?, bytes: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Deletes what is older than `before` of experiments whose newest revision says they are over.
pub(super) fn delete(transaction: &Transaction<'_>, before: i64) -> Result<Vec<String>, Fault> {
    let mut statement = transaction.prepare_cached(
        "DELETE FROM evidence WHERE at < ?1 AND ?2 =
            (SELECT state FROM revisions AS r WHERE r.experiment = evidence.experiment
             ORDER BY revision DESC LIMIT 1)
         RETURNING experiment",
    )?;
    let ended = to_json(&State::Ended)?;
    let rows = statement.query_map(params![before, ended], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
