//! Tallies: cumulative counts by boot, written over and over.

use rusqlite::{Connection, Transaction, params};

use super::{Fault, count, int};
use crate::store::TallyRow;

/// The number of a boot; a new one is added.
pub(super) fn boot_number(transaction: &Transaction<'_>, boot: [u8; 16]) -> Result<i64, Fault> {
    transaction
        .prepare_cached("INSERT INTO boots (boot) VALUES (?1) ON CONFLICT DO NOTHING")?
        .execute([boot.as_slice()])?;
    let mut statement = transaction.prepare_cached("SELECT id FROM boots WHERE boot = ?1")?;
    Ok(statement.query_row([boot.as_slice()], |row| row.get(0))?)
}

/// Writes tallies over those of the same boot and key.
pub(super) fn set(
    transaction: &Transaction<'_>,
    boot: [u8; 16],
    rows: &[TallyRow],
) -> Result<(), Fault> {
    let boot = boot_number(transaction, boot)?;
    let mut statement = transaction.prepare_cached(
        "INSERT INTO tallies (boot, route, experiment, revision, variant, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (boot, route, experiment, revision, variant)
         DO UPDATE SET bytes = excluded.bytes",
    )?;
    for TallyRow { route, experiment, revision, variant, bytes } in rows {
        statement.execute(params![boot, route, experiment, int(*revision), variant, bytes])?;
    }
    Ok(())
}

/// Every tally of every boot, oldest boot first.
pub(super) fn all(connection: &Connection) -> Result<Vec<([u8; 16], TallyRow)>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT b.boot, t.route, t.experiment, t.revision, t.variant, t.bytes
         FROM tallies AS t JOIN boots AS b ON b.id = t.boot
         ORDER BY t.boot, t.route, t.experiment, t.revision, t.variant",
    )?;
    let rows = statement.query_map([], |row| {
        let tally = TallyRow {
            route: row.get(1)?,
            experiment: row.get(2)?,
            revision: count(row.get(3)?),
            variant: row.get(4)?,
            bytes: row.get(5)?,
        };
        Ok((row.get(0)?, tally))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
