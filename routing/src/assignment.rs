//! Which variant a request gets, and why.
//!
//! The order is fixed: override, holdout, layer, targets, split. Nothing is remembered between
//! requests; the same inputs give the same assignment on every replica.

use crate::{Experiment, Holdout, RepeatedHeader, Unit, VariantId, bucket_of};
use http::HeaderMap;

/// What a request brings, besides its units.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its header fields.
    pub headers: &'a HeaderMap,
    /// The name of the API key it came with.
    pub key: &'a str,
    /// The variant it asks for, if it may.
    pub forced: Option<&'a str>,
}

/// The decision, and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Which of the route's experiments took the request; none: the route's backend serves it.
    pub experiment: Option<usize>,
    /// The variant in it.
    pub variant: Option<VariantId>,
    /// Why.
    pub reason: Reason,
    /// The unit's bucket, where the buckets were asked.
    pub bucket: Option<u16>,
    /// The hash of the unit under the salt of the experiment asked last; 0 without a unit.
    pub unit_hash: u64,
    /// Whether it may be compared: only what the hash dealt is free of choice.
    pub eligible: bool,
}

/// Why a request got what it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The hash dealt it.
    Split,
    /// A target named it.
    Target,
    /// The client asked for it, and may.
    Override,
    /// There was nothing to deal: one variant has every bucket.
    Single,
    /// It names no unit, so it gets control.
    NoUnit,
    /// Its unit is held out of every experiment.
    Holdout,
    /// Its unit falls outside the experiment's slot of the layer.
    OutsideLayer,
    /// The experiment was stopped.
    Stopped,
    /// Its route has no experiment.
    NoExperiment,
}

impl Reason {
    /// The words for it in telemetry, OpenFeature's where it has one. The first [`Self::TAKEN`] come
    /// with a variant, the others without.
    pub const WORDS: [&'static str; 8] =
        ["split", "targeting_match", "static", "default", "holdout", "outside", "disabled", "none"];

    /// How many of [`Self::WORDS`] say that an experiment took the request.
    pub const TAKEN: usize = 4;

    /// The place of its word among [`Self::WORDS`].
    pub fn index(self) -> usize {
        match self {
            Self::Split => 0,
            Self::Target | Self::Override => 1,
            Self::Single => 2,
            Self::NoUnit => 3,
            Self::Holdout => 4,
            Self::OutsideLayer => 5,
            Self::Stopped => 6,
            Self::NoExperiment => 7,
        }
    }

    /// The word for it in telemetry.
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self.index()]
    }
}

/// Why no assignment was made; both are answered with 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignFault {
    /// A header that a target looks at cannot be judged.
    #[error(transparent)]
    RepeatedHeader(#[from] RepeatedHeader),
    /// The client asks for a variant that none of the route's experiments has.
    #[error("no experiment of this route has a variant `{name}`")]
    UnknownVariant {
        /// What it asked for.
        name: Box<str>,
    },
}

/// Assigns a request to a variant of the first of the route's `experiments` that takes it.
///
/// `unit_of` gives the unit of this request for the experiment at a place in `experiments`. A
/// request without one gets control, unless a target that asks for no unit fits. If no experiment
/// takes the request, the reason is why the last one did not.
pub fn assign<'u>(
    holdout: Option<&Holdout>,
    experiments: &[Experiment],
    facts: &Facts<'_>,
    unit_of: impl Fn(usize) -> Option<Unit<'u>>,
) -> Result<Assignment, AssignFault> {
    let unit_of = |at| unit_of(at).filter(|Unit(unit)| !unit.is_empty());
    if let Some(name) = facts.forced
        && let Some((at, variant)) = forced(experiments, name)?
    {
        let unit_hash = unit_of(at).map_or(0, |Unit(unit)| experiments[at].salt.hash(&unit));
        return Ok(Turn::Takes(variant, Reason::Override).settled(at, unit_hash));
    }
    let mut passed = Turn::Passes(Reason::NoExperiment).settled(0, 0);
    for (at, experiment) in experiments.iter().enumerate() {
        if !experiment.running {
            passed = Turn::Passes(Reason::Stopped).settled(at, 0);
            continue;
        }
        let unit = unit_of(at);
        let unit_hash = unit.as_ref().map_or(0, |Unit(unit)| experiment.salt.hash(unit));
        let turn = turn(holdout, experiment, facts, unit.as_ref(), unit_hash)?;
        let settled = turn.settled(at, unit_hash);
        if settled.experiment.is_some() {
            return Ok(settled);
        }
        passed = settled;
    }
    Ok(passed)
}

/// What one experiment makes of a request.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The hash deals it this variant.
    Deals(VariantId, Reason, u16),
    /// It takes the request for another reason.
    Takes(VariantId, Reason),
    /// It leaves the request to the next.
    Passes(Reason),
}

impl Turn {
    fn settled(self, at: usize, unit_hash: u64) -> Assignment {
        let (variant, reason, bucket) = match self {
            Self::Deals(variant, reason, bucket) => (Some(variant), reason, Some(bucket)),
            Self::Takes(variant, reason) => (Some(variant), reason, None),
            Self::Passes(reason) => (None, reason, None),
        };
        Assignment {
            experiment: variant.map(|_| at),
            variant,
            reason,
            bucket,
            unit_hash,
            eligible: reason == Reason::Split,
        }
    }
}

fn turn(
    holdout: Option<&Holdout>,
    experiment: &Experiment,
    facts: &Facts<'_>,
    unit: Option<&Unit<'_>>,
    unit_hash: u64,
) -> Result<Turn, RepeatedHeader> {
    if let Some(Unit(unit)) = unit {
        if holdout.is_some_and(|holdout| holdout.keeps(unit)) {
            return Ok(Turn::Passes(Reason::Holdout));
        }
        if let Some((layer, slot)) = &experiment.layer
            && layer.slot_of(unit) != *slot
        {
            return Ok(Turn::Passes(Reason::OutsideLayer));
        }
    }
    for target in &experiment.targets {
        if target.when.holds(facts.headers, facts.key, unit)? {
            return Ok(Turn::Takes(target.variant, Reason::Target));
        }
    }
    if unit.is_none() {
        return Ok(Turn::Takes(experiment.control, Reason::NoUnit));
    }
    let bucket = bucket_of(unit_hash);
    let variant = experiment.allocation.variant_of(bucket);
    let single = experiment.allocation.sole().is_some();
    let reason = if single { Reason::Single } else { Reason::Split };
    Ok(Turn::Deals(variant, reason, bucket))
}

/// The running experiment that has the variant `name`. A stopped one keeps its promise to take no
/// request: then the override has no effect, but it is not unknown.
fn forced(
    experiments: &[Experiment],
    name: &str,
) -> Result<Option<(usize, VariantId)>, AssignFault> {
    let mut known = false;
    for (at, experiment) in experiments.iter().enumerate() {
        let Some(variant) = experiment.variant_named(name) else { continue };
        if experiment.running {
            return Ok(Some((at, variant)));
        }
        known = true;
    }
    if known { Ok(None) } else { Err(AssignFault::UnknownVariant { name: name.into() }) }
}
