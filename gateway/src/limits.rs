//! How much each key may do: living state, kept across snapshots.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use policies::KeyLimits;
use policies::limit::{InFlight, RateLimit};

/// Limits of one key, as they stand.
#[derive(Debug)]
pub struct KeyState {
    limits: KeyLimits,
    /// Requests per second.
    pub requests: Option<RateLimit>,
    /// Tokens per minute.
    pub tokens: Option<RateLimit>,
    /// Requests at the same time.
    pub concurrent: Option<InFlight>,
}

impl KeyState {
    fn new(limits: KeyLimits) -> Self {
        // A limit below one request per second still lets one request through at a time.
        #[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
        let burst = |rate: f64| rate.ceil().max(1.0) as u64;
        Self {
            limits,
            requests: limits
                .requests_per_second
                .and_then(|rate| RateLimit::new(rate, burst(rate)).ok()),
            tokens: limits
                .tokens_per_minute
                .and_then(|rate| RateLimit::new(rate as f64 / 60.0, rate.max(1)).ok()),
            concurrent: limits.concurrent.map(InFlight::new),
        }
    }
}

/// States of all keys that have limits, by key id.
#[derive(Debug, Default)]
pub struct KeyStates(Mutex<HashMap<Arc<str>, Arc<KeyState>>>);

impl KeyStates {
    /// The states of `keys`, in a map for one snapshot; a key whose limits did not change keeps what
    /// it has used.
    pub fn adopt<'a>(
        &self,
        keys: impl Iterator<Item = (&'a Arc<str>, KeyLimits)>,
    ) -> HashMap<Arc<str>, Arc<KeyState>> {
        let mut known = self.0.lock();
        let adopted: HashMap<_, _> = keys
            .filter(|(_, limits)| *limits != KeyLimits::default())
            .map(|(id, limits)| {
                let state = known
                    .get(id)
                    .filter(|state| state.limits == limits)
                    .cloned()
                    .unwrap_or_else(|| Arc::new(KeyState::new(limits)));
                (Arc::clone(id), state)
            })
            .collect();
        known.clone_from(&adopted);
        adopted
    }
}
