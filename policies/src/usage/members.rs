//! The members that are read: where they stand, and under which names.

/// An object or array that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Around the document.
    Outermost,
    Answer,
    Choices,
    Choice,
    /// The answer's `usage`, or that of a choice.
    Usage,
    ChoiceUsage,
    /// A `…_tokens_details` in it.
    Details,
    Delta,
    IncompleteDetails,
}

/// A member that is read, or an element: first those that are strings, [`Self::TEXTS`] of them, then
/// [`Self::COUNTS`] numbers, then objects and arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Model,
    /// Anthropic, at the end of JSON.
    StopReason,
    /// Anthropic and the responses API: the kind of event.
    Type,
    /// The responses API: `"response"`, on the answer itself.
    Object,
    Status,
    /// In a choice.
    FinishReason,
    /// Anthropic: in the `delta` that `message_delta` carries.
    DeltaStopReason,
    /// In `incomplete_details`.
    Reason,

    // OpenAI chat completions, completions, embeddings.
    PromptTokens,
    CompletionTokens,
    // The responses API and Anthropic.
    InputTokens,
    OutputTokens,
    // Anthropic.
    CacheReadInputTokens,
    CacheCreationInputTokens,
    // In details.
    CachedTokens,
    ReasoningTokens,

    Usage,
    /// OpenAI chat completions and completions.
    Choices,
    /// Anthropic: what `message_start` carries.
    Message,
    /// Anthropic: what `message_delta` carries.
    Delta,
    /// The responses API: what its events carry.
    Response,
    IncompleteDetails,
    /// Some servers count beside the choice.
    ChoiceUsage,
    // In the order in which the later replaces the earlier.
    PromptTokensDetails,
    CompletionTokensDetails,
    InputTokensDetails,
    OutputTokensDetails,

    /// The document itself.
    Answer,
    /// An element of `choices`.
    Choice,
    /// Any other.
    Other,
}

impl Member {
    pub(super) const TEXTS: usize = Self::Reason as usize + 1;
    pub(super) const COUNTS: usize = Self::ReasoningTokens as usize + 1 - Self::TEXTS;

    /// A bit of its own.
    #[inline]
    pub(super) fn bit(self) -> u64 {
        1 << (self as u32)
    }
}

impl Place {
    /// The member of this name here.
    ///
    /// The length comes first, so that a name is compared with one or two others only.
    #[inline(always)]
    pub(super) fn member(self, name: &[u8]) -> Member {
        match self {
            Self::Answer => in_answer(name),
            Self::Usage | Self::ChoiceUsage => in_usage(name),
            Self::Choice => match name.len() {
                13 if name == b"finish_reason" => Member::FinishReason,
                5 if name == b"usage" => Member::ChoiceUsage,
                _ => Member::Other,
            },
            Self::Details => match name.len() {
                13 if name == b"cached_tokens" => Member::CachedTokens,
                16 if name == b"reasoning_tokens" => Member::ReasoningTokens,
                _ => Member::Other,
            },
            Self::Delta if name == b"stop_reason" => Member::DeltaStopReason,
            Self::IncompleteDetails if name == b"reason" => Member::Reason,
            Self::Delta | Self::IncompleteDetails | Self::Outermost | Self::Choices => {
                Member::Other
            }
        }
    }

    /// The place that the value of this member is, if it is an object or, of `choices`, an array.
    #[inline(always)]
    pub(super) fn of(member: Member, object: bool) -> Option<Self> {
        Some(match (member, object) {
            (Member::Answer, true) => Self::Answer,
            (Member::Choices, false) => Self::Choices,
            (Member::Choice, true) => Self::Choice,
            (Member::Usage, true) => Self::Usage,
            (Member::ChoiceUsage, true) => Self::ChoiceUsage,
            (Member::Delta, true) => Self::Delta,
            (Member::IncompleteDetails, true) => Self::IncompleteDetails,
            (
                Member::PromptTokensDetails
                | Member::CompletionTokensDetails
                | Member::InputTokensDetails
                | Member::OutputTokensDetails,
                true,
            ) => Self::Details,
            _ => return None,
        })
    }
}

#[inline(always)]
fn in_answer(name: &[u8]) -> Member {
    match name.len() {
        4 if name == b"type" => Member::Type,
        5 if name == b"model" => Member::Model,
        5 if name == b"usage" => Member::Usage,
        5 if name == b"delta" => Member::Delta,
        6 if name == b"object" => Member::Object,
        6 if name == b"status" => Member::Status,
        7 if name == b"choices" => Member::Choices,
        7 if name == b"message" => Member::Message,
        8 if name == b"response" => Member::Response,
        11 if name == b"stop_reason" => Member::StopReason,
        18 if name == b"incomplete_details" => Member::IncompleteDetails,
        _ => Member::Other,
    }
}

#[inline(always)]
fn in_usage(name: &[u8]) -> Member {
    match name.len() {
        12 if name == b"input_tokens" => Member::InputTokens,
        13 if name == b"prompt_tokens" => Member::PromptTokens,
        13 if name == b"output_tokens" => Member::OutputTokens,
        17 if name == b"completion_tokens" => Member::CompletionTokens,
        20 if name == b"input_tokens_details" => Member::InputTokensDetails,
        21 if name == b"prompt_tokens_details" => Member::PromptTokensDetails,
        21 if name == b"output_tokens_details" => Member::OutputTokensDetails,
        23 if name == b"cache_read_input_tokens" => Member::CacheReadInputTokens,
        25 if name == b"completion_tokens_details" => Member::CompletionTokensDetails,
        27 if name == b"cache_creation_input_tokens" => Member::CacheCreationInputTokens,
        _ => Member::Other,
    }
}
