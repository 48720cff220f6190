//! Writes `docs/statistics-report.md`: how often verdicts err and how soon they come, measured.
//!
//! `cargo run --release -p weir-benches --bin bench-ramps -- docs/statistics-report.md`; takes some
//! minutes of one core. Seeds are fixed, so that the same code writes the same report.

use std::error::Error;
use std::fmt::Write as _;

use clap::Parser;
use policies::evidence::UnitKind;
use policies::guardrail::{Guardrail, Metric};
use policies::ramp::{Action, Phase, Reason, Settings};

#[path = "../../policies/tests/simulation/mod.rs"]
#[allow(unreachable_pub, reason = "shared with tests")]
#[allow(clippy::cast_possible_truncation, reason = "small numbers that are drawn")]
mod simulation;

use simulation::bandit;
use simulation::chance::{Chance, quantile};
use simulation::detection::{GUIDE, time_to_breach};
use simulation::ramp::{Course, HEALTHY, World, run};
use simulation::sticky::false_breach;

/// Simulates ramps and writes what came of them.
#[derive(Parser)]
struct Asked {
    /// Where to write.
    path: std::path::PathBuf,
    /// How many healthy ramps.
    #[arg(long, default_value_t = 2_000)]
    ramps: u64,
    /// How often each row of the table of detection is run.
    #[arg(long, default_value_t = 1_001)]
    detections: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let asked = Asked::parse();
    let mut out = String::new();
    writeln!(
        out,
        "# How often verdicts err, and how soon they come\n\n\
         Measured by simulation, written by\n\n\
         ```sh\n\
         cargo run --release -p weir-benches --bin bench-ramps -- docs/statistics-report.md\n\
         ```\n\n\
         with fixed seeds. Traffic is a Poisson stream of independent requests; what is simulated is \
         what the gateway does with it: counting, freezing marks, judging, deciding. Method: \
         `policies/src/statistics.rs` and the files beside it.\n"
    )?;
    healthy(&mut out, asked.ramps)?;
    bad(&mut out, asked.ramps / 20)?;
    detection(&mut out, asked.detections)?;
    sticky(&mut out, asked.ramps / 10)?;
    bandits(&mut out, asked.ramps / 20)?;
    std::fs::write(&asked.path, out)?;
    Ok(())
}

fn ended(course: &Course, action: Action) -> bool {
    course.end.is_some_and(|(end, _)| end == action)
}

/// The most errors there may be at a chance of `alpha`: three standard errors.
fn most(runs: u64, alpha: f64) -> f64 {
    alpha + 3.0 * (alpha * (1.0 - alpha) / runs as f64).sqrt()
}

fn percent(part: u64, runs: u64) -> String {
    format!("{:.2} %", 100.0 * part as f64 / runs as f64)
}

fn hours(hours: f64) -> String {
    if hours.is_nan() {
        return "-".to_owned();
    }
    if hours < 2.0 { format!("{:.0} min", hours * 60.0) } else { format!("{hours:.1} h") }
}

fn healthy(out: &mut String, ramps: u64) -> Result<(), Box<dyn Error>> {
    writeln!(
        out,
        "## Healthy ramps\n\n\
         100 requests a second, 1 % of which fail on either side; latency log-normal, sigma 0.6; all \
         steps from 1 % to 98 %, a look every 10 s, at most 12 h. *Stormy*: traffic rises and falls \
         by 80 % over a day, latency with it, and about once an hour everything fails 20 % and takes \
         three times as long for five minutes, on both sides alike. `T` is as good as control, so \
         every rollback is an error; at most 5 % are allowed, and with {ramps} runs {:.2} % may be \
         seen.\n\n\
         | | ramps | rolled back | promoted | not over after 12 h | held for a mismatch | hours to promotion (median, 90 %) |\n\
         |---|---|---|---|---|---|---|",
        100.0 * most(ramps, 0.05)
    )?;
    let stormy = World { stormy: true, ..HEALTHY };
    let sharp = Guardrail { tolerance: 0.0, floor: None, ..Guardrail::new(Metric::Failed) };
    let only_sharp = Settings { guardrails: vec![sharp], ..Settings::default() };
    let defaults = Settings::default();
    for (name, world, settings, ramps) in [
        ("steady, defaults", &HEALTHY, &defaults, ramps / 4),
        ("stormy, defaults", &stormy, &defaults, ramps),
        ("stormy, `failed` alone, nothing forgiven, no floor", &stormy, &only_sharp, ramps),
    ] {
        let courses: Vec<Course> = (0..ramps).map(|seed| run(seed, world, settings)).collect();
        let count = |which: &dyn Fn(&Course) -> bool| {
            courses.iter().filter(|course| which(course)).count() as u64
        };
        let back = count(&|course| ended(course, Action::RollBack));
        let promoted = count(&|course| ended(course, Action::Promote));
        let held = count(&|course| course.holds > 0);
        let mut took: Vec<f64> = courses
            .iter()
            .filter(|course| ended(course, Action::Promote))
            .map(|course| course.hours)
            .collect();
        writeln!(
            out,
            "| {name} | {ramps} | {back} ({}) | {} | {} | {} | {}, {} |",
            percent(back, ramps),
            percent(promoted, ramps),
            percent(ramps - back - promoted, ramps),
            percent(held, ramps),
            hours(quantile(&mut took, 0.5)),
            hours(quantile(&mut took, 0.9)),
        )?;
    }
    writeln!(out)?;
    Ok(())
}

fn bad(out: &mut String, ramps: u64) -> Result<(), Box<dyn Error>> {
    writeln!(
        out,
        "## Bad variants on a ramp\n\n\
         The same, steady, with all defaults; a promotion is an error, of which 5 % are allowed. \
         Outages that hit both sides make them more alike: with those, a difference of half a percent \
         is no longer above the last step's margin.\n\n\
         | `T` | ramps | rolled back | promoted | in step (median) | after (median, 90 %) | failed answers of `T` (median) |\n\
         |---|---|---|---|---|---|---|"
    )?;
    for (name, treated_fails, slower) in [
        ("fails 1.5 % instead of 1 %", 0.015, 1.0),
        ("fails 2 %", 0.02, 1.0),
        ("fails 3 %", 0.03, 1.0),
        ("fails 10 %", 0.10, 1.0),
        ("fails always", 1.0, 1.0),
        ("takes 1.3 times as long", 0.01, 1.3),
        ("takes 1.5 times as long", 0.01, 1.5),
        ("takes twice as long", 0.01, 2.0),
    ] {
        let world = World { treated_fails, slower, ..HEALTHY };
        let settings = Settings::default();
        let courses: Vec<Course> = (0..ramps).map(|seed| run(seed, &world, &settings)).collect();
        let back: Vec<&Course> = courses
            .iter()
            .filter(|course| ended(course, Action::RollBack))
            .inspect(|course| {
                debug_assert!(course.end.is_some_and(|(_, r)| r != Reason::NoTraffic))
            })
            .collect();
        let promoted =
            courses.iter().filter(|course| ended(course, Action::Promote)).count() as u64;
        let mut took: Vec<f64> = back.iter().map(|course| course.hours).collect();
        let mut failed: Vec<f64> = back.iter().map(|course| course.failed as f64).collect();
        let mut phases: Vec<Phase> = back.iter().map(|course| course.phase).collect();
        phases.sort();
        let phase = phases.get(phases.len() / 2).map_or("-".to_owned(), |phase| match phase {
            Phase::WarmUp => "warm-up".to_owned(),
            Phase::Step(step) => format!("step {}", step + 1),
            Phase::Verify => "verify".to_owned(),
            Phase::Bandit => "bandit".to_owned(),
        });
        writeln!(
            out,
            "| {name} | {ramps} | {} | {} | {phase} | {}, {} | {} |",
            percent(back.len() as u64, ramps),
            percent(promoted, ramps),
            hours(quantile(&mut took, 0.5)),
            hours(quantile(&mut took, 0.9)),
            if failed.is_empty() {
                "-".to_owned()
            } else {
                format!("{:.0}", quantile(&mut failed, 0.5))
            },
        )?;
    }
    writeln!(out)?;
    Ok(())
}

fn detection(out: &mut String, runs: u64) -> Result<(), Box<dyn Error>> {
    writeln!(
        out,
        "## How long it takes to see failures\n\n\
         Seconds until the guardrail `failed` (tolerance 20 %, floor 0.2 %) is breached at a constant \
         share, {runs} runs each. In brackets what the guide to step lengths says, which another \
         program had worked out.\n\n\
         | requests/s | share | C fails | T fails | median, alpha 0.01 | median, 0.05 | 90 % by, 0.01 | failed answers of `T` (median) |\n\
         |---|---|---|---|---|---|---|---|"
    )?;
    for (seed, (traffic, medians, most, answers)) in (0..).zip(GUIDE) {
        let at = |alpha: f64| {
            let mut chance = Chance::new(seed);
            let times = (0..runs).map(|_| time_to_breach(&mut chance, &traffic, alpha));
            times.map(|(seconds, failed)| (seconds, failed as f64)).unzip()
        };
        let (mut strict, mut failed): (Vec<f64>, Vec<f64>) = at(0.01);
        let (mut plain, _): (Vec<f64>, Vec<f64>) = at(0.05);
        writeln!(
            out,
            "| {} | {} % | {} % | {:.1} % | {:.0} ({}) | {:.0} ({}) | {:.0} ({}) | {:.0} ({answers}) |",
            traffic.per_second,
            traffic.share * 100.0,
            traffic.control_fails * 100.0,
            traffic.treated_fails * 100.0,
            quantile(&mut strict, 0.5),
            medians[0],
            quantile(&mut plain, 0.5),
            medians[1],
            quantile(&mut strict, 0.9),
            most,
            quantile(&mut failed, 0.5),
        )?;
    }
    writeln!(out, "\nTimes below a second are shown as 1.\n")?;
    Ok(())
}

fn bandits(out: &mut String, runs: u64) -> Result<(), Box<dyn Error>> {
    writeln!(
        out,
        "\n## Bandits\n\n\
         `{{\"mode\": \"bandit\", \"metric\": \"failed\"}}`, 50 requests a second, a period of five minutes, \
         floor 5 %, a day, {runs} runs; traffic, failures and outages as *stormy* above. The best arm can \
         have 90 % less the floors of the others, control 95 % less them. *Settled*: when the best had that, but \
         for 3 points, and kept it. *Regret*: failures more than if the best had served everybody, beside \
         what equal shares would have cost. Where arms are alike nothing can be lost, every rollback is an \
         error, and the last row forgives nothing.\n\n\
         | control and arms fail | arms rolled back | settled within the day | hours until settled (median, 90 %) | share of the best (median) | regret, and of equal shares (median) | moves (median, most) |\n\
         |---|---|---|---|---|---|---|"
    )?;
    let rows: [(&[f64], bool); 8] = [
        (&[0.05, 0.03], false),
        (&[0.03, 0.05], false),
        (&[0.02, 0.018], false),
        (&[0.04, 0.045, 0.025], false),
        (&[0.02, 0.02], false),
        (&[0.02, 0.02, 0.02, 0.02], false),
        (&[0.02, 0.08], false),
        (&[0.02, 0.02, 0.02], true),
    ];
    for (fails, is_sharp) in rows {
        let world = bandit::World { per_second: 50.0, fails, stormy: true, hours: 24 };
        let mut settings = bandit::settings(fails.len() - 1);
        if is_sharp {
            settings.guardrails[0].tolerance = 0.0;
            settings.guardrails[0].floor = None;
        }
        let courses: Vec<_> = (0..runs).map(|seed| bandit::run(seed, &world, &settings)).collect();
        let best = (0..fails.len()).min_by(|a, b| fails[*a].total_cmp(&fails[*b])).unwrap_or(0);
        let are_alike = fails.iter().all(|each| *each == fails[0]);
        let back = courses.iter().filter(|course| course.rolled_back > 0).count() as u64;
        let median = |of: &dyn Fn(&bandit::Course) -> f64| {
            quantile(&mut courses.iter().map(of).collect::<Vec<_>>(), 0.5)
        };
        let mut settled: Vec<f64> = courses.iter().filter_map(|course| course.settled).collect();
        let (when, share, regret) = if are_alike {
            ("-, -".to_owned(), "-".to_owned(), "0".to_owned())
        } else {
            let (half, most) = (quantile(&mut settled, 0.5), quantile(&mut settled, 0.9));
            (
                format!("{}, {}", hours(half), hours(most)),
                format!("{:.0} %", 100.0 * median(&|course| course.shares[best])),
                format!(
                    "{:.0}, {:.0}",
                    median(&|course| course.regret),
                    median(&|course| course.regret_of_equal)
                ),
            )
        };
        let shown: Vec<String> =
            fails.iter().map(|each| format!("{:.1} %", 100.0 * each)).collect();
        writeln!(
            out,
            "| {}{} | {back} ({}) | {} | {when} | {share} | {regret} | {:.0}, {} |",
            shown.join(", "),
            if is_sharp { ", nothing forgiven" } else { "" },
            percent(back, runs),
            if are_alike { "-".to_owned() } else { percent(settled.len() as u64, runs) },
            median(&|course| f64::from(course.moves)),
            courses.iter().map(|course| course.moves).max().unwrap_or(0),
        )?;
    }
    Ok(())
}

fn sticky(out: &mut String, runs: u64) -> Result<(), Box<dyn Error>> {
    writeln!(
        out,
        "## Clients instead of requests\n\n\
         2,000 clients that keep their variant, a few of them a hundred times as busy as most, each \
         failing as often as it does (1 % on average); 5 % of them get `T`, which is as good as \
         control. An hour, a look every minute, alpha 0.05, {runs} runs. *Noisy*: one more client \
         sends 30 % of `T`'s requests, all of which fail.\n\n\
         | counted | breached | breached, with the noisy client |\n\
         |---|---|---|"
    )?;
    for (name, unit) in
        [("affected clients", UnitKind::Sticky { rate: 1.0 }), ("requests", UnitKind::Request)]
    {
        let count =
            |noisy| (0..runs).filter(|seed| false_breach(*seed, unit, 2_000, noisy)).count() as u64;
        writeln!(
            out,
            "| {name} | {} | {} |",
            percent(count(false), runs),
            percent(count(true), runs)
        )?;
    }
    Ok(())
}
