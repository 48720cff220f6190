use super::*;
use crate::Outcome;
use crate::evidence::{Exposure, Marks, UnitKind};
use crate::guardrail::{Guardrail, MarkWatch};
use crate::ramp::{
    Refused, WarmUp, abort, marks_due, pause, promote, promote_arm, restart, resume, start,
};
use crate::statistics::slowdown::Mark;

mod promises;

const START: u64 = 1_800_000_000;

/// A bandit with everything around it.
struct Scene {
    settings: Settings,
    state: State,
    at: Situation,
    evidence: Evidence,
    tables: Tables,
}

/// What a variant does in a period: how many of its requests fail, in a thousand, and how many say yes.
#[derive(Clone, Copy, Default)]
struct Does {
    fails: u64,
    yes: u64,
}

fn fails(fails: u64) -> Does {
    Does { fails, ..Does::default() }
}

fn settings(arms: &[u8], metric: Metric) -> Settings {
    let bandit = Bandit { arms: arms.to_vec(), metric, ..Bandit::default() };
    Settings {
        bandit: Some(bandit),
        warm_up: None,
        // As forgiving as can be, where guardrails are not what is looked at.
        guardrails: vec![Guardrail { tolerance: 50.0, ..Guardrail::new(Metric::Failed) }],
        ..Settings::default()
    }
}

impl Scene {
    fn new(settings: Settings) -> Self {
        Self::of(settings, UnitKind::Request)
    }

    fn of(settings: Settings, unit: UnitKind) -> Self {
        assert_eq!(settings.problems(), []);
        let arms = settings.bandit.as_ref().map_or(0, |bandit| bandit.arms.len());
        let mut shares = vec![0; arms];
        shares.push(10_000);
        let at = Situation {
            now: START,
            revision: 4,
            share: 0,
            arms: shares,
            backend: 1,
            drifted: false,
            route_seconds: None,
        };
        let (state, decision) = start(&at, &settings);
        let evidence = Evidence::new(unit);
        let mut scene = Self { settings, state, at, evidence, tables: Tables::default() };
        scene.apply(&decision);
        scene
    }

    /// Stores a decision, as the gateway would.
    fn apply(&mut self, decision: &Decision) {
        assert_eq!(decision.from_revision, self.at.revision);
        if !decision.shares.is_empty() {
            self.deal(&decision.shares);
        }
    }

    fn deal(&mut self, shares: &[u16]) {
        assert_eq!(shares.iter().sum::<u16>(), 10_000, "{shares:?}");
        self.at.revision += 1;
        self.at.arms = shares.to_vec();
        // Numbers of variants: control is 0.
        let mut dealt = shares.to_vec();
        dealt.rotate_right(1);
        self.evidence.open(self.at.revision, &dealt);
    }

    /// So many requests in all, dealt as shares say; control first.
    fn traffic(&mut self, requests: u64, does: &[Does]) {
        let control = self.at.arms.len() - 1;
        for (variant, does) in (0..).zip(does) {
            let place = if variant == 0 { control } else { usize::from(variant) - 1 };
            let all = requests * u64::from(self.at.arms[place]) / 10_000;
            let failing = all * does.fails / 1_000;
            let revision = self.at.revision;
            for (count, outcome) in [(failing, Outcome::Timeout), (all - failing, Outcome::Ok)] {
                let exposure = Exposure { revision, variant, outcome, ..Exposure::default() };
                self.evidence.add_many(&exposure, count);
            }
            for answer in 0..all * u64::from(does.yes > 0) {
                let yes = answer * does.yes % 1_000 < does.yes;
                let value = f64::from(u8::from(yes));
                self.evidence.add_feedback("stars", revision, variant, answer, value);
            }
        }
    }

    /// So many requests in a minute; a good one of control in any case, since the clock stands still
    /// without.
    fn minute(&mut self, requests: u64, does: &[Does]) {
        self.traffic(requests, does);
        self.evidence.add(&Exposure { revision: self.at.revision, ..Exposure::default() });
        self.at.now += 60;
    }

    /// A period with so many requests and a look a minute, until something is decided.
    fn period(&mut self, requests: u64, does: &[Does]) -> Option<Decision> {
        (0..5).find_map(|_| {
            self.minute(requests / 5, does);
            self.look()
        })
    }

    fn look(&mut self) -> Option<Decision> {
        let mut watch = MarkWatch::default();
        let (state, settings) = (&self.state, &self.settings);
        let due = marks_due(state, &self.at, &self.evidence, settings, &mut watch);
        for (slowness, marks) in due {
            self.evidence.freeze(self.at.revision, slowness, marks);
        }
        let of = (&self.state, &self.at, &self.evidence, &self.settings);
        let (state, decision) = super::super::look(of.0, of.1, of.2, of.3, &mut self.tables);
        let text = serde_json::to_string(&state).unwrap();
        self.state = serde_json::from_str(&text).unwrap();
        if let Some(decision) = &decision {
            let text = serde_json::to_string(&decision).unwrap();
            let again = serde_json::from_str::<Decision>(&text).unwrap();
            assert_eq!((again.action, &again.shares), (decision.action, &decision.shares));
        }
        decision
    }

    /// A period, a look, and what was decided is stored.
    fn step(&mut self, requests: u64, does: &[Does]) -> Option<(Action, Reason, u8)> {
        let decision = self.period(requests, does)?;
        self.apply(&decision);
        Some((decision.action, decision.reason, decision.row))
    }

    fn arms(&self) -> Vec<u16> {
        self.at.arms[..self.at.arms.len() - 1].to_vec()
    }
}

const MOVED: Option<(Action, Reason, u8)> = Some((Action::Move, Reason::Chances, 5));

#[test]
fn shares_go_to_the_arm_that_fails_less_ten_points_a_period_and_end_at_the_floors() {
    let mut scene = Scene::new(settings(&[1], Metric::Failed));
    assert_eq!(scene.at.arms, [500, 9_500], "it begins at the floor");
    let mut path = Vec::new();
    for _ in 0..9 {
        assert_eq!(scene.step(20_000, &[fails(100), fails(25)]), MOVED);
        path.extend(scene.arms());
    }
    assert_eq!(path[..8], [1_500, 2_500, 3_500, 4_500, 5_500, 6_500, 7_500, 8_500]);
    // The last move ends where control has its tenth, or nearly.
    assert!((8_900..=9_000).contains(&path[8]), "{path:?}");
    for _ in 0..5 {
        assert_eq!(scene.step(20_000, &[fails(100), fails(25)]), None, "it is there");
    }
    // And the other way: the one that fails more gets the floor.
    let mut scene = Scene::new(settings(&[1], Metric::Failed));
    scene.deal(&[5_000, 5_000]);
    let path: Vec<u16> = (0..6)
        .map(|_| {
            scene.step(20_000, &[fails(25), fails(100)]);
            scene.arms()[0]
        })
        .collect();
    assert_eq!(path[..4], [4_000, 3_000, 2_000, 1_000]);
    assert!((499..=501).contains(&path[5]), "{path:?}");
}

/// What is better of feedback is said; of times it is less.
#[test]
fn each_metric_knows_which_way_is_better() {
    let by = |better| {
        let mut settings = settings(&[1], Metric::Feedback("stars".into()));
        settings.bandit.as_mut().unwrap().better = better;
        let mut scene = Scene::new(settings);
        scene.deal(&[5_000, 5_000]);
        let liked = [Does { yes: 400, fails: 0 }, Does { yes: 600, fails: 0 }];
        assert_eq!(scene.step(8_000, &liked), MOVED);
        scene.arms()[0]
    };
    assert_eq!((by(Better::Higher), by(Better::Lower)), (6_000, 4_000));

    let mut scene = Scene::new(settings(&[1], Metric::LatencyP50));
    scene.deal(&[5_000, 5_000]);
    scene.evidence.freeze(
        scene.at.revision,
        crate::evidence::Slowness::LatencyP50,
        Marks::new(Mark::at_objective(0.1), [0.15]),
    );
    let times = [(0, 150_000), (0, 150_000), (0, 50_000), (1, 50_000), (1, 50_000), (1, 150_000)];
    for (variant, micros) in times {
        let exposure = Exposure {
            revision: scene.at.revision,
            variant,
            duration_micros: Some(micros),
            ..Exposure::default()
        };
        scene.evidence.add_many(&exposure, 300);
    }
    assert_eq!(scene.step(0, &[]), MOVED);
    assert_eq!(scene.arms()[0], 6_000, "the quicker one gets more");
}

#[test]
fn nothing_moves_before_every_arm_has_200_exposures_and_20_events() {
    // 199 of the arm, then 200.
    let mut scene = Scene::new(settings(&[1], Metric::Failed));
    let add = |scene: &mut Scene, variant, outcome, count| {
        let revision = scene.at.revision;
        let exposure = Exposure { revision, variant, outcome, ..Exposure::default() };
        scene.evidence.add_many(&exposure, count);
        scene.state.mismatch_accepted = true;
    };
    add(&mut scene, 0, Outcome::Timeout, 100);
    add(&mut scene, 0, Outcome::Ok, 900);
    add(&mut scene, 1, Outcome::Timeout, 20);
    add(&mut scene, 1, Outcome::Ok, 179);
    assert_eq!(scene.step(0, &[]), None);
    add(&mut scene, 1, Outcome::Ok, 1);
    scene.at.now += 1;
    assert!(scene.look().is_some(), "as soon as it was seen enough, not a period later");
    // 19 events of each, then 20.
    let mut scene = Scene::new(settings(&[1], Metric::Failed));
    for variant in [0, 1] {
        add(&mut scene, variant, Outcome::Timeout, 19);
        add(&mut scene, variant, Outcome::Ok, 981);
    }
    assert_eq!(scene.step(0, &[]), None);
    assert!(scene.known().iter().all(|arm| !arm.is_enough));
    add(&mut scene, 0, Outcome::Timeout, 1);
    add(&mut scene, 1, Outcome::Timeout, 1);
    assert!(scene.known().iter().all(|arm| arm.is_enough));
}

/// The best of all would be waited for longest.
#[test]
fn an_arm_that_never_fails_is_known_once_it_was_to_have_failed_twenty_times() {
    let mut scene = Scene::new(settings(&[1], Metric::Failed));
    for _ in 0..4 {
        // 50 requests of the arm, of which 2.4 would have failed.
        assert_eq!(scene.step(1_000, &[fails(50), fails(0)]), None);
    }
    let periods = (0..20).find(|_| scene.step(1_000, &[fails(50), fails(0)]) == MOVED);
    assert!(periods.is_some_and(|more| (3..8).contains(&more)), "{periods:?}");
    assert_eq!(scene.arms(), [1_500]);
}

#[test]
fn a_breached_arm_goes_to_0_and_stays_there_while_the_others_go_on() {
    let mut settings = settings(&[1, 2], Metric::Failed);
    settings.guardrails = vec![Guardrail::new(Metric::Failed)];
    let mut scene = Scene::new(settings);
    assert_eq!(scene.at.arms, [500, 500, 9_000]);
    // Twice as many failures as control.
    let does = [fails(50), fails(300), fails(25)];
    let revision = scene.at.revision;
    for (variant, outcome, count) in [
        (0, Outcome::Timeout, 45),
        (0, Outcome::Ok, 855),
        (1, Outcome::Timeout, 15),
        (1, Outcome::Ok, 35),
        (2, Outcome::Ok, 50),
    ] {
        let exposure = Exposure { revision, variant, outcome, ..Exposure::default() };
        scene.evidence.add_many(&exposure, count);
    }
    let decision = scene.look().unwrap();
    assert_eq!(
        (decision.action, decision.reason, decision.row),
        (Action::RollBack, Reason::Breached, 1)
    );
    assert_eq!((decision.arm, &decision.shares[..]), (Some(0), &[0, 500, 9_500][..]));
    assert_eq!(decision.evidence.guardrails[0].metric, Metric::Failed);
    scene.apply(&decision);
    assert_eq!(scene.state.status, Status::Running);
    for _ in 0..12 {
        scene.step(20_000, &does);
        assert_eq!(scene.at.arms[0], 0, "it stays back");
    }
    assert!(scene.at.arms[1] >= 8_900, "{:?}", scene.at.arms);
    assert!(scene.at.arms[2] >= 1_000, "{:?}", scene.at.arms);

    // The last one ends it.
    for _ in 0..12 {
        if scene
            .step(20_000, &[fails(5), fails(0), fails(300)])
            .is_some_and(|(action, ..)| action == Action::RollBack)
        {
            break;
        }
    }
    assert_eq!((scene.state.status, &scene.at.arms[..]), (Status::RolledBack, &[0, 0, 10_000][..]));
    assert_eq!(scene.state.rollbacks, 2);
    let cooling = scene.state.cool_until.unwrap() - scene.at.now;
    assert_eq!(cooling, 3_600, "twice as long the second time");
    assert_eq!(scene.look(), None);
    let refused = restart(&scene.state, &scene.at, &scene.settings, true);
    assert!(matches!(refused, Err(Refused::Cooling { .. })), "{refused:?}");
    scene.at.now += cooling;
    scene.at.backend = 2;
    let decision = scene.look().unwrap();
    assert_eq!((decision.action, decision.reason), (Action::Start, Reason::NewBackend));
    assert_eq!(decision.shares, [500, 500, 9_000]);
}

#[test]
fn an_arm_that_gets_nothing_although_it_should_is_rolled_back() {
    let mut scene = Scene::new(settings(&[1], Metric::Failed));
    let revision = scene.at.revision;
    scene.evidence.add_many(&Exposure { revision, ..Exposure::default() }, 2_000);
    let decision = scene.look().unwrap();
    assert_eq!(
        (decision.action, decision.reason, decision.row),
        (Action::RollBack, Reason::NoTraffic, 2)
    );
}

#[test]
fn warm_up_judges_failures_and_not_times_and_moves_nothing() {
    let mut settings = settings(&[1], Metric::Failed);
    settings.warm_up = Some(WarmUp { share: 100, min_time: 600, min_exposures: 50 });
    let mut scene = Scene::new(settings);
    assert_eq!(scene.step(20_000, &[fails(100), fails(25)]), None);
    assert_eq!(scene.state.phase, Phase::WarmUp);
    assert_eq!(scene.step(20_000, &[fails(100), fails(25)]), None, "now a period begins");
    assert_eq!(scene.state.phase, Phase::Bandit);
    assert_eq!(scene.step(20_000, &[fails(100), fails(25)]), MOVED);
    let mut settings = scene.settings.clone();
    settings.guardrails = vec![Guardrail::new(Metric::Failed)];
    let mut scene = Scene::new(settings);
    scene.period(2_000, &[fails(10), fails(500)]);
    assert_eq!(scene.state.phase, Phase::WarmUp);
    assert_eq!(scene.state.status, Status::RolledBack);
}

#[test]
fn a_pause_freezes_shares_and_judging_goes_on_and_hands_end_it() {
    let does = [fails(100), fails(25)];
    let mut scene = Scene::new(settings(&[1], Metric::Failed));
    scene.step(20_000, &does);
    let hand = |scene: &mut Scene, hand: fn(&State, &Situation, &Settings) -> _| {
        let (state, decision): (State, Decision) =
            Result::unwrap(hand(&scene.state, &scene.at, &scene.settings));
        scene.state = state;
        scene.apply(&decision);
        decision
    };
    hand(&mut scene, pause);
    for _ in 0..4 {
        assert_eq!(scene.step(20_000, &does), None);
    }
    hand(&mut scene, resume);
    assert_eq!(scene.step(20_000, &does), MOVED);
    let mut promoted = Scene {
        tables: Tables::default(),
        settings: scene.settings.clone(),
        state: scene.state.clone(),
        at: scene.at.clone(),
        evidence: scene.evidence.clone(),
    };
    let decision = hand(&mut promoted, promote);
    assert_eq!(
        (decision.arm, promoted.arms(), promoted.state.status),
        (Some(0), vec![10_000], Status::Promoted)
    );
    hand(&mut scene, abort);
    assert_eq!((scene.arms(), scene.state.status), (vec![0], Status::Aborted));
    assert_eq!(scene.look(), None);

    // Of several somebody must say which.
    let mut scene = Scene::new(settings(&[1, 2], Metric::Failed));
    assert_eq!(promote(&scene.state, &scene.at, &scene.settings), Err(Refused::WhichArm));
    let (state, decision) = promote_arm(&scene.state, &scene.at, &scene.settings, 1).unwrap();
    scene.state = state;
    scene.apply(&decision);
    assert_eq!(scene.at.arms, [0, 10_000, 0]);
    assert_eq!(promote(&scene.state, &scene.at, &scene.settings), Err(Refused::Over));
}

#[test]
fn looking_again_decides_the_same_until_it_is_stored_and_then_nothing() {
    let mut scene = Scene::new(settings(&[1], Metric::Failed));
    for _ in 0..4 {
        scene.minute(4_000, &[fails(100), fails(25)]);
        assert_eq!(scene.look(), None, "the period is not over");
    }
    scene.minute(4_000, &[fails(100), fails(25)]);
    let before = scene.state.clone();
    let first = scene.look().unwrap();
    // It was not stored: the old state looks again.
    let after = std::mem::replace(&mut scene.state, before);
    assert_eq!(scene.look().as_ref(), Some(&first));
    assert_eq!(scene.state, after);
    // Stored, but not in force yet; then it is.
    assert_eq!(scene.look(), None);
    scene.apply(&first);
    assert_eq!(scene.look(), None);
    assert_eq!(scene.state.revision, scene.at.revision);
}

#[test]
fn a_mismatch_holds_and_so_does_drift() {
    let mut scene = Scene::new(settings(&[1], Metric::Failed));
    scene.at.drifted = true;
    scene.period(20_000, &[fails(100), fails(25)]);
    assert_eq!(scene.state.holding, Some(Reason::Drift));
    scene.at.drifted = false;
    scene.at.now += 1;
    assert_eq!(scene.look().map(|made| made.action), Some(Action::Resume));
    scene.deal(&[5_000, 5_000]);
    let revision = scene.at.revision;
    scene.evidence.add_many(&Exposure { revision, ..Exposure::default() }, 5_000);
    scene.evidence.add_many(&Exposure { revision, variant: 1, ..Exposure::default() }, 3_000);
    let decision = scene.look().unwrap();
    assert_eq!((decision.action, decision.reason), (Action::Hold, Reason::SampleRatio));
}

/// Somebody who sets weights by hand is followed; an arm that they take to 0 takes no part.
#[test]
fn a_hand_on_the_shares_is_followed() {
    let does = [fails(100), fails(25), fails(25)];
    let mut scene = Scene::new(settings(&[1, 2], Metric::Failed));
    scene.step(20_000, &does);
    scene.deal(&[0, 4_000, 6_000]);
    for _ in 0..8 {
        scene.step(20_000, &does);
        assert_eq!(scene.at.arms[0], 0);
    }
    assert!(scene.at.arms[1] > 8_000, "{:?}", scene.at.arms);
    scene.deal(&[500, 8_000, 1_500]);
    for _ in 0..3 {
        scene.step(20_000, &does);
    }
    assert!(scene.at.arms[0] > 500, "{:?}", scene.at.arms);
}

/// An old world that was the other way round is forgotten, if that is asked for.
#[test]
fn what_decays_is_forgotten() {
    let turned = |decay: f64| {
        let mut settings = settings(&[1], Metric::Failed);
        settings.bandit.as_mut().unwrap().decay = decay;
        let mut scene = Scene::new(settings);
        for _ in 0..4 {
            scene.step(400_000, &[fails(100), fails(25)]);
        }
        scene.at.now += 5 * 86_400;
        for _ in 0..12 {
            scene.step(20_000, &[fails(50), fails(75)]);
        }
        scene.arms()[0]
    };
    assert!(turned(0.9) < 2_000, "{}", turned(0.9));
    assert!(turned(0.0) > 4_000, "{}", turned(0.0));
}

/// Evidence that were let go of would break the promise about all looks together.
#[test]
fn a_bandit_that_moves_for_ever_takes_longer_and_holds_before_evidence_is_let_go_of() {
    let mut scene = Scene::new(settings(&[1], Metric::Failed));
    let mut held = None;
    let mut moves = 0;
    for period in 0..4_000_u64 {
        // The world turns as soon as shares have followed.
        let better = period / 200 % 2 == 0;
        let does = if better { [fails(200), fails(20)] } else { [fails(20), fails(200)] };
        scene.settings.bandit.as_mut().unwrap().decay = 0.999;
        match scene.step(4_000, &does).map(|(action, reason, _)| (action, reason)) {
            Some((Action::Move, _)) => moves += 1,
            Some((Action::Hold, reason)) => {
                held = Some(reason);
                break;
            }
            _ => {}
        }
        scene.at.now += 7_200 - 300;
    }
    assert_eq!(held, Some(Reason::Epochs), "{moves} moves");
    assert!(scene.evidence.epochs().len() < MOST_EPOCHS);
    assert!(scene.settings.bandit.as_ref().unwrap().period_in_force(&scene.evidence) >= 300 << 4);
    scene.look();
    assert_eq!(scene.state.status, Status::Holding);
}

/// One client that fails always is one client.
#[test]
fn where_units_are_sticky_clients_are_counted() {
    let mut scene = Scene::of(settings(&[1], Metric::Failed), UnitKind::Sticky { rate: 1.0 });
    scene.deal(&[5_000, 5_000]);
    let revision = scene.at.revision;
    for unit in 0..4_000_u64 {
        let variant = u8::from(unit % 2 == 0);
        let is_bad = unit % 40 < 2;
        let outcome = if is_bad { Outcome::Timeout } else { Outcome::Ok };
        let exposure = Exposure { unit, revision, variant, outcome, ..Exposure::default() };
        scene.evidence.add(&exposure);
    }
    // A busy client of the arm, of whom every request fails.
    let busy = Exposure {
        unit: 40,
        revision,
        variant: 1,
        outcome: Outcome::Timeout,
        ..Exposure::default()
    };
    scene.evidence.add_many(&busy, 5_000);
    scene.period(0, &[]);
    let known = scene.known();
    assert_eq!(
        (known[0].values, known[0].events),
        (1_999.0, 100.0),
        "one is of control, too: {known:?}"
    );
    assert!((known[0].chance.unwrap() - 0.5).abs() < 0.01, "{known:?}");
}

impl Scene {
    fn known(&self) -> Vec<ArmEvidence> {
        let of = (&self.settings, self.settings.bandit.as_ref().unwrap());
        known(&self.state, &self.at, &self.evidence, of, vec![Vec::new(); self.at.arms.len() - 1])
    }
}

#[test]
fn settings_that_make_no_sense_are_all_named() {
    let bandit =
        Bandit { arms: vec![1, 1, 0], period: 0, floor: 0.4, decay: 1.0, ..Bandit::default() };
    let settings = Settings { bandit: Some(bandit), control_cell: Some(3), ..Settings::default() };
    let problems: Vec<String> = settings.problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "verify: a share of 9800 basis points leaves nothing to compare",
            "arms: must be different variants, control not among them",
            "period: must be at least a second",
            "floor: must be 0.001 to 0.150",
            "decay: must be from 0 to below 1, a part a day",
            "control_cell: must be left out",
        ][1..]
    );
    // The arms share the chance of a false rollback.
    let bandit = Bandit { arms: vec![1, 2, 3], ..Bandit::default() };
    let settings = Settings { bandit: Some(bandit), ..Settings::default() };
    assert!((settings.alphas().breach - 0.05 / 15.0).abs() < 1e-12);
}
