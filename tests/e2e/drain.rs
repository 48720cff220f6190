//! F24: the end of a process, seen by those it serves.

use std::time::Instant;

use serde_json::json;
use tokio::net::TcpStream;
use weir_tests::gateway::Prepared;
use weir_tests::{Backend, Client, backend, gateway, millis, seconds, until_async};

use crate::durability::Load;
use crate::recording::{database, is_stored, split};

/// A gateway that waits for `seconds` before it closes.
fn prepared(model: &Backend, pre_drain: &str) -> Prepared {
    let prepared = gateway(split(model, model)).write();
    let text = std::fs::read_to_string(&prepared.file).unwrap();
    let text = text.replace("pre_drain = \"0s\"", &format!("pre_drain = \"{pre_drain}\""));
    std::fs::write(&prepared.file, text).unwrap();
    prepared
}

fn streamed() -> String {
    json!({"model": "m", "stream": true, "messages": []}).to_string()
}

#[tokio::test]
async fn f24_sigterm_completes_streams_turns_newcomers_away_and_ends_with_0() {
    let model = backend().openai("m").pieces(25).gap(millis(100)).start().await;
    let prepared = prepared(&model, "1s");
    let weir = prepared.spawn().await;
    let client = weir.client(&weir.make_key("client").await);
    let admin = Client::plain(weir.admin);
    assert_eq!(admin.get("/readyz").await.status, 200);

    let mut ids = Vec::new();
    let mut streams = Vec::new();
    for client in [client.apart(), client.apart().h2()] {
        let stream = client.post("/v1/chat/completions", streamed()).open().await.unwrap();
        ids.push(stream.header("x-request-id").unwrap().to_owned());
        streams.push(tokio::spawn(stream.rest()));
    }
    let idle = client.apart();
    model.becomes(backend().openai("m"));
    assert_eq!(idle.get("/rest/x").await.status, 404);

    weir.signal("TERM");
    let told = Instant::now();
    until_async(millis(300), || async { admin.get("/readyz").await.status == 503 }).await;
    assert_eq!(admin.get("/livez").await.status, 200);
    // Still open for those who have not heard yet.
    let late = client.apart().post("/v1/chat/completions", "{}").await;
    assert_eq!(late.status, 200);
    assert!(told.elapsed() < seconds(1), "the machine is too slow for this test");
    until_async(seconds(3), || async { TcpStream::connect(weir.edge).await.is_err() }).await;
    assert!(told.elapsed() > millis(900), "closed before pre_drain was over");
    assert!(weir.runs(), "streams are under way");

    for stream in streams {
        let answer = stream.await.unwrap();
        assert!(answer.error.is_none(), "{:?}", answer.error);
        assert!(answer.text().ends_with("data: [DONE]\n\n"));
    }
    let ended = Instant::now();
    assert_eq!(weir.exit(seconds(5)).await, Some(0));
    assert!(ended.elapsed() < seconds(2), "idle, and yet it stays for {:?}", ended.elapsed());
    let database = database(&prepared.dir);
    assert!(ids.iter().all(|id| is_stored(&database, id)), "outcomes are flushed last");
    assert_eq!(weir.events("weir.stopped").len(), 1);
}

#[tokio::test]
async fn f24_a_second_sigterm_hurries_and_what_is_cut_is_recorded() {
    let model = backend().openai("m").pieces(1_000).gap(millis(50)).start().await;
    let prepared = prepared(&model, "20s");
    let weir = prepared.spawn().await;
    let client = weir.client(&weir.make_key("client").await);
    let stream = client.post("/v1/chat/completions", streamed()).open().await.unwrap();
    let id = stream.header("x-request-id").unwrap().to_owned();
    let reading = tokio::spawn(stream.rest());
    weir.signal("TERM");
    tokio::time::sleep(millis(300)).await;
    assert!(weir.runs());
    weir.signal("TERM");
    let hurried = Instant::now();
    assert_eq!(weir.exit(seconds(10)).await, Some(0));
    assert!(hurried.elapsed() > seconds(3), "five seconds are left to streams");
    let answer = reading.await.unwrap();
    assert!(answer.error.is_some(), "a part must not look like the whole");
    let database = database(&prepared.dir);
    assert!(is_stored(&database, &id));
}

/// A rolling restart: whoever keeps asking, and connects anew when refused, sees no failed request.
#[tokio::test]
async fn no_request_fails_while_a_gateway_drains() {
    let model = backend().answers("x").counts_only().start().await;
    let prepared = prepared(&model, "300ms");
    let weir = prepared.spawn().await;
    let client = weir.client(&weir.make_key("client").await);
    let loads =
        [Load::start(&client, "/rest/x", 4), Load::start(&client.apart().h2(), "/rest/x", 2)];
    tokio::time::sleep(millis(300)).await;
    let before: Vec<u64> = loads.iter().map(Load::failed).collect();
    assert_eq!(before, [0, 0]);
    weir.signal("TERM");
    tokio::time::sleep(millis(250)).await;
    let during: Vec<u64> = loads.iter().map(Load::failed).collect();
    assert_eq!(during, [0, 0], "pre_drain serves everybody");
    assert_eq!(weir.exit(seconds(5)).await, Some(0));
    let mut answered = Vec::new();
    for load in loads {
        answered.extend(load.stop().await);
    }
    let database = database(&prepared.dir);
    let missing = answered.iter().filter(|(id, _)| !is_stored(&database, id)).count();
    assert_eq!(missing, 0, "of {} answers, all are stored before the end", answered.len());
}
