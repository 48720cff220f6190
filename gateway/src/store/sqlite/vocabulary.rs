//! The dictionary of names: outcomes carry a number where the operators' vocabulary has a word.

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
    numbers: HashMap<(usize, usize), i64, BuildHasherDefault<AddressHasher>>,
    words: HashMap<i64, String>,
}

impl Vocabulary {
    /// The number of `name`; a new one is added, so this belongs in a writing transaction.
    pub(super) fn number(&mut self, connection: &Connection, name: Name) -> Result<i64, Fault> {
        let address = (name.as_ptr().addr(), name.len());
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

/// The number of `name`, if any row ever carried it.
pub(super) fn find(connection: &Connection, name: &str) -> Result<Option<i64>, Fault> {
    let mut statement = connection.prepare_cached("SELECT id FROM names WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
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
