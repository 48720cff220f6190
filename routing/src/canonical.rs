//! One spelling for each path and host, shared by routing, access, logging and forwarding.
//!
//! Two readers that spell a path differently are how `/v1/%2e%2e/admin` gets past a rule. So what
//! has one clear meaning is respelled, and what two readers could take differently is refused.

mod authority;
mod path;

pub use authority::{Authority, AuthorityFault, canonical_authority};
pub use path::{PathFault, canonical_path};

/// The path and the query of a request target in origin form, split at the first `?`.
///
/// The query is never respelled. A fragment stays where it is: [`canonical_path`] refuses it.
pub fn split_target(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}
