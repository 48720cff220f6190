use super::*;
use crate::Outcome;
use crate::evidence::{Exposure, UnitKind};
use crate::guardrail::{Guardrail, MarkWatch, Metric, Tables};

mod rules;

/// A ramp with everything around it: the ledger, the traffic, the clock.
struct Scene {
    settings: Settings,
    state: State,
    at: Situation,
    evidence: Evidence,
    tables: Tables,
    watch: MarkWatch,
}

type Hand = fn(&State, &Situation, &Settings) -> Result<(State, Decision), Refused>;

const START: u64 = 1_800_000_000;

impl Scene {
    fn new(settings: Settings) -> Self {
        assert_eq!(settings.problems(), []);
        let at = Situation {
            now: START,
            revision: 4,
            share: 0,
            arms: vec![],
            backend: 1,
            drifted: false,
            route_seconds: None,
        };
        let (state, decision) = start(&at, &settings);
        assert_eq!((decision.action, decision.fresh), (Action::Start, true));
        let evidence = Evidence::new(UnitKind::Request);
        let mut scene = Self {
            settings,
            state,
            at,
            evidence,
            tables: Tables::default(),
            watch: MarkWatch::default(),
        };
        scene.apply(&decision);
        scene
    }

    /// Stores a decision, as the gateway would.
    fn apply(&mut self, decision: &Decision) {
        assert_eq!(decision.from_revision, self.at.revision);
        if decision.fresh {
            self.evidence = Evidence::new(UnitKind::Request);
        }
        if let Some(share) = decision.share {
            self.deal(share);
        }
    }

    fn deal(&mut self, share: u16) {
        self.at.revision += 1;
        self.at.share = share;
        self.evidence.open(self.at.revision, &[10_000 - share, share]);
    }

    /// A minute of so many requests a second, of which so many of `T` and of `C` in a thousand fail.
    fn minute(&mut self, per_second: u64, (treated, control): (u64, u64)) {
        let all = per_second * 60;
        let share = u64::from(self.at.share);
        for (variant, requests, failing) in
            [(0, all * (10_000 - share) / 10_000, control), (1, all * share / 10_000, treated)]
        {
            let revision = self.at.revision;
            // Ever fewer that take ever longer, the same on both sides.
            for (part, outcome) in [(failing, Outcome::Timeout), (1_000 - failing, Outcome::Ok)] {
                let mut left = requests * part / 1_000;
                let mut duration = 20_000;
                while left > 0 {
                    let exposure = Exposure {
                        revision,
                        variant,
                        outcome,
                        duration_micros: Some(duration),
                        ..Exposure::default()
                    };
                    let here = left.div_ceil(16);
                    self.evidence.add_many(&exposure, here);
                    left -= here;
                    duration += duration / 20;
                }
            }
        }
        self.at.now += 60;
    }

    fn look(&mut self) -> Option<Decision> {
        let (state, settings) = (&self.state, &self.settings);
        let due = marks_due(state, &self.at, &self.evidence, settings, &mut self.watch);
        for (slowness, marks) in due {
            self.evidence.freeze(self.at.revision, slowness, marks);
        }
        let (state, decision) =
            look(&self.state, &self.at, &self.evidence, &self.settings, &mut self.tables);
        let text = serde_json::to_string(&state).unwrap();
        self.state = serde_json::from_str(&text).unwrap();
        // But for the last digit of what evidence has reached.
        let counted = |state: &State| State {
            reached: vec![],
            sample_ratio: Default::default(),
            ..state.clone()
        };
        assert_eq!(counted(&self.state), counted(&state), "a state survives a restart");
        if let Some(decision) = &decision {
            let text = serde_json::to_string(&decision).unwrap();
            let again = serde_json::from_str::<Decision>(&text).unwrap();
            assert_eq!((again.action, again.share), (decision.action, decision.share));
        }
        decision
    }

    /// Looks, and stores what is decided.
    fn step(&mut self) -> Option<(Action, Reason, u8)> {
        let decision = self.look()?;
        self.apply(&decision);
        Some((decision.action, decision.reason, decision.row))
    }

    /// Minute by minute until something is decided; at most so many.
    fn until(&mut self, minutes: u32, fails: (u64, u64)) -> Option<(Action, Reason, u8)> {
        (0..minutes).find_map(|_| {
            self.minute(100, fails);
            self.step()
        })
    }

    fn hand(&mut self, hand: Hand) {
        let (state, decision) = hand(&self.state, &self.at, &self.settings).unwrap();
        self.state = state;
        self.apply(&decision);
    }
}

fn quick() -> Settings {
    Settings {
        guardrails: vec![Guardrail::new(Metric::Failed)],
        cool_down: 1_800,
        ..Settings::default()
    }
}

/// In its second step, at 5 %.
fn in_step_2() -> Scene {
    let mut scene = Scene::new(quick());
    assert_eq!(scene.until(60, (10, 10)), Some((Action::Widen, Reason::TimePassed, 5)));
    assert_eq!(scene.until(60, (10, 10)), Some((Action::Widen, Reason::Held, 5)));
    assert_eq!((scene.state.phase, scene.at.share), (Phase::Step(1), 500));
    scene
}

#[test]
fn a_healthy_variant_climbs_all_steps_and_is_promoted() {
    let mut scene = Scene::new(Settings::default());
    let mut path = Vec::new();
    while scene.state.status != Status::Promoted {
        let decided = scene.until(24 * 60, (10, 10)).expect("it goes on");
        path.push((decided.0, scene.at.share));
    }
    let widened = [100, 500, 2_500, 5_000, 9_800].map(|share| (Action::Widen, share));
    assert_eq!(path[..5], widened);
    assert_eq!(path[5..], [(Action::Promote, 10_000)]);
    let minutes = (scene.at.now - START) / 60;
    assert!((91..240).contains(&minutes), "{minutes}");
    assert_eq!(scene.look(), None, "it is over");
}

/// Row 1, in every phase and status that has traffic.
#[test]
fn a_breach_rolls_back_whatever_the_ramp_is_doing() {
    let check = |mut scene: Scene| {
        let decided = scene.until(60, (300, 10));
        assert_eq!(decided, Some((Action::RollBack, Reason::Breached, 1)));
        assert_eq!((scene.at.share, scene.state.status), (0, Status::RolledBack));
        assert_eq!(scene.look(), None);
    };
    check(Scene::new(quick()));
    check(in_step_2());
    let mut paused = in_step_2();
    paused.hand(pause);
    check(paused);
    let mut holding = in_step_2();
    holding.at.drifted = true;
    assert_eq!(holding.until(1, (10, 10)), Some((Action::Hold, Reason::Drift, 3)));
    check(holding);
    let mut verifying = in_step_2();
    while verifying.state.phase != Phase::Verify {
        verifying.until(24 * 60, (10, 10)).unwrap();
    }
    check(verifying);
}

#[test]
fn a_decision_carries_the_numbers_it_rests_on() {
    let mut scene = in_step_2();
    let decision = loop {
        scene.minute(100, (300, 10));
        if let Some(decision) = scene.look() {
            break decision;
        }
    };
    let numbers = &decision.evidence;
    let failed = &numbers.guardrails[0];
    assert!(failed.reached.harm >= failed.thresholds.breach);
    let ratio = failed.ratio.expect("and the ratio that it is about");
    let (low, value) = (ratio.low.unwrap(), ratio.value.unwrap());
    assert!(1.2 < low && low < value && ratio.high.is_some_and(|high| value < high), "{ratio:?}");
    assert_eq!(failed.metric, Metric::Failed);
    assert_eq!(decision.from_phase, Phase::Step(1));
    assert_eq!(decision.share, Some(0));
    let last = numbers.epochs.last().unwrap();
    assert_eq!((last.revision, last.shares), (decision.from_revision, (500, 9_500)));
    assert_eq!(numbers.step_exposures, last.exposures.0);
}

/// Only what is watched may fail as it likes.
#[test]
fn a_breach_of_what_is_only_observed_changes_nothing() {
    let mut settings = quick();
    settings.guardrails[0].action = crate::guardrail::Action::Observe;
    settings.guardrails[0].required = false;
    let mut scene = Scene::new(settings);
    assert_eq!(scene.until(60, (300, 10)).unwrap().0, Action::Widen);
}

/// Row 2.
#[test]
fn a_variant_that_gets_nothing_is_a_fault_of_routing() {
    let mut scene = Scene::new(quick());
    scene.at.now += 60;
    let revision = scene.at.revision;
    let control = Exposure { revision, ..Exposure::default() };
    scene.evidence.add_many(&control, 300);
    assert_eq!(scene.step(), None);
    scene.evidence.add_many(&control, 1_800);
    // Those that still run are enough.
    let mut slow = scene.evidence.clone();
    slow.count_begun(revision, 1, 15);
    std::mem::swap(&mut slow, &mut scene.evidence);
    assert_eq!(scene.step(), None);
    std::mem::swap(&mut slow, &mut scene.evidence);
    assert_eq!(scene.step(), Some((Action::RollBack, Reason::NoTraffic, 2)));
}

/// Row 3.
#[test]
fn a_sample_ratio_mismatch_holds_until_an_operator_accepts_it() {
    let mut scene = in_step_2();
    let lost = |scene: &mut Scene| {
        // Half of `T`'s requests never arrive.
        let revision = scene.at.revision;
        for (variant, count) in [(0, 5_700), (1, 150)] {
            let exposure = Exposure { revision, variant, ..Exposure::default() };
            scene.evidence.add_many(&exposure, count);
        }
        scene.at.now += 60;
    };
    lost(&mut scene);
    assert_eq!(scene.step(), Some((Action::Hold, Reason::SampleRatio, 3)));
    for _ in 0..30 {
        lost(&mut scene);
        assert_eq!(scene.step(), None, "once is enough");
    }
    assert_eq!(scene.state.status, Status::Holding);
    scene.hand(resume);
    assert_eq!(scene.step(), Some((Action::Widen, Reason::Held, 5)));
}

#[test]
fn drift_holds_and_its_end_resumes() {
    let mut scene = in_step_2();
    scene.at.drifted = true;
    assert_eq!(scene.until(30, (10, 10)), Some((Action::Hold, Reason::Drift, 3)));
    assert_eq!(scene.until(30, (10, 10)), None);
    scene.at.drifted = false;
    assert_eq!(scene.until(1, (10, 10)), Some((Action::Resume, Reason::Cleared, 3)));
    assert_eq!(scene.until(30, (10, 10)), Some((Action::Widen, Reason::Held, 5)));
}

/// Row 4.
#[test]
fn a_step_lasts_its_least_time_and_has_its_least_exposures() {
    let mut scene = in_step_2();
    for _ in 0..9 {
        scene.minute(1_000, (10, 10));
        assert_eq!(scene.step(), None);
    }
    scene.minute(1_000, (10, 10));
    assert_eq!(scene.step().unwrap().0, Action::Widen);
    // Little traffic: 5 % of 20 a second make 2,000 after 34 minutes.
    let mut scene = in_step_2();
    let minutes = (1..60).find(|_| {
        scene.minute(20, (0, 0));
        scene.step().is_some()
    });
    assert!((33..36).contains(&minutes.unwrap()), "{minutes:?}");
}

/// Row 5: what has no data blocks if it is required, and never rolls back.
#[test]
fn absence_of_data_is_neither_health_nor_a_fault() {
    let mut settings = quick();
    let rated = Guardrail::new(Metric::Feedback("stars".into()));
    settings.guardrails.push(Guardrail { required: true, ..rated.clone() });
    let mut scene = Scene::new(settings.clone());
    assert_eq!(scene.until(60, (10, 10)).unwrap().0, Action::Widen, "out of warm-up");
    assert_eq!(scene.until(300, (10, 10)), None);
    settings.guardrails[1].required = false;
    scene.settings = settings;
    assert_eq!(scene.until(1, (10, 10)).unwrap().0, Action::Widen);
}

/// Row 6.
#[test]
fn an_undecided_step_holds_goes_on_or_gives_up_as_was_said() {
    let decided = |on_undecided| {
        let mut settings = quick();
        settings
            .guardrails
            .push(Guardrail { required: true, ..Guardrail::new(Metric::Feedback("stars".into())) });
        settings.patience = 3_600;
        settings.on_undecided = on_undecided;
        let mut scene = Scene::new(settings);
        scene.until(60, (10, 10)).unwrap();
        let decided = scene.until(120, (10, 10));
        (decided, scene)
    };
    let (held, mut scene) = decided(OnUndecided::Hold);
    assert_eq!(held, Some((Action::Hold, Reason::Undecided, 6)));
    assert_eq!(scene.until(60, (10, 10)), None);
    // It waits on: once everything holds it goes on.
    scene.settings.guardrails[1].required = false;
    assert_eq!(scene.until(1, (10, 10)), Some((Action::Widen, Reason::Held, 5)));
    assert_eq!(scene.state.status, Status::Running);
    assert_eq!(decided(OnUndecided::Promote).0, Some((Action::Widen, Reason::Undecided, 6)));
    assert_eq!(decided(OnUndecided::RollBack).0, Some((Action::RollBack, Reason::Undecided, 6)));
}

#[test]
fn without_any_traffic_a_step_stands_still() {
    let mut scene = in_step_2();
    let before = scene.state.step_seconds;
    for _ in 0..3 * 24 * 60 {
        scene.at.now += 60;
        assert_eq!(scene.step(), None);
    }
    assert!(scene.state.step_seconds <= before + LONGEST_GAP);
}

#[test]
fn a_clock_that_jumps_bends_a_step_by_a_minute_at_most() {
    let mut scene = in_step_2();
    scene.minute(100, (10, 10));
    scene.step();
    let before = scene.state.step_seconds;
    for jump in [86_400, -90_000] {
        scene.at.now = scene.at.now.saturating_add_signed(jump);
        assert_eq!(scene.step(), None);
    }
    assert!(scene.state.step_seconds <= before + LONGEST_GAP);
    // And it does not wait until the clock has caught up.
    assert_eq!(scene.until(15, (10, 10)).unwrap().0, Action::Widen);
}

#[test]
fn looking_again_decides_nothing_again_and_a_crash_before_storing_decides_the_same() {
    let mut scene = in_step_2();
    let first = loop {
        scene.minute(100, (10, 10));
        let before = scene.state.clone();
        if let Some(decision) = scene.look() {
            // It was not stored: the old state looks again.
            let after = std::mem::replace(&mut scene.state, before);
            let again = scene.look();
            assert_eq!(again.as_ref(), Some(&decision));
            assert_eq!(scene.state, after);
            break decision;
        }
    };
    // Stored, but the new revision is not in force yet; then it is.
    assert_eq!(scene.look(), None);
    scene.apply(&first);
    assert_eq!(scene.look(), None);
    assert_eq!((scene.state.phase, scene.state.revision), (Phase::Step(2), scene.at.revision));
}

#[test]
fn an_operator_may_widen_by_hand_and_the_ramp_goes_on_from_there() {
    let mut scene = in_step_2();
    scene.deal(3_000);
    assert_eq!(scene.step(), None);
    assert_eq!(scene.state.phase, Phase::Step(2));
    assert_eq!(scene.until(120, (10, 10)), Some((Action::Widen, Reason::Held, 5)));
    assert_eq!(scene.at.share, 5_000);
    // A share that is lowered by hand leaves the step as it is.
    scene.deal(10);
    scene.step();
    assert_eq!(scene.state.phase, Phase::Step(3));
}

#[test]
fn a_pause_freezes_the_share_and_nothing_else() {
    let mut scene = in_step_2();
    scene.hand(pause);
    assert_eq!(pause(&scene.state, &scene.at, &scene.settings), Err(Refused::Paused));
    assert_eq!(scene.until(60, (10, 10)), None);
    scene.hand(resume);
    assert_eq!(resume(&scene.state, &scene.at, &scene.settings), Err(Refused::Running));
    assert_eq!(scene.until(20, (10, 10)).unwrap().0, Action::Widen);
}

/// Its time is over and only exposures were missing when it was paused: they come, and it stays.
#[test]
fn a_paused_step_that_has_become_due_does_not_go_on() {
    let mut scene = in_step_2();
    for _ in 0..12 {
        scene.minute(20, (0, 0));
        assert_eq!(scene.step(), None);
    }
    scene.hand(pause);
    for _ in 0..3 {
        scene.minute(1_000, (10, 10));
        assert_eq!(scene.step(), None);
    }
    scene.at.drifted = true;
    assert_eq!(scene.until(5, (10, 10)), None, "it is held already");
    scene.at.drifted = false;
    scene.hand(resume);
    assert_eq!(scene.until(1, (10, 10)).unwrap().0, Action::Widen);
}

#[test]
fn abort_and_promote_by_hand_end_a_ramp() {
    for (hand, share, status) in
        [(abort as Hand, 0, Status::Aborted), (promote, 10_000, Status::Promoted)]
    {
        let mut scene = in_step_2();
        scene.hand(hand);
        assert_eq!((scene.at.share, scene.state.status), (share, status));
        assert_eq!(scene.look(), None);
        for hand in [abort, promote, pause, resume] {
            assert_eq!(hand(&scene.state, &scene.at, &scene.settings), Err(Refused::Over));
        }
    }
}

#[test]
fn each_rollback_cools_down_twice_as_long_and_only_another_backend_begins_by_itself() {
    let mut scene = Scene::new(quick());
    let mut cooled = Vec::new();
    for backend in 2..9 {
        assert_eq!(scene.until(60, (900, 10)).unwrap().0, Action::RollBack);
        let until = scene.state.cool_until.unwrap();
        cooled.push((until - scene.at.now) / 60);
        assert_eq!(
            restart(&scene.state, &scene.at, &scene.settings, true),
            Err(Refused::Cooling { until })
        );
        scene.at.now = until;
        assert_eq!(scene.step(), None, "the same backend");
        scene.at.backend = backend;
        scene.at.now = until - 1;
        assert_eq!(scene.step(), None, "too early");
        scene.at.now = until;
        assert_eq!(scene.step(), Some((Action::Start, Reason::NewBackend, 0)));
        assert_eq!((scene.state.phase, scene.at.share), (Phase::WarmUp, 100));
        assert!(scene.evidence.exposures(1) == 0, "fresh");
    }
    assert_eq!(cooled, [30, 60, 120, 240, 480, 960, 1_440]);
}

#[test]
fn the_same_backend_continues_what_was_found_unless_told_to_forget() {
    let mut scene = in_step_2();
    assert_eq!(restart(&scene.state, &scene.at, &scene.settings, false), Err(Refused::NotOver));
    scene.until(60, (300, 10)).unwrap();
    scene.at.now = scene.state.cool_until.unwrap();
    let over = scene.state.clone();
    let (state, decision) = restart(&over, &scene.at, &scene.settings, false).unwrap();
    assert!(!decision.fresh);
    scene.state = state;
    scene.apply(&decision);
    assert_eq!(scene.step(), Some((Action::RollBack, Reason::Breached, 1)));
    assert_eq!(scene.state.rollbacks, 2);

    scene.at.now += 86_400;
    let (state, decision) = restart(&over, &scene.at, &scene.settings, true).unwrap();
    assert!(decision.fresh);
    scene.state = state;
    scene.apply(&decision);
    assert_eq!(scene.until(60, (10, 10)).unwrap().0, Action::Widen);
}

#[test]
fn an_aborted_ramp_that_begins_again_continues_its_evidence_and_counts_anew() {
    let mut scene = in_step_2();
    scene.hand(abort);
    let (state, decision) = restart(&scene.state, &scene.at, &scene.settings, false).unwrap();
    scene.state = state;
    scene.apply(&decision);
    assert_eq!(scene.step(), None);
    assert_eq!(scene.state.exposures_before, scene.evidence.exposures(1));
    assert_eq!(scene.until(60, (10, 10)).unwrap().0, Action::Widen);
}

#[test]
fn an_equal_control_gets_what_the_variant_gets_and_is_what_it_is_judged_against() {
    let settings = Settings { control_cell: Some(2), ..quick() };
    assert_eq!(settings.problems(), []);
    let at = Situation {
        now: START,
        revision: 1,
        share: 0,
        arms: vec![],
        backend: 1,
        drifted: false,
        route_seconds: None,
    };
    let (mut state, decision) = start(&at, &settings);
    assert_eq!((decision.share, decision.control_share), (Some(100), Some(100)));
    let mut evidence = Evidence::new(UnitKind::Request);
    evidence.open(2, &[9_800, 100, 100]);
    let mut at = Situation { revision: 2, share: 100, ..at };
    let mut tables = Tables::default();
    for _ in 0..60 {
        at.now += 60;
        // The rest of control fails; its cell does as the variant does.
        for (variant, count, outcome) in [
            (0, 5_880, Outcome::Timeout),
            (1, 60, Outcome::Ok),
            (2, 60, Outcome::Ok),
            (1, 1, Outcome::Timeout),
            (2, 1, Outcome::Timeout),
        ] {
            let exposure = Exposure { revision: 2, variant, outcome, ..Exposure::default() };
            evidence.add_many(&exposure, count);
        }
        let (next, decided) = look(&state, &at, &evidence, &settings, &mut tables);
        state = next;
        if let Some(decided) = decided {
            assert_eq!(decided.action, Action::Widen);
            let (treated, control) = decided.evidence.guardrails[0].exposures;
            assert_eq!(treated, control, "all of control would be nearly a hundred times as many");
        }
    }
    assert_ne!(state.phase, Phase::WarmUp);
    let many = Settings { control_cell: Some(2), steps: vec![], ..quick() };
    assert!(many.problems().contains(&SettingsFault::NoSteps));
}

#[test]
fn settings_that_make_no_sense_are_all_named() {
    let mut settings = Settings { treated: 0, alpha_rollback: 0.9, ..Settings::default() };
    settings.steps[1].share = 50;
    settings.steps[2].share = 10_000;
    settings.steps[3].failed_ceiling = Some(2.0);
    settings.guardrails.push(Guardrail { tolerance: -1.0, ..Guardrail::new(Metric::Failed) });
    let problems: Vec<String> = settings.problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "step 3: a share of 10000 basis points leaves nothing to compare",
            "step 2: its share is not above the one before",
            "step 4: its share is not above the one before",
            "step 4: margins must be above 0 and ceilings between 0 and 1",
            "guardrail `failed` is there twice",
            "guardrail `failed`: tolerance must be 0 or above",
            "alpha_rollback must be above 0 and below 0.5",
            "treated, control and control_cell must be different variants",
        ]
    );
    let defaults: Settings = serde_json::from_str("{}").unwrap();
    assert_eq!(defaults, Settings::default());
}
