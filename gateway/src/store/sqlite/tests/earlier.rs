//! Stores that an earlier version made.

use super::*;
use crate::store::spool::tests::full_row;

/// A store as schema 1 was, with the three outcomes of [`rows`] and what a boot counted of them.
fn schema_1(folder: &Path) -> Connection {
    let old = Connection::open(folder.join("weir.db")).unwrap();
    old.pragma_update(None, "journal_mode", "WAL").unwrap();
    old.execute_batch(include_str!("../../migrations/0001.sql")).unwrap();
    old.execute_batch(
        "PRAGMA user_version = 1;
        INSERT INTO boots (id, boot, greatest_seq, stored)
            VALUES (1, x'07070707070707070707070707070707', 20, 18);
        INSERT INTO names (id, name) VALUES
            (2, 'chat'), (3, '/v1/chat/*'), (4, 'int8'), (5, 'canary'), (6, 'stable'), (7, 'split'),
            (8, 'llama'), (9, 'client_aborted'), (10, 'draining'), (11, 'forbidden'), (12, '1.3'),
            (13, 'TLS_AES_128_GCM_SHA256'), (14, 'm'), (15, '/v1/chat/completions');
        -- Everything is there.
        INSERT INTO outcomes VALUES (
            x'01010101010101010101010101010101', 1, 2, 1700000000123456789,
            1 | 2 | 4 | 8 | 16 | 32 | 64 | 256, 2, 3, 4, 7, 5, 6, 7, 9999, -2, 8,
            x'0a0000031f40', 2, 503, 499, 9, 10, 11, 'POST', '/v1/chat/completions', 'example.org',
            'curl/8 Grüße', 'k1', x'20010db800000000000000000000000101bb', x'c0000207', 12, 13, 10,
            11, 12, 14, 'm-1', 13, 0, 'length', 0, 1, 2, 3, 4, 5, 6, 7, 8,
            x'03030303030303030303030303030303040404040404040405050505050505050606060606060606',
            'client ' || char(0) || ' \"id\"', 'upstream');
        -- Hardly anything.
        INSERT INTO outcomes (request_id, boot, seq, started, bits, revision, attempts,
                upstream_status, status, path, peer, request_bytes, response_bytes, chunks)
            VALUES (zeroblob(16), 1, 0, 0, 0, 0, 0, 0, 0, '', x'000000000000', 0, 0, 0);
        -- A path that is its pattern.
        INSERT INTO outcomes (request_id, boot, seq, started, bits, pattern, revision, attempts,
                upstream_status, status, outcome, peer, request_bytes, response_bytes, chunks)
            VALUES (x'02020202020202020202020202020202', 1, 3, 5, 0, 15, 0, 0, 0, 200, 1,
                x'000000000000', 0, 0, 0);",
    )
    .unwrap();
    old
}

/// What [`schema_1`] has, as it is today.
fn rows() -> [Box<Row>; 3] {
    let path = intern("/v1/chat/completions");
    let last = Row {
        request_id: [2; 16],
        seq: 3,
        started_unix_nanos: 5,
        pattern: Some(path),
        path: path.into(),
        status: 200,
        outcome: Some(Outcome::Ok),
        ..Row::default()
    };
    [full_row(), Row::default(), last].map(Box::new)
}

#[test]
fn outcomes_of_schema_1_are_told_as_if_they_were_added_today() {
    let Opened { folder: _folder, store: mut today } = open();
    today.add_outcomes(BOOT, &rows()).unwrap();

    let folder = tempfile::tempdir().unwrap();
    drop(schema_1(folder.path()));
    let mut store = open_in(folder.path());
    for row in rows() {
        let told = store.outcome(row.request_id).unwrap().unwrap();
        assert_eq!(Some(told), today.outcome(row.request_id).unwrap());
    }
    let all = OutcomeQuery { limit: 10, ..OutcomeQuery::default() };
    assert_eq!(store.outcomes(&all).unwrap(), today.outcomes(&all).unwrap());
    let aborted = OutcomeQuery { outcome: Some("client_aborted".into()), ..all.clone() };
    assert_eq!(seqs(&store.outcomes(&aborted).unwrap()), [2]);
    // The counts are those of the boot, not of what is left; rows that come again are known.
    store.add_outcomes(BOOT, &rows()).unwrap();
    assert_eq!(store.boots().unwrap(), [(BOOT, 20, 18)]);
    assert_eq!(integrity(&store), "ok");
    let left: i64 = store
        .connection
        .query_row(
            "SELECT count(*) FROM sqlite_schema WHERE name GLOB '*outcomes_[12]*'
                AND name NOT LIKE 'sqlite_autoindex%'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(left, 0);
    drop(store);
    assert_eq!(open_in(folder.path()).outcomes(&all).unwrap().len(), 3);
}

#[test]
fn a_move_that_fails_half_way_leaves_the_old_store() {
    let folder = tempfile::tempdir().unwrap();
    let old = schema_1(folder.path());
    // Nothing of ours wrote this.
    old.execute_batch("UPDATE outcomes SET trace = x'00' WHERE seq = 3").unwrap();
    drop(old);
    let failed = Sqlite::open(&folder.path().join("weir.db")).unwrap_err();
    assert!(matches!(failed, StoreError::Damaged(_)), "{failed}");

    let old = Connection::open(folder.path().join("weir.db")).unwrap();
    let (version, rows): (i64, i64) = old
        .query_row("SELECT user_version, count(*) FROM pragma_user_version, outcomes", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!((version, rows), (1, 3));
    old.execute_batch("UPDATE outcomes SET trace = NULL WHERE seq = 3").unwrap();
    drop(old);
    assert!(open_in(folder.path()).outcome([2; 16]).unwrap().is_some());
}

/// A store as schema 5 was, with rows of two boots, and two of them unlike the others.
fn schema_5(folder: &Path) -> Connection {
    let old = Connection::open(folder.join("weir.db")).unwrap();
    old.pragma_update(None, "journal_mode", "WAL").unwrap();
    for sql in [
        include_str!("../../migrations/0001.sql"),
        include_str!("../../migrations/0002.sql"),
        "DROP TABLE outcomes_1;",
        include_str!("../../migrations/0003.sql"),
        include_str!("../../migrations/0004.sql"),
        include_str!("../../migrations/0005.sql"),
        "PRAGMA user_version = 5;
        INSERT INTO boots (id, boot, greatest_seq, stored)
            VALUES (1, x'07070707070707070707070707070707', 700, 700),
                (2, x'08080808080808080808080808080808', 2, 2);
        INSERT INTO names (id, name) VALUES (2, 'chat'), (3, 'timeout'), (4, 'int8'), (5, 'canary');
        INSERT INTO ways VALUES (1, 2, 0, 0, 0, 0, 0), (2, 2, 0, 4, 5, 0, 0);",
    ] {
        old.execute_batch(sql).unwrap();
    }
    let mut add = old
        .prepare(
            "INSERT INTO outcomes
                (boot, id_high, id_low, seq, way, status, outcome, t_total, unit_hash, more)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )
        .unwrap();
    // As `More { attempts: 1, method: "POST", .. }` was written; the rest is unknown.
    let more = [&[1][..], &[0; 10], &[1], &[0; 21], b"\x04POST"].concat();
    for seq in 1..=700_i64 {
        // Seven a millisecond.
        let id = ids::RequestId::new(START_NANOS + seq.cast_unsigned() * 142_857, 1 << 40).0;
        let number = u128::from_be_bytes(id);
        let halves = [number >> 64, number].map(|half| half.to_le_bytes());
        let [high, low] = halves.map(|bytes| i64::from_le_bytes(bytes[..8].try_into().unwrap()));
        let failed = seq == 650;
        add.execute(params![
            if seq % 100 == 7 { 2 } else { 1 },
            high,
            low,
            seq,
            if failed { 2 } else { 1 },
            if failed { 504 } else { 200 },
            if failed { 3 } else { 1 },
            seq * 10,
            failed.then_some(-2),
            more,
        ])
        .unwrap();
    }
    drop(add);
    old
}

#[test]
fn outcomes_of_schema_5_are_in_blocks_and_told_as_before() {
    let folder = tempfile::tempdir().unwrap();
    drop(schema_5(folder.path()));
    let mut store = open_in(folder.path());
    let all = OutcomeQuery { limit: 1_000, ..OutcomeQuery::default() };
    let told = store.outcomes(&all).unwrap();
    assert_eq!(seqs(&told), (1..=700).rev().collect::<Vec<_>>());
    assert!(told.iter().all(|row| row["http.request.method"] == "POST" && row["attempts"] == 1));
    let failed = OutcomeQuery { outcome: Some("timeout".into()), ..all.clone() };
    let [failed] = &store.outcomes(&failed).unwrap()[..] else { panic!("one") };
    assert_eq!(failed["seq"], 650);
    assert_eq!((&failed["variant"], &failed["route"]), (&json!("canary"), &json!("chat")));
    assert_eq!(failed["unit.hash"], "fffffffffffffffe");
    assert_eq!(
        (&failed["t_total"], &failed["http.response.status_code"]),
        (&json!(6_500), &json!(504))
    );
    assert_eq!(told[700 - 107]["boot_id"], ids::hex(&[8; 16]));
    assert_eq!(store.boots().unwrap(), [(BOOT, 700, 700), ([8; 16], 2, 2)]);
    // 100 ms: three slices, blocks of one boot each, in the order of time.
    let most: i64 =
        store.connection.query_row("SELECT max(rows) FROM outcomes", [], |row| row.get(0)).unwrap();
    assert!((90..=512).contains(&most), "{most}");
    assert_eq!(integrity(&store), "ok");
    drop(store);
    assert_eq!(open_in(folder.path()).outcomes(&all).unwrap(), told);
}

#[test]
fn a_row_of_schema_5_that_cannot_be_read_leaves_the_old_store() {
    let folder = tempfile::tempdir().unwrap();
    let old = schema_5(folder.path());
    old.execute_batch("UPDATE outcomes SET more = x'02' WHERE seq = 3").unwrap();
    drop(old);
    let failed = Sqlite::open(&folder.path().join("weir.db")).unwrap_err();
    assert!(matches!(failed, StoreError::Damaged(_)), "{failed}");
    let old = Connection::open(folder.path().join("weir.db")).unwrap();
    let version: i64 = old.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    let rows: i64 = old.query_row("SELECT count(*) FROM outcomes", [], |row| row.get(0)).unwrap();
    // As far as it went well.
    assert_eq!((version, rows), (8, 700));
}
