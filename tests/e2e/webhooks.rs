//! Webhooks: what is decided is told, signed, in order, and never lost, whatever happens in between.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use weir_tests::{
    ADMIN_KEY, Authority, Backend, Client, Gateway, Seen, backend, gateway, millis, seconds, until,
    until_async, weir,
};

use crate::experiments::two;

pub(crate) const SECRET: &str = "a-secret-that-tests-alone-know-0123456789";

/// A webhook of this name; `more` are further members.
pub(crate) fn hook(name: &str, receiver: &Backend, events: &str, more: &str) -> String {
    format!(
        "[[webhooks]]\nname = \"{name}\"\nurl = \"{}/in?a=1\"\nevents = {events}\n\
         secret = \"file:hook.key\"\n{more}\n",
        receiver.url()
    )
}

pub(crate) async fn receiver() -> Backend {
    backend().status(204).start().await
}

/// A gateway with the experiment `int8` and these webhooks. Backends go with the test.
pub(crate) async fn telling(hooks: String) -> (Gateway, [Backend; 2]) {
    let (stable, canary, text) = two().await;
    let prepared = gateway(text + &hooks).write();
    std::fs::write(prepared.dir.join("hook.key"), SECRET).unwrap();
    (prepared.start().await, [stable, canary])
}

/// Moves weights: one event.
pub(crate) async fn move_weights(gateway: &Gateway, canary: u32) {
    let weights = json!({ "stable": 100 - canary, "canary": canary });
    let answer = gateway.set_weights("int8", weights).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn events_of(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(|seen| seen.json()["event"].as_str().unwrap().to_owned()).collect()
}

fn ids(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(|seen| seen.header("webhook-id").unwrap().to_owned()).collect()
}

/// Canary's weights that were told, in the order in which they came.
fn weights(seen: &[Seen]) -> Vec<f64> {
    seen.iter().map(|seen| seen.json()["after"]["weights"]["canary"].as_f64().unwrap()).collect()
}

/// Whether a receiver that knows `secret` would believe it.
#[track_caller]
fn is_signed(seen: &Seen, secret: &str) -> bool {
    let (id, timestamp) =
        (seen.header("webhook-id").unwrap(), seen.header("webhook-timestamp").unwrap());
    let age = i64::try_from(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
    )
    .unwrap()
        - timestamp.parse::<i64>().unwrap();
    assert!((0..300).contains(&age), "{age} s old");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut signed = format!("{id}.{timestamp}.").into_bytes();
    signed.extend_from_slice(&seen.body);
    seen.header("webhook-signature").unwrap().split(' ').any(|signature| {
        let given = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        hmac::verify(&key, &signed, &given).is_ok()
    })
}

async fn shown(api: &Client, name: &str) -> Value {
    let all = api.get("/api/v1/webhooks").await.json();
    let items = all["items"].as_array().unwrap().clone();
    items.into_iter().find(|item| item["name"] == name).unwrap_or_default()
}

async fn until_shown(api: &Client, name: &str, is: impl Fn(&Value) -> bool) {
    until_async(seconds(20), || async {
        let now = shown(api, name).await;
        if is(&now) { Ok(()) } else { Err(format!("{now:#}")) }
    })
    .await;
}

#[tokio::test]
async fn a_change_is_told_once_signed_and_with_what_was_before() {
    let receiver = receiver().await;
    let (gateway, _backends) = telling(hook("ops", &receiver, "[\"weights.*\"]", "")).await;
    let api = gateway.api();
    let etag = api.get("/api/v1/experiments/int8").await.header("etag").unwrap().to_owned();
    let body = r#"{"weights":{"stable":75,"canary":25},"reason":"it is fine"}"#;
    let request = api.request("PUT", "/api/v1/experiments/int8/weights", body);
    assert_eq!(request.header("if-match", &etag).await.status, 200);
    until(seconds(10), || receiver.calls() == 1).await;
    let seen = receiver.last();
    assert_eq!((seen.method.as_str(), &*seen.uri.to_string()), ("POST", "/in?a=1"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert!(seen.header("user-agent").unwrap().starts_with("weir/"));
    assert_eq!(seen.header("host"), Some(receiver.url().strip_prefix("http://").unwrap()));
    assert!(is_signed(&seen, SECRET) && !is_signed(&seen, "another"));

    let told = seen.json();
    let instance = gateway.running.as_ref().unwrap().changes().installation().instance.clone();
    assert_eq!(told["id"], seen.header("webhook-id").unwrap());
    assert_eq!((&told["event"], &told["experiment"]), (&json!("weights.set"), &json!("int8")));
    assert_eq!((&told["instance"], &told["revision"]), (&json!(instance), &json!(2)));
    assert_eq!((&told["reason"], &told["by"]), (&json!("it is fine"), &json!("first-admin")));
    assert_eq!(told["before"]["weights"], json!({ "stable": 90.0, "canary": 10.0 }));
    assert_eq!(told["after"]["weights"], json!({ "stable": 75.0, "canary": 25.0 }));
    let entry = gateway.get("/audit").await["items"][0].clone();
    assert_eq!((&entry["id"], &entry["at"]), (&told["audit"], &told["at"]));

    // What it did not ask for is not told, and nothing is told twice.
    assert_eq!(api.post("/api/v1/experiments/int8/stop", "").await.status, 200);
    move_weights(&gateway, 30).await;
    until(seconds(10), || receiver.calls() == 2).await;
    assert_eq!(events_of(&receiver.seen()), ["weights.set", "weights.set"]);
    until_shown(&api, "ops", |now| now["pending"] == 0 && now["delivered"] == 2).await;
    let series = "weir_webhook_deliveries_total{webhook=\"ops\",result=\"ok\"}";
    assert_eq!(gateway.metric(series).await, 2.0);
    assert_eq!(receiver.calls(), 2);
}

#[tokio::test]
async fn what_is_not_taken_is_sent_again_with_the_same_id_until_it_is() {
    let receiver = backend().status(204).first(2, backend().status(500)).start().await;
    let (gateway, _backends) = telling(hook("ops", &receiver, "\"weights.set\"", "")).await;
    let api = gateway.api();
    move_weights(&gateway, 20).await;
    until(seconds(20), || receiver.calls() == 3).await;
    let sent = ids(&receiver.seen());
    assert!(sent.iter().all(|id| *id == sent[0]), "{sent:?}");
    assert!(receiver.seen().iter().all(|seen| is_signed(seen, SECRET)));
    until_shown(&api, "ops", |now| now["state"] == "ok").await;

    // Nobody is there: what is decided meanwhile comes in its order once somebody is.
    receiver.stop();
    for canary in [30, 40, 50] {
        move_weights(&gateway, canary).await;
    }
    until_shown(&api, "ops", |now| {
        let why = now["last_error"]["message"].as_str().unwrap_or_default().to_owned();
        now["state"] == "failing" && now["pending"] == 3 && why.contains("refuses connections")
    })
    .await;
    assert_eq!(gateway.metric("weir_webhook_pending{webhook=\"ops\"}").await, 3.0);
    receiver.restart();
    until(seconds(30), || receiver.calls() == 6).await;
    assert_eq!(weights(&receiver.seen()[3..]), [30.0, 40.0, 50.0]);
    let metrics = gateway.metrics().await;
    for (result, count) in [("ok", 4.0), ("5xx", 2.0)] {
        let series =
            format!("weir_webhook_deliveries_total{{webhook=\"ops\",result=\"{result}\"}}");
        assert_eq!(gateway.metric(&series).await, count, "{metrics}");
    }
}

#[tokio::test]
async fn a_message_that_is_refused_steps_aside_and_comes_again() {
    let receiver = backend().status(204).first(1, backend().status(400)).start().await;
    let (gateway, _backends) = telling(hook("ops", &receiver, "\"weights.set\"", "")).await;
    move_weights(&gateway, 20).await;
    move_weights(&gateway, 30).await;
    until(seconds(20), || receiver.calls() == 3).await;
    assert_eq!(weights(&receiver.seen()), [20.0, 30.0, 20.0]);
}

#[tokio::test]
async fn a_restart_in_between_loses_nothing() {
    let receiver = backend().status(503).start().await;
    let (gateway, _backends) = telling(hook("ops", &receiver, "\"weights.set\"", "")).await;
    move_weights(&gateway, 20).await;
    until(seconds(10), || receiver.calls() > 0).await;
    let gateway = gateway.restart().await;
    // What it met before the restart is told.
    until_shown(&gateway.api(), "ops", |now| now["pending"] == 1 && now["state"] == "failing")
        .await;
    receiver.becomes(backend().status(204));
    until_shown(&gateway.api(), "ops", |now| now["pending"] == 0).await;
    let sent = ids(&receiver.seen());
    assert!(sent.iter().all(|id| *id == sent[0]), "{sent:?}");
}

/// The process is killed after the decision and before the receiver has answered.
#[tokio::test]
async fn a_kill_9_between_decision_and_delivery_loses_nothing() {
    let receiver = backend().stalls().start().await;
    let (stable, canary, text) = two().await;
    let prepared = gateway(text + &hook("ops", &receiver, "\"experiment.stop\"", "")).write();
    std::fs::write(prepared.dir.join("hook.key"), SECRET).unwrap();
    let process = prepared.spawn().await;
    assert_eq!(process.api().post("/api/v1/experiments/int8/stop", "").await.status, 200);
    // Killed at once in one half of the cases would be luck: it is killed while the receiver thinks.
    until(seconds(10), || receiver.calls() == 1).await;
    process.kill();
    process.exit(seconds(10)).await;
    receiver.becomes(backend().status(204));
    let process = prepared.spawn().await;
    until(seconds(20), || receiver.calls() == 2).await;
    let sent = ids(&receiver.seen());
    assert_eq!(sent[0], sent[1]);
    until_shown(&process.api(), "ops", |now| now["pending"] == 0).await;
    drop((stable, canary));
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_no_other_webhook_and_no_request() {
    let (hung, other) = (backend().stalls().start().await, receiver().await);
    let hooks =
        hook("hung", &hung, "\"*\"", "timeout = \"60s\"") + &hook("other", &other, "\"*\"", "");
    let (gateway, _backends) = telling(hooks).await;
    let api = gateway.api();
    // The experiment was created, and both are told.
    until(seconds(10), || hung.calls() == 1 && other.calls() == 1).await;
    let client = gateway.client();
    for canary in [20, 30, 40] {
        move_weights(&gateway, canary).await;
        assert_eq!(client.post("/v1/chat/completions", "{}").await.status, 200);
    }
    until(seconds(10), || other.calls() == 4).await;
    assert_eq!(hung.calls(), 1, "one try at a time");
    until_shown(&api, "other", |now| now["pending"] == 0).await;
    assert_eq!(other.seen()[0].json()["event"], "experiment.create");
}

#[tokio::test]
async fn t23_a_name_leads_to_a_private_address_only_if_that_is_allowed() {
    let receiver = receiver().await;
    // A name that every resolver takes for this machine.
    let url = receiver.url().replace("127.0.0.1", "hooks.localhost");
    let (stable, canary, text) = two().await;
    let with = |more: &str| {
        format!(
            "{text}[[webhooks]]\nname = \"ops\"\nurl = \"{url}\"\nevents = \"weights.set\"\n\
             secret = \"file:hook.key\"\n{more}\n"
        )
    };
    let prepared = gateway(with("")).write();
    std::fs::write(prepared.dir.join("hook.key"), SECRET).unwrap();
    let mut gateway = prepared.start().await;
    move_weights(&gateway, 20).await;
    until_shown(&gateway.api(), "ops", |now| {
        now["last_error"]["message"].as_str().is_some_and(|why| {
            why.contains("is not a public address") && why.contains("allow_private = true")
        })
    })
    .await;
    assert_eq!(receiver.connections(), 0);
    gateway.reconfigure(&with("allow_private = true")).await.unwrap();
    until(seconds(20), || receiver.calls() == 1).await;
    assert_eq!(weights(&receiver.seen()), [20.0]);
    drop((stable, canary));
}

#[tokio::test]
async fn t23_a_redirect_is_never_followed() {
    let elsewhere = receiver().await;
    let receiver =
        backend().status(307).header("location", &format!("{}/x", elsewhere.url())).start().await;
    let (gateway, _backends) = telling(hook("ops", &receiver, "\"weights.set\"", "")).await;
    move_weights(&gateway, 20).await;
    until(seconds(20), || receiver.calls() >= 2).await;
    let now = shown(&gateway.api(), "ops").await;
    let why = now["last_error"]["message"].as_str().unwrap();
    assert!(why.contains("answered 307: redirects are not followed"), "{why}");
    assert_eq!((elsewhere.connections(), &now["pending"]), (0, &json!(1)));
}

#[tokio::test]
async fn a_reload_that_removes_a_webhook_forgets_what_waited_for_it() {
    let receiver = backend().status(503).start().await;
    let text = hook("ops", &receiver, "\"weights.set\"", "");
    let (mut gateway, backends) = telling(text.clone()).await;
    move_weights(&gateway, 20).await;
    until_shown(&gateway.api(), "ops", |now| now["pending"] == 1).await;
    let without = crate::experiments::split(&backends[0], &backends[1], (90, 10));
    gateway.reconfigure(&without).await.unwrap();
    assert_eq!(gateway.get("/webhooks").await["items"], json!([]));
    let store = rusqlite::Connection::open(gateway.prepared.dir.join("weir.db")).unwrap();
    let waiting =
        || -> i64 { store.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).unwrap() };
    until(seconds(10), || waiting() == 0).await;
    let before = receiver.calls();
    receiver.becomes(backend().status(204));
    gateway.reconfigure(&(without + &text)).await.unwrap();
    move_weights(&gateway, 30).await;
    until_shown(&gateway.api(), "ops", |now| now["delivered"] == 1).await;
    assert_eq!(weights(&receiver.seen()[before..]), [30.0]);
}

#[tokio::test]
async fn what_is_too_old_is_given_up_and_counted() {
    let receiver = backend().status(500).start().await;
    let hooks = hook("ops", &receiver, "\"weights.set\"", "give_up_after = \"1s\"");
    let (gateway, _backends) = telling(hooks).await;
    move_weights(&gateway, 20).await;
    until_shown(&gateway.api(), "ops", |now| now["dead"] == 1 && now["pending"] == 0).await;
    let series = "weir_webhook_deliveries_total{webhook=\"ops\",result=\"dead\"}";
    assert_eq!(gateway.metric(series).await, 1.0);
    assert!(receiver.calls() >= 2);
    // What comes after it is told.
    receiver.becomes(backend().status(204));
    move_weights(&gateway, 30).await;
    until_shown(&gateway.api(), "ops", |now| now["delivered"] == 1).await;
}

#[tokio::test]
async fn two_secrets_give_two_signatures_while_one_is_exchanged() {
    let receiver = receiver().await;
    let (stable, canary, text) = two().await;
    let hooks = hook("ops", &receiver, "\"weights.set\"", "")
        .replace("\"file:hook.key\"", "[\"file:new.key\", \"file:hook.key\"]");
    let prepared = gateway(text + &hooks).write();
    std::fs::write(prepared.dir.join("hook.key"), SECRET).unwrap();
    std::fs::write(prepared.dir.join("new.key"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let gateway = prepared.start().await;
    move_weights(&gateway, 20).await;
    until(seconds(10), || receiver.calls() == 1).await;
    let seen = receiver.last();
    assert_eq!(seen.header("webhook-signature").unwrap().split(' ').count(), 2);
    assert!(is_signed(&seen, SECRET));
    drop((stable, canary));
}

#[tokio::test]
async fn over_tls_the_receiver_is_verified_with_the_authorities_that_are_named() {
    let (ours, others) = (Authority::new(), Authority::new());
    let (stable, canary, text) = two().await;
    let receiver = |authority: &Authority| {
        backend().status(204).tls(&authority.leaf(&["localhost"])).start_now()
    };
    let (good, bad) = (receiver(&ours), receiver(&others));
    let hooks: String = [("good", &good), ("bad", &bad)]
        .iter()
        .map(|(name, receiver)| {
            let port = receiver.addr.port();
            format!(
                "[[webhooks]]\nname = \"{name}\"\nurl = \"https://localhost:{port}/\"\n\
                 events = \"weights.set\"\nsecret = \"file:hook.key\"\n\
                 tls = {{ ca = \"hook-ca.pem\" }}\n"
            )
        })
        .collect();
    let prepared = gateway(text + &hooks).write();
    std::fs::write(prepared.dir.join("hook.key"), SECRET).unwrap();
    std::fs::write(prepared.dir.join("hook-ca.pem"), ours.ca_pem()).unwrap();
    let gateway = prepared.start().await;
    move_weights(&gateway, 20).await;
    until(seconds(10), || good.calls() == 1).await;
    assert!(is_signed(&good.last(), SECRET));
    until_shown(&gateway.api(), "bad", |now| {
        now["last_error"]["message"].as_str().is_some_and(|why| why.contains("UnknownIssuer"))
    })
    .await;
    assert_eq!(bad.calls(), 0);
    drop((stable, canary));
}

#[tokio::test]
async fn a_test_is_sent_at_once_and_says_what_came_of_it() {
    let receiver = receiver().await;
    let hooks = hook("ops", &receiver, "\"ramp.hold\"", "");
    let (gateway, _backends) = telling(hooks).await;
    let api = gateway.api();
    let path = "/api/v1/webhooks/ops/test";
    let answer = api.post(path, "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((&answer.json()["status"], receiver.calls()), (&json!(204), 1));
    let told = receiver.last().json();
    assert_eq!((&told["event"], &told["webhook"]), (&json!("webhook.test"), &json!("ops")));
    assert_eq!((&told["id"], &told["by"]), (&answer.json()["id"], &json!("first-admin")));
    assert!(is_signed(&receiver.last(), SECRET));
    let entry = gateway.get("/audit").await["items"][0].clone();
    assert_eq!(
        (&entry["action"], &entry["target"]),
        (&json!("webhook.test"), &json!("webhook/ops"))
    );

    let admin = format!("http://{}", gateway.admin);
    let run = |words: &[&str]| weir(&[words, &["--admin", &admin, "--token", ADMIN_KEY]].concat());
    let out = run(&["webhook", "test", "ops"]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && said.contains("ops took the test in "), "{said}");
    let listed = run(&["webhook", "list"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("ops"));

    receiver.becomes(backend().status(401));
    let answer = api.post(path, "").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["type"]),
        (502, &json!("not_delivered"))
    );
    let out = run(&["webhook", "test", "ops"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(1) && said.contains("answered 401"), "{said}");
    let status = run(&["status"]);
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains("! webhook ops takes no messages, 0 wait: answered 401"), "{said}");

    assert_eq!(api.post("/api/v1/webhooks/none/test", "").await.status, 404);
    for role in ["viewer", "experimenter"] {
        let key = gateway.make_key(role, json!({})).await;
        let client = Client::plain(gateway.admin).bearer(&key);
        assert_eq!(client.post(path, "").await.status, 403, "{role}");
        assert_eq!(client.get("/api/v1/webhooks").await.status, 200, "{role}");
    }
}

/// A test that is taken wakes what waits for a receiver that was away.
#[tokio::test]
async fn a_test_that_is_taken_brings_what_waits() {
    let receiver = backend().status(500).start().await;
    let (gateway, _backends) = telling(hook("ops", &receiver, "\"weights.set\"", "")).await;
    move_weights(&gateway, 20).await;
    // Long enough that the next try would be more than eight seconds away.
    until(seconds(40), || receiver.calls() >= 5).await;
    receiver.becomes(backend().status(204));
    let before = receiver.calls();
    assert_eq!(gateway.api().post("/api/v1/webhooks/ops/test", "").await.status, 200);
    until(seconds(4), || receiver.calls() == before + 2).await;
    assert_eq!(receiver.last().json()["event"], "weights.set");
}

#[tokio::test]
async fn t16_a_webhooks_secrets_are_in_nothing_that_anybody_reads() {
    let receiver =
        backend().status(500).answers("the receiver says cnrysecret7f3a9b2e5dq0").start().await;
    let (stable, canary, text) = two().await;
    let hooks = format!(
        "[[webhooks]]\nname = \"ops\"\nurl = \"{}/T0/cnrypath7f3a9b2e5dq0?k=cnryquery7f3a9b2e5dq0\"\n\
         events = \"*\"\nsecret = \"env:HOOK_SECRET\"\ncredential = \"env:HOOK_KEY\"\n\
         credential_header = \"x-token\"\n",
        receiver.url()
    );
    let prepared = gateway(text + &hooks).write();
    let (secret, key) = ("cnrysecret7f3a9b2e5dq0", "cnrykey7f3a9b2e5dq0");
    let weir_process = prepared.spawn_with(&[("HOOK_SECRET", secret), ("HOOK_KEY", key)]).await;
    let api = weir_process.api();
    until(seconds(10), || receiver.calls() > 0).await;
    assert_eq!(receiver.last().header("x-token"), Some(key));
    assert_eq!(receiver.last().path(), "/T0/cnrypath7f3a9b2e5dq0");
    api.post("/api/v1/webhooks/ops/test", "").await;
    until_shown(&api, "ops", |now| now["state"] == "failing").await;

    let mut all = Vec::new();
    for path in ["webhooks", "status", "audit", "experiments"] {
        all.push(api.get(&format!("/api/v1/{path}")).await.text());
    }
    all.push(Client::plain(weir_process.admin).get("/metrics").await.text());
    let checked = weir(&["check", "--config", prepared.file.to_str().unwrap()]);
    all.push(String::from_utf8_lossy(&checked.stderr).into_owned());
    weir_process.signal("TERM");
    assert_eq!(weir_process.exit(seconds(20)).await, Some(0));
    all.push(weir_process.stdout());
    all.push(weir_process.stderr());
    for name in ["weir.db", "weir.db-wal"] {
        let bytes = std::fs::read(prepared.dir.join(name)).unwrap_or_default();
        all.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    for what in ["secret", "key", "path", "query"] {
        let plain = format!("cnry{what}7f3a9b2e5dq0");
        for form in [plain.clone(), STANDARD.encode(&plain)] {
            for (number, text) in all.iter().enumerate() {
                assert!(!text.contains(&form), "{what} is in text {number}");
            }
        }
    }
    assert!(all.iter().any(|text| text.contains("weir.webhook.failing")), "it was told of");
    drop((stable, canary, millis(0)));
}
