//! OpenAI's own client, in front of scripted model servers.

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use weir_tests::{Seen, backend, gateway, millis};

use crate::setup::{a_turn, script, told};

fn answer() -> Value {
    json!({
        "id": "resp_1", "object": "response", "created_at": 0, "status": "completed",
        "model": "model-a", "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
        "output": [{
            "type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
            "content": [{ "type": "output_text", "text": "well met", "annotations": [] }],
        }],
        "usage": {
            "input_tokens": 5, "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": 2, "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": 7,
        },
    })
}

/// The Responses API, which the scripted model does not speak by itself.
async fn responses(seen: Seen) -> Response<Bytes> {
    let asked: Value = serde_json::from_slice(&seen.body).unwrap();
    if asked["stream"] != true {
        let body = answer().to_string().into();
        return Response::builder().header("content-type", "application/json").body(body).unwrap();
    }
    let mut text = String::new();
    let delta = |piece: &str, number: u32| {
        json!({
            "type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0,
            "content_index": 0, "delta": piece, "logprobs": [], "sequence_number": number,
        })
    };
    for event in [
        json!({ "type": "response.created", "sequence_number": 0, "response": answer() }),
        delta("well", 1),
        delta(" met", 2),
        json!({ "type": "response.completed", "sequence_number": 3, "response": answer() }),
    ] {
        text += &format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    }
    Response::builder().header("content-type", "text/event-stream").body(text.into()).unwrap()
}

#[tokio::test]
async fn the_openai_sdk_finds_everything_as_it_expects() {
    let _turn = a_turn().await;
    let model = backend()
        .openai("model-a")
        .pieces(6)
        .gap(millis(60))
        .on("/v1/responses", backend().handler(responses))
        .start()
        .await;
    let azure = backend()
        .json(json!({
            "id": "a", "object": "chat.completion", "created": 0, "model": "gpt",
            "choices": [{
                "index": 0, "finish_reason": "stop",
                "message": { "role": "assistant", "content": "from azure" },
            }],
            "usage": { "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 },
        }))
        .start()
        .await;
    let busy = backend().status(429).header("retry-after", "7").json(json!({ "error": {
        "message": "busy", "type": "rate_limit_error", "code": "busy", "param": null,
    }}));
    let busy = busy.start().await;
    let broken = backend().status(503).header("retry-after", "3").start().await;
    let momentarily = backend().status(503).header("retry-after", "1");
    let flaky = backend().openai("flaky").first(1, momentarily).start().await;
    let cut = backend().openai("cut").pieces(9).breaks_off_after(700).start().await;
    let gone = backend().start().await;
    gone.stop();

    let mut text = String::new();
    for (name, url) in [
        ("chat", model.url()),
        ("busy", busy.url()),
        ("broken", broken.url()),
        ("flaky", flaky.url()),
        ("cut", cut.url()),
        ("gone", gone.url()),
        ("azure", azure.url()),
    ] {
        let (path, model) = match name {
            "azure" => ("/openai/deployments/*", String::new()),
            _ => ("/v1/chat/completions", format!("model = \"{name}\"")),
        };
        text += &format!(
            "[backends.{name}]\nendpoints = [\"{url}\"]\n\
             [routes.{name}]\npath = \"{path}\"\n{model}\nbackend = \"{name}\"\n"
        );
    }
    for path in ["completions", "embeddings", "responses"] {
        text += &format!("[routes.{path}]\npath = \"/v1/{path}\"\nbackend = \"chat\"\n");
    }
    let gateway = gateway(text).start().await;
    let limited = gateway.make_key("client", json!({ "requests_per_second": 0.01 })).await;
    let other = gateway.make_key("client", json!({ "routes": ["embeddings"] })).await;
    let mut env = told(&gateway);
    env.extend([("LIMITED_KEY", limited), ("OTHER_KEY", other)]);
    let said = script("with_openai.py", &[], &env).await;

    let text = "model-a word1 word2 word3 word4 word5";
    assert_eq!(said["plain"]["text"], text);
    assert_eq!(said["plain"]["tokens"], 6);
    assert_eq!(said["completion"], text);
    assert_eq!(said["embedding"], json!([0.25, -0.5, 0.75]));
    assert_eq!(said["models"], json!(["broken", "busy", "chat", "cut", "flaky", "gone"]));
    assert_eq!(said["responses"]["text"], "well met");
    assert_eq!(said["responses"]["events"][3], "response.completed");
    assert_eq!(said["azure"], "from azure");
    assert_eq!(said["async"], json!(vec![text; 20]));
    assert_eq!(said["retried"], "flaky word1 word2 word3");

    // Streamed: each word when the model says it.
    let streamed = &said["streamed"];
    assert_eq!((&streamed["text"], &streamed["tokens"]), (&json!(text), &json!(6)));
    assert_eq!(streamed["finish"], "stop");
    let times: Vec<f64> =
        streamed["times"].as_array().unwrap().iter().map(|time| time.as_f64().unwrap()).collect();
    assert_eq!(times.len(), 6);
    assert!(times[5] - times[0] > 0.25, "6 words, 60 ms apart: {times:?}");

    // Errors: the class that code written for OpenAI catches.
    let errors = &said["errors"];
    for (what, class, status, code) in [
        ("wrong key", "AuthenticationError", 401, json!("invalid_api_key")),
        ("no such model", "NotFoundError", 404, json!("model_not_found")),
        ("no such path", "NotFoundError", 404, Value::Null),
        ("not granted", "PermissionDeniedError", 403, Value::Null),
        ("busy model", "RateLimitError", 429, json!("busy")),
        ("broken model", "InternalServerError", 503, Value::Null),
        ("no model server", "InternalServerError", 503, Value::Null),
    ] {
        let error = &errors[what];
        assert_eq!(error["class"], class, "{what}: {error}");
        assert_eq!(error["status"], status, "{what}: {error}");
        assert!(error["request_id"].is_string(), "{what}: {error}");
        if !code.is_null() {
            assert_eq!(error["code"], code, "{what}: {error}");
        }
    }
    assert_eq!(errors["busy model"]["retry_after"], "7");
    assert_eq!(errors["broken model"]["retry_after"], "3");
    let limited = errors["limited"].as_array().unwrap();
    let last = &limited[2];
    assert_eq!(last["class"], "RateLimitError", "{limited:?}");
    assert_eq!(last["code"], "rate_limit_exceeded");
    let wait: u64 = last["retry_after"].as_str().unwrap().parse().unwrap();
    assert!((1..=100).contains(&wait), "{last}");
    // The SDK gives up on a stream that breaks off; it must not look like a whole one.
    assert_ne!(errors["broken stream"]["class"], "nothing");
    let untrusted = &errors["no certificate"];
    assert_eq!(untrusted["class"], "APIConnectionError");
    assert!(untrusted["causes"].to_string().contains("CERTIFICATE_VERIFY_FAILED"), "{untrusted}");

    // What was recorded of it.
    let id = streamed["request_id"].as_str().unwrap();
    let row = gateway.get(&format!("/requests/{id}")).await;
    for (member, value) in [
        ("outcome", json!("ok")),
        ("stream", json!(true)),
        ("stream.complete", json!(true)),
        ("gen_ai.usage.input_tokens", json!(7)),
        ("gen_ai.usage.output_tokens", json!(6)),
        ("gen_ai.request.model", json!("chat")),
        ("gen_ai.response.model", json!("model-a")),
        ("gen_ai.response.finish_reason", json!("stop")),
        ("usage.source", json!("reported")),
    ] {
        assert_eq!(row[member], value, "{member}: {row}");
    }
    for route in ["responses", "azure", "flaky", "cut", "broken"] {
        let rows = gateway.outcomes(&format!("route={route}")).await;
        let of = |member: &str| rows.iter().map(|row| row[member].clone()).collect::<Vec<_>>();
        let tokens = of("gen_ai.usage.output_tokens");
        match route {
            "responses" => assert_eq!(tokens, [json!(2), json!(2)], "{rows:?}"),
            "azure" => assert_eq!(tokens, [json!(4)], "{rows:?}"),
            "flaky" => assert_eq!(of("outcome"), ["ok", "upstream_error"]),
            "cut" => assert_eq!(of("outcome"), ["upstream_reset"]),
            _ => assert_eq!(of("outcome"), ["upstream_error"]),
        }
    }
    // No model server was shown a key, whichever header it came in.
    for served in [&model, &azure, &flaky] {
        for seen in served.seen() {
            for name in ["authorization", "api-key", "x-api-key"] {
                assert!(!seen.headers.contains_key(name), "{name} reached {}", seen.path());
            }
        }
    }
}
