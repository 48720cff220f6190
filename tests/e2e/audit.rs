//! The audit log from outside: who verifies it finds what was done to it, and reading what is sensitive
//! leaves its entry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use serde_json::{Value, json};
use weir_tests::{
    ADMIN_KEY, Answer, Client, Gateway, Process, backend, gateway, millis, seconds, weir_program,
};

use crate::experiments::{split, two};
use crate::ramps::PATH;

const INT8: &str = "/api/v1/experiments/int8";

/// `weir` as somebody types it who has the admin key.
fn weir(admin: std::net::SocketAddr, words: &[&str]) -> Output {
    Command::new(weir_program())
        .args(words)
        .env("WEIR_ADMIN", format!("http://{admin}"))
        .env("WEIR_TOKEN", ADMIN_KEY)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What somebody does who has the file and no scruples: past the triggers, which are put back.
fn tamper(dir: &Path, change: &str) {
    let store = Connection::open(dir.join("weir.db")).unwrap();
    let mut guards: Vec<String> = Vec::new();
    {
        let sql =
            "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'audit'";
        let mut statement = store.prepare(sql).unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut names: Vec<String> = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            names.push(row.get(0).unwrap());
            guards.push(row.get(1).unwrap());
        }
        drop(rows);
        for name in names {
            store.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
        }
    }
    assert!(guards.len() >= 3, "{guards:?}");
    store.execute_batch(change).unwrap();
    for guard in guards {
        store.execute_batch(&guard).unwrap();
    }
}

async fn stopped(process: Process) {
    process.signal("TERM");
    assert_eq!(process.exit(seconds(20)).await, Some(0), "{}", process.stderr());
}

/// D8, from outside: whatever was done to the file while nobody looked, `weir audit verify` says so.
#[tokio::test]
async fn d8_a_log_that_was_changed_or_cut_off_is_found_out() {
    let (_stable, _canary, config) = two().await;
    let prepared = gateway(config).write();
    let process = prepared.spawn().await;
    for canary in [20, 30] {
        let etag = process.api().get(INT8).await.header("etag").unwrap().to_owned();
        let put = json!({"weights": {"canary": canary}, "reason": "half"}).to_string();
        let put = process.api().request("PUT", &format!("{INT8}/weights"), put);
        assert_eq!(put.header("if-match", &etag).await.status, 200);
    }
    let whole = weir(process.admin, &["audit", "verify", "--json"]);
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    let verdict: Value = serde_json::from_slice(&whole.stdout).unwrap();
    let entries = verdict["entries"].as_u64().unwrap();
    assert_eq!((&verdict["intact"], &verdict["head"]["id"]), (&json!(true), &json!(entries)));
    let kept = format!("{entries}:{}", verdict["head"]["hash"].as_str().unwrap());
    let said = weir(process.admin, &["audit", "verify", "--head", &kept]);
    assert!(said.status.success(), "{}", text(&said.stderr));
    let said = text(&said.stdout);
    assert!(said.contains(&format!("{entries} entries")) && said.contains(&kept), "{said}");
    // The log of the process has it too, for whoever collects that.
    let told = process.events("weir.audit.head");
    assert!(told.iter().all(|event| event["hash"].as_str().unwrap().len() == 64), "{told:?}");
    let newest = process.get("/audit?action=weights.set&limit=1").await["items"][0].clone();
    let newest = newest["id"].as_u64().unwrap();
    stopped(process).await;

    // Who moved it, and why, as somebody would like to have it.
    let change = "UPDATE audit SET entry = replace(entry, '\"half\"', '\"all!\"') WHERE id = ";
    tamper(&prepared.dir, &format!("{change}{newest}"));
    let process = prepared.spawn().await;
    let found = weir(process.admin, &["audit", "verify"]);
    assert_eq!(found.status.code(), Some(1), "{}", text(&found.stdout));
    let said = text(&found.stderr);
    assert!(said.contains(&format!("entry {newest} does not follow")), "{said}");
    let verdict = process.get("/audit/verify").await;
    assert_eq!((&verdict["intact"], &verdict["first_bad"]), (&json!(false), &json!(newest)));
    assert_eq!(verdict["entries"], newest - 1, "what is before it fits");
    stopped(process).await;

    // As it was, and then without its end.
    let back = change.replace("'\"half\"', '\"all!\"'", "'\"all!\"', '\"half\"'");
    tamper(&prepared.dir, &format!("{back}{newest}"));
    let process = prepared.spawn().await;
    assert!(weir(process.admin, &["audit", "verify"]).status.success());
    stopped(process).await;
    tamper(&prepared.dir, &format!("DELETE FROM audit WHERE id >= {newest}"));
    let process = prepared.spawn().await;
    let found = weir(process.admin, &["audit", "verify", "--head", &kept]);
    assert_eq!(found.status.code(), Some(1), "{}", text(&found.stdout));
    let said = text(&found.stderr);
    assert!(said.contains("no entry tells of revision 3 of experiment \"int8\""), "{said}");
    assert!(said.contains(&format!("you have kept entry {entries}")), "{said}");
    let bad = weir(process.admin, &["audit", "verify", "--head", "7:abc"]);
    assert_eq!(bad.status.code(), Some(2), "it was asked wrongly");
    assert!(text(&bad.stderr).contains("`head` is not understood"), "{}", text(&bad.stderr));
}

async fn entries(gateway: &Gateway, filter: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = gateway.get(&format!("/audit?limit=1000{filter}{cursor}")).await;
        all.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

#[tokio::test]
async fn reading_what_is_sensitive_leaves_an_entry_and_no_flood_of_them() {
    let (_stable, _canary, config) = two().await;
    let gateway = gateway(config).start().await;
    let key = gateway.make_key("admin", json!({"name": "curious"})).await;
    let curious = Client::plain(gateway.admin).bearer(&key);
    for _ in 0..3 {
        for path in [
            "/api/v1/keys",
            "/api/v1/requests",
            "/api/v1/audit",
            "/debug/config",
            "/api/v1/export/outcomes?experiment=int8",
            "/api/v1/routes",
        ] {
            assert_eq!(curious.get(path).await.status, 200, "{path}");
        }
    }
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for entry in entries(&gateway, "&actor=curious").await {
        assert_eq!(entry["from"], "127.0.0.1");
        *found.entry(entry["action"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let expected = [
        ("audit.read", 1),
        ("config.read", 1),
        ("keys.read", 1),
        ("outcomes.export", 3),
        ("requests.read", 1),
    ];
    let expected = expected.map(|(action, count)| (action.to_owned(), count));
    assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    let exported = &entries(&gateway, "&action=outcomes.export").await[0];
    assert_eq!(exported["after"]["experiment"], "int8", "what was asked for");

    // Filters, and what they may not be.
    let made = entries(&gateway, "&action=key.&target=key/none").await;
    assert!(made.is_empty());
    assert_eq!(entries(&gateway, "&action=experiment.&since=1h").await.len(), 1);
    assert!(entries(&gateway, "&since=2090-01-01T00:00:00Z").await.is_empty());
    assert_eq!(gateway.api().get("/api/v1/audit?since=soon").await.status, 400);
    let shown = weir(gateway.admin, &["audit", "--actor", "curious", "--action", "keys.read"]);
    let shown = text(&shown.stdout);
    assert!(shown.contains("keys.read") && shown.contains("127.0.0.1"), "{shown}");
    assert_eq!(shown.trim().lines().count(), 2, "{shown}");
}

/// Sets weights at the revision that was seen; that revision.
async fn move_weights(api: &Client, canary: usize, reason: &str) -> (u64, Answer) {
    let shown = api.get(INT8).await;
    let etag = shown.header("etag").unwrap().to_owned();
    let seen = shown.json()["revision"].as_u64().unwrap();
    let body = json!({"weights": {"stable": 100 - canary, "canary": canary}, "reason": reason});
    let put = api.request("PUT", &format!("{INT8}/weights"), body.to_string());
    (seen, put.header("if-match", &etag).await)
}

/// A ramp that is begun and taken back without end, while requests let it move by itself.
async fn ramp_on_and_off(api: Client, over: Arc<AtomicBool>) {
    let ramp = json!({
        "variant": "canary", "cool_down": "0s", "afresh": true,
        "warm_up": {"share": 0.2, "min_time": "0s", "min_exposures": 1},
    });
    while !over.load(Ordering::Relaxed) {
        for (what, body) in [("ramp", ramp.to_string()), ("ramp/abort", String::new())] {
            let answer = api.post(&format!("{INT8}/{what}"), body).await;
            let status = answer.status.as_u16();
            assert!(matches!(status, 200 | 201 | 409 | 412), "{what}: {}", answer.text());
            // Most changes are to be the editors'.
            tokio::time::sleep(millis(50)).await;
        }
    }
}

/// Two editors and a ramp change one experiment at once, 1,000 changes: no change is lost, no revision is
/// missing, each has its one entry, and the chain of entries verifies.
#[tokio::test]
async fn a_thousand_changes_of_two_editors_and_a_ramp_lose_nothing() {
    const EACH: usize = 450;
    const ALL: usize = 1_000;
    let stable = backend().answers("stable").counts_only().start().await;
    let canary = backend().answers("canary").counts_only().start().await;
    let config = split(&stable, &canary, (90, 10));
    // Each change waits for the disk; on a busy one that takes minutes, and is not what is asked here.
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let dir = dir.unwrap();
    let gateway = gateway(config).in_dir(dir.path()).start().await;
    let over = Arc::new(AtomicBool::new(false));
    let ramp = tokio::spawn(ramp_on_and_off(gateway.api().apart(), Arc::clone(&over)));
    let (client, load_over) = (gateway.client(), Arc::clone(&over));
    let load = tokio::spawn(async move {
        let mut user = 0;
        while !load_over.load(Ordering::Relaxed) {
            user += 1;
            let asked = client.post(PATH, "{}").header("x-user-id", &format!("u{user}"));
            assert_eq!(asked.await.status, 200, "no request notices any of it");
            tokio::time::sleep(millis(5)).await;
        }
        user
    });
    let mut editors = Vec::new();
    for editor in 0..2 {
        let api = gateway.api().apart();
        editors.push(tokio::spawn(async move {
            let (mut made, mut refused) = (Vec::new(), 0);
            for number in 0..EACH {
                let (canary, reason) = (1 + number % 90, format!("editor {editor}: {number}"));
                loop {
                    let (seen, answer) = move_weights(&api, canary, &reason).await;
                    if answer.status == 200 {
                        let revision = answer.json()["revision"].as_u64().unwrap();
                        assert_eq!(revision, seen + 1, "nobody's change came in between");
                        made.push((revision, canary, reason));
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
    for editor in editors {
        let (own, refused) = editor.await.unwrap();
        assert!(refused > 0, "they never met");
        made.extend(own);
    }
    while gateway.get("/experiments/int8").await["revision"].as_u64().unwrap() <= ALL as u64 {
        tokio::time::sleep(millis(50)).await;
    }
    over.store(true, Ordering::Relaxed);
    ramp.await.unwrap();
    assert!(load.await.unwrap() > 0);

    let mut rows: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = gateway.get(&format!("/experiments/int8/history?limit=300{cursor}")).await;
        rows.extend(page["revisions"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    rows.reverse();
    let last = gateway.get("/experiments/int8").await["revision"].as_u64().unwrap();
    assert!(last > ALL as u64, "{last}");
    let numbers: Vec<u64> = rows.iter().map(|row| row["revision"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=last).collect::<Vec<_>>(), "without gaps");
    for (revision, canary, reason) in &made {
        let row = &rows[usize::try_from(*revision - 1).unwrap()];
        assert_eq!((&row["reason"], &row["source"]), (&json!(reason), &json!("api")));
        assert_eq!(row["weights"]["canary"], *canary as f64, "{row}");
    }
    let by_ramp = rows.iter().filter(|row| row["source"] == "ramp").count();
    assert_eq!(by_ramp + made.len() + 1, rows.len(), "nothing else changed it");
    assert!(by_ramp >= ALL - made.len(), "{by_ramp}");

    let told = entries(&gateway, "&target=experiment/int8").await;
    let mut revisions: Vec<u64> =
        told.iter().filter_map(|entry| entry["after"]["revision"].as_u64()).collect();
    revisions.sort_unstable();
    let distinct: BTreeSet<u64> = revisions.iter().copied().collect();
    assert_eq!(distinct, (1..=last).collect(), "each revision has its entry");
    let set = told.iter().filter(|entry| entry["action"] == "weights.set").count();
    assert_eq!(set, made.len(), "and each change of an editor exactly one");
    let verdict = gateway.get("/audit/verify").await;
    assert_eq!(verdict["intact"], true, "{verdict}");
    let stored = gateway.get("/audit?limit=1").await["items"][0]["id"].as_u64().unwrap();
    assert!(verdict["entries"].as_u64().unwrap() >= stored - 1);
}
