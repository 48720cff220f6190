//! The whole process: started, running, drained.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin;
use crate::backends::{Backends, probe, resolve};
use crate::change::{ChangeError, Changes, Stored, empty_snapshot};
use crate::clock;
use crate::comparison::{self, Comparisons};
use crate::config::plan::Store as StorePlan;
use crate::config::{self, Problems};
use crate::control::Control;
use crate::evidence::EvidenceBook;
use crate::feedback::Feedback;
use crate::ids;
use crate::live::Actor;
use crate::news::{Kind, News};
use crate::recorder::Recorder;
use crate::recorder::tally::Tallies;
use crate::request::shadow::gate::Gates;
use crate::run::Workers;
use crate::server::tls::{Certificates, server_config};
use crate::signals::{self, End, Signals};
use crate::store::sqlite::Sqlite;
use crate::store::thread::{StoreHandle, StoreThread};
use crate::store::{KeyRow, StoreError, TallyRow};
use crate::telemetry::counters::Counters;
use crate::telemetry::{events, logs, traces};
use crate::webhooks::Webhooks;
use crate::worker::{InUse, Shared};

/// Feedback that may wait to be counted as evidence.
const FEEDBACK_AHEAD: usize = 16_384;

/// How a gateway is started.
#[derive(Debug, Default)]
pub struct StartOptions {
    /// First admin key of an empty store; at least 32 characters. Without it one is made.
    pub admin_key: Option<String>,
    /// No log lines on standard output.
    pub quiet: bool,
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(Problems),
    /// The store cannot be used.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// It was told to end before it served. That is no fault.
    #[error("told to end before it served")]
    Ended,
    /// Anything else: an address in use, no threads, no random numbers.
    #[error("{0}")]
    Other(String),
}

impl From<ChangeError> for StartError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Store(error) => Self::Store(error),
            ChangeError::Missing(_)
            | ChangeError::OwnedByFile(_)
            | ChangeError::DeclaredInFile(_)
            | ChangeError::Stale { .. }
            | ChangeError::Exists(_)
            | ChangeError::Ended(_)
            | ChangeError::Problems(_)
            | ChangeError::Invalid(_)
            | ChangeError::Forbidden(_)
            | ChangeError::LastAdmin(_) => Self::Other(error.to_string()),
        }
    }
}

/// A running gateway.
pub struct Gateway {
    control: Option<Runtime>,
    probing: Option<JoinHandle<()>>,
    workers: Workers,
    recorder: Option<JoinHandle<()>>,
    comparing: Option<JoinHandle<()>>,
    store_thread: Option<JoinHandle<()>>,
    store: StoreHandle,
    shared: Arc<Shared>,
    changes: Arc<Changes>,
    admin: SocketAddr,
    watching: admin::Context,
    first_admin_key: Option<String>,
    spans: Option<traces::Shutdown>,
    stop_probing: tokio::sync::watch::Sender<bool>,
    end: Option<End>,
}

/// What a start has read before it makes anything of it.
struct Read {
    loaded: config::Loaded,
    /// How its files stood then.
    seen: Vec<(PathBuf, Option<Stamp>)>,
    store: StoreHandle,
    store_thread: JoinHandle<()>,
    stored: Stored,
    evidence: Arc<EvidenceBook>,
    comparisons: Comparisons,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("edge", &self.workers.edge)
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

fn other(what: &str, error: impl std::fmt::Display) -> StartError {
    StartError::Other(format!("{what}: {error}"))
}

impl Gateway {
    /// Starts everything the file asks for; returns when it serves. SIGTERM and SIGINT are left to
    /// the caller.
    ///
    /// # Errors
    /// [`StartError`]; then nothing is left running.
    pub fn start(file: &Path, options: StartOptions) -> Result<Self, StartError> {
        let control = signals::control().map_err(|error| other("no runtime", error))?;
        let hangup = {
            let _inside = control.enter();
            signal(SignalKind::hangup()).map_err(|error| other("no signals", error))?
        };
        Self::start_on(control, hangup, &mut None, file, options)
    }

    /// The same for a process of its own: a SIGTERM or SIGINT ends the start, a SIGHUP that comes
    /// during it makes for a reload after it, and [`Gateway::run_until_signal`] hears the rest.
    ///
    /// # Errors
    /// [`StartError`]; then nothing is left running.
    pub fn start_with(
        file: &Path,
        options: StartOptions,
        signals: Signals,
    ) -> Result<Self, StartError> {
        let Signals { control, end, reload } = signals;
        let mut end = Some(end);
        let mut gateway = Self::start_on(control, reload, &mut end, file, options)?;
        gateway.end = end;
        Ok(gateway)
    }

    fn start_on(
        control: Runtime,
        hangup: Signal,
        end: &mut Option<End>,
        file: &Path,
        options: StartOptions,
    ) -> Result<Self, StartError> {
        if options.quiet {
            logs::quiet();
        }
        // Both sides of TLS name their provider; this is for libraries that ask for a default.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        if let Some(key) = &options.admin_key
            && (key.len() < 32 || !policies::api_key::can_be_presented(key))
        {
            return Err(StartError::Other(
                "WEIR_ADMIN_KEY must be 32 to 256 visible characters without a comma; \
                 `openssl rand -hex 24` makes one"
                    .into(),
            ));
        }
        let mut boot = [0; 16];
        ids::random(&mut boot).map_err(|error| other("no random numbers", error))?;

        // Files and the store may be slow: a store that is locked is waited for.
        let path = file.to_owned();
        let reading = control.spawn_blocking(move || read(&path));
        let Some(read) = control.block_on(unless(end, reading)) else {
            events::stopped();
            logs::flush();
            // What still waits for the store ends with the process, and has changed nothing.
            control.shutdown_background();
            return Err(StartError::Ended);
        };
        let Read { loaded, seen, store, store_thread, stored, evidence, comparisons } =
            read.map_err(|error| other("reading", error))??;

        let plan = &loaded.plan;
        let workers = plan.server.workers;
        let shared = Arc::new(Shared {
            current: ArcSwap::from_pointee(empty_snapshot(plan, workers)),
            backends: Backends::new(workers),
            tallies: Tallies::new(workers),
            shadow_tallies: Tallies::new(workers),
            gates: Gates::default(),
            comparisons,
            evidence: Arc::clone(&evidence),
            counters: Counters::new(workers),
            recorder: Recorder::new(workers),
            news: crate::news::Board::default(),
            feedback: Feedback::new(store.clone()),
            draining: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            closing_now: AtomicBool::new(false),
            in_use: InUse::default(),
            open: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            alive: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            boot,
        });
        let edge_certificates = Certificates::new(&plan.server.certificates);
        let admin_certificates = Certificates::new(&plan.admin.certificates);
        let edge_tls = server_config(Arc::clone(&edge_certificates), &[b"h2", b"http/1.1"])
            .map_err(|error| other("server.tls", error))?;
        let admin_tls = if plan.admin.certificates.is_empty() {
            None
        } else {
            Some(
                server_config(Arc::clone(&admin_certificates), &[b"http/1.1"])
                    .map_err(|error| other("admin.tls", error))?,
            )
        };
        let (listen, admin_listen) = (plan.server.listen, plan.admin.listen);
        let (recording, telemetry) = (plan.recording.clone(), plan.telemetry.clone());

        let fresh = stored.keys.is_empty();
        let notices = loaded.notices.iter().map(ToString::to_string).collect();
        let starting = Changes::start(
            file,
            config::Says::new(file, loaded.text, loaded.plan),
            loaded.files,
            notices,
            stored,
            Arc::clone(&shared),
            store.clone(),
            (edge_certificates, admin_certificates),
        );
        let Some(changes) = control.block_on(unless(end, starting)) else {
            store.close();
            let _ = store_thread.join();
            events::stopped();
            logs::flush();
            return Err(StartError::Ended);
        };
        let changes = changes?;
        let first_admin_key =
            if fresh { first_key(&control, &changes, options.admin_key)? } else { None };

        let spans = match &telemetry.otlp {
            None => None,
            Some(endpoint) => Some(
                traces::spawn(endpoint, control.handle().clone(), boot)
                    .map_err(|error| other("telemetry.otlp", error))?,
            ),
        };
        let (span_sender, spans) = spans.unzip();
        let span_counts = span_sender.as_ref().map(traces::SpanSender::counts);
        // What finds no room is in the store, and counted as missed.
        evidence.hear(shared.feedback.listen(FEEDBACK_AHEAD));
        let for_tallies = Arc::clone(&shared);
        let recorder = shared
            .recorder
            .start(
                &recording,
                &telemetry.access_log,
                boot,
                store.clone(),
                span_sender,
                evidence,
                move || tally_rows(&for_tallies),
            )
            .map_err(|error| other("recording", error))?;

        let admin_listener =
            control.block_on(tokio::net::TcpListener::bind(admin_listen)).map_err(|error| {
                shared.recorder.stop();
                other(&format!("admin.listen {admin_listen}"), error)
            })?;
        let admin = admin_listener.local_addr().map_err(|error| other("admin.listen", error))?;
        let workers = Workers::start(&shared, listen, &edge_tls).map_err(|error| {
            shared.recorder.stop();
            other(&format!("server.listen {listen}"), error)
        })?;
        let ramps = control
            .block_on(Control::start(Arc::clone(&changes), Arc::clone(&shared), store.clone()))
            .inspect_err(|_| shared.recorder.stop())?;
        let webhooks = Webhooks::new(Arc::clone(&changes), store.clone());
        let context = admin::Context::new(
            (Arc::clone(&changes), Arc::clone(&ramps), Arc::clone(&webhooks)),
            Arc::clone(&shared),
            store.clone(),
            workers.edge,
            admin,
            span_counts,
        );
        control.spawn(admin::serve(admin_listener, admin_tls, context.clone()));
        control.spawn(resolve::keep_resolving(Arc::clone(&shared)));
        control.spawn(watch(Arc::clone(&changes), hangup, seen));
        control.spawn(ramps.keep_looking());
        control.spawn(webhooks.keep_delivering());

        let comparing = comparison::start(&shared, store.clone(), recording.retention)
            .map_err(|error| other("no thread for comparisons", error))?;
        let (stop_probing, stopped) = tokio::sync::watch::channel(false);
        let probing = spawn_probing(Arc::clone(&shared), stopped)
            .map_err(|error| other("no thread for probes", error))?;
        events::ready(workers.edge, admin, shared.open.len(), shared.current.load().generation);
        Ok(Self {
            control: Some(control),
            probing: Some(probing),
            workers,
            recorder: Some(recorder),
            comparing: Some(comparing),
            store_thread: Some(store_thread),
            store,
            shared,
            changes,
            admin,
            watching: context,
            first_admin_key,
            spans,
            stop_probing,
            end: None,
        })
    }

    /// Address of the edge.
    pub fn edge(&self) -> SocketAddr {
        self.workers.edge
    }

    /// Address of the admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The admin key that was made for an empty store: to be shown once.
    pub fn first_admin_key(&self) -> Option<&str> {
        self.first_admin_key.as_deref()
    }

    /// What all threads share: for tests.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The writer: for tests and the demo.
    pub fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// Waits for SIGTERM or SIGINT, drains, and gives the exit code. Of a gateway that was started
    /// with its signals.
    pub fn run_until_signal(mut self) -> i32 {
        let (Some(control), Some(mut end)) = (&self.control, self.end.take()) else { return 1 };
        control.block_on(end.come());
        let hurry = Arc::new(AtomicBool::new(false));
        let again = Arc::clone(&hurry);
        control.spawn(async move {
            end.come().await;
            again.store(true, Relaxed);
        });
        let plan = Arc::clone(&self.changes.view().plan);
        self.drain(plan.server.pre_drain, plan.server.drain_timeout, &hurry);
        0
    }

    /// Stops at once: running requests are cut, what is known of them is recorded.
    pub fn stop(self) {
        self.drain(Duration::ZERO, Duration::ZERO, &AtomicBool::new(false));
    }

    /// F24: refuse readiness, then new connections, then wait for what runs, then record the rest.
    fn drain(mut self, pre_drain: Duration, timeout: Duration, hurry: &AtomicBool) {
        let shared = &self.shared;
        shared.draining.store(true, Relaxed);
        events::draining(timeout.as_secs());
        let words = "the process is about to end".to_owned();
        shared.news.tell(News::now(Kind::Drain, "drain", "signal", words));
        let wait = |limit: Duration, done: &dyn Fn() -> bool| {
            let until = clock::now() + limit;
            // A second signal shortens the rest to five seconds.
            let mut hurried = None;
            while clock::now() < until && !done() {
                if hurry.load(Relaxed) {
                    let by = *hurried.get_or_insert_with(|| clock::now() + Duration::from_secs(5));
                    if clock::now() > by {
                        return;
                    }
                }
                std::thread::park_timeout(Duration::from_millis(20));
            }
        };
        wait(pre_drain, &|| hurry.load(Relaxed));
        shared.closing.store(true, Relaxed);
        self.watching.live.close();
        self.workers.close();
        wait(timeout, &|| self.workers.finished());
        shared.closing_now.store(true, Relaxed);
        wait(Duration::from_secs(5), &|| self.workers.finished());

        let _ = self.stop_probing.send(true);
        shared.recorder.stop();
        shared.comparisons.stop();
        let threads = [self.recorder.take(), self.comparing.take(), self.probing.take()];
        for thread in threads.into_iter().flatten() {
            let _ = thread.join();
        }
        if let Some(spans) = self.spans.take() {
            spans.shutdown();
        }
        self.store.close();
        if let Some(thread) = self.store_thread.take() {
            let _ = thread.join();
        }
        if let Some(control) = self.control.take() {
            control.shutdown_timeout(Duration::from_secs(1));
        }
        events::stopped();
        logs::flush();
    }
}

/// Reads the configuration and what the store knows. Blocks.
fn read(file: &Path) -> Result<Read, StartError> {
    let loaded =
        config::load(file, &|name| std::env::var(name).ok()).map_err(StartError::Config)?;
    // What is written from here on is read again, however long the rest takes.
    let seen = stamps(&loaded.files);
    let StorePlan::Sqlite(path) = &loaded.plan.store;
    let database = Sqlite::open(path).map_err(|error| store_error(path, error))?;
    let (store, store_thread) = StoreThread::spawn(Box::new(database))
        .map_err(|error| other("no thread for the store", error))?;
    let stored = Stored::read(&store)?;
    let evidence = EvidenceBook::default();
    for experiment in evidence.restore(store.call_blocking(|store| store.evidence())?) {
        let why = format!("what was counted of experiment {experiment:?} cannot be read");
        events::warning("weir.evidence.unreadable", &format!("{why}: its results begin anew"));
    }
    let evidence = Arc::new(evidence);
    let comparisons = Comparisons::default();
    for shadow in comparisons.restore(&store.call_blocking(|store| store.comparisons())?) {
        let why = format!("what was counted of shadow {shadow:?} cannot be read");
        events::warning(
            "weir.comparison.unreadable",
            &format!("{why}: its comparison begins anew"),
        );
    }
    Ok(Read { loaded, seen, store, store_thread, stored, evidence, comparisons })
}

/// Does `work` unless the process is told to end: then nothing.
async fn unless<T>(end: &mut Option<End>, work: impl Future<Output = T>) -> Option<T> {
    match end {
        Some(end) => end.or(work).await,
        None => Some(work.await),
    }
}

fn store_error(path: &Path, error: StoreError) -> StartError {
    match error {
        StoreError::Unavailable(why) => {
            StartError::Store(StoreError::Unavailable(format!("{}: {why}", path.display())))
        }
        StoreError::Damaged(why) => {
            StartError::Store(StoreError::Damaged(format!("{}: {why}", path.display())))
        }
        other @ (StoreError::Newer { .. } | StoreError::Exists(_) | StoreError::Missing(_)) => {
            StartError::Store(other)
        }
    }
}

/// The first admin key of an empty store.
fn first_key(
    control: &Runtime,
    changes: &Arc<Changes>,
    given: Option<String>,
) -> Result<Option<String>, StartError> {
    let row = KeyRow {
        id: String::new(),
        name: "first-admin".into(),
        role: policies::Role::Admin.as_str().into(),
        routes: None,
        hash: [0; 32],
        created_at: 0,
        created_by: String::new(),
        expires_at: None,
        revoked_at: None,
        requests_per_second: None,
        concurrent: None,
        tokens_per_minute: None,
    };
    let actor = Actor { key_id: "start".into(), name: "start".into(), ..Actor::file() };
    let (_, secret) = control.block_on(changes.add_key(row, given.as_deref(), &actor))?;
    Ok(given.is_none().then_some(secret))
}

fn tally_rows(shared: &Shared) -> Vec<TallyRow> {
    shared.evidence.count_begun(&shared.tallies);
    // What goes now was saved with the last rows.
    shared.tallies.retire();
    shared
        .tallies
        .by_revision()
        .into_iter()
        .filter(|(_, tally)| tally.started > 0)
        .map(|(key, tally)| TallyRow {
            route: key.route.to_owned(),
            experiment: key.experiment.to_owned(),
            revision: key.revision,
            variant: key.variant.to_owned(),
            bytes: tally.to_bytes(),
        })
        .collect()
}

/// Probes run where `spawn_local` works: on a small runtime of their own.
fn spawn_probing(
    shared: Arc<Shared>,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("probes".into()).spawn(move || {
        let Ok(runtime) = Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())
        else {
            return;
        };
        runtime.block_on(async {
            tokio::select! {
                () = probe::keep_probing(shared) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    })
}

/// What tells one state of a file from another. The content is read only when this changed; links
/// are followed, because mounted configuration replaces links.
type Stamp = (std::time::SystemTime, u64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len(), meta.ino()))
}

fn stamps(files: &[PathBuf]) -> Vec<(PathBuf, Option<Stamp>)> {
    files.iter().map(|path| (path.clone(), stamp(path))).collect()
}

/// Reloads when a watched file is not as it was `seen`, or on SIGHUP. Looking twice a second sees
/// every kind of change on every kind of mount, which notifications do not.
async fn watch(changes: Arc<Changes>, mut hangup: Signal, mut seen: Vec<(PathBuf, Option<Stamp>)>) {
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            () = tokio::time::sleep(Duration::from_millis(500)) => false,
        };
        let now = stamps(&changes.watched());
        if now == seen && !asked {
            continue;
        }
        if !asked {
            // A file may be half written: it is read once it rests.
            tokio::time::sleep(Duration::from_millis(200)).await;
            if stamps(&changes.watched()) != now {
                continue;
            }
        }
        // The outcome is logged and counted where it happens.
        let _ = changes.reload().await;
        // What was written while it ran was perhaps not read: what counts is how a file stood before.
        seen = stamps(&changes.watched())
            .into_iter()
            .map(|(path, after)| {
                let before = now.iter().find(|(of, _)| *of == path).map(|(_, before)| *before);
                (path, before.unwrap_or(after))
            })
            .collect();
    }
}
