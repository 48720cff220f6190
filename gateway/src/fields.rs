//! Fields of a head, from the places at which the scanner found them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use policies::framing::FieldMark;

/// The fields that stand at `marks` in `bytes`, as a map with room for `room` more. Values are slices of
/// `bytes`. `None` if there are more than a map takes: everything else was ruled out by whoever made the
/// marks.
pub fn fields(
    bytes: &Bytes,
    marks: &[FieldMark],
    mut names: Option<&mut Names>,
    room: usize,
) -> Option<HeaderMap> {
    let mut map = HeaderMap::try_with_capacity(marks.len() + room).ok()?;
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
pub struct Names(Box<[Option<Known>]>);

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
