//! Weir: a traffic-splitting inference gateway.
//!
//! The process: the only crate that touches the world. `request.rs` is where a request's path
//! begins; `ARCHITECTURE.md` is the map. [`Gateway::start`] runs the real thing, for the binary and
//! for tests alike.

pub mod clock;
pub mod ids;
pub mod names;
pub mod news;
pub mod config;
pub mod live;
pub mod limits;
pub mod snapshot;
pub mod change;
pub mod control;
pub mod body;
pub mod fields;
pub mod threads;
pub mod worker;
pub mod run;
pub mod server;
pub mod request;
pub mod backends;
pub mod recorder;
pub mod evidence;
pub mod comparison;
pub mod feedback;
pub mod webhooks;
pub mod store;
pub mod telemetry;
pub mod admin;
pub mod signals;
pub mod gateway;
pub mod cli;
pub mod demo;

pub use gateway::{Gateway, StartError, StartOptions};
pub use signals::Signals;
