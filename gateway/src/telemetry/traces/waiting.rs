//! Spans that wait to be sent, already written: a bounded queue of batches.
//!
//! The recorder's thread adds to it, the exporter's task takes from it, once a batch: one short lock,
//! and a wake-up only for the first span and for a batch that is full.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::spans;
use crate::recorder::row::Row;

/// Spans that leave together.
#[derive(Debug)]
pub(super) struct Batch {
    /// The spans, behind the room for an envelope.
    pub(super) bytes: Vec<u8>,
    /// How many there are.
    pub(super) spans: usize,
}

/// Why the spans of a row were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// There is no room.
    Full,
    /// Nothing is sent any more.
    Closed,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing waits.
    Empty,
    /// Some spans wait, fewer than a batch may have.
    Some,
    /// A batch is full, or no more will come.
    Full,
    /// Nothing waits, and nothing will come.
    Over,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Waiting {
    inner: Mutex<Inner>,
    changed: Notify,
    /// Spans that may wait.
    most: usize,
    /// Spans of a batch.
    batch: usize,
    /// Bytes that a batch begins with.
    room: usize,
}

#[derive(Debug)]
struct Inner {
    full: VecDeque<Batch>,
    // Empty, or begun with the room.
    open: Batch,
    spans: usize,
    closed: bool,
    // A buffer that was sent.
    spare: Vec<u8>,
}

impl Inner {
    fn take_open(&mut self) -> Batch {
        let next = Batch { bytes: std::mem::take(&mut self.spare), spans: 0 };
        std::mem::replace(&mut self.open, next)
    }
}

impl Waiting {
    /// For `most` spans, in batches of `batch` that begin with `room` bytes.
    pub(super) fn new(most: usize, batch: usize, room: usize) -> Self {
        let inner = Inner {
            full: VecDeque::new(),
            open: Batch { bytes: Vec::new(), spans: 0 },
            spans: 0,
            closed: false,
            spare: Vec::new(),
        };
        Self { inner: Mutex::new(inner), changed: Notify::new(), most, batch, room }
    }

    /// Writes the spans of `row` and keeps them, all or none.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) fn add(&self, row: &Row) -> Result<(), Lost> {
        let count = row.span_count();
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(Lost::Closed);
        }
        // Room first: with a collector that is down, a full queue costs nothing.
        if inner.spans + count > self.most {
            return Err(Lost::Full);
        }
        let mut wakes = inner.spans == 0;
        for number in 0..count {
            if inner.open.spans == 0 {
                inner.open.bytes.clear();
                inner.open.bytes.resize(self.room, 0);
            }
            spans::write(row, number, &mut inner.open.bytes);
            inner.open.spans += 1;
            if inner.open.spans == self.batch {
                let full = inner.take_open();
                inner.full.push_back(full);
                wakes = true;
            }
        }
        inner.spans += count;
        drop(inner);
        if wakes {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// What there is to do.
    pub(super) fn state(&self) -> State {
        let inner = self.inner.lock();
        match (inner.spans, inner.closed) {
            (0, true) => State::Over,
            (0, false) => State::Empty,
            (_, true) => State::Full,
            (_, false) if inner.full.is_empty() => State::Some,
            (_, false) => State::Full,
        }
    }

    /// Waits until there may be more to do.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The next batch, full or not; `None` if nothing waits.
    pub(super) fn take(&self) -> Option<Batch> {
        let mut inner = self.inner.lock();
        let batch = match inner.full.pop_front() {
            Some(batch) => batch,
            None if inner.open.spans == 0 => return None,
            None => inner.take_open(),
        };
        inner.spans -= batch.spans;
        Some(batch)
    }

    /// Gives back the buffer of a batch.
    pub(super) fn recycle(&self, buffer: Vec<u8>) {
        self.inner.lock().spare = buffer;
    }

    /// Takes no more.
    pub(super) fn close(&self) {
        self.inner.lock().closed = true;
        self.changed.notify_one();
    }
}
