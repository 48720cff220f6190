//! The OpenAI API as far as a gateway looks at it: chat and text completions (whole and streamed),
//! embeddings and the list of models.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer::{Asked, typed, whole_json};
use super::body::{Source, pieces};

/// Tokens that every request is said to have cost, besides one for each piece of text.
pub const INPUT_TOKENS: u64 = 7;

pub(crate) fn answer(request: &Asked<'_>, model: &str) -> (Response<()>, Source) {
    let asked = request.json();
    let text = Text { model, words: request.script.pieces };
    match request.path() {
        "/v1/models" => whole_json(&json!({
            "object": "list",
            "data": [{ "id": model, "object": "model", "created": 0, "owned_by": "test" }],
        })),
        "/v1/embeddings" => whole_json(&json!({
            "object": "list",
            "model": model,
            "data": [{ "object": "embedding", "index": 0, "embedding": [0.25, -0.5, 0.75] }],
            "usage": { "prompt_tokens": INPUT_TOKENS, "total_tokens": INPUT_TOKENS },
        })),
        "/v1/chat/completions" | "/v1/completions" if !asked.is_object() => {
            let (mut response, source) = whole_json(&json!({ "error": {
                "message": "the body is not a JSON object",
                "type": "invalid_request_error", "param": null, "code": null,
            }}));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            (response, source)
        }
        path @ ("/v1/chat/completions" | "/v1/completions") => {
            let chat = path == "/v1/chat/completions";
            if asked["stream"] == true {
                let with_usage = asked["stream_options"]["include_usage"] == true;
                let events = text.events(chat, with_usage);
                (typed("text/event-stream"), pieces(events, request.script.gap))
            } else {
                whole_json(&text.whole(chat))
            }
        }
        path => {
            let (mut response, source) = whole_json(&json!({ "error": {
                "message": format!("no such path: {path}"),
                "type": "invalid_request_error", "param": null, "code": "unknown_url",
            }}));
            *response.status_mut() = StatusCode::NOT_FOUND;
            (response, source)
        }
    }
}

/// What the model says: one word a chunk, the model's name first.
struct Text<'a> {
    model: &'a str,
    words: usize,
}

impl Text<'_> {
    fn word(&self, index: usize) -> String {
        if index == 0 { self.model.to_owned() } else { format!(" word{index}") }
    }

    fn all(&self) -> String {
        (0..self.words).map(|index| self.word(index)).collect()
    }

    fn usage(&self) -> Value {
        json!({
            "prompt_tokens": INPUT_TOKENS,
            "completion_tokens": self.words,
            "total_tokens": INPUT_TOKENS + self.words as u64,
        })
    }

    fn whole(&self, chat: bool) -> Value {
        let choice = if chat {
            json!({
                "index": 0,
                "message": { "role": "assistant", "content": self.all() },
                "finish_reason": "stop",
            })
        } else {
            json!({ "index": 0, "text": self.all(), "finish_reason": "stop" })
        };
        json!({
            "id": "cmpl-test",
            "object": if chat { "chat.completion" } else { "text_completion" },
            "created": 0,
            "model": self.model,
            "choices": [choice],
            "usage": self.usage(),
        })
    }

    /// One event a word, one with the finish reason, one with the usage if asked for, `[DONE]`.
    fn events(&self, chat: bool, with_usage: bool) -> Vec<Bytes> {
        let event = |choices: Value, usage: Option<Value>| {
            let mut event = json!({
                "id": "cmpl-test",
                "object": if chat { "chat.completion.chunk" } else { "text_completion" },
                "created": 0,
                "model": self.model,
                "choices": choices,
            });
            if with_usage {
                event["usage"] = usage.unwrap_or(Value::Null);
            }
            Bytes::from(format!("data: {event}\n\n"))
        };
        let choice = |index: usize| {
            let finish_reason = if index == self.words { json!("stop") } else { Value::Null };
            match (chat, index == self.words) {
                (true, true) => json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }]),
                (true, false) => json!([{
                    "index": 0,
                    "delta": { "role": "assistant", "content": self.word(index) },
                    "finish_reason": finish_reason,
                }]),
                (false, true) => json!([{ "index": 0, "text": "", "finish_reason": "stop" }]),
                (false, false) => json!([{
                    "index": 0, "text": self.word(index), "finish_reason": finish_reason,
                }]),
            }
        };
        let mut events: Vec<Bytes> =
            (0..=self.words).map(|index| event(choice(index), None)).collect();
        if with_usage {
            events.push(event(json!([]), Some(self.usage())));
        }
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        events
    }
}
