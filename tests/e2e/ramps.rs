//! Ramps from outside: shares move by themselves, on evidence, once each, whatever happens meanwhile.
//!
//! Schedules are shortened to seconds; what a guardrail must show is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use weir_tests::{ADMIN_KEY, Backend, Client, Gateway, backend, gateway, millis, seconds, until};

use crate::experiments::split;

pub(crate) const PATH: &str = "/v1/chat/completions";
pub(crate) const RAMP: &str = "/api/v1/experiments/int8/ramp";

/// Every request is dealt anew, so a few clients are enough.
pub(crate) fn by_request(stable: &Backend, canary: &Backend) -> String {
    split(stable, canary, (100, 0)).replace("[\"header:x-user-id\"]", "[\"request\"]")
}

/// Requests without end, from several connections, until dropped.
pub(crate) struct Load(
    Arc<AtomicBool>,
    #[expect(dead_code, reason = "aborts its tasks when dropped")] JoinSet<()>,
);

impl Load {
    pub(crate) fn on(client: &Client) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..24 {
            let (client, over) = (client.clone(), Arc::clone(&over));
            tasks.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    // A gateway that restarts refuses some.
                    if client.post(PATH, "{}").attempt().await.is_err() {
                        tokio::time::sleep(millis(20)).await;
                    }
                }
            });
        }
        Self(over, tasks)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn quick() -> Value {
    json!({
        "variant": "canary",
        "warm_up": { "share": 0.2, "min_time": "0s", "min_exposures": 20 },
        "steps": [
            { "share": 0.3, "min_time": "1s", "min_exposures": 100, "failed_margin": 2.0,
              "failed_ceiling": 0.05, "latency_margin": 1.0, "p99_margin": 3.0 },
            { "share": 0.5, "min_time": "1s", "min_exposures": 100, "failed_margin": 2.0,
              "failed_ceiling": 0.05, "latency_margin": 1.0, "p99_margin": 3.0 },
        ],
        "verify": { "share": 0.9, "min_time": "1s" },
        "guardrails": [
            { "metric": "failed" }, { "metric": "client_error" }, { "metric": "latency_p50" },
            { "metric": "latency_p99" },
        ],
    })
}

/// Only failures are looked at: what a busy machine makes slow decides nothing.
fn of_failures() -> Value {
    let mut ramp = quick();
    ramp["guardrails"] = json!([{ "metric": "failed" }, { "metric": "client_error" }]);
    ramp
}

/// A ramp that stays in its only step.
pub(crate) fn patient() -> Value {
    let mut ramp = quick();
    ramp["steps"] = json!([{ "share": 0.5, "min_time": "10m" }]);
    ramp
}

pub(crate) async fn started(api: &Client, ramp: &Value) -> Value {
    let answer = api.post(RAMP, ramp.to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

pub(crate) async fn state(api: &Client) -> Value {
    api.get(RAMP).await.json()
}

/// Waits until the ramp is in this state.
pub(crate) async fn becomes(api: &Client, wanted: &str) -> Value {
    let last = Arc::new(parking_lot::Mutex::new(Value::Null));
    let seen = Arc::clone(&last);
    until_is(api, seconds(100), move |now| {
        *seen.lock() = now.clone();
        now["state"] == wanted
    })
    .await;
    last.lock().clone()
}

pub(crate) async fn until_is(
    api: &Client,
    limit: std::time::Duration,
    is: impl Fn(&Value) -> bool,
) {
    let end = tokio::time::Instant::now() + limit;
    loop {
        let now = state(api).await;
        if is(&now) {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "still {now:#}");
        tokio::time::sleep(millis(100)).await;
    }
}

pub(crate) fn actions(ramp: &Value) -> Vec<(String, String)> {
    let word = |made: &Value, name: &str| made[name].as_str().unwrap().to_owned();
    let mut made: Vec<_> = ramp["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|made| (word(made, "action"), word(made, "reason")))
        .collect();
    made.reverse();
    made
}

pub(crate) fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(action, reason)| ((*action).to_owned(), (*reason).to_owned())).collect()
}

const WHOLE: [(&str, &str); 5] = [
    ("start", "by_hand"),
    ("widen", "time_passed"),
    ("widen", "held"),
    ("widen", "held"),
    ("promote", "time_passed"),
];

pub(crate) async fn pair(canary: weir_tests::BackendBuilder) -> (Backend, Backend) {
    (backend().answers("stable").delay(millis(5)).start().await, canary.start().await)
}

pub(crate) fn healthy() -> weir_tests::BackendBuilder {
    backend().answers("canary").delay(millis(5))
}

/// Fails every third request.
pub(crate) fn failing() -> weir_tests::BackendBuilder {
    healthy().every(3, backend().status(500).answers("no"))
}

pub(crate) async fn serving(canary: weir_tests::BackendBuilder) -> (Gateway, Backend, Backend) {
    let (stable, canary) = pair(canary).await;
    let gateway = gateway(by_request(&stable, &canary)).start().await;
    (gateway, stable, canary)
}

/// One server behind both backends: what a busy machine makes slow is slow for both, so that nothing
/// but Weir could tell them apart.
pub(crate) async fn twins() -> (Gateway, Backend) {
    let both = healthy().counts_only().start().await;
    let gateway = gateway(by_request(&both, &both)).start().await;
    (gateway, both)
}

#[tokio::test]
async fn a_canary_that_fails_is_rolled_back_with_its_evidence_in_the_audit_log() {
    let (gateway, _stable, canary) = serving(failing()).await;
    let api = gateway.api();
    let begun = started(&api, &of_failures()).await;
    assert_eq!((&begun["state"], &begun["share"]), (&json!("running"), &json!(0.2)));
    let load = Load::on(&gateway.client());
    let over = becomes(&api, "rolled_back").await;
    assert_eq!(over["share"], 0.0);
    let decided = &over["decisions"][0];
    assert_eq!((&decided["action"], &decided["reason"]), (&json!("roll_back"), &json!("breached")));
    let guardrail = &decided["evidence"]["guardrails"][0];
    assert_eq!(guardrail["metric"], "failed");
    assert!(
        guardrail["log_e_harm"].as_f64() >= guardrail["thresholds"]["breach"].as_f64(),
        "{guardrail:#}"
    );

    let shown = gateway.get("/experiments/int8").await;
    assert_eq!(shown["variants"]["canary"]["share"], 0.0);
    assert_eq!((&shown["source"], &shown["changed_by"]), (&json!("ramp"), &json!("ramp")));
    let entry = gateway.get("/audit").await["items"][0].clone();
    assert_eq!(entry["action"], "ramp.roll_back");
    assert_eq!(entry["after"]["ramp"]["evidence"]["guardrails"][0]["metric"], "failed");
    assert!(entry["reason"].as_str().unwrap().contains("guardrail failed is breached"), "{entry}");
    let series =
        "weir_ramp_decisions_total{experiment=\"int8\",decision=\"roll_back\",reason=\"breached\"}";
    assert_eq!(gateway.metric(series).await, 1.0);
    let series = "weir_ramp_state{experiment=\"int8\",state=\"rolled_back\"}";
    assert_eq!(gateway.metric(series).await, 1.0);

    // Results hold it to what the ramp held it to: one evidence has one verdict.
    let results = gateway.get("/experiments/int8/results").await;
    let of = &results["variants"]["canary"];
    assert_eq!(of["words"], "canary fails more often than stable: roll it back", "{results:#}");
    assert_eq!(
        of["versus_control"]["error_rate"]["thresholds"]["breach"],
        guardrail["thresholds"]["breach"]
    );

    // It stays back, and begins again neither by itself nor before it has cooled down.
    drop(load);
    canary.forget();
    for _ in 0..50 {
        gateway.client().post(PATH, "{}").await;
    }
    assert_eq!(canary.calls(), 0);
    let refused = api.post(RAMP, "{}").await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["type"]),
        (409.try_into().unwrap(), &json!("cooling_down"))
    );
}

#[tokio::test]
async fn a_healthy_canary_goes_through_every_step_to_its_promotion() {
    let (gateway, _both) = twins().await;
    let api = gateway.api();
    started(&api, &quick()).await;
    let refused = api.post(RAMP, "{}").await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    let _load = Load::on(&gateway.client());
    let over = becomes(&api, "promoted").await;
    assert_eq!(actions(&over), pairs(&WHOLE));
    assert_eq!(over["share"], 1.0);
    let history = gateway.get("/experiments/int8/history").await;
    let shares: Vec<_> = history["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|revision| revision["weights"]["canary"].as_f64().unwrap())
        .collect();
    assert_eq!(shares, [100.0, 90.0, 50.0, 30.0, 20.0, 0.0]);
    let guardrail = &over["guardrails"][0];
    let points = guardrail["series"].as_array().unwrap().len();
    assert!((2..=200).contains(&points), "{points} points");
}

#[tokio::test]
async fn a_canary_that_is_slow_in_its_slowest_answers_only_is_rolled_back() {
    let (gateway, _stable, _canary) =
        serving(healthy().every(25, backend().answers("canary").delay(millis(400)))).await;
    let api = gateway.api();
    let mut ramp = patient();
    ramp["guardrails"] = json!([{ "metric": "failed" }, { "metric": "latency_p99" }]);
    started(&api, &ramp).await;
    let _load = Load::on(&gateway.client());
    let over = becomes(&api, "rolled_back").await;
    assert_eq!(over["decisions"][0]["evidence"]["guardrails"][0]["metric"], "latency_p99");
}

#[tokio::test]
async fn a_pause_freezes_the_share_and_judging_goes_on() {
    let (gateway, _stable, canary) = serving(healthy()).await;
    let api = gateway.api();
    let mut ramp = quick();
    ramp["warm_up"]["share"] = json!(0.3);
    ramp["steps"][0]["share"] = json!(0.4);
    started(&api, &ramp).await;
    let paused = api.post(&format!("{RAMP}/pause"), r#"{"reason":"lunch"}"#).await;
    assert_eq!((paused.status.as_u16(), &paused.json()["state"]), (200, &json!("paused")));
    assert_eq!(api.post(&format!("{RAMP}/pause"), "").await.status, 409);
    let _load = Load::on(&gateway.client());
    // Everything that would widen it is there.
    until_is(&api, seconds(60), |now| {
        let judged = now["guardrails"][0]["exposures"]["treated"].as_u64();
        judged.is_some_and(|treated| treated > 200)
    })
    .await;
    let still = state(&api).await;
    assert_eq!((&still["state"], &still["share"]), (&json!("paused"), &json!(0.3)));
    canary.becomes(failing());
    let over = becomes(&api, "rolled_back").await;
    assert_eq!(over["decisions"][0]["reason"], "breached");
}

#[tokio::test]
async fn a_restart_goes_on_where_the_ramp_stood() {
    let (gateway, _both) = twins().await;
    started(&gateway.api(), &quick()).await;
    let load = Load::on(&gateway.client());
    let api = gateway.api();
    until_is(&api, seconds(60), |now| now["step"] == 1).await;
    let before = state(&api).await;
    drop(load);
    let gateway = gateway.restart().await;
    let api = gateway.api();
    let after = state(&api).await;
    for same in ["state", "began_at", "variant", "evidence_from_revision", "steps"] {
        assert_eq!(before[same], after[same], "{same}");
    }
    let _load = Load::on(&gateway.client());
    let over = becomes(&api, "promoted").await;
    assert_eq!(actions(&over), pairs(&WHOLE));
}

/// F18: a step is neither skipped nor made twice, although the process is killed right at each.
#[tokio::test]
async fn f18_a_kill_at_every_decision_neither_skips_nor_repeats_one() {
    let (stable, canary) = pair(healthy()).await;
    let prepared = gateway(by_request(&stable, &canary)).write();
    let mut process = prepared.spawn().await;
    // Every kill makes connections cold, those of the variant with less traffic for longer: what is slow
    // by that is not looked at here.
    started(&process.api(), &of_failures()).await;
    for _ in 0..6 {
        let _load = Load::on(&process.client(ADMIN_KEY));
        let before = actions(&state(&process.api()).await).len();
        let limit = tokio::time::Instant::now() + seconds(60);
        while before < WHOLE.len() && process.events("weir.ramp.decided").is_empty() {
            assert!(tokio::time::Instant::now() < limit, "{:#}", state(&process.api()).await);
            tokio::time::sleep(millis(2)).await;
        }
        process.kill();
        assert!(process.exit(seconds(10)).await.is_none_or(|code| code != 0));
        process = prepared.spawn().await;
    }
    let over = state(&process.api()).await;
    assert_eq!(actions(&over), pairs(&WHOLE), "{over:#}");
    let revisions = process.get("/experiments/int8/history").await;
    assert_eq!(revisions["revisions"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn the_kill_switch_pauses_a_ramp_and_nothing_moves_until_somebody_resumes_it() {
    let (gateway, _both) = twins().await;
    let api = gateway.api();
    started(&api, &quick()).await;
    let _load = Load::on(&gateway.client());
    assert_eq!(api.post("/api/v1/experiments/int8/stop", "").await.status, 200);
    becomes(&api, "paused").await;
    let refused = api.post(&format!("{RAMP}/resume"), "").await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["error"]["type"]),
        (409, &json!("not_running"))
    );
    let shown = gateway.get("/experiments/int8").await;
    assert_eq!(shown["state"], "stopped");
    let etag = format!("\"{}\"", shown["revision"]);
    let undone = api.post("/api/v1/experiments/int8/undo", "").header("if-match", &etag).await;
    assert_eq!(undone.status, 200, "{}", undone.text());
    assert_eq!(api.post(&format!("{RAMP}/resume"), "").await.status, 200);
    becomes(&api, "promoted").await;
}

#[tokio::test]
async fn a_hand_that_widens_is_followed_and_a_stale_one_is_told() {
    let (gateway, _stable, _canary) = serving(healthy()).await;
    let api = gateway.api();
    let begun = started(&api, &patient()).await;
    let stale = api
        .request("PUT", "/api/v1/experiments/int8/weights", r#"{"weights":{"canary":1}}"#)
        .header("if-match", "\"1\"")
        .await;
    assert_eq!(stale.status, 412, "{}", stale.text());
    assert_eq!(stale.json()["error"]["details"][0]["current"], begun["revision"]);
    let changed = gateway.set_weights("int8", json!({ "stable": 40, "canary": 60 })).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert!(changed.json()["note"].as_str().unwrap().contains("is under way"));
    assert_eq!(changed.json()["ramp"]["state"], "running");
    let _load = Load::on(&gateway.client());
    until_is(&api, seconds(30), |now| now["step"] == 1 && now["share"] == 0.6).await;
    // Nobody lowers it again.
    let aborted = api.post(&format!("{RAMP}/abort"), "").await.json();
    assert_eq!((&aborted["state"], &aborted["share"]), (&json!("aborted"), &json!(0.0)));
}

/// "If `T` slows `C` down, ratios see nothing": the route's own line pauses and asks a person.
#[tokio::test]
async fn a_route_that_misses_its_objective_pauses_the_ramp_and_blames_nobody() {
    let (gateway, _stable, _canary) = serving(healthy()).await;
    let api = gateway.api();
    let mut ramp = patient();
    ramp["objective"] = json!({ "metric": "latency_p50", "below": "1ms", "for": "1s" });
    started(&api, &ramp).await;
    let _load = Load::on(&gateway.client());
    let paused = becomes(&api, "paused").await;
    let decided = &paused["decisions"][0];
    assert_eq!((&decided["action"], &decided["reason"]), (&json!("pause"), &json!("objective")));
    assert!(paused["share"].as_f64() >= Some(0.2), "{paused:#}");
    assert_eq!(paused["objective"]["below"], 0.001);
    let entry = gateway.get("/audit").await["items"][0].clone();
    assert_eq!(entry["action"], "ramp.pause", "webhooks tell what stands there");

    let bad = json!({ "objective": { "metric": "failed", "below": "2", "until": 1 } });
    let answer = gateway.api().post("/api/v1/experiments/int8/ramp", bad.to_string()).await;
    let text = answer.text();
    assert!(text.contains("objective.below") && text.contains("objective.until"), "{text}");
}

/// A cool-down is the variant's: ramping another one meanwhile does not end it.
#[tokio::test]
async fn a_variant_cools_down_even_if_another_one_is_ramped_meanwhile() {
    let (stable, canary) = pair(failing()).await;
    let next = healthy().start().await;
    let text = by_request(&stable, &canary)
        .replace(
            "[routes.chat]",
            &format!("[backends.next]\nendpoints = [\"{}\"]\n[routes.chat]", next.url()),
        )
        .replace(
            "[experiments.int8.variants]",
            "[experiments.int8.variants]\nnext = { backend = \"next\", weight = 0 }",
        );
    let gateway = gateway(text).start().await;
    let api = gateway.api();
    started(&api, &of_failures()).await;
    let load = Load::on(&gateway.client());
    becomes(&api, "rolled_back").await;
    drop(load);
    let mut other = of_failures();
    other["variant"] = json!("next");
    let begun = started(&api, &other).await;
    assert_eq!((&begun["variant"], &begun["rollbacks"]), (&json!("next"), &json!(1)));
    assert_eq!(begun["decisions"][1]["variant"], "canary", "whose the rollback was is kept");
    assert_eq!(api.post(&format!("{RAMP}/abort"), "").await.status, 200);
    let refused = api.post(RAMP, quick().to_string()).await;
    assert_eq!(refused.json()["error"]["type"], "cooling_down", "{}", refused.text());
    // And after a restart.
    let gateway = gateway.restart().await;
    let refused = gateway.api().post(RAMP, quick().to_string()).await;
    assert_eq!(refused.json()["error"]["type"], "cooling_down", "{}", refused.text());
}

/// A control of the same size, started at the same time: what old control does is no measure.
#[tokio::test]
async fn an_equal_control_grows_with_the_variant_and_is_what_it_is_judged_by() {
    let (stable, canary) = pair(healthy()).await;
    let twin = healthy().start().await;
    let text = by_request(&stable, &canary)
        .replace(
            "[routes.chat]",
            &format!("[backends.twin]\nendpoints = [\"{}\"]\n[routes.chat]", twin.url()),
        )
        .replace(
            "[experiments.int8.variants]",
            "[experiments.int8.variants]\ntwin = { backend = \"twin\", weight = 0 }",
        );
    let gateway = gateway(text).start().await;
    // Control is ten times as slow: against it the variant would look good whatever it did.
    stable.becomes(backend().answers("stable").delay(millis(50)));
    let api = gateway.api();
    let mut ramp = quick();
    ramp["control_cell"] = json!("twin");
    ramp["guardrails"] = json!([{ "metric": "failed" }]);
    ramp.as_object_mut().unwrap().remove("verify");
    let begun = started(&api, &ramp).await;
    assert_eq!((&begun["control_cell"], &begun["share"]), (&json!("twin"), &json!(0.2)));
    let _load = Load::on(&gateway.client());
    let over = becomes(&api, "promoted").await;
    for made in over["decisions"].as_array().unwrap().iter().filter(|made| made["reason"] == "held")
    {
        let seen = &made["evidence"]["guardrails"][0]["exposures"];
        let (treated, control) =
            (seen["treated"].as_f64().unwrap(), seen["control"].as_f64().unwrap());
        assert!((0.6..1.6).contains(&(treated / control)), "about as many: {seen}");
    }
    let history = gateway.get("/experiments/int8/history").await;
    let cells: Vec<_> = history["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|revision| revision["weights"]["twin"].as_f64().unwrap())
        .collect();
    assert_eq!(cells, [0.0, 20.0, 30.0, 50.0, 0.0]);
}

#[tokio::test]
async fn a_variant_that_gets_nothing_although_it_should_is_rolled_back() {
    let (gateway, _stable, _canary) = serving(healthy()).await;
    let api = gateway.api();
    started(&api, &patient()).await;
    // As if what deals were broken: hashing deals a fifth to it.
    let shared = gateway.running.as_ref().unwrap().shared();
    shared.evidence.with_known("int8", |known| {
        let control = known.number("stable").unwrap();
        known.evidence.open(2, &[8_000, 2_000]);
        let exposure =
            policies::evidence::Exposure { revision: 2, variant: control, ..Default::default() };
        known.evidence.add_many(&exposure, 2_000);
    });
    let over = becomes(&api, "rolled_back").await;
    assert_eq!(over["decisions"][0]["reason"], "no_traffic");
}

#[tokio::test]
async fn a_rollback_is_in_force_without_the_store_and_stored_when_it_is_back() {
    let (gateway, _stable, _canary) = serving(failing()).await;
    let api = gateway.api();
    started(&api, &patient()).await;
    let store = rusqlite::Connection::open(gateway.prepared.dir.join("weir.db")).unwrap();
    store.busy_timeout(seconds(5)).unwrap();
    for table in ["revisions", "ramp_decisions"] {
        let cut = format!(
            "CREATE TRIGGER cut_{table} BEFORE INSERT ON {table}
             BEGIN SELECT RAISE(ABORT, 'as on a disk that is full'); END"
        );
        store.execute_batch(&cut).unwrap();
    }
    let load = Load::on(&gateway.client());
    let over = becomes(&api, "rolled_back").await;
    assert_eq!(over["share"], 0.0);
    drop(load);
    let newest = || -> i64 {
        store.query_row("SELECT max(revision) FROM revisions", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(gateway.get("/experiments/int8").await["revision"], newest() + 1);
    store.execute_batch("DROP TRIGGER cut_revisions; DROP TRIGGER cut_ramp_decisions").unwrap();
    let wanted = newest() + 1;
    until(seconds(30), || newest() == wanted).because("it is stored").await;
    let gateway = gateway.restart().await;
    let after = state(&gateway.api()).await;
    assert_eq!((&after["state"], &after["share"]), (&json!("rolled_back"), &json!(0.0)));
    assert_eq!(actions(&after), pairs(&[("start", "by_hand"), ("roll_back", "breached")]));
}

#[tokio::test]
async fn what_is_wrong_with_a_ramp_is_told_member_by_member_and_viewers_may_only_look() {
    let (gateway, _stable, _canary) = serving(healthy()).await;
    let api = gateway.api();
    let bad = json!({
        "variant": "canry", "patience": 7, "surprise": 1,
        "steps": [{ "share": 0.5, "min_time": "soon" }, { "share": 7 }, {}],
        "guardrails": [{ "metric": "luck" }],
    });
    let answer = api.post(RAMP, bad.to_string()).await;
    assert_eq!(answer.status, 400);
    let error = answer.json()["error"].clone();
    let fields: Vec<&str> =
        error["details"].as_array().unwrap().iter().map(|d| d["field"].as_str().unwrap()).collect();
    for field in [
        "variant",
        "patience",
        "surprise",
        "steps[0].min_time",
        "steps[1].share",
        "steps[2].share",
        "guardrails[0]",
    ] {
        assert!(fields.contains(&field), "{field} is not among {fields:?}");
    }
    let falling = json!({ "steps": [{ "share": 0.5 }, { "share": 0.2 }] });
    let answer = api.post(RAMP, falling.to_string()).await;
    assert_eq!(answer.json()["error"]["details"][0]["field"], "steps[1].share");
    assert_eq!(api.get(RAMP).await.status, 404);
    assert_eq!(api.post("/api/v1/experiments/none/ramp", "{}").await.status, 404);

    let viewer = gateway.make_key("viewer", json!({})).await;
    let viewer = Client::plain(gateway.admin).bearer(&viewer);
    assert_eq!(viewer.post(RAMP, "{}").await.status, 403);
    let experimenter = gateway.make_key("experimenter", json!({})).await;
    let experimenter = Client::plain(gateway.admin).bearer(&experimenter);
    assert_eq!(experimenter.post(RAMP, "{}").await.status, 201);
    assert_eq!(viewer.get(RAMP).await.json()["step"], 0);
    assert_eq!(viewer.post(&format!("{RAMP}/abort"), "").await.status, 403);
}
