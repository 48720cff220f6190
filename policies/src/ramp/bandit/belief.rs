//! What is believed of one arm: a mean, and how far it may be off.
//!
//! Events and what is slow are yes and no, and so is feedback that was never anything else; other
//! feedback is numbers. Where units are sticky, events count affected units among those seen, and the
//! spread of everything else comes from groups of units: a busy client does not make an arm certain.

use serde::{Deserialize, Serialize};

use super::Bandit;
use crate::evidence::{Event, Evidence, MeanTally, Slowness, UnitKind};
use crate::outcome::Outcome;
use crate::statistics::bandit::Posterior;
use crate::statistics::mean::Arm;

/// What was counted of one arm over all revisions, or what of it is still remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// How many values.
    pub values: f64,
    /// Events among them; of numbers, those that are not 0.
    pub events: f64,
    /// The mean of numbers; of yes and no the part of events.
    pub mean: f64,
    /// The sum of squared distances from that.
    pub squares: f64,
}

/// What is forgotten as time goes by, and what was there at the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// What is remembered.
    kept: Totals,
    /// What had been counted at the last look.
    seen: Totals,
    /// When that was.
    at: u64,
}

/// What is known of one arm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Belief {
    pub(super) totals: Totals,
    /// How much less sure sticky units are than as many requests.
    inflation: f64,
    /// Whether values are yes and no.
    is_yes_or_no: bool,
}

impl Totals {
    fn of_events(events: f64, values: f64) -> Self {
        let mean = if values > 0.0 { events / values } else { 0.0 };
        Self { values, events, mean, squares: events * (1.0 - mean) }
    }

    /// Both together.
    fn and(self, other: Self) -> Self {
        let values = self.values + other.values;
        if values <= 0.0 {
            return Self::default();
        }
        let gap = other.mean - self.mean;
        Self {
            values,
            events: self.events + other.events,
            mean: self.mean + gap * other.values / values,
            squares: self.squares + other.squares + gap * gap * self.values * other.values / values,
        }
    }

    /// What came since `before`; everything if that is not a part of it.
    fn since(self, before: Self) -> Self {
        let values = self.values - before.values;
        if values < 0.0 {
            return self;
        }
        if values == 0.0 {
            return Self::default();
        }
        let mean = (self.mean * self.values - before.mean * before.values) / values;
        let gap = mean - before.mean;
        let between = gap * gap * before.values * values / self.values;
        Self {
            values,
            events: (self.events - before.events).max(0.0),
            mean,
            squares: (self.squares - before.squares - between).max(0.0),
        }
    }

    fn times(self, part: f64) -> Self {
        Self {
            values: self.values * part,
            events: self.events * part,
            squares: self.squares * part,
            ..self
        }
    }
}

impl Memory {
    /// One look more: what was known fades, what is new is added.
    pub(super) fn look(&mut self, counted: Totals, now: u64, decay: f64) {
        let days = now.saturating_sub(self.at) as f64 / 86_400.0;
        // Evidence that began anew takes what was remembered with it.
        let is_anew = counted.values < self.seen.values;
        let kept = if is_anew { Totals::default() } else { self.kept };
        let new = if is_anew { counted } else { counted.since(self.seen) };
        *self =
            Self { kept: kept.times((1.0 - decay).powf(days)).and(new), seen: counted, at: now };
    }

    /// What is remembered.
    pub(super) fn kept(&self) -> Totals {
        self.kept
    }
}

impl Belief {
    /// Of what is remembered only.
    pub(super) fn of(self, totals: Totals) -> Self {
        Self { totals, ..self }
    }

    /// The mean, and how far it may be off; `None` while nothing is known.
    pub(super) fn posterior(&self) -> Option<Posterior> {
        let Totals { values, events, mean, squares } = self.totals;
        let posterior = if self.is_yes_or_no {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
            let whole = |count: f64| count.round().max(0.0) as u64;
            (values > 0.0).then(|| Posterior::of_events(whole(events), whole(values)))?
        } else {
            (values >= 2.0)
                .then_some(Posterior { mean, variance: squares / (values - 1.0) / values })?
        };
        let variance = posterior.variance * self.inflation;
        (posterior.mean.is_finite() && variance.is_finite())
            .then_some(Posterior { variance, ..posterior })
    }

    fn yes_or_no(events: f64, values: f64) -> Self {
        Self { totals: Totals::of_events(events, values), inflation: 1.0, is_yes_or_no: true }
    }

    fn nothing() -> Self {
        Self::yes_or_no(0.0, 0.0)
    }

    /// Of sticky units: the spread of the mean over all revisions that groups show, against the one
    /// that as many requests would have.
    fn of_units(totals: Totals, is_yes_or_no: bool, arms: impl Iterator<Item = Arm>) -> Self {
        let (mut values, mut grouped) = (0.0, 0.0);
        for arm in arms {
            let n = arm.n as f64;
            values += n;
            grouped += n * n * arm.grouped.unwrap_or(arm.variance / n);
        }
        let grouped = grouped / (values * values);
        let plain = totals.squares / (totals.values - 1.0) / totals.values;
        let inflation =
            if grouped.is_finite() && plain > 0.0 { (grouped / plain).max(1.0) } else { 1.0 };
        // Too few groups to know the spread: then nothing is known.
        let totals = if values > 0.0 { totals } else { Totals::default() };
        Self { totals, inflation, is_yes_or_no }
    }
}

/// What was counted of a variant.
pub(super) fn of(evidence: &Evidence, variant: u8, bandit: &Bandit) -> Belief {
    let metric = &bandit.metric;
    match (metric.event(), metric.slowness(), metric.feedback()) {
        (Some(event), _, _) => of_event(evidence, variant, event),
        (_, Some(slowness), _) => of_slowness(evidence, variant, slowness),
        (_, _, Some(name)) => of_feedback(evidence, variant, name),
        (None, None, None) => Belief::nothing(),
    }
}

fn of_event(evidence: &Evidence, variant: u8, event: Event) -> Belief {
    let (mut events, mut values) = (0.0, 0.0);
    for (revision, epoch) in evidence.epochs() {
        let Some(tally) = epoch.variants.get(&variant) else { continue };
        let (had, of) = match evidence.unit() {
            UnitKind::Request => {
                let had = match event {
                    Event::Failed => tally.failed(),
                    Event::ClientError => tally.outcomes[Outcome::ClientError.index()],
                    Event::Aborted => tally.outcomes[Outcome::ClientAborted.index()],
                };
                (had, tally.exposures() as f64)
            }
            // What is counted no more says nothing of a rate.
            UnitKind::Sticky { .. }
                if evidence.sampled().is_closed() || evidence.affected(event).is_closed() =>
            {
                return Belief::nothing();
            }
            UnitKind::Sticky { rate } => (
                evidence.affected(event).count(*revision, variant).seen,
                evidence.sampled().count(*revision, variant).seen as f64 / rate,
            ),
        };
        events += had as f64;
        values += of;
    }
    Belief::yes_or_no(events.min(values), values)
}

fn of_slowness(evidence: &Evidence, variant: u8, slowness: Slowness) -> Belief {
    let tallies: Vec<_> = evidence
        .epochs()
        .values()
        .filter_map(|epoch| Some(&epoch.variants.get(&variant)?.slow[slowness.index()]))
        .collect();
    let events: f64 = tallies.iter().map(|slow| slow.above_control as f64).sum();
    let values: f64 = tallies.iter().map(|slow| slow.n as f64).sum();
    match evidence.unit() {
        UnitKind::Request => Belief::yes_or_no(events, values),
        UnitKind::Sticky { .. } => {
            let arms = tallies.iter().filter_map(|slow| slow.above_mark());
            Belief::of_units(Totals::of_events(events, values), true, arms)
        }
    }
}

fn of_feedback(evidence: &Evidence, variant: u8, name: &str) -> Belief {
    let tallies: Vec<&MeanTally> = evidence
        .epochs()
        .values()
        .filter_map(|epoch| epoch.variants.get(&variant)?.feedback.get(name))
        .collect();
    let totals = tallies.iter().fold(Totals::default(), |sum, tally| {
        let moments = &tally.moments;
        sum.and(Totals {
            values: moments.n as f64,
            events: moments.nonzero as f64,
            mean: moments.mean,
            squares: moments.m2,
        })
    });
    let is_yes_or_no = tallies.iter().all(|tally| tally.fractional == 0);
    match evidence.unit() {
        UnitKind::Request => Belief { totals, inflation: 1.0, is_yes_or_no },
        UnitKind::Sticky { .. } => {
            let arms = tallies.iter().filter_map(|tally| tally.arm());
            Belief::of_units(totals, is_yes_or_no, arms)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn totals() -> impl Strategy<Value = Totals> {
        (1.0..1e6_f64, -5.0..5.0_f64, 0.0..9.0_f64).prop_map(|(values, mean, variance)| Totals {
            values,
            events: values / 2.0,
            mean,
            squares: variance * values,
        })
    }

    proptest! {
        #[test]
        fn what_came_since_is_what_was_added(before in totals(), new in totals()) {
            let got = before.and(new).since(before);
            let near = |a: f64, b: f64, scale: f64| (a - b).abs() <= 1e-6 * (1.0 + scale);
            prop_assert!(near(got.values, new.values, before.values));
            prop_assert!(near(got.mean * new.values, new.mean * new.values, before.values * 10.0));
            prop_assert!(near(got.squares, new.squares, (before.values + new.values) * 100.0));
        }
    }

    #[test]
    fn half_of_what_is_known_is_forgotten_in_a_day_if_that_is_asked_for() {
        let mut memory = Memory::default();
        memory.look(Totals::of_events(40.0, 400.0), 1_000, 0.5);
        memory.look(Totals::of_events(40.0, 400.0), 1_000 + 86_400, 0.5);
        let kept = memory.kept();
        assert!(
            (kept.values - 200.0).abs() < 1e-9 && (kept.events - 20.0).abs() < 1e-9,
            "{kept:?}"
        );
        memory.look(Totals::of_events(140.0, 500.0), 1_000 + 86_400, 0.5);
        let kept = memory.kept();
        assert!((kept.values - 300.0).abs() < 1e-9 && (kept.mean - 0.4).abs() < 1e-9, "{kept:?}");
        // Evidence that began anew.
        memory.look(Totals::of_events(1.0, 10.0), 2_000 + 86_400, 0.5);
        assert!((memory.kept().values - 10.0).abs() < 1e-9);
    }
}
