//! What is known of one stream, and where the open ones are.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use policies::h2::Code;

/// Pieces of content below this size are gathered.
const SMALL: usize = 1024;

/// A stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Its number; 0 where there is none.
    pub id: u32,
    /// The client has sent all of it.
    pub ended: bool,
    /// It was reset, by either side.
    pub reset: bool,
    /// Bytes of content that are to come, where its head says so.
    pub left: Option<u64>,
    /// Somebody may still want its content.
    pub wanted: bool,
    /// The client waits for a 100 before it sends its content.
    pub continue_due: bool,
    /// Bytes that may be sent on it.
    pub to_client: i64,
    /// Bytes that the client may send on it.
    pub from_client: i64,
    // Bytes that were taken, and that the client was not told of yet.
    unclaimed: u32,
    // What came and was not taken: content, small pieces of it gathered behind, trailers.
    queue: VecDeque<Bytes>,
    tail: BytesMut,
    trailers: Option<Box<HeaderMap>>,
    queued: u64,
    reader: Option<Waker>,
}

impl Stream {
    pub(super) fn new(id: u32, ended: bool, left: Option<u64>, from: u32, to: i64) -> Self {
        Self {
            id,
            ended,
            left,
            wanted: !ended,
            from_client: i64::from(from),
            to_client: to,
            ..Self::default()
        }
    }

    /// Content came. A small piece, unless it is all there is, is copied: it would keep all of what it
    /// came in.
    pub(super) fn put(&mut self, content: Bytes) {
        self.queued += content.len() as u64;
        let only = self.ended && self.queue.is_empty() && self.tail.is_empty();
        if content.len() < SMALL && !only {
            return self.tail.extend_from_slice(&content);
        }
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
        self.queue.push_back(content);
    }

    /// Trailers came.
    pub(super) fn put_trailers(&mut self, trailers: HeaderMap) {
        self.trailers = Some(Box::new(trailers));
    }

    /// What came first of what was not taken.
    pub(super) fn take(&mut self) -> Option<Frame<Bytes>> {
        let content = match self.queue.pop_front() {
            Some(content) => content,
            None if self.tail.is_empty() => {
                return self.trailers.take().map(|trailers| Frame::trailers(*trailers));
            }
            None => self.tail.split().freeze(),
        };
        self.queued -= content.len() as u64;
        Some(Frame::data(content))
    }

    /// Nobody wants its content any more: how much of it there was.
    pub(super) fn forget(&mut self) -> u64 {
        self.wanted = false;
        self.reader = None;
        (self.queue, self.tail, self.trailers) = (VecDeque::new(), BytesMut::new(), None);
        std::mem::take(&mut self.queued)
    }

    /// Whether all of its content came and was taken.
    pub(super) fn is_read(&self) -> bool {
        self.ended && self.queued == 0 && self.trailers.is_none()
    }

    /// Bytes of content that are still to be taken, where known and nothing comes behind them.
    pub(super) fn content_left(&self) -> Option<u64> {
        if self.trailers.is_some() {
            None
        } else if self.ended {
            Some(self.queued)
        } else {
            self.left.map(|left| left + self.queued)
        }
    }

    /// Bytes of content came: whether as many may (RFC 9113, 8.1.1).
    ///
    /// # Errors
    /// What its stream ends with.
    pub(super) fn count(&mut self, bytes: usize, ends: bool) -> Result<(), Code> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(bytes as u64).ok_or(Code::PROTOCOL_ERROR)?;
            if ends && *left > 0 {
                return Err(Code::PROTOCOL_ERROR);
            }
        }
        self.ended |= ends;
        Ok(())
    }

    /// Wakes whoever waits for its content.
    pub(super) fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Somebody waits for its content.
    pub(super) fn set_reader(&mut self, waker: &Waker) {
        match &mut self.reader {
            Some(known) => known.clone_from(waker),
            None => self.reader = Some(waker.clone()),
        }
    }

    /// So many bytes were taken: by how much its window is to grow now, which has `window` bytes.
    pub(super) fn claim(&mut self, bytes: u32, window: u32) -> Option<u32> {
        self.unclaimed += bytes;
        if self.ended || self.reset || self.unclaimed < window / 2 {
            return None;
        }
        let by = std::mem::take(&mut self.unclaimed);
        self.from_client += i64::from(by);
        (by > 0).then_some(by)
    }
}

/// Places that a connection without streams keeps.
pub(super) const MOST_KEPT: usize = 4;

/// Numbers of streams that are remembered beside twice as many as may be open.
const LEAST_REMEMBERED: usize = 128;

/// The streams of a connection, each at a place of its own while it is open.
#[derive(Debug, Default)]
pub(super) struct Streams {
    places: Vec<Stream>,
    free: Vec<usize>,
    // Number and place, in the order of the numbers, which is that in which they were opened.
    open: Vec<(u32, usize)>,
    // Closed before the client had sent all of it, newest last: what still comes was sent before it knew.
    cut: VecDeque<u32>,
    remembered: usize,
}

impl Streams {
    /// Of a connection that may have so many open at once.
    pub(super) fn new(most: usize) -> Self {
        Self { remembered: 2 * most + LEAST_REMEMBERED, ..Self::default() }
    }

    /// Open streams.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Where the stream of this number is.
    pub(super) fn find(&self, id: u32) -> Option<usize> {
        let at = self.open.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.open.get(at).map(|(_, place)| *place)
    }

    /// The stream at `place`, if it still is that of this number.
    pub(super) fn get(&mut self, place: usize, id: u32) -> Option<&mut Stream> {
        self.places.get_mut(place).filter(|stream| stream.id == id)
    }

    /// The stream at `place`, whichever it is.
    pub(super) fn at(&mut self, place: usize) -> Option<&mut Stream> {
        self.places.get_mut(place).filter(|stream| stream.id != 0)
    }

    /// All open streams and their places.
    pub(super) fn all(&mut self) -> impl Iterator<Item = (usize, &mut Stream)> {
        self.places.iter_mut().enumerate().filter(|(_, stream)| stream.id != 0)
    }

    /// Opens a stream, whose number is higher than all before it: its place.
    pub(super) fn open(&mut self, stream: Stream) -> usize {
        let id = stream.id;
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.places.push(Stream::default());
                self.places.len() - 1
            }
        };
        if let Some(free) = self.places.get_mut(place) {
            *free = stream;
        }
        self.open.push((id, place));
        place
    }

    /// The stream at `place` is over.
    pub(super) fn close(&mut self, place: usize) -> Option<Stream> {
        let stream = std::mem::take(self.places.get_mut(place).filter(|stream| stream.id != 0)?);
        if let Ok(at) = self.open.binary_search_by_key(&stream.id, |(id, _)| *id) {
            self.open.remove(at);
        }
        self.free.push(place);
        if self.open.is_empty() && self.places.len() > MOST_KEPT {
            // An idle connection holds little.
            (self.places, self.free, self.open) = (Vec::new(), Vec::new(), Vec::new());
        }
        Some(stream)
    }

    /// A stream was closed, or not opened, before the client had sent all of it.
    pub(super) fn note_cut(&mut self, id: u32) {
        if self.cut.len() >= self.remembered {
            self.cut.pop_front();
        }
        self.cut.push_back(id);
    }

    /// Whether that was so lately.
    pub(super) fn was_cut(&self, id: u32) -> bool {
        self.cut.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn content_is_as_long_as_its_head_says() {
        let stream = |left| Stream::new(1, false, left, 100, 100);
        assert_eq!(stream(None).count(7, true), Ok(()));
        assert_eq!(stream(Some(7)).count(7, true), Ok(()));
        assert_eq!(stream(Some(7)).count(8, true), Err(Code::PROTOCOL_ERROR));
        assert_eq!(stream(Some(7)).count(6, true), Err(Code::PROTOCOL_ERROR));
        let mut stream = stream(Some(7));
        assert_eq!(stream.count(6, false), Ok(()));
        stream.put(Bytes::from_static(b"123456"));
        assert_eq!(stream.content_left(), Some(7));
        assert!(stream.take().is_some());
        assert_eq!(stream.content_left(), Some(1));
        assert_eq!(stream.count(1, true), Ok(()));
        assert!(stream.is_read());
    }

    proptest! {
        /// However it came: content in its order, trailers last, and how much is left is told as it is.
        #[test]
        fn content_is_taken_as_it_came(
            sizes in prop::collection::vec(prop_oneof![0..5_usize, 1000..1050_usize], 0..20),
            takes in prop::collection::vec(0..3_usize, 0..20),
            trailers: bool,
        ) {
            let mut stream = Stream::new(1, false, None, 100, 100);
            let (mut came, mut taken) = (Vec::new(), Vec::new());
            let mut take = |stream: &mut Stream| match stream.take().map(Frame::into_data) {
                Some(Ok(data)) => { taken.extend_from_slice(&data); true }
                Some(Err(_)) | None => false,
            };
            for (number, size) in sizes.iter().enumerate() {
                let piece: Vec<u8> = (0..*size).map(|at| (at * 7 + number).to_le_bytes()[0]).collect();
                came.extend_from_slice(&piece);
                stream.ended = number + 1 == sizes.len();
                if !piece.is_empty() {
                    stream.put(piece.into());
                }
                for _ in 0..takes.get(number).copied().unwrap_or(0) {
                    take(&mut stream);
                }
            }
            stream.ended = true;
            if trailers {
                stream.put_trailers(HeaderMap::new());
                prop_assert_eq!(stream.content_left(), None);
            } else {
                prop_assert!(stream.content_left().is_some());
            }
            while take(&mut stream) {}
            prop_assert_eq!(taken, came);
            prop_assert!(stream.is_read() && stream.content_left() == Some(0));
        }
    }

    #[test]
    fn what_is_forgotten_is_told() {
        let mut stream = Stream::new(1, false, None, 100, 100);
        stream.put(Bytes::from_static(&[0; 2000]));
        stream.put(Bytes::from_static(b"small"));
        assert_eq!((stream.forget(), stream.forget()), (2005, 0));
        assert!(stream.take().is_none());
    }

    #[test]
    fn a_window_grows_by_halves() {
        let mut stream = Stream::new(1, false, None, 100, 0);
        stream.from_client = 0;
        assert_eq!(stream.claim(49, 100), None);
        assert_eq!(stream.claim(1, 100), Some(50));
        assert_eq!(stream.from_client, 50);
        stream.ended = true;
        assert_eq!(stream.claim(100, 100), None, "nothing more comes");
    }

    proptest! {
        /// However streams come and go: each open one is found at its place, and no other.
        #[test]
        fn open_streams_are_found(closes in prop::collection::vec(prop::option::of(any::<prop::sample::Index>()), 0..100)) {
            let mut streams = Streams::default();
            let mut open: Vec<(u32, usize)> = Vec::new();
            for (number, close) in closes.iter().enumerate() {
                let id = u32::try_from(number).unwrap() * 2 + 1;
                if let (Some(close), false) = (close, open.is_empty()) {
                    let (id, place) = open.remove(close.index(open.len()));
                    prop_assert_eq!(streams.close(place).unwrap().id, id);
                    prop_assert!(streams.find(id).is_none() && streams.get(place, id).is_none());
                }
                open.push((id, streams.open(Stream::new(id, false, None, 0, 0))));
                prop_assert_eq!(streams.len(), open.len());
                for (id, place) in &open {
                    prop_assert_eq!(streams.find(*id), Some(*place));
                    prop_assert_eq!(streams.get(*place, *id).unwrap().id, *id);
                }
            }
        }
    }
}
