//! The routes: the best rank wins, the first written breaks ties.
//!
//! Ranks are not compared while a request waits. The index keeps the rules of one host pattern and
//! one path pattern together, and walks these groups from the closest fit to the loosest, so that
//! ten thousand routes cost about what one does. Rules that differ in nothing but headers are
//! tried one after the other.

mod fold;
mod index;

use crate::{RepeatedHeader, RequestHead, Rule};
use http::Method;
use index::{Cell, Hosts};

/// Rules, and what each of them leads to.
#[derive(Debug)]
pub struct RouteTable<T> {
    entries: Box<[(Rule, T)]>,
    hosts: Hosts,
}

/// What is known of the `model` member of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model<'a> {
    /// Nobody has looked yet.
    Unread,
    /// There is none.
    Absent,
    /// This one.
    Named(&'a str),
}

/// Where a request goes, or why nowhere.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a, T> {
    /// Here.
    Route(&'a T),
    /// The answer hangs on the model: read it and ask again. Only for [`Model::Unread`].
    NeedsModel,
    /// Every rule names hosts, and none of them this one.
    UnknownHost,
    /// No rule takes this path, or none with these headers.
    NoPath,
    /// Rules take this path, but none of them with this method; see [`RouteTable::methods`].
    NoMethod,
    /// All else fits, but no rule takes this model.
    NoModel,
}

impl<T> RouteTable<T> {
    /// A table of `routes`, in the order written.
    pub fn new(routes: impl IntoIterator<Item = (Rule, T)>) -> Self {
        let entries: Box<[(Rule, T)]> = routes.into_iter().collect();
        let hosts = Hosts::index(entries.iter().map(|(rule, _)| rule));
        Self { entries, hosts }
    }

    /// The route of the rule that fits best.
    ///
    /// Fails only if a header decides and is given more than once. With [`Model::Unread`] the
    /// answer is either [`Found::NeedsModel`] or the same for every model.
    pub fn find(
        &self,
        head: &RequestHead<'_>,
        model: Model<'_>,
    ) -> Result<Found<'_, T>, RepeatedHeader> {
        for paths in self.hosts.matching(head.host) {
            for cell in paths.matching(head.path) {
                match model {
                    // A header that cannot be judged might yet decide, once the model is known.
                    Model::Unread => {
                        if cell.shapes.iter().any(|at| self.takes(*at, head) != Ok(false)) {
                            return Ok(Found::NeedsModel);
                        }
                    }
                    Model::Named(name) => {
                        if let Some(route) = self.first(cell.naming(name), head)? {
                            return Ok(Found::Route(route));
                        }
                    }
                    Model::Absent => {}
                }
                if let Some(route) = self.first(&cell.any, head)? {
                    return Ok(Found::Route(route));
                }
            }
        }
        Ok(self.why_none(head))
    }

    /// The methods with which rules take this host and path, sorted: what `Allow` says beside a 405.
    pub fn methods(&self, host: &str, path: &str) -> Vec<&Method> {
        let mut methods = Vec::new();
        for at in self.cells(host, path).flat_map(Cell::representatives) {
            for method in &self.entries[at].0.methods {
                if !methods.contains(&method) {
                    methods.push(method);
                }
            }
        }
        methods.sort_unstable_by_key(|method| method.as_str());
        methods
    }

    /// Every rule with what it leads to, in the order written.
    pub fn iter(&self) -> impl Iterator<Item = (&Rule, &T)> {
        self.entries.iter().map(|(rule, route)| (rule, route))
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn first(&self, rules: &[usize], head: &RequestHead<'_>) -> Result<Option<&T>, RepeatedHeader> {
        for &at in rules {
            if self.takes(at, head)? {
                return Ok(Some(&self.entries[at].1));
            }
        }
        Ok(None)
    }

    fn takes(&self, at: usize, head: &RequestHead<'_>) -> Result<bool, RepeatedHeader> {
        let rule = &self.entries[at].0;
        Ok(rule.takes_method(head.method) && rule.takes_headers(head.headers)?)
    }

    fn cells(&self, host: &str, path: &str) -> impl Iterator<Item = &Cell> {
        self.hosts.matching(host).flat_map(move |paths| paths.matching(path))
    }

    /// What came closest, when nothing fits.
    #[cold]
    fn why_none(&self, head: &RequestHead<'_>) -> Found<'_, T> {
        let mut path_known = false;
        let mut method_known = false;
        for cell in self.cells(head.host, head.path) {
            path_known = true;
            if cell.shapes.iter().any(|at| self.takes(*at, head) != Ok(false)) {
                return Found::NoModel;
            }
            method_known |=
                cell.representatives().any(|at| self.entries[at].0.takes_method(head.method));
        }
        if path_known && !method_known {
            return Found::NoMethod;
        }
        if self.is_empty() || self.hosts.matching(head.host).next().is_some() {
            return Found::NoPath;
        }
        Found::UnknownHost
    }
}
