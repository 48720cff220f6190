//! Crashes, full disks, locked files: what was promised is there, and what is lost is counted.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::json;
use weir_tests::{Client, backend, gateway, millis, seconds, until, until_async};

use crate::recording::{assert_accounts_balance, database, is_stored, request_id, split, sum_of};

/// Clients that ask without a pause until told to stop, and remember when which answer was whole.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<(String, Instant)>>>,
}

impl Load {
    pub(crate) fn start(client: &Client, path: &'static str, callers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (answered, failed) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let tasks = (0..callers)
            .map(|caller| {
                let client = client.apart().header("x-user-id", &format!("u{caller}"));
                let stop = Arc::clone(&stop);
                let (count, failed) = (Arc::clone(&answered), Arc::clone(&failed));
                tokio::spawn(async move {
                    let mut answered = Vec::new();
                    while !stop.load(Relaxed) {
                        match client.post(path, "{}").within(seconds(10)).attempt().await {
                            Ok(answer) if answer.status == 200 && answer.error.is_none() => {
                                answered.push((request_id(&answer), Instant::now()));
                                count.fetch_add(1, Relaxed);
                            }
                            _ => drop(failed.fetch_add(1, Relaxed)),
                        }
                    }
                    answered
                })
            })
            .collect();
        Self { stop, answered, failed, tasks }
    }

    /// How many requests were answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Relaxed)
    }

    /// How many requests failed so far.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// Stops it: what was answered.
    pub(crate) async fn stop(self) -> Vec<(String, Instant)> {
        self.stop.store(true, Relaxed);
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.unwrap());
        }
        all
    }
}

fn integrity(database: &Connection) -> String {
    database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

/// Does beside the gateway what its recorder does, on the same disk: waits 20 ms, writes, syncs, again
/// and again. So it knows how much longer than on an idle machine that takes here and now.
struct Pacer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<(Instant, Duration)>>,
}

impl Pacer {
    const TICK: Duration = Duration::from_millis(20);

    fn start(dir: &Path) -> Self {
        let mut file = std::fs::File::create(dir.join("pacer")).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut rounds = Vec::new();
            while !stopping.load(Relaxed) {
                let began = Instant::now();
                std::thread::sleep(Self::TICK);
                std::io::Write::write_all(&mut file, &[7; 4096]).unwrap();
                file.sync_data().unwrap();
                rounds.push((Instant::now(), began.elapsed().saturating_sub(Self::TICK)));
            }
            rounds
        });
        Self { stop, thread }
    }

    /// What the slowest round since `moment` took besides its pause.
    fn stop(self, moment: Instant) -> Duration {
        self.stop.store(true, Relaxed);
        let rounds = self.thread.join().unwrap();
        rounds.iter().filter(|(ended, _)| *ended >= moment).map(|(_, more)| *more).max().unwrap()
    }
}

/// D4, D7, F19. How old a lost row may be is 50 ms and what the machine itself added to a pause and
/// a sync at that time: to the one under way and to the row's own, each with the tallies' beside it.
#[tokio::test]
async fn kill_9_under_load_loses_the_last_moments_at_most_and_says_how_many() {
    let model = backend().answers("x").counts_only().start().await;
    let prepared = gateway(split(&model, &model)).write();
    let callers = 6;
    let mut key = None;
    let mut acknowledged = 0;
    for round in 0..10 {
        let weir = prepared.spawn().await;
        assert!(weir.took < seconds(2), "start {round} took {:?}", weir.took);
        let key = match &key {
            Some(key) => key,
            None => key.insert(weir.make_key("client").await),
        };
        let pacer = Pacer::start(&prepared.dir);
        let load = Load::start(&weir.client(key), "/v1/chat/completions", callers);
        let began = Instant::now();
        // At another moment of the recorder's rounds each time.
        let enough = millis(300 + 17 * round);
        until(seconds(30), || load.answered() > 50 && began.elapsed() > enough).await;
        let killed = Instant::now();
        weir.kill();
        let answered = load.stop().await;
        let bound = millis(50) + 4 * pacer.stop(killed.checked_sub(millis(200)).unwrap());
        acknowledged += answered.len();

        let weir = prepared.spawn().await;
        assert!(weir.took < seconds(2), "start after kill {round} took {:?}", weir.took);
        let database = database(&prepared.dir);
        assert_eq!(integrity(&database), "ok");
        let old = |at: &Instant| killed.saturating_duration_since(*at) > bound;
        let missing: Vec<Duration> = answered
            .iter()
            .filter(|(id, at)| old(at) && !is_stored(&database, id))
            .map(|(_, at)| killed.saturating_duration_since(*at))
            .collect();
        assert!(missing.is_empty(), "round {round}: lost, older than {bound:?}: {missing:?}");
        let lost = answered.iter().filter(|(id, _)| !is_stored(&database, id));
        let oldest = lost.map(|(_, at)| killed.saturating_duration_since(*at)).max();
        println!("round {round}: oldest lost {oldest:?}, bound {bound:?}");
        let late = answered.iter().filter(|(_, at)| !old(at)).count();
        let (greatest, stored): (i64, i64) = database
            .query_row(
                "SELECT max(seq), count(*) FROM requests
                 WHERE boot = (SELECT max(boot) FROM outcomes)",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        assert!(
            greatest - stored <= (late + callers) as i64,
            "{greatest} - {stored}, {late} were late"
        );
        let counted: (i64, i64) = database
            .query_row(
                "SELECT greatest_seq, stored FROM boots
                 WHERE id = (SELECT max(boot) FROM outcomes)",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        assert_eq!(counted, (greatest, stored), "the running counts of D4");
        weir.kill();
    }
    let weir = prepared.spawn().await;
    assert_eq!(weir.get("/status").await["recording"]["pending"], 0);
    let rows: i64 = database(&prepared.dir)
        .query_row("SELECT count(DISTINCT request_id) FROM requests", [], |row| row.get(0))
        .unwrap();
    println!("{acknowledged} acknowledged, {rows} stored");
}

#[tokio::test]
async fn f13_a_locked_store_does_not_touch_requests_and_its_rows_come_later() {
    let model = backend().answers("x").start().await;
    let gateway = gateway(split(&model, &model)).start().await;
    let client = gateway.client();
    assert_eq!(client.get("/rest/warm").await.status, 200);

    let other = Connection::open(gateway.prepared.dir.join("weir.db")).unwrap();
    other.busy_timeout(seconds(5)).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let locked = Instant::now();
    let (mut ids, mut slowest) = (Vec::new(), Duration::ZERO);
    while locked.elapsed() < seconds(3) {
        let answer = client.get("/rest/x").await;
        assert_eq!(answer.status, 200);
        slowest = slowest.max(answer.total);
        ids.push(request_id(&answer));
    }
    assert!(slowest < millis(800), "a request took {slowest:?}");
    let reader = database(&gateway.prepared.dir);
    assert!(!is_stored(&reader, ids.last().unwrap()), "the lock has no effect");
    other.execute_batch("COMMIT").unwrap();

    let accounts = assert_accounts_balance(&gateway).await;
    assert_eq!(accounts["dropped"], 0, "{accounts}");
    let missing = ids.iter().filter(|id| !is_stored(&reader, id)).count();
    assert_eq!(missing, 0, "of {}", ids.len());
}

/// D5, L16: memory, then the spool, then counted drops; all of it is in the store afterwards.
#[tokio::test]
async fn what_neither_memory_nor_spool_can_hold_is_dropped_and_counted() {
    let model = backend().answers("x").counts_only().start().await;
    let gateway = gateway(split(&model, &model)).recording("spool_bytes = \"1MiB\"").start().await;
    let client = gateway.client().h2();
    let other = Connection::open(gateway.prepared.dir.join("weir.db")).unwrap();
    other.busy_timeout(seconds(5)).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let load = Load::start(&client, "/rest/x", 32);
    // Beyond its patience with locks, the store counts as away.
    until_async(seconds(30), || async {
        let status = gateway.get("/status").await;
        let recording = &status["recording"];
        // A quick machine fills memory and spool before that patience has ended.
        let is_dropping = recording["dropped_by_reason"]["spool_full"].as_u64() > Some(0);
        if is_dropping && status["store"]["up"] == false {
            return Ok(());
        }
        tokio::time::sleep(millis(50)).await;
        Err(status.to_string())
    })
    .await;
    let now = gateway.get("/status").await;
    assert!(now["recording"]["spooled"].as_u64() > Some(0), "{now:#}");
    assert!(now["recording"]["spool_bytes"].as_u64() <= Some(1 << 20), "{now:#}");
    assert_eq!(now["store"]["up"], false);
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(load.failed(), 0, "no request failed");
    let answered = load.stop().await;

    let accounts = assert_accounts_balance(&gateway).await;
    assert_eq!(accounts["assigned"], answered.len());
    assert_eq!(accounts["dropped"], accounts["dropped_by_reason"]["spool_full"], "{accounts}");
    assert_eq!(accounts["spool_bytes"], 0, "{accounts}");
    let reader = database(&gateway.prepared.dir);
    let rows: u64 = reader
        .query_row("SELECT count(*) FROM requests", [], |row| row.get::<_, i64>(0))
        .unwrap()
        .try_into()
        .unwrap();
    assert_eq!(accounts["recorded"], rows);
    let metrics = gateway.metrics().await;
    let told = sum_of(&metrics, "weir_outcomes_total", "reason=\"spool_full\"");
    assert_eq!(Some(told), accounts["dropped"].as_f64());
}

/// A small file system that is unmounted at the end; none without the right to mount.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
            .arg(at)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test]
async fn f12_a_full_disk_stops_no_request_and_recovers_without_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    let full = temp.path().join("disk");
    let Some(_disk) = SmallDisk::mount(&full) else {
        println!("SKIPPED: a small file system cannot be mounted here");
        return;
    };
    let spool = temp.path().join("spool");
    let model = backend().answers("x").start().await;
    let gateway = gateway(format!("[telemetry]\naccess_log = \"off\"\n{}", split(&model, &model)))
        .in_dir(&full)
        .recording(&format!("spool = \"{}\"", spool.display()))
        .start()
        .await;
    let client = gateway.client();
    assert_eq!(client.get("/rest/warm").await.status, 200);
    gateway.accounts().await;

    let filler = full.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    while std::io::Write::write_all(&mut file, &[0; 64]).is_ok() {}
    let mut ids = Vec::new();
    let began = Instant::now();
    loop {
        let answer = client.get("/rest/x").await;
        assert_eq!(answer.status, 200);
        ids.push(request_id(&answer));
        if ids.len() % 20 == 0 {
            let status = gateway.get("/status").await;
            let recording = &status["recording"];
            if status["store"]["up"] == false && recording["pending"].as_u64() > Some(10) {
                break;
            }
            assert!(began.elapsed() < seconds(8), "the disk is not full: {status:#}");
        }
    }
    let refused =
        gateway.api().post("/api/v1/keys", json!({"name": "k", "role": "client"}).to_string());
    let refused = refused.await;
    assert!(refused.status.is_server_error(), "D1: {} {}", refused.status, refused.text());

    drop(file);
    std::fs::remove_file(&filler).unwrap();
    let accounts = assert_accounts_balance(&gateway).await;
    assert_eq!(accounts["dropped"], 0, "{accounts}");
    let reader = database(&full);
    assert_eq!(integrity(&reader), "ok");
    assert_eq!(ids.iter().filter(|id| !is_stored(&reader, id)).count(), 0);
    assert_eq!(gateway.get("/status").await["store"]["up"], true);
}

#[tokio::test]
async fn weights_stops_and_keys_survive_a_restart() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let gateway = gateway(split(&stable, &canary)).start().await;
    let revoked = gateway.make_key("client", json!({"name": "revoked"})).await;
    let keys = gateway.get("/keys").await;
    let key = keys["items"].as_array().unwrap().iter().find(|k| k["name"] == "revoked").unwrap();
    let path = format!("/api/v1/keys/{}", key["id"].as_str().unwrap());
    assert!(gateway.api().request("DELETE", &path, "").await.status.is_success());
    let weights = json!({"stable": 20, "canary": 80});
    assert_eq!(gateway.set_weights("int8", weights.clone()).await.status, 200);
    let before = gateway.get("/experiments/int8").await;

    let gateway = gateway.restart().await;
    let after = gateway.get("/experiments/int8").await;
    for member in ["revision", "state", "variants", "changed_by", "changed_at"] {
        // Live rates begin anew.
        if member != "variants" {
            assert_eq!(after[member], before[member], "{member}");
        }
    }
    assert_eq!(after["revision"], 2);
    assert_eq!(after["variants"]["canary"]["weight"], 80.0, "{after:#}");
    assert_eq!(gateway.client().get("/rest/x").await.status, 200, "the key is known");
    assert_eq!(gateway.anonymous().bearer(&revoked).get("/rest/x").await.status, 401);

    let stopped = gateway.api().post("/api/v1/experiments/int8/stop", "{}").await;
    assert_eq!(stopped.status, 200, "{}", stopped.text());
    let gateway = gateway.restart().await;
    assert_eq!(gateway.get("/experiments/int8").await["state"], "stopped");
    for user in 0..40 {
        let client = gateway.client().header("x-user-id", &format!("u{user}"));
        assert_eq!(client.post("/v1/chat/completions", "{}").await.text(), "stable");
    }
    let history = gateway.get("/experiments/int8/history").await;
    assert_eq!(history["revisions"].as_array().unwrap().len(), 3, "{history:#}");
}

/// A reload that changed one experiment's statement made the store forget the others' statements.
/// At the next start the file seemed to say something new about each of those, and its weights
/// replaced the live ones. They should have stayed: the file had said nothing new.
#[tokio::test]
async fn a_restart_keeps_a_live_weight_although_the_file_restated_another_experiment() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let text = |second: u32| {
        format!(
            r#"{}
            [experiments.other]
            route = "messages"
            unit = ["header:x-user-id"]
            control = "stable"
            [experiments.other.variants]
            stable = {{ backend = "stable", weight = {second} }}
            canary = {{ backend = "canary", weight = 10 }}
            "#,
            split(&stable, &canary)
        )
    };
    let mut gateway = gateway(text(90)).start().await;
    assert_eq!(gateway.set_weights("int8", json!({"stable": 99, "canary": 1})).await.status, 200);
    gateway.reconfigure(&text(60)).await.unwrap();
    assert_eq!(gateway.get("/experiments/other").await["revision"], 2);
    assert_eq!(gateway.get("/experiments/int8").await["revision"], 2);

    let gateway = gateway.restart().await;
    let live = gateway.get("/experiments/int8").await;
    assert_eq!(live["revision"], 2, "{live:#}");
    assert_eq!(live["variants"]["stable"]["weight"], 99.0, "{live:#}");
    assert_eq!(live["differs_from_file"], true);
}

#[tokio::test]
async fn what_waits_for_the_store_at_the_end_is_in_it_after_the_next_start() {
    let model = backend().answers("x").start().await;
    let prepared = gateway(split(&model, &model)).write();
    let weir = prepared.spawn().await;
    let client = weir.client(&weir.make_key("client").await);
    let boot = Client::plain(weir.admin).get("/version").await.json()["boot_id"].clone();
    let other = Connection::open(prepared.dir.join("weir.db")).unwrap();
    other.busy_timeout(seconds(5)).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut ids = Vec::new();
    for _ in 0..300 {
        ids.push(request_id(&client.get("/rest/x").await));
    }
    weir.signal("TERM");
    assert_eq!(weir.exit(seconds(14)).await, Some(0));
    let reader = database(&prepared.dir);
    assert!(!is_stored(&reader, &ids[299]), "the lock has no effect");
    other.execute_batch("COMMIT").unwrap();
    drop((other, reader));

    let weir = prepared.spawn().await;
    let reader = database(&prepared.dir);
    until_async(seconds(3), || async {
        match ids.iter().filter(|id| !is_stored(&reader, id)).count() {
            0 => Ok(()),
            missing => Err(format!("{missing} are missing")),
        }
    })
    .await;
    let row = weir.get(&format!("/requests/{}", ids[7])).await;
    assert_eq!(row["boot_id"], boot, "rows keep the process that made them");
    assert_eq!(row["seq"], 8);
}
