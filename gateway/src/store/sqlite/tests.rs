//! On real files, with real locks, full disks and killed processes: what the tests have in common.

use std::fs;
use std::time::Instant;

use policies::outcome::Outcome;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::names::intern;
use crate::recorder::row::Micros;
use crate::store::{Source, State};

mod opening;
mod earlier;
mod changes;
mod outbox;
mod audit;
mod outcomes;
mod feedback;
mod faults;
mod damage;
mod comparisons;
mod evidence;
mod crash;

const BOOT: [u8; 16] = [7; 16];

const NONE: [u64; 0] = [];

/// 2023-11-14T22:13:20Z.
const START_NANOS: u64 = 1_700_000_000_000_000_000;

/// Waits until something is true, with a deadline.
pub(in crate::store) fn until(mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < Duration::from_secs(10), "still not true after 10 s");
        std::thread::sleep(Duration::from_millis(2));
    }
}

struct Opened {
    folder: TempDir,
    store: Sqlite,
}

fn open() -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(folder.path());
    Opened { folder, store }
}

fn open_in(folder: &Path) -> Sqlite {
    Sqlite::open_with(&folder.join("weir.db"), Duration::from_millis(300)).unwrap()
}

fn audit_row(action: &str) -> AuditRow {
    AuditRow {
        at: 1_700_000_000_000_001,
        key_id: "k1".into(),
        actor: "ml-team".into(),
        from: "192.0.2.1".into(),
        action: action.into(),
        target: "experiment/int8".into(),
        reason: Some("it's '); DROP TABLE audit; --".into()),
        before: json!({"b": 1, "a": [0.1, null]}),
        after: json!({"weights": {"stable": 0.30000000000000004}}),
        request_id: "r1".into(),
    }
}

fn key_row(id: &str) -> KeyRow {
    KeyRow {
        id: id.into(),
        name: "mobile".into(),
        role: "client".into(),
        routes: Some(vec!["chat".into(), "emb\"ed".into()]),
        hash: *blake3::hash(id.as_bytes()).as_bytes(),
        created_at: 1,
        created_by: "admin".into(),
        expires_at: Some(2),
        revoked_at: None,
        requests_per_second: Some(0.5),
        concurrent: Some(3),
        tokens_per_minute: Some(4),
    }
}

fn revision_row(experiment: &str, revision: u64) -> RevisionRow {
    RevisionRow {
        experiment: experiment.into(),
        revision,
        state: State::Running,
        weights: vec![("stable".into(), 94.9), ("canary".into(), 0.1 + 0.2)],
        allocation: vec![1, 2, 3].into(),
        source: Source::Ramp,
        by: "file".into(),
        at: 5,
        reason: Some("why".into()),
        buckets_moved: 1000,
        undoes: Some(revision - 1),
        definition: None,
    }
}

/// The request with number `seq`, one each millisecond.
fn outcome_row(seq: u64) -> Row {
    let started_unix_nanos = START_NANOS + seq * 1_000_000;
    Row {
        request_id: ids::RequestId::new(started_unix_nanos, u64::MAX - seq).0,
        seq,
        started_unix_nanos,
        route: Some(intern("chat")),
        pattern: Some(intern("/v1/chat/completions")),
        path: "/v1/chat/completions".into(),
        method: "POST".into(),
        host: "gateway.example.org".into(),
        user_agent: "OpenAI/Python 1.52.0".into(),
        key_id: "wk_7f3a21".into(),
        experiment: Some(intern("int8")),
        revision: 7,
        variant: Some(intern(if seq.is_multiple_of(20) { "canary" } else { "stable" })),
        reason: "split",
        bucket: Some(1234),
        unit_hash: seq.wrapping_mul(0x9E37_79B9_7F4A_7C15),
        eligible: true,
        backend: Some(intern("llama-8b")),
        endpoint: Some("10.0.0.3:8000".parse().unwrap()),
        peer: "10.1.2.3:40000".parse().unwrap(),
        client: "10.1.2.3".parse().unwrap(),
        tls_version: "1.3",
        tls_cipher: "TLS13_AES_256_GCM_SHA384",
        attempts: 1,
        upstream_status: 200,
        status: 200,
        outcome: Some(Outcome::Ok),
        request_bytes: 500,
        response_bytes: 4000,
        stream: true,
        chunks: 120,
        complete: true,
        request_model: Some(intern("chat-model")),
        response_model: "llama-3.1-8b-instruct".into(),
        input_tokens: Some(120),
        output_tokens: Some(240),
        finish_reason: "stop".into(),
        trace_id: [9; 16],
        span_id: [8; 8],
        attempt_span_id: [6; 8],
        t_header: Micros::from_micros(40),
        t_auth: Micros::from_micros(3),
        t_connect: Micros::from_micros(0),
        t_send: Micros::from_micros(30),
        t_first_byte: Micros::from_micros(40_000),
        t_first_token: Micros::from_micros(41_000),
        t_stream: Micros::from_micros(200_000),
        t_total: Micros::from_micros(241_000 + seq),
        t_gateway: Micros::from_micros(60),
        ..Row::default()
    }
}

#[expect(clippy::vec_box, reason = "the trait takes rows as the recorder has them")]
fn outcome_rows(seqs: std::ops::Range<u64>) -> Vec<Box<Row>> {
    seqs.map(outcome_row).map(Box::new).collect()
}

fn seqs(items: &[serde_json::Value]) -> Vec<u64> {
    items.iter().map(|item| item["seq"].as_u64().unwrap()).collect()
}

fn integrity(store: &Sqlite) -> String {
    store.connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

/// The full name of a test in `module_path!()`, as the test binary knows it.
fn test_name(module: &str, test: &str) -> String {
    let (_, module) = module.split_once("::").unwrap();
    format!("{module}::{test}")
}
