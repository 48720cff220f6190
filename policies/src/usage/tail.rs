//! Reads an answer whose beginning was too long to be kept, from its last bytes.
//!
//! What names what cannot be told from the beginning, but it can from the end: a whole answer
//! closes, after a member of its top level, nothing but itself. That also keeps apart the answer's
//! own usage and JSON that the model wrote and an API passes on as JSON.

use memchr::memmem;

use super::Reading;
use super::answer::{Answer, keep, keep_reason};
use super::scan::end_of_string;
use crate::json::{Scanner, Text};

/// Reads usage, model and reason to stop; whether there was usage, and the answer therefore whole.
///
/// * `around`: how many objects stand around the answer: one in events of the responses API.
pub(super) fn read(tail: &[u8], around: usize, reading: &mut Reading) -> bool {
    let level = around + 1;
    let usage = last_value(tail, b"\"usage\"", level);
    let Some(counts) = usage.and_then(Answer::read_usage) else {
        return false;
    };
    reading.counts.update(&counts);

    let text = |name, level| -> Option<Text<'_>> {
        Scanner::new(last_value(tail, name, level)?).text().ok()?
    };
    keep(text(b"\"model\"", level), &mut reading.usage.response_model);
    // OpenAI's stands in a choice in the list of choices.
    let reason = text(b"\"finish_reason\"", level + 2).or_else(|| text(b"\"stop_reason\"", level));
    keep_reason(reason, &mut reading.usage.finish_reason);
    true
}

/// The last member of this name that stands `level` objects and arrays deep: its value and all that
/// follows.
///
/// A quote inside a string is escaped, so that a name between bare quotes is never text, except
/// at the end of text, right after an escaped quote; that one is passed over.
fn last_value<'a>(tail: &'a [u8], name: &[u8], level: usize) -> Option<&'a [u8]> {
    memmem::rfind_iter(tail, name)
        .filter(|place| {
            let escapes = tail[..*place].iter().rev().take_while(|byte| **byte == b'\\').count();
            escapes.is_multiple_of(2)
        })
        .filter_map(|place| tail[place + name.len()..].trim_ascii_start().strip_prefix(b":"))
        .find(|rest| closes(rest) == Some(level))
}

/// How many objects and arrays the rest of a document closes that were open before it; `None` if
/// it goes on after the last of them, or ends in a string.
fn closes(rest: &[u8]) -> Option<usize> {
    let mut open = 0_usize;
    let mut closed = 0;
    let mut at = 0;
    while let Some(&byte) = rest.get(at) {
        at += 1;
        match byte {
            b'"' => at = end_of_string(rest, at)? + 1,
            b'{' | b'[' => open += 1,
            b'}' | b']' if open > 0 => open -= 1,
            b'}' | b']' => closed += 1,
            _ => {}
        }
    }
    (open == 0 && rest.trim_ascii_end().ends_with(b"}")).then_some(closed)
}
