//! What spans of model routes say of the model. Its name is one that the configuration knows, else
//! `_other`: no text of a client gets into a name (T29).

use std::time::Duration;

use super::spans::{MOST_TEXT, text};
use super::wire::{SpanWriter, key};
use crate::recorder::row::Row;

/// `gen_ai.operation.name` and `gen_ai.provider.name` by the shape of the API. The provider is the
/// one whose protocol is spoken, as the conventions ask where the server's maker is not known.
pub(super) fn operation(path: &str) -> Option<(&'static str, &'static str)> {
    const SHAPES: [(&str, &str, &str); 7] = [
        ("/chat/completions", "chat", "openai"),
        ("/completions", "text_completion", "openai"),
        ("/embeddings", "embeddings", "openai"),
        ("/responses", "chat", "openai"),
        ("/messages", "chat", "anthropic"),
        (":generateContent", "generate_content", "gcp.gemini"),
        (":streamGenerateContent", "generate_content", "gcp.gemini"),
    ];
    SHAPES
        .into_iter()
        .find(|(end, _, _)| path.ends_with(end))
        .map(|(_, operation, provider)| (operation, provider))
}

/// What was asked.
pub(super) fn request(
    model: &str,
    operation: &'static str,
    provider: &'static str,
    span: &mut SpanWriter<'_>,
) {
    span.text(key!("gen_ai.operation.name"), operation);
    span.text(key!("gen_ai.provider.name"), provider);
    span.text(key!("gen_ai.request.model"), model);
}

/// What was answered.
pub(super) fn response(row: &Row, span: &mut SpanWriter<'_>) {
    text(span, key!("gen_ai.response.model"), &row.response_model, MOST_TEXT);
    if !row.finish_reason.is_empty() {
        span.texts(key!("gen_ai.response.finish_reasons"), &row.finish_reason);
    }
    if row.stream {
        span.flag(key!("gen_ai.request.stream"), true);
        if let Some(micros) = row.t_first_token.get() {
            let seconds = Duration::from_micros(micros).as_secs_f64();
            span.fraction(key!("gen_ai.response.time_to_first_chunk"), seconds);
        }
    }
    if let Some(tokens) = row.input_tokens {
        span.number(key!("gen_ai.usage.input_tokens"), tokens);
    }
    if let Some(tokens) = row.output_tokens {
        span.number(key!("gen_ai.usage.output_tokens"), tokens);
    }
}
