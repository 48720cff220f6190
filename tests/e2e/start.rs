//! What comes while the program starts: signals, another configuration.

use rusqlite::Connection;
use weir_tests::{Starting, backend, gateway, seconds, until, until_async};

use crate::recording::split;

/// Number of SIGTERM.
const TERM: u32 = 15;
/// Number of SIGHUP.
const HUP: u32 = 1;

/// A program whose start waits for a store that somebody holds; then whoever holds it.
async fn held(prepared: &weir_tests::gateway::Prepared) -> (Starting, Connection) {
    drop(prepared.spawn().await);
    let store = prepared.dir.join("weir.db");
    let other = Connection::open(&store).unwrap();
    other.busy_timeout(seconds(5)).unwrap();
    // Without the log beside the file, so that readers have to wait, too.
    let mode: String =
        other.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete");
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let starting = prepared.begin();
    starting.opens(&store).await;
    (starting, other)
}

/// F24. What happened: signals were listened to once everything served, so a SIGTERM during a start
/// killed the process. An orchestrator takes that for a crash.
#[tokio::test]
async fn f24_a_sigterm_during_the_start_ends_it_in_order() {
    let model = backend().answers("x").start().await;
    let prepared = gateway(split(&model, &model)).write();
    let (starting, other) = held(&prepared).await;
    starting.listens_to(TERM).await;
    starting.signal("TERM");
    assert_eq!(starting.exit(seconds(3)).await, Some(0));
    assert!(starting.events("weir.ready").is_empty(), "{}", starting.stdout());
    // Its last words may still be in the pipe.
    until(seconds(3), || starting.events("weir.stopped").len() == 1).await;
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    let weir = prepared.spawn().await;
    assert_eq!(weir.get("/status").await["store"]["up"], true);
}

#[tokio::test]
async fn f24_a_sighup_during_the_start_makes_for_a_reload_after_it() {
    let model = backend().answers("x").start().await;
    let prepared = gateway(split(&model, &model)).write();
    let (starting, other) = held(&prepared).await;
    starting.listens_to(HUP).await;
    starting.signal("HUP");
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    let weir = starting.serves().await;
    until(seconds(5), || weir.events("weir.config.loaded").len() == 2).await;
}

/// What happened: what was written after the file was read and before the gateway served was taken
/// for read.
#[tokio::test]
async fn what_is_written_during_the_start_is_read_after_it() {
    let one = backend().answers("one").start().await;
    let two = backend().answers("two").start().await;
    let prepared = gateway(split(&one, &one)).write();
    let (starting, other) = held(&prepared).await;
    let text = std::fs::read_to_string(&prepared.file).unwrap();
    std::fs::write(&prepared.file, text.replace(&one.url(), &two.url())).unwrap();
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    let weir = starting.serves().await;
    let client = weir.client(&weir.make_key("client").await);
    until_async(seconds(3), || async {
        let answer = client.get("/rest/x").await.text();
        if answer == "two" { Ok(()) } else { Err(answer) }
    })
    .await;
}

/// Each worker has a socket of its own on one port, and so could another process: half of the clients would
/// be its.
#[tokio::test]
async fn a_port_that_another_gateway_has_is_not_shared() {
    let model = backend().answers("x").start().await;
    let weir = gateway(split(&model, &model)).write().spawn().await;
    let second = gateway(split(&model, &model)).write();
    let text = std::fs::read_to_string(&second.file).unwrap();
    let free = text.lines().find(|line| line.starts_with("listen = ")).unwrap();
    std::fs::write(&second.file, text.replacen(free, &format!("listen = \"{}\"", weir.edge), 1))
        .unwrap();
    let starting = second.begin();
    assert_eq!(starting.exit(seconds(10)).await, Some(1));
    let said = starting.stderr();
    assert!(said.contains("server.listen") && said.contains("in use"), "{said}");
    let client = weir.client(&weir.make_key("client").await);
    assert_eq!(client.post("/v1/chat/completions", "{}").await.status, 200);
}
