use rusqlite::Connection;

use super::*;
use crate::recorder::row::Row;
use crate::store::Exposure;
use crate::store::sqlite::Sqlite;
use crate::store::thread::StoreThread;

fn open(folder: &std::path::Path) -> (StoreHandle, Feedback) {
    let store = Sqlite::open_with(&folder.join("weir.db"), Duration::from_millis(200)).unwrap();
    let (store, _thread) = StoreThread::spawn(Box::new(store)).unwrap();
    (store.clone(), Feedback::new(store))
}

fn entry(number: u64, value: FeedbackValue) -> Entry {
    let mut request_id = [0; 16];
    request_id[8..].copy_from_slice(&number.to_be_bytes());
    let exposure = Exposure {
        experiment: "int8",
        revision: 3,
        variant: "canary",
        unit_hash: u64::MAX,
        eligible: true,
        asked_by: None,
    };
    let row = FeedbackRow {
        request_id,
        metric: "thumbs_up",
        key_id: "k1".into(),
        id: None,
        value,
        segment: None,
        received_at: 2_000,
        exposure,
    };
    Entry { row, asked_at: 1_000, claim: None, label: "thumbs_up", fate: Fate::Waiting }
}

fn fates(entries: &[Entry]) -> Vec<Fate> {
    entries.iter().map(|entry| entry.fate).collect()
}

#[tokio::test]
async fn everything_is_stored_once_and_told_to_the_listener_once() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, feedback) = open(folder.path());
    let heard = feedback.listen(2).unwrap();
    assert!(feedback.listen(2).is_none(), "there is one listener");
    let (yes, text) = (FeedbackValue::Bool(true), FeedbackValue::Text("fine".into()));
    let entries = vec![
        entry(1, yes.clone()),
        entry(1, FeedbackValue::Bool(false)),
        entry(2, text),
        entry(3, FeedbackValue::Number(0.5)),
        entry(4, yes.clone()),
    ];
    let kept = feedback.keep(entries.clone()).await.unwrap();
    let (stored, duplicate) = (Fate::Stored, Fate::Duplicate);
    assert_eq!(fates(&kept), [stored, duplicate, stored, stored, stored]);
    let again = feedback.keep(entries).await.unwrap();
    assert!(again.iter().all(|entry| entry.fate == duplicate));
    let first = heard.recv().unwrap();
    let expected = Credited {
        experiment: "int8",
        revision: 3,
        variant: "canary",
        unit_hash: u64::MAX,
        eligible: true,
        metric: "thumbs_up",
        value: Value::Bool(true),
        asked_at: 1_000,
        received_at: 2_000,
    };
    assert_eq!(first, expected);
    assert_eq!(heard.recv().unwrap().value, Value::Number(0.5));
    assert!(heard.try_recv().is_err(), "text is not evidence, and the third found no room");
    assert_eq!(feedback.missed(), 1);
    let counted = feedback.counts().read();
    assert_eq!(counted.last().unwrap(), &(("int8", "thumbs_up"), [4, 6, 0, 0, 0, 0]));
}

/// Posts that come while a batch is with the store share the next commit.
#[tokio::test]
async fn many_posts_share_few_commits_and_each_gets_its_own_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (store, feedback) = open(folder.path());
    let feedback = Arc::new(feedback);
    let operations = store.stats().operations;
    let posts: Vec<_> = (0..2_000)
        .map(|number| {
            let feedback = Arc::clone(&feedback);
            // Every request twice, in different posts.
            let entry = entry(number / 2, FeedbackValue::Bool(true));
            tokio::spawn(async move { feedback.keep(vec![entry]).await.unwrap()[0].fate })
        })
        .collect();
    let mut stored = 0;
    for post in posts {
        stored += u32::from(post.await.unwrap() == Fate::Stored);
    }
    assert_eq!(stored, 1_000);
    let operations = store.stats().operations - operations;
    assert!(operations < 200, "{operations} commits of 2000 posts");
    assert_eq!(feedback.inner.waiting.load(Relaxed), 0);
}

#[tokio::test]
async fn while_the_store_is_locked_nothing_is_acknowledged_and_then_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, feedback) = open(folder.path());
    let other = Connection::open(folder.path().join("weir.db")).unwrap();
    other.busy_timeout(Duration::from_secs(5)).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let yes = || vec![entry(1, FeedbackValue::Bool(true))];
    assert_eq!(feedback.keep(yes()).await.unwrap_err(), Away);
    // Known to be away: refused at once.
    assert_eq!(feedback.keep(yes()).await.unwrap_err(), Away);
    other.execute_batch("COMMIT").unwrap();
    let deadline = clock::now() + Duration::from_secs(10);
    let kept = loop {
        match feedback.keep(yes()).await {
            Ok(kept) => break kept,
            Err(Away) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
        assert!(clock::now() < deadline, "it never came back");
    };
    assert_eq!(fates(&kept), [Fate::Stored], "what was not acknowledged was not stored");
    assert_eq!(feedback.inner.waiting.load(Relaxed), 0);
}

#[tokio::test]
async fn what_waits_takes_no_more_than_its_room() {
    let folder = tempfile::tempdir().unwrap();
    let (store, feedback) = open(folder.path());
    let (release, held) = std::sync::mpsc::channel::<()>();
    // The thread of the store is busy until told.
    store.submit(move |_| Ok(held.recv().is_ok()), |_| {}).unwrap();
    let large = vec![entry(1, FeedbackValue::Text("x".repeat(MOST_WAITING / 2).into()))];
    let feedback = Arc::new(feedback);
    let first = tokio::spawn({
        let (feedback, large) = (Arc::clone(&feedback), large.clone());
        async move { feedback.keep(large).await }
    });
    while feedback.inner.waiting.load(Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(feedback.keep(large).await.unwrap_err(), Away);
    release.send(()).unwrap();
    assert_eq!(fates(&first.await.unwrap().unwrap()), [Fate::Stored]);
}

#[tokio::test]
async fn a_panic_in_the_store_is_no_acknowledgement() {
    let folder = tempfile::tempdir().unwrap();
    let (store, feedback) = open(folder.path());
    store.close();
    let yes = vec![entry(1, FeedbackValue::Bool(true))];
    assert_eq!(feedback.keep(yes).await.unwrap_err(), Away);
    assert_eq!(feedback.inner.waiting.load(Relaxed), 0);
}

#[tokio::test]
async fn t31_a_request_id_is_credited_to_its_variant_for_who_may_speak_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, feedback) = open(folder.path());
    let row = |id: u8, experiment: Option<Name>| {
        Box::new(Row {
            request_id: [id; 16],
            seq: id.into(),
            route: Some("chat"),
            experiment,
            revision: 7,
            variant: experiment.map(|_| "canary"),
            unit_hash: 0xfedc_ba98_7654_3210,
            eligible: true,
            outcome: Some(policies::Outcome::Ok),
            key_id: "k1".into(),
            ..Row::default()
        })
    };
    let rows = [row(1, Some("int8")), row(2, None)];
    store.call(move |store| store.add_outcomes([9; 16], &rows)).await.unwrap();
    let claim = |id: u8, key: &str, others: bool, routes: Grants| Entry {
        row: FeedbackRow {
            request_id: [id; 16],
            key_id: key.into(),
            exposure: Exposure::default(),
            ..entry(0, FeedbackValue::Bool(true)).row
        },
        claim: Some(Claim { routes, others }),
        ..entry(0, FeedbackValue::Bool(true))
    };
    let only = |route: &str| Grants::Only([Arc::from(route)].into());
    let entries = vec![
        claim(1, "k1", false, Grants::All),
        claim(2, "k1", false, Grants::All),
        claim(3, "k1", false, Grants::All),
        claim(1, "k2", false, Grants::All),
        claim(1, "k2", true, only("rank")),
        claim(1, "k2", true, only("chat")),
    ];
    let kept = feedback.keep(entries).await.unwrap();
    let unknown = Fate::UnknownRequest;
    let expected = [Fate::Stored, Fate::NoExperiment, unknown, unknown, unknown, Fate::Stored];
    assert_eq!(fates(&kept), expected);
    let exposure = Exposure {
        experiment: "int8",
        revision: 7,
        variant: "canary",
        unit_hash: 0xfedc_ba98_7654_3210,
        eligible: true,
        asked_by: None,
    };
    assert_eq!(kept[0].row.exposure, exposure);
    assert_eq!(kept[5].row.exposure.asked_by.as_deref(), Some("k1"));
}

#[tokio::test]
async fn t29_names_that_clients_make_up_are_few() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, feedback) = open(folder.path());
    for number in 0..MOST_UNDECLARED {
        assert!(feedback.undeclared(&format!("m{number}")).is_some());
    }
    assert_eq!(feedback.undeclared("one more"), None);
    assert_eq!(feedback.undeclared("m0"), Some("m0"));
}
