//! Those who watch: a bounded number of streams, each with room for a few frames.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame as BodyFrame;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::Filter;
use super::frame::{Written, event};

/// Most streams at once.
pub(super) const MOST: usize = 64;

/// Frames that wait for a reader. One that is further behind is let go of: it connects again and
/// gets what it missed as history.
const AHEAD: usize = 8;

/// What a stream is told.
#[derive(Debug)]
enum Told {
    Frame(Arc<Written>),
    /// The last thing it is told, and why.
    End(&'static str),
}

#[derive(Debug)]
struct Watcher {
    key_id: Arc<str>,
    to: mpsc::Sender<Told>,
}

/// Everybody who watches.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    all: Vec<Watcher>,
    closed: bool,
}

/// Why nobody more may watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    Full,
    Closed,
}

impl Watchers {
    /// One more.
    pub(super) fn join(&self, key_id: Arc<str>) -> Result<Stream, NoRoom> {
        let mut open = self.0.lock();
        if open.closed {
            return Err(NoRoom::Closed);
        }
        open.all.retain(|watcher| !watcher.to.is_closed());
        if open.all.len() >= MOST {
            return Err(NoRoom::Full);
        }
        let (to, told) = mpsc::channel(AHEAD);
        open.all.push(Watcher { key_id, to });
        drop(open);
        Ok(Stream { first: None, told, after: i64::MIN, filter: Filter::default(), over: false })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        let mut open = self.0.lock();
        open.all.retain(|watcher| !watcher.to.is_closed());
        open.all.len()
    }

    /// Ends the streams of keys that are not good any more.
    pub(super) fn keep(&self, is_good: impl Fn(&str) -> bool) {
        self.0.lock().all.retain(|watcher| {
            let good = is_good(&watcher.key_id);
            if !good {
                let _ = watcher.to.try_send(Told::End("credential"));
            }
            good
        });
    }

    /// Gives everybody a frame. Whoever has no room for it is let go of.
    pub(super) fn tell(&self, frame: &Arc<Written>) {
        self.0.lock().all.retain(|w| w.to.try_send(Told::Frame(Arc::clone(frame))).is_ok());
    }

    /// Ends every stream, and lets nobody in from here on.
    pub(super) fn close(&self) {
        let mut open = self.0.lock();
        open.closed = true;
        for watcher in open.all.drain(..) {
            let _ = watcher.to.try_send(Told::End("shutdown"));
        }
    }
}

/// The body of one answer.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) first: Option<Bytes>,
    told: mpsc::Receiver<Told>,
    /// Frames up to this second are in the history that was told first.
    pub(super) after: i64,
    pub(super) filter: Filter,
    over: bool,
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Self::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(BodyFrame::data(first))));
        }
        if self.over {
            return Poll::Ready(None);
        }
        loop {
            match std::task::ready!(self.told.poll_recv(cx)) {
                None => return Poll::Ready(None),
                Some(Told::Frame(frame)) if frame.at_unix() <= self.after => {}
                Some(Told::Frame(frame)) => {
                    return Poll::Ready(Some(Ok(BodyFrame::data(frame.event(&self.filter)))));
                }
                Some(Told::End(reason)) => {
                    self.over = true;
                    let end = event("end", None, &serde_json::json!({ "reason": reason }));
                    return Poll::Ready(Some(Ok(BodyFrame::data(end))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::admin::live::frame::tests::frame;

    async fn next(stream: &mut Stream) -> Option<String> {
        let frame = stream.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    fn tell(watchers: &Watchers, at: i64) {
        watchers.tell(&Arc::new(Written::new(frame(at))));
    }

    #[tokio::test]
    async fn a_reader_that_falls_behind_is_let_go_of_and_the_others_go_on() {
        let watchers = Watchers::default();
        let mut slow = watchers.join("a".into()).unwrap();
        let mut quick = watchers.join("b".into()).unwrap();
        let all = i64::try_from(AHEAD).unwrap() + 1;
        for at in 1..=all {
            tell(&watchers, at);
            assert!(next(&mut quick).await.unwrap().starts_with(&format!("id: {at}\n")));
        }
        assert_eq!(watchers.count(), 1, "nothing is kept for one that is this far behind");
        for at in 1..all {
            assert!(next(&mut slow).await.unwrap().starts_with(&format!("id: {at}\n")));
        }
        assert_eq!(next(&mut slow).await, None);
    }

    #[tokio::test]
    async fn what_is_in_the_history_is_not_told_again() {
        let watchers = Watchers::default();
        let mut stream = watchers.join("a".into()).unwrap();
        stream.after = 2;
        (1..=3).for_each(|at| tell(&watchers, at));
        assert!(next(&mut stream).await.unwrap().starts_with("id: 3\n"));
        watchers.close();
        assert!(next(&mut stream).await.unwrap().starts_with("event: end\n"));
        assert_eq!(next(&mut stream).await, None);
        assert_eq!(watchers.join("a".into()).unwrap_err(), NoRoom::Closed);
    }

    #[test]
    fn there_is_room_for_so_many_and_whoever_leaves_makes_room() {
        let watchers = Watchers::default();
        let mut open: Vec<_> = (0..MOST).map(|_| watchers.join("a".into()).unwrap()).collect();
        assert_eq!(watchers.join("a".into()).unwrap_err(), NoRoom::Full);
        open.pop();
        watchers.join("a".into()).unwrap();
    }
}
