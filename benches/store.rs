//! What it costs to keep outcomes: batches of rows into a store on disk, as the recorder adds them.
//!
//! Instructions, which do not depend on what else the machine does, are those of `add_batch` by the
//! rows that are printed, in a release build (`target/release/deps/store-…`):
//! `valgrind --tool=callgrind --toggle-collect='*add_batch*' store-… --test store/rows/short`.
#![allow(missing_docs, reason = "criterion's macros write an undocumented main")]
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gateway::ids::RequestId;
use gateway::names::intern;
use gateway::recorder::row::{Micros, Row};
use gateway::store::Store;
use gateway::store::sqlite::Sqlite;
use policies::outcome::Outcome;

/// Rows of a transaction.
const BATCH: u64 = 512;
/// Transactions before anything is measured: a table of usual depth.
const BEFORE: u64 = 40;
/// Between two requests: 25,000 a second.
const APART_NANOS: u64 = 40_000;
const START_NANOS: u64 = 1_700_000_000_000_000_000;

/// The request that ended as number `seq`, after up to `longest` nanoseconds.
fn row(seq: u64, longest: u64) -> Box<Row> {
    let random = seq.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let took = ((random >> 32) * longest) >> 32;
    let started_unix_nanos = START_NANOS + seq * APART_NANOS - took;
    Box::new(Row {
        request_id: RequestId::new(started_unix_nanos, random).0,
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
        unit_hash: random,
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
    })
}

/// A function of its own, so that valgrind finds it.
#[inline(never)]
fn add_batch(store: &mut Sqlite, rows: &[Box<Row>]) {
    store.add_new_outcomes([7; 16], rows).unwrap();
}

fn add_outcomes(c: &mut Criterion) {
    let mut group = c.benchmark_group("store/rows");
    group.throughput(Throughput::Elements(BATCH));
    // Rows come in the order in which requests end: nearly that of their ids, or not at all.
    for (label, longest) in [("short", 2_000_000), ("long", 400_000_000)] {
        let (mut rows, mut bytes) = (0, 0);
        group.bench_function(label, |b| {
            let folder = tempfile::tempdir().unwrap();
            let mut store = Sqlite::open(&folder.path().join("weir.db")).unwrap();
            let mut next = 1;
            let mut batch = || {
                let seqs = next..next + BATCH;
                next = seqs.end;
                seqs.map(|seq| row(seq, longest)).collect::<Vec<_>>()
            };
            for _ in 0..BEFORE {
                add_batch(&mut store, &batch());
            }
            b.iter_batched(
                batch,
                |rows| add_batch(&mut store, &rows),
                criterion::BatchSize::PerIteration,
            );
            rows = store.boots().unwrap()[0].2;
            drop(store);
            bytes = folder.path().join("weir.db").metadata().unwrap().len();
        });
        // Nothing if another one was asked for.
        if let Some(each) = bytes.checked_div(rows) {
            eprintln!("{label}: {rows} rows, {each} bytes a row");
        }
    }
    group.finish();
}

criterion_group!(benches, add_outcomes);
criterion_main!(benches);
