//! One way through a whole body, in reading order.

use std::borrow::Cow;

use super::pointers::Pointers;
use super::{MAX_DEPTH, Member, Peek, PeekFault};
use crate::json::{Flaw, Scanner, Text};

/// A place in a body, and what was found before it.
#[derive(Debug)]
pub(super) struct Walk<'a, 'p> {
    text: &'a str,
    json: Scanner<'a>,
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
    pointers: Pointers<'p, 'a>,
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
enum Scalar<'a> {
    Text(Text<'a>),
    Number,
    Boolean(bool),
    Null,
}

impl<'a, 'p> Walk<'a, 'p> {
    pub(super) fn new(text: &'a str, pointers: &[&'p str]) -> Self {
        Self {
            text,
            json: Scanner::new(text.as_bytes()),
            depth: 0,
            objects: 0,
            index: [0; MAX_DEPTH],
            awaited: Awaited::Nothing,
            seen_model: false,
            seen_stream: false,
            model: None,
            stream: None,
            pointers: Pointers::new(pointers),
        }
    }

    /// Goes all the way.
    pub(super) fn document(mut self) -> Result<Peek<'a>, PeekFault> {
        match self.json.token() {
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
        if self.json.token().is_some() {
            return self.invalid("more follows after the end of the object");
        }
        Ok(Peek { model: self.model, stream: self.stream, found: self.pointers.into_found() })
    }

    /// Reads a value, or the beginning of one; whether it is complete.
    fn value(&mut self) -> Result<bool, PeekFault> {
        let Some(first) = self.json.token() else {
            return self.invalid("a value is missing");
        };
        let start = self.json.at();
        let scalar = match first {
            b'{' => return self.open(true),
            b'[' => return self.open(false),
            b'"' => self.json.string().map(Scalar::Text),
            b'-' | b'0'..=b'9' => self.json.number().map(|_| Scalar::Number),
            b't' => self.json.literal(b"true").map(|()| Scalar::Boolean(true)),
            b'f' => self.json.literal(b"false").map(|()| Scalar::Boolean(false)),
            b'n' => self.json.literal(b"null").map(|()| Scalar::Null),
            _ => Err(Flaw("no JSON value begins like this")),
        };
        let scalar = self.sound(scalar)?;
        self.note(start, scalar)?;
        Ok(true)
    }

    /// Opens an object or array and goes to its first value; whether it has none.
    fn open(&mut self, object: bool) -> Result<bool, PeekFault> {
        self.answer_awaited(self.json.at(), None)?;
        if self.depth == MAX_DEPTH {
            return Err(PeekFault::TooDeep);
        }
        if !self.json.opens(object) {
            return Ok(true);
        }
        let bit = 1 << self.depth;
        self.objects = if object { self.objects | bit } else { self.objects & !bit };
        self.index[self.depth] = 0;
        self.depth += 1;
        self.enter()?;
        Ok(false)
    }

    /// After a value: closes what ends here and goes to the next value; whether there is none.
    fn close_and_advance(&mut self) -> Result<bool, PeekFault> {
        loop {
            self.pointers.leave(self.depth);
            let Some(top) = self.depth.checked_sub(1) else {
                return Ok(true);
            };
            let more = self.json.goes_on(self.objects >> top & 1 == 1);
            if self.sound(more)? {
                self.index[top] += 1;
                self.enter()?;
                return Ok(false);
            }
            self.depth = top;
        }
    }

    /// Before a value: reads its name, if it is a member, and sees who waits for it.
    fn enter(&mut self) -> Result<(), PeekFault> {
        let top = self.depth - 1;
        let concerned = self.pointers.concern(self.depth);
        if self.objects >> top & 1 == 0 {
            if concerned {
                self.pointers.enter_element(self.depth, self.index[top])?;
            }
            return Ok(());
        }

        if self.json.token() != Some(b'"') {
            return self.invalid("expected the name of a member");
        }
        let name = self.json.string();
        let name = self.sound(name)?;
        if self.depth == 1 || concerned {
            let name = name.bytes().map_err(|unreadable| self.unreadable(name, unreadable))?;
            if self.depth == 1 {
                self.awaited = match &*name {
                    b"model" => {
                        Self::mark(&mut self.seen_model, "model")?;
                        Awaited::Model
                    }
                    b"stream" => {
                        Self::mark(&mut self.seen_stream, "stream")?;
                        Awaited::Stream
                    }
                    _ => Awaited::Nothing,
                };
            }
            if concerned {
                self.pointers.enter_member(self.depth, &name)?;
            }
        }
        let colon = self.json.colon();
        self.sound(colon)
    }

    fn mark(seen: &mut bool, member: &str) -> Result<(), PeekFault> {
        if std::mem::replace(seen, true) {
            return Err(PeekFault::Duplicate { member: member.to_owned() });
        }
        Ok(())
    }

    /// Gives a scalar to those who wait for it.
    fn note(&mut self, start: usize, scalar: Scalar<'a>) -> Result<(), PeekFault> {
        self.answer_awaited(start, Some(scalar))?;
        if !self.pointers.want(self.depth) {
            return Ok(());
        }
        let value = match scalar {
            Scalar::Text(text) => Some(self.read(text)?),
            Scalar::Number | Scalar::Boolean(_) => {
                Some(Cow::Borrowed(&self.text[start..self.json.at()]))
            }
            Scalar::Null => None,
        };
        self.pointers.find(self.depth, value.as_ref());
        Ok(())
    }

    /// `scalar`: `None` for an object or array.
    fn answer_awaited(
        &mut self,
        start: usize,
        scalar: Option<Scalar<'a>>,
    ) -> Result<(), PeekFault> {
        match std::mem::replace(&mut self.awaited, Awaited::Nothing) {
            Awaited::Nothing => {}
            Awaited::Model => {
                let Some(Scalar::Text(text)) = scalar else {
                    return Err(PeekFault::NotAString { member: "model" });
                };
                self.model = Some(Member { value: self.read(text)?, span: start..self.json.at() });
            }
            Awaited::Stream => {
                if let Some(Scalar::Boolean(stream)) = scalar {
                    self.stream = Some(stream);
                }
            }
        }
        Ok(())
    }

    /// What a string says, right after it was scanned.
    fn read(&self, text: Text<'a>) -> Result<Cow<'a, str>, PeekFault> {
        text.str().map_err(|unreadable| self.unreadable(text, unreadable))
    }

    fn unreadable(&self, text: Text<'_>, unreadable: crate::json::Unreadable) -> PeekFault {
        // We stand behind the closing quote.
        let start = self.json.at() - 1 - text.written.len();
        PeekFault::Invalid { offset: start + unreadable.offset, reason: unreadable.reason }
    }

    fn sound<T>(&self, read: Result<T, Flaw>) -> Result<T, PeekFault> {
        read.or_else(|Flaw(reason)| self.invalid(reason))
    }

    fn invalid<T>(&self, reason: &'static str) -> Result<T, PeekFault> {
        Err(PeekFault::Invalid { offset: self.json.at(), reason })
    }
}
