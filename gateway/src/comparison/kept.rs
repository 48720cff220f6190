//! Bodies of answers on their way to a comparison, within bounds: of each, and of all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::{HeaderMap, header};
use policies::comparison::{Body, Missing};
use policies::usage::BodyKind;

/// Room for bodies, in bytes, over all workers.
#[derive(Debug)]
pub struct Room {
    used: AtomicUsize,
    most: AtomicUsize,
}

impl Room {
    /// For `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { used: AtomicUsize::new(0), most: AtomicUsize::new(most) }
    }

    /// For `most` bytes from now on. What is kept beyond a smaller bound stays until it is compared.
    pub fn resize(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// Bytes that are taken.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let most = self.most.load(Relaxed);
        let with = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= most);
        self.used.fetch_update(Relaxed, Relaxed, with).is_ok()
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }
}

/// A body, as far as it is kept.
#[derive(Debug)]
pub struct KeptBody {
    room: Arc<Room>,
    most: usize,
    kind: BodyKind,
    // Copied, not shared: a shared piece would hold on to the whole buffer that it was read into.
    bytes: Vec<u8>,
    missing: Option<Missing>,
}

impl KeptBody {
    /// Nothing is kept.
    pub fn missing(room: &Arc<Room>, why: Missing) -> Self {
        Self {
            room: Arc::clone(room),
            most: 0,
            kind: BodyKind::Other,
            bytes: Vec::new(),
            missing: Some(why),
        }
    }

    /// Keeps the body that comes behind a head, if it is at most `most` bytes long.
    pub fn behind(headers: &HeaderMap, most: usize, room: &Arc<Room>) -> Self {
        let text =
            |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let encoding = text(header::CONTENT_ENCODING);
        if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
            return Self::missing(room, Missing::Encoded);
        }
        let length = text(header::CONTENT_LENGTH).parse().unwrap_or(0);
        if length > most {
            return Self::missing(room, Missing::TooLong);
        }
        let kind = BodyKind::of_content_type(text(header::CONTENT_TYPE));
        let mut kept =
            Self { room: Arc::clone(room), most, kind, bytes: Vec::new(), missing: None };
        if length > 0 {
            kept.reserve(length);
        }
        kept
    }

    /// Keeps a body that is at hand.
    pub fn whole(bytes: &[u8], most: usize, room: &Arc<Room>) -> Self {
        let mut kept = Self {
            room: Arc::clone(room),
            most,
            kind: BodyKind::Other,
            bytes: Vec::new(),
            missing: None,
        };
        kept.push(bytes);
        kept
    }

    /// The next piece.
    pub fn push(&mut self, piece: &[u8]) {
        let needed = self.bytes.len() + piece.len();
        if self.missing.is_none() && needed > self.most {
            self.let_go(Missing::TooLong);
        }
        if self.missing.is_none() && needed > self.bytes.capacity() {
            // Twice as much each time, so that bytes are moved a few times at most.
            self.reserve(needed.max(2 * self.bytes.capacity()).clamp(1024, self.most.max(1024)));
        }
        if self.missing.is_none() {
            self.bytes.extend_from_slice(piece);
        }
    }

    fn reserve(&mut self, capacity: usize) {
        let before = self.bytes.capacity();
        if !self.room.take(capacity.saturating_sub(before)) {
            return self.let_go(Missing::NoRoom);
        }
        self.bytes.reserve_exact(capacity - self.bytes.len());
        // The allocator may give more than was asked for.
        let more = self.bytes.capacity().saturating_sub(capacity.max(before));
        self.room.used.fetch_add(more, Relaxed);
    }

    fn let_go(&mut self, why: Missing) {
        self.room.give(self.bytes.capacity());
        self.bytes = Vec::new();
        self.missing = Some(why);
    }

    /// What there is of it.
    pub fn body(&self) -> Body<'_> {
        match self.missing {
            None => Body::Whole(self.kind, &self.bytes),
            Some(why) => Body::Missing(why),
        }
    }
}

impl Drop for KeptBody {
    fn drop(&mut self) {
        self.room.give(self.bytes.capacity());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let each = |(name, value): &(&'static str, &'static str)| {
            (header::HeaderName::from_static(name), header::HeaderValue::from_static(value))
        };
        fields.iter().map(each).collect()
    }

    #[test]
    fn a_body_is_kept_up_to_its_bound_and_gives_its_room_back() {
        let room = Arc::new(Room::new(10_000));
        let json = headers(&[("content-type", "application/json"), ("content-length", "5000")]);
        let mut kept = KeptBody::behind(&json, 6_000, &room);
        assert!(room.used() >= 5_000);
        for _ in 0..50 {
            kept.push(&[b'x'; 100]);
        }
        assert!(matches!(kept.body(), Body::Whole(BodyKind::Json, bytes) if bytes.len() == 5_000));
        kept.push(&[b'x'; 1_001]);
        assert!(matches!(kept.body(), Body::Missing(Missing::TooLong)));
        assert_eq!(room.used(), 0, "what is not kept takes no room");
        kept.push(b"more");
        drop(kept);
        assert_eq!(room.used(), 0);
    }

    #[test]
    fn all_bodies_together_have_a_bound() {
        let room = Arc::new(Room::new(3_000));
        let none = HeaderMap::new();
        let mut first = KeptBody::behind(&none, 100_000, &room);
        first.push(&[0; 2_000]);
        let mut second = KeptBody::behind(&none, 100_000, &room);
        second.push(&[0; 2_000]);
        assert!(matches!(second.body(), Body::Missing(Missing::NoRoom)));
        assert!(matches!(first.body(), Body::Whole(..)));
        drop(first);
        assert_eq!(room.used(), 0);
        room.resize(100);
        let third = KeptBody::whole(&[0; 200], 100_000, &room);
        assert!(matches!(third.body(), Body::Missing(Missing::NoRoom)));
        assert_eq!(room.used(), 0);
    }

    #[test]
    fn what_is_compressed_or_said_to_be_long_is_not_kept() {
        let room = Arc::new(Room::new(1 << 20));
        let why = |fields: &[(&'static str, &'static str)]| {
            let mut kept = KeptBody::behind(&headers(fields), 1_000, &room);
            kept.push(b"x");
            match kept.body() {
                Body::Whole(..) => None,
                Body::Missing(why) => Some(why),
            }
        };
        assert_eq!(why(&[("content-encoding", "gzip")]), Some(Missing::Encoded));
        assert_eq!(why(&[("content-length", "1001")]), Some(Missing::TooLong));
        assert_eq!(why(&[("content-encoding", "identity"), ("content-length", "1")]), None);
        assert_eq!(room.used(), 0);
    }
}
