//! The whole gateway from outside: real sockets, real TLS, a real store.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a panic is how a test fails, and it says where"
)]

mod split;
