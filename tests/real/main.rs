//! Real SDKs and real models: Python clients as people install them, SmolLM2, MLServer, gRPC.
//!
//! Slow and in need of Python, Node and a network at the first start, so behind the feature `real`;
//! `scripts/test` installs what is needed. The Python halves lie beside these files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a panic is how a test fails, and it says where"
)]

mod setup;
mod openai_sdk;
mod anthropic_sdk;
mod tee;
mod language_model;
mod mlserver;
mod grpc;
mod http2;
mod as_written;
mod webhooks;
mod openapi;
