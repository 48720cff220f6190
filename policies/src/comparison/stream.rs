//! An event stream, put together into the answer that the same API gives without streaming.
//!
//! What is put together is what two answers can be compared by: text, calls of tools, why the model
//! stopped. Ids, times, usage and log probabilities are left out; they differ between any two
//! answers. Streams of other APIs are compared by the data of their events, joined by line ends.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::usage::{Data, EventStream};

/// Most choices, blocks or calls of tools that are put together; events about further ones are
/// passed over.
const MOST_PARTS: u64 = 64;

/// What a stream says.
#[derive(Debug, PartialEq)]
pub(super) enum Assembled {
    /// The whole answer, of an API that is known.
    Answer(Value),
    /// The data of all events but `[DONE]`, of any other.
    Data(Vec<u8>),
}

/// Puts a whole stream together.
pub(super) fn assemble(bytes: &[u8]) -> Assembled {
    let mut answer = Answer::default();
    let mut data = Vec::new();
    let mut event = |event: Data<'_>| {
        // What is too long to be kept as one repeats what came in pieces before.
        let Data::Whole(event) = event else { return };
        if event.trim_ascii() == b"[DONE]" {
            return;
        }
        if !data.is_empty() {
            data.push(b'\n');
        }
        data.extend_from_slice(event);
        if let Ok(event) = serde_json::from_slice::<Value>(event) {
            answer.event(&event);
        }
    };
    let mut stream = EventStream::default();
    stream.feed(bytes, &mut event);
    stream.end(&mut event);
    answer.whole().map_or(Assembled::Data(data), Assembled::Answer)
}

/// What came so far, by API.
#[derive(Default)]
struct Answer {
    choices: BTreeMap<u64, Choice>,
    blocks: BTreeMap<u64, Block>,
    stop_reason: Option<Value>,
    responses: BTreeMap<(u64, u64), String>,
    response: Option<Value>,
}

/// A choice of OpenAI's chat completions or completions.
#[derive(Default)]
struct Choice {
    is_chat: bool,
    text: Option<String>,
    refusal: Option<String>,
    calls: BTreeMap<u64, (String, String)>,
    finish_reason: Option<Value>,
}

/// A block of Anthropic's content.
#[derive(Default)]
struct Block {
    name: Option<String>,
    text: String,
}

fn index(value: &Value, name: &str) -> Option<u64> {
    let at = value.get(name).map_or(Some(0), Value::as_u64)?;
    (at < MOST_PARTS).then_some(at)
}

fn push(to: &mut Option<String>, value: Option<&Value>) {
    if let Some(text) = value.and_then(Value::as_str) {
        to.get_or_insert_default().push_str(text);
    }
}

impl Answer {
    fn event(&mut self, event: &Value) {
        for choice in event.get("choices").and_then(Value::as_array).into_iter().flatten() {
            self.choice(choice);
        }
        match event.get("type").and_then(Value::as_str) {
            Some("content_block_start" | "content_block_delta") => self.block(event),
            Some("message_delta") => {
                let reason = event.pointer("/delta/stop_reason").filter(|value| !value.is_null());
                self.stop_reason = reason.cloned().or(self.stop_reason.take());
            }
            Some("response.output_text.delta") => {
                let at = index(event, "output_index").zip(index(event, "content_index"));
                if let (Some(at), Some(text)) = (at, event.get("delta").and_then(Value::as_str)) {
                    self.responses.entry(at).or_default().push_str(text);
                }
            }
            Some("response.completed" | "response.incomplete") => {
                self.response = event.get("response").filter(|value| value.is_object()).cloned();
            }
            Some(_) | None => {}
        }
    }

    fn choice(&mut self, choice: &Value) {
        let Some(at) = index(choice, "index") else { return };
        let into = self.choices.entry(at).or_default();
        if let Some(delta) = choice.get("delta") {
            into.is_chat = true;
            push(&mut into.text, delta.get("content"));
            push(&mut into.refusal, delta.get("refusal"));
            for call in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
                let Some(at) = index(call, "index") else { continue };
                let (name, arguments) = into.calls.entry(at).or_default();
                let part = |of: &str| call.pointer(of).and_then(Value::as_str).unwrap_or_default();
                name.push_str(part("/function/name"));
                arguments.push_str(part("/function/arguments"));
            }
        } else {
            push(&mut into.text, choice.get("text"));
        }
        if let Some(reason) = choice.get("finish_reason").filter(|reason| !reason.is_null()) {
            into.finish_reason = Some(reason.clone());
        }
    }

    fn block(&mut self, event: &Value) {
        let Some(at) = index(event, "index") else { return };
        let text = |of: &str| event.pointer(of).and_then(Value::as_str);
        let kind = text("/content_block/type").or_else(|| text("/delta/type"));
        if !matches!(kind, Some("text" | "tool_use" | "text_delta" | "input_json_delta")) {
            // Thinking, citations: not what the client is told as the answer.
            return;
        }
        let block = self.blocks.entry(at).or_default();
        if let Some(name) = text("/content_block/name") {
            block.name = Some(name.to_owned());
        }
        for part in ["/content_block/text", "/delta/text", "/delta/partial_json"] {
            block.text.push_str(text(part).unwrap_or_default());
        }
    }

    fn whole(self) -> Option<Value> {
        if let Some(response) = self.response {
            return Some(response);
        }
        if !self.choices.is_empty() {
            let choices: Vec<Value> =
                self.choices.into_iter().map(|(at, choice)| choice.whole(at)).collect();
            return Some(json!({ "choices": choices }));
        }
        if !self.blocks.is_empty() || self.stop_reason.is_some() {
            let blocks: Vec<Value> = self.blocks.into_values().map(Block::whole).collect();
            return Some(json!({
                "role": "assistant", "content": blocks, "stop_reason": self.stop_reason,
            }));
        }
        if !self.responses.is_empty() {
            let parts: Vec<Value> = self
                .responses
                .into_values()
                .map(|text| json!({ "type": "output_text", "text": text }))
                .collect();
            return Some(json!({ "output": [{ "type": "message", "content": parts }] }));
        }
        None
    }
}

impl Choice {
    fn whole(self, at: u64) -> Value {
        let mut choice = Map::new();
        choice.insert("index".into(), at.into());
        if self.is_chat {
            let mut message = json!({ "role": "assistant", "content": self.text });
            if let Some(refusal) = self.refusal {
                message["refusal"] = refusal.into();
            }
            if !self.calls.is_empty() {
                let call = |(name, arguments)| {
                    json!({ "type": "function",
                            "function": { "name": name, "arguments": arguments } })
                };
                message["tool_calls"] = self.calls.into_values().map(call).collect();
            }
            choice.insert("message".into(), message);
        } else {
            choice.insert("text".into(), self.text.into());
        }
        choice.insert("finish_reason".into(), self.finish_reason.unwrap_or_default());
        choice.into()
    }
}

impl Block {
    fn whole(self) -> Value {
        match self.name {
            None => json!({ "type": "text", "text": self.text }),
            Some(name) => {
                let input: Value = match serde_json::from_str(&self.text) {
                    Ok(input) => input,
                    Err(_) => self.text.into(),
                };
                json!({ "type": "tool_use", "name": name, "input": input })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::said;

    fn stream(events: &[Value]) -> Vec<u8> {
        let mut out = String::new();
        for event in events {
            out.push_str(&format!("event: x\ndata: {event}\n\n"));
        }
        out.push_str("data: [DONE]\n\n");
        out.into_bytes()
    }

    fn answer(events: &[Value]) -> Value {
        match assemble(&stream(events)) {
            Assembled::Answer(answer) => answer,
            Assembled::Data(data) => panic!("{}", String::from_utf8_lossy(&data)),
        }
    }

    #[test]
    fn a_chat_stream_makes_the_answer_that_comes_without_streaming() {
        let delta = |delta: Value| json!({"id": "c", "choices": [{"index": 0, "delta": delta}]});
        let answer = answer(&[
            delta(json!({"role": "assistant", "content": ""})),
            delta(json!({"content": "Hel"})),
            delta(json!({"content": "lo"})),
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
            json!({"choices": [], "usage": {"prompt_tokens": 5}}),
        ]);
        assert_eq!(
            answer,
            json!({"choices": [{"index": 0, "finish_reason": "stop",
                                "message": {"role": "assistant", "content": "Hello"}}]})
        );
        assert_eq!(answer.pointer("/choices/0/message/content"), Some(&json!("Hello")));
    }

    #[test]
    fn calls_of_tools_come_in_pieces_too() {
        let call = |at: u64, function: Value| {
            json!({"choices": [{"index": 0, "delta": {
                "tool_calls": [{"index": at, "function": function}]}}]})
        };
        let answer = answer(&[
            call(0, json!({"name": "weather", "arguments": ""})),
            call(0, json!({"arguments": "{\"city\":"})),
            call(1, json!({"name": "time", "arguments": "{}"})),
            call(0, json!({"arguments": "\"Graz\"}"})),
        ]);
        assert_eq!(said(&answer).as_deref(), Some("weather({\"city\":\"Graz\"})\ntime({})"));
    }

    #[test]
    fn messages_of_anthropic_and_completions_and_responses_too() {
        let anthropic = answer(&[
            json!({"type": "message_start", "message": {"id": "m", "content": []}}),
            json!({"type": "content_block_start", "index": 0,
                   "content_block": {"type": "thinking", "thinking": ""}}),
            json!({"type": "content_block_delta", "index": 0,
                   "delta": {"type": "thinking_delta", "thinking": "hm"}}),
            json!({"type": "content_block_start", "index": 1,
                   "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 1,
                   "delta": {"type": "text_delta", "text": "Hi"}}),
            json!({"type": "content_block_start", "index": 2,
                   "content_block": {"type": "tool_use", "name": "look", "input": {}}}),
            json!({"type": "content_block_delta", "index": 2,
                   "delta": {"type": "input_json_delta", "partial_json": "{\"at\":1}"}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}),
            json!({"type": "message_stop"}),
        ]);
        assert_eq!(
            anthropic,
            json!({"role": "assistant", "stop_reason": "tool_use", "content": [
                {"type": "text", "text": "Hi"},
                {"type": "tool_use", "name": "look", "input": {"at": 1}},
            ]})
        );
        let completions = answer(&[
            json!({"choices": [{"index": 0, "text": "a"}]}),
            json!({"choices": [{"index": 0, "text": "b", "finish_reason": "length"}]}),
        ]);
        assert_eq!(
            completions,
            json!({"choices": [{"index": 0, "text": "ab", "finish_reason": "length"}]})
        );
        let text = |text: &str| json!({"type": "response.output_text.delta", "delta": text});
        assert_eq!(said(&answer(&[text("a"), text("b")])).as_deref(), Some("ab"));
        let whole = json!({"output": [{"type": "message", "content": [{"text": "whole"}]}]});
        let completed = json!({"type": "response.completed", "response": whole});
        assert_eq!(answer(&[text("a"), completed]), whole);
    }

    #[test]
    fn other_streams_are_their_data() {
        let data =
            assemble(b": hello\n\ndata: one\n\nid: 4\ndata: two\ndata: three\n\ndata: [DONE]\n\n");
        assert_eq!(data, Assembled::Data(b"one\ntwo\nthree".to_vec()));
        assert_eq!(assemble(b""), Assembled::Data(Vec::new()));
    }

    #[test]
    fn absurd_indexes_take_no_room() {
        let far = json!({"choices": [{"index": 1_000_000, "delta": {"content": "x"}}]});
        assert!(matches!(assemble(&stream(&[far])), Assembled::Data(_)));
    }
}
