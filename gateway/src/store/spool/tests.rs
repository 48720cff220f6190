//! Rows that went through the disk come back as they were, whatever happened to the files.

use std::cell::Cell;

use policies::outcome::{Flag, Outcome, RejectReason};

use super::*;
use crate::names::intern;
use crate::recorder::row::{Micros, Protocol};
use crate::recorder::tried::Tried;

const BOOT: [u8; 16] = [7; 16];

/// A spool of this folder. Another test may be starting a process at this moment, which holds what
/// was open here, the lock of a spool just dropped too, until it has become another program.
fn opened(folder: &Path, max_bytes: u64) -> Spool {
    let began = std::time::Instant::now();
    loop {
        match Spool::open(folder, max_bytes) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                assert!(began.elapsed().as_secs() < 5, "{error}");
                std::thread::yield_now();
            }
            opened => return opened.unwrap(),
        }
    }
}

fn row(seq: u64) -> Box<Row> {
    let path = format!("/v1/\u{1}\"WSP1\u{0}\u{0}{seq}");
    Box::new(Row { seq, path: path.into(), route: Some(intern("chat")), ..Row::default() })
}

#[expect(clippy::vec_box, reason = "the spool takes rows as the recorder has them")]
fn rows(seqs: std::ops::Range<u64>) -> Vec<Box<Row>> {
    seqs.map(row).collect()
}

/// Reads everything back; boots and numbers in order.
fn drain(spool: &mut Spool) -> Vec<u64> {
    let mut seqs = Vec::new();
    spool
        .replay(|boot, rows| {
            assert_eq!(boot, BOOT);
            seqs.extend(rows.iter().map(|row| row.seq));
            Ok(())
        })
        .unwrap();
    seqs
}

fn segment_files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|is| is == extension))
        .collect();
    files.sort();
    files
}

/// A row in which no field is what it is by default.
pub(in crate::store) fn full_row() -> Row {
    Row {
        request_id: [1; 16],
        seq: 2,
        started_unix_nanos: 1_700_000_000_123_456_789,
        client_request_id: "client \u{0} \"id\"".into(),
        upstream_request_id: "upstream".into(),
        trace_id: [3; 16],
        span_id: [4; 8],
        parent_span_id: [5; 8],
        sampled: true,
        attempt_span_id: [6; 8],
        peer: "[2001:db8::1]:443".parse().unwrap(),
        client: "192.0.2.7".parse().unwrap(),
        protocol: Protocol::Http2,
        tls_version: "1.3",
        tls_cipher: "TLS_AES_128_GCM_SHA256",
        user_agent: "curl/8 Grüße".into(),
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        host: "example.org".into(),
        route: Some("chat"),
        pattern: Some("/v1/chat/*"),
        request_bytes: 10,
        key_id: "k1".into(),
        experiment: Some("int8"),
        revision: 7,
        variant: Some("canary"),
        served: Some("stable"),
        reason: "split",
        bucket: Some(9_999),
        unit_hash: u64::MAX - 1,
        eligible: true,
        backend: Some("llama"),
        endpoint: Some("10.0.0.3:8000".parse().unwrap()),
        attempts: 2,
        upstream_status: 503,
        reused: true,
        status: 499,
        outcome: Some(Outcome::ClientAborted),
        rejected: Some(RejectReason::Draining),
        flag: Some(Flag::Forbidden),
        response_bytes: 11,
        stream: true,
        chunks: 12,
        complete: true,
        request_model: Some("m"),
        response_model: "m-1".into(),
        input_tokens: Some(13),
        output_tokens: Some(0),
        tokens_estimated: true,
        finish_reason: "length".into(),
        t_header: Micros::from_micros(0),
        t_auth: Micros::from_micros(1),
        t_connect: Micros::from_micros(2),
        t_send: Micros::from_micros(3),
        t_first_byte: Micros::from_micros(4),
        t_first_token: Micros::from_micros(5),
        t_stream: Micros::from_micros(6),
        t_total: Micros::from_micros(7),
        t_gateway: Micros::from_micros(8),
        shadow: true,
        // Not kept.
        spans: Default::default(),
    }
}

fn survives(row: &Row) {
    let mut bytes = Vec::new();
    encode(BOOT, row, &mut bytes).unwrap();
    let mut records = Records::of(&bytes);
    let (boot, back) = decode(records.next().unwrap().unwrap()).unwrap();
    assert!(records.next().is_none());
    assert_eq!(boot, BOOT);
    assert_eq!(format!("{back:?}"), format!("{row:?}"));
}

#[test]
fn every_field_of_a_row_survives() {
    survives(&Row::default());
    survives(&full_row());
    for outcome in Outcome::ALL {
        survives(&Row { outcome: Some(outcome), ..Row::default() });
    }
    for reason in RejectReason::ALL {
        survives(&Row { rejected: Some(reason), ..Row::default() });
    }
    for flag in Flag::ALL {
        survives(&Row { flag: Some(flag), ..Row::default() });
    }
    for protocol in [Protocol::Http10, Protocol::Http11, Protocol::Http2] {
        survives(&Row { protocol, ..Row::default() });
    }
    // Every field of `full_row` differs from the default, so that none of the above is vacuous.
    let (full, empty) = (format!("{:#?}", full_row()), format!("{:#?}", Row::default()));
    let fields = |text: &str| -> Vec<String> {
        let mut fields = vec![String::new()];
        for line in text.lines() {
            if line.starts_with("    ") && !line.starts_with("     ") && line.contains(": ") {
                fields.push(String::new());
            }
            fields.last_mut().unwrap().push_str(line);
        }
        fields.split_off(1)
    };
    let (full, empty) = (fields(&full), fields(&empty));
    assert_eq!(full.len(), empty.len());
    assert!(full.len() > 55);
    for (full, empty) in full.iter().zip(&empty) {
        // What only spans are made of is not kept.
        assert_eq!(full == empty, full.starts_with("    spans: "), "{full}");
    }
}

#[test]
fn attempts_of_a_row_survive() {
    let mut row = full_row();
    row.spans.began = Micros::from_micros(90);
    Tried::give(
        &[Tried {
            backend: Some("llama".into()),
            endpoint: Some("10.0.0.4:8000".parse().unwrap()),
            reused: true,
            error: Some("upstream_connect_failure".into()),
            began: Some(1),
            ended: Some(80),
            span_id: "0102030405060708".into(),
        }],
        &mut row,
    );
    assert!(row.earlier()[0].failed.is_some());
    survives(&row);
}

#[test]
fn rows_come_back_once_in_order_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = opened(folder.path(), 1 << 30);
    let done = spool.append(BOOT, &rows(0..600)).unwrap();
    assert_eq!(done, Appended { stored: 600, refused: 0 });
    drop(spool);
    let mut spool = opened(folder.path(), 1 << 30);
    let waiting = spool.pending_bytes();
    assert!(waiting > 0);
    spool.append(BOOT, &rows(600..700)).unwrap();
    assert_eq!(segment_files(folder.path(), "spool").len(), 1);
    assert_eq!(drain(&mut spool), (0..700).collect::<Vec<_>>());
    assert_eq!(spool.pending_bytes(), 0);
    assert_eq!(segment_files(folder.path(), "spool"), Vec::<PathBuf>::new());
    assert_eq!(drain(&mut spool), Vec::<u64>::new());
    spool.append(BOOT, &rows(700..701)).unwrap();
    assert_eq!(drain(&mut spool), [700]);
}

#[test]
fn rows_of_two_boots_are_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = opened(folder.path(), 1 << 30);
    spool.append([1; 16], &rows(1..3)).unwrap();
    spool.append([2; 16], &rows(1..4)).unwrap();
    let mut calls = Vec::new();
    let all = spool.replay(|boot, rows| {
        calls.push((boot[0], rows.len()));
        Ok(())
    });
    assert_eq!(all.unwrap(), 5);
    assert_eq!(calls, [(1, 2), (2, 3)]);
}

#[test]
fn what_the_store_does_not_take_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = opened(folder.path(), 1 << 30);
    spool.append(BOOT, &rows(0..1000)).unwrap();
    let waiting = spool.pending_bytes();
    let calls = Cell::new(0);
    let error = spool.replay(|_, _| {
        calls.set(calls.get() + 1);
        if calls.get() == 2 { Err(StoreError::Unavailable("locked".into())) } else { Ok(()) }
    });
    assert!(matches!(error, Err(ReplayError::Store(StoreError::Unavailable(_)))));
    assert_eq!(spool.pending_bytes(), waiting);
    spool.append(BOOT, &rows(1000..1010)).unwrap();
    assert_eq!(drain(&mut spool), (0..1010).collect::<Vec<_>>());
}

#[test]
fn a_new_segment_begins_at_16_mib_and_each_goes_when_it_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = opened(folder.path(), 1 << 30);
    let large = |seq| Box::new(Row { seq, host: "h".repeat(512 << 10).into(), ..Row::default() });
    for seq in 0..70 {
        spool.append(BOOT, &[large(seq)]).unwrap();
    }
    assert_eq!(segment_files(folder.path(), "spool").len(), 3);
    let mut seen = Vec::new();
    while let Some(count) = spool.replay_oldest(|_, _| Ok(())).unwrap() {
        seen.push((count, segment_files(folder.path(), "spool").len()));
    }
    assert_eq!(seen, [(32, 2), (32, 1), (6, 0)]);
}

#[test]
fn beyond_its_limit_it_refuses_the_last_rows_and_takes_more_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = Vec::new();
    encode(BOOT, &row(1), &mut one).unwrap();
    let mut spool = Spool::open(folder.path(), one.len() as u64 * 3).unwrap();
    let done = spool.append(BOOT, &rows(1..6)).unwrap();
    assert_eq!(done, Appended { stored: 3, refused: 2 });
    let done = spool.append(BOOT, &rows(6..8)).unwrap();
    assert_eq!(done, Appended { stored: 0, refused: 2 });
    assert_eq!(drain(&mut spool), [1, 2, 3]);
    assert_eq!(spool.append(BOOT, &rows(6..8)).unwrap().stored, 2);
}

/// A crash may end the file after any byte of what was being written.
#[test]
fn a_record_torn_at_any_byte_is_ignored_and_cut_off_by_the_next_append() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = opened(folder.path(), 1 << 30);
    spool.append(BOOT, &rows(0..2)).unwrap();
    let whole = spool.pending_bytes();
    spool.append(BOOT, &rows(2..3)).unwrap();
    drop(spool);
    let file = segment_files(folder.path(), "spool").remove(0);
    let bytes = fs::read(&file).unwrap();
    for length in usize::try_from(whole).unwrap()..bytes.len() {
        for zeros in [0, 100] {
            let folder = tempfile::tempdir().unwrap();
            let torn = folder.path().join(file.file_name().unwrap());
            let mut content = bytes[..length].to_vec();
            if length as u64 == whole {
                content.resize(length + zeros, 0);
            }
            fs::write(&torn, &content).unwrap();

            let mut spool = opened(folder.path(), 1 << 30);
            assert_eq!(spool.pending_bytes(), whole, "cut at {length}");
            spool.append(BOOT, &rows(3..4)).unwrap();
            assert_eq!(fs::metadata(&torn).unwrap().len(), spool.pending_bytes());
            assert_eq!(drain(&mut spool), [0, 1, 3], "cut at {length}");
            assert_eq!(spool.damaged(), 0, "cut at {length}");

            fs::write(&torn, &content).unwrap();
            drop(spool);
            let mut spool = opened(folder.path(), 1 << 30);
            assert_eq!(drain(&mut spool), [0, 1], "cut at {length}, not appended to");
        }
    }
}

/// Every single changed byte costs its own record and no other; the file is kept.
#[test]
fn a_damaged_record_is_skipped_and_its_segment_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = opened(folder.path(), 1 << 30);
    spool.append(BOOT, &rows(0..1)).unwrap();
    let from = usize::try_from(spool.pending_bytes()).unwrap();
    spool.append(BOOT, &rows(1..2)).unwrap();
    let to = usize::try_from(spool.pending_bytes()).unwrap();
    spool.append(BOOT, &rows(2..4)).unwrap();
    drop(spool);
    let file = segment_files(folder.path(), "spool").remove(0);
    let bytes = fs::read(&file).unwrap();
    for at in from..to {
        let folder = tempfile::tempdir().unwrap();
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        fs::write(folder.path().join(file.file_name().unwrap()), &changed).unwrap();
        let mut spool = opened(folder.path(), 1 << 30);
        // It goes on elsewhere, not in the damaged segment.
        spool.append(BOOT, &rows(4..5)).unwrap();
        assert_eq!(drain(&mut spool), [0, 2, 3, 4], "byte {at}");
        assert_eq!(spool.damaged(), 1);
        let kept = segment_files(folder.path(), "bad");
        assert_eq!(kept.len(), 1);
        assert_eq!(fs::read(&kept[0]).unwrap(), changed);
        assert_eq!(spool.pending_bytes(), 0);
    }
}

#[test]
fn two_processes_do_not_share_a_spool() {
    let folder = tempfile::tempdir().unwrap();
    let first = opened(folder.path(), 1);
    let second = Spool::open(folder.path(), 1).unwrap_err();
    assert_eq!(second.kind(), io::ErrorKind::ResourceBusy);
    drop(first);
    opened(folder.path(), 1);
}

#[test]
fn a_disk_that_cannot_be_written_to_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = opened(folder.path(), 1 << 30);
    spool.append(BOOT, &rows(0..2)).unwrap();
    // A file that was opened for reading takes no write.
    let file = segment_files(folder.path(), "spool").remove(0);
    spool.tail = Some(Tail { file: File::open(&file).unwrap(), torn: false });
    assert!(spool.append(BOOT, &rows(2..4)).is_err());
    spool.append(BOOT, &rows(4..5)).unwrap();
    assert_eq!(segment_files(folder.path(), "spool").len(), 2);
    assert_eq!(drain(&mut spool), [0, 1, 4]);
}

/// Not a test: prints what a row costs.
#[test]
#[ignore = "a measurement, not a test"]
fn the_cost_of_a_spooled_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = opened(folder.path(), 1 << 30);
    let batch: Vec<_> = (0..512).map(|_| Box::new(full_row())).collect();
    let start = crate::clock::now();
    for _ in 0..200 {
        spool.append(BOOT, &batch).unwrap();
    }
    let append = start.elapsed() / (200 * 512);
    let bytes = spool.pending_bytes() / (200 * 512);
    let start = crate::clock::now();
    let rows = spool.replay(|_, _| Ok(())).unwrap();
    println!(
        "append {append:?} a row with fsync, {bytes} bytes; reading {:?} a row",
        start.elapsed() / u32::try_from(rows).unwrap()
    );
}
