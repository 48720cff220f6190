//! Which header fields cross the gateway, and which do not.
//!
//! Four doors, each with its own list: a connection's own fields end at it
//! ([`strip_hop_by_hop`]), a client cannot speak in the gateway's name ([`scrub_client`]), a
//! client's credential ends here ([`strip_credentials`]), and a copy takes nothing along that could
//! make it count twice ([`strip_for_shadow`]). The gateway adds its own fields after these, so that
//! nothing a client sends can take them off again.
//!
//! All of them walk the names once and compare by length or first byte before anything else. They
//! allocate only if something has to go.

use std::net::IpAddr;

use http::header::{CONNECTION, COOKIE, Entry, HeaderName, PROXY_AUTHORIZATION, TE, UPGRADE};
use http::{HeaderMap, HeaderValue};

use crate::access::api_key::FIELDS;

mod h2;
mod seen;

pub use h2::{H2Fault, h2_request_fault, join_cookies};
pub use seen::Seen;

/// `x-weir-variant`: on a request the variant a caller asks for, on an answer the one that served.
pub const X_WEIR_VARIANT: HeaderName = HeaderName::from_static("x-weir-variant");
/// `x-weir-shadow`: marks a copy.
pub const X_WEIR_SHADOW: HeaderName = HeaderName::from_static("x-weir-shadow");
/// `x-request-id`.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `x-forwarded-for`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `x-forwarded-proto`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `x-forwarded-host`.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const X_IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("x-idempotency-key");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// What `Connection` asked for, before it was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// The sender will close after this message.
    pub close: bool,
    /// An HTTP/1.0 sender wants to go on.
    pub keep_alive: bool,
    /// The sender wants to change the protocol; the `Upgrade` field says to what.
    pub upgrade: bool,
}

/// Removes what belongs to one connection (RFC 9110, 7.6.1): `Connection` and the fields it names,
/// `Keep-Alive`, `Proxy-*`, `HTTP2-Settings`, `TE` except `trailers`, and `Upgrade`. For requests
/// and answers alike.
///
/// `tunnel`: this message asks for, or agrees to, a change of protocol that the route allows. Then
/// `Upgrade` stays if `Connection` names it, and `Connection` says `upgrade` and nothing else.
///
/// `Connection` cannot name away what decides over framing, target or identity: `Host`,
/// `Content-Length`, `Transfer-Encoding`, credentials, trace context, and the `x-weir-*`,
/// `x-forwarded-*` and `x-request-id` fields (T17). The two length fields are left alone here: who
/// writes the message frames it anew.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, tunnel: bool) -> ConnectionOptions {
    let mut options = ConnectionOptions::default();
    let mut seen = 0;
    for name in headers.keys() {
        seen |= hop_by_hop(name.as_str());
    }
    if seen == 0 {
        return options;
    }
    if seen & SEEN_CONNECTION != 0 {
        take_connection(headers, &mut options);
    }
    if seen & SEEN_TE != 0 {
        keep_trailers_only(headers);
    }
    if seen & SEEN_UPGRADE != 0 {
        if tunnel && options.upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        } else {
            headers.remove(UPGRADE);
        }
    }
    if seen & SEEN_OTHER != 0 {
        remove_where(headers, |name| hop_by_hop(name) == SEEN_OTHER);
    }
    options
}

const SEEN_CONNECTION: u8 = 1;
const SEEN_TE: u8 = 2;
const SEEN_UPGRADE: u8 = 4;
const SEEN_OTHER: u8 = 8;

#[inline]
fn hop_by_hop(name: &str) -> u8 {
    match name.as_bytes().first() {
        Some(b't') if name == "te" => SEEN_TE,
        Some(b'u') if name == "upgrade" => SEEN_UPGRADE,
        Some(b'c') if name == "connection" => SEEN_CONNECTION,
        Some(b'k') if name == "keep-alive" => SEEN_OTHER,
        Some(b'h') if name == "http2-settings" => SEEN_OTHER,
        // `proxy` is no field of any standard, but CGI programs take it for their own setting.
        Some(b'p') if name == "proxy" || name.starts_with("proxy-") => SEEN_OTHER,
        _ => 0,
    }
}

fn take_connection(headers: &mut HeaderMap, options: &mut ConnectionOptions) {
    if headers.get_all(CONNECTION).iter().nth(1).is_none() {
        if let Some(value) = headers.remove(CONNECTION) {
            take_named(headers, &value, options);
        }
        return;
    }
    let values: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    headers.remove(CONNECTION);
    for value in values {
        take_named(headers, &value, options);
    }
}

fn take_named(headers: &mut HeaderMap, connection: &HeaderValue, options: &mut ConnectionOptions) {
    for token in tokens(connection) {
        if token.eq_ignore_ascii_case("close") {
            options.close = true;
        } else if token.eq_ignore_ascii_case("keep-alive") {
            options.keep_alive = true;
        } else if token.eq_ignore_ascii_case("upgrade") {
            options.upgrade = true;
        } else if !cannot_be_named(token) {
            headers.remove(token);
        }
    }
}

/// The members of a comma list; those that are not text name no field.
fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    let members = value.as_bytes().split(|&byte| byte == b',');
    let trimmed = members.filter_map(|member| std::str::from_utf8(member.trim_ascii()).ok());
    trimmed.filter(|member| !member.is_empty())
}

fn cannot_be_named(token: &str) -> bool {
    const NAMES: [&str; 12] = [
        "host",
        "content-length",
        "transfer-encoding",
        "authorization",
        "x-api-key",
        "api-key",
        "cookie",
        "traceparent",
        "tracestate",
        "x-request-id",
        // These two have rules of their own.
        "te",
        "connection",
    ];
    const STARTS: [&str; 2] = ["x-weir-", "x-forwarded-"];
    let starts_with = |start: &str| {
        token.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
    };
    NAMES.iter().any(|name| token.eq_ignore_ascii_case(name))
        || STARTS.iter().any(|start| starts_with(start))
}

fn keep_trailers_only(headers: &mut HeaderMap) {
    let mut values = headers.get_all(TE).iter();
    let is_alone = values.next() == Some(&TRAILERS) && values.next().is_none();
    if is_alone {
        return;
    }
    let has_trailers = headers
        .get_all(TE)
        .iter()
        .flat_map(tokens)
        .any(|each| each.eq_ignore_ascii_case("trailers"));
    if has_trailers {
        headers.insert(TE, TRAILERS);
    } else {
        headers.remove(TE);
    }
}

fn remove_where(headers: &mut HeaderMap, goes: impl Fn(&str) -> bool) {
    // An empty vector does not allocate.
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| goes(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The variant that a client asked for; whether it may is for the caller to find out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AskedVariant {
    /// It did not.
    #[default]
    Nothing,
    /// This one. Text of the client's: compared with the names of variants, never shown.
    One(HeaderValue),
    /// Several, or a list: to be refused from whoever may ask at all (T18).
    Ambiguous,
}

/// Removes what only the gateway may say (T17), and gives back the one thing that a client may ask
/// for in its language, `x-weir-variant`. Before authentication.
///
/// Goes: `x-weir-*`, `x-forwarded-*`, `forwarded`, `x-real-ip`, `x-envoy-*`, whatever proxies use
/// to hand on a client certificate, and every name with a `_` (CVE-2026-39858: many backends read
/// `_` and `-` as the same).
///
/// `trusted`: the peer is one whose word the configuration believes; then `x-forwarded-*` and
/// `x-weir-shadow` stay. Certificates do not, whoever sends them (T15).
pub fn scrub_client(headers: &mut HeaderMap, trusted: bool) -> AskedVariant {
    let mut any = false;
    for name in headers.keys() {
        any |= is_ours(name.as_str(), trusted);
    }
    if !any {
        return AskedVariant::Nothing;
    }
    let mut values = headers.get_all(&X_WEIR_VARIANT).iter();
    let asked = match (values.next(), values.next()) {
        (None, _) => AskedVariant::Nothing,
        (Some(one), None) if !one.as_bytes().contains(&b',') => AskedVariant::One(one.clone()),
        (Some(_), _) => AskedVariant::Ambiguous,
    };
    remove_where(headers, |name| is_ours(name, trusted));
    asked
}

/// How proxies hand on the certificate of a client: RFC 9440, NGINX and Apache by custom, Envoy,
/// Traefik, Amazon, Azure, Cloudflare.
const CERTIFICATE_STARTS: [&str; 11] = [
    "client-cert",
    "ssl-client-",
    "cf-client-cert-",
    "x-ssl-",
    "x-tls-client-",
    "x-client-cert",
    "x-client-verify",
    "x-client-dn",
    "x-amzn-mtls-",
    "x-arr-clientcert",
    "x-mtls-",
];
const FORWARDED_CERTIFICATE_STARTS: [&str; 2] =
    ["x-forwarded-client-cert", "x-forwarded-tls-client"];

fn is_ours(name: &str, trusted: bool) -> bool {
    starts_as_ours(name, trusted) || has_underscore(name)
}

#[inline]
fn starts_as_ours(name: &str, trusted: bool) -> bool {
    match name.as_bytes() {
        // The third byte tells most names apart from all of ours.
        [b'x', b'-', b'a' | b'c' | b'e' | b'f' | b'm' | b'r' | b's' | b't' | b'w', ..] => {
            is_our_x_name(name, trusted)
        }
        [b'f', ..] => name == "forwarded",
        [b'c' | b's', ..] => CERTIFICATE_STARTS[..3].iter().any(|start| name.starts_with(start)),
        _ => false,
    }
}

/// Eight bytes at a time: a name is too short for a search to be set up.
#[inline]
fn has_underscore(name: &str) -> bool {
    const ONES: u64 = u64::MAX / 0xff;
    // A name is ASCII, so only a byte that is `_` borrows into its highest bit or from the next.
    let has = |word: u64| {
        let differs = word ^ (ONES * 0x5f);
        differs.wrapping_sub(ONES) & !differs & (ONES * 0x80) != 0
    };
    let (words, rest) = name.as_bytes().as_chunks::<8>();
    words.iter().fold(false, |found, word| found | has(u64::from_le_bytes(*word)))
        | rest.iter().fold(false, |found, byte| found | (*byte == b'_'))
}

fn is_our_x_name(name: &str, trusted: bool) -> bool {
    if name.starts_with("x-forwarded-") {
        return !trusted
            || FORWARDED_CERTIFICATE_STARTS.iter().any(|start| name.starts_with(start));
    }
    if name.starts_with("x-weir-") {
        return !(trusted && name == "x-weir-shadow");
    }
    name.starts_with("x-envoy-")
        || name == "x-real-ip"
        || CERTIFICATE_STARTS[3..].iter().any(|start| name.starts_with(start))
}

/// Removes the client's credential in each of its three forms (T24). The backend's own is added
/// after this.
pub fn strip_credentials(headers: &mut HeaderMap) {
    // One pass over the names instead of a search for each.
    let mut there = [false; 3];
    for name in headers.keys() {
        for (there, credential) in there.iter_mut().zip(&FIELDS) {
            *there |= name == credential;
        }
    }
    for (_, name) in there.into_iter().zip(&FIELDS).filter(|(there, _)| *there) {
        headers.remove(name);
    }
}

/// Removes from a copy what would let it act in the client's name or count twice (T26):
/// credentials, cookies, idempotency keys and the request id of the original.
///
/// The caller then adds the shadow backend's credential, a fresh request id and
/// [`X_WEIR_SHADOW`] with the value `1`.
pub fn strip_for_shadow(headers: &mut HeaderMap) {
    strip_credentials(headers);
    headers.remove(PROXY_AUTHORIZATION);
    headers.remove(COOKIE);
    headers.remove(&IDEMPOTENCY_KEY);
    headers.remove(&X_IDEMPOTENCY_KEY);
    headers.remove(&X_REQUEST_ID);
}

/// `values` one after the other with `between` in between; sensitive if one of them is.
fn join(values: &[&HeaderValue], between: &[u8]) -> Option<HeaderValue> {
    let parts: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
    // Parts and separators are valid values, so the whole is one; `ok` says so without a panic.
    let mut joined = HeaderValue::from_bytes(&parts.join(between)).ok()?;
    joined.set_sensitive(values.iter().any(|value| value.is_sensitive()));
    Some(joined)
}

/// An address as it stands in `X-Forwarded-For`: without port and brackets, and IPv4 as IPv4 also
/// where a socket for both gave it as IPv6. Once for each connection.
#[expect(clippy::expect_used, reason = "an address is written in visible ASCII")]
pub fn address_value(address: IpAddr) -> HeaderValue {
    HeaderValue::try_from(address.to_canonical().to_string()).expect("an address is visible ASCII")
}

/// Tells the backend where a request came from; after [`scrub_client`].
///
/// * `client_ip`: [`address_value`] of the peer, appended to what a trusted peer has sent.
/// * `proto`: `https` or `http`, as the peer came in.
/// * `host`: what the client asked for.
///
/// The first of several proxies knows what the client typed: protocol and host of a trusted peer
/// are kept as they are, because backends compare them with one word and no list would match.
pub fn set_forwarded(
    headers: &mut HeaderMap,
    client_ip: &HeaderValue,
    proto: &'static str,
    host: Option<&HeaderValue>,
) {
    match headers.entry(X_FORWARDED_FOR) {
        Entry::Vacant(nobody_before) => {
            nobody_before.insert(client_ip.clone());
        }
        Entry::Occupied(mut before) => {
            let all: Vec<&HeaderValue> = before.iter().chain([client_ip]).collect();
            if let Some(joined) = join(&all, b", ") {
                before.insert(joined);
            }
        }
    }
    headers.entry(X_FORWARDED_PROTO).or_insert_with(|| HeaderValue::from_static(proto));
    if let Some(host) = host {
        headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
    }
}

#[cfg(test)]
mod tests;
