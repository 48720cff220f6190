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
            requests: limits.requests_per_second.map(|rate| RateLimit::nearest(rate, burst(rate))),
            tokens: limits
                .tokens_per_minute
                .map(|rate| RateLimit::nearest(rate as f64 / 60.0, rate.max(1))),
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Once a rate too small for the bucket was taken for no limit at all.
    #[test]
    fn a_limit_that_cannot_be_kept_exactly_is_still_a_limit() {
        for rate in [1e-3, 1e-9, 1e-12, 1e-300, f64::MIN_POSITIVE, 0.0, -1.0, f64::NAN] {
            let limits = KeyLimits { requests_per_second: Some(rate), ..KeyLimits::default() };
            let state = KeyState::new(limits);
            let limit = state.requests.as_ref().expect("a limit was asked for");
            assert!(limit.check(SECOND, 1).is_ok(), "{rate}: one passes");
            assert!(limit.check(2 * SECOND, 1).is_err(), "{rate}: and no second one");
        }
        for rate in [0, 1, u64::MAX] {
            let limits = KeyLimits { tokens_per_minute: Some(rate), ..KeyLimits::default() };
            assert!(KeyState::new(limits).tokens.is_some(), "{rate}");
        }
        let fast = KeyLimits { requests_per_second: Some(1e300), ..KeyLimits::default() };
        assert!(KeyState::new(fast).requests.is_some_and(|limit| limit.check(1, 1).is_ok()));
    }
}
