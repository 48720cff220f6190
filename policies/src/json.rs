//! JSON, read where it lies: token by token, without building or copying anything.
//!
//! The grammar is that of RFC 8259, without exception. What a string says is looked into only for
//! those who ask: `json/token.rs` finds its end, `json/text.rs` unescapes it. That its bytes are UTF-8 and its
//! `\u` escapes whole characters is therefore checked of strings that somebody reads, and of no
//! others.
//!
//! Nothing here recurses, so that no document, however deep, can exhaust the stack.

mod text;
mod token;

pub(crate) use text::{Text, Unreadable};
use token::Broken;
pub(crate) use token::plain;

/// How many objects and arrays may be open at once in a value that [`Scanner::walk`] goes through.
pub(crate) const MAX_WALKED: usize = 128;

/// Why a document is not JSON. The [`Scanner`] stands where that shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flaw(pub(crate) &'static str);

const NO_NAME: Flaw = Flaw("expected the name of a member");
const NO_COLON: Flaw = Flaw("expected a colon");
const TOO_DEEP: Flaw = Flaw("too many objects and arrays in one another");

/// Who is shown a value, part by part, in reading order. What was shown of a document that turns
/// out to be flawed later on was shown all the same.
pub(crate) trait Visit<'a> {
    /// The name of the member whose value is shown next, without escapes.
    fn name(&mut self, name: &[u8]);
    /// A string.
    fn text(&mut self, text: Text<'a>);
    /// A number, as it is written.
    fn number(&mut self, number: &'a [u8]);
    /// `true`, `false` or `null`.
    fn literal(&mut self);
    /// An object or array begins at this byte of the document.
    fn open(&mut self, object: bool, at: usize);
    /// It ended before this byte.
    fn close(&mut self, at: usize);
}

/// A place in a document.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    /// The next byte.
    at: usize,
}

impl<'a> Scanner<'a> {
    /// At the beginning of the document.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The place of the next byte, counted from 0.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The next byte that is not white space; stays before it. `None` at the end.
    #[inline]
    pub(crate) fn token(&mut self) -> Option<u8> {
        self.at = token::space(self.bytes, self.at);
        self.bytes.get(self.at).copied()
    }

    /// Steps over the token if it is this one; whether it is.
    #[inline]
    fn eat(&mut self, token: u8) -> bool {
        let found = self.token() == Some(token);
        self.at += usize::from(found);
        found
    }

    /// Goes to where a token ends, or shows a flaw.
    #[inline]
    fn pass(&mut self, end: Result<usize, Broken>) -> Result<&'a [u8], Flaw> {
        let start = self.at;
        match end {
            Ok(end) => {
                self.at = end;
                Ok(&self.bytes[start..end])
            }
            Err(Broken { at, flaw }) => {
                self.at = at;
                Err(flaw)
            }
        }
    }

    /// Scans the string that begins here. Escapes are checked for their form only.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Text<'a>, Flaw> {
        self.at += 1;
        let plain = token::plain(self.bytes, self.at);
        let escaped = self.bytes.get(plain) != Some(&b'"');
        let written =
            self.pass(if escaped { token::string(self.bytes, plain) } else { Ok(plain) })?;
        self.at += 1;
        Ok(Text { written, escaped })
    }

    /// Scans the number that begins here, and gives it as it is written.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<&'a [u8], Flaw> {
        self.pass(token::number(self.bytes, self.at))
    }

    /// Steps over `true`, `false` or `null`, which has to be here.
    #[inline]
    pub(crate) fn literal(&mut self, word: &[u8]) -> Result<(), Flaw> {
        self.pass(token::literal(self.bytes, self.at, word)).map(drop)
    }

    /// Steps over the colon between a name and its value.
    #[inline]
    pub(crate) fn colon(&mut self) -> Result<(), Flaw> {
        if self.eat(b':') { Ok(()) } else { Err(NO_COLON) }
    }

    /// Opens the object or array that begins here; whether there is anything in it. If not, it is
    /// closed already.
    #[inline]
    pub(crate) fn opens(&mut self, object: bool) -> bool {
        self.at += 1;
        !self.eat(if object { b'}' } else { b']' })
    }

    /// After a value in an object or array: whether there is another, to whose beginning it goes;
    /// if not, it steps over the end.
    #[inline]
    pub(crate) fn goes_on(&mut self, object: bool) -> Result<bool, Flaw> {
        if self.eat(b',') {
            return Ok(true);
        }
        if self.eat(if object { b'}' } else { b']' }) {
            return Ok(false);
        }
        Err(no_end(self.bytes, self.at, object))
    }

    /// The next value, if it is a string. Any other is left where it is.
    pub(crate) fn text(&mut self) -> Result<Option<Text<'a>>, Flaw> {
        if self.token() == Some(b'"') { self.string().map(Some) } else { Ok(None) }
    }

    /// Sees to it that nothing but white space follows.
    pub(crate) fn end(&mut self) -> Result<(), Flaw> {
        match self.token() {
            None => Ok(()),
            Some(_) => Err(Flaw("more follows after the end of the document")),
        }
    }

    /// Goes through the value that comes next, white space before it included, and shows it to
    /// `visitor`.
    ///
    /// A value that nests deeper than [`MAX_WALKED`] is a flaw.
    #[inline(always)]
    pub(crate) fn walk(&mut self, visitor: &mut impl Visit<'a>) -> Result<(), Flaw> {
        let end = walk(self.bytes, self.at, visitor);
        self.pass(end).map(drop)
    }
}

fn no_end(bytes: &[u8], at: usize, object: bool) -> Flaw {
    Flaw(match bytes.get(at) {
        None => "the body ends inside an object or array",
        Some(_) if object => "expected a comma or a closing brace",
        Some(_) => "expected a comma or a closing bracket",
    })
}

/// What [`Scanner::walk`] does. The place is a local that no call borrows, so that it stays in a
/// register: this loop is where the time goes.
#[inline(always)]
fn walk<'a>(bytes: &'a [u8], start: usize, visitor: &mut impl Visit<'a>) -> Result<usize, Broken> {
    let mut at = start;
    let mut depth = 0_usize;
    // The innermost of what is open is an object; by depth: so was what is around it.
    let mut object = false;
    let mut objects = [false; MAX_WALKED];
    loop {
        if object {
            at = token::space(bytes, at);
            if bytes.get(at) != Some(&b'"') {
                return Err(Broken { at, flaw: NO_NAME });
            }
            let name = at + 1;
            at = token::plain(bytes, name);
            if bytes.get(at) == Some(&b'"') {
                visitor.name(&bytes[name..at]);
            } else {
                at = token::string(bytes, at)?;
                show_name(&bytes[name..at], visitor);
            }
            at = token::space(bytes, at + 1);
            if bytes.get(at) != Some(&b':') {
                return Err(Broken { at, flaw: NO_COLON });
            }
            at += 1;
        }

        at = token::space(bytes, at);
        let first = bytes.get(at).copied().unwrap_or(0);
        if first == b'"' {
            let text = at + 1;
            at = token::plain(bytes, text);
            let escaped = bytes.get(at) != Some(&b'"');
            if escaped {
                at = token::string(bytes, at)?;
            }
            visitor.text(Text { written: &bytes[text..at], escaped });
            at += 1;
        } else if matches!(first, b'{' | b'[') {
            let Some(around) = objects.get_mut(depth) else {
                return Err(Broken { at, flaw: TOO_DEEP });
            };
            *around = object;
            depth += 1;
            object = first == b'{';
            visitor.open(object, at);
            at = token::space(bytes, at + 1);
            if bytes.get(at) != Some(if object { &b'}' } else { &b']' }) {
                continue;
            }
            at += 1;
            depth -= 1;
            object = objects[depth];
            visitor.close(at);
        } else if matches!(first, b'-' | b'0'..=b'9') {
            let number = at;
            at = token::number(bytes, at)?;
            visitor.number(&bytes[number..at]);
        } else {
            at = token::word(bytes, at)?;
            visitor.literal();
        }

        // The value is over, and with it perhaps those around it.
        loop {
            if depth == 0 {
                return Ok(at);
            }
            at = token::space(bytes, at);
            let next = bytes.get(at).copied().unwrap_or(0);
            if next == b',' {
                at += 1;
                break;
            }
            if next != if object { b'}' } else { b']' } {
                return Err(Broken { at, flaw: no_end(bytes, at, object) });
            }
            at += 1;
            depth -= 1;
            object = objects[depth];
            visitor.close(at);
        }
    }
}

/// Shows a name in which something is escaped.
#[inline(never)]
fn show_name<'a>(written: &'a [u8], visitor: &mut impl Visit<'a>) {
    // A name that is no text is none that anybody asks for.
    visitor.name(&Text { written, escaped: true }.bytes().unwrap_or_default());
}

#[cfg(test)]
mod tests;
