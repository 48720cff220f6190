//! The kill switch from outside: at once, whoever else is at work, and whether or not the store is.

use std::time::Instant;

use serde_json::{Value, json};
use weir_tests::{backend, gateway, millis};

use crate::experiments::{PATH, answer_for, error, post, put_weights, split, two, undo};

#[tokio::test]
async fn stop_sends_everything_to_the_routes_backend_until_somebody_sets_weights() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let gateway = gateway(split(&stable, &canary, (0, 100))).start().await;
    let (api, client) = (gateway.api(), gateway.client());
    assert_eq!(answer_for(&client, "u").await, "canary");

    let stopped = post(&api, "stop", json!({"reason": "it lies"})).await;
    assert_eq!(stopped.status, 200, "{}", stopped.text());
    let body = stopped.json();
    assert_eq!(
        (&body["state"], &body["revision"], &body["reason"], &body["stored"]),
        (&json!("stopped"), &json!(2), &json!("it lies"), &json!(true))
    );
    let served = canary.calls();
    for user in 0..50 {
        let user = format!("user-{user}");
        let answer = client.post(PATH, "{}").header("x-user-id", &user).await;
        assert_eq!(answer.text(), "stable");
        assert!(answer.header("x-weir-receipt").is_none(), "nothing was assigned");
    }
    assert_eq!(canary.calls(), served, "nothing reaches canary any more");
    let again = post(&api, "stop", json!({})).await;
    assert_eq!((again.status.as_u16(), &again.json()["revision"]), (200, &json!(2)));
    assert_eq!(gateway.get("/experiments/int8").await["state"], "stopped");
    let assigned = gateway.get("/experiments/int8/assign?unit=u").await;
    assert_eq!(
        (&assigned["variant"], &assigned["reason"], &assigned["backend"]),
        (&Value::Null, &json!("disabled"), &json!("stable"))
    );

    let gateway = gateway.restart().await;
    assert_eq!(answer_for(&gateway.client(), "u").await, "stable", "a restart does not start it");
    let resumed = gateway.set_weights("int8", json!({"stable": 0, "canary": 100})).await;
    assert_eq!(resumed.json()["state"], "running");
    assert_eq!(answer_for(&gateway.client(), "u").await, "canary");
    let stopped = post(&gateway.api(), "stop", json!({})).await;
    assert_eq!(stopped.json()["state"], "stopped");
    let undone = undo(&gateway.api(), json!({})).await;
    assert_eq!(undone.json()["state"], "running", "a stop can be undone");
    assert_eq!(answer_for(&gateway.client(), "u").await, "canary");
}

#[tokio::test]
async fn what_the_file_owns_is_changed_in_the_file_but_stops_at_once() {
    let (_stable, _canary, text) = two().await;
    let text = text.replace("control = \"stable\"\n", "control = \"stable\"\nowner = \"file\"\n");
    let mut gateway = gateway(text.clone()).start().await;
    let api = gateway.api();
    let said = "experiment \"int8\" is owned by the file (`owner = \"file\"`); \
                change it there and reload";
    let refused = (409, "owned_by_file".to_owned(), said.to_owned());
    let put = gateway.set_weights("int8", json!({"canary": 50})).await;
    assert_eq!(error(&put), refused);
    assert_eq!(error(&undo(&api, json!({})).await), refused);
    let shown = gateway.get("/experiments/int8").await;
    assert_eq!((&shown["owner"], &shown["revision"]), (&json!("file"), &json!(1)));

    let text = text.replace("weight = 10 ", "weight = 90 ");
    gateway.reconfigure(&text).await.unwrap();
    let shown = gateway.get("/experiments/int8").await;
    assert_eq!(
        (&shown["revision"], &shown["variants"]["canary"]["share"]),
        (&json!(2), &json!(0.5))
    );

    let stopped = post(&api, "stop", json!({})).await;
    assert_eq!((stopped.status.as_u16(), &stopped.json()["state"]), (200, &json!("stopped")));
    for user in 0..20 {
        assert_eq!(answer_for(&gateway.client(), &format!("user-{user}")).await, "stable");
    }
    // What the file says, and nothing else, can be taken up again.
    assert_eq!(error(&undo(&api, json!({"to": 1})).await), refused);
    let put = gateway.set_weights("int8", json!({"canary": 50})).await;
    assert_eq!(error(&put), refused);
    let undone = undo(&api, json!({})).await;
    let (status, now) = (undone.status.as_u16(), undone.json());
    assert_eq!((status, &now["state"], &now["revision"]), (200, &json!("running"), &json!(4)));
    assert_eq!(now["variants"]["canary"]["share"], 0.5);
    assert_eq!(error(&undo(&api, json!({})).await), refused, "running, it is the file's again");
}

/// What happened: a stop that could not be stored was in force as a revision that the store did not
/// know, and every later change was refused because it would have left a gap. It is stored before the
/// next change.
#[tokio::test]
async fn a_stop_works_while_the_store_is_locked_and_is_stored_before_the_next_change() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let gateway = gateway(split(&stable, &canary, (0, 100))).start().await;
    let (api, client) = (gateway.api(), gateway.client());
    assert_eq!(answer_for(&client, "u").await, "canary");
    gateway.accounts().await;

    let lock = rusqlite::Connection::open(gateway.prepared.dir.join("weir.db")).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let asked = Instant::now();
    let stop = tokio::spawn({
        let api = api.apart();
        async move { post(&api, "stop", json!({"reason": "locked"})).await }
    });
    while answer_for(&client, "u").await == "canary" {
        assert!(asked.elapsed() < millis(5_000), "variant traffic is 0 within 5 s (F30)");
        tokio::time::sleep(millis(5)).await;
    }
    let stopped = stop.await.unwrap();
    assert_eq!(stopped.status, 200, "{}", stopped.text());
    assert_eq!(
        (&stopped.json()["state"], &stopped.json()["stored"]),
        (&json!("stopped"), &json!(false))
    );
    let again = post(&api, "stop", json!({})).await;
    assert_eq!(again.json()["stored"], false, "saying it twice does not store it");
    lock.execute_batch("ROLLBACK").unwrap();

    let put = || put_weights(&api, "\"2\"", json!({"weights": {"canary": 10, "stable": 90}}));
    let patience = Instant::now();
    let mut changed = put().await;
    while changed.status == 503 && patience.elapsed() < millis(15_000) {
        tokio::time::sleep(millis(100)).await;
        changed = put().await;
    }
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(changed.json()["revision"], 3);
    let history = gateway.get("/experiments/int8/history").await;
    let rows: Vec<(&Value, &Value)> = history["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (&row["revision"], &row["state"]))
        .collect();
    assert_eq!(
        rows,
        [
            (&json!(3), &json!("running")),
            (&json!(2), &json!("stopped")),
            (&json!(1), &json!("running"))
        ]
    );
}

/// What happened: a change that waited for a locked store held up the kill switch behind it, for as
/// long as the store was patient with the lock.
#[tokio::test]
async fn a_stop_is_in_force_at_once_although_another_change_waits_for_the_store() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let gateway = gateway(split(&stable, &canary, (0, 100))).start().await;
    let (api, client) = (gateway.api(), gateway.client());
    assert_eq!(answer_for(&client, "u").await, "canary");
    gateway.accounts().await;

    let lock = rusqlite::Connection::open(gateway.prepared.dir.join("weir.db")).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let put = tokio::spawn({
        let api = api.apart();
        async move { put_weights(&api, "\"1\"", json!({"weights": {"canary": 90}})).await }
    });
    tokio::time::sleep(millis(300)).await;
    assert!(!put.is_finished(), "the lock has no effect");
    let asked = Instant::now();
    let stop = tokio::spawn({
        let api = api.apart();
        async move { post(&api, "stop", json!({})).await }
    });
    while answer_for(&client, "u").await == "canary" {
        assert!(asked.elapsed() < millis(1_000), "the stop is held up");
        tokio::time::sleep(millis(5)).await;
    }
    assert!(!put.is_finished(), "the change came first after all");
    lock.execute_batch("ROLLBACK").unwrap();
    let put = put.await.unwrap();
    assert!([200, 503].contains(&put.status.as_u16()), "{}", put.text());
    let stopped = stop.await.unwrap();
    assert_eq!((stopped.status.as_u16(), &stopped.json()["state"]), (200, &json!("stopped")));
    assert_eq!(answer_for(&client, "u").await, "stable");
    let shown = gateway.get("/experiments/int8").await;
    assert_eq!(shown["revision"], if put.status == 200 { 3 } else { 2 });
    assert_eq!(shown["state"], "stopped");
    let resumed = gateway.set_weights("int8", json!({"canary": 100, "stable": 0})).await;
    assert_eq!(resumed.status, 200, "{}", resumed.text());
    assert_eq!(answer_for(&client, "u").await, "canary", "the kill switch is off again");
}
