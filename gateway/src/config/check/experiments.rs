//! Experiments: variants and weights, units, targets, and their places in layers.

use std::collections::HashMap;
use std::ops::Range;

use routing::{Condition, Target, UnitSource, VariantId, WeightFault, shares_of_weights};

use super::{Check, Names};
use crate::config::plan::{Experiment, OnFailure, Owner, Variant};
use crate::config::value::closest;
use crate::config::written::{self, At, Entries};

/// Most variants of one experiment (L18).
const MOST_VARIANTS: usize = 64;

/// An experiment that was read before: where, and in which layer.
struct Earlier {
    name: String,
    layer: Option<String>,
}

impl Check<'_> {
    pub(super) fn experiments(
        &mut self,
        entries: Entries<written::Experiment>,
        routes: &Names,
        backends: &Names,
        layers: &Names,
    ) -> Vec<Experiment> {
        let mut on_route: HashMap<String, Vec<Earlier>> = HashMap::new();
        let mut taken: HashMap<String, u32> = HashMap::new();
        let mut experiments = Vec::new();
        for (name, experiment) in entries.0 {
            let written::Experiment {
                route,
                unit,
                control,
                variants,
                targets,
                owner,
                on_failure,
                layer,
            } = experiment;
            let label = format!("experiment {:?}", name.value);
            let place = ["experiments", name.value.as_str()];
            let at = &name.span;
            let example = "\"NAME\" (of a [routes.NAME])";
            let route = self.required(route, &label, &place, "route", at, example);
            let example = "[\"header:x-user-id\", \"key\"]";
            let unit = self.required(unit, &label, &place, "unit", at, example);
            let example = "\"NAME\" (of one of its variants)";
            let control = self.required(control, &label, &place, "control", at, example);
            let unit = unit.map(|unit| self.unit(&label, &place, unit)).unwrap_or_default();
            let (placement, layer_name) = match layer {
                Some(layer) => self.placement(&label, &place, layer, layers, &mut taken),
                None => (None, None),
            };
            let mut route_index = 0;
            if let Some(route) = &route {
                route_index = self.find(&label, route, routes);
                let others = on_route.entry(route.value.clone()).or_default();
                let apart = |other: &&Earlier| other.layer.is_none() || other.layer != layer_name;
                let clash = others.iter().find(apart).map(|other| other.name.clone());
                others.push(Earlier { name: name.value.clone(), layer: layer_name });
                if let Some(other) = clash
                    && !self.lost.covers(&[place[0], place[1], "layer"])
                    && !self.lost.covers(&["experiments", &other, "layer"])
                {
                    let shown = self.show(route);
                    let what = format!("{label} is on route {shown} together with {other:?}");
                    let mend = "experiments on one route share a layer: define [layers.NAME] and give both\n\
                                layer = { name = \"NAME\", percent = … }, or end one of them";
                    self.problem(at, what, mend);
                }
            }
            let names: Vec<At<String>> = variants.0.iter().map(|(name, _)| name.clone()).collect();
            let control = self.control(&label, &place, control, &names);
            let targets = self.targets(&label, &place, targets, &names, control);
            experiments.push(Experiment {
                route: route_index,
                unit,
                control: 0,
                variants: self.variants(&label, &place, at, variants, control, backends),
                targets,
                owner: match owner.map(|owner| owner.value) {
                    Some(written::Owner::Api) | None => Owner::Api,
                    Some(written::Owner::File) => Owner::File,
                },
                on_failure: match on_failure.map(|on_failure| on_failure.value) {
                    Some(written::OnFailure::Fail) | None => OnFailure::Fail,
                    Some(written::OnFailure::Fallback) => OnFailure::Fallback,
                },
                layer: placement,
                name: name.value.into(),
            });
        }
        experiments
    }

    fn unit(
        &mut self,
        label: &str,
        place: &[&str],
        unit: At<written::OneOrMany>,
    ) -> Vec<UnitSource> {
        let At { span, value: written::OneOrMany(list) } = unit;
        let path: Vec<&str> = place.iter().copied().chain(["unit"]).collect();
        if list.is_empty() && self.present(&path) {
            let mend = "write \"request\" if nothing is to stay together";
            self.problem(&span, format!("{label}: unit is empty"), mend);
        }
        let mut sources: Vec<UnitSource> = Vec::new();
        for mut text in list {
            if text.span.is_empty() {
                text.span = span.clone();
            }
            let shown = self.show(&text);
            let source = match text.value.parse::<UnitSource>() {
                Ok(source) => source,
                Err(fault) => {
                    let what = format!("{label}: unit {shown} cannot be used");
                    let fault = if self.expanded.contains(&text.span.start) {
                        "header:NAME, cookie:NAME, jwt:CLAIM, body:/JSON/pointer, key, address or request".to_owned()
                    } else {
                        fault.to_string()
                    };
                    self.problem(&text.span, what, fault);
                    continue;
                }
            };
            if matches!(source, UnitSource::Jwt(_)) {
                let what = format!(
                    "{label}: unit {shown} is never there: tokens are not read in this version"
                );
                self.notice(&text.span, what, "the next one in the list counts");
            }
            let always = [UnitSource::Request, UnitSource::Address];
            if sources.contains(&source) {
                self.problem(
                    &text.span,
                    format!("{label}: unit {shown} is written twice"),
                    "keep one of them",
                );
            } else if let Some(before) = sources.iter().find(|source| always.contains(source)) {
                let what = format!("{label}: unit {shown} is never asked for");
                let mend = format!("\"{before}\" is always there: write it last");
                self.problem(&text.span, what, mend);
            }
            sources.push(source);
        }
        sources
    }

    fn placement(
        &mut self,
        label: &str,
        place: &[&str; 2],
        layer: At<written::Placement>,
        layers: &Names,
        taken: &mut HashMap<String, u32>,
    ) -> (Option<(usize, u16)>, Option<String>) {
        let At { span, value: written::Placement { name, percent } } = layer;
        let label = format!("{label}: layer");
        let path = [place[0], place[1], "layer"];
        let name =
            self.required(name, &label, &path, "name", &span, "\"NAME\" (of a [layers.NAME])");
        let percent = self.required(percent, &label, &path, "percent", &span, "50");
        let points = percent.as_ref().map_or(0, |percent| {
            if percent.value == 0.0 {
                let mend = "an experiment needs a part of its layer: write more than 0";
                self.problem(&percent.span, format!("{label}.percent is 0"), mend);
            }
            self.basis_points(&format!("{label}.percent"), percent)
        });
        let Some(name) = name else { return (None, None) };
        let index = self.find(&label, &name, layers);
        let sum = taken.entry(name.value.clone()).or_default();
        let before = *sum;
        *sum += u32::from(points);
        if before <= 10_000 && *sum > 10_000 {
            let shown = self.show(&name);
            let (sum, left) = (f64::from(*sum) / 100.0, f64::from(10_000 - before) / 100.0);
            let what = format!("{label}: the parts of layer {shown} add up to {sum} %");
            let at = percent.as_ref().map_or(&span, |percent| &percent.span);
            self.problem(
                at,
                what,
                format!("{left} % are left here; all parts together make at most 100 %"),
            );
        }
        (Some((index, points)), Some(name.value))
    }

    /// The index of control among the variants as written.
    fn control(
        &mut self,
        label: &str,
        place: &[&str; 2],
        control: Option<At<String>>,
        variants: &[At<String>],
    ) -> usize {
        let Some(control) = control else { return 0 };
        self.variant(&format!("{label}: control"), place, &control, variants).unwrap_or(0)
    }

    /// The index of a variant that is named.
    fn variant(
        &mut self,
        label: &str,
        place: &[&str; 2],
        name: &At<String>,
        variants: &[At<String>],
    ) -> Option<usize> {
        let found = variants.iter().position(|variant| variant.value == name.value);
        let lost = self.lost.covers(&[place[0], place[1], "variants", &name.value])
            || self.lost.damage().may_define(self.source.text, &name.value);
        if found.is_none() && !lost {
            let known: Vec<&str> = variants.iter().map(|variant| variant.value.as_str()).collect();
            let mut mend = match closest(&name.value, known.iter().copied()) {
                Some(guess) => format!("did you mean {guess:?}?"),
                None => String::new(),
            };
            if !known.is_empty() {
                mend = format!("{mend}\nits variants are: {}", known.join(", "));
            }
            let what = format!("{label}: {} is not one of its variants", self.show(name));
            self.problem(&name.span, what, mend.trim_start().to_owned());
        }
        found
    }

    /// Where the variant at `index` goes when control comes first.
    fn control_first(index: usize, control: usize) -> usize {
        match index.cmp(&control) {
            std::cmp::Ordering::Less => index + 1,
            std::cmp::Ordering::Equal => 0,
            std::cmp::Ordering::Greater => index,
        }
    }

    fn targets(
        &mut self,
        label: &str,
        place: &[&str; 2],
        targets: Option<At<Vec<At<written::Target>>>>,
        variants: &[At<String>],
        control: usize,
    ) -> Vec<Target> {
        let path = [place[0], place[1], "targets"];
        let mut all = Vec::new();
        for target in targets.map(|targets| targets.value).unwrap_or_default() {
            let At { span, value: written::Target { when, variant } } = target;
            let label = format!("{label}: target");
            let example = "{ header = { name = \"x-team\", value = \"research\" } }";
            let when = self.required(when, &label, &path, "when", &span, example);
            let example = "\"NAME\" (of one of its variants)";
            let variant = self.required(variant, &label, &path, "variant", &span, example);
            let variant = variant.and_then(|name| self.variant(&label, place, &name, variants));
            let when = when.and_then(|when| self.condition(&label, &path, when));
            if let (Some(when), Some(variant)) = (when, variant) {
                let index = Self::control_first(variant, control);
                all.push(Target { when, variant: VariantId(u8::try_from(index).unwrap_or(0)) });
            }
        }
        all
    }

    fn condition(
        &mut self,
        label: &str,
        path: &[&str],
        when: At<written::When>,
    ) -> Option<Condition> {
        let At { span, value: written::When { header, unit, key } } = when;
        let given = usize::from(header.is_some())
            + usize::from(unit.is_some())
            + usize::from(key.is_some());
        if given != 1 {
            if given > 1 || self.present(path) {
                let what = format!("{label}: when has {given} conditions");
                self.problem(
                    &span,
                    what,
                    "write exactly one of header, unit, key; use one target for each",
                );
            }
            return None;
        }
        if let Some(At { span, value: written::HeaderIs { name, value } }) = header {
            let label = format!("{label}: when.header");
            let name = self.required(name, &label, path, "name", &span, "\"x-team\"");
            let value = self.required(value, &label, path, "value", &span, "\"research\"");
            return self.header(&label, &name?, &value?).map(Condition::Header);
        }
        if let Some(units) = unit {
            let empty = units.value.iter().any(|unit| unit.value.is_empty());
            if (units.value.is_empty() && self.present(path)) || empty {
                let mend = "write unit = [\"NAME\", …]";
                self.problem(&units.span, format!("{label}: when.unit names no unit"), mend);
            }
            return Some(Condition::units(units.value.into_iter().map(|unit| unit.value.into())));
        }
        let key = key?;
        // Keys may also live in the store, so whether there is one of this name is not known here.
        self.name(&format!("{label}: when.key {}", self.show(&key)), &key);
        Some(Condition::Key(key.value.into()))
    }

    /// The variants, control first.
    fn variants(
        &mut self,
        label: &str,
        place: &[&str; 2],
        at: &Range<usize>,
        entries: Entries<written::Variant>,
        control: usize,
        backends: &Names,
    ) -> Vec<Variant> {
        let count = entries.0.len();
        let whole = !self.lost.covers(&[place[0], place[1], "variants"]);
        if count < 2 && whole && self.lost.damage().is_empty() {
            let what = match count {
                0 => format!("{label} has no variants"),
                _ => format!("{label} has only one variant"),
            };
            self.problem(
                at,
                what,
                "an experiment compares at least two: add them to its [….variants]",
            );
        }
        if count > MOST_VARIANTS {
            let what = format!("{label} has {count} variants");
            self.problem(at, what, format!("at most {MOST_VARIANTS}"));
        }
        let mut variants = Vec::new();
        let mut weights: Vec<(At<String>, Option<At<f64>>)> = Vec::new();
        for (name, variant) in entries.0 {
            let written::Variant { backend, weight } = variant;
            let label = format!("{label}: variant {:?}", name.value);
            let path = [place[0], place[1], "variants", name.value.as_str()];
            self.name(&label, &name);
            let example = "\"NAME\" (of a [backends.NAME])";
            let backend = self.required(backend, &label, &path, "backend", &name.span, example);
            let weight = self.required(weight, &label, &path, "weight", &name.span, "50");
            let backend = backend.map_or(0, |backend| self.find(&label, &backend, backends));
            // `+ 0.0` makes a negative zero, which is written as "-0", an ordinary one.
            let number = weight.as_ref().map_or(0.0, |weight| weight.value) + 0.0;
            weights.push((name.clone(), weight));
            variants.push(Variant { name: name.value.into(), backend, weight: number });
        }
        self.weights(label, at, &weights, whole);
        if control < variants.len() {
            variants[..=control].rotate_right(1);
        }
        variants
    }

    /// Tells what is wrong with weights: each that is no weight, or else all together. `whole` says
    /// whether all are there.
    fn weights(
        &mut self,
        label: &str,
        at: &Range<usize>,
        weights: &[(At<String>, Option<At<f64>>)],
        whole: bool,
    ) {
        let before = self.problems.len();
        let mut numbers = Vec::new();
        for (name, weight) in weights {
            let Some(weight) = weight else { return };
            numbers.push(weight.value);
            let of = format!("{label}: weight of {:?}", name.value);
            let mend = "weights are relative, any number from 0 up; 0 means drain";
            if !weight.value.is_finite() {
                self.problem(&weight.span, format!("{of} is {}", weight.value), mend);
            } else if weight.value < 0.0 {
                self.problem(&weight.span, format!("{of} is negative ({})", weight.value), mend);
            }
        }
        if self.problems.len() > before || !whole || numbers.is_empty() {
            return;
        }
        match shares_of_weights(&numbers) {
            Ok(_) => {}
            Err(WeightFault::AllZero) => {
                let what = format!("{label}: all weights are 0");
                self.problem(at, what, "somebody has to serve: give control a weight above 0");
            }
            Err(WeightFault::TooSmall { index }) => {
                if let Some((name, Some(weight))) = weights.get(index) {
                    let what = format!(
                        "{label}: weight of {:?} is less than 0.01 % of all ({})",
                        name.value, weight.value
                    );
                    let mend = "the smallest share is 0.01 %: give it more, or 0 to drain it";
                    self.problem(&weight.span, what, mend);
                }
            }
            Err(fault @ (WeightFault::NotFinite { .. } | WeightFault::Negative { .. })) => {
                self.problem(at, format!("{label}: {fault}"), "");
            }
        }
    }
}
