//! What is known of one client connection, shared by its stream, its requests and the worker's sweep.
//!
//! Deadlines of connections (head, idle, write progress) are not timers: the worker looks at all its
//! connections four times a second and kicks those that are late. A request costs no timer work.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use policies::framing::Fault;

use crate::clock;
use crate::config::plan::Limits;
use crate::recorder::row::Protocol;
use crate::server::tunnel::Tunnel;

/// What is counted of a client in so long, before it is taken for an attack: resets, streams that it
/// broke, and frames that bring nothing forward.
const COUNTED: Duration = Duration::from_secs(10);
const MOST_RESETS: u32 = 100;
const MOST_FAULTS: u32 = 32;
const MOST_CHORES: u32 = 10_000;

/// How long a client with something under way may be silent before it is asked whether it is there, and
/// how long after that it has left.
const ASKED_AFTER: Duration = Duration::from_secs(20);
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// Why a connection is ended from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kick {
    /// Unused for too long (L09), or draining: end it gracefully.
    Idle,
    /// A head was begun and not finished in time (L04).
    HeaderTimeout,
    /// The client does not read (L12).
    Stuck,
    /// Too many resets, broken streams or frames that bring nothing forward (T08, T09).
    Abuse,
}

/// Why what a client sent is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The head or the framing is not beyond doubt.
    Framing(Fault),
    /// The head did not come in time.
    HeaderTimeout,
}

/// One client connection.
#[derive(Debug)]
pub struct Conn {
    /// Socket peer.
    pub peer: SocketAddr,
    /// Its address as it stands in `x-forwarded-for`.
    pub peer_value: http::HeaderValue,
    /// Address the client reached.
    pub local: SocketAddr,
    /// Protocol by ALPN; HTTP/1.0 is told per request.
    pub protocol: Protocol,
    /// TLS version.
    pub tls_version: &'static str,
    /// TLS cipher suite.
    pub tls_cipher: &'static str,
    /// Requests in flight.
    pub busy: Cell<u32>,
    /// Requests begun.
    pub served: Cell<u64>,
    /// Since when `busy` is 0.
    pub quiet_since: Cell<Instant>,
    /// When the first byte of the present head came.
    pub head_since: Cell<Option<Instant>>,
    /// How long the last complete head took.
    pub head_took: Cell<Duration>,
    /// Since when a write makes no progress.
    pub blocked_since: Cell<Option<Instant>>,
    /// A panic of ours ended it: what was under way did not end by its client.
    pub panicked: Cell<bool>,
    /// Set by the sweep, seen by the stream.
    pub kick: Cell<Option<Kick>>,
    /// When it was set.
    pub kicked_at: Cell<Option<Instant>>,
    /// A graceful end got no answer from the client: it has left.
    pub cut: Cell<bool>,
    /// The connection is to end after what runs now.
    pub draining: Cell<bool>,
    /// Bytes of both sides meet here after an upgrade.
    pub upgrade: RefCell<Option<Tunnel>>,
    /// Bytes came since the last sweep. Kept on HTTP/2 only.
    pub heard: Cell<bool>,
    /// The client is to be asked whether it is there.
    pub ask_due: Cell<bool>,
    /// Streams that are not closed: an answer may be out of the request path's hands and not sent.
    pub open_streams: Cell<usize>,
    // While something is under way: when bytes came last, as of the sweep, and since when the client is
    // asked.
    heard_at: Cell<Instant>,
    asked_at: Cell<Option<Instant>>,
    // Streams that the client reset, streams that ended by its fault, and frames that brought nothing
    // forward: (count, since).
    resets: Cell<(u32, Instant)>,
    faults: Cell<(u32, Instant)>,
    chores: Cell<(u32, Instant)>,
    /// The host that the last request named, as written and in its canonical form: the next nearly
    /// always names it again.
    pub host: RefCell<Option<(Box<str>, Rc<str>)>>,
    // Since when answers wait for their client to take more of them; see `h2::Answer`.
    streams: RefCell<Vec<Weak<Cell<Option<Instant>>>>>,
    waker: RefCell<Option<Waker>>,
}

impl Conn {
    /// A connection that was just accepted.
    pub fn new(
        peer: SocketAddr,
        local: SocketAddr,
        protocol: Protocol,
        tls_version: &'static str,
        tls_cipher: &'static str,
    ) -> Rc<Self> {
        let now = clock::now();
        Rc::new(Self {
            peer,
            peer_value: policies::headers::address_value(peer.ip()),
            local,
            protocol,
            tls_version,
            tls_cipher,
            busy: Cell::new(0),
            served: Cell::new(0),
            quiet_since: Cell::new(now),
            // The clock of the first head starts when TLS is done (L04).
            head_since: Cell::new(None),
            head_took: Cell::new(Duration::ZERO),
            blocked_since: Cell::new(None),
            panicked: Cell::new(false),
            kick: Cell::new(None),
            kicked_at: Cell::new(None),
            cut: Cell::new(false),
            draining: Cell::new(false),
            upgrade: RefCell::new(None),
            heard: Cell::new(false),
            ask_due: Cell::new(false),
            open_streams: Cell::new(0),
            heard_at: Cell::new(now),
            asked_at: Cell::new(None),
            resets: Cell::new((0, now)),
            faults: Cell::new((0, now)),
            chores: Cell::new((0, now)),
            host: RefCell::new(None),
            streams: RefCell::default(),
            waker: RefCell::new(None),
        })
    }

    /// Remembers whom to wake.
    pub fn set_waker(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        match &mut *slot {
            Some(known) => known.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    /// Wakes the connection's task.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Ends the connection for `why`, unless it is being ended already.
    pub fn kick(&self, why: Kick) {
        // Whoever is asked to go because nothing is under way may still do what ends a connection at once.
        let before = self.kick.get();
        if before.is_none() || before == Some(Kick::Idle) && why != Kick::Idle {
            self.kick.set(Some(why));
            self.kicked_at.set(Some(clock::now()));
            self.wake();
        }
    }

    /// Takes [`Self::kick`] back: it was for nothing.
    pub fn unkick(&self) {
        self.kick.set(None);
        self.kicked_at.set(None);
    }

    /// An answer has to wait for its client, which must go on taking it.
    pub fn watch_stream(&self, waits: &Rc<Cell<Option<Instant>>>) {
        self.streams.borrow_mut().push(Rc::downgrade(waits));
    }

    /// Whether a client has taken nothing of an answer for longer than `limit`.
    fn has_stuck_stream(&self, now: Instant, limit: Duration) -> bool {
        let mut streams = self.streams.borrow_mut();
        streams.retain(|waits| waits.strong_count() > 0);
        streams.iter().filter_map(Weak::upgrade).any(|waits| {
            waits.get().is_some_and(|since| now.saturating_duration_since(since) > limit)
        })
    }

    /// A client reset a stream, whatever had become of it; too many in ten seconds end the connection
    /// (T08).
    pub fn count_resets(&self, now: Instant) {
        self.count(&self.resets, MOST_RESETS, now);
    }

    /// A stream ended because of what the client sent on it, which makes as much work (T08).
    pub fn count_faults(&self, now: Instant) {
        self.count(&self.faults, MOST_FAULTS, now);
    }

    /// A frame came that brings nothing forward (T09).
    pub fn count_chores(&self, now: Instant) {
        self.count(&self.chores, MOST_CHORES, now);
    }

    fn count(&self, counted: &Cell<(u32, Instant)>, most: u32, now: Instant) {
        let (count, since) = counted.get();
        let (count, since) =
            if late(now, since, COUNTED) { (1, now) } else { (count.saturating_add(1), since) };
        counted.set((count, since));
        if count > most {
            self.kick(Kick::Abuse);
        }
    }

    /// Whether a client that has something under way is gone without a word: one that is silent is asked,
    /// and one that does not answer then has left.
    fn is_gone(&self, now: Instant) -> bool {
        if self.protocol != Protocol::Http2 || self.heard.take() || self.busy.get() == 0 {
            self.heard_at.set(now);
            self.asked_at.set(None);
            return false;
        }
        match self.asked_at.get() {
            Some(asked) => late(now, asked, ANSWERED_WITHIN),
            None => {
                if late(now, self.heard_at.get(), ASKED_AFTER) {
                    self.asked_at.set(Some(now));
                    self.ask_due.set(true);
                    self.wake();
                }
                false
            }
        }
    }

    /// Whether nothing is under way: no request, no beginning of one, and no answer that the socket
    /// has not taken yet.
    pub fn is_quiet(&self) -> bool {
        self.busy.get() == 0
            && self.open_streams.get() == 0
            && self.head_since.get().is_none()
            && self.blocked_since.get().is_none()
    }

    /// Kicks the connection if it is late. `now` is the sweep's.
    pub fn check(&self, now: Instant, limits: &Limits) {
        if self.kick.get() == Some(Kick::Idle) && self.is_quiet() && !self.cut.get() {
            // HTTP/2 says goodbye and waits for the client to agree; it need not wait long.
            let asked = self.kicked_at.get().unwrap_or(now);
            if now.saturating_duration_since(asked) > Duration::from_secs(1) {
                self.cut.set(true);
                self.wake();
            }
        }
        if self.blocked_since.get().is_some_and(|since| late(now, since, limits.write_timeout))
            || self.has_stuck_stream(now, limits.write_timeout)
            || self.is_gone(now)
        {
            self.kick(Kick::Stuck);
        } else if self.head_since.get().is_some_and(|since| late(now, since, limits.header_timeout))
        {
            self.kick(Kick::HeaderTimeout);
        } else if self.is_quiet() {
            let limit = match self.protocol {
                // A connection that never sent a byte has the head's time, not the idle time.
                _ if self.served.get() == 0 => limits.header_timeout,
                Protocol::Http2 => limits.h2_idle_timeout,
                Protocol::Http10 | Protocol::Http11 => limits.idle_timeout,
            };
            if late(now, self.quiet_since.get(), limit) || self.draining.get() {
                self.kick(Kick::Idle);
            }
        }
    }
}

fn late(now: Instant, since: Instant, limit: Duration) -> bool {
    now.saturating_duration_since(since) > limit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn() -> Rc<Conn> {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 1));
        Conn::new(anywhere, anywhere, Protocol::Http2, "", "")
    }

    #[test]
    fn a_silent_client_is_asked_once_and_has_time_to_answer() {
        let conn = conn();
        conn.busy.set(1);
        let began = clock::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        assert!(!conn.is_gone(at(19)) && !conn.ask_due.take());
        // However late the sweep is that finds it silent, it is asked before it is gone.
        assert!(!conn.is_gone(at(45)) && conn.ask_due.take());
        assert!(!conn.is_gone(at(54)) && !conn.ask_due.take());
        conn.heard.set(true);
        assert!(!conn.is_gone(at(56)));
        assert!(!conn.is_gone(at(80)) && conn.ask_due.take());
        assert!(conn.is_gone(at(91)));
        conn.busy.set(0);
        assert!(!conn.is_gone(at(200)), "nobody is asked who has nothing under way");
    }

    #[test]
    fn whoever_is_asked_to_go_may_still_be_cut() {
        let conn = conn();
        conn.kick(Kick::Idle);
        let asked = conn.kicked_at.get();
        conn.kick(Kick::Idle);
        assert_eq!(conn.kicked_at.get(), asked, "the clock of an end goes on");
        conn.kick(Kick::Stuck);
        conn.kick(Kick::Abuse);
        conn.kick(Kick::Idle);
        assert_eq!(conn.kick.get(), Some(Kick::Stuck), "and the first reason holds");
    }

    #[test]
    fn what_is_counted_is_forgotten_after_a_while() {
        let conn = conn();
        let now = clock::now();
        for second in 0..40 {
            (0..25).for_each(|_| conn.count_resets(now + Duration::from_secs(second * 4)));
        }
        assert_eq!(conn.kick.get(), None, "75 in ten seconds");
        (0..=MOST_RESETS).for_each(|_| conn.count_resets(now));
        assert_eq!(conn.kick.get(), Some(Kick::Abuse));
    }
}
