//! Comparisons of shadows: one blob for each, written over and over; and the disagreements that are
//! kept, in a table that nothing else reads.

use std::collections::HashSet;

use rusqlite::{Connection, Transaction, params};

use super::{Fault, count, damaged, int};
use crate::comparison::known::ComparisonRow;
use crate::comparison::sample::{Disagreement, DisagreementRow};

/// Writes counts over those of the same shadow.
pub(super) fn set(transaction: &Transaction<'_>, rows: &[ComparisonRow]) -> Result<(), Fault> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO comparisons (shadow, at, bytes) VALUES (?1, ?2, ?3)
         ON CONFLICT (shadow) DO UPDATE SET at = excluded.at, bytes = excluded.bytes",
    )?;
    for ComparisonRow { shadow, at, bytes } in rows {
        statement.execute(params![shadow, at, bytes])?;
    }
    Ok(())
}

/// The counts of every shadow, by name.
pub(super) fn all(connection: &Connection) -> Result<Vec<ComparisonRow>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT shadow, at, bytes FROM comparisons ORDER BY shadow")?;
    let rows = statement.query_map([], |row| {
        Ok(ComparisonRow { shadow: row.get(0)?, at: row.get(1)?, bytes: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Deletes counts of shadows that are not in `keep` and did not change since `before`; whose.
pub(super) fn delete(
    transaction: &Transaction<'_>,
    keep: &[String],
    before: i64,
) -> Result<Vec<String>, Fault> {
    let mut old = transaction
        .prepare_cached("SELECT shadow FROM comparisons WHERE at < ?1 ORDER BY shadow")?;
    let old: Vec<String> = old.query_map([before], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut delete = transaction.prepare_cached("DELETE FROM comparisons WHERE shadow = ?1")?;
    let gone: Vec<String> = old.into_iter().filter(|shadow| !keep.contains(shadow)).collect();
    for shadow in &gone {
        delete.execute([shadow])?;
    }
    Ok(gone)
}

/// Adds disagreements.
pub(super) fn add_disagreements(
    transaction: &Transaction<'_>,
    rows: &[DisagreementRow],
) -> Result<(), Fault> {
    let mut statement = transaction
        .prepare_cached("INSERT INTO disagreements (shadow, at, content) VALUES (?1, ?2, ?3)")?;
    for DisagreementRow { shadow, at, content } in rows {
        statement.execute(params![shadow, at, content])?;
    }
    Ok(())
}

/// Disagreements of a shadow, newest first, below `before` if given.
pub(super) fn disagreements(
    transaction: &Transaction<'_>,
    shadow: &str,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<Disagreement>, Fault> {
    let mut statement = transaction.prepare_cached(
        "SELECT id, at, content FROM disagreements
         WHERE shadow = ?1 AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3",
    )?;
    let mut rows = statement.query(params![shadow, before.map(int), limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, content): (i64, String) = (row.get(0)?, row.get(2)?);
        let content = serde_json::from_str(&content)
            .map_err(|error| damaged(&format_args!("disagreement {id}"), &error))?;
        found.push(Disagreement { id: count(id), at: row.get(1)?, content });
    }
    Ok(found)
}

/// Keeps of each shadow in `allowed` the newest disagreements (so many, of requests that came at or
/// after a time), and none of any other. What is deleted is overwritten in the file: it is what people
/// said.
pub(super) fn keep_disagreements(
    transaction: &Transaction<'_>,
    allowed: &[(String, i64, u32)],
) -> Result<(), Fault> {
    let overwrites =
        |yes: bool| transaction.pragma_update_and_check(None, "secure_delete", yes, |_| Ok(()));
    overwrites(true)?;
    let kept = keep(transaction, allowed);
    overwrites(false)?;
    kept
}

fn keep(transaction: &Transaction<'_>, allowed: &[(String, i64, u32)]) -> Result<(), Fault> {
    let mut too_old =
        transaction.prepare_cached("DELETE FROM disagreements WHERE shadow = ?1 AND at < ?2")?;
    let mut too_many = transaction.prepare_cached(
        "DELETE FROM disagreements WHERE shadow = ?1 AND id <=
            (SELECT id FROM disagreements WHERE shadow = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )?;
    for (shadow, since, most) in allowed {
        too_old.execute(params![shadow, since])?;
        too_many.execute(params![shadow, most])?;
    }
    let allowed: HashSet<&str> = allowed.iter().map(|(shadow, ..)| &**shadow).collect();
    let mut shadows = transaction.prepare_cached("SELECT DISTINCT shadow FROM disagreements")?;
    let shadows: Vec<String> =
        shadows.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut delete = transaction.prepare_cached("DELETE FROM disagreements WHERE shadow = ?1")?;
    for shadow in shadows.iter().filter(|shadow| !allowed.contains(&***shadow)) {
        delete.execute([shadow])?;
    }
    Ok(())
}
