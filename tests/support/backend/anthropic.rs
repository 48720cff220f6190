//! The Anthropic messages API, whole and streamed.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer::{Asked, typed, whole_json};
use super::body::{Source, pieces};
use super::openai::INPUT_TOKENS;

pub(crate) fn answer(request: &Asked<'_>, model: &str) -> (Response<()>, Source) {
    let asked = request.json();
    let words = request.script.pieces;
    if request.path() != "/v1/messages" || !asked.is_object() {
        let (kind, status) = match request.path() {
            "/v1/messages" => ("invalid_request_error", StatusCode::BAD_REQUEST),
            _ => ("not_found_error", StatusCode::NOT_FOUND),
        };
        let (mut response, source) = whole_json(&json!({
            "type": "error",
            "error": { "type": kind, "message": "refused by the test backend" },
        }));
        *response.status_mut() = status;
        return (response, source);
    }
    if asked["stream"] == true {
        return (typed("text/event-stream"), pieces(events(model, words), request.script.gap));
    }
    let text: String = (0..words).map(|index| word(model, index)).collect();
    let mut message = message(model, words);
    message["content"] = json!([{ "type": "text", "text": text }]);
    message["stop_reason"] = json!("end_turn");
    whole_json(&message)
}

fn word(model: &str, index: usize) -> String {
    if index == 0 { model.to_owned() } else { format!(" word{index}") }
}

fn message(model: &str, output_tokens: usize) -> Value {
    json!({
        "id": "msg_test",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": { "input_tokens": INPUT_TOKENS, "output_tokens": output_tokens },
    })
}

/// One event a word, between the events that open and close a message.
fn events(model: &str, words: usize) -> Vec<Bytes> {
    let delta = |index: usize| {
        json!({
            "type": "content_block_delta",
            "index": 0,
            "delta": { "type": "text_delta", "text": word(model, index) },
        })
    };
    let opening = [
        json!({ "type": "message_start", "message": message(model, 1) }),
        json!({
            "type": "content_block_start",
            "index": 0,
            "content_block": { "type": "text", "text": "" },
        }),
        json!({ "type": "ping" }),
    ];
    let closing = [
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({
            "type": "message_delta",
            "delta": { "stop_reason": "end_turn", "stop_sequence": null },
            "usage": { "output_tokens": words },
        }),
        json!({ "type": "message_stop" }),
    ];
    opening
        .into_iter()
        .chain((0..words).map(delta))
        .chain(closing)
        .map(|event| {
            let name = event["type"].as_str().unwrap_or_default();
            Bytes::from(format!("event: {name}\ndata: {event}\n\n"))
        })
        .collect()
}
