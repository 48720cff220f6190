//! The audit log: numbered without gaps, chained by hash, only ever appended to (D8).
//!
//! A changed, inserted or removed entry breaks the chain from there on. Entries cut off at the end
//! do not: whoever needs proof against that keeps the newest hash somewhere else. What they told of is
//! still there to be missed, though: revisions and keys.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{Fault, count, damaged, int};
use crate::ids::hex;
use crate::store::{AuditEntry, AuditHead, AuditPiece, AuditRow};

/// What is hashed and stored: the entry with its number, members in this order.
#[derive(Serialize)]
struct Numbered<'a> {
    id: u64,
    #[serde(flatten)]
    row: &'a AuditRow,
}

/// The same, read back.
#[derive(Deserialize)]
struct Stored {
    id: u64,
    #[serde(flatten)]
    row: AuditRow,
}

/// Appends one entry; part of the transaction that makes the change. Its number.
pub(super) fn append(transaction: &Transaction<'_>, row: &AuditRow) -> Result<u64, Fault> {
    let newest = transaction
        .prepare_cached("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 32]>(1)?)))
        .optional()?;
    let (last, previous) = newest.unwrap_or_default();
    let id = last + 1;
    let entry = serde_json::to_string(&Numbered { id: count(id), row })
        .map_err(|error| damaged(&"an audit entry cannot be written", &error))?;
    transaction
        .prepare_cached("INSERT INTO audit (id, entry, hash) VALUES (?1, ?2, ?3)")?
        .execute(params![id, entry, link(&previous, entry.as_bytes()).as_slice()])?;
    Ok(count(id))
}

/// Entries, newest first.
pub(super) fn list(
    connection: &Connection,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<AuditEntry>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT id, entry, hash FROM audit WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let mut rows = statement.query(params![before.map(int), limit])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, text, hash) = columns(row)?;
        let Stored { id: _, row } = serde_json::from_str(&text)
            .map_err(|error| damaged(&format_args!("audit entry {id}"), &error))?;
        entries.push(AuditEntry { id: count(id), row, hash: hex(&hash) });
    }
    Ok(entries)
}

/// Walks the chain on from `from`.
pub(super) fn check(
    connection: &Connection,
    from: AuditHead,
    limit: u32,
) -> Result<AuditPiece, Fault> {
    let mut statement = connection
        .prepare_cached("SELECT id, entry, hash FROM audit WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    let mut rows = statement.query(params![int(from.id), limit])?;
    let mut piece = AuditPiece { head: from, is_last: true, ..AuditPiece::default() };
    let mut walked = 0;
    while let Some(row) = rows.next()? {
        walked += 1;
        let (id, text, hash) = columns(row)?;
        let expected = piece.head.id + 1;
        let stored = serde_json::from_str::<Stored>(&text).ok();
        let fits = count(id) == expected
            && stored.as_ref().is_some_and(|stored| stored.id == expected)
            && hash == link(&piece.head.hash, text.as_bytes());
        if !fits {
            piece.bad = Some(expected);
            return Ok(piece);
        }
        if let Some(Stored { row, .. }) = stored {
            piece.tells(&row);
        }
        piece.head = AuditHead { id: expected, hash };
    }
    piece.is_last = walked < limit;
    Ok(piece)
}

impl AuditPiece {
    fn tells(&mut self, row: &AuditRow) {
        if let Some(experiment) = row.target.strip_prefix("experiment/")
            && let Some(revision) = row.after.get("revision").and_then(serde_json::Value::as_u64)
        {
            self.revisions.push((experiment.to_owned(), revision));
        }
        if let Some(key) = row.target.strip_prefix("key/") {
            self.keys.push(key.to_owned());
        }
    }
}

fn columns(row: &Row<'_>) -> Result<(i64, String, [u8; 32]), Fault> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn link(previous: &[u8; 32], entry: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(previous).update(entry).finalize().as_bytes()
}
