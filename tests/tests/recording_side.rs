//! Temporary.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]
#[path = "../e2e/drain.rs"] mod drain;
#[path = "../e2e/durability.rs"] mod durability;
#[path = "../e2e/recording.rs"] mod recording;
#[path = "../e2e/reload.rs"] mod reload;
#[path = "../e2e/telemetry.rs"] mod telemetry;
