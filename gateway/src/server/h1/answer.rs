//! An answer on its way to a client of HTTP/1: its head, and its content frame by frame.
//!
//! Head and content that is at hand leave in one write, which is one TLS record; what comes later
//! leaves as it comes.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame};

use super::wire::{Asked, Wire};
use crate::backends::h1_head::{begin_chunk, end_chunks, write_field};
use crate::request::ResponseBody;
use crate::server::conn::{Conn, Kick};
use crate::worker::Worker;

/// How the content is told from what comes behind it.
#[derive(Debug)]
enum Framing {
    /// There is none.
    Nothing,
    /// So many bytes are left of it.
    Length(u64),
    /// In chunks. Trailers may follow that these values announced.
    Chunked(Vec<HeaderValue>),
    /// The close is its end.
    Close,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// All of it was written, and another request may come.
    Whole,
    /// All of it was written, and the connection ends with it.
    Last,
    /// It broke off: the client left, or the backend did and the framing shows that it is not whole.
    Failed,
    /// It broke off where only the close would have shown its end.
    Cut,
}

/// An answer under way.
pub(super) struct Answer {
    conn: Rc<Conn>,
    body: Option<ResponseBody>,
    framing: Framing,
    keep: bool,
    broken: bool,
}

impl Answer {
    /// Puts the head among what is to be written.
    pub(super) fn begin(
        worker: &Worker,
        conn: &Rc<Conn>,
        wire: &mut Wire,
        response: Response<ResponseBody>,
        asked: Asked,
    ) -> Self {
        let (parts, body) = response.into_parts();
        let ended = body.is_end_stream();
        let length = if ended { Some(0) } else { body.size_hint().exact() };
        let keep = asked.wishes.keep && !conn.draining.get() && !wire.waits_in_vain();
        let head = Head { parts: &parts, asked, ended, length, keep, date: &worker.date() };
        wire.out().take_room(std::mem::take(&mut worker.spare.borrow_mut().room));
        let mut said = (Framing::Nothing, keep);
        wire.out().put_lines(|out| said = head.write(out));
        let (framing, keep) = said;
        Self {
            conn: Rc::clone(conn),
            // Where nothing may follow the head it is asked all the same: it knows how it ended.
            body: (!ended).then_some(body),
            framing,
            keep,
            broken: false,
        }
    }

    /// Writes until all of it is written.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, wire: &RefCell<Wire>) -> Poll<Step> {
        loop {
            if matches!(self.conn.kick.get(), Some(Kick::Stuck | Kick::Abuse)) {
                return Poll::Ready(Step::Failed);
            }
            let waits = self.gather(cx, wire);
            let mut wire = wire.borrow_mut();
            match wire.poll_write(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(Step::Failed),
                Poll::Ready(Ok(())) if self.body.is_none() => return Poll::Ready(self.end()),
                Poll::Ready(Ok(())) if !waits => continue,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            if wire.has_left(cx) {
                return Poll::Ready(Step::Failed);
            }
            return Poll::Pending;
        }
    }

    fn end(&self) -> Step {
        match &self.framing {
            Framing::Close if self.broken => Step::Cut,
            _ if self.broken => Step::Failed,
            Framing::Close => Step::Last,
            Framing::Nothing | Framing::Length(_) | Framing::Chunked(_) => {
                if self.keep {
                    Step::Whole
                } else {
                    Step::Last
                }
            }
        }
    }

    /// Takes what the body has at hand; whether more will come of its own.
    fn gather(&mut self, cx: &mut Context<'_>, wire: &RefCell<Wire>) -> bool {
        // Not borrowed while the body is asked: it may be reading the request's.
        while let Some(body) = &mut self.body
            && wire.borrow().has_room()
        {
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return true,
                Poll::Ready(Some(Ok(frame))) => self.put(&mut wire.borrow_mut(), frame),
                Poll::Ready(None) => self.end_content(&mut wire.borrow_mut(), None),
                Poll::Ready(Some(Err(_))) => {
                    self.broken = true;
                    self.body = None;
                }
            }
        }
        false
    }

    fn put(&mut self, wire: &mut Wire, frame: Frame<Bytes>) {
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                let trailers = frame.into_trailers().ok();
                return self.end_content(wire, trailers.as_ref());
            }
        };
        match &mut self.framing {
            Framing::Nothing => {}
            Framing::Length(left) => {
                if data.len() as u64 > *left {
                    // A length that was told is kept.
                    data.truncate(usize::try_from(*left).unwrap_or(data.len()));
                    self.keep = false;
                }
                *left -= data.len() as u64;
                wire.out().put(data);
            }
            Framing::Chunked(_) => {
                if !data.is_empty() {
                    wire.out().put_lines(|lines| begin_chunk(lines, data.len()));
                    wire.out().put(data);
                    wire.out().put_lines(|lines| lines.extend_from_slice(b"\r\n"));
                }
            }
            Framing::Close => wire.out().put(data),
        }
        if self.body.as_ref().is_some_and(Body::is_end_stream) {
            self.end_content(wire, None);
        }
    }

    fn end_content(&mut self, wire: &mut Wire, trailers: Option<&HeaderMap>) {
        self.body = None;
        match &self.framing {
            Framing::Length(left) => self.broken |= *left > 0,
            Framing::Chunked(announced) => {
                let trailers = trailers.map(|trailers| may_be_sent(trailers, announced));
                wire.out().put_lines(|lines| end_chunks(lines, trailers.as_ref()));
            }
            Framing::Nothing | Framing::Close => {}
        }
    }
}

/// The trailers that `announced` names, and that may be trailers at all. HTTP/1.1 is told before which
/// will come.
fn may_be_sent(trailers: &HeaderMap, announced: &[HeaderValue]) -> HeaderMap {
    const NEVER: [HeaderName; 12] = [
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::HOST,
        header::MAX_FORWARDS,
        header::SET_COOKIE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::TE,
    ];
    let named = |name: &HeaderName| {
        let members = announced.iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
        members.map(<[u8]>::trim_ascii).any(|member| member.eq_ignore_ascii_case(name.as_ref()))
    };
    let sent = trailers.iter().filter(|(name, _)| named(name) && !NEVER.contains(name));
    sent.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A head that is to be written.
struct Head<'a> {
    parts: &'a Parts,
    asked: Asked,
    /// There is no content.
    ended: bool,
    /// Bytes of content, where known.
    length: Option<u64>,
    /// The connection may go on.
    keep: bool,
    /// `date`, for an answer that has none.
    date: &'a [u8],
}

impl Head<'_> {
    /// Appends it; how the content is framed, and whether the connection goes on.
    fn write(&self, out: &mut Vec<u8>) -> (Framing, bool) {
        let Self { parts, asked, ended, length, mut keep, date } = *self;
        let status = parts.status;
        let http11 = asked.wishes.http11;
        status_line(out, status, http11);
        let bodiless = status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let chunked = length.is_none() && http11 && !bodiless && !asked.head_only;
        let (mut told, mut dated, mut said_close) = (false, false, false);
        let mut announced = Vec::new();
        for (name, value) in &parts.headers {
            match *name {
                header::CONTENT_LENGTH => {
                    // Only the answer to HEAD speaks of content that is not there.
                    if !asked.head_only || !ended || bodiless {
                        continue;
                    }
                    told = true;
                }
                header::TRANSFER_ENCODING => continue,
                header::TRAILER => {
                    if !chunked {
                        continue;
                    }
                    if asked.wishes.trailers {
                        announced.push(value.clone());
                    }
                }
                header::CONNECTION => said_close |= says_close(value),
                header::DATE => dated = true,
                _ => {}
            }
            write_field(out, name, value.as_bytes());
        }
        let mut framing = Framing::Nothing;
        if bodiless {
        } else if chunked {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            framing = Framing::Chunked(announced);
        } else if let Some(length) = length {
            let unsaid = told || asked.head_only && ended;
            if !unsaid {
                out.extend_from_slice(b"content-length: ");
                out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            framing = Framing::Length(length);
        } else {
            framing = Framing::Close;
        }
        if asked.head_only {
            framing = Framing::Nothing;
        }
        keep &= !said_close && !matches!(framing, Framing::Close);
        if status == StatusCode::SWITCHING_PROTOCOLS {
            // `Connection` says so already.
        } else if http11 && !keep && !said_close {
            out.extend_from_slice(b"connection: close\r\n");
        } else if !http11 && keep {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        if !dated {
            out.extend_from_slice(b"date: ");
            out.extend_from_slice(date);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        (framing, keep)
    }
}

fn status_line(out: &mut Vec<u8>, status: StatusCode, http11: bool) {
    if http11 && status == StatusCode::OK {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(if http11 { b"HTTP/1.1 " } else { b"HTTP/1.0 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn says_close(value: &HeaderValue) -> bool {
    let members = value.as_bytes().split(|byte| *byte == b',');
    members.map(<[u8]>::trim_ascii).any(|member| member.eq_ignore_ascii_case(b"close"))
}
