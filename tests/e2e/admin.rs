//! The admin API beside experiments: the audit log, status, lists, errors in one shape.

use serde_json::{Value, json};
use weir_tests::gateway::ADMIN_KEY;
use weir_tests::{Client, gateway};

use crate::experiments::{answer_for, two};

const INT8: &str = "/api/v1/experiments/int8";

#[tokio::test]
async fn the_audit_log_tells_who_did_what_from_where_and_what_it_was_before() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let ada = gateway.make_key("experimenter", json!({"name": "ada"})).await;
    let ada = Client::plain(gateway.admin).bearer(&ada);
    let keys = gateway.get("/keys").await;
    let keys = keys["items"].as_array().unwrap();
    let ada_id = keys.iter().find(|key| key["name"] == "ada").unwrap()["id"].clone();

    let put = ada
        .request(
            "PUT",
            &format!("{INT8}/weights"),
            r#"{"weights":{"canary":30},"reason":"why not"}"#,
        )
        .header("if-match", "\"1\"")
        .await;
    assert_eq!(put.status, 200, "{}", put.text());
    let refused = ada
        .request("PUT", &format!("{INT8}/weights"), r#"{"weights":{"canary":31}}"#)
        .header("if-match", "\"1\"")
        .await;
    assert_eq!(refused.status, 412);
    ada.post(&format!("{INT8}/stop"), r#"{"reason":"ouch"}"#).await;
    ada.post(&format!("{INT8}/stop"), "").await;
    ada.post(&format!("{INT8}/undo"), "").header("if-match", "\"3\"").await;

    let audit = gateway.get("/audit").await;
    let entries = audit["items"].as_array().unwrap();
    let own: Vec<&Value> = entries.iter().filter(|entry| entry["actor"] == "ada").collect();
    let actions: Vec<&str> = own.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        ["experiment.undo", "experiment.stop", "weights.set"],
        "newest first, one for each change, none for what changed nothing"
    );
    let set = own[2];
    assert_eq!(set["key_id"], ada_id);
    assert_eq!(set["from"], "127.0.0.1");
    assert_eq!(set["target"], "experiment/int8");
    assert_eq!(set["reason"], "why not");
    assert_eq!(
        set["before"],
        json!({"revision": 1, "state": "running", "weights": {"stable": 90.0, "canary": 10.0}})
    );
    assert_eq!(
        set["after"],
        json!({"revision": 2, "state": "running", "weights": {"stable": 90.0, "canary": 30.0}})
    );
    assert!(set["at"].as_str().unwrap().ends_with('Z'));
    assert!(!set["request_id"].as_str().unwrap().is_empty());
    assert_eq!((&own[1]["reason"], &own[1]["after"]["state"]), (&json!("ouch"), &json!("stopped")));
    assert_eq!(own[0]["after"]["state"], "running");

    let file = entries.iter().find(|entry| entry["actor"] == "file").unwrap();
    assert_eq!(
        (&file["action"], &file["target"], &file["before"]),
        (&json!("experiment.create"), &json!("experiment/int8"), &Value::Null)
    );
    let made: Vec<&Value> =
        entries.iter().filter(|entry| entry["action"] == "key.create").collect();
    assert!(
        made.iter().any(|entry| entry["target"] == format!("key/{}", ada_id.as_str().unwrap()))
    );
    assert!(!audit.to_string().contains("weir_") && !audit.to_string().contains(ADMIN_KEY));

    // In pages, without gap or repeat. That the log was read is the newest entry now.
    let audit = gateway.get("/audit").await;
    let entries = audit["items"].as_array().unwrap();
    let read = &entries[0];
    assert_eq!((&read["action"], &read["actor"]), (&json!("audit.read"), &json!("first-admin")));
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = gateway.get(&format!("/audit?limit=2{cursor}")).await;
        ids.extend(page["items"].as_array().unwrap().iter().map(|e| e["id"].as_u64().unwrap()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let expected: Vec<u64> = (1..=entries.len() as u64).rev().collect();
    assert_eq!(ids, expected);
    assert_eq!(ada.get("/api/v1/audit").await.status, 403, "who is checked does not look");
    let auditor =
        Client::plain(gateway.admin).bearer(&gateway.make_key("auditor", Value::Null).await);
    assert_eq!(auditor.get("/api/v1/audit").await.status, 200);
}

#[tokio::test]
async fn status_and_the_lists_show_what_is_in_force() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    for user in 0..10 {
        answer_for(&gateway.client(), &format!("user-{user}")).await;
    }
    gateway.accounts().await;
    let status = gateway.get("/status").await;
    assert_eq!(status["edge"], gateway.edge.to_string());
    assert_eq!(status["admin"], gateway.admin.to_string());
    assert_eq!(status["draining"], false);
    assert_eq!(status["store"]["up"], true);
    assert_eq!(status["recording"]["assigned"], 10);
    assert_eq!(status["experiments"][0]["name"], "int8");
    let routes = gateway.get("/routes").await;
    assert_eq!(routes["next"], Value::Null);
    let route = &routes["items"][0];
    assert_eq!(
        (&route["name"], &route["backend"], &route["experiments"], &route["requests"]),
        (&json!("chat"), &json!("stable"), &json!(["int8"]), &json!(10))
    );
    let backends = gateway.get("/backends").await;
    let names: Vec<&Value> =
        backends["items"].as_array().unwrap().iter().map(|backend| &backend["name"]).collect();
    assert_eq!(names, ["stable", "canary"]);
    let endpoint = &backends["items"][0]["endpoints"][0];
    assert!(endpoint["state"].is_string() && endpoint["in_flight"] == 0, "{endpoint}");
    assert_eq!(gateway.get("/shadows").await["items"], json!([]));
    let shown = gateway.get("/experiments/int8").await;
    let requests = |name: &str| shown["variants"][name]["requests"].as_u64().unwrap();
    assert_eq!(requests("stable") + requests("canary"), 10);
}

#[tokio::test]
async fn stored_requests_are_found_by_what_they_were() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    for user in 0..60 {
        answer_for(&gateway.client(), &format!("user-{user}")).await;
    }
    let all = gateway.outcomes("").await;
    assert_eq!(all.len(), 60);
    let canary = gateway.outcomes("variant=canary").await;
    let stable = gateway.outcomes("experiment=int8&variant=stable&outcome=ok&route=chat").await;
    assert_eq!(canary.len() + stable.len(), 60);
    assert!(stable.iter().all(|row| row["variant"] == "stable"));
    let one = gateway.outcomes("experiment=int8&unit=user-7").await;
    assert_eq!(one.len(), 1);
    assert!(gateway.outcomes("route=nope").await.is_empty());
    assert!(gateway.outcomes("slower=1h").await.is_empty());
    assert_eq!(gateway.outcomes("since=10m").await.len(), 60);
    let id = one[0]["request_id"].as_str().unwrap();
    assert_eq!(gateway.get(&format!("/requests/{id}")).await["request_id"], id);

    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = gateway.get(&format!("/requests?limit=7{cursor}")).await;
        let items = page["items"].as_array().unwrap().clone();
        assert!(items.len() <= 7);
        ids.extend(items.iter().map(|item| item["request_id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let expected: Vec<&str> = all.iter().map(|row| row["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids, expected, "pages are the whole, newest first");
}

/// What happened: what an extractor refused was told as bare text, which no client of the API reads.
#[tokio::test]
async fn every_error_has_the_one_shape() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let api = gateway.api();
    let large = "x".repeat((1 << 20) + 1);
    for (method, path, body, status, kind) in [
        ("GET", "/requests?limit=many", "", 400, "invalid_request"),
        ("GET", "/requests?nonsense=1", "", 400, "invalid_request"),
        ("GET", "/requests?slower=soon", "", 400, "invalid_request"),
        ("GET", "/requests?since=soon", "", 400, "invalid_request"),
        ("GET", "/requests?cursor=x", "", 400, "invalid_request"),
        ("GET", "/requests?unit=u", "", 400, "invalid_request"),
        ("GET", "/requests/not-an-id", "", 404, "not_found"),
        ("GET", "/requests/%FF", "", 400, "invalid_request"),
        ("GET", "/audit?cursor=x", "", 400, "invalid_request"),
        ("GET", "/audit?limit=-1", "", 400, "invalid_request"),
        ("GET", "/experiments/int8/history?limit=x", "", 400, "invalid_request"),
        ("GET", "/experiments/int8/assign", "", 400, "invalid_request"),
        ("GET", "/experiments/%FF", "", 400, "invalid_request"),
        ("POST", "/experiments/int8/stop", "{", 400, "invalid_request"),
        ("POST", "/experiments/int8/stop", &large, 413, "body_too_large"),
        ("POST", "/experiments/int9/stop", "", 404, "not_found"),
        ("POST", "/keys", "", 400, "invalid_request"),
        ("POST", "/keys", &large, 413, "body_too_large"),
        ("DELETE", "/keys/%FF", "", 400, "invalid_request"),
        ("GET", "/nothing", "", 404, "not_found"),
    ] {
        let answer = api.request(method, &format!("/api/v1{path}"), body.to_owned()).await;
        let what = format!("{method} {path}");
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        let error = &answer.json()["error"];
        assert_eq!(error["type"], kind, "{what}");
        assert!(!error["message"].as_str().unwrap().is_empty(), "{what}");
        assert!(error["request_id"].is_string() && error["details"].is_array(), "{what}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{what}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    }
    assert_eq!(gateway.get("/experiments/int8").await["revision"], 1, "nothing was changed");
}
