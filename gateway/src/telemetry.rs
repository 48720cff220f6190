//! What the gateway says about itself: log lines, access lines, metrics, traces.
//!
//! Nothing here is reached from the request path except plain counters: everything that formats,
//! allocates or waits runs on threads of its own.

pub mod counters;
pub mod histogram;
pub mod logs;
pub mod pace;
pub mod events;
pub mod access_line;
pub mod names;
pub mod exposition;
pub mod metrics;
pub mod process;
pub mod runtime;
pub mod traces;
