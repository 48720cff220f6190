//! What people send by mistake: told word for word, and nothing is changed.

use serde_json::json;
use weir_tests::gateway;

use crate::experiments::two;

const INT8: &str = "/api/v1/experiments/int8";

#[tokio::test]
async fn weights_that_cannot_be_are_refused_word_for_word() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let api = gateway.api();
    let before = gateway.get("/experiments/int8").await;
    let relative = "weights are relative, any number from 0 up";
    let long = format!("{{\"weights\":{{\"canary\":1}},\"reason\":\"{}\"}}", "x".repeat(1_001));
    let expected = "the body is not what is expected: ";
    for (body, said) in [
        (
            r#"{"weights":{"canary":-1}}"#,
            format!(
                "experiment \"int8\": the weight of \"canary\" is negative (-1); {relative}; 0 means drain"
            ),
        ),
        (
            r#"{"weights":{"stable":0,"canary":0}}"#,
            "experiment \"int8\": all weights are 0; give one variant a weight above 0, or stop the \
             experiment"
                .into(),
        ),
        (
            r#"{"weights":{"stable":1000000,"canary":1}}"#,
            "experiment \"int8\": the weight of \"canary\" is less than half of one bucket in 10,000; \
             the smallest share is 0.01 %, and 0 means drain"
                .into(),
        ),
        (
            r#"{"weights":{"stable":5e-324,"canary":1}}"#,
            "experiment \"int8\": the weight of \"stable\" is less than half of one bucket in 10,000; \
             the smallest share is 0.01 %, and 0 means drain"
                .into(),
        ),
        (
            r#"{"weights":{"stable":50,"next":50}}"#,
            "experiment \"int8\" has no variant \"next\"; its variants are stable, canary".into(),
        ),
        (
            r#"{"weights":{"Stable":50}}"#,
            "experiment \"int8\" has no variant \"Stable\"; its variants are stable, canary".into(),
        ),
        (r#"{"weights":{}}"#, "no weight is given; name at least one variant".into()),
        (
            r#"{"weights":{"canary":"10"}}"#,
            format!("the weight of \"canary\" is \"10\", not a number; {relative}"),
        ),
        (
            r#"{"weights":{"canary":null}}"#,
            format!("the weight of \"canary\" is null, not a number; {relative}"),
        ),
        (
            r#"{"weights":{"canary":[10]}}"#,
            format!("the weight of \"canary\" is [10], not a number; {relative}"),
        ),
        (
            r#"{"weights":{"canary":10,"stable":90,"canary":90}}"#,
            format!("{expected}variant \"canary\" is given twice at line 1 column 48"),
        ),
        (
            r#"{"weights":{"canary":NaN}}"#,
            format!("{expected}expected value at line 1 column 22"),
        ),
        (
            r#"{"weights":{"canary":Infinity}}"#,
            format!("{expected}expected value at line 1 column 22"),
        ),
        (
            r#"{"weights":{"canary":1e999}}"#,
            format!("{expected}number out of range at line 1 column 26"),
        ),
        ("", format!("{expected}EOF while parsing a value at line 1 column 0")),
        ("{", format!("{expected}EOF while parsing an object at line 1 column 1")),
        (
            "[{}, \"why\"]",
            format!("{expected}it is a list, not an object"),
        ),
        ("{}", format!("{expected}missing field `weights` at line 1 column 2")),
        (
            r#"{"weights":[90,10]}"#,
            format!(
                "{expected}invalid type: sequence, expected an object of variants and weights at \
                 line 1 column 11"
            ),
        ),
        (
            r#"{"weights":{"canary":20},"because":"x"}"#,
            format!(
                "{expected}unknown field `because`, expected `weights` or `reason` at line 1 column 34"
            ),
        ),
        (
            r#"{"weights":{"canary":20},"weights":{"canary":30}}"#,
            format!("{expected}duplicate field `weights` at line 1 column 34"),
        ),
        (
            r#"{"weights":{"canary":20}} {}"#,
            format!("{expected}trailing characters at line 1 column 27"),
        ),
        (&*long, "the reason is longer than 1,000 bytes".into()),
    ] {
        let answer = api
            .request("PUT", &format!("{INT8}/weights"), body.to_owned())
            .header("if-match", "\"1\"")
            .await;
        let error = &answer.json()["error"];
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert_eq!(error["type"], "invalid_request", "{body}");
        assert_eq!(error["message"], said, "{body}");
    }
    let not_text = api
        .request("PUT", &format!("{INT8}/weights"), b"{\"weights\":{\"\xff\":1}}".to_vec())
        .header("if-match", "\"1\"")
        .await;
    assert_eq!(not_text.status, 400);
    let deep = format!("{{\"weights\":{{\"canary\":{}}}}}", "[".repeat(5_000));
    let deep =
        api.request("PUT", &format!("{INT8}/weights"), deep).header("if-match", "\"1\"").await;
    assert_eq!(deep.status, 400, "{}", deep.text());

    assert_eq!(gateway.get("/experiments/int8").await, before, "nothing was changed");
    let history = gateway.get("/experiments/int8/history").await;
    assert_eq!(history["revisions"].as_array().unwrap().len(), 1);
    let audit = gateway.get("/audit").await;
    let entries = audit["items"].as_array().unwrap();
    assert!(entries.iter().all(|entry| entry["action"] != "weights.set"));
}

#[tokio::test]
async fn weights_that_look_odd_and_are_right_are_taken() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    for (weights, stable, canary) in [
        (json!({"stable": 0, "canary": 1}), 0.0, 1.0),
        (json!({"stable": 1e300, "canary": 1e300}), 0.5, 0.5),
        (json!({"stable": 5e-324, "canary": 5e-324}), 0.5, 0.5),
        (json!({"stable": 9999, "canary": 1}), 0.9999, 0.0001),
        (json!({"stable": -0.0, "canary": 0.5}), 0.0, 1.0),
        (json!({"canary": 0, "stable": 7}), 1.0, 0.0),
        // The other keeps its weight.
        (json!({"canary": 7}), 0.5, 0.5),
    ] {
        let answer = gateway.set_weights("int8", weights.clone()).await;
        assert_eq!(answer.status, 200, "{weights}: {}", answer.text());
        let variants = &answer.json()["variants"];
        assert_eq!(variants["stable"]["share"], stable, "{weights}");
        assert_eq!(variants["canary"]["share"], canary, "{weights}");
    }
}
