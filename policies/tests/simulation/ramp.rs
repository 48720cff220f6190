//! A ramp from its start to its end.

use policies::Outcome;
use policies::evidence::{Evidence, Exposure, UnitKind};
use policies::guardrail::{MarkWatch, Metric, Tables};
use policies::ramp::{Action, Phase, Reason, Settings, Situation, look, marks_due, start};
use policies::statistics::special::phi_inverse;

use super::chance::Chance;

/// Spread of the logarithm of latencies.
const SIGMA: f64 = 0.6;
/// The classes of latency: more of them where p99 is looked for.
const CLASSES: [f64; 23] = [
    0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.85, 0.9,
    0.95, 0.97, 0.985, 0.99, 0.995, 1.0,
];

/// What the traffic is like.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub per_second: f64,
    pub control_fails: f64,
    pub treated_fails: f64,
    /// How many times as long `T` takes.
    pub slower: f64,
    /// Traffic and latency rise and fall over a day, and fail for five minutes every hour or so, on
    /// both sides alike.
    pub stormy: bool,
    /// Seconds between looks.
    pub every: u64,
    /// After so many hours the simulation ends, whatever the ramp is doing.
    pub hours: u64,
}

pub const HEALTHY: World = World {
    per_second: 100.0,
    control_fails: 0.01,
    treated_fails: 0.01,
    slower: 1.0,
    stormy: false,
    every: 10,
    hours: 12,
};

/// How a ramp went.
#[derive(Clone, Debug)]
pub struct Course {
    /// Its last decision, if it came to an end.
    pub end: Option<(Action, Reason)>,
    /// The guardrail that was breached.
    pub breached: Option<Metric>,
    /// Where it was at the end.
    pub phase: Phase,
    /// Hours until then.
    pub hours: f64,
    /// How often it held.
    pub holds: u32,
    /// Failed answers of `T`.
    pub failed: u64,
}

/// One ramp. The same seed gives the same course.
pub fn run(seed: u64, world: &World, settings: &Settings) -> Course {
    let mut chance = Chance::new(seed);
    let began = 1_800_000_000;
    let mut at = Situation {
        now: began,
        revision: 1,
        share: 0,
        arms: vec![],
        backend: 1,
        drifted: false,
        route_seconds: None,
    };
    let mut evidence = Evidence::new(UnitKind::Request);
    let mut tables = Tables::default();
    let mut watch = MarkWatch::default();
    let (mut state, first) = start(&at, settings);
    let deal = |at: &mut Situation, evidence: &mut Evidence, share: u16| {
        at.revision += 1;
        at.share = share;
        evidence.open(at.revision, &[10_000 - share, share]);
    };
    deal(&mut at, &mut evidence, first.share.unwrap_or(0));
    let phase_of_day = chance.unit();
    let mut outage = chance.wait(1.0 / 3600.0);
    let mut course =
        Course { end: None, breached: None, phase: state.phase, hours: 0.0, holds: 0, failed: 0 };
    while at.now - began < world.hours * 3600 {
        let seconds = (at.now - began) as f64;
        if seconds > outage + 300.0 {
            outage = seconds + chance.wait(1.0 / 3600.0);
        }
        let is_outage = world.stormy && seconds > outage;
        let day = ((seconds / 86_400.0 + phase_of_day) * std::f64::consts::TAU).sin();
        let wave = if world.stormy { 1.0 + 0.8 * day } else { 1.0 };
        let load = if is_outage { 3.0 } else { wave.sqrt() };
        let requests = world.per_second * wave * world.every as f64;
        // Where in its class a latency lies: the same for both sides, and another one at each look,
        // so that no latency is impossible.
        let within = chance.unit();
        let share = f64::from(at.share) / 10_000.0;
        for (variant, part, fails, slower) in [
            (0, 1.0 - share, world.control_fails, 1.0),
            (1, share, world.treated_fails, world.slower),
        ] {
            let fails = if is_outage { 0.2 } else { fails };
            let exposure = |outcome| Exposure {
                revision: at.revision,
                variant,
                outcome,
                ..Exposure::default()
            };
            let failed = chance.poisson(requests * part * fails);
            course.failed += if variant == 1 { failed } else { 0 };
            evidence.add_many(&exposure(Outcome::UpstreamError), failed);
            for class in CLASSES.windows(2) {
                let middle = phi_inverse(class[0] + within * (class[1] - class[0]));
                let micros = 200_000.0 * load * slower * (SIGMA * middle).exp();
                let ended =
                    Exposure { duration_micros: Some(micros as u64), ..exposure(Outcome::Ok) };
                let mean = requests * part * (1.0 - fails) * (class[1] - class[0]);
                evidence.add_many(&ended, chance.poisson(mean));
            }
        }
        at.now += world.every;
        for (slowness, marks) in marks_due(&state, &at, &evidence, settings, &mut watch) {
            evidence.freeze(at.revision, slowness, marks);
        }
        let (next, decision) = look(&state, &at, &evidence, settings, &mut tables);
        state = next;
        course.phase = state.phase;
        course.hours = (at.now - began) as f64 / 3600.0;
        let Some(decision) = decision else { continue };
        course.holds += u32::from(decision.action == Action::Hold);
        if matches!(decision.action, Action::Promote | Action::RollBack) {
            course.end = Some((decision.action, decision.reason));
            let judged = decision.evidence.guardrails.first();
            let is_breach = decision.reason == Reason::Breached;
            course.breached = judged.filter(|_| is_breach).map(|judged| judged.metric.clone());
            break;
        }
        if let Some(share) = decision.share {
            deal(&mut at, &mut evidence, share);
        }
    }
    course
}
