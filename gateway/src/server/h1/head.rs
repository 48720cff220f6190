//! The head of a request, put together from the places at which the scanner found its parts.

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Uri, Version};
use policies::framing::Marks;

use crate::fields::{Names, fields};

/// The head in `bytes`, whose parts stand at `marks`. Values are slices of `bytes`. `None` if the target
/// is longer than any URI may be: everything else was ruled out by whoever made the marks.
pub(super) fn parts(
    bytes: &Bytes,
    marks: &Marks,
    http11: bool,
    names: &mut Names,
) -> Option<Parts> {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(bytes.get(marks.method.clone())?).ok()?;
    parts.uri = Uri::from_maybe_shared(bytes.slice(marks.target.clone())).ok()?;
    parts.version = if http11 { Version::HTTP_11 } else { Version::HTTP_10 };
    parts.headers = fields(bytes, &marks.fields, Some(names), 0)?;
    Some(parts)
}

#[cfg(test)]
mod tests {
    use policies::framing::FieldMark;

    use super::*;

    #[test]
    fn a_head_is_put_together_as_it_was_written() {
        let bytes = Bytes::from_static(b"PUT /a?b HTTP/1.1\r\nHost: x\r\nA:\r\nhost: y\r\n\r\n");
        let mark = |name, value| FieldMark { name, value };
        let marks = Marks {
            method: 0..3,
            target: 4..8,
            fields: vec![mark(19..23, 25..26), mark(28..29, 30..30), mark(32..36, 38..39)],
        };
        let mut names = Names::default();
        for version in [true, false] {
            let parts = parts(&bytes, &marks, version, &mut names).unwrap();
            assert_eq!(parts.method, Method::PUT);
            assert_eq!(parts.uri, "/a?b");
            assert_eq!(parts.version == Version::HTTP_11, version);
            let fields: Vec<_> = parts
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes()))
                .collect();
            assert_eq!(fields, [("host", &b"x"[..]), ("host", b"y"), ("a", b"")]);
        }
        let long = Bytes::from(format!("GET /{} HTTP/1.1\r\n\r\n", "p".repeat(70_000)));
        let marks = Marks { method: 0..3, target: 4..70_005, fields: Vec::new() };
        assert!(parts(&long, &marks, true, &mut names).is_none());
    }
}
