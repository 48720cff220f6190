//! The head of a request, put together from the places at which the scanner found its parts.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use policies::framing::{FieldMark, Marks};

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
    parts.headers = fields(bytes, &marks.fields, Some(names))?;
    Some(parts)
}

/// Fields as a map.
pub(super) fn fields(
    bytes: &Bytes,
    marks: &[FieldMark],
    mut names: Option<&mut Names>,
) -> Option<HeaderMap> {
    let mut map = HeaderMap::try_with_capacity(marks.len()).ok()?;
    for mark in marks {
        let written = bytes.get(mark.name.clone())?;
        let name = match &mut names {
            Some(names) => names.find(written),
            None => HeaderName::from_bytes(written).ok(),
        };
        let value = HeaderValue::from_maybe_shared(bytes.slice(mark.value.clone())).ok()?;
        map.try_append(name?, value).ok()?;
    }
    Some(map)
}

/// Field names that were read before, as they were written: the next request nearly always brings the
/// same, and need not have them lower-cased, looked up and allocated again.
///
/// A table of fixed size. What a client makes up can push others out of it and no more.
#[derive(Debug)]
pub(super) struct Names(Box<[Option<Known>]>);

/// A name as it was written, and what it is.
type Known = (Box<[u8]>, HeaderName);

/// Places in the table: a power of two.
const PLACES: usize = 64;

/// Longer names are not kept.
const MOST_BYTES: usize = 40;

impl Default for Names {
    fn default() -> Self {
        Self(std::iter::repeat_with(|| None).take(PLACES).collect())
    }
}

impl Names {
    /// The name that is `written` so. `None` if it is none.
    fn find(&mut self, written: &[u8]) -> Option<HeaderName> {
        let place = self.0.get_mut(place(written))?;
        if let Some((known, name)) = place
            && **known == *written
        {
            return Some(name.clone());
        }
        let name = HeaderName::from_bytes(written).ok()?;
        if written.len() <= MOST_BYTES {
            *place = Some((written.into(), name.clone()));
        }
        Some(name)
    }
}

/// Where a name is kept: common ones differ in length, first, middle or last byte.
fn place(written: &[u8]) -> usize {
    let byte = |at: usize| usize::from(written.get(at).copied().unwrap_or_default());
    let len = written.len();
    let mixed = len ^ byte(0) << 1 ^ byte(len / 2) << 2 ^ byte(len.wrapping_sub(1)) << 4;
    (mixed ^ mixed >> 6) % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn common_names_have_places_of_their_own() {
        let common = [
            "host",
            "user-agent",
            "accept",
            "accept-encoding",
            "authorization",
            "content-type",
            "content-length",
            "x-user-id",
            "x-request-id",
            "traceparent",
            "connection",
            "api-key",
            "x-api-key",
            "Host",
            "User-Agent",
            "Accept",
            "Content-Type",
            "Authorization",
            "Content-Length",
            "Connection",
            "Accept-Encoding",
            "x-stainless-os",
        ];
        let mut places: Vec<usize> = common.iter().map(|name| place(name.as_bytes())).collect();
        places.sort_unstable();
        places.dedup();
        assert!(places.len() >= common.len() - 4, "{} of {}", places.len(), common.len());
    }

    proptest! {
        /// What is remembered never stands for another name, whatever clients send.
        #[test]
        fn a_name_is_the_one_that_was_written(
            written in prop::collection::vec("[A-Za-z0-9_-]{1,3}|x-[a-zA-Z]{1,60}|[Hh]ost", 1..200),
        ) {
            let mut names = Names::default();
            for name in written {
                let found = names.find(name.as_bytes()).unwrap();
                prop_assert_eq!(found.as_str(), name.to_ascii_lowercase());
            }
            prop_assert!(names.find(b"a b").is_none());
        }
    }
}
