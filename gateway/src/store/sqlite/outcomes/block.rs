//! A block: the rows that one transaction brings for one slice of time, as one entry of the table.
//!
//! Rows lie in it in the order in which requests ended. What queries ask for is JSON, so that it can be
//! read with the shell too (the view `requests`); everything else is packed, each row after the one
//! before (`packed.rs`). A block is written once and never changed.

use std::borrow::Cow;
use std::str;

use rusqlite::{Connection, OptionalExtension};

use super::packed::{Packer, Rows};
use super::{Key, Slice};
use crate::ids::{RequestId, hex64};
use crate::store::sqlite::{Fault, count, damaged, int};

/// What queries ask for of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) key: Key,
    pub(super) seq: u64,
    /// Number in `ways`.
    pub(super) way: i64,
    pub(super) status: u16,
    /// Number in `names`; `None`: refused.
    pub(super) outcome: Option<i64>,
    /// Microseconds.
    pub(super) t_total: Option<u64>,
    pub(super) unit_hash: Option<u64>,
}

/// [`Known`] as it is written.
type Written<'a> = (&'a str, u64, u64, i64, u16, Option<i64>, Option<u64>, Option<Cow<'a, str>>);

/// The bit that an outcome has in `kinds`.
pub(super) fn kind(outcome: i64) -> i64 {
    1 << outcome.rem_euclid(63)
}

/// Where blocks are put together. Kept for the next one, so that nothing is allocated for each.
#[derive(Debug, Default)]
pub(super) struct Writer {
    known: Vec<u8>,
    kinds: i64,
    rows: u64,
    pub(super) more: Packer,
}

impl Writer {
    /// Adds what is known of the row whose rest was packed last.
    pub(super) fn add(&mut self, row: &Known) {
        self.known.extend_from_slice(if self.rows == 0 { b"[[\"" } else { b",[\"" });
        self.known.extend_from_slice(RequestId(row.key.id()).text().as_str().as_bytes());
        self.known.push(b'"');
        self.number(Some(Slice::rest(row.key)));
        self.number(Some(row.seq));
        self.number(Some(count(row.way)));
        self.number(Some(row.status.into()));
        self.number(row.outcome.map(count));
        self.number(row.t_total);
        match row.unit_hash {
            None => self.known.extend_from_slice(b",null]"),
            Some(hash) => {
                self.known.extend_from_slice(b",\"");
                self.known.extend_from_slice(&hex64(hash));
                self.known.extend_from_slice(b"\"]");
            }
        }
        if let Some(outcome) = row.outcome {
            self.kinds |= kind(outcome);
        }
        self.rows += 1;
    }

    fn number(&mut self, number: Option<u64>) {
        self.known.push(b',');
        match number {
            None => self.known.extend_from_slice(b"null"),
            Some(number) => {
                self.known.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            }
        }
    }

    /// Rows in it.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Keeps the block, unless nothing is in it, and begins another.
    pub(super) fn keep(
        &mut self,
        connection: &Connection,
        slice: Slice,
        boot: i64,
    ) -> Result<(), Fault> {
        if self.rows > 0 {
            self.known.push(b']');
            let known = str::from_utf8(&self.known)
                .map_err(|error| damaged(&"a block that was just made", &error))?;
            connection.prepare_cached(INSERT)?.execute((
                next_in(connection, slice)?,
                boot,
                int(self.rows),
                self.kinds,
                known,
                self.more.bytes(),
            ))?;
        }
        self.known.clear();
        self.more.clear();
        (self.kinds, self.rows) = (0, 0);
        Ok(())
    }
}

const INSERT: &str =
    "INSERT INTO outcomes (id, boot, rows, kinds, known, more) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// The id of a new block.
fn next_in(connection: &Connection, slice: Slice) -> Result<i64, Fault> {
    let greatest: Option<i64> = connection
        .prepare_cached(GREATEST_BELOW)?
        .query_row([slice.after()], |row| row.get(0))
        .optional()?;
    let next = greatest.map_or(0, |greatest| greatest + 1).max(slice.first());
    if next == slice.after() {
        return Err(damaged(&"outcomes", &"a slice of time has more blocks than there can be"));
    }
    Ok(next)
}

pub(super) const GREATEST_BELOW: &str =
    "SELECT id FROM outcomes WHERE id < ?1 ORDER BY id DESC LIMIT 1";

/// What a block says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) id: i64,
    pub(super) rows: u64,
    pub(super) kinds: i64,
}

/// A block that was read.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) boot: i64,
    pub(super) rows: Vec<Known>,
    more: Vec<u8>,
}

pub(super) const READ: &str = "SELECT boot, known, more FROM outcomes WHERE id = ?1";

impl Block {
    /// Reads one that is there.
    pub(super) fn read(connection: &Connection, id: i64) -> Result<Self, Fault> {
        let mut statement = connection.prepare_cached(READ)?;
        let mut rows = statement.query([id])?;
        let row = rows.next()?.ok_or_else(|| damaged(&"a block of outcomes", &"it is gone"))?;
        let known: Vec<Written<'_>> = serde_json::from_str(row.get_ref(1)?.as_str()?)
            .map_err(|error| damaged(&"a block of outcomes", &error))?;
        let rows = known.iter().map(known_of).collect::<Option<_>>();
        let rows = rows.ok_or_else(|| damaged(&"a block of outcomes", &"an id is none"))?;
        Ok(Self { boot: row.get(0)?, rows, more: row.get_ref(2)?.as_blob()?.to_vec() })
    }

    /// Everything else of its rows, in their order.
    pub(super) fn more(&self) -> Rows<'_> {
        Rows::of(&self.more)
    }
}

fn known_of(written: &Written<'_>) -> Option<Known> {
    let (id, _, seq, way, status, outcome, t_total, unit_hash) = written;
    let unit_hash = match unit_hash {
        None => None,
        Some(hex) => Some(u64::from_str_radix(hex, 16).ok()?),
    };
    Some(Known {
        key: Key::of(RequestId::parse(id)?.0),
        seq: *seq,
        way: *way,
        status: *status,
        outcome: *outcome,
        t_total: *t_total,
        unit_hash,
    })
}
