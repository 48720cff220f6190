//! Outcomes: how they are found and forgotten; `add` lays them out, `block` keeps them, `told` tells them.
//!
//! Request ids are UUIDv7 made when `started_unix_nanos` was read, so their order is the order of
//! time, and an id says where its outcome is: in one of the blocks of its slice of time. New blocks go
//! to the end of the table, but for those of requests that took long. Who walks through outcomes goes
//! back from slice to slice, and reads only blocks that may have what is looked for.

use std::collections::HashMap;

use rusqlite::{Connection, Transaction};
use serde_json::Value;

use self::block::{Block, Head, Known, kind};
use self::told::Found;
use super::vocabulary::{self, Vocabulary, Way};
use super::{Fault, damaged};
use crate::ids::RequestId;
use crate::store::{OutcomePage, OutcomeQuery};

mod add;
mod address;
mod block;
mod packed;
mod schema_1;
mod schema_2;
mod told;

pub(super) use add::{Arrival, add};
pub(super) use schema_1::move_rows as move_from_schema_1;
pub(super) use schema_2::move_rows as move_from_schema_2;

/// Rows that one call may look at, and those of the slice it is in. About 20 ms: the recorder's batches
/// wait that long at most.
const STEP: u64 = 20_000;

/// A request id as a number, so that the order of the ids is the order of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key(u128);

impl Key {
    /// Above every id that is made here.
    const GREATEST: Self = Self(u128::MAX);

    fn of(id: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(id))
    }

    fn id(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The least id of a request that started at this time, microseconds since 1970; or up to 244 ns
    /// before it.
    fn at(micros: i64) -> Self {
        Self::of(RequestId::new(super::count(micros).saturating_mul(1000), 0).0)
    }

    fn slice(self) -> Slice {
        // 48 bits of milliseconds are left of an id's other bits.
        Slice(self.0 >> (80 + Slice::BITS))
    }
}

/// A slice of time: the requests whose ids begin with it started within 64 milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slice(u128);

impl Slice {
    /// Bits of a time in milliseconds that a slice leaves off.
    const BITS: u32 = 6;
    /// Bits of a block's id that number the blocks of a slice.
    const BLOCK: u32 = 20;

    /// The slice that a block is in.
    fn of_block(id: i64) -> Self {
        Self(u128::from(super::count(id) >> Self::BLOCK))
    }

    /// The least id that a block of it may have.
    fn first(self) -> i64 {
        i64::try_from(self.0 << Self::BLOCK).unwrap_or(i64::MAX)
    }

    /// Above the ids of its blocks: the first of the next slice.
    fn after(self) -> i64 {
        Self(self.0 + 1).first()
    }

    /// The least key in it.
    fn least(self) -> Key {
        Key(self.0 << (80 + Self::BITS))
    }

    /// Milliseconds from its beginning to the time of one of its keys.
    fn rest(key: Key) -> u64 {
        u64::try_from(key.0 >> 80 & ((1 << Self::BITS) - 1)).unwrap_or(0)
    }
}

/// What blocks say of themselves, newest slice first.
const HEADS: &str =
    "SELECT id, rows, kinds FROM outcomes WHERE id < ?1 AND id >= ?2 ORDER BY id DESC";

/// The blocks of a slice.
const BLOCKS_OF: &str = "SELECT id FROM outcomes WHERE id >= ?1 AND id < ?2";

const OLDEST: &str = "SELECT id, rows FROM outcomes WHERE id < ?1 ORDER BY id";

const DELETE: &str = "DELETE FROM outcomes WHERE id <= ?1";

/// What is asked for, as rows have it. `None` filters nothing.
struct Filter {
    below: Key,
    oldest: Key,
    route: Option<i64>,
    experiment: Option<i64>,
    variant: Option<i64>,
    outcome: Option<i64>,
    slower: Option<u64>,
    unit_hash: Option<u64>,
}

impl Filter {
    /// Of a query; `None` if it asks for a name that no row ever carried.
    fn of(connection: &Connection, query: &OutcomeQuery) -> Result<Option<Self>, Fault> {
        let OutcomeQuery {
            route,
            experiment,
            variant,
            outcome,
            slower,
            unit_hash,
            since,
            before,
            limit: _,
        } = query;
        let mut numbers = [None; 4];
        for (number, text) in numbers.iter_mut().zip([route, experiment, variant, outcome]) {
            let Some(text) = text else { continue };
            *number = vocabulary::find(connection, text)?;
            if number.is_none() {
                return Ok(None);
            }
        }
        let [route, experiment, variant, outcome] = numbers;
        Ok(Some(Self {
            below: before.map_or(Key::GREATEST, Key::of),
            oldest: since.map_or(Key(0), Key::at),
            route,
            experiment,
            variant,
            outcome,
            slower: *slower,
            unit_hash: *unit_hash,
        }))
    }

    /// Whether a block may have what is asked for.
    fn may_have(&self, head: &Head) -> bool {
        self.outcome.is_none_or(|outcome| head.kinds & kind(outcome) != 0)
    }

    fn takes(&self, row: &Known, ways: &mut Ways<'_>) -> Result<bool, Fault> {
        let at_hand = row.key < self.below
            && row.key >= self.oldest
            && self.outcome.is_none_or(|outcome| row.outcome == Some(outcome))
            && self.slower.is_none_or(|slower| row.t_total.is_some_and(|took| took > slower))
            && self.unit_hash.is_none_or(|hash| row.unit_hash == Some(hash));
        let of_way = [self.route, self.experiment, self.variant];
        if !at_hand || of_way == [None; 3] {
            return Ok(at_hand);
        }
        let [route, _, experiment, variant, ..] = ways.names(row.way)?;
        let is = |asked: Option<i64>, has: i64| asked.is_none_or(|asked| asked == has);
        Ok(is(self.route, route) && is(self.experiment, experiment) && is(self.variant, variant))
    }
}

/// Ways and boots by their numbers, each looked up once.
struct Ways<'c> {
    connection: &'c Connection,
    ways: HashMap<i64, Way>,
    boots: HashMap<i64, [u8; 16]>,
}

impl<'c> Ways<'c> {
    fn new(connection: &'c Connection) -> Self {
        Self { connection, ways: HashMap::new(), boots: HashMap::new() }
    }

    fn names(&mut self, way: i64) -> Result<Way, Fault> {
        if let Some(names) = self.ways.get(&way) {
            return Ok(*names);
        }
        let names = vocabulary::way(self.connection, way)?
            .ok_or_else(|| damaged(&format!("way {way}"), &"it is missing, an outcome has it"))?;
        self.ways.insert(way, names);
        Ok(names)
    }

    fn boot(&mut self, number: i64) -> Result<[u8; 16], Fault> {
        if let Some(boot) = self.boots.get(&number) {
            return Ok(*boot);
        }
        let boot = self
            .connection
            .prepare_cached("SELECT boot FROM boots WHERE id = ?1")?
            .query_row([number], |row| row.get(0))?;
        self.boots.insert(number, boot);
        Ok(boot)
    }
}

/// Looks at no more than [`STEP`] rows, and the rest of the slice that it has come to.
pub(super) fn page(
    connection: &Connection,
    vocabulary: &mut Vocabulary,
    query: &OutcomeQuery,
) -> Result<OutcomePage, Fault> {
    let nothing = OutcomePage { items: Vec::new(), next: None };
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let Some(filter) = Filter::of(connection, query)? else { return Ok(nothing) };
    if limit == 0 {
        return Ok(nothing);
    }
    let mut ways = Ways::new(connection);
    let mut items = Vec::new();
    let mut looked_at = 0;
    let mut next = None;
    let mut statement = connection.prepare_cached(HEADS)?;
    let heads = statement.query_map(
        [Key(filter.below.0.saturating_sub(1)).slice().after(), filter.oldest.slice().first()],
        |row| Ok(Head { id: row.get(0)?, rows: super::count(row.get(1)?), kinds: row.get(2)? }),
    )?;
    let mut heads = heads.peekable();
    while let Some(head) = heads.next() {
        let head = head?;
        let slice = Slice::of_block(head.id);
        let mut blocks = Vec::new();
        let mut of_slice = Some(head);
        while let Some(head) = of_slice {
            if filter.may_have(&head) {
                looked_at += head.rows;
                blocks.push(Block::read(connection, head.id)?);
            } else {
                looked_at += 1;
            }
            let is_of_slice = |head: &rusqlite::Result<Head>| {
                head.as_ref().is_ok_and(|head| Slice::of_block(head.id) == slice)
            };
            of_slice = heads.next_if(is_of_slice).transpose()?;
        }
        let left = limit - items.len();
        next = tell(vocabulary, &mut ways, &filter, &blocks, left, &mut items)?;
        if items.len() == limit {
            break;
        }
        // There may be more, below this slice.
        next = Some(slice.least());
        if looked_at >= STEP {
            break;
        }
        if heads.peek().is_none() {
            next = None;
        }
    }
    Ok(OutcomePage { items, next: next.map(Key::id) })
}

/// Adds to `items` what is asked for of one slice's blocks, newest first, `most` at most; the last of it.
fn tell(
    vocabulary: &mut Vocabulary,
    ways: &mut Ways<'_>,
    filter: &Filter,
    blocks: &[Block],
    most: usize,
    items: &mut Vec<Value>,
) -> Result<Option<Key>, Fault> {
    // Key, block, place in it.
    let mut found = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        for (place, row) in block.rows.iter().enumerate() {
            if filter.takes(row, ways)? {
                found.push((row.key, at, place));
            }
        }
    }
    found.sort_unstable_by(|one, other| other.cmp(one));
    found.truncate(most);
    let mut told: Vec<Option<Value>> = vec![None; found.len()];
    for (at, block) in blocks.iter().enumerate() {
        let of_block: HashMap<usize, usize> = found
            .iter()
            .enumerate()
            .filter(|(_, (_, of, _))| *of == at)
            .map(|(to, (_, _, place))| (*place, to))
            .collect();
        if of_block.is_empty() {
            continue;
        }
        let boot = ways.boot(block.boot)?;
        each_row(block, |place, known, more| {
            if let Some(&to) = of_block.get(&place) {
                let way = ways.names(known.way)?;
                let row = Found { boot, known, way, more };
                told[to] = Some(told::json(ways.connection, vocabulary, &row)?);
            }
            Ok(())
        })?;
    }
    items.extend(told.into_iter().flatten());
    Ok(found.last().map(|(key, ..)| *key))
}

/// Shows every row of a block, with what is packed of it.
fn each_row<'b>(
    block: &'b Block,
    mut show: impl FnMut(usize, &'b Known, packed::More<'b>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut more = block.more();
    for (place, known) in block.rows.iter().enumerate() {
        let more = more.next();
        let more = more.ok_or_else(|| damaged(&"an outcome", &"what is packed cannot be read"))?;
        show(place, known, more)?;
    }
    Ok(())
}

/// One outcome.
pub(super) fn one(
    connection: &Connection,
    vocabulary: &mut Vocabulary,
    id: [u8; 16],
) -> Result<Option<Value>, Fault> {
    let key = Key::of(id);
    let slice = key.slice();
    let mut ways = Ways::new(connection);
    let mut statement = connection.prepare_cached(BLOCKS_OF)?;
    let blocks = statement.query_map([slice.first(), slice.after()], |row| row.get(0))?;
    for block in blocks {
        let block = Block::read(connection, block?)?;
        if block.rows.iter().all(|row| row.key != key) {
            continue;
        }
        let boot = ways.boot(block.boot)?;
        let mut told = None;
        each_row(&block, |_, known, more| {
            if known.key == key {
                let row = Found { boot, known, way: ways.names(known.way)?, more };
                told = Some(told::json(connection, vocabulary, &row)?);
            }
            Ok(())
        })?;
        return Ok(told);
    }
    Ok(None)
}

/// Deletes the oldest blocks whose slice was over before `before` (µs), until `limit` rows have gone; how
/// many did.
pub(super) fn delete(transaction: &Transaction<'_>, before: i64, limit: u32) -> Result<u64, Fault> {
    let mut deleted = 0;
    let mut last = None;
    {
        let mut statement = transaction.prepare_cached(OLDEST)?;
        let mut blocks = statement.query([Key::at(before).slice().first()])?;
        while deleted < u64::from(limit)
            && let Some(block) = blocks.next()?
        {
            last = Some(block.get::<_, i64>(0)?);
            deleted += super::count(block.get(1)?);
        }
    }
    if let Some(last) = last {
        transaction.prepare_cached(DELETE)?.execute([last])?;
    }
    Ok(deleted)
}

/// Every query that walks through outcomes.
#[cfg(test)]
pub(super) fn plans() -> [&'static str; 6] {
    [HEADS, BLOCKS_OF, OLDEST, DELETE, block::GREATEST_BELOW, block::READ]
}
