//! The admin API's document: valid by the standard's own validator, true of a gateway that runs, and what
//! schemathesis makes up from it is answered as it says.

use serde_json::{Value, json};
use weir_tests::{Gateway, backend, gateway};

use crate::setup::{a_turn, root, run, told};

/// A program of the environment that `tests/real/openapi.txt` describes.
fn program(name: &str) -> String {
    let program = root().join("target/test-env/openapi/bin").join(name);
    assert!(program.exists(), "no {}: run scripts/test, it installs it", program.display());
    program.display().to_string()
}

/// A gateway in which there is something of everything.
async fn lived() -> Gateway {
    let stable = backend().openai("m").start().await;
    let canary = backend().openai("m").start().await;
    let text = format!(
        r#"
        [backends.stable]
        endpoints = ["{}"]
        [backends.canary]
        endpoints = ["{}", "http://127.0.0.1:1"]
        [routes.chat]
        path = "/v1/chat/completions"
        backend = "stable"
        [routes.rest]
        path = "/rest"
        backend = "stable"
        [layers.ui]
        [experiments.int8]
        route = "chat"
        unit = ["header:x-user-id", "key"]
        control = "stable"
        layer = {{ name = "ui", percent = 90 }}
        [experiments.int8.variants]
        stable = {{ backend = "stable", weight = 50 }}
        canary = {{ backend = "canary", weight = 50 }}
        [[experiments.int8.targets]]
        when = {{ header = {{ name = "x-team", value = "research" }} }}
        variant = "canary"
        [shadows.next]
        route = "chat"
        backend = "canary"
        percent = 100
        [[webhooks]]
        name = "hook"
        url = "http://127.0.0.1:1/hook"
        events = ["ramp.*"]
        secret = "file:hook.key"
        "#,
        stable.url(),
        canary.url()
    );
    let prepared = gateway(text).write();
    std::fs::write(prepared.dir.join("hook.key"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        .unwrap();
    let gateway = prepared.start().await;
    // They end with the program.
    std::mem::forget((stable, canary));
    let client = gateway.client();
    for user in 0..60 {
        let body = json!({"model": "m", "messages": []}).to_string();
        let request = client.post("/v1/chat/completions", body);
        request.header("x-user-id", &format!("user-{user}")).await;
    }
    client.post("/rest", "{}").await;
    let made = json!({
        "name": "made", "route": "rest", "unit": ["key"], "control": "a",
        "variants": {"a": {"backend": "stable", "weight": 1}, "b": {"backend": "canary", "weight": 1}},
    });
    let answer = gateway.api().post("/api/v1/experiments", made.to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let ramp = gateway.api().post("/api/v1/experiments/int8/ramp", "{}").await;
    assert_eq!(ramp.status, 201, "{}", ramp.text());
    gateway.set_weights("int8", json!({"canary": 30})).await;
    gateway.make_key("viewer", json!({"routes": ["chat"], "expires_in_seconds": 3_600})).await;
    gateway.accounts().await;
    gateway
}

#[tokio::test]
async fn the_document_is_valid_and_every_answer_is_as_it_says() {
    let _turn = a_turn().await;
    let gateway = lived().await;
    let newest = gateway.get("/requests?limit=1&experiment=int8").await;
    let id = newest["items"][0]["request_id"].as_str().unwrap().to_owned();
    let mut asks: Vec<[String; 2]> = Vec::new();
    let document = gateway.get("/openapi.json").await;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let streams = path.ends_with("/live");
        let needs_more = path.ends_with("/disagreements") || path == "/console/{file}";
        if operations.get("get").is_none() || streams || needs_more {
            continue;
        }
        let query = match path.as_str() {
            path if path.ends_with("/{experiment}/assign") => "?unit=ada",
            "/debug/assign" => "?experiment=int8&unit=ada",
            path if path.ends_with("/results") => "?sketch=20",
            "/livez" | "/readyz" => "?verbose",
            _ => "",
        };
        let asked = path
            .replace("{experiment}", "int8")
            .replace("{shadow}", "next")
            .replace("{name}", "hook")
            .replace("{id}", &id);
        asks.push([path.clone(), format!("{asked}{query}")]);
    }
    // Other answers of the same operations.
    for (path, asked) in [
        ("/api/v1/experiments/{experiment}", "/api/v1/experiments/made"),
        ("/api/v1/experiments", "/api/v1/experiments?state=running"),
        ("/api/v1/requests", "/api/v1/requests?outcome=failed"),
        ("/api/v1/export/outcomes", "/api/v1/export/outcomes?format=csv"),
        ("/readyz", "/readyz"),
    ] {
        asks.push([path.to_owned(), asked.to_owned()]);
    }
    let mut env = told(&gateway);
    env.push(("WEIR_ASK", json!(asks).to_string()));
    let script = root().join("tests/real/with_openapi.py").display().to_string();
    let ran = run(&[&program("python"), &script], &env).await;
    assert!(ran.ok, "{}{}", ran.out, ran.err);
    let found: Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    assert_eq!(found["compared"], asks.len(), "{}", ran.err);
    assert!(asks.len() > 40);
}

#[tokio::test]
async fn what_schemathesis_makes_up_is_answered_as_the_document_says() {
    let _turn = a_turn().await;
    let gateway = lived().await;
    let newest = gateway.get("/requests?limit=1").await;
    let mut env = told(&gateway);
    let keys = gateway.get("/keys").await;
    let keys = keys["items"].as_array().unwrap();
    let spare = keys.iter().find(|key| key["role"] == "viewer").unwrap();
    env.push(("WEIR_SPARE_KEY", spare["id"].as_str().unwrap().to_owned()));
    env.push(("WEIR_REQUEST", newest["items"][0]["request_id"].as_str().unwrap().to_owned()));
    let config = root().join("tests/real/schemathesis.toml").display().to_string();
    // Reading it takes a credential, so schemathesis gets it as a file.
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("openapi.json").display().to_string();
    std::fs::write(&document, gateway.get("/openapi.json").await.to_string()).unwrap();
    let url = format!("http://{}", gateway.admin);
    let program = program("schemathesis");
    let words = [
        &*program,
        "--config-file",
        &*config,
        "run",
        &*document,
        "--url",
        &*url,
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        "12",
        "--seed",
        "1",
        "--workers",
        "2",
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,\
         response_headers_conformance,response_schema_conformance,ignored_auth,missing_required_header",
        // A stream has no end, and who is out of service says so with a 503.
        "--exclude-path-regex",
        "/live$|drain$",
        // It goes to a receiver that is not there: 502 is what it should be.
        "--exclude-operation-id",
        "post_webhooks_name_test",
        "--request-timeout",
        "20",
        "--no-color",
    ];
    let ran = run(&words, &env).await;
    let end: Vec<&str> = ran.out.lines().rev().take(120).collect();
    let end: Vec<&str> = end.into_iter().rev().collect();
    assert!(ran.ok, "{}\n{}", end.join("\n"), ran.err);
    // It is the same gateway, it is well, and the key still works with which all that was asked.
    let status = gateway.get("/status").await;
    assert_eq!(status["recording"]["pending"], 0);
    let verdict = gateway.get("/audit/verify").await;
    assert_eq!(verdict["intact"], true, "{verdict}");
}
