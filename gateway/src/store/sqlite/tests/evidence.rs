//! Evidence: replaced by experiment, deleted when its experiment is over and it is old.

use super::*;
use crate::evidence::EvidenceRow;
use crate::store::{Change, State};

#[test]
fn evidence_is_replaced_and_goes_when_its_experiment_is_over_and_it_is_old() {
    let Opened { folder: _folder, mut store } = open();
    let row = |experiment: &str, at, bytes: &[u8]| EvidenceRow {
        experiment: experiment.into(),
        at,
        bytes: bytes.into(),
    };
    store.set_evidence(&[row("over", 10, &[1]), row("runs", 10, &[2])]).unwrap();
    store.set_evidence(&[row("over", 20, &[3])]).unwrap();
    let both = [row("over", 20, &[3]), row("runs", 10, &[2])];
    assert_eq!(store.evidence().unwrap(), both);

    let ends = RevisionRow { state: State::Ended, ..revision_row("over", 2) };
    let revisions = [revision_row("over", 1), ends, revision_row("runs", 1)];
    let revisions = revisions.into_iter().map(|row| (row, audit_row("weights.set"))).collect();
    store.add_change(&Change { revisions, ..Change::default() }).unwrap();
    assert!(store.delete_evidence(20).unwrap().is_empty(), "it is not old enough");
    assert_eq!(store.delete_evidence(21).unwrap(), ["over"]);
    assert_eq!(store.evidence().unwrap(), both[1..]);
}
