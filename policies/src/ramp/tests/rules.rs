//! Rules beside the rows: the route's own line, warm-up.

use super::*;

/// "If `T` slows `C` down, ratios see nothing": a person is asked, and nobody blamed.
#[test]
fn a_route_that_misses_its_objective_for_too_long_pauses_the_ramp() {
    let mut settings = quick();
    let objective = Objective { metric: Metric::LatencyP99, below: 2.0, lasting: 300 };
    settings.objective = Some(objective);
    settings.steps[1].min_time = 36_000;
    let mut scene = Scene::new(settings);
    scene.until(60, (10, 10)).unwrap();
    scene.until(60, (10, 10)).unwrap();
    // Slow for four minutes, then not, then for five.
    scene.at.route_seconds = Some(2.1);
    assert_eq!(scene.until(4, (10, 10)), None);
    scene.at.route_seconds = Some(2.0);
    assert_eq!(scene.until(1, (10, 10)), None);
    scene.at.route_seconds = Some(2.1);
    assert_eq!(scene.until(5, (10, 10)), None, "the first of them begins it");
    let share = scene.at.share;
    assert_eq!(scene.until(1, (10, 10)), Some((Action::Pause, Reason::Objective, 3)));
    assert_eq!((scene.at.share, scene.state.status), (share, Status::Paused));
    assert_eq!(scene.until(20, (10, 10)), None, "it waits for a person");
    // Who goes on while it is slow is asked again after as long.
    scene.hand(resume);
    assert_eq!(scene.until(5, (10, 10)), None);
    assert_eq!(scene.until(1, (10, 10)), Some((Action::Pause, Reason::Objective, 3)));
    // Without traffic nothing is known, which is no fault; and a breach wins.
    scene.hand(resume);
    scene.at.route_seconds = None;
    assert_eq!(scene.until(8, (10, 10)), None);
    scene.at.route_seconds = Some(9.0);
    let decided = (0..30).find_map(|_| {
        scene.minute(100, (300, 10));
        scene.step()
    });
    assert_eq!(decided.unwrap().0, Action::RollBack);
}

/// A cold canary is slow: what warm-up sees of times is not held against it, then or later.
#[test]
fn warm_up_ignores_times_and_nothing_else() {
    let slow = |phase: Phase| {
        let settings = Settings {
            guardrails: vec![Guardrail::new(Metric::LatencyP50)],
            ..Settings::default()
        };
        let mut scene = Scene::new(settings);
        // More of them come than were dealt.
        scene.state.mismatch_accepted = true;
        while scene.state.phase != phase {
            scene.until(60, (0, 0)).unwrap();
        }
        (0..3).find_map(|_| {
            scene.minute(100, (0, 0));
            let exposure = Exposure {
                revision: scene.at.revision,
                variant: 1,
                duration_micros: Some(9_000_000),
                ..Exposure::default()
            };
            scene.evidence.add_many(&exposure, 60);
            scene.step().filter(|(action, ..)| *action == Action::RollBack)
        })
    };
    // The least time of warm-up is a minute: it is over before three are.
    assert_eq!(slow(Phase::Step(0)), Some((Action::RollBack, Reason::Breached, 1)));
    let mut scene = Scene::new(Settings {
        guardrails: vec![Guardrail::new(Metric::LatencyP50)],
        warm_up: Some(WarmUp { min_time: 1_200, ..WarmUp::default() }),
        ..Settings::default()
    });
    scene.state.mismatch_accepted = true;
    for _ in 0..15 {
        scene.minute(100, (0, 0));
        let revision = scene.at.revision;
        let slow = Exposure {
            revision,
            variant: 1,
            duration_micros: Some(9_000_000),
            ..Exposure::default()
        };
        scene.evidence.add_many(&slow, 60);
        assert_eq!(scene.step(), None);
    }
    // It is warm now, and goes on.
    assert_eq!(scene.until(10, (0, 0)), Some((Action::Widen, Reason::TimePassed, 5)));
    assert_eq!(scene.until(20, (0, 0)), Some((Action::Widen, Reason::Held, 5)));
}
