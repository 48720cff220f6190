//! The dictionaries: outcomes carry a number where the operators' vocabulary has a word, and one for
//! the six words that say where a request went.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use rusqlite::{Connection, OptionalExtension};

use super::Fault;
use crate::names::Name;

/// Known words of the table `names`, both ways.
///
/// Words are found by their address: a [`Name`] is alive for ever and never moves, so its address
/// and length say which it is, without reading it. The same word at two addresses costs one more
/// look into the table.
///
/// Holds numbers of the current transaction too, so it must be dropped when that fails.
#[derive(Debug, Default)]
pub(super) struct Vocabulary {
    recent: Recent,
    numbers: HashMap<(usize, usize), i64, BuildHasherDefault<AddressHasher>>,
    // The last ones seen, at places that their addresses say.
    recent_ways: [(WayNames, i64); 32],
    ways: HashMap<Way, i64>,
    words: HashMap<i64, String>,
}

/// Route, pattern, experiment, variant, variant that served, backend: where a request went, as far as
/// it went there.
pub(super) type WayNames = [Option<Name>; 6];

/// The same in numbers, 0 where there is none.
pub(super) type Way = [i64; 6];

impl Vocabulary {
    /// The number of a way; a new one is added, as are its names.
    pub(super) fn way(&mut self, connection: &Connection, names: WayNames) -> Result<i64, Fault> {
        let addresses = names.map(|name| name.map_or(0, |name| name.as_ptr().addr() ^ name.len()));
        let mixed =
            addresses.iter().fold(0, |mixed: usize, address| mixed.rotate_left(5) ^ address);
        let place = Recent::place((mixed, 0)) % self.recent_ways.len();
        let (known, number) = &self.recent_ways[place];
        if same(known, &names) && *number != 0 {
            return Ok(*number);
        }
        let mut way = Way::default();
        for (number, name) in way.iter_mut().zip(names) {
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                *number = self.number(connection, name)?;
            }
        }
        let number = self.way_of(connection, way)?;
        self.recent_ways[place] = (names, number);
        Ok(number)
    }

    /// The number of a way whose names have numbers already.
    pub(super) fn way_of(&mut self, connection: &Connection, way: Way) -> Result<i64, Fault> {
        if let Some(&number) = self.ways.get(&way) {
            return Ok(number);
        }
        let found = connection
            .prepare_cached(
                "SELECT id FROM ways WHERE (route, pattern, experiment, variant, served, backend)
                 = (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .query_row(way, |row| row.get(0))
            .optional()?;
        let number = match found {
            Some(number) => number,
            None => connection
                .prepare_cached(
                    "INSERT INTO ways (route, pattern, experiment, variant, served, backend)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING id",
                )?
                .query_row(way, |row| row.get(0))?,
        };
        self.ways.insert(way, number);
        Ok(number)
    }

    /// The number of `name`; a new one is added, so this belongs in a writing transaction.
    pub(super) fn number(&mut self, connection: &Connection, name: Name) -> Result<i64, Fault> {
        let address = (name.as_ptr().addr(), name.len());
        let place = Recent::place(address);
        let (known, number) = self.recent.0[place];
        if known == address {
            return Ok(number);
        }
        let number = self.seek(connection, name, address)?;
        self.recent.0[place] = (address, number);
        Ok(number)
    }

    #[cold]
    fn seek(
        &mut self,
        connection: &Connection,
        name: Name,
        address: (usize, usize),
    ) -> Result<i64, Fault> {
        if let Some(&number) = self.numbers.get(&address) {
            return Ok(number);
        }
        let number = match find(connection, name)? {
            Some(number) => number,
            None => connection
                .prepare_cached("INSERT INTO names (name) VALUES (?1) RETURNING id")?
                .query_row([name], |row| row.get(0))?,
        };
        self.numbers.insert(address, number);
        Ok(number)
    }

    /// The word with this number; `None` if there is none, which only a damaged file has.
    pub(super) fn word(
        &mut self,
        connection: &Connection,
        number: i64,
    ) -> Result<Option<&str>, Fault> {
        let vacant = match self.words.entry(number) {
            Entry::Occupied(known) => return Ok(Some(known.into_mut())),
            Entry::Vacant(vacant) => vacant,
        };
        let word: Option<String> = connection
            .prepare_cached("SELECT name FROM names WHERE id = ?1")?
            .query_row([number], |row| row.get(0))
            .optional()?;
        Ok(word.map(|word| &**vacant.insert(word)))
    }
}

/// The names of a way, in numbers; `None` if there is none, which only a damaged file has.
pub(super) fn way(connection: &Connection, number: i64) -> Result<Option<Way>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT route, pattern, experiment, variant, served, backend FROM ways WHERE id = ?1",
    )?;
    let names = statement.query_row([number], |row| {
        let mut names = Way::default();
        for (at, name) in names.iter_mut().enumerate() {
            *name = row.get(at)?;
        }
        Ok(names)
    });
    Ok(names.optional()?)
}

/// The number of `name`, if any row ever carried it.
pub(super) fn find(connection: &Connection, name: &str) -> Result<Option<i64>, Fault> {
    let mut statement = connection.prepare_cached("SELECT id FROM names WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

/// Whether these are the same names, by their addresses.
fn same(one: &WayNames, other: &WayNames) -> bool {
    one.iter().zip(other).all(|(one, other)| match (one, other) {
        (Some(one), Some(other)) => std::ptr::eq(*one, *other),
        (None, None) => true,
        _ => false,
    })
}

/// The last name seen at each place of a small table: most rows carry the names of the row before.
#[derive(Debug)]
struct Recent([((usize, usize), i64); 256]);

impl Default for Recent {
    fn default() -> Self {
        // No name lies at address 0.
        Self([((0, 0), 0); 256])
    }
}

impl Recent {
    fn place((address, length): (usize, usize)) -> usize {
        let mixed = ((address ^ length) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        usize::from(mixed.to_be_bytes()[0])
    }
}

/// Multiplies addresses apart. They are ours, so nobody can choose them to collide.
#[derive(Debug, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_usize(usize::from(byte));
        }
    }

    fn write_usize(&mut self, number: usize) {
        let mixed = (self.0 ^ number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 29);
    }
}
