//! A variant that grows keeps what it has, one that shrinks gains nothing, and no more moves than
//! must.

#![expect(clippy::expect_used, reason = "what a test cannot set up fails it")]

use proptest::prelude::*;
use routing::{
    Allocation, AllocationFault, BUCKETS, Retargeted, ShareFault, VariantId, WeightFault,
    shares_of_weights,
};

fn owners(allocation: &Allocation) -> Vec<u8> {
    (0..BUCKETS).map(|bucket| allocation.variant_of(bucket).0).collect()
}

fn initial(shares: &[u16]) -> Allocation {
    Allocation::initial(shares).expect("shares that add up")
}

fn retarget(allocation: &Allocation, shares: &[u16]) -> Retargeted {
    allocation.retarget(shares).expect("shares that add up")
}

/// Shares of `variants` variants, some of them often zero.
fn shares(variants: usize) -> impl Strategy<Value = Vec<u16>> {
    let cut = prop_oneof![0..=BUCKETS, Just(0), Just(BUCKETS)];
    prop::collection::vec(cut, variants - 1).prop_map(|mut cuts| {
        cuts.sort_unstable();
        cuts.push(BUCKETS);
        let mut before = 0;
        cuts.into_iter().map(|cut| cut - std::mem::replace(&mut before, cut)).collect()
    })
}

/// An allocation with a past.
fn allocation(variants: usize) -> impl Strategy<Value = Allocation> {
    prop::collection::vec(shares(variants), 1..5).prop_map(|past| {
        let first = initial(&past[0]);
        past[1..].iter().fold(first, |now, shares| retarget(&now, shares).allocation)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn new_shares_move_no_bucket_that_could_stay(
        (before, wanted) in (2..6_usize).prop_flat_map(|n| (allocation(n), shares(n))),
    ) {
        let Retargeted { allocation: after, moved } = retarget(&before, &wanted);
        prop_assert_eq!(after.shares(), wanted.clone());
        prop_assert_eq!(after.generation(), before.generation() + 1);

        let had = before.shares();
        let (old, new) = (owners(&before), owners(&after));
        for (variant, (had, has)) in (0_u8..).zip(had.iter().zip(&wanted)) {
            let of = |owners: &[u8], at: usize| owners[at] == variant;
            let lost = (0..old.len()).any(|at| of(&old, at) && !of(&new, at));
            let gained = (0..old.len()).any(|at| !of(&old, at) && of(&new, at));
            prop_assert!(!(has >= had && lost), "a growing variant keeps every bucket");
            prop_assert!(!(has <= had && gained), "a shrinking variant gains none");
        }
        let grown: u16 = had.iter().zip(&wanted).map(|(had, has)| has.saturating_sub(*had)).sum();
        prop_assert_eq!(moved, grown);
        prop_assert_eq!((0..old.len()).filter(|at| old[*at] != new[*at]).count(), moved.into());
    }

    /// So that a second ramp after a rollback reaches the same units first.
    #[test]
    fn growing_from_control_and_straight_back_restores_the_table(
        before in allocation(4),
        parts in prop::collection::vec(0..=100_u16, 3),
    ) {
        let home = before.shares();
        let mut grown = home.clone();
        for (variant, part) in (1..).zip(parts) {
            let taken = grown[0] / 100 * part / 3;
            grown[0] -= taken;
            grown[variant] += taken;
        }
        let up = retarget(&before, &grown).allocation;
        let down = retarget(&up, &home).allocation;
        prop_assert_eq!(owners(&down), owners(&before));
        prop_assert_eq!(owners(&retarget(&down, &grown).allocation), owners(&up));
    }

    #[test]
    fn bytes_hold_the_whole_allocation(before in (1..6_usize).prop_flat_map(allocation)) {
        prop_assert_eq!(Allocation::from_bytes(&before.to_bytes()), Ok(before.clone()));
        let runs = before.runs();
        prop_assert_eq!(runs.first().map(|run| run.first), Some(0));
        prop_assert_eq!(runs.last().map(|run| run.end), Some(BUCKETS));
        for pair in runs.windows(2) {
            prop_assert_eq!(pair[0].end, pair[1].first);
            prop_assert_ne!(pair[0].variant, pair[1].variant);
        }
    }

    #[test]
    fn no_bytes_are_a_panic(
        mut bytes in (2..4_usize).prop_flat_map(allocation).prop_map(|some| some.to_bytes()),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        end in any::<prop::sample::Index>(),
    ) {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = Allocation::from_bytes(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes.clone());
        }
        prop_assert!(Allocation::from_bytes(&bytes[..end.index(bytes.len())]).is_err());
    }

    #[test]
    fn weights_become_shares_within_one_basis_point(
        weights in prop::collection::vec(prop_oneof![Just(0.0), 1.0..1000.0_f64], 1..12),
    ) {
        let sum: f64 = weights.iter().sum();
        let shares = shares_of_weights(&weights);
        prop_assume!(sum > 0.0);
        let shares = shares.expect("no weight is below a thousandth of the largest");
        prop_assert_eq!(shares.iter().sum::<u16>(), BUCKETS);
        for (weight, share) in weights.iter().zip(shares) {
            prop_assert!((weight / sum * f64::from(BUCKETS) - f64::from(share)).abs() < 1.0);
            prop_assert_eq!(*weight == 0.0, share == 0);
        }
    }
}

#[test]
fn buckets_of_a_removed_variant_go_to_those_who_grow() {
    let before = initial(&[5_000, 3_000, 2_000]);
    // `b` (1) is gone, `c` (2) becomes number 1, and number 2 is new.
    let places = [Some(VariantId(0)), None, Some(VariantId(1))];
    let Retargeted { allocation, moved } =
        before.remap(&places, &[6_000, 3_000, 1_000]).expect("a remap");
    assert_eq!(moved, 3_000);
    assert_eq!(allocation.shares(), [6_000, 3_000, 1_000]);
    for bucket in (0..5_000).chain(8_000..10_000) {
        let VariantId(before) = before.variant_of(bucket);
        let kept = places[usize::from(before)].expect("it stays");
        assert_eq!(allocation.variant_of(bucket), kept);
    }
    // Reordering alone moves nobody.
    let swapped = before
        .remap(
            &[Some(VariantId(2)), Some(VariantId(1)), Some(VariantId(0))],
            &[2_000, 3_000, 5_000],
        )
        .expect("a remap");
    assert_eq!(swapped.moved, 0);
    assert_eq!(swapped.allocation.variant_of(0), VariantId(2));
}

#[test]
fn shares_that_cannot_be_dealt_are_refused() {
    let two = initial(&[9_000, 1_000]);
    assert_eq!(Allocation::initial(&[]), Err(ShareFault::NoVariants));
    assert_eq!(Allocation::initial(&[9_999]), Err(ShareFault::Sum { sum: 9_999 }));
    assert_eq!(Allocation::initial(&[u16::MAX; 3]), Err(ShareFault::Sum { sum: 196_605 }));
    assert_eq!(Allocation::initial(&[0; 257]), Err(ShareFault::TooMany { count: 257 }));
    assert_eq!(two.retarget(&[10_000]), Err(ShareFault::Count { variants: 2, given: 1 }));
    assert_eq!(two.remap(&[None], &[10_000]), Err(ShareFault::Count { variants: 2, given: 1 }));
    let both_first = [Some(VariantId(0)); 2];
    let place = |to| Err(ShareFault::Place { to: VariantId(to) });
    assert_eq!(two.remap(&both_first, &[10_000]), place(0));
    assert_eq!(two.remap(&[None, Some(VariantId(1))], &[10_000]), place(1));
    assert_eq!(
        ShareFault::Sum { sum: 9_500 }.to_string(),
        "shares add up to 9500 of 10000 basis points"
    );
}

#[test]
fn as_many_variants_as_a_byte_can_number_are_dealt() {
    let mut shares = [39; 256];
    shares[0] = 55;
    let allocation = initial(&shares);
    assert_eq!(allocation.variant_of(BUCKETS - 1), VariantId(255));
    assert_eq!(Allocation::from_bytes(&allocation.to_bytes()), Ok(allocation));
}

#[test]
fn one_variant_with_everything_is_known_to_be_alone() {
    let all = initial(&[0, 10_000]);
    assert_eq!(all.sole(), Some(VariantId(1)));
    let some = retarget(&all, &[1, 9_999]).allocation;
    assert_eq!(some.sole(), None);
    assert_eq!(retarget(&some, &[0, 10_000]).allocation.sole(), Some(VariantId(1)));
}

#[test]
fn bytes_are_not_believed_unchecked() {
    fn check(change: impl FnOnce(&mut Vec<u8>), fault: AllocationFault) {
        let mut bytes = initial(&[9_000, 1_000]).to_bytes();
        change(&mut bytes);
        assert_eq!(Allocation::from_bytes(&bytes), Err(fault));
    }
    check(Vec::clear, AllocationFault::Length { length: 0 });
    check(|bytes| bytes[0] = 2, AllocationFault::Version { version: 2 });
    check(|bytes| bytes.truncate(5), AllocationFault::Length { length: 5 });
    check(|bytes| bytes.push(0), AllocationFault::Length { length: 21 });
    check(|bytes| bytes.truncate(13), AllocationFault::Covered { covered: 9_000 });
    // Owned by a third of two variants; acquired in generation 1 of 0; the same again; empty.
    check(|bytes| bytes[15] = 2, AllocationFault::Stretch { stretch: 1 });
    check(|bytes| bytes[16] = 1, AllocationFault::Stretch { stretch: 1 });
    check(|bytes| bytes[15] = 0, AllocationFault::Stretch { stretch: 1 });
    check(|bytes| bytes[13..15].fill(0), AllocationFault::Stretch { stretch: 1 });
}

#[test]
fn weights_become_shares_by_largest_remainder() {
    #[track_caller]
    fn check(weights: &[f64], shares: &[u16]) {
        assert_eq!(shares_of_weights(weights).as_deref(), Ok(shares));
    }
    check(&[1.0], &[10_000]);
    check(&[95.0, 5.0], &[9_500, 500]);
    check(&[0.1, 0.2, 0.7], &[1_000, 2_000, 7_000]);
    check(&[1.0, 1.0, 1.0], &[3_334, 3_333, 3_333]);
    check(&[2.0, 2.0, 2.0, 0.0], &[3_334, 3_333, 3_333, 0]);
    check(&[0.0, 7.0], &[0, 10_000]);
    check(&[0.0, 1.0, 1.0, 1.0], &[0, 3_334, 3_333, 3_333]);
    check(&[f64::MAX, f64::MAX], &[5_000, 5_000]);
    check(&[f64::from_bits(1), f64::from_bits(1)], &[5_000, 5_000]);
    check(&[9_999.0, 1.0], &[9_999, 1]);
    check(&[-0.0, 1.0], &[0, 10_000]);
}

#[test]
fn weights_that_are_no_shares_are_refused() {
    #[track_caller]
    fn check(weights: &[f64], fault: WeightFault) {
        assert_eq!(shares_of_weights(weights), Err(fault));
    }
    check(&[], WeightFault::AllZero);
    check(&[0.0, 0.0], WeightFault::AllZero);
    check(&[1.0, f64::NAN], WeightFault::NotFinite { index: 1 });
    check(&[f64::INFINITY], WeightFault::NotFinite { index: 0 });
    check(&[1.0, -1.0], WeightFault::Negative { index: 1 });
    check(&[1e6, 1.0], WeightFault::TooSmall { index: 1 });
    check(&[f64::MAX, f64::from_bits(1)], WeightFault::TooSmall { index: 1 });
    check(&[1.0; 10_001], WeightFault::TooSmall { index: 10_000 });
}
