//! The parts of an answer, or of one event of it, that say how it went.
//!
//! Every member is taken as raw JSON first: a member that is of another type than expected is as
//! good as absent and takes no other member with it.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{MAX_ID, Reading};

/// A value that is not parsed yet; `None` for null, too.
pub(super) type Raw<'a> = Option<&'a RawValue>;

/// The top level of all shapes we know, and of what they nest.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer<'a> {
    #[serde(borrow)]
    id: Raw<'a>,
    model: Raw<'a>,
    usage: Raw<'a>,
    /// OpenAI chat completions and completions.
    choices: Raw<'a>,
    /// Anthropic, at the end of JSON.
    stop_reason: Raw<'a>,
    /// Anthropic and the responses API: the kind of event.
    r#type: Raw<'a>,
    /// Anthropic: what `message_start` carries.
    message: Raw<'a>,
    /// Anthropic: what `message_delta` carries.
    delta: Raw<'a>,
    /// The responses API: what its events carry.
    response: Raw<'a>,
    /// The responses API: `"response"`, on the answer itself.
    object: Raw<'a>,
    status: Raw<'a>,
    incomplete_details: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice<'a> {
    #[serde(borrow)]
    finish_reason: Raw<'a>,
    /// Some servers count beside the choice.
    usage: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta<'a> {
    #[serde(borrow)]
    stop_reason: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IncompleteDetails<'a> {
    #[serde(borrow)]
    reason: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WrittenUsage<'a> {
    // OpenAI chat completions, completions, embeddings.
    #[serde(borrow)]
    prompt_tokens: Raw<'a>,
    completion_tokens: Raw<'a>,
    prompt_tokens_details: Raw<'a>,
    completion_tokens_details: Raw<'a>,
    // The responses API and Anthropic.
    input_tokens: Raw<'a>,
    output_tokens: Raw<'a>,
    input_tokens_details: Raw<'a>,
    output_tokens_details: Raw<'a>,
    // Anthropic.
    cache_read_input_tokens: Raw<'a>,
    cache_creation_input_tokens: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenDetails<'a> {
    #[serde(borrow)]
    cached_tokens: Raw<'a>,
    reasoning_tokens: Raw<'a>,
}

impl Answer<'_> {
    /// Adds what this says to what is known.
    pub(super) fn read_into(&self, reading: &mut Reading) {
        if let Some(id) = short_string(self.id) {
            reading.usage.response_id = Some(id);
        }
        if let Some(model) = short_string(self.model) {
            reading.usage.response_model = Some(model);
        }
        self.read_choices(reading);
        if let Some(usage) = part(self.usage) {
            read_usage(&usage, reading);
        }
        if let Some(reason) = short_string(self.stop_reason) {
            reading.usage.finish_reason = Some(reason);
        }
        if let Some(reason) =
            part(self.delta).and_then(|delta: Delta<'_>| short_string(delta.stop_reason))
        {
            reading.usage.finish_reason = Some(reason);
        }
        if is_text(self.object, "response") {
            self.read_status(reading);
        }

        // An event has one answer in it, and that has none.
        let within =
            if is_text(self.r#type, "message_start") { self.message } else { self.response };
        if let Some(answer) = part::<Answer<'_>>(within) {
            Answer { message: None, response: None, ..answer }.read_into(reading);
        }
        let ends = ["message_stop", "response.completed", "response.incomplete", "response.failed"];
        reading.usage.complete |= ends.iter().any(|end| is_text(self.r#type, end));
    }

    fn read_choices(&self, reading: &mut Reading) {
        for choice in part::<Vec<Choice<'_>>>(self.choices).unwrap_or_default() {
            if let Some(reason) = short_string(choice.finish_reason) {
                reading.usage.finish_reason = Some(reason);
            }
            if let Some(usage) = part(choice.usage) {
                read_usage(&usage, reading);
            }
        }
    }

    /// Of the responses API: `completed`, `failed`, `cancelled`, or why it is incomplete.
    fn read_status(&self, reading: &mut Reading) {
        let incomplete = part(self.incomplete_details)
            .and_then(|details: IncompleteDetails<'_>| short_string(details.reason));
        let status = short_string(self.status)
            .filter(|status| status != "in_progress" && status != "queued");
        if let Some(reason) = incomplete.or(status) {
            reading.usage.finish_reason = Some(reason);
        }
    }
}

pub(super) fn read_usage(written: &WrittenUsage<'_>, reading: &mut Reading) {
    let usage = &mut reading.usage;
    let replace = |known: &mut Option<u64>, written| {
        if let Some(count) = number(written) {
            *known = Some(count);
        }
    };
    replace(&mut usage.input_tokens, written.prompt_tokens);
    replace(&mut usage.input_tokens, written.input_tokens);
    replace(&mut usage.output_tokens, written.completion_tokens);
    replace(&mut usage.output_tokens, written.output_tokens);
    if written.prompt_tokens.is_none() {
        replace(&mut reading.cache_read, written.cache_read_input_tokens);
        replace(&mut reading.cache_created, written.cache_creation_input_tokens);
    } else {
        // A translating proxy: its `prompt_tokens` have these in them already.
        replace(&mut usage.cached_input_tokens, written.cache_read_input_tokens);
    }
    for details in [
        written.prompt_tokens_details,
        written.completion_tokens_details,
        written.input_tokens_details,
        written.output_tokens_details,
    ] {
        if let Some(details) = part::<TokenDetails<'_>>(details) {
            replace(&mut usage.cached_input_tokens, details.cached_tokens);
            replace(&mut usage.reasoning_tokens, details.reasoning_tokens);
        }
    }
}

/// The raw value as a `T`, or nothing.
pub(super) fn part<'a, T: Deserialize<'a>>(raw: Raw<'a>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

fn owned<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// A count, also one written as a float, as some servers do.
fn number(raw: Raw<'_>) -> Option<u64> {
    let raw = raw?;
    owned::<u64>(raw).or_else(|| {
        let float = owned::<f64>(raw)?;
        let whole = float >= 0.0 && float < (1_u64 << 53) as f64 && float.fract() == 0.0;
        #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
        whole.then_some(float as u64)
    })
}

/// A string that is not empty, cut at [`MAX_ID`] bytes.
pub(super) fn short_string(raw: Raw<'_>) -> Option<String> {
    let mut text: String = owned(raw?)?;
    text.truncate(text.floor_char_boundary(MAX_ID));
    (!text.is_empty()).then_some(text)
}

/// Whether the raw value is this string, written without escapes.
fn is_text(raw: Raw<'_>, text: &str) -> bool {
    raw.and_then(|raw| raw.get().strip_prefix('"')?.strip_suffix('"')) == Some(text)
}
