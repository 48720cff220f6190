//! The client itself, against scripted backends.

use std::time::Instant;

use super::answer::event;
use super::*;
use crate::{backend, millis, raw_backend, raw_script, seconds, until};

#[tokio::test]
async fn connections_are_kept_or_not_as_is_said() {
    let served = backend().answers("x").h1_and_h2().start().await;
    let kept = Client::plain(served.addr);
    let (first, second) = (kept.get("/").await, kept.get("/").await);
    assert_eq!((first.connection, second.connection, served.connections()), (0, 0, 1));
    let new = kept.clone().always_new_connection();
    let (first, second) = (new.get("/").await, new.get("/").await);
    assert_eq!((first.connection, second.connection, served.connections()), (0, 1, 3));

    let shared = Client::plain(served.addr).h2();
    for answer in together((0..20).map(|_| shared.get("/"))).await {
        assert_eq!(answer.unwrap().connection, 0);
    }
    assert_eq!((shared.connections(), served.connections()), (1, 4));
    let apart = Client::plain(served.addr);
    served.becomes(backend().answers("x").delay(millis(50)));
    for answer in together((0..5).map(|_| apart.get("/"))).await {
        answer.unwrap();
    }
    assert_eq!(apart.connections(), 5);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_is_replaced() {
    let served = backend().answers("x").h1_and_h2().start().await;
    for client in [Client::plain(served.addr), Client::plain(served.addr).h2()] {
        client.get("/").await;
        served.close_connections();
        until(seconds(2), || served.open_connections() == 0).await;
        assert_eq!(client.get("/").await.connection, 1);
    }
}

#[tokio::test]
async fn the_time_of_each_chunk_is_noted() {
    let served = backend().streams(["a", "b", "c"]).gap(millis(40)).h1_and_h2().start().await;
    for client in [Client::plain(served.addr), Client::plain(served.addr).h2()] {
        let answer = client.get("/").await;
        assert_eq!((answer.text(), answer.error.as_ref()), ("abc".to_owned(), None));
        let times: Vec<Duration> = answer.chunks.iter().map(|(at, _)| *at).collect();
        assert_eq!(times.len(), 3);
        assert!(times[1] >= times[0] + millis(30), "{times:?}");
        assert!(times[2] >= times[0] + millis(70) && answer.total >= times[2], "{times:?}");
    }
}

#[tokio::test]
async fn an_answer_is_read_piece_by_piece() {
    let served = backend().streams(["a", "b"]).stalls_after(1).start().await;
    let mut answer = Client::plain(served.addr).get("/").open().await.unwrap();
    assert_eq!(answer.chunk_within(seconds(2)).await.unwrap().unwrap(), "a");
    assert!(answer.chunk_within(millis(30)).await.is_err());
    served.stop();
    assert_eq!(answer.chunk().await, None);
    assert!(answer.rest().await.error.is_some());
}

#[tokio::test]
async fn a_request_that_is_late_fails_at_its_deadline() {
    let served = backend().stalls().start().await;
    let started = Instant::now();
    let failure = Client::plain(served.addr).get("/").within(millis(60)).attempt().await;
    assert_eq!(failure.unwrap_err().to_string(), "no answer within 60ms");
    assert!((millis(60)..millis(500)).contains(&started.elapsed()));
}

#[tokio::test]
async fn uploads_go_slowly_with_trailers_or_break_off() {
    let served = backend().echo().h1_and_h2().start().await;
    for client in [Client::plain(served.addr), Client::plain(served.addr).h2()] {
        let slow = client.post("/", "").in_pieces(["one", "two", "three"], millis(30));
        let answer = slow.trailers(&[("x-sum", "3")]).await;
        assert_eq!(answer.json()["body"], "onetwothree");
        assert_eq!(answer.json()["trailers"], serde_json::json!([["x-sum", "3"]]));
        assert!(answer.first_byte >= millis(60), "{:?}", answer.first_byte);

        let (request, upload) = client.post("/", "").declaring_length(10).uploading();
        let asking = tokio::spawn(request.attempt());
        assert!(upload.send("half").await);
        until(seconds(2), || served.last().text() == "half").await;
        upload.abort().await;
        assert!(asking.await.unwrap().is_err());
        until(seconds(2), || served.last().aborted.is_some()).await;
        assert!(!served.last().body_complete);
    }
}

#[tokio::test]
async fn what_goes_over_the_wire_is_what_was_asked_for() {
    let served =
        raw_backend(raw_script().reads_request().writes("HTTP/1.1 204 None\r\n\r\n").again())
            .start()
            .await;
    let client = Client::plain(served.addr).bearer("key").header("x-all", "1");
    client.post("/p?q", "{}").header("x-one", "2").header("host", "other").await;
    client.request("DELETE", "/d", "").header("x-all", "3").await;
    let text = served.received_text();
    let (first, second) = text.split_at(text.find("DELETE").unwrap());
    for line in [
        "POST /p?q HTTP/1.1\r\n",
        "host: other\r\n",
        "content-type: application/json\r\n",
        "authorization: Bearer key\r\n",
        "x-all: 1\r\n",
        "x-one: 2\r\n",
        "content-length: 2\r\n",
        "\r\n\r\n{}",
    ] {
        assert!(first.contains(line), "{line:?} in {first}");
    }
    assert!(second.contains("x-all: 3\r\n") && !second.contains("x-all: 1"), "{second}");
    assert!(second.contains(&format!("host: localhost:{}\r\n", served.addr.port())), "{second}");
}

#[test]
fn events_are_taken_apart() {
    assert_eq!(event("event: a\ndata: 1\ndata:2"), ("a".to_owned(), "1\n2".to_owned()));
    assert_eq!(event(": comment\ndata: x: y"), (String::new(), "x: y".to_owned()));
}
