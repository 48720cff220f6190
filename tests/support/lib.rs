//! What the tests of the whole gateway are written with: clients in front of it, backends behind
//! it, and everything that can go wrong in between.
//!
//! - [`Authority`]: certificates, made on the spot;
//! - [`backend()`]: a scripted HTTP server that remembers what it was asked;
//! - [`raw_backend()`]: the same in bytes, for backends that break the protocol;
//! - [`fault_proxy()`]: a network that delays, starves, swallows and cuts;
//! - [`Client`]: HTTP/1.1 and HTTP/2, with the times of every chunk;
//! - [`RawClient`]: exact bytes and frames, for clients that break the protocol;
//! - [`Flood`]: very much feedback, and what must come of it;
//! - [`Collector`]: a collector of OpenTelemetry that keeps what it gets;
//! - [`Events`]: a stream of events, read one by one;
//! - [`terminal()`]: a program on a real terminal, its keys and its screen;
//! - [`until()`]: waiting for a condition instead of sleeping for luck.
//!
//! Servers listen on port 0 and run on threads of their own, so that a test which blocks or pauses
//! its clock does not stop them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a panic is how a test fails, and it says where"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "test code: nothing here drains, so tasks need no owner, and real time is the point"
)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "test code: what a test does not expect is one case"
)]

pub mod until;
pub mod certificates;
pub mod backend;
pub mod fault_proxy;
pub mod client;
pub mod raw_client;
pub mod gateway;
pub mod process;
pub mod collector;
pub mod flood;
pub mod events;
pub mod terminal;

use std::time::Duration;

pub use backend::raw::{RawBackend, RawScript, raw_backend, raw_script};
pub use backend::{Backend, BackendBuilder, Seen, backend};
pub use certificates::{Authority, Pair};
pub use client::{Answer, Client, Failure, together};
pub use collector::Collector;
pub use events::{Event, Events};
pub use fault_proxy::{FaultProxy, fault_proxy, never_connects};
pub use flood::Flood;
pub use gateway::{ADMIN_KEY, Gateway, GatewayBuilder, gateway};
pub use process::{Process, Starting, weir, weir_program};
pub use raw_client::RawClient;
pub use terminal::{Terminal, terminal};
pub use until::{until, until_async, until_blocking};

/// A whole number of milliseconds.
#[must_use]
pub const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A whole number of seconds.
#[must_use]
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
