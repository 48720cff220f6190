//! Where a request goes: its route, its unit, its variant, and what it is told about them.

use std::collections::BTreeMap;

use ::gateway::ids::RequestId;
use ::gateway::request::receipt::Receipt;
use routing::{Allocation, Salt};
use serde_json::{Value, json};
use weir_tests::{Answer, Backend, Client, Gateway, backend, gateway};

use crate::experiments::{answer_for, hash_key, split, two};

const PATH: &str = "/v1/chat/completions";

async fn post(client: &Client, fields: &[(&str, &str)]) -> Answer {
    let request = client.post(PATH, "{}");
    fields.iter().fold(request, |request, (name, value)| request.header(name, value)).await
}

/// The variant that a unit has at 90/10, worked out here.
fn expected(gateway: &Gateway, unit: &str) -> &'static str {
    let table = Allocation::initial(&[9_000, 1_000]).unwrap();
    let bucket = Salt::new(&hash_key(gateway), "int8/variant").bucket(unit);
    if table.variant_of(bucket).0 == 1 { "canary" } else { "stable" }
}

/// Hash of a unit as outcomes show it.
fn shown_hash(gateway: &Gateway, unit: &str) -> String {
    format!("{:016x}", Salt::new(&hash_key(gateway), "int8/variant").hash(unit))
}

/// The outcome of one answer.
async fn row(gateway: &Gateway, answer: &Answer) -> Value {
    gateway.accounts().await;
    gateway.get(&format!("/requests/{}", answer.header("x-request-id").unwrap())).await
}

/// A split by these sources.
async fn by(unit: &str) -> (Backend, Backend, Gateway) {
    let (stable, canary, text) = two().await;
    let text = text.replace("[\"header:x-user-id\"]", unit);
    let gateway = gateway(text).start().await;
    (stable, canary, gateway)
}

#[tokio::test]
async fn a_unit_is_taken_from_the_first_source_that_is_there() {
    let (_stable, _canary, gateway) =
        by(r#"["header:x-user-id", "cookie:sid", "body:user.id", "key"]"#).await;
    let client = gateway.client();
    let keys = gateway.get("/keys").await;
    let keys = keys["items"].as_array().unwrap();
    let key = keys.iter().find(|key| key["name"] == "test-client").unwrap()["id"].as_str().unwrap();
    let body = r#"{"model":"m","user":{"id":"b"}}"#;
    for (fields, body, unit) in [
        (vec![("x-user-id", "h"), ("cookie", "sid=c")], body, "h"),
        (vec![("cookie", "a=1; sid=c; b=2")], body, "c"),
        (vec![("x-user-id", ""), ("cookie", "sid=c")], body, "c"),
        (vec![], body, "b"),
        // Two values, and nobody can say which: none.
        (vec![("x-user-id", "h"), ("x-user-id", "i"), ("cookie", "sid=c")], body, "c"),
        (vec![("cookie", "sid=c; sid=d")], body, "b"),
        (vec![], r#"{"user":{"id":""}}"#, key),
        (vec![], r#"{"user":{"id":null}}"#, key),
        (vec![], r#"{"user":{}}"#, key),
        (vec![], "{}", key),
    ] {
        let request = client.post(PATH, body);
        let answer = fields.iter().fold(request, |r, (name, value)| r.header(name, value)).await;
        assert_eq!(answer.status, 200, "{fields:?} {body}: {}", answer.text());
        assert_eq!(answer.text(), expected(&gateway, unit), "{fields:?} {body}");
        let row = row(&gateway, &answer).await;
        assert_eq!(row["unit.hash"], shown_hash(&gateway, unit), "{fields:?} {body}");
        assert_eq!(row["assignment.reason"], "split");
        assert_eq!(row["assignment.eligible"], true);
    }
}

#[tokio::test]
async fn a_number_in_the_body_is_a_unit_as_it_is_written() {
    let (_stable, _canary, gateway) = by(r#"["body:/user"]"#).await;
    let client = gateway.client();
    let mut variants = BTreeMap::new();
    for user in 0..100 {
        let answer = client.post(PATH, format!("{{\"user\":{user}}}")).await;
        let row = row(&gateway, &answer).await;
        if row["assignment.reason"] == "split" {
            assert_eq!(row["unit.hash"], shown_hash(&gateway, &user.to_string()));
        }
        *variants.entry(row["assignment.reason"].to_string()).or_insert(0) += 1;
    }
    assert_eq!(variants.len(), 1, "all alike: {variants:?}");
    let twice = client.post(PATH, r#"{"user":"a","user":"b"}"#).await;
    assert_eq!(twice.status, 400, "a member that decides, twice (T25): {}", twice.text());
}

#[tokio::test]
async fn address_and_request_are_units_too() {
    let (_stable, _canary, gateway) = by(r#"["address"]"#).await;
    let answer = post(&gateway.client(), &[("x-forwarded-for", "10.9.8.7")]).await;
    let found = row(&gateway, &answer).await;
    assert_eq!(found["unit.hash"], shown_hash(&gateway, "127.0.0.1"), "not what the client says");

    let (_stable, _canary, gateway) = by(r#"["request"]"#).await;
    let mut canary = 0;
    for _ in 0..200 {
        let answer = post(&gateway.client(), &[("x-request-id", "mine")]).await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert_eq!(answer.text(), expected(&gateway, &id));
        canary += usize::from(answer.text() == "canary");
    }
    // Twenty are expected; outside of this happens less than once in ten million runs.
    assert!((1..=48).contains(&canary), "{canary} of 200 at 10 %");
}

#[tokio::test]
async fn a_request_without_a_unit_gets_control_and_is_not_compared() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let gateway = gateway(split(&stable, &canary, (1, 99))).start().await;
    for _ in 0..20 {
        let answer = post(&gateway.client(), &[]).await;
        assert_eq!(answer.text(), "stable");
        let row = row(&gateway, &answer).await;
        assert_eq!(
            (&row["variant"], &row["assignment.reason"]),
            (&json!("stable"), &json!("default"))
        );
        assert_eq!(row["assignment.eligible"], false);
        assert!(row.get("unit.hash").is_none(), "{row}");
    }
}

#[tokio::test]
async fn a_target_comes_before_the_split() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let text = format!(
        r#"{}
        [[experiments.int8.targets]]
        when = {{ header = {{ name = "x-team", value = "research" }} }}
        variant = "canary"
        [[experiments.int8.targets]]
        when = {{ unit = ["vip-1", "vip-2"] }}
        variant = "canary"
        [[experiments.int8.targets]]
        when = {{ key = "beta" }}
        variant = "canary"
        "#,
        split(&stable, &canary, (100, 0))
    );
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    let beta =
        gateway.anonymous().bearer(&gateway.make_key("client", json!({"name": "beta"})).await);
    for (client, fields, served, reason) in [
        (&client, vec![("x-user-id", "u")], "stable", "static"),
        (&client, vec![("x-user-id", "u"), ("x-team", "research")], "canary", "targeting_match"),
        (&client, vec![("x-team", "research")], "canary", "targeting_match"),
        (&client, vec![("x-user-id", "u"), ("x-team", "Research")], "stable", "static"),
        (&client, vec![("x-user-id", "vip-2")], "canary", "targeting_match"),
        (&client, vec![("x-user-id", "vip-3")], "stable", "static"),
        (&beta, vec![("x-user-id", "u")], "canary", "targeting_match"),
        (&client, vec![], "stable", "default"),
    ] {
        let answer = post(client, &fields).await;
        assert_eq!(answer.text(), served, "{fields:?}");
        let row = row(&gateway, &answer).await;
        assert_eq!(row["assignment.reason"], reason, "{fields:?}");
        assert_eq!(row["assignment.eligible"], false, "{fields:?}: nobody dealt it");
    }
    let twice = post(&client, &[("x-team", "research"), ("x-team", "other")]).await;
    assert_eq!(twice.status, 400, "a header that decides, twice (T18)");
    let list = post(&client, &[("x-team", "research, other")]).await;
    assert_eq!(list.status, 400, "a list where one value is expected (T18)");
}

#[tokio::test]
async fn a_variant_is_forced_by_who_may_and_asked_in_vain_by_clients() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let gateway = gateway(split(&stable, &canary, (100, 0))).start().await;
    let force = ("x-weir-variant", "canary");

    let answer = post(&gateway.client(), &[("x-user-id", "u"), force]).await;
    assert_eq!(answer.text(), "stable", "a client may not");
    assert!(stable.last().headers.keys().all(|name| !name.as_str().starts_with("x-weir")));
    let answer = post(&gateway.client(), &[("x-weir-variant", "nope")]).await;
    assert_eq!(answer.status, 200, "nor learn which variants there are");
    let answer = post(&gateway.client(), &[force, ("x-weir-variant", "stable")]).await;
    assert_eq!(answer.status, 200);

    for role in ["experimenter", "operator", "admin"] {
        let client = gateway.anonymous().bearer(&gateway.make_key(role, Value::Null).await);
        let answer = post(&client, &[("x-user-id", "u"), force]).await;
        assert_eq!(answer.text(), "canary", "{role}");
        assert!(canary.last().header("x-weir-variant").is_none(), "the backend never sees it");
        let row = row(&gateway, &answer).await;
        assert_eq!(row["assignment.reason"], "targeting_match");
        assert_eq!(row["assignment.eligible"], false);
        let unknown = post(&client, &[("x-user-id", "u"), ("x-weir-variant", "nope")]).await;
        assert_eq!(unknown.status, 400);
        assert_eq!(
            unknown.json()["error"]["message"],
            "no experiment of this route has a variant `nope`"
        );
        let twice = post(&client, &[force, ("x-weir-variant", "stable")]).await;
        assert_eq!(twice.status, 400, "two at once");
    }
    gateway.api().post("/api/v1/experiments/int8/stop", "").await;
    let answer = post(&gateway.inspector(), &[("x-user-id", "u"), force]).await;
    assert_eq!(answer.text(), "stable", "a stopped experiment takes nobody");
}

#[tokio::test]
async fn variant_and_experiment_are_told_only_to_keys_that_may_see_them() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    for (role, sees) in
        [("client", false), ("experimenter", true), ("operator", true), ("admin", true)]
    {
        let client = gateway.anonymous().bearer(&gateway.make_key(role, Value::Null).await);
        let answer = post(&client, &[("x-user-id", "u")]).await;
        let variant = sees.then(|| expected(&gateway, "u"));
        assert_eq!(answer.header("x-weir-variant"), variant, "{role}");
        assert_eq!(answer.header("x-weir-experiment"), sees.then_some("int8@1"), "{role}");
        assert!(answer.header("x-weir-receipt").is_some(), "{role}");
    }
    // A backend cannot say it in our name.
    let (stable, canary, text) = two().await;
    for backend_ in [&stable, &canary] {
        backend_.becomes(
            backend()
                .answers("x")
                .header("x-weir-variant", "forged")
                .header("x-weir-experiment", "forged")
                .header("x-weir-receipt", "forged"),
        );
    }
    let gateway = weir_tests::gateway(text).start().await;
    let answer = post(&gateway.client(), &[("x-user-id", "u")]).await;
    assert!(
        answer.header("x-weir-variant").is_none() && answer.header("x-weir-experiment").is_none()
    );
    assert_eq!(answer.headers.get_all("x-weir-receipt").iter().count(), 1);
    assert_ne!(answer.header("x-weir-receipt"), Some("forged"));
}

#[tokio::test]
async fn a_receipt_says_what_was_assigned_and_to_whom() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    gateway.set_weights("int8", json!({"stable": 50, "canary": 50})).await;
    let installation = gateway.running.as_ref().unwrap().changes().installation().clone();
    let keys = gateway.get("/keys").await;
    let keys = keys["items"].as_array().unwrap();
    let key = keys.iter().find(|key| key["name"] == "test-client").unwrap()["id"].as_str().unwrap();
    let salt = Salt::new(&hash_key(&gateway), "int8/variant");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    for client in [gateway.client(), gateway.client().h2()] {
        for user in 0..10 {
            let user = format!("user-{user}");
            let answer = post(&client, &[("x-user-id", &user)]).await;
            let text = answer.header("x-weir-receipt").unwrap();
            let receipt = Receipt::verify(text, &installation.receipt_key).unwrap();
            let id = RequestId::parse(answer.header("x-request-id").unwrap()).unwrap();
            assert_eq!(receipt.request_id, id.0);
            assert_eq!((&*receipt.experiment, receipt.revision), ("int8", 2));
            assert_eq!(receipt.variant, answer.text());
            assert_eq!(receipt.key_id, key);
            assert_eq!(receipt.unit_hash, salt.hash(&user));
            let age = i128::from(receipt.at_millis) - i128::try_from(now.as_millis()).unwrap();
            assert!((-1_000..60_000).contains(&age), "{age} ms");
            assert!(Receipt::verify(text, &[0; 32]).is_none());
        }
    }
}

#[tokio::test]
async fn what_assign_says_is_what_traffic_gets() {
    let (_stable, _canary, text) = two().await;
    let text = format!("{text}\n[holdout]\npercent = 10\n");
    let gateway = gateway(text).start().await;
    gateway.set_weights("int8", json!({"stable": 60, "canary": 40})).await;
    let client = gateway.inspector();
    let mut reasons = BTreeMap::new();
    for unit in 0..200 {
        let unit = format!("unit-{unit}");
        let said = gateway.get(&format!("/experiments/int8/assign?unit={unit}")).await;
        let answer = post(&client, &[("x-user-id", &unit)]).await;
        assert_eq!(said["backend"], answer.text(), "{unit}");
        let variant = answer.header("x-weir-variant").map_or(Value::Null, |name| json!(name));
        assert_eq!(said["variant"], variant, "{unit}");
        assert_eq!((&said["experiment"], &said["revision"]), (&json!("int8"), &json!(2)));
        assert_eq!(said["unit_hash"], shown_hash(&gateway, &unit));
        if said["reason"] == "split" {
            let salt = Salt::new(&hash_key(&gateway), "int8/variant");
            assert_eq!(said["bucket"], salt.bucket(&unit));
        }
        *reasons.entry(said["reason"].to_string()).or_insert(0) += 1;
    }
    assert_eq!(reasons.len(), 2, "split and holdout: {reasons:?}");
    let escaped = gateway.get("/experiments/int8/assign?unit=a%20b%2F%C3%BC").await;
    assert_eq!(escaped["unit"], "a b/ü");
    let without = gateway.api().get("/api/v1/experiments/int8/assign").await;
    assert_eq!(without.status, 400);
    assert_eq!(without.json()["error"]["type"], "invalid_request", "{}", without.text());
}

#[tokio::test]
async fn units_held_out_are_in_no_experiment() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let text = format!("{}\n[holdout]\npercent = 20\n", split(&stable, &canary, (0, 100)));
    let gateway = gateway(text).start().await;
    let salt = Salt::new(&hash_key(&gateway), "holdout");
    let mut held = 0;
    for unit in 0..300 {
        let unit = format!("unit-{unit}");
        let answer = post(&gateway.client(), &[("x-user-id", &unit)]).await;
        let out = salt.bucket(&unit) < 2_000;
        assert_eq!(answer.text(), if out { "stable" } else { "canary" }, "{unit}");
        assert_eq!(answer.header("x-weir-receipt").is_none(), out, "{unit}");
        held += usize::from(out);
    }
    assert!((20..110).contains(&held), "{held} of 300 at 20 %");
    let rows = gateway.outcomes("").await;
    let out: Vec<_> = rows.iter().filter(|row| row["assignment.reason"] == "holdout").collect();
    assert_eq!(out.len(), held);
    assert!(
        out.iter().all(|row| row["assignment.eligible"] != true && row.get("variant").is_none())
    );
}

#[tokio::test]
async fn experiments_of_one_layer_share_no_unit_and_each_has_its_percent() {
    let base = backend().answers("base").start().await;
    let one = backend().answers("one").start().await;
    let two = backend().answers("two").start().await;
    let text = format!(
        r#"
        [backends.base]
        endpoints = ["{}"]
        [backends.one]
        endpoints = ["{}"]
        [backends.two]
        endpoints = ["{}"]
        [routes.chat]
        path = "{PATH}"
        backend = "base"
        [layers.models]
        [experiments.first]
        route = "chat"
        unit = "header:x-user-id"
        control = "c"
        layer = {{ name = "models", percent = 30 }}
        variants.c = {{ backend = "one", weight = 1 }}
        variants.t = {{ backend = "one", weight = 1 }}
        [experiments.second]
        route = "chat"
        unit = "header:x-user-id"
        control = "c"
        layer = {{ name = "models", percent = 50 }}
        variants.c = {{ backend = "two", weight = 1 }}
        variants.t = {{ backend = "two", weight = 1 }}
        "#,
        base.url(),
        one.url(),
        two.url()
    );
    let mut gateway = gateway(text.clone()).start().await;
    let salt = Salt::new(&hash_key(&gateway), "layer:models");
    let table = Allocation::initial(&[2_000, 3_000, 5_000]).unwrap();
    let client = gateway.inspector();
    let slot = async |unit: &str| {
        let answer = post(&client, &[("x-user-id", unit)]).await;
        let told = answer.header("x-weir-experiment").map(str::to_owned);
        let expected = match &*answer.text() {
            "one" => Some("first@1".to_owned()),
            "two" => Some("second@1".to_owned()),
            _ => None,
        };
        assert_eq!(told, expected, "{unit}");
        answer.text()
    };
    let mut counts = BTreeMap::new();
    let mut before = Vec::new();
    for unit in 0..600 {
        let unit = format!("unit-{unit}");
        let got = slot(&unit).await;
        let expected = ["base", "one", "two"][usize::from(table.variant_of(salt.bucket(&unit)).0)];
        assert_eq!(got, expected, "{unit}");
        *counts.entry(got.clone()).or_insert(0_i32) += 1;
        before.push(got);
    }
    for (name, share) in [("base", 120), ("one", 180), ("two", 300)] {
        assert!((counts[name] - share).abs() < 75, "{counts:?}");
    }
    // More for the first, from what was outside: nobody leaves the second.
    gateway.reconfigure(&text.replace("percent = 30", "percent = 40")).await.unwrap();
    for restarted in [false, true] {
        if restarted {
            gateway = gateway.restart().await;
        }
        let client = gateway.inspector();
        let mut joined = 0;
        for (unit, was) in before.iter().enumerate().take(200) {
            let now = post(&client, &[("x-user-id", &format!("unit-{unit}"))]).await.text();
            assert!(now == *was || (was == "base" && now == "one"), "unit-{unit}: {was} to {now}");
            joined += usize::from(now != *was);
        }
        assert!(joined > 0, "at 10 % more of 200");
    }
}

#[tokio::test]
async fn a_route_is_found_by_model_and_an_unknown_one_is_told_as_openai_does() {
    let named = backend().answers("named").start().await;
    let text = format!(
        r#"
        [backends.b]
        endpoints = ["{}"]
        model = "real-name"
        [routes.chat]
        path = "{PATH}"
        model = "chat"
        backend = "b"
        [routes.fast]
        path = "{PATH}"
        model = "fast"
        backend = "b"
        [routes.messages]
        path = "/v1/messages"
        model = "chat"
        backend = "b"
        [routes.plain]
        path = "/infer"
        model = "secret"
        backend = "b"
        "#,
        named.url()
    );
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    let answer = client.post(PATH, r#"{"messages":[],"model":"chat","n":1}"#).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        named.last().text(),
        r#"{"messages":[],"model":"real-name","n":1}"#,
        "one value is replaced and nothing else"
    );
    let unknown = client.post(PATH, r#"{"model":"gpt-9"}"#).await;
    assert_eq!(unknown.status, 404);
    let id = unknown.header("x-request-id").unwrap();
    assert_eq!(
        unknown.json(),
        json!({"error": {
            "message": "the model `gpt-9` does not exist or is not served here",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
            "request_id": id,
        }})
    );
    for body in ["{}", r#"{"Model":"chat"}"#, r#"{"input":{"model":"chat"}}"#] {
        let absent = client.post(PATH, body).await;
        assert_eq!(absent.status, 404, "{body}");
        assert_eq!(absent.json()["error"]["code"], "model_not_found");
        assert_eq!(
            absent.json()["error"]["message"],
            "the request names no `model`, and this path needs one",
            "{body}"
        );
    }
    for body in [r#"{"model":"chat","model":"fast"}"#, r#"{"model":"chat""#, r#"{"model":null}"#] {
        assert_eq!(client.post(PATH, body).await.status, 400, "{body}");
    }
    let anthropic = client.post("/v1/messages", r#"{"model":"x"}"#).await.json();
    assert_eq!(
        (&anthropic["type"], &anthropic["error"]["type"]),
        (&json!("error"), &json!("not_found_error"))
    );

    let models = async |client: &Client| {
        let list = client.get("/v1/models").await;
        assert_eq!((list.status.as_u16(), &list.json()["object"]), (200, &json!("list")));
        let data = list.json()["data"].as_array().unwrap().clone();
        data.iter()
            .map(|model| {
                assert_eq!(model["object"], "model");
                model["id"].as_str().unwrap().to_owned()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(models(&client).await, ["chat", "fast", "secret"]);
    let only = |routes: Value| gateway.make_key("client", json!({"routes": routes}));
    let fast = gateway.anonymous().bearer(&only(json!(["fast"])).await);
    assert_eq!(models(&fast).await, ["fast"]);
    let none = gateway.anonymous().bearer(&only(json!([])).await);
    assert_eq!(models(&none).await, [""; 0]);
    assert_eq!(gateway.anonymous().get("/v1/models").await.status, 401);
    let viewer = gateway.anonymous().bearer(&gateway.make_key("viewer", Value::Null).await);
    assert_eq!(viewer.get("/v1/models").await.status, 403);
    assert_eq!(client.post("/v1/models", "{}").await.status, 404);
    // Who may not call the one does not learn that it is there.
    let hidden = fast.post(PATH, r#"{"model":"chat"}"#).await;
    assert_eq!(hidden.status, 403);
}

#[tokio::test]
async fn the_closest_rule_takes_the_request() {
    let mut text = String::new();
    let mut backends = Vec::new();
    for name in ["exact", "prefix", "longer", "host", "wild", "get", "header"] {
        let backend = backend().answers(name).start().await;
        text += &format!("[backends.{name}]\nendpoints = [\"{}\"]\n", backend.url());
        backends.push(backend);
    }
    text += r#"
        [routes.prefix]
        path = "/a/*"
        backend = "prefix"
        [routes.longer]
        path = "/a/b/*"
        backend = "longer"
        [routes.exact]
        path = "/a/b/c"
        backend = "exact"
        [routes.get]
        path = "/a/b/c"
        methods = ["GET"]
        backend = "get"
        [routes.header]
        path = "/a/b/c"
        headers = { x-tier = "gold" }
        backend = "header"
        [routes.host]
        path = "/a/*"
        hosts = ["api.example.com"]
        backend = "host"
        [routes.wild]
        path = "/w/*"
        hosts = ["*.example.com"]
        methods = ["POST", "PUT"]
        backend = "wild"
    "#;
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    for (method, host, path, tier, expected) in [
        ("POST", "localhost", "/a/b/c", "", "exact"),
        ("GET", "localhost", "/a/b/c", "", "get"),
        ("POST", "localhost", "/a/b/c", "gold", "header"),
        ("GET", "localhost", "/a/b/c", "gold", "get"),
        ("POST", "localhost", "/a/b/c", "silver", "exact"),
        ("POST", "localhost", "/a/b/d", "", "longer"),
        ("POST", "localhost", "/a/b/c/d", "", "longer"),
        ("POST", "localhost", "/a/x", "", "prefix"),
        ("POST", "localhost", "/a/b/%63", "", "exact"),
        ("POST", "localhost", "/a/x/../b/c", "", "exact"),
        ("POST", "api.example.com", "/a/b/c", "", "host"),
        ("POST", "API.example.com:8443", "/a/b/c", "", "host"),
        ("PUT", "x.example.com", "/w/1", "", "wild"),
        ("GET", "x.example.com", "/w/1", "", "404"),
        ("PUT", "example.com", "/w/1", "", "404"),
        ("POST", "localhost", "/A/b/c", "", "404"),
        ("POST", "localhost", "/ab", "", "404"),
        ("POST", "localhost", "/", "", "404"),
    ] {
        let request = client.request(method, path, "").header("host", host);
        let request = if tier.is_empty() { request } else { request.header("x-tier", tier) };
        let answer = request.await;
        let what = format!("{method} {host} {path} {tier}");
        if expected == "404" {
            assert_eq!(answer.status, 404, "{what}");
            assert_eq!(answer.header("x-weir-error"), Some("no_route"), "{what}");
        } else if answer.status == 400 {
            // A path that two readers could take differently is refused, never guessed.
            assert!(path.contains(".."), "{what}: {}", answer.text());
        } else {
            assert_eq!((answer.status.as_u16(), &*answer.text()), (200, expected), "{what}");
        }
    }
    let twice = client.post("/a/b/c", "").header("x-tier", "gold").header("x-tier", "gold").await;
    assert_eq!(twice.status, 400, "a header that decides, twice (T18)");
}

#[tokio::test]
async fn a_host_that_no_route_has_is_misdirected() {
    let one = backend().answers("one").start().await;
    let text = format!(
        "[backends.b]\nendpoints = [\"{}\"]\n\
         [routes.r]\npath = \"/*\"\nhosts = [\"api.example.com\"]\nbackend = \"b\"\n",
        one.url()
    );
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    let answer = client.get("/v1/x").header("host", "evil.example").await;
    assert_eq!(answer.status, 421);
    assert_eq!(client.get("/v1/x").header("host", "api.example.com").await.status, 200);
    let (_s, _c, text) = two().await;
    let gateway = weir_tests::gateway(text).start().await;
    answer_for(&gateway.client(), "u").await;
}
