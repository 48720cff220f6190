//! Messages for webhooks: kept with the entry that they tell of, in its order, once, and bounded.

use super::*;
use crate::store::outbox::{MOST_DEAD, MOST_WAITING, Outbox, Subscriber, Tried};
use crate::webhooks::{Event, Events};

fn subscriber(name: &str, pattern: &str, takes_alerts: bool) -> Subscriber {
    let mut events = Events::default();
    assert!(events.add(pattern));
    Subscriber { name: name.into(), events, takes_alerts }
}

/// Revision `number` of int8, told to `subscribers`.
fn change(number: u64, action: &str, subscribers: &[Subscriber]) -> Change {
    let state = if action == "experiment.stop" { "stopped" } else { "running" };
    let entry = AuditRow {
        at: i64::try_from(number).unwrap(),
        after: json!({ "revision": number, "state": state }),
        ..audit_row(action)
    };
    Change {
        revisions: vec![(revision_row("int8", number), entry)],
        subscribers: subscribers.into(),
        ..Change::default()
    }
}

/// Delivers everything that is due, in its order: what was told.
fn drain(store: &mut Sqlite, webhook: &str) -> Vec<serde_json::Value> {
    let mut told = Vec::new();
    while let Outbox { next: Some(next), .. } = store.outbox(webhook, 0).unwrap() {
        told.push(serde_json::from_str(&next.body).unwrap());
        store.tried_message(webhook, (next.audit, next.event), &Tried::Delivered).unwrap();
    }
    told
}

#[test]
fn what_is_kept_is_told_once_to_whoever_asked_for_it_and_what_is_not_kept_to_nobody() {
    let Opened { folder, mut store } = open();
    store.installation().unwrap();
    let all = [subscriber("a", "*", false), subscriber("b", "ramp.*", false)];
    store.add_change(&change(1, "weights.set", &all)).unwrap();
    // The same again, as after a commit in doubt; and one that is refused.
    store.add_change(&change(1, "weights.set", &all)).unwrap();
    store.add_change(&change(3, "weights.set", &all)).unwrap_err();
    store.add_change(&change(2, "ramp.widen", &all)).unwrap();
    drop(store);
    let mut store = open_in(folder.path());
    let revisions = |told: &[serde_json::Value]| -> Vec<u64> {
        told.iter().map(|told| told["revision"].as_u64().unwrap()).collect()
    };
    let told = drain(&mut store, "a");
    assert_eq!(revisions(&told), [1, 2]);
    assert_eq!((&told[0]["event"], &told[0]["audit"]), (&json!("weights.set"), &json!(1)));
    assert_eq!(told[0]["reason"], "it's '); DROP TABLE audit; --");
    assert_eq!(revisions(&drain(&mut store, "b")), [2]);
    assert_eq!(store.outbox("a", 0).unwrap(), Outbox::default());
}

#[test]
fn a_message_that_is_refused_lets_others_pass_and_one_that_waits_does_not() {
    let Opened { folder: _folder, mut store } = open();
    store.installation().unwrap();
    let all = [subscriber("a", "*", false)];
    for number in 1..=3 {
        store.add_change(&change(number, "weights.set", &all)).unwrap();
    }
    let next = |store: &mut Sqlite, now| {
        let next = store.outbox("a", now).unwrap().next.unwrap();
        (next.audit, next.tries, next.due)
    };
    let again = |due, refused| Tried::Again { due, refused, why: "why".into() };
    let first = (1, Event::WeightsSet);
    store.tried_message("a", first, &again(500, false)).unwrap();
    assert_eq!(next(&mut store, 100), (1, 1, 500), "nothing passes what waits for the receiver");
    store.tried_message("a", first, &again(600, true)).unwrap();
    assert_eq!(next(&mut store, 100), (2, 0, 0));
    assert_eq!(next(&mut store, 600), (1, 2, 600), "its own time has come");
    store.tried_message("a", (2, Event::WeightsSet), &again(700, true)).unwrap();
    store.tried_message("a", (3, Event::WeightsSet), &Tried::Delivered).unwrap();
    assert_eq!(next(&mut store, 100), (1, 2, 600), "the one that is due first");
    store.hurry_messages("a").unwrap();
    assert_eq!(next(&mut store, 0), (1, 2, 0));
    store.tried_message("a", first, &Tried::Dead { at: 9, why: "old".into() }).unwrap();
    let outbox = store.outbox("a", 800).unwrap();
    assert_eq!((outbox.pending, outbox.dead, outbox.oldest), (1, 1, Some(2)));
    // What is gone is left alone.
    store.tried_message("a", (99, Event::WeightsSet), &Tried::Delivered).unwrap();
}

#[test]
fn an_outbox_is_bounded_and_what_is_given_up_is_kept_for_a_while() {
    let Opened { folder: _folder, mut store } = open();
    store.installation().unwrap();
    let all = [subscriber("a", "*", false), subscriber("b", "*", false)];
    let more = u64::from(MOST_WAITING + MOST_DEAD + 7);
    for number in 1..=more {
        store.add_change(&change(number, "weights.set", &all)).unwrap();
    }
    assert_eq!(store.cut_messages("a", 1).unwrap(), u64::from(MOST_DEAD + 7));
    let outbox = store.outbox("a", 1).unwrap();
    assert_eq!((outbox.pending, outbox.dead), (MOST_WAITING.into(), MOST_DEAD.into()));
    assert_eq!(outbox.next.unwrap().audit, u64::from(MOST_DEAD + 7) + 1, "the oldest went");
    assert_eq!(store.cut_messages("a", 1).unwrap(), 0);
    let forgotten = store.forget_messages(&["a".into()], &["int8".into()]).unwrap();
    assert_eq!(forgotten, [("b".to_owned(), more)]);
    assert_eq!(store.outbox("b", 1).unwrap(), Outbox::default());
    assert_eq!(store.outbox("a", 1).unwrap().pending, u64::from(MOST_WAITING));
}

#[test]
fn what_lasts_is_told_when_it_begins_and_when_it_ends_and_only_then() {
    let Opened { folder, mut store } = open();
    store.installation().unwrap();
    let all = [
        subscriber("events", "sample_ratio.*", false),
        subscriber("alerts", "*", true),
        subscriber("stops", "experiment.stop", true),
    ];
    let seen = |action: &str, at| Change {
        seen: vec![AuditRow { at, after: json!({}), ..audit_row(action) }],
        subscribers: all.as_slice().into(),
        ..Change::default()
    };
    store.add_change(&seen("sample_ratio.cleared", 1)).unwrap();
    store.add_change(&seen("sample_ratio.mismatch", 2)).unwrap();
    store.add_change(&seen("sample_ratio.mismatch", 3)).unwrap();
    drop(store);
    let mut store = open_in(folder.path());
    let lasting = store.lasting().unwrap();
    assert_eq!((lasting.len(), lasting[0].began, &*lasting[0].experiment), (1, 2, "int8"));
    store.add_change(&seen("sample_ratio.mismatch", 4)).unwrap();
    store.add_change(&seen("sample_ratio.cleared", 5)).unwrap();
    store.add_change(&seen("sample_ratio.cleared", 6)).unwrap();
    assert_eq!(store.lasting().unwrap(), []);
    assert_eq!(store.verify_audit().unwrap(), Ok(2), "what is known already leaves no entry");
    let events: Vec<_> =
        drain(&mut store, "events").iter().map(|told| told["event"].clone()).collect();
    assert_eq!(events, [json!("sample_ratio.mismatch"), json!("sample_ratio.cleared")]);
    let alerts = drain(&mut store, "alerts");
    assert_eq!(alerts.len(), 2);
    assert_eq!(alerts[0][0]["labels"], alerts[1][0]["labels"]);
    assert_eq!(
        (&alerts[0][0]["endsAt"], &alerts[1][0]["endsAt"]),
        (&json!(null), &json!("1970-01-01T00:00:00.000005Z"))
    );

    // Who asked for the beginning hears of the end, whatever brought that.
    store.add_change(&change(1, "experiment.stop", &all)).unwrap();
    store.add_change(&change(2, "weights.set", &all)).unwrap();
    let stops = drain(&mut store, "stops");
    assert_eq!(stops.len(), 2, "{stops:?}");
    assert_eq!((stops[1].as_array().unwrap().len(), stops[0][0]["endsAt"].is_null()), (1, true));
    assert!(stops[1][0]["endsAt"].is_string());
    // Of experiments that are no longer in the file nothing lasts.
    store.add_change(&change(3, "experiment.stop", &all)).unwrap();
    store.forget_messages(&["stops".into()], &[]).unwrap();
    assert_eq!(store.lasting().unwrap(), []);
}

/// What waits may be many, and each is looked for by itself.
#[test]
fn the_next_message_is_found_without_sorting_what_waits() {
    let Opened { folder: _folder, store } = open();
    let sql = format!("EXPLAIN QUERY PLAN {}", crate::store::sqlite::outbox::FIRST);
    let mut plan = store.connection.prepare(&sql).unwrap();
    let lines: Vec<String> = plan
        .query_map(params!["a", 5], |row| row.get("detail"))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(lines.iter().all(|line| line.contains("USING PRIMARY KEY")), "{lines:?}");
}
