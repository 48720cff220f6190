//! Anthropic's own client, in front of a scripted model server.

use serde_json::{Value, json};
use weir_tests::{backend, gateway, millis};

use crate::setup::{a_turn, script, told};

#[tokio::test]
async fn the_anthropic_sdk_finds_everything_as_it_expects() {
    let _turn = a_turn().await;
    let model = backend().anthropic("claude-test").pieces(5).gap(millis(60)).start().await;
    let busy = backend().status(429).header("retry-after", "7").json(json!({
        "type": "error", "error": { "type": "rate_limit_error", "message": "busy" },
    }));
    let busy = busy.start().await;
    let broken = backend().status(503).json(json!({
        "type": "error", "error": { "type": "api_error", "message": "broken" },
    }));
    let broken = broken.start().await;
    let held = backend().stalls().start().await;
    let mut text = String::new();
    for (name, url) in [
        ("claude", model.url()),
        ("busy", busy.url()),
        ("broken", broken.url()),
        ("held", held.url()),
    ] {
        text += &format!(
            "[backends.{name}]\nendpoints = [\"{url}\"]\n\
             [routes.{name}]\npath = \"/v1/messages\"\nmodel = \"{name}\"\nbackend = \"{name}\"\n\
             timeouts = {{ first_byte = \"2s\" }}\n"
        );
    }
    let gateway = gateway(text).start().await;
    let said = script("with_anthropic.py", &[], &told(&gateway)).await;

    let text = "claude-test word1 word2 word3 word4";
    assert_eq!(said["plain"]["text"], text);
    assert_eq!(said["bearer"], text);
    let streamed = &said["streamed"];
    assert_eq!(streamed["text"], text);
    assert_eq!(streamed["stop"], said["plain"]["stop"]);
    let times = streamed["times"].as_array().unwrap();
    let spread = times.last().unwrap().as_f64().unwrap() - times[0].as_f64().unwrap();
    assert!(times.len() == 5 && spread > 0.2, "5 words, 60 ms apart: {times:?}");

    let errors = &said["errors"];
    for (what, class, status, kind) in [
        ("wrong key", "AuthenticationError", 401, "authentication_error"),
        ("no such model", "NotFoundError", 404, "not_found_error"),
        ("busy model", "RateLimitError", 429, "rate_limit_error"),
        ("broken model", "InternalServerError", 503, "api_error"),
        ("full gateway", "InternalServerError", 504, "api_error"),
    ] {
        let error = &errors[what];
        let classes = error["classes"].as_array().unwrap();
        assert!(classes.contains(&json!(class)), "{what}: {error}");
        assert_eq!(error["status"], status, "{what}: {error}");
        assert_eq!(error["body"]["error"]["type"], kind, "{what}: {error}");
    }
    assert_eq!(errors["busy model"]["retry_after"], "7");
    let untrusted = &errors["no certificate"];
    assert_eq!(untrusted["class"], "APIConnectionError");
    assert!(untrusted["causes"].to_string().contains("CERTIFICATE_VERIFY_FAILED"), "{untrusted}");

    let id = streamed["request_id"].as_str().unwrap();
    let row = gateway.get(&format!("/requests/{id}")).await;
    for (member, value) in [
        ("outcome", json!("ok")),
        ("stream.complete", json!(true)),
        ("gen_ai.usage.input_tokens", streamed["input"].clone()),
        ("gen_ai.usage.output_tokens", streamed["tokens"].clone()),
        ("gen_ai.response.model", json!("claude-test")),
        ("gen_ai.response.finish_reason", streamed["stop"].clone()),
    ] {
        assert_eq!(row[member], value, "{member}: {row}");
        assert_ne!(value, Value::Null, "{member}");
    }
    for seen in model.seen() {
        assert!(
            !seen.headers.contains_key("x-api-key") && !seen.headers.contains_key("authorization")
        );
        // What is not a credential arrives.
        assert!(seen.headers.contains_key("anthropic-version"));
    }
}
