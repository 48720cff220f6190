//! What an answer costs on its way back: read, counted, and vouched for.
#![allow(missing_docs, reason = "criterion's macros write an undocumented main")]
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gateway::recorder::row::{Micros, Row};
use gateway::recorder::tally::{Tallies, TallyKey};
use gateway::request::receipt::Receipt;
use policies::framing::{HeadLimits, ResponseFraming};
use policies::outcome::Outcome;
use policies::usage::{BodyKind, UsageReader};

const ANSWER: &[u8] = br#"{"id":"chatcmpl-1","object":"chat.completion","created":1763800000,"model":"chat-1","choices":[{"index":0,"message":{"role":"assistant","content":"A weir is a low wall across a river that raises the water and measures its flow."},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":18,"total_tokens":30}}"#;
const EVENT: &[u8] = b"data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" river\"}}]}\n\n";

fn read_usage(c: &mut Criterion) {
    c.bench_function("usage/json", |b| {
        b.iter(|| {
            let mut reader = UsageReader::new(BodyKind::Json);
            reader.feed(black_box(ANSWER));
            reader.finish()
        });
    });
    let mut reader = UsageReader::new(BodyKind::EventStream);
    c.bench_function("usage/event", |b| b.iter(|| reader.feed(black_box(EVENT))));
}

fn scan_answer(c: &mut Criterion) {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 325\r\ndate: Sun, 22 Nov 2026 10:00:00 GMT\r\n\r\n";
    let bytes = [&head[..], ANSWER].concat();
    let limits = HeadLimits { target_bytes: 0, header_bytes: 64 << 10, header_fields: 128 };
    let mut framing = ResponseFraming::new(limits);
    c.bench_function("framing/response", |b| {
        b.iter(|| {
            framing.expect(false);
            framing.scan(black_box(&bytes)).unwrap()
        });
    });
}

fn add_to_tally(c: &mut Criterion) {
    let tallies = Tallies::new(2);
    let key = TallyKey { route: "chat", experiment: "int8", revision: 1, variant: "canary" };
    let cell = tallies.cell(key);
    let row = Row {
        t_total: Micros::from_micros(81_000),
        t_first_byte: Micros::from_micros(12_000),
        output_tokens: Some(18),
        ..Row::default()
    };
    c.bench_function("tally/add", |b| b.iter(|| cell.add(0, black_box(&row), Outcome::Ok)));
}

fn receipts(c: &mut Criterion) {
    let receipt = Receipt {
        request_id: [7; 16],
        at_millis: 1_763_800_000_000,
        unit_hash: 42,
        eligible: true,
        revision: 3,
        key_id: "wk_4711".into(),
        experiment: "int8".into(),
        variant: "canary".into(),
    };
    let key = [9; 32];
    let signed = receipt.sign(&key);
    c.bench_function("receipt/sign", |b| b.iter(|| black_box(&receipt).sign(&key)));
    c.bench_function("receipt/verify", |b| {
        b.iter(|| Receipt::verify(black_box(&signed), &key).unwrap());
    });
}

criterion_group!(benches, read_usage, scan_answer, add_to_tally, receipts);
criterion_main!(benches);
