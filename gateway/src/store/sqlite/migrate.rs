//! Brings the schema up to date: numbered files, forward only, one transaction each (D9).

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{Fault, outcomes};
use crate::store::StoreError;

type Rest = fn(&Transaction<'_>) -> Result<(), Fault>;

/// Number `i` makes schema `i + 1` of schema `i`: what its file says, then what SQL cannot.
const MIGRATIONS: &[(&str, Rest)] = &[
    (include_str!("../migrations/0001.sql"), |_| Ok(())),
    (include_str!("../migrations/0002.sql"), outcomes::move_from_schema_1),
    (include_str!("../migrations/0003.sql"), |_| Ok(())),
    (include_str!("../migrations/0004.sql"), |_| Ok(())),
    (include_str!("../migrations/0005.sql"), |_| Ok(())),
    (include_str!("../migrations/0006.sql"), |_| Ok(())),
    (include_str!("../migrations/0007.sql"), |_| Ok(())),
    (include_str!("../migrations/0008.sql"), |_| Ok(())),
    (include_str!("../migrations/0009.sql"), outcomes::move_from_schema_2),
];

/// The schema this version writes.
pub(super) fn known() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

/// The schema of the file, 0 for an empty one; `Newer` if this version does not know it.
pub(super) fn version(connection: &Connection) -> Result<u32, Fault> {
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known() {
        return Err(StoreError::Newer { found, known: known() }.into());
    }
    Ok(found)
}

/// Runs what is missing.
pub(super) fn run(connection: &mut Connection) -> Result<(), Fault> {
    while version(connection)? < known() {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Asked again under the lock: another process may have been faster.
        let from = version(&transaction)?;
        let next = usize::try_from(from).ok().and_then(|from| MIGRATIONS.get(from));
        let Some((sql, rest)) = next else { continue };
        transaction.execute_batch(sql)?;
        rest(&transaction)?;
        transaction.pragma_update(None, "user_version", from + 1)?;
        transaction.commit()?;
    }
    Ok(())
}
