//! What people and ramps change: keys, revisions of experiments, what the file said, layers.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Fault, audit, count, damaged, int, is_taken, outbox, ramps};
use crate::store::{AuditRow, Change, FileStatement, KeyRow, LayerRow, RevisionRow, StoreError};

/// Every key, oldest first.
pub(super) fn keys(connection: &Connection) -> Result<Vec<KeyRow>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT id, name, role, routes, hash, created_at, created_by, expires_at, revoked_at,
                requests_per_second, concurrent, tokens_per_minute
         FROM keys ORDER BY created_at, id",
    )?;
    let mut rows = statement.query([])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let routes: Option<String> = row.get(3)?;
        keys.push(KeyRow {
            id: row.get(0)?,
            name: row.get(1)?,
            role: row.get(2)?,
            routes: routes.map(|text| from_json(&text, "routes of a key")).transpose()?,
            hash: row.get(4)?,
            created_at: row.get(5)?,
            created_by: row.get(6)?,
            expires_at: row.get(7)?,
            revoked_at: row.get(8)?,
            requests_per_second: row.get(9)?,
            concurrent: row.get(10)?,
            tokens_per_minute: row.get::<_, Option<i64>>(11)?.map(count),
        });
    }
    Ok(keys)
}

/// Adds one key.
pub(super) fn add_key(transaction: &Transaction<'_>, key: &KeyRow) -> Result<(), Fault> {
    // Field by field, so that a new one does not compile until it is kept.
    let KeyRow {
        id,
        name,
        role,
        routes,
        hash,
        created_at,
        created_by,
        expires_at,
        revoked_at,
        requests_per_second,
        concurrent,
        tokens_per_minute,
    } = key;
    let routes = routes.as_ref().map(to_json).transpose()?;
    let added = transaction
        .prepare_cached(
            "INSERT INTO keys (id, name, role, routes, hash, created_at, created_by, expires_at,
                               revoked_at, requests_per_second, concurrent, tokens_per_minute)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            id,
            name,
            role,
            routes,
            hash.as_slice(),
            created_at,
            created_by,
            expires_at,
            revoked_at,
            requests_per_second,
            concurrent,
            tokens_per_minute.map(int),
        ]);
    match added {
        Err(error) if is_taken(&error) => Err(StoreError::Exists(format!("key {id}")).into()),
        other => Ok(other.map(drop)?),
    }
}

/// Revokes a key; whether it was in force until now.
pub(super) fn revoke_key(transaction: &Transaction<'_>, id: &str, at: i64) -> Result<bool, Fault> {
    let revoked: Option<Option<i64>> = transaction
        .prepare_cached("SELECT revoked_at FROM keys WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    match revoked {
        None => Err(StoreError::Missing(format!("key {id}")).into()),
        Some(Some(_)) => Ok(false),
        Some(None) => {
            transaction
                .prepare_cached("UPDATE keys SET revoked_at = ?2 WHERE id = ?1")?
                .execute(params![id, at])?;
            Ok(true)
        }
    }
}

/// The newest revision of every experiment.
pub(super) fn experiments(connection: &Connection) -> Result<Vec<RevisionRow>, Fault> {
    // The newest numbers come from the index alone, so old allocations are never read.
    let mut statement = connection.prepare_cached(
        "SELECT r.experiment, r.revision, r.state, r.weights, r.allocation, r.source, r.by_whom,
                r.at, r.reason, r.buckets_moved, r.undoes, r.definition
         FROM (SELECT experiment, max(revision) AS revision FROM revisions GROUP BY experiment) AS n
         JOIN revisions AS r ON r.experiment = n.experiment AND r.revision = n.revision
         ORDER BY r.experiment",
    )?;
    let mut rows = statement.query([])?;
    let mut revisions = Vec::new();
    while let Some(row) = rows.next()? {
        revisions.push(revision(row)?);
    }
    Ok(revisions)
}

/// Revisions of one experiment, newest first.
pub(super) fn revisions(
    connection: &Connection,
    experiment: &str,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<RevisionRow>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT experiment, revision, state, weights, allocation, source, by_whom, at, reason,
                buckets_moved, undoes, definition
         FROM revisions WHERE experiment = ?1 AND revision < ?2 ORDER BY revision DESC LIMIT ?3",
    )?;
    let mut rows = statement.query(params![experiment, before.map_or(i64::MAX, int), limit])?;
    let mut revisions = Vec::new();
    while let Some(row) = rows.next()? {
        revisions.push(revision(row)?);
    }
    Ok(revisions)
}

/// Adds a change and its audit entries, in the order given; how many entries were new.
pub(super) fn add(transaction: &Transaction<'_>, change: &Change) -> Result<u64, Fault> {
    // Field by field, so that a new one does not compile until it is kept.
    let Change { revisions, statements, layers, ramps, seen, subscribers } = change;
    let mut entries = 0;
    let mut tell = |entry: &AuditRow| {
        entries += 1;
        let number = audit::append(transaction, entry)?;
        outbox::tell(transaction, subscribers, number, entry)
    };
    for (row, entry) in revisions {
        if add_revision(transaction, row)? {
            tell(entry)?;
        }
    }
    if let Some(statements) = statements {
        set_file_statements(transaction, statements)?;
    }
    for (name, slots, bytes) in layers {
        set_layer(transaction, name, slots, bytes)?;
    }
    for step in ramps {
        if ramps::add(transaction, step)?
            && let Some(entry) = &step.audit
        {
            tell(entry)?;
        }
    }
    for entry in seen {
        if outbox::is_news(transaction, entry)? {
            tell(entry)?;
        }
    }
    Ok(entries)
}

/// Adds the next revision of an experiment; false if this very one is there already.
///
/// `Exists` if another one has its number, `Missing` if one before it is not there.
fn add_revision(transaction: &Transaction<'_>, row: &RevisionRow) -> Result<bool, Fault> {
    let RevisionRow {
        experiment,
        revision,
        state,
        weights,
        allocation,
        source,
        by,
        at,
        reason,
        buckets_moved,
        undoes,
        definition,
    } = row;
    let newest: i64 = transaction
        .prepare_cached("SELECT coalesce(max(revision), 0) FROM revisions WHERE experiment = ?1")?
        .query_row([experiment], |row| row.get(0))?;
    if *revision <= count(newest) {
        let there = revisions(transaction, experiment, Some(revision + 1), 1)?;
        if there.first() == Some(row) {
            return Ok(false);
        }
        let taken = format!("revision {revision} of experiment {experiment}");
        return Err(StoreError::Exists(taken).into());
    }
    if *revision > count(newest) + 1 {
        let gap = format!("revision {} of experiment {experiment}", count(newest) + 1);
        return Err(StoreError::Missing(gap).into());
    }
    transaction
        .prepare_cached(
            "INSERT INTO revisions (experiment, revision, state, weights, allocation, source,
                                    by_whom, at, reason, buckets_moved, undoes, definition)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            experiment,
            int(*revision),
            to_json(state)?,
            to_json(weights)?,
            &allocation[..],
            to_json(source)?,
            by,
            at,
            reason,
            buckets_moved,
            undoes.map(int),
            definition.as_ref().map(to_json).transpose()?,
        ])?;
    Ok(true)
}

fn revision(row: &Row<'_>) -> Result<RevisionRow, Fault> {
    Ok(RevisionRow {
        experiment: row.get(0)?,
        revision: count(row.get(1)?),
        state: from_json(&row.get::<_, String>(2)?, "state of a revision")?,
        weights: from_json(&row.get::<_, String>(3)?, "weights of a revision")?,
        allocation: row.get::<_, Vec<u8>>(4)?.into(),
        source: from_json(&row.get::<_, String>(5)?, "source of a revision")?,
        by: row.get(6)?,
        at: row.get(7)?,
        reason: row.get(8)?,
        buckets_moved: row.get(9)?,
        undoes: row.get::<_, Option<i64>>(10)?.map(count),
        definition: row.get::<_, Option<String>>(11)?.map(|text| definition(&text)).transpose()?,
    })
}

fn definition(text: &str) -> Result<Value, Fault> {
    from_json(text, "definition of an experiment")
}

/// The newest definition of each experiment that has one.
pub(super) fn definitions(connection: &Connection) -> Result<Vec<(String, Value)>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT r.experiment, r.definition
         FROM (SELECT experiment, max(revision) AS revision FROM revisions
               WHERE definition IS NOT NULL GROUP BY experiment) AS n
         JOIN revisions AS r ON r.experiment = n.experiment AND r.revision = n.revision
         ORDER BY r.experiment",
    )?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push((row.get(0)?, definition(&row.get::<_, String>(1)?)?));
    }
    Ok(all)
}

/// What the file said, by experiment.
pub(super) fn file_statements(connection: &Connection) -> Result<Vec<FileStatement>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT experiment, statement, definition FROM file_statements ORDER BY experiment",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(FileStatement { experiment: row.get(0)?, split: row.get(1)?, whole: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Replaces all of it: what the file no longer says is forgotten.
fn set_file_statements(transaction: &Transaction<'_>, rows: &[FileStatement]) -> Result<(), Fault> {
    transaction.execute("DELETE FROM file_statements", [])?;
    let mut statement = transaction.prepare_cached(
        "INSERT INTO file_statements (experiment, statement, definition) VALUES (?1, ?2, ?3)
         ON CONFLICT (experiment) DO UPDATE
         SET statement = excluded.statement, definition = excluded.definition",
    )?;
    for FileStatement { experiment, split, whole } in rows {
        statement.execute(params![experiment, split, whole])?;
    }
    Ok(())
}

/// Allocations of layers with the names of their slots.
pub(super) fn layers(connection: &Connection) -> Result<Vec<LayerRow>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT name, slots, bytes FROM layers ORDER BY name")?;
    let mut rows = statement.query([])?;
    let mut layers = Vec::new();
    while let Some(row) = rows.next()? {
        let slots = from_json(&row.get::<_, String>(1)?, "slots of a layer")?;
        layers.push((row.get(0)?, slots, row.get(2)?));
    }
    Ok(layers)
}

/// Keeps one layer's allocation.
fn set_layer(
    transaction: &Transaction<'_>,
    name: &str,
    slots: &[String],
    bytes: &[u8],
) -> Result<(), Fault> {
    transaction
        .prepare_cached(
            "INSERT INTO layers (name, slots, bytes) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET slots = excluded.slots, bytes = excluded.bytes",
        )?
        .execute(params![name, to_json(slots)?, bytes])?;
    Ok(())
}

pub(super) fn to_json(value: &(impl Serialize + ?Sized)) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| damaged(&"a value cannot be written", &error))
}

fn from_json<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| damaged(&what, &error))
}
