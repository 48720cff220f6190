//! An endpoint's life: serving → ejected → on trial → serving.
//!
//! What requests meet is enough to eject an endpoint and to take it back; an active probe, where
//! one is configured, only makes both quicker. Asking costs one relaxed load, and so does a success
//! while serving. Failures and changes take a short lock: there are few of them, or nothing else
//! is happening.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// When an endpoint is ejected, and for how long (F06).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// Failed requests that eject, if they come within `window`. At least 1.
    pub failures: u32,
    /// How far back failures are counted.
    pub window: Duration,
    /// The first ejection; each further one lasts twice as long.
    pub first_ejection: Duration,
    /// The longest ejection. Having served this long without another, an endpoint starts afresh.
    pub longest_ejection: Duration,
    /// Failed probes in a row that eject. At least 1.
    pub probe_failures: u32,
    /// After this long without a verdict a trial is given up and another request may try.
    pub trial_limit: Duration,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            window: Duration::from_secs(10),
            first_ejection: Duration::from_secs(10),
            longest_ejection: Duration::from_secs(300),
            probe_failures: 2,
            trial_limit: Duration::from_secs(60),
        }
    }
}

/// Where an endpoint is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It gets requests.
    Serving,
    /// It gets none until this moment; then one, on trial.
    Ejected {
        /// Since the caller's start.
        until: Duration,
    },
    /// One request is deciding.
    OnTrial,
}

impl State {
    /// The name in metrics and status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Ejected { .. } => "ejected",
            Self::OnTrial => "on_trial",
        }
    }
}

/// What a report changed, for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an ejection that nobody hears of is a riddle to whoever is on call"]
pub enum Change {
    /// It was serving or on trial and is ejected now.
    Ejected {
        /// How long it will be left alone.
        lasts: Duration,
    },
    /// It serves again.
    Restored,
}

/// Whether one more endpoint of a pool may be ejected: at most half of them, so that a fault of the
/// network or of a check cannot take a whole pool out. The only endpoint of a pool never is.
///
/// Two endpoints failing in the same instant may both be told yes; the next ejection sees it.
pub fn may_eject(ejected: usize, total: usize) -> bool {
    (ejected + 1) * 2 <= total
}

/// The health of one endpoint, shared by all workers. `now` is a time since an arbitrary start.
#[derive(Debug)]
pub struct EndpointHealth {
    settings: HealthSettings,
    /// State and moment in one, so that they cannot be seen apart: see [`Word`].
    word: AtomicU64,
    /// Probes failed in a row.
    probes_failed: AtomicU32,
    past: Mutex<Past>,
}

#[derive(Debug, Default)]
struct Past {
    /// The latest failures while serving, oldest first.
    failures: VecDeque<Duration>,
    /// Ejections since it last started afresh.
    ejections: u32,
    restored_at: Option<Duration>,
}

/// The two low bits are the state, the others a moment in nanoseconds (enough for 146 years):
/// * `SERVING`: no moment, so that serving is exactly 0,
/// * `EJECTED`: until when,
/// * `ON_TRIAL`: from when on the trial counts as given up.
struct Word;

impl Word {
    const SERVING: u64 = 0;
    const EJECTED: u64 = 1;
    const ON_TRIAL: u64 = 2;

    fn ejected(until: Duration) -> u64 {
        (nanos(until) << 2) | Self::EJECTED
    }

    fn on_trial(until: Duration) -> u64 {
        (nanos(until) << 2) | Self::ON_TRIAL
    }

    fn state(word: u64) -> u64 {
        word & 3
    }

    fn moment(word: u64) -> Duration {
        Duration::from_nanos(word >> 2)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX >> 2)
}

impl EndpointHealth {
    /// An endpoint that serves.
    pub fn new(settings: HealthSettings) -> Self {
        Self {
            settings,
            word: AtomicU64::new(Word::SERVING),
            probes_failed: AtomicU32::new(0),
            past: Mutex::default(),
        }
    }

    /// Whether it gets requests as a matter of course.
    #[inline]
    pub fn is_serving(&self) -> bool {
        // Relaxed here and everywhere: nothing else is published with this word.
        self.word.load(Ordering::Relaxed) == Word::SERVING
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        let word = self.word.load(Ordering::Relaxed);
        match Word::state(word) {
            Word::SERVING => State::Serving,
            Word::EJECTED => State::Ejected { until: Word::moment(word) },
            _ => State::OnTrial,
        }
    }

    /// Whether this request may be the one that tries an ejected endpoint: its ejection is over and
    /// nobody else is trying. Whoever gets `true` owes a [`succeeded`](Self::succeeded), a
    /// [`failed`](Self::failed) or a [`gave_up`](Self::gave_up).
    pub fn try_trial(&self, now: Duration) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        if word == Word::SERVING || Word::moment(word) > now {
            return false;
        }
        // Ejected and due, or on trial by a request that never reported back.
        self.replace(word, Word::on_trial(now.saturating_add(self.settings.trial_limit)))
    }

    /// A trial ended without telling anything (the client left): the next request may try at once.
    pub fn gave_up(&self) {
        let word = self.word.load(Ordering::Relaxed);
        if Word::state(word) == Word::ON_TRIAL {
            self.replace(word, Word::ejected(Duration::ZERO));
        }
    }

    /// A request was answered by it. Restores it if it was on trial; a late answer to a request
    /// from before an ejection does not.
    #[inline]
    pub fn succeeded(&self, now: Duration) -> Option<Change> {
        if self.is_serving() {
            return None;
        }
        self.passed_trial(now)
    }

    #[cold]
    fn passed_trial(&self, now: Duration) -> Option<Change> {
        let past = self.past();
        let word = self.word.load(Ordering::Relaxed);
        (Word::state(word) == Word::ON_TRIAL).then_some(())?;
        self.restore(past, word, now)
    }

    /// A request could not be served by it: no connection, no answer, a broken one, or whatever
    /// else its caller holds against an endpoint.
    ///
    /// `may_eject`: what [`may_eject`] says of its pool. Without it the failure is remembered, and
    /// the next one ejects if it may.
    pub fn failed(&self, now: Duration, may_eject: bool) -> Option<Change> {
        let mut past = self.past();
        let word = self.word.load(Ordering::Relaxed);
        match Word::state(word) {
            Word::SERVING => {
                past.failures.push_back(now);
                while past.failures.len() > self.settings.failures as usize {
                    past.failures.pop_front();
                }
                let recent = |at: &&Duration| now.saturating_sub(**at) < self.settings.window;
                let recent = past.failures.iter().filter(recent).count();
                if recent < self.settings.failures as usize || !may_eject {
                    return None;
                }
                self.eject(past, word, now)
            }
            // A request from before the ejection: it has been counted enough.
            Word::EJECTED => None,
            _ => self.eject(past, word, now),
        }
    }

    /// An active probe came back. One good answer restores, also from an ejection that requests
    /// caused; failures in a row eject as [`failed`](Self::failed) does, and keep out.
    pub fn probe(&self, ok: bool, now: Duration, may_eject: bool) -> Option<Change> {
        let past = self.past();
        let word = self.word.load(Ordering::Relaxed);
        if ok {
            self.probes_failed.store(0, Ordering::Relaxed);
            return if word == Word::SERVING { None } else { self.restore(past, word, now) };
        }
        let in_a_row = self.probes_failed.load(Ordering::Relaxed).saturating_add(1);
        self.probes_failed.store(in_a_row, Ordering::Relaxed);
        if in_a_row < self.settings.probe_failures {
            return None;
        }
        match Word::state(word) {
            Word::SERVING if may_eject => self.eject(past, word, now),
            Word::EJECTED => {
                // Known to be down: do not spend a client's request on finding out again.
                let at_least = now.saturating_add(self.settings.first_ejection);
                self.replace(word, Word::ejected(Word::moment(word).max(at_least)));
                None
            }
            // On trial the request decides, which knows more than a probe.
            _ => None,
        }
    }

    fn eject(&self, mut past: MutexGuard<'_, Past>, word: u64, now: Duration) -> Option<Change> {
        let longest = self.settings.longest_ejection;
        if past.restored_at.is_some_and(|at| now.saturating_sub(at) >= longest) {
            past.ejections = 0;
        }
        let doubled = 1_u32 << past.ejections.min(31);
        let lasts = self.settings.first_ejection.saturating_mul(doubled).min(longest);
        self.replace(word, Word::ejected(now.saturating_add(lasts))).then(|| {
            past.ejections = past.ejections.saturating_add(1);
            past.failures.clear();
            Change::Ejected { lasts }
        })
    }

    fn restore(&self, mut past: MutexGuard<'_, Past>, word: u64, now: Duration) -> Option<Change> {
        let mut word = word;
        // A trial may begin in this very moment: what restores is stronger than what tries.
        while !self.replace(word, Word::SERVING) {
            word = self.word.load(Ordering::Relaxed);
        }
        past.failures.clear();
        past.restored_at = Some(now);
        Some(Change::Restored)
    }

    fn replace(&self, seen: u64, with: u64) -> bool {
        self.word.compare_exchange(seen, with, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        // Whoever panicked with the lock held left counts behind that are still counts.
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn endpoint() -> EndpointHealth {
        EndpointHealth::new(HealthSettings::default())
    }

    fn ejected_at(health: &EndpointHealth, now: Duration) -> Duration {
        for _ in 0..4 {
            assert_eq!(health.failed(now, true), None);
        }
        match health.failed(now, true) {
            Some(Change::Ejected { lasts }) => lasts,
            other => panic!("not ejected but {other:?}"),
        }
    }

    #[test]
    fn f06_five_failures_in_ten_seconds_eject_and_four_do_not() {
        let health = endpoint();
        for at in [1, 2, 3, 4] {
            assert_eq!(health.failed(s(at), true), None);
            assert_eq!(health.succeeded(s(at)), None, "successes do not wipe failures away");
        }
        assert_eq!(health.failed(s(11), true), None, "the first is ten seconds old");
        assert!(health.is_serving());
        assert_eq!(health.failed(s(11), true), Some(Change::Ejected { lasts: s(10) }));
        assert_eq!(health.state(), State::Ejected { until: s(21) });
        assert!(!health.is_serving());
    }

    #[test]
    fn f06_after_its_ejection_one_request_at_a_time_may_try() {
        let health = endpoint();
        ejected_at(&health, s(0));
        assert!(!health.try_trial(s(9)));
        assert!(health.try_trial(s(10)));
        assert!(!health.try_trial(s(10)), "one is trying");
        assert_eq!(health.state(), State::OnTrial);
        assert_eq!(health.succeeded(s(11)), Some(Change::Restored));
        assert!(health.is_serving() && !health.try_trial(s(11)));
    }

    #[test]
    fn each_failed_trial_doubles_the_ejection_up_to_five_minutes() {
        let health = endpoint();
        let mut now = s(0);
        let mut lasts = ejected_at(&health, now);
        for expected in [20, 40, 80, 160, 300, 300, 300] {
            now += lasts;
            assert!(health.try_trial(now));
            assert_eq!(health.failed(now, false), Some(Change::Ejected { lasts: s(expected) }));
            lasts = s(expected);
        }
    }

    #[test]
    fn an_endpoint_that_fails_again_soon_stays_out_longer_and_one_that_held_starts_afresh() {
        let health = endpoint();
        ejected_at(&health, s(0));
        assert!(health.try_trial(s(10)));
        assert_eq!(health.succeeded(s(10)), Some(Change::Restored));
        assert_eq!(ejected_at(&health, s(60)), s(20));
        assert!(health.try_trial(s(80)));
        assert_eq!(health.succeeded(s(80)), Some(Change::Restored));
        assert_eq!(ejected_at(&health, s(380)), s(10));
    }

    #[test]
    fn a_trial_whose_client_left_does_not_lock_the_endpoint_out() {
        let health = endpoint();
        ejected_at(&health, s(0));
        assert!(health.try_trial(s(10)));
        health.gave_up();
        assert!(health.try_trial(s(10)), "told at once");
        assert!(!health.try_trial(s(69)));
        assert!(health.try_trial(s(70)), "or after a while, if nobody told");
    }

    #[test]
    fn late_reports_of_older_requests_neither_restore_nor_prolong() {
        let health = endpoint();
        ejected_at(&health, s(0));
        assert_eq!(health.succeeded(s(1)), None);
        assert_eq!(health.failed(s(2), true), None);
        assert_eq!(health.state(), State::Ejected { until: s(10) });
        health.gave_up();
        assert_eq!(health.state(), State::Ejected { until: s(10) });
    }

    #[test]
    fn f06_at_most_half_of_a_pool_is_ejected() {
        for (total, most) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)] {
            let ejected = (0..total).take_while(|&ejected| may_eject(ejected, total)).count();
            assert_eq!(ejected, most, "of {total}");
        }
    }

    #[test]
    fn an_endpoint_that_may_not_be_ejected_is_ejected_as_soon_as_it_may() {
        let health = endpoint();
        for _ in 0..20 {
            assert_eq!(health.failed(s(1), false), None);
        }
        assert!(health.is_serving());
        assert_eq!(health.failed(s(2), true), Some(Change::Ejected { lasts: s(10) }));
    }

    #[test]
    fn two_failed_probes_in_a_row_eject_and_one_good_one_restores() {
        let health = endpoint();
        assert_eq!(health.probe(false, s(0), true), None);
        assert_eq!(health.probe(true, s(5), true), None);
        assert_eq!(health.probe(false, s(10), true), None);
        assert_eq!(health.probe(false, s(15), true), Some(Change::Ejected { lasts: s(10) }));
        assert_eq!(health.probe(false, s(20), true), None);
        assert_eq!(health.state(), State::Ejected { until: s(30) }, "kept out");
        assert_eq!(health.probe(true, s(25), true), Some(Change::Restored));
        assert!(health.is_serving());
    }

    #[test]
    fn a_good_probe_restores_what_requests_ejected_and_ends_a_trial() {
        let health = endpoint();
        ejected_at(&health, s(0));
        assert_eq!(health.probe(true, s(1), true), Some(Change::Restored));
        ejected_at(&health, s(2));
        assert!(health.try_trial(s(22)));
        assert_eq!(health.probe(true, s(23), true), Some(Change::Restored));
        assert_eq!(health.succeeded(s(24)), None);
    }

    #[test]
    fn failed_probes_leave_half_a_pool_serving() {
        let health = endpoint();
        for at in 0..10 {
            assert_eq!(health.probe(false, s(at), false), None);
        }
        assert!(health.is_serving());
        assert!(health.probe(false, s(10), true).is_some());
    }

    #[test]
    fn of_many_threads_one_gets_the_trial() {
        let health = endpoint();
        ejected_at(&health, s(0));
        let tried: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| usize::from(health.try_trial(s(10))))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(tried, 1);
    }

    proptest! {
        /// Whatever happens, an endpoint can always come back: after the longest ejection and the
        /// longest trial, somebody may try, and one success restores it.
        #[test]
        fn no_history_locks_an_endpoint_out_for_good(
            events in prop::collection::vec((0_u8..6, 0_u64..30), 0..200),
        ) {
            let health = endpoint();
            let mut now = s(0);
            for (event, pause) in events {
                now += s(pause);
                match event {
                    0 | 1 => drop(health.failed(now, true)),
                    2 => drop(health.succeeded(now)),
                    3 => drop(health.try_trial(now)),
                    4 => drop(health.probe(false, now, true)),
                    _ => health.gave_up(),
                }
                if let State::Ejected { until } = health.state() {
                    prop_assert!(until <= now + s(300));
                }
            }
            now += s(300);
            if !health.is_serving() {
                prop_assert!(health.try_trial(now));
                prop_assert_eq!(health.succeeded(now), Some(Change::Restored));
            }
        }
    }
}
