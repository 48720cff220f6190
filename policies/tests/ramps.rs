//! The laws of ramps that need chance, over fixed seeds. A longer run of the same simulations writes
//! `docs/statistics-report.md`.
#![allow(clippy::unwrap_used, reason = "test code: a panic is how a test fails")]

#[allow(unreachable_pub, reason = "shared with the program that writes the report")]
#[allow(clippy::cast_possible_truncation, reason = "small numbers that are drawn")]
mod simulation;

use policies::evidence::UnitKind;
use policies::guardrail::{Guardrail, Metric};
use policies::ramp::{Action, Phase, Settings};
use simulation::bandit;
use simulation::chance::{Chance, quantile};
use simulation::detection::{GUIDE, time_to_breach};
use simulation::ramp::{HEALTHY, World, run};
use simulation::sticky::false_breach;

/// The most errors there may be among `runs` at `alpha`: three standard errors.
fn most(runs: u32, alpha: f64) -> f64 {
    alpha + 3.0 * (alpha * (1.0 - alpha) / f64::from(runs)).sqrt()
}

fn part(runs: u32, one: impl Fn(u64) -> bool) -> f64 {
    let hits: Vec<u64> = (0..u64::from(runs)).filter(|seed| one(*seed)).collect();
    if !hits.is_empty() {
        eprintln!("seeds: {hits:?}");
    }
    hits.len() as f64 / f64::from(runs)
}

/// Law 4, from requests to decisions: a day's wave, outages of both sides, and all five guardrails.
#[test]
fn a_healthy_ramp_is_hardly_ever_rolled_back() {
    const RUNS: u32 = 24;
    let world = World { stormy: true, every: 30, hours: 5, ..HEALTHY };
    let settings = Settings::default();
    let courses: Vec<_> = (0..u64::from(RUNS)).map(|seed| run(seed, &world, &settings)).collect();
    let ended = |action| {
        courses.iter().filter(|course| course.end.is_some_and(|(end, _)| end == action)).count()
    };
    let rolled_back = ended(Action::RollBack) as f64 / f64::from(RUNS);
    assert!(rolled_back <= most(RUNS, settings.alpha_rollback), "{courses:?}");
    // Where traffic is at the bottom of its wave it takes longer; most are through.
    assert!(ended(Action::Promote) > RUNS as usize / 2, "{courses:?}");
    let held: u32 = courses.iter().map(|course| course.holds).sum();
    assert_eq!(held, 0, "outages that hit both sides are no mismatch: {courses:?}");
}

/// The same with nothing forgiven and no floor.
#[test]
fn a_healthy_ramp_is_hardly_ever_rolled_back_even_if_nothing_is_forgiven() {
    const RUNS: u32 = 24;
    let world = World { stormy: true, every: 30, hours: 2, ..HEALTHY };
    let sharp = Guardrail { tolerance: 0.0, floor: None, ..Guardrail::new(Metric::Failed) };
    let settings = Settings { guardrails: vec![sharp], ..Settings::default() };
    let rolled_back = part(RUNS, |seed| {
        run(seed, &world, &settings).end.is_some_and(|(end, _)| end == Action::RollBack)
    });
    assert!(rolled_back <= most(RUNS, 0.05), "{rolled_back}");
}

/// What is bad is found while few see it.
#[test]
fn a_bad_variant_is_rolled_back_and_never_promoted() {
    let settings = Settings::default();
    for (what, world, breached) in [
        ("fails", World { treated_fails: 0.06, ..HEALTHY }, Metric::Failed),
        ("is slow", World { slower: 2.0, ..HEALTHY }, Metric::LatencyP50),
    ] {
        let world = World { stormy: true, every: 20, hours: 3, ..world };
        for seed in 0..6 {
            let course = run(seed, &world, &settings);
            let end = course.end.map(|(end, _)| end);
            assert_eq!(end, Some(Action::RollBack), "{what}, seed {seed}: {course:?}");
            assert!(course.phase <= Phase::Step(1), "{what}, seed {seed}: {course:?}");
            if breached == Metric::Failed {
                assert_eq!(course.breached, Some(breached.clone()), "seed {seed}");
            }
        }
    }
}

/// Law 5, through evidence and guardrail: the medians of the guide within 20 %.
#[test]
fn harm_is_found_as_soon_as_the_guide_says() {
    let rows = (0..).zip(GUIDE).filter(|(_, (_, medians, ..))| medians[0] < 700.0);
    for (seed, (traffic, medians, _, _)) in rows {
        for (alpha, expected) in [0.01, 0.05].into_iter().zip(medians) {
            let mut chance = Chance::new(seed);
            let mut times: Vec<f64> =
                (0..301).map(|_| time_to_breach(&mut chance, &traffic, alpha).0).collect();
            let got = quantile(&mut times, 0.5);
            // Seconds are whole.
            let allowed = f64::max(0.2 * expected, 1.0);
            assert!((got - expected).abs() <= allowed, "{traffic:?} {alpha}: {got} {expected}");
        }
    }
}

/// A bandit gives most to the best and pays little for finding out, whichever it is.
#[test]
fn a_bandit_finds_the_best_and_pays_less_than_equal_shares() {
    for (fails, best) in [
        (&[0.05, 0.03][..], 1),
        (&[0.03, 0.034], 0),
        (&[0.04, 0.045, 0.025], 2),
        (&[0.02, 0.023, 0.022], 0),
    ] {
        let world = bandit::World { per_second: 50.0, fails, stormy: true, hours: 20 };
        let settings = bandit::settings(fails.len() - 1);
        for seed in 0..4 {
            let course = bandit::run(seed, &world, &settings);
            let most = course.shares.iter().copied().fold(0.0, f64::max);
            assert!(course.shares[best] == most, "{fails:?}, seed {seed}: {course:?}");
            assert!(course.regret < course.regret_of_equal, "{fails:?}, seed {seed}: {course:?}");
            assert!(course.epochs < 60, "{fails:?}, seed {seed}: {course:?}");
        }
    }
}

/// Moving shares, a daily wave and outages roll back no arm that is as good as control.
#[test]
fn a_bandit_hardly_ever_rolls_back_what_is_as_good() {
    const RUNS: u32 = 40;
    let world = bandit::World { per_second: 50.0, fails: &[0.02; 3], stormy: true, hours: 12 };
    let mut settings = bandit::settings(2);
    // As sharp as it gets: nothing is forgiven.
    settings.guardrails[0].tolerance = 0.0;
    settings.guardrails[0].floor = None;
    let rolled_back = part(RUNS, |seed| bandit::run(seed, &world, &settings).rolled_back > 0);
    assert!(rolled_back <= most(RUNS, 0.05), "{rolled_back}");
}

/// And one that is bad is.
#[test]
fn a_bandit_rolls_back_what_is_bad() {
    let world = bandit::World { per_second: 50.0, fails: &[0.02, 0.08], stormy: true, hours: 6 };
    let settings = bandit::settings(1);
    assert_eq!(part(6, |seed| bandit::run(seed, &world, &settings).rolled_back == 1), 1.0);
}

/// Law 7: one client that sends 30 % of the canary's requests and always fails.
#[test]
fn one_noisy_client_rolls_nothing_back_where_units_are_sticky() {
    let sticky = UnitKind::Sticky { rate: 1.0 };
    assert_eq!(part(8, |seed| false_breach(seed, sticky, 600, true)), 0.0);
    assert_eq!(part(2, |seed| false_breach(seed, UnitKind::Request, 600, true)), 1.0);
}
