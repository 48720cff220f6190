use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::guardrail::{Alphas, Guardrail, Metric, Tables, judge};
use crate::statistics::moments::Moments;
use crate::statistics::rule::Reached;
use crate::statistics::slowdown::Mark;

const STICKY: UnitKind = UnitKind::Sticky { rate: 0.5 };

/// Something that a replica sees.
#[derive(Clone, Debug)]
enum Seen {
    Request(Exposure),
    Feedback { revision: u64, variant: u8, unit: u64, value: f64 },
}

fn exposure() -> impl Strategy<Value = Exposure> {
    let times = (0..3_000_000_u64, proptest::option::of(0..90_000_u64));
    (0..60_u64, 1..8_u64, 0..3_u8, 0..7_u8, times, any::<bool>()).prop_map(
        |(unit, revision, variant, outcome, (duration, token_time), rescued)| Exposure {
            unit: mix64(unit ^ 77),
            revision,
            variant,
            rescued,
            outcome: Outcome::ALL[usize::from(outcome)],
            status_class: outcome % 6,
            duration_micros: Some(duration),
            first_byte_micros: Some(duration / 3),
            token_time_micros: token_time,
            input_tokens: Some(duration / 1000),
            output_tokens: token_time.map(|time| time % 700),
        },
    )
}

fn seen() -> impl Strategy<Value = Seen> {
    let value = prop_oneof![Just(0.0), Just(1.0), -5.0..5.0_f64];
    prop_oneof![
        4 => exposure().prop_map(Seen::Request),
        1 => (1..8_u64, 0..3_u8, 0..60_u64, value).prop_map(|(revision, variant, unit, value)| {
            Seen::Feedback { revision, variant, unit: mix64(unit ^ 77), value }
        }),
    ]
}

/// A replica before the first request: it knows the shares and the marks.
fn replica(unit: UnitKind) -> Evidence {
    let mut evidence = Evidence::new(unit);
    for number in 1..8_u16 {
        let revision = u64::from(number);
        evidence.open(revision, &[9_000 - 1_000 * number, 1_000 * number, 1_000]);
        for (slowness, bucket) in [(Slowness::LatencyP50, 500), (Slowness::FirstByteP95, 450)] {
            evidence.freeze(revision, slowness, Marks::new(Mark { bucket }, [0.15, 1.0]));
        }
    }
    evidence
}

fn take(evidence: &mut Evidence, seen: &Seen) {
    match seen {
        Seen::Request(exposure) => assert!(evidence.add(exposure)),
        Seen::Feedback { revision, variant, unit, value } => {
            assert!(evidence.add_feedback("stars", *revision, *variant, *unit, *value));
        }
    }
}

fn evidence_of(unit: UnitKind, all: &[Seen]) -> Evidence {
    let mut evidence = replica(unit);
    all.iter().for_each(|seen| take(&mut evidence, seen));
    evidence
}

/// Without what floating point may round differently: means become their counts.
fn integers(evidence: &Evidence) -> Evidence {
    let mut evidence = evidence.clone();
    evidence.sequence = 0;
    let count = |mean: &mut MeanTally| {
        let Moments { n, nonzero, .. } = mean.moments;
        mean.moments = Moments { n, nonzero, ..Moments::default() };
        if let Some(groups) = &mut mean.groups {
            *groups = Groups::of_parts(groups.parts().iter().map(|(n, _)| (*n, 0.0)));
        }
    };
    for tally in evidence.epochs.values_mut().flat_map(|epoch| epoch.variants.values_mut()) {
        count(&mut tally.input_tokens);
        count(&mut tally.output_tokens);
        tally.feedback.values_mut().for_each(count);
    }
    evidence
}

fn judgements(evidence: &Evidence) -> Vec<(crate::statistics::Verdict, f64, f64)> {
    let mut guardrails = Guardrail::defaults();
    guardrails.push(Guardrail::new(Metric::FirstByteP95));
    guardrails.push(Guardrail { least: 2, ..Guardrail::new(Metric::Feedback("stars".into())) });
    let alphas = Alphas { breach: 0.4, held: 0.4 };
    let mut tables = Tables::default();
    let judge = |guardrail: &Guardrail| {
        let judged = judge(evidence, 1, 0, guardrail, alphas, Reached::default(), &mut tables);
        (judged.verdict, judged.log_e_harm, judged.log_e_safe)
    };
    guardrails.iter().map(judge).collect()
}

fn unit_kind() -> impl Strategy<Value = UnitKind> {
    prop_oneof![Just(UnitKind::Request), Just(STICKY)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Law 3: replicas, order of messages, repeats and overtaken messages change nothing.
    #[test]
    fn splitting_reordering_and_repeating_changes_no_count_and_no_verdict(
        unit in unit_kind(),
        all in vec((seen(), 0..3_usize), 0..120),
        order in Just((0..9_usize).collect::<Vec<_>>()).prop_shuffle(),
        turned in any::<bool>(),
    ) {
        let mut arrived: Vec<Seen> = all.iter().map(|(seen, _)| seen.clone()).collect();
        let whole = evidence_of(unit, &arrived);
        if turned {
            // On one replica, too, nothing depends on who came first.
            arrived.reverse();
            prop_assert_eq!(integers(&evidence_of(unit, &arrived)), integers(&whole));
        }
        // Three replicas send what they have at three moments each.
        let mut messages: Vec<(u64, Evidence)> = Vec::new();
        for name in 0..3 {
            let own: Vec<Seen> =
                all.iter().filter(|(_, at)| *at == name).map(|(seen, _)| seen.clone()).collect();
            for part in 1..4 {
                let so_far = &own[..own.len() * part / 3];
                messages.push((name as u64, evidence_of(unit, so_far)));
            }
        }
        let mut replicas = Replicas::default();
        for at in order.iter().chain(&order) {
            let (name, evidence) = &messages[*at];
            let source = Source { instance: format!("gateway-{name}").into(), boot: 1 };
            let sent = Evidence::from_bytes(&evidence.to_bytes()).unwrap();
            replicas.receive(source, sent);
        }
        let merged = replicas.merged().unwrap();
        prop_assert_eq!(integers(&merged), integers(&whole));
        for (one, other) in judgements(&merged).into_iter().zip(judgements(&whole)) {
            prop_assert_eq!(one.0, other.0);
            prop_assert!((one.1 - other.1).abs() <= 1e-6 * (1.0 + other.1.abs()));
            prop_assert!((one.2 - other.2).abs() <= 1e-6 * (1.0 + other.2.abs()));
        }
    }

    #[test]
    fn bytes_give_back_the_same_evidence(unit in unit_kind(), all in vec(seen(), 0..80)) {
        let mut evidence = evidence_of(unit, &all);
        evidence.set_cap("stars", 3.0);
        evidence.count_begun(3, 1, 900);
        let bytes = evidence.to_bytes();
        prop_assert_eq!(Evidence::from_bytes(&bytes).unwrap(), evidence);
    }

    #[test]
    fn broken_bytes_are_an_error_and_never_a_panic(
        unit in unit_kind(),
        all in vec(seen(), 0..10),
        at in any::<proptest::sample::Index>(),
        other in any::<u8>(),
        cut in any::<bool>(),
        noise in vec(any::<u8>(), 0..60),
    ) {
        let mut bytes = evidence_of(unit, &all).to_bytes();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
            prop_assert!(Evidence::from_bytes(&bytes).is_err());
        } else {
            bytes[at] = other;
        }
        let _ = Evidence::from_bytes(&bytes);
        let mut garbage = vec![1];
        garbage.extend(noise);
        if let Ok(evidence) = Evidence::from_bytes(&garbage) {
            judgements(&evidence);
        }
    }
}

fn at(revision: u64, variant: u8, unit: u64, outcome: Outcome) -> Exposure {
    Exposure { unit, revision, variant, outcome, ..Exposure::default() }
}

#[test]
fn the_first_form_is_still_read() {
    let mut evidence = replica(UnitKind::Request);
    evidence.epochs.retain(|revision, _| *revision == 1);
    // No event, no unit, no cap; the last epoch ends with marks that were replaced: there is none.
    let mut bytes = evidence.to_bytes();
    let tail = Evidence::new(UnitKind::Request).to_bytes().len() - 4;
    bytes.remove(bytes.len() - tail - 1);
    bytes[0] = 1;
    assert_eq!(Evidence::from_bytes(&bytes), Ok(evidence));
}

#[test]
fn a_newer_form_is_refused_by_its_number() {
    let mut bytes = Evidence::new(UnitKind::Request).to_bytes();
    bytes[0] = 3;
    assert_eq!(Evidence::from_bytes(&bytes), Err(EvidenceFault::Version(3)));
    assert_eq!(Evidence::from_bytes(&[]), Err(EvidenceFault::Broken));
}

#[test]
fn a_busy_client_counts_once_and_a_request_each_time() {
    for (unit, expected) in [(UnitKind::Request, 50), (UnitKind::Sticky { rate: 1.0 }, 1)] {
        let mut evidence = Evidence::new(unit);
        evidence.open(1, &[9_500, 500]);
        for _ in 0..50 {
            evidence.add(&at(1, 1, 42, Outcome::Timeout));
        }
        let events = evidence.events(Event::Failed, 1, 0);
        assert_eq!((events[0].treated, events[0].pi), (expected, 0.05));
        assert_eq!(evidence.trials(1, 0), Some(expected as f64));
        assert_eq!(evidence.exposures(1), 50);
    }
}

#[test]
fn our_own_failures_are_held_against_nobody_but_were_assigned() {
    let mut evidence = Evidence::new(UnitKind::Request);
    evidence.open(1, &[5_000, 5_000]);
    evidence.add(&at(1, 1, 1, Outcome::GatewayError));
    evidence.add(&at(1, 1, 2, Outcome::Ok));
    let tally = &evidence.epochs()[&1].variants[&1];
    assert_eq!((tally.exposures(), tally.failed(), tally.assigned()), (1, 0, 2));
    evidence.count_begun(1, 1, 7);
    evidence.count_begun(1, 1, 5);
    assert_eq!(evidence.epochs()[&1].variants[&1].assigned(), 7);
}

#[test]
fn an_epoch_is_compared_once_its_shares_are_known_and_both_are_open() {
    let mut evidence = Evidence::new(UnitKind::Request);
    evidence.add(&at(3, 1, 1, Outcome::Timeout));
    assert!(evidence.events(Event::Failed, 1, 0).is_empty());
    evidence.open(3, &[9_000, 1_000]);
    assert_eq!(evidence.events(Event::Failed, 1, 0)[0].treated, 1);
    // Said once, it stays.
    evidence.open(3, &[0, 10_000]);
    assert_eq!(evidence.epochs()[&3].share(1), 1_000);
    evidence.open(4, &[0, 10_000]);
    evidence.add(&at(4, 1, 1, Outcome::Timeout));
    assert_eq!(evidence.events(Event::Failed, 1, 0).len(), 1, "nothing to compare with");
}

#[test]
fn what_ended_before_marks_were_frozen_is_not_slow() {
    let mut evidence = Evidence::new(UnitKind::Request);
    evidence.open(1, &[5_000, 5_000]);
    let slow =
        |variant| Exposure { duration_micros: Some(9_000_000), ..at(1, variant, 0, Outcome::Ok) };
    evidence.add(&slow(1));
    evidence.freeze(1, Slowness::LatencyP50, Marks::new(Mark::at_objective(0.1), [0.15]));
    evidence.add_many(&slow(1), 3);
    evidence.add(&slow(0));
    let events = evidence.slow_events(Slowness::LatencyP50, (1, 0), 0.15, Neighbour::Larger);
    assert_eq!((events[0].treated, events[0].control), (3, 1));
    assert_eq!(evidence.slow_exposures(Slowness::LatencyP50, (1, 0)), (3, 1));
    assert_eq!(evidence.latencies(1, Timing::Duration).total(), 4);
}

#[test]
fn old_epochs_lose_their_sketches_and_then_go() {
    let mut evidence = Evidence::new(UnitKind::Request);
    for revision in 1..=MOST_EPOCHS as u64 + 5 {
        evidence.open(revision, &[5_000, 5_000]);
        evidence.add(&Exposure { duration_micros: Some(5), ..at(revision, 0, 1, Outcome::Ok) });
    }
    assert_eq!(evidence.epochs().len(), MOST_EPOCHS);
    assert!(!evidence.add(&at(3, 0, 1, Outcome::Ok)), "too old");
    let sketched = |tally: &VariantTally| tally.latencies.is_some();
    let kept = evidence.epochs().values().filter(|epoch| sketched(&epoch.variants[&0])).count();
    assert_eq!(kept, SKETCHED_EPOCHS);
    // Nothing of the times is lost.
    assert_eq!(evidence.latencies(0, Timing::Duration).total(), MOST_EPOCHS as u64 + 5);
}

#[test]
fn feedback_that_is_no_number_or_of_too_many_kinds_is_refused() {
    let mut evidence = Evidence::new(UnitKind::Request);
    assert!(!evidence.add_feedback("stars", 1, 0, 1, f64::NAN));
    assert!(!evidence.add_feedback("stars", 1, 0, 1, 1e300));
    for name in 0..MOST_METRICS {
        assert!(evidence.add_feedback(&format!("m{name}"), 1, 0, 1, 1.0));
    }
    assert!(!evidence.add_feedback("one more", 1, 0, 1, 1.0));
    evidence.set_cap("m3", 2.0);
    evidence.set_cap("m3", 9.0);
    evidence.add_feedback("m3", 1, 0, 1, 50.0);
    let tally = &evidence.epochs()[&1].variants[&0].feedback["m3"];
    assert_eq!((tally.moments.mean, tally.capped), (1.5, 1));
}

/// The figures at the top of the module.
#[test]
fn a_ramp_is_small_in_the_store() {
    let mut evidence = Evidence::new(UnitKind::sticky(20_000.0));
    for revision in 1..=7 {
        evidence.open(revision, &[9_500, 500]);
        for slowness in Slowness::ALL {
            let marks = Marks::new(Mark::at_objective(0.2), [0.15, 1.0, 0.5, 0.25, 0.35]);
            evidence.freeze(revision, slowness, marks);
        }
        for unit in 0..10_000_u64 {
            let hash = mix64(unit ^ 99);
            evidence.add(&Exposure {
                duration_micros: Some(50_000 + hash % 900_000),
                first_byte_micros: Some(20_000 + hash % 90_000),
                ..at(revision, u8::from(unit % 20 == 0), hash, Outcome::Ok)
            });
        }
    }
    let bytes = evidence.to_bytes().len();
    assert!(bytes < 500_000, "{bytes}");
    assert_eq!(evidence.sampled().len(), 10_000);
}
