//! Token usage and finish reason, read from an answer in passing.
//!
//! The gateway shows each chunk of an answer to a [`UsageReader`] and sends it on, unchanged and
//! without waiting. The reader knows the shapes of OpenAI (chat completions, completions,
//! embeddings, responses) and of Anthropic (messages), as JSON and as server-sent events, and the
//! habits of servers that imitate them. Whatever it does not understand it leaves out: an answer
//! is never wrong for the reader, only silent.
//!
//! `usage/event_stream.rs` cuts a stream into events, `usage/scan.rs` tells cheaply which events
//! are worth parsing, and `usage/answer.rs` parses those. What is too long to be kept whole
//! (`usage/held.rs`) is read from its end by `usage/tail.rs`.

mod event_stream;
mod held;
mod scan;
mod members;
mod counts;
mod answer;
mod tail;

use std::borrow::Cow;

use answer::Answer;
use counts::Counts;
pub(crate) use event_stream::EventStream;
pub(crate) use held::Data;
use held::{Held, MAX_WHOLE};

/// The longest word that is kept, in bytes; longer ones are cut.
const MAX_WORD: usize = 128;

/// The events at the beginning of a stream that are parsed in search of its model.
const EVENTS_WITH_HEAD: u64 = 4;

/// What an answer said about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All tokens the model was given, whether or not they came from a cache. (Anthropic counts
    /// cached ones apart; they are added here.)
    pub input_tokens: Option<u64>,
    /// All tokens the model made, reasoning included.
    pub output_tokens: Option<u64>,
    /// Those of `input_tokens` that were read from a cache.
    pub cached_input_tokens: Option<u64>,
    /// Those of `output_tokens` that were spent on reasoning.
    pub reasoning_tokens: Option<u64>,
    /// Why the model stopped, in the API's own word: `stop`, `length`, `end_turn`, `max_tokens`,
    /// `completed`, `max_output_tokens` and so on; the last one that was given.
    pub finish_reason: Option<Cow<'static, str>>,
    /// The model that answered, cut at 128 bytes.
    pub response_model: Option<String>,
    /// Events that carried text, reasoning or arguments of a tool: an estimate of the tokens that
    /// were sent when the stream stops early.
    pub content_events: u64,
    /// The answer came to its own end: `[DONE]`, `message_stop`, `response.completed`, whole JSON.
    pub complete: bool,
}

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// One JSON value.
    Json,
    /// Server-sent events.
    EventStream,
    /// Not at all.
    Other,
}

impl BodyKind {
    /// The kind that a `content-type` announces; parameters and case do not matter.
    pub fn of_content_type(content_type: &str) -> Self {
        if content_type == "application/json" {
            // Nearly every answer says just this.
            return Self::Json;
        }
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let json_suffix = essence
            .len()
            .checked_sub(5)
            .and_then(|start| essence.get(start..))
            .is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"));
        if essence.eq_ignore_ascii_case("text/event-stream") {
            Self::EventStream
        } else if essence.eq_ignore_ascii_case("application/json") || json_suffix {
            Self::Json
        } else {
            Self::Other
        }
    }
}

/// Reads one answer. Where its chunks begin and end makes no difference.
#[derive(Debug)]
pub struct UsageReader {
    body: Body,
    reading: Reading,
}

#[derive(Debug)]
enum Body {
    Json(Held),
    /// The JSON came whole in the first chunk and was read there and then, without keeping it.
    ReadJson,
    EventStream(EventStream),
    Other,
}

impl UsageReader {
    /// A reader for one answer. Allocates nothing until the first chunk.
    pub fn new(kind: BodyKind) -> Self {
        let body = match kind {
            BodyKind::Json => Body::Json(Held::default()),
            BodyKind::EventStream => Body::EventStream(EventStream::default()),
            BodyKind::Other => Body::Other,
        };
        Self { body, reading: Reading::default() }
    }

    /// Shows the reader the next bytes of the answer.
    pub fn feed(&mut self, chunk: &[u8]) {
        match &mut self.body {
            Body::Json(held) => {
                if held.is_empty() && self.reading.whole_object(chunk) {
                    self.body = Body::ReadJson;
                } else {
                    held.push(chunk);
                }
            }
            // It was not the end: whatever follows, together that is not JSON.
            Body::ReadJson if !chunk.trim_ascii().is_empty() => {
                *self = Self::new(BodyKind::Other);
            }
            Body::ReadJson => {}
            Body::EventStream(stream) => stream.feed(chunk, &mut |data| self.reading.event(data)),
            Body::Other => {}
        }
    }

    /// What was read. To be called once, when the answer ended or was given up; the reader is
    /// empty afterwards.
    pub fn finish(&mut self) -> Usage {
        match std::mem::replace(&mut self.body, Body::Other) {
            Body::Json(held) => self.reading.json(held.data()),
            Body::EventStream(mut stream) => stream.end(&mut |data| self.reading.event(data)),
            Body::ReadJson | Body::Other => {}
        }
        std::mem::take(&mut self.reading).finish()
    }
}

/// Everything read so far. What comes later replaces what came earlier: counts are running totals.
#[derive(Debug, Default)]
struct Reading {
    /// But for the counts of tokens.
    usage: Usage,
    counts: Counts,
    events: u64,
}

impl Reading {
    /// Takes in the data of one event.
    fn event(&mut self, data: Data<'_>) {
        let data = match data {
            Data::Whole(data) => data,
            Data::Ends { head, tail } => {
                // Too long to keep: in practice `response.completed`, which repeats all content.
                self.usage.complete |= scan::scan(head).ends;
                let _ = tail::read(tail, 1, self) || tail::read(tail, 0, self);
                return;
            }
        };
        if data.trim_ascii() == b"[DONE]" {
            self.usage.complete = true;
            return;
        }
        self.events += 1;
        let signs = scan::scan(data);
        if signs.content {
            self.usage.content_events += 1;
        }
        let may_bring_head = self.usage.response_model.is_none() && self.events <= EVENTS_WITH_HEAD;
        if !signs.worth_parsing && !may_bring_head {
            return;
        }
        // What is not JSON says nothing.
        let _ = Answer::read(data, self);
    }

    /// Reads the beginning of an answer, if it is all of it.
    fn whole_object(&mut self, chunk: &[u8]) -> bool {
        let whole = chunk.starts_with(b"{")
            && chunk.trim_ascii_end().ends_with(b"}")
            && chunk.len() <= MAX_WHOLE
            && Answer::read(chunk, self).is_ok();
        self.usage.complete |= whole;
        whole
    }

    fn json(&mut self, data: Data<'_>) {
        match data {
            Data::Whole(body) => {
                // A list, say, has nothing to read, but is whole.
                self.usage.complete = Answer::read(body, self).is_ok();
            }
            Data::Ends { tail, .. } => self.usage.complete = tail::read(tail, 0, self),
        }
    }

    fn finish(self) -> Usage {
        let Counts { input, output, cached_input, reasoning, cache_read, cache_created } =
            self.counts;
        let apart = cache_read.unwrap_or(0).saturating_add(cache_created.unwrap_or(0));
        Usage {
            input_tokens: input.map(|input| input.saturating_add(apart)),
            output_tokens: output,
            cached_input_tokens: cache_read.or(cached_input),
            reasoning_tokens: reasoning,
            ..self.usage
        }
    }
}

#[cfg(test)]
mod tests;
