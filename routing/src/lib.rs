//! Where a request goes: from its head to a route, from its unit to a variant.
//!
//! Pure: what is decided depends on the arguments alone. This crate knows nothing of clocks,
//! chance, sockets, files or runtimes, nor of what a route's policies are; its table is generic in
//! what a route carries, like a map in its value.
//!
//! Reading order:
//!
//! 1. [`canonical_path`] and [`canonical_authority`] give each path and host one spelling, which
//!    everything after them may rely on.
//! 2. [`RequestHead`] is what a rule looks at; `matching` says which [`Rule`] fits it, and how
//!    closely ([`Rank`]).
//! 3. [`RouteTable::find`] gives the route whose rule fits best.
//! 4. [`UnitSource`] names what stays together, [`Salt`] turns it into a bucket, [`Allocation`]
//!    says which variant a bucket belongs to, [`Layer`] and [`Holdout`] who takes part at all.
//! 5. [`assign()`] puts these together for a route's [`Experiment`]s.

mod canonical;
mod head;
mod matching;
mod route_table;
mod unit;
mod bucket;
mod allocation;
mod layer;
mod experiment;
mod assignment;

pub use allocation::{
    Allocation, AllocationFault, Retargeted, Run, ShareFault, VariantId, WeightFault,
    shares_of_weights,
};
pub use assignment::{AssignFault, Assignment, Facts, Reason, assign};
pub use bucket::{BUCKETS, HashKey, Salt, bucket_of};
pub use canonical::{
    Authority, AuthorityFault, PathFault, canonical_authority, canonical_path, split_target,
};
pub use experiment::{Condition, Experiment, Target};
pub use head::RequestHead;
pub use layer::{Holdout, Layer};
pub use matching::{
    HeaderMatch, HeaderValueMatch, HostPattern, HostPatternFault, HostRank, PathPattern,
    PathPatternFault, PathRank, Rank, RepeatedHeader, Rule,
};
pub use route_table::{Found, Model, RouteTable};
pub use unit::{Unit, UnitSource, UnitSourceFault, cookie};
