//! grpcio on both sides: TLS and HTTP/2 to the edge, HTTP/2 without TLS to the servers.

use serde_json::{Value, json};
use weir_tests::{backend, gateway, seconds};

use crate::setup::{Program, a_turn, python, root, script, told};

#[tokio::test]
async fn grpcio_calls_grpcio_through_the_edge() {
    let _turn = a_turn().await;
    let python = python().display().to_string();
    let server = root().join("tests/real/grpc_server.py").display().to_string();
    let mut stable = Program::start(&[&python, &server, "stable"], &[]);
    let mut canary = Program::start(&[&python, &server, "canary"], &[]);
    let gone = backend().h2().start().await;
    gone.stop();
    let text = format!(
        r#"
        [backends.stable]
        endpoints = ["h2c://127.0.0.1:{}"]
        [backends.canary]
        endpoints = ["h2c://127.0.0.1:{}"]
        [backends.gone]
        endpoints = ["{}"]
        [routes.inference]
        path = "/inference.GRPCInferenceService/*"
        backend = "stable"
        [routes.counter]
        path = "/weir.test.Counter/Count"
        backend = "stable"
        [routes.gone]
        path = "/gone.Service/Call"
        backend = "gone"
        [experiments.model]
        route = "inference"
        unit = ["header:x-user-id"]
        control = "stable"
        [experiments.model.variants]
        stable = {{ backend = "stable", weight = 70 }}
        canary = {{ backend = "canary", weight = 30 }}
        "#,
        stable.after(seconds(30), "ready ").await,
        canary.after(seconds(30), "ready ").await,
        gone.url(),
    );
    let gateway = gateway(text).start().await;
    let said = script("with_grpc.py", &[], &told(&gateway)).await;

    let unary = &said["unary"];
    assert_eq!((&unary["content"], &unary["code"]), (&json!("hello"), &json!("OK")), "{unary}");
    assert_eq!(unary["initial"]["x-server"], unary["version"], "{unary}");
    assert_eq!(unary["trailing"]["x-cost"], "3", "{unary}");
    assert_eq!(unary["trailing"]["x-raw-bin"], "b'\\x00\\xff'", "{unary}");
    assert!(unary["initial"]["x-request-id"].is_string(), "{unary}");
    assert_eq!(said["large"], true);

    let stream = &said["stream"];
    assert_eq!(stream["numbers"], json!([0, 1, 2, 3, 4, 5, 6, 7]));
    assert_eq!((&stream["code"], &stream["trailing"]["x-counted"]), (&json!("OK"), &json!("8")));
    let time = |at: usize| stream["times"][at].as_f64().unwrap();
    assert!(time(7) - time(0) > 0.3, "8 numbers, 50 ms apart: {stream}");
    let turns: Vec<String> = (0..5).map(|turn| format!("turn {turn}")).collect();
    assert_eq!(said["talk"], json!({ "answers": turns, "ending": 0, "code": "OK" }));
    let versions = |name: &str| said["versions"][name].as_u64().unwrap();
    assert_eq!(versions("stable") + versions("canary"), 120);
    assert!((15..=60).contains(&versions("canary")), "{}", said["versions"]);

    let errors = &said["errors"];
    for (what, code) in [
        ("no such model", "NOT_FOUND"),
        ("wrong key", "UNAUTHENTICATED"),
        ("not routed", "UNIMPLEMENTED"),
        ("not implemented", "UNIMPLEMENTED"),
        ("too late", "DEADLINE_EXCEEDED"),
        ("no server", "UNAVAILABLE"),
        ("no certificate", "UNAVAILABLE"),
    ] {
        assert_eq!(errors[what]["code"], code, "{what}: {}", errors[what]);
        eprintln!("{what}: {code} after {:.0} ms", errors[what]["took"].as_f64().unwrap() * 1e3);
    }
    let missing = &errors["no such model"];
    assert_eq!(missing["details"], "there is no model “nobody”");
    assert_eq!(missing["trailers"]["x-hint"], "ask for echo");
    assert!(errors["wrong key"]["details"].as_str().unwrap().contains("credential"), "{errors}");

    // Whoever leaves a stream is not worked for. (Past a deadline the server may answer first: it was
    // told of it too.)
    let over = |lines: &[String]| lines.iter().any(|line| line == "stream over 400").then_some(());
    stable.printed(seconds(5), over).await;
    let rows = gateway.outcomes("route=counter").await;
    let outcomes: Vec<&Value> = rows.iter().map(|row| &row["outcome"]).collect();
    assert_eq!(outcomes, ["client_aborted", "ok"], "{rows:?}");

    // The servers saw metadata, and no key.
    let called: Vec<String> = [stable.lines(), canary.lines()].concat();
    let called: Vec<&String> = called.iter().filter(|line| line.starts_with("called")).collect();
    assert!(called.len() > 120 && called.iter().all(|line| line.contains(" x-trace-bin")));
    assert!(called.iter().all(|line| !line.contains("authorization")), "{called:?}");

    // Counted: 2 questions, 1 talk, 120 users, 3 errors that reached a server.
    let rows = gateway.outcomes("experiment=model").await;
    assert_eq!(rows.len(), 126, "{rows:?}");
    assert!(rows.iter().all(|row| row["network.protocol.version"] == "2"));
    assert!(rows.iter().all(|row| row["variant"] != Value::Null));
}
