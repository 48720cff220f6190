//! On real files, with real locks, full disks and killed processes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::Instant;

use policies::outcome::{Flag, Outcome, RejectReason};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::names::intern;
use crate::recorder::row::Micros;
use crate::store::spool::tests::full_row;
use crate::store::{Source, State};

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

#[test]
fn secrets_are_made_once_and_kept() {
    let Opened { folder, mut store } = open();
    let made = store.installation().unwrap();
    assert_eq!(made.instance.len(), 32);
    assert_ne!(made.pepper, [0; 32]);
    assert_ne!(made.pepper, made.receipt_key);
    drop(store);
    let kept = open_in(folder.path()).installation().unwrap();
    assert_eq!(
        (kept.hash_key, kept.pepper, kept.receipt_key, kept.instance),
        (made.hash_key, made.pepper, made.receipt_key, made.instance)
    );
}

#[test]
#[cfg(unix)]
fn the_files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let mut opened = open();
    opened.store.installation().unwrap();
    let mut files = 0;
    for entry in fs::read_dir(opened.folder.path()).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        files += 1;
    }
    assert_eq!(files, 3);
}

#[test]
fn the_settings_are_the_promised_ones() {
    let Opened { folder: _folder, store } = open();
    let number = |pragma| -> i64 {
        store.connection.pragma_query_value(None, pragma, |row| row.get(0)).unwrap()
    };
    assert_eq!(number("synchronous"), 2);
    assert_eq!(number("foreign_keys"), 1);
    assert_eq!(number("journal_size_limit"), 64 << 20);
    assert_eq!(number("wal_autocheckpoint"), 1000);
    assert_eq!(number("application_id"), APPLICATION_ID);
    let mode: String =
        store.connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}

#[test]
fn keys_are_kept_and_revoked_with_their_audit_entries() {
    let Opened { folder: _folder, mut store } = open();
    let bare = KeyRow {
        routes: None,
        expires_at: None,
        requests_per_second: None,
        concurrent: None,
        tokens_per_minute: None,
        created_at: 9,
        ..key_row("k2")
    };
    store.add_key(&key_row("k1"), &audit_row("key.create")).unwrap();
    store.add_key(&bare, &audit_row("key.create")).unwrap();
    assert_eq!(store.keys().unwrap(), [key_row("k1"), bare.clone()]);

    let taken = store.add_key(&key_row("k1"), &audit_row("key.create")).unwrap_err();
    assert_eq!(taken.to_string(), "key k1 exists already");
    let missing = store.revoke_key("k3", 9, &audit_row("key.revoke")).unwrap_err();
    assert_eq!(missing.to_string(), "key k3 does not exist");
    store.revoke_key("k1", 8, &audit_row("key.revoke")).unwrap();
    store.revoke_key("k1", 9, &audit_row("key.revoke")).unwrap();
    assert_eq!(store.keys().unwrap()[0], KeyRow { revoked_at: Some(8), ..key_row("k1") });
    // What failed or changed nothing left no entry.
    assert_eq!(store.verify_audit().unwrap(), Ok(3));
    assert_eq!(store.audited(), 3, "what was refused or changed nothing is not counted");
}

/// A change of revisions alone.
fn revisions(rows: &[(RevisionRow, AuditRow)]) -> Change {
    Change { revisions: rows.to_vec(), ..Change::default() }
}

#[test]
fn revisions_are_numbered_without_gaps_and_stored_all_or_none() {
    let Opened { folder: _folder, mut store } = open();
    let audit = audit_row("weights.set");
    let with_audit = |experiment: &str, number| (revision_row(experiment, number), audit.clone());
    let first = [with_audit("int8", 1), with_audit("int8", 2), with_audit("b", 1)];
    store.add_change(&revisions(&first)).unwrap();
    store.add_change(&revisions(&[with_audit("int8", 3)])).unwrap();

    let other = RevisionRow { by: "ada".into(), ..revision_row("int8", 3) };
    let late = revisions(&[with_audit("b", 2), (other, audit.clone())]);
    let taken = store.add_change(&late).unwrap_err();
    assert_eq!(taken.to_string(), "revision 3 of experiment int8 exists already");
    let gap = store.add_change(&revisions(&[with_audit("int8", 5)])).unwrap_err();
    assert_eq!(gap.to_string(), "revision 4 of experiment int8 does not exist");

    assert_eq!(store.experiments().unwrap(), [revision_row("b", 1), revision_row("int8", 3)]);
    let numbers = |rows: Vec<RevisionRow>| rows.iter().map(|row| row.revision).collect::<Vec<_>>();
    assert_eq!(numbers(store.revisions("int8", None, 2).unwrap()), [3, 2]);
    assert_eq!(numbers(store.revisions("int8", Some(2), 2).unwrap()), [1]);
    assert_eq!(numbers(store.revisions("none", None, 2).unwrap()), NONE);
    assert_eq!(store.verify_audit().unwrap(), Ok(4));
    for state in [State::Running, State::Stopped, State::Ended] {
        for source in [Source::File, Source::Api, Source::Ramp] {
            let next = store.revisions("b", None, 1).unwrap()[0].revision + 1;
            let row = RevisionRow { state, source, undoes: None, ..revision_row("b", next) };
            store.add_change(&revisions(&[(row.clone(), audit.clone())])).unwrap();
            assert_eq!(store.revisions("b", None, 1).unwrap(), [row]);
        }
    }
}

#[test]
fn of_those_who_race_for_a_revision_one_gets_it() {
    let Opened { folder, mut store } = open();
    store.add_change(&revisions(&[(revision_row("int8", 1), audit_row("weights.set"))])).unwrap();
    for revision in 2..12 {
        let start = Arc::new(Barrier::new(4));
        let racers: Vec<_> = (0..4)
            .map(|racer| {
                let start = Arc::clone(&start);
                let path = folder.path().join("weir.db");
                std::thread::spawn(move || {
                    let mut store = Sqlite::open(&path).unwrap();
                    let row = RevisionRow { at: racer, ..revision_row("int8", revision) };
                    let row = (row, audit_row("weights.set"));
                    start.wait();
                    store.add_change(&revisions(&[row]))
                })
            })
            .collect();
        let results: Vec<_> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        for result in results.into_iter().filter_map(Result::err) {
            assert!(matches!(result, StoreError::Exists(_)), "{result:?}");
        }
    }
    assert_eq!(store.verify_audit().unwrap(), Ok(11));
}

#[test]
fn those_who_make_a_store_at_the_same_moment_get_the_same_one() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.db");
        let makers: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || Sqlite::open(&path).unwrap().installation().unwrap())
            })
            .collect();
        let made: Vec<_> = makers.into_iter().map(|maker| maker.join().unwrap()).collect();
        assert!(made.iter().all(|each| each.pepper == made[0].pepper));
    }
}

#[test]
fn what_the_file_says_now_replaces_what_it_said() {
    let Opened { folder: _folder, mut store } = open();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let says = |pairs: &[_]| Change { statements: Some(pairs.to_vec()), ..Change::default() };
    store.add_change(&says(&[pair("b", "1"), pair("a", "2")])).unwrap();
    assert_eq!(store.file_statements().unwrap(), [pair("a", "2"), pair("b", "1")]);
    store.add_change(&says(&[pair("a", "3")])).unwrap();
    store.add_change(&Change::default()).unwrap();
    assert_eq!(store.file_statements().unwrap(), [pair("a", "3")]);
}

#[test]
fn layers_are_kept() {
    let Opened { folder: _folder, mut store } = open();
    let layer = |slots: &[&str], bytes: &[u8]| Change {
        layers: vec![(
            "ui".into(),
            slots.iter().map(|slot| (*slot).to_owned()).collect(),
            bytes.to_vec(),
        )],
        ..Change::default()
    };
    store.add_change(&layer(&["a", "b"], &[1])).unwrap();
    store.add_change(&layer(&["a"], &[2, 0])).unwrap();
    assert_eq!(store.layers().unwrap(), [("ui".into(), vec!["a".to_owned()], vec![2, 0])]);
}

#[test]
fn a_change_is_kept_whole_or_not_at_all_and_twice_is_once() {
    let Opened { folder: _folder, mut store } = open();
    let whole = Change {
        revisions: vec![
            (revision_row("int8", 1), audit_row("weights.set")),
            (revision_row("b", 1), audit_row("experiment.create")),
        ],
        statements: Some(vec![("int8".into(), "[]".into())]),
        layers: vec![("ui".into(), vec!["int8".into()], vec![1])],
    };
    // The last thing that is written fails, as on a disk that fills up.
    let cut = "CREATE TRIGGER cut BEFORE INSERT ON layers BEGIN SELECT RAISE(ABORT, 'full'); END";
    store.connection.execute_batch(cut).unwrap();
    store.add_change(&whole).unwrap_err();
    assert!(store.experiments().unwrap().is_empty());
    assert!(store.file_statements().unwrap().is_empty());
    assert_eq!(store.verify_audit().unwrap(), Ok(0));

    store.connection.execute_batch("DROP TRIGGER cut").unwrap();
    // Whoever does not know whether it was kept may do it again.
    store.add_change(&whole).unwrap();
    store.add_change(&whole).unwrap();
    assert_eq!(store.experiments().unwrap(), [revision_row("b", 1), revision_row("int8", 1)]);
    assert_eq!(store.layers().unwrap(), whole.layers);
    assert_eq!(store.verify_audit().unwrap(), Ok(2));
    // Also when more has come since, but not with anything else in its place.
    let next = (revision_row("int8", 2), audit_row("weights.set"));
    store.add_change(&revisions(&[next])).unwrap();
    store.add_change(&whole).unwrap();
    let mut other = whole;
    other.revisions[0].0.at += 1;
    let taken = store.add_change(&other).unwrap_err();
    assert_eq!(taken.to_string(), "revision 1 of experiment int8 exists already");
    assert_eq!(store.verify_audit().unwrap(), Ok(3));
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

#[test]
fn the_audit_log_is_listed_newest_first() {
    let Opened { folder: _folder, mut store } = open();
    for number in 1..=5 {
        let row = AuditRow { at: number, ..audit_row("key.create") };
        store.add_audit(&row).unwrap();
    }
    let listed = store.audit(Some(5), 2).unwrap();
    assert_eq!(listed.iter().map(|entry| entry.id).collect::<Vec<_>>(), [4, 3]);
    assert_eq!(listed[0].row, AuditRow { at: 4, ..audit_row("key.create") });
    assert_eq!(listed[0].hash.len(), 64);
    assert_eq!(store.audit(None, 100).unwrap().len(), 5);
}

#[test]
fn the_audit_log_cannot_be_changed_through_sql() {
    let Opened { folder: _folder, mut store } = open();
    for _ in 0..3 {
        store.add_audit(&audit_row("key.create")).unwrap();
    }
    for sql in [
        "UPDATE audit SET entry = '{}' WHERE id = 2",
        "DELETE FROM audit WHERE id = 3",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit VALUES (2, '{}', zeroblob(32))",
        "INSERT INTO audit VALUES (9, '{}', zeroblob(32))",
    ] {
        assert!(store.connection.execute(sql, []).is_err(), "{sql}");
    }
    assert_eq!(store.verify_audit().unwrap(), Ok(3));
}

#[test]
fn whatever_is_changed_in_the_audit_log_breaks_its_chain() {
    let Opened { folder: _folder, mut store } = open();
    for number in 1..=5 {
        store.add_audit(&AuditRow { at: number, ..audit_row("key.create") }).unwrap();
    }
    store
        .connection
        .execute_batch(
            "DROP TRIGGER audit_is_never_changed; DROP TRIGGER audit_is_never_deleted;
             DROP TRIGGER audit_has_no_gaps;",
        )
        .unwrap();
    let (entry, hash): (String, [u8; 32]) = store
        .connection
        .query_row("SELECT entry, hash FROM audit WHERE id = 3", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    let put = |store: &Sqlite, entry: &str, hash: &[u8]| {
        let sql = "UPDATE audit SET entry = ?1, hash = ?2 WHERE id = 3";
        store.connection.execute(sql, params![entry, hash]).unwrap();
    };
    // Every byte of an entry, one after the other.
    for at in 0..entry.len() {
        let mut changed = entry.clone().into_bytes();
        changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
        put(&store, std::str::from_utf8(&changed).unwrap(), &hash);
        assert_eq!(store.verify_audit().unwrap(), Err(3), "byte {at}");
    }
    let mut other = hash;
    other[31] ^= 1;
    put(&store, &entry, &other);
    assert_eq!(store.verify_audit().unwrap(), Err(3));
    put(&store, &entry, &hash);
    assert_eq!(store.verify_audit().unwrap(), Ok(5));

    store.connection.execute("DELETE FROM audit WHERE id = 4", []).unwrap();
    assert_eq!(store.verify_audit().unwrap(), Err(4));
    store.connection.execute("UPDATE audit SET id = 4 WHERE id = 5", []).unwrap();
    assert_eq!(store.verify_audit().unwrap(), Err(4));
}

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
    for (sql, index) in outcomes::plans() {
        let mut statement =
            store.connection.prepare(&["EXPLAIN QUERY PLAN ", sql].concat()).unwrap();
        let plan: Vec<String> =
            statement.raw_query().mapped(|row| row.get(3)).collect::<Result<_, _>>().unwrap();
        let plan = plan.join("\n");
        assert!(plan.contains(index), "{sql}\n{plan}");
        assert!(!plan.contains("SCAN"), "{sql}\n{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{sql}\n{plan}");
    }
}

#[test]
fn only_what_went_wrong_is_in_the_extra_index() {
    let Opened { folder: _folder, mut store } = open();
    store.add_outcomes(BOOT, &outcome_rows(1..10)).unwrap();
    let failed = Row {
        outcome: Some(Outcome::UpstreamError),
        flag: Some(Flag::UpstreamClosed),
        ..outcome_row(10)
    };
    store.add_outcomes(BOOT, &[Box::new(failed)]).unwrap();
    let entries: i64 = store
        .connection
        .query_row(
            "SELECT count(*) FROM outcomes INDEXED BY outcomes_not_ok WHERE outcome <> 1",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(entries, 1);
}

#[test]
fn old_outcomes_are_deleted_oldest_first_and_stay_counted() {
    let Opened { folder: _folder, mut store } = open();
    store.add_outcomes(BOOT, &outcome_rows(1..101)).unwrap();
    let before = i64::try_from(START_NANOS / 1000).unwrap() + 51_000;
    assert_eq!(store.delete_outcomes(before, 30).unwrap(), 30);
    let all = OutcomeQuery { limit: 1000, ..OutcomeQuery::default() };
    assert_eq!(seqs(&store.outcomes(&all).unwrap()), (31..=100).rev().collect::<Vec<_>>());
    assert_eq!(store.delete_outcomes(before, 30).unwrap(), 20);
    assert_eq!(store.delete_outcomes(before, 30).unwrap(), 0);
    assert_eq!(seqs(&store.outcomes(&all).unwrap()), (51..=100).rev().collect::<Vec<_>>());
    assert_eq!(store.boots().unwrap(), [(BOOT, 100, 100)]);
}

#[test]
fn a_name_of_a_failed_batch_is_not_used_by_the_next() {
    let Opened { folder, mut store } = open();
    store.add_outcomes(BOOT, &outcome_rows(1..2)).unwrap();
    store.connection.pragma_update_and_check(None, "max_page_count", 1, |_| Ok(())).unwrap();
    let row = |seq, name| {
        let name = Some(intern(name));
        Box::new(Row { backend: name, host: "h".repeat(8000), ..outcome_row(seq) })
    };
    let full: Vec<_> = (2..100).map(|seq| row(seq, "lost")).collect();
    assert!(matches!(store.add_outcomes(BOOT, &full), Err(StoreError::Unavailable(_))));
    lift_page_limit(&store);
    store.add_outcomes(BOOT, &[row(2, "other")]).unwrap();
    store.add_outcomes(BOOT, &[row(3, "lost")]).unwrap();
    drop(store);
    let mut store = open_in(folder.path());
    for (seq, name) in [(2, "other"), (3, "lost")] {
        let told = store.outcome(outcome_row(seq).request_id).unwrap().unwrap();
        assert_eq!(told["backend"], name);
    }
}

fn lift_page_limit(store: &Sqlite) {
    let most = i64::from(u32::MAX - 1);
    store.connection.pragma_update_and_check(None, "max_page_count", most, |_| Ok(())).unwrap();
}

/// F12: recovery without a restart, nothing half stored.
#[test]
fn a_full_database_refuses_whole_batches_and_recovers_when_there_is_room() {
    let Opened { folder: _folder, mut store } = open();
    store.installation().unwrap();
    store.add_outcomes(BOOT, &outcome_rows(1..513)).unwrap();
    let pages: i64 =
        store.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store
        .connection
        .pragma_update_and_check(None, "max_page_count", pages + 2, |_| Ok(()))
        .unwrap();
    let full = store.add_outcomes(BOOT, &outcome_rows(513..1025)).unwrap_err();
    assert!(full.to_string().contains("full"), "{full}");
    assert!(matches!(full, StoreError::Unavailable(_)));
    assert_eq!(store.boots().unwrap(), [(BOOT, 512, 512)]);

    lift_page_limit(&store);
    store.add_outcomes(BOOT, &outcome_rows(513..1025)).unwrap();
    assert_eq!(store.boots().unwrap(), [(BOOT, 1024, 1024)]);
    assert_eq!(integrity(&store), "ok");
}

/// The same on a disk that is really full: a small tmpfs, in a mount namespace of its own.
#[test]
fn a_full_disk_refuses_whole_batches_and_recovers_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new("unshare")
        .args([
            "-m",
            "sh",
            "-c",
            "mount -t tmpfs -o size=3m none \"$1\" && exec \"$2\" \"$3\" --exact",
        ])
        .arg("sh")
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .arg(test_name("child_fills_its_disk"))
        .env("WEIR_TEST_FULL_DISK", folder.path())
        .output();
    let output = match child {
        Ok(output) => output,
        Err(error) => return eprintln!("SKIPPED: no unshare: {error}"),
    };
    let text = String::from_utf8_lossy(&output.stderr);
    if text.contains("unshare failed") || text.contains("mount:") {
        return eprintln!("SKIPPED: not allowed to mount: {text}");
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{text}");
}

#[test]
fn child_fills_its_disk() {
    let Some(folder) = std::env::var_os("WEIR_TEST_FULL_DISK") else { return };
    let folder = Path::new(&folder);
    let mut store = open_in(folder);
    store.installation().unwrap();
    fs::write(folder.join("ballast"), vec![1; 1 << 20]).unwrap();
    let mut next = 1;
    let error = loop {
        match store.add_outcomes(BOOT, &outcome_rows(next..next + 512)) {
            Ok(()) => next += 512,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert_eq!(store.boots().unwrap(), [(BOOT, next - 1, next - 1)]);
    fs::remove_file(folder.join("ballast")).unwrap();
    store.add_outcomes(BOOT, &outcome_rows(next..next + 512)).unwrap();
    store.check().unwrap();
    assert_eq!(store.boots().unwrap(), [(BOOT, next + 511, next + 511)]);
    assert_eq!(integrity(&store), "ok");
}

/// F13.
#[test]
fn a_locked_database_is_unavailable_after_the_timeout_and_then_available_again() {
    let Opened { folder, mut store } = open();
    store.installation().unwrap();
    let other = Connection::open(folder.path().join("weir.db")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let start = Instant::now();
    let locked = store.add_outcomes(BOOT, &outcome_rows(1..3)).unwrap_err();
    assert!(matches!(locked, StoreError::Unavailable(_)), "{locked:?}");
    assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(matches!(store.check(), Err(StoreError::Unavailable(_))));
    // Reading goes on beside a writer.
    assert!(store.boots().unwrap().is_empty());

    other.execute_batch("ROLLBACK").unwrap();
    store.check().unwrap();
    store.add_outcomes(BOOT, &outcome_rows(1..3)).unwrap();
    assert_eq!(store.boots().unwrap(), [(BOOT, 2, 2)]);
}

#[test]
fn after_reopening_everything_works_as_before() {
    let Opened { folder: _folder, mut store } = open();
    store.add_outcomes(BOOT, &outcome_rows(1..3)).unwrap();
    store.reopen().unwrap();
    store.add_outcomes(BOOT, &outcome_rows(2..5)).unwrap();
    assert_eq!(store.boots().unwrap(), [(BOOT, 4, 4)]);
    // What an input/output error leaves behind.
    store.state = Health::InDoubt;
    store.add_outcomes(BOOT, &outcome_rows(5..6)).unwrap();
    assert!(matches!(store.state, Health::Sound));
    assert_eq!(store.boots().unwrap(), [(BOOT, 5, 5)]);
}

#[test]
fn an_empty_file_becomes_a_store() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("weir.db"), "").unwrap();
    let mut store = open_in(folder.path());
    store.check().unwrap();
    assert!(
        matches!(migrate::version(&store.connection), Ok(version) if version == migrate::known())
    );
}

/// The file, and what lies beside it.
fn bytes_of(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // The index of the log in shared memory is not data.
        .filter(|path| !path.to_string_lossy().ends_with("-shm"))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .filter(|(_, bytes)| !bytes.is_empty())
        .collect();
    files.sort();
    files
}

/// Opens a file that must be refused, and sees that it is as before.
fn refused(folder: &Path) -> StoreError {
    let before = bytes_of(folder);
    let error = Sqlite::open(&folder.join("weir.db")).unwrap_err();
    assert!(before == bytes_of(folder), "changed although refused: {error}");
    error
}

#[test]
fn a_store_of_a_later_version_is_refused_and_left_alone() {
    let Opened { folder, store } = open();
    store.connection.pragma_update(None, "user_version", migrate::known() + 1).unwrap();
    // Leaves its write-ahead log behind, as a crash does.
    keep_hands_off(&store.connection);
    drop(store);
    let error = refused(folder.path());
    assert_eq!(error.to_string(), "store has schema 2, this version knows up to 1");
}

#[test]
fn what_is_not_a_store_is_refused_and_left_alone() {
    for bytes in [&b"hello"[..], &[b'x'; 100_000], b"SQLite format 3\0 but not really"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("weir.db"), bytes).unwrap();
        let error = refused(folder.path());
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains("Restore a backup") && text.contains("aside"), "{text}");
    }

    let folder = tempfile::tempdir().unwrap();
    let other = Connection::open(folder.path().join("weir.db")).unwrap();
    other.execute_batch("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)").unwrap();
    drop(other);
    let error = refused(folder.path());
    assert!(error.to_string().contains("another program"), "{error}");

    let missing = Sqlite::open(Path::new("/no/such/folder/weir.db")).unwrap_err();
    assert!(matches!(missing, StoreError::Unavailable(_)), "{missing}");
    let folder = tempfile::tempdir().unwrap();
    let error = Sqlite::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
}

/// A store with every page in the file itself, and the place of one that says `needle`.
fn closed_store(needle: &[u8]) -> (TempDir, PathBuf, usize) {
    let Opened { folder, mut store } = open();
    for number in 0..200 {
        let reason = Some(format!("needle-{number:04}"));
        store.add_audit(&AuditRow { reason, ..audit_row("key.create") }).unwrap();
    }
    store.add_outcomes(BOOT, &outcome_rows(1..2000)).unwrap();
    drop(store);
    let path = folder.path().join("weir.db");
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    (folder, path, at)
}

/// Spoils the page that holds the byte at `at`.
fn spoil(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let page = at / 4096 * 4096;
    bytes[page..page + 64].fill(0xee);
    fs::write(path, bytes).unwrap();
}

/// F14 at start.
#[test]
fn a_damaged_store_is_refused_at_start_and_left_alone() {
    let (folder, path, at) = closed_store(b"needle-0100");
    spoil(&path, at);
    let error = refused(folder.path());
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    assert!(error.to_string().contains("Nothing was changed"), "{error}");
}

/// F14 at run time.
#[test]
fn damage_met_at_run_time_stops_writing_until_the_file_is_whole_again() {
    let (folder, path, at) = closed_store(b"needle-0100");
    let whole = fs::read(&path).unwrap();
    let mut store = open_in(folder.path());
    // The check at the start has read the page already.
    store.connection.execute_batch("PRAGMA shrink_memory").unwrap();
    spoil(&path, at);
    let before = bytes_of(folder.path());
    let met = store.verify_audit().unwrap_err();
    assert!(matches!(met, StoreError::Damaged(_)), "{met}");
    let next = store.add_outcomes(BOOT, &outcome_rows(2000..2001)).unwrap_err();
    assert!(matches!(next, StoreError::Damaged(_)), "{next}");
    assert!(matches!(store.reopen(), Err(StoreError::Damaged(_))));
    assert!(matches!(store.check(), Err(StoreError::Damaged(_))));
    assert!(before == bytes_of(folder.path()), "written to although damaged");

    fs::write(&path, whole).unwrap();
    store.reopen().unwrap();
    store.add_outcomes(BOOT, &outcome_rows(2000..2001)).unwrap();
    assert_eq!(store.boots().unwrap(), [(BOOT, 2000, 2000)]);
}

#[test]
fn a_large_file_is_checked_without_its_outcomes() {
    for (needle, is_refused) in [(&b"needle-0100"[..], true), (b"OpenAI/Python", false)] {
        let (_folder, path, at) = closed_store(needle);
        spoil(&path, at);
        let connection = Connection::open(&path).unwrap();
        assert!(look_over(&connection, &path, FULL_CHECK_BYTES).is_err());
        let large = look_over(&connection, &path, FULL_CHECK_BYTES + 1);
        assert_eq!(large.is_err(), is_refused);
    }
}

#[test]
fn every_table_but_the_outcomes_is_in_the_check_of_a_large_file() {
    let Opened { folder: _folder, store } = open();
    let mut statement = store
        .connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        .unwrap();
    let tables: Vec<String> =
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    for table in tables {
        let checked = CONTROL_TABLES.contains(&table.as_str());
        assert_eq!(checked, !["outcomes", "tallies"].contains(&table.as_str()), "{table}");
    }
}

/// The full name of a test of this file, as the test binary knows it.
fn test_name(test: &str) -> String {
    let module = module_path!().split_once("::").unwrap().1;
    format!("{module}::{test}")
}

/// F19 in small: ten times.
#[test]
fn what_was_acknowledged_is_there_after_kill_9() {
    const BATCH: u64 = 64;
    let folder = tempfile::tempdir().unwrap();
    let mut killed_between_acks = 0;
    for life in 1..=10_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([&test_name("child_writes_until_it_is_killed"), "--exact", "--nocapture"])
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
