//! A million posts of feedback over real sockets: TLS, HTTP, receipts, commits. Replays, duplicates,
//! forged and expired receipts among them; what is stored must be what was accepted.
//!
//! ```sh
//! cargo bench -p weir-benches --bench feedback_flood              # 1,000,000 posts, then 1,000,000 items in posts of 100
//! cargo bench -p weir-benches --bench feedback_flood -- 50000     # fewer
//! ```
//!
//! Gateway and callers are one process, so the processor time is told apart by thread: that of the
//! gateway's own is what one core could do if it did nothing else.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic, and prints")]

use std::collections::BTreeMap;
use std::time::Instant;

use weir_tests::{Flood, Gateway, backend, gateway};

/// Seconds of processor time of this process's threads, by the beginning of their names.
fn threads() -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { continue };
        let (before, after) = stat.rsplit_once(')').unwrap();
        let name = before.split_once('(').unwrap().1;
        let fields: Vec<&str> = after.split_whitespace().collect();
        // utime and stime, in hundredths of a second.
        let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
        let kind = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned();
        *sums.entry(kind).or_default() += ticks / 100.0;
    }
    sums
}

/// Threads that are the gateway's.
const OURS: [&str; 5] = ["worker", "weir", "control", "recorder", "probes"];

fn ours(all: &BTreeMap<String, f64>) -> f64 {
    let is_ours = |name: &str| OURS.iter().any(|ours| name.starts_with(ours));
    all.iter().filter(|(name, _)| is_ours(name)).map(|(_, seconds)| seconds).sum()
}

async fn pour(gateway: &Gateway, flood: Flood, stored_before: u64) -> u64 {
    let (before, began) = (threads(), Instant::now());
    let told = flood.pour(gateway).await;
    let (took, after) = (began.elapsed().as_secs_f64(), threads());
    assert_eq!(told, flood.expected());
    let database = weir_tests::gateway::database(&gateway.prepared.dir);
    let stored = stored_before + told.stored;
    let rows: i64 =
        database.query_row("SELECT count(*) FROM feedback", [], |row| row.get(0)).unwrap();
    assert_eq!(u64::try_from(rows).unwrap(), stored);
    let core = ours(&after) - ours(&before);
    println!(
        "{} items in posts of {}, {} callers: {told:?}\n  {took:.1} s, {:.0} items/s; the gateway took {core:.1} s of \
         processor: {:.0} items/s on one core, {:.1} µs an item",
        flood.items,
        flood.each,
        flood.callers,
        flood.items as f64 / took,
        flood.items as f64 / core,
        core * 1e6 / flood.items as f64,
    );
    for (name, seconds) in &after {
        let spent = seconds - before.get(name).unwrap_or(&0.0);
        if spent > 0.5 {
            println!("    {name}: {spent:.1} s");
        }
    }
    stored
}

fn main() {
    let items = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("callers")
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let model = backend().answers("ok").start().await;
        let text = format!(
            "[backends.b]\nendpoints = [\"{}\"]\n[routes.chat]\npath = \"/v1/*\"\nbackend = \"b\"\n\
             [experiments.int8]\nroute = \"chat\"\nunit = \"key\"\ncontrol = \"stable\"\n\
             [experiments.int8.variants]\nstable = {{ backend = \"b\", weight = 50 }}\n\
             canary = {{ backend = \"b\", weight = 50 }}\n",
            model.url()
        );
        let limits = "connections_per_address = 2000";
        let gateway = gateway(text).limits(limits).start().await;
        let stored = pour(&gateway, Flood { items, each: 1, callers: 512 }, 0).await;
        pour(&gateway, Flood { items, each: 100, callers: 32 }, stored).await;
    });
}
