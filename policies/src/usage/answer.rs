//! The parts of an answer, or of one event of it, that say how it went.
//!
//! One pass over the whole document; what it finds borrows from it until it is known to be whole.
//! A document that is not JSON to its last byte says nothing at all, so that an answer which was
//! cut off is never read by halves. Two things are left open, for their price: text that nobody
//! keeps may be something else than UTF-8, and a value that is not read may nest only 128 deep.
//!
//! A member that is of another type than expected is as good as absent and takes no other member
//! with it. An object that has one of the members read here twice is as good as absent, too.

use std::borrow::Cow;

use super::counts::Counts;
use super::member::Member;
use super::{MAX_ID, Reading};
use crate::json::{Flaw, Scanner, Text};

/// The top level of all shapes we know, and of what they nest.
#[derive(Debug, Default)]
pub(super) struct Answer<'a> {
    id: Member<Text<'a>>,
    model: Member<Text<'a>>,
    usage: Member<()>,
    /// What `usage` says.
    counts: Counts,
    /// OpenAI chat completions and completions.
    choices: Choices<'a>,
    /// Anthropic, at the end of JSON.
    stop_reason: Member<Text<'a>>,
    /// Anthropic and the responses API: the kind of event.
    kind: Member<Text<'a>>,
    /// Anthropic: what `message_start` carries, not read yet.
    message: Member<&'a [u8]>,
    /// Anthropic: the `stop_reason` that `message_delta` carries.
    delta: Member<Text<'a>>,
    /// The responses API: what its events carry, not read yet.
    response: Member<&'a [u8]>,
    /// The responses API: `"response"`, on the answer itself.
    object: Member<Text<'a>>,
    status: Member<Text<'a>>,
    /// The responses API: the `reason` in `incomplete_details`.
    incomplete: Member<Text<'a>>,
}

/// What all choices together say.
#[derive(Debug, Default)]
struct Choices<'a> {
    itself: Member<()>,
    finish_reason: Option<Text<'a>>,
    /// Some servers count beside the choice.
    counts: Counts,
}

impl<'a> Answer<'a> {
    /// Reads a whole document. It says nothing if it is no object, or one that has a member twice.
    #[inline]
    pub(super) fn of(document: &'a [u8], reading: &mut Reading) -> Result<(), Flaw> {
        let mut json = Scanner::new(document);
        let mut answer = Self::default();
        let sound = answer.read(&mut json)?;
        json.end()?;
        if sound {
            answer.read_into(reading);
        }
        Ok(())
    }

    /// Reads the next value; whether it is an object that has no member twice.
    fn read(&mut self, json: &mut Scanner<'a>) -> Result<bool, Flaw> {
        let mut twice = false;
        let object = json.object(|json, name| {
            twice |= match name.len() {
                2 if name == b"id" => self.id.meet(json.text()?),
                5 if name == b"model" => self.model.meet(json.text()?),
                5 if name == b"usage" => {
                    if let Some(counts) = Counts::read(json)? {
                        self.counts = counts;
                    }
                    self.usage.meet(None)
                }
                7 if name == b"choices" => self.choices.read(json)?,
                11 if name == b"stop_reason" => self.stop_reason.meet(json.text()?),
                4 if name == b"type" => self.kind.meet(json.text()?),
                7 if name == b"message" => self.message.meet(Some(json.raw()?)),
                5 if name == b"delta" => self.delta.meet(text_in(json, b"stop_reason")?),
                8 if name == b"response" => self.response.meet(Some(json.raw()?)),
                6 if name == b"object" => self.object.meet(json.text()?),
                6 if name == b"status" => self.status.meet(json.text()?),
                18 if name == b"incomplete_details" => {
                    self.incomplete.meet(text_in(json, b"reason")?)
                }
                _ => {
                    json.skip()?;
                    false
                }
            };
            Ok(())
        })?;
        Ok(object && !twice)
    }

    /// Adds what this says to what is known.
    pub(super) fn read_into(&self, reading: &mut Reading) {
        let usage = &mut reading.usage;
        keep(self.id.get().copied(), &mut usage.response_id);
        keep(self.model.get().copied(), &mut usage.response_model);
        keep_reason(self.choices.finish_reason, &mut usage.finish_reason);
        reading.counts.update(&self.choices.counts);
        reading.counts.update(&self.counts);
        keep_reason(self.stop_reason.get().copied(), &mut usage.finish_reason);
        keep_reason(self.delta.get().copied(), &mut usage.finish_reason);
        if self.object.get().is_some_and(|object| object.is("response")) {
            keep_reason(self.ended_as(), &mut usage.finish_reason);
        }

        let kind = self.kind.get();
        // An event has one answer in it, and that has none.
        let within = match kind {
            Some(kind) if kind.is("message_start") => self.message.get(),
            _ => self.response.get(),
        };
        if let Some(written) = within {
            let mut answer = Answer::default();
            if let Ok(true) = answer.read(&mut Scanner::new(written)) {
                (answer.message, answer.response) = Default::default();
                answer.read_into(reading);
            }
        }
        let ends = ["message_stop", "response.completed", "response.incomplete", "response.failed"];
        reading.usage.complete |= kind.is_some_and(|kind| ends.iter().any(|end| kind.is(end)));
    }

    /// Of the responses API: `completed`, `failed`, `cancelled`, or why it is incomplete.
    fn ended_as(&self) -> Option<Text<'a>> {
        let runs = |status: &Text<'_>| status.is("in_progress") || status.is("queued");
        let incomplete = self.incomplete.get().filter(|reason| short(**reason).is_some());
        incomplete.or_else(|| self.status.get().filter(|status| !runs(status))).copied()
    }
}

impl<'a> Choices<'a> {
    /// Reads the next value, which says nothing unless it is a list of nothing but choices; whether
    /// choices had been met before.
    fn read(&mut self, json: &mut Scanner<'a>) -> Result<bool, Flaw> {
        let mut sound = true;
        json.array(|json| {
            let mut finish_reason = Member::default();
            let mut usage = Member::default();
            let mut twice = false;
            let object = json.object(|json, name| {
                twice |= match name.len() {
                    13 if name == b"finish_reason" => finish_reason.meet(json.text()?),
                    5 if name == b"usage" => {
                        if let Some(counts) = Counts::read(json)? {
                            self.counts.update(&counts);
                        }
                        usage.meet(None::<()>)
                    }
                    _ => {
                        json.skip()?;
                        false
                    }
                };
                Ok(())
            })?;
            sound &= object && !twice;
            if let Some(reason) = finish_reason.get().filter(|reason| short(**reason).is_some()) {
                self.finish_reason = Some(*reason);
            }
            Ok(())
        })?;
        if !sound {
            (self.finish_reason, self.counts) = Default::default();
        }
        Ok(self.itself.meet(None))
    }
}

/// The text of this name in the next value, if that is an object that has it once.
fn text_in<'a>(json: &mut Scanner<'a>, wanted: &[u8]) -> Result<Option<Text<'a>>, Flaw> {
    let mut text = Member::default();
    let mut twice = false;
    json.object(|json, name| {
        if name == wanted {
            twice |= text.meet(json.text()?);
            return Ok(());
        }
        json.skip()
    })?;
    Ok(text.get().copied().filter(|_| !twice))
}

/// A text that is not empty, cut at [`MAX_ID`] bytes.
fn short(text: Text<'_>) -> Option<Cow<'_, str>> {
    let mut text = text.str().ok().filter(|text| !text.is_empty())?;
    if text.len() > MAX_ID {
        let end = text.floor_char_boundary(MAX_ID);
        text = match text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
            Cow::Owned(text) => Cow::Owned(text[..end].to_owned()),
        };
    }
    Some(text)
}

/// Puts the text in the place of what was known. What is repeated with each event is not copied
/// again.
pub(super) fn keep(text: Option<Text<'_>>, known: &mut Option<String>) {
    let Some(text) = text else { return };
    if known.as_ref().is_some_and(|known| text.is(known)) {
        return;
    }
    if let Some(text) = short(text) {
        *known = Some(text.into_owned());
    }
}

/// The same for why it stopped. Nearly all answers name one of a few reasons.
pub(super) fn keep_reason(text: Option<Text<'_>>, known: &mut Option<Cow<'static, str>>) {
    const COMMON: [&str; 8] = [
        "stop",
        "length",
        "tool_calls",
        "content_filter",
        "end_turn",
        "max_tokens",
        "tool_use",
        "completed",
    ];
    let Some(text) = text else { return };
    if let Some(reason) = COMMON.iter().find(|reason| text.is(reason)) {
        *known = Some(Cow::Borrowed(reason));
    } else if let Some(reason) = short(text) {
        *known = Some(Cow::Owned(reason.into_owned()));
    }
}
