//! Counts that belong to no variant: connections, handshakes, credentials, refusals.
//!
//! A shard per worker; only its worker adds to it, so an add is a load and a store. Label values are
//! closed sets known here, and every series exists from the start, at zero.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;
use policies::api_key::Denied;
use policies::outcome::RejectReason;

use super::histogram::StepTimes;
use super::runtime::RuntimeCounts;
use crate::recorder::row::Protocol;

/// Results of `weir_auth_total`: `ok`, the reasons of a denial, and `denied` (known, not allowed).
pub const AUTH_RESULTS: [&str; 7] =
    ["ok", "missing", "malformed", "unknown", "expired", "revoked", "denied"];

/// Reasons of `weir_connections_closed_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Ended as HTTP ends a connection.
    Normal,
    /// Unused for too long.
    Idle,
    /// A head that did not come in time.
    HeaderTimeout,
    /// A client that did not read.
    Stuck,
    /// Refused: too many connections.
    Refused,
    /// The TLS handshake failed or took too long.
    Handshake,
    /// Broken by the client or the network.
    Error,
    /// Too many resets.
    Abuse,
}

impl Closed {
    /// Every reason, by index.
    pub const ALL: [Self; 8] = [
        Self::Normal,
        Self::Idle,
        Self::HeaderTimeout,
        Self::Stuck,
        Self::Refused,
        Self::Handshake,
        Self::Error,
        Self::Abuse,
    ];

    /// Label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Idle => "idle",
            Self::HeaderTimeout => "header_timeout",
            Self::Stuck => "stuck",
            Self::Refused => "refused",
            Self::Handshake => "handshake",
            Self::Error => "error",
            Self::Abuse => "abuse",
        }
    }
}

/// Index of a protocol in the arrays below.
pub fn protocol_index(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Http10 => 0,
        Protocol::Http11 => 1,
        Protocol::Http2 => 2,
    }
}

/// Labels of [`protocol_index`].
pub const PROTOCOLS: [&str; 3] = ["1.0", "1.1", "2"];

/// Counts of one worker.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    /// Refusals by reason and protocol.
    pub rejected: [[AtomicU64; PROTOCOLS.len()]; RejectReason::ALL.len()],
    /// Credentials by result.
    pub auth: [AtomicU64; AUTH_RESULTS.len()],
    /// Connections accepted, by protocol.
    pub connections: [AtomicU64; PROTOCOLS.len()],
    /// Connections open, by protocol.
    pub open: [AtomicU64; PROTOCOLS.len()],
    /// Connections closed, by reason.
    pub closed: [AtomicU64; Closed::ALL.len()],
    /// Handshakes that succeeded: TLS 1.2, TLS 1.3.
    pub handshakes_ok: [AtomicU64; 2],
    /// Handshakes that failed.
    pub handshakes_failed: AtomicU64,
    /// Handshakes that were too slow.
    pub handshakes_timed_out: AtomicU64,
    /// Time of successful handshakes.
    pub handshakes: StepTimes,
    /// Panics caught.
    pub panics: AtomicU64,
    /// Requests in flight.
    pub in_flight: AtomicU64,
    /// Assignments begun.
    pub assigned: AtomicU64,
    /// Assignments whose row was handed over, or dropped.
    pub finished: AtomicU64,
    /// Rows that found the queue full.
    pub queue_full: AtomicU64,
    /// How its event loop keeps up.
    pub runtime: RuntimeCounts,
}

/// Adds to a counter that only this worker's thread writes.
#[inline]
pub fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

/// Takes from a gauge that only this worker's thread writes.
#[inline]
pub fn lower(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_sub(by), Relaxed);
}

impl WorkerCounters {
    /// A credential was refused.
    pub fn denied(&self, why: Denied) {
        if let Some(index) = AUTH_RESULTS.iter().position(|result| *result == why.as_str()) {
            bump(&self.auth[index], 1);
        }
    }
}

/// Counts of all workers.
#[derive(Debug)]
pub struct Counters {
    shards: Box<[CachePadded<WorkerCounters>]>,
}

impl Counters {
    /// For `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self { shards: (0..workers).map(|_| CachePadded::default()).collect() }
    }

    /// The shard of one worker.
    pub fn of(&self, worker: usize) -> &WorkerCounters {
        &self.shards[worker]
    }

    /// The shards of all workers, by worker.
    pub fn each(&self) -> impl Iterator<Item = &WorkerCounters> {
        self.shards.iter().map(|shard| &**shard)
    }

    /// Sum of one counter over the workers.
    pub fn sum(&self, counter: impl Fn(&WorkerCounters) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| counter(shard).load(Relaxed)).fold(0, u64::wrapping_add)
    }
}
