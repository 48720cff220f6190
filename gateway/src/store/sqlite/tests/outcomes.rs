//! Outcomes and tallies: told as they were, counted once, found by bounded steps, forgotten in order.

use std::time::Instant;

use policies::outcome::{Flag, RejectReason};

use super::*;
use crate::store::spool::tests::full_row;
use crate::store::sqlite::outcomes::plans;

#[test]
fn an_outcome_is_told_in_the_words_of_the_access_log() {
    let Opened { folder: _folder, mut store } = open();
    let row = Row { rejected: None, ..full_row() };
    store.add_outcomes(BOOT, &[Box::new(row)]).unwrap();
    let told = store.outcome([1; 16]).unwrap().unwrap();
    let expected: serde_json::Value = serde_json::from_str(
        r#"{
            "request_id": "01010101-0101-0101-0101-010101010101",
            "boot_id": "07070707070707070707070707070707",
            "seq": 2,
            "timestamp": "2023-11-14T22:13:20.123456789Z",
            "client_request_id": "client \u0000 \"id\"",
            "upstream_request_id": "upstream",
            "trace_id": "03030303030303030303030303030303",
            "span_id": "0404040404040404",
            "parent_span_id": "0505050505050505",
            "attempt.span_id": "0606060606060606",
            "trace_sampled": true,
            "network.peer.address": "2001:db8::1",
            "network.peer.port": 443,
            "client.address": "192.0.2.7",
            "network.protocol.version": "2",
            "tls.protocol.version": "1.3",
            "tls.cipher": "TLS_AES_128_GCM_SHA256",
            "user_agent.original": "curl/8 Grüße",
            "http.request.method": "POST",
            "url.path": "/v1/chat/completions",
            "server.address": "example.org",
            "route": "chat",
            "http.route": "/v1/chat/*",
            "http.request.body.size": 10,
            "auth.key_id": "k1",
            "experiment": "int8",
            "experiment.revision": 7,
            "variant": "canary",
            "variant.served": "stable",
            "assignment.reason": "split",
            "assignment.bucket": 9999,
            "assignment.eligible": true,
            "unit.hash": "fffffffffffffffe",
            "backend": "llama",
            "server.backend.address": "10.0.0.3:8000",
            "attempts": 2,
            "upstream.status": 503,
            "connection.reused": true,
            "http.response.status_code": 499,
            "outcome": "client_aborted",
            "flags": "UAEX",
            "error.type": "forbidden",
            "http.response.body.size": 11,
            "stream": true,
            "stream.chunks": 12,
            "stream.complete": true,
            "gen_ai.request.model": "m",
            "gen_ai.response.model": "m-1",
            "gen_ai.response.finish_reason": "length",
            "gen_ai.usage.input_tokens": 13,
            "gen_ai.usage.output_tokens": 0,
            "usage.source": "estimated",
            "t_header": 0,
            "t_auth": 1,
            "t_connect": 2,
            "t_send": 3,
            "t_first_byte": 4,
            "t_first_token": 5,
            "t_stream": 6,
            "t_total": 7,
            "t_gateway": 8,
            "shadow": true
        }"#,
    )
    .unwrap();
    assert_eq!(told, expected);
    assert_eq!(
        store.outcomes(&OutcomeQuery { limit: 1, ..OutcomeQuery::default() }).unwrap(),
        [told]
    );

    let refused = Row { rejected: Some(RejectReason::NoRoute), ..Row::default() };
    store.add_outcomes(BOOT, &[Box::new(refused)]).unwrap();
    let told = store.outcome([0; 16]).unwrap().unwrap();
    assert_eq!(
        told,
        json!({
            "request_id": "00000000-0000-0000-0000-000000000000",
            "boot_id": "07070707070707070707070707070707",
            "seq": 0,
            "timestamp": "1970-01-01T00:00:00.000000000Z",
            "trace_sampled": false,
            "network.peer.address": "0.0.0.0",
            "network.peer.port": 0,
            "client.address": "0.0.0.0",
            "network.protocol.version": "1.1",
            "connection.reused": false,
            "rejected": "no_route",
            "flags": "-",
            "attempts": 0,
            "http.request.body.size": 0,
            "http.response.body.size": 0,
            "stream": false,
            "stream.chunks": 0,
            "stream.complete": false,
            "shadow": false,
        })
    );
    for (protocol, version) in [
        (crate::recorder::row::Protocol::Http10, "1.0"),
        (crate::recorder::row::Protocol::Http11, "1.1"),
    ] {
        let row = Row { protocol, ..outcome_row(u64::from(version == "1.0") + 5) };
        store.add_outcomes(BOOT, &[Box::new(row.clone())]).unwrap();
        let told = store.outcome(row.request_id).unwrap().unwrap();
        assert_eq!(told["network.protocol.version"], version);
        assert_eq!(told["url.path"], "/v1/chat/completions");
    }
}

#[test]
fn rows_that_come_twice_are_stored_and_counted_once() {
    let Opened { folder, mut store } = open();
    store.add_outcomes(BOOT, &outcome_rows(1..11)).unwrap();
    store.add_outcomes(BOOT, &outcome_rows(5..21)).unwrap();
    let changed = Row { status: 500, ..outcome_row(7) };
    store.add_outcomes(BOOT, &[Box::new(changed)]).unwrap();
    let refused = Row { request_id: [9; 16], ..Row::default() };
    store.add_outcomes(BOOT, &[Box::new(refused)]).unwrap();
    assert_eq!(store.boots().unwrap(), [(BOOT, 20, 20)]);
    let kept = store.outcome(outcome_row(7).request_id).unwrap().unwrap();
    assert_eq!(kept["http.response.status_code"], 200);
    // Two of these never arrive: that is what D4 shows.
    store.add_outcomes([8; 16], &outcome_rows(103..105)).unwrap();
    drop(store);
    assert_eq!(open_in(folder.path()).boots().unwrap(), [(BOOT, 20, 20), ([8; 16], 104, 2)]);
}

#[test]
fn outcomes_are_found_by_each_filter() {
    let Opened { folder: _folder, mut store } = open();
    let rows: Vec<_> = (1..=100)
        .map(|seq| {
            let outcome = if seq % 10 == 3 { Outcome::Timeout } else { Outcome::Ok };
            let route = intern(if seq > 90 { "embed" } else { "chat" });
            let t_total = Micros::from_micros(seq * 1000);
            Row { outcome: Some(outcome), route: Some(route), t_total, ..outcome_row(seq) }
        })
        .map(Box::new)
        .collect();
    store.add_outcomes(BOOT, &rows).unwrap();
    let mut find = |query: OutcomeQuery| {
        let limit = if query.limit == 0 { 1000 } else { query.limit };
        seqs(&store.outcomes(&OutcomeQuery { limit, ..query }).unwrap())
    };
    let any = OutcomeQuery::default;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(find(any()), (1..=100).rev().collect::<Vec<_>>());
    assert_eq!(find(OutcomeQuery { limit: 2, ..any() }), [100, 99]);
    assert_eq!(find(OutcomeQuery { route: text("embed"), limit: 3, ..any() }), [100, 99, 98]);
    assert_eq!(find(OutcomeQuery { variant: text("canary"), ..any() }), [100, 80, 60, 40, 20]);
    assert_eq!(find(OutcomeQuery { experiment: text("int8"), ..any() }).len(), 100);
    assert_eq!(find(OutcomeQuery { experiment: text("other"), ..any() }), NONE);
    assert_eq!(find(OutcomeQuery { outcome: text("ok"), ..any() }).len(), 90);
    assert_eq!(
        find(OutcomeQuery { outcome: text("timeout"), ..any() }),
        (0..10).rev().map(|n| n * 10 + 3).collect::<Vec<_>>()
    );
    assert_eq!(
        find(OutcomeQuery { outcome: text("timeout"), route: text("embed"), ..any() }),
        [93]
    );
    assert_eq!(find(OutcomeQuery { outcome: text("client_aborted"), ..any() }), NONE);
    assert_eq!(find(OutcomeQuery { slower: Some(98_000), ..any() }), [100, 99]);
    assert_eq!(find(OutcomeQuery { unit_hash: Some(outcome_row(42).unit_hash), ..any() }), [42]);
    let since = i64::try_from(START_NANOS / 1000).unwrap() + 98_000;
    assert_eq!(find(OutcomeQuery { since: Some(since), ..any() }), [100, 99, 98]);
    let before = Some(outcome_row(4).request_id);
    assert_eq!(find(OutcomeQuery { before, ..any() }), [3, 2, 1]);
    let injection = text("'; DROP TABLE outcomes; --");
    assert_eq!(find(OutcomeQuery { route: injection, ..any() }), NONE);
}

#[test]
fn a_search_for_something_rare_goes_back_in_bounded_steps() {
    let Opened { folder: _folder, mut store } = open();
    for start in (0..45_000).step_by(5_000) {
        store.add_outcomes(BOOT, &outcome_rows(start..start + 5_000)).unwrap();
    }
    let rare = OutcomeQuery {
        unit_hash: Some(outcome_row(10).unit_hash),
        limit: 5,
        ..OutcomeQuery::default()
    };
    let mut query = rare.clone();
    let mut found = Vec::new();
    for _ in 0..3 {
        let page = store.outcome_page(&query).unwrap();
        found.push(seqs(&page.items));
        query.before = page.next;
    }
    assert_eq!(found, [vec![], vec![], vec![10]]);
    assert_eq!(query.before, None);
    assert_eq!(seqs(&store.outcomes(&rare).unwrap()), [10]);
    // A time ends it earlier: 2 of 45 s, and a minute of slack is all there is.
    let all = store.outcomes(&OutcomeQuery { limit: 50_000, ..OutcomeQuery::default() }).unwrap();
    assert_eq!(seqs(&all), (0..45_000).rev().collect::<Vec<_>>());
    // The end of a page is the end of its last row.
    let ten = store.outcome_page(&OutcomeQuery { limit: 10, ..OutcomeQuery::default() }).unwrap();
    assert_eq!(ten.next, Some(outcome_row(44_990).request_id));
}

/// A sort or a walk through the table would hold up the recorder for minutes.
#[test]
fn no_query_of_outcomes_sorts_or_walks_through_the_table() {
    let Opened { folder: _folder, store } = open();
    for sql in plans() {
        let mut statement =
            store.connection.prepare(&["EXPLAIN QUERY PLAN ", sql].concat()).unwrap();
        let plan: Vec<String> =
            statement.raw_query().mapped(|row| row.get(3)).collect::<Result<_, _>>().unwrap();
        let plan = plan.join("\n");
        assert!(plan.contains("USING INTEGER PRIMARY KEY"), "{sql}\n{plan}");
        assert!(!plan.contains("SCAN"), "{sql}\n{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{sql}\n{plan}");
    }
}

/// What went wrong is rare and asked for most: blocks in which nothing did are not read for it.
#[test]
fn blocks_without_what_is_asked_for_are_not_read() {
    let Opened { folder: _folder, mut store } = open();
    let failed = |seq| {
        Box::new(Row {
            outcome: Some(Outcome::UpstreamError),
            flag: Some(Flag::UpstreamClosed),
            ..outcome_row(seq)
        })
    };
    store.add_outcomes(BOOT, &outcome_rows(1..1000)).unwrap();
    store.add_outcomes(BOOT, &[failed(500)]).unwrap();
    store.add_outcomes(BOOT, &[failed(1000)]).unwrap();
    // Whoever reads them finds this.
    let spoiled = store.connection.execute(
        "UPDATE outcomes SET known = 'x' WHERE kinds & (1 << (SELECT id FROM names WHERE name = ?1)) = 0",
        ["upstream_error"],
    );
    assert!(spoiled.unwrap() > 10);
    let query = OutcomeQuery {
        outcome: Some("upstream_error".into()),
        limit: 10,
        ..OutcomeQuery::default()
    };
    assert_eq!(seqs(&store.outcomes(&query).unwrap()), [1000]);
    let all = OutcomeQuery { outcome: None, ..query };
    assert!(matches!(store.outcomes(&all), Err(StoreError::Damaged(_))));
}

/// Requests of one batch that took long began long ago: each is found in the slice it began in.
#[test]
fn what_took_long_is_found_where_it_began() {
    let Opened { folder: _folder, mut store } = open();
    for first in [1, 2, 3] {
        // Every third of 3,000 requests, of three seconds, in no order.
        let mut rows: Vec<_> =
            (0..1_000).map(|at| Box::new(outcome_row(first + at * 7 % 1_000 * 3))).collect();
        rows.rotate_left(311);
        store.add_new_outcomes(BOOT, &rows).unwrap();
    }
    assert_eq!(store.boots().unwrap(), [(BOOT, 3_000, 3_000)]);
    let all = OutcomeQuery { limit: 10_000, ..OutcomeQuery::default() };
    assert_eq!(seqs(&store.outcomes(&all).unwrap()), (1..=3_000).rev().collect::<Vec<_>>());
    for seq in [1, 999, 1_000, 2_999] {
        let told = store.outcome(outcome_row(seq).request_id).unwrap().unwrap();
        assert_eq!((told["seq"].as_u64(), &told["boot_id"]), (Some(seq), &json!(ids::hex(&BOOT))));
    }
    assert_eq!(store.outcome(outcome_row(3_001).request_id).unwrap(), None);
    // Two of one batch that began at the same time are told apart by what is random in their ids.
    let blocks: i64 =
        store.connection.query_row("SELECT count(*) FROM outcomes", [], |row| row.get(0)).unwrap();
    // 64 ms a slice, three transactions.
    assert!((3 * 46..=3 * 48).contains(&blocks), "{blocks}");
    assert_eq!(integrity(&store), "ok");
}

/// A block is read by whoever asks for one of its rows: it does not grow with the batch.
#[test]
fn a_block_has_so_many_rows_at_most() {
    let Opened { folder: _folder, mut store } = open();
    let rows: Vec<_> = (1..=2_000_u64)
        .map(|seq| {
            let request_id = ids::RequestId::new(START_NANOS, seq << 2);
            Box::new(Row { request_id: request_id.0, ..outcome_row(seq) })
        })
        .collect();
    store.add_new_outcomes(BOOT, &rows).unwrap();
    let blocks: Vec<i64> = {
        let mut statement = store.connection.prepare("SELECT rows FROM outcomes").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(blocks, [512, 512, 512, 464]);
    store.add_outcomes(BOOT, &rows).unwrap();
    assert_eq!(store.boots().unwrap(), [(BOOT, 2_000, 2_000)]);
    let all = OutcomeQuery { limit: 10_000, ..OutcomeQuery::default() };
    assert_eq!(seqs(&store.outcomes(&all).unwrap()), (1..=2_000).rev().collect::<Vec<_>>());
}

#[test]
fn rows_are_counted_as_they_are_added_whatever_their_number() {
    let Opened { folder: _folder, mut store } = open();
    let mut all = 0;
    for count in [1, 15, 16, 17, 32, 100] {
        store.add_outcomes(BOOT, &outcome_rows(all + 1..all + count + 1)).unwrap();
        all += count;
        assert_eq!(store.boots().unwrap(), [(BOOT, all, all)]);
        // After a commit in doubt they come again, with others.
        store.add_outcomes(BOOT, &outcome_rows(all + 1 - count..all + 8)).unwrap();
        all += 7;
        assert_eq!(store.boots().unwrap(), [(BOOT, all, all)]);
    }
    // Twice in one batch; and refused ones among others, which nobody counts.
    let twice = [outcome_rows(1001..1009), outcome_rows(1001..1009)].concat();
    store.add_outcomes(BOOT, &twice).unwrap();
    all += 8;
    assert_eq!(store.boots().unwrap(), [(BOOT, 1008, all)]);
    let mut mixed = outcome_rows(2001..2017);
    *mixed[3] = Row { request_id: [9; 16], ..Row::default() };
    store.add_outcomes(BOOT, &mixed).unwrap();
    assert_eq!(store.boots().unwrap(), [(BOOT, 2016, all + 15)]);
    let query = OutcomeQuery { limit: 1000, ..OutcomeQuery::default() };
    assert_eq!(store.outcomes(&query).unwrap().len() as u64, all + 16);
    assert_eq!(integrity(&store), "ok");
}

/// Ids of the same millisecond, and of the same 244 ns, differ in what is random only.
#[test]
fn requests_of_one_moment_are_told_apart() {
    let Opened { folder: _folder, mut store } = open();
    let rows: Vec<_> = (1..=40_u64)
        .map(|seq| {
            let request_id = ids::RequestId::new(START_NANOS, seq.wrapping_mul(1 << 58) | seq << 2);
            Box::new(Row { request_id: request_id.0, ..outcome_row(seq) })
        })
        .collect();
    store.add_outcomes(BOOT, &rows).unwrap();
    store.add_outcomes(BOOT, &rows).unwrap();
    assert_eq!(store.boots().unwrap(), [(BOOT, 40, 40)]);
    // Page by page, in the order of the ids.
    let mut query = OutcomeQuery { limit: 7, ..OutcomeQuery::default() };
    let mut found = Vec::new();
    loop {
        let page = store.outcome_page(&query).unwrap();
        found.extend(seqs(&page.items));
        query.before = page.next;
        if query.before.is_none() {
            break;
        }
    }
    let mut expected: Vec<_> = rows.iter().map(|row| (row.request_id, row.seq)).collect();
    expected.sort_unstable();
    assert_eq!(found, expected.iter().rev().map(|(_, seq)| *seq).collect::<Vec<_>>());
    for row in rows {
        assert_eq!(store.outcome(row.request_id).unwrap().unwrap()["seq"], row.seq);
    }
}

#[test]
fn people_with_the_shell_read_words() {
    let Opened { folder: _folder, mut store } = open();
    store.add_outcomes(BOOT, &outcome_rows(1..41)).unwrap();
    let newest = "SELECT request_id, timestamp, route, experiment, variant, backend, outcome,
            status || '', t_total || '', unit_hash, seq || ''
        FROM requests ORDER BY block DESC, timestamp DESC LIMIT 1";
    let row: Vec<String> = store
        .connection
        .query_row(newest, [], |row| (0..11).map(|at| row.get(at)).collect())
        .unwrap();
    let id = ids::RequestId(outcome_row(40).request_id).to_string();
    let unit = ids::hex(&outcome_row(40).unit_hash.to_be_bytes());
    assert_eq!(
        row,
        [
            &id,
            "2023-11-14T22:13:20.040Z",
            "chat",
            "int8",
            "canary",
            "llama-8b",
            "ok",
            "200",
            "241040",
            &unit,
            "40"
        ]
    );
    let mut plan = store.connection.prepare(&["EXPLAIN QUERY PLAN ", newest].concat()).unwrap();
    let plan: Vec<String> =
        plan.raw_query().mapped(|row| row.get(3)).collect::<Result<_, _>>().unwrap();
    // The newest blocks only.
    let plan = plan.join("\n").replace("USE TEMP B-TREE FOR LAST TERM OF ORDER BY", "");
    assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    let words: (i64, i64) = store
        .connection
        .query_row(
            "SELECT count(DISTINCT request_id), sum(outcome = 'ok') FROM requests",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!(words, (40, 40));
}

#[test]
fn old_outcomes_are_deleted_oldest_first_and_stay_counted() {
    let Opened { folder: _folder, mut store } = open();
    // A tenth of a second apart: each in a block of its own.
    let at = |seq: u64| START_NANOS + seq * 100_000_000;
    let rows: Vec<_> = (1..=100)
        .map(|seq| {
            let request_id = ids::RequestId::new(at(seq), seq).0;
            Box::new(Row { request_id, started_unix_nanos: at(seq), ..outcome_row(seq) })
        })
        .collect();
    store.add_outcomes(BOOT, &rows).unwrap();
    let before = i64::try_from(at(51) / 1000).unwrap();
    assert_eq!(store.delete_outcomes(before, 30).unwrap(), 30);
    let all = OutcomeQuery { limit: 1000, ..OutcomeQuery::default() };
    assert_eq!(seqs(&store.outcomes(&all).unwrap()), (31..=100).rev().collect::<Vec<_>>());
    assert_eq!(store.delete_outcomes(before, 30).unwrap(), 20);
    assert_eq!(store.delete_outcomes(before, 30).unwrap(), 0);
    assert_eq!(seqs(&store.outcomes(&all).unwrap()), (51..=100).rev().collect::<Vec<_>>());
    assert_eq!(store.boots().unwrap(), [(BOOT, 100, 100)]);
    // Whole blocks go, and only once no row in them is younger.
    let together: Vec<_> = (201..=220)
        .map(|seq| {
            let request_id = ids::RequestId::new(at(200) + seq * 1_000, seq).0;
            Box::new(Row { request_id, ..outcome_row(seq) })
        })
        .collect();
    store.add_outcomes(BOOT, &together).unwrap();
    let within = i64::try_from(at(200) / 1000).unwrap() + 210;
    assert_eq!(store.delete_outcomes(within, 1_000).unwrap(), 50);
    assert_eq!(store.delete_outcomes(within + 64_000, 10).unwrap(), 20);
    assert_eq!(seqs(&store.outcomes(&all).unwrap()), NONE);
}

#[test]
fn tallies_are_replaced_by_boot() {
    let Opened { folder: _folder, mut store } = open();
    let tally = |variant: &str, bytes: &[u8]| TallyRow {
        route: "chat".into(),
        experiment: "int8".into(),
        revision: 7,
        variant: variant.into(),
        bytes: bytes.into(),
    };
    store.set_tallies(BOOT, &[tally("a", &[1]), tally("b", &[2])]).unwrap();
    store.set_tallies(BOOT, &[tally("a", &[3]), tally("b", &[2])]).unwrap();
    store.set_tallies([8; 16], &[tally("a", &[4])]).unwrap();
    assert_eq!(
        store.tallies().unwrap(),
        [(BOOT, tally("a", &[3])), (BOOT, tally("b", &[2])), ([8; 16], tally("a", &[4]))]
    );
    assert_eq!(store.boots().unwrap(), [(BOOT, 0, 0), ([8; 16], 0, 0)]);
}

/// Not a test: prints what a row costs. `cargo test --release -- --ignored --nocapture cost`.
#[test]
#[ignore = "a measurement, not a test"]
fn the_cost_of_a_row() {
    for (label, synchronous) in [("without fsync", "OFF"), ("with fsync", "FULL")] {
        let Opened { folder, mut store } = open();
        store.connection.pragma_update(None, "synchronous", synchronous).unwrap();
        let mut costs = Vec::new();
        let mut next = 1;
        for _ in 0..600 {
            // Requests end in another order than they began.
            let rows: Vec<_> = (next..next + 512)
                .map(|seq| {
                    let mut row = outcome_row(seq);
                    let earlier = seq.wrapping_mul(0x9E37_79B9) % 400 * 1_000_000;
                    row.started_unix_nanos = START_NANOS + seq * 500_000 - earlier;
                    row.request_id = ids::RequestId::new(row.started_unix_nanos, row.unit_hash).0;
                    Box::new(row)
                })
                .collect();
            next += 512;
            let start = Instant::now();
            store.add_outcomes(BOOT, &rows).unwrap();
            costs.push(start.elapsed().as_secs_f64() * 1e6 / 512.0);
        }
        let mean = costs.iter().sum::<f64>() / costs.len() as f64;
        costs.sort_by(f64::total_cmp);
        let (median, p99) = (costs[300], costs[593]);
        let start = Instant::now();
        let rare = OutcomeQuery { slower: Some(u64::MAX), limit: 1, ..OutcomeQuery::default() };
        store.outcome_page(&rare).unwrap();
        let step = start.elapsed();
        let start = Instant::now();
        let page = OutcomeQuery { limit: 100, ..OutcomeQuery::default() };
        assert_eq!(store.outcomes(&page).unwrap().len(), 100);
        let hundred = start.elapsed();
        drop(store);
        let bytes = fs::metadata(folder.path().join("weir.db")).unwrap().len();
        let start = Instant::now();
        open_in(folder.path());
        println!(
            "{label}: median {median:.2}, mean {mean:.2}, p99 {p99:.2} us a row; {} bytes a row; \
             a step back {step:?}; a page of 100 {hundred:?}; open and check {} MiB {:?}",
            bytes / (next - 1),
            bytes >> 20,
            start.elapsed()
        );
    }
}
