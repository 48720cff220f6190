//! How long a row may wait, over a real store whose thread is held up.

use std::sync::mpsc;

use policies::outcome::Outcome;

use super::*;
use crate::ids::RequestId;
use crate::store::sqlite::Sqlite;
use crate::store::thread::StoreThread;
use crate::telemetry::counters::Counters;

const BOOT: [u8; 16] = [7; 16];
const LONG: Duration = Duration::from_secs(3_600);

struct Opened {
    folder: tempfile::TempDir,
    store: StoreHandle,
    counters: Counters,
}

fn open() -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&folder.path().join("weir.db")).unwrap();
    let (store, _thread) = StoreThread::spawn(Box::new(store)).unwrap();
    Opened { folder, store, counters: Counters::new(1) }
}

impl Opened {
    /// A recorder that looks at its queue when it is woken, and otherwise once an hour.
    fn recorder(&self, outcomes: Durability) -> Recorder {
        let recorder = Recorder { tick: LONG, ..Recorder::new(1) };
        self.start(&recorder, outcomes);
        recorder
    }

    fn start(&self, recorder: &Recorder, outcomes: Durability) {
        let recording = Recording {
            outcomes,
            retention: None,
            spool: self.folder.path().join("spool"),
            spool_bytes: 1 << 20,
        };
        recorder
            .start(
                &recording,
                &AccessLog::Off,
                BOOT,
                self.store.clone(),
                None,
                Default::default(),
                Vec::new,
            )
            .unwrap();
    }

    fn finish(&self, recorder: &Recorder, ack: Option<oneshot::Sender<bool>>) {
        let seq = recorder.next_seq();
        let row = Row {
            request_id: RequestId::new(clock::unix_nanos(), fastrand::u64(..)).0,
            started_unix_nanos: clock::unix_nanos(),
            seq,
            outcome: Some(Outcome::Ok),
            ..Row::default()
        };
        recorder.finish(0, self.counters.of(0), Box::new(row), ack);
    }

    /// Keeps the store busy until something is sent.
    fn hold(&self) -> mpsc::Sender<()> {
        let (release, held) = mpsc::channel();
        let (began, begun) = mpsc::channel();
        let store = self.store.clone();
        std::thread::spawn(move || {
            store.call_blocking(move |_| {
                began.send(()).unwrap();
                held.recv().unwrap();
                Ok(())
            })
        });
        begun.recv().unwrap();
        release
    }

    fn stored(&self) -> u64 {
        let boots = self.store.call_blocking(|store| store.boots()).unwrap();
        boots.iter().map(|(_, _, stored)| stored).sum()
    }
}

/// In time, or the test fails.
fn until(what: &str, condition: impl Fn() -> bool) {
    let began = clock::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn wake(recorder: &Recorder) {
    recorder.thread.get().unwrap().unpark();
}

/// The end of a commit was noticed at the next tick only: behind a commit of 25 ms a row waited 40 ms
/// for its batch, and then for its own commit, and more than 50 ms of rows were lost by kill -9. They
/// should have been committed as soon as the one before was done.
#[test]
fn d2_rows_that_waited_for_a_commit_are_committed_when_it_is_done() {
    let opened = open();
    let recorder = opened.recorder(Durability::Group);
    let release = opened.hold();
    for rows in 1..=2 {
        opened.finish(&recorder, None);
        wake(&recorder);
        until("drained", || recorder.counts.in_hand.load(Relaxed) == rows);
    }
    assert_eq!(opened.store.stats().batches_waiting, 1, "one row is with the store, one waits");
    // From here on nobody but the store wakes the recorder.
    release.send(()).unwrap();
    until("the second row waits for the next tick", || opened.stored() == 2);
    recorder.stop();
}

/// In `sync` the last byte of an answer was let go at the tick after its commit, not at its end.
#[tokio::test]
async fn d2_an_answer_that_waits_for_its_row_goes_on_when_the_row_is_stored() {
    let opened = open();
    let recorder = opened.recorder(Durability::Sync);
    let (ack, acknowledged) = oneshot::channel();
    opened.finish(&recorder, Some(ack));
    let stored = tokio::time::timeout(Duration::from_secs(20), acknowledged).await;
    assert_eq!(stored.expect("it waits for the next tick"), Ok(true));
    assert_eq!(opened.stored(), 1);
    recorder.stop();
}

/// L16, D6.
#[test]
fn a_row_without_room_in_the_queue_is_dropped_counted_and_the_account_balances() {
    let opened = open();
    let recorder = Recorder::new(1);
    let more = 7;
    for _ in 0..QUEUE + more {
        opened.finish(&recorder, None);
    }
    let counters = opened.counters.of(0);
    let assigned = counters.finished.load(Relaxed);
    let dropped = counters.queue_full.load(Relaxed);
    assert_eq!((assigned, dropped), ((QUEUE + more) as u64, more as u64));
    assert_eq!(recorder.queued() + dropped, assigned);

    opened.start(&recorder, Durability::Group);
    until("all of it is stored", || recorder.counts.recorded.load(Relaxed) + dropped == assigned);
    assert_eq!((recorder.queued(), recorder.counts.in_hand.load(Relaxed)), (0, 0));
    assert_eq!(opened.stored() + dropped, assigned);
    recorder.stop();
}
