//! The tokens an answer says it took, under all the names that are in use for them.

use super::member::Member;
use crate::json::{Flaw, Scanner};

/// Counts of tokens, of which any may be missing.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) cached_input: Option<u64>,
    pub(super) reasoning: Option<u64>,
    /// Anthropic counts these apart from `input`, and not in every event that has that.
    pub(super) cache_read: Option<u64>,
    pub(super) cache_created: Option<u64>,
}

/// The value of `usage`, as it is written.
#[derive(Debug, Default)]
struct Written {
    // OpenAI chat completions, completions, embeddings.
    prompt_tokens: Member<u64>,
    completion_tokens: Member<u64>,
    prompt_tokens_details: Details,
    completion_tokens_details: Details,
    // The responses API and Anthropic.
    input_tokens: Member<u64>,
    output_tokens: Member<u64>,
    input_tokens_details: Details,
    output_tokens_details: Details,
    // Anthropic.
    cache_read_input_tokens: Member<u64>,
    cache_creation_input_tokens: Member<u64>,
    /// Any of those was met that are parts of others.
    has_parts: bool,
}

#[derive(Debug, Default)]
struct Details {
    itself: Member<()>,
    cached_tokens: Member<u64>,
    reasoning_tokens: Member<u64>,
}

impl Counts {
    /// Takes over what `later` says; the rest stays.
    pub(super) fn update(&mut self, later: &Self) {
        self.input = later.input.or(self.input);
        self.output = later.output.or(self.output);
        self.cached_input = later.cached_input.or(self.cached_input);
        self.reasoning = later.reasoning.or(self.reasoning);
        self.cache_read = later.cache_read.or(self.cache_read);
        self.cache_created = later.cache_created.or(self.cache_created);
    }

    /// Reads the next value. `None` if it is no object, or one that has a member twice.
    pub(super) fn read(json: &mut Scanner<'_>) -> Result<Option<Self>, Flaw> {
        let mut written = Written::default();
        let mut twice = false;
        let object = json.object(|json, name| {
            twice |= match name.len() {
                13 if name == b"prompt_tokens" => written.prompt_tokens.meet(count(json)?),
                17 if name == b"completion_tokens" => written.completion_tokens.meet(count(json)?),
                12 if name == b"input_tokens" => written.input_tokens.meet(count(json)?),
                13 if name == b"output_tokens" => written.output_tokens.meet(count(json)?),
                _ => written.part(json, name)?,
            };
            Ok(())
        })?;
        Ok((object && !twice).then(|| written.counts()))
    }
}

impl Written {
    #[inline]
    fn counts(&self) -> Counts {
        let last = |older: &Member<u64>, newer: &Member<u64>| newer.get().or(older.get()).copied();
        let mut counts = Counts {
            input: last(&self.prompt_tokens, &self.input_tokens),
            output: last(&self.completion_tokens, &self.output_tokens),
            ..Counts::default()
        };
        if self.has_parts {
            self.parts(&mut counts);
        }
        counts
    }

    /// Reads the value of a member of this name; whether it was met before.
    #[inline(never)]
    fn part(&mut self, json: &mut Scanner<'_>, name: &[u8]) -> Result<bool, Flaw> {
        let met = match name {
            b"cache_read_input_tokens" => self.cache_read_input_tokens.meet(count(json)?),
            b"cache_creation_input_tokens" => self.cache_creation_input_tokens.meet(count(json)?),
            b"prompt_tokens_details" => self.prompt_tokens_details.read(json)?,
            b"completion_tokens_details" => self.completion_tokens_details.read(json)?,
            b"input_tokens_details" => self.input_tokens_details.read(json)?,
            b"output_tokens_details" => self.output_tokens_details.read(json)?,
            _ => {
                json.skip()?;
                return Ok(false);
            }
        };
        self.has_parts = true;
        Ok(met)
    }

    #[inline(never)]
    fn parts(&self, counts: &mut Counts) {
        let cache_read = self.cache_read_input_tokens.get().copied();
        if self.prompt_tokens.get().is_none() {
            counts.cache_read = cache_read;
            counts.cache_created = self.cache_creation_input_tokens.get().copied();
        } else {
            // A translating proxy: its `prompt_tokens` have these in them already.
            counts.cached_input = cache_read;
        }
        for details in [
            &self.prompt_tokens_details,
            &self.completion_tokens_details,
            &self.input_tokens_details,
            &self.output_tokens_details,
        ] {
            counts.cached_input = details.cached_tokens.get().copied().or(counts.cached_input);
            counts.reasoning = details.reasoning_tokens.get().copied().or(counts.reasoning);
        }
    }
}

impl Details {
    /// Reads the next value; whether these details had been met before.
    fn read(&mut self, json: &mut Scanner<'_>) -> Result<bool, Flaw> {
        let mut twice = false;
        json.object(|json, name| {
            twice |= match name.len() {
                13 if name == b"cached_tokens" => self.cached_tokens.meet(count(json)?),
                16 if name == b"reasoning_tokens" => self.reasoning_tokens.meet(count(json)?),
                _ => {
                    json.skip()?;
                    false
                }
            };
            Ok(())
        })?;
        if twice {
            (self.cached_tokens, self.reasoning_tokens) = Default::default();
        }
        Ok(self.itself.meet(None))
    }
}

/// The next value, if it is a count; also one written as a float, as some servers do.
fn count(json: &mut Scanner<'_>) -> Result<Option<u64>, Flaw> {
    let Some(b'-' | b'0'..=b'9') = json.token() else {
        json.skip()?;
        return Ok(None);
    };
    let written = json.number()?;
    let whole = written.iter().try_fold(0_u64, |count, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        count.checked_mul(10)?.checked_add(digit)
    });
    Ok(whole.or_else(|| whole_float(written)))
}

#[cold]
fn whole_float(written: &[u8]) -> Option<u64> {
    let float: f64 = std::str::from_utf8(written).ok()?.parse().ok()?;
    let whole = float >= 0.0 && float < (1_u64 << 53) as f64 && float.fract() == 0.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
    whole.then_some(float as u64)
}
