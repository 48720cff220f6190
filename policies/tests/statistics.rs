//! The laws of the statistics that need chance: error rates and times to a verdict, over fixed seeds.
//!
//! Only events are simulated, never the requests between them: how many failures come, whose they
//! are, and when, is all that the tests look at. Evidence of harm rises with events of `T` alone, so
//! a look at each of those is a look at every moment.
#![allow(clippy::unwrap_used, reason = "test code: a panic is how a test fails")]

use policies::sketch::{self, Sketch};
use policies::statistics::attribution::{Against, Epoch, Table};
use policies::statistics::rule::{Evidence, Reached, Rule};
use policies::statistics::slowdown::{self, Judged, Mark, Side, slow_events};
use policies::statistics::special::{phi, phi_inverse};
use policies::statistics::{Verdict, floor, threshold};

/// SplitMix64: the same numbers for a seed for ever. Steele, Lea, Flood, OOPSLA 2014.
struct Chance(u64);

impl Chance {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 and 1, never either.
    fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Seconds to the next of events that come so often a second.
    fn wait(&mut self, rate: f64) -> f64 {
        -self.unit().ln() / rate
    }
}

/// What decides about failures, by default: 20 % forgiven, at least 0.2 % failing.
struct Failures {
    harm: Table,
    rule: Rule,
    reached: Reached,
    floor: Option<f64>,
}

impl Failures {
    fn new(tolerance: f64, floor: Option<f64>, alpha: f64) -> Self {
        Self {
            harm: Table::new(Against::AtMost(1.0 + tolerance)),
            rule: Rule { alpha_breach: alpha, alpha_held: 0.05, least: 0 },
            reached: Reached::default(),
            floor,
        }
    }

    /// Whether harm is shown; `treated` is the number of `T`'s requests.
    fn breached(&mut self, epochs: &[Epoch], treated: f64) -> bool {
        let events = epochs.iter().map(|epoch| epoch.treated).sum();
        let evidence = Evidence {
            harm: self.harm.log_e(epochs),
            above_floor: self.floor.map(|p0| floor::log_e_above(events, treated, p0)),
            safe: 0.0,
            below_ceiling: None,
            seen: (1, 1),
        };
        let (verdict, reached) = self.rule.judge(&evidence, self.reached);
        self.reached = reached;
        verdict == Verdict::Breached
    }
}

/// Seconds until harm is shown, looked for every second.
fn time_to_breach(chance: &mut Chance, traffic: &Traffic, alpha: f64) -> f64 {
    let Traffic { per_second, share, control_fails, treated_fails } = *traffic;
    let of_t = per_second * share * treated_fails;
    let of_c = per_second * (1.0 - share) * control_fails;
    let mut failures = Failures::new(0.20, Some(0.002), alpha);
    let mut epochs = [Epoch { pi: share, treated: 0, control: 0 }];
    let mut now = 0.0;
    loop {
        now += chance.wait(of_t + of_c);
        if chance.unit() * (of_t + of_c) >= of_t {
            epochs[0].control += 1;
            continue;
        }
        epochs[0].treated += 1;
        // Those that did not fail, as many as are to be expected.
        let others = per_second * share * (1.0 - treated_fails) * now;
        if failures.breached(&epochs, epochs[0].treated as f64 + others) {
            return f64::max(now.ceil(), 1.0);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Traffic {
    per_second: f64,
    share: f64,
    control_fails: f64,
    treated_fails: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Law 5: the medians that the guide to step lengths rests on, within 20 %.
#[test]
fn harm_is_shown_as_soon_as_the_guide_says() {
    let rows = [
        // requests/s, share of T, C fails, T fails, seconds at alpha 0.01, at 0.05
        (100.0, 0.05, 0.01, 0.03, 121.0, 75.0),
        (100.0, 0.05, 0.01, 0.02, 498.0, 323.0),
        (100.0, 0.05, 0.01, 0.05, 38.0, 25.0),
        (100.0, 0.05, 0.01, 0.10, 11.0, 8.0),
        (100.0, 0.01, 0.01, 0.03, 530.0, 347.0),
        (100.0, 0.25, 0.01, 0.03, 33.0, 21.0),
        (100.0, 0.50, 0.01, 0.03, 28.0, 19.0),
        (10.0, 0.05, 0.01, 0.10, 112.0, 76.0),
        (1000.0, 0.01, 0.01, 0.03, 55.0, 38.0),
        (100.0, 0.05, 0.001, 0.01, 140.0, 95.0),
        (100.0, 0.05, 0.05, 0.10, 103.0, 64.0),
    ];
    for (per_second, share, control_fails, treated_fails, strict, plain) in rows {
        let traffic = Traffic { per_second, share, control_fails, treated_fails };
        for (alpha, expected) in [(0.01, strict), (0.05, plain)] {
            let mut chance = Chance(0x1a_2b);
            let times = (0..301).map(|_| time_to_breach(&mut chance, &traffic, alpha)).collect();
            let got = median(times);
            // Seconds are whole.
            let allowed = f64::max(0.2 * expected, 1.0);
            assert!((got - expected).abs() <= allowed, "{traffic:?} at {alpha}: {got}, {expected}");
        }
    }
}

/// A variant that fails everything is caught within a second or two, by four failures.
#[test]
fn a_variant_that_fails_everything_is_caught_at_once() {
    let traffic =
        Traffic { per_second: 100.0, share: 0.05, control_fails: 0.01, treated_fails: 1.0 };
    let mut chance = Chance(7);
    let times = (0..301).map(|_| time_to_breach(&mut chance, &traffic, 0.01)).collect();
    assert!(median(times) <= 1.0);
}

/// The most false breaches there may be among `runs` at `alpha`: three standard errors.
fn most(runs: u32, alpha: f64) -> f64 {
    alpha + 3.0 * (alpha * (1.0 - alpha) / f64::from(runs)).sqrt()
}

/// An hour in which nothing is wrong; `shares` and how often failures come (a second), minute by
/// minute. Looks at each of `T`'s failures, or only once every so many minutes if there are many
/// epochs.
fn false_breach(
    chance: &mut Chance,
    failures: &mut Failures,
    share: impl Fn(u32) -> f64,
    rate: impl Fn(u32) -> f64,
    looks: Looks,
) -> bool {
    let mut epochs: Vec<Epoch> = Vec::new();
    let mut requests = 0.0;
    for minute in 0..60 {
        let pi = share(minute);
        if epochs.last().is_none_or(|epoch| epoch.pi != pi) {
            epochs.push(Epoch { pi, treated: 0, control: 0 });
        }
        requests += 6000.0 * pi;
        let mut now = chance.wait(rate(minute));
        while now < 60.0 {
            now += chance.wait(rate(minute));
            let last = epochs.last_mut().unwrap();
            if chance.unit() >= pi {
                last.control += 1;
                continue;
            }
            last.treated += 1;
            if looks == Looks::EveryEvent && failures.breached(&epochs, requests) {
                return true;
            }
        }
        if looks == Looks::EveryMinute && failures.breached(&epochs, requests) {
            return true;
        }
    }
    false
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Looks {
    EveryEvent,
    EveryMinute,
}

/// A ramp over an hour.
fn ramp(minute: u32) -> f64 {
    match minute {
        0..15 => 0.01,
        15..30 => 0.05,
        30..45 => 0.25,
        _ => 0.5,
    }
}

/// A day's wave in an hour, and five outages of both sides.
fn wave_with_outages(minute: u32) -> f64 {
    let wave = 0.3 * (1.0 + 0.8 * (f64::from(minute) / 60.0 * std::f64::consts::TAU).sin());
    if minute % 12 == 5 { 4.0 } else { wave }
}

/// Law 4: nothing is wrong, and hardly ever is anything said to be, however often one looks.
#[test]
fn a_healthy_variant_is_hardly_ever_breached() {
    const ALPHA: f64 = 0.05;
    let check = |name: &str, runs: u32, one: &dyn Fn(&mut Chance) -> bool| {
        let mut chance = Chance(0x5eed);
        let false_ones = (0..runs).filter(|_| one(&mut chance)).count();
        let part = false_ones as f64 / f64::from(runs);
        assert!(part <= most(runs, ALPHA), "{name}: {false_ones} of {runs} runs");
    };
    // Nothing forgiven and no floor: as sharp as it gets.
    let sharp = || Failures::new(0.0, None, ALPHA);
    let default = || Failures::new(0.20, Some(0.002), ALPHA);
    let event = Looks::EveryEvent;
    check("steady, sharp", 300, &|chance| {
        false_breach(chance, &mut sharp(), |_| 0.05, |_| 0.5, event)
    });
    check("steady, default", 300, &|chance| {
        false_breach(chance, &mut default(), |_| 0.05, |_| 0.5, event)
    });
    check("outages, sharp", 300, &|chance| {
        false_breach(chance, &mut sharp(), |_| 0.05, wave_with_outages, event)
    });
    check("ramp with outages, sharp", 200, &|chance| {
        false_breach(chance, &mut sharp(), ramp, wave_with_outages, event)
    });
    check("a share that moves every minute, sharp", 200, &|chance| {
        let shares: Vec<f64> = (0..60).map(|_| 0.01 + 0.5 * chance.unit()).collect();
        let share = |minute: u32| shares[minute as usize];
        false_breach(chance, &mut sharp(), share, |_| 0.3, Looks::EveryMinute)
    });
}

/// A variant exactly at a margin passes as harmless in at most 5 % of runs.
#[test]
fn a_variant_at_the_margin_is_hardly_ever_held() {
    let (mut chance, runs) = (Chance(99), 300);
    let (pi, margin) = (0.25, 1.5);
    let theta = pi * margin / (pi * margin + 1.0 - pi);
    let held = |chance: &mut Chance| {
        let mut safe = Table::new(Against::AtLeast(margin));
        let mut epoch = Epoch { pi, treated: 0, control: 0 };
        // Evidence of safety rises with events of `C` alone.
        (0..600).any(|_| {
            if chance.unit() < theta {
                epoch.treated += 1;
                return false;
            }
            epoch.control += 1;
            safe.log_e(&[epoch]) >= threshold(0.05)
        })
    };
    let part = (0..runs).filter(|_| held(&mut chance)).count() as f64 / f64::from(runs);
    assert!(part <= most(runs, 0.05), "{part}");
}

/// Spread of the logarithm of latencies.
const SIGMA: f64 = 0.6;
/// The median latency, in seconds.
const CENTRE: f64 = 0.2;

/// The chance that a latency, slower by a factor, is above a mark.
fn above(mark: Mark, factor: f64) -> f64 {
    phi(-(mark.seconds() / (CENTRE * factor)).ln() / SIGMA)
}

/// Law 5 for slowdowns: log-normal latencies, 100 requests a second, 5 % of them to `T`, a look
/// every five seconds.
#[test]
fn slowness_is_shown_as_soon_as_the_guide_says() {
    let time = |chance: &mut Chance, judged: &Judged, factor: f64| -> f64 {
        let quantile = CENTRE * (SIGMA * phi_inverse(judged.quantile)).exp();
        let mark = Mark::at_objective(quantile);
        let of_t = 5.0 * above(mark.shifted(judged.tolerance), factor);
        let of_c = 95.0 * above(mark, 1.0);
        let mut harm = Table::new(Against::AtMost(1.0));
        let mut epoch = Epoch { pi: 0.05, treated: 0, control: 0 };
        let (mut now, mut look) = (0.0, 5.0);
        loop {
            now += chance.wait(of_t + of_c);
            while now > look {
                if harm.log_e(&[epoch]) >= threshold(0.01) {
                    return look;
                }
                look += 5.0;
            }
            if chance.unit() * (of_t + of_c) < of_t {
                epoch.treated += 1;
            } else {
                epoch.control += 1;
            }
        }
    };
    let rows = [(1.5, [50.0, 38.0, 210.0]), (2.0, [20.0, 10.0, 30.0]), (3.0, [10.0, 5.0, 5.0])];
    for (factor, expected) in rows {
        for (judged, expected) in [slowdown::P50, slowdown::P95, slowdown::P99].iter().zip(expected)
        {
            let mut chance = Chance(0xfeed);
            let got = median((0..101).map(|_| time(&mut chance, judged, factor)).collect());
            // Between two looks lie five seconds.
            let allowed = f64::max(0.2 * expected, 5.0);
            let what = format!("{factor} times, {judged:?}: {got} instead of {expected}");
            assert!((got - expected).abs() <= allowed, "{what}");
        }
    }
}

/// Law 4 for slowdowns, from latencies to verdict: marks are frozen from `C` itself, anew in each
/// epoch, while load makes both sides slower and faster.
#[test]
fn a_variant_that_is_as_fast_is_hardly_ever_called_slow() {
    const RUNS: u32 = 60;
    const ALPHA: f64 = 0.05;
    let slow = |chance: &mut Chance| {
        let latency = |chance: &mut Chance, load: f64| {
            CENTRE * load * (SIGMA * phi_inverse(chance.unit())).exp()
        };
        let mut so_far = Sketch::new();
        for _ in 0..1000 {
            so_far.add(latency(chance, 1.0));
        }
        let mut done: Vec<Epoch> = Vec::new();
        let mut harm = Table::new(Against::AtMost(1.0));
        for (pi, load) in [(0.05, 1.0), (0.25, 3.0), (0.5, 0.5)] {
            let mark = Mark::freeze(&so_far, &slowdown::P95).unwrap();
            let (mut treated, mut control) = (Sketch::new(), Sketch::new());
            for _ in 0..20 {
                for _ in 0..100 {
                    let side = if chance.unit() < pi { &mut treated } else { &mut control };
                    side.add(latency(chance, load));
                }
                let side = |finished| Side { finished, running_above: 0 };
                let events = slow_events(side(&treated), side(&control), pi, mark, 0.0);
                let epochs = [&done[..], &[events]].concat();
                if harm.log_e(&epochs) >= threshold(ALPHA) {
                    return true;
                }
                if treated.total() + control.total() == 2000 {
                    done.push(events);
                }
            }
            so_far.merge(&control);
        }
        false
    };
    let mut chance = Chance(0xc0de);
    let part = (0..RUNS).filter(|_| slow(&mut chance)).count() as f64 / f64::from(RUNS);
    assert!(part <= most(RUNS, ALPHA), "{part}");
    // And the same machinery does find a slowdown: marks are no dead letter.
    let so_far = (0..1000).fold(Sketch::new(), |mut sketch, n| {
        sketch.add(CENTRE * (1.0 + f64::from(n) / 1000.0));
        sketch
    });
    let mark = Mark::freeze(&so_far, &slowdown::P95).unwrap();
    assert!(mark.seconds() < 2.0 * CENTRE * sketch::GAMMA);
}
