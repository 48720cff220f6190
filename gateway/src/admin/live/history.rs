//! The last fifteen minutes, second by second, in columns.
//!
//! A column is an array with a place for each second; all columns use the same place for the same
//! second. Counts are kept, not rates, so that seconds add up exactly, and quantiles are kept as
//! buckets of the sketch: 10 bytes a second for a route or a shadow, 18 for a variant. With 100 routes and 50
//! experiments of 4 variants that is 4 MiB, and it never becomes more.

use schemars::JsonSchema;
use serde::Serialize;

use super::named::Named;
use super::second::{Bucket, Numbers, Second, fraction, seconds, short};
use super::{Filter, News};

/// Seconds that are kept.
pub(super) const KEPT: usize = 15 * 60;

/// In a column of counts: there was no such route or variant.
const ABSENT: u32 = u32::MAX;
/// In a column of quantiles: there was none.
const NONE: u16 = u16::MAX;

/// Numbers over time, of which `at_unix` says the times.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct Past {
    /// The first second that is told.
    pub(super) from_unix: i64,
    /// The last one; what comes in frames is later.
    pub(super) to_unix: i64,
    /// Seconds to a place.
    pub(super) step: u32,
    /// The start of the process this was counted in: another one begins anew.
    pub(super) boot_id: String,
    /// Seconds since 1970 at which each place ends. A second that is not there was not counted.
    pub(super) at_unix: Vec<i64>,
    /// Everything together; left out with a filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gateway: Option<GatewayPast>,
    /// By route.
    pub(super) routes: Named<RoutePast>,
    /// By experiment.
    pub(super) experiments: Named<ExperimentPast>,
    /// By shadow.
    pub(super) shadows: Named<ShadowPast>,
    /// What happened since `from_unix`.
    pub(super) events: Vec<std::sync::Arc<News>>,
}

/// The whole gateway over time.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct GatewayPast {
    /// Requests a second that ended.
    pub(super) rate: Vec<Option<f64>>,
    /// Of them, the part that failed by the backend's fault.
    pub(super) failed: Vec<Option<f64>>,
    /// Requests a second that the gateway refused.
    pub(super) rejected: Vec<Option<f64>>,
}

/// A route over time.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RoutePast {
    /// Requests a second that ended.
    pub(super) rate: Vec<Option<f64>>,
    /// Of them, the part that failed by the backend's fault.
    pub(super) failed: Vec<Option<f64>>,
    /// 95 % of the requests of the last ten seconds took at most this long, in seconds.
    pub(super) p95: Vec<Option<f64>>,
}

/// A shadow over time.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ShadowPast {
    /// Copies a second that ended.
    pub(super) rate: Vec<Option<f64>>,
    /// Of them, the part that failed.
    pub(super) failed: Vec<Option<f64>>,
}

/// An experiment over time.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ExperimentPast {
    /// By variant, control first.
    pub(super) variants: Named<VariantPast>,
}

/// A variant over time.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct VariantPast {
    /// Requests a second that ended.
    pub(super) rate: Vec<Option<f64>>,
    /// Of them, the part that failed by the backend's fault.
    pub(super) failed: Vec<Option<f64>>,
    /// The part of the experiment's requests that was assigned to it.
    pub(super) assigned_share: Vec<Option<f64>>,
    /// Quantiles of the last ten seconds, in seconds.
    pub(super) p50: Vec<Option<f64>>,
    /// The same.
    pub(super) p95: Vec<Option<f64>>,
    /// The same.
    pub(super) p99: Vec<Option<f64>>,
}

/// A place for each second.
#[derive(Debug)]
struct Column<T>(Box<[T]>);

impl<T: Copy> Column<T> {
    fn new(nothing: T) -> Self {
        Self(vec![nothing; KEPT].into())
    }

    fn set(&mut self, row: usize, value: T) {
        self.0[row % KEPT] = value;
    }

    fn get(&self, row: usize) -> T {
        self.0[row % KEPT]
    }
}

fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(ABSENT - 1).min(ABSENT - 1)
}

fn packed(bucket: Bucket) -> u16 {
    bucket.unwrap_or(NONE)
}

/// One route or variant, from the second in which it was first seen: each later one has its place,
/// for whoever is missing in one is forgotten.
#[derive(Debug)]
struct Columns {
    requests: Column<u32>,
    failed: Column<u32>,
    /// Begun, of a variant; a route needs none.
    begun: Option<Column<u32>>,
    p95: Column<u16>,
    /// p50 and p99, of a variant.
    more: Option<(Column<u16>, Column<u16>)>,
}

impl Columns {
    fn new(is_variant: bool) -> Self {
        Self {
            requests: Column::new(ABSENT),
            failed: Column::new(0),
            begun: is_variant.then(|| Column::new(0)),
            p95: Column::new(NONE),
            more: is_variant.then(|| (Column::new(NONE), Column::new(NONE))),
        }
    }

    fn set(&mut self, row: usize, numbers: &Numbers) {
        let (counts, quantiles) = (&numbers.counts, &numbers.quantiles);
        self.requests.set(row, small(counts.requests));
        self.failed.set(row, small(counts.failures));
        self.p95.set(row, packed(quantiles.p95));
        if let Some(begun) = &mut self.begun {
            begun.set(row, small(counts.begun));
        }
        if let Some((p50, p99)) = &mut self.more {
            p50.set(row, packed(quantiles.p50));
            p99.set(row, packed(quantiles.p99));
        }
    }

    fn is_there(&self, row: usize) -> bool {
        self.requests.get(row) != ABSENT
    }
}

/// Columns by name, in the order in which they were last told.
#[derive(Debug, Default)]
struct Table(Vec<(String, Columns)>);

impl Table {
    /// Writes a second, and forgets who is not in it: what is kept is bounded by the configuration.
    fn push(&mut self, row: usize, numbers: &[Numbers], is_variant: bool) {
        let mut before = std::mem::take(&mut self.0);
        self.0.reserve(numbers.len());
        for numbers in numbers {
            let known = before.iter().position(|(name, _)| *name == numbers.name);
            let (name, mut columns) = known.map_or_else(
                || (numbers.name.clone(), Columns::new(is_variant)),
                |place| before.swap_remove(place),
            );
            columns.set(row, numbers);
            self.0.push((name, columns));
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    at_unix: i64,
    micros: u32,
    requests: u64,
    failed: u64,
    refused: u64,
}

/// The last fifteen minutes.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Seconds, the oldest first. The last has the place `next - 1`.
    rows: std::collections::VecDeque<Row>,
    /// Place of the next second, counted from the start.
    next: usize,
    routes: Table,
    experiments: Vec<Kept>,
    shadows: Table,
}

/// One experiment.
#[derive(Debug)]
struct Kept {
    name: String,
    route: String,
    table: Table,
}

impl History {
    /// One more second. A clock that went back begins the history anew.
    pub(super) fn push(&mut self, second: &Second) {
        if self.last().is_some_and(|last| second.at_unix <= last) {
            *self = Self::default();
        }
        let row = self.next;
        self.next += 1;
        self.rows.push_back(Row {
            at_unix: second.at_unix,
            micros: second.micros,
            requests: second.gateway.requests,
            failed: second.gateway.failures,
            refused: second.gateway.refused,
        });
        if self.rows.len() > KEPT {
            self.rows.pop_front();
        }
        self.routes.push(row, &second.routes, false);
        self.shadows.push(row, &second.shadows, false);
        let mut before = std::mem::take(&mut self.experiments);
        for experiment in &second.experiments {
            let known = before.iter().position(|known| known.name == experiment.name);
            let table = known.map(|place| before.swap_remove(place).table);
            let (name, route) = (experiment.name.clone(), experiment.route.clone());
            let mut kept = Kept { name, route, table: table.unwrap_or_default() };
            kept.table.push(row, &experiment.variants, true);
            self.experiments.push(kept);
        }
    }

    /// The last second, seconds since 1970.
    pub(super) fn last(&self) -> Option<i64> {
        self.rows.back().map(|row| row.at_unix)
    }

    /// What is kept of the seconds after `after`, `step` of them to a place.
    pub(super) fn told(&self, after: i64, step: u32, filter: &Filter, boot_id: String) -> Past {
        let first = self.next - self.rows.len();
        let rows: Vec<(usize, Row)> = self
            .rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.at_unix > after)
            .map(|(at, row)| (first + at, *row))
            .collect();
        let step = step.max(1);
        // Places end at whole multiples of the step, so that whoever asks again gets the same places.
        let groups: Vec<&[(usize, Row)]> = rows
            .chunk_by(|(_, a), (_, b)| {
                let place = |row: &Row| (row.at_unix - 1).div_euclid(i64::from(step));
                place(a) == place(b)
            })
            .collect();
        let gateway = filter.is_all().then(|| GatewayPast {
            rate: per_second(&groups, |(_, row)| Some(row.requests)),
            failed: parts(&groups, |(_, row)| Some((row.failed, row.requests))),
            rejected: per_second(&groups, |(_, row)| Some(row.refused)),
        });
        let routes = self.routes.0.iter().filter(|(name, _)| filter.wants_route(name));
        let experiments = self.experiments.iter().filter(|of| filter.wants(&of.name, &of.route));
        let now = self.last().unwrap_or(after);
        Past {
            from_unix: rows.first().map_or(now, |(_, row)| row.at_unix),
            to_unix: now,
            step,
            boot_id,
            at_unix: groups.iter().filter_map(|of| Some(of.last()?.1.at_unix)).collect(),
            gateway,
            routes: routes.map(|(name, of)| (name.clone(), route(of, &groups))).collect(),
            experiments: experiments
                .map(|of| (of.name.clone(), experiment(&of.table, &groups)))
                .collect(),
            shadows: self
                .shadows
                .0
                .iter()
                .map(|(name, of)| (name.clone(), shadow(of, &groups)))
                .collect(),
            events: Vec::new(),
        }
    }
}

type Group<'a> = &'a [(usize, Row)];

/// A count as a rate; nothing where it was never there.
fn per_second(groups: &[Group<'_>], of: impl Fn(&(usize, Row)) -> Option<u64>) -> Vec<Option<f64>> {
    let rate = |group: &Group<'_>| {
        let (mut count, mut micros) = (0u64, 0u64);
        for row in *group {
            let Some(more) = of(row) else { continue };
            count += more;
            micros += u64::from(row.1.micros);
        }
        (micros > 0).then(|| short(count as f64 * 1e6 / micros as f64))
    };
    groups.iter().map(rate).collect()
}

/// A part of a whole; nothing where there is no whole.
fn parts(
    groups: &[Group<'_>],
    of: impl Fn(&(usize, Row)) -> Option<(u64, u64)>,
) -> Vec<Option<f64>> {
    let part = |group: &Group<'_>| {
        let pairs = group.iter().filter_map(&of);
        let (part, whole) = pairs.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        fraction(part, whole)
    };
    groups.iter().map(part).collect()
}

/// A quantile at the end of each place: it looks back itself.
fn quantiles(groups: &[Group<'_>], of: &Columns, column: &Column<u16>) -> Vec<Option<f64>> {
    let last = |group: &Group<'_>| {
        let (row, _) = group.last().filter(|(row, _)| of.is_there(*row))?;
        seconds(Some(column.get(*row)).filter(|bucket| *bucket != NONE))
    };
    groups.iter().map(last).collect()
}

fn rate(of: &Columns, groups: &[Group<'_>]) -> Vec<Option<f64>> {
    per_second(groups, |(row, _)| of.is_there(*row).then(|| u64::from(of.requests.get(*row))))
}

fn failed(of: &Columns, groups: &[Group<'_>]) -> Vec<Option<f64>> {
    parts(groups, |(row, _)| {
        let pair = (u64::from(of.failed.get(*row)), u64::from(of.requests.get(*row)));
        of.is_there(*row).then_some(pair)
    })
}

fn route(of: &Columns, groups: &[Group<'_>]) -> RoutePast {
    RoutePast {
        rate: rate(of, groups),
        failed: failed(of, groups),
        p95: quantiles(groups, of, &of.p95),
    }
}

fn shadow(of: &Columns, groups: &[Group<'_>]) -> ShadowPast {
    ShadowPast { rate: rate(of, groups), failed: failed(of, groups) }
}

fn experiment(table: &Table, groups: &[Group<'_>]) -> ExperimentPast {
    let begun = |of: &Columns, row: usize| {
        let begun = of.begun.as_ref().filter(|_| of.is_there(row));
        begun.map_or(0, |begun| u64::from(begun.get(row)))
    };
    let all = |row: usize| table.0.iter().map(|(_, of)| begun(of, row)).sum::<u64>();
    let variant = |of: &Columns| VariantPast {
        rate: rate(of, groups),
        failed: failed(of, groups),
        assigned_share: parts(groups, |(row, _)| {
            of.is_there(*row).then(|| (begun(of, *row), all(*row)))
        }),
        p50: of.more.as_ref().map_or_else(Vec::new, |(p50, _)| quantiles(groups, of, p50)),
        p95: quantiles(groups, of, &of.p95),
        p99: of.more.as_ref().map_or_else(Vec::new, |(_, p99)| quantiles(groups, of, p99)),
    };
    let variants = table.0.iter().map(|(name, of)| (name.clone(), variant(of)));
    ExperimentPast { variants: variants.collect() }
}

#[cfg(test)]
mod tests;
