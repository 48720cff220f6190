//! What was counted of one arm in one revision, ready to become a belief.
//!
//! Events and what is slow are yes and no, and so is feedback that was never anything else; other
//! feedback is numbers. Where units are sticky, events count affected units among those seen, and the
//! spread of everything else comes from groups of units: a busy client does not make an arm certain.

use serde::{Deserialize, Serialize};

use super::Bandit;
use crate::evidence::{Event, Evidence, UnitKind, VariantTally};
use crate::outcome::Outcome;
use crate::statistics::mean::Arm;

/// Values of one arm.
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

/// What was counted of one arm in one revision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Counted {
    pub(super) totals: Totals,
    /// How much less sure sticky units are than as many requests.
    pub(super) inflation: f64,
    /// Whether values are yes and no.
    pub(super) is_yes_or_no: bool,
}

impl Totals {
    pub(super) fn of_events(events: f64, values: f64) -> Self {
        let mean = if values > 0.0 { events / values } else { 0.0 };
        Self { values, events, mean, squares: events * (1.0 - mean) }
    }

    /// What came since `before`; nothing if there is less than there was, as after a crash that lost the
    /// last second.
    pub(super) fn since(self, before: Self) -> Self {
        let values = self.values - before.values;
        if values <= 0.0 {
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
}

impl Counted {
    fn plain(totals: Totals, is_yes_or_no: bool) -> Self {
        Self { totals, inflation: 1.0, is_yes_or_no }
    }

    pub(super) fn nothing() -> Self {
        Self::plain(Totals::default(), true)
    }

    /// Of sticky units: the spread of the mean that groups show, against the one that as many requests
    /// would have. Nothing below 50 groups.
    fn of_units(totals: Totals, is_yes_or_no: bool, arm: Option<Arm>) -> Self {
        let Some(grouped) = arm.and_then(|arm| arm.grouped) else { return Self::nothing() };
        let plain = totals.squares / (totals.values - 1.0) / totals.values;
        let inflation = if plain > 0.0 { (grouped / plain).max(1.0) } else { 1.0 };
        Self { totals, inflation, is_yes_or_no }
    }
}

/// What was counted of a variant in a revision.
pub(super) fn of(evidence: &Evidence, revision: u64, variant: u8, bandit: &Bandit) -> Counted {
    let metric = &bandit.metric;
    let tally = evidence.epochs().get(&revision).and_then(|epoch| epoch.variants.get(&variant));
    let Some(tally) = tally else { return Counted::nothing() };
    let is_sticky = matches!(evidence.unit(), UnitKind::Sticky { .. });
    match (metric.event(), metric.slowness(), metric.feedback()) {
        (Some(event), _, _) => of_event(evidence, (revision, variant), tally, event),
        (_, Some(slowness), _) => {
            let slow = &tally.slow[slowness.index()];
            let totals = Totals::of_events(slow.above_control as f64, slow.n as f64);
            if is_sticky {
                Counted::of_units(totals, true, slow.above_mark())
            } else {
                Counted::plain(totals, true)
            }
        }
        (_, _, Some(name)) => {
            let Some(said) = tally.feedback.get(name) else { return Counted::nothing() };
            let totals = Totals {
                values: said.moments.n as f64,
                events: said.moments.nonzero as f64,
                mean: said.moments.mean,
                squares: said.moments.m2,
            };
            let is_yes_or_no = said.fractional == 0;
            if is_sticky {
                Counted::of_units(totals, is_yes_or_no, said.arm())
            } else {
                Counted::plain(totals, is_yes_or_no)
            }
        }
        (None, None, None) => Counted::nothing(),
    }
}

fn of_event(
    evidence: &Evidence,
    (revision, variant): (u64, u8),
    tally: &VariantTally,
    event: Event,
) -> Counted {
    let (events, values) = match evidence.unit() {
        UnitKind::Request => {
            let had = match event {
                Event::Failed => tally.failed(),
                Event::ClientError => tally.outcomes[Outcome::ClientError.index()],
                Event::Aborted => tally.outcomes[Outcome::ClientAborted.index()],
            };
            (had as f64, tally.exposures() as f64)
        }
        // What is counted no more says nothing of a rate.
        UnitKind::Sticky { .. }
            if evidence.sampled().is_closed() || evidence.affected(event).is_closed() =>
        {
            return Counted::nothing();
        }
        UnitKind::Sticky { rate } => (
            evidence.affected(event).count(revision, variant).seen as f64,
            evidence.sampled().count(revision, variant).seen as f64 / rate,
        ),
    };
    Counted::plain(Totals::of_events(events.min(values), values), true)
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

    /// Both together.
    fn and(one: Totals, other: Totals) -> Totals {
        let values = one.values + other.values;
        let gap = other.mean - one.mean;
        Totals {
            values,
            events: one.events + other.events,
            mean: one.mean + gap * other.values / values,
            squares: one.squares + other.squares + gap * gap * one.values * other.values / values,
        }
    }

    proptest! {
        #[test]
        fn what_came_since_is_what_was_added(before in totals(), new in totals()) {
            let got = and(before, new).since(before);
            let near = |a: f64, b: f64, scale: f64| (a - b).abs() <= 1e-6 * (1.0 + scale);
            prop_assert!(near(got.values, new.values, before.values));
            prop_assert!(near(got.mean * new.values, new.mean * new.values, before.values * 10.0));
            prop_assert!(near(got.squares, new.squares, (before.values + new.values) * 100.0));
        }
    }
}
