//! Clients that leave, and clients that do not read (F10, F11, L12).

use std::time::Instant;

use serde_json::json;
use weir_tests::raw_client::frames;
use weir_tests::{Backend, Client, Gateway, backend, gateway, millis, seconds, until, until_async};

fn route(backend: &Backend) -> String {
    format!(
        "[backends.b]\nendpoints = [\"{}\"]\n[routes.r]\npath = \"/*\"\nbackend = \"b\"\n",
        backend.url()
    )
}

fn clients(gateway: &Gateway) -> [(&'static str, Client); 2] {
    [("h1", gateway.client()), ("h2", gateway.client().h2())]
}

/// The backend hears of it within 100 ms; what is above is for a loaded machine.
async fn heard(backend: &Backend, left: Instant, what: &str) {
    until(seconds(3), || backend.aborted().len() == 1).because("the backend sees the close").await;
    let took = backend.aborted()[0].saturating_duration_since(left);
    assert!(took < millis(300), "{what}: heard after {took:?}");
}

async fn recorded(gateway: &Gateway, what: &str) -> serde_json::Value {
    until_async(seconds(3), async || {
        gateway.metric("weir_in_flight_requests{route=\"r\"}").await == 0.0
    })
    .await;
    let rows = gateway.outcomes("").await;
    assert_eq!(rows.len(), 1, "{what}");
    let row = rows[0].clone();
    assert_eq!(row["outcome"], "client_aborted", "{what}: {row}");
    assert_eq!(row["flags"], "DC", "{what}: {row}");
    row
}

#[tokio::test]
async fn f10_a_client_that_leaves_before_the_head_is_heard_of_at_once() {
    for h2_backend in [false, true] {
        for number in 0..2 {
            let builder = backend().stalls();
            let served = if h2_backend { builder.h2() } else { builder }.start().await;
            let gateway = gateway(route(&served)).start().await;
            let (what, client) = clients(&gateway)[number].clone();
            let asking = tokio::spawn(client.post("/x", "{}").open());
            until(seconds(2), || served.calls() == 1).await;
            let left = Instant::now();
            asking.abort();
            heard(&served, left, what).await;
            let row = recorded(&gateway, what).await;
            assert_eq!(row["http.response.status_code"], 499, "{row}");
            let cancelled =
                "weir_upstream_attempts_total{backend=\"b\",result=\"cancelled\",retry=\"false\"}";
            assert_eq!(gateway.metric(cancelled).await, 1.0, "{what}");
        }
    }
}

#[tokio::test]
async fn f10_a_client_that_leaves_a_stream_is_heard_of_at_once_and_what_it_got_is_counted() {
    for h2_backend in [false, true] {
        for number in 0..2 {
            let builder = backend().openai("m").pieces(1000).gap(millis(20));
            let served = if h2_backend { builder.h2() } else { builder }.start().await;
            let gateway = gateway(route(&served)).start().await;
            let (what, client) = clients(&gateway)[number].clone();
            let body = json!({"model": "m", "messages": [], "stream": true});
            let mut answer =
                client.post("/v1/chat/completions", body.to_string()).open().await.unwrap();
            for _ in 0..3 {
                answer.chunk().await.unwrap();
            }
            let left = Instant::now();
            drop(answer);
            heard(&served, left, what).await;
            let row = recorded(&gateway, what).await;
            assert_eq!(row["stream.complete"], false, "{row}");
            let tokens = row["gen_ai.usage.output_tokens"].as_u64().unwrap_or(0);
            assert!((1..200).contains(&tokens), "{what}: {row}");
            assert_eq!(row["usage.source"], "estimated", "{row}");
        }
    }
}

#[tokio::test]
async fn f10_a_client_that_leaves_in_the_middle_of_its_upload_is_heard_of_at_once() {
    for number in 0..2 {
        let served = backend().echo().start().await;
        let gateway = gateway(route(&served)).start().await;
        let (what, client) = clients(&gateway)[number].clone();
        let (request, uploader) = client.post("/x", "").uploading();
        let asking = tokio::spawn(request.open());
        assert!(uploader.send(vec![b'a'; 100 << 10]).await);
        until(seconds(2), || served.calls() == 1 && served.last().body_length > 0).await;
        let left = Instant::now();
        asking.abort();
        heard(&served, left, what).await;
        assert!(!served.last().body_complete, "{what}");
        recorded(&gateway, what).await;
        drop(uploader);
    }
}

#[tokio::test]
async fn f11_a_slow_reader_holds_the_backend_back() {
    const MANY: u64 = 400 << 20;
    for h2_backend in [false, true] {
        for number in 0..2 {
            let builder = backend().large(MANY);
            let served = if h2_backend { builder.h2() } else { builder }.start().await;
            let gateway = gateway(route(&served)).start().await;
            let (what, client) = clients(&gateway)[number].clone();
            let answer = client.get("/x").open().await.unwrap();
            // Until it stands still.
            let mut before = u64::MAX;
            while served.last().sent != before {
                before = served.last().sent;
                assert!(before < 100 << 20, "{what}: nothing holds it back");
                tokio::time::sleep(millis(300)).await;
            }
            // Buffers of the kernel and of the test's own client are most of it.
            assert!(before < 40 << 20, "{what}, h2 backend {h2_backend}: {before} bytes went out");
            drop(answer);
        }
    }
}

#[tokio::test]
async fn l12_a_reader_that_makes_no_progress_is_cut() {
    let served = backend().large(400 << 20).start().await;
    let gateway = gateway(route(&served)).limits("write_timeout = \"1s\"").start().await;
    let mut raw = gateway.raw().await;
    let request = format!(
        "GET /x HTTP/1.1\r\nhost: localhost:{}\r\nauthorization: Bearer {}\r\n\r\n",
        gateway.edge.port(),
        gateway.client_key
    );
    raw.send(request).await.unwrap();
    let began = Instant::now();
    until(seconds(8), || served.aborted().len() == 1).because("both sides are cut").await;
    assert!(began.elapsed() > millis(800), "{:?}", began.elapsed());
    let row = &gateway.outcomes("").await[0];
    assert_eq!((&row["outcome"], &row["flags"]), (&json!("client_aborted"), &json!("LR")));
}

/// Over HTTP/2 the socket is not blocked: the client just opens no window.
#[tokio::test]
async fn l12_a_stream_whose_window_stays_shut_is_cut() {
    let served = backend().large(400 << 20).start().await;
    let gateway = gateway(route(&served)).limits("write_timeout = \"1s\"").start().await;
    let mut raw = gateway.raw_h2().await;
    raw.start_h2(&[]).await.unwrap();
    let key = format!("Bearer {}", gateway.client_key);
    let authority = format!("localhost:{}", gateway.edge.port());
    raw.send(frames::get(1, &authority, "/x", &[("authorization", &key)])).await.unwrap();
    until(seconds(8), || served.aborted().len() == 1).because("both sides are cut").await;
    let row = &gateway.outcomes("").await[0];
    assert_eq!((&row["outcome"], &row["flags"]), (&json!("client_aborted"), &json!("LR")));
}
