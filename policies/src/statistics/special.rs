//! The functions of mathematics that the rest of `statistics` is made of.
//!
//! Sums of exponentials, the gamma and normal distributions' integrals, and a bisection that
//! cannot fail. ln gamma and erfc come from `libm` (FreeBSD's code), within a digit of exact and
//! the same on every machine.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// `ln(sum of exp(term))`, without overflow.
///
/// Minus infinity for no terms, and if every term is minus infinity; NaN if one is NaN.
pub fn log_sum_exp(terms: &[f64]) -> f64 {
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_infinite() {
        // `max` passes over NaN, which must not get lost.
        return if terms.iter().any(|term| term.is_nan()) { f64::NAN } else { largest };
    }
    largest + terms.iter().map(|term| (term - largest).exp()).sum::<f64>().ln()
}

/// `exp(log_e)` for showing, capped at `exp(700)` so that it stays a number.
pub fn e_value(log_e: f64) -> f64 {
    log_e.min(700.0).exp()
}

/// `ln` of the gamma function, for `x > 0`.
pub fn ln_gamma(x: f64) -> f64 {
    libm::lgamma(x)
}

/// What Stirling's formula leaves over: `ln_gamma(x) - [(x - 1/2) ln x - x + ln(2 pi)/2]`, `x > 0`.
///
/// It is below `1/(12 x)`, while both sides of the difference grow like `x ln x`: whoever wants the
/// difference of two large ln gammas takes the formula's parts together by hand, and this for the
/// rest.
pub fn stirling_rest(x: f64) -> f64 {
    if x < 16.0 {
        let formula = (x - 0.5) * x.ln() - x + 0.5 * (2.0 * PI).ln();
        return ln_gamma(x) - formula;
    }
    // Bernoulli numbers; the next term is below 1e-16 from 16 on.
    let y = 1.0 / (x * x);
    let series = -691.0 / 360_360.0;
    let series = series * y + 1.0 / 1_188.0;
    let series = series * y - 1.0 / 1_680.0;
    let series = series * y + 1.0 / 1_260.0;
    let series = series * y - 1.0 / 360.0;
    (series * y + 1.0 / 12.0) / x
}

/// The complement of the error function: `2/sqrt(pi)` times the integral of `exp(-t^2)` from `x`
/// on.
pub fn erfc(x: f64) -> f64 {
    libm::erfc(x)
}

/// The chance that a standard normal number is at most `z`.
pub fn phi(z: f64) -> f64 {
    // Through erfc, which keeps its digits far out on either side.
    0.5 * erfc(-z * FRAC_1_SQRT_2)
}

/// The number that a standard normal one is at or below with chance `p`: the inverse of [`phi`].
///
/// Minus infinity at 0, infinity at 1, NaN outside. Relative error about 1e-16.
///
/// Source: Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied
/// Statistics 37(3), 1988 (PPND16).
#[expect(clippy::excessive_precision, reason = "the digits are the paper's")]
pub fn phi_inverse(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * fraction(
            r,
            [
                2_509.080_928_730_122_672_7,
                33_430.575_583_588_128_105,
                67_265.770_927_008_700_853,
                45_921.953_931_549_871_457,
                13_731.693_765_509_461_125,
                1_971.590_950_306_551_442_7,
                133.141_667_891_784_377_45,
                3.387_132_872_796_366_608_0,
            ],
            [
                5_226.495_278_852_854_561_0,
                28_729.085_735_721_942_674,
                39_307.895_800_092_710_610,
                21_213.794_301_586_595_867,
                5_394.196_021_424_751_107_7,
                687.187_007_492_057_908_30,
                42.313_330_701_600_911_252,
                1.0,
            ],
        );
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    if tail == 0.0 {
        return q * f64::INFINITY;
    }
    let r = (-tail.ln()).sqrt();
    let z = if r <= 5.0 {
        fraction(
            r - 1.6,
            [
                7.745_450_142_783_414_076_4e-4,
                2.272_384_498_926_918_458_33e-2,
                2.417_807_251_774_506_117_7e-1,
                1.270_458_252_452_368_382_58,
                3.647_848_324_763_204_604_0,
                5.769_497_221_460_691_405_5,
                4.630_337_846_156_545_295_9,
                1.423_437_110_749_683_577_34,
            ],
            [
                1.050_750_071_644_416_843_24e-9,
                5.475_938_084_995_344_946e-4,
                1.519_866_656_361_645_719_66e-2,
                1.481_039_764_274_800_745_9e-1,
                6.897_673_349_851_000_045_5e-1,
                1.676_384_830_183_803_849_40,
                2.053_191_626_637_758_821_87,
                1.0,
            ],
        )
    } else {
        fraction(
            r - 5.0,
            [
                2.010_334_399_292_288_132_65e-7,
                2.711_555_568_743_487_578_15e-5,
                1.242_660_947_388_078_438_60e-3,
                2.653_218_952_657_612_309_3e-2,
                2.965_605_718_285_048_912_30e-1,
                1.784_826_539_917_291_335_80,
                5.463_784_911_164_114_369_90,
                6.657_904_643_501_103_777_20,
            ],
            [
                2.044_263_103_389_939_785_64e-15,
                1.421_511_758_316_445_888_70e-7,
                1.846_318_317_510_054_681_8e-5,
                7.868_691_311_456_132_591e-4,
                1.487_536_129_085_061_485_25e-2,
                1.369_298_809_227_358_053_10e-1,
                5.998_322_065_558_879_376_90e-1,
                1.0,
            ],
        )
    };
    z.copysign(q)
}

/// The quotient of two polynomials, highest power first.
fn fraction(r: f64, above: [f64; 8], below: [f64; 8]) -> f64 {
    let at = |terms: [f64; 8]| terms.into_iter().fold(0.0, |sum, term| sum * r + term);
    at(above) / at(below)
}

/// The chance that a chi-square number with `df` degrees of freedom is at least `x`.
///
/// 1 for `x <= 0` or `df = 0`. The upper incomplete gamma function at `(df/2, x/2)`: its series
/// below the mean, its continued fraction (by Lentz) above; relative error about 1e-14 for the
/// degrees that occur here.
pub fn chi_square_tail(x: f64, df: u64) -> f64 {
    // Steps enough for thousands of degrees; both expansions need about sqrt(df) of them.
    const STEPS: u32 = 10_000;
    if x.is_nan() {
        return x;
    }
    if x <= 0.0 || df == 0 {
        return 1.0;
    }
    let (a, x) = (df as f64 / 2.0, x / 2.0);
    let front = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum, mut next) = (1.0 / a, 1.0 / a, a);
        for _ in 0..STEPS {
            next += 1.0;
            term *= x / next;
            sum += term;
            if term < sum * f64::EPSILON {
                break;
            }
        }
        return 1.0 - front * sum;
    }
    let mut b = x + 1.0 - a;
    let mut c = f64::MAX;
    let mut d = 1.0 / b;
    let mut value = d;
    for i in 1..=STEPS {
        let i = f64::from(i);
        let an = -i * (i - a);
        b += 2.0;
        d = 1.0 / (an * d + b);
        c = b + an / c;
        let change = c * d;
        value *= change;
        if (change - 1.0).abs() <= f64::EPSILON {
            break;
        }
    }
    front * value
}

/// The border between where `is_inside` holds and where it does not, to within `width`.
///
/// `is_inside` must hold at `inside`, not at `outside`, and change once between them; `outside` may
/// lie on either side. `None` if the two ends say otherwise, so that the caller has to say what a
/// search without a border means. At most 200 halvings, whatever the width.
///
/// What comes back is the innermost point that was tried: `is_inside` holds there.
pub fn bisect(
    inside: f64,
    outside: f64,
    width: f64,
    is_inside: impl Fn(f64) -> bool,
) -> Option<f64> {
    if !is_inside(inside) || is_inside(outside) {
        return None;
    }
    let (mut inside, mut outside) = (inside, outside);
    for _ in 0..200 {
        let middle = 0.5 * (inside + outside);
        if (inside - outside).abs() <= width || middle == inside || middle == outside {
            break;
        }
        if is_inside(middle) {
            inside = middle;
        } else {
            outside = middle;
        }
    }
    Some(inside)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(got: f64, expected: f64, relative: f64) {
        let gap = (got - expected).abs();
        assert!(gap <= relative * expected.abs(), "{got} instead of {expected}");
    }

    #[test]
    fn sums_of_exponentials_neither_overflow_nor_lose_a_nan() {
        close(log_sum_exp(&[1000.0, 1000.0]), 1000.0 + 2_f64.ln(), 1e-15);
        close(log_sum_exp(&[-1000.0, -1001.0]), -1000.0 + (-1_f64).exp().ln_1p(), 1e-15);
        assert_eq!(log_sum_exp(&[]), f64::NEG_INFINITY);
        assert_eq!(log_sum_exp(&[f64::NEG_INFINITY]), f64::NEG_INFINITY);
        assert_eq!(log_sum_exp(&[0.0, f64::INFINITY]), f64::INFINITY);
        assert!(log_sum_exp(&[f64::NAN, f64::NEG_INFINITY]).is_nan());
        assert!(log_sum_exp(&[f64::NAN, 1.0]).is_nan());
        assert!(e_value(1e9).is_finite());
    }

    #[test]
    fn ln_gamma_is_the_logarithm_of_factorials() {
        let mut factorial = 0.0;
        for n in 1..200_u32 {
            factorial += f64::from(n).ln();
            let x = f64::from(n) + 1.0;
            if n > 1 {
                close(ln_gamma(x), factorial, 2e-14);
            }
            let formula = (x - 0.5) * x.ln() - x + 0.5 * (2.0 * PI).ln();
            assert!((stirling_rest(x) + formula - factorial).abs() < 1e-12, "{n}");
        }
        close(ln_gamma(0.5), PI.sqrt().ln(), 1e-15);
    }

    #[test]
    fn the_rest_of_stirlings_formula_is_the_same_by_both_ways() {
        // Either side of the border between subtracting and the series.
        let (below, above) = (stirling_rest(16.0_f64.next_down()), stirling_rest(16.0));
        assert!((below - above).abs() < 2e-14, "{below} {above}");
        // Far out the first term is all there is.
        close(stirling_rest(1e10), 8.333_333_333_333_333e-12, 1e-15);
    }

    #[test]
    fn normal_probabilities_are_those_of_the_tables() {
        assert_eq!(phi(0.0), 0.5);
        close(phi(1.959_963_984_540_054), 0.975, 1e-15);
        close(phi(-6.0), 9.865_876_450_376_98e-10, 1e-13);
        close(phi_inverse(0.975), 1.959_963_984_540_054, 1e-15);
        // The check values of AS 241.
        close(phi_inverse(0.25), -0.674_489_750_196_081_7, 1e-15);
        close(phi_inverse(0.001), -3.090_232_306_167_813_5, 1e-15);
        close(phi_inverse(1e-20), -9.262_340_089_798_408, 1e-15);
        assert_eq!(phi_inverse(0.0), f64::NEG_INFINITY);
        assert_eq!(phi_inverse(1.0), f64::INFINITY);
        assert!(phi_inverse(-0.1).is_nan() && phi_inverse(f64::NAN).is_nan());
    }

    #[test]
    fn chi_square_tails_are_those_of_the_tables() {
        close(chi_square_tail(3.841_458_820_694_124, 1), 0.05, 1e-12);
        close(chi_square_tail(16.918_977_604_620_448, 9), 0.05, 1e-12);
        // Two degrees are an exponential number: exp(-x/2).
        for x in [0.1, 1.0, 3.0, 10.0, 100.0] {
            close(chi_square_tail(x, 2), (-x / 2.0).exp(), 1e-13);
        }
        // One degree is the square of a normal number.
        for z in [0.1, 1.0, 1.4, 2.0, 5.0] {
            close(chi_square_tail(z * z, 1), 2.0 * phi(-z), 1e-12);
        }
        close(chi_square_tail(54.99, 99), 1.0 - 1e-4, 1e-6);
        assert_eq!(chi_square_tail(0.0, 3), 1.0);
        assert_eq!(chi_square_tail(5.0, 0), 1.0);
    }

    #[test]
    fn a_bracket_without_a_border_has_no_answer() {
        assert_eq!(bisect(0.0, 1.0, 0.0, |_| true), None);
        assert_eq!(bisect(0.0, 1.0, 0.0, |_| false), None);
        assert_eq!(bisect(0.0, 1.0, 0.0, |x| x <= 0.25), Some(0.25));
        assert_eq!(bisect(1.0, 0.0, 0.0, |x| x >= 0.25), Some(0.25));
        assert_eq!(bisect(f64::NAN, 1.0, 0.0, |x| x < 0.5), None);
    }

    proptest! {
        #[test]
        fn the_inverse_undoes_phi(z in -8.0..5.0_f64) {
            prop_assert!((phi_inverse(phi(z)) - z).abs() < 1e-9);
        }

        #[test]
        fn tails_fall(x in 0.0..500.0_f64, more in 0.0..50.0_f64, df in 1..400_u64) {
            prop_assert!(chi_square_tail(x + more, df) <= chi_square_tail(x, df) + 1e-13);
        }
    }
}
