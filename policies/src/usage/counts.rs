//! The tokens an answer says it took, under all the names that are in use for them.

use super::members::Member;

/// Counts of tokens, of which any may be missing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) cached_input: Option<u64>,
    pub(super) reasoning: Option<u64>,
    /// Anthropic counts these apart from `input`, and not in every event that has that.
    pub(super) cache_read: Option<u64>,
    pub(super) cache_created: Option<u64>,
}

/// What stands in one `usage`, as it is written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    /// By [`Member`], from `PromptTokens` on.
    numbers: [Option<u64>; Member::COUNTS],
    /// By [`Member`], from `PromptTokensDetails` on: cached tokens, and those of reasoning.
    details: [[Option<u64>; 2]; 4],
    /// There are parts of tokens that others have counted.
    has_parts: bool,
}

impl Counts {
    /// Takes over what `later` says; the rest stays.
    #[inline]
    pub(super) fn update(&mut self, later: &Self) {
        self.input = later.input.or(self.input);
        self.output = later.output.or(self.output);
        self.cached_input = later.cached_input.or(self.cached_input);
        self.reasoning = later.reasoning.or(self.reasoning);
        self.cache_read = later.cache_read.or(self.cache_read);
        self.cache_created = later.cache_created.or(self.cache_created);
    }
}

impl Written {
    /// Notes the number that a member of [`Member::COUNTS`] has.
    #[inline]
    pub(super) fn note(&mut self, member: Member, number: &[u8]) {
        if let Some(place) = self.numbers.get_mut(member as usize - Member::TEXTS) {
            *place = count(number);
        }
        self.has_parts |= member as usize > Member::OutputTokens as usize;
    }

    fn number(&self, member: Member) -> Option<u64> {
        self.numbers.get(member as usize - Member::TEXTS).copied().flatten()
    }

    /// Details begin.
    pub(super) fn begin_details(&mut self) {
        self.numbers[Member::CachedTokens as usize - Member::TEXTS] = None;
        self.numbers[Member::ReasoningTokens as usize - Member::TEXTS] = None;
    }

    /// The details that this member has are over.
    pub(super) fn end_details(&mut self, of: Member) {
        let place = (of as usize).checked_sub(Member::PromptTokensDetails as usize);
        if let Some(details) = place.and_then(|place| self.details.get_mut(place)) {
            *details = [Member::CachedTokens, Member::ReasoningTokens]
                .map(|member| self.numbers[member as usize - Member::TEXTS]);
        }
    }

    /// What it comes to.
    #[inline]
    pub(super) fn counts(&self) -> Counts {
        let last = |older, newer| self.number(newer).or(self.number(older));
        let mut counts = Counts {
            input: last(Member::PromptTokens, Member::InputTokens),
            output: last(Member::CompletionTokens, Member::OutputTokens),
            ..Counts::default()
        };
        if self.has_parts {
            self.parts(&mut counts);
        }
        counts
    }

    #[inline(never)]
    fn parts(&self, counts: &mut Counts) {
        let cache_read = self.number(Member::CacheReadInputTokens);
        if self.number(Member::PromptTokens).is_none() {
            counts.cache_read = cache_read;
            counts.cache_created = self.number(Member::CacheCreationInputTokens);
        } else {
            // A translating proxy: its `prompt_tokens` have these in them already.
            counts.cached_input = cache_read;
        }
        for [cached, reasoning] in self.details {
            counts.cached_input = cached.or(counts.cached_input);
            counts.reasoning = reasoning.or(counts.reasoning);
        }
    }
}

/// A count, also one written as a float, as some servers do.
#[inline]
fn count(number: &[u8]) -> Option<u64> {
    let whole = number.iter().try_fold(0_u64, |count, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        count.checked_mul(10)?.checked_add(digit)
    });
    whole.or_else(|| whole_float(number))
}

#[cold]
fn whole_float(number: &[u8]) -> Option<u64> {
    let float: f64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    let whole = float >= 0.0 && float < (1_u64 << 53) as f64 && float.fract() == 0.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
    whole.then_some(float as u64)
}
