//! The writer, over a store that fails at the worst moment and over one that somebody else writes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use self::faulty_store::{Fault, Faulty};
use super::*;
use crate::backends::Backends;
use crate::live::Actor;
use crate::recorder::Recorder;
use crate::recorder::tally::Tallies;
use crate::store::sqlite::Sqlite;
use crate::store::thread::StoreThread;
use crate::store::{Change, RampStep, Source, State, Store};
use crate::telemetry::counters::Counters;

mod faulty_store;

struct Opened {
    folder: TempDir,
    changes: Arc<Changes>,
    fault: Arc<Mutex<Fault>>,
}

/// Two experiments of one layer; the canaries have these weights.
fn text(int8: u32, int4: u32) -> String {
    let experiment = |name: &str, canary: u32| {
        format!(
            "[experiments.{name}]\nroute = \"chat\"\nunit = [\"request\"]\ncontrol = \"stable\"\n\
             layer = {{ name = \"models\", percent = 40 }}\n[experiments.{name}.variants]\n\
             stable = {{ backend = \"one\", weight = 100 }}\n\
             canary = {{ backend = \"one\", weight = {canary} }}\n"
        )
    };
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[server.tls]\n\
         certificates = [{{ chain = \"edge.pem\", key = \"edge.key\" }}]\n\
         [backends.one]\nendpoints = [\"http://127.0.0.1:1\"]\n\
         [routes.chat]\npath = \"/chat\"\nbackend = \"one\"\n[layers.models]\n{}{}\
         [[webhooks]]\nname = \"ops\"\nurl = \"http://127.0.0.1:1\"\nevents = \"*\"\n\
         secret = \"file:weir.toml\"\n",
        experiment("int8", int8),
        experiment("int4", int4)
    )
}

async fn open() -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("edge.pem", &params.self_signed(&key).unwrap().pem());
    put("edge.key", &key.serialize_pem());
    put("weir.toml", &text(10, 10));
    let fault = Arc::default();
    let changes = start(&folder, &fault).await.unwrap();
    Opened { folder, changes, fault }
}

async fn start(folder: &TempDir, fault: &Arc<Mutex<Fault>>) -> Result<Arc<Changes>, ChangeError> {
    let file = folder.path().join("weir.toml");
    let loaded = crate::config::load(&file, &|_| None).unwrap();
    let store = Sqlite::open(&folder.path().join("weir.db")).unwrap();
    let faulty = Faulty { store, fault: Arc::clone(fault) };
    let (store, _thread) = StoreThread::spawn(Box::new(faulty)).unwrap();
    let stored = Stored::read(&store).unwrap();
    let shared = Arc::new(Shared {
        current: ArcSwap::from_pointee(empty_snapshot(&loaded.plan, 1)),
        backends: Backends::new(1),
        tallies: Tallies::new(1),
        shadow_tallies: Tallies::new(1),
        gates: Default::default(),
        comparisons: Default::default(),
        evidence: Default::default(),
        counters: Counters::new(1),
        recorder: Recorder::new(1),
        news: crate::news::Board::default(),
        feedback: crate::feedback::Feedback::new(store.clone()),
        draining: AtomicBool::new(false),
        leaving: AtomicBool::new(false),
        closing: AtomicBool::new(false),
        closing_now: AtomicBool::new(false),
        in_use: crate::worker::InUse::default(),
        open: Box::new([AtomicUsize::new(0)]),
        alive: Box::new([AtomicU64::new(0)]),
        boot: [7; 16],
    });
    let certificates = || Certificates::new(&loaded.plan.server.certificates);
    let both = (certificates(), certificates());
    let says = Says::new(&file, loaded.text, loaded.plan);
    Changes::start(&file, says, loaded.files, Vec::new(), stored, shared, store, both).await
}

impl Opened {
    /// The file says this now; what the reload says.
    async fn reload(&self, int8: u32, int4: u32) -> Result<u64, String> {
        std::fs::write(self.folder.path().join("weir.toml"), text(int8, int4)).unwrap();
        self.changes.reload().await
    }

    fn set(&self, fault: Fault) {
        *self.fault.lock() = fault;
    }

    /// Another gateway on the same store.
    fn elsewhere(&self) -> Sqlite {
        Sqlite::open(&self.folder.path().join("weir.db")).unwrap()
    }

    /// What is in force of `int8`: revision, state, weight of the canary.
    fn int8(&self) -> (u64, State, f64) {
        let live = &self.changes.view().live["int8"];
        (live.revision, live.state, live.weights[1].1)
    }

    /// The same as stored, and how many entries the audit log has.
    fn stored(&self) -> ((u64, State, f64), u64) {
        let mut store = self.elsewhere();
        let row = store.revisions("int8", None, 1).unwrap().remove(0);
        ((row.revision, row.state, row.weights[1].1), store.verify_audit().unwrap().unwrap())
    }

    async fn weights(&self, seen: u64, canary: f64) -> Result<u64, ChangeError> {
        let weights = [("canary".to_owned(), canary)];
        let live = self.changes.set_weights("int8", seen, &weights, &ada(), None).await?;
        Ok(live.revision)
    }
}

fn ada() -> Actor {
    Actor { name: "ada".into(), source: Source::Api, ..Actor::file() }
}

/// What another gateway makes of the newest revision of `int8`.
fn from_elsewhere(opened: &Opened, state: State) {
    let mut store = opened.elsewhere();
    let newest = store.revisions("int8", None, 1).unwrap().remove(0);
    let revision = newest.revision + 1;
    let row = RevisionRow { revision, state, by: "bob".into(), source: Source::Api, ..newest };
    let audit = store.audit(None, 1).unwrap().remove(0).row;
    let revisions = vec![(row, audit)];
    store.add_change(&Change { revisions, ..Change::default() }).unwrap();
}

#[tokio::test]
async fn a_reload_that_is_not_stored_changes_nothing_and_the_next_one_does() {
    let opened = open().await;
    assert_eq!(opened.stored(), ((1, State::Running, 10.0), 2));
    opened.set(Fault::BeforeCommit);
    let said = opened.reload(20, 20).await.unwrap_err();
    assert_eq!(said, "nothing was changed: store is not available: as the test asked");
    assert_eq!(opened.int8(), (1, State::Running, 10.0));
    assert_eq!(opened.stored(), ((1, State::Running, 10.0), 2));
    opened.reload(20, 20).await.unwrap();
    assert_eq!(opened.int8(), (2, State::Running, 20.0));
    assert_eq!(opened.stored(), ((2, State::Running, 20.0), 4));
}

/// What happened: a reload was stored and reported as failed, as when the disk fails in the commit.
/// From then on each reload was refused because "revision 2 exists already", until a restart. It
/// should have been seen that the change was stored.
#[tokio::test]
async fn a_reload_that_is_stored_although_the_store_failed_comes_into_force() {
    let opened = open().await;
    opened.set(Fault::AfterCommit);
    opened.reload(20, 20).await.unwrap();
    assert_eq!(opened.int8(), (2, State::Running, 20.0));
    assert_eq!(opened.stored(), ((2, State::Running, 20.0), 4));

    opened.set(Fault::AfterCommitThenAway);
    opened.reload(30, 20).await.unwrap_err();
    assert_eq!(opened.int8(), (2, State::Running, 20.0), "nobody knows yet");
    opened.set(Fault::None);
    opened.reload(30, 20).await.unwrap();
    assert_eq!(opened.int8(), (3, State::Running, 30.0));
    assert_eq!(opened.stored(), ((3, State::Running, 30.0), 5), "stored once");
}

#[tokio::test]
async fn a_reload_goes_on_from_what_somebody_else_stored_meanwhile() {
    let opened = open().await;
    from_elsewhere(&opened, State::Running);
    opened.reload(20, 10).await.unwrap();
    assert_eq!(opened.int8(), (3, State::Running, 20.0));
    assert_eq!(opened.stored().0, (3, State::Running, 20.0));
    assert_eq!(opened.weights(3, 40.0).await.unwrap(), 4);
}

#[tokio::test]
async fn a_start_whose_store_fails_after_the_commit_starts() {
    let opened = open().await;
    std::fs::write(opened.folder.path().join("weir.toml"), text(20, 20)).unwrap();
    opened.set(Fault::AfterCommit);
    let again = start(&opened.folder, &opened.fault).await.unwrap();
    assert_eq!(again.view().live["int8"].revision, 2);
}

#[tokio::test]
async fn weights_that_are_stored_although_the_store_failed_come_into_force_once() {
    let opened = open().await;
    opened.set(Fault::AfterCommit);
    assert_eq!(opened.weights(1, 50.0).await.unwrap(), 2);
    assert_eq!(opened.int8(), (2, State::Running, 50.0));

    opened.set(Fault::AfterCommitThenAway);
    let told = opened.weights(2, 60.0).await.unwrap_err();
    assert!(matches!(told, ChangeError::Store(StoreError::Unavailable(_))), "{told}");
    assert_eq!(opened.int8(), (2, State::Running, 50.0));
    opened.set(Fault::None);
    // Whoever tries again is told the revision of the first try.
    assert_eq!(opened.weights(2, 60.0).await.unwrap(), 3);
    assert_eq!(opened.int8(), (3, State::Running, 60.0));
    assert_eq!(opened.stored(), ((3, State::Running, 60.0), 4));
}

#[tokio::test]
async fn weights_that_are_not_stored_change_nothing() {
    let opened = open().await;
    opened.set(Fault::BeforeCommit);
    let told = opened.weights(1, 50.0).await.unwrap_err();
    assert!(matches!(told, ChangeError::Store(StoreError::Unavailable(_))), "{told}");
    assert_eq!((opened.int8(), opened.stored().0), ((1, State::Running, 10.0), opened.int8()));
    assert_eq!(opened.weights(1, 50.0).await.unwrap(), 2);
}

#[tokio::test]
async fn a_change_after_somebody_elses_is_a_conflict_and_theirs_comes_into_force() {
    let opened = open().await;
    from_elsewhere(&opened, State::Stopped);
    let told = opened.weights(1, 50.0).await.unwrap_err();
    let ChangeError::Stale { seen: 1, current: 2, by } = told else { panic!("{told}") };
    assert_eq!(by, "bob");
    assert_eq!(opened.int8(), (2, State::Stopped, 10.0));
    assert_eq!(opened.weights(2, 50.0).await.unwrap(), 3);
}

#[tokio::test]
async fn a_stop_stays_whatever_the_store_does_and_is_stored_with_the_next_change() {
    let opened = open().await;
    opened.set(Fault::Away);
    opened.changes.stop("int8", &ada(), None).await.unwrap_err();
    assert_eq!(opened.int8(), (2, State::Stopped, 10.0));
    // Somebody else took its number.
    from_elsewhere(&opened, State::Running);
    opened.set(Fault::None);
    opened.reload(10, 20).await.unwrap();
    assert_eq!(opened.int8(), (3, State::Stopped, 10.0));
    assert_eq!(opened.stored(), ((3, State::Stopped, 10.0), 5));

    opened.weights(3, 10.0).await.unwrap();
    opened.set(Fault::AfterCommitThenAway);
    opened.changes.stop("int8", &ada(), None).await.unwrap_err();
    opened.set(Fault::None);
    let stopped = opened.changes.stop("int8", &ada(), None).await.unwrap();
    assert_eq!(stopped.revision, 5);
    assert_eq!(opened.stored(), ((5, State::Stopped, 10.0), 7));
}

/// What waits to be told: event and revision, in its order.
fn waiting(opened: &Opened) -> Vec<(String, u64)> {
    let mut store = Sqlite::open(&opened.folder.path().join("weir.db")).unwrap();
    let mut told = Vec::new();
    while let Some(next) = store.outbox("ops", 0).unwrap().next {
        let body: serde_json::Value = serde_json::from_str(&next.body).unwrap();
        told.push((next.event.to_string(), body["revision"].as_u64().unwrap()));
        let of = (next.audit, next.event);
        store.tried_message("ops", of, &crate::store::outbox::Tried::Delivered).unwrap();
    }
    told
}

fn told(of: &[(&str, u64)]) -> Vec<(String, u64)> {
    of.iter().map(|(event, revision)| ((*event).to_owned(), *revision)).collect()
}

#[tokio::test]
async fn what_is_stored_is_told_once_whatever_the_store_said_of_it() {
    let opened = open().await;
    let created = told(&[("experiment.create", 1), ("experiment.create", 1)]);
    assert_eq!(waiting(&opened), created);
    opened.set(Fault::BeforeCommit);
    opened.weights(1, 20.0).await.unwrap_err();
    assert_eq!(waiting(&opened), []);
    opened.set(Fault::AfterCommit);
    opened.weights(1, 20.0).await.unwrap();
    assert_eq!(waiting(&opened), told(&[("weights.set", 2)]));
    // In force without the store, and told once it is stored.
    opened.set(Fault::Away);
    opened.changes.stop("int8", &ada(), None).await.unwrap_err();
    opened.set(Fault::AfterCommit);
    // The first try may find that it is stored; then there is nothing left to do.
    let _ = opened.changes.store_what_waits().await;
    opened.changes.store_what_waits().await.unwrap();
    assert_eq!(waiting(&opened), told(&[("experiment.stop", 3)]));
}

/// A decision of this number that brings int8's canary to this share, in basis points.
fn step(number: u64, share: Option<u16>) -> Step {
    Step {
        step: RampStep {
            experiment: "int8".into(),
            number,
            settings: "{}".into(),
            state: format!("{{\"at\":{number}}}"),
            decision: format!("{{\"number\":{number}}}"),
            audit: None,
        },
        action: "ramp.test".into(),
        decision: serde_json::json!({ "number": number }),
        shares: share.map(|share| ("canary".to_owned(), share)).into_iter().collect(),
        rest: "stable".into(),
        anew: false,
        reason: None,
    }
}

fn ramps(opened: &Opened) -> Vec<(u64, usize)> {
    let mut store = Sqlite::open(&opened.folder.path().join("weir.db")).unwrap();
    let rows = store.ramps(100).unwrap();
    rows.into_iter().map(|row| (row.number, row.decisions.len())).collect()
}

#[tokio::test]
async fn a_decision_and_its_weights_are_stored_together_and_once() {
    let opened = open().await;
    opened.changes.ramp("int8", 1, step(1, Some(500)), &ada()).await.unwrap();
    assert_eq!(opened.int8(), (2, State::Running, 5.0));
    opened.set(Fault::BeforeCommit);
    opened.changes.ramp("int8", 2, step(2, Some(2_500)), &ada()).await.unwrap_err();
    assert_eq!((opened.int8().0, ramps(&opened)), (2, vec![(1, 1)]), "neither is kept");
    opened.set(Fault::AfterCommit);
    opened.changes.ramp("int8", 2, step(2, Some(2_500)), &ada()).await.unwrap();
    assert_eq!((opened.int8(), ramps(&opened)), ((3, State::Running, 25.0), vec![(2, 2)]));
    // Another decision of that number, and one made from an old revision.
    let mut other = step(2, None);
    other.step.decision = "{}".into();
    let told = opened.changes.ramp("int8", 3, other, &ada()).await.unwrap_err();
    assert!(matches!(told, ChangeError::Store(StoreError::Exists(_))), "{told}");
    let told = opened.changes.ramp("int8", 2, step(3, Some(5_000)), &ada()).await.unwrap_err();
    assert!(matches!(told, ChangeError::Stale { seen: 2, current: 3, .. }), "{told}");
    // One that moves nothing makes no revision, but an audit entry.
    let entries = opened.stored().1;
    opened.changes.ramp("int8", 3, step(3, None), &ada()).await.unwrap();
    assert_eq!((opened.int8().0, opened.stored().1), (3, entries + 1));
}

#[tokio::test]
async fn a_rollback_is_in_force_whatever_the_store_does_and_is_stored_later() {
    let opened = open().await;
    opened.changes.ramp("int8", 1, step(1, Some(5_000)), &ada()).await.unwrap();
    opened.set(Fault::Away);
    opened.changes.roll_back("int8", 2, step(2, Some(0)), &ada()).await.unwrap_err();
    assert_eq!(opened.int8(), (3, State::Running, 0.0));
    opened.changes.store_what_waits().await.unwrap_err();
    // Somebody else took its number.
    from_elsewhere(&opened, State::Running);
    opened.set(Fault::None);
    opened.changes.store_what_waits().await.unwrap();
    assert_eq!(opened.int8(), (4, State::Running, 0.0));
    assert_eq!(opened.stored().0, (4, State::Running, 0.0));
    assert_eq!(ramps(&opened), [(2, 2)]);

    opened.changes.ramp("int8", 4, step(3, Some(5_000)), &ada()).await.unwrap();
    opened.set(Fault::AfterCommitThenAway);
    opened.changes.roll_back("int8", 5, step(4, Some(0)), &ada()).await.unwrap_err();
    opened.set(Fault::None);
    // The first try may find that it is stored; then there is nothing left to do.
    let _ = opened.changes.store_what_waits().await;
    opened.changes.store_what_waits().await.unwrap();
    assert_eq!(opened.int8(), (6, State::Running, 0.0));
    assert_eq!((opened.stored().0, ramps(&opened)), ((6, State::Running, 0.0), vec![(4, 4)]));
}
