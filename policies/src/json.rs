//! JSON, read where it lies: token by token, without building or copying anything.
//!
//! The grammar is that of RFC 8259, without exception. What a string says is looked into only for
//! those who ask: `json/text.rs` finds its end, and unescapes it. That its bytes are UTF-8 and its
//! `\u` escapes whole characters is therefore checked of strings that somebody reads, and of no
//! others.
//!
//! Nothing here recurses, so that no document, however deep, can exhaust the stack.

mod text;

pub(crate) use text::{Text, Unreadable, plain};

/// How many objects and arrays may be open at once in a value that is stepped over.
pub(crate) const MAX_SKIPPED: usize = 128;

/// Why a document is not JSON. The [`Scanner`] stands where that shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flaw(pub(crate) &'static str);

const NO_VALUE: Flaw = Flaw("no JSON value begins like this");

/// A place in a document.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    /// What is to come.
    rest: &'a [u8],
    /// The length of the document.
    len: usize,
}

impl<'a> Scanner<'a> {
    /// At the beginning of the document.
    pub(crate) fn new(document: &'a [u8]) -> Self {
        Self { rest: document, len: document.len() }
    }

    /// The place of the next byte, counted from 0.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    /// The next byte that is not white space; stays before it. `None` at the end.
    #[inline(always)]
    pub(crate) fn token(&mut self) -> Option<u8> {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest.first().copied()
    }

    /// Steps over the token if it is this one; whether it is.
    #[inline(always)]
    fn eat(&mut self, token: u8) -> bool {
        if let (Some(next), [_, rest @ ..]) = (self.token(), self.rest)
            && next == token
        {
            self.rest = rest;
            return true;
        }
        false
    }

    /// Scans the string that begins here. Escapes are checked for their form only.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Result<Text<'a>, Flaw> {
        let [_, text @ ..] = self.rest else { return Err(NO_VALUE) };
        let (written, rest) = text.split_at(plain(text));
        if let [b'"', rest @ ..] = rest {
            self.rest = rest;
            return Ok(Text { written, escaped: false });
        }
        self.string_with_escapes(text, rest)
    }

    /// Scans the string that consists of `text`, up to the `rest` in which it is not plain.
    #[inline(never)]
    fn string_with_escapes(&mut self, text: &'a [u8], rest: &'a [u8]) -> Result<Text<'a>, Flaw> {
        self.rest = rest;
        loop {
            match self.rest {
                [b'"', rest @ ..] => {
                    let written = &text[..text.len() - self.rest.len()];
                    self.rest = rest;
                    return Ok(Text { written, escaped: true });
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => {
                    self.rest = rest;
                }
                [b'\\', b'u', digits @ ..] if text::hex4(digits).is_some() => {
                    self.rest = &digits[4..];
                }
                [b'\\', ..] => return Err(Flaw("an unknown escape")),
                [_, ..] => return Err(Flaw("a control character inside a string")),
                [] => return Err(Flaw("the body ends inside a string")),
            }
            self.rest = &self.rest[plain(self.rest)..];
        }
    }

    /// Scans the number that begins here, and gives it as it is written.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<&'a [u8], Flaw> {
        let number = self.rest;
        if let [b'-', rest @ ..] = self.rest {
            self.rest = rest;
        }
        match self.rest {
            // A digit after a leading zero is met, and refused, as what follows the value.
            [b'0', rest @ ..] => self.rest = rest,
            _ => self.digits()?,
        }
        if let [b'.' | b'e' | b'E', ..] = self.rest {
            self.fraction()?;
        }
        Ok(&number[..number.len() - self.rest.len()])
    }

    /// What follows the whole part of a number.
    #[inline(never)]
    fn fraction(&mut self) -> Result<(), Flaw> {
        if let [b'.', rest @ ..] = self.rest {
            self.rest = rest;
            self.digits()?;
        }
        if let [b'e' | b'E', b'+' | b'-', rest @ ..] | [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = rest;
            self.digits()?;
        }
        Ok(())
    }

    /// One digit or more.
    #[inline(always)]
    fn digits(&mut self) -> Result<(), Flaw> {
        let [b'0'..=b'9', rest @ ..] = self.rest else {
            return Err(Flaw("expected a digit"));
        };
        let mut rest = rest;
        while let [b'0'..=b'9', after @ ..] = rest {
            rest = after;
        }
        self.rest = rest;
        Ok(())
    }

    /// Steps over `true`, `false` or `null`, which has to be here.
    #[inline]
    pub(crate) fn literal(&mut self, word: &[u8]) -> Result<(), Flaw> {
        self.rest = self.rest.strip_prefix(word).ok_or(NO_VALUE)?;
        Ok(())
    }

    /// The name of a member; goes to its value.
    #[inline(always)]
    fn name(&mut self) -> Result<Text<'a>, Flaw> {
        if self.token() != Some(b'"') {
            return Err(Flaw("expected the name of a member"));
        }
        let name = self.string()?;
        self.colon()?;
        Ok(name)
    }

    /// Steps over the colon between a name and its value.
    #[inline(always)]
    pub(crate) fn colon(&mut self) -> Result<(), Flaw> {
        if self.eat(b':') { Ok(()) } else { Err(Flaw("expected a colon")) }
    }

    /// Opens the object or array that begins here; whether there is anything in it. If not, it is
    /// closed already.
    #[inline(always)]
    pub(crate) fn opens(&mut self, object: bool) -> bool {
        self.rest = self.rest.get(1..).unwrap_or_default();
        !self.eat(if object { b'}' } else { b']' })
    }

    /// After a value in an object or array: whether there is another, to whose beginning it goes;
    /// if not, it steps over the end.
    #[inline(always)]
    pub(crate) fn goes_on(&mut self, object: bool) -> Result<bool, Flaw> {
        if self.eat(b',') {
            return Ok(true);
        }
        if self.eat(if object { b'}' } else { b']' }) {
            return Ok(false);
        }
        Err(Flaw(match self.rest {
            [] => "the body ends inside an object or array",
            _ if object => "expected a comma or a closing brace",
            _ => "expected a comma or a closing bracket",
        }))
    }

    /// Steps over the value that comes next, white space before it included.
    ///
    /// A value that nests deeper than [`MAX_SKIPPED`] is a flaw.
    pub(crate) fn skip(&mut self) -> Result<(), Flaw> {
        match self.token() {
            Some(b'{' | b'[') => self.skip_parts(),
            first => self.skip_scalar(first),
        }
    }

    /// Steps over the object or array that begins here.
    #[inline(never)]
    fn skip_parts(&mut self) -> Result<(), Flaw> {
        let mut depth = 0_usize;
        // Bit `n`: what was opened at depth `n + 1` is an object.
        let mut objects = 0_u128;
        loop {
            let first = self.token();
            if let Some(b'{' | b'[') = first {
                let object = first == Some(b'{');
                if self.opens(object) {
                    if depth == MAX_SKIPPED {
                        return Err(Flaw("too many objects and arrays in one another"));
                    }
                    let bit = 1 << depth;
                    objects = if object { objects | bit } else { objects & !bit };
                    depth += 1;
                    if object {
                        self.name()?;
                    }
                    continue;
                }
            } else {
                self.skip_scalar(first)?;
            }

            // The value is over, and with it perhaps those around it.
            loop {
                let Some(top) = depth.checked_sub(1) else {
                    return Ok(());
                };
                let object = objects >> top & 1 == 1;
                if self.goes_on(object)? {
                    if object {
                        self.name()?;
                    }
                    break;
                }
                depth = top;
            }
        }
    }

    /// Steps over a value that is neither object nor array, and begins with `first`.
    #[inline(always)]
    fn skip_scalar(&mut self, first: Option<u8>) -> Result<(), Flaw> {
        match first {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            Some(_) => Err(NO_VALUE),
            None => Err(Flaw("a value is missing")),
        }
    }

    /// Steps over the next value and gives it as it is written.
    pub(crate) fn raw(&mut self) -> Result<&'a [u8], Flaw> {
        let value = self.rest;
        self.skip()?;
        Ok(&value[..value.len() - self.rest.len()])
    }

    /// The next value, if it is a string. Any other is stepped over.
    pub(crate) fn text(&mut self) -> Result<Option<Text<'a>>, Flaw> {
        if self.token() == Some(b'"') {
            return self.string().map(Some);
        }
        self.skip()?;
        Ok(None)
    }

    /// Reads the members of the next value, if it is an object: `member` gets each name, unescaped,
    /// and steps over the value. Any other value is stepped over; whether it was an object.
    #[inline(always)]
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &[u8]) -> Result<(), Flaw>,
    ) -> Result<bool, Flaw> {
        if self.token() != Some(b'{') {
            self.skip()?;
            return Ok(false);
        }
        let mut more = self.opens(true);
        while more {
            let name = self.name()?;
            let unescaped;
            let name = if name.escaped {
                // A name that is no text is none that anybody asks for.
                unescaped = name.bytes().unwrap_or_default();
                &*unescaped
            } else {
                name.written
            };
            member(self, name)?;
            more = self.goes_on(true)?;
        }
        Ok(true)
    }

    /// Reads the elements of the next value, if it is an array: `element` steps over each. Any
    /// other value is stepped over; whether it was an array.
    #[inline(always)]
    pub(crate) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), Flaw>,
    ) -> Result<bool, Flaw> {
        if self.token() != Some(b'[') {
            self.skip()?;
            return Ok(false);
        }
        let mut more = self.opens(false);
        while more {
            element(self)?;
            more = self.goes_on(false)?;
        }
        Ok(true)
    }

    /// Sees to it that nothing but white space follows.
    pub(crate) fn end(&mut self) -> Result<(), Flaw> {
        match self.token() {
            None => Ok(()),
            Some(_) => Err(Flaw("more follows after the end of the document")),
        }
    }
}

#[cfg(test)]
mod tests;
