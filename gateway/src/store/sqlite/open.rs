//! A connection to the file: made, looked over, and brought up to date.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Fault, damage, migrate};
use crate::store::StoreError;

/// `application_id` in the header of our files: `Weir`.
pub(super) const APPLICATION_ID: i64 = 0x5765_6972;

/// Above this, the check at the start leaves the outcomes out: reading all of them would take longer
/// than a start may. Damage there is found when it is met, and stops writing then.
pub(super) const FULL_CHECK_BYTES: u64 = 256 << 20;

/// Everything but the outcomes: small, and what the gateway cannot do without.
pub(super) const CONTROL_TABLES: [&str; 14] = [
    "sqlite_schema",
    "installation",
    "keys",
    "revisions",
    "file_statements",
    "layers",
    "ramps",
    "ramp_decisions",
    "outbox",
    "alerts",
    "audit",
    "boots",
    "names",
    "ways",
];

/// Opens a connection, with `check` after looking over what is there, and brings the schema up to
/// date.
pub(super) fn connect(
    path: &Path,
    busy_timeout: Duration,
    check: bool,
) -> Result<Connection, Fault> {
    let old_bytes = make_private(path).map_err(|error| {
        StoreError::Unavailable(format!("{}: cannot be opened: {error}", path.display()))
    })?;
    // One thread at a time by `&mut`, so SQLite's own mutex guards nothing.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    keep_hands_off(&connection);
    connection.busy_timeout(busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(64);

    // In one transaction: another gateway may be making the same store at this moment, and half of
    // what it does would look like somebody else's database.
    let (version, application, objects) = {
        let seen = connection.transaction()?;
        let version = migrate::version(&seen)?;
        let application: i64 = seen.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let objects: i64 =
            seen.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        seen.commit()?;
        (version, application, objects)
    };
    let empty = version == 0 && objects == 0 && application == 0;
    if !empty && application != APPLICATION_ID {
        return Err(StoreError::Damaged(format!(
            "{}: this is a database of another program. Give [store] url another file",
            path.display()
        ))
        .into());
    }
    if check && !empty {
        look_over(&connection, path, old_bytes)?;
    }

    use_wal(&connection, busy_timeout)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update_and_check(None, "journal_size_limit", 64 << 20, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 1000, |_| Ok(()))?;
    migrate::run(&mut connection)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(connection)
}

/// Makes the file if it is not there, for its owner only; gives its length. SQLite gives its other
/// files (`-wal`, `-shm`) the same mode.
fn make_private(path: &Path) -> io::Result<u64> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(0),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(path.metadata()?.len()),
        Err(error) => Err(error),
    }
}

/// From now on, closing this connection does not fold the write-ahead log into the file.
pub(super) fn keep_hands_off(connection: &Connection) {
    // Only fails for names that this SQLite does not know; then closing does what it always does.
    let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
}

/// Checks the structure: all of a small file, all but the outcomes of a large one.
pub(super) fn look_over(connection: &Connection, path: &Path, bytes: u64) -> Result<(), Fault> {
    let mut complaint = None;
    let mut note = |row: &rusqlite::Row<'_>| {
        let text: String = row.get(0)?;
        if text != "ok" && complaint.is_none() {
            complaint = Some(text);
        }
        Ok(())
    };
    if bytes <= FULL_CHECK_BYTES {
        connection.pragma_query(None, "quick_check", &mut note)?;
    } else {
        for table in CONTROL_TABLES {
            // An earlier schema has fewer.
            if connection.table_exists(None, table)? || table == "sqlite_schema" {
                connection.pragma(None, "quick_check", table, &mut note)?;
            }
        }
    }
    complaint.map_or(Ok(()), |text| Err(StoreError::Damaged(damage(path, &text)).into()))
}

/// Switches to WAL, which stays in the file.
///
/// SQLite does not always wait for a lock here, so two processes that make the same file at the same
/// moment need another try.
fn use_wal(connection: &Connection, busy_timeout: Duration) -> Result<(), Fault> {
    let deadline = crate::clock::now() + busy_timeout;
    loop {
        let mode = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode.eq_ignore_ascii_case("wal") => return Ok(()),
            Ok(mode) => {
                return Err(StoreError::Unavailable(format!(
                    "journal mode is {mode}, not wal: the file system has no shared memory"
                ))
                .into());
            }
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && crate::clock::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
