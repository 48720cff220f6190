//! The console as a browser sees it: its files, and signing in.

use serde_json::{Value, json};
use weir_tests::gateway::ADMIN_KEY;
use weir_tests::{Answer, Client, Gateway, gateway};

use crate::experiments::two;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// What a browser sends along from a page of this origin.
fn page(gateway: &Gateway) -> Client {
    let host = gateway.admin.to_string();
    Client::plain(gateway.admin)
        .header("host", &host)
        .header("origin", &format!("http://{host}"))
        .header("sec-fetch-site", "same-origin")
}

async fn sign_in(client: &Client, key: &str) -> Answer {
    client.post("/api/v1/session", json!({ "key": key }).to_string()).await
}

/// Name and value of the cookie that an answer sets, and its attributes.
fn cookie(answer: &Answer) -> (String, String) {
    let whole = answer.header("set-cookie").unwrap();
    let (pair, attributes) = whole.split_once("; ").unwrap();
    (pair.to_owned(), attributes.to_owned())
}

struct Browser {
    client: Client,
    /// Its session's cookie, `NAME=VALUE`.
    cookie: String,
    token: String,
}

/// A page that is signed in with `key`.
async fn browser(gateway: &Gateway, key: &str) -> Browser {
    let answer = sign_in(&page(gateway), key).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (pair, _) = cookie(&answer);
    let token = answer.json()["session"]["token"].as_str().unwrap().to_owned();
    let client = page(gateway).header("cookie", &format!("theirs=1; {pair}"));
    Browser { client, cookie: pair, token }
}

async fn stop(client: &Client, token: Option<&str>) -> Answer {
    let request = client.post("/api/v1/experiments/int8/stop", "");
    match token {
        None => request.await,
        Some(token) => request.header("x-weir-session-token", token).await,
    }
}

#[tokio::test]
async fn t22_every_page_and_file_has_the_policy_and_comes_packed_with_a_tag() {
    let (_stable, _canary, split) = two().await;
    let gateway = gateway(split).start().await;
    let bare = Client::plain(gateway.admin);
    for path in ["/", "/experiments/int8", "/console/console.js", "/console/console.css"] {
        let plain = bare.get(path).await;
        assert_eq!(plain.status, 200, "{path}");
        assert_eq!(plain.header("content-security-policy"), Some(POLICY), "{path}");
        assert_eq!(plain.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(plain.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(plain.header("strict-transport-security"), None, "not on TLS");
        assert_eq!(plain.header("content-encoding"), None);
        let mut tags = vec![plain.header("etag").unwrap().to_owned()];
        for coding in ["br", "gzip"] {
            let packed = bare.get(path).header("accept-encoding", coding).await;
            assert_eq!(packed.header("content-encoding"), Some(coding), "{path}");
            assert!(packed.body.len() < plain.body.len(), "{path} {coding}");
            let tag = packed.header("etag").unwrap().to_owned();
            let again = bare.get(path).header("accept-encoding", coding);
            let again = again.header("if-none-match", &format!("\"other\", {tag}")).await;
            assert_eq!((again.status.as_u16(), again.body.len()), (304, 0), "{path} {coding}");
            tags.push(tag);
        }
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 3, "a tag names bytes");
    }
    let text = bare.get("/").await.text();
    let inline = text.replace("<script src=", "").contains("<script");
    assert!(!inline && !text.contains("<style") && !text.contains("style="), "{text}");
    assert!(!text.contains("http://") && !text.contains("https://"), "{text}");
    let error = bare.get("/api/v1/status").await;
    assert_eq!(error.header("content-security-policy"), Some(POLICY), "errors too");
    assert_eq!(bare.get("/console/nothing.js").await.status, 404);
}

#[tokio::test]
async fn t22_a_key_is_exchanged_for_a_cookie_that_scripts_and_other_sites_never_have() {
    let (_stable, _canary, split) = two().await;
    let gateway = gateway(split).start().await;
    let key = gateway.make_key("experimenter", Value::Null).await;
    let answer = sign_in(&page(&gateway), &key).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (pair, attributes) = cookie(&answer);
    assert!(pair.starts_with("__Host-weir="), "{pair}");
    assert_eq!(attributes, "Path=/; Max-Age=28800; Secure; HttpOnly; SameSite=Strict");
    assert!(
        !answer.text().contains(&key) && !answer.text().contains(&pair["__Host-weir=".len()..])
    );

    let client = page(&gateway).header("cookie", &pair);
    let said = client.get("/api/v1/session").await.json();
    assert_eq!(
        (&said["role"], &said["key"]["name"]),
        (&json!("experimenter"), &json!("test-experimenter"))
    );
    let may = said["permissions"].as_array().unwrap();
    assert!(may.contains(&json!("experiment:weights")) && !may.contains(&json!("audit:read")));
    assert_eq!(client.get("/api/v1/experiments").await.status, 200);
    assert_eq!(client.get("/api/v1/audit").await.status, 403, "a session may what its key may");
    let nobody = page(&gateway).get("/api/v1/session").await;
    assert_eq!((nobody.status.as_u16(), &nobody.json()["role"]), (200, &Value::Null));
    let wrong = page(&gateway).bearer("not-a-key").get("/api/v1/session").await;
    assert_eq!(wrong.status, 401);
}

#[tokio::test]
async fn t22_a_change_needs_the_page_and_its_token() {
    let (_stable, _canary, split) = two().await;
    let gateway = gateway(split).start().await;
    let Browser { client, cookie: pair, token } = browser(&gateway, ADMIN_KEY).await;
    let host = gateway.admin.to_string();

    let refused = |answer: Answer, what: &str| {
        assert_eq!(answer.status, 403, "{what}: {}", answer.text());
        assert_eq!(answer.json()["error"]["type"], "forbidden", "{what}");
    };
    refused(stop(&client, None).await, "no token");
    refused(stop(&client, Some("guessed")).await, "a wrong token");
    let stranger = browser(&gateway, ADMIN_KEY).await;
    refused(stop(&client, Some(&stranger.token)).await, "the token of another session");
    // Another page of the same machine: its cookie comes along, its origin tells it.
    for origin in ["http://127.0.0.1:1", "https://evil.example", "null", ""] {
        let other = Client::plain(gateway.admin).header("host", &host).header("cookie", &pair);
        let other = if origin.is_empty() { other } else { other.header("origin", origin) };
        refused(stop(&other, Some(&token)).await, origin);
        let body = json!({ "key": ADMIN_KEY }).to_string();
        refused(other.post("/api/v1/session", body).await, "signing somebody in from elsewhere");
    }
    let site = Client::plain(gateway.admin)
        .header("host", &host)
        .header("origin", &format!("http://{host}"))
        .header("sec-fetch-site", "same-site")
        .header("cookie", &pair);
    refused(stop(&site, Some(&token)).await, "same-site");
    assert_eq!(gateway.get("/experiments/int8").await["state"], "running", "nothing was changed");

    let done = stop(&client, Some(&token)).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(gateway.get("/experiments/int8").await["changed_by"], "first-admin");
    // A key in the header is not sent by a browser on its own, so it needs neither.
    let by_key = Client::plain(gateway.admin).bearer(ADMIN_KEY).header("cookie", &pair);
    assert_eq!(stop(&by_key, None).await.status, 200);
}

#[tokio::test]
async fn a_session_ends_with_its_key_its_sign_out_and_the_next_sign_in() {
    let (_stable, _canary, split) = two().await;
    let gateway = gateway(split).start().await;
    let made = gateway.api().post("/api/v1/keys", r#"{"name":"a","role":"viewer"}"#).await.json();
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());

    let one = browser(&gateway, secret).await;
    assert_eq!(one.client.get("/api/v1/status").await.status, 200);
    let again = sign_in(&one.client, secret).await;
    assert_eq!(again.status, 200);
    assert_eq!(one.client.get("/api/v1/status").await.status, 401, "rotated at sign-in");

    let two = browser(&gateway, secret).await;
    let out = two.client.request("DELETE", "/api/v1/session", "");
    let out = out.header("x-weir-session-token", &two.token).await;
    assert_eq!(out.status, 204);
    let cleared = out.header("set-cookie").unwrap();
    assert!(cleared.starts_with("__Host-weir=; Path=/; Max-Age=0; Secure"), "{cleared}");
    assert_eq!(two.client.get("/api/v1/status").await.status, 401, "signed out");

    let three = browser(&gateway, secret).await;
    let revoked = gateway.api().request("DELETE", &format!("/api/v1/keys/{id}"), "").await;
    assert_eq!(revoked.status, 200);
    assert_eq!(three.client.get("/api/v1/status").await.status, 401, "its key was revoked");
    assert_eq!(sign_in(&page(&gateway), secret).await.status, 401);
}

#[tokio::test]
async fn who_cannot_sign_in_is_told_why_and_learns_nothing_else() {
    let (_stable, _canary, split) = two().await;
    let gateway = gateway(split).start().await;
    let client_key = gateway.make_key("client", Value::Null).await;
    let refused = sign_in(&page(&gateway), &client_key).await;
    assert_eq!(refused.status, 403);
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "a key of role client calls models; the console needs viewer or above");
    for wrong in ["", "weir_nonsense", "x", &"y".repeat(5_000)] {
        let answer = sign_in(&page(&gateway), wrong).await;
        assert_eq!(answer.status, 401, "{wrong}");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(message, "this key is not known here, was revoked, or has expired");
        assert_eq!(answer.header("set-cookie"), None);
    }
}

/// Browsers that keep no `Secure` cookie of a plain loopback address get one without; elsewhere there is
/// no such thing.
#[tokio::test]
async fn a_cookie_without_secure_is_for_plain_loopback_only() {
    let (_stable, _canary, split) = two().await;
    let plain = gateway(&*split).start().await;
    let body = json!({ "key": ADMIN_KEY, "plain_cookie": true }).to_string();
    let answer = page(&plain).post("/api/v1/session", body.clone()).await;
    let (pair, attributes) = cookie(&answer);
    assert!(pair.starts_with("weir-on-loopback="), "{pair}");
    assert_eq!(attributes, "Path=/; Max-Age=28800; HttpOnly; SameSite=Strict");
    assert_eq!(page(&plain).header("cookie", &pair).get("/api/v1/status").await.status, 200);

    let tls = "[admin.tls]\ncertificates = [{ chain = \"edge.pem\", key = \"edge.key\" }]";
    let prepared = gateway(split).admin(tls).write();
    let (file, options) = (prepared.file.clone(), start_options());
    let starting = move || ::gateway::Gateway::start(&file, options).unwrap();
    let running = tokio::task::spawn_blocking(starting).await.unwrap();
    let host = running.admin().to_string();
    let client = Client::new(running.admin(), prepared.authority.roots())
        .header("host", &host)
        .header("origin", &format!("https://{host}"));
    let answer = client.post("/api/v1/session", body).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    let answer = sign_in(&client, ADMIN_KEY).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=31536000"));
    let (pair, _) = cookie(&answer);
    let renamed = pair.replace("__Host-weir", "weir-on-loopback");
    assert_eq!(client.clone().header("cookie", &renamed).get("/api/v1/status").await.status, 401);
    assert_eq!(client.header("cookie", &pair).get("/api/v1/status").await.status, 200);
    tokio::task::spawn_blocking(|| running.stop()).await.unwrap();
}

fn start_options() -> ::gateway::StartOptions {
    ::gateway::StartOptions { admin_key: Some(ADMIN_KEY.into()), quiet: true }
}
