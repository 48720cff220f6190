//! What stays together: the user, tenant, conversation or request that keeps its variant.

use http::header::COOKIE;
use http::{HeaderMap, HeaderName};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// One unit's name, as it goes into the hash. An empty name is no unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit<'a>(pub Cow<'a, str>);

/// Where the name of a unit is to be found in a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UnitSource {
    /// `header:x-user-id`
    Header(HeaderName),
    /// `cookie:sid`; see [`cookie`].
    Cookie(Box<str>),
    /// `jwt:sub`: a claim of a checked token.
    Jwt(Box<str>),
    /// `body:/user`: a JSON pointer (RFC 6901) into the body.
    Body(Box<str>),
    /// `key`: the API key the client came with.
    Key,
    /// `address`: the client's address.
    Address,
    /// `request`: each request by itself.
    Request,
}

/// What is wrong with a written unit source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitSourceFault {
    /// None of the forms.
    #[error(
        "`{written}` is not a unit; write header:NAME, cookie:NAME, jwt:CLAIM, body:/JSON/pointer, \
         key, address or request"
    )]
    Unknown {
        /// What was written.
        written: Box<str>,
    },
    /// The right form, but what stands after the colon cannot be.
    #[error("`{written}` does not say {wanted}")]
    Name {
        /// What was written.
        written: Box<str>,
        /// What should stand after the colon, with an example.
        wanted: &'static str,
    },
}

impl FromStr for UnitSource {
    type Err = UnitSourceFault;

    /// Reads a source as written in a configuration. `body:user.id` is short for `body:/user/id`.
    fn from_str(written: &str) -> Result<Self, UnitSourceFault> {
        let wrong = |wanted| UnitSourceFault::Name { written: written.into(), wanted };
        match written.split_once(':') {
            None if written == "key" => Ok(Self::Key),
            None if written == "address" => Ok(Self::Address),
            None if written == "request" => Ok(Self::Request),
            Some(("header", name)) => name
                .parse()
                .map(Self::Header)
                .map_err(|_| wrong("which header, as in header:x-user-id")),
            Some(("cookie", name)) if is_token(name) => Ok(Self::Cookie(name.into())),
            Some(("cookie", _)) => Err(wrong("which cookie, as in cookie:sid")),
            Some(("jwt", claim)) if !claim.is_empty() => Ok(Self::Jwt(claim.into())),
            Some(("jwt", _)) => Err(wrong("which claim, as in jwt:sub")),
            Some(("body", place)) => pointer(place)
                .map(Self::Body)
                .ok_or_else(|| wrong("which member, as in body:/user/id or body:user.id")),
            Some(_) | None => Err(UnitSourceFault::Unknown { written: written.into() }),
        }
    }
}

impl fmt::Display for UnitSource {
    /// What [`FromStr`] reads back as the same source.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Jwt(claim) => write!(f, "jwt:{claim}"),
            Self::Body(pointer) => write!(f, "body:{pointer}"),
            Self::Key => f.write_str("key"),
            Self::Address => f.write_str("address"),
            Self::Request => f.write_str("request"),
        }
    }
}

/// The value of the cookie `name`, over all `Cookie` fields.
///
/// `None` if it is missing or empty, if its value is not UTF-8, or if it is given twice with
/// different values: then nobody can say which of them the backend would believe.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut found: Option<&[u8]> = None;
    for field in headers.get_all(COOKIE) {
        for pair in field.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            let Some(value) = pair.strip_prefix(name.as_bytes()) else { continue };
            let Some(value) = value.strip_prefix(b"=") else { continue };
            if found.is_some_and(|earlier| earlier != value) {
                return None;
            }
            found = Some(value);
        }
    }
    std::str::from_utf8(found?).ok().filter(|value| !value.is_empty())
}

/// A `place` in a body, `/user/id` or `user.id`, as a JSON pointer.
fn pointer(place: &str) -> Option<Box<str>> {
    if let Some(steps) = place.strip_prefix('/') {
        // `~` may only stand in `~0` and `~1`; the pointer `/` would name a member without a name.
        let tildes_hold = steps.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        return (!steps.is_empty() && tildes_hold).then(|| place.into());
    }
    let mut pointer = String::with_capacity(place.len() + 1);
    for step in place.split('.') {
        if step.is_empty() {
            return None;
        }
        pointer.push('/');
        pointer.push_str(&step.replace('~', "~0").replace('/', "~1"));
    }
    Some(pointer.into())
}

/// Whether `name` is a token (RFC 9110 5.6.2), as the name of a cookie must be.
fn is_token(name: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token_byte)
}
