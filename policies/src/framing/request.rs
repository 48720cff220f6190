//! Requests as they come from a client, one after the other.

use super::body::Body;
use super::fields::Fields;
use super::line::{Line, sharpen};
use super::piece::{Marks, Piece, Wishes};
use super::{Fault, HeadLimits, octets};

/// What a request line may have besides its target: method, spaces, version, line end.
const BESIDE_TARGET_BYTES: usize = 48;

/// The framing of a client's connection: keep-alive, pipelining, and upgrades once they are allowed.
#[derive(Clone, Debug)]
pub struct RequestFraming {
    limits: HeadLimits,
    phase: Phase,
    line: Line,
    fields: Fields,
    http11: bool,
    /// One empty line has come before the request line.
    blank: bool,
    /// A byte of the request line has come.
    begun: bool,
    upgrade: bool,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    RequestLine,
    Fields,
    Body(Body),
    /// After a request that asked for an upgrade, until somebody decides.
    Held,
    Tunnel,
}

impl RequestFraming {
    /// A connection on which nothing has come yet.
    pub fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            phase: Phase::RequestLine,
            line: Line::default(),
            fields: Fields::of_request(&limits, true),
            http11: true,
            blank: false,
            begun: false,
            upgrade: false,
            fault: None,
        }
    }

    /// How many of `bytes` may be passed on now.
    ///
    /// * `bytes`: all that was read and not yet passed on. As many as the answer says must leave it
    ///   before the next call, the others must stay.
    ///
    /// A head passes whole or not at all. The answer stops at the end of a message and before a
    /// fault, so call again with the rest until it is `Ok(0)`: read more, or decide about the
    /// upgrade if [`upgrade_asked`](Self::upgrade_asked). One empty line before a request line is
    /// tolerated and passes together with the head.
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
                Ok(count) => {
                    passed += count;
                    if count == 0 || self.between() {
                        return Ok(passed);
                    }
                }
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
    /// * `marks`: where the parts of a head stand in it, and the fields of a trailer section in that.
    ///   Between the calls for one of them it must stay as it is; it is cleared when one begins.
    ///
    /// [`Self::scan`] for a reader who parses nothing again. One empty line before a request line
    /// belongs to the head.
    ///
    /// # Errors
    ///
    /// The first fault, and the same again at each later call: nothing is taken after it.
    #[inline]
    pub fn next(&mut self, bytes: &[u8], marks: &mut Marks) -> Result<Piece, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let before = self.phase;
        let count = self.step(bytes, Some(marks)).inspect_err(|&fault| self.fault = Some(fault))?;
        if count == 0 {
            return Ok(Piece::Nothing);
        }
        Ok(match before {
            Phase::RequestLine | Phase::Fields => Piece::Head(count),
            Phase::Body(Body::Fixed(_) | Body::ChunkData(_) | Body::UntilClose) | Phase::Tunnel => {
                Piece::Data(count)
            }
            Phase::Body(Body::Trailers) => Piece::Trailers(count),
            Phase::Body(Body::ChunkSize | Body::ChunkEnd | Body::Ended) | Phase::Held => {
                Piece::Frame(count)
            }
        })
    }

    /// How many of `bytes`, which follow content, only frame it: lines of chunks, and a trailer section
    /// without trailers. They must leave `bytes` before the next call. So the end of a message is known
    /// together with the last of its content, if it is there. A fault is the next call's. `marks` as in
    /// [`Self::next`].
    pub fn pass_lines(&mut self, bytes: &[u8], marks: &mut Marks) -> usize {
        let mut passed = 0;
        while self.fault.is_none() {
            let rest = bytes.get(passed..).unwrap_or_default();
            let no_trailers = || self.line.start() == 0 && rest.starts_with(b"\r\n");
            let is_frame = match self.phase {
                Phase::Body(Body::ChunkSize | Body::ChunkEnd) => true,
                Phase::Body(Body::Trailers) => no_trailers(),
                Phase::Body(_)
                | Phase::RequestLine
                | Phase::Fields
                | Phase::Held
                | Phase::Tunnel => false,
            };
            if !is_frame {
                break;
            }
            match self.step(rest, Some(marks)) {
                Ok(0) => break,
                Ok(count) => passed += count,
                Err(fault) => self.fault = Some(fault),
            }
        }
        passed
    }

    /// The fault in what `bytes` have of the present message, if there is one: known before anything of
    /// it is sent on. What comes behind the message is not looked at.
    pub fn foresee(&self, bytes: &[u8]) -> Option<Fault> {
        if matches!(self.phase, Phase::Body(Body::Fixed(_))) || self.between() {
            return None;
        }
        let mut ahead = self.clone();
        let _ = ahead.scan(bytes);
        ahead.fault
    }

    /// Content of the present message that is left, where its head says how much there is.
    pub fn content_left(&self) -> Option<u64> {
        match self.phase {
            Phase::Body(Body::Fixed(left)) => Some(left),
            Phase::Body(Body::Ended) | Phase::RequestLine | Phase::Held => Some(0),
            Phase::Fields | Phase::Body(_) | Phase::Tunnel => None,
        }
    }

    /// What the last complete head says about the connection.
    pub fn wishes(&self) -> Wishes {
        let fields = &self.fields;
        let http11 = self.http11;
        Wishes {
            http11,
            keep: if http11 { !fields.close } else { fields.keep_alive },
            waits: fields.expects_continue,
            trailers: fields.takes_trailers,
        }
    }

    /// Between two messages: all of the last one has passed and nothing of the next has come, except
    /// perhaps the one empty line that is tolerated. Also while an upgrade is undecided.
    pub fn at_boundary(&self) -> bool {
        self.fault.is_none() && self.between() && !self.begun
    }

    /// Whether a head has begun and is not complete.
    pub fn in_head(&self) -> bool {
        match self.phase {
            Phase::RequestLine => self.begun,
            Phase::Fields => true,
            Phase::Body(_) | Phase::Held | Phase::Tunnel => false,
        }
    }

    /// Whether a head has passed and not all of its body has.
    pub fn in_body(&self) -> bool {
        matches!(self.phase, Phase::Body(_))
    }

    /// Whether the last complete head carries Upgrade and nobody has decided about it. Bytes after
    /// that request are held until [`tunnel`](Self::tunnel) or [`not_upgraded`](Self::not_upgraded).
    pub fn upgrade_asked(&self) -> bool {
        self.upgrade
    }

    /// The connection was upgraded: from here on everything passes.
    pub fn tunnel(&mut self) {
        self.upgrade = false;
        self.phase = Phase::Tunnel;
    }

    /// The upgrade was declined: what comes after the request is another request.
    pub fn not_upgraded(&mut self) {
        self.upgrade = false;
        if self.phase == Phase::Held {
            self.phase = Phase::RequestLine;
        }
    }

    /// The fault that ended this connection; it may be known one call before `scan` returns it.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    fn between(&self) -> bool {
        matches!(self.phase, Phase::RequestLine | Phase::Held)
    }

    fn step(&mut self, bytes: &[u8], marks: Option<&mut Marks>) -> Result<usize, Fault> {
        match &mut self.phase {
            Phase::RequestLine | Phase::Fields => self.head(bytes, marks),
            Phase::Body(body) => {
                let marks = marks.map(|marks| &mut marks.fields);
                let count = body.step(bytes, &mut self.line, &mut self.fields, marks)?;
                if *body == Body::Ended {
                    self.end_message();
                }
                Ok(count)
            }
            Phase::Held => Ok(0),
            Phase::Tunnel => Ok(bytes.len()),
        }
    }

    fn head(&mut self, bytes: &[u8], mut marks: Option<&mut Marks>) -> Result<usize, Fault> {
        while self.phase == Phase::RequestLine {
            let start = self.line.start();
            if self.line.is_fresh()
                && let Some((method, target, http11)) = self.plain(start, bytes)
            {
                self.line.pass(method + 1 + target + VERSION.len() + b"\r\n".len());
                self.begin_fields(start, method, target, http11, marks.as_deref_mut());
                break;
            }
            let budget = self.limits.target_bytes.saturating_add(BESIDE_TARGET_BYTES);
            let Some(line) = self.line.next(bytes, budget, Fault::TargetTooLong)? else {
                let start = self.line.start();
                self.begun = bytes.len() > start && (start > 0 || bytes != b"\r");
                return Ok(0);
            };
            if line.is_empty() {
                if self.blank {
                    return Err(Fault::BlankLines);
                }
                self.blank = true;
                continue;
            }
            let (method, http11) = request_line(line, self.limits.target_bytes)
                .map_err(|fault| sharpen(line, fault))?;
            let target = line.len() - method - 1 - VERSION.len();
            self.begin_fields(start, method, target, http11, marks.as_deref_mut());
        }
        let marks = marks.map(|marks| &mut marks.fields);
        if !self.fields.read(&mut self.line, bytes, marks)? {
            return Ok(0);
        }
        if self.http11 && !self.fields.host {
            return Err(Fault::Host);
        }
        let count = self.line.start();
        self.line = Line::default();
        self.upgrade = self.fields.upgrade;
        // A request without a length has no body.
        let body = Body::announced(&self.fields).unwrap_or(Body::Ended);
        self.phase = Phase::Body(body);
        if body == Body::Ended {
            self.end_message();
        }
        Ok(count)
    }

    /// The request line at `start` in one pass, if it is of the ordinary kind: whole, within its limits,
    /// with a path for a target. The bytes of its method and of its target, and whether it says HTTP/1.1.
    #[inline]
    fn plain(&self, start: usize, bytes: &[u8]) -> Option<(usize, usize, bool)> {
        let rest = bytes.get(start..)?;
        let method = octets::token_len(rest);
        let [b' ', after @ ..] = rest.get(method..)? else { return None };
        let target = octets::target_len(after);
        let http11 = match after.get(target..)? {
            [b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b'\r', b'\n', ..] => true,
            [b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0', b'\r', b'\n', ..] => false,
            _ => return None,
        };
        let fits = target <= self.limits.target_bytes
            && method + 1 + VERSION.len() + b"\r\n".len() <= BESIDE_TARGET_BYTES;
        (method > 0 && after.first() == Some(&b'/') && fits).then_some((method, target, http11))
    }

    fn begin_fields(
        &mut self,
        start: usize,
        method: usize,
        target: usize,
        http11: bool,
        marks: Option<&mut Marks>,
    ) {
        self.http11 = http11;
        if let Some(marks) = marks {
            marks.clear();
            marks.method = start..start + method;
            marks.target = start + method + 1..start + method + 1 + target;
        }
        self.fields = Fields::of_request(&self.limits, http11);
        self.phase = Phase::Fields;
    }

    fn end_message(&mut self) {
        self.line = Line::default();
        self.blank = false;
        self.begun = false;
        self.phase = if self.upgrade { Phase::Held } else { Phase::RequestLine };
    }
}

/// What follows the target in a request line.
const VERSION: &[u8] = b" HTTP/1.1";

/// Checks a request line without its line end: the length of its method, and whether it says HTTP/1.1
/// and not HTTP/1.0.
fn request_line(line: &[u8], target_bytes: usize) -> Result<(usize, bool), Fault> {
    let (before, http11) = match line {
        [before @ .., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'] => (before, true),
        [before @ .., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'] => (before, false),
        [.., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Fault::Version);
        }
        _ => return Err(Fault::RequestLine),
    };
    let method = octets::token_len(before);
    let [b' ', target @ ..] = before.get(method..).unwrap_or_default() else {
        let spaced = memchr::memchr(b' ', before).is_some();
        return Err(if spaced { Fault::Method } else { Fault::RequestLine });
    };
    if method == 0 {
        return Err(Fault::Method);
    }
    if target.is_empty() {
        return Err(Fault::RequestLine);
    }
    if target.len() > target_bytes {
        return Err(Fault::TargetTooLong);
    }
    if !octets::is_visible(target) {
        let spaced = memchr::memchr(b' ', target).is_some();
        return Err(if spaced { Fault::RequestLine } else { Fault::TargetByte });
    }
    if !is_uri(target) {
        return Err(Fault::TargetByte);
    }
    Ok((method, http11))
}

/// Whether `target` is a URI without a fragment, which `http::Uri` would drop without a word.
fn is_uri(target: &[u8]) -> bool {
    // Bytes that have no place in any part of a path or query; the common target has none of them.
    let odd = memchr::memchr3(b'#', b'<', b'>', target).is_some()
        || memchr::memchr2(b'"', b'`', target).is_some();
    if target.first() == Some(&b'/') && !odd {
        return true;
    }
    memchr::memchr(b'#', target).is_none() && http::Uri::try_from(target).is_ok()
}
