//! What every move keeps, whatever was seen.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

proptest! {
    /// Whatever was seen and wherever shares stand: they add up, nobody falls below a floor that it was
    /// above, control keeps its tenth, and at most ten points move.
    #[test]
    fn a_move_keeps_every_promise(
        counts in vec((1_u64..50_000, 0_u64..1_000), 2..6),
        weights in vec(1_u16..1_000, 6),
        floor in 0.01..0.09_f64,
    ) {
        let arms = counts.len() - 1;
        let numbers: Vec<u8> = (1..=u8::try_from(arms).unwrap()).collect();
        let mut settings = settings(&numbers, Metric::Failed);
        settings.bandit.as_mut().unwrap().floor = floor;
        prop_assume!(settings.problems().is_empty());
        let mut scene = Scene::new(settings);
        let sum: u16 = weights[..arms].iter().sum();
        let part = |weight: u16| u16::try_from(u32::from(weight) * 8_500 / u32::from(sum)).unwrap();
        let mut shares: Vec<u16> = weights[..arms].iter().map(|weight| part(*weight).max(1)).collect();
        let control = 10_000 - shares.iter().sum::<u16>();
        shares.push(control);
        scene.deal(&shares);
        let revision = scene.at.revision;
        for (variant, (all, failing)) in (0_u8..).zip(&counts) {
            for (count, outcome) in [(all * failing / 1_000, Outcome::Timeout), (all - all * failing / 1_000, Outcome::Ok)] {
                let exposure = Exposure { revision, variant, outcome, ..Exposure::default() };
                scene.evidence.add_many(&exposure, count);
            }
        }
        // What is no move is not looked at here.
        scene.state.mismatch_accepted = true;
        scene.settings.guardrails.clear();
        scene.look();
        {
            if let Some(decision) = scene.period(0, &[]).filter(|made| made.action == Action::Move) {
                prop_assert_eq!(decision.shares.len(), arms + 1);
                prop_assert_eq!(decision.shares.iter().map(|share| u32::from(*share)).sum::<u32>(), 10_000);
                let least = |place: usize| if place == arms { 1_000 } else { points(floor) };
                let mut moved = 0;
                for (place, (before, after)) in shares.iter().zip(&decision.shares).enumerate() {
                    moved += i32::from(*after) - i32::from(*before.min(after));
                    // Rounding down takes a basis point.
                    prop_assert!(*after + 1 >= (*before).min(least(place)), "{:?}", decision.shares);
                }
                prop_assert!((200..=1_000 + i32::try_from(arms).unwrap()).contains(&moved), "{moved}");
                let known = &decision.evidence.arms;
                prop_assert!((known.iter().filter_map(|arm| arm.chance).sum::<f64>() - 1.0).abs() < 1e-9);
                // Fewer failures by far is never the smaller target.
                for (one, other) in known.iter().zip(&known[1..]) {
                    let (a, b) = (one.mean.unwrap(), other.mean.unwrap());
                    if one.variant != 0 && other.variant != 0 && a + 0.2 < b {
                        prop_assert!(one.target >= other.target);
                    }
                }
            }
        }
    }
}
