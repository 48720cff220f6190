use std::sync::Arc;
use std::time::Duration;

use policies::comparison::{Found, How, Missing};

use super::kept::KeptBody;
use super::pair::{Live, Side, Times};
use super::*;

fn compare(how: How) -> Arc<Compare> {
    Arc::new(Compare { how, answer_bytes: 1 << 10, agreement: 0.95, min_pairs: 10, samples: None })
}

fn side(room: &Arc<Room>, status: u16, millis: u64) -> Side {
    let time = Some(Duration::from_millis(millis));
    Side {
        status,
        failed: status == 0 || status >= 500,
        times: Times { first_byte: time, first_piece: None, end: time },
        body: KeptBody::missing(room, Missing::Unwanted),
    }
}

/// A pair of `known`'s revision at this moment.
fn pair(all: &Comparisons, known: &Arc<Known>, subject: &str, copy: u16) -> Pair {
    let live = Live {
        side: side(&all.room, 200, 10),
        void: None,
        backend: "live",
        request_id: [7; 16],
        started: 5,
    };
    Pair {
        shadow: Arc::clone(known),
        revision: known.revision(),
        subject: subject.into(),
        compare: compare(How::Status),
        live: Arc::new(live),
        copy: side(&all.room, copy, 12),
        request: None,
    }
}

fn add(all: &Comparisons, known: &Arc<Known>, subject: &str, copy: u16) -> Option<Found> {
    known.add(&How::Status, &pair(all, known, subject, copy))
}

#[test]
fn another_subject_begins_anew_and_the_same_goes_on() {
    let all = Comparisons::default();
    let known = all.adopt("next");
    assert!(Arc::ptr_eq(&known, &all.adopt("next")));
    assert!(known.open("a") && !known.open("a"));
    assert_eq!(add(&all, &known, "a", 200), Some(Found::Agree(None)));
    let late = pair(&all, &known, "a", 200);
    assert!(known.open("b"));
    assert_eq!(known.add(&How::Status, &late), None, "it belongs to what was compared before");
    // A request that still sees the old snapshot.
    assert_eq!(add(&all, &known, "a", 200), None);
    assert!(add(&all, &known, "b", 500).is_some());
    let (_, kept) = known.look();
    assert_eq!((kept.revision, kept.tally.pairs()), (2, 1));
    assert_eq!(known.counts.outdated.load(Relaxed), 2);
    // What is counted for metrics never falls.
    assert_eq!(known.counts.agree.load(Relaxed), 1);
    assert_eq!(known.begin_anew(), 3);
    assert_eq!(known.look().1.tally.pairs(), 0);
    assert!(!known.open("b"), "it is the same subject");
}

#[test]
fn what_was_saved_goes_on_in_the_next_process() {
    let all = Comparisons::default();
    let known = all.adopt("next");
    assert_eq!(known.unsaved(false), None, "it was never in force");
    known.open("a");
    for copy in [200, 200, 503] {
        add(&all, &known, "a", copy);
    }
    let row = known.unsaved(false).unwrap();
    assert_eq!(known.unsaved(false), None, "nothing has changed");
    known.not_saved();
    assert_eq!(known.unsaved(false).unwrap().bytes, row.bytes);

    let next = Comparisons::default();
    let damaged = ComparisonRow { shadow: "broken".into(), at: 0, bytes: vec![1, 2, 3] };
    assert_eq!(next.restore(&[row, damaged]), ["broken"]);
    let known = next.of("next").unwrap();
    assert!(!known.open("a"));
    add(&next, &known, "a", 200);
    let (_, kept) = known.look();
    assert_eq!((kept.revision, kept.tally.agreed.agreed, kept.tally.pairs()), (1, 3, 4));
    assert_eq!(kept.tally.end.pairs(), 3);
}

#[test]
fn a_full_queue_drops_and_counts() {
    let all = Comparisons::default();
    let known = all.adopt("next");
    known.open("a");
    for _ in 0..QUEUE + 3 {
        all.offer(pair(&all, &known, "a", 200));
    }
    assert_eq!(known.counts.dropped.load(Relaxed), 3);
}

#[test]
fn the_subject_is_what_numbers_depend_on() {
    let of = |route, backend, model, how| subject(route, backend, model, &compare(how));
    let said = |at_least| How::Said { at_least };
    let first = of("chat", "next", None, said(0.8));
    assert_eq!(first, of("chat", "next", None, said(0.8)));
    for other in [
        of("other", "next", None, said(0.8)),
        of("chat", "more", None, said(0.8)),
        of("chat", "next", Some("m"), said(0.8)),
        of("chat", "next", None, said(0.9)),
        of("chat", "next", None, How::Status),
    ] {
        assert_ne!(first, other);
    }
    let more = Compare { min_pairs: 5, answer_bytes: 9, ..(*compare(said(0.8))).clone() };
    assert_eq!(first, subject("chat", "next", None, &more));
}
