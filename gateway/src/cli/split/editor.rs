//! A split that is edited with keys: what each key does, and what is shown. Touches nothing.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::Timestamp;
use serde_json::Value;

use super::draft::{Draft, Slide, noun, typed};
use crate::cli::{reading, words};

mod draw;

pub(super) use draw::Pen;

/// Longest reason, in bytes, as the API takes it.
const LONGEST: usize = 1_000;

/// One percent, in basis points.
const STEP: i32 = 100;
/// With Shift: a tenth.
const FINE_STEP: i32 = 10;
/// Page up and down.
const WIDE_STEP: i32 = 1_000;

/// What keys are for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    /// Moving shares.
    Shares,
    /// Writing a share, as far as it is written.
    Number(String),
    /// Writing the reason.
    Reason,
    /// Waiting for the gateway.
    Sending,
    /// Somebody else was faster: deciding what to do about it.
    Overtaken(Theirs),
}

/// What somebody else made of it meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Theirs {
    revision: u64,
    /// Nothing if it cannot be edited any more.
    split: Option<Draft>,
    by: String,
    at: Option<Timestamp>,
}

/// What follows from a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Stay,
    /// Make the change.
    Send,
    /// End, with nothing changed.
    Leave,
}

/// An experiment's split in somebody's hands.
#[derive(Clone, Debug)]
pub(super) struct Editor {
    pub(super) draft: Draft,
    /// The revision that it starts from.
    pub(super) revision: u64,
    pub(super) reason: String,
    mode: Mode,
    noun: &'static str,
    /// Requests a second of the experiment.
    load: Option<f64>,
    /// Whether everything is shown: not before the first move.
    is_open: bool,
    /// What was said last, such as that a number is none.
    said: String,
    /// What else whoever changes it should know.
    notes: Vec<String>,
}

impl Editor {
    /// For `experiment` as the API shows it, at `revision`; nothing if there is nothing to move.
    pub(super) fn new(experiment: &Value, revision: u64) -> Option<Self> {
        Some(Self {
            draft: Draft::of(experiment)?,
            revision,
            reason: String::new(),
            mode: Mode::Shares,
            noun: noun(&reading::texts(experiment, "unit")),
            load: load(experiment),
            is_open: false,
            said: String::new(),
            notes: notes(experiment),
        })
    }

    /// Whether there is anything to send.
    pub(super) fn is_changed(&self) -> bool {
        self.draft.is_changed()
    }

    /// Whether the gateway is waited for.
    pub(super) fn is_sending(&self) -> bool {
        self.mode == Mode::Sending
    }

    /// Does what `key` says.
    pub(super) fn key(&mut self, key: KeyEvent) -> Then {
        match &self.mode {
            Mode::Shares => self.shares(key),
            Mode::Number(_) => self.number(key),
            Mode::Reason => self.reason(key),
            Mode::Overtaken(_) => self.overtaken(key),
            // It is on its way, and cannot be called back.
            Mode::Sending => Then::Stay,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other keys do nothing")]
    fn shares(&mut self, key: KeyEvent) -> Then {
        let step = if key.modifiers.contains(KeyModifiers::SHIFT) { FINE_STEP } else { STEP };
        let slide = match key.code {
            KeyCode::Left => Slide::By(-step),
            KeyCode::Right => Slide::By(step),
            KeyCode::Char(',' | '<') => Slide::By(-FINE_STEP),
            KeyCode::Char('.' | '>') => Slide::By(FINE_STEP),
            KeyCode::PageUp => Slide::By(WIDE_STEP),
            KeyCode::PageDown => Slide::By(-WIDE_STEP),
            KeyCode::Home => Slide::Start,
            KeyCode::End => Slide::End,
            other => return self.other(other),
        };
        self.is_open = true;
        self.said.clear();
        let before = self.draft.shares.clone();
        self.draft.slide(slide);
        let (left, right) = (&self.draft.names[self.draft.edge], self.draft.typed_for());
        if self.draft.shares[self.draft.edge..=self.draft.edge + 1] == [0, 0] {
            self.said = format!("{left} and {right} have nothing to give each other");
        } else if self.draft.shares == before {
            self.said = "that edge goes no further".to_owned();
        }
        Then::Stay
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other keys do nothing")]
    fn other(&mut self, code: KeyCode) -> Then {
        match code {
            KeyCode::Esc | KeyCode::Char('q') => return Then::Leave,
            KeyCode::Enter if !self.is_changed() => return Then::Leave,
            KeyCode::Enter => self.mode = Mode::Reason,
            KeyCode::Tab | KeyCode::Down => self.draft.turn(true),
            KeyCode::BackTab | KeyCode::Up => self.draft.turn(false),
            KeyCode::Backspace | KeyCode::Delete => self.draft.shares.clone_from(&self.draft.live),
            KeyCode::Char(digit) if digit.is_ascii_digit() => {
                self.mode = Mode::Number(digit.to_string());
            }
            KeyCode::Char('e') => {}
            _ => return Then::Stay,
        }
        self.is_open = true;
        self.said.clear();
        Then::Stay
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other keys do nothing")]
    fn number(&mut self, key: KeyEvent) -> Then {
        let Mode::Number(text) = &mut self.mode else { return Then::Stay };
        match key.code {
            KeyCode::Char(c) if "0123456789.,%".contains(c) && text.len() < 8 => text.push(c),
            KeyCode::Backspace => {
                text.pop();
                if text.is_empty() {
                    self.mode = Mode::Shares;
                }
            }
            KeyCode::Esc => self.mode = Mode::Shares,
            KeyCode::Enter | KeyCode::Tab => {
                match typed(text) {
                    Some(points) => {
                        self.draft.give(points);
                        self.said.clear();
                        let given = self.draft.shares[self.draft.edge + 1];
                        if given < points {
                            self.said = format!(
                                "{} gets {}: control has no more to give",
                                self.draft.typed_for(),
                                share(given)
                            );
                        }
                    }
                    None => self.said = format!("{text} is no share: write 0 to 100, in percent"),
                }
                self.mode = Mode::Shares;
            }
            _ => {}
        }
        Then::Stay
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other keys do nothing")]
    fn reason(&mut self, key: KeyEvent) -> Then {
        match key.code {
            KeyCode::Esc => return Then::Leave,
            KeyCode::Enter => {
                self.mode = Mode::Sending;
                self.said.clear();
                return Then::Send;
            }
            KeyCode::Up | KeyCode::BackTab => self.mode = Mode::Shares,
            KeyCode::Backspace => {
                self.reason.pop();
            }
            KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                self.reason.clear();
            }
            KeyCode::Char(c) if !key.modifiers.contains(KeyModifiers::CONTROL) => {
                self.paste(&c.to_string());
            }
            _ => {}
        }
        Then::Stay
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other keys do nothing")]
    fn overtaken(&mut self, key: KeyEvent) -> Then {
        let Mode::Overtaken(theirs) = &self.mode else { return Then::Stay };
        let Some(split) = theirs.split.clone() else { return Then::Leave };
        match key.code {
            KeyCode::Esc | KeyCode::Char('q') => return Then::Leave,
            KeyCode::Enter => {
                self.revision = theirs.revision;
                if !self.draft.rebase(&split) {
                    self.draft = split;
                    "the variants are others now: your draft was let go of"
                        .clone_into(&mut self.said);
                }
                self.mode = Mode::Shares;
            }
            KeyCode::Char('t') => {
                self.revision = theirs.revision;
                self.draft = split;
                self.mode = Mode::Shares;
            }
            _ => {}
        }
        Then::Stay
    }

    /// Adds text to the reason, if that is what is written; line ends in it are blanks.
    pub(super) fn paste(&mut self, text: &str) {
        if self.mode != Mode::Reason {
            return;
        }
        for c in text.chars() {
            let c = if c.is_control() { ' ' } else { c };
            if self.reason.len() + c.len_utf8() <= LONGEST {
                self.reason.push(c);
            }
        }
    }

    /// The change was refused, for another reason than that somebody was faster. The draft stays.
    pub(super) fn refused(&mut self, why: String) {
        self.mode = Mode::Shares;
        self.said = why;
    }

    /// The experiment as it is now. If it has another revision and a change is drafted, whoever drafts
    /// it is told; nothing of theirs was applied.
    pub(super) fn look(&mut self, experiment: &Value, revision: u64) {
        self.load = load(experiment);
        self.notes = notes(experiment);
        let known = match &self.mode {
            Mode::Overtaken(theirs) => theirs.revision,
            Mode::Shares | Mode::Number(_) | Mode::Reason | Mode::Sending => self.revision,
        };
        if revision == known && self.mode != Mode::Sending {
            return;
        }
        let split = Draft::of(experiment);
        if let (Some(split), false) = (&split, self.is_changed())
            && self.draft.names == split.names
        {
            // Nothing of theirs is at stake.
            let edge = self.draft.edge;
            self.draft = Draft { edge, ..split.clone() };
            self.revision = revision;
            self.said = format!("revision {revision} is in force now");
            return;
        }
        self.mode = Mode::Overtaken(Theirs {
            revision,
            split,
            by: reading::text(experiment, "changed_by").unwrap_or("somebody").to_owned(),
            at: reading::time(experiment, "changed_at"),
        });
        self.is_open = true;
        self.said.clear();
    }
}

/// A share, from basis points.
fn share(points: u16) -> String {
    words::share(f64::from(points) / 10_000.0)
}

/// Requests a second of all variants.
fn load(experiment: &Value) -> Option<f64> {
    let variants = reading::variants(experiment);
    let rates = variants.iter().map(|(_, of)| reading::number(of, "requests_per_second"));
    rates.sum()
}

fn notes(experiment: &Value) -> Vec<String> {
    let mut notes = Vec::new();
    if reading::text(experiment, "state") == Some("stopped") {
        notes.push("It is stopped: new weights start it again.".to_owned());
    }
    let ramp = experiment.get("ramp").filter(|ramp| ramp.is_object());
    if let Some(state) = ramp.and_then(|ramp| reading::text(ramp, "state"))
        && matches!(state, "running" | "holding" | "paused")
    {
        notes.push("A ramp is under way: it goes on from the new shares.".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests;
