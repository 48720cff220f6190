//! The way to a backend: TLS with its own authority, HTTP/2, names (F07).

use http::Version;
use weir_tests::{Authority, Client, Gateway, backend, gateway, millis, seconds, together};

fn route(url: &str, more: &str) -> String {
    format!(
        "[backends.b]\nendpoints = [\"{url}\"]\n{more}\n[routes.r]\npath = \"/*\"\nbackend = \"b\"\n"
    )
}

#[tokio::test]
async fn an_https_backend_is_verified_and_shown_our_certificate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let ca = authority.write_ca(dir.path(), "backend-ca");
    let ours = clients.client("spiffe://weir/gateway");
    let (chain, key) = ours.write(dir.path(), "ours");
    let pair = authority.leaf(&["model.internal", "127.0.0.1"]);
    let served =
        backend().answers("secret").tls(&pair).insists_on_clients_of(&clients).start().await;
    let tls = format!(
        "tls = {{ ca = \"{}\", client_certificate = \"{}\", client_key = \"{}\", \
         server_name = \"model.internal\" }}",
        ca.display(),
        chain.display(),
        key.display()
    );
    let verified = gateway(route(&served.url(), &tls)).start().await;
    assert_eq!(verified.client().get("/x").await.text(), "secret");
    let seen = served.last();
    assert_eq!(seen.server_name.as_deref(), Some("model.internal"));
    assert_eq!(seen.client_certificate, Some(ours.leaf_der()));

    // Without our certificate the backend refuses us.
    let without = format!("tls = {{ ca = \"{}\" }}", ca.display());
    let refused = gateway(route(&served.url(), &without)).start().await;
    assert_eq!(refused.client().get("/x").await.status, 502);
    assert_eq!(served.calls(), 1);
}

#[tokio::test]
async fn an_https_backend_of_another_name_authority_or_time_gets_no_request() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let ca = authority.write_ca(dir.path(), "ca");
    let stranger = Authority::new().write_ca(dir.path(), "stranger");
    let good = authority.leaf(&["model.internal", "127.0.0.1"]);
    let expired = authority.expired_leaf(&["model.internal", "127.0.0.1"]);
    for (what, pair, ca, name) in [
        ("name", &good, &ca, "other.internal"),
        ("authority", &good, &stranger, "model.internal"),
        ("time", &expired, &ca, "model.internal"),
    ] {
        let served = backend().answers("x").tls(pair).start().await;
        let tls = format!("tls = {{ ca = \"{}\", server_name = \"{name}\" }}", ca.display());
        let gateway = gateway(route(&served.url(), &tls)).start().await;
        let answer = gateway.client().post("/x", "{\"prompt\":\"secret\"}").await;
        assert_eq!(answer.status, 502, "{what}");
        assert_eq!(served.calls(), 0, "{what}");
        let row = &gateway.outcomes("").await[0];
        assert_eq!(row["flags"], "UF", "{what}: {row}");
    }
}

/// Connections that were made under other TLS settings are not used for what comes after a reload.
#[tokio::test]
async fn a_reload_of_tls_settings_alone_is_in_force_for_the_next_request() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let ca = authority.write_ca(dir.path(), "ca").display().to_string();
    let other = stranger.write_ca(dir.path(), "stranger").display().to_string();
    let ours = stranger.client("spiffe://weir/gateway");
    let (chain, key) = ours.write(dir.path(), "ours");
    let pair = authority.leaf(&["model.internal", "127.0.0.1", "localhost"]);
    let good = format!("tls = {{ ca = \"{ca}\" }}");
    let shown = format!(
        "tls = {{ ca = \"{ca}\", client_certificate = \"{}\", client_key = \"{}\" }}",
        chain.display(),
        key.display()
    );
    let bad = [
        format!("tls = {{ ca = \"{other}\" }}"),
        format!("tls = {{ ca = \"{ca}\", server_name = \"other.internal\" }}"),
    ];
    for builder in [backend().answers("x"), backend().answers("x").h1_and_h2()] {
        let served = builder.tls(&pair).start().await;
        let more = |tls: &str| format!("{tls}\nidle_timeout = \"60s\"");
        for url in [served.url(), served.url().replace("127.0.0.1", "localhost")] {
            let mut gateway = gateway(route(&url, &more(&good))).start().await;
            let client = gateway.client();
            for bad in &bad {
                assert_eq!(client.get("/x").await.status, 200);
                let before = served.connections();
                gateway.reconfigure(&route(&url, &more(&good))).await.unwrap();
                assert_eq!(client.get("/x").await.status, 200);
                assert_eq!(served.connections(), before, "the same settings keep connections");
                gateway.reconfigure(&route(&url, &more(bad))).await.unwrap();
                assert_eq!(client.get("/x").await.status, 502, "{bad}");
                gateway.reconfigure(&route(&url, &more(&good))).await.unwrap();
            }
            assert_eq!(client.get("/x").await.status, 200);
            gateway.reconfigure(&route(&url, &more(&shown))).await.unwrap();
            let before = served.connections();
            assert_eq!(client.get("/x").await.status, 200);
            assert_eq!(served.connections(), before + 1, "a certificate to show is new settings");
        }
    }
}

/// Six connections with 80 requests at the same time on each.
async fn many(gateway: &Gateway) {
    let clients: Vec<Client> = (0..6).map(|_| gateway.client().h2()).collect();
    for client in &clients {
        assert_eq!(client.get("/warm").await.status, 200);
    }
    let requests = (0..480).map(|at| clients[at % 6].post(&format!("/{at}"), format!("body {at}")));
    for (at, answer) in together(requests).await.into_iter().enumerate() {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{at}: {}", answer.text());
        assert_eq!(answer.json()["body"], format!("body {at}"), "answers are not mixed up");
    }
}

#[tokio::test]
async fn http2_backends_share_connections_and_get_more_of_them_beyond_their_streams() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let tls = format!("tls = {{ ca = \"{}\" }}", authority.write_ca(dir.path(), "ca").display());
    let pair = authority.leaf(&["127.0.0.1"]);
    let echo = || backend().echo().delay(millis(300));
    for (what, builder, more) in
        [("h2c", echo().h2(), ""), ("h2 by ALPN", echo().h1_and_h2().tls(&pair), &*tls)]
    {
        let served = builder.start().await;
        let gateway = gateway(route(&served.url(), more)).start().await;
        many(&gateway).await;
        assert!(served.seen().iter().all(|seen| seen.version == Version::HTTP_2), "{what}");
        let connections = served.connections();
        // 240 at the same time on each of two workers, 200 streams on a connection.
        assert!((3..=8).contains(&connections), "{what}: {connections} connections");
        // They are kept and used again.
        many(&gateway).await;
        assert!(served.connections() <= connections + 2, "{what}: {}", served.connections());
    }
}

#[tokio::test]
async fn an_https_backend_without_http2_is_spoken_to_in_http1() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let tls = format!("tls = {{ ca = \"{}\" }}", authority.write_ca(dir.path(), "ca").display());
    let served =
        backend().echo().delay(millis(50)).tls(&authority.leaf(&["127.0.0.1"])).start().await;
    let gateway = gateway(route(&served.url(), &tls)).start().await;
    let client = gateway.client().h2();
    for _ in 0..2 {
        let answers = together((0..20).map(|at| client.post("/x", at.to_string()))).await;
        assert!(answers.into_iter().all(|answer| answer.unwrap().status == 200));
    }
    assert!(served.seen().iter().all(|seen| seen.version == Version::HTTP_11));
    assert!(served.connections() <= 21, "{}: connections are used again", served.connections());
}

/// A connection with GOAWAY on it takes no more requests, and those under way on it end.
#[tokio::test]
async fn an_http2_backend_that_restarts_costs_nothing_once_it_is_back() {
    let served = backend().echo().h2().start().await;
    let gateway = gateway(route(&served.url(), "")).start().await;
    let client = gateway.client();
    for round in 0..10 {
        assert_eq!(client.get("/x").await.status, 200, "round {round}");
        served.close_connections();
    }
    served.stop();
    served.restart();
    assert_eq!(client.get("/x").await.status, 200);
}

#[tokio::test]
async fn a_name_that_the_file_writes_as_localhost_leads_to_this_machine() {
    let served = backend().echo().start().await;
    let url = format!("http://localhost:{}", served.addr.port());
    let gateway = gateway(route(&url, "")).start().await;
    let answer = gateway.client().get("/x").await;
    assert_eq!(answer.status, 200);
    let host = format!("localhost:{}", served.addr.port());
    assert_eq!(served.last().header("host"), Some(&*host), "as configured, not the client's");
}

/// A name that does not resolve is told as such, and a start does not fail for it.
#[tokio::test]
async fn f07_a_name_that_does_not_resolve_is_502_and_nothing_else_suffers() {
    let served = backend().start().await;
    let text = route("http://model.invalid:1", "")
        + &format!(
            "[backends.ok]\nendpoints = [\"{}\"]\n[routes.ok]\npath = \"/ok\"\nbackend = \"ok\"\n",
            served.url()
        );
    let gateway = gateway(text).start().await;
    assert_eq!(gateway.client().get("/x").within(seconds(5)).await.status, 502);
    assert_eq!(gateway.client().get("/ok").await.status, 200);
}

/// Once an endpoint was known by its address alone: a reload that only changed the protocol, or the
/// `host` sent, answered "in force" and changed nothing. It should hold from the reload on.
#[tokio::test]
async fn another_protocol_or_host_at_the_same_address_is_in_force_after_a_reload() {
    let served = backend().echo().h1_and_h2().start().await;
    let http = format!("http://{}", served.addr);
    let mut gateway = gateway(route(&http, "")).start().await;
    let client = gateway.client();
    assert_eq!(client.get("/x").await.json()["version"], "HTTP/1.1");

    gateway.reconfigure(&route(&http, "host = \"model.internal\"")).await.unwrap();
    client.get("/x").await;
    assert_eq!(served.last().header("host"), Some("model.internal"));

    gateway.reconfigure(&route(&format!("h2c://{}", served.addr), "")).await.unwrap();
    client.get("/x").await;
    assert_eq!(served.last().version, Version::HTTP_2);
}

#[tokio::test]
async fn an_unused_connection_is_closed_after_its_time() {
    for h2 in [false, true] {
        let builder = backend();
        let served = if h2 { builder.h2() } else { builder }.start().await;
        let gateway = gateway(route(&served.url(), "idle_timeout = \"300ms\"")).start().await;
        let client = gateway.client();
        for _ in 0..5 {
            client.get("/x").await;
        }
        assert_eq!(served.connections(), 1, "used again while it is warm");
        if !h2 {
            weir_tests::until(seconds(4), || served.open_connections() == 0).await;
        }
        assert_eq!(client.get("/x").await.status, 200);
    }
}

/// Living state survives a reload that does not concern it.
#[tokio::test]
async fn a_reload_keeps_the_connections_of_backends_that_stay() {
    let (kept, gone) = (backend().echo().start().await, backend().echo().start().await);
    let with = |urls: &str, more: &str| {
        format!(
            "[backends.b]\nendpoints = [{urls}]\nbalance = \"round_robin\"\n[routes.r]\npath = \"/*\"\nbackend = \"b\"\n{more}"
        )
    };
    let both = format!("\"{}\", \"{}\"", kept.url(), gone.url());
    let one = format!("\"{}\"", kept.url());
    let mut gateway = gateway(with(&both, "")).start().await;
    let client = gateway.client();
    for _ in 0..4 {
        client.get("/x").await;
    }
    assert_eq!((kept.calls(), gone.calls()), (2, 2));
    gone.becomes(backend().streams(["a", "b"]).gap(millis(500)));
    kept.becomes(backend().streams(["a", "b"]).gap(millis(500)));
    let running = [
        client.apart().get("/y").open().await.unwrap(),
        client.apart().get("/y").open().await.unwrap(),
    ];
    let connections = kept.connections();
    gateway.reconfigure(&with(&one, "timeouts = { total = \"50s\" }")).await.unwrap();
    for answer in running {
        assert_eq!(answer.rest().await.text(), "ab", "what runs goes on");
    }
    kept.becomes(backend().echo());
    let before = gone.calls();
    for _ in 0..6 {
        assert_eq!(client.get("/x").await.status, 200);
    }
    assert_eq!(gone.calls(), before);
    assert_eq!(kept.connections(), connections, "no connection was given up");
}
