//! Revisions of an experiment from outside: what history tells, and going back.

use serde_json::{Value, json};
use weir_tests::{ADMIN_KEY, gateway, weir};

use crate::experiments::{INT8, answer_for, error, put_weights, two, undo};

#[tokio::test]
async fn history_tells_every_revision_newest_first_in_pages() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let api = gateway.api();
    for (seen, canary) in [(1, 20), (2, 30), (3, 40), (4, 50)] {
        let body = json!({
            "weights": {"canary": canary, "stable": 100 - canary},
            "reason": format!("to {canary} %"),
        });
        assert_eq!(put_weights(&api, &format!("\"{seen}\""), body).await.status, 200);
    }
    let history = gateway.get("/experiments/int8/history").await;
    assert_eq!(history["next"], Value::Null);
    let rows = history["revisions"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    let newest = &rows[0];
    let mut members: Vec<&str> = newest.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    for member in ["at", "buckets_moved", "by", "reason", "revision", "source", "undoes", "weights"]
    {
        assert!(members.contains(&member), "{member} in {members:?}");
    }
    assert_eq!(newest["revision"], 5);
    assert_eq!(newest["weights"], json!({"stable": 50.0, "canary": 50.0}));
    assert_eq!(newest["source"], "api");
    assert_eq!(newest["by"], "first-admin");
    assert_eq!(newest["reason"], "to 50 %");
    assert_eq!(newest["buckets_moved"], 1000);
    assert_eq!(newest["undoes"], Value::Null);
    let oldest = &rows[4];
    assert_eq!(
        (&oldest["revision"], &oldest["source"], &oldest["by"], &oldest["reason"]),
        (&json!(1), &json!("file"), &json!("file"), &Value::Null)
    );

    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = gateway.get(&format!("/experiments/int8/history?limit=2{cursor}")).await;
        let part = page["revisions"].as_array().unwrap();
        assert!(part.len() <= 2);
        paged.extend(part.clone());
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(&paged, rows, "pages are the whole");
    let missing = api.get("/api/v1/experiments/int9/history").await;
    let said = "experiment \"int9\" does not exist";
    assert_eq!(error(&missing), (404, "not_found".into(), said.into()));
    let wrong = api.get(&format!("{INT8}/history?cursor=x")).await;
    let said = "`cursor` is not one of this list's";
    assert_eq!(error(&wrong), (400, "invalid_request".into(), said.into()));
}

#[tokio::test]
async fn undo_goes_back_and_an_undo_of_it_forward_again() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let api = gateway.api();
    let canary =
        async || gateway.get("/experiments/int8").await["variants"]["canary"]["share"].clone();

    let nothing = undo(&api, json!({})).await;
    let said = "experiment \"int8\" has only one revision; there is nothing to undo";
    assert_eq!(error(&nothing), (404, "not_found".into(), said.into()));

    let client = gateway.client();
    let mut before = Vec::new();
    for user in 0..150 {
        before.push(answer_for(&client, &format!("user-{user}")).await);
    }
    gateway.set_weights("int8", json!({"stable": 50, "canary": 50})).await;
    gateway.set_weights("int8", json!({"stable": 20, "canary": 80})).await;

    let undone = undo(&api, json!({"reason": "too slow"})).await;
    assert_eq!(undone.status, 200, "{}", undone.text());
    let body = undone.json();
    assert_eq!(
        (&body["revision"], &body["undoes"], &body["reason"]),
        (&json!(4), &json!(3), &json!("too slow"))
    );
    assert_eq!(undone.header("etag"), Some("\"4\""));
    assert_eq!(canary().await, 0.5);
    assert_eq!(undo(&api, json!({})).await.json()["undoes"], 4);
    assert_eq!(canary().await, 0.8, "an undo of the undo brings back what was undone");
    undo(&api, json!({})).await;
    assert_eq!(canary().await, 0.5);

    let first = undo(&api, json!({"to": 1})).await;
    assert_eq!((&first.json()["revision"], &first.json()["undoes"]), (&json!(7), &json!(6)));
    assert_eq!(canary().await, 0.1);
    let mut after = Vec::new();
    for user in 0..150 {
        after.push(answer_for(&client, &format!("user-{user}")).await);
    }
    assert_eq!(before, after, "everybody is back where they were");
    undo(&api, json!({})).await;
    assert_eq!(canary().await, 0.5, "an undo --to is undone like any other");

    for (to, said) in [
        (0, "experiment \"int8\" has no revision 0 before revision 8"),
        (8, "experiment \"int8\" has no revision 8 before revision 8"),
        (99, "experiment \"int8\" has no revision 99 before revision 8"),
        (u64::MAX, "experiment \"int8\" has no revision 18446744073709551615 before revision 8"),
    ] {
        let answer = undo(&api, json!({"to": to})).await;
        assert_eq!(error(&answer), (404, "not_found".into(), said.into()));
    }
    for wrong in [json!({"to": -1}), json!({"to": "1"}), json!({"back": 1}), json!([])] {
        assert_eq!(undo(&api, wrong.clone()).await.status, 400, "{wrong}");
    }
    assert_eq!(gateway.get("/experiments/int8").await["revision"], 8);
}

/// T20. What happened: an undo named no revision, so of two people who saw the same mistake the first
/// took it back, and the second brought it back again.
#[tokio::test]
async fn t20_an_undo_is_made_only_by_who_has_seen_the_newest_revision() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let api = gateway.api();
    gateway.set_weights("int8", json!({"canary": 50})).await;
    let path = format!("{INT8}/undo");
    let absent = api.post(&path, "").await;
    assert_eq!((absent.status.as_u16(), error(&absent).1), (428, "precondition_required".into()));
    let wrong = api.post(&path, "").header("if-match", "*").await;
    assert_eq!((wrong.status.as_u16(), error(&wrong).1), (400, "invalid_request".into()));
    assert_eq!(gateway.get("/experiments/int8").await["revision"], 2, "nothing was changed");

    let first = api.post(&path, "").header("if-match", "\"2\"").await;
    assert_eq!((first.status.as_u16(), first.header("etag")), (200, Some("\"3\"")));
    for body in [json!({}), json!({"to": 1})] {
        let second = api.post(&path, body.to_string()).header("if-match", "\"2\"").await;
        let said = "revision 2 is not in force any more: first-admin made revision 3";
        assert_eq!(error(&second), (412, "stale_revision".into(), said.into()));
    }
    let shown = gateway.get("/experiments/int8").await;
    assert_eq!(
        (&shown["revision"], &shown["variants"]["canary"]["weight"]),
        (&json!(3), &json!(10.0))
    );

    let admin = format!("http://{}", gateway.admin);
    let undone = tokio::task::spawn_blocking(move || {
        weir(&["undo", "int8", "--admin", &admin, "--token", ADMIN_KEY])
    });
    let undone = undone.await.unwrap();
    assert!(undone.status.success(), "{}", String::from_utf8_lossy(&undone.stderr));
    assert_eq!(gateway.get("/experiments/int8").await["revision"], 4);
}
