//! HTTP/2 as two independent implementations speak it, which hold a server to the protocol: hyper-h2 in
//! Python's httpx, and nghttp2 in Node.

use serde_json::{Value, json};
use weir_tests::{Gateway, backend, gateway, millis};

use crate::setup::{a_turn, root, run, script, told};

async fn serving() -> (weir_tests::Backend, Gateway) {
    let served = backend()
        .echo()
        .on("/large", backend().large(5 << 20))
        .on("/pieces", backend().streams(["one", "two", "three"]).gap(millis(60)))
        .on("/trailed", backend().streams(["x"]).trailers(&[("x-end", "well")]))
        .start()
        .await;
    let text = format!(
        "[backends.one]\nendpoints = [\"{}\"]\n[routes.all]\npath = \"/*\"\nbackend = \"one\"\n",
        served.url()
    );
    let gateway = gateway(text).start().await;
    (served, gateway)
}

#[tokio::test]
async fn httpx_speaks_http2() {
    let _turn = a_turn().await;
    let (served, gateway) = serving().await;
    let said = script("with_http2.py", &[], &told(&gateway)).await;
    let echoed = said["echoed"].as_array().unwrap();
    assert_eq!(echoed.len(), 90);
    for one in echoed {
        assert_eq!(*one, json!(["HTTP/2", 200, true]));
    }
    assert_eq!(said["large"], json!([5 << 20, "5242880"]));
    assert_eq!(said["up"], true);
    assert_eq!(said["pieces"], json!(["one", "two", "three"]), "as they came");
    assert_eq!(said["head"], json!([200, 0]));
    assert_eq!(said["refused"], 401);
    assert!(served.calls() >= 95);
}

#[tokio::test]
async fn node_speaks_http2() {
    let _turn = a_turn().await;
    let (_served, gateway) = serving().await;
    let file = root().join("tests/real/with_http2.mjs");
    let ran = run(&["node", file.to_str().unwrap()], &told(&gateway)).await;
    assert!(ran.ok, "{}{}", ran.out, ran.err);
    let said: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(said["many"].as_array().unwrap().iter().all(|right| *right == true), "{said}");
    assert_eq!(said["waited"], json!([true, 200, "after all"]));
    assert_eq!(said["trailed"], "well");
    assert_eq!(said["pinged"], true);
    // CANCEL.
    assert_eq!((&said["cancelled"], &said["after"]), (&json!(8), &json!(200)));
}
