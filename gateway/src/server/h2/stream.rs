//! What is known of one stream, and where the open ones are.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;
use http_body::Frame;
use policies::h2::Code;

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
    // Content that came and was not taken.
    queue: VecDeque<Frame<Bytes>>,
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

    /// Content, or trailers, came.
    pub(super) fn put(&mut self, frame: Frame<Bytes>) {
        self.queued += size(&frame);
        self.queue.push_back(frame);
    }

    /// What came first of what was not taken.
    pub(super) fn take(&mut self) -> Option<Frame<Bytes>> {
        let frame = self.queue.pop_front()?;
        self.queued -= size(&frame);
        Some(frame)
    }

    /// Nobody wants its content any more: how much of it there was.
    pub(super) fn forget(&mut self) -> u64 {
        self.wanted = false;
        self.reader = None;
        self.queue = VecDeque::new();
        std::mem::take(&mut self.queued)
    }

    /// Whether all of its content came and was taken.
    pub(super) fn is_read(&self) -> bool {
        self.ended && self.queue.is_empty()
    }

    /// Bytes of content that are still to be taken, where known.
    pub(super) fn content_left(&self) -> Option<u64> {
        if self.ended { Some(self.queued) } else { self.left.map(|left| left + self.queued) }
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

fn size(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}

/// Places that a connection without streams keeps.
pub(super) const MOST_KEPT: usize = 4;

/// Numbers of streams that this side reset, newest last: what comes on them was sent before the client
/// knew.
const MOST_REMEMBERED: usize = 128;

/// The streams of a connection, each at a place of its own while it is open.
#[derive(Debug, Default)]
pub(super) struct Streams {
    places: Vec<Stream>,
    free: Vec<usize>,
    // Number and place, in the order of the numbers, which is that in which they were opened.
    open: Vec<(u32, usize)>,
    reset: VecDeque<u32>,
}

impl Streams {
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

    /// This side reset a stream.
    pub(super) fn note_reset(&mut self, id: u32) {
        if self.reset.len() == MOST_REMEMBERED {
            self.reset.pop_front();
        }
        self.reset.push_back(id);
    }

    /// Whether this side reset it lately.
    pub(super) fn was_reset(&self, id: u32) -> bool {
        self.reset.contains(&id)
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
        stream.put(Frame::data(Bytes::from_static(b"123456")));
        assert_eq!(stream.content_left(), Some(7));
        assert!(stream.take().is_some());
        assert_eq!(stream.content_left(), Some(1));
        assert_eq!(stream.count(1, true), Ok(()));
        assert!(stream.is_read());
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
