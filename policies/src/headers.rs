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

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, Entry, HOST, HeaderName,
    PROXY_AUTHORIZATION, TE, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, request};

use crate::access::api_key::{API_KEY, X_API_KEY};

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
    match name.len() {
        2 if name == "te" => SEEN_TE,
        7 if name == "upgrade" => SEEN_UPGRADE,
        10 if name == "connection" => SEEN_CONNECTION,
        10 if name == "keep-alive" => SEEN_OTHER,
        14 if name == "http2-settings" => SEEN_OTHER,
        // `proxy` is no field of any standard, but CGI programs take it for their own setting.
        5 if name == "proxy" => SEEN_OTHER,
        6.. if name.starts_with("proxy-") => SEEN_OTHER,
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

#[inline]
fn is_ours(name: &str, trusted: bool) -> bool {
    let starts_ours = match name.as_bytes() {
        [b'x', b'-', ..] => is_our_x_name(name, trusted),
        [b'f', ..] => name == "forwarded",
        [b'c' | b's', ..] => CERTIFICATE_STARTS[..3].iter().any(|start| name.starts_with(start)),
        _ => false,
    };
    starts_ours || name.as_bytes().contains(&b'_')
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
    headers.remove(AUTHORIZATION);
    headers.remove(&X_API_KEY);
    headers.remove(&API_KEY);
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
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    type Fields = &'static [(&'static str, &'static str)];

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn names(headers: &HeaderMap) -> String {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names.join(" ")
    }

    fn ordinary() -> Vec<(&'static str, &'static str)> {
        vec![
            ("host", "api.example.com"),
            ("user-agent", "OpenAI/Python 1.51.0"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip, deflate"),
            ("content-type", "application/json"),
            ("content-length", "512"),
            ("authorization", "Bearer weir_x"),
            ("x-stainless-lang", "python"),
            ("x-stainless-os", "Linux"),
            ("x-user-id", "u-1"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("x-request-id", "abcdefgh"),
        ]
    }

    #[test]
    fn an_ordinary_request_crosses_as_it_is() {
        let before = map(&ordinary());
        let mut headers = before.clone();
        assert_eq!(strip_hop_by_hop(&mut headers, false), ConnectionOptions::default());
        assert_eq!(scrub_client(&mut headers, false), AskedVariant::Nothing);
        assert_eq!(headers, before);
    }

    #[test]
    fn what_belongs_to_a_connection_ends_with_it() {
        // fields, tunnel → names left
        let table: &[(Fields, bool, &str)] = &[
            (&[("connection", "keep-alive"), ("accept", "*/*")], false, "accept"),
            (&[("connection", "close, X-Hop"), ("x-hop", "1"), ("x-end", "1")], false, "x-end"),
            (
                &[("connection", "a"), ("connection", "B ,c"), ("a", ""), ("b", ""), ("c", "")],
                false,
                "",
            ),
            (
                &[("keep-alive", "timeout=5"), ("proxy-connection", "x"), ("proxy-foo", "")],
                false,
                "",
            ),
            (&[("proxy-authorization", "Basic x"), ("proxy", "http://evil")], false, ""),
            (
                &[
                    ("http2-settings", "AAA"),
                    ("connection", "Upgrade, HTTP2-Settings"),
                    ("upgrade", "h2c"),
                ],
                false,
                "",
            ),
            (&[("connection", "Upgrade"), ("upgrade", "websocket")], false, ""),
            (&[("connection", "Upgrade"), ("upgrade", "websocket")], true, "connection upgrade"),
            (&[("upgrade", "websocket")], true, ""),
            (&[("connection", "upgrade")], true, ""),
            (&[("te", "trailers")], false, "te"),
            (&[("te", "gzip, Trailers")], false, "te"),
            (&[("te", "gzip;q=0.5"), ("connection", "te")], false, ""),
            (&[("te", "trailers"), ("connection", "te")], false, "te"),
            (&[("connection", ", ,\t,")], false, ""),
            (&[("connection", "not a name, \u{e9}, x"), ("x", "1")], false, ""),
            (&[("trailer", "x-sum"), ("proxied", "1")], false, "proxied trailer"),
        ];
        for (fields, tunnel, left) in table {
            let mut headers = map(fields);
            strip_hop_by_hop(&mut headers, *tunnel);
            assert_eq!(names(&headers), *left, "{fields:?}");
        }
    }

    #[test]
    fn connection_options_are_told_before_they_go() {
        let mut headers = map(&[("connection", "Close"), ("connection", "keep-alive, UPGRADE")]);
        let options = strip_hop_by_hop(&mut headers, false);
        assert_eq!(options, ConnectionOptions { close: true, keep_alive: true, upgrade: true });
        let mut headers = map(&[("te", "gzip"), ("te", "trailers;q=1, trailers")]);
        strip_hop_by_hop(&mut headers, false);
        assert_eq!(headers[TE], "trailers");
        let mut headers = map(&[("connection", "x, Upgrade, y"), ("upgrade", "websocket")]);
        strip_hop_by_hop(&mut headers, true);
        assert_eq!(
            (&headers[CONNECTION], &headers[UPGRADE]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
    }

    #[test]
    fn t17_connection_cannot_name_away_what_decides() {
        let kept = [
            ("host", "a"),
            ("content-length", "1"),
            ("transfer-encoding", "chunked"),
            ("authorization", "Bearer a"),
            ("x-api-key", "a"),
            ("api-key", "a"),
            ("cookie", "a=b"),
            ("x-weir-shadow", "1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-request-id", "a"),
            ("traceparent", "a"),
        ];
        let all = kept.map(|(name, _)| name.to_uppercase()).join(",");
        let mut headers = map(&kept);
        headers.insert(CONNECTION, all.parse().unwrap());
        strip_hop_by_hop(&mut headers, false);
        assert_eq!(names(&headers), names(&map(&kept)));
    }

    #[test]
    fn t17_a_client_cannot_speak_in_our_name() {
        for name in [
            "x-weir-variant",
            "x-weir-",
            "x-weir-shadow",
            "X-Weir-Receipt",
            "x_weir_variant",
            "x-weir_variant",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded-anything",
            "x-forwarded-client-cert",
            "forwarded",
            "x-real-ip",
            "x_real_ip",
            "x-envoy-original-path",
            "client-cert",
            "client-cert-chain",
            "client_cert",
            "ssl-client-s-dn",
            "ssl_client_verify",
            "x-ssl-client-cert",
            "x-ssl-cert",
            "x-client-cert",
            "x-client-certificate",
            "x-client-verify",
            "x-tls-client-subject",
            "x-amzn-mtls-clientcert",
            "x-arr-clientcert",
            "cf-client-cert-der-base64",
            "user_id",
            "_",
        ] {
            let mut headers = map(&[(name, "1"), ("accept", "*/*")]);
            scrub_client(&mut headers, false);
            assert_eq!(names(&headers), "accept", "{name}");
        }
    }

    #[test]
    fn t17_what_only_looks_similar_stays() {
        let innocent = [
            ("x-weird", "1"),
            ("x-forwarded", "1"),
            ("x-real-ips", "1"),
            ("x-envoys", "1"),
            ("forwarded-for", "1"),
            ("client-id", "1"),
            ("x-client-id", "1"),
            ("ssl", "1"),
            ("x-request-id", "1"),
            ("weir", "1"),
            ("idempotency-key", "1"),
        ];
        let mut headers = map(&innocent);
        scrub_client(&mut headers, false);
        assert_eq!(headers, map(&innocent));
    }

    #[test]
    fn t17_a_trusted_peer_is_believed_about_the_way_but_not_about_identity() {
        let mut headers = map(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-weir-shadow", "1"),
            ("x-weir-variant", "canary"),
            ("x-forwarded-client-cert", "Hash=1"),
            ("x-forwarded-tls-client-cert-info", "1"),
            ("x-client-cert", "1"),
            ("x-real-ip", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("x_forwarded_for", "10.0.0.1"),
        ]);
        let asked = scrub_client(&mut headers, true);
        assert_eq!(names(&headers), "x-forwarded-for x-forwarded-proto x-weir-shadow");
        assert_eq!(asked, AskedVariant::One(HeaderValue::from_static("canary")));
    }

    #[test]
    fn t18_a_variant_is_asked_for_once_or_not_at_all() {
        let asked = |fields| scrub_client(&mut map(fields), false);
        assert_eq!(asked(&[("x-weir-variant", "a")]), AskedVariant::One("a".parse().unwrap()));
        assert_eq!(asked(&[("x_weir_variant", "a")]), AskedVariant::Nothing);
        assert_eq!(asked(&[("x-weir-variant", "a,b")]), AskedVariant::Ambiguous);
        assert_eq!(
            asked(&[("x-weir-variant", "a"), ("x-weir-variant", "a")]),
            AskedVariant::Ambiguous
        );
    }

    #[test]
    fn t24_no_credential_of_the_client_goes_on() {
        let mut headers = map(&[
            ("authorization", "a"),
            ("authorization", "b"),
            ("x-api-key", "a"),
            ("api-key", "a"),
            ("cookie", "a=b"),
        ]);
        strip_credentials(&mut headers);
        assert_eq!(names(&headers), "cookie");
    }

    #[test]
    fn t26_a_copy_takes_nothing_along_that_could_count_twice() {
        let mut headers = map(&[
            ("authorization", "a"),
            ("x-api-key", "a"),
            ("api-key", "a"),
            ("proxy-authorization", "a"),
            ("cookie", "a=b"),
            ("cookie", "c=d"),
            ("idempotency-key", "1"),
            ("x-idempotency-key", "1"),
            ("x-request-id", "1"),
            ("content-type", "application/json"),
        ]);
        strip_for_shadow(&mut headers);
        assert_eq!(names(&headers), "content-type");
    }

    fn h2(method: &str, uri: &str, fields: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().method(method).uri(uri).body(()).unwrap();
        *request.headers_mut() = map(fields);
        request.into_parts().0
    }

    #[test]
    fn t04_what_http_2_must_not_carry_is_refused() {
        let table: &[(&str, &str, Fields, Option<H2Fault>)] = &[
            ("POST", "https://a.b/v1", &[("content-length", "5"), ("te", "trailers")], None),
            ("GET", "https://a.b/v1", &[("connection", "close")], Some(H2Fault::ConnectionField)),
            ("GET", "https://a.b/v1", &[("keep-alive", "1")], Some(H2Fault::ConnectionField)),
            ("GET", "https://a.b/v1", &[("proxy-connection", "1")], Some(H2Fault::ConnectionField)),
            ("GET", "https://a.b/v1", &[("upgrade", "h2c")], Some(H2Fault::ConnectionField)),
            (
                "GET",
                "https://a.b/v1",
                &[("transfer-encoding", "chunked")],
                Some(H2Fault::ConnectionField),
            ),
            ("GET", "https://a.b/v1", &[("te", "gzip")], Some(H2Fault::Te)),
            ("GET", "https://a.b/v1", &[("te", "trailers, gzip")], Some(H2Fault::Te)),
            ("GET", "https://a.b/v1", &[("te", "trailers"), ("te", "gzip")], Some(H2Fault::Te)),
            ("GET", "https://a.b/v1", &[("host", "A.b:443")], None),
            ("GET", "https://a.b:8443/v1", &[("host", "a.b:8443")], None),
            ("GET", "https://a.b:8443/v1", &[("host", "a.b")], Some(H2Fault::Host)),
            ("GET", "https://a.b/v1", &[("host", "c.d")], Some(H2Fault::Host)),
            ("GET", "https://a.b/v1", &[("host", "")], Some(H2Fault::Host)),
            ("GET", "https://a.b/v1", &[("host", "a.b"), ("host", "a.b")], Some(H2Fault::Host)),
            ("GET", "/v1", &[("host", "a.b")], None),
            ("OPTIONS", "*", &[], None),
            ("GET", "*", &[], Some(H2Fault::Path)),
            ("CONNECT", "a.b:443", &[], None),
            ("GET", "a.b:443", &[], Some(H2Fault::Path)),
            ("POST", "/", &[("content-length", "+5")], Some(H2Fault::ContentLength)),
            ("POST", "/", &[("content-length", "")], Some(H2Fault::ContentLength)),
            ("POST", "/", &[("content-length", "5, 5")], Some(H2Fault::ContentLength)),
            (
                "POST",
                "/",
                &[("content-length", "5"), ("content-length", "5")],
                Some(H2Fault::ContentLength),
            ),
        ];
        for (method, uri, fields, fault) in table {
            let head = h2(method, uri, fields);
            assert_eq!(h2_request_fault(&head), *fault, "{method} {uri} {fields:?}");
        }
    }

    #[test]
    fn t04_cookie_crumbs_become_one_cookie() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3; d=4")]);
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3; d=4"]);
        let mut headers = map(&[("cookie", "a=1")]);
        headers.get_mut(COOKIE).unwrap().set_sensitive(true);
        join_cookies(&mut headers);
        assert_eq!(headers[COOKIE], "a=1");
        headers.append(COOKIE, "b".parse().unwrap());
        join_cookies(&mut headers);
        assert!(headers[COOKIE].is_sensitive());
    }

    #[test]
    fn t17_where_a_request_came_from_is_appended_to_what_a_trusted_peer_said() {
        let ip = address_value("::ffff:192.0.2.7".parse().unwrap());
        let host = HeaderValue::from_static("api.example.com");
        let mut headers = map(&[("accept", "*/*")]);
        set_forwarded(&mut headers, &ip, "https", Some(&host));
        assert_eq!(headers[X_FORWARDED_FOR], "192.0.2.7");
        assert_eq!(headers[X_FORWARDED_PROTO], "https");
        assert_eq!(headers[X_FORWARDED_HOST], "api.example.com");

        let mut headers = map(&[
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
        ]);
        set_forwarded(&mut headers, &address_value("2001:db8::1".parse().unwrap()), "http", None);
        let all: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
        assert_eq!(all, ["198.51.100.1, 10.0.0.1, 2001:db8::1"]);
        assert_eq!(headers[X_FORWARDED_PROTO], "https");
        assert!(!headers.contains_key(X_FORWARDED_HOST));
    }

    fn forbidden_name() -> impl Strategy<Value = String> {
        let starts: Vec<&str> = ["x-weir-", "x-forwarded-", "x-envoy-"]
            .into_iter()
            .chain(CERTIFICATE_STARTS)
            .chain(FORWARDED_CERTIFICATE_STARTS)
            .collect();
        let whole = prop::sample::select(vec!["forwarded", "x-real-ip"]).prop_map(str::to_owned);
        let begun = (prop::sample::select(starts), "[a-z0-9-]{0,12}")
            .prop_map(|(start, rest)| format!("{start}{rest}"));
        // Any mix of `-` and `_`, and of upper and lower case.
        (prop_oneof![whole, begun], any::<u64>()).prop_map(|(name, mix)| {
            let spelt = name.chars().enumerate().map(|(at, each)| {
                let bit = mix >> (at % 64) & 1 == 1;
                match each {
                    '-' if bit => '_',
                    _ if bit => each.to_ascii_uppercase(),
                    _ => each,
                }
            });
            spelt.collect()
        })
    }

    fn is_listed(name: &str) -> bool {
        let name = name.replace('_', "-").to_ascii_lowercase();
        let starts = ["x-weir-", "x-forwarded-", "x-envoy-"];
        let mut starts = starts.iter().chain(&CERTIFICATE_STARTS);
        name == "forwarded" || name == "x-real-ip" || starts.any(|start| name.starts_with(start))
    }

    proptest! {
        #[test]
        fn t17_nothing_listed_survives_in_any_spelling(
            forbidden in prop::collection::vec(forbidden_name(), 0..12),
            others in prop::collection::vec("[a-zA-Z][a-zA-Z0-9_-]{0,20}", 0..12),
            trusted: bool,
        ) {
            let mut headers = HeaderMap::new();
            for (at, name) in forbidden.iter().chain(&others).enumerate() {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, HeaderValue::from(at));
            }
            let before = headers.clone();
            scrub_client(&mut headers, trusted);
            for name in headers.keys().map(HeaderName::as_str) {
                prop_assert!(!name.contains('_'), "{}", name);
                let believed = trusted
                    && (name == "x-weir-shadow" || name.starts_with("x-forwarded-"))
                    && !FORWARDED_CERTIFICATE_STARTS.iter().any(|start| name.starts_with(start));
                prop_assert!(believed || !is_listed(name), "{}", name);
            }
            for name in before.keys() {
                let kept = headers.contains_key(name);
                let innocent = !is_listed(name.as_str()) && !name.as_str().contains('_');
                prop_assert!(kept || !innocent, "{} was innocent", name);
            }
        }

        #[test]
        fn nothing_of_a_connection_survives_and_stripping_twice_changes_nothing(
            named in prop::collection::vec("[a-zA-Z][a-zA-Z-]{0,6}", 0..8),
            present in prop::collection::vec(
                "[a-z][a-z-]{0,6}|te|upgrade|keep-alive|proxy-[a-z]{1,4}",
                0..12,
            ),
            tunnel: bool,
        ) {
            let mut headers = HeaderMap::new();
            for name in &present {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, HeaderValue::from_static("trailers"));
            }
            if !named.is_empty() {
                headers.append(CONNECTION, named.join(", ").parse().unwrap());
            }
            strip_hop_by_hop(&mut headers, false);
            for name in headers.keys().map(HeaderName::as_str) {
                prop_assert!(!["connection", "keep-alive", "upgrade"].contains(&name));
                prop_assert!(!name.starts_with("proxy-"));
                let was_named = named.iter().any(|each| each.eq_ignore_ascii_case(name));
                prop_assert!(!was_named || cannot_be_named(name), "{}", name);
            }
            let once = headers.clone();
            strip_hop_by_hop(&mut headers, tunnel);
            prop_assert_eq!(headers, once);
        }
    }
}
