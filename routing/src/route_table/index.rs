//! The rules of a table by host, then path, then model; groups come closest fit first.

use super::fold::Fold;
use crate::{HeaderMatch, HostPattern, PathPattern, Rule};
use http::Method;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

type Map<V> = HashMap<Box<str>, V, Fold>;

/// Rules by host.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: Map<Paths>,
    /// By suffix, with its leading dot.
    under: Map<Paths>,
    /// The lengths of these suffixes, longest first: only so many places of a host can match.
    under_lengths: Box<[usize]>,
    /// Rules that name no host, if there are any.
    any: Option<Paths>,
}

/// Rules of one host pattern, by path.
#[derive(Debug, Default)]
pub(super) struct Paths {
    exact: Map<Cell>,
    /// By prefix, with its closing slash; the empty one fits all.
    prefixes: Map<Cell>,
    /// The lengths of these prefixes, longest first. They bound what a path of a thousand segments
    /// can cost: nothing longer than the longest prefix is ever hashed.
    prefix_lengths: Box<[usize]>,
}

/// Rules of one host pattern and one path pattern, as places in the table, best rank first.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// Rules that name a model.
    named: Map<Vec<usize>>,
    /// One rule that names a model for each combination of methods and headers among them: enough
    /// to say whether knowing the model could matter.
    pub(super) shapes: Vec<usize>,
    /// Rules that name no model.
    pub(super) any: Vec<usize>,
}

impl Hosts {
    pub(super) fn index<'r>(rules: impl Iterator<Item = &'r Rule> + Clone) -> Self {
        let mut hosts = Self::default();
        for (at, rule) in rules.clone().enumerate() {
            if rule.hosts.is_empty() {
                hosts.any.get_or_insert_default().add(at, rule);
            }
            for host in &rule.hosts {
                let paths = match host {
                    HostPattern::Exact(name) => hosts.exact.entry(name.clone()),
                    HostPattern::Under(suffix) => hosts.under.entry(suffix.clone()),
                };
                paths.or_default().add(at, rule);
            }
        }
        hosts.under_lengths = lengths(&hosts.under);
        let rules: Vec<&Rule> = rules.collect();
        for paths in hosts.exact.values_mut().chain(hosts.under.values_mut()).chain(&mut hosts.any)
        {
            paths.finish(&rules);
        }
        hosts
    }

    /// The groups whose host fits, closest first.
    pub(super) fn matching(&self, host: &str) -> impl Iterator<Item = &Paths> {
        let under = self.under_lengths.iter().filter_map(move |length| {
            let start = host.len().checked_sub(*length).filter(|start| *start > 0)?;
            (host.as_bytes()[start] == b'.').then(|| self.under.get(&host[start..]))?
        });
        self.exact.get(host).into_iter().chain(under).chain(&self.any)
    }
}

impl Paths {
    fn add(&mut self, at: usize, rule: &Rule) {
        let cell = match &rule.path {
            PathPattern::Exact(path) => self.exact.entry(path.clone()),
            PathPattern::Prefix(prefix) => self.prefixes.entry(prefix.clone()),
        };
        let cell = cell.or_default();
        match &rule.model {
            Some(model) => cell.named.entry(model.clone()).or_default().push(at),
            None => cell.any.push(at),
        }
    }

    fn finish(&mut self, rules: &[&Rule]) {
        self.prefix_lengths = lengths(&self.prefixes);
        for cell in self.exact.values_mut().chain(self.prefixes.values_mut()) {
            cell.finish(rules);
        }
    }

    /// The groups whose path fits, closest first.
    pub(super) fn matching(&self, path: &str) -> impl Iterator<Item = &Cell> {
        let prefixes = self.prefix_lengths.iter().filter_map(move |length| {
            let prefix = path.get(..*length)?;
            (prefix.is_empty() || prefix.ends_with('/')).then(|| self.prefixes.get(prefix))?
        });
        self.exact.get(path).into_iter().chain(prefixes)
    }
}

impl Cell {
    /// The rules that name `model`.
    pub(super) fn naming(&self, model: &str) -> &[usize] {
        self.named.get(model).map_or(&[], Vec::as_slice)
    }

    /// Rules that stand for all of this group in everything but the model.
    pub(super) fn representatives(&self) -> impl Iterator<Item = usize> {
        self.shapes.iter().chain(&self.any).copied()
    }

    fn finish(&mut self, rules: &[&Rule]) {
        // What `Rank` says after host, path and model. The sort is stable: first written, first.
        let by_rank =
            |at: &usize| Reverse((!rules[*at].methods.is_empty(), rules[*at].headers.len()));
        self.any.sort_by_key(by_rank);
        let mut seen: HashSet<(&[Method], &[HeaderMatch]), Fold> = HashSet::default();
        for named in self.named.values_mut() {
            named.sort_by_key(by_rank);
            for at in named {
                if seen.insert((&rules[*at].methods, &rules[*at].headers)) {
                    self.shapes.push(*at);
                }
            }
        }
    }
}

/// The lengths of the keys, longest first.
fn lengths<V>(map: &Map<V>) -> Box<[usize]> {
    let mut lengths: Vec<usize> = map.keys().map(|key| key.len()).collect();
    lengths.sort_unstable_by_key(|length| Reverse(*length));
    lengths.dedup();
    lengths.into()
}
