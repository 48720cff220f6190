//! What is damaged or is no store: refused, and left as it is.

use super::super::open::{CONTROL_TABLES, FULL_CHECK_BYTES, look_over};
use super::*;

/// The file, and what lies beside it.
fn bytes_of(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // The index of the log in shared memory is not data.
        .filter(|path| !path.to_string_lossy().ends_with("-shm"))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .filter(|(_, bytes)| !bytes.is_empty())
        .collect();
    files.sort();
    files
}

/// Opens a file that must be refused, and sees that it is as before.
fn refused(folder: &Path) -> StoreError {
    let before = bytes_of(folder);
    let error = Sqlite::open(&folder.join("weir.db")).unwrap_err();
    assert!(before == bytes_of(folder), "changed although refused: {error}");
    error
}

#[test]
fn a_store_of_a_later_version_is_refused_and_left_alone() {
    let Opened { folder, store } = open();
    store.connection.pragma_update(None, "user_version", migrate::known() + 1).unwrap();
    // Leaves its write-ahead log behind, as a crash does.
    keep_hands_off(&store.connection);
    drop(store);
    let error = refused(folder.path());
    let known = migrate::known();
    let text = format!("store has schema {}, this version knows up to {known}", known + 1);
    assert_eq!(error.to_string(), text);
}

#[test]
fn what_is_not_a_store_is_refused_and_left_alone() {
    for bytes in [&b"hello"[..], &[b'x'; 100_000], b"SQLite format 3\0 but not really"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("weir.db"), bytes).unwrap();
        let error = refused(folder.path());
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains("Restore a backup") && text.contains("aside"), "{text}");
    }

    let folder = tempfile::tempdir().unwrap();
    let other = Connection::open(folder.path().join("weir.db")).unwrap();
    other.execute_batch("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)").unwrap();
    drop(other);
    let error = refused(folder.path());
    assert!(error.to_string().contains("another program"), "{error}");

    let missing = Sqlite::open(Path::new("/no/such/folder/weir.db")).unwrap_err();
    assert!(matches!(missing, StoreError::Unavailable(_)), "{missing}");
    let folder = tempfile::tempdir().unwrap();
    let error = Sqlite::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
}

/// A store with every page in the file itself, and the place of one that says `needle`.
fn closed_store(needle: &[u8]) -> (TempDir, PathBuf, usize) {
    let Opened { folder, mut store } = open();
    for number in 0..200 {
        let reason = Some(format!("needle-{number:04}"));
        store.add_audit(&AuditRow { reason, ..audit_row("key.create") }).unwrap();
    }
    store.add_outcomes(BOOT, &outcome_rows(1..2000)).unwrap();
    drop(store);
    let path = folder.path().join("weir.db");
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    (folder, path, at)
}

/// Spoils the page that holds the byte at `at`.
fn spoil(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let page = at / 4096 * 4096;
    bytes[page..page + 64].fill(0xee);
    fs::write(path, bytes).unwrap();
}

/// F14 at start.
#[test]
fn a_damaged_store_is_refused_at_start_and_left_alone() {
    let (folder, path, at) = closed_store(b"needle-0100");
    spoil(&path, at);
    let error = refused(folder.path());
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    assert!(error.to_string().contains("Nothing was changed"), "{error}");
}

/// F14 at run time.
#[test]
fn damage_met_at_run_time_stops_writing_until_the_file_is_whole_again() {
    let (folder, path, at) = closed_store(b"needle-0100");
    let whole = fs::read(&path).unwrap();
    let mut store = open_in(folder.path());
    // The check at the start has read the page already.
    store.connection.execute_batch("PRAGMA shrink_memory").unwrap();
    spoil(&path, at);
    let before = bytes_of(folder.path());
    let met = store.verify_audit().unwrap_err();
    assert!(matches!(met, StoreError::Damaged(_)), "{met}");
    let next = store.add_outcomes(BOOT, &outcome_rows(2000..2001)).unwrap_err();
    assert!(matches!(next, StoreError::Damaged(_)), "{next}");
    assert!(matches!(store.reopen(), Err(StoreError::Damaged(_))));
    assert!(matches!(store.check(), Err(StoreError::Damaged(_))));
    assert!(before == bytes_of(folder.path()), "written to although damaged");

    fs::write(&path, whole).unwrap();
    store.reopen().unwrap();
    store.add_outcomes(BOOT, &outcome_rows(2000..2001)).unwrap();
    assert_eq!(store.boots().unwrap(), [(BOOT, 2000, 2000)]);
}

#[test]
fn a_large_file_is_checked_without_its_outcomes() {
    for (needle, is_refused) in [(&b"needle-0100"[..], true), (b"OpenAI/Python", false)] {
        let (_folder, path, at) = closed_store(needle);
        spoil(&path, at);
        let connection = Connection::open(&path).unwrap();
        assert!(look_over(&connection, &path, FULL_CHECK_BYTES).is_err());
        let large = look_over(&connection, &path, FULL_CHECK_BYTES + 1);
        assert_eq!(large.is_err(), is_refused);
    }
}

#[test]
fn every_table_but_the_outcomes_is_in_the_check_of_a_large_file() {
    let Opened { folder: _folder, store } = open();
    let mut statement = store
        .connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        .unwrap();
    let tables: Vec<String> =
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    for table in tables {
        let checked = CONTROL_TABLES.contains(&table.as_str());
        assert_eq!(
            checked,
            !["outcomes", "tallies", "evidence", "feedback", "comparisons", "disagreements"]
                .contains(&table.as_str()),
            "{table}"
        );
    }
}
