//! Experiments that are made, edited and ended through the admin API, beside the file and against it.

use serde_json::{Value, json};
use weir_tests::{Answer, Backend, Client, Gateway, backend, gateway};

use crate::experiments::{answer_for, two};

const PATH: &str = "/v1/chat/completions";
const MADE: &str = "/api/v1/experiments/made";

/// A route with two backends and no experiment.
async fn plain() -> (Backend, Backend, String) {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let text = format!(
        "[backends.stable]\nendpoints = [\"{}\"]\n[backends.canary]\nendpoints = [\"{}\"]\n\
         [routes.chat]\npath = \"{PATH}\"\nbackend = \"stable\"\n\
         [routes.rest]\npath = \"/rest\"\nbackend = \"stable\"\n",
        stable.url(),
        canary.url()
    );
    (stable, canary, text)
}

fn definition() -> Value {
    json!({
        "name": "made", "route": "chat", "unit": ["header:x-user-id"], "control": "stable",
        "variants": {
            "canary": {"backend": "canary", "weight": 25},
            "stable": {"backend": "stable", "weight": 75},
        },
        "targets": [{"when": {"header": {"name": "x-team", "value": "research"}}, "variant": "canary"}],
        "reason": "a first try",
    })
}

async fn create(gateway: &Gateway, definition: &Value) -> Answer {
    gateway.api().post("/api/v1/experiments", definition.to_string()).await
}

/// Sends `body` with the revision in force.
async fn change(gateway: &Gateway, method: &str, path: &str, body: Value) -> Answer {
    let base = path.split('?').next().unwrap().trim_end_matches("/undo");
    let etag = gateway.api().get(base).await.header("etag").unwrap().to_owned();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    gateway.api().request(method, path, body).header("if-match", &etag).await
}

async fn share_of_canary(client: &Client, users: u32) -> f64 {
    let mut canary = 0;
    for user in 0..users {
        canary += u32::from(answer_for(client, &format!("user-{user}")).await == "canary");
    }
    f64::from(canary) / f64::from(users)
}

/// Changes that the audit log tells of.
async fn entries(gateway: &Gateway) -> usize {
    let audit = gateway.get("/audit?limit=1000").await;
    let entries = audit["items"].as_array().unwrap();
    // That the log itself is read is not what these tests count.
    entries.iter().filter(|entry| !entry["action"].as_str().unwrap().ends_with(".read")).count()
}

#[tokio::test]
async fn an_experiment_that_is_made_splits_at_once_and_survives_a_restart() {
    let (_stable, _canary, text) = plain().await;
    let gateway = gateway(text).start().await;
    let made = create(&gateway, &definition()).await;
    assert_eq!(
        (made.status.as_u16(), made.header("etag")),
        (201, Some("\"1\"")),
        "{}",
        made.text()
    );
    let client = gateway.client();
    let share = share_of_canary(&client, 200).await;
    assert!((0.15..0.35).contains(&share), "{share}");
    let research = client.post(PATH, "{}").header("x-team", "research").header("x-user-id", "z");
    assert_eq!(research.await.text(), "canary");

    let shown = gateway.get("/experiments/made").await;
    assert_eq!(
        (&shown["state"], &shown["changed_by"], &shown["reason"], &shown["source"]),
        (&json!("running"), &json!("first-admin"), &json!("a first try"), &json!("api"))
    );
    assert_eq!(
        (&shown["defined_by"], &shown["file"], &shown["differs_from_file"]),
        (&json!("api"), &Value::Null, &json!(false))
    );
    assert_eq!(shown["order"], json!(["stable", "canary"]), "control first");
    let audit = gateway.get("/audit").await;
    let entry = &audit["items"][0];
    assert_eq!((&entry["action"], &entry["before"]), (&json!("experiment.create"), &Value::Null));
    assert_eq!(entry["after"]["definition"]["targets"][0]["variant"], "canary");

    // Weights, stop and undo are as with any other.
    gateway.set_weights("made", json!({"canary": 75})).await;
    let gateway = gateway.restart().await;
    let share = share_of_canary(&gateway.client(), 200).await;
    assert!((0.4..0.6).contains(&share), "{share}");
    let again = gateway.get("/experiments/made").await;
    assert_eq!((&again["revision"], &again["targets"]), (&json!(2), &shown["targets"]));
    assert_eq!(create(&gateway, &definition()).await.status, 409);
}

/// The verdict of the API is the file's: what is wrong, and how to mend it, word for word.
#[tokio::test]
async fn what_is_wrong_is_said_as_the_check_of_a_file_says_it() {
    let (_stable, _canary, text) = plain().await;
    let more = "[layers.ui]\n[experiments.other]\nroute = \"rest\"\nunit = [\"key\"]\n\
                control = \"a\"\nlayer = { name = \"ui\", percent = 60 }\n\
                [experiments.other.variants]\na = { backend = \"stable\", weight = 1 }\n\
                b = { backend = \"canary\", weight = 1 }\n";
    let gateway = gateway(format!("{text}{more}")).start().await;
    let before = entries(&gateway).await;
    let own =
        json!({"a": {"backend": "stable", "weight": 1}, "b": {"backend": "canary", "weight": 1}});
    let good = json!({"route": "chat", "unit": ["key"], "control": "a", "variants": own});
    let cases: [(&str, Value, &str); 12] = [
        ("made", json!({"route": "chatt"}), "route = \"chatt\""),
        ("made", json!({"unit": ["header:"]}), "unit = [\"header:\"]"),
        ("made", json!({"unit": "${HOME}"}), "unit = \"$${HOME}\""),
        ("made", json!({"control": "c"}), "control = \"c\""),
        ("made", json!({"on_failure": "ignore"}), "on_failure = \"ignore\""),
        ("made", json!({"colour": "red"}), "colour = \"red\""),
        ("made", json!({"route": 7}), "route = 7"),
        (
            "made",
            json!({"layer": {"name": "ui", "percent": 50}}),
            "layer = { name = \"ui\", percent = 50 }",
        ),
        (
            "made",
            json!({"layer": {"name": "nix", "percent": 101}}),
            "layer = { name = \"nix\", percent = 101 }",
        ),
        ("made", json!({"route": "rest"}), "route = \"rest\""),
        ("ma de", json!({}), ""),
        ("made", json!({"unit": ["request", "key"]}), "unit = [\"request\", \"key\"]"),
    ];
    for (name, change, line) in cases {
        let mut body = good.clone();
        body["name"] = json!(name);
        let mut lines = vec!["route = \"chat\"", "unit = [\"key\"]", "control = \"a\""];
        lines.retain(|own| line.split(" = ").next() != own.split(" = ").next());
        lines.push(line);
        for (member, value) in change.as_object().unwrap() {
            body[member] = value.clone();
        }
        let answer = create(&gateway, &body).await;
        let section = format!(
            "\n[experiments.\"{name}\"]\n{}\n[experiments.\"{name}\".variants]\n\
             a = {{ backend = \"stable\", weight = 1 }}\nb = {{ backend = \"canary\", weight = 1 }}\n",
            lines.join("\n")
        );
        let file = gateway.prepared.dir.join("with.toml");
        let whole = std::fs::read_to_string(&gateway.prepared.file).unwrap() + &section;
        std::fs::write(&file, whole).unwrap();
        let problems = ::gateway::config::load(&file, &|_| None).unwrap_err();
        let expected: Vec<Value> =
            problems.list.iter().map(|p| json!({"what": p.what, "mend": p.mend})).collect();
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["error"]["details"], json!(expected), "{body}");
    }
    for (body, said) in [
        (json!([]), "it is a list"),
        (json!({"route": "chat"}), "give the experiment a `name`"),
        (json!({"name": "made", "reason": 5}), "`reason` is 5"),
    ] {
        let answer = create(&gateway, &body).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains(said), "{}", answer.text());
    }
    let twice = r#"{"name":"made","route":"chat","route":"rest"}"#;
    let answer = gateway.api().post("/api/v1/experiments", twice).await;
    assert!(answer.status == 400 && answer.text().contains("given twice"), "{}", answer.text());
    assert_eq!(entries(&gateway).await, before, "what is refused leaves no trace");
}

#[tokio::test]
async fn what_is_exported_passes_the_check_and_changes_nothing_until_the_file_says_something_new() {
    let (_stable, _canary, text) = plain().await;
    let mut gateway = gateway(text.clone()).start().await;
    create(&gateway, &definition()).await;
    gateway.set_weights("made", json!({"canary": 33.5})).await;
    let exported = gateway.api().get(&format!("{MADE}/export")).await;
    assert_eq!(exported.header("content-type"), Some("application/toml; charset=utf-8"));
    let before = (gateway.get("/experiments/made/history").await, entries(&gateway).await);

    gateway.reconfigure(&format!("{text}\n{}", exported.text())).await.unwrap();
    let shown = gateway.get("/experiments/made").await;
    assert_eq!((&shown["differs_from_file"], &shown["revision"]), (&json!(false), &json!(2)));
    assert!(shown["file"]["line"].as_u64().unwrap() > 10);
    let after = (gateway.get("/experiments/made/history").await, entries(&gateway).await);
    assert_eq!(after, before, "nothing is done, and nothing is written down");
    let again = gateway.api().get(&format!("{MADE}/export")).await;
    assert_eq!(again.text(), exported.text());

    // A live change stays, until the file itself says something new.
    gateway.set_weights("made", json!({"canary": 50})).await;
    let gateway = gateway.restart().await;
    let mut gateway = gateway;
    assert_eq!(gateway.get("/experiments/made").await["revision"], 3);
    let other = exported.text().replace("weight = 33.5", "weight = 10");
    gateway.reconfigure(&format!("{text}\n{other}")).await.unwrap();
    let shown = gateway.get("/experiments/made").await;
    assert_eq!(
        (&shown["revision"], &shown["changed_by"], &shown["defined_by"]),
        (&json!(4), &json!("file"), &json!("file"))
    );
    assert_eq!(shown["variants"]["canary"]["weight"], 10.0);
    assert_eq!(shown["differs_from_file"], false);
    // And what the file does not declare any more goes with it, also over a restart.
    gateway.reconfigure(&text).await.unwrap();
    assert_eq!(gateway.api().get(MADE).await.status, 404);
    let gateway = gateway.restart().await;
    assert_eq!(gateway.api().get(MADE).await.status, 404);
    assert_eq!(share_of_canary(&gateway.client(), 20).await, 0.0);
}

#[tokio::test]
async fn an_edit_moves_few_and_is_undone_with_everything_it_changed() {
    let (_stable, _canary, text) = plain().await;
    let gateway = gateway(text).start().await;
    create(&gateway, &definition()).await;
    let api = gateway.api();
    let bare = api.request("PATCH", MADE, r#"{"unit":["key"]}"#).await;
    assert_eq!(bare.status, 428);
    let stale = api.request("PATCH", MADE, r#"{"unit":["key"]}"#).header("if-match", "\"7\"").await;
    assert_eq!(stale.status, 412);

    let third = json!({
        "variants": {"next": {"backend": "canary", "weight": 0}, "canary": {"weight": 50}},
        "targets": null, "on_failure": "fallback", "reason": "a third",
    });
    let edited = change(&gateway, "PATCH", MADE, third.clone()).await;
    assert_eq!(
        (edited.status.as_u16(), edited.header("etag")),
        (200, Some("\"2\"")),
        "{}",
        edited.text()
    );
    let shown = edited.json();
    assert_eq!(shown["order"], json!(["stable", "canary", "next"]));
    assert_eq!((&shown["targets"], &shown["on_failure"]), (&json!([]), &json!("fallback")));
    assert_eq!(
        (&shown["variants"]["canary"]["share"], &shown["buckets_moved"]),
        (&json!(0.4), &json!(1500))
    );
    let same = change(&gateway, "PATCH", MADE, third).await;
    assert_eq!(same.json()["revision"], 2, "what changes nothing is no revision");

    let undone = change(&gateway, "POST", &format!("{MADE}/undo"), Value::Null).await;
    assert_eq!(undone.status, 200, "{}", undone.text());
    let shown = undone.json();
    assert_eq!((&shown["revision"], &shown["undoes"]), (&json!(3), &json!(2)));
    assert_eq!(
        (&shown["order"], &shown["on_failure"], &shown["targets"][0]["variant"]),
        (&json!(["stable", "canary"]), &json!("fail"), &json!("canary"))
    );
    assert_eq!(shown["variants"]["canary"]["share"], 0.25);
    // What was undone comes back the same way.
    let redone = change(&gateway, "POST", &format!("{MADE}/undo"), Value::Null).await;
    assert_eq!(redone.json()["order"], json!(["stable", "canary", "next"]));
    let gateway = gateway.restart().await;
    assert_eq!(
        gateway.get("/experiments/made").await["order"],
        json!(["stable", "canary", "next"])
    );
    let name = change(&gateway, "PATCH", MADE, json!({"name": "other"})).await;
    assert_eq!(name.status, 400);
}

#[tokio::test]
async fn the_file_s_experiment_can_be_edited_live_and_the_difference_is_shown_with_its_line() {
    let (_stable, _canary, text) = two().await;
    let mut gateway = gateway(text.clone()).start().await;
    let path = "/api/v1/experiments/int8";
    let edit = json!({"on_failure": "fallback", "variants": {"canary": {"weight": 20}}});
    assert_eq!(change(&gateway, "PATCH", path, edit).await.status, 200);
    let shown = gateway.get("/experiments/int8").await;
    let file = &shown["file"];
    let toml = std::fs::read_to_string(&gateway.prepared.file).unwrap();
    let line = toml.lines().position(|line| line.trim() == "[experiments.int8]").unwrap() + 1;
    assert_eq!(file["line"], line);
    assert_eq!(
        file["differences"],
        json!([
            {"member": "variants.canary.weight", "file": 10, "live": 20},
            {"member": "on_failure", "file": null, "live": "fallback"},
        ])
    );
    // A reload that says nothing new of it leaves it, and so does a restart.
    let rest = "[routes.more]\npath = \"/more\"\nbackend = \"stable\"\n";
    gateway.reconfigure(&format!("{text}{rest}")).await.unwrap();
    let gateway = gateway.restart().await;
    assert_eq!(gateway.get("/experiments/int8").await["on_failure"], "fallback");
    let mut gateway = gateway;
    let other = text.replace("unit = [\"header:x-user-id\"]", "unit = [\"key\"]");
    gateway.reconfigure(&other).await.unwrap();
    let shown = gateway.get("/experiments/int8").await;
    assert_eq!(
        (&shown["unit"], &shown["on_failure"], &shown["variants"]["canary"]["weight"]),
        (&json!(["key"]), &json!("fail"), &json!(10.0)),
        "the file's word, all of it"
    );
    assert_eq!(
        (&shown["differs_from_file"], &shown["changed_by"]),
        (&json!(false), &json!("file"))
    );

    let owned = other.replace("control = \"stable\"", "control = \"stable\"\nowner = \"file\"");
    gateway.reconfigure(&owned).await.unwrap();
    for (method, body) in [("PATCH", json!({"on_failure": "fail"})), ("DELETE", Value::Null)] {
        let refused = change(&gateway, method, path, body).await;
        assert_eq!(refused.status, 409);
        assert_eq!(refused.json()["error"]["type"], "owned_by_file");
    }
    let mut body = definition();
    body["name"] = json!("int8");
    assert_eq!(create(&gateway, &body).await.json()["error"]["type"], "owned_by_file");
    let mut body = definition();
    body["owner"] = json!("file");
    assert!(create(&gateway, &body).await.text().contains("leave `owner` out"));
}

#[tokio::test]
async fn what_has_ended_takes_no_traffic_keeps_its_results_and_can_be_taken_up_again() {
    let (_stable, _canary, text) = plain().await;
    let gateway = gateway(text).start().await;
    create(&gateway, &definition()).await;
    assert!(share_of_canary(&gateway.client(), 100).await > 0.0);
    gateway.accounts().await;
    let ended = change(&gateway, "DELETE", &format!("{MADE}?reason=enough"), Value::Null).await;
    assert_eq!(ended.status, 200, "{}", ended.text());
    let shown = ended.json();
    assert_eq!(
        (&shown["state"], &shown["revision"], &shown["reason"]),
        (&json!("ended"), &json!(2), &json!("enough"))
    );
    assert_eq!(share_of_canary(&gateway.client(), 30).await, 0.0);
    let results = gateway.get("/experiments/made/results").await;
    assert!(results["variants"]["canary"]["exposures"].as_u64().unwrap() > 5, "{results}");
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&gateway.get("/experiments").await), [] as [String; 0]);
    assert_eq!(names(&gateway.get("/experiments?state=ended").await), ["made"]);
    let gateway = gateway.restart().await;
    assert_eq!(gateway.get("/experiments/made").await["state"], "ended");
    assert_eq!(gateway.get("/experiments/made").await["variants"]["canary"]["backend"], "canary");
    for (method, path, body) in [
        ("PUT", format!("{MADE}/weights"), json!({"weights": {"canary": 1}})),
        ("PATCH", MADE.to_owned(), json!({"unit": ["key"]})),
        ("DELETE", MADE.to_owned(), Value::Null),
    ] {
        let refused = gateway.api().request(method, &path, body.to_string());
        let refused = refused.header("if-match", "\"2\"").await;
        assert_eq!(refused.json()["error"]["type"], "ended", "{method}");
    }

    let undone = change(&gateway, "POST", &format!("{MADE}/undo"), Value::Null).await;
    assert_eq!((undone.status.as_u16(), &undone.json()["state"]), (200, &json!("running")));
    assert!(share_of_canary(&gateway.client(), 100).await > 0.0);
    change(&gateway, "DELETE", MADE, Value::Null).await;
    // Another experiment of the same name: revisions go on, evidence begins anew.
    let mut body = definition();
    body["variants"]["canary"]["weight"] = json!(75);
    let anew = create(&gateway, &body).await;
    assert_eq!((anew.status.as_u16(), anew.header("etag")), (201, Some("\"5\"")));
    let results = gateway.get("/experiments/made/results").await;
    assert_eq!(results["variants"]["canary"]["exposures"], 0, "{results}");
}

#[tokio::test]
async fn what_does_not_fit_a_new_file_is_set_aside_and_comes_back() {
    let (_stable, canary, text) = plain().await;
    let mut gateway = gateway(text.clone()).start().await;
    create(&gateway, &definition()).await;
    let without =
        text.replace(&format!("[backends.canary]\nendpoints = [\"{}\"]\n", canary.url()), "");
    gateway.reconfigure(&without).await.unwrap();
    assert_eq!(share_of_canary(&gateway.client(), 20).await, 0.0);
    let status = gateway.get("/status").await;
    let said = status["config"]["notices"][0].as_str().unwrap();
    assert!(
        said.contains("\"made\"") && said.contains("backend \"canary\" is not defined"),
        "{said}"
    );
    let shown = gateway.get("/experiments/made").await;
    assert!(shown["set_aside"].as_str().unwrap().contains("\"canary\" is not defined"), "{shown}");
    assert_eq!(shown["revision"], 1, "that is no change of the experiment");
    // The verdict of start is the same, with the same store.
    let gateway = gateway.restart().await;
    let mut gateway = gateway;
    assert!(gateway.get("/experiments/made").await["set_aside"].is_string());
    gateway.reconfigure(&text).await.unwrap();
    assert!(share_of_canary(&gateway.client(), 200).await > 0.1);
    assert_eq!(gateway.get("/experiments/made").await["set_aside"], Value::Null);
    // Or it is mended where it is.
    gateway.reconfigure(&without).await.unwrap();
    let mend = json!({"variants": {"canary": {"backend": "stable"}}});
    assert_eq!(change(&gateway, "PATCH", MADE, mend).await.status, 200);
    assert_eq!(gateway.get("/experiments/made").await["set_aside"], Value::Null);
}

#[tokio::test]
async fn two_who_make_the_same_make_one_and_a_repeat_is_answered_again() {
    let (_stable, _canary, text) = plain().await;
    let gateway = gateway(text).start().await;
    let post = |key: &str| {
        let request = gateway.api().post("/api/v1/experiments", definition().to_string());
        request.header("idempotency-key", key)
    };
    let (one, two) = tokio::join!(post("a").attempt(), post("b").attempt());
    let mut statuses = [one.unwrap().status.as_u16(), two.unwrap().status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    let again = [post("a").await, post("b").await];
    assert!(again.iter().any(|answer| answer.status == 201));
    assert_eq!(gateway.get("/experiments/made").await["revision"], 1);
}
