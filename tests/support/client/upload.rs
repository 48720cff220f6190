//! The body of a request, at once, in pieces, or as a test writes it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::request::add;

/// What a body is made of.
#[derive(Debug)]
pub(super) enum Upload {
    Whole(Bytes),
    Pieces(Vec<Bytes>, Duration),
    Channel(mpsc::Receiver<io::Result<Frame<Bytes>>>),
}

/// The test's end of a body that it writes itself.
#[derive(Debug)]
pub struct Uploader {
    sender: mpsc::Sender<io::Result<Frame<Bytes>>>,
}

impl Uploader {
    pub(super) fn new(sender: mpsc::Sender<io::Result<Frame<Bytes>>>) -> Self {
        Self { sender }
    }

    /// Sends a piece once the one before has been taken; `false` if nobody takes it any more.
    pub async fn send(&self, piece: impl Into<Bytes>) -> bool {
        self.sender.send(Ok(Frame::data(piece.into()))).await.is_ok()
    }

    /// Ends the body.
    pub fn finish(self) {}

    /// Ends the body with these fields. Over HTTP/1.1 they must be announced by
    /// `.header("trailer", …)`.
    pub async fn finish_with(self, fields: &[(&str, &str)]) {
        let mut trailers = HeaderMap::new();
        for (name, value) in fields {
            add(&mut trailers, name, value);
        }
        let _ = self.sender.send(Ok(Frame::trailers(trailers))).await;
    }

    /// Breaks the body off.
    pub async fn abort(self) {
        let _ = self.sender.send(Err(io::Error::other("the test aborts its upload"))).await;
    }
}

/// The body of a request on its way.
#[derive(Debug)]
pub(super) struct Outgoing {
    left: VecDeque<Frame<Bytes>>,
    coming: Option<mpsc::Receiver<io::Result<Frame<Bytes>>>>,
    trailers: Option<HeaderMap>,
}

impl Outgoing {
    pub(super) fn new(upload: Upload, trailers: Option<HeaderMap>) -> Self {
        match upload {
            Upload::Whole(bytes) => {
                let left = if bytes.is_empty() { None } else { Some(Frame::data(bytes)) };
                Self { left: left.into_iter().collect(), coming: None, trailers }
            }
            Upload::Channel(receiver) => {
                Self { left: VecDeque::new(), coming: Some(receiver), trailers }
            }
            Upload::Pieces(pieces, gap) => {
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
                Self { left: VecDeque::new(), coming: Some(receiver), trailers }
            }
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(frame) = self.left.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(coming) = &mut self.coming {
            match std::task::ready!(coming.poll_recv(context)) {
                Some(frame) => return Poll::Ready(Some(frame)),
                None => self.coming = None,
            }
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.coming.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.coming.is_some() || self.trailers.is_some() {
            return SizeHint::default();
        }
        let lengths = self.left.iter().filter_map(|frame| frame.data_ref().map(Bytes::len));
        SizeHint::with_exact(lengths.sum::<usize>() as u64)
    }
}
