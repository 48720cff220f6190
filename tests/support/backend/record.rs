//! What a backend remembers of the requests it saw, and how each of them ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Uri, Version};
use parking_lot::Mutex;

/// How much of a request body is kept; its length is counted to the end.
const BODY_KEPT: usize = 1 << 20;

/// One request as a backend saw it, and what became of it so far.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Counts the backend's requests from 0.
    pub number: u64,
    /// The connection it came on, counted from 0.
    pub connection: usize,
    /// When its head was complete.
    pub at: Instant,
    /// The method.
    pub method: Method,
    /// The target as it came: a path over HTTP/1.1, with scheme and authority over HTTP/2.
    pub uri: Uri,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// The fields of its head.
    pub headers: HeaderMap,
    /// The first MiB of its body, as far as it came.
    pub body: Bytes,
    /// How many bytes of body came.
    pub body_length: u64,
    /// Whether the body came to its end.
    pub body_complete: bool,
    /// The fields after the body.
    pub trailers: Option<HeaderMap>,
    /// The certificate that the client presented, in DER.
    pub client_certificate: Option<Vec<u8>>,
    /// The name that the client asked for in the TLS handshake.
    pub server_name: Option<String>,
    /// How many bytes of the answer's body were taken from the backend. They may still be in
    /// buffers, so a reader that stops is seen with some delay.
    pub sent: u64,
    /// When the last of the answer was handed over.
    pub ended: Option<Instant>,
    /// When the client was found to have gone before that. An end that the backend's own script
    /// brought about is neither.
    pub aborted: Option<Instant>,
}

impl Seen {
    /// A request of which the head has come.
    pub(crate) fn of(number: u64, request: &http::request::Parts, from: &Peer) -> Self {
        Self {
            number,
            connection: from.connection,
            at: Instant::now(),
            method: request.method.clone(),
            uri: request.uri.clone(),
            version: request.version,
            headers: request.headers.clone(),
            body: Bytes::new(),
            body_length: 0,
            body_complete: false,
            trailers: None,
            client_certificate: from.certificate.clone(),
            server_name: from.server_name.clone(),
            sent: 0,
            ended: None,
            aborted: None,
        }
    }

    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// The value of the field `name`, the first if there are several, or `None` if it is not text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The kept part of the body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }
}

/// All that one backend remembers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    calls: AtomicU64,
    pub(crate) connections: AtomicUsize,
    pub(crate) open_connections: AtomicUsize,
    pub(crate) failed_handshakes: AtomicUsize,
    /// Set while the backend is being stopped: what ends now was not ended by its client.
    pub(crate) stopping: AtomicBool,
    /// Whether requests are only counted, for tests that make very many.
    counts_only: bool,
    aborted: Mutex<Vec<Instant>>,
    requests: Mutex<BTreeMap<u64, Kept>>,
}

#[derive(Debug)]
struct Kept {
    /// Its `body` is empty: the bytes are in `body` beside it.
    seen: Seen,
    body: BytesMut,
}

impl Ledger {
    pub(crate) fn new(counts_only: bool) -> Self {
        Self { counts_only, ..Self::default() }
    }

    pub(crate) fn open(self: &Arc<Self>, request: &http::request::Parts, from: &Peer) -> Exchange {
        // Held over both: whoever sees the count rise finds the request too.
        let mut requests = self.requests.lock();
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let seen = Seen::of(number, request, from);
        if !self.counts_only {
            requests.insert(number, Kept { seen, body: BytesMut::new() });
        }
        drop(requests);
        let entry = Entry { ledger: Arc::clone(self), number };
        from.started();
        Exchange { entry, peer: from.clone(), ended: false }
    }

    pub(crate) fn calls(&self) -> usize {
        usize::try_from(self.calls.load(Ordering::SeqCst)).unwrap()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        let shown =
            |kept: &Kept| Seen { body: Bytes::copy_from_slice(&kept.body), ..kept.seen.clone() };
        self.requests.lock().values().map(shown).collect()
    }

    pub(crate) fn aborted(&self) -> Vec<Instant> {
        self.aborted.lock().clone()
    }

    /// Lets go of what was seen and starts counting requests anew.
    pub(crate) fn forget(&self) {
        self.requests.lock().clear();
        self.aborted.lock().clear();
        self.calls.store(0, Ordering::SeqCst);
    }
}

/// Who sent a request: the connection and what its handshake told.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) connection: usize,
    pub(crate) certificate: Option<Vec<u8>>,
    pub(crate) server_name: Option<String>,
    /// How many requests are being answered, for the idle timer.
    pub(crate) busy: tokio::sync::watch::Sender<usize>,
}

impl Peer {
    fn started(&self) {
        self.busy.send_modify(|busy| *busy += 1);
    }

    fn ended(&self) {
        self.busy.send_modify(|busy| *busy -= 1);
    }
}

/// The place of one request in the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    ledger: Arc<Ledger>,
    number: u64,
}

impl Entry {
    pub(crate) fn body_piece(&self, piece: &[u8]) {
        self.change(|kept| {
            kept.seen.body_length += piece.len() as u64;
            let room = BODY_KEPT.saturating_sub(kept.body.len()).min(piece.len());
            kept.body.extend_from_slice(&piece[..room]);
        });
    }

    pub(crate) fn body_ended(&self, trailers: Option<HeaderMap>) {
        self.change(|kept| {
            kept.seen.body_complete = true;
            kept.seen.trailers = trailers;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Kept)) {
        if let Some(kept) = self.ledger.requests.lock().get_mut(&self.number) {
            change(kept);
        }
    }
}

/// One request being answered. Dropped before [`Exchange::ended`], it notes that the client went.
#[derive(Debug)]
pub(crate) struct Exchange {
    entry: Entry,
    peer: Peer,
    ended: bool,
}

impl Exchange {
    pub(crate) fn entry(&self) -> Entry {
        self.entry.clone()
    }

    pub(crate) fn number(&self) -> u64 {
        self.entry.number
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.entry.change(|kept| kept.seen.sent += bytes as u64);
    }

    /// The answer was handed over to its end.
    pub(crate) fn ended(&mut self) {
        if !self.ended {
            self.ended = true;
            self.entry.change(|kept| kept.seen.ended = Some(Instant::now()));
        }
    }

    /// The script ends it, not the client.
    pub(crate) fn cut(&mut self) {
        self.ended = true;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.peer.ended();
        let ledger = &self.entry.ledger;
        if self.ended || ledger.stopping.load(Ordering::SeqCst) {
            return;
        }
        let now = Instant::now();
        ledger.aborted.lock().push(now);
        self.entry.change(|kept| kept.seen.aborted = Some(now));
    }
}
