//! What verdicts and ramps promise, from outside: harm is found, health goes all the way, and one
//! client is one client. Schedules are shortened to seconds; what a guardrail must show is not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http::Response;
use policies::statistics::attribution::{Epoch, log_e_harm};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use weir_tests::{
    Backend, BackendBuilder, Client, Gateway, Seen, backend, gateway, millis, seconds, until_async,
};

use crate::experiments::split;
use crate::ramps::{Load, PATH, RAMP, actions, becomes, by_request, pairs, started, twins};

/// The four steps as they are by default, with their margins, but for shares and times: what has to be
/// shown before a share grows stays as it is.
fn shortened() -> Value {
    let step = |share: f64, margins: [f64; 4]| {
        json!({
            "share": share, "min_time": "1s", "min_exposures": 100,
            "failed_margin": margins[0], "failed_ceiling": margins[1],
            "latency_margin": margins[2], "p99_margin": margins[3],
        })
    };
    json!({
        "variant": "canary",
        "warm_up": { "share": 0.2, "min_time": "1s", "min_exposures": 50 },
        "steps": [
            step(0.3, [2.0, 0.02, 1.0, 1.0]),
            step(0.4, [1.0, 0.01, 0.5, 0.5]),
            step(0.45, [0.5, 0.005, 0.25, 0.35]),
            step(0.5, [0.25, 0.002, 0.15, 0.25]),
        ],
        "verify": { "share": 0.98, "min_time": "1s" },
    })
}

/// One server behind both backends, told apart by the `host` that it is asked for, so that what a busy
/// machine makes slow is slow for both. It fails one request of so many, of stable's and of canary's.
async fn failing_apart(periods: [u64; 2]) -> (Gateway, Backend) {
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let both = backend().counts_only().handler(move |seen: Seen| {
        let side = usize::from(seen.header("host") == Some("canary"));
        let failed = (counts[side].fetch_add(1, Relaxed) + 1).is_multiple_of(periods[side]);
        async move {
            tokio::time::sleep(millis(5)).await;
            let status = if failed { 500 } else { 200 };
            Response::builder().status(status).body(Bytes::from_static(b"{}")).unwrap()
        }
    });
    let both = both.start().await;
    let text = by_request(&both, &both)
        .replace("[backends.canary]", "[backends.canary]\nhost = \"canary\"");
    let gateway = gateway(text).start().await;
    (gateway, both)
}

fn entry_of<'a>(audit: &'a Value, action: &str) -> &'a Value {
    let items = audit["items"].as_array().unwrap();
    items.iter().find(|entry| entry["action"] == action).unwrap()
}

#[tokio::test]
async fn a_canary_that_fails_three_percent_against_one_is_rolled_back_with_the_evidence_in_the_audit_log()
 {
    let (gateway, _both) = failing_apart([100, 33]).await;
    let api = gateway.api();
    let mut ramp = shortened();
    ramp["warm_up"] = Value::Null;
    ramp["steps"][0]["share"] = json!(0.25);
    started(&api, &ramp).await;
    let load = Load::on(&gateway.client());
    let over = becomes(&api, "rolled_back").await;
    drop(load);
    assert_eq!(actions(&over), pairs(&[("start", "by_hand"), ("roll_back", "breached")]));
    assert_eq!(over["share"], 0.0);

    let audit = gateway.get("/audit").await;
    let entry = entry_of(&audit, "ramp.roll_back");
    let evidence = &entry["after"]["ramp"]["evidence"];
    let failed = &evidence["guardrails"][0];
    assert_eq!((&failed["metric"], &failed["verdict"]), (&json!("failed"), &json!("breached")));
    let (harm, breach) =
        (failed["log_e_harm"].as_f64().unwrap(), failed["thresholds"]["breach"].as_f64().unwrap());
    // Five guardrails share 5 %: none of that was loosened.
    assert!(harm >= breach && (breach - 100_f64.ln()).abs() < 1e-9, "{failed:#}");
    let [of_canary, of_stable] = [0, 1].map(|at| {
        let (events, all) =
            (failed["events"][at].as_f64().unwrap(), failed["exposures"][at].as_f64().unwrap());
        events / all
    });
    assert!(
        (0.02..0.045).contains(&of_canary) && (0.005..0.015).contains(&of_stable),
        "{failed:#}"
    );
    let counted: u64 = evidence["epochs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|epoch| epoch["exposures"][0].as_u64().unwrap())
        .sum();
    assert_eq!(counted, failed["exposures"][0].as_u64().unwrap());
    assert_eq!(entry["before"]["weights"], json!({ "stable": 75.0, "canary": 25.0 }));
    assert_eq!(entry["after"]["weights"], json!({ "stable": 100.0, "canary": 0.0 }));
}

#[tokio::test]
async fn a_healthy_pair_is_promoted_through_all_steps_on_the_evidence_that_is_asked_for_by_default()
{
    let (gateway, _both) = twins().await;
    let api = gateway.api();
    started(&api, &shortened()).await;
    let load = Load::on(&gateway.client());
    let over = becomes(&api, "promoted").await;
    drop(load);
    let whole = [
        ("start", "by_hand"),
        ("widen", "time_passed"),
        ("widen", "held"),
        ("widen", "held"),
        ("widen", "held"),
        ("widen", "held"),
        ("promote", "time_passed"),
    ];
    assert_eq!(actions(&over), pairs(&whole), "{over:#}");
    // Before each step every one of the five default guardrails held at that step's margins.
    let held = over["decisions"].as_array().unwrap().iter().filter(|made| made["reason"] == "held");
    let margins: Vec<f64> = held
        .map(|made| {
            let judged = made["evidence"]["guardrails"].as_array().unwrap();
            let metrics: Vec<&str> =
                judged.iter().map(|each| each["metric"].as_str().unwrap()).collect();
            assert_eq!(
                metrics,
                ["failed", "client_error", "latency_p50", "latency_p95", "latency_p99"]
            );
            assert!(judged.iter().all(|each| each["verdict"] == "held"), "{made:#}");
            judged[0]["thresholds"]["margin"].as_f64().unwrap()
        })
        .collect();
    assert_eq!(margins, [0.25, 0.5, 1.0, 2.0], "newest first");
    let history = gateway.get("/experiments/int8/history").await;
    let shares: Vec<f64> = history["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|revision| revision["weights"]["canary"].as_f64().unwrap())
        .collect();
    assert_eq!(shares, [100.0, 98.0, 50.0, 45.0, 40.0, 30.0, 20.0, 0.0]);
}

/// Users whose requests fail, and one who alone makes 30 % of the canary's failures.
struct Users {
    all: Vec<String>,
    heavy: String,
}

impl Users {
    fn fails(user: &str) -> bool {
        user.starts_with("heavy")
            || user.bytes().last().is_some_and(|last| last.is_ascii_digit() && last < b'3')
    }

    /// As many users who fail, and as many who do not, on either side: which names those are depends on
    /// the installation's key.
    async fn dealt(gateway: &Gateway) -> Self {
        let variant = async |user: &str| {
            let dealt = gateway.get(&format!("/experiments/int8/assign?unit={user}")).await;
            dealt["variant"].as_str().unwrap().to_owned()
        };
        let mut heavy = String::from("heavy-0x");
        for number in 1.. {
            if variant(&heavy).await == "canary" {
                break;
            }
            heavy = format!("heavy-{number}x");
        }
        let (mut all, mut room) = (vec![], BTreeMap::new());
        for number in 0.. {
            let user = format!("user-{number}");
            let fails = Self::fails(&user);
            let side = (variant(&user).await, fails);
            let left = room.entry(side).or_insert(if fails { 60 } else { 140 });
            if *left > 0 {
                *left -= 1;
                all.push(user);
            }
            if all.len() == 400 {
                break;
            }
        }
        Self { all, heavy }
    }

    /// A backend that fails three users of ten, whoever asks it, and counts how often.
    fn backend(count: &Arc<AtomicU64>) -> BackendBuilder {
        let count = Arc::clone(count);
        backend().counts_only().handler(move |seen: Seen| {
            let failed = Self::fails(seen.header("x-user-id").unwrap_or_default());
            count.fetch_add(u64::from(failed), Relaxed);
            async move {
                let status = if failed { 500 } else { 200 };
                Response::builder().status(status).body(Bytes::from_static(b"{}")).unwrap()
            }
        })
    }

    /// Everybody sends `each` requests, and the heavy one as many as makes 30 % of canary's failures.
    async fn send(&self, client: &Client, each: usize, heavy: usize) {
        let mut tasks = JoinSet::new();
        let mut chunks: Vec<Vec<String>> = self.all.chunks(20).map(<[String]>::to_vec).collect();
        chunks.push(vec![self.heavy.clone(); heavy / each]);
        for users in chunks {
            let client = client.clone();
            tasks.spawn(async move {
                for _ in 0..each {
                    for user in &users {
                        client.post(PATH, "{}").header("x-user-id", user).await;
                    }
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }
}

#[tokio::test]
async fn a_client_that_alone_makes_30_percent_of_the_canarys_failures_rolls_back_no_sticky_experiment()
 {
    let (of_stable, of_canary) = (Arc::default(), Arc::default());
    let stable = Users::backend(&of_stable).start().await;
    let canary = Users::backend(&of_canary).start().await;
    let gateway = gateway(split(&stable, &canary, (100, 0))).start().await;
    let api = gateway.api();
    let begun = started(
        &api,
        &json!({
            "variant": "canary", "warm_up": null, "guardrails": [{ "metric": "failed" }],
            "steps": [{ "share": 0.5, "min_time": "10m" }],
        }),
    )
    .await;
    let users = Users::dealt(&gateway).await;
    // 60 users of canary fail 24 times each; the heavy one 624 times is three tenths of all.
    users.send(&gateway.client(), 24, 624).await;

    let (failed, by_heavy) = (of_canary.load(Relaxed), 624.0);
    let part = by_heavy / failed as f64;
    assert!((0.27..0.34).contains(&part), "{by_heavy} of {failed}");
    // The test could not fail if requests were judged and that were no breach.
    let by_requests = Epoch { pi: 0.5, treated: failed, control: of_stable.load(Relaxed) };
    let log_e = log_e_harm(&[by_requests], 1.2);
    assert!(log_e > 20_f64.ln() + 1.0, "counted by requests it is no breach: {log_e}");

    // Everything is counted, and looked at more than once since.
    let sent = canary.calls() as u64;
    let counted = || async {
        let now = api.get(RAMP).await.json();
        let judged = now["guardrails"][0].clone();
        (now["state"].as_str().unwrap().to_owned(), judged)
    };
    until_async(seconds(30), || async {
        let results = gateway.get("/experiments/int8/results").await;
        let seen = results["variants"]["canary"]["requests"].as_u64();
        if seen == Some(sent) { Ok(()) } else { Err(format!("{seen:?} of {sent}")) }
    })
    .await;
    tokio::time::sleep(millis(2_500)).await;
    let (state, judged) = counted().await;
    assert_eq!(state, "running", "{judged:#}");
    assert_ne!(judged["verdict"], "breached", "{judged:#}");
    let affected = judged["events"]["treated"].as_u64().unwrap();
    assert!((40..90).contains(&affected), "units, not requests: {judged:#}");
    assert_eq!(gateway.get("/experiments/int8").await["revision"], begun["revision"]);
    let results = gateway.get("/experiments/int8/results").await;
    assert_ne!(results["variants"]["canary"]["verdict"], "worse", "{results:#}");
}
