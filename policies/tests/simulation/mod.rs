//! Experiments that never were: traffic, failures, latencies and the ramp's own decisions, over
//! fixed seeds.
//!
//! Only counts are drawn, never single requests: what of a Poisson stream falls into a class is a
//! Poisson stream of its own (thinning), so an hour costs as much as its looks.

pub mod bandit;
pub mod chance;
pub mod detection;
pub mod ramp;
pub mod sticky;
