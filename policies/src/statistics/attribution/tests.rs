use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::statistics::special::ln_gamma;

/// `ln` of the chance of `k` among `n`, each with chance `p`.
fn ln_binomial(k: u64, n: u64, p: f64) -> f64 {
    let (k, n) = (k as f64, n as f64);
    let ways = ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0);
    let yes = if k > 0.0 { k * p.ln() } else { 0.0 };
    ways + yes + if n > k { (n - k) * (-p).ln_1p() } else { 0.0 }
}

fn theta(pi: f64, rho: f64) -> f64 {
    pi * rho / (pi * rho + 1.0 - pi)
}

/// The expectation of the e-value if `T` really has the event `truth` times as often.
fn expectation(events: u64, pi: f64, truth: f64, against: Against) -> f64 {
    let of = |treated: u64| {
        let epoch = Epoch { pi, treated, control: events - treated };
        (ln_binomial(treated, events, theta(pi, truth)) + log_e(&[epoch], against)).exp()
    };
    (0..=events).map(of).sum()
}

/// Law 1, exactly: no simulation.
#[test]
fn the_expectation_is_one_under_the_hypothesis_and_less_within_it() {
    for events in [0, 1, 2, 3, 5, 10, 33, 100] {
        for pi in [0.001, 0.05, 0.5, 0.98] {
            for ratio in [0.5, 1.0, 1.2, 3.0] {
                let harm = |truth| expectation(events, pi, truth, Against::AtMost(ratio));
                let safe = |truth| expectation(events, pi, truth, Against::AtLeast(ratio));
                let context = format!("{events} events, pi {pi}, ratio {ratio}");
                assert!((harm(ratio) - 1.0).abs() < 1e-9, "{context}: {}", harm(ratio));
                assert!((safe(ratio) - 1.0).abs() < 1e-9, "{context}: {}", safe(ratio));
                assert!(harm(0.7 * ratio) <= 1.0 + 1e-9, "{context}");
                assert!(safe(1.4 * ratio) <= 1.0 + 1e-9, "{context}");
            }
        }
    }
}

fn epochs() -> impl Strategy<Value = Vec<Epoch>> {
    let shares = prop_oneof![Just(0.01), Just(0.05), Just(0.5), 0.0001..0.9999_f64];
    let epoch = (shares, 0..80_u64, 0..300_u64);
    vec(epoch.prop_map(|(pi, treated, control)| Epoch { pi, treated, control }), 1..6)
}

proptest! {
    /// Law 2: in the ratio.
    #[test]
    fn evidence_of_harm_falls_and_of_safety_rises_with_the_ratio(
        epochs in epochs(), ratio in 0.01..20.0_f64, more in 1.0..5.0_f64
    ) {
        prop_assert!(log_e_harm(&epochs, ratio * more) <= log_e_harm(&epochs, ratio) + 1e-9);
        prop_assert!(log_e_safe(&epochs, ratio * more) >= log_e_safe(&epochs, ratio) - 1e-9);
    }

    /// Law 2: in the events.
    #[test]
    fn an_event_speaks_against_the_side_that_has_it(
        epochs in epochs(), at in any::<prop::sample::Index>(), ratio in 0.1..5.0_f64
    ) {
        let at = at.index(epochs.len());
        let (mut treated, mut control) = (epochs.clone(), epochs.clone());
        treated[at].treated += 1;
        control[at].control += 1;
        let harm = log_e_harm(&epochs, ratio);
        prop_assert!(log_e_harm(&treated, ratio) >= harm - 1e-9);
        prop_assert!(log_e_harm(&control, ratio) <= harm + 1e-9);
        let safe = log_e_safe(&epochs, ratio);
        prop_assert!(log_e_safe(&treated, ratio) <= safe + 1e-9);
        prop_assert!(log_e_safe(&control, ratio) >= safe - 1e-9);
    }

    /// Law 3, as far as it is this file's: counts of an epoch may come in pieces and in any order.
    #[test]
    fn splitting_an_epoch_over_replicas_changes_nothing(
        epochs in epochs(), parts in vec(0..=100_u64, 6)
    ) {
        let mut pieces = Vec::new();
        for (epoch, part) in epochs.iter().zip(parts) {
            let of = |count: u64| count * part / 100;
            let (treated, control) = (of(epoch.treated), of(epoch.control));
            pieces.insert(0, Epoch { pi: epoch.pi, treated, control });
            pieces.push(Epoch {
                pi: epoch.pi,
                treated: epoch.treated - treated,
                control: epoch.control - control,
            });
        }
        for against in [Against::AtMost(1.2), Against::AtLeast(2.0)] {
            prop_assert!((log_e(&pieces, against) - log_e(&epochs, against)).abs() < 1e-9);
        }
        prop_assert_eq!(by_share(&epochs).iter().map(|e| e.treated + e.control).sum::<u64>(),
            by_share(&pieces).iter().map(|e| e.treated + e.control).sum::<u64>());
    }

    #[test]
    fn a_table_says_the_same_whatever_it_was_asked_before(
        looks in vec(epochs(), 1..5), ratio in 0.1..5.0_f64
    ) {
        for against in [Against::AtMost(ratio), Against::AtLeast(ratio)] {
            let mut table = Table::new(against);
            for epochs in &looks {
                prop_assert_eq!(table.log_e(epochs), log_e(epochs, against));
            }
        }
    }

    #[test]
    fn bounds_are_where_the_tests_begin_to_show_something(epochs in epochs()) {
        let Interval { lower, upper } = ratio(&epochs, 0.05).bounds;
        let l = threshold(0.05);
        prop_assert!(lower <= upper);
        if lower > 0.0 {
            prop_assert!(log_e_harm(&epochs, lower * (1.0 - 1e-9)) >= l);
            prop_assert!(log_e_harm(&epochs, lower * (1.0 + 1e-9)) < l);
        }
        if upper < f64::INFINITY {
            prop_assert!(log_e_safe(&epochs, upper * (1.0 + 1e-9)) >= l);
            prop_assert!(log_e_safe(&epochs, upper * (1.0 - 1e-9)) < l);
        }
    }
}

#[test]
fn a_variant_that_fails_everything_is_caught_after_four() {
    let after = |treated| log_e_harm(&[Epoch { pi: 0.05, treated, control: 0 }], 1.2);
    assert!(after(2) < threshold(0.01));
    assert!(after(4) >= threshold(0.01), "{}", after(4));
}

#[test]
fn where_nothing_could_be_compared_nothing_is_shown() {
    let epoch = |pi| Epoch { pi, treated: 5, control: 5 };
    for pi in [0.0, 1.0, -0.1, 1.1, f64::NAN] {
        assert_eq!(log_e_harm(&[epoch(pi)], 1.2), log_e_harm(&[], 1.2), "{pi}");
    }
    assert!(log_e_harm(&[], 1.2).abs() < 1e-12);
    for ratio in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(log_e_harm(&[epoch(0.5)], ratio), 0.0);
        assert_eq!(log_e_safe(&[epoch(0.5)], ratio), 0.0);
        assert_eq!(Table::new(Against::AtMost(ratio)).log_e(&[epoch(0.5)]), 0.0);
    }
    let none = ratio(&[], 0.05);
    assert_eq!(none.estimate, None);
    assert_eq!(none.bounds, Interval { lower: 0.0, upper: f64::INFINITY });
}

#[test]
fn the_estimate_is_the_ratio_of_rates() {
    let epochs = [Epoch { pi: 0.05, treated: 30, control: 190 }];
    let estimate = ratio(&epochs, 0.05).estimate.unwrap();
    assert!((estimate - (30.0 / 0.05) / (190.0 / 0.95)).abs() < 1e-9);
    let only_control = [Epoch { pi: 0.05, treated: 0, control: 190 }];
    assert_eq!(ratio(&only_control, 0.05).estimate, None);
}

/// Section 14: at 1e8 events a difference still has seven digits.
#[test]
fn large_counts_keep_their_digits() {
    let at = |treated| log_e_harm(&[Epoch { pi: 0.5, treated, control: 50_000_000 }], 1.0);
    let one_more = at(50_000_001) - at(50_000_000);
    // Hardly anything, but not noise: the derivative of the mixture there.
    assert!(one_more > 0.0 && one_more < 1e-2, "{one_more}");
    assert!(at(50_000_000).is_finite());
}
