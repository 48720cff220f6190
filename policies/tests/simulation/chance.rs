//! Chance, the same for a seed for ever.

use policies::evidence::mix64;
use policies::statistics::special::phi_inverse;

/// SplitMix64. Steele, Lea, Flood, OOPSLA 2014.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(mix64(seed))
    }

    pub fn bits(&mut self) -> u64 {
        let bits = mix64(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits
    }

    /// Between 0 and 1, never either.
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        phi_inverse(self.unit())
    }

    /// Time to the next of events that come so often.
    pub fn wait(&mut self, rate: f64) -> f64 {
        -self.unit().ln() / rate
    }

    /// How many of events that come so often on average. Beyond 64 by the normal distribution, whose
    /// skewness is then an eighth or less.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 64.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (least, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > least {
            product *= self.unit();
            count += 1;
        }
        count
    }
}

/// The value below which so large a part of them lies.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values
        .get(((values.len() as f64 * part) as usize).min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}
