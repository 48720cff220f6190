//! Processes killed in the middle of their writes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::*;

/// F19 in small: ten times.
#[test]
fn what_was_acknowledged_is_there_after_kill_9() {
    const BATCH: u64 = 64;
    let folder = tempfile::tempdir().unwrap();
    let mut killed_between_acks = 0;
    for life in 1..=10_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                &test_name(module_path!(), "child_writes_until_it_is_killed"),
                "--exact",
                "--nocapture",
            ])
            .env("WEIR_TEST_STORE", folder.path())
            .env("WEIR_TEST_LIFE", life.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let acknowledged =
            |line: &str| -> Option<u64> { line.split_once("stored ")?.1.trim().parse().ok() };
        // A different moment in each life.
        let enough = life * 7;
        let mut last = lines.by_ref().find_map(|line| acknowledged(&line)).unwrap();
        while last < enough {
            last = lines.by_ref().find_map(|line| acknowledged(&line)).unwrap();
        }
        std::thread::sleep(Duration::from_micros(life * 137));
        child.kill().unwrap();
        child.wait().unwrap();
        last = lines.filter_map(|line| acknowledged(&line)).last().unwrap_or(last);

        let start = Instant::now();
        let mut store = open_in(folder.path());
        assert!(start.elapsed() < Duration::from_secs(2));
        assert_eq!(integrity(&store), "ok");
        let boot = [u8::try_from(life).unwrap(); 16];
        let (_, greatest, stored) =
            *store.boots().unwrap().iter().find(|(id, ..)| *id == boot).unwrap();
        assert_eq!(greatest, stored, "a batch is there in part");
        assert_eq!(stored % BATCH, 0, "a batch is there in part");
        assert!(
            stored >= last * BATCH,
            "{last} batches were acknowledged, {stored} rows are there"
        );
        killed_between_acks += u64::from(stored > last * BATCH);
        for seq in 1..=last * BATCH {
            let id = child_row(life, seq).request_id;
            assert!(store.outcome(id).unwrap().is_some(), "life {life}, row {seq}");
        }
        assert!(store.verify_audit().unwrap().is_ok_and(|entries| entries > 0));
    }
    eprintln!("{killed_between_acks} of 10 were killed between commit and acknowledgement");
}

fn child_row(life: u64, seq: u64) -> Row {
    let mut row = outcome_row(seq);
    row.request_id = ids::RequestId::new(row.started_unix_nanos + life * 1_000_000_000_000, seq).0;
    row
}

#[test]
fn child_writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os("WEIR_TEST_STORE") else { return };
    let life: u64 = std::env::var("WEIR_TEST_LIFE").unwrap().parse().unwrap();
    let mut store = open_in(Path::new(&folder));
    let boot = [u8::try_from(life).unwrap(); 16];
    for batch in 0.. {
        let seqs = batch * 64 + 1..(batch + 1) * 64 + 1;
        let rows: Vec<_> = seqs.map(|seq| Box::new(child_row(life, seq))).collect();
        store.add_outcomes(boot, &rows).unwrap();
        store.add_audit(&audit_row("weights.set")).unwrap();
        println!("\nstored {}", batch + 1);
        std::io::stdout().flush().unwrap();
    }
}
