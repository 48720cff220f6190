//! The two text formats that scrapers read: Prometheus 0.0.4 and OpenMetrics 1.0.
//!
//! Numbers come in as they are, already summed; nothing is kept between two scrapes. A label with
//! more values than [`MOST_VALUES`] is folded into `_overflow` (hardening L19), so that a mistake in
//! a configuration cannot fill the memory of whoever scrapes.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use super::names::{self, Kind, Metric};

/// Distinct values of one label of one metric (L19).
pub const MOST_VALUES: usize = 200;

/// What takes the place of further values.
pub const OVERFLOW: &str = "_overflow";

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Prometheus text, version 0.0.4: what everything understands.
    #[default]
    Prometheus004,
    /// OpenMetrics text, version 1.0.0.
    OpenMetrics,
}

impl Dialect {
    /// The one a scraper's `Accept` prefers. OpenMetrics only if it is asked for by name, because a
    /// browser or `curl` accepts anything and understands the older one better.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let (mut open, mut text) = (0.0_f32, 0.0_f32);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let (mut quality, mut version) = (1.0, None);
            for parameter in parts {
                let Some((name, value)) = parameter.split_once('=') else { continue };
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            if kind.eq_ignore_ascii_case("application/openmetrics-text") {
                // 0.0.1 was the draft; its text is the same.
                if matches!(version, None | Some("1.0.0" | "0.0.1")) {
                    open = open.max(quality);
                }
            } else if kind.eq_ignore_ascii_case("text/plain")
                && matches!(version, None | Some("0.0.4"))
            {
                text = text.max(quality);
            }
        }
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Prometheus004 }
    }

    /// Value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus004 => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A value of a counter or a gauge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Exact.
    Whole(u64),
    /// Anything else.
    Real(f64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self::Whole(number as u64)
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

impl From<bool> for Number {
    fn from(on: bool) -> Self {
        Self::Whole(on.into())
    }
}

impl Number {
    fn add(self, other: Self) -> Self {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Self::Whole(a.saturating_add(b)),
            (a, b) => Self::Real(a.real() + b.real()),
        }
    }

    fn real(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Real(real) => real,
        }
    }
}

/// Series beyond the cap, added up.
#[derive(Debug)]
enum Folded {
    Counter(Number),
    Histogram { bounds: Box<[f64]>, counts: Vec<u64>, sum: f64 },
}

/// The family being written.
#[derive(Debug)]
struct Family {
    metric: Metric,
    // Distinct values so far, by label.
    seen: Vec<HashSet<Box<str>>>,
    folded: BTreeMap<Vec<String>, Folded>,
    // Series that lost a label.
    overflown: u64,
}

/// A text under way. Families are written one after the other, each with all its series.
#[derive(Debug)]
pub struct Exposition {
    dialect: Dialect,
    out: String,
    family: Option<Family>,
    // Of every family with labels: how many series were folded.
    overflows: Vec<(&'static str, u64)>,
}

impl Exposition {
    /// An empty one.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, out: String::with_capacity(64 << 10), family: None, overflows: Vec::new() }
    }

    /// Begins a metric: the series that follow are its own. One without series is announced all the
    /// same.
    pub fn family(&mut self, metric: &Metric) {
        self.end_family();
        let (name, kind) = match self.dialect {
            Dialect::Prometheus004 if metric.kind == Kind::Info => (metric.name, "gauge"),
            Dialect::Prometheus004 => (metric.name, metric.kind.as_str()),
            Dialect::OpenMetrics => (family_name(metric), metric.kind.as_str()),
        };
        // Writing to a string does not fail, here and below.
        let _ = writeln!(self.out, "# TYPE {name} {kind}");
        if self.dialect == Dialect::OpenMetrics && !metric.unit.is_empty() {
            let _ = writeln!(self.out, "# UNIT {name} {}", metric.unit);
        }
        let _ = write!(self.out, "# HELP {name} ");
        match self.dialect {
            // There, quotes stand for themselves.
            Dialect::Prometheus004 => escape(&mut self.out, metric.help, false),
            Dialect::OpenMetrics => escape(&mut self.out, metric.help, true),
        }
        self.out.push('\n');
        self.family = Some(Family {
            metric: *metric,
            seen: metric.labels.iter().map(|_| HashSet::new()).collect(),
            folded: BTreeMap::new(),
            overflown: 0,
        });
    }

    /// One series of a counter; `labels` are the values, in the order declared.
    pub fn counter(&mut self, labels: &[&str], value: impl Into<Number>) {
        let value = value.into();
        if let Some(folded) = self.fold(labels) {
            match folded.or_insert(Folded::Counter(Number::Whole(0))) {
                Folded::Counter(sum) => *sum = sum.add(value),
                Folded::Histogram { .. } => {}
            }
            return;
        }
        self.sample("", labels, None, value);
    }

    /// One series of a gauge. Beyond the cap it is left out: shares or times of different things
    /// cannot be added up.
    pub fn gauge(&mut self, labels: &[&str], value: impl Into<Number>) {
        if self.fold(labels).is_none() {
            self.sample("", labels, None, value.into());
        }
    }

    /// One series of a histogram. `counts` are not cumulative and have one more than `bounds`: the
    /// values above the last.
    pub fn histogram(&mut self, labels: &[&str], bounds: &[f64], counts: &[u64], sum: f64) {
        if let Some(folded) = self.fold(labels) {
            let folded = folded.or_insert_with(|| Folded::Histogram {
                bounds: bounds.into(),
                counts: vec![0; counts.len()],
                sum: 0.0,
            });
            match folded {
                Folded::Histogram { counts: sums, sum: total, .. } => {
                    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
                    *total += sum;
                }
                Folded::Counter(_) => {}
            }
            return;
        }
        self.buckets(labels, bounds, counts, sum);
    }

    /// The one series of an info metric, which names its labels itself. Of two whose names come out
    /// alike, the first is written.
    pub fn info(&mut self, labels: &[(&str, &str)]) {
        let Some(family) = &self.family else { return };
        let mut written = BTreeMap::new();
        for (name, value) in labels {
            written.entry(label_name(name)).or_insert(*value);
        }
        self.out.push_str(family.metric.name);
        let mut separator = '{';
        for (name, value) in &written {
            self.out.push(separator);
            separator = ',';
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(&mut self.out, value, true);
            self.out.push('"');
        }
        self.out.push_str(if written.is_empty() { " 1\n" } else { "} 1\n" });
    }

    /// The text, with what was folded counted at its end.
    pub fn finish(mut self) -> String {
        self.end_family();
        let overflows = std::mem::take(&mut self.overflows);
        self.family(&names::LABEL_OVERFLOW);
        for (metric, series) in overflows {
            self.sample("", &[metric], None, Number::Whole(series));
        }
        if self.dialect == Dialect::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    /// Where a series is added up if one of its labels has too many values; else `None`.
    fn fold(
        &mut self,
        labels: &[&str],
    ) -> Option<std::collections::btree_map::Entry<'_, Vec<String>, Folded>> {
        let family = self.family.as_mut()?;
        let mut over = false;
        for (seen, label) in family.seen.iter_mut().zip(labels) {
            if !seen.contains(*label) {
                if seen.len() < MOST_VALUES {
                    seen.insert(Box::from(*label));
                } else {
                    over = true;
                }
            }
        }
        if !over {
            return None;
        }
        family.overflown += 1;
        let kept = family.seen.iter().zip(labels).map(|(seen, label)| {
            if seen.contains(*label) { (*label).to_owned() } else { OVERFLOW.to_owned() }
        });
        Some(family.folded.entry(kept.collect()))
    }

    fn end_family(&mut self) {
        let Some(family) = &mut self.family else { return };
        let folded = std::mem::take(&mut family.folded);
        if !family.metric.labels.is_empty() {
            self.overflows.push((family.metric.name, family.overflown));
        }
        for (labels, folded) in folded {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            match folded {
                Folded::Counter(value) => self.sample("", &labels, None, value),
                Folded::Histogram { bounds, counts, sum } => {
                    self.buckets(&labels, &bounds, &counts, sum);
                }
            }
        }
        self.family = None;
    }

    fn buckets(&mut self, labels: &[&str], bounds: &[f64], counts: &[u64], sum: f64) {
        let mut below = 0;
        let mut bounds = bounds.iter();
        for count in counts {
            below += count;
            let bound = bounds.next().copied().unwrap_or(f64::INFINITY);
            self.sample("_bucket", labels, Some(bound), Number::Whole(below));
        }
        self.sample("_sum", labels, None, Number::Real(sum));
        self.sample("_count", labels, None, Number::Whole(below));
    }

    fn sample(&mut self, suffix: &str, labels: &[&str], bound: Option<f64>, value: Number) {
        let Some(family) = &self.family else { return };
        self.out.push_str(family.metric.name);
        self.out.push_str(suffix);
        let mut separator = '{';
        for (name, value) in family.metric.labels.iter().zip(labels) {
            self.out.push(separator);
            separator = ',';
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(&mut self.out, value, true);
            self.out.push('"');
        }
        if let Some(bound) = bound {
            self.out.push(separator);
            separator = ',';
            self.out.push_str("le=\"");
            self.bound(bound);
            self.out.push('"');
        }
        self.out.push_str(if separator == '{' { " " } else { "} " });
        match value {
            Number::Whole(whole) => self.out.push_str(itoa::Buffer::new().format(whole)),
            Number::Real(real) => real_number(&mut self.out, real),
        }
        self.out.push('\n');
    }

    /// An upper bound, written as other clients of the format write it: the text is part of the
    /// series' identity.
    fn bound(&mut self, bound: f64) {
        real_number(&mut self.out, bound);
        // OpenMetrics wants `1.0` where the older format has `1`.
        if self.dialect == Dialect::OpenMetrics && bound.is_finite() && bound.fract() == 0.0 {
            self.out.push_str(".0");
        }
    }
}

/// A family of OpenMetrics has no suffix; only its samples have.
fn family_name(metric: &Metric) -> &'static str {
    let suffix = match metric.kind {
        Kind::Counter => "_total",
        Kind::Info => "_info",
        Kind::Gauge | Kind::Histogram => "",
    };
    metric.name.strip_suffix(suffix).unwrap_or(metric.name)
}

fn real_number(out: &mut String, real: f64) {
    let _ = match real {
        f64::INFINITY => write!(out, "+Inf"),
        f64::NEG_INFINITY => write!(out, "-Inf"),
        real if real.is_nan() => write!(out, "NaN"),
        real => write!(out, "{real}"),
    };
}

/// A name for a label, whatever it was: attributes have dots, and an environment variable may bring
/// anything.
fn label_name(name: &str) -> String {
    let fits = |part: char| part.is_ascii_alphanumeric() || part == '_';
    let name: String = name.chars().map(|part| if fits(part) { part } else { '_' }).collect();
    // Neither a digit nor the two underscores of reserved names may come first.
    match name.trim_start_matches('_') {
        rest if rest.starts_with(|first: char| first.is_ascii_alphabetic()) => rest.to_owned(),
        rest => format!("label_{rest}"),
    }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for part in text.chars() {
        match part {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISHES: Metric = Metric {
        name: "dishes_total",
        kind: Kind::Counter,
        unit: "",
        help: "Dishes \"served\",\\ not eaten.",
        labels: &["kitchen", "course"],
    };
    const WAIT: Metric = Metric {
        name: "wait_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        help: "Time at the table.",
        labels: &["kitchen"],
    };
    const HEAT: Metric = Metric {
        name: "heat_ratio",
        kind: Kind::Gauge,
        unit: "ratio",
        help: "How hot it is.",
        labels: &["kitchen"],
    };

    fn sample(dialect: Dialect) -> String {
        let mut out = Exposition::new(dialect);
        out.family(&DISHES);
        out.counter(&["a\"b\\c\nd", "soup"], 3_u64);
        out.counter(&["", "fish"], 0.5);
        out.family(&WAIT);
        out.histogram(&["north"], &[0.000025, 0.5, 1.0, 10.0], &[1, 0, 2, 0, 4], 41.25);
        out.family(&HEAT);
        out.gauge(&["north"], 0.25);
        out.family(&names::TARGET_INFO);
        out.info(&[("service.name", "weir"), ("9 lives", "\""), ("service_name", "again")]);
        out.finish()
    }

    #[test]
    fn prometheus_text_is_as_promised() {
        let expected = r##"# TYPE dishes_total counter
# HELP dishes_total Dishes "served",\\ not eaten.
dishes_total{kitchen="a\"b\\c\nd",course="soup"} 3
dishes_total{kitchen="",course="fish"} 0.5
# TYPE wait_seconds histogram
# HELP wait_seconds Time at the table.
wait_seconds_bucket{kitchen="north",le="0.000025"} 1
wait_seconds_bucket{kitchen="north",le="0.5"} 1
wait_seconds_bucket{kitchen="north",le="1"} 3
wait_seconds_bucket{kitchen="north",le="10"} 3
wait_seconds_bucket{kitchen="north",le="+Inf"} 7
wait_seconds_sum{kitchen="north"} 41.25
wait_seconds_count{kitchen="north"} 7
# TYPE heat_ratio gauge
# HELP heat_ratio How hot it is.
heat_ratio{kitchen="north"} 0.25
# TYPE target_info gauge
# HELP target_info The OpenTelemetry resource of this process, as labels.
target_info{label_9_lives="\"",service_name="weir"} 1
# TYPE weir_label_overflow_total counter
# HELP weir_label_overflow_total Series folded into `_overflow`, or left out for gauges, because a label had more than 200 values.
weir_label_overflow_total{metric="dishes_total"} 0
weir_label_overflow_total{metric="wait_seconds"} 0
weir_label_overflow_total{metric="heat_ratio"} 0
"##;
        assert_eq!(sample(Dialect::Prometheus004), expected);
    }

    #[test]
    fn openmetrics_text_is_as_promised() {
        let expected = r##"# TYPE dishes counter
# HELP dishes Dishes \"served\",\\ not eaten.
dishes_total{kitchen="a\"b\\c\nd",course="soup"} 3
dishes_total{kitchen="",course="fish"} 0.5
# TYPE wait_seconds histogram
# UNIT wait_seconds seconds
# HELP wait_seconds Time at the table.
wait_seconds_bucket{kitchen="north",le="0.000025"} 1
wait_seconds_bucket{kitchen="north",le="0.5"} 1
wait_seconds_bucket{kitchen="north",le="1.0"} 3
wait_seconds_bucket{kitchen="north",le="10.0"} 3
wait_seconds_bucket{kitchen="north",le="+Inf"} 7
wait_seconds_sum{kitchen="north"} 41.25
wait_seconds_count{kitchen="north"} 7
# TYPE heat_ratio gauge
# UNIT heat_ratio ratio
# HELP heat_ratio How hot it is.
heat_ratio{kitchen="north"} 0.25
# TYPE target info
# HELP target The OpenTelemetry resource of this process, as labels.
target_info{label_9_lives="\"",service_name="weir"} 1
# TYPE weir_label_overflow counter
# HELP weir_label_overflow Series folded into `_overflow`, or left out for gauges, because a label had more than 200 values.
weir_label_overflow_total{metric="dishes_total"} 0
weir_label_overflow_total{metric="wait_seconds"} 0
weir_label_overflow_total{metric="heat_ratio"} 0
# EOF
"##;
        assert_eq!(sample(Dialect::OpenMetrics), expected);
    }

    #[test]
    fn l19_further_values_of_a_label_are_folded_and_counted() {
        let mut out = Exposition::new(Dialect::Prometheus004);
        let kitchens: Vec<String> = (0..MOST_VALUES + 3).map(|n| format!("k{n}")).collect();
        out.family(&DISHES);
        for kitchen in &kitchens {
            out.counter(&[kitchen, "soup"], 2_u64);
            out.counter(&[kitchen, "fish"], 0_u64);
        }
        out.family(&WAIT);
        kitchens.iter().for_each(|kitchen| out.histogram(&[kitchen], &[1.0], &[1, 2], 8.0));
        out.family(&HEAT);
        kitchens.iter().for_each(|kitchen| out.gauge(&[kitchen], 0.5));
        let text = out.finish();
        for line in [
            "dishes_total{kitchen=\"k199\",course=\"soup\"} 2",
            "dishes_total{kitchen=\"_overflow\",course=\"soup\"} 6",
            "dishes_total{kitchen=\"_overflow\",course=\"fish\"} 0",
            "wait_seconds_bucket{kitchen=\"_overflow\",le=\"1\"} 3",
            "wait_seconds_count{kitchen=\"_overflow\"} 9",
            "wait_seconds_sum{kitchen=\"_overflow\"} 24",
            "weir_label_overflow_total{metric=\"dishes_total\"} 6",
            "weir_label_overflow_total{metric=\"wait_seconds\"} 3",
            "weir_label_overflow_total{metric=\"heat_ratio\"} 3",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}");
        }
        assert!(!text.contains("k200"), "no value beyond the cap");
        assert_eq!(text.lines().filter(|line| line.starts_with("heat_ratio")).count(), 200);
    }

    #[test]
    fn the_scraper_chooses_the_dialect() {
        use Dialect::{OpenMetrics, Prometheus004};
        for (accept, expected) in [
            (None, Prometheus004),
            (Some("*/*"), Prometheus004),
            (Some("text/html, */*;q=0.8"), Prometheus004),
            (Some("application/openmetrics-text"), OpenMetrics),
            (
                Some(
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                     application/openmetrics-text;version=0.0.1;q=0.5,\
                     text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                ),
                OpenMetrics,
            ),
            (
                Some("application/vnd.google.protobuf;q=0.7, text/plain;version=0.0.4"),
                Prometheus004,
            ),
            (Some("text/plain;q=1.0, application/openmetrics-text;q=0.5"), Prometheus004),
            (Some("application/openmetrics-text; version=2.0.0"), Prometheus004),
            (Some("Application/OpenMetrics-Text; Version=\"1.0.0\"; Q=0"), Prometheus004),
            (Some(";;=,,q=x"), Prometheus004),
        ] {
            assert_eq!(Dialect::negotiate(accept), expected, "{accept:?}");
        }
    }
}
