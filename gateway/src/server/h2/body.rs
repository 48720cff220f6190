//! The content of a request over HTTP/2, taken by whoever wants it.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::link::Link;
use crate::body::BodyFault;

/// A request's content. The client may send more only as it is taken.
pub struct RequestBody {
    link: Rc<RefCell<Link>>,
    place: usize,
    id: u32,
    // The end was given out.
    ended: bool,
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestBody").field("id", &self.id).finish_non_exhaustive()
    }
}

impl RequestBody {
    /// The content of the stream `id` at `place`.
    pub(super) fn new(link: &Rc<RefCell<Link>>, place: usize, id: u32) -> Self {
        Self { link: Rc::clone(link), place, id, ended: false }
    }

    /// The next frame.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut link = self.link.borrow_mut();
        let polled = link.poll_content(self.place, self.id, cx.waker());
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            // Known now, because the stream may be closed when somebody asks.
            let stream = link.streams.get(self.place, self.id);
            self.ended = stream.is_some_and(|stream| stream.is_read());
        }
        polled
    }

    /// Whether everything was read.
    pub fn is_end_stream(&self) -> bool {
        self.ended
            || self
                .link
                .borrow_mut()
                .streams
                .get(self.place, self.id)
                .is_some_and(|stream| !stream.reset && stream.wanted && stream.is_read())
    }

    /// Length of what is still to come, where known.
    pub fn size_hint(&self) -> SizeHint {
        if self.ended {
            return SizeHint::with_exact(0);
        }
        let mut link = self.link.borrow_mut();
        let left = link.streams.get(self.place, self.id).and_then(|stream| stream.content_left());
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        // Whoever drops it holds no borrow; if one did, the stream's end would do the same.
        if let Ok(mut link) = self.link.try_borrow_mut() {
            link.forget_content(self.place, self.id);
        }
    }
}
