//! Paths: one, or everything below one.

use crate::{PathFault, canonical_path};
use std::fmt;

/// `/v1/embeddings`, or `/v2/models/*` for everything below `/v2/models/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// This path, in its canonical spelling.
    Exact(Box<str>),
    /// Every path that starts with this. It ends with a slash, or is empty and so fits all.
    Prefix(Box<str>),
}

/// How closely a path fits; a longer prefix is closer than a shorter one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathRank {
    /// A prefix of this many bytes fits.
    Prefix(usize),
    /// The path itself.
    Exact,
}

/// What is wrong with a written path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathPatternFault {
    /// A `*` that is not the whole last segment.
    #[error("`*` may only be the whole last segment, as in `/v2/models/*`")]
    StrayStar,
    /// No request ever carries this path, because it is respelled before it is matched.
    #[error("requests for this path arrive as `{canonical}`; write that")]
    NotCanonical {
        /// What to write instead.
        canonical: String,
    },
    /// Requests for this path are refused.
    #[error("not a path that can be requested")]
    Path(#[from] PathFault),
}

impl PathPattern {
    /// Reads a path as written in a configuration; it must be in its canonical spelling.
    pub fn parse(written: &str) -> Result<Self, PathPatternFault> {
        if written == "*" || written == "/*" {
            return Ok(Self::Prefix("".into()));
        }
        let (path, prefix) = match written.strip_suffix("/*") {
            Some(_) => (&written[..written.len() - 1], true),
            None => (written, false),
        };
        if path.contains('*') {
            return Err(PathPatternFault::StrayStar);
        }
        let canonical = canonical_path(path)?;
        if canonical != path {
            let star = if prefix { "*" } else { "" };
            return Err(PathPatternFault::NotCanonical { canonical: format!("{canonical}{star}") });
        }
        Ok(if prefix { Self::Prefix(path.into()) } else { Self::Exact(path.into()) })
    }

    /// How closely `path`, in its canonical spelling, fits; `None` if it does not.
    pub fn rank(&self, path: &str) -> Option<PathRank> {
        match self {
            Self::Exact(exact) => (**exact == *path).then_some(PathRank::Exact),
            Self::Prefix(prefix) => {
                path.starts_with(&**prefix).then_some(PathRank::Prefix(prefix.len()))
            }
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(prefix) if prefix.is_empty() => f.write_str("/*"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}
