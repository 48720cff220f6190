//! Field lines of a head or a trailer section, and what they say about the body.

use super::line::{Line, sharpen};
use super::piece::FieldMark;
use super::{Fault, HeadLimits, octets};

/// Most bytes a Content-Length may have: as many nines still fit into a `u64`.
const LENGTH_DIGITS: usize = 19;

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
    http11: bool,
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
            let start = line.start();
            let Some(content) = line.next(bytes, self.bytes_left, Fault::HeadTooLarge)? else {
                return Ok(false);
            };
            if content.is_empty() {
                return Ok(true);
            }
            self.bytes_left = self.bytes_left.saturating_sub(content.len() + b"\r\n".len());
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

    /// The length of the name.
    #[inline]
    fn field(&mut self, line: &[u8]) -> Result<usize, Fault> {
        let (name, rest) = line.split_at(octets::token_len(line));
        let [b':', value @ ..] = rest else { return Err(name_fault(line, rest, self.first)) };
        if name.is_empty() {
            return Err(Fault::EmptyName);
        }
        if !octets::is_text(value) {
            return Err(Fault::ControlByte);
        }
        match name.len() {
            2 if name.eq_ignore_ascii_case(b"te") => {
                self.takes_trailers |= self.asks() && says(value, b"trailers");
            }
            4 if name.eq_ignore_ascii_case(b"host") => self.host()?,
            6 if name.eq_ignore_ascii_case(b"expect") => {
                let value = octets::trim(value);
                self.expects_continue |=
                    self.asks() && self.http11 && value.eq_ignore_ascii_case(b"100-continue");
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                // HTTP/1.0 knows no upgrades, and its Upgrade is to be ignored.
                self.upgrade |= self.http11 && !self.trailers;
            }
            10 if name.eq_ignore_ascii_case(b"connection") && !self.trailers => {
                self.close |= says(value, b"close");
                self.keep_alive |= says(value, b"keep-alive");
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.length(octets::trim(value))?;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.encoding(octets::trim(value))?;
            }
            _ => {}
        }
        Ok(name.len())
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
