//! One question put to a route's traffic, as it runs.

use crate::{Allocation, HeaderMatch, Layer, RepeatedHeader, Salt, Unit, VariantId};
use http::HeaderMap;
use std::sync::Arc;

/// An experiment, frozen. Whoever builds one sees to it that the variants, the allocation, the
/// targets and the control speak of the same variants.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// Its name, unique among experiments.
    pub name: Box<str>,
    /// The salt `<name>/variant`. A ramp that is started again keeps it.
    pub salt: Salt,
    /// The variant the others are judged against.
    pub control: VariantId,
    /// The variants' names, in the order written.
    pub variants: Box<[Box<str>]>,
    /// Whose buckets are whose.
    pub allocation: Arc<Allocation>,
    /// Who gets a certain variant before the split is asked; the first that fits decides.
    pub targets: Box<[Target]>,
    /// The layer and the slot in it, if it shares its units with other experiments.
    pub layer: Option<(Arc<Layer>, VariantId)>,
    /// False once it was stopped: then it takes no request.
    pub running: bool,
}

/// Requests that get a certain variant, whatever their bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which requests.
    pub when: Condition,
    /// What they get.
    pub variant: VariantId,
}

/// Which requests a target is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Those with this header.
    Header(HeaderMatch),
    /// Those of these units, sorted; see [`Condition::units`].
    Unit(Box<[Box<str>]>),
    /// Those that come with this API key.
    Key(Box<str>),
}

impl Condition {
    /// Requests of these units.
    pub fn units(names: impl IntoIterator<Item = Box<str>>) -> Self {
        let mut names: Vec<Box<str>> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self::Unit(names.into())
    }

    /// Whether it holds for a request with these `headers`, API `key` and `unit`, if it has one.
    pub(crate) fn holds(
        &self,
        headers: &HeaderMap,
        key: &str,
        unit: Option<&Unit<'_>>,
    ) -> Result<bool, RepeatedHeader> {
        match self {
            Self::Header(header) => header.matches(headers),
            Self::Key(wanted) => Ok(**wanted == *key),
            Self::Unit(names) => Ok(unit.is_some_and(|Unit(unit)| {
                names.binary_search_by(|name| (**name).cmp(unit)).is_ok()
            })),
        }
    }
}

impl Experiment {
    /// The variant of this name.
    pub fn variant_named(&self, name: &str) -> Option<VariantId> {
        let named = (0..=u8::MAX).map(VariantId).zip(&self.variants);
        named.into_iter().find(|(_, variant)| ***variant == *name).map(|(id, _)| id)
    }
}
