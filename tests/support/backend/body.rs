//! The body of a scripted answer, which may stall, be cut or break off on the way.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::record::Exchange;
use super::wire::Control;

/// The bytes come from here.
pub(crate) enum Source {
    /// All at once, with a declared length.
    Whole(Bytes),
    /// `left` bytes of the pattern of [`pattern`], with a declared length.
    Pattern { next: u64, left: u64 },
    /// As somebody sends them; the length is not declared.
    Channel(mpsc::Receiver<io::Result<Frame<Bytes>>>),
}

/// How an answer is ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// TCP RST.
    Reset,
    /// As a server breaks off that has lost its own source: HTTP/1.1 closes with FIN and HTTP/2
    /// resets the stream.
    BreakOff,
}

/// What is done to the body of an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// After so many bytes.
    pub(crate) cut: Option<(u64, Cut)>,
    /// After so many pieces nothing more is sent, and nothing ends.
    pub(crate) stall_after: Option<usize>,
}

/// A prime, so that a piece that is shifted or repeated shows.
const PERIOD: u64 = 251;
const PATTERN_PIECE: u64 = 16 * 1024;
/// Every piece of the pattern is a slice of this: large answers cost their backend no memory.
static PATTERN: LazyLock<Bytes> =
    LazyLock::new(|| (0..PERIOD + PATTERN_PIECE).map(pattern).collect());

/// Byte `position` of a large answer.
#[must_use]
pub fn pattern(position: u64) -> u8 {
    u8::try_from(position % PERIOD).unwrap_or_default()
}

/// On HTTP/2 the last flush may have come before the cut was asked for; then time must do.
const FLUSHED_BY: Duration = Duration::from_millis(50);

pub(crate) struct ScriptedBody {
    source: Source,
    /// The channel has ended, or all has been given.
    exhausted: bool,
    trailers: Option<HeaderMap>,
    faults: Faults,
    cutting: Option<Cutting>,
    control: Arc<Control>,
    /// Whom to tell how it ended.
    exchange: Option<Exchange>,
    multiplexed: bool,
}

/// Waiting until what was sent before the cut has left.
struct Cutting {
    flushes: u64,
    patience: Option<Pin<Box<Sleep>>>,
    done: bool,
}

impl ScriptedBody {
    pub(crate) fn new(
        source: Source,
        trailers: Option<HeaderMap>,
        faults: Faults,
        control: Arc<Control>,
        exchange: Option<Exchange>,
        multiplexed: bool,
    ) -> Self {
        let exhausted = matches!(&source, Source::Whole(bytes) if bytes.is_empty())
            || matches!(&source, Source::Pattern { left: 0, .. });
        let cutting = None;
        Self { source, exhausted, trailers, faults, cutting, control, exchange, multiplexed }
    }

    /// Nobody will read it: the answer to HEAD, for one.
    pub(crate) fn nobody_reads(&mut self) {
        self.ended();
    }

    fn ended(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.ended();
        }
    }

    fn cut(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.cut();
        }
    }

    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.exhausted {
            return Poll::Ready(None);
        }
        let frame = match &mut self.source {
            Source::Whole(bytes) => {
                self.exhausted = true;
                Some(Ok(Frame::data(std::mem::take(bytes))))
            }
            Source::Pattern { next, left } => {
                let length = PATTERN_PIECE.min(*left);
                let start = usize::try_from(*next % PERIOD).unwrap_or_default();
                let piece = PATTERN.slice(start..start + usize::try_from(length).unwrap());
                *next += length;
                *left -= length;
                self.exhausted = *left == 0;
                Some(Ok(Frame::data(piece)))
            }
            Source::Channel(receiver) => {
                let frame = ready!(receiver.poll_recv(context));
                self.exhausted = frame.is_none();
                frame
            }
        };
        Poll::Ready(frame)
    }

    fn poll_cut(&mut self, how: Cut, context: &mut Context<'_>) -> Poll<io::Error> {
        let cutting = self.cutting.get_or_insert_with(|| Cutting {
            flushes: self.control.flushes(),
            patience: self.multiplexed.then(|| Box::pin(tokio::time::sleep(FLUSHED_BY))),
            done: false,
        });
        if cutting.done {
            return Poll::Pending;
        }
        let waited = match &mut cutting.patience {
            Some(patience) => patience.as_mut().poll(context).is_ready(),
            None => self.control.flushes() > cutting.flushes,
        };
        if !waited {
            self.control.wake_at_flush(context.waker());
            return Poll::Pending;
        }
        cutting.done = true;
        self.cut();
        match how {
            Cut::Reset => {
                self.control.reset();
                Poll::Pending
            }
            Cut::BreakOff => Poll::Ready(io::Error::other("broken off by the script")),
        }
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if let Some((0, how)) = this.faults.cut {
            return this.poll_cut(how, context).map(|error| Some(Err(error)));
        }
        if this.faults.stall_after == Some(0) {
            return Poll::Pending;
        }
        let mut frame = match ready!(this.poll_source(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                this.cut();
                return Poll::Ready(Some(Err(error)));
            }
            None => {
                let trailers = this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)));
                this.ended();
                return Poll::Ready(trailers);
            }
        };
        if let Some(data) = frame.data_mut() {
            if let Some((left, _)) = &mut this.faults.cut {
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
            }
            if let Some(left) = &mut this.faults.stall_after {
                *left -= 1;
            }
            if let Some(exchange) = &this.exchange {
                exchange.sent(data.len());
            }
        }
        if this.is_end_stream() {
            this.ended();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let faulty = self.faults.stall_after == Some(0) || matches!(self.faults.cut, Some((0, _)));
        self.exhausted && self.trailers.is_none() && !faulty
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            // Trailers need chunked framing.
            _ if self.trailers.is_some() => SizeHint::default(),
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Pattern { left, .. } => SizeHint::with_exact(*left),
            Source::Channel(_) => SizeHint::default(),
        }
    }
}

impl Drop for ScriptedBody {
    fn drop(&mut self) {
        // A body that is empty from the start is never polled.
        if self.is_end_stream() {
            self.ended();
        }
    }
}

/// `pieces`, each `gap` after the one before, and the first at once.
pub(crate) fn pieces(pieces: Vec<Bytes>, gap: Duration) -> Source {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for (index, piece) in pieces.into_iter().enumerate() {
            if index > 0 && !gap.is_zero() {
                tokio::time::sleep(gap).await;
            }
            if sender.send(Ok(Frame::data(piece))).await.is_err() {
                return;
            }
        }
    });
    Source::Channel(receiver)
}
