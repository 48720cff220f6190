//! The receivers in `docs/webhooks.md`, word for word, in front of a gateway.

use std::net::TcpListener;

use serde_json::json;
use weir_tests::{backend, gateway, seconds, until};

use crate::setup::{Program, a_turn, python, root, run};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The piece of Python in the page that holds `mark`.
fn example(mark: &str) -> String {
    let page = std::fs::read_to_string(root().join("docs/webhooks.md")).unwrap();
    let mut pieces =
        page.split("```python\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    pieces.find(|piece| piece.contains(mark)).unwrap().to_owned()
}

fn config(url: &str) -> String {
    format!(
        "[backends.b]\nendpoints = [\"http://127.0.0.1:1\"]\n[routes.r]\npath = \"/*\"\nbackend = \"b\"\n\
         [experiments.int8]\nroute = \"r\"\nunit = \"key\"\ncontrol = \"stable\"\n\
         [experiments.int8.variants]\nstable = {{ backend = \"b\", weight = 90 }}\n\
         canary = {{ backend = \"b\", weight = 10 }}\n\
         [[webhooks]]\nurl = \"{url}\"\nevents = \"weights.set\"\nsecret = \"file:hook.key\"\n"
    )
}

async fn started(url: &str) -> weir_tests::Gateway {
    let prepared = gateway(config(url)).write();
    std::fs::write(prepared.dir.join("hook.key"), SECRET).unwrap();
    prepared.start().await
}

#[tokio::test]
async fn the_library_of_standard_webhooks_believes_our_messages_and_no_others() {
    let _turn = a_turn().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("receiver.py");
    std::fs::write(&file, example("standardwebhooks")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let words = [python().display().to_string(), file.display().to_string(), port.to_string()];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut receiver = Program::start(&words, &[("WEIR_HOOK_SECRET", SECRET.to_owned())]);

    // It may not listen yet: then the gateway comes again.
    let gateway = started(&format!("http://127.0.0.1:{port}/weir")).await;
    let answer = gateway.set_weights("int8", json!({ "stable": 80, "canary": 20 })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    receiver.after(seconds(30), "weights.set int8").await;

    let forged = weir_tests::Client::plain(([127, 0, 0, 1], port).into());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let answer = forged
        .post("/weir", r#"{"id":"evt_1"}"#)
        .header("webhook-id", "evt_1")
        .header("webhook-timestamp", &now.to_string())
        .header("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        .await;
    assert_eq!(answer.status, 401);
    receiver.after(seconds(10), "refused: No matching signature found").await;
}

#[tokio::test]
async fn the_few_lines_without_a_library_do_the_same() {
    let _turn = a_turn().await;
    let receiver = backend().status(204).start().await;
    let gateway = started(&receiver.url()).await;
    gateway.set_weights("int8", json!({ "stable": 80, "canary": 20 })).await;
    until(seconds(20), || receiver.calls() == 1).await;
    let seen = receiver.last();
    let headers: serde_json::Map<String, serde_json::Value> = seen
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
        .collect();
    let told = json!({ "secret": SECRET, "headers": headers, "body": seen.text() }).to_string();
    let script = format!(
        "{}\nimport json, sys\ntold = json.loads(sys.argv[1])\nbody = told['body'].encode()\n\
         print(is_ours(told['secret'], told['headers'], body), \
         is_ours(told['secret'], told['headers'], body + b' '), \
         is_ours('whsec_AAAA', told['headers'], body))\n",
        example("def is_ours")
    );
    let python = python().display().to_string();
    let ran = run(&[&python, "-c", &script, &told], &[]).await;
    assert_eq!((ran.out.trim(), ran.ok), ("True False False", true), "{}", ran.err);
}
