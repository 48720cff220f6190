//! The content of a request, read off the connection by whoever wants it.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::body::BodyFault;
use crate::server::h1::wire::Wire;

/// A request's content. It reads from the connection itself, so nothing is read that nobody wants yet,
/// and no task stands between.
pub struct RequestBody {
    wire: Rc<RefCell<Wire>>,
    // Which request of the connection it belongs to: one that is kept longer gets nothing of the next.
    number: u64,
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestBody").field("number", &self.number).finish_non_exhaustive()
    }
}

impl RequestBody {
    /// The content of the present request.
    pub(super) fn new(wire: &Rc<RefCell<Wire>>) -> Self {
        Self { wire: Rc::clone(wire), number: wire.borrow().number() }
    }

    /// The next frame.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let mut wire = self.wire.borrow_mut();
        if wire.number() != self.number {
            return Poll::Ready(None);
        }
        wire.poll_content(cx)
    }

    /// Whether everything was read.
    pub fn is_end_stream(&self) -> bool {
        let wire = self.wire.borrow();
        wire.number() != self.number || !wire.in_body()
    }

    /// Length of what is still to come, where known.
    pub fn size_hint(&self) -> SizeHint {
        let wire = self.wire.borrow();
        if wire.number() != self.number {
            return SizeHint::with_exact(0);
        }
        wire.content_left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
