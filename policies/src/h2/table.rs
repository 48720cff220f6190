//! The tables of HPACK (RFC 7541, 2.3): the static one, and the one that a peer fills.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

/// What an entry costs beside its name and value (4.1).
const OVERHEAD: usize = 32;

/// A pseudo-header (RFC 9113, 8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pseudo {
    /// `:authority`
    Authority,
    /// `:method`
    Method,
    /// `:path`
    Path,
    /// `:scheme`
    Scheme,
    /// `:status`
    Status,
    /// One that no request has.
    Other,
}

/// A field as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// One of HTTP/2's own.
    Pseudo(Pseudo, Bytes),
    /// One of HTTP's.
    Regular(HeaderName, HeaderValue),
    /// One that HTTP does not know such names or values for.
    Malformed,
}

impl Field {
    /// The field that `name` and `value` make.
    pub(super) fn of(name: Name, value: Bytes) -> Self {
        match name {
            Name::Pseudo(pseudo) => Self::Pseudo(pseudo, value),
            Name::Regular(name) if is_trimmed(&value) => HeaderValue::from_maybe_shared(value)
                .map_or(Self::Malformed, |value| Self::Regular(name, value)),
            Name::Regular(_) | Name::Malformed => Self::Malformed,
        }
    }

    /// Its name.
    pub(super) fn name(&self) -> Name {
        match self {
            Self::Pseudo(pseudo, _) => Name::Pseudo(*pseudo),
            Self::Regular(name, _) => Name::Regular(name.clone()),
            Self::Malformed => Name::Malformed,
        }
    }
}

/// White space at an end belongs to no value (RFC 9113, 8.2.1).
fn is_trimmed(value: &[u8]) -> bool {
    let white = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !white(value.first()) && !white(value.last())
}

/// The name of a field.
#[derive(Clone, Debug)]
pub(super) enum Name {
    Pseudo(Pseudo),
    Regular(HeaderName),
    Malformed,
}

impl Name {
    /// The name that is written so. HTTP/2 writes no capitals.
    pub(super) fn of(written: &[u8]) -> Self {
        match written {
            b":authority" => Self::Pseudo(Pseudo::Authority),
            b":method" => Self::Pseudo(Pseudo::Method),
            b":path" => Self::Pseudo(Pseudo::Path),
            b":scheme" => Self::Pseudo(Pseudo::Scheme),
            b":status" => Self::Pseudo(Pseudo::Status),
            [b':', ..] => Self::Pseudo(Pseudo::Other),
            // `http` takes it, and no backend of HTTP/1.1 would.
            _ if written.contains(&b'"') => Self::Malformed,
            _ => HeaderName::from_lowercase(written).map_or(Self::Malformed, Self::Regular),
        }
    }
}

/// An entry of a table, and what it counts in a list of fields.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub field: Field,
    /// Bytes of name and value as they came, and what an entry costs.
    pub size: usize,
    /// Bytes of the name.
    pub name_bytes: usize,
}

impl Entry {
    pub(super) fn new(field: Field, name_bytes: usize, value_bytes: usize) -> Self {
        Self { field, size: name_bytes + value_bytes + OVERHEAD, name_bytes }
    }
}

/// The table that one peer fills, newest entry first, behind the static one.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    /// Bytes that it may have now.
    most: usize,
}

/// Bytes that the table may have at most: what is agreed where no setting says otherwise.
pub(super) const MOST_TABLE: usize = 4096;

impl Table {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), size: 0, most: MOST_TABLE }
    }

    /// The entry at `index`, which counts from 1.
    pub(super) fn get(&self, index: usize) -> Option<&Entry> {
        let at = index.checked_sub(1)?;
        STATIC.get(at).or_else(|| self.entries.get(at.checked_sub(STATIC.len())?))
    }

    /// A new entry. Old ones make room for it; one that is larger than the table empties it (4.4).
    pub(super) fn put(&mut self, entry: Entry) {
        self.shrink(self.most.saturating_sub(entry.size));
        if entry.size <= self.most {
            self.size += entry.size;
            self.entries.push_front(entry);
        }
    }

    /// The table has `most` bytes from now on.
    pub(super) fn resize(&mut self, most: usize) {
        self.most = most;
        self.shrink(most);
    }

    fn shrink(&mut self, most: usize) {
        while self.size > most {
            let Some(entry) = self.entries.pop_back() else { return };
            self.size -= entry.size;
        }
    }
}

const fn pseudo(name: Pseudo, value: &'static str) -> Entry {
    let name_bytes = match name {
        Pseudo::Authority => 10,
        Pseudo::Method | Pseudo::Scheme | Pseudo::Status => 7,
        Pseudo::Path => 5,
        Pseudo::Other => 0,
    };
    let field = Field::Pseudo(name, Bytes::from_static(value.as_bytes()));
    Entry { field, size: name_bytes + value.len() + OVERHEAD, name_bytes }
}

const fn regular(name: &'static str, value: &'static str) -> Entry {
    let field = Field::Regular(HeaderName::from_static(name), HeaderValue::from_static(value));
    Entry { field, size: name.len() + value.len() + OVERHEAD, name_bytes: name.len() }
}

/// RFC 7541, appendix A.
static STATIC: [Entry; 61] = [
    pseudo(Pseudo::Authority, ""),
    pseudo(Pseudo::Method, "GET"),
    pseudo(Pseudo::Method, "POST"),
    pseudo(Pseudo::Path, "/"),
    pseudo(Pseudo::Path, "/index.html"),
    pseudo(Pseudo::Scheme, "http"),
    pseudo(Pseudo::Scheme, "https"),
    pseudo(Pseudo::Status, "200"),
    pseudo(Pseudo::Status, "204"),
    pseudo(Pseudo::Status, "206"),
    pseudo(Pseudo::Status, "304"),
    pseudo(Pseudo::Status, "400"),
    pseudo(Pseudo::Status, "404"),
    pseudo(Pseudo::Status, "500"),
    regular("accept-charset", ""),
    regular("accept-encoding", "gzip, deflate"),
    regular("accept-language", ""),
    regular("accept-ranges", ""),
    regular("accept", ""),
    regular("access-control-allow-origin", ""),
    regular("age", ""),
    regular("allow", ""),
    regular("authorization", ""),
    regular("cache-control", ""),
    regular("content-disposition", ""),
    regular("content-encoding", ""),
    regular("content-language", ""),
    regular("content-length", ""),
    regular("content-location", ""),
    regular("content-range", ""),
    regular("content-type", ""),
    regular("cookie", ""),
    regular("date", ""),
    regular("etag", ""),
    regular("expect", ""),
    regular("expires", ""),
    regular("from", ""),
    regular("host", ""),
    regular("if-match", ""),
    regular("if-modified-since", ""),
    regular("if-none-match", ""),
    regular("if-range", ""),
    regular("if-unmodified-since", ""),
    regular("last-modified", ""),
    regular("link", ""),
    regular("location", ""),
    regular("max-forwards", ""),
    regular("proxy-authenticate", ""),
    regular("proxy-authorization", ""),
    regular("range", ""),
    regular("referer", ""),
    regular("refresh", ""),
    regular("retry-after", ""),
    regular("server", ""),
    regular("set-cookie", ""),
    regular("strict-transport-security", ""),
    regular("transfer-encoding", ""),
    regular("user-agent", ""),
    regular("vary", ""),
    regular("via", ""),
    regular("www-authenticate", ""),
];
