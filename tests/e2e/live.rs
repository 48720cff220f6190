//! `GET /live`: what happens now, as those see it who watch.

use serde_json::{Value, json};
use weir_tests::gateway::ADMIN_KEY;
use weir_tests::{Client, Events, Gateway, gateway, seconds, until_async};

use crate::experiments::{answer_for, two};

const LIVE: &str = "/api/v1/live";

async fn watch(client: &Client, query: &str) -> Events {
    let stream = client.get(&format!("{LIVE}{query}")).open().await.unwrap();
    assert_eq!(stream.answer.status, 200, "{query}");
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    Events::of(stream)
}

/// Requests of so many users, one after the other, and the client that made them.
async fn requests(gateway: &Gateway, users: u32) -> Client {
    let client = gateway.client();
    for user in 0..users {
        answer_for(&client, &format!("user-{user}")).await;
    }
    client
}

#[tokio::test]
async fn a_frame_a_second_tells_what_every_part_does_and_what_changed() {
    let (_stable, _canary, text) = two().await;
    let text =
        format!("{text}[shadows.next]\nroute = \"chat\"\nbackend = \"canary\"\npercent = 100\n");
    let gateway = gateway(text).start().await;
    let mut events = watch(&gateway.api(), "").await;
    let first = events.named("frame", seconds(5)).await;
    assert_eq!(first.id.unwrap(), first.data["at_unix"].to_string());
    assert_eq!(
        first.data["experiments"]["int8"]["variants"],
        json!({
            "stable": {"weight": 90.0, "share": 0.9, "assigned_share": null, "rate": 0.0,
                "failed": null, "p50": null, "p95": null, "p99": null, "first_byte_p95": null},
            "canary": {"weight": 10.0, "share": 0.1, "assigned_share": null, "rate": 0.0,
                "failed": null, "p50": null, "p95": null, "p99": null, "first_byte_p95": null},
        })
    );
    assert_eq!(first.data["experiments"]["int8"]["ramp"], Value::Null);
    assert_eq!(
        first.data["backends"]["stable"],
        json!({"endpoints": 1, "serving": 1, "ejected": 0, "in_flight": 0})
    );

    let connected = requests(&gateway, 100).await;
    gateway.anonymous().get("/nowhere").await;
    let mut seen = (0.0, 0.0, 0.0, 0.0);
    let busy = events
        .frame(|frame| {
            seen.0 += frame["routes"]["chat"]["rate"].as_f64().unwrap();
            seen.1 += frame["gateway"]["rejected"].as_f64().unwrap();
            seen.2 += frame["shadows"]["next"]["rate"].as_f64().unwrap();
            seen.3 += frame["experiments"]["int8"]["variants"]["stable"]["rate"].as_f64().unwrap();
            seen.0 > 90.0 && seen.1 > 0.9 && seen.2 > 90.0 && seen.3 > 70.0
        })
        .await;
    assert!(seen.0 < 110.0 && seen.3 < 99.0, "{seen:?}");
    let route = &busy["routes"]["chat"];
    assert!(route["p50"].as_f64().unwrap() > 0.0, "of the last ten seconds: {route}");
    assert!(route["p50"].as_f64() <= route["p99"].as_f64());
    assert!(busy["gateway"]["connections"].as_u64().unwrap() >= 1);
    drop(connected);

    let put = gateway.set_weights("int8", json!({"canary": 30})).await;
    assert_eq!(put.status, 200);
    let moved = events
        .frame(|frame| frame["experiments"]["int8"]["variants"]["canary"]["share"] == 0.25)
        .await;
    assert_eq!(moved["experiments"]["int8"]["revision"], 2);
    let told = &moved["events"][0];
    assert_eq!(
        (&told["kind"], &told["action"], &told["experiment"], &told["revision"], &told["by"]),
        (
            &json!("revision"),
            &json!("weights.set"),
            &json!("int8"),
            &json!(2),
            &json!("first-admin")
        )
    );
    assert_eq!(told["words"], "canary 10 → 25 %");
    assert!(
        gateway
            .api()
            .post("/api/v1/experiments/int8/stop", r#"{"reason":"x"}"#)
            .await
            .status
            .is_success()
    );
    let stopped = events.frame(|frame| frame["experiments"]["int8"]["state"] == "stopped").await;
    let told = &stopped["events"][0];
    assert_eq!((&told["words"], &told["reason"]), (&json!("stopped"), &json!("x")));
}

#[tokio::test]
async fn history_comes_first_and_whoever_comes_back_gets_what_it_missed() {
    let (_stable, _canary, text) = two().await;
    let shadow = "[shadows.next]\nroute = \"chat\"\nbackend = \"canary\"\npercent = 100\n";
    let gateway = gateway(format!("{text}{shadow}")).start().await;
    // Nobody watches yet: it is counted all the same.
    requests(&gateway, 50).await;
    let mut events = watch(&gateway.api(), "").await;
    let before = events.named("frame", seconds(5)).await;
    events.named("frame", seconds(5)).await;

    let mut second = watch(&gateway.api(), "?since=10m").await;
    let history = second.next(seconds(5)).await.unwrap();
    assert_eq!(history.name, "history");
    let data = &history.data;
    assert_eq!(history.id.unwrap(), data["to_unix"].to_string());
    let times = data["at_unix"].as_array().unwrap();
    assert!(times.windows(2).all(|two| two[0].as_i64() < two[1].as_i64()), "{times:?}");
    assert_eq!((&times[0], times.last()), (&data["from_unix"], Some(&data["to_unix"])));
    for column in [
        &data["routes"]["chat"]["p95"],
        &data["gateway"]["rejected"],
        &data["experiments"]["int8"]["variants"]["canary"]["assigned_share"],
        &data["shadows"]["next"]["failed"],
    ] {
        assert_eq!(column.as_array().unwrap().len(), times.len());
    }
    for rates in [&data["routes"]["chat"]["rate"], &data["shadows"]["next"]["rate"]] {
        let sum: f64 = rates.as_array().unwrap().iter().filter_map(Value::as_f64).sum();
        assert!((45.0..55.0).contains(&sum), "{sum} of 50 requests");
    }
    let kinds: Vec<&Value> =
        data["events"].as_array().unwrap().iter().map(|event| &event["kind"]).collect();
    assert!(kinds.contains(&&json!("reload")) && kinds.contains(&&json!("key")), "{kinds:?}");

    // The next is the next: no second twice, none left out.
    let next = second.named("frame", seconds(5)).await.data["at_unix"].as_i64().unwrap();
    assert_eq!(next, data["to_unix"].as_i64().unwrap() + 1);

    gateway.set_weights("int8", json!({"canary": 30})).await;
    second.frame(|frame| !frame["events"].as_array().unwrap().is_empty()).await;
    let id = before.id.unwrap();
    let again = gateway.api().get(&format!("{LIVE}?since=10m")).header("last-event-id", &id);
    let mut again = Events::of(again.open().await.unwrap());
    let missed = again.next(seconds(5)).await.unwrap();
    assert_eq!(missed.name, "history");
    let first = missed.data["at_unix"][0].as_i64().unwrap();
    assert_eq!(first, id.parse::<i64>().unwrap() + 1, "from there on, not ten minutes");
    let told: Vec<&Value> =
        missed.data["events"].as_array().unwrap().iter().map(|e| &e["words"]).collect();
    assert_eq!(told, ["canary 10 → 25 %"]);
}

#[tokio::test]
async fn a_filter_a_step_and_what_is_not_understood() {
    let (_stable, _canary, text) = two().await;
    let more = "[routes.rest]\npath = \"/rest/*\"\nbackend = \"stable\"\n";
    let gateway = gateway(format!("{text}{more}")).start().await;
    let api = gateway.api();
    let mut all = watch(&api, "?since=1m").await;
    let members =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let frame = all.named("frame", seconds(5)).await.data;
    assert_eq!(members(&frame["routes"]), ["chat", "rest"]);
    let mut one = watch(&api, "?since=1m&experiment=int8&step=5").await;
    let history = one.next(seconds(5)).await.unwrap().data;
    assert_eq!((members(&history["routes"]), &history["step"]), (vec!["chat".into()], &json!(5)));
    assert_eq!(history["gateway"], Value::Null);
    let frame = one.named("frame", seconds(5)).await.data;
    assert_eq!(members(&frame["routes"]), ["chat"]);
    assert_eq!(members(&frame["experiments"]), ["int8"]);
    let mut other = watch(&api, "?route=rest").await;
    let frame = other.named("frame", seconds(5)).await.data;
    assert_eq!(members(&frame["routes"]), ["rest"]);
    assert_eq!(members(&frame["experiments"]), [] as [String; 0]);

    for (query, status) in [
        ("?since=yesterday", 400),
        ("?step=0", 400),
        ("?step=61", 400),
        ("?stap=1", 400),
        ("?route=nowhere", 404),
        ("?experiment=nothing", 404),
    ] {
        let answer = api.get(&format!("{LIVE}{query}")).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
    }
    let odd = api.get(LIVE).header("last-event-id", "never").await;
    assert_eq!(odd.status, 400);
    assert_eq!(Client::plain(gateway.admin).get(LIVE).await.status, 401);
    let client = Client::plain(gateway.admin).bearer(&gateway.client_key);
    assert_eq!(client.get(LIVE).await.status, 403);
}

#[tokio::test]
async fn streams_are_bounded_in_number_and_a_revoked_key_watches_no_longer() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let viewer = gateway.make_key("viewer", Value::Null).await;
    let viewer = Client::plain(gateway.admin).bearer(&viewer);
    let mut watching = watch(&viewer, "").await;
    watching.named("frame", seconds(5)).await;
    let keys = gateway.get("/keys").await;
    let keys = keys["items"].as_array().unwrap();
    let id = keys.iter().find(|key| key["role"] == "viewer").unwrap()["id"].as_str().unwrap();
    assert_eq!(
        gateway.api().request("DELETE", &format!("/api/v1/keys/{id}"), "").await.status,
        200
    );
    let end = watching.named("end", seconds(5)).await;
    assert_eq!(end.data, json!({"reason": "credential"}));
    assert_eq!(watching.next(seconds(5)).await, None);
    assert_eq!(viewer.get(LIVE).await.status, 401);

    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(watch(&gateway.api().apart(), "").await);
    }
    let full = gateway.api().get(LIVE).await;
    assert_eq!((full.status.as_u16(), full.header("retry-after")), (503, Some("1")));
    assert_eq!(full.json()["error"]["type"], "too_many_streams");
    open.truncate(60);
    // Whoever has left makes room.
    until_async(seconds(5), || async {
        gateway.api().apart().get(LIVE).open().await.unwrap().answer.status == 200
    })
    .await;
}

#[tokio::test]
async fn f24_streams_end_when_the_process_does_and_say_so() {
    let (_stable, _canary, text) = two().await;
    let prepared = gateway(text).write();
    let weir = prepared.spawn().await;
    let api = Client::plain(weir.admin).bearer(ADMIN_KEY);
    let mut events = watch(&api, "").await;
    events.named("frame", seconds(5)).await;
    weir.signal("TERM");
    let end = events.named("end", seconds(5)).await;
    assert_eq!(end.data, json!({"reason": "shutdown"}));
    assert_eq!(weir.exit(seconds(10)).await, Some(0));
}
