#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]
#[path = "../e2e/wire_kit.rs"]
mod wire_kit;
#[path = "../e2e/wire_limits.rs"]
mod wire_limits;
#[path = "../e2e/wire_smuggling.rs"]
mod wire_smuggling;
#[path = "../e2e/wire_heads.rs"]
mod wire_heads;
#[path = "../e2e/wire_bodies.rs"]
mod wire_bodies;
#[path = "../e2e/wire_answers.rs"]
mod wire_answers;
#[path = "../e2e/wire_streams.rs"]
mod wire_streams;
