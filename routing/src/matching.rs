//! Which requests a rule is about, and how closely it fits one.
//!
//! One kind of pattern a file; each says whether it fits and, where kinds of fit differ, its rank.

mod host;
mod path;
mod header;

pub use header::{HeaderMatch, HeaderValueMatch, RepeatedHeader};
pub use host::{HostPattern, HostPatternFault, HostRank};
pub use path::{PathPattern, PathPatternFault, PathRank};

use crate::RequestHead;
use http::{HeaderMap, Method};

/// The rule of one route. Every part must fit; an empty part fits everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// One of these hosts.
    pub hosts: Box<[HostPattern]>,
    /// This path.
    pub path: PathPattern,
    /// One of these methods.
    pub methods: Box<[Method]>,
    /// All of these headers.
    pub headers: Box<[HeaderMatch]>,
    /// The `model` member of the body, letter for letter.
    pub model: Option<Box<str>>,
}

/// How closely a rule fits a request; greater is closer. The field order *is* the precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Exact, then the longest wildcard, then any host.
    pub host: HostRank,
    /// Exact, then the longest prefix.
    pub path: PathRank,
    /// Whether the rule names the model.
    pub model: bool,
    /// Whether the rule names the method.
    pub method: bool,
    /// How many headers the rule asks for.
    pub headers: usize,
}

impl Rule {
    /// How closely this rule fits a request for `model` (`None`: its body names none); `None` if
    /// it does not. Headers are looked at only if all else fits.
    ///
    /// [`RouteTable::find`](crate::RouteTable::find) gives the same verdict without asking every
    /// rule; this is the definition it is tested against.
    pub fn rank(
        &self,
        head: &RequestHead<'_>,
        model: Option<&str>,
    ) -> Result<Option<Rank>, RepeatedHeader> {
        let host = if self.hosts.is_empty() {
            Some(HostRank::Any)
        } else {
            self.hosts.iter().filter_map(|pattern| pattern.rank(head.host)).max()
        };
        let (Some(host), Some(path)) = (host, self.path.rank(head.path)) else { return Ok(None) };
        let takes_model = self.model.is_none() || self.model.as_deref() == model;
        if !takes_model || !self.takes_method(head.method) || !self.takes_headers(head.headers)? {
            return Ok(None);
        }
        Ok(Some(Rank {
            host,
            path,
            model: self.model.is_some(),
            method: !self.methods.is_empty(),
            headers: self.headers.len(),
        }))
    }

    pub(crate) fn takes_method(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    pub(crate) fn takes_headers(&self, headers: &HeaderMap) -> Result<bool, RepeatedHeader> {
        for wanted in &self.headers {
            if !wanted.matches(headers)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
