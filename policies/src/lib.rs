//! What may happen to a request, and what its numbers mean.
//!
//! This crate decides and does nothing: it has no clock, no chance, no socket, no file and no task.
//! Time comes in as a [`std::time::Duration`] since an arbitrary start, or as a count of nano- or
//! microseconds; chance comes in as bytes. So every decision can be repeated, and a test needs
//! neither sleep nor network. `clippy.toml` bans the ways out, each with its reason.
//!
//! The modules stand in the order in which a request meets them:
//!
//! * [`framing`]: where an HTTP/1.1 message begins and ends, judged on its raw
//!   bytes before anybody repairs it.
//! * [`h2`]: HTTP/2 and its compression of fields.
//! * [`headers`]: which header fields cross the gateway, in which direction, and which never do.
//! * [`access`]: who a caller is and what they may do.
//! * [`limit`]: how often, and how many at a time.
//! * [`peek`]: the few members of a JSON body that a decision needs, read without parsing or
//!   owning the rest.
//! * [`trace_context`]: the trace a request belongs to: what of a received context is continued,
//!   and what is sent on.
//! * [`shadow`]: which requests are copied aside.
//! * [`health`]: an endpoint's life: serving, ejected, on trial, serving again.
//! * [`timeout`]: until when to wait, and for what.
//! * [`retry`]: what is safe to send again, and the budget for it.
//! * [`usage`]: token usage and finish reason, read from an answer that passes by.
//! * [`outcome`]: how a request ended, and which endings count against a variant.
//! * [`sketch`]: distributions of latency that can be merged, and their quantiles.
//! * [`statistics`]: from counts to verdicts.
//! * [`comparison`]: answers to copies beside those that clients got. [`redact`]: what is taken out of
//!   an answer before any of it is kept.
//! * [`evidence`]: what is counted of an experiment. [`guardrail`]: a bound that must hold, and what
//!   the evidence says of it. [`ramp`]: a schedule of growing shares, and what a look at it decides.

pub mod framing;
pub mod h2;
pub mod headers;
pub mod access;
pub mod limit;
mod json;
pub mod peek;
pub mod trace_context;
pub mod shadow;
pub mod health;
pub mod timeout;
pub mod retry;
pub mod usage;
pub mod outcome;
pub mod sketch;
pub mod statistics;
pub mod comparison;
pub mod redact;
pub mod evidence;
pub mod guardrail;
pub mod ramp;

pub use access::api_key;
pub use access::{Caller, Grants, KeyLimits, Permission, Role};
pub use outcome::{Flag, Outcome, RejectReason};
