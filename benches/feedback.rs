//! What it costs to take feedback: a post read and vouched for, and posts brought to stable storage.
//!
//! Posts of one answer each come from many callers at a time, as they do on the edge; TLS and HTTP are
//! left out. The goal is 10,000 a second on one core: 100 µs each, all threads together.
#![allow(missing_docs, reason = "criterion's macros write an undocumented main")]
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gateway::feedback::{Entry, Fate, Feedback};
use gateway::ids::RequestId;
use gateway::names::intern;
use gateway::request::feedback::items;
use gateway::request::receipt::{Read, Receipt, Room};
use gateway::store::sqlite::Sqlite;
use gateway::store::thread::StoreThread;
use gateway::store::{Exposure, FeedbackRow, FeedbackValue};

const KEY: [u8; 32] = [9; 32];
const START_NANOS: u64 = 1_763_800_000_000_000_000;
/// Callers at the same time.
const CALLERS: u64 = 512;
/// Posts of each in one round.
const POSTS: u64 = 20;

fn receipt() -> String {
    let receipt = Receipt {
        request_id: RequestId::new(START_NANOS, 7).0,
        at_millis: START_NANOS / 1_000_000,
        unit_hash: 42,
        revision: 3,
        eligible: true,
        key_id: "wk_4711".into(),
        experiment: "int8".into(),
        variant: "canary".into(),
    };
    receipt.sign(&KEY)
}

fn read(c: &mut Criterion) {
    let one = format!(
        r#"{{"receipt":"{}","metric":"thumbs_up","value":true,"segment":{{"country":"de"}}}}"#,
        receipt()
    );
    let many = format!("[{}]", vec![one.as_str(); 1_000].join(","));
    let read = |body: &[u8]| {
        let mut vouched = 0;
        for raw in items::list(body).unwrap() {
            let item = items::item(raw).unwrap();
            let items::About::Receipt(text) = &item.about else { continue };
            let mut room = Room::default();
            vouched += u64::from(Read::of(text, &KEY, &mut room).is_some());
            black_box(item);
        }
        vouched
    };
    c.bench_function("feedback/read/1", |b| b.iter(|| read(black_box(one.as_bytes()))));
    let mut group = c.benchmark_group("feedback/read");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("1000", |b| b.iter(|| read(black_box(many.as_bytes()))));
    group.finish();
}

fn entry(number: u64) -> Entry {
    let random = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let row = FeedbackRow {
        request_id: RequestId::new(START_NANOS + number * 100_000, random).0,
        metric: intern("thumbs_up"),
        key_id: "wk_4711".into(),
        id: None,
        value: FeedbackValue::Bool(!number.is_multiple_of(3)),
        segment: None,
        received_at: 1_763_800_000_000_000,
        exposure: Exposure {
            experiment: intern("int8"),
            revision: 3,
            variant: intern(if number.is_multiple_of(20) { "canary" } else { "stable" }),
            unit_hash: random,
            eligible: true,
            asked_by: None,
        },
    };
    Entry { row, asked_at: 0, claim: None, label: intern("thumbs_up"), fate: Fate::Waiting }
}

fn keep(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&folder.path().join("weir.db")).unwrap();
    let (store, thread) = StoreThread::spawn(Box::new(store)).unwrap();
    let feedback = Arc::new(Feedback::new(store.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut next = 0;
    let mut group = c.benchmark_group("feedback/keep");
    group.throughput(Throughput::Elements(CALLERS * POSTS)).sample_size(10);
    group.bench_function("512 callers", |b| {
        b.iter(|| {
            let first = next;
            next += CALLERS * POSTS;
            runtime.block_on(async {
                let callers: Vec<_> = (0..CALLERS)
                    .map(|caller| {
                        let feedback = Arc::clone(&feedback);
                        tokio::spawn(async move {
                            for post in 0..POSTS {
                                let number = first + post * CALLERS + caller;
                                let kept = feedback.keep(vec![entry(number)]).await.unwrap();
                                assert_eq!(kept[0].fate, Fate::Stored);
                            }
                        })
                    })
                    .collect();
                for caller in callers {
                    caller.await.unwrap();
                }
            });
        });
    });
    group.finish();
    eprintln!("{} posts in {} commits", next, store.stats().operations);
    store.close();
    thread.join().unwrap();
}

criterion_group!(benches, read, keep);
criterion_main!(benches);
