//! What whoever keeps the gateway running asks of it: out of service and back, the effective state, the
//! log level, everything stored written out.

use std::process::Command;

use serde_json::{Value, json};
use weir_tests::{ADMIN_KEY, Answer, Client, backend, gateway, seconds, until_async, weir_program};

use crate::recording::split;

fn message(answer: &Answer) -> String {
    answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_drain_turns_traffic_away_without_failing_any_and_an_undrain_brings_it_back() {
    let model = backend().answers("x").start().await;
    let gateway = gateway(split(&model, &model)).start().await;
    let (api, admin) = (gateway.api(), Client::plain(gateway.admin));
    let operator = gateway.make_key("operator", json!({"name": "olga"})).await;
    let operator = Client::plain(gateway.admin).bearer(&operator);
    let client = gateway.client().apart();
    assert_eq!(client.get("/rest/x").await.status, 200);

    let drained = operator.post("/drain", r#"{"reason":"a new disk"}"#).await;
    assert_eq!(drained.status, 200, "{}", drained.text());
    let drained = drained.json();
    assert_eq!((&drained["draining"], &drained["stored"]), (&json!(true), &json!(true)));
    assert_eq!(admin.get("/readyz").await.status, 503, "balancers are told");
    assert_eq!(admin.get("/livez").await.status, 200, "and nobody restarts it");
    // An idle connection is ended in order; whoever comes all the same is served, and told to leave.
    until_async(seconds(5), || async {
        let answer = client.get("/rest/x").await;
        assert_eq!(answer.status, 200);
        answer.header("connection") == Some("close")
    })
    .await;
    assert_eq!(gateway.client().apart().get("/rest/x").await.status, 200);
    let again = operator.post("/drain", "").await;
    assert_eq!((again.status.as_u16(), &again.json()["draining"]), (200, &json!(true)));

    let back = operator.post("/undrain", "").await;
    assert_eq!((back.status.as_u16(), &back.json()["draining"]), (200, &json!(false)));
    assert_eq!(admin.get("/readyz").await.status, 200);
    let fresh = gateway.client().apart();
    until_async(seconds(5), || async {
        fresh.get("/rest/x").await.header("connection") != Some("close")
    })
    .await;
    let audit = api.get("/api/v1/audit?action=gateway.").await.json();
    let told: Vec<(&Value, &Value, &Value)> = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (&entry["action"], &entry["actor"], &entry["reason"]))
        .collect();
    let (olga, disk) = (json!("olga"), json!("a new disk"));
    let expected =
        [(&json!("gateway.undrain"), &olga, &Value::Null), (&json!("gateway.drain"), &olga, &disk)];
    assert_eq!(told, expected, "what changed nothing is no entry");
}

#[tokio::test]
async fn the_effective_state_is_shown_without_its_secrets() {
    let model = backend().answers("x").start().await;
    let hash = policies::api_key::format_hash(&policies::api_key::declared_hash(
        "a-key-that-is-declared-in-the-file",
    ));
    let keys =
        format!("[auth]\nkeys = [{{ name = \"fixed\", hash = \"{hash}\", role = \"client\" }}]\n");
    let gateway = gateway(format!("{keys}{}", split(&model, &model))).start().await;
    let api = gateway.api();
    let config = api.get("/debug/config").await;
    assert_eq!(config.status, 200);
    assert!(!config.text().contains(&hash) && config.text().contains("***"), "{}", config.text());
    let config = config.json();
    assert_eq!(config["file"]["auth"]["keys"][0]["hash"], "***");
    assert_eq!(config["file"]["routes"]["chat"]["path"], "/v1/chat/completions");
    assert_eq!(config["experiments"]["int8"]["variants"]["canary"]["weight"], 50.0);

    let routes = api.get("/debug/routes").await.json();
    let chat = routes["items"].as_array().unwrap().iter().find(|route| route["name"] == "chat");
    let chat = chat.unwrap();
    assert_eq!(
        (&chat["path"], &chat["backend"], &chat["experiments"]),
        (&json!("/v1/chat/completions"), &json!("stable"), &json!(["int8"]))
    );
    let dealt = api.get("/debug/experiments").await.json()["items"][0].clone();
    let runs = dealt["runs"].as_array().unwrap();
    let buckets = |variant: &str| -> u64 {
        let own = runs.iter().filter(|run| run["variant"] == variant);
        own.map(|run| run["end"].as_u64().unwrap() - run["first"].as_u64().unwrap()).sum()
    };
    assert_eq!((buckets("stable"), buckets("canary")), (5_000, 5_000), "{dealt}");
    // What is said of a unit is what it gets.
    for user in ["ada", "bob", "eve"] {
        let debug = api.get(&format!("/debug/assign?experiment=int8&unit={user}")).await.json();
        let said = api.get(&format!("/api/v1/experiments/int8/assign?unit={user}")).await.json();
        assert_eq!(debug, said);
        let bucket = debug["bucket"].as_u64().unwrap();
        let holds = |run: &&Value| {
            run["first"].as_u64().unwrap() <= bucket && bucket < run["end"].as_u64().unwrap()
        };
        assert_eq!(runs.iter().find(holds).unwrap()["variant"], debug["variant"]);
    }
    let open = gateway.client();
    assert_eq!(open.get("/rest/x").await.status, 200);
    let workers = api.get("/debug/connections").await.json();
    let workers = workers["items"].as_array().unwrap();
    assert_eq!(workers.len(), 2);
    assert!(workers.iter().map(|worker| worker["open"].as_u64().unwrap()).sum::<u64>() >= 1);
}

#[tokio::test]
async fn the_log_level_is_changed_for_a_while_and_comes_back_by_itself() {
    let model = backend().answers("x").start().await;
    let weir = gateway(split(&model, &model)).write().spawn().await;
    let api = weir.api();
    let set = |body: Value| api.request("PUT", "/debug/log-level", body.to_string());
    for (body, said) in [
        (json!({"level": "loud"}), "`level` must be one of debug, info, warn, error"),
        (
            json!({"level": "debug", "for": "25h"}),
            "`for` must be a duration up to 24h, such as 30m",
        ),
        (json!({"level": "debug", "for": "0s"}), "`for` must be a duration up to 24h, such as 30m"),
    ] {
        let answer = set(body.clone()).await;
        assert_eq!((answer.status.as_u16(), message(&answer)), (400, said.to_owned()), "{body}");
    }
    assert!(weir.events("weir.admin.call").is_empty());
    let asked = set(json!({"level": "debug", "for": "2s", "reason": "what is it doing"})).await;
    assert_eq!((asked.status.as_u16(), &asked.json()["level"]), (200, &json!("debug")));
    assert!(asked.json()["until"].is_string());
    weir.get("/routes").await;
    until_async(seconds(2), || async {
        weir.events("weir.admin.call").iter().any(|event| event["path"] == "/api/v1/routes")
    })
    .await;
    until_async(seconds(10), || async {
        let levels = weir.events("weir.log.level");
        levels.iter().any(|event| event["by"] == "its time was over" && event["level"] == "info")
    })
    .await;
    let before = weir.events("weir.admin.call").len();
    weir.get("/routes").await;
    assert_eq!(weir.events("weir.admin.call").len(), before);
    let entry = weir.get("/audit?action=log_level.").await["items"][0].clone();
    assert_eq!(
        (&entry["before"], &entry["after"], &entry["reason"]),
        (&json!({"level": "info"}), &json!({"level": "debug"}), &json!("what is it doing"))
    );
}

#[tokio::test]
async fn every_stored_outcome_is_exported_once_and_a_filter_is_one() {
    // More than a page of the store.
    const REQUESTS: usize = 620;
    let model = backend().answers("x").counts_only().start().await;
    let gateway = gateway(split(&model, &model)).start().await;
    let client = gateway.client();
    for user in 0..REQUESTS {
        let request = client.post("/v1/chat/completions", "{}");
        let request = request.header("user-agent", "=cmd|' /c calc'!a,\"b\"");
        assert_eq!(request.header("x-user-id", &format!("u{user}")).await.status, 200);
    }
    let stored = gateway.outcomes("experiment=int8").await;
    assert_eq!(stored.len(), REQUESTS);
    let canary = stored.iter().filter(|outcome| outcome["variant"] == "canary").count();
    assert!((1..REQUESTS).contains(&canary));
    let export = |query: &str| gateway.api().get(&format!("/api/v1/export/outcomes{query}"));

    let lines = export("?experiment=int8").await;
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> =
        lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, stored, "the same items in the same order");

    let csv = export("?format=csv&variant=canary").await;
    assert!(csv.header("content-type").unwrap().starts_with("text/csv"));
    let csv = csv.text();
    let mut rows = csv.lines();
    assert!(rows.next().unwrap().starts_with("request_id,boot_id,seq,timestamp,route,"));
    assert_eq!(rows.count(), canary);
    assert!(csv.contains(",\"'=cmd|' /c calc'!a,\"\"b\"\"\","), "no formula");

    let told = Command::new(weir_program())
        .args(["export", "outcomes", "--csv", "--variant", "canary"])
        .env("WEIR_ADMIN", format!("http://{}", gateway.admin))
        .env("WEIR_TOKEN", ADMIN_KEY)
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert_eq!(String::from_utf8(told.stdout).unwrap(), csv);
    for query in ["?format=xml", "?outcome=bad", "?slower=x", "?limit=3"] {
        assert_eq!(export(query).await.status, 400, "{query}");
    }
    assert_eq!(export("?variant=nobody").await.text(), "");
}
