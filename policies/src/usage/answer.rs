//! The parts of an answer, or of one event of it, that say how it went.
//!
//! One pass over the whole document; what it finds borrows from it until it is known to be whole.
//! A document that is not JSON to its last byte says nothing at all, so that an answer which was
//! cut off is never read by halves; nor does one that nests more than 128 deep. Only that text is
//! UTF-8 is asked of none but what is kept.
//!
//! A member that is of another type than expected is as good as absent and takes no other member
//! with it. Parsers disagree about which of two members of one name counts, so an object that has
//! one of those read here twice is as good as absent, too. Choices are read together or not at all.

use std::borrow::Cow;

use super::counts::{Counts, Written};
use super::members::{Member, Place};
use super::{MAX_WORD, Reading};
use crate::json::{Flaw, Scanner, Text, Visit};

/// What was found in an answer, and where in it the walk is.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    document: &'a [u8],
    /// By [`Member`].
    texts: [Option<Text<'a>>; Member::TEXTS],
    /// The answer's own.
    counts: Option<Counts>,
    /// What all choices together say.
    choices: Choices<'a>,
    /// What is nested in an event, not read yet.
    message: Option<&'a [u8]>,
    response: Option<&'a [u8]>,
    /// It is an object, and has no member twice.
    sound: bool,

    /// Around the place of the walk, if that is read.
    place: Place,
    /// So many objects and arrays deep in something else than that.
    elsewhere: usize,
    /// What the next value there is.
    next: Member,
    /// What is elsewhere, and where it began; `Other` if nobody asks.
    passed: Member,
    passed_from: usize,
    /// The usage and the details in it that the walk is in.
    usage: Place,
    details: Member,
    /// The members that were met in the objects around, by [`Member::bit`].
    met: u64,
    /// The places around in which a member was met twice, by their bits.
    twice: u16,
    /// The `usage` that the walk is in.
    written: Written,
}

#[derive(Clone, Copy, Debug, Default)]
struct Choices<'a> {
    finish_reason: Option<Text<'a>>,
    counts: Counts,
    /// There is something else than choices among them, or one has a member twice.
    flawed: bool,
}

impl<'a> Answer<'a> {
    /// Nothing was found yet. What comes next is `next`, at this place.
    fn new(document: &'a [u8], place: Place, next: Member) -> Self {
        Self {
            document,
            texts: [None; Member::TEXTS],
            counts: None,
            choices: Choices::default(),
            message: None,
            response: None,
            sound: false,
            place,
            elsewhere: 0,
            next,
            passed: Member::Other,
            passed_from: 0,
            usage: Place::Usage,
            details: Member::Other,
            met: 0,
            twice: 0,
            written: Written::default(),
        }
    }

    /// Reads a whole document. It says nothing if it is no object, or one that has a member twice.
    pub(super) fn read(document: &'a [u8], reading: &mut Reading) -> Result<(), Flaw> {
        let mut json = Scanner::new(document);
        let mut answer = Self::new(document, Place::Outermost, Member::Answer);
        json.walk(&mut answer)?;
        json.end()?;
        if answer.sound {
            answer.read_into(reading);
        }
        Ok(())
    }

    /// Reads what stands at the beginning of this as what `usage` is. `None` if it is no object, or
    /// one that has a member twice, or is not JSON.
    pub(super) fn read_usage(written: &'a [u8]) -> Option<Counts> {
        let mut answer = Self::new(written, Place::Answer, Member::Usage);
        Scanner::new(written).walk(&mut answer).ok()?;
        answer.counts
    }

    fn said(&self, member: Member) -> Option<Text<'a>> {
        self.texts.get(member as usize).copied().flatten()
    }

    /// Adds what this says to what is known.
    pub(super) fn read_into(&self, reading: &mut Reading) {
        let usage = &mut reading.usage;
        keep(self.said(Member::Model), &mut usage.response_model);
        if !self.choices.flawed {
            keep_reason(self.choices.finish_reason, &mut usage.finish_reason);
            reading.counts.update(&self.choices.counts);
        }
        if let Some(counts) = &self.counts {
            reading.counts.update(counts);
        }
        keep_reason(self.said(Member::StopReason), &mut usage.finish_reason);
        keep_reason(self.said(Member::DeltaStopReason), &mut usage.finish_reason);
        if self.said(Member::Object).is_some_and(|object| object.is("response")) {
            keep_reason(self.ended_as(), &mut usage.finish_reason);
        }

        let kind = self.said(Member::Type);
        let starts = kind.is_some_and(|kind| kind.is("message_start"));
        if let Some(nested) = if starts { self.message } else { self.response } {
            let mut answer = Answer::new(nested, Place::Outermost, Member::Answer);
            if Scanner::new(nested).walk(&mut answer).is_ok() && answer.sound {
                // An event has one answer in it, and that has none.
                (answer.message, answer.response) = (None, None);
                answer.read_into(reading);
            }
        }
        let ends = ["message_stop", "response.completed", "response.incomplete", "response.failed"];
        reading.usage.complete |= kind.is_some_and(|kind| ends.iter().any(|end| kind.is(end)));
    }

    /// Of the responses API: `completed`, `failed`, `cancelled`, or why it is incomplete.
    fn ended_as(&self) -> Option<Text<'a>> {
        let runs = |status: &Text<'_>| status.is("in_progress") || status.is("queued");
        let incomplete = self.said(Member::Reason).filter(|reason| is_text(*reason));
        incomplete.or_else(|| self.said(Member::Status).filter(|status| !runs(status)))
    }
}

/// Notes what is read, and where the walk is. What is not read is only counted.
impl<'a> Visit<'a> for Answer<'a> {
    #[inline(always)]
    fn name(&mut self, name: &[u8]) {
        if self.elsewhere > 0 {
            return;
        }
        self.next = self.place.member(name);
        if self.next != Member::Other {
            if self.met & self.next.bit() != 0 {
                self.twice |= 1 << (self.place as u32);
            }
            self.met |= self.next.bit();
        }
    }

    #[inline(always)]
    fn text(&mut self, text: Text<'a>) {
        if let Some(place) = self.texts.get_mut(self.next as usize) {
            *place = Some(text);
        }
        self.choices.flawed |= self.next == Member::Choice;
    }

    #[inline(always)]
    fn number(&mut self, number: &'a [u8]) {
        if (Member::TEXTS..Member::TEXTS + Member::COUNTS).contains(&(self.next as usize)) {
            self.written.note(self.next, number);
        }
        self.choices.flawed |= self.next == Member::Choice;
    }

    #[inline(always)]
    fn literal(&mut self) {
        self.choices.flawed |= self.next == Member::Choice;
    }

    #[inline(always)]
    fn open(&mut self, object: bool, at: usize) {
        if self.next == Member::Other {
            self.elsewhere += 1;
        } else {
            self.enter(object, at);
        }
    }

    #[inline(always)]
    fn close(&mut self, at: usize) {
        if self.elsewhere > 1 || self.elsewhere == 1 && self.passed == Member::Other {
            self.elsewhere -= 1;
        } else {
            self.leave(at);
        }
    }
}

impl<'a> Answer<'a> {
    /// An object or array begins that is the value of `next`.
    #[inline(never)]
    fn enter(&mut self, object: bool, at: usize) {
        let member = std::mem::replace(&mut self.next, Member::Other);
        let Some(place) = Place::of(member, object) else {
            // Also what is nested in an event: it is read when its kind is known.
            self.choices.flawed |= member == Member::Choice;
            (self.passed, self.passed_from) = (member, at);
            self.elsewhere = 1;
            return;
        };
        self.place = place;
        self.twice &= !(1 << (place as u32));
        let forget = |members: &[Member]| !members.iter().fold(0, |bits, m| bits | m.bit());
        match place {
            Place::Choices => self.next = Member::Choice,
            Place::Choice => {
                self.met &= forget(&[Member::FinishReason, Member::ChoiceUsage]);
                self.texts[Member::FinishReason as usize] = None;
            }
            Place::Usage | Place::ChoiceUsage => {
                self.met &= forget(&[
                    Member::PromptTokens,
                    Member::CompletionTokens,
                    Member::InputTokens,
                    Member::OutputTokens,
                    Member::CacheReadInputTokens,
                    Member::CacheCreationInputTokens,
                    Member::PromptTokensDetails,
                    Member::CompletionTokensDetails,
                    Member::InputTokensDetails,
                    Member::OutputTokensDetails,
                ]);
                self.written = Written::default();
                self.usage = place;
            }
            Place::Details => {
                self.met &= forget(&[Member::CachedTokens, Member::ReasoningTokens]);
                self.details = member;
                self.written.begin_details();
            }
            Place::Outermost | Place::Answer | Place::Delta | Place::IncompleteDetails => {}
        }
    }

    /// An object or array of [`Self::enter`] is over.
    #[inline(never)]
    fn leave(&mut self, at: usize) {
        if self.elsewhere == 1 {
            self.elsewhere = 0;
            let passed = self.document.get(self.passed_from..at);
            if self.passed == Member::Message {
                self.message = passed;
            } else if self.passed == Member::Response {
                self.response = passed;
            } else if self.passed == Member::Choice {
                self.next = Member::Choice;
            }
            self.passed = Member::Other;
            return;
        }
        let twice = self.twice >> (self.place as u32) & 1 == 1;
        self.next = Member::Other;
        self.place = match self.place {
            Place::Outermost | Place::Answer => {
                self.sound = !twice;
                Place::Outermost
            }
            Place::Choices => Place::Answer,
            Place::Choice => {
                self.choices.flawed |= twice;
                let reason = self.said(Member::FinishReason);
                if reason.is_some_and(is_text) {
                    self.choices.finish_reason = reason;
                }
                self.next = Member::Choice;
                Place::Choices
            }
            Place::Usage => {
                self.counts = (!twice).then(|| self.written.counts());
                Place::Answer
            }
            Place::ChoiceUsage => {
                if !twice {
                    self.choices.counts.update(&self.written.counts());
                }
                Place::Choice
            }
            Place::Details => {
                if !twice {
                    self.written.end_details(self.details);
                }
                self.usage
            }
            Place::Delta => {
                if twice {
                    self.texts[Member::DeltaStopReason as usize] = None;
                }
                Place::Answer
            }
            Place::IncompleteDetails => {
                if twice {
                    self.texts[Member::Reason as usize] = None;
                }
                Place::Answer
            }
        };
    }
}

/// A text that is not empty, cut at [`MAX_WORD`] bytes.
fn short(text: Text<'_>) -> Option<Cow<'_, str>> {
    let text = text.str().ok().filter(|text| !text.is_empty())?;
    Some(if text.len() > MAX_WORD { cut(&text).into() } else { text })
}

#[cold]
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_WORD)].to_owned()
}

/// Whether [`short`] gives anything. Nearly all words are ASCII, which is told at a glance.
fn is_text(text: Text<'_>) -> bool {
    let plain = !text.escaped && !text.written.is_empty() && text.written.is_ascii();
    plain || short(text).is_some()
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
    let Some(text) = text else { return };
    let common = match text.written.len() {
        4 if text.is("stop") => "stop",
        6 if text.is("length") => "length",
        8 if text.is("end_turn") => "end_turn",
        8 if text.is("tool_use") => "tool_use",
        9 if text.is("completed") => "completed",
        10 if text.is("tool_calls") => "tool_calls",
        10 if text.is("max_tokens") => "max_tokens",
        _ => {
            if let Some(reason) = short(text) {
                *known = Some(Cow::Owned(reason.into_owned()));
            }
            return;
        }
    };
    *known = Some(Cow::Borrowed(common));
}
