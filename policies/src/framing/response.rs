//! Responses of a backend on one connection, each expected before it may come.

use super::body::Body;
use super::fields::Fields;
use super::line::{Line, sharpen};
use super::piece::{FieldMark, Piece};
use super::{Fault, HeadLimits, octets};

/// Most informational responses before a final one.
const INFORMATIONAL: u8 = 8;

/// The framing of a connection to a backend, which carries one request at a time.
#[derive(Clone, Debug)]
pub struct ResponseFraming {
    limits: HeadLimits,
    phase: Phase,
    line: Line,
    fields: Fields,
    expected: Expected,
    status: u16,
    informational: u8,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No request is out.
    Idle,
    StatusLine,
    Fields,
    Body(Body),
    Tunnel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Response,
    /// The response to a HEAD request: it has no body, whatever its fields say.
    Head,
    /// The response to a request for an upgrade: it may be a 101.
    Upgrade,
}

impl ResponseFraming {
    /// A connection on which no request was sent yet. `limits.target_bytes` plays no part.
    pub fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            phase: Phase::Idle,
            line: Line::default(),
            fields: Fields::of_response(&limits, true, 0),
            expected: Expected::Response,
            status: 0,
            informational: 0,
            fault: None,
        }
    }

    /// A request that asked for no upgrade is being sent: its response may come from now on.
    ///
    /// Does nothing while an earlier response is not [`finished`](Self::finished), so that a second
    /// response on a connection that cannot carry one is refused as [`Fault::ExcessBytes`].
    pub fn expect(&mut self, request_was_head: bool) {
        self.begin(if request_was_head { Expected::Head } else { Expected::Response });
    }

    /// As [`expect`](Self::expect), for a request that carries Upgrade: only its response may be a
    /// 101, after which everything passes.
    pub fn expect_upgrade(&mut self) {
        self.begin(Expected::Upgrade);
    }

    /// How many of `bytes` may be passed on now.
    ///
    /// * `bytes`: all that was read and not yet passed on. As many as the answer says must leave it
    ///   before the next call, the others must stay.
    ///
    /// A head passes whole or not at all. The answer stops before a fault, so call again with the
    /// rest until it is `Ok(0)`, which means: read more.
    ///
    /// # Errors
    ///
    /// The first fault, and the same again at each later call: nothing passes after it.
    #[inline]
    pub fn scan(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut passed = 0;
        loop {
            match self.step(bytes.get(passed..).unwrap_or_default(), None) {
                Ok(0) => return Ok(passed),
                Ok(count) => passed += count,
                Err(fault) => {
                    self.fault = Some(fault);
                    return if passed == 0 { Err(fault) } else { Ok(passed) };
                }
            }
        }
    }

    /// What `bytes` begin with. As many as the answer says must leave them before the next call.
    ///
    /// * `bytes`: all that was read and not yet taken.
    /// * `marks`: where the fields of a head or of a trailer section stand in it. Between the calls for
    ///   one of them it must stay as it is; it is cleared when one begins.
    ///
    /// [`Self::scan`] for a reader who parses nothing again: heads and trailers were found valid
    /// (each line but the first is a token, a colon and text, and ends with CRLF), content is
    /// without the lines of chunks.
    ///
    /// # Errors
    ///
    /// The first fault, and the same again at each later call: nothing is taken after it.
    #[inline]
    pub fn next(&mut self, bytes: &[u8], marks: &mut Vec<FieldMark>) -> Result<Piece, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let before = self.phase;
        let count = self.step(bytes, Some(marks)).inspect_err(|&fault| self.fault = Some(fault))?;
        Ok(match before {
            _ if count == 0 => Piece::Nothing,
            Phase::StatusLine | Phase::Fields if self.phase == Phase::StatusLine => {
                Piece::Informational(count)
            }
            Phase::StatusLine | Phase::Fields => Piece::Head(count),
            Phase::Body(Body::Fixed(_) | Body::ChunkData(_) | Body::UntilClose) | Phase::Tunnel => {
                Piece::Data(count)
            }
            Phase::Body(Body::Trailers) => Piece::Trailers(count),
            Phase::Body(Body::ChunkSize | Body::ChunkEnd | Body::Ended) | Phase::Idle => {
                Piece::Frame(count)
            }
        })
    }

    /// The fault that taking all of `bytes` would come to, if they have one: known before their
    /// content is passed on.
    pub fn foresee(&self, bytes: &[u8]) -> Option<Fault> {
        let mut ahead = self.clone();
        let _ = ahead.scan(bytes);
        ahead.fault
    }

    /// Content that is left, where the response's head says how much there is.
    pub fn content_left(&self) -> Option<u64> {
        match self.phase {
            Phase::Idle | Phase::Body(Body::Ended) => Some(0),
            Phase::Body(Body::Fixed(left)) => Some(left),
            Phase::StatusLine | Phase::Fields | Phase::Body(_) | Phase::Tunnel => None,
        }
    }

    /// The status of the last complete head.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the last complete head says HTTP/1.1, and not HTTP/1.0.
    pub fn http11(&self) -> bool {
        self.fields.http11
    }

    /// Whether the last complete head lets another request follow.
    pub fn keeps(&self) -> bool {
        if self.fields.http11 { !self.fields.close } else { self.fields.keep_alive }
    }

    /// Whether no response is outstanding and the last one was complete and exactly framed: only
    /// then may the connection serve another request. False once bytes came that belong to none,
    /// even if `scan` has yet to say so.
    pub fn finished(&self) -> bool {
        self.fault.is_none() && self.phase == Phase::Idle
    }

    /// Whether the response ends where the connection does.
    pub fn close_delimited(&self) -> bool {
        self.phase == Phase::Body(Body::UntilClose)
    }

    /// Whether a 101 has turned the connection into a tunnel.
    pub fn tunnelled(&self) -> bool {
        self.phase == Phase::Tunnel
    }

    /// The fault that ended this connection; it may be known one call before `scan` returns it.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The backend ended the connection. Proper between messages, in a tunnel, and where the close
    /// delimits the response.
    ///
    /// # Errors
    ///
    /// [`Fault::ShortHead`] or [`Fault::ShortBody`] if a response is cut short, or the fault that
    /// ended the connection before.
    pub fn end(&mut self) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let fault = match self.phase {
            Phase::Idle | Phase::Tunnel | Phase::Body(Body::UntilClose) => return Ok(()),
            Phase::StatusLine | Phase::Fields => Fault::ShortHead,
            Phase::Body(_) => Fault::ShortBody,
        };
        self.fault = Some(fault);
        Err(fault)
    }

    fn begin(&mut self, expected: Expected) {
        if self.phase == Phase::Idle {
            self.expected = expected;
            self.informational = 0;
            self.line = Line::default();
            self.phase = Phase::StatusLine;
        }
    }

    fn step(&mut self, bytes: &[u8], marks: Option<&mut Vec<FieldMark>>) -> Result<usize, Fault> {
        match &mut self.phase {
            Phase::Idle if bytes.is_empty() => Ok(0),
            Phase::Idle => Err(Fault::ExcessBytes),
            Phase::StatusLine | Phase::Fields => self.head(bytes, marks),
            Phase::Body(body) => {
                let count = body.step(bytes, &mut self.line, &mut self.fields, marks)?;
                if *body == Body::Ended {
                    self.phase = Phase::Idle;
                }
                Ok(count)
            }
            Phase::Tunnel => Ok(bytes.len()),
        }
    }

    fn head(
        &mut self,
        bytes: &[u8],
        mut marks: Option<&mut Vec<FieldMark>>,
    ) -> Result<usize, Fault> {
        if self.phase == Phase::StatusLine {
            let budget = self.limits.header_bytes;
            let Some(line) = self.line.next(bytes, budget, Fault::HeadTooLarge)? else {
                return Ok(0);
            };
            let (status, http11) = status_line(line).map_err(|fault| sharpen(line, fault))?;
            self.status = status;
            self.fields = Fields::of_response(&self.limits, http11, self.line.start());
            self.phase = Phase::Fields;
            if let Some(marks) = &mut marks {
                marks.clear();
            }
        }
        if !self.fields.read(&mut self.line, bytes, marks)? {
            return Ok(0);
        }
        self.phase = self.after_head()?;
        let count = self.line.start();
        self.line = Line::default();
        Ok(count)
    }

    /// What follows a complete and valid head.
    fn after_head(&mut self) -> Result<Phase, Fault> {
        match self.status {
            101 if self.expected == Expected::Upgrade => return Ok(Phase::Tunnel),
            101 => return Err(Fault::UnaskedUpgrade),
            100..=199 if self.informational == INFORMATIONAL => {
                return Err(Fault::InformationalFlood);
            }
            100..=199 => {
                self.informational += 1;
                return Ok(Phase::StatusLine);
            }
            204 | 304 => return Ok(Phase::Idle),
            _ => {}
        }
        if self.expected == Expected::Head {
            return Ok(Phase::Idle);
        }
        let body = Body::announced(&self.fields).unwrap_or(Body::UntilClose);
        Ok(if body == Body::Ended { Phase::Idle } else { Phase::Body(body) })
    }
}

/// The status of a status line without its line end, and whether it says HTTP/1.1.
fn status_line(line: &[u8]) -> Result<(u16, bool), Fault> {
    let [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b' ', digits @ ..] = line else {
        return Err(Fault::StatusLine);
    };
    let http11 = match (major, minor) {
        (b'1', b'1') => true,
        (b'1', b'0') => false,
        (b'0'..=b'9', b'0'..=b'9') => return Err(Fault::Version),
        _ => return Err(Fault::StatusLine),
    };
    // The space after the status belongs there even without a reason, but many leave it out.
    let (digits, reason) = match digits {
        [a, b, c] => ([a, b, c], &[][..]),
        [a, b, c, b' ', reason @ ..] => ([a, b, c], reason),
        _ => return Err(Fault::StatusLine),
    };
    if !digits.iter().all(|digit| digit.is_ascii_digit()) {
        return Err(Fault::StatusLine);
    }
    if !octets::is_text(reason) {
        return Err(Fault::ControlByte);
    }
    let status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(**digit - b'0'));
    if !(100..=599).contains(&status) {
        return Err(Fault::Status);
    }
    Ok((status, http11))
}
