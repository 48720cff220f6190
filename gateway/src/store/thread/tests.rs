//! Order, bounds and faults of the one thread, over a real store.

use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use super::*;
use crate::store::OutcomeQuery;
use crate::store::sqlite::Sqlite;

struct Opened {
    _folder: tempfile::TempDir,
    handle: StoreHandle,
    thread: JoinHandle<()>,
}

fn open() -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&folder.path().join("weir.db")).unwrap();
    let (handle, thread) = StoreThread::spawn(Box::new(store)).unwrap();
    Opened { _folder: folder, handle, thread }
}

/// Keeps the thread busy until something is sent.
fn hold(handle: &StoreHandle) -> Sender<()> {
    let (release, held): (_, Receiver<()>) = mpsc::channel();
    let (began, begun) = mpsc::channel();
    let handle = handle.clone();
    std::thread::spawn(move || {
        handle.call_blocking(move |_| {
            began.send(()).unwrap();
            held.recv().unwrap();
            Ok(())
        })
    });
    begun.recv().unwrap();
    release
}

/// Leaves a job without waiting for its answer.
fn leave(handle: &StoreHandle, lane: Lane, order: &Arc<Mutex<Vec<u32>>>, number: u32) {
    let order = Arc::clone(order);
    let job = move |_: &mut dyn Store| {
        order.lock().push(number);
        Ok(())
    };
    handle.push(lane, job, |_| {}).unwrap();
}

fn waiting(handle: &StoreHandle) -> (usize, usize) {
    let stats = handle.stats();
    (stats.control_waiting, stats.batches_waiting)
}

#[tokio::test]
async fn answers_come_back_to_whoever_asked() {
    let opened = open();
    let made = opened.handle.call(|store| store.installation()).await.unwrap();
    let again = opened.handle.batch(|store| store.installation()).await.unwrap();
    assert_eq!(made.instance, again.instance);
    let missing = opened.handle.call(|store| store.outcome([0; 16])).await.unwrap();
    assert_eq!(missing, None);
    let stats = opened.handle.stats();
    assert_eq!((stats.up, stats.operations, stats.last_error), (true, 3, None));
    assert_eq!(stats.took.map(|took| took.count()), [2, 1]);
    assert!(!stats.busy);
}

#[test]
fn control_calls_go_before_batches_and_close_finishes_both() {
    let Opened { _folder, handle, thread } = open();
    let release = hold(&handle);
    let order = Arc::default();
    for number in 0..3 {
        leave(&handle, Lane::Batch, &order, 10 + number);
        leave(&handle, Lane::Control, &order, number);
    }
    assert_eq!(waiting(&handle), (3, 3));
    handle.close();
    let late = handle.call_blocking(|store| store.check());
    assert!(matches!(late, Err(StoreError::Unavailable(_))));
    release.send(()).unwrap();
    thread.join().unwrap();
    assert_eq!(*order.lock(), [0, 1, 2, 10, 11, 12]);
}

#[test]
fn a_full_queue_says_so_at_once() {
    let Opened { _folder, handle, thread: _ } = open();
    let release = hold(&handle);
    let order = Arc::default();
    for number in 0..256 {
        leave(&handle, Lane::Control, &order, number);
    }
    for number in 0..32 {
        leave(&handle, Lane::Batch, &order, number);
    }
    let control = handle.call_blocking(|store| store.check());
    assert!(matches!(control, Err(StoreError::Unavailable(_))));
    let batch = handle.batch_blocking(|store| store.check());
    assert!(matches!(batch, Err(StoreError::Unavailable(_))));
    assert_eq!(handle.stats().refused, 2);
    release.send(()).unwrap();
    // There is room again as soon as one is done.
    crate::store::sqlite::tests::until(|| waiting(&handle) == (0, 0));
    handle.call_blocking(|store| store.installation().map(drop)).unwrap();
}

#[tokio::test]
async fn a_panic_is_an_error_of_its_job_and_of_no_other() {
    let opened = open();
    let panicked: Result<(), _> = opened.handle.call(|_| panic!("as asked")).await;
    let Err(StoreError::Unavailable(text)) = panicked else { panic!("{panicked:?}") };
    assert!(text.contains("as asked"), "{text}");
    let stats = opened.handle.stats();
    assert_eq!((stats.up, stats.panics, stats.unavailable), (false, 1, 1));
    assert!(stats.last_error.unwrap().text.contains("as asked"));
    opened.handle.call(|store| store.outcomes(&OutcomeQuery::default())).await.unwrap();
    assert!(opened.handle.stats().up);
}

#[tokio::test]
async fn faults_are_told_from_answers_that_say_no() {
    let opened = open();
    for error in [
        StoreError::Exists("it".into()),
        StoreError::Missing("it".into()),
        StoreError::Damaged("it".into()),
    ] {
        opened.handle.call::<()>(|_| Err(error)).await.unwrap_err();
    }
    let stats = opened.handle.stats();
    assert_eq!((stats.exists, stats.missing, stats.damaged, stats.up), (1, 1, 1, false));
    assert_eq!(stats.last_error.unwrap().text, "store is damaged: it");
}

#[test]
fn the_thread_ends_with_the_last_handle() {
    let Opened { _folder, handle, thread } = open();
    let other = handle.clone();
    drop(handle);
    other.call_blocking(|store| store.installation().map(drop)).unwrap();
    assert!(!thread.is_finished());
    drop(other);
    crate::store::sqlite::tests::until(|| thread.is_finished());
}

#[tokio::test]
async fn a_slow_store_does_not_hold_up_the_runtime() {
    let opened = open();
    let release = hold(&opened.handle);
    let call = tokio::spawn({
        let handle = opened.handle.clone();
        async move { handle.call(|store| store.check()).await }
    });
    tokio::time::timeout(Duration::from_millis(50), std::future::pending::<()>())
        .await
        .unwrap_err();
    assert!(!call.is_finished());
    release.send(()).unwrap();
    call.await.unwrap().unwrap();
}
