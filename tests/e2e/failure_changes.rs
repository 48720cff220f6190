//! Changes over a store that fails in the middle of them, or that somebody else changes.

use rusqlite::Connection;
use serde_json::json;
use weir_tests::{Gateway, backend, gateway, seconds};

use crate::experiments::{split, two};

/// The store, opened beside the gateway.
fn beside(gateway: &Gateway) -> Connection {
    let store = Connection::open(gateway.prepared.dir.join("weir.db")).unwrap();
    store.busy_timeout(seconds(5)).unwrap();
    store
}

fn audit_entries(store: &Connection) -> i64 {
    store.query_row("SELECT count(*) FROM audit", [], |row| row.get(0)).unwrap()
}

/// D8. What happened: the revisions of a reload, what the file says and its layers were stored one
/// after the other. A fault between them left revisions that nobody knew of, and every reload after
/// it was refused because they existed already, until a restart.
#[tokio::test]
async fn d8_a_reload_whose_last_write_fails_leaves_nothing_and_the_next_one_passes() {
    let stable = backend().answers("stable").start().await;
    let text = |canary: u32, share: u32| {
        let layer = format!(
            "unit = [\"header:x-user-id\"]\nlayer = {{ name = \"models\", percent = {share} }}"
        );
        let text = split(&stable, &stable, (90, canary));
        text.replace("unit = [\"header:x-user-id\"]", &layer) + "[layers.models]\n"
    };
    let mut gateway = gateway(text(10, 50)).start().await;
    let store = beside(&gateway);
    let before = audit_entries(&store);
    for operation in ["INSERT", "UPDATE"] {
        let cut = format!(
            "CREATE TRIGGER cut_{operation} BEFORE {operation} ON layers
             BEGIN SELECT RAISE(ABORT, 'as on a disk that is full'); END"
        );
        store.execute_batch(&cut).unwrap();
    }
    for _ in 0..2 {
        let refused = gateway.reconfigure(&text(20, 60)).await.unwrap_err();
        assert!(refused.contains("nothing was changed"), "{refused}");
        assert_eq!(gateway.get("/experiments/int8").await["revision"], 1);
        assert_eq!(audit_entries(&store), before, "a refused reload leaves nothing");
    }
    store.execute_batch("DROP TRIGGER cut_INSERT; DROP TRIGGER cut_UPDATE").unwrap();
    gateway.reconfigure(&text(20, 60)).await.unwrap();
    let shown = gateway.get("/experiments/int8").await;
    assert_eq!((&shown["revision"], &shown["differs_from_file"]), (&json!(2), &json!(false)));
    assert_eq!(shown["layer"]["percent"], 60.0);
    let gateway = gateway.restart().await;
    assert_eq!(gateway.get("/experiments/int8").await["revision"], 2);
}

/// The newest revision once more, as if another gateway had made it.
fn from_elsewhere(store: &Connection, canary: f64) {
    let weights = json!([["stable", 90.0], ["canary", canary]]).to_string();
    let made = store.execute(
        "INSERT INTO revisions (experiment, revision, state, weights, allocation, source, by_whom,
                                at, reason, buckets_moved, undoes)
         SELECT experiment, revision + 1, state, ?1, allocation, '\"api\"', 'bob', at + 1, NULL, 0,
                NULL
         FROM revisions WHERE experiment = 'int8' ORDER BY revision DESC LIMIT 1",
        [weights],
    );
    assert_eq!(made.unwrap(), 1);
}

/// What happened: whoever changed an experiment that another gateway on the same store had changed
/// was told to try again, in vain until a restart.
#[tokio::test]
async fn a_change_of_another_gateway_is_a_conflict_once_and_then_in_force() {
    let (_stable, _canary, text) = two().await;
    let mut gateway = gateway(text.clone()).start().await;
    let store = beside(&gateway);
    from_elsewhere(&store, 11.0);
    let api = gateway.api();
    let late = api
        .request("PUT", "/api/v1/experiments/int8/weights", r#"{"weights":{"canary":30}}"#)
        .header("if-match", "\"1\"")
        .await;
    assert_eq!(late.status, 412, "{}", late.text());
    let told = &late.json()["error"];
    assert_eq!(told["details"], json!([{"seen": 1, "current": 2, "changed_by": "bob"}]));
    let shown = gateway.get("/experiments/int8").await;
    assert_eq!((&shown["revision"], &shown["changed_by"]), (&json!(2), &json!("bob")));
    let next = gateway.set_weights("int8", json!({"canary": 30})).await;
    assert_eq!((next.status.as_u16(), &next.json()["revision"]), (200, &json!(3)));

    from_elsewhere(&store, 12.0);
    gateway.reconfigure(&text.replace("weight = 10 ", "weight = 20 ")).await.unwrap();
    let shown = gateway.get("/experiments/int8").await;
    assert_eq!((&shown["revision"], &shown["changed_by"]), (&json!(5), &json!("file")));

    from_elsewhere(&store, 13.0);
    let stopped = api.post("/api/v1/experiments/int8/stop", "").await;
    let body = stopped.json();
    assert_eq!(
        (&body["state"], &body["revision"], &body["stored"]),
        (&json!("stopped"), &json!(7), &json!(true))
    );
}
