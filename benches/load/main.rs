//! Load that wrk and h2load do not make: new connections, an even or bursty rate with latencies
//! counted from when a request was due, idle connections, streams, and large bodies.
//!
//! One thread a connection, blocking sockets: a thread sleeps until its request is due to within tens
//! of microseconds, which an event loop with a timer wheel of a millisecond cannot. Prints one JSON
//! object. Talks to loopback only.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bodies;
mod client;
mod handshakes;
mod idle;
mod rate;
mod streams;

use client::Target;

#[derive(Debug, Parser)]
#[command(about = "Load for benches/compare; prints one JSON object")]
struct Arguments {
    /// Address of the gateway.
    #[arg(long)]
    to: SocketAddr,
    /// PEM file with the certificate to trust; without it plain HTTP is spoken.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Secret that is sent as a bearer.
    #[arg(long, default_value = "")]
    key: String,
    /// Path that is asked for.
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    /// How long, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Connections at a time.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A new connection for each request.
    Handshakes {
        /// Resume the session of an earlier connection.
        #[arg(long)]
        resumed: bool,
    },
    /// A fixed rate, whatever the answers take.
    Rate {
        /// Requests per second over all connections.
        #[arg(long)]
        rate: f64,
        /// All connections ask at the same moment instead of one after the other.
        #[arg(long)]
        bursts: bool,
    },
    /// Connections that made one request and stay open until standard input ends.
    Idle,
    /// Event streams, read to the end.
    Streams,
    /// Large bodies, one request after the other on each connection.
    Bodies {
        /// Bytes in each request body; the answer's size is the backend's matter.
        #[arg(long, default_value_t = 500)]
        send: usize,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let loopback = match arguments.to.ip() {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => address.is_loopback(),
    };
    if !loopback {
        eprintln!("bench-load: {} is not a loopback address", arguments.to);
        return ExitCode::FAILURE;
    }
    match run(&arguments) {
        Ok(result) => {
            use std::io::Write as _;
            let written = writeln!(std::io::stdout(), "{result}");
            if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("bench-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> client::Result<serde_json::Value> {
    let resumed = matches!(arguments.what, What::Handshakes { resumed: true });
    let target = Target::new(
        arguments.to,
        arguments.ca.as_deref(),
        &arguments.path,
        &arguments.key,
        resumed,
    )?;
    let (seconds, connections) = (arguments.seconds, arguments.connections);
    match arguments.what {
        What::Handshakes { .. } => handshakes::run(&target, connections, seconds),
        What::Rate { rate, bursts } => rate::run(&target, connections, seconds, rate, bursts),
        What::Idle => idle::run(&target, connections),
        What::Streams => streams::run(&target, connections, seconds),
        What::Bodies { send } => bodies::run(&target, connections, seconds, send),
    }
}
