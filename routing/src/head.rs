//! What a rule looks at: a borrowed view of one request's head.

/// The parts of a request that routing looks at, already in their one spelling.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method, as sent.
    pub method: &'a http::Method,
    /// The host without its port, as [`canonical_authority`](crate::canonical_authority) gives it.
    pub host: &'a str,
    /// The path without its query, as [`canonical_path`](crate::canonical_path) gives it.
    pub path: &'a str,
    /// The header fields, as sent.
    pub headers: &'a http::HeaderMap,
}
