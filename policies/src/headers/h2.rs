//! A request over HTTP/2, before it goes on over HTTP/1.1 (T04).

use http::header::{CONTENT_LENGTH, COOKIE, HOST, TE};
use http::{HeaderMap, HeaderValue, Method, request};

use super::{TRAILERS, join};

/// What is wrong with an HTTP/2 request that has been parsed (T04).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum H2Fault {
    /// `connection`, `keep-alive`, `proxy-connection`, `transfer-encoding` or `upgrade`.
    #[error("a field of an HTTP/1.1 connection in an HTTP/2 request")]
    ConnectionField,
    /// A `te` that says more than `trailers`.
    #[error("te may only say trailers")]
    Te,
    /// `host` is repeated or names another authority than `:authority`.
    #[error("host and :authority differ")]
    Host,
    /// `:path` is empty, does not start with `/`, or is `*` on another method than OPTIONS.
    #[error(":path is not a path")]
    Path,
    /// `content-length` is repeated or not a number. The sum of the DATA is the reader's to check.
    #[error("content-length is not one number")]
    ContentLength,
}

/// The faults of T04 that a parsed head can still show; `None` if there is none.
///
/// What cannot be seen here any more (CR, LF, NUL, upper case, order of pseudo-headers) has been
/// refused by the parser. That parser refuses some of these too: this asks again, because what is
/// written to an HTTP/1.1 backend must not depend on another crate's promise.
pub fn h2_request_fault(head: &request::Parts) -> Option<H2Fault> {
    for name in head.headers.keys() {
        let connection_field = match name.as_str() {
            "connection" | "keep-alive" | "proxy-connection" | "upgrade" => true,
            "transfer-encoding" => true,
            "te" if head.headers.get_all(TE).iter().any(|value| value != TRAILERS) => {
                return Some(H2Fault::Te);
            }
            _ => false,
        };
        if connection_field {
            return Some(H2Fault::ConnectionField);
        }
    }
    if host_differs(head) {
        return Some(H2Fault::Host);
    }
    let path_is_fine = match head.uri.path() {
        // A CONNECT without `:protocol` has no path. Whether it is served at all is not asked here.
        "" => head.method == Method::CONNECT,
        "*" => head.method == Method::OPTIONS,
        path => path.starts_with('/'),
    };
    if !path_is_fine {
        return Some(H2Fault::Path);
    }
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        let digits = length.as_bytes();
        let is_number = (1..=19).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
        if !is_number || lengths.next().is_some() {
            return Some(H2Fault::ContentLength);
        }
    }
    None
}

fn host_differs(head: &request::Parts) -> bool {
    let mut hosts = head.headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else { return false };
    if hosts.next().is_some() {
        return true;
    }
    let Some(authority) = head.uri.authority() else { return false };
    let default_port = match head.uri.scheme_str() {
        Some("https") => ":443",
        Some("http") => ":80",
        _ => "",
    };
    let host = host.to_str().unwrap_or_default();
    let without_default = |text| str::strip_suffix(text, default_port).unwrap_or(text);
    !without_default(authority.as_str()).eq_ignore_ascii_case(without_default(host))
}

/// Makes one `Cookie` of several, joined with `; `: HTTP/2 clients send crumbs, HTTP/1.1 allows one
/// field (RFC 9113, 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&HeaderValue> = headers.get_all(COOKIE).iter().collect();
    if let Some(joined) = join(&crumbs, b"; ") {
        headers.insert(COOKIE, joined);
    }
}
