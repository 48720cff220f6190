//! F24: the end of a process, seen by those it serves.

use std::time::Instant;

use serde_json::json;
use tokio::net::TcpStream;
use weir_tests::gateway::Prepared;
use weir_tests::{Backend, Client, backend, gateway, millis, seconds, until, until_async};

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

/// Once these were recorded as clients that had left, with 499.
#[tokio::test]
async fn f24_what_the_end_of_a_drain_cuts_is_a_reset_of_ours() {
    let model = backend()
        .openai("m")
        .pieces(1_000)
        .gap(millis(50))
        .on("/rest/silent", backend().stalls())
        .start()
        .await;
    let mut gateway = gateway(split(&model, &model)).start().await;
    let mut streams = Vec::new();
    for client in [gateway.client(), gateway.client().h2()] {
        streams.push(client.post("/v1/chat/completions", streamed()).open().await.unwrap());
        tokio::spawn(client.get("/rest/silent").attempt());
    }
    // Not assigned yet: its body is waited for.
    let mut raw = gateway.raw().await;
    let key = &gateway.client_key;
    raw.send(format!(
        "POST /rest/half HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\
         expect: 100-continue\r\ncontent-length: 100\r\n\r\n"
    ))
    .await
    .unwrap();
    let asked = raw.read_exactly(21, seconds(3)).await.unwrap();
    assert_eq!(asked, b"HTTP/1.1 100 Continue");
    // One that left by itself before is still told apart.
    let left = gateway.client().get("/rest/silent").within(millis(100)).attempt().await;
    assert!(left.is_err());
    until(seconds(3), || gateway.access_lines().len() == 1).await;
    until(seconds(3), || model.calls() == 5).await;

    let running = gateway.running.take().unwrap();
    tokio::task::spawn_blocking(move || running.stop()).await.unwrap();
    let lines = gateway.access_lines();
    let of = |path: &str| -> Vec<_> {
        lines.iter().skip(1).filter(|line| line["url.path"] == path).collect()
    };
    assert_eq!(
        (&lines[0]["flags"], &lines[0]["outcome"]),
        (&json!("DC"), &json!("client_aborted"))
    );
    let (begun, silent) = (of("/v1/chat/completions"), of("/rest/silent"));
    assert_eq!((begun.len(), silent.len()), (2, 2), "{lines:#?}");
    for line in begun.iter().chain(&silent) {
        assert_eq!(line["outcome"], "gateway_error", "{line}");
        assert_eq!((&line["flags"], &line["error.type"]), (&json!("LR"), &json!("local_reset")));
    }
    assert!(begun.iter().all(|line| line["http.response.status_code"] == 200));
    assert!(silent.iter().all(|line| line.get("http.response.status_code").is_none()));
    let half = of("/rest/half");
    assert_eq!(half.len(), 1, "{lines:#?}");
    assert_eq!((&half[0]["flags"], half[0].get("outcome")), (&json!("LR"), None));
    let database = database(&gateway.prepared.dir);
    for stream in &streams {
        assert!(is_stored(&database, stream.header("x-request-id").unwrap()));
    }
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
