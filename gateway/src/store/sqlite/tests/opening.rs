//! Making a store, and opening one that is there.

use super::super::open::APPLICATION_ID;
use super::*;

#[test]
fn secrets_are_made_once_and_kept() {
    let Opened { folder, mut store } = open();
    let made = store.installation().unwrap();
    assert_eq!(made.instance.len(), 32);
    assert_ne!(made.pepper, [0; 32]);
    assert_ne!(made.pepper, made.receipt_key);
    drop(store);
    let kept = open_in(folder.path()).installation().unwrap();
    assert_eq!(
        (kept.hash_key, kept.pepper, kept.receipt_key, kept.instance),
        (made.hash_key, made.pepper, made.receipt_key, made.instance)
    );
}

#[test]
#[cfg(unix)]
fn the_files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let mut opened = open();
    opened.store.installation().unwrap();
    let mut files = 0;
    for entry in fs::read_dir(opened.folder.path()).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        files += 1;
    }
    assert_eq!(files, 3);
}

#[test]
fn the_settings_are_the_promised_ones() {
    let Opened { folder: _folder, store } = open();
    let number = |pragma| -> i64 {
        store.connection.pragma_query_value(None, pragma, |row| row.get(0)).unwrap()
    };
    assert_eq!(number("synchronous"), 2);
    assert_eq!(number("foreign_keys"), 1);
    assert_eq!(number("journal_size_limit"), 64 << 20);
    assert_eq!(number("wal_autocheckpoint"), 1000);
    assert_eq!(number("application_id"), APPLICATION_ID);
    let mode: String =
        store.connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}

#[test]
fn those_who_make_a_store_at_the_same_moment_get_the_same_one() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.db");
        let makers: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || Sqlite::open(&path).unwrap().installation().unwrap())
            })
            .collect();
        let made: Vec<_> = makers.into_iter().map(|maker| maker.join().unwrap()).collect();
        assert!(made.iter().all(|each| each.pepper == made[0].pepper));
    }
}

#[test]
fn an_empty_file_becomes_a_store() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("weir.db"), "").unwrap();
    let mut store = open_in(folder.path());
    store.check().unwrap();
    assert!(
        matches!(migrate::version(&store.connection), Ok(version) if version == migrate::known())
    );
}
