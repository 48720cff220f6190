//! A stream of server-sent events, read as a browser reads it.

use std::time::Duration;

use serde_json::Value;

use crate::client::Streaming;

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its `id`.
    pub id: Option<String>,
    /// Its `event`.
    pub name: String,
    /// Its `data`, which is JSON.
    pub data: Value,
}

/// Events of one answer.
#[derive(Debug)]
pub struct Events {
    stream: Streaming,
    text: String,
}

impl Events {
    /// Of an answer whose head was read.
    pub fn of(stream: Streaming) -> Self {
        Self { stream, text: String::new() }
    }

    /// The next one; `None` at the end.
    ///
    /// # Panics
    /// When none comes within `deadline`, or something else does.
    pub async fn next(&mut self, deadline: Duration) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(event) = read(&block) {
                    return Some(event);
                }
            }
            let piece = self.stream.chunk_within(deadline).await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// The next one of this name, past all others.
    ///
    /// # Panics
    /// When none comes.
    pub async fn named(&mut self, name: &str, deadline: Duration) -> Event {
        loop {
            let event = self.next(deadline).await.expect("the stream goes on");
            if event.name == name {
                return event;
            }
        }
    }

    /// The first frame that `is_right` says is the one.
    ///
    /// # Panics
    /// When it is not among the next twenty.
    pub async fn frame(&mut self, mut is_right: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..20 {
            last = self.named("frame", Duration::from_secs(10)).await.data;
            if is_right(&last) {
                return last;
            }
        }
        panic!("twenty frames, and none is the right one; the last: {last}");
    }
}

/// One block; `None` if it has no data, such as one that only says `retry`.
fn read(block: &str) -> Option<Event> {
    let mut event = Event { id: None, name: "message".into(), data: Value::Null };
    let mut data = None;
    for line in block.lines() {
        match line.split_once(": ").unwrap() {
            ("id", id) => event.id = Some(id.to_owned()),
            ("event", name) => name.clone_into(&mut event.name),
            ("data", text) => data = Some(serde_json::from_str(text).unwrap()),
            ("retry", _) => {}
            other => panic!("not a line of this stream: {other:?}"),
        }
    }
    event.data = data?;
    Some(event)
}
