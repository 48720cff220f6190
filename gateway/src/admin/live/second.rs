//! One second in numbers: what history keeps of it and what a frame tells of it.

use std::collections::HashMap;

use policies::sketch;

use crate::admin::Context;
use crate::admin::rates::{Counts, Window};
use crate::backends::ShadowResult;
use crate::recorder::tally::{Tally, TallyKey};

/// A quantile as a bucket of the sketch: exact, and two bytes.
pub(super) type Bucket = Option<u16>;

/// Its value in seconds, in four digits: a bucket is 2 % wide.
pub(super) fn seconds(bucket: Bucket) -> Option<f64> {
    bucket.map(|bucket| short(sketch::edge(usize::from(bucket))))
}

/// A number in four significant digits, since it is told every second.
pub(super) fn short(number: f64) -> f64 {
    if number == 0.0 || !number.is_finite() {
        return 0.0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a finite number is small")]
    let digits = 3 - number.abs().log10().floor() as i32;
    let scale = 10f64.powi(digits.clamp(-300, 300));
    let rounded = (number * scale).round() / scale;
    if rounded.is_finite() { rounded } else { number }
}

/// `part / whole`, unless there is no whole.
pub(super) fn fraction(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| short(part as f64 / whole as f64))
}

/// The quantiles of the window that ends with this second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Quantiles {
    pub(super) p50: Bucket,
    pub(super) p95: Bucket,
    pub(super) p99: Bucket,
    pub(super) first_byte_p95: Bucket,
}

impl Quantiles {
    fn of(window: &Window) -> Self {
        let bucket = |sketch: &sketch::Sketch, q| {
            sketch.quantile_bucket(q).and_then(|bucket| u16::try_from(bucket).ok())
        };
        Self {
            p50: bucket(&window.duration, 0.5),
            p95: bucket(&window.duration, 0.95),
            p99: bucket(&window.duration, 0.99),
            first_byte_p95: bucket(&window.first_byte, 0.95),
        }
    }
}

/// One route or variant in one second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Numbers {
    pub(super) name: String,
    pub(super) counts: Counts,
    pub(super) quantiles: Quantiles,
    /// Requests under way.
    pub(super) in_flight: u64,
}

/// One experiment in one second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Experiment {
    pub(super) name: String,
    /// Its route.
    pub(super) route: String,
    /// Variants, control first.
    pub(super) variants: Vec<Numbers>,
}

/// One second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Second {
    /// When it ended, seconds since 1970.
    pub(super) at_unix: i64,
    /// How long it was, microseconds.
    pub(super) micros: u32,
    /// Everything that ended, and every refusal.
    pub(super) gateway: Counts,
    /// Routes, in the order of the file.
    pub(super) routes: Vec<Numbers>,
    /// Experiments by name.
    pub(super) experiments: Vec<Experiment>,
    /// Shadows, in the order of the file: copies that ended, and as refused those that were not sent.
    pub(super) shadows: Vec<Numbers>,
}

/// What was counted of copies when the second before ended, by shadow. Who is gone may come back, and
/// goes on counting then.
#[derive(Debug, Default)]
pub(super) struct Copies(HashMap<String, [u64; 3]>);

impl Second {
    /// Counts `now` and what was there a second ago.
    pub(super) fn count(context: &Context, copies: &mut Copies, at_unix: i64) -> Self {
        let shared = &context.shared;
        let now = shared.tallies.by_variant();
        let (counts, took) = context.rates.tick(&now);
        let mut by_route: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut by_variant: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
        for (at, (key, _)) in now.iter().enumerate() {
            by_route.entry(key.route).or_default().push(at);
            if !key.experiment.is_empty() {
                by_variant.entry((key.experiment, key.variant)).or_default().push(at);
            }
        }
        let numbers = |name: &str, places: Option<&Vec<usize>>| {
            numbers(context, name, &now, &counts, places.map_or(&[], Vec::as_slice))
        };
        let view = context.changes.view();
        let routes = view.plan.routes.iter();
        let experiments = view.plan.experiments.iter().filter_map(|experiment| {
            let live = view.live.get(&*experiment.name)?;
            let variants = live.weights.iter().map(|(variant, _)| {
                numbers(variant, by_variant.get(&(&*experiment.name, variant.as_str())))
            });
            Some(Experiment {
                name: experiment.name.to_string(),
                route: view.plan.routes[experiment.route].name.to_string(),
                variants: variants.collect(),
            })
        });
        let mut gateway = Counts::default();
        counts.iter().for_each(|of| gateway.add(*of));
        // Most refusals find no route.
        gateway.refused = context.live.refused_since(
            shared.counters.each().flat_map(|of| of.rejected.iter().flatten()).map(load).sum(),
        );
        Self {
            at_unix,
            micros: u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1),
            gateway,
            routes: routes.map(|route| numbers(&route.name, by_route.get(&*route.name))).collect(),
            experiments: experiments.collect(),
            shadows: shadows(context, copies),
        }
    }
}

fn shadows(context: &Context, copies: &mut Copies) -> Vec<Numbers> {
    let snapshot = context.shared.current.load();
    let tallies = context.shared.shadow_tallies.by_variant();
    let mut told = Vec::new();
    for (route, shadow) in
        snapshot.routes.iter().flat_map(|r| r.shadows.iter().map(move |s| (r, s)))
    {
        let tally = tallies
            .iter()
            .find(|(key, _)| key.route == route.name && key.experiment == shadow.name)
            .map(|(_, tally)| tally);
        let backend = &snapshot.backends[shadow.backend];
        let dropped = |result: ShadowResult| -> u64 {
            backend.life.counts.iter().map(|of| load(&of.shadows[result as usize])).sum()
        };
        let counted = [
            tally.map_or(0, |tally| tally.requests()),
            tally.map_or(0, |tally| tally.failures()),
            dropped(ShadowResult::DroppedQueue)
                + dropped(ShadowResult::DroppedBody)
                + dropped(ShadowResult::DroppedPolicy),
        ];
        // One that is new has counted nothing, but its backend may have dropped copies of another.
        let before = copies.0.insert(shadow.name.to_owned(), counted);
        let before = before.unwrap_or([0, 0, counted[2]]);
        let [requests, failures, refused] =
            [0, 1, 2].map(|at: usize| counted[at].saturating_sub(before[at]));
        let counts = Counts { requests, failures, refused, ..Counts::default() };
        told.push(Numbers { name: shadow.name.to_owned(), counts, ..Numbers::default() });
    }
    told
}

fn load(count: &std::sync::atomic::AtomicU64) -> u64 {
    count.load(std::sync::atomic::Ordering::Relaxed)
}

fn numbers(
    context: &Context,
    name: &str,
    now: &[(TallyKey, Tally)],
    counts: &[Counts],
    places: &[usize],
) -> Numbers {
    let keys = || places.iter().filter_map(|at| now.get(*at));
    let mut sum = Counts::default();
    places.iter().filter_map(|at| counts.get(*at)).for_each(|of| sum.add(*of));
    // Ends are read before beginnings, so this is never too low by what moves on meanwhile.
    let in_flight = keys().map(|(_, tally)| tally.started.saturating_sub(tally.requests())).sum();
    let window = context.rates.window_of(keys());
    Numbers { name: name.to_owned(), counts: sum, quantiles: Quantiles::of(&window), in_flight }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_in_four_digits() {
        for (long, told) in [
            (0.0, "0.0"),
            (1.0 / 3.0, "0.3333"),
            (118.123_456, "118.1"),
            (0.000_123_456, "0.0001235"),
            (123_456.0, "123500.0"),
            (-2.561_281, "-2.561"),
        ] {
            assert_eq!(format!("{:?}", short(long)), told);
        }
        assert_eq!(fraction(1, 0), None);
        assert_eq!(fraction(1, 8), Some(0.125));
    }
}
