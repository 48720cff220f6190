//! What is kept of requests and answers: nothing, unless route and shadow both say so (T27).

use serde_json::{Value, json};
use weir_tests::{Client, Gateway, backend, gateway, seconds, until_async};

use crate::comparison::{ask, beside, compared, says};

const SAMPLES: &str = "kind = \"label\"\npath = \"/class\"\nsamples = { most = 3, bytes = 300, redact = [\"/user\"] }";

async fn kept(gateway: &Gateway) -> Vec<Value> {
    let answer = gateway.get("/shadows/next/disagreements").await;
    answer["items"].as_array().unwrap().clone()
}

async fn until_kept(gateway: &Gateway, count: usize) -> Vec<Value> {
    until_async(seconds(20), async || {
        let kept = kept(gateway).await;
        if kept.len() == count { Ok(()) } else { Err(format!("{kept:#?}")) }
    })
    .await;
    kept(gateway).await
}

/// The whole store as bytes, with what waits in its log.
fn stored(gateway: &Gateway) -> Vec<u8> {
    let file = |name| std::fs::read(gateway.prepared.dir.join(name)).unwrap_or_default();
    [file("weir.db"), file("weir.db-wal")].concat()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test]
async fn t27_nothing_of_what_was_said_is_kept_unless_it_is_allowed() {
    let (live, next) = (says("live").start().await, says("copy").start().await);
    let counts = "kind = \"exact\"";
    let mut gateway = gateway(beside(&live, &next, "", counts)).start().await;
    let secretive = |text: &str| json!({"class": text});
    ask(&gateway.client(), &secretive("canary-live"), &secretive("canary-copy")).await;
    let found = compared(&gateway, 1).await;
    assert_eq!((&found["differences"]["content"], &found["samples"]), (&json!(1), &Value::Null));
    let refused = gateway.api().get("/api/v1/shadows/next/disagreements").await;
    assert_eq!(refused.status, 404);
    assert!(refused.text().contains("keeps no disagreements"), "{}", refused.text());

    // A route that does not allow it is a mistake in the file, which says how to mend it.
    let text = beside(&live, &next, "", SAMPLES).replace("payload_capture = true", "");
    let said = gateway.reconfigure(&text).await.unwrap_err();
    assert!(said.contains("payload_capture = true in [routes.chat]"), "{said}");
    ask(&gateway.client(), &secretive("canary-live"), &secretive("canary-copy")).await;
    compared(&gateway, 2).await;
    gateway.reconfigure(&beside(&live, &next, "", counts)).await.unwrap();
    let gateway = gateway.restart().await;
    let bytes = stored(&gateway);
    assert!(!contains(&bytes, "canary-live") && !contains(&bytes, "canary-copy"));
}

#[tokio::test]
async fn t27_disagreements_are_kept_without_credentials_cut_and_in_bounds() {
    let (live, next) = (says("live").start().await, says("copy").start().await);
    let gateway = gateway(beside(&live, &next, "", SAMPLES)).start().await;
    let client = gateway.client();
    let asked = json!({
        "user": "canary-user",
        "api_key": "canary-key",
        "messages": [{"content": "use sk-canary0123456789 please"}],
        "live": {"class": "cat", "long": "y".repeat(1_000)},
        "copy": {"class": "dog", "password": "canary-password"},
    });
    let answer = client.post("/v1/chat/completions", asked.to_string()).await;
    // One that agrees is not kept.
    ask(&client, &json!({"class": "a"}), &json!({"class": "a"})).await;
    let kept = until_kept(&gateway, 1).await;
    let sample = &kept[0];
    assert_eq!(sample["request_id"].as_str(), answer.header("x-request-id"));
    assert_eq!((&sample["cause"], &sample["revision"]), (&json!("content"), &json!(1)));
    assert_eq!(sample["labels"], json!({"live": "cat", "copy": "dog"}));
    assert_eq!(
        (&sample["live"]["status"], &sample["live"]["backend"]),
        (&json!(200), &json!("live"))
    );
    let text = |of: &Value| of["text"].as_str().unwrap().to_owned();
    let asked = text(&sample["request"]);
    assert!(
        asked.contains("use REDACTED please") && asked.contains("\"user\":\"REDACTED\""),
        "{asked}"
    );
    assert_eq!(text(&sample["copy"]["body"]), r#"{"class":"dog","password":"REDACTED"}"#);
    let live_body = &sample["live"]["body"];
    assert_eq!((text(live_body).len(), &live_body["cut"]), (300, &json!(true)));
    let everything = [stored(&gateway), gateway.metrics().await.into_bytes()].concat();
    for secret in ["canary-user", "canary-key", "sk-canary", "canary-password"] {
        assert!(!contains(&everything, secret), "{secret} was kept");
    }

    // What was said is in no other place that tells of requests.
    let told = format!(
        "{:?}{:?}{}{}",
        gateway.access_lines(),
        gateway.outcomes("").await,
        gateway.metrics().await,
        gateway.get("/shadows/next/comparison").await
    );
    assert!(!told.contains("REDACTED") && !told.contains("yyyy"), "{told}");

    // The newest three are kept.
    for n in 0..5 {
        ask(&client, &json!({"class": "cat"}), &json!({"class": format!("dog{n}")})).await;
        compared(&gateway, 3 + n).await;
    }
    let kept = until_kept(&gateway, 3).await;
    let labels: Vec<&Value> = kept.iter().map(|each| &each["labels"]["copy"]).collect();
    assert_eq!(labels, ["dog4", "dog3", "dog2"]);
}

#[tokio::test]
async fn t27_reading_what_is_kept_is_for_few_and_leaves_an_entry() {
    let (live, next) = (says("live").start().await, says("copy").start().await);
    let elsewhere = "[routes.elsewhere]\npath = \"/elsewhere\"\nbackend = \"live\"\n";
    let text = format!("{}\n{elsewhere}", beside(&live, &next, "", SAMPLES));
    let mut gateway = gateway(text).start().await;
    ask(&gateway.client(), &json!({"class": "cat"}), &json!({"class": "dog"})).await;
    until_kept(&gateway, 1).await;
    let path = "/api/v1/shadows/next/disagreements?limit=5";
    let entries = async || {
        let audit = gateway.get("/audit?limit=1000").await;
        let items = audit["items"].as_array().unwrap().clone();
        items.into_iter().filter(|e| e["action"] == "disagreements.read").collect::<Vec<_>>()
    };
    let before = entries().await.len();
    for (role, status) in [
        ("client", 403),
        ("viewer", 403),
        ("experimenter", 403),
        ("auditor", 403),
        ("operator", 200),
        ("admin", 200),
    ] {
        let key = gateway.make_key(role, Value::Null).await;
        let answer = Client::plain(gateway.admin).bearer(&key).get(path).await;
        assert_eq!(answer.status, status, "{role}: {}", answer.text());
    }
    // A key for other routes reads of those.
    let other = gateway.make_key("operator", json!({"routes": ["elsewhere"]})).await;
    assert_eq!(Client::plain(gateway.admin).bearer(&other).get(path).await.status, 403);
    let after = entries().await;
    assert_eq!(after.len(), before + 2, "each read, and no refusal");
    assert_eq!(after[0]["target"], "shadow/next");
    assert_eq!(after[0]["after"], json!({"cursor": null, "limit": 5}));
    assert_eq!(after[0]["actor"], "test-admin");

    // What is not allowed any more is deleted.
    let counts = "kind = \"label\"\npath = \"/class\"";
    let text = format!("{}\n{elsewhere}", beside(&live, &next, "", counts));
    gateway.reconfigure(&text).await.unwrap();
    assert_eq!(gateway.get("/shadows/next/comparison").await["pairs"], 1, "counts stay");
    let rows = || {
        let database = crate::recording::database(&gateway.prepared.dir);
        let count = "SELECT count(*) FROM disagreements";
        database.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    weir_tests::until(seconds(20), || rows() == 0).await;
}

/// Streams are kept as what they say, so that a key is seen although it came in pieces.
#[tokio::test]
async fn t27_a_key_in_the_pieces_of_a_stream_is_not_kept() {
    let event = |text: &str| {
        let delta = json!({"choices": [{"index": 0, "delta": {"content": text}}]});
        format!("data: {delta}\n\n")
    };
    let stream: String = ["your key is sk-cana", "ry0123", "456789 ok"].map(event).concat();
    let live = backend().handler(move |_| {
        let answer = http::Response::builder().header("content-type", "text/event-stream");
        let answer = answer.body(bytes::Bytes::from(stream.clone())).unwrap();
        async move { answer }
    });
    let live = live.start().await;
    let next = backend().openai("next").start().await;
    let compare = "kind = \"text\"\nsamples = {}";
    let gateway = gateway(beside(&live, &next, "", compare)).start().await;
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    gateway.client().post("/v1/chat/completions", chat).await;
    let kept = until_kept(&gateway, 1).await;
    let said = kept[0]["live"]["body"]["text"].as_str().unwrap();
    assert!(said.contains("your key is REDACTED ok"), "{said}");
    assert!(!contains(&stored(&gateway), "sk-cana"));
}
