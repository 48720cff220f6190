//! Headers: there, or there with one value.

use http::{HeaderMap, HeaderName};

/// A header that a rule or target asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderMatch {
    /// Its name.
    pub name: HeaderName,
    /// What its value must be.
    pub value: HeaderValueMatch,
}

/// What a header's value must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HeaderValueMatch {
    /// This, byte for byte.
    Exact(Box<str>),
    /// Anything.
    Present,
}

/// A header that decides occurs more than once, or holds a list where one value is expected.
///
/// Whoever reads the first value and whoever reads the last would decide differently, so nobody
/// decides: the request is answered with 400 (compare CVE-2026-26308).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header `{name}` decides where this request goes and may be given only once")]
pub struct RepeatedHeader {
    /// The header.
    pub name: HeaderName,
}

impl HeaderMatch {
    /// Whether `headers` carry this one.
    ///
    /// A comma in the value makes it a list, unless the written value has one itself or any value
    /// will do.
    pub fn matches(&self, headers: &HeaderMap) -> Result<bool, RepeatedHeader> {
        let mut values = headers.get_all(&self.name).iter();
        let Some(value) = values.next() else { return Ok(false) };
        if values.next().is_some() {
            return Err(self.repeated());
        }
        match &self.value {
            HeaderValueMatch::Present => Ok(true),
            HeaderValueMatch::Exact(wanted) if value.as_bytes() == wanted.as_bytes() => Ok(true),
            HeaderValueMatch::Exact(wanted) => {
                if value.as_bytes().contains(&b',') && !wanted.contains(',') {
                    return Err(self.repeated());
                }
                Ok(false)
            }
        }
    }

    #[cold]
    fn repeated(&self) -> RepeatedHeader {
        RepeatedHeader { name: self.name.clone() }
    }
}
