//! One pass over the data of an event that tells whether it is worth parsing, and whether it
//! carries content.
//!
//! Nearly all events of a stream carry a few tokens and nothing else, but name `finish_reason` and
//! `usage` all the same, with null. The scan therefore looks at keys and at how their values
//! begin. It steps over strings as a whole, so that text which looks like JSON does not deceive
//! it; for the rest it does not mind whether the data is JSON.

use crate::json::plain;

/// What an event shows without being parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signs {
    /// It is the last one of an answer of the responses API.
    pub(super) ends: bool,
    /// It has usage, a reason to stop, or a type that changes what is known.
    pub(super) worth_parsing: bool,
    /// It has text, reasoning or arguments that the answer did not have before.
    pub(super) content: bool,
}

/// Scans the data of one event.
pub(super) fn scan(data: &[u8]) -> Signs {
    let mut signs = Signs::default();
    let mut depth = 0_usize;
    // In the responses API the closing events repeat the content; only deltas bring new one.
    let mut repeats = false;
    let mut at = 0;
    while let Some(&byte) = data.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let Some(end) = end_of_string(data, at) else {
                    break;
                };
                let text = &data[at..end];
                at = skip_space(data, end + 1);
                if data.get(at) != Some(&b':') {
                    continue;
                }
                at = skip_space(data, at + 1);
                let value = &data[at..];
                // The length comes first, so that a name is compared with one or two others only.
                match text.len() {
                    5 if text == b"usage" => signs.worth_parsing |= value.starts_with(b"{"),
                    13 if text == b"finish_reason" => {
                        signs.worth_parsing |= value.starts_with(b"\"");
                    }
                    11 if text == b"stop_reason" => {
                        signs.worth_parsing |= value.starts_with(b"\"");
                    }
                    4 if depth == 1 && text == b"type" => {
                        let of_kind =
                            |kind: &[u8]| value.get(1..).is_some_and(|v| v.starts_with(kind));
                        signs.worth_parsing |= of_kind(b"message_st");
                        if of_kind(b"response.") {
                            repeats = !end_of_string(value, 1)
                                .is_some_and(|end| value[..end].ends_with(b".delta"));
                            signs.ends = of_kind(b"response.completed\"")
                                || of_kind(b"response.incomplete\"")
                                || of_kind(b"response.failed\"");
                            signs.worth_parsing |= signs.ends;
                        }
                    }
                    4 if text == b"text" => signs.content |= has_text(value),
                    5 if text == b"delta" => signs.content |= has_text(value),
                    7 if text == b"content" || text == b"refusal" => {
                        signs.content |= has_text(value);
                    }
                    8 if text == b"thinking" => signs.content |= has_text(value),
                    9 if text == b"arguments" || text == b"reasoning" => {
                        signs.content |= has_text(value);
                    }
                    12 if text == b"partial_json" => signs.content |= has_text(value),
                    17 if text == b"reasoning_content" => signs.content |= has_text(value),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    signs.content &= !repeats;
    signs
}

/// The place of the quote that ends the string whose text begins at `at`.
#[inline]
pub(super) fn end_of_string(data: &[u8], at: usize) -> Option<usize> {
    let end = plain(data, at);
    if data.get(end) == Some(&b'"') { Some(end) } else { end_of_escaped(data, end) }
}

#[inline(never)]
fn end_of_escaped(data: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match data.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            // A control character: not JSON, but that is not asked here.
            _ => at += 1,
        }
        at = plain(data, at);
    }
}

/// Whether it begins with a string that is not empty.
fn has_text(value: &[u8]) -> bool {
    value.starts_with(b"\"") && !value.starts_with(b"\"\"")
}

#[inline]
fn skip_space(data: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = data.get(at) {
        at += 1;
    }
    at
}
