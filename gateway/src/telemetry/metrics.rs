//! What `/metrics` answers: every number this process keeps, read where it is kept.
//!
//! Nothing is counted twice for the sake of metrics: requests and latencies are the tallies that
//! results are made of, outcomes are the recorder's own books. A scrape sums the workers' shards and
//! takes no lock that a request could want.

use std::sync::Arc;

use super::exposition::{Dialect, Exposition};
use super::histogram::Counted;
use super::traces;
use crate::store::thread::StoreStats;
use crate::webhooks::post::RESULTS;
use crate::worker::Shared;

mod clients;
mod comparisons;
mod experiments;
mod own;
mod recording;
mod requests;
#[cfg(test)]
mod tests;
mod upstream;

/// What the shared state does not know.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Configurations put in force, the first included.
    pub config_reloads_ok: u64,
    /// Configurations refused.
    pub config_reloads_failed: u64,
    /// Whether the one read last is in force.
    pub config_last_successful: bool,
    /// When one was put in force last, seconds since 1970.
    pub config_last_success_unix: i64,
    /// Number of the snapshot in force.
    pub config_revision: u64,
    /// Certificates in force: listener, subject, end of validity in seconds since 1970.
    pub certificates: Vec<(&'static str, String, i64)>,
    /// Start of the process, seconds since 1970, where the system does not tell; 0 if unknown.
    pub started_unix: i64,
    /// Newest ramps: experiment, state, step.
    pub ramps: Vec<(String, &'static str, usize)>,
    /// Decisions of ramps: experiment, action, reason, how many.
    pub ramp_decisions: Vec<(String, &'static str, &'static str, u64)>,
    /// The smallest p-value of "units arrive as dealt" so far: experiment, p-value.
    pub sample_ratios: Vec<(String, f64)>,
    /// Webhooks: name, what became of tries by `webhooks::post::RESULTS`, messages that wait.
    pub webhooks: Vec<(String, [u64; RESULTS.len()], u64)>,
    /// What became of spans, if any are sent.
    pub spans: Option<Arc<traces::SpanCounts>>,
}

/// The whole text. Reads files of the system: not for a thread that serves requests.
pub fn render(
    shared: &Shared,
    store: Option<&StoreStats>,
    extra: &Extra,
    dialect: Dialect,
) -> String {
    let mut out = Exposition::new(dialect);
    let snapshot = shared.current.load_full();
    let tallies = shared.tallies.by_variant();
    requests::requests(shared, &tallies, &mut out);
    clients::clients(shared, &mut out);
    clients::tls(shared, extra, &mut out);
    experiments::assignments(&tallies, &mut out);
    experiments::experiments(&snapshot, &mut out);
    experiments::ramps(extra, &mut out);
    experiments::sample_ratios(extra, &mut out);
    own::webhooks(extra, &mut out);
    upstream::upstream(&snapshot, &mut out);
    upstream::shadows(shared, &snapshot, &mut out);
    comparisons::comparisons(shared, &snapshot, &mut out);
    recording::outcomes(shared, &mut out);
    recording::feedback(shared, &mut out);
    recording::stored(store, &mut out);
    clients::auth(shared, &mut out);
    own::configuration(extra, &mut out);
    own::state(shared, extra, &mut out);
    own::runtime(shared, &mut out);
    own::identity(shared, &mut out);
    own::system(extra, &mut out);
    out.finish()
}

/// One series of times.
fn times(out: &mut Exposition, labels: &[&str], counted: &Counted) {
    let bounds: Vec<f64> = counted.bounds.iter().copied().map(seconds).collect();
    out.histogram(labels, &bounds, &counted.counts, seconds(counted.sum_micros));
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
