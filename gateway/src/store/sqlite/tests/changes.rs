//! Keys, revisions, layers and what the file said: stored whole, with their audit entries, or not at all.

use std::sync::{Arc, Barrier};

use super::*;

#[test]
fn keys_are_kept_and_revoked_with_their_audit_entries() {
    let Opened { folder: _folder, mut store } = open();
    let bare = KeyRow {
        routes: None,
        expires_at: None,
        requests_per_second: None,
        concurrent: None,
        tokens_per_minute: None,
        created_at: 9,
        ..key_row("k2")
    };
    store.add_key(&key_row("k1"), &audit_row("key.create")).unwrap();
    store.add_key(&bare, &audit_row("key.create")).unwrap();
    assert_eq!(store.keys().unwrap(), [key_row("k1"), bare.clone()]);

    let taken = store.add_key(&key_row("k1"), &audit_row("key.create")).unwrap_err();
    assert_eq!(taken.to_string(), "key k1 exists already");
    let missing = store.revoke_key("k3", 9, &audit_row("key.revoke")).unwrap_err();
    assert_eq!(missing.to_string(), "key k3 does not exist");
    store.revoke_key("k1", 8, &audit_row("key.revoke")).unwrap();
    store.revoke_key("k1", 9, &audit_row("key.revoke")).unwrap();
    assert_eq!(store.keys().unwrap()[0], KeyRow { revoked_at: Some(8), ..key_row("k1") });
    // What failed or changed nothing left no entry.
    assert_eq!(store.verify_audit().unwrap(), Ok(3));
    assert_eq!(store.audited(), 3, "what was refused or changed nothing is not counted");
}

/// A change of revisions alone.
fn revisions(rows: &[(RevisionRow, AuditRow)]) -> Change {
    Change { revisions: rows.to_vec(), ..Change::default() }
}

#[test]
fn revisions_are_numbered_without_gaps_and_stored_all_or_none() {
    let Opened { folder: _folder, mut store } = open();
    let audit = audit_row("weights.set");
    let with_audit = |experiment: &str, number| (revision_row(experiment, number), audit.clone());
    let first = [with_audit("int8", 1), with_audit("int8", 2), with_audit("b", 1)];
    store.add_change(&revisions(&first)).unwrap();
    store.add_change(&revisions(&[with_audit("int8", 3)])).unwrap();

    let other = RevisionRow { by: "ada".into(), ..revision_row("int8", 3) };
    let late = revisions(&[with_audit("b", 2), (other, audit.clone())]);
    let taken = store.add_change(&late).unwrap_err();
    assert_eq!(taken.to_string(), "revision 3 of experiment int8 exists already");
    let gap = store.add_change(&revisions(&[with_audit("int8", 5)])).unwrap_err();
    assert_eq!(gap.to_string(), "revision 4 of experiment int8 does not exist");

    assert_eq!(store.experiments().unwrap(), [revision_row("b", 1), revision_row("int8", 3)]);
    let numbers = |rows: Vec<RevisionRow>| rows.iter().map(|row| row.revision).collect::<Vec<_>>();
    assert_eq!(numbers(store.revisions("int8", None, 2).unwrap()), [3, 2]);
    assert_eq!(numbers(store.revisions("int8", Some(2), 2).unwrap()), [1]);
    assert_eq!(numbers(store.revisions("none", None, 2).unwrap()), NONE);
    assert_eq!(store.verify_audit().unwrap(), Ok(4));
    for state in [State::Running, State::Stopped, State::Ended] {
        for source in [Source::File, Source::Api, Source::Ramp] {
            let next = store.revisions("b", None, 1).unwrap()[0].revision + 1;
            let row = RevisionRow { state, source, undoes: None, ..revision_row("b", next) };
            store.add_change(&revisions(&[(row.clone(), audit.clone())])).unwrap();
            assert_eq!(store.revisions("b", None, 1).unwrap(), [row]);
        }
    }
}

#[test]
fn of_those_who_race_for_a_revision_one_gets_it() {
    let Opened { folder, mut store } = open();
    store.add_change(&revisions(&[(revision_row("int8", 1), audit_row("weights.set"))])).unwrap();
    for revision in 2..12 {
        let start = Arc::new(Barrier::new(4));
        let racers: Vec<_> = (0..4)
            .map(|racer| {
                let start = Arc::clone(&start);
                let path = folder.path().join("weir.db");
                std::thread::spawn(move || {
                    let mut store = Sqlite::open(&path).unwrap();
                    let row = RevisionRow { at: racer, ..revision_row("int8", revision) };
                    let row = (row, audit_row("weights.set"));
                    start.wait();
                    store.add_change(&revisions(&[row]))
                })
            })
            .collect();
        let results: Vec<_> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        for result in results.into_iter().filter_map(Result::err) {
            assert!(matches!(result, StoreError::Exists(_)), "{result:?}");
        }
    }
    assert_eq!(store.verify_audit().unwrap(), Ok(11));
}

#[test]
fn what_the_file_says_now_replaces_what_it_said() {
    let Opened { folder: _folder, mut store } = open();
    let pair = |a: &str, b: &str| FileStatement {
        experiment: a.to_owned(),
        split: b.to_owned(),
        whole: Some("{}".to_owned()),
    };
    let says = |pairs: &[_]| Change { statements: Some(pairs.to_vec()), ..Change::default() };
    store.add_change(&says(&[pair("b", "1"), pair("a", "2")])).unwrap();
    assert_eq!(store.file_statements().unwrap(), [pair("a", "2"), pair("b", "1")]);
    store.add_change(&says(&[pair("a", "3")])).unwrap();
    store.add_change(&Change::default()).unwrap();
    assert_eq!(store.file_statements().unwrap(), [pair("a", "3")]);
}

#[test]
fn layers_are_kept() {
    let Opened { folder: _folder, mut store } = open();
    let layer = |slots: &[&str], bytes: &[u8]| Change {
        layers: vec![(
            "ui".into(),
            slots.iter().map(|slot| (*slot).to_owned()).collect(),
            bytes.to_vec(),
        )],
        ..Change::default()
    };
    store.add_change(&layer(&["a", "b"], &[1])).unwrap();
    store.add_change(&layer(&["a"], &[2, 0])).unwrap();
    assert_eq!(store.layers().unwrap(), [("ui".into(), vec!["a".to_owned()], vec![2, 0])]);
}

#[test]
fn a_change_is_kept_whole_or_not_at_all_and_twice_is_once() {
    let Opened { folder: _folder, mut store } = open();
    let whole = Change {
        revisions: vec![
            (revision_row("int8", 1), audit_row("weights.set")),
            (revision_row("b", 1), audit_row("experiment.create")),
        ],
        statements: Some(vec![FileStatement {
            experiment: "int8".into(),
            split: "[]".into(),
            whole: None,
        }]),
        layers: vec![("ui".into(), vec!["int8".into()], vec![1])],
        ..Change::default()
    };
    // The last thing that is written fails, as on a disk that fills up.
    let cut = "CREATE TRIGGER cut BEFORE INSERT ON layers BEGIN SELECT RAISE(ABORT, 'full'); END";
    store.connection.execute_batch(cut).unwrap();
    store.add_change(&whole).unwrap_err();
    assert!(store.experiments().unwrap().is_empty());
    assert!(store.file_statements().unwrap().is_empty());
    assert_eq!(store.verify_audit().unwrap(), Ok(0));

    store.connection.execute_batch("DROP TRIGGER cut").unwrap();
    // Whoever does not know whether it was kept may do it again.
    store.add_change(&whole).unwrap();
    store.add_change(&whole).unwrap();
    assert_eq!(store.experiments().unwrap(), [revision_row("b", 1), revision_row("int8", 1)]);
    assert_eq!(store.layers().unwrap(), whole.layers);
    assert_eq!(store.verify_audit().unwrap(), Ok(2));
    // Also when more has come since, but not with anything else in its place.
    let next = (revision_row("int8", 2), audit_row("weights.set"));
    store.add_change(&revisions(&[next])).unwrap();
    store.add_change(&whole).unwrap();
    let mut other = whole;
    other.revisions[0].0.at += 1;
    let taken = store.add_change(&other).unwrap_err();
    assert_eq!(taken.to_string(), "revision 1 of experiment int8 exists already");
    assert_eq!(store.verify_audit().unwrap(), Ok(3));
}
