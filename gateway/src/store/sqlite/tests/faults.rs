//! Full disks and locked files: nothing half stored, and recovery without a restart.

use std::process::Command;
use std::time::Instant;

use super::*;

#[test]
fn a_name_of_a_failed_batch_is_not_used_by_the_next() {
    let Opened { folder, mut store } = open();
    store.add_outcomes(BOOT, &outcome_rows(1..2)).unwrap();
    store.connection.pragma_update_and_check(None, "max_page_count", 1, |_| Ok(())).unwrap();
    let row = |seq, name| {
        let name = Some(intern(name));
        Box::new(Row { backend: name, host: "h".repeat(8000).into(), ..outcome_row(seq) })
    };
    let full: Vec<_> = (2..100).map(|seq| row(seq, "lost")).collect();
    assert!(matches!(store.add_outcomes(BOOT, &full), Err(StoreError::Unavailable(_))));
    lift_page_limit(&store);
    store.add_outcomes(BOOT, &[row(2, "other")]).unwrap();
    store.add_outcomes(BOOT, &[row(3, "lost")]).unwrap();
    drop(store);
    let mut store = open_in(folder.path());
    for (seq, name) in [(2, "other"), (3, "lost")] {
        let told = store.outcome(outcome_row(seq).request_id).unwrap().unwrap();
        assert_eq!(told["backend"], name);
    }
}

fn lift_page_limit(store: &Sqlite) {
    let most = i64::from(u32::MAX - 1);
    store.connection.pragma_update_and_check(None, "max_page_count", most, |_| Ok(())).unwrap();
}

/// F12: recovery without a restart, nothing half stored.
#[test]
fn a_full_database_refuses_whole_batches_and_recovers_when_there_is_room() {
    let Opened { folder: _folder, mut store } = open();
    store.installation().unwrap();
    store.add_outcomes(BOOT, &outcome_rows(1..513)).unwrap();
    let pages: i64 =
        store.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store
        .connection
        .pragma_update_and_check(None, "max_page_count", pages + 2, |_| Ok(()))
        .unwrap();
    let full = store.add_outcomes(BOOT, &outcome_rows(513..1025)).unwrap_err();
    assert!(full.to_string().contains("full"), "{full}");
    assert!(matches!(full, StoreError::Unavailable(_)));
    assert_eq!(store.boots().unwrap(), [(BOOT, 512, 512)]);

    lift_page_limit(&store);
    store.add_outcomes(BOOT, &outcome_rows(513..1025)).unwrap();
    assert_eq!(store.boots().unwrap(), [(BOOT, 1024, 1024)]);
    assert_eq!(integrity(&store), "ok");
}

/// The same on a disk that is really full: a small tmpfs, in a mount namespace of its own.
#[test]
fn a_full_disk_refuses_whole_batches_and_recovers_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new("unshare")
        .args([
            "-m",
            "sh",
            "-c",
            "mount -t tmpfs -o size=3m none \"$1\" && exec \"$2\" \"$3\" --exact",
        ])
        .arg("sh")
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .arg(test_name(module_path!(), "child_fills_its_disk"))
        .env("WEIR_TEST_FULL_DISK", folder.path())
        .output();
    let output = match child {
        Ok(output) => output,
        Err(error) => return eprintln!("SKIPPED: no unshare: {error}"),
    };
    let text = String::from_utf8_lossy(&output.stderr);
    if text.contains("unshare failed") || text.contains("mount:") {
        return eprintln!("SKIPPED: not allowed to mount: {text}");
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{text}");
}

#[test]
fn child_fills_its_disk() {
    let Some(folder) = std::env::var_os("WEIR_TEST_FULL_DISK") else { return };
    let folder = Path::new(&folder);
    let mut store = open_in(folder);
    store.installation().unwrap();
    fs::write(folder.join("ballast"), vec![1; 1 << 20]).unwrap();
    let mut next = 1;
    let error = loop {
        match store.add_outcomes(BOOT, &outcome_rows(next..next + 512)) {
            Ok(()) => next += 512,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert_eq!(store.boots().unwrap(), [(BOOT, next - 1, next - 1)]);
    fs::remove_file(folder.join("ballast")).unwrap();
    store.add_outcomes(BOOT, &outcome_rows(next..next + 512)).unwrap();
    store.check().unwrap();
    assert_eq!(store.boots().unwrap(), [(BOOT, next + 511, next + 511)]);
    assert_eq!(integrity(&store), "ok");
}

/// F13.
#[test]
fn a_locked_database_is_unavailable_after_the_timeout_and_then_available_again() {
    let Opened { folder, mut store } = open();
    store.installation().unwrap();
    let other = Connection::open(folder.path().join("weir.db")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let start = Instant::now();
    let locked = store.add_outcomes(BOOT, &outcome_rows(1..3)).unwrap_err();
    assert!(matches!(locked, StoreError::Unavailable(_)), "{locked:?}");
    assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(matches!(store.check(), Err(StoreError::Unavailable(_))));
    // Reading goes on beside a writer.
    assert!(store.boots().unwrap().is_empty());

    other.execute_batch("ROLLBACK").unwrap();
    store.check().unwrap();
    store.add_outcomes(BOOT, &outcome_rows(1..3)).unwrap();
    assert_eq!(store.boots().unwrap(), [(BOOT, 2, 2)]);
}

#[test]
fn after_reopening_everything_works_as_before() {
    let Opened { folder: _folder, mut store } = open();
    store.add_outcomes(BOOT, &outcome_rows(1..3)).unwrap();
    store.reopen().unwrap();
    store.add_outcomes(BOOT, &outcome_rows(2..5)).unwrap();
    assert_eq!(store.boots().unwrap(), [(BOOT, 4, 4)]);
    // What an input/output error leaves behind.
    store.state = Health::InDoubt;
    store.add_outcomes(BOOT, &outcome_rows(5..6)).unwrap();
    assert!(matches!(store.state, Health::Sound));
    assert_eq!(store.boots().unwrap(), [(BOOT, 5, 5)]);
}
