//! What of a request's head goes on and in which form: path, host, fields, credentials (hardening
//! T04 to T06, T17, T18, T24), and raw HTTP/2.

use serde_json::Value;
use weir_tests::raw_client::frames::{self, code, kind};
use weir_tests::{Backend, Gateway, RawClient, backend, gateway, millis, seconds, until};

use crate::wire_kit::{all_to, all_to_with, echoed, listening, send_raw, values_of, with_key};

async fn echo_of(gateway: &Gateway, request: &str) -> Value {
    let mut raw = gateway.raw().await;
    raw.send(with_key(gateway, request.as_bytes())).await.unwrap();
    let answer = raw.read_response(seconds(5)).await.unwrap();
    assert_eq!(answer.status, 200, "{request:?}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn get(target: &str, host: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer KEY\r\n\r\n")
}

#[tokio::test]
async fn t05_the_backend_gets_the_canonical_path_and_the_query_untouched() {
    let served = backend().echo().start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    for (target, path, query) in [
        ("/a/b", "/a/b", None),
        ("/a//b", "/a/b", None),
        ("/a/./b/.", "/a/b/", None),
        ("/a/b/../c", "/a/c", None),
        ("/%61%2Db%7e", "/a-b~", None),
        ("/a%20b", "/a%20b", None),
        ("/a/%2e%2e/b", "/b", None),
        ("/a?x=%2F&y=a;b/../c\\d&z={}", "/a", Some("x=%2F&y=a;b/../c\\d&z={}")),
        ("/a?", "/a", Some("")),
        ("http://x/abs?q", "/abs", Some("q")),
        ("http://x", "/", None),
    ] {
        let echo = echo_of(&gateway, &get(target, "x")).await;
        assert_eq!(echo["path"], path, "{target}");
        // hyper's echo cannot tell `?` without anything behind it from no query.
        if query != Some("") {
            assert_eq!(echo["query"].as_str(), query, "{target}");
        }
    }
}

#[tokio::test]
async fn t05_a_path_with_two_readings_is_refused() {
    let served = listening().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    for target in [
        "/a%2Fb",
        "/a%2fb",
        "/a%5Cb",
        "/a%00b",
        "/a%0Ab",
        "/a\\b",
        "/a;b",
        "/a/;x/b",
        "/a%zz",
        "/a%",
        "/a%2",
        "/../a",
        "/a/../../b",
        "/%2e%2e/a",
        "/a#b",
        "/a^b",
        "*",
        "a",
    ] {
        let mut raw = gateway.raw().await;
        raw.send(with_key(&gateway, get(target, "x").as_bytes())).await.unwrap();
        let answer = raw.read_response(seconds(2)).await.unwrap();
        assert_eq!(answer.status, 400, "{target}: {}", answer.text());
    }
    assert_eq!(served.received_bytes(), 0);
}

/// A rule on a path holds for every spelling of it, and for nothing that only looks like it.
#[tokio::test]
async fn t05_a_route_is_found_by_the_path_that_its_backend_gets() {
    let (open, closed) =
        (backend().answers("open").start().await, backend().answers("closed").start().await);
    let text = format!(
        "[backends.open]\nendpoints = [\"{}\"]\n[backends.closed]\nendpoints = [\"{}\"]\n\
         [routes.open]\npath = \"/*\"\nbackend = \"open\"\n\
         [routes.closed]\npath = \"/admin/*\"\nbackend = \"closed\"\n",
        open.url(),
        closed.url()
    );
    let gateway = gateway(text).start().await;
    for target in ["/admin/x", "//admin/x", "/./admin/x", "/%61dmin/x", "/a/../admin/x"] {
        let (answer, _) = send_raw(&gateway, get(target, "x").as_bytes()).await;
        assert_eq!(answer.text(), "closed", "{target}");
    }
    let (answer, _) = send_raw(&gateway, get("/admin/../x", "x").as_bytes()).await;
    assert_eq!(answer.text(), "open");
    assert!(closed.seen().iter().all(|seen| seen.path() == "/admin/x"));
}

#[tokio::test]
async fn t06_hosts_must_be_known_and_said_in_one_way() {
    let served = backend().echo().start().await;
    let hosts = "hosts = [\"api.test\"]\n";
    let gateway = gateway(all_to_with(&served.url(), "", hosts)).start().await;
    for (target, host, status) in [
        ("/", "api.test", 200),
        ("/", "API.Test:8443", 200),
        ("http://api.test/", "api.test", 200),
        ("/", "other.test", 421),
        ("/", "api.test.evil.test", 421),
        ("http://other.test/", "api.test", 400),
        ("http://api.test/", "other.test", 400),
        ("http://user@api.test/", "api.test", 400),
        ("/", "user@api.test", 400),
        ("/", "api.test:1:2", 400),
        ("/", "api.test:99999", 400),
        ("/", "api.test/x", 400),
        ("/", "api test", 400),
        ("/", "", 400),
    ] {
        let mut raw = gateway.raw().await;
        raw.send(with_key(&gateway, get(target, host).as_bytes())).await.unwrap();
        let answer = raw.read_response(seconds(2)).await.unwrap();
        assert_eq!(answer.status, status, "{target} {host}: {}", answer.text());
    }
    assert_eq!(served.calls(), 3);
    for seen in served.seen() {
        assert_eq!(seen.header("host"), Some(&*served.addr.to_string()), "never the client's");
    }
}

#[tokio::test]
async fn t06_a_route_may_keep_the_host_that_the_client_said() {
    let served = backend().echo().start().await;
    let gateway = gateway(all_to_with(&served.url(), "", "preserve_host = true\n")).start().await;
    let echo = echo_of(&gateway, &get("/", "api.test:8443")).await;
    assert_eq!(values_of(&echoed(&echo), "host"), ["api.test:8443"]);
}

#[tokio::test]
async fn t17_a_client_cannot_speak_in_the_gateways_name() {
    let served = backend().echo().start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let spoofed = "\
        x-weir-experiment: e@1\r\nx-weir-shadow: 1\r\nx-weir-anything: y\r\n\
        x-forwarded-for: 1.2.3.4\r\nx-forwarded-host: evil.test\r\nx-forwarded-proto: http\r\n\
        forwarded: for=1.2.3.4\r\nx-real-ip: 1.2.3.4\r\nx-envoy-internal: true\r\n\
        x-forwarded-client-cert: y\r\nclient-cert: y\r\nssl-client-s-dn: y\r\n\
        x_forwarded_for: 1.2.3.4\r\nX_Weir_Shadow: 1\r\ncontent_length: 5\r\nmy_field: y\r\n\
        connection: x-forwarded-for, x-request-id, x-named, host\r\nx-named: y\r\n\
        keep-alive: timeout=5\r\nproxy-authorization: Basic y\r\nx-mine: kept\r\n";
    let request = get("/", "x").replace("\r\n\r\n", &format!("\r\n{spoofed}\r\n"));
    let fields = echoed(&echo_of(&gateway, &request).await);
    for gone in [
        "x-weir-experiment",
        "x-weir-shadow",
        "x-weir-anything",
        "forwarded",
        "x-real-ip",
        "x-envoy-internal",
        "x-forwarded-client-cert",
        "client-cert",
        "ssl-client-s-dn",
        "x_forwarded_for",
        "x_weir_shadow",
        "content_length",
        "my_field",
        "x-named",
        "keep-alive",
        "proxy-authorization",
        "connection",
        "authorization",
    ] {
        assert_eq!(values_of(&fields, gone), Vec::<String>::new(), "{gone} in {fields:?}");
    }
    assert_eq!(values_of(&fields, "x-mine"), ["kept"]);
    assert_eq!(values_of(&fields, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(values_of(&fields, "x-forwarded-proto"), ["https"]);
    assert_eq!(values_of(&fields, "x-forwarded-host"), ["x"]);
    assert_eq!(values_of(&fields, "host"), [served.addr.to_string()]);
}

/// Trailers are fields too: what may not stand in the head may not come after the body.
#[tokio::test]
async fn t17_trailers_cannot_carry_what_a_head_may_not() {
    let served = backend().echo().h2().start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let answer = gateway
        .client()
        .h2()
        .post("/", "abc")
        .trailers(&[
            ("x-checksum", "1"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-weir-shadow", "1"),
            ("x_weir_shadow", "1"),
            ("x-api-key", "secret"),
        ])
        .await;
    assert_eq!(answer.status, 200);
    let trailers = answer.json()["trailers"].clone();
    assert_eq!(trailers, serde_json::json!([["x-checksum", "1"]]));
}

#[tokio::test]
async fn t18_a_header_that_decides_must_be_there_once_with_one_value() {
    let (research, rest) =
        (backend().answers("research").start().await, backend().answers("rest").start().await);
    let text = format!(
        "[backends.research]\nendpoints = [\"{}\"]\n[backends.rest]\nendpoints = [\"{}\"]\n\
         [routes.research]\npath = \"/*\"\nheaders = {{ x-team = \"research\" }}\n\
         backend = \"research\"\n[routes.rest]\npath = \"/*\"\nbackend = \"rest\"\n",
        research.url(),
        rest.url()
    );
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    assert_eq!(client.get("/").header("x-team", "research").await.text(), "research");
    assert_eq!(client.get("/").header("x-team", "Research").await.text(), "rest");
    assert_eq!(client.get("/").await.text(), "rest");
    let (seen, seen_rest) = (research.calls(), rest.calls());
    for client in [client, gateway.client().h2()] {
        let twice = client.get("/").header("x-team", "research").header("x-team", "other").await;
        assert_eq!(twice.status, 400, "{}", twice.text());
        let same = client.get("/").header("x-team", "research").header("x-team", "research").await;
        assert_eq!(same.status, 400);
        let list = client.get("/").header("x-team", "research, other").await;
        assert_eq!(list.status, 400);
    }
    assert_eq!((research.calls(), rest.calls()), (seen, seen_rest));
}

#[tokio::test]
async fn t24_each_side_sees_its_own_credential_only() {
    let (bearer, named) = (backend().echo().start().await, backend().echo().h2().start().await);
    let secrets = tempfile_with("secret-of-the-backend");
    let text = format!(
        "[backends.bearer]\nendpoints = [\"{}\"]\ncredential = \"file:{1}\"\n\
         [backends.named]\nendpoints = [\"{2}\"]\ncredential = \"file:{1}\"\n\
         credential_header = \"x-api-key\"\n\
         [routes.bearer]\npath = \"/bearer\"\nbackend = \"bearer\"\n\
         [routes.named]\npath = \"/named\"\nbackend = \"named\"\n",
        bearer.url(),
        secrets.path().display(),
        named.url()
    );
    let gateway = gateway(text).start().await;
    let key = gateway.client_key.clone();
    let bearer_value = format!("Bearer {key}");
    for (name, value) in
        [("authorization", bearer_value.as_str()), ("x-api-key", &key), ("api-key", &key)]
    {
        for (path, credential) in [
            ("/bearer", ("authorization", "Bearer secret-of-the-backend")),
            ("/named", ("x-api-key", "secret-of-the-backend")),
        ] {
            for client in [gateway.anonymous(), gateway.anonymous().h2()] {
                let answer = client.get(path).header(name, value).await;
                assert_eq!(answer.status, 200, "{name} {path}: {}", answer.text());
                assert!(!answer.text().contains(&key), "{name} {path}: {}", answer.text());
                let fields = echoed(&answer.json());
                let present: Vec<_> = fields
                    .iter()
                    .filter(|(name, _)| {
                        ["authorization", "x-api-key", "api-key"].contains(&name.as_str())
                    })
                    .map(|(name, value)| (name.as_str(), value.as_str()))
                    .collect();
                assert_eq!(present, [credential], "{name} {path}");
            }
        }
    }
}

fn tempfile_with(text: &str) -> SecretFile {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("weir-secret-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).unwrap();
    SecretFile(path)
}

/// Removed when dropped.
struct SecretFile(std::path::PathBuf);

impl SecretFile {
    fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An HTTP/2 connection, and what one stream on it came to: its status, or `None` if the stream or
/// the connection was refused.
async fn verdict(gateway: &Gateway, bytes: Vec<u8>) -> Option<u16> {
    let mut raw = gateway.raw_h2().await;
    raw.start_h2(&[]).await.unwrap();
    raw.send(bytes).await.unwrap();
    let frame = raw.read_frame_on(1, seconds(3)).await.unwrap();
    match frame.kind {
        kind::HEADERS => frame.status(),
        kind::RST_STREAM | kind::GOAWAY => None,
        other => panic!("frame {other}"),
    }
}

async fn h2_gateway() -> (Backend, Gateway, String) {
    let served = backend().echo().start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let bearer = format!("Bearer {}", gateway.client_key);
    (served, gateway, bearer)
}

#[tokio::test]
async fn t04_http_2_that_no_http_1_1_could_carry_is_refused() {
    let (served, gateway, bearer) = h2_gateway().await;
    let auth = ("authorization", bearer.as_str());
    let with = |more: &[(&str, &str)]| {
        let all: Vec<(&str, &str)> = [auth].iter().chain(more).copied().collect();
        frames::get(1, "localhost", "/", &all)
    };
    let path = |path: &str| frames::get(1, "localhost", path, &[auth]);
    let pseudo = |fields: &[(&str, &str)]| frames::headers(1, fields, true);
    let full = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost")];
    let [method, scheme, authority] = full;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("upper case", with(&[("X-Upper", "y")])),
        ("colon in a name", with(&[("x:y", "z")])),
        ("space in a name", with(&[("x y", "z")])),
        ("empty name", with(&[("", "z")])),
        ("cr lf in a value", with(&[("x", "y\r\nhost: evil")])),
        ("lf in a value", with(&[("x", "y\nz")])),
        ("nul in a value", with(&[("x", "y\0z")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "timeout=1")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        ("upgrade", with(&[("upgrade", "websocket")])),
        ("te", with(&[("te", "gzip")])),
        ("te list", with(&[("te", "trailers, gzip")])),
        ("another host", with(&[("host", "evil.test")])),
        ("content-length twice", with(&[("content-length", "0"), ("content-length", "0")])),
        ("content-length", with(&[("content-length", "+0")])),
        ("empty path", path("")),
        ("path without slash", path("a")),
        ("path with space", path("/a b")),
        ("escaped slash", path("/a%2fb")),
        ("above the root", path("/../a")),
        ("star", path("*")),
        (
            "repeated pseudo",
            pseudo(&[method, scheme, authority, (":path", "/"), (":path", "/b"), auth]),
        ),
        ("late pseudo", pseudo(&[method, scheme, authority, auth, (":path", "/")])),
        ("no path", pseudo(&[method, scheme, authority, auth])),
        ("no method", pseudo(&[scheme, authority, (":path", "/"), auth])),
        ("unknown pseudo", pseudo(&[method, scheme, authority, (":path", "/"), (":x", "y"), auth])),
        ("status", pseudo(&[method, scheme, authority, (":path", "/"), (":status", "200"), auth])),
        ("userinfo", frames::get(1, "user@localhost", "/", &[auth])),
        (
            "less than declared",
            [
                frames::post(1, "localhost", "/", &[auth, ("content-length", "5")]),
                frames::data(1, b"abc", true),
            ]
            .concat(),
        ),
        (
            "more than declared",
            [
                frames::post(1, "localhost", "/", &[auth, ("content-length", "2")]),
                frames::data(1, b"abc", true),
            ]
            .concat(),
        ),
    ];
    for (what, bytes) in cases {
        let verdict = verdict(&gateway, bytes).await;
        assert!(matches!(verdict, None | Some(400)), "{what}: {verdict:?}");
        assert_eq!(served.calls(), 0, "{what} reached the backend");
    }
}

#[tokio::test]
async fn t04_what_is_proper_on_http_2_goes_on_to_http_1_1() {
    let (served, gateway, bearer) = h2_gateway().await;
    let more = [
        ("authorization", bearer.as_str()),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("cookie", "c=3; d=4"),
        ("te", "trailers"),
        ("content-length", "3"),
    ];
    let bytes = [frames::post(1, "localhost", "/p?q=1", &more), frames::data(1, b"abc", true)];
    assert_eq!(verdict(&gateway, bytes.concat()).await, Some(200));
    let seen = served.last();
    let cookies: Vec<_> = seen.headers.get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=1; b=2; c=3; d=4"]);
    assert_eq!((seen.header("te"), seen.header("content-length")), (Some("trailers"), Some("3")));
    assert_eq!((seen.uri.to_string().as_str(), seen.text().as_str()), ("/p?q=1", "abc"));
    assert_eq!(seen.header("host"), Some(&*served.addr.to_string()));
}

/// Resets as fast as frames can be written, each after a head that would cost a backend request.
#[tokio::test]
async fn t08_rapid_reset_ends_the_connection_and_leaves_nothing_behind() {
    let served = backend().stalls().start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let bearer = format!("Bearer {}", gateway.client_key);
    // In one burst, and one by one so that each request is on its way when it is reset.
    for burst in [true, false] {
        let mut raw = gateway.raw_h2().await;
        raw.start_h2(&[]).await.unwrap();
        reset_until_ended(&mut raw, &bearer, burst).await;
        let ended = raw.read_frame_of(kind::GOAWAY, seconds(3)).await;
        let ended = ended.unwrap_or_else(|missing| panic!("burst: {burst}: {missing}"));
        assert_eq!(ended.code(), Some(code::ENHANCE_YOUR_CALM), "burst: {burst}");
        assert!(raw.is_closed(seconds(3)).await, "burst: {burst}");
    }
    assert!(
        gateway.metric("weir_connections_closed_total{listener=\"edge\",reason=\"abuse\"}").await
            >= 1.0
    );
    until(seconds(5), || served.open_connections() == 0).because("backend slots are free").await;
    let in_flight = gateway.get("/status").await;
    assert!(in_flight.is_object());
    assert!(gateway.client().get("/edge").within(millis(300)).attempt().await.is_err());
    served.becomes(backend().answers("well"));
    assert_eq!(gateway.client().get("/").await.text(), "well", "others are served");
}

async fn reset_until_ended(raw: &mut RawClient, bearer: &str, burst: bool) {
    let mut all = Vec::new();
    for number in 0..400 {
        let stream = number * 2 + 1;
        let auth = [("authorization", bearer)];
        let opens = frames::get(stream, "localhost", "/", &auth);
        let resets = frames::rst_stream(stream, code::CANCEL);
        if burst {
            all.extend(opens);
            all.extend(resets);
            continue;
        }
        if raw.send(opens).await.is_err() {
            return;
        }
        tokio::time::sleep(millis(4)).await;
        if raw.send(resets).await.is_err() {
            return;
        }
    }
    let _ = raw.send(all).await;
}

/// A client that resets what has been answered already makes as much work: answers of our own come
/// so fast that once none of these was counted. So few that nobody minds go unpunished.
#[tokio::test]
async fn t08_resets_of_what_was_answered_at_once_count_as_well() {
    let (served, gateway, bearer) = h2_gateway().await;
    let mut raw = gateway.raw_h2().await;
    raw.start_h2(&[]).await.unwrap();
    for number in 0..=100 {
        let stream = number * 2 + 1;
        raw.send(frames::get(stream, "localhost", "/", &[])).await.unwrap();
        let answer = raw.read_frame_on(stream, seconds(2)).await.unwrap();
        assert_eq!(answer.status(), Some(401), "{number}: {answer:?}");
        if number == 100 {
            let auth = [("authorization", bearer.as_str())];
            raw.send(frames::get(203, "localhost", "/", &auth)).await.unwrap();
            assert_eq!(raw.read_frame_on(203, seconds(2)).await.unwrap().status(), Some(200));
        }
        raw.send(frames::rst_stream(stream, code::CANCEL)).await.unwrap();
    }
    let ended = raw.read_frame_of(kind::GOAWAY, seconds(3)).await.unwrap();
    assert_eq!(ended.code(), Some(code::ENHANCE_YOUR_CALM));
    assert!(raw.is_closed(seconds(3)).await);
    assert_eq!(served.calls(), 1);
}

/// Streams that the gateway itself must reset count as well (MadeYouReset).
#[tokio::test]
async fn t08_malformed_streams_end_the_connection() {
    let (served, gateway, bearer) = h2_gateway().await;
    let mut raw = gateway.raw_h2().await;
    raw.start_h2(&[]).await.unwrap();
    for number in 0..100 {
        let stream = number * 2 + 1;
        let more = [("authorization", bearer.as_str()), ("connection", "close")];
        if raw.send(frames::get(stream, "localhost", "/", &more)).await.is_err() {
            break;
        }
    }
    let ended = raw.read_frame_of(kind::GOAWAY, seconds(3)).await.unwrap();
    assert_eq!(ended.code(), Some(code::ENHANCE_YOUR_CALM));
    assert!(raw.is_closed(seconds(3)).await);
    assert_eq!(served.calls(), 0);
}
