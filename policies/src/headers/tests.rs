//! What goes, what stays, and what is refused, name by name.

use super::*;
use http::{Request, request};
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
        (&[("keep-alive", "timeout=5"), ("proxy-connection", "x"), ("proxy-foo", "")], false, ""),
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
    assert_eq!(asked(&[("x-weir-variant", "a"), ("x-weir-variant", "a")]), AskedVariant::Ambiguous);
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
