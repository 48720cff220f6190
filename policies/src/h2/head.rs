//! The head of a request, or its trailers, from the fields of a block (RFC 9113, 8.2 and 8.3).

use bytes::Bytes;
use http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::decode::Sink;
use super::table::{Field, Pseudo};

/// Why a block is no head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadFault {
    /// It is malformed: its stream ends.
    Malformed,
    /// Its fields are more bytes than are taken.
    TooLarge,
}

/// Fields that there is room for between two blocks.
const MOST_KEPT: usize = 32;

/// Takes the fields of one block after the other.
#[derive(Debug)]
pub struct HeadReader {
    most: usize,
    // Of the present block.
    size: usize,
    malformed: bool,
    method: Option<Bytes>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
    pseudos: u32,
    fields: Vec<(HeaderName, HeaderValue)>,
    // The authority of the request before: the next nearly always names it again.
    known: Option<(Bytes, Authority)>,
}

impl HeadReader {
    /// Takes lists of fields of at most `most` bytes (RFC 9113, 6.5.2).
    pub fn new(most: usize) -> Self {
        Self {
            most,
            size: 0,
            malformed: false,
            method: None,
            scheme: None,
            authority: None,
            path: None,
            pseudos: 0,
            fields: Vec::new(),
            known: None,
        }
    }

    /// The head of a request, of all fields since the last one. The scheme stands in the URI where there
    /// is an authority.
    ///
    /// # Errors
    /// Why it is none.
    pub fn request(&mut self) -> Result<Parts, HeadFault> {
        let parts = self.verdict().and_then(|()| self.parts().ok_or(HeadFault::Malformed));
        self.clear();
        parts
    }

    /// The trailers of a request, of all fields since the last block.
    ///
    /// # Errors
    /// Why they are none.
    pub fn trailers(&mut self) -> Result<HeaderMap, HeadFault> {
        let fields = self.verdict().and_then(|()| {
            if self.pseudos > 0 { Err(HeadFault::Malformed) } else { self.headers() }
        });
        self.clear();
        fields
    }

    /// Whoever wanted it: nobody wants what came since the last block.
    pub fn clear(&mut self) {
        self.size = 0;
        self.malformed = false;
        self.pseudos = 0;
        self.fields.clear();
        self.fields.shrink_to(MOST_KEPT);
        (self.method, self.scheme, self.authority, self.path) = (None, None, None, None);
    }

    fn verdict(&self) -> Result<(), HeadFault> {
        if self.malformed {
            Err(HeadFault::Malformed)
        } else if self.size > self.most {
            Err(HeadFault::TooLarge)
        } else {
            Ok(())
        }
    }

    fn headers(&mut self) -> Result<HeaderMap, HeadFault> {
        // A map has a most of its own, far above what any list of fields here can hold.
        let mut map =
            HeaderMap::try_with_capacity(self.fields.len()).map_err(|_| HeadFault::TooLarge)?;
        for (name, value) in self.fields.drain(..) {
            map.try_append(name, value).map_err(|_| HeadFault::TooLarge)?;
        }
        Ok(map)
    }

    fn parts(&mut self) -> Option<Parts> {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.version = Version::HTTP_2;
        parts.method = Method::from_bytes(self.method.as_ref()?).ok()?;
        let mut uri = http::uri::Parts::default();
        uri.authority = match self.authority.take() {
            None => None,
            Some(written) => Some(self.authority_of(written)?),
        };
        if parts.method == Method::CONNECT {
            // Only where to (8.5). Whether that is served is not asked here.
            if self.scheme.is_some() || self.path.is_some() || uri.authority.is_none() {
                return None;
            }
        } else {
            let scheme = match &**self.scheme.as_ref()? {
                b"https" => Scheme::HTTPS,
                b"http" => Scheme::HTTP,
                other => Scheme::try_from(other).ok()?,
            };
            let path = self.path.take().filter(|path| !path.is_empty())?;
            uri.path_and_query = Some(PathAndQuery::from_maybe_shared(path).ok()?);
            uri.scheme = uri.authority.is_some().then_some(scheme);
        }
        parts.uri = Uri::from_parts(uri).ok()?;
        parts.headers = self.headers().ok()?;
        Some(parts)
    }

    fn authority_of(&mut self, written: Bytes) -> Option<Authority> {
        if let Some((known, authority)) = &self.known
            && *known == written
        {
            return Some(authority.clone());
        }
        let authority = Authority::from_maybe_shared(written.clone()).ok()?;
        // Bytes of its own: the block that it came in is not kept for its sake.
        let own = Bytes::copy_from_slice(&written);
        self.known = Authority::from_maybe_shared(own.clone()).ok().map(|known| (own, known));
        Some(authority)
    }

    fn pseudo(&mut self, name: Pseudo, value: Bytes) {
        self.pseudos += 1;
        // Before all others, and once (8.3).
        self.malformed |= !self.fields.is_empty();
        let place = match name {
            Pseudo::Authority => &mut self.authority,
            Pseudo::Method => &mut self.method,
            Pseudo::Path => &mut self.path,
            Pseudo::Scheme => &mut self.scheme,
            Pseudo::Status | Pseudo::Other => {
                self.malformed = true;
                return;
            }
        };
        self.malformed |= place.replace(value).is_some();
    }
}

impl Sink for HeadReader {
    #[inline]
    fn wants(&mut self, size: usize) -> bool {
        self.size += size;
        self.size <= self.most && !self.malformed
    }

    #[inline]
    fn take(&mut self, field: Field) {
        match field {
            Field::Regular(name, value) => {
                self.malformed |= is_of_connection(&name, &value);
                self.fields.push((name, value));
            }
            Field::Pseudo(name, value) => self.pseudo(name, value),
            Field::Malformed => self.malformed = true,
        }
    }
}

/// Fields that HTTP/2 forbids: they speak of a connection of HTTP/1.1 (8.2.2).
fn is_of_connection(name: &HeaderName, value: &HeaderValue) -> bool {
    match *name {
        CONNECTION | TRANSFER_ENCODING | UPGRADE => true,
        TE => value != "trailers",
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection"),
    }
}

#[cfg(test)]
mod tests;
