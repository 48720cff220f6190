//! What is to be written to a client: small pieces gathered, large ones as they are.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Pieces up to this size are copied behind what is gathered already.
const MOST_COPIED: usize = 4 << 10;

/// Bytes that were written and are kept before what is not.
const MOST_WRITTEN: usize = 16 << 10;

/// Pieces that one write takes.
const MOST_SLICES: usize = 8;

/// Bytes on their way out, in order.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// Gathered bytes, `written` of which are written.
    bytes: Vec<u8>,
    written: usize,
    /// What comes behind them.
    pieces: VecDeque<Bytes>,
    // Bytes in `pieces`.
    waiting: usize,
}

impl Out {
    /// Bytes that are not written.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written + self.waiting
    }

    /// A head, or a line around content.
    pub(super) fn put_lines(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.pieces.is_empty() {
            write(&mut self.bytes);
        } else {
            let mut lines = Vec::new();
            write(&mut lines);
            self.push(lines.into());
        }
    }

    /// Uses the room of `spare`, if there is none.
    pub(super) fn take_room(&mut self, spare: Vec<u8>) {
        if self.bytes.capacity() == 0 {
            self.bytes = spare;
        }
    }

    /// Gives its room back. Nothing is waiting to be written.
    pub(super) fn give_room(&mut self) -> Vec<u8> {
        self.pieces = VecDeque::new();
        self.written = 0;
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        bytes
    }

    /// A piece of content.
    pub(super) fn put(&mut self, data: Bytes) {
        if self.pieces.is_empty() && data.len() <= MOST_COPIED {
            self.bytes.extend_from_slice(&data);
        } else {
            self.push(data);
        }
    }

    fn push(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        self.waiting += data.len();
        self.pieces.push_back(data);
    }

    /// One write.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: Pin<&mut impl AsyncWrite>,
    ) -> Poll<io::Result<()>> {
        let rest = self.bytes.get(self.written..).unwrap_or_default();
        let count = if self.pieces.is_empty() {
            ready!(stream.poll_write(cx, rest))?
        } else {
            let mut slices = [io::IoSlice::new(&[]); MOST_SLICES];
            let pieces = std::iter::once(rest).chain(self.pieces.iter().map(|piece| &**piece));
            slices
                .iter_mut()
                .zip(pieces)
                .for_each(|(slice, piece)| *slice = io::IoSlice::new(piece));
            ready!(stream.poll_write_vectored(cx, &slices))?
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(count);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, count: usize) {
        let gathered = count.min(self.bytes.len() - self.written);
        self.written += gathered;
        let mut left = count - gathered;
        self.waiting -= left;
        while left > 0 {
            let Some(first) = self.pieces.front_mut() else { break };
            let part = left.min(first.len());
            first.advance(part);
            left -= part;
            if first.is_empty() {
                self.pieces.pop_front();
            }
        }
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        } else if self.written >= MOST_WRITTEN.max(self.bytes.len() / 2) {
            // A client that never takes all of it must not make it grow.
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes as much as it is told to with each write.
    struct Slow {
        takes: Vec<usize>,
        got: Vec<u8>,
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[io::IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            let count = this.takes.pop().unwrap_or(usize::MAX).clamp(1, all.len());
            this.got.extend_from_slice(&all[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A client that takes a little less than it is given, for ever.
    #[test]
    fn what_was_written_is_not_kept() {
        let mut slow = Slow { takes: vec![1_000; 1_000], got: Vec::new() };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut out = Out::default();
        out.put(Bytes::from_static(&[0; 2_000]));
        for _ in 0..1_000 {
            out.put(Bytes::from_static(&[0; 1_000]));
            assert!(out.poll_write(&mut cx, Pin::new(&mut slow)).is_ready());
            assert_eq!(out.len(), 2_000);
        }
        assert!(out.bytes.capacity() < 4 * MOST_WRITTEN, "{}", out.bytes.capacity());
    }

    proptest! {
        /// Whatever is put and however little a client takes at a time, the bytes come in order.
        #[test]
        fn bytes_leave_in_the_order_in_which_they_were_put(
            sizes in prop::collection::vec((prop_oneof![0..50_usize, 4090..4100_usize, 9000..9001_usize], any::<bool>()), 0..20),
            takes in prop::collection::vec(1..6000_usize, 0..40),
        ) {
            let mut out = Out::default();
            let mut slow = Slow { takes, got: Vec::new() };
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut put = Vec::new();
            for (number, (size, line)) in sizes.iter().enumerate() {
                let data: Vec<u8> = (0..*size).map(|at| (at * 7 + number).to_le_bytes()[0]).collect();
                put.extend_from_slice(&data);
                if *line {
                    out.put_lines(|lines| lines.extend_from_slice(&data));
                } else {
                    out.put(data.into());
                }
                prop_assert_eq!(out.len(), put.len() - slow.got.len());
                if number % 3 == 0 && out.len() > 0 {
                    prop_assert!(out.poll_write(&mut cx, Pin::new(&mut slow)).is_ready());
                }
            }
            while out.len() > 0 {
                prop_assert!(out.poll_write(&mut cx, Pin::new(&mut slow)).is_ready());
            }
            prop_assert_eq!(&slow.got, &put);
            prop_assert!(out.give_room().is_empty());
        }
    }
}
