//! The reader beside a plain one: the document as `serde_json::Value`, and member by member.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{in_pieces, json as read_json, stream};
use crate::usage::{BodyKind, Usage};

/// What the reader should make of a document in which no name occurs twice.
fn expected(document: &str) -> Usage {
    let value: Value = serde_json::from_str(document).unwrap();
    let mut read = Reference::default();
    read.answer(&value, true);
    let Reference { mut usage, cache_read, cache_created } = read;
    let apart = cache_read.unwrap_or(0).saturating_add(cache_created.unwrap_or(0));
    usage.input_tokens = usage.input_tokens.map(|input| input.saturating_add(apart));
    usage.cached_input_tokens = cache_read.or(usage.cached_input_tokens);
    usage.complete = true;
    usage
}

#[derive(Default)]
struct Reference {
    usage: Usage,
    cache_read: Option<u64>,
    cache_created: Option<u64>,
}

impl Reference {
    fn answer(&mut self, answer: &Value, outermost: bool) {
        replace(&mut self.usage.response_model, text(&answer["model"]));
        if let Some(choices) = answer["choices"].as_array()
            && choices.iter().all(Value::is_object)
        {
            for choice in choices {
                self.reason(&choice["finish_reason"]);
                self.counts(&choice["usage"]);
            }
        }
        self.counts(&answer["usage"]);
        self.reason(&answer["stop_reason"]);
        self.reason(&answer["delta"]["stop_reason"]);
        if answer["object"] == "response" {
            if text(&answer["incomplete_details"]["reason"]).is_some() {
                self.reason(&answer["incomplete_details"]["reason"]);
            } else if answer["status"] != "in_progress" && answer["status"] != "queued" {
                self.reason(&answer["status"]);
            }
        }
        let starts = answer["type"] == "message_start";
        let within = &answer[if starts { "message" } else { "response" }];
        if outermost && within.is_object() {
            self.answer(within, false);
        }
    }

    fn reason(&mut self, value: &Value) {
        replace(&mut self.usage.finish_reason, text(value).map(Into::into));
    }

    fn counts(&mut self, counts: &Value) {
        let usage = &mut self.usage;
        replace(&mut usage.input_tokens, count(&counts["prompt_tokens"]));
        replace(&mut usage.input_tokens, count(&counts["input_tokens"]));
        replace(&mut usage.output_tokens, count(&counts["completion_tokens"]));
        replace(&mut usage.output_tokens, count(&counts["output_tokens"]));
        let cache_read = count(&counts["cache_read_input_tokens"]);
        if count(&counts["prompt_tokens"]).is_some() {
            replace(&mut usage.cached_input_tokens, cache_read);
        } else {
            replace(&mut self.cache_read, cache_read);
            replace(&mut self.cache_created, count(&counts["cache_creation_input_tokens"]));
        }
        for details in ["prompt", "completion", "input", "output"] {
            let details = &counts[format!("{details}_tokens_details")];
            replace(&mut usage.cached_input_tokens, count(&details["cached_tokens"]));
            replace(&mut usage.reasoning_tokens, count(&details["reasoning_tokens"]));
        }
    }
}

fn replace<T>(known: &mut Option<T>, new: Option<T>) {
    if new.is_some() {
        *known = new;
    }
}

fn text(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| !text.is_empty())?;
    Some(text[..text.floor_char_boundary(128)].to_owned())
}

fn count(value: &Value) -> Option<u64> {
    let float = || {
        let float = value.as_f64()?;
        let whole = float >= 0.0 && float < 2_f64.powi(53) && float.fract() == 0.0;
        #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
        whole.then_some(float as u64)
    };
    value.as_u64().or_else(float)
}

/// Any value, not too deep.
fn anything() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("say \"usage\":{\"prompt_tokens\":9}]}")),
    ];
    scalar.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec((names(), inner), 0..3)
                .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

/// Names that are read somewhere, and others.
fn names() -> impl Strategy<Value = String> {
    let known = ["usage", "choices", "finish_reason", "prompt_tokens", "id", "model", "response"];
    prop_oneof![proptest::sample::select(known.to_vec()).prop_map(str::to_owned), any::<String>()]
}

fn maybe(usual: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    prop_oneof![12 => usual, 1 => anything()].boxed()
}

fn word() -> BoxedStrategy<Value> {
    let known = [
        "stop",
        "length",
        "end_turn",
        "completed",
        "in_progress",
        "queued",
        "response",
        "message_start",
        "message_stop",
        "",
        "\u{e4}\"\\\n",
    ];
    maybe(prop_oneof![
        8 => proptest::sample::select(known.to_vec()).prop_map(Value::from),
        2 => any::<String>().prop_map(Value::from),
        1 => (120..140_usize).prop_map(|length| "\u{e4}i".repeat(length / 2).into()),
    ])
}

fn number() -> BoxedStrategy<Value> {
    let odd =
        [json!(4.0), json!(-0.0), json!(1.5), json!(-1), json!(1e3), json!(1e300), json!("9")];
    maybe(prop_oneof![
        8 => (0..5000_u64).prop_map(Value::from),
        2 => proptest::sample::select(odd.to_vec()),
        1 => any::<u64>().prop_map(Value::from),
    ])
}

/// An object with some of these members, some others, in any order.
fn object(members: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let members: Vec<_> = members
        .into_iter()
        .map(|(name, value)| {
            proptest::option::weighted(0.6, value.prop_map(move |value| (name.to_owned(), value)))
        })
        .collect();
    let others = vec((any::<String>(), anything()), 0..3);
    (members, others)
        .prop_map(|(members, others)| members.into_iter().flatten().chain(others).collect())
        .prop_flat_map(|members: Vec<_>| Just(members).prop_shuffle())
        .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into())
        .boxed()
}

fn usage() -> BoxedStrategy<Value> {
    let details =
        || maybe(object(vec![("cached_tokens", number()), ("reasoning_tokens", number())]));
    maybe(object(vec![
        ("prompt_tokens", number()),
        ("completion_tokens", number()),
        ("input_tokens", number()),
        ("output_tokens", number()),
        ("total_tokens", number()),
        ("cache_read_input_tokens", number()),
        ("cache_creation_input_tokens", number()),
        ("prompt_tokens_details", details()),
        ("completion_tokens_details", details()),
        ("input_tokens_details", details()),
        ("output_tokens_details", details()),
    ]))
}

fn answer(within: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let choice = maybe(object(vec![
        ("index", number()),
        ("message", anything().boxed()),
        ("finish_reason", word()),
        ("usage", usage()),
    ]));
    let mut members = vec![
        ("id", word()),
        ("model", word()),
        ("object", word()),
        ("type", word()),
        ("status", word()),
        ("stop_reason", word()),
        ("choices", maybe(vec(choice, 0..3).prop_map(Value::from))),
        ("usage", usage()),
        ("delta", maybe(object(vec![("stop_reason", word())]))),
        ("incomplete_details", maybe(object(vec![("reason", word())]))),
    ];
    members.extend(within);
    object(members)
}

fn document() -> BoxedStrategy<Value> {
    let inner = || maybe(answer(vec![("response", anything().boxed())]));
    answer(vec![("message", inner()), ("response", inner())])
}

/// The document with white space between its tokens and escapes in its strings wherever `noise`
/// has it.
fn written(value: &Value, noise: &mut impl Iterator<Item = u8>, out: &mut String) {
    let space = |noise: &mut dyn Iterator<Item = u8>, out: &mut String| match noise.next() {
        Some(0..20) => out.push(' '),
        Some(20..30) => out.push_str("\r\n\t"),
        _ => {}
    };
    space(noise, out);
    match value {
        Value::String(text) => string(text, noise, out),
        Value::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                written(element, noise, out);
            }
            space(noise, out);
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (index, (name, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                space(noise, out);
                string(name, noise, out);
                space(noise, out);
                out.push(':');
                written(value, noise, out);
            }
            space(noise, out);
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
    space(noise, out);
}

fn string(text: &str, noise: &mut impl Iterator<Item = u8>, out: &mut String) {
    if !matches!(noise.next(), Some(0..30)) {
        out.push_str(&serde_json::to_string(text).unwrap());
        return;
    }
    out.push('"');
    for unit in text.encode_utf16() {
        out.push_str(&format!("\\u{unit:04x}"));
    }
    out.push('"');
}

fn text_of(value: &Value, noise: &[u8]) -> String {
    let mut text = String::new();
    written(value, &mut noise.iter().copied().cycle(), &mut text);
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_reader_reads_what_a_plain_one_does(
        document in document(), noise in vec(any::<u8>(), 1..60)
    ) {
        let text = text_of(&document, &noise);
        prop_assert_eq!(read_json(&text), expected(&text), "{}", text);
        let lengths: Vec<_> = noise.iter().map(|noise| 1 + usize::from(*noise)).collect();
        let pieces = in_pieces(BodyKind::Json, text.as_bytes(), &lengths);
        prop_assert_eq!(pieces, expected(&text), "{}", text);
    }

    /// As one event of a stream that the scan holds worth reading.
    #[test]
    fn an_event_is_read_as_a_document_is(document in document(), noise in vec(any::<u8>(), 1..60)) {
        let text = text_of(&document, &noise).replace(['\r', '\n'], " ");
        let expected = expected(&text);
        let seen = stream(format!("data: {text}\n\n"));
        // All events at the beginning of a stream are read, until one brings id and model.
        prop_assert_eq!(seen.input_tokens, expected.input_tokens, "{}", text);
        prop_assert_eq!(seen.finish_reason, expected.finish_reason, "{}", text);
        prop_assert_eq!(seen.response_model, expected.response_model, "{}", text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(15))]

    #[test]
    fn an_answer_that_was_cut_off_says_nothing(
        document in document(), noise in vec(any::<u8>(), 1..60)
    ) {
        let text = text_of(&document, &noise);
        let whole = text.trim_end().len();
        for end in 0..whole {
            prop_assert_eq!(read_json(&text.as_bytes()[..end]), Usage::default());
        }
    }
}
