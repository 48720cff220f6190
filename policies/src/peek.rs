//! A look into a JSON request body: the model, the stream flag, and what configured pointers name.
//!
//! One pass validates the whole body (strict RFC 8259, at most [`MAX_DEPTH`] deep) and notes where
//! the inspected values stand. Nothing is built and the body is not changed; what is found borrows
//! from it. [`rewrite_model`] replaces exactly one value and no other byte.
//!
//! What we read and what the backend reads must be the same thing, or a client could show one
//! model to the policy and another to the backend. Hence members are matched case-sensitively
//! after unescaping the key, and a second occurrence of an inspected member is a fault: parsers
//! disagree about which one counts.

use std::borrow::Cow;
use std::ops::Range;

/// How many objects and arrays may be open at once.
pub const MAX_DEPTH: usize = 64;

/// What was found in a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek<'a> {
    /// The top-level member `model`.
    pub model: Option<Member<'a>>,
    /// The top-level member `stream`; `None` also when it is not a boolean.
    pub stream: Option<bool>,
    /// One for each pointer, in their order: a string as it is, a number or boolean as its JSON
    /// text, `None` for anything else.
    pub found: Vec<Option<Cow<'a, str>>>,
}

/// A string and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Unescaped.
    pub value: Cow<'a, str>,
    /// The bytes of the value in the body, quotes included.
    pub span: Range<usize>,
}

/// Why a body cannot be looked into. All of them are the client's (400).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeekFault {
    /// Not JSON, or an inspected string that is not Unicode.
    #[error("the body is not valid JSON at byte {offset}: {reason}")]
    Invalid {
        /// The byte, counted from 0.
        offset: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// Begins like a JSON value, but not like an object. The rest was not looked at.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// More than [`MAX_DEPTH`] objects and arrays in one another.
    #[error("the body nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// An inspected member that occurs twice in its object.
    #[error("the body has the member \"{member}\" twice")]
    Duplicate {
        /// Its name: one of ours or of a pointer, never text of the client's.
        member: String,
    },
    /// An inspected member that has to be a string and is not.
    #[error("the member \"{member}\" of the body is not a string")]
    NotAString {
        /// Its name.
        member: &'static str,
    },
}

/// Looks into a body.
///
/// * `pointers`: JSON Pointers (RFC 6901) such as `/metadata/user_id`; a segment that is a number
///   also selects the element of an array. Text that is not a pointer finds nothing.
///
/// # Errors
///
/// The first [`PeekFault`] in reading order; invalid UTF-8 comes before all others.
pub fn peek<'a>(body: &'a [u8], pointers: &[&str]) -> Result<Peek<'a>, PeekFault> {
    let text = std::str::from_utf8(body)
        .map_err(|error| PeekFault::Invalid { offset: error.valid_up_to(), reason: "not UTF-8" })?;
    let mut walk = Walk::new(text, pointers);
    walk.document()?;
    Ok(Peek {
        model: walk.model,
        stream: walk.stream,
        found: walk.targets.into_iter().map(|target| target.found).collect(),
    })
}

/// The body with the value at `span` replaced by the JSON string `new`; all other bytes stay.
///
/// * `span`: the [`Member::span`] of the same body. A span outside the body replaces nothing and
///   gives the body back.
pub fn rewrite_model(body: &[u8], span: Range<usize>, new: &str) -> Vec<u8> {
    if span.start > span.end || span.end > body.len() {
        return body.to_vec();
    }
    let mut rewritten = Vec::with_capacity(body.len() - span.len() + new.len() + 2);
    rewritten.extend_from_slice(&body[..span.start]);
    write_string(&mut rewritten, new);
    rewritten.extend_from_slice(&body[span.end..]);
    rewritten
}

fn write_string(json: &mut Vec<u8>, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    json.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => json.extend_from_slice(&[b'\\', byte]),
            0x00..0x20 => {
                json.extend_from_slice(b"\\u00");
                json.push(DIGITS[usize::from(byte >> 4)]);
                json.push(DIGITS[usize::from(byte & 0x0f)]);
            }
            _ => json.push(byte),
        }
    }
    json.push(b'"');
}

/// One pointer, and how far along it the walk is.
#[derive(Debug)]
struct Target<'p, 'a> {
    /// Without the leading slash; segments still escaped.
    path: Option<&'p str>,
    segments: usize,
    /// So many segments name the objects and arrays around the place of the walk, or the member
    /// whose value is next.
    matched: usize,
    /// Bit `n`: segment `n` was met. Never cleared: around it there is only one such object, or
    /// its own name would have been met twice.
    seen: u64,
    found: Option<Cow<'a, str>>,
}

/// A top-level member with a meaning of its own, whose value is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Nothing,
    Model,
    Stream,
}

/// A value without parts.
#[derive(Clone, Copy, Debug)]
enum Scalar {
    Text(Raw),
    Number,
    Boolean(bool),
    Null,
}

/// A string that was scanned but not unescaped: what stands between the quotes.
#[derive(Clone, Copy, Debug)]
struct Raw {
    start: usize,
    end: usize,
    escaped: bool,
}

#[derive(Debug)]
struct Walk<'a, 'p> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// How many objects and arrays are open.
    depth: usize,
    /// Bit `n`: what was opened at depth `n + 1` is an object.
    objects: u64,
    /// By depth - 1: the index of the element of an open array.
    index: [usize; MAX_DEPTH],
    awaited: Awaited,
    seen_model: bool,
    seen_stream: bool,
    model: Option<Member<'a>>,
    stream: Option<bool>,
    targets: Vec<Target<'p, 'a>>,
    /// The largest `matched`. Members that stand deeper than one below it concern no pointer.
    reach: usize,
}

impl<'a, 'p> Walk<'a, 'p> {
    fn new(text: &'a str, pointers: &[&'p str]) -> Self {
        let targets = pointers
            .iter()
            .map(|pointer| {
                let path = pointer.strip_prefix('/');
                let segments = path.map_or(0, |path| path.split('/').count());
                Target { path, segments, matched: 0, seen: 0, found: None }
            })
            .collect();
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            depth: 0,
            objects: 0,
            index: [0; MAX_DEPTH],
            awaited: Awaited::Nothing,
            seen_model: false,
            seen_stream: false,
            model: None,
            stream: None,
            targets,
            reach: 0,
        }
    }

    fn document(&mut self) -> Result<(), PeekFault> {
        match self.next_token() {
            Some(b'{') => {}
            Some(b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                return Err(PeekFault::NotAnObject);
            }
            Some(_) => return self.invalid("no JSON value begins like this"),
            None => return self.invalid("there is no JSON value"),
        }
        // Each round reads one value, or opens an object or array and comes round for its first.
        loop {
            if self.value()? && self.close_and_advance()? {
                break;
            }
        }
        match self.next_token() {
            None => Ok(()),
            Some(_) => self.invalid("more follows after the end of the object"),
        }
    }

    /// Reads a value, or the beginning of one; whether it is complete.
    fn value(&mut self) -> Result<bool, PeekFault> {
        let Some(first) = self.next_token() else {
            return self.invalid("a value is missing");
        };
        let start = self.at;
        let scalar = match first {
            b'{' => return self.open(true),
            b'[' => return self.open(false),
            b'"' => Scalar::Text(self.string()?),
            b'-' | b'0'..=b'9' => {
                self.number()?;
                Scalar::Number
            }
            b't' => {
                self.literal("true")?;
                Scalar::Boolean(true)
            }
            b'f' => {
                self.literal("false")?;
                Scalar::Boolean(false)
            }
            b'n' => {
                self.literal("null")?;
                Scalar::Null
            }
            _ => return self.invalid("no JSON value begins like this"),
        };
        self.note(start, scalar)?;
        Ok(true)
    }

    /// Opens an object or array and goes to its first value; whether it has none.
    fn open(&mut self, object: bool) -> Result<bool, PeekFault> {
        self.answer_awaited(self.at, None)?;
        if self.depth == MAX_DEPTH {
            return Err(PeekFault::TooDeep);
        }
        self.at += 1;
        let bit = 1 << self.depth;
        self.objects = if object { self.objects | bit } else { self.objects & !bit };
        self.index[self.depth] = 0;
        self.depth += 1;

        let end = if object { b'}' } else { b']' };
        if self.next_token() == Some(end) {
            self.at += 1;
            self.depth -= 1;
            return Ok(true);
        }
        self.enter()?;
        Ok(false)
    }

    /// After a value: closes what ends here and goes to the next value; whether there is none.
    fn close_and_advance(&mut self) -> Result<bool, PeekFault> {
        loop {
            self.leave();
            let Some(top) = self.depth.checked_sub(1) else {
                return Ok(true);
            };
            let object = self.objects >> top & 1 == 1;
            match self.next_token() {
                Some(b',') => {
                    self.at += 1;
                    self.index[top] += 1;
                    self.enter()?;
                    return Ok(false);
                }
                Some(b'}') if object => {}
                Some(b']') if !object => {}
                Some(_) if object => return self.invalid("expected a comma or a closing brace"),
                Some(_) => return self.invalid("expected a comma or a closing bracket"),
                None => return self.invalid("the body ends inside an object or array"),
            }
            self.at += 1;
            self.depth -= 1;
        }
    }

    /// Before a value: reads its key, if it is a member, and sees who waits for it.
    fn enter(&mut self) -> Result<(), PeekFault> {
        let top = self.depth - 1;
        if self.objects >> top & 1 == 0 {
            if self.concerns_pointers() {
                let index = self.index[top];
                self.advance_targets(|segment| is_index(segment, index))?;
            }
            return Ok(());
        }

        if self.next_token() != Some(b'"') {
            return self.invalid("expected the name of a member");
        }
        let raw = self.string()?;
        if self.depth == 1 || self.concerns_pointers() {
            let key = self.unescape(raw)?;
            if self.depth == 1 {
                self.awaited = match &*key {
                    "model" => {
                        Self::mark(&mut self.seen_model, "model")?;
                        Awaited::Model
                    }
                    "stream" => {
                        Self::mark(&mut self.seen_stream, "stream")?;
                        Awaited::Stream
                    }
                    _ => Awaited::Nothing,
                };
            }
            if self.concerns_pointers() {
                self.advance_targets(|segment| is_key(segment, &key))?;
            }
        }
        if self.next_token() != Some(b':') {
            return self.invalid("expected a colon");
        }
        self.at += 1;
        Ok(())
    }

    fn mark(seen: &mut bool, member: &str) -> Result<(), PeekFault> {
        if std::mem::replace(seen, true) {
            return Err(PeekFault::Duplicate { member: member.to_owned() });
        }
        Ok(())
    }

    fn concerns_pointers(&self) -> bool {
        !self.targets.is_empty() && self.depth <= self.reach + 1
    }

    /// Moves each pointer along whose next segment is the member or element that comes now.
    fn advance_targets(&mut self, comes: impl Fn(&str) -> bool) -> Result<(), PeekFault> {
        for target in &mut self.targets {
            // Exactly the objects around us are matched, and none that was left.
            if target.matched + 1 != self.depth {
                continue;
            }
            let segment = target.path.and_then(|path| path.split('/').nth(target.matched));
            let Some(segment) = segment.filter(|segment| comes(segment)) else {
                continue;
            };
            if target.seen >> target.matched & 1 == 1 {
                return Err(PeekFault::Duplicate { member: unescape_segment(segment).into() });
            }
            target.seen |= 1 << target.matched;
            target.matched += 1;
            self.reach = self.reach.max(target.matched);
        }
        Ok(())
    }

    /// After a value: pointers that led into it lead on from where it stands.
    fn leave(&mut self) {
        if self.depth == 0 || self.reach < self.depth {
            return;
        }
        self.reach = 0;
        for target in &mut self.targets {
            target.matched = target.matched.min(self.depth - 1);
            self.reach = self.reach.max(target.matched);
        }
    }

    /// Gives a scalar to those who wait for it.
    fn note(&mut self, start: usize, scalar: Scalar) -> Result<(), PeekFault> {
        self.answer_awaited(start, Some(scalar))?;
        if self.reach < self.depth {
            return Ok(());
        }
        let wanted =
            |target: &Target<'_, '_>, depth| target.matched == depth && target.segments == depth;
        if !self.targets.iter().any(|target| wanted(target, self.depth)) {
            return Ok(());
        }
        let value = match scalar {
            Scalar::Text(raw) => Some(self.unescape(raw)?),
            Scalar::Number | Scalar::Boolean(_) => Some(Cow::Borrowed(&self.text[start..self.at])),
            Scalar::Null => None,
        };
        for target in &mut self.targets {
            if wanted(target, self.depth) {
                target.found.clone_from(&value);
            }
        }
        Ok(())
    }

    /// `scalar`: `None` for an object or array.
    fn answer_awaited(&mut self, start: usize, scalar: Option<Scalar>) -> Result<(), PeekFault> {
        match std::mem::replace(&mut self.awaited, Awaited::Nothing) {
            Awaited::Nothing => {}
            Awaited::Model => {
                let Some(Scalar::Text(raw)) = scalar else {
                    return Err(PeekFault::NotAString { member: "model" });
                };
                self.model = Some(Member { value: self.unescape(raw)?, span: start..self.at });
            }
            Awaited::Stream => {
                if let Some(Scalar::Boolean(stream)) = scalar {
                    self.stream = Some(stream);
                }
            }
        }
        Ok(())
    }

    /// The next byte that is not white space. Stays before it.
    fn next_token(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Scans the string that begins here. Escapes are checked for their form only.
    fn string(&mut self) -> Result<Raw, PeekFault> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = &self.bytes[self.at..];
            let Some(plain) = memchr::memchr2(b'"', b'\\', rest) else {
                self.at = self.bytes.len();
                return self.invalid("the body ends inside a string");
            };
            // Without a branch in it, the compiler makes this a few vector instructions.
            if rest[..plain].iter().fold(false, |found, byte| found | (*byte < 0x20)) {
                self.at += rest.iter().take_while(|byte| **byte >= 0x20).count();
                return self.invalid("a control character inside a string");
            }
            self.at += plain;
            if rest[plain] == b'"' {
                self.at += 1;
                return Ok(Raw { start, end: self.at - 1, escaped });
            }
            escaped = true;
            match self.bytes.get(self.at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
                Some(b'u') if self.hex4(self.at + 2).is_some() => self.at += 6,
                _ => return self.invalid("an unknown escape"),
            }
        }
    }

    fn hex4(&self, at: usize) -> Option<u32> {
        let digits = self.bytes.get(at..at + 4)?;
        digits.iter().try_fold(0, |value, digit| {
            let digit = char::from(*digit).to_digit(16)?;
            Some(value << 4 | digit)
        })
    }

    /// The text of a scanned string; borrowed unless something in it is escaped.
    fn unescape(&self, raw: Raw) -> Result<Cow<'a, str>, PeekFault> {
        let written = &self.text[raw.start..raw.end];
        if !raw.escaped {
            return Ok(Cow::Borrowed(written));
        }
        let mut text = String::with_capacity(written.len());
        let mut at = raw.start;
        while at < raw.end {
            let rest = &self.text[at..raw.end];
            let plain = memchr::memchr(b'\\', rest.as_bytes()).unwrap_or(rest.len());
            text.push_str(&rest[..plain]);
            at += plain;
            // `string` saw to it that each backslash begins a whole escape.
            let Some(kind) = rest.as_bytes().get(plain + 1) else {
                break;
            };
            if *kind == b'u' {
                let (char, len) = self
                    .unescape_unicode(at)
                    .ok_or(PeekFault::Invalid { offset: at, reason: "half of a surrogate pair" })?;
                text.push(char);
                at += len;
                continue;
            }
            text.push(match kind {
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                other => char::from(*other),
            });
            at += 2;
        }
        Ok(Cow::Owned(text))
    }

    /// The character of the `\u` escape, or pair of them, at `at`, and its length in the body.
    fn unescape_unicode(&self, at: usize) -> Option<(char, usize)> {
        let first = self.hex4(at + 2)?;
        if !(0xd800..0xdc00).contains(&first) {
            return Some((char::from_u32(first)?, 6));
        }
        let second = match self.bytes.get(at + 6..at + 8) {
            Some(b"\\u") => self.hex4(at + 8)?,
            _ => return None,
        };
        if !(0xdc00..0xe000).contains(&second) {
            return None;
        }
        Some((char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))?, 12))
    }

    fn number(&mut self) -> Result<(), PeekFault> {
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        // A digit after a leading zero is met, and refused, as what follows the value.
        Ok(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), PeekFault> {
        let count = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { self.invalid("expected a digit") } else { Ok(()) }
    }

    fn literal(&mut self, word: &str) -> Result<(), PeekFault> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return self.invalid("no JSON value begins like this");
        }
        self.at += word.len();
        Ok(())
    }

    fn invalid<T>(&self, reason: &'static str) -> Result<T, PeekFault> {
        Err(PeekFault::Invalid { offset: self.at, reason })
    }
}

/// A segment of a pointer without its escapes: `~1` for a slash, `~0` for a tilde.
fn unescape_segment(segment: &str) -> Cow<'_, str> {
    if segment.contains('~') {
        Cow::Owned(segment.replace("~1", "/").replace("~0", "~"))
    } else {
        Cow::Borrowed(segment)
    }
}

fn is_key(segment: &str, key: &str) -> bool {
    unescape_segment(segment) == key
}

/// Whether the segment is this number, written without leading zeros.
fn is_index(segment: &str, index: usize) -> bool {
    let canonical = segment == "0" || segment.starts_with(|first| matches!(first, '1'..='9'));
    canonical && segment.parse() == Ok(index)
}

#[cfg(test)]
mod tests;
