//! Who is who over reloads and restarts, and what counts.

use policies::evidence::{Event, UnitKind};
use policies::statistics::rule;

use super::*;
use crate::recorder::row::Micros;

fn known(names: &[&str]) -> Known {
    let mut known = Known::new(UnitKind::Request);
    for name in names {
        known.number_or_new(name, "backend");
    }
    known.kept.dealt.insert(1, (1_000_000, vec![5_000, 5_000]));
    known
}

fn book(names: &[&str]) -> EvidenceBook {
    let book = EvidenceBook::default();
    book.known.write().insert("int8", Arc::new(Mutex::new(known(names))));
    book
}

fn row(variant: Name, outcome: Outcome) -> Row {
    Row {
        seq: 1,
        experiment: Some("int8"),
        revision: 1,
        variant: Some(variant),
        outcome: Some(outcome),
        eligible: true,
        unit_hash: fastrand::u64(..),
        status: 200,
        t_total: Micros::from_micros(20_000),
        ..Row::default()
    }
}

fn exposures(book: &EvidenceBook) -> (u64, u64) {
    book.with("int8", |evidence| (evidence.exposures(0), evidence.exposures(1))).unwrap()
}

#[test]
fn only_what_the_hash_dealt_counts() {
    let book = book(&["stable", "canary"]);
    book.add([&row("stable", Outcome::Ok), &row("canary", Outcome::Timeout)]);
    assert_eq!(exposures(&book), (1, 1));
    book.add([
        &Row { eligible: false, ..row("canary", Outcome::Ok) },
        &Row { outcome: None, ..row("canary", Outcome::Ok) },
        &Row { experiment: Some("other"), ..row("canary", Outcome::Ok) },
        &Row { variant: Some("nobody"), ..row("canary", Outcome::Ok) },
    ]);
    assert_eq!(exposures(&book), (1, 1));
    let shares = book.with("int8", |evidence| evidence.epochs()[&1].shares.clone()).unwrap();
    assert_eq!(shares, Some(vec![5_000, 5_000]), "said with the first exposure");
}

#[test]
fn a_rescue_is_a_failure_of_the_variant_that_needed_it() {
    let book = book(&["stable", "canary"]);
    book.add([&Row { served: Some("stable"), ..row("canary", Outcome::Ok) }]);
    let failed = book.with("int8", |evidence| evidence.events(Event::Failed, 1, 0)).unwrap();
    assert_eq!((failed[0].treated, failed[0].control), (1, 0));
}

#[test]
fn feedback_is_filed_where_the_exposure_was_dealt() {
    let book = book(&["stable", "canary"]);
    assert!(book.credited("int8", (1, "canary", 7), "thumbs_up", 1.0));
    assert!(!book.credited("int8", (9, "canary", 7), "thumbs_up", 1.0), "no such revision");
    assert!(!book.credited("int8", (1, "nobody", 7), "thumbs_up", 1.0));
    assert!(!book.credited("other", (1, "canary", 7), "thumbs_up", 1.0));
    assert!(!book.credited("int8", (1, "canary", 7), "thumbs_up", f64::NAN));
}

#[test]
fn what_is_saved_comes_back_and_what_is_not_evidence_does_not() {
    let before = book(&["stable", "canary"]);
    assert!(before.unsaved(true).is_empty(), "nothing was counted");
    before.add([&row("canary", Outcome::UpstreamReset)]);
    before.with_known("int8", |known| {
        known.remember(1, &Metric::Failed, rule::Reached { harm: 3.0, above_floor: 1.0 });
        known.sample_ratio([2.0, 0.0, 0.0]);
    });
    let rows = before.unsaved(false);
    assert_eq!(rows.len(), 1);
    assert!(before.unsaved(false).is_empty(), "nothing has changed since");

    let after = EvidenceBook::default();
    let broken = EvidenceRow { experiment: "broken".into(), at: 0, bytes: vec![1, 2, 3] };
    let unreadable = after.restore(rows.into_iter().chain([broken]).collect());
    assert_eq!(unreadable, ["broken"]);
    assert_eq!(exposures(&after), (0, 1));
    after.with_known("int8", |known| {
        assert_eq!(known.variants(), ["stable", "canary"]);
        assert!((known.reached(1, &Metric::Failed).harm - 3.0).abs() < 1e-12);
        assert!((known.kept.sample_ratio[0].log_e - 2.0).abs() < 1e-12);
        assert_eq!((known.began(1), known.in_force_at(0)), (Some(1_000_000), Some(1)));
    });
    // What was not saved after all is taken again.
    before.not_saved();
    assert_eq!(before.unsaved(false).len(), 1);
}

#[test]
fn a_fresh_start_forgets_counts_but_not_who_is_who() {
    let book = book(&["stable", "canary"]);
    book.add([&row("canary", Outcome::Timeout)]);
    assert_eq!(book.unsaved(false).len(), 1);
    assert!(book.begin_anew("int8"));
    assert_eq!(exposures(&book), (0, 0));
    assert_eq!(book.unsaved(true).len(), 1, "that nothing is known any more is saved too");
    book.add([&row("canary", Outcome::Ok)]);
    assert_eq!(exposures(&book), (0, 1));
}

#[test]
fn what_had_begun_before_a_fresh_start_is_forgotten_too() {
    let book = book(&["stable", "canary"]);
    let begun = |count| {
        book.with_known("int8", |known| {
            known.count_begun(1, "canary", count);
            let epoch = known.evidence.epochs().get(&1);
            epoch.and_then(|epoch| epoch.variants.get(&1)).map_or(0, |tally| tally.begun)
        })
        .unwrap()
    };
    assert_eq!(begun(10), 10);
    assert!(book.begin_anew("int8"));
    assert_eq!(begun(10), 0);
    assert_eq!(begun(13), 3);
}
