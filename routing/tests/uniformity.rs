//! Units spread evenly over the buckets, however their names look, and two salts know nothing of
//! each other. Bounds are the 1e-4 and 1 - 1e-4 quantiles of chi-square.

use routing::{BUCKETS, HashKey, Salt};
use std::fmt::Write;

const KEY: HashKey = HashKey([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
const UNITS: u32 = 1_000_000;

/// `sum((observed - expected)^2 / expected)` over `groups` equal groups of buckets.
fn chi_square(groups: u16, name: impl Fn(&mut String, u32)) -> f64 {
    let salt = Salt::new(&KEY, "uniformity/variant");
    let mut counts = vec![0_u32; groups.into()];
    let mut unit = String::new();
    for n in 0..UNITS {
        unit.clear();
        name(&mut unit, n);
        counts[usize::from(salt.bucket(&unit) / (BUCKETS / groups))] += 1;
    }
    let expected = f64::from(UNITS) / f64::from(groups);
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

#[track_caller]
fn check_100_groups(name: impl Fn(&mut String, u32)) {
    let chi_square = chi_square(100, name);
    assert!((54.99..=160.06).contains(&chi_square), "{chi_square}");
}

#[test]
fn sequential_ids_spread_evenly() {
    check_100_groups(|unit, n| write!(unit, "{n}").expect("a string takes all"));
}

#[test]
fn random_looking_ids_spread_evenly() {
    check_100_groups(|unit, n| {
        // Splitmix64, twice, in the shape of a UUID.
        let mix = |seed: u64| {
            let z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let (high, low) = (mix(u64::from(n) * 2 + 1), mix(u64::from(n) * 2 + 2));
        let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0xfff);
        let (d, e) = (low >> 48 & 0x3fff | 0x8000, low & 0xffff_ffff_ffff);
        write!(unit, "{a:08x}-{b:04x}-4{c:03x}-{d:04x}-{e:012x}").expect("a string takes all");
    });
}

#[test]
fn ids_with_a_common_prefix_spread_evenly() {
    check_100_groups(|unit, n| {
        unit.push_str("tenant-0000000000000000/customer-00000000/user-");
        write!(unit, "{n:010}").expect("a string takes all");
    });
}

#[test]
fn every_bucket_gets_its_part() {
    let chi_square =
        chi_square(BUCKETS, |unit, n| write!(unit, "user-{n}").expect("a string takes all"));
    assert!((9_481.6..=10_533.5).contains(&chi_square), "{chi_square}");
}

#[test]
fn two_salts_are_independent() {
    let (one, two) = (Salt::new(&KEY, "one/variant"), Salt::new(&KEY, "two/variant"));
    let mut table = [[0.0_f64; 20]; 20];
    let mut unit = String::new();
    for n in 0..UNITS {
        unit.clear();
        write!(unit, "user-{n}").expect("a string takes all");
        let group = |salt: &Salt| usize::from(salt.bucket(&unit) / (BUCKETS / 20));
        table[group(&one)][group(&two)] += 1.0;
    }
    let rows = table.map(|row| row.iter().sum::<f64>());
    let mut chi_square = 0.0;
    for column in 0..20 {
        let of_column: f64 = table.iter().map(|row| row[column]).sum();
        for (row, of_row) in table.iter().zip(rows) {
            let expected = of_row * of_column / f64::from(UNITS);
            chi_square += (row[column] - expected).powi(2) / expected;
        }
    }
    assert!((269.5..=469.6).contains(&chi_square), "{chi_square}");
}
