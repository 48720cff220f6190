//! Hosts: one name, or every name under one.

use crate::{AuthorityFault, canonical_authority};
use std::fmt;

/// `api.example.com`, or `*.example.com` for every name under `example.com` but not itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host, in its canonical spelling.
    Exact(Box<str>),
    /// Every host that ends with this, which starts with a dot, and has a label or more before it.
    Under(Box<str>),
}

/// How closely a host fits; a longer wildcard is closer than a shorter one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostRank {
    /// The rule names no host.
    Any,
    /// A wildcard of this many bytes fits.
    Under(usize),
    /// The name itself.
    Exact,
}

/// What is wrong with a written host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPatternFault {
    /// `*` on its own.
    #[error("`*` stands for any host; leave `hosts` out to say so")]
    Everything,
    /// A `*` that is not the whole first label.
    #[error("`*` may only be the whole first label, as in `*.example.com`")]
    StrayStar,
    /// `host:port`.
    #[error("a route's host carries no port")]
    Port,
    /// Not a host at all.
    #[error("not a host")]
    Host(#[from] AuthorityFault),
}

impl HostPattern {
    /// Reads a host as written in a configuration; case and a closing dot do not matter.
    pub fn parse(written: &str) -> Result<Self, HostPatternFault> {
        if written == "*" {
            return Err(HostPatternFault::Everything);
        }
        let (name, wildcard) = match written.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (written, false),
        };
        if name.contains('*') || (wildcard && name.starts_with('[')) {
            return Err(HostPatternFault::StrayStar);
        }
        let authority = canonical_authority(name)?;
        if authority.port.is_some() {
            return Err(HostPatternFault::Port);
        }
        Ok(if wildcard {
            Self::Under(format!(".{}", authority.host).into())
        } else {
            Self::Exact(authority.host.into())
        })
    }

    /// How closely `host`, in its canonical spelling, fits; `None` if it does not.
    pub fn rank(&self, host: &str) -> Option<HostRank> {
        match self {
            Self::Exact(name) => (**name == *host).then_some(HostRank::Exact),
            Self::Under(suffix) => (host.len() > suffix.len() && host.ends_with(&**suffix))
                .then_some(HostRank::Under(suffix.len())),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Under(suffix) => write!(f, "*{suffix}"),
        }
    }
}
