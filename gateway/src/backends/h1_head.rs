//! Heads, chunk lines and trailers of HTTP/1.1, as bytes and as values.
//!
//! What is read here was found valid by `policies::framing` before, line by line.

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use policies::framing::{FieldMark, ResponseFraming};

use super::added::Added;
use crate::fields::{Names, fields};

/// The head of a request as a backend gets it, put together where it is written.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path.
    pub path: &'a str,
    /// Query with its `?`, or nothing.
    pub query: &'a str,
    /// Value of `Host`.
    pub host: &'a HeaderValue,
    /// Every other field; what the ones below say comes in its place.
    pub headers: &'a HeaderMap,
    /// What we add. None of them is among `headers`.
    pub added: &'a Added,
    /// The backend's own credential.
    pub credential: Option<&'a (HeaderName, HeaderValue)>,
    /// Whether a WebSocket is asked for.
    pub upgrade: bool,
}

/// Appends `head`, for content of `length` bytes; without a length it is chunked.
pub(super) fn write(out: &mut Vec<u8>, head: &RequestHead<'_>, length: Option<u64>) {
    for part in [head.method.as_str(), " ", head.path, head.query, " HTTP/1.1\r\nhost: "] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(head.host.as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in head.headers {
        let replaced = name == header::HOST
            || name == header::CONTENT_LENGTH
            || head.credential.is_some_and(|(ours, _)| ours == name);
        if !replaced {
            write_field(out, name, value.as_bytes());
        }
    }
    head.added.each(|name, value| write_field(out, name, value));
    if let Some((name, value)) = head.credential {
        write_field(out, name, value.as_bytes());
    }
    if head.upgrade {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
    }
    match length {
        None => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // Nothing is said of nothing, except where content is expected.
        Some(0) if !matches!(*head.method, Method::POST | Method::PUT | Method::PATCH) => {}
        Some(length) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a field line.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends the line before a chunk of `length` bytes.
pub(crate) fn begin_chunk(out: &mut Vec<u8>, length: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let length = length as u64;
    let digits = (64 - length.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = (length >> (4 * place)) & 0xf;
        out.push(DIGITS.get(usize::try_from(digit).unwrap_or(0)).copied().unwrap_or(b'0'));
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of chunked content.
pub(crate) fn end_chunks(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        trailers.iter().for_each(|(name, value)| write_field(out, name, value.as_bytes()));
    }
    out.extend_from_slice(b"\r\n");
}

/// Fields that are added to an answer on its way to the client, as a rule.
const ADDED: usize = 2;

/// The head of a response, whose fields stand at `marks` in `head`. `None` if it is not one; that was
/// ruled out before.
pub(super) fn read(
    head: &Bytes,
    marks: &[FieldMark],
    framing: &ResponseFraming,
    names: Option<&mut Names>,
) -> Option<Parts> {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(framing.status()).ok()?;
    parts.version = if framing.http11() { Version::HTTP_11 } else { Version::HTTP_10 };
    parts.headers = fields(head, marks, names, ADDED)?;
    Some(parts)
}

#[cfg(test)]
mod tests {
    use policies::framing::HeadLimits;

    use super::*;

    #[test]
    fn a_head_is_read_as_it_is_written_and_values_keep_their_bytes() {
        let limits = HeadLimits { target_bytes: 0, header_bytes: 1_000, header_fields: 10 };
        let read = |bytes: &'static [u8]| {
            let mut framing = ResponseFraming::new(limits);
            framing.expect(false);
            let mut marks = Vec::new();
            framing.next(bytes, &mut marks).unwrap();
            let parts = super::read(&Bytes::from_static(bytes), &marks, &framing, None).unwrap();
            (parts, framing.keeps())
        };
        let (parts, keeps) = read(
            b"HTTP/1.1 207 Multi\r\nA:  x y \t\r\nb:\r\na: \xff\r\nConnection: x, CLOSE\r\n\r\n",
        );
        assert_eq!((parts.status.as_u16(), parts.version, keeps), (207, Version::HTTP_11, false));
        let a: Vec<_> = parts.headers.get_all("a").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(a, [&b"x y"[..], b"\xff"]);
        assert_eq!(parts.headers.get("b").unwrap().as_bytes(), b"");
        let (parts, keeps) = read(b"HTTP/1.0 200\r\n\r\n");
        assert_eq!((parts.version, keeps), (Version::HTTP_10, false));
        assert!(read(b"HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\n\r\n").1);
        assert!(read(b"HTTP/1.1 200 OK\r\n\r\n").1);
    }

    #[test]
    fn our_own_fields_stand_in_place_of_the_clients() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "theirs"),
            ("content-length", "7"),
            ("x-api-key", "theirs"),
            ("a", "1"),
            ("a", "2"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let credential = (HeaderName::from_static("x-api-key"), HeaderValue::from_static("ours"));
        let host = HeaderValue::from_static("b:1");
        let added = Added::default();
        let mut head = RequestHead {
            method: &Method::POST,
            path: "/p",
            query: "?q",
            host: &host,
            headers: &headers,
            added: &added,
            credential: Some(&credential),
            upgrade: false,
        };
        let written = |head: &RequestHead<'_>, length| {
            let mut out = Vec::new();
            write(&mut out, head, length);
            String::from_utf8(out).unwrap()
        };
        let before = "POST /p?q HTTP/1.1\r\nhost: b:1\r\na: 1\r\na: 2\r\nx-api-key: ours\r\n";
        assert_eq!(written(&head, Some(3)), format!("{before}content-length: 3\r\n\r\n"));
        assert_eq!(written(&head, Some(0)), format!("{before}content-length: 0\r\n\r\n"));
        assert_eq!(written(&head, None), format!("{before}transfer-encoding: chunked\r\n\r\n"));
        (head.method, head.credential, head.upgrade) = (&Method::GET, None, true);
        assert_eq!(
            written(&head, Some(0)),
            "GET /p?q HTTP/1.1\r\nhost: b:1\r\nx-api-key: theirs\r\na: 1\r\na: 2\r\n\
             connection: upgrade\r\nupgrade: websocket\r\n\r\n"
        );
    }

    #[test]
    fn chunks_are_written_with_their_sizes() {
        let mut out = Vec::new();
        for length in [1, 15, 16, 255, 4096, 65_536] {
            begin_chunk(&mut out, length);
        }
        end_chunks(&mut out, None);
        assert_eq!(out, b"1\r\nf\r\n10\r\nff\r\n1000\r\n10000\r\n0\r\n\r\n");
    }
}
