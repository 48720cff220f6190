//! The whole gateway from outside: real sockets, real TLS, a real store.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a panic is how a test fails, and it says where"
)]

mod drain;
mod durability;
mod metrics;
mod recording;
mod reload;
mod split;
mod start;
mod wire_answers;
mod wire_bodies;
mod wire_h2;
mod wire_windows;
mod wire_heads;
mod wire_kit;
mod wire_limits;
mod wire_smuggling;
mod wire_streams;
mod wire_server;
mod telemetry;
mod traces;
mod failure_times;
mod failure_changes;
mod failure_clock;
mod floods;
mod failure_broken;
mod failure_pools;
mod failure_clients;
mod failure_limits;
mod failure_links;
mod shadow;
mod comparison;
mod disagreements;
mod experiments;
mod history;
mod stops;
mod ramps;
mod bandits;
mod webhooks;
mod verdicts;
mod shapes;
mod webhook_alerts;
mod access;
mod roles;
mod console;
mod admin;
mod audit;
mod service;
mod live;
mod top;
mod split_keys;
mod completions;
mod requests;
mod defined;
mod assignment;
mod bad_input;
mod vectors;
mod results;
mod feedback;
