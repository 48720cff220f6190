//! Feedback: credited to the variant that answered, for who may speak of it, kept before it is
//! acknowledged.

use std::collections::BTreeSet;

use ::gateway::ids::RequestId;
use ::gateway::request::receipt::Receipt;
use rusqlite::Connection;
use serde_json::{Value, json};
use weir_tests::{
    ADMIN_KEY, Answer, Backend, Client, Flood, Gateway, backend, gateway, millis, seconds,
    until_async,
};

use crate::recording::{database, request_id, split, sum_of};

async fn two() -> (Backend, Backend, String) {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let text = split(&stable, &canary);
    (stable, canary, text)
}

/// An answer of the split route, and its receipt.
async fn ask(client: &Client, user: &str) -> (Answer, String) {
    let answer = client.post("/v1/chat/completions", "{}").header("x-user-id", user).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let receipt = answer.header("x-weir-receipt").unwrap().to_owned();
    (answer, receipt)
}

async fn say(client: &Client, body: Value) -> Value {
    let answer = client.post("/feedback", body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// The code and the error of the only item, which was refused.
async fn refused(client: &Client, body: Value) -> (String, String) {
    let told = say(client, body).await;
    assert_eq!((&told["stored"], &told["duplicates"]), (&json!(0), &json!(0)), "{told}");
    let [only] = told["rejected"].as_array().unwrap().as_slice() else { panic!("{told}") };
    assert_eq!(only["index"], 0);
    (only["code"].as_str().unwrap().into(), only["error"].as_str().unwrap().into())
}

fn thumbs_up(receipt: &str) -> Value {
    json!({"receipt": receipt, "metric": "thumbs_up", "value": true})
}

fn rows(database: &Connection) -> i64 {
    database.query_row("SELECT count(*) FROM feedback", [], |row| row.get(0)).unwrap()
}

/// Experiment, variant, revision, hash of the unit, key, metric, kind, number, text, segment.
type Kept =
    (String, String, i64, i64, String, String, i64, Option<f64>, Option<String>, Option<String>);

fn kept(database: &Connection, id: &str) -> Vec<Kept> {
    let mut all = database
        .prepare(
            "SELECT e.name, v.name, f.revision, f.unit_hash, f.key_id, f.metric, f.kind, f.number,
                    f.text, f.segment
             FROM feedback AS f JOIN names AS e ON e.id = f.experiment
                                JOIN names AS v ON v.id = f.variant
             WHERE f.request_id = ?1 ORDER BY f.metric, f.key_id, f.id",
        )
        .unwrap();
    let all = all.query_map([RequestId::parse(id).unwrap().0.as_slice()], |row| {
        Ok((
            row.get(0)?,
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
            row.get(5)?,
            row.get(6)?,
            row.get(7)?,
            row.get(8)?,
            row.get(9)?,
        ))
    });
    all.unwrap().map(Result::unwrap).collect()
}

fn receipt_key(gateway: &Gateway) -> [u8; 32] {
    gateway.running.as_ref().unwrap().changes().installation().receipt_key
}

#[tokio::test]
async fn feedback_is_credited_to_the_variant_and_the_revision_that_answered() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).recording("outcomes = \"async\"").start().await;
    let client = gateway.client();
    let (before, receipt) = ask(&client, "u1").await;
    // What comes later is credited to what was in force then.
    assert_eq!(gateway.set_weights("int8", json!({"stable": 20, "canary": 80})).await.status, 200);
    let told = say(&client, thumbs_up(&receipt)).await;
    assert_eq!(told, json!({"stored": 1, "duplicates": 0, "rejected": []}));

    let database = database(&gateway.prepared.dir);
    let signed = Receipt::verify(&receipt, &receipt_key(&gateway)).unwrap();
    let expected: Kept = (
        "int8".into(),
        before.text(),
        1,
        signed.unit_hash.cast_signed(),
        signed.key_id.clone(),
        "thumbs_up".into(),
        0,
        Some(1.0),
        None,
        None,
    );
    assert_eq!(kept(&database, &request_id(&before)), [expected]);

    let (after, receipt) = ask(&client, "u1").await;
    for client in [client.clone(), client.clone().h2()] {
        let told = say(&client, thumbs_up(&receipt)).await;
        assert_eq!(told["stored"].as_i64().unwrap() + told["duplicates"].as_i64().unwrap(), 1);
    }
    assert_eq!(kept(&database, &request_id(&after))[0].2, 2, "the next revision");
    assert_eq!(rows(&database), 2);
}

#[tokio::test]
async fn the_same_answer_counts_once_unless_it_has_an_id_of_its_own() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    let (answer, receipt) = ask(&client, "u1").await;
    let once = thumbs_up(&receipt);
    let with_id =
        |id: &str| json!({"receipt": receipt, "metric": "thumbs_up", "value": 1, "id": id});
    let told = say(&client, json!([once, once, with_id("a"), with_id("b"), with_id("a")])).await;
    assert_eq!(told, json!({"stored": 3, "duplicates": 2, "rejected": []}));
    let told = say(&client, json!([once, with_id("b")])).await;
    assert_eq!(told, json!({"stored": 0, "duplicates": 2, "rejected": []}));
    // The first word stands.
    let changed = json!({"receipt": receipt, "metric": "thumbs_up", "value": false});
    assert_eq!(say(&client, changed).await["duplicates"], 1);
    // By the id of the request it is the same answer.
    let by_id = json!({"request_id": request_id(&answer), "metric": "thumbs_up", "value": true});
    assert_eq!(say(&client, by_id).await["duplicates"], 1);
    let database = database(&gateway.prepared.dir);
    let all = kept(&database, &request_id(&answer));
    assert_eq!(all.iter().map(|row| row.7).collect::<Vec<_>>(), [Some(1.0); 3]);
}

#[tokio::test]
async fn numbers_text_and_segments_are_kept_as_they_were_said() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    let (answer, receipt) = ask(&client, "u1").await;
    let odd = "It's “wrong”\n'); DROP TABLE feedback; --";
    let told = say(
        &client,
        json!([
            {"receipt": receipt, "metric": "a.stars", "value": -4.5},
            {"receipt": receipt, "metric": "b", "value": odd, "id": "it's \u{1f44d}"},
            {"receipt": receipt, "metric": "c", "value": 12345678901_i64,
             "segment": {"plan": "free", "country": "de"}},
        ]),
    )
    .await;
    assert_eq!(told["stored"], 3, "{told}");
    let database = database(&gateway.prepared.dir);
    let all = kept(&database, &request_id(&answer));
    let said: Vec<_> =
        all.iter().map(|row| (row.6, row.7, row.8.as_deref(), row.9.as_deref())).collect();
    let segment = r#"{"country":"de","plan":"free"}"#;
    assert_eq!(
        said,
        [
            (1, Some(-4.5), None, None),
            (2, None, Some(odd), None),
            (1, Some(12_345_678_901.0), None, Some(segment)),
        ]
    );
}

#[tokio::test]
async fn t31_forged_foreign_and_expired_receipts_are_refused_and_spoil_nothing() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    let (_, receipt) = ask(&client, "u1").await;
    let key = receipt_key(&gateway);
    let signed = Receipt::verify(&receipt, &key).unwrap();

    let mut forged = BTreeSet::new();
    for at in (0..receipt.len()).step_by(7) {
        let mut bytes = receipt.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        forged.insert(refused(&client, thumbs_up(&String::from_utf8(bytes).unwrap())).await);
    }
    forged.insert(refused(&client, thumbs_up("")).await);
    forged.insert(refused(&client, thumbs_up("no receipt, ☃")).await);
    forged.insert(refused(&client, thumbs_up(&receipt[..receipt.len() - 4])).await);
    forged.insert(refused(&client, thumbs_up(&signed.sign(&[7; 32]))).await);
    let said = ("invalid".to_owned(), "this is no receipt of ours".to_owned());
    assert_eq!(forged, BTreeSet::from([said]), "which byte was wrong is not told");

    let day = 24 * 60 * 60 * 1_000;
    let old = Receipt { at_millis: signed.at_millis - day - 60_000, ..signed.clone() };
    let (code, error) = refused(&client, thumbs_up(&old.sign(&key))).await;
    assert_eq!((&*code, error.contains("for 1d")), ("expired", true), "{error}");
    let young = Receipt { at_millis: signed.at_millis - day + 60_000, ..signed.clone() };
    let ahead = Receipt { at_millis: signed.at_millis + 60_000, ..signed.clone() };
    let told = say(&client, thumbs_up(&young.sign(&key))).await;
    assert_eq!(told["stored"], 1, "{told}");
    // The same request: an answer to it is there.
    assert_eq!(say(&client, thumbs_up(&ahead.sign(&key))).await["duplicates"], 1);

    let other = gateway.anonymous().bearer(&gateway.make_key("client", json!({})).await);
    let (code, error) = refused(&other, thumbs_up(&receipt)).await;
    assert_eq!((&*code, &*error), ("invalid", "this receipt was given to another key"));
    let mixed = json!([thumbs_up(&old.sign(&key)), thumbs_up("x"), thumbs_up(&receipt), 7]);
    let told = say(&client, mixed).await;
    assert_eq!((&told["stored"], &told["duplicates"]), (&json!(0), &json!(1)));
    let places: Vec<_> =
        told["rejected"].as_array().unwrap().iter().map(|item| item["index"].clone()).collect();
    assert_eq!(places, [0, 1, 3]);
    assert_eq!(rows(&database(&gateway.prepared.dir)), 1);
}

/// T31: a client speaks of its own requests only; who runs experiments may bring in what others said,
/// for routes that the key may call.
#[tokio::test]
async fn t31_only_a_role_that_may_speaks_of_other_keys_requests() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    let (answer, receipt) = ask(&client, "u1").await;
    let by_id = json!({"request_id": request_id(&answer), "metric": "m", "value": 1});
    let by_receipt = json!({"receipt": receipt, "metric": "m", "value": 1});
    let key = |role: &'static str, more: Value| {
        let gateway = &gateway;
        async move { gateway.anonymous().bearer(&gateway.make_key(role, more).await) }
    };
    gateway.accounts().await;
    let stranger = key("client", json!({})).await;
    assert_eq!(refused(&stranger, by_receipt.clone()).await.0, "invalid");
    assert_eq!(refused(&stranger, by_id.clone()).await.0, "unknown_request");
    let confined = key("experimenter", json!({"routes": ["rest"]})).await;
    let (_, error) = refused(&confined, by_receipt.clone()).await;
    assert_eq!(error, "this credential may not call the route of this receipt");
    assert_eq!(refused(&confined, by_id.clone()).await.0, "unknown_request");
    let rater = key("experimenter", json!({"routes": ["chat"]})).await;
    assert_eq!(say(&rater, by_receipt.clone()).await["stored"], 1);
    assert_eq!(say(&rater, by_id.clone()).await["duplicates"], 1);
    // What the client itself says is another answer.
    assert_eq!(say(&client, by_id).await["stored"], 1);
    let database = database(&gateway.prepared.dir);
    let asked_by: Vec<Option<String>> = database
        .prepare("SELECT asked_by FROM feedback ORDER BY received")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let own = Receipt::verify(&receipt, &receipt_key(&gateway)).unwrap().key_id;
    assert_eq!(asked_by, [Some(own), None]);

    for role in ["viewer", "auditor"] {
        let answer = key(role, json!({})).await.post("/feedback", by_receipt.to_string()).await;
        assert_eq!(answer.status, 403, "{role}");
        assert!(answer.text().contains("may not send feedback"), "{}", answer.text());
    }
    let answer = gateway.anonymous().post("/feedback", by_receipt.to_string()).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn a_request_id_is_found_as_soon_as_its_answer_has_ended() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    for user in 0..10 {
        let (answer, _) = ask(&client, &format!("u{user}")).await;
        let id = request_id(&answer);
        let said = json!({"request_id": id, "metric": "m", "value": false});
        let told = say(&client, said).await;
        assert_eq!(told["stored"], 1, "{told}");
        let [row] = &kept(&database(&gateway.prepared.dir), &id)[..] else { panic!("one row") };
        assert_eq!((&*row.0, &*row.1, row.2, row.7), ("int8", &*answer.text(), 1, Some(0.0)));
    }
    // A request that no experiment took, one that never was, and what is no id.
    let answer = client.get("/rest/x").await;
    let of = |id: &str| json!({"request_id": id, "metric": "m", "value": 1});
    let (code, error) = refused(&client, of(&request_id(&answer))).await;
    assert_eq!(code, "invalid");
    assert!(error.contains("no experiment took this request"), "{error}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let never = RequestId::new(u64::try_from(now.as_nanos()).unwrap(), 7).text();
    assert_eq!(refused(&client, of(never.as_str())).await.0, "unknown_request");
    assert_eq!(refused(&client, of("0")).await.0, "invalid");
    let old = RequestId::new(1_000_000_000, 7).text();
    assert_eq!(refused(&client, of(old.as_str())).await.0, "expired");
}

const METRICS: &str = r#"
    [feedback]
    window = "1h"
    undeclared = "refuse"
    [feedback.metrics]
    thumbs_up = { kind = "bool" }
    stars = { kind = "number", min = 1, max = 5, window = "30d" }
    why = { kind = "text" }
"#;

#[tokio::test]
async fn declared_metrics_have_a_kind_a_range_and_a_window_of_their_own() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text + METRICS).start().await;
    let client = gateway.client();
    let (_, receipt) = ask(&client, "u1").await;
    let said =
        |metric: &str, value: Value| json!({"receipt": receipt, "metric": metric, "value": value});
    for (metric, value, error) in [
        ("thumbs_up", json!(1), "`value` is true or false for this metric"),
        ("thumbs_up", json!("yes"), "`value` is true or false for this metric"),
        ("stars", json!(true), "`value` is a number for this metric"),
        ("stars", json!(5.01), "`value` is from 1 to 5 for this metric"),
        ("stars", json!(0), "`value` is from 1 to 5 for this metric"),
        ("why", json!(4), "`value` is text for this metric"),
        ("another", json!(4), "this metric is not declared here, and others are not taken"),
        ("a b", json!(4), "`metric` has 1 to 64 of the characters A-Z a-z 0-9 _ . -"),
    ] {
        let told = refused(&client, said(metric, value.clone())).await;
        assert_eq!(told, ("invalid".to_owned(), error.to_owned()), "{metric} {value}");
    }
    let told = say(
        &client,
        json!([said("thumbs_up", json!(true)), said("stars", json!(5)), said("why", json!("x"))]),
    )
    .await;
    assert_eq!(told["stored"], 3, "{told}");

    let key = receipt_key(&gateway);
    let signed = Receipt::verify(&receipt, &key).unwrap();
    let old = Receipt { at_millis: signed.at_millis - 2 * 60 * 60 * 1_000, ..signed }.sign(&key);
    let (code, error) = refused(&client, thumbs_up(&old)).await;
    assert_eq!((&*code, error.ends_with("is taken for 1h")), ("expired", true), "{error}");
    let late = json!({"receipt": old, "metric": "stars", "value": 5});
    assert_eq!(say(&client, late).await["duplicates"], 1, "within the window of this metric");

    // What was declared is a label, and nothing else.
    let metrics = gateway.metrics().await;
    let of = |part: &str| sum_of(&metrics, "weir_feedback_total", part);
    let stored =
        |metric: &str| format!("experiment=\"int8\",metric=\"{metric}\",result=\"stored\"");
    for metric in ["thumbs_up", "stars", "why"] {
        assert_eq!(of(&stored(metric)), 1.0, "{metrics}");
    }
    assert_eq!(of("metric=\"thumbs_up\",result=\"invalid\""), 2.0);
    assert_eq!(of("metric=\"_other\",result=\"invalid\""), 2.0);
    assert_eq!(of("metric=\"thumbs_up\",result=\"expired\""), 1.0);
    assert_eq!(of("metric=\"stars\",result=\"duplicate\""), 1.0);
    assert!(!metrics.contains("another"));
}

#[tokio::test]
async fn t29_metrics_that_clients_make_up_are_few_and_no_labels() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text + "[feedback.metrics.known]\nkind = \"bool\"\n").start().await;
    let client = gateway.client();
    let (_, receipt) = ask(&client, "u1").await;
    let many: Vec<Value> = (0..250)
        .map(|n| json!({"receipt": receipt, "metric": format!("made.up-{n}"), "value": n}))
        .collect();
    let told = say(&client, json!(many)).await;
    assert_eq!(told["stored"], 200, "{told}");
    let rejected = told["rejected"].as_array().unwrap();
    assert_eq!((rejected.len(), &rejected[0]["index"]), (50, &json!(200)));
    assert!(rejected[0]["error"].as_str().unwrap().contains("[feedback.metrics]"), "{told}");
    assert_eq!(say(&client, json!(many)).await["duplicates"], 200);
    let known = json!({"receipt": receipt, "metric": "known", "value": true});
    assert_eq!(say(&client, known).await["stored"], 1, "declared ones always have room");
    let metrics = gateway.metrics().await;
    assert!(!metrics.contains("made.up"));
    let other = sum_of(&metrics, "weir_feedback_total", "metric=\"_other\",result=\"stored\"");
    assert_eq!(other, 200.0);
}

#[tokio::test]
async fn a_body_that_is_no_feedback_is_refused_whole() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    let (_, receipt) = ask(&client, "u1").await;
    let many = json!(vec![thumbs_up(&receipt); 1_001]).to_string();
    for (body, status, what) in [
        (String::new(), 400, "EOF"),
        ("{".into(), 400, "EOF"),
        ("7".into(), 400, "neither an object nor a list"),
        (many, 400, "more than 1000 items"),
        ("[".repeat(200_000), 400, "EOF"),
        (format!("\"{}\"", "x".repeat(1 << 20)), 413, "larger than 1048576 bytes"),
    ] {
        let answer = client.apart().post("/feedback", body).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        let error = answer.json()["error"].clone();
        assert!(error["message"].as_str().unwrap().contains(what), "{error}");
        assert_eq!(error["request_id"], request_id(&answer));
        assert_eq!(Some(error["type"].as_str().unwrap()), answer.header("x-weir-error"));
    }
    let thousand = json!(vec![thumbs_up(&receipt); 1_000]);
    let told = say(&client, thousand).await;
    assert_eq!((&told["stored"], &told["duplicates"]), (&json!(1), &json!(999)));
    assert_eq!(say(&client, json!([])).await["stored"], 0);
    assert_eq!(client.get("/feedback").await.status, 404);
    let metrics = gateway.metrics().await;
    assert_eq!(sum_of(&metrics, "weir_rejected_total", "reason=\"malformed\""), 5.0);
    assert_eq!(sum_of(&metrics, "weir_rejected_total", "reason=\"body_too_large\""), 1.0);
}

/// Feedback is no exposure: nothing is assigned, and no outcome is recorded.
#[tokio::test]
async fn feedback_is_no_outcome_and_has_an_access_line() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    let (_, receipt) = ask(&client, "u1").await;
    let answer = client.post("/feedback", thumbs_up(&receipt).to_string()).await;
    let id = request_id(&answer);
    let accounts = gateway.accounts().await;
    assert_eq!(accounts["assigned"], 1, "{accounts}");
    assert!(gateway.outcomes("").await.iter().all(|outcome| outcome["request_id"] != id));
    until_async(seconds(5), || async {
        gateway.access_lines().iter().any(|line| {
            line["request_id"] == id
                && line["http.route"] == "/feedback"
                && line["http.response.status_code"] == 200
                && line.get("experiment").is_none()
        })
    })
    .await;
}

#[tokio::test]
async fn feedback_counts_against_the_requests_of_its_key_and_not_its_tokens() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let key = gateway
        .make_key("client", json!({"requests_per_second": 0.001, "tokens_per_minute": 1}))
        .await;
    let client = gateway.anonymous().bearer(&key);
    let answer = client.post("/feedback", "[]").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("x-ratelimit-limit-requests").is_some());
    let answer = client.post("/feedback", "[]").await;
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").is_some());
}

/// A route that takes every path does not take `/feedback`; one that names it does.
#[tokio::test]
async fn a_route_has_the_path_of_feedback_only_if_it_names_it() {
    let (stable, _canary, text) = two().await;
    let all = format!("{text}\n[routes.all]\npath = \"/*\"\nbackend = \"stable\"\n");
    let mut gateway = gateway(&all).start().await;
    let client = gateway.client();
    let (_, receipt) = ask(&client, "u1").await;
    assert_eq!(say(&client, thumbs_up(&receipt)).await["stored"], 1);
    assert_eq!(client.get("/feedback").await.text(), "stable", "other methods are the route's");
    let named = format!(
        "{all}\n[routes.own]\npath = \"/feedback\"\nmethods = [\"POST\"]\nbackend = \"canary\"\n"
    );
    gateway.reconfigure(&named).await.unwrap();
    assert_eq!(client.post("/feedback", "{}").await.text(), "canary");
    assert!(stable.calls() > 0);
}

/// D1: what was answered with 200 is there after `kill -9`, whatever `recording.outcomes` says.
#[tokio::test]
async fn d1_kill_9_loses_no_feedback_that_was_acknowledged() {
    let (_stable, _canary, text) = two().await;
    let prepared = gateway(text).recording("outcomes = \"async\"").write();
    let mut key = None;
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let weir = prepared.spawn().await;
        let key = match &key {
            Some(key) => key,
            None => key.insert(weir.make_key("client").await),
        };
        let client = weir.client(key);
        let posts: Vec<_> = (0..8)
            .map(|caller| {
                let client = client.apart();
                tokio::spawn(async move {
                    let mut stored = Vec::new();
                    let patient = seconds(10);
                    let (_, receipt) = ask(&client, &format!("u{caller}")).await;
                    for number in 0.. {
                        let id = format!("{round}-{caller}-{number}");
                        let mut said = thumbs_up(&receipt);
                        said["id"] = json!(id);
                        let post = client.post("/feedback", said.to_string()).within(patient);
                        match post.attempt().await {
                            Ok(answer) if answer.status == 200 && answer.error.is_none() => {
                                assert_eq!(answer.json()["stored"], 1);
                                stored.push(id);
                            }
                            _ => break,
                        }
                    }
                    stored
                })
            })
            .collect();
        let reader = database(&prepared.dir);
        let before = i64::try_from(acknowledged.len()).unwrap();
        until_async(seconds(30), || async { rows(&reader) > before + 100 }).await;
        weir.kill();
        let all = acknowledged.len();
        for post in posts {
            acknowledged.extend(post.await.unwrap());
        }
        assert!(acknowledged.len() > all + 50, "{} in round {round}", acknowledged.len() - all);
    }
    let weir = prepared.spawn().await;
    let database = database(&prepared.dir);
    let mut one = database.prepare("SELECT count(*) FROM feedback WHERE id = ?1").unwrap();
    let missing: Vec<_> = acknowledged
        .iter()
        .filter(|id| one.query_row([id], |row| row.get::<_, i64>(0)).unwrap() != 1)
        .collect();
    assert!(missing.is_empty(), "{missing:?} of {}", acknowledged.len());
    weir.kill();
}

#[tokio::test]
async fn f12_f13_while_the_store_is_away_feedback_is_503_and_then_it_is_taken() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    let (_, receipt) = ask(&client, "u1").await;
    let other = Connection::open(gateway.prepared.dir.join("weir.db")).unwrap();
    other.busy_timeout(seconds(5)).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let answer = client.post("/feedback", thumbs_up(&receipt).to_string()).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("x-weir-error"), Some("store_unavailable"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    // Live traffic does not notice.
    let (live, _) = ask(&client, "u2").await;
    assert!(live.total < seconds(2), "{:?}", live.total);
    let metrics = gateway.metrics().await;
    assert_eq!(sum_of(&metrics, "weir_feedback_total", "result=\"unavailable\""), 1.0);
    other.execute_batch("COMMIT").unwrap();
    until_async(seconds(20), || async {
        let answer = client.post("/feedback", thumbs_up(&receipt).to_string()).await;
        if answer.status == 503 {
            tokio::time::sleep(millis(20)).await;
            return Err(answer.text());
        }
        assert_eq!(answer.json()["stored"], 1, "what was refused had not been stored");
        Ok(())
    })
    .await;
    assert_eq!(rows(&database(&gateway.prepared.dir)), 1);
}

/// Forced by hand: kept, and told from what chance dealt.
#[tokio::test]
async fn what_was_forced_is_marked_as_no_evidence() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let client = gateway.anonymous().bearer(ADMIN_KEY);
    let (_, dealt) = ask(&client, "u1").await;
    let forced = client.clone().header("x-weir-variant", "canary");
    let (answer, forced) = ask(&forced, "u1").await;
    let told = say(&client, json!([thumbs_up(&dealt), thumbs_up(&forced)])).await;
    assert_eq!(told["stored"], 2, "{told}");
    let by_id = json!({"request_id": request_id(&answer), "metric": "m", "value": 2.5});
    assert_eq!(say(&client, by_id).await["stored"], 1);
    let last = json!({"receipt": dealt, "metric": "last", "value": 1});
    assert_eq!(say(&client, last).await["stored"], 1);
    let metrics = async || {
        let results = gateway.get("/experiments/int8/results").await;
        let of = |variant: &str| results["variants"][variant]["metrics"].clone();
        [of("stable"), of("canary")]
    };
    // Counted in the order in which it was stored: what came before is there or never will be.
    let has = |all: &[Value], metric: &str| all.iter().any(|of| of[metric]["count"] == 1);
    until_async(seconds(10), || async { has(&metrics().await, "last") }).await;
    let all = metrics().await;
    let thumbs: u64 = all.iter().filter_map(|of| of["thumbs_up"]["count"].as_u64()).sum();
    assert_eq!(thumbs, 1, "{all:?}");
    assert!(!has(&all, "m"), "{all:?}");
}

/// What was said of an answer is forgotten with it, however late it was said.
#[tokio::test]
async fn feedback_on_a_request_past_its_retention_is_deleted() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).recording("retention = \"60s\"").start().await;
    let client = gateway.client();
    let (_, receipt) = ask(&client, "u1").await;
    let signed = Receipt::verify(&receipt, &receipt_key(&gateway)).unwrap();
    let earlier = (signed.at_millis - 61_000) * 1_000_000;
    let old = Receipt { request_id: RequestId::new(earlier, 7).0, ..signed };
    let old = old.sign(&receipt_key(&gateway));
    assert_eq!(say(&client, json!([thumbs_up(&receipt), thumbs_up(&old)])).await["stored"], 2);
    let database = database(&gateway.prepared.dir);
    until_async(seconds(30), || async {
        tokio::time::sleep(millis(100)).await;
        rows(&database) == 1
    })
    .await;
}

/// T31 in numbers: whatever is mixed into a flood, what is stored is what was accepted, each once, and
/// nothing that was forged or too late. `cargo bench --bench feedback_flood` does it with a million.
#[tokio::test]
async fn t31_d1_of_a_flood_of_feedback_exactly_what_was_accepted_is_stored() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let database = database(&gateway.prepared.dir);
    let mut stored = 0;
    for flood in [
        Flood { items: 1_500, each: 1, callers: 24 },
        Flood { items: 18_000, each: 90, callers: 16 },
    ] {
        let told = flood.pour(&gateway).await;
        assert_eq!(told, flood.expected());
        stored += told.stored;
        assert_eq!(rows(&database), i64::try_from(stored).unwrap());
    }
    let metrics = gateway.metrics().await;
    for (result, count) in [("stored", stored), ("duplicate", stored * 3 / 13)] {
        let labels = format!("result=\"{result}\"");
        assert_eq!(sum_of(&metrics, "weir_feedback_total", &labels), count as f64, "{result}");
    }
    // What was stored is what counts.
    until_async(seconds(20), || async {
        let results = gateway.get("/experiments/int8/results").await;
        let of = |variant: &str| {
            results["variants"][variant]["metrics"]["thumbs_up"]["count"].as_u64().unwrap_or(0)
        };
        if of("stable") + of("canary") == stored { Ok(()) } else { Err(format!("{results:#}")) }
    })
    .await;
}
