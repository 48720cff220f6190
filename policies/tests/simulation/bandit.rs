//! A bandit over a day: where its shares go, and what that costs.

use policies::Outcome;
use policies::evidence::{Evidence, Exposure, UnitKind};
use policies::guardrail::{Guardrail, Metric, Tables};
use policies::ramp::bandit::Bandit;
use policies::ramp::{Action, Settings, Situation, look, start};

use super::chance::Chance;

/// Seconds between looks.
const EVERY: u64 = 60;

/// What the traffic is like: requests a second in all, and what part of each variant's fails; control
/// first.
#[derive(Clone, Debug)]
pub struct World<'a> {
    pub per_second: f64,
    pub fails: &'a [f64],
    /// Failures and traffic rise and fall over a day, and about once an hour everything fails 20 % for
    /// five minutes, on all sides alike.
    pub stormy: bool,
    pub hours: u64,
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Course {
    /// The last shares, in the order of the world.
    pub shares: Vec<f64>,
    /// Arms that were rolled back.
    pub rolled_back: u32,
    /// Moves.
    pub moves: u32,
    /// Epochs of evidence at the end.
    pub epochs: usize,
    /// Hours until the best one had the most it can have, or nearly.
    pub settled: Option<f64>,
    /// Failures more than if the best one had served everybody.
    pub regret: f64,
    /// The same with equal shares for ever.
    pub regret_of_equal: f64,
}

/// What a bandit over these failures is told: `failed` decides, and guards.
pub fn settings(arms: usize) -> Settings {
    let arms = (1..).take(arms).collect();
    Settings {
        bandit: Some(Bandit { arms, metric: Metric::Failed, ..Bandit::default() }),
        guardrails: vec![Guardrail::new(Metric::Failed)],
        ..Settings::default()
    }
}

/// One bandit. The same seed gives the same course.
pub fn run(seed: u64, world: &World, settings: &Settings) -> Course {
    let mut chance = Chance::new(seed);
    let arms = world.fails.len() - 1;
    let mut shares = vec![0; arms];
    shares.push(10_000);
    let began = 1_800_000_000;
    let mut at = Situation {
        now: began,
        revision: 1,
        share: 0,
        arms: shares,
        backend: 1,
        drifted: false,
        route_seconds: None,
    };
    let mut evidence = Evidence::new(UnitKind::Request);
    let mut tables = Tables::default();
    let (mut state, first) = start(&at, settings);
    let deal = |at: &mut Situation, evidence: &mut Evidence, shares: Vec<u16>| {
        at.revision += 1;
        let mut by_number = shares.clone();
        by_number.rotate_right(1);
        evidence.open(at.revision, &by_number);
        at.arms = shares;
    };
    deal(&mut at, &mut evidence, first.shares);
    let best = world.fails.iter().copied().fold(f64::INFINITY, f64::min);
    let phase_of_day = chance.unit();
    let mut outage = chance.wait(1.0 / 3600.0);
    let mut course = Course {
        shares: Vec::new(),
        rolled_back: 0,
        moves: 0,
        epochs: 0,
        settled: None,
        regret: 0.0,
        regret_of_equal: 0.0,
    };
    while at.now - began < world.hours * 3600 {
        let seconds = (at.now - began) as f64;
        if seconds > outage + 300.0 {
            outage = seconds + chance.wait(1.0 / 3600.0);
        }
        let is_outage = world.stormy && seconds > outage;
        let day = ((seconds / 86_400.0 + phase_of_day) * std::f64::consts::TAU).sin();
        let wave = if world.stormy { 1.0 + 0.8 * day } else { 1.0 };
        let requests = world.per_second * wave * EVERY as f64;
        for (variant, fails) in (0_u8..).zip(world.fails) {
            let place = if variant == 0 { arms } else { usize::from(variant) - 1 };
            let part = f64::from(at.arms[place]) / 10_000.0;
            let fails_now = if is_outage { 0.2 } else { fails * wave };
            let exposure = |outcome| Exposure {
                revision: at.revision,
                variant,
                outcome,
                ..Exposure::default()
            };
            let failed = chance.poisson(requests * part * fails_now);
            let others = chance.poisson(requests * part * (1.0 - fails_now));
            evidence.add_many(&exposure(Outcome::UpstreamError), failed);
            evidence.add_many(&exposure(Outcome::Ok), others);
            let more = if is_outage { 0.0 } else { (fails - best) * wave };
            course.regret += requests * part * more;
            course.regret_of_equal += requests * more / world.fails.len() as f64;
        }
        at.now += EVERY;
        let (next, decision) = look(&state, &at, &evidence, settings, &mut tables);
        state = next;
        if let Some(decision) = decision {
            course.moves += u32::from(decision.action == Action::Move);
            course.rolled_back += u32::from(decision.action == Action::RollBack);
            if !decision.shares.is_empty() {
                deal(&mut at, &mut evidence, decision.shares);
            }
        }
        let mut by_number = at.arms.clone();
        by_number.rotate_right(1);
        course.shares = by_number.iter().map(|share| f64::from(*share) / 10_000.0).collect();
        course.epochs = evidence.epochs().len();
        let leads = world.fails.iter().position(|fails| *fails == best).unwrap_or(0);
        let most =
            if leads == 0 { 1.0 - 0.05 * arms as f64 } else { 0.9 - 0.05 * (arms - 1) as f64 };
        let is_there = course.shares.get(leads).is_some_and(|share| *share >= most - 0.03);
        match (is_there, course.settled) {
            (true, None) => course.settled = Some((at.now - began) as f64 / 3600.0),
            (false, Some(_)) => course.settled = None,
            _ => {}
        }
        if state.is_over() {
            break;
        }
    }
    course
}
