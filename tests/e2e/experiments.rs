//! Experiments from outside: the split is exact and sticky, and moving it loses nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use routing::{Allocation, HashKey, Salt};
use serde_json::{Value, json};
use weir_tests::{
    ADMIN_KEY, Answer, Backend, Client, Gateway, backend, gateway, millis, until, weir,
};

const PATH: &str = "/v1/chat/completions";
const INT8: &str = "/api/v1/experiments/int8";

/// One route, split over two backends by `x-user-id`, with these weights.
pub(crate) fn split(stable: &Backend, canary: &Backend, weights: (u32, u32)) -> String {
    format!(
        r#"
        [backends.stable]
        endpoints = ["{}"]
        [backends.canary]
        endpoints = ["{}"]
        [routes.chat]
        path = "{PATH}"
        backend = "stable"
        [experiments.int8]
        route = "chat"
        unit = ["header:x-user-id"]
        control = "stable"
        [experiments.int8.variants]
        stable = {{ backend = "stable", weight = {} }}
        canary = {{ backend = "canary", weight = {} }}
        "#,
        stable.url(),
        canary.url(),
        weights.0,
        weights.1
    )
}

/// A 90/10 split over backends that answer their names.
pub(crate) async fn two() -> (Backend, Backend, String) {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let text = split(&stable, &canary, (90, 10));
    (stable, canary, text)
}

/// The key that this installation hashes units with.
pub(crate) fn hash_key(gateway: &Gateway) -> HashKey {
    HashKey(gateway.running.as_ref().unwrap().changes().installation().hash_key)
}

/// Who answers `user`.
pub(crate) async fn answer_for(client: &Client, user: &str) -> String {
    let answer = client.post(PATH, "{}").header("x-user-id", user).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

async fn put_weights(client: &Client, if_match: &str, body: Value) -> Answer {
    client
        .request("PUT", &format!("{INT8}/weights"), body.to_string())
        .header("if-match", if_match)
        .await
}

async fn post(client: &Client, what: &str, body: Value) -> Answer {
    client.post(&format!("{INT8}/{what}"), body.to_string()).await
}

/// An undo by somebody who has just looked.
async fn undo(client: &Client, body: Value) -> Answer {
    let seen = client.get(INT8).await.header("etag").unwrap().to_owned();
    client.post(&format!("{INT8}/undo"), body.to_string()).header("if-match", &seen).await
}

fn error(answer: &Answer) -> (u16, String, String) {
    let error = &answer.json()["error"];
    assert!(error["request_id"].is_string() && error["details"].is_array(), "{error}");
    let text = |member: &str| error[member].as_str().unwrap().to_owned();
    (answer.status.as_u16(), text("type"), text("message"))
}

/// What one user got in one request of the acceptance run.
#[derive(Clone, Copy)]
struct Served {
    user: usize,
    canary: bool,
    started: Instant,
    ended: Instant,
}

/// The main promise at size: 10,000 users over TLS, HTTP/1.1 and HTTP/2 mixed, 90/10; then 50/50
/// while the load goes on. `WEIR_FULL=1` makes it 100,000 requests; without it 20,000, which an
/// unoptimised build does in the time that a developer waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_users_are_split_exactly_and_moved_without_a_failure() {
    const USERS: usize = 10_000;
    const CONNECTIONS: usize = 12;
    let full = std::env::var("WEIR_FULL").is_ok_and(|value| value == "1");
    let rounds = if full { 10 } else { 2 };
    let total = USERS * rounds;
    let stable = backend().answers("stable").counts_only().start().await;
    let canary = backend().answers("canary").counts_only().start().await;
    let text = format!("{}[telemetry]\naccess_log = \"off\"\n", split(&stable, &canary, (90, 10)));
    let gateway = gateway(text).limits("requests_per_connection = 1000000").start().await;

    let done = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut running = Vec::new();
    for connection in 0..CONNECTIONS {
        let client = gateway.client();
        let client = if connection % 3 == 2 { client.h2() } else { client.apart() };
        let done = Arc::clone(&done);
        running.push(tokio::spawn(async move {
            let mut served = Vec::new();
            for _ in 0..rounds {
                for user in (connection..USERS).step_by(CONNECTIONS) {
                    let started = Instant::now();
                    let answer = client
                        .post(PATH, "{}")
                        .header("x-user-id", &format!("user-{user}"))
                        .attempt()
                        .await
                        .unwrap_or_else(|failure| panic!("user {user}: {failure}"));
                    assert_eq!(answer.status, 200, "user {user}: {}", answer.text());
                    let canary = match &*answer.body {
                        b"canary" => true,
                        b"stable" => false,
                        other => panic!("{other:?}"),
                    };
                    served.push(Served { user, canary, started, ended: Instant::now() });
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
            served
        }));
    }
    // Half way, under load.
    let half = Arc::clone(&done);
    until(weir_tests::seconds(600), move || half.load(Ordering::Relaxed) >= total / 2 + USERS / 4)
        .await;
    let asked = Instant::now();
    let changed = gateway.set_weights("int8", json!({"stable": 50, "canary": 50})).await;
    let answered = Instant::now();
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(changed.json()["buckets_moved"], 4000);
    assert!(answered - asked < millis(1_000), "the change took {:?}", answered - asked);
    let mut all = Vec::new();
    for task in running {
        all.extend(task.await.unwrap());
    }
    let took = begun.elapsed();
    assert_eq!(all.len(), total);

    // What it should have been, worked out here.
    let salt = Salt::new(&hash_key(&gateway), "int8/variant");
    let before = Allocation::initial(&[9_000, 1_000]).unwrap();
    let after = before.retarget(&[5_000, 5_000]).unwrap().allocation;
    let in_canary = |table: &Allocation, user: usize| {
        table.variant_of(salt.bucket(&format!("user-{user}"))).0 == 1
    };
    let mut followed = 0;
    for served in &all {
        let (old, new) = (in_canary(&before, served.user), in_canary(&after, served.user));
        assert!(new || !old, "the new table moves user {} out of canary", served.user);
        if served.ended < asked {
            assert_eq!(served.canary, old, "user {} before the change", served.user);
        } else if served.started > answered {
            assert_eq!(served.canary, new, "user {} after the change", served.user);
            followed += 1;
        } else {
            assert!(served.canary == old || served.canary == new, "user {}", served.user);
        }
    }
    assert!(followed > total / 8, "only {followed} requests began after the change");
    let mut last = vec![None; USERS];
    all.sort_by_key(|served| served.started);
    for served in &all {
        assert!(
            last[served.user] != Some(true) || served.canary,
            "user {} was moved out of canary",
            served.user
        );
        last[served.user] = Some(served.canary);
    }

    // The share of users: exactly the table's, and within what chance allows at 99.9 %. A fresh
    // installation has a fresh key, so a set of users falls outside once in a thousand runs; then
    // another 10,000 have to be inside.
    let share = |prefix: &str| {
        let canary =
            |user: &usize| before.variant_of(salt.bucket(&format!("{prefix}{user}"))).0 == 1;
        (0..USERS).filter(canary).count()
    };
    let inside = |count: usize| (count as f64 - 1_000.0).abs() <= 3.2905 * 30.0;
    let users = share("user-");
    assert!(inside(users) || inside(share("other-")), "{users} of {USERS} users at 10 %");

    // Everything was recorded, once, and where it was served.
    let accounts = gateway.accounts().await;
    assert_eq!(accounts["assigned"], total, "{accounts}");
    assert_eq!(accounts["recorded"], total, "{accounts}");
    assert_eq!(accounts["dropped"], 0, "{accounts}");
    let to_canary = all.iter().filter(|served| served.canary).count();
    assert_eq!((stable.calls(), canary.calls()), (total - to_canary, to_canary));
    eprintln!(
        "{total} requests in {took:.1?} ({:.0}/s); {users} of {USERS} users in canary at 10 %; \
         {followed} requests began after the change, which took {:?}",
        total as f64 / took.as_secs_f64(),
        answered - asked
    );
}

#[tokio::test]
async fn weights_are_changed_only_by_who_has_seen_the_newest_revision() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let api = gateway.api();
    let weights = json!({"weights": {"stable": 80, "canary": 20}});

    let absent = api.request("PUT", &format!("{INT8}/weights"), weights.to_string()).await;
    assert_eq!(
        error(&absent),
        (
            428,
            "precondition_required".into(),
            "send `If-Match` with the ETag of `GET /experiments/{e}`, so that nobody's change is lost"
                .into()
        )
    );
    for wrong in ["1", "*", "W/\"1\"", "\"one\"", "\"1\", \"2\"", "\"-1\"", ""] {
        let answer = put_weights(&api, wrong, weights.clone()).await;
        let said = "`If-Match` must be a revision in quotes, such as \"7\"";
        assert_eq!(error(&answer), (400, "invalid_request".into(), said.into()), "{wrong}");
    }
    let shown = api.get(INT8).await;
    assert_eq!(shown.header("etag"), Some("\"1\""), "nothing was changed");

    let changed = put_weights(&api, "\"1\"", weights.clone()).await;
    assert_eq!((changed.status.as_u16(), changed.header("etag")), (200, Some("\"2\"")));
    let stale = put_weights(&api, "\"1\"", weights.clone()).await;
    assert_eq!(
        error(&stale),
        (
            412,
            "stale_revision".into(),
            "revision 1 is not in force any more: first-admin made revision 2".into()
        )
    );
    assert_eq!(
        stale.json()["error"]["details"],
        json!([{"seen": 1, "current": 2, "changed_by": "first-admin"}])
    );
    let ahead = put_weights(&api, "\"3\"", weights).await;
    assert_eq!(ahead.status, 412, "a revision that is not there yet");
    let unknown = api
        .request("PUT", "/api/v1/experiments/int9/weights", "{\"weights\":{\"a\":1}}")
        .header("if-match", "\"1\"")
        .await;
    let said = "experiment \"int9\" does not exist";
    assert_eq!(error(&unknown), (404, "not_found".into(), said.into()));
    assert_eq!(gateway.get("/experiments/int8").await["revision"], 2);
}

#[tokio::test]
async fn two_editors_in_a_race_lose_no_change_and_leave_no_gap() {
    const CHANGES: usize = 50;
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let mut editors = Vec::new();
    for editor in 0..2 {
        let api = gateway.api().apart();
        editors.push(tokio::spawn(async move {
            let (mut made, mut refused) = (Vec::new(), 0);
            for number in 0..CHANGES {
                let reason = format!("editor {editor} change {number}");
                loop {
                    let shown = api.get(INT8).await;
                    let etag = shown.header("etag").unwrap().to_owned();
                    let weights = json!({"stable": 100 - number, "canary": 1 + number});
                    let body = json!({"weights": weights, "reason": reason});
                    let answer = put_weights(&api, &etag, body).await;
                    if answer.status == 200 {
                        made.push((answer.json()["revision"].as_u64().unwrap(), reason));
                        break;
                    }
                    assert_eq!(answer.status, 412, "{}", answer.text());
                    refused += 1;
                }
            }
            (made, refused)
        }));
    }
    let mut made = Vec::new();
    let mut refused = 0;
    for editor in editors {
        let (own, own_refused) = editor.await.unwrap();
        made.extend(own);
        refused += own_refused;
    }
    assert!(refused > 0, "the editors never met");
    made.sort();
    let expected: Vec<u64> = (2..=2 * CHANGES as u64 + 1).collect();
    assert_eq!(made.iter().map(|(revision, _)| *revision).collect::<Vec<_>>(), expected);

    let history = gateway.get("/experiments/int8/history?limit=1000").await;
    let mut rows: Vec<(u64, String)> = history["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let reason = row["reason"].as_str().unwrap_or("").to_owned();
            (row["revision"].as_u64().unwrap(), reason)
        })
        .collect();
    rows.reverse();
    assert_eq!(rows.remove(0).0, 1);
    assert_eq!(rows, made, "every success is in the history, as its maker was told");

    let audit = gateway.get("/audit?limit=1000").await;
    let mut audited: Vec<u64> = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["action"] == "weights.set")
        .map(|entry| entry["after"]["revision"].as_u64().unwrap())
        .collect();
    audited.sort_unstable();
    assert_eq!(audited, expected, "one audit entry for each change");
}

#[tokio::test]
async fn a_repeated_request_is_done_once_and_answered_twice() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let api = gateway.api();
    let put = |client: &Client, key: &str, canary: u32| {
        let body = json!({"weights": {"canary": canary}});
        client
            .request("PUT", &format!("{INT8}/weights"), body.to_string())
            .header("if-match", "\"1\"")
            .header("idempotency-key", key)
    };
    let first = put(&api, "a-1", 30).await;
    assert_eq!(first.status, 200, "{}", first.text());
    let again = put(&api, "a-1", 30).await;
    assert_eq!((again.status.as_u16(), again.json()), (200, first.json()));
    assert_eq!(again.header("etag"), Some("\"2\""));
    let other = put(&api, "a-1", 31).await;
    let said = "this `Idempotency-Key` was used for another request";
    assert_eq!(error(&other), (422, "idempotency_key_reused".into(), said.into()));
    let colleague =
        Client::plain(gateway.admin).bearer(&gateway.make_key("experimenter", Value::Null).await);
    assert_eq!(put(&colleague, "a-1", 30).await.status, 412, "a key of one's own");
    for wrong in ["", &"x".repeat(129)] {
        assert_eq!(put(&api, wrong, 30).await.status, 400);
    }

    let stop = || api.post(&format!("{INT8}/stop"), "").header("idempotency-key", "s");
    assert_eq!(
        (stop().await.json()["revision"].as_u64(), stop().await.status.as_u16()),
        (Some(3), 200)
    );
    let undo = || {
        let post = api.post(&format!("{INT8}/undo"), "").header("if-match", "\"3\"");
        post.header("idempotency-key", "u")
    };
    assert_eq!(undo().await.json()["revision"], 4);
    assert_eq!(undo().await.json()["revision"], 4, "a repeated undo does not undo twice");
    assert_eq!(gateway.get("/experiments/int8").await["revision"], 4);

    let made = |name: &str| {
        let body = json!({"name": name, "role": "client"}).to_string();
        api.post("/api/v1/keys", body).header("idempotency-key", "k")
    };
    assert_eq!(made("one").await.status, 201);
    let (status, kind, _) = error(&made("one").await);
    assert_eq!((status, kind), (409, "already_created".into()), "the secret is not told twice");
    assert_eq!(made("two").await.status, 422);
}

/// What happened: two requests with one key at the same time, as a client sends that gave up waiting
/// for the first, were both done: an undo was undone at once.
#[tokio::test]
async fn a_request_repeated_while_it_runs_is_done_once() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    gateway.set_weights("int8", json!({"canary": 30})).await;
    let api = gateway.api();
    let undo = || {
        let post = api.apart().post(&format!("{INT8}/undo"), "").header("if-match", "\"2\"");
        post.header("idempotency-key", "u").into_future()
    };
    let (one, two, three, four) = tokio::join!(undo(), undo(), undo(), undo());
    for answer in [one, two, three, four] {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["revision"], 3, "{}", answer.text());
    }
    assert_eq!(gateway.get("/experiments/int8").await["revision"], 3);
}

#[tokio::test]
async fn history_tells_every_revision_newest_first_in_pages() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let api = gateway.api();
    for (seen, canary) in [(1, 20), (2, 30), (3, 40), (4, 50)] {
        let body = json!({
            "weights": {"canary": canary, "stable": 100 - canary},
            "reason": format!("to {canary} %"),
        });
        assert_eq!(put_weights(&api, &format!("\"{seen}\""), body).await.status, 200);
    }
    let history = gateway.get("/experiments/int8/history").await;
    assert_eq!(history["next"], Value::Null);
    let rows = history["revisions"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    let newest = &rows[0];
    let mut members: Vec<&str> = newest.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    for member in ["at", "buckets_moved", "by", "reason", "revision", "source", "undoes", "weights"]
    {
        assert!(members.contains(&member), "{member} in {members:?}");
    }
    assert_eq!(newest["revision"], 5);
    assert_eq!(newest["weights"], json!({"stable": 50.0, "canary": 50.0}));
    assert_eq!(newest["source"], "api");
    assert_eq!(newest["by"], "first-admin");
    assert_eq!(newest["reason"], "to 50 %");
    assert_eq!(newest["buckets_moved"], 1000);
    assert_eq!(newest["undoes"], Value::Null);
    let oldest = &rows[4];
    assert_eq!(
        (&oldest["revision"], &oldest["source"], &oldest["by"], &oldest["reason"]),
        (&json!(1), &json!("file"), &json!("file"), &Value::Null)
    );

    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = gateway.get(&format!("/experiments/int8/history?limit=2{cursor}")).await;
        let part = page["revisions"].as_array().unwrap();
        assert!(part.len() <= 2);
        paged.extend(part.clone());
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(&paged, rows, "pages are the whole");
    let missing = api.get("/api/v1/experiments/int9/history").await;
    let said = "experiment \"int9\" does not exist";
    assert_eq!(error(&missing), (404, "not_found".into(), said.into()));
    let wrong = api.get(&format!("{INT8}/history?cursor=x")).await;
    let said = "`cursor` is not one of this list's";
    assert_eq!(error(&wrong), (400, "invalid_request".into(), said.into()));
}

#[tokio::test]
async fn undo_goes_back_and_an_undo_of_it_forward_again() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let api = gateway.api();
    let canary =
        async || gateway.get("/experiments/int8").await["variants"]["canary"]["share"].clone();

    let nothing = undo(&api, json!({})).await;
    let said = "experiment \"int8\" has only one revision; there is nothing to undo";
    assert_eq!(error(&nothing), (404, "not_found".into(), said.into()));

    let client = gateway.client();
    let mut before = Vec::new();
    for user in 0..150 {
        before.push(answer_for(&client, &format!("user-{user}")).await);
    }
    gateway.set_weights("int8", json!({"stable": 50, "canary": 50})).await;
    gateway.set_weights("int8", json!({"stable": 20, "canary": 80})).await;

    let undone = undo(&api, json!({"reason": "too slow"})).await;
    assert_eq!(undone.status, 200, "{}", undone.text());
    let body = undone.json();
    assert_eq!(
        (&body["revision"], &body["undoes"], &body["reason"]),
        (&json!(4), &json!(3), &json!("too slow"))
    );
    assert_eq!(undone.header("etag"), Some("\"4\""));
    assert_eq!(canary().await, 0.5);
    assert_eq!(undo(&api, json!({})).await.json()["undoes"], 4);
    assert_eq!(canary().await, 0.8, "an undo of the undo brings back what was undone");
    undo(&api, json!({})).await;
    assert_eq!(canary().await, 0.5);

    let first = undo(&api, json!({"to": 1})).await;
    assert_eq!((&first.json()["revision"], &first.json()["undoes"]), (&json!(7), &json!(6)));
    assert_eq!(canary().await, 0.1);
    let mut after = Vec::new();
    for user in 0..150 {
        after.push(answer_for(&client, &format!("user-{user}")).await);
    }
    assert_eq!(before, after, "everybody is back where they were");
    undo(&api, json!({})).await;
    assert_eq!(canary().await, 0.5, "an undo --to is undone like any other");

    for (to, said) in [
        (0, "experiment \"int8\" has no revision 0 before revision 8"),
        (8, "experiment \"int8\" has no revision 8 before revision 8"),
        (99, "experiment \"int8\" has no revision 99 before revision 8"),
        (u64::MAX, "experiment \"int8\" has no revision 18446744073709551615 before revision 8"),
    ] {
        let answer = undo(&api, json!({"to": to})).await;
        assert_eq!(error(&answer), (404, "not_found".into(), said.into()));
    }
    for wrong in [json!({"to": -1}), json!({"to": "1"}), json!({"back": 1}), json!([])] {
        assert_eq!(undo(&api, wrong.clone()).await.status, 400, "{wrong}");
    }
    assert_eq!(gateway.get("/experiments/int8").await["revision"], 8);
}

/// T20. What happened: an undo named no revision, so of two people who saw the same mistake the first
/// took it back, and the second brought it back again.
#[tokio::test]
async fn t20_an_undo_is_made_only_by_who_has_seen_the_newest_revision() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let api = gateway.api();
    gateway.set_weights("int8", json!({"canary": 50})).await;
    let path = format!("{INT8}/undo");
    let absent = api.post(&path, "").await;
    assert_eq!((absent.status.as_u16(), error(&absent).1), (428, "precondition_required".into()));
    let wrong = api.post(&path, "").header("if-match", "*").await;
    assert_eq!((wrong.status.as_u16(), error(&wrong).1), (400, "invalid_request".into()));
    assert_eq!(gateway.get("/experiments/int8").await["revision"], 2, "nothing was changed");

    let first = api.post(&path, "").header("if-match", "\"2\"").await;
    assert_eq!((first.status.as_u16(), first.header("etag")), (200, Some("\"3\"")));
    for body in [json!({}), json!({"to": 1})] {
        let second = api.post(&path, body.to_string()).header("if-match", "\"2\"").await;
        let said = "revision 2 is not in force any more: first-admin made revision 3";
        assert_eq!(error(&second), (412, "stale_revision".into(), said.into()));
    }
    let shown = gateway.get("/experiments/int8").await;
    assert_eq!(
        (&shown["revision"], &shown["variants"]["canary"]["weight"]),
        (&json!(3), &json!(10.0))
    );

    let admin = format!("http://{}", gateway.admin);
    let undone = tokio::task::spawn_blocking(move || {
        weir(&["undo", "int8", "--admin", &admin, "--token", ADMIN_KEY])
    });
    let undone = undone.await.unwrap();
    assert!(undone.status.success(), "{}", String::from_utf8_lossy(&undone.stderr));
    assert_eq!(gateway.get("/experiments/int8").await["revision"], 4);
}

#[tokio::test]
async fn stop_sends_everything_to_the_routes_backend_until_somebody_sets_weights() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let gateway = gateway(split(&stable, &canary, (0, 100))).start().await;
    let (api, client) = (gateway.api(), gateway.client());
    assert_eq!(answer_for(&client, "u").await, "canary");

    let stopped = post(&api, "stop", json!({"reason": "it lies"})).await;
    assert_eq!(stopped.status, 200, "{}", stopped.text());
    let body = stopped.json();
    assert_eq!(
        (&body["state"], &body["revision"], &body["reason"], &body["stored"]),
        (&json!("stopped"), &json!(2), &json!("it lies"), &json!(true))
    );
    let served = canary.calls();
    for user in 0..50 {
        let user = format!("user-{user}");
        let answer = client.post(PATH, "{}").header("x-user-id", &user).await;
        assert_eq!(answer.text(), "stable");
        assert!(answer.header("x-weir-receipt").is_none(), "nothing was assigned");
    }
    assert_eq!(canary.calls(), served, "nothing reaches canary any more");
    let again = post(&api, "stop", json!({})).await;
    assert_eq!((again.status.as_u16(), &again.json()["revision"]), (200, &json!(2)));
    assert_eq!(gateway.get("/experiments/int8").await["state"], "stopped");
    let assigned = gateway.get("/experiments/int8/assign?unit=u").await;
    assert_eq!(
        (&assigned["variant"], &assigned["reason"], &assigned["backend"]),
        (&Value::Null, &json!("disabled"), &json!("stable"))
    );

    let gateway = gateway.restart().await;
    assert_eq!(answer_for(&gateway.client(), "u").await, "stable", "a restart does not start it");
    let resumed = gateway.set_weights("int8", json!({"stable": 0, "canary": 100})).await;
    assert_eq!(resumed.json()["state"], "running");
    assert_eq!(answer_for(&gateway.client(), "u").await, "canary");
    let stopped = post(&gateway.api(), "stop", json!({})).await;
    assert_eq!(stopped.json()["state"], "stopped");
    let undone = undo(&gateway.api(), json!({})).await;
    assert_eq!(undone.json()["state"], "running", "a stop can be undone");
    assert_eq!(answer_for(&gateway.client(), "u").await, "canary");
}

#[tokio::test]
async fn what_the_file_owns_is_changed_in_the_file_but_stops_at_once() {
    let (_stable, _canary, text) = two().await;
    let text = text.replace("control = \"stable\"\n", "control = \"stable\"\nowner = \"file\"\n");
    let mut gateway = gateway(text.clone()).start().await;
    let api = gateway.api();
    let said = "experiment \"int8\" is owned by the file (`owner = \"file\"`); \
                change it there and reload";
    let refused = (409, "owned_by_file".to_owned(), said.to_owned());
    let put = gateway.set_weights("int8", json!({"canary": 50})).await;
    assert_eq!(error(&put), refused);
    assert_eq!(error(&undo(&api, json!({})).await), refused);
    let shown = gateway.get("/experiments/int8").await;
    assert_eq!((&shown["owner"], &shown["revision"]), (&json!("file"), &json!(1)));

    let text = text.replace("weight = 10 ", "weight = 90 ");
    gateway.reconfigure(&text).await.unwrap();
    let shown = gateway.get("/experiments/int8").await;
    assert_eq!(
        (&shown["revision"], &shown["variants"]["canary"]["share"]),
        (&json!(2), &json!(0.5))
    );

    let stopped = post(&api, "stop", json!({})).await;
    assert_eq!((stopped.status.as_u16(), &stopped.json()["state"]), (200, &json!("stopped")));
    for user in 0..20 {
        assert_eq!(answer_for(&gateway.client(), &format!("user-{user}")).await, "stable");
    }
    // What the file says, and nothing else, can be taken up again.
    assert_eq!(error(&undo(&api, json!({"to": 1})).await), refused);
    let put = gateway.set_weights("int8", json!({"canary": 50})).await;
    assert_eq!(error(&put), refused);
    let undone = undo(&api, json!({})).await;
    let (status, now) = (undone.status.as_u16(), undone.json());
    assert_eq!((status, &now["state"], &now["revision"]), (200, &json!("running"), &json!(4)));
    assert_eq!(now["variants"]["canary"]["share"], 0.5);
    assert_eq!(error(&undo(&api, json!({})).await), refused, "running, it is the file's again");
}

#[tokio::test]
async fn an_experiment_is_shown_as_promised() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let body = json!({"weights": {"stable": 3, "canary": 1}, "reason": "a quarter"});
    put_weights(&gateway.api(), "\"1\"", body).await;

    let one = gateway.get("/experiments/int8").await;
    assert_eq!(one["name"], "int8");
    assert_eq!(one["route"], "chat");
    assert_eq!(one["owner"], "api");
    assert_eq!(one["state"], "running");
    assert_eq!(one["revision"], 2);
    assert_eq!(one["control"], "stable");
    assert_eq!(one["unit"], json!(["header:x-user-id"]));
    assert_eq!(one["changed_by"], "first-admin");
    assert_eq!(one["reason"], "a quarter");
    let at = one["changed_at"].as_str().unwrap();
    assert!(at.len() >= 20 && at.ends_with('Z') && at.contains('T'), "{at}");
    for (name, weight, share) in [("stable", 3.0, 0.75), ("canary", 1.0, 0.25)] {
        let variant = &one["variants"][name];
        assert_eq!(variant["backend"], name);
        assert_eq!(variant["weight"], weight);
        assert_eq!(variant["share"], share);
        assert_eq!(variant["requests"], 0);
    }
    assert_eq!(one["differs_from_file"], true);

    let list = gateway.get("/experiments").await;
    assert_eq!(list["next"], Value::Null);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(list["items"][0]["name"], "int8");
    assert_eq!(list["items"][0]["revision"], 2);
    let missing = gateway.api().get("/api/v1/experiments/int9").await;
    let said = "experiment \"int9\" does not exist";
    assert_eq!(error(&missing), (404, "not_found".into(), said.into()));
}

/// What happened: a reload that changed one experiment stored that experiment's statement alone, so
/// that after a restart the file seemed to say something new about all others, and their live weights
/// were taken back. A live change stays until the file's own statement about it changes.
#[tokio::test]
async fn a_live_change_survives_a_change_of_another_experiment_and_a_restart() {
    let (_stable, _canary, text) = two().await;
    let other = |weight: u32| {
        format!(
            r#"{text}
            [routes.other]
            path = "/other"
            backend = "stable"
            [experiments.other]
            route = "other"
            unit = "key"
            control = "a"
            [experiments.other.variants]
            a = {{ backend = "stable", weight = 50 }}
            b = {{ backend = "canary", weight = {weight} }}
            "#
        )
    };
    let mut gateway = gateway(other(50)).start().await;
    gateway.set_weights("int8", json!({"stable": 60, "canary": 40})).await;
    gateway.reconfigure(&other(150)).await.unwrap();
    let shares = async |gateway: &Gateway| {
        let list = gateway.get("/experiments").await;
        let item = |name: &str| {
            let items = list["items"].as_array().unwrap();
            items.iter().find(|item| item["name"] == name).unwrap().clone()
        };
        (item("int8")["variants"]["canary"]["share"].clone(), item("other")["revision"].clone())
    };
    assert_eq!(shares(&gateway).await, (json!(0.4), json!(2)));
    let mut gateway = gateway.restart().await;
    assert_eq!(shares(&gateway).await, (json!(0.4), json!(2)), "after a restart");
    assert_eq!(gateway.get("/experiments/int8").await["revision"], 2);
    // Only its own statement takes the live weights back.
    let stated = other(150).replace("weight = 10 ", "weight = 30 ");
    gateway.reconfigure(&stated).await.unwrap();
    assert_eq!(shares(&gateway).await, (json!(0.25), json!(2)));
}

/// A bad file changes nothing (F20).
#[tokio::test]
async fn a_refused_file_leaves_everything_as_it_was() {
    let (_stable, _canary, text) = two().await;
    let mut gateway = gateway(text.clone()).start().await;
    gateway.set_weights("int8", json!({"stable": 60, "canary": 40})).await;
    let generation = gateway.get("/status").await["generation"].clone();
    let problems =
        gateway.reconfigure(&text.replace("control = \"stable\"", "control = \"x\"")).await;
    assert!(problems.unwrap_err().contains("control"), "it says what is wrong");
    let status = gateway.get("/status").await;
    assert_eq!(status["generation"], generation);
    assert!(status["config"]["last_error"].is_string());
    assert_eq!(gateway.get("/experiments/int8").await["revision"], 2);
    answer_for(&gateway.client(), "u").await;
}

/// What happened: a stop that could not be stored was in force as a revision that the store did not
/// know, and every later change was refused because it would have left a gap. It is stored before the
/// next change.
#[tokio::test]
async fn a_stop_works_while_the_store_is_locked_and_is_stored_before_the_next_change() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let gateway = gateway(split(&stable, &canary, (0, 100))).start().await;
    let (api, client) = (gateway.api(), gateway.client());
    assert_eq!(answer_for(&client, "u").await, "canary");
    gateway.accounts().await;

    let lock = rusqlite::Connection::open(gateway.prepared.dir.join("weir.db")).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let asked = Instant::now();
    let stop = tokio::spawn({
        let api = api.apart();
        async move { post(&api, "stop", json!({"reason": "locked"})).await }
    });
    while answer_for(&client, "u").await == "canary" {
        assert!(asked.elapsed() < millis(5_000), "variant traffic is 0 within 5 s (F30)");
        tokio::time::sleep(millis(5)).await;
    }
    let stopped = stop.await.unwrap();
    assert_eq!(stopped.status, 200, "{}", stopped.text());
    assert_eq!(
        (&stopped.json()["state"], &stopped.json()["stored"]),
        (&json!("stopped"), &json!(false))
    );
    let again = post(&api, "stop", json!({})).await;
    assert_eq!(again.json()["stored"], false, "saying it twice does not store it");
    lock.execute_batch("ROLLBACK").unwrap();

    let put = || put_weights(&api, "\"2\"", json!({"weights": {"canary": 10, "stable": 90}}));
    let patience = Instant::now();
    let mut changed = put().await;
    while changed.status == 503 && patience.elapsed() < millis(15_000) {
        tokio::time::sleep(millis(100)).await;
        changed = put().await;
    }
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(changed.json()["revision"], 3);
    let history = gateway.get("/experiments/int8/history").await;
    let rows: Vec<(&Value, &Value)> = history["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (&row["revision"], &row["state"]))
        .collect();
    assert_eq!(
        rows,
        [
            (&json!(3), &json!("running")),
            (&json!(2), &json!("stopped")),
            (&json!(1), &json!("running"))
        ]
    );
}

/// What happened: a change that waited for a locked store held up the kill switch behind it, for as
/// long as the store was patient with the lock.
#[tokio::test]
async fn a_stop_is_in_force_at_once_although_another_change_waits_for_the_store() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let gateway = gateway(split(&stable, &canary, (0, 100))).start().await;
    let (api, client) = (gateway.api(), gateway.client());
    assert_eq!(answer_for(&client, "u").await, "canary");
    gateway.accounts().await;

    let lock = rusqlite::Connection::open(gateway.prepared.dir.join("weir.db")).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let put = tokio::spawn({
        let api = api.apart();
        async move { put_weights(&api, "\"1\"", json!({"weights": {"canary": 90}})).await }
    });
    tokio::time::sleep(millis(300)).await;
    assert!(!put.is_finished(), "the lock has no effect");
    let asked = Instant::now();
    let stop = tokio::spawn({
        let api = api.apart();
        async move { post(&api, "stop", json!({})).await }
    });
    while answer_for(&client, "u").await == "canary" {
        assert!(asked.elapsed() < millis(1_000), "the stop is held up");
        tokio::time::sleep(millis(5)).await;
    }
    assert!(!put.is_finished(), "the change came first after all");
    lock.execute_batch("ROLLBACK").unwrap();
    let put = put.await.unwrap();
    assert!([200, 503].contains(&put.status.as_u16()), "{}", put.text());
    let stopped = stop.await.unwrap();
    assert_eq!((stopped.status.as_u16(), &stopped.json()["state"]), (200, &json!("stopped")));
    assert_eq!(answer_for(&client, "u").await, "stable");
    let shown = gateway.get("/experiments/int8").await;
    assert_eq!(shown["revision"], if put.status == 200 { 3 } else { 2 });
    assert_eq!(shown["state"], "stopped");
    let resumed = gateway.set_weights("int8", json!({"canary": 100, "stable": 0})).await;
    assert_eq!(resumed.status, 200, "{}", resumed.text());
    assert_eq!(answer_for(&client, "u").await, "canary", "the kill switch is off again");
}

/// What happened: a caller that went away while its change was being stored left it stored and not in
/// force, and every later change was refused, because that revision was there already.
#[tokio::test]
async fn a_change_whose_caller_went_away_is_made_to_its_end() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let lock = rusqlite::Connection::open(gateway.prepared.dir.join("weir.db")).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let body = json!({"weights": {"canary": 90}}).to_string();
    let left = gateway
        .api()
        .request("PUT", &format!("{INT8}/weights"), body)
        .header("if-match", "\"1\"")
        .within(millis(300))
        .attempt()
        .await;
    assert!(left.is_err(), "the lock has no effect");
    lock.execute_batch("ROLLBACK").unwrap();

    let mut changed = gateway.set_weights("int8", json!({"stable": 60, "canary": 40})).await;
    let patience = Instant::now();
    while changed.status != 200 && patience.elapsed() < millis(10_000) {
        tokio::time::sleep(millis(100)).await;
        changed = gateway.set_weights("int8", json!({"stable": 60, "canary": 40})).await;
    }
    assert_eq!(changed.status, 200, "{}", changed.text());
    let newest = changed.json()["revision"].as_u64().unwrap();
    let history = gateway.get("/experiments/int8/history").await;
    let rows = history["revisions"].as_array().unwrap();
    let revisions: Vec<u64> = rows.iter().map(|row| row["revision"].as_u64().unwrap()).collect();
    assert_eq!(revisions, (1..=newest).rev().collect::<Vec<_>>());
}
