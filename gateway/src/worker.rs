//! One worker: a thread with its own runtime, its own connections to backends, its own counts.
//!
//! A request lives and dies on one worker, so nothing it touches needs a lock: state of the worker is
//! in cells, state of the process is in atomics and snapshots.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::{BufMut, BytesMut};
use crossbeam_utils::CachePadded;
use http::HeaderValue;
use slab::Slab;

use crate::backends::Backends;
use crate::backends::pool::Pool;
use crate::clock::{self, HttpDate};
use crate::comparison::Comparisons;
use crate::evidence::EvidenceBook;
use crate::feedback::Feedback;
use crate::fields::Names;
use crate::recorder::Recorder;
use crate::recorder::tally::Tallies;
use crate::request::shadow::gate::Gates;
use crate::server::conn::Conn;
use crate::server::h1::Spare;
use crate::server::running::Rooms;
use crate::snapshot::Snapshot;
use crate::telemetry::counters::{Counters, WorkerCounters};

/// A snapshot as the requests of one worker share it: the inner counter is touched once a snapshot,
/// the outer one with each request, on one thread.
pub type Taken = Rc<Arc<Snapshot>>;

/// What is taken of the caps of the whole process, over all workers (L08, L13).
#[derive(Debug, Default)]
pub struct InUse {
    /// Requests in flight.
    pub requests: CachePadded<AtomicUsize>,
    /// Client connections.
    pub connections: CachePadded<AtomicUsize>,
    /// TLS handshakes in progress.
    pub handshakes: CachePadded<AtomicUsize>,
}

/// What all threads of the process share.
#[derive(Debug)]
pub struct Shared {
    /// The snapshot in force.
    pub current: ArcSwap<Snapshot>,
    /// Backends, alive.
    pub backends: Backends,
    /// Counts per variant.
    pub tallies: Tallies,
    /// Counts per shadow: (route, shadow).
    pub shadow_tallies: Tallies,
    /// Room for copies, by shadow.
    pub gates: Gates,
    /// Answers to copies beside those that clients got.
    pub comparisons: Comparisons,
    /// What verdicts are made of.
    pub evidence: Arc<EvidenceBook>,
    /// Counts that belong to no variant.
    pub counters: Counters,
    /// Takes what is known of finished requests.
    pub recorder: Recorder,
    /// What happened lately, for those who watch.
    pub news: crate::news::Board,
    /// Takes what people said of answers.
    pub feedback: Feedback,
    /// Whether readiness is refused (F24).
    pub draining: AtomicBool,
    /// Whether client connections are to end as they become idle, although new ones are served: out of
    /// service, and back again.
    pub leaving: AtomicBool,
    /// Whether running connections are to end: set after the time in which clients notice.
    pub closing: AtomicBool,
    /// Whether what still runs is to be cut: set at the end of the drain.
    pub closing_now: AtomicBool,
    /// What is taken of the process's caps.
    pub in_use: InUse,
    /// Open connections of each worker, for those who hand sockets out.
    pub open: Box<[AtomicUsize]>,
    /// When each worker's loop was last seen alive, seconds of uptime.
    pub alive: Box<[std::sync::atomic::AtomicU64]>,
    /// Identity of this process start.
    pub boot: [u8; 16],
}

/// State of one worker, on its own thread.
pub struct Worker {
    /// Its number.
    pub id: usize,
    /// What all share.
    pub shared: Arc<Shared>,
    /// Connections to backends.
    pub pool: Pool,
    /// Connections of shadow copies, apart so that a hung shadow cannot take a place.
    pub shadow_pool: Pool,
    /// Client connections.
    pub conns: RefCell<Slab<Rc<Conn>>>,
    /// Where its requests run.
    pub rooms: Rooms,
    /// What its HTTP/1.1 connections use in turn.
    pub spare: RefCell<Spare>,
    /// Field names that came before, from clients and from backends.
    pub field_names: RefCell<Names>,
    snapshot: RefCell<Taken>,
    arena: RefCell<BytesMut>,
    date: Cell<HttpDate>,
    // A moment on both clocks: monotonic, and nanoseconds since 1970.
    wall: Cell<(Instant, u64)>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Worker {
    /// Worker `id`.
    pub fn new(id: usize, shared: Arc<Shared>) -> Rc<Self> {
        let snapshot = RefCell::new(Rc::new(shared.current.load_full()));
        Rc::new(Self {
            id,
            shared,
            pool: Pool::default(),
            shadow_pool: Pool::default(),
            conns: RefCell::default(),
            rooms: Rooms::default(),
            spare: RefCell::default(),
            field_names: RefCell::default(),
            snapshot,
            arena: RefCell::default(),
            date: Cell::new(clock::http_date()),
            wall: Cell::new((clock::now(), clock::unix_nanos())),
        })
    }

    /// The snapshot in force. Shared by the requests of this worker through an `Rc`, so that taking
    /// one does not touch a counter that other cores touch too.
    pub fn snapshot(&self) -> Taken {
        let current = self.shared.current.load();
        let mut cached = self.snapshot.borrow_mut();
        if !Arc::ptr_eq(&current, &cached) {
            *cached = Rc::new(Arc::clone(&current));
        }
        Rc::clone(&cached)
    }

    /// Lets go of an old snapshot although no request asked for the new one, and looks what time it is.
    pub fn refresh(&self) {
        drop(self.snapshot());
        self.date.set(clock::http_date());
        self.wall.set((clock::now(), clock::unix_nanos()));
    }

    /// The time as `date` says it, as of the last sweep: it has no more than seconds anyway.
    pub fn date(&self) -> HttpDate {
        self.date.get()
    }

    /// Nanoseconds since 1970 at `now`, which is now: from the monotonic clock, and from the wall's as it
    /// was at the last sweep. A jump of that is seen with the next one.
    pub fn wall_at(&self, now: Instant) -> u64 {
        let (at, wall) = self.wall.get();
        let since = now.saturating_duration_since(at);
        wall + since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos())
    }

    /// This worker's counts.
    pub fn counters(&self) -> &WorkerCounters {
        self.shared.counters.of(self.id)
    }

    /// A header value in the worker's arena: no allocation of its own. `None` if the bytes cannot
    /// stand in a header.
    pub fn header(&self, write: impl FnOnce(&mut BytesMut)) -> Option<HeaderValue> {
        let mut arena = self.arena.borrow_mut();
        if arena.capacity() - arena.len() < 1024 {
            *arena = BytesMut::with_capacity(16 << 10);
        }
        write(&mut arena);
        HeaderValue::from_maybe_shared(arena.split().freeze()).ok()
    }

    /// [`Self::header`] of text that is at hand.
    pub fn header_of(&self, text: &[u8]) -> Option<HeaderValue> {
        self.header(|out| out.put_slice(text))
    }

    /// [`Self::header`] of a number.
    pub fn header_of_number(&self, number: u64) -> Option<HeaderValue> {
        self.header_of(itoa::Buffer::new().format(number).as_bytes())
    }

    /// Whether running connections are to end.
    pub fn closing(&self) -> bool {
        self.shared.closing.load(Relaxed)
    }

    /// Whether readiness is refused.
    pub fn draining(&self) -> bool {
        self.shared.draining.load(Relaxed)
    }
}
