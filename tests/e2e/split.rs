//! The main job: a request is authenticated, routed, split, answered, recorded.

use serde_json::json;
use weir_tests::{Backend, backend, gateway};

/// A 90/10 split of one chat route over two backends.
fn split(stable: &Backend, canary: &Backend) -> String {
    format!(
        r#"
        [backends.stable]
        endpoints = ["{}"]
        [backends.canary]
        endpoints = ["{}"]
        [routes.chat]
        path = "/v1/chat/completions"
        backend = "stable"
        [experiments.int8]
        route = "chat"
        unit = ["header:x-user-id"]
        control = "stable"
        [experiments.int8.variants]
        stable = {{ backend = "stable", weight = 90 }}
        canary = {{ backend = "canary", weight = 10 }}
        "#,
        stable.url(),
        canary.url()
    )
}

#[tokio::test]
async fn a_request_is_answered_by_its_variant_and_recorded() {
    let stable = backend().openai("model-a").start().await;
    let canary = backend().openai("model-b").start().await;
    let gateway = gateway(split(&stable, &canary)).start().await;

    let body = json!({"model": "chat", "messages": [{"role": "user", "content": "hi"}]});
    let answer = gateway
        .client()
        .post("/v1/chat/completions", body.to_string())
        .header("content-type", "application/json")
        .header("x-user-id", "u1")
        .await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.header("x-weir-receipt").is_some());
    assert!(answer.header("x-weir-variant").is_none(), "a client key may not see the variant");
    let rows = gateway.outcomes("").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["outcome"], "ok");
    assert_eq!(rows[0]["request_id"], answer.header("x-request-id").unwrap());
    assert_eq!(stable.calls() + canary.calls(), 1);
}

#[tokio::test]
async fn weights_move_units_from_control_only_and_survive_a_restart() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let gateway = gateway(split(&stable, &canary)).start().await;
    let client = gateway.client();
    let variant_of = async |client: &weir_tests::Client, user: usize| {
        let answer = client
            .post("/v1/chat/completions", "{}")
            .header("x-user-id", &format!("user-{user}"))
            .await;
        assert_eq!(answer.status, 200);
        answer.text()
    };
    let mut before = Vec::new();
    for user in 0..300 {
        before.push(variant_of(&client, user).await);
    }
    let in_canary = before.iter().filter(|v| *v == "canary").count();
    assert!((10..=55).contains(&in_canary), "{in_canary} of 300 at 10 %");

    let changed = gateway.set_weights("int8", json!({"stable": 50, "canary": 50})).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(changed.json()["revision"], 2);
    assert_eq!(changed.json()["buckets_moved"], 4000);

    let gateway = gateway.restart().await;
    let client = gateway.client();
    let mut moved = 0;
    for (user, was) in before.iter().enumerate() {
        let now = variant_of(&client, user).await;
        assert!(was != "canary" || now == "canary", "user {user} was moved out of canary");
        moved += usize::from(*was != now);
    }
    assert!(moved > 80, "{moved} of 300 moved at 10 % to 50 %");
}
