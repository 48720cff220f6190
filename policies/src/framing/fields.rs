//! Field lines of a head or a trailer section, and what they say about the body.

use super::line::{Line, sharpen};
use super::piece::FieldMark;
use super::{Fault, HeadLimits, octets};

/// Most bytes a Content-Length may have: as many nines still fit into a `u64`.
const LENGTH_DIGITS: usize = 19;

const CRLF: &[u8] = b"\r\n";

/// What the field lines of one message said so far, and how many more are allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    pub(super) content_length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) host: bool,
    pub(super) upgrade: bool,
    /// `Connection` says `close`, `keep-alive`.
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    /// `Expect` says `100-continue`.
    pub(super) expects_continue: bool,
    /// `TE` says `trailers`.
    pub(super) takes_trailers: bool,
    pub(super) http11: bool,
    /// What Host a response has does not matter, nor what else only a client may ask for.
    request: bool,
    trailers: bool,
    first: bool,
    bytes_left: usize,
    fields_left: usize,
}

impl Fields {
    pub(super) fn of_request(limits: &HeadLimits, http11: bool) -> Self {
        Self {
            content_length: None,
            chunked: false,
            host: false,
            upgrade: false,
            close: false,
            keep_alive: false,
            expects_continue: false,
            takes_trailers: false,
            http11,
            request: true,
            trailers: false,
            first: true,
            bytes_left: limits.header_bytes,
            fields_left: limits.header_fields,
        }
    }

    /// * `status_line_bytes`: with its line end.
    pub(super) fn of_response(limits: &HeadLimits, http11: bool, status_line_bytes: usize) -> Self {
        let bytes_left = limits.header_bytes.saturating_sub(status_line_bytes);
        Self { request: false, bytes_left, ..Self::of_request(limits, http11) }
    }

    /// From here on the lines are trailers. They count on from the head.
    pub(super) fn begin_trailers(&mut self) {
        self.trailers = true;
        self.first = true;
    }

    /// Reads as many lines as are there; true once the empty line that closes them has come. Where
    /// each of them stands is added to `marks`.
    pub(super) fn read(
        &mut self,
        line: &mut Line,
        bytes: &[u8],
        mut marks: Option<&mut Vec<FieldMark>>,
    ) -> Result<bool, Fault> {
        loop {
            if line.is_fresh()
                && let Some(length) = self.plain(line.start(), bytes, marks.as_deref_mut())?
            {
                line.pass(length);
                if length == CRLF.len() {
                    return Ok(true);
                }
                self.first = false;
                continue;
            }
            let start = line.start();
            let Some(content) = line.next(bytes, self.bytes_left, Fault::HeadTooLarge)? else {
                return Ok(false);
            };
            if content.is_empty() {
                return Ok(true);
            }
            self.bytes_left = self.bytes_left.saturating_sub(content.len() + CRLF.len());
            self.fields_left = self.fields_left.checked_sub(1).ok_or(Fault::TooManyFields)?;
            match self.field(content) {
                Ok(name) => {
                    if let Some(marks) = &mut marks {
                        marks.push(FieldMark::of(start, content, name));
                    }
                }
                Err(fault) => return Err(sharpen(content, fault)),
            }
            self.first = false;
        }
    }

    /// The line at `start` in one pass, if it is of the ordinary kind: whole, within the limits, without
    /// tabs, and beyond doubt. The bytes it has, its CRLF included; two are the empty line. Whatever else
    /// it may be is for [`Self::read`] to say, which looks at each line more than once.
    #[inline]
    fn plain(
        &mut self,
        start: usize,
        bytes: &[u8],
        marks: Option<&mut Vec<FieldMark>>,
    ) -> Result<Option<usize>, Fault> {
        let rest = bytes.get(start..).unwrap_or_default();
        let colon = octets::token_len(rest);
        if colon == 0 {
            let ends = rest.starts_with(CRLF) && self.bytes_left >= CRLF.len();
            return Ok(ends.then_some(CRLF.len()));
        }
        let (Some(b':'), Some(name), Some(after)) =
            (rest.get(colon), rest.get(..colon), rest.get(colon + 1..))
        else {
            return Ok(None);
        };
        let text = octets::text_len(after);
        let length = colon + 1 + text + CRLF.len();
        let (Some(value), Some(CRLF)) = (after.get(..text), after.get(text..text + CRLF.len()))
        else {
            return Ok(None);
        };
        if length > self.bytes_left || self.fields_left == 0 {
            return Ok(None);
        }
        self.bytes_left -= length;
        self.fields_left -= 1;
        let begin = octets::trim_start(value);
        let value = octets::trim(begin);
        self.known(name, value)?;
        if let Some(marks) = marks {
            let at = start + colon + 1 + text - begin.len();
            marks.push(FieldMark { name: start..start + colon, value: at..at + value.len() });
        }
        Ok(Some(length))
    }

    /// The length of the name.
    fn field(&mut self, line: &[u8]) -> Result<usize, Fault> {
        let (name, rest) = line.split_at(octets::token_len(line));
        let [b':', value @ ..] = rest else { return Err(name_fault(line, rest, self.first)) };
        if name.is_empty() {
            return Err(Fault::EmptyName);
        }
        if !octets::is_text(value) {
            return Err(Fault::ControlByte);
        }
        self.known(name, octets::trim(value))?;
        Ok(name.len())
    }

    /// Takes note of a field that says something about the message or its connection.
    ///
    /// * `value`: without the whitespace around it.
    #[inline]
    fn known(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        match name.len() {
            2 if is(name, b"te") => {
                self.takes_trailers |= self.asks() && says(value, b"trailers");
            }
            4 if is(name, b"host") => self.host()?,
            6 if is(name, b"expect") => {
                self.expects_continue |=
                    self.asks() && self.http11 && value.eq_ignore_ascii_case(b"100-continue");
            }
            7 if is(name, b"upgrade") => {
                // HTTP/1.0 knows no upgrades, and its Upgrade is to be ignored.
                self.upgrade |= self.http11 && !self.trailers;
            }
            10 if is(name, b"connection") && !self.trailers => {
                self.close |= says(value, b"close");
                self.keep_alive |= says(value, b"keep-alive");
            }
            14 if is(name, b"content-length") => self.length(value)?,
            17 if is(name, b"transfer-encoding") => self.encoding(value)?,
            _ => {}
        }
        Ok(())
    }

    /// Whether the lines are the head of a request.
    fn asks(&self) -> bool {
        self.request && !self.trailers
    }

    fn host(&mut self) -> Result<(), Fault> {
        if self.trailers {
            return Err(Fault::FramingTrailer);
        }
        if self.host && self.request {
            return Err(Fault::Host);
        }
        self.host = true;
        Ok(())
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.trailers {
            return Err(Fault::FramingTrailer);
        }
        if self.content_length.is_some() {
            return Err(Fault::ContentLengthRepeated);
        }
        if self.chunked {
            return Err(Fault::LengthAndEncoding);
        }
        if value.is_empty() || value.len() > LENGTH_DIGITS || !value.iter().all(u8::is_ascii_digit)
        {
            return Err(Fault::ContentLength);
        }
        let length = value.iter().fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'));
        self.content_length = Some(length);
        Ok(())
    }

    fn encoding(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.trailers {
            return Err(Fault::FramingTrailer);
        }
        if self.chunked {
            return Err(Fault::TransferEncodingRepeated);
        }
        if self.content_length.is_some() {
            return Err(Fault::LengthAndEncoding);
        }
        if !self.http11 {
            return Err(Fault::EncodingInHttp10);
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Fault::TransferEncoding);
        }
        self.chunked = true;
        Ok(())
    }
}

/// Whether `name` is `lower` in whatever case. Most are written like that.
#[inline]
fn is<const N: usize>(name: &[u8], lower: &[u8; N]) -> bool {
    name == lower || name.eq_ignore_ascii_case(lower)
}

/// Whether the comma list `value` has `word` in it, in whatever case.
fn says(value: &[u8], word: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|member| octets::trim(member).eq_ignore_ascii_case(word))
}

/// Why `line` has no name followed by a colon; `rest` is what comes after its token bytes.
#[cold]
fn name_fault(line: &[u8], rest: &[u8], first: bool) -> Fault {
    if line.first().copied().is_some_and(octets::is_blank) {
        return if first { Fault::LeadingWhitespace } else { Fault::FoldedLine };
    }
    if octets::trim(rest).first() == Some(&b':') {
        return Fault::SpaceBeforeColon;
    }
    if memchr::memchr(b':', rest).is_some() { Fault::NameByte } else { Fault::NoColon }
}
