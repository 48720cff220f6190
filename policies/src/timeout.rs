//! Until when to wait, and for what. All moments are [`Duration`]s since one arbitrary start.

use std::time::Duration;

/// How long each part of a request may take (L10). Connecting has its own question,
/// [`Deadlines::connect_by`], because it may happen more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// To a connected socket, TLS included.
    pub connect: Duration,
    /// From the request sent to the first byte of the answer.
    pub first_byte: Duration,
    /// Without any progress: between two pieces of the answer, or while the request is being sent.
    pub idle: Duration,
    /// The whole request.
    pub total: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(600),
        }
    }
}

/// Which wait was too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeoutKind {
    /// The answer did not begin.
    FirstByte,
    /// The answer, or the sending of the request, stopped.
    Idle,
    /// The whole took too long, however well it went.
    Total,
}

impl TimeoutKind {
    /// The name in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstByte => "first_byte",
            Self::Idle => "idle",
            Self::Total => "total",
        }
    }
}

impl Deadlines {
    /// The next moment at which to give up if nothing happens until then, and why. Never before
    /// `now`: a moment that has passed means at once.
    ///
    /// * `started`: when the request's head was complete.
    /// * `sent_at`: when its last byte was sent to the backend; `None` until then. Before that the
    ///   backend cannot be late, only stuck.
    /// * `first_byte_at`: when the answer began. It may begin before the request is sent.
    /// * `last_progress`: the last byte in either direction; never before it, `started`.
    ///
    /// Where the part and the whole end together, the part is named: it tells more.
    pub fn next(
        &self,
        started: Duration,
        sent_at: Option<Duration>,
        first_byte_at: Option<Duration>,
        last_progress: Duration,
        now: Duration,
    ) -> (Duration, TimeoutKind) {
        let (part, kind) = match (first_byte_at, sent_at) {
            (None, Some(sent)) => (sent.saturating_add(self.first_byte), TimeoutKind::FirstByte),
            (Some(first), _) => {
                (last_progress.max(first).saturating_add(self.idle), TimeoutKind::Idle)
            }
            (None, None) => {
                (last_progress.max(started).saturating_add(self.idle), TimeoutKind::Idle)
            }
        };
        let whole = started.saturating_add(self.total);
        if part <= whole { (part.max(now), kind) } else { (whole.max(now), TimeoutKind::Total) }
    }

    /// Until when a connection begun at `connecting_since` must stand: never beyond the end of the
    /// whole request.
    pub fn connect_by(&self, started: Duration, connecting_since: Duration) -> Duration {
        connecting_since.saturating_add(self.connect).min(started.saturating_add(self.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_part_of_a_request_has_its_own_deadline() {
        use TimeoutKind::{FirstByte, Idle, Total};
        let deadlines = Deadlines { connect: s(2), first_byte: s(60), idle: s(30), total: s(600) };
        // started, sent, first byte, last progress, now → deadline, kind
        let table = [
            ((100, None, None, 100, 100), (130, Idle)),
            ((100, None, None, 120, 121), (150, Idle)),
            ((100, Some(110), None, 110, 111), (170, FirstByte)),
            ((100, Some(110), Some(112), 112, 112), (142, Idle)),
            ((100, Some(110), Some(112), 500, 500), (530, Idle)),
            ((100, Some(110), Some(112), 690, 690), (700, Total)),
            ((100, Some(660), None, 660, 660), (700, Total)),
            ((100, Some(640), None, 640, 640), (700, FirstByte)),
            ((100, None, Some(105), 105, 105), (135, Idle)),
            ((100, Some(110), None, 110, 900), (900, FirstByte)),
        ];
        for ((started, sent, first, progress, now), (deadline, kind)) in table {
            let next = deadlines.next(s(started), sent.map(s), first.map(s), s(progress), s(now));
            assert_eq!(next, (s(deadline), kind), "{started} {sent:?} {first:?} {progress} {now}");
        }
    }

    #[test]
    fn connecting_ends_with_the_request_at_the_latest() {
        let deadlines = Deadlines::default();
        assert_eq!(deadlines.connect_by(s(100), s(101)), s(103));
        assert_eq!(deadlines.connect_by(s(100), s(699)), s(700));
    }

    #[test]
    fn deadlines_without_end_do_not_overflow() {
        let endless = Deadlines {
            connect: Duration::MAX,
            first_byte: Duration::MAX,
            idle: Duration::MAX,
            total: Duration::MAX,
        };
        let next = endless.next(s(1), Some(s(2)), None, s(2), s(2));
        assert_eq!(next, (Duration::MAX, TimeoutKind::FirstByte));
        assert_eq!(endless.connect_by(s(1), s(1)), Duration::MAX);
    }

    proptest! {
        #[test]
        fn a_deadline_is_never_past_and_never_beyond_the_whole(
            started in 0..1000_u64, upload in 0..1000_u64, answer in 0..1000_u64,
            now in 0..5000_u64, sent: bool, began: bool,
        ) {
            let deadlines = Deadlines::default();
            let sent_at = sent.then(|| s(started + upload));
            let first = began.then(|| s(started + upload + answer));
            let progress = first.or(sent_at).unwrap_or(s(started));
            let (deadline, _) = deadlines.next(s(started), sent_at, first, progress, s(now));
            prop_assert!(deadline >= s(now));
            prop_assert!(deadline <= s(now).max(s(started) + deadlines.total));
        }
    }
}
