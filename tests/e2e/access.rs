//! Who may do what: keys, roles and routes, on the edge and on the admin listener.

use policies::api_key::{declared_hash, format_hash};
use serde_json::{Value, json};
use weir_tests::gateway::ADMIN_KEY;
use weir_tests::{Answer, Client, Gateway, backend, gateway, seconds, until_async};

use crate::experiments::two;

const PATH: &str = "/v1/chat/completions";

fn message(answer: &Answer) -> String {
    answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
}

/// An answer without what differs between any two: date and request id.
fn faceless(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let fields =
        answer.headers.iter().filter(|(name, _)| *name != "date" && *name != "x-request-id");
    let mut fields: Vec<(String, String)> =
        fields.map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
    fields.sort();
    let mut body = answer.json();
    let id = body["error"]["request_id"].take();
    assert!(id.is_string(), "{body}");
    (answer.status.as_u16(), fields, body.to_string())
}

async fn key(gateway: &Gateway, body: Value) -> Value {
    let answer = gateway.api().post("/api/v1/keys", body.to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// What is not in the table is refused, and says nothing to strangers.
#[tokio::test]
async fn what_is_no_operation_is_no_operation_for_anybody() {
    let (_stable, _canary, split) = two().await;
    let gateway = gateway(split).start().await;
    let (api, bare) = (gateway.api(), Client::plain(gateway.admin));
    for path in
        ["/api/v1", "/api/v1/", "/api/v2/status", "/admin", "/api/v1/experiments/int8/x", "//"]
    {
        let stranger = bare.get(path).await;
        assert_eq!(stranger.status, 401, "{path}");
        let known = api.get(path).await;
        assert_eq!(known.status, 404, "{path}");
        assert_eq!(message(&known), format!("there is nothing at {path}"));
        assert_eq!(known.json()["error"]["type"], "not_found");
    }
    for (method, path) in [
        ("DELETE", "/api/v1/status"),
        ("POST", "/api/v1/audit"),
        ("PUT", "/api/v1/keys"),
        ("OPTIONS", "/api/v1/keys"),
        ("TRACE", "/api/v1/keys"),
        ("POST", "/metrics"),
    ] {
        assert_eq!(bare.request(method, path, "").await.status, 401, "{method} {path}");
        let known = api.request(method, path, "").await;
        assert_eq!(known.status, 405, "{method} {path}");
        assert_eq!(known.json()["error"]["type"], "method_not_allowed");
        assert_eq!(message(&known), format!("{path} does not take this method"));
    }
    assert_eq!(bare.request("HEAD", "/api/v1/status", "").await.status, 401);
    assert_eq!(api.request("HEAD", "/api/v1/status", "").await.status, 200);
    assert_eq!(bare.request("HEAD", "/livez", "").await.status, 200);
}

/// A page of another origin reaches a listener on loopback through a name of its own (T20).
#[tokio::test]
async fn the_admin_listener_answers_only_to_its_own_names() {
    let (_stable, _canary, split) = two().await;
    let gateway = gateway(split).admin("hosts = [\"weir.internal\"]").start().await;
    let api = gateway.api();
    let port = gateway.admin.port();
    for host in
        ["evil.example", "localhost.evil.example", "10.0.0.1", "127.0.0.1.evil.example", "*"]
    {
        for path in ["/api/v1/status", "/livez", "/metrics", "/nothing"] {
            let answer = api.get(path).header("host", host).await;
            assert_eq!(answer.status, 421, "{host} {path}");
            assert_eq!(answer.json()["error"]["type"], "unknown_host");
        }
    }
    for host in ["localhost", "LOCALHOST", "127.0.0.1", "[::1]", "weir.internal", "Weir.Internal"] {
        for host in [host.to_owned(), format!("{host}:{port}")] {
            let answer = api.get("/api/v1/status").header("host", &host).await;
            assert_eq!(answer.status, 200, "{host}");
        }
    }
    let answer = api.get("/api/v1/status").header("origin", "https://evil.example").await;
    assert!(
        answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")),
        "no CORS"
    );
}

#[tokio::test]
async fn a_key_is_shown_once_listed_without_its_secret_and_revoked_for_good() {
    let (_stable, _canary, split) = two().await;
    let gateway = gateway(split).start().await;
    let made = key(&gateway, json!({"name": "mobile", "role": "client", "routes": ["chat"]})).await;
    let secret = text(&made["secret"]).to_owned();
    assert!(secret.starts_with("weir_") && secret.len() == 63, "{}", secret.len());
    assert_eq!(
        (&made["name"], &made["role"], &made["routes"], &made["expires_at"]),
        (&json!("mobile"), &json!("client"), &json!(["chat"]), &Value::Null)
    );
    let open = key(&gateway, json!({"name": "open", "role": "viewer"})).await;
    assert_eq!(open["routes"], Value::Null);

    let client = gateway.anonymous().bearer(&secret);
    assert_eq!(client.post(PATH, "{}").await.status, 200);
    let list = gateway.get("/keys").await;
    let listed = list["items"].as_array().unwrap();
    let own = listed.iter().find(|key| key["id"] == made["id"]).unwrap();
    assert_eq!((&own["name"], &own["created_by"]), (&json!("mobile"), &json!("first-admin")));
    assert!(own.get("secret").is_none() && own.get("hash").is_none(), "{own}");
    assert!(!list.to_string().contains(&secret[14..]));
    let audit = gateway.get("/audit").await.to_string();
    assert!(audit.contains("key.create") && !audit.contains(&secret[14..]));

    let path = format!("/api/v1/keys/{}", text(&made["id"]));
    let revoked = gateway.api().request("DELETE", &path, "").await;
    assert_eq!(revoked.status, 200);
    assert!(revoked.json()["revoked_at"].is_string());
    assert_eq!(client.post(PATH, "{}").await.status, 401, "effective with the next request");
    let again = gateway.api().request("DELETE", &path, "").await;
    assert_eq!((again.status.as_u16(), again.json()), (200, revoked.json()));
    let missing = gateway.api().request("DELETE", "/api/v1/keys/nobody", "").await;
    assert_eq!(
        (missing.status.as_u16(), message(&missing)),
        (404, "key \"nobody\" does not exist".into())
    );

    let gateway = gateway.restart().await;
    let client = gateway.anonymous().bearer(&secret);
    assert_eq!(client.post(PATH, "{}").await.status, 401, "still revoked after a restart");
    assert_eq!(gateway.client().post(PATH, "{}").await.status, 200);
}

#[tokio::test]
async fn a_refused_key_says_what_is_wrong_with_it() {
    let (_stable, _canary, split) = two().await;
    let gateway = gateway(split).start().await;
    let before = gateway.get("/keys").await;
    let name = "`name` must be 1 to 64 letters, digits, `_`, `.` or `-`";
    for (body, said) in [
        (json!({"name": "", "role": "client"}), name),
        (json!({"name": "a b", "role": "client"}), name),
        (json!({"name": "x".repeat(65), "role": "client"}), name),
        (
            json!({"name": "a", "role": "root"}),
            "unknown role \"root\": write one of client, viewer, experimenter, operator, auditor, admin",
        ),
        (
            json!({"name": "a", "role": "client", "routes": ["nope"]}),
            "route \"nope\" is not defined",
        ),
        (
            json!({"name": "a", "role": "client", "expires_at": "tomorrow"}),
            "`expires_at` must be a time such as 2027-01-31T00:00:00Z",
        ),
        (
            json!({"name": "a", "role": "client", "expires_at": "2020-01-01T00:00:00Z"}),
            "the key would have expired already",
        ),
        (
            json!({"name": "a", "role": "client", "expires_in_seconds": 0}),
            "the key would have expired already",
        ),
        (
            json!({"name": "a", "role": "client", "expires_in_seconds": 9,
                   "expires_at": "2099-01-01T00:00:00Z"}),
            "give `expires_at` or `expires_in_seconds`, not both",
        ),
        (
            json!({"name": "a", "role": "client", "requests_per_second": 0}),
            "`requests_per_second` must be above 0",
        ),
        (json!({"name": "a", "role": "client", "concurrent": 0}), "`concurrent` must be above 0"),
        (
            json!({"name": "a", "role": "client", "tokens_per_minute": 0}),
            "`tokens_per_minute` must be above 0",
        ),
    ] {
        let answer = gateway.api().post("/api/v1/keys", body.to_string()).await;
        assert_eq!((answer.status.as_u16(), message(&answer)), (400, said.into()), "{body}");
    }
    let far = json!({"name": "far", "role": "client", "expires_in_seconds": i64::MAX});
    let answer = gateway.api().post("/api/v1/keys", far.to_string()).await;
    assert!(answer.status.as_u16() < 500, "{}", answer.text());
    if answer.status == 400 {
        assert_eq!(gateway.get("/keys").await, before);
    }
    let unknown = json!({"name": "a", "role": "client", "admin": true});
    let answer = gateway.api().post("/api/v1/keys", unknown.to_string()).await;
    assert_eq!(answer.status, 400);
    assert!(message(&answer).contains("unknown field `admin`"), "{}", answer.text());
}

/// A gateway that nobody can administer any more would need its store to be thrown away.
#[tokio::test]
async fn the_last_admin_key_that_works_is_not_revoked() {
    let (_stable, _canary, split) = two().await;
    let gateway = gateway(split).start().await;
    let own = gateway.get("/keys").await;
    let own = own["items"].as_array().unwrap().iter().find(|key| key["role"] == "admin").unwrap();
    let path = format!("/api/v1/keys/{}", text(&own["id"]));
    let brief = json!({"name": "brief", "role": "admin", "expires_in_seconds": 1});
    let brief = Client::plain(gateway.admin).bearer(text(&key(&gateway, brief).await["secret"]));
    until_async(seconds(5), || async { brief.get("/api/v1/status").await.status == 401 }).await;
    let refused = gateway.api().request("DELETE", &path, "").await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert_eq!(refused.json()["error"]["type"], "last_admin");
    assert!(message(&refused).contains("\"first-admin\""), "{}", message(&refused));
    let next = key(&gateway, json!({"name": "next", "role": "admin"})).await;
    assert_eq!(gateway.api().request("DELETE", &path, "").await.status, 200);
    assert_eq!(gateway.api().get("/api/v1/status").await.status, 401);
    let next = Client::plain(gateway.admin).bearer(text(&next["secret"]));
    assert_eq!(next.get("/api/v1/status").await.status, 200);
}

/// Whoever guesses learns nothing, not even which of their guesses once was a key (T14).
#[tokio::test]
async fn every_credential_that_does_not_work_is_refused_with_the_same_bytes() {
    let (stable, canary, split) = two().await;
    let gateway = gateway(split).start().await;
    let revoked = key(&gateway, json!({"name": "revoked", "role": "client"})).await;
    let path = format!("/api/v1/keys/{}", text(&revoked["id"]));
    gateway.api().request("DELETE", &path, "").await;
    let expiring = json!({"name": "expired", "role": "client", "expires_in_seconds": 1});
    let expired = key(&gateway, expiring).await;
    assert!(expired["expires_at"].is_string());
    let expired = text(&expired["secret"]).to_owned();
    let client = gateway.anonymous().bearer(&expired);
    until_async(seconds(5), || async { client.post(PATH, "{}").await.status == 401 }).await;
    let (stable_calls, canary_calls) = (stable.calls(), canary.calls());

    let mut typo = gateway.client_key.clone();
    let last = if typo.pop() == Some('x') { 'y' } else { 'x' };
    typo.push(last);
    let unknown = policies::api_key::make(&[7; 40]).secret;
    let revoked = text(&revoked["secret"]);
    let long = "k".repeat(300);
    let presented =
        [unknown.expose(), revoked, &expired, &typo, "weir_", "x", &long, "two words", "a,b"];
    for (at, listener) in
        [gateway.anonymous(), gateway.anonymous().h2(), Client::plain(gateway.admin)]
            .into_iter()
            .enumerate()
    {
        let target = if at == 2 { "/api/v1/status" } else { PATH };
        let method = if at == 2 { "GET" } else { "POST" };
        let none = faceless(&listener.request(method, target, "").await);
        assert_eq!(none.0, 401);
        for secret in presented {
            let answer = listener.clone().bearer(secret).request(method, target, "").await;
            assert_eq!(faceless(&answer), none, "{secret}");
        }
    }
    assert_eq!((stable.calls(), canary.calls()), (stable_calls, canary_calls));
    let metric = gateway.metrics().await;
    for result in ["missing", "malformed", "unknown", "expired", "revoked"] {
        let line = metric
            .lines()
            .find(|line| line.starts_with("weir_auth_total{") && line.contains(result))
            .unwrap_or_else(|| panic!("no weir_auth_total of {result}"));
        assert!(!line.ends_with(" 0"), "{line}");
    }
}

#[tokio::test]
async fn a_key_is_taken_from_three_headers_and_from_nowhere_else() {
    let backend = backend().answers("x").start().await;
    let text = format!(
        "[backends.b]\nendpoints = [\"{}\"]\n[routes.r]\npath = \"/*\"\nbackend = \"b\"\n",
        backend.url()
    );
    let gateway = gateway(text).start().await;
    let key = gateway.client_key.clone();
    let other = gateway.make_key("client", Value::Null).await;
    let bare = gateway.anonymous();
    let bearer = format!("Bearer {key}");
    for (name, value) in [
        ("authorization", &*bearer),
        ("authorization", &format!("bearer {key}")),
        ("x-api-key", &key),
        ("api-key", &key),
    ] {
        let answer = bare.get("/a").header(name, value).await;
        assert_eq!(answer.status, 200, "{name}");
        let seen = backend.last();
        for field in ["authorization", "x-api-key", "api-key"] {
            assert!(seen.headers.get(field).is_none(), "the backend never sees it: {field}");
        }
    }
    let both = bare.get("/a").header("authorization", &bearer).header("x-api-key", &key).await;
    assert_eq!(both.status, 200, "twice the same, as some SDKs do");
    let calls = backend.calls();
    for fields in [
        vec![("authorization", &*bearer), ("x-api-key", &*other)],
        vec![("x-api-key", &key), ("api-key", &other)],
        vec![("x-api-key", &key), ("x-api-key", &key)],
        vec![("authorization", &bearer), ("authorization", &bearer)],
        vec![("authorization", &key)],
        vec![("authorization", &format!("Basic {key}"))],
        vec![("cookie", &format!("api-key={key}"))],
        vec![("x-weir-key", &key)],
    ] {
        let request = fields.iter().fold(bare.get("/a"), |r, (name, value)| r.header(name, value));
        assert_eq!(request.await.status, 401, "{fields:?}");
    }
    for query in ["key", "api_key", "api-key", "access_token", "x-api-key"] {
        let answer = bare.get(&format!("/a?{query}={key}")).await;
        assert_eq!(answer.status, 401, "{query}");
        assert!(!answer.text().contains(&key));
    }
    let admin = Client::plain(gateway.admin);
    assert_eq!(admin.get(&format!("/api/v1/status?key={ADMIN_KEY}")).await.status, 401);
    assert_eq!(admin.get("/api/v1/status").header("x-api-key", ADMIN_KEY).await.status, 200);
    assert_eq!(backend.calls(), calls, "none of these was served");
}

#[tokio::test]
async fn a_key_calls_the_routes_it_was_given_and_a_viewer_none() {
    let one = backend().answers("one").start().await;
    let text = format!(
        r#"
        [backends.b]
        endpoints = ["{}"]
        [routes.a]
        path = "/a"
        backend = "b"
        [routes.b]
        path = "/b"
        backend = "b"
        "#,
        one.url()
    );
    let gateway = gateway(text).start().await;
    let client = |secret: &str| gateway.anonymous().bearer(secret);
    let only_a = client(&gateway.make_key("client", json!({"routes": ["a"]})).await);
    assert_eq!(only_a.get("/a").await.status, 200);
    let refused = only_a.get("/b").await;
    assert_eq!(refused.status, 403);
    assert_eq!(message(&refused), "this credential may not call this route");
    assert_eq!(refused.header("x-weir-error"), Some("forbidden"));
    let nothing = client(&gateway.make_key("client", json!({"routes": []})).await);
    assert_eq!(nothing.get("/a").await.status, 403, "an empty list is no route, not all");
    for (role, status) in [
        ("viewer", 403),
        ("auditor", 403),
        ("experimenter", 200),
        ("operator", 200),
        ("admin", 200),
    ] {
        let answer = client(&gateway.make_key(role, Value::Null).await).get("/a").await;
        assert_eq!(answer.status, status, "{role}");
        if status == 403 {
            assert_eq!(message(&answer), "this credential may not call models");
        }
    }
    assert_eq!(one.calls(), 4);
}

/// A key for some routes changes experiments of those, and of no other, in whatever way it asks.
#[tokio::test]
async fn a_key_for_a_route_changes_experiments_of_that_route_only() {
    let (_stable, _canary, split) = two().await;
    let more = "[routes.other]\npath = \"/other\"\nbackend = \"stable\"\n";
    let gateway = gateway(format!("{split}\n{more}")).start().await;
    let theirs = gateway.make_key("experimenter", json!({"routes": ["other"]})).await;
    let theirs = Client::plain(gateway.admin).bearer(&theirs);
    let body = json!({"weights": {"stable": 50, "canary": 50}}).to_string();
    for (method, path) in [
        ("PUT", "/api/v1/experiments/int8/weights"),
        ("PUT", "/api/v1/experiments/int%38/weights"),
        ("POST", "/api/v1/experiments/int8/undo"),
        ("POST", "/api/v1/experiments/int8/ramp"),
        ("PATCH", "/api/v1/experiments/int8"),
        ("DELETE", "/api/v1/experiments/int8"),
    ] {
        let answer = theirs.request(method, path, body.clone()).header("if-match", "\"1\"").await;
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text());
        assert_eq!(message(&answer), "this key may change nothing of route \"chat\"");
    }
    assert_eq!(theirs.get("/api/v1/experiments/int8").await.status, 200, "it may look");
    let made = |route: &str| {
        json!({
            "name": "theirs", "route": route, "unit": ["key"], "control": "a",
            "variants": {
                "a": {"backend": "stable", "weight": 90}, "b": {"backend": "canary", "weight": 10},
            },
        })
        .to_string()
    };
    let refused = theirs.post("/api/v1/experiments", made("chat")).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    let answer = theirs.post("/api/v1/experiments", made("other")).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let seen = answer.header("etag").unwrap().to_owned();
    let moved = json!({"route": "chat"}).to_string();
    let answer = theirs
        .request("PATCH", "/api/v1/experiments/theirs", moved)
        .header("if-match", &seen)
        .await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    let body = json!({"weights": {"a": 50, "b": 50}}).to_string();
    let path = "/api/v1/experiments/theirs/weights";
    let answer = theirs.request("PUT", path, body).header("if-match", &seen).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // One for all routes may do what this one may not.
    let all = gateway.make_key("experimenter", Value::Null).await;
    let all = Client::plain(gateway.admin).bearer(&all);
    let answer =
        all.request("DELETE", "/api/v1/experiments/theirs", "").header("if-match", "*").await;
    assert_ne!(answer.status, 403, "{}", answer.text());
}

#[tokio::test]
async fn an_operator_makes_and_revokes_keys_of_lower_roles_only() {
    let (_stable, _canary, split) = two().await;
    let gateway = gateway(split).start().await;
    let admin_of = |secret: &str| Client::plain(gateway.admin).bearer(secret);
    let operator = admin_of(&gateway.make_key("operator", Value::Null).await);
    for (role, status) in [
        ("client", 201),
        ("viewer", 201),
        ("experimenter", 201),
        ("operator", 403),
        ("auditor", 403),
        ("admin", 403),
    ] {
        let body = json!({"name": format!("by-operator-{role}"), "role": role});
        let answer = operator.post("/api/v1/keys", body.to_string()).await;
        assert_eq!(answer.status, status, "{role}: {}", answer.text());
        if status == 403 {
            let said = format!(
                "a key of role operator may not make a key of role {role} for these routes"
            );
            assert_eq!(message(&answer), said);
        }
        let other = key(&gateway, json!({"name": format!("other-{role}"), "role": role})).await;
        let path = format!("/api/v1/keys/{}", text(&other["id"]));
        let answer = operator.request("DELETE", &path, "").await;
        assert_eq!(answer.status, if status == 201 { 200 } else { 403 }, "revoke {role}");
    }
    // Nobody hands out a route that they lack.
    let confined = admin_of(&gateway.make_key("operator", json!({"routes": []})).await);
    let body = json!({"name": "wide", "role": "client"});
    assert_eq!(confined.post("/api/v1/keys", body.to_string()).await.status, 403);
    let body = json!({"name": "narrow", "role": "client", "routes": []});
    assert_eq!(confined.post("/api/v1/keys", body.to_string()).await.status, 201);
    // Nor takes one from others, by revoking what it could not make.
    let wide = key(&gateway, json!({"name": "wide", "role": "client"})).await;
    let path = format!("/api/v1/keys/{}", text(&wide["id"]));
    assert_eq!(confined.request("DELETE", &path, "").await.status, 403);
}

#[tokio::test]
async fn a_key_declared_in_the_file_works_while_it_stands_there() {
    let (_stable, _canary, split) = two().await;
    let secret = "a-secret-of-our-own-making-0123456789";
    let declared = |role: &str| {
        let hash = format_hash(&declared_hash(secret));
        format!(
            "[auth]\nkeys = [{{ name = \"mobile\", hash = \"{hash}\", role = \"{role}\" }}]\n\
             {split}"
        )
    };
    let mut gateway = gateway(declared("client")).start().await;
    let client = gateway.anonymous().bearer(secret);
    assert_eq!(client.post(PATH, "{}").await.status, 200);
    assert_eq!(gateway.outcomes("").await[0]["auth.key_id"], "mobile");
    let list = gateway.get("/keys").await;
    let item = list["items"].as_array().unwrap().iter().find(|key| key["id"] == "mobile").unwrap();
    assert_eq!((&item["declared"], &item["role"]), (&json!(true), &json!("client")));
    let revoke = gateway.api().request("DELETE", "/api/v1/keys/mobile", "").await;
    assert_eq!(revoke.status, 409, "{}", revoke.text());
    let said = "key \"mobile\" is declared in the file; take it out there and reload";
    assert_eq!(message(&revoke), said);

    gateway.reconfigure(&declared("viewer")).await.unwrap();
    assert_eq!(client.post(PATH, "{}").await.status, 403);
    gateway.reconfigure(&split).await.unwrap();
    assert_eq!(client.post(PATH, "{}").await.status, 401);
}
