//! What people said: kept once, found by its key, forgotten with its request.

use super::super::feedback::plans;
use super::*;
use crate::store::{Exposure, FeedbackRow, FeedbackValue};

fn said(id: [u8; 16], value: FeedbackValue) -> FeedbackRow {
    FeedbackRow {
        request_id: id,
        metric: "thumbs_up",
        key_id: "k1".into(),
        id: None,
        value,
        segment: Some(r#"{"country":"de"}"#.into()),
        received_at: 1_700_000_000_000_000,
        exposure: Exposure {
            experiment: "int8",
            revision: 4,
            variant: "canary",
            unit_hash: u64::MAX - 1,
            eligible: true,
            asked_by: Some("k0".into()),
        },
    }
}

#[test]
fn d3_one_answer_is_kept_for_each_request_metric_key_and_id() {
    let Opened { folder: _folder, mut store } = open();
    let first = said([1; 16], FeedbackValue::Number(-0.5));
    let others = [
        FeedbackRow { request_id: [2; 16], ..first.clone() },
        FeedbackRow { metric: "stars", ..first.clone() },
        FeedbackRow { key_id: "k2".into(), ..first.clone() },
        FeedbackRow { id: Some("a".into()), ..first.clone() },
    ];
    let changed = FeedbackRow { value: FeedbackValue::Bool(true), received_at: 9, ..first.clone() };
    let rows: Vec<&FeedbackRow> =
        [&first, &changed].into_iter().chain(&others).chain(&others).collect();
    let new = store.add_feedback(&rows).unwrap();
    assert_eq!(new, [true, false, true, true, true, true, false, false, false, false]);
    assert_eq!(store.add_feedback(&[&first, &others[3]]).unwrap(), [false, false]);

    let kept: (i64, f64, String, i64, i64, String, String) = store
        .connection
        .query_row(
            "SELECT f.kind, f.number, f.segment, f.revision, f.unit_hash, f.asked_by,
                    e.name || '/' || v.name
             FROM feedback AS f JOIN names AS e ON e.id = f.experiment
                                JOIN names AS v ON v.id = f.variant
             WHERE f.request_id = ?1 AND f.metric = 'thumbs_up' AND f.key_id = 'k1' AND f.id = ''",
            [[1_u8; 16].as_slice()],
            |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get(5)?,
                    row.get(6)?,
                ))
            },
        )
        .unwrap();
    let segment = r#"{"country":"de"}"#.to_owned();
    assert_eq!(kept, (1, -0.5, segment, 4, -2, "k0".to_owned(), "int8/canary".to_owned()));
}

#[test]
fn the_oldest_are_deleted_first_and_a_little_at_a_time() {
    let Opened { folder: _folder, mut store } = open();
    let id = |second: u64| crate::ids::RequestId::new(second * 1_000_000_000, second).0;
    let rows: Vec<FeedbackRow> =
        (1..=10).map(|second| said(id(second), FeedbackValue::Bool(true))).collect();
    store.add_feedback(&rows.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(store.delete_feedback(8_000_000, 3).unwrap(), 3);
    assert_eq!(store.delete_feedback(8_000_000, 100).unwrap(), 4);
    assert_eq!(store.delete_feedback(8_000_000, 100).unwrap(), 0);
    let left: Vec<Vec<u8>> = {
        let mut left = store.connection.prepare("SELECT request_id FROM feedback").unwrap();
        left.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(left, [8, 9, 10].map(|second| id(second).to_vec()));
    for (sql, index) in plans() {
        let mut plan = store.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines: Vec<String> = plan
            .query_map(params![&[9_u8; 16][..], 5], |row| row.get("detail"))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert!(lines.iter().any(|line| line.contains(index)), "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains("TEMP B-TREE")), "{lines:?}");
    }
}
