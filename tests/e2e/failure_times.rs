//! Backends that are slow, silent, or stop in the middle (F01, F02, L10).

use serde_json::Value;
use weir_tests::{
    Backend, Client, Gateway, backend, gateway, millis, seconds, together, until_async,
};

/// Route `/slow` with these timeouts, and `/fast` beside it.
fn routes(slow: &Backend, fast: &Backend, timeouts: &str) -> String {
    format!(
        r#"
        [backends.slow]
        endpoints = ["{}"]
        [backends.fast]
        endpoints = ["{}"]
        [routes.slow]
        path = "/slow"
        backend = "slow"
        timeouts = {{ {timeouts} }}
        [routes.fast]
        path = "/fast"
        backend = "fast"
        "#,
        slow.url(),
        fast.url()
    )
}

/// A client of each protocol.
fn clients(gateway: &Gateway) -> [Client; 2] {
    [gateway.client(), gateway.client().h2()]
}

async fn nothing_in_flight(gateway: &Gateway, route: &str) {
    let series = format!("weir_in_flight_requests{{route=\"{route}\"}}");
    until_async(seconds(3), async || {
        let count = gateway.metric(&series).await;
        if count == 0.0 { Ok(()) } else { Err(format!("{count} in flight")) }
    })
    .await;
}

fn is(row: &Value, outcome: &str, flags: &str) {
    assert_eq!((row["outcome"].as_str(), row["flags"].as_str()), (Some(outcome), Some(flags)));
}

#[tokio::test]
async fn f01_a_slow_backend_costs_504_in_time_and_nobody_else_waits() {
    let slow = backend().answers("late").delay(seconds(20)).start().await;
    let fast = backend().answers("fast").start().await;
    let gateway = gateway(routes(&slow, &fast, "first_byte = \"600ms\"")).start().await;

    let waiting = tokio::spawn({
        let client = gateway.client();
        async move { together((0..20).map(|_| client.post("/slow", "{}"))).await }
    });
    weir_tests::until(seconds(3), || slow.calls() == 20).await;
    assert!(gateway.metric("weir_in_flight_requests{route=\"slow\"}").await > 0.0);
    let client = gateway.client();
    for _ in 0..30 {
        let answer = client.get("/fast").await;
        assert_eq!(answer.text(), "fast");
        assert!(answer.total < millis(250), "{:?} beside a slow backend", answer.total);
    }

    for answer in waiting.await.unwrap() {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 504);
        assert_eq!(answer.header("x-weir-error"), Some("upstream_timeout"));
        // The bound is limit + 100 ms; the rest is for a loaded machine.
        assert!(answer.total >= millis(600) && answer.total < millis(1100), "{:?}", answer.total);
    }
    nothing_in_flight(&gateway, "slow").await;
    let rows = gateway.outcomes("route=slow").await;
    assert_eq!(rows.len(), 20);
    rows.iter().for_each(|row| is(row, "timeout", "UT"));
    assert_eq!(slow.calls(), 20, "what timed out is not sent again");
}

#[tokio::test]
async fn f02_a_backend_that_never_answers_gives_its_slots_back() {
    for builder in [backend().stalls(), backend().stalls().h2()] {
        let silent = builder.start().await;
        let fast = backend().start().await;
        let gateway = gateway(routes(&silent, &fast, "first_byte = \"200ms\"")).start().await;
        for client in clients(&gateway) {
            // A GET too: it is idempotent, and still not repeated while the first one runs.
            assert_eq!(client.get("/slow").await.status, 504);
        }
        assert_eq!(silent.calls(), 2);
        nothing_in_flight(&gateway, "slow").await;
        weir_tests::until(seconds(2), || silent.aborted().len() == 2)
            .because("the backend is told that nobody waits any more")
            .await;
        silent.becomes(backend().answers("awake"));
        assert_eq!(gateway.client().get("/slow").await.text(), "awake");
    }
}

/// The first byte has its own limit: a model thinks longer than it pauses.
#[tokio::test]
async fn l10_a_first_byte_may_take_longer_than_a_gap() {
    let pieces = backend().streams(["a", "b", "c"]).gap(millis(50)).delay(millis(700));
    let slow = pieces.start().await;
    let fast = backend().start().await;
    let timeouts = "first_byte = \"5s\", idle = \"300ms\"";
    let gateway = gateway(routes(&slow, &fast, timeouts)).start().await;
    for client in clients(&gateway) {
        let answer = client.get("/slow").await;
        assert_eq!((answer.text(), answer.error.as_deref()), ("abc".into(), None));
    }
}

#[tokio::test]
async fn l10_a_gap_that_is_too_long_cuts_the_answer_and_is_a_timeout() {
    for h2 in [false, true] {
        let builder = backend().streams(["abc", "def"]).gap(seconds(10));
        let slow = if h2 { builder.h2() } else { builder }.start().await;
        let fast = backend().start().await;
        let gateway = gateway(routes(&slow, &fast, "idle = \"300ms\"")).start().await;
        for client in clients(&gateway) {
            let answer = client.get("/slow").await;
            assert_eq!((answer.status.as_u16(), answer.text()), (200, "abc".into()));
            assert!(answer.error.is_some(), "the client must see that it is not whole");
            assert!(answer.total < millis(1200), "{:?}", answer.total);
        }
        let rows = gateway.outcomes("").await;
        assert_eq!(rows.len(), 2);
        for row in &rows {
            is(row, "timeout", "UT");
            assert_eq!(row["http.response.body.size"], 3);
            assert_eq!(row["stream.complete"], false);
        }
        assert_eq!(slow.calls(), 2, "nothing is repeated after the first byte");
        weir_tests::until(seconds(2), || slow.aborted().len() == 2).await;
    }
}

#[tokio::test]
async fn l10_the_whole_has_a_limit_however_lively_the_answer() {
    let lively = backend().streams(vec!["x"; 200]).gap(millis(30)).start().await;
    let fast = backend().start().await;
    let gateway = gateway(routes(&lively, &fast, "total = \"500ms\"")).start().await;
    for client in clients(&gateway) {
        let answer = client.get("/slow").await;
        assert_eq!(answer.status, 200);
        assert!(answer.error.is_some());
        assert!(answer.total >= millis(400) && answer.total < millis(1200), "{:?}", answer.total);
    }
    gateway.outcomes("").await.iter().for_each(|row| is(row, "timeout", "UMSDR"));
}

#[tokio::test]
async fn l10_the_whole_has_a_limit_also_for_an_answer_that_never_pauses() {
    let endless = backend().large(1 << 40).start().await;
    let fast = backend().start().await;
    let gateway = gateway(routes(&endless, &fast, "total = \"500ms\"")).start().await;
    let mut answer = gateway.client().get("/slow").open().await.unwrap();
    let began = std::time::Instant::now();
    while answer.chunk().await.is_some() {
        assert!(began.elapsed() < seconds(4), "still going on");
    }
    assert!(answer.answer.error.is_some());
}

#[tokio::test]
async fn f06_a_black_hole_costs_504_at_the_connect_timeout() {
    let hole = weir_tests::never_connects();
    let fast = backend().start().await;
    let text = routes(&fast, &fast, "connect = \"300ms\"").replacen(
        &fast.url(),
        &format!("http://{}", hole.addr),
        1,
    );
    let gateway = gateway(text).start().await;
    let answer = gateway.client().post("/slow", "{}").await;
    assert_eq!(answer.status, 504);
    // Connecting is tried twice, since nothing was sent.
    assert!(answer.total >= millis(300) && answer.total < millis(1200), "{:?}", answer.total);
    is(&gateway.outcomes("").await[0], "timeout", "UF");
}
