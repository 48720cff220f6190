//! Comparisons: replaced by shadow. Disagreements: bounded, and read only with an audit entry.

use serde_json::json;

use super::*;
use crate::comparison::known::ComparisonRow;
use crate::comparison::sample::DisagreementRow;

#[test]
fn counts_of_a_shadow_are_replaced_and_go_when_it_is_gone_and_they_are_old() {
    let Opened { folder: _folder, mut store } = open();
    let row = |shadow: &str, at, bytes: &[u8]| ComparisonRow {
        shadow: shadow.into(),
        at,
        bytes: bytes.into(),
    };
    store.set_comparisons(&[row("gone", 10, &[1]), row("next", 10, &[2])]).unwrap();
    store.set_comparisons(&[row("gone", 20, &[3])]).unwrap();
    let both = [row("gone", 20, &[3]), row("next", 10, &[2])];
    assert_eq!(store.comparisons().unwrap(), both);
    let keep = ["next".to_owned()];
    assert!(store.delete_comparisons(&keep, 20).unwrap().is_empty(), "it is not old enough");
    assert_eq!(store.delete_comparisons(&keep, 21).unwrap(), ["gone"]);
    assert_eq!(store.comparisons().unwrap(), both[1..]);
}

#[test]
fn t27_what_is_deleted_of_what_people_said_is_overwritten() {
    let Opened { folder, mut store } = open();
    let rows: Vec<_> = (0..200)
        .map(|n| DisagreementRow {
            content: json!({ "said": format!("canary-{n}-{}", "x".repeat(500)) }).to_string(),
            ..disagreement("next", n)
        })
        .collect();
    store.add_disagreements(&rows).unwrap();
    let file = || fs::read(folder.path().join("weir.db")).unwrap();
    let said = |bytes: &[u8]| bytes.windows(7).filter(|part| *part == b"canary-").count();
    // Closing folds the log into the file.
    drop(store);
    assert!(said(&file()) >= 200);
    let mut store = open_in(folder.path());
    store.keep_disagreements(&[("next".into(), 0, 1)]).unwrap();
    drop(store);
    assert_eq!(said(&file()), 1, "one is kept");
}

fn disagreement(shadow: &str, at: i64) -> DisagreementRow {
    let content = json!({ "cause": "content", "at": at }).to_string();
    DisagreementRow { shadow: shadow.into(), at, content }
}

#[test]
fn t27_disagreements_are_bounded_and_every_read_has_its_audit_entry() {
    let Opened { folder: _folder, mut store } = open();
    let rows: Vec<_> = (1..=6).map(|at| disagreement("next", at)).collect();
    store.add_disagreements(&rows).unwrap();
    store.add_disagreements(&[disagreement("other", 9)]).unwrap();
    let read = |store: &mut Sqlite, before, limit| {
        let audit = audit_row("disagreements.read");
        let found = store.disagreements("next", before, limit, &audit).unwrap();
        found.into_iter().map(|each| (each.id, each.at)).collect::<Vec<_>>()
    };
    assert_eq!(read(&mut store, None, 2), [(6, 6), (5, 5)]);
    assert_eq!(read(&mut store, Some(5), 2), [(4, 4), (3, 3)]);
    let audited = store.audit(None, 10).unwrap();
    assert_eq!(audited.len(), 2);
    assert!(audited.iter().all(|entry| entry.row.action == "disagreements.read"));

    // Three, and none from before 5.
    store.keep_disagreements(&[("next".into(), 5, 3), ("other".into(), 0, 1)]).unwrap();
    assert_eq!(read(&mut store, None, 10), [(6, 6), (5, 5)]);
    store.keep_disagreements(&[("next".into(), 0, 1)]).unwrap();
    assert_eq!(read(&mut store, None, 10), [(6, 6)]);
    let audit = audit_row("disagreements.read");
    assert_eq!(store.disagreements("other", None, 10, &audit).unwrap(), []);
    store.keep_disagreements(&[]).unwrap();
    assert_eq!(read(&mut store, None, 10), []);
    // Numbers are not given out again.
    store.add_disagreements(&[disagreement("next", 10)]).unwrap();
    assert_eq!(read(&mut store, None, 10), [(8, 10)]);
}
