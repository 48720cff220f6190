use super::*;
use crate::admin::live::second::{Experiment, Quantiles};
use crate::admin::rates::Counts;

fn numbers(name: &str, requests: u64, failures: u64, p95: Bucket) -> Numbers {
    Numbers {
        name: name.to_owned(),
        counts: Counts { requests, failures, begun: requests, refused: 0 },
        quantiles: Quantiles { p50: p95, p95, p99: p95, first_byte_p95: None },
        in_flight: 0,
    }
}

/// A second in which stable has three requests for each one of canary, and none of them fails.
fn second(at_unix: i64, canary: u64) -> Second {
    let bucket = (canary > 0).then_some(460);
    Second {
        at_unix,
        micros: 1_000_000,
        gateway: Counts { requests: 4 * canary, failures: 0, begun: 0, refused: 1 },
        routes: vec![numbers("chat", 4 * canary, 0, bucket)],
        experiments: vec![Experiment {
            name: "int8".into(),
            route: "chat".into(),
            variants: vec![
                numbers("stable", 3 * canary, 0, bucket),
                numbers("canary", canary, canary, bucket),
            ],
        }],
        shadows: Vec::new(),
    }
}

fn all() -> Filter {
    Filter::default()
}

fn told(history: &History, after: i64, step: u32) -> Past {
    history.told(after, step, &all(), String::new())
}

fn canary(past: &Past) -> &VariantPast {
    &past.experiments.0[0].1.variants.0[1].1
}

#[test]
fn seconds_come_back_as_they_were_and_nothing_is_null_and_not_zero() {
    let mut history = History::default();
    history.push(&second(100, 2));
    history.push(&second(101, 0));
    let past = told(&history, 0, 1);
    assert_eq!((past.from_unix, past.to_unix, past.step), (100, 101, 1));
    assert_eq!(past.at_unix, [100, 101]);
    let route = &past.routes.0[0].1;
    assert_eq!(route.rate, [Some(8.0), Some(0.0)]);
    assert_eq!(route.failed, [Some(0.0), None]);
    assert_eq!(route.p95, [Some(1.0), None]);
    let canary = canary(&past);
    assert_eq!(canary.assigned_share, [Some(0.25), None]);
    assert_eq!(canary.failed, [Some(1.0), None]);
    assert_eq!(past.gateway.unwrap().rejected, [Some(1.0), Some(1.0)]);
}

#[test]
fn what_was_seen_is_not_told_again_and_a_step_adds_up_seconds() {
    let mut history = History::default();
    for at in 1..=10 {
        history.push(&second(at, u64::try_from(at).unwrap()));
    }
    assert_eq!(told(&history, 8, 1).at_unix, [9, 10]);
    let past = told(&history, 0, 5);
    assert_eq!(past.at_unix, [5, 10]);
    assert_eq!(canary(&past).rate, [Some(3.0), Some(8.0)], "15 in five seconds, then 40");
    assert_eq!(told(&history, 10, 1).at_unix, [] as [i64; 0]);
}

#[test]
fn it_never_holds_more_than_fifteen_minutes_and_forgets_who_is_gone() {
    let mut history = History::default();
    for at in 1..=2_000 {
        history.push(&second(at, 1));
    }
    let past = told(&history, 0, 1);
    assert_eq!((past.at_unix.len(), past.from_unix, past.to_unix), (KEPT, 1_101, 2_000));
    assert!(canary(&past).rate.iter().all(|rate| *rate == Some(1.0)));

    let gone = Second { experiments: Vec::new(), ..second(2_001, 1) };
    history.push(&gone);
    history.push(&second(2_002, 7));
    let past = told(&history, 1_999, 1);
    assert_eq!(past.at_unix, [2_000, 2_001, 2_002]);
    assert_eq!(canary(&past).rate, [None, None, Some(7.0)], "not what had its place before");
}

#[test]
fn a_second_that_took_longer_is_no_higher_rate_and_a_gap_is_no_second() {
    let mut history = History::default();
    history.push(&second(100, 1));
    history.push(&Second { micros: 4_000_000, ..second(104, 2) });
    let past = told(&history, 0, 1);
    assert_eq!(past.at_unix, [100, 104]);
    assert_eq!(past.routes.0[0].1.rate, [Some(4.0), Some(2.0)]);
}

#[test]
fn a_clock_that_goes_back_begins_anew() {
    let mut history = History::default();
    history.push(&second(1_000, 1));
    history.push(&second(400, 1));
    assert_eq!(told(&history, 0, 1).at_unix, [400]);
}

#[test]
fn a_filter_keeps_its_own_and_the_route_of_an_experiment() {
    let mut history = History::default();
    let mut both = second(1, 1);
    both.routes.push(numbers("embed", 1, 0, None));
    both.experiments.push(Experiment {
        name: "other".into(),
        route: "embed".into(),
        variants: vec![numbers("stable", 1, 0, None)],
    });
    history.push(&both);
    let names = |filter: &Filter| {
        let past = history.told(0, 1, filter, String::new());
        let of = |names: Vec<String>| names.join(" ");
        (
            of(past.routes.0.into_iter().map(|(name, _)| name).collect()),
            of(past.experiments.0.into_iter().map(|(name, _)| name).collect()),
        )
    };
    assert_eq!(names(&all()), ("chat embed".into(), "int8 other".into()));
    let route = Filter { route: Some("embed".into()), ..all() };
    assert_eq!(names(&route), ("embed".into(), "other".into()));
    let of_experiment = Some("chat".to_owned());
    let experiment = Filter { experiment: Some("int8".into()), of_experiment, ..all() };
    assert_eq!(names(&experiment), ("chat".into(), "int8".into()));
}
