//! The threads of the process: workers for requests, one runtime for everything else.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use crate::clock;
use crate::server::accept::{Acceptor, accept, bind, bind_first};
use crate::server::conn::Kick;
use crate::telemetry::runtime::Watch;
use crate::worker::{Shared, Worker};

/// How often a worker looks at its connections.
const SWEEP: Duration = Duration::from_millis(250);

/// The worker threads.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    closing: watch::Sender<bool>,
    /// Address of the edge.
    pub edge: SocketAddr,
}

impl Workers {
    /// Binds the edge and starts a thread per worker.
    ///
    /// # Errors
    /// When the address cannot be bound or a thread cannot be had.
    pub fn start(
        shared: &Arc<Shared>,
        listen: SocketAddr,
        tls: &Arc<ServerConfig>,
    ) -> io::Result<Self> {
        let count = shared.open.len();
        let first = bind_first(listen)?;
        let edge = first.local_addr()?;
        let mut listeners = vec![first];
        for _ in 1..count {
            listeners.push(bind(edge)?);
        }
        let (closing, closed) = watch::channel(false);
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let hand_over: Arc<[_]> = senders.into();
        let per_address = Arc::new(pingora_limits::inflight::Inflight::new());
        let mut threads = Vec::new();
        for (id, (listener, handed)) in listeners.into_iter().zip(receivers).enumerate() {
            let shared = Arc::clone(shared);
            let acceptor = Acceptor {
                tls: Arc::clone(tls),
                hand_over: Arc::clone(&hand_over),
                per_address: Arc::clone(&per_address),
            };
            let closed = closed.clone();
            let thread =
                std::thread::Builder::new().name(format!("worker-{id}")).spawn(move || {
                    let Ok(runtime) = Builder::new_current_thread()
                        .enable_all()
                        .build_local(LocalOptions::default())
                    else {
                        crate::telemetry::events::warning("weir.worker.failed", "no runtime");
                        return;
                    };
                    let worker = Worker::new(id, shared);
                    runtime.block_on(serve(worker, acceptor, listener, handed, closed));
                })?;
            threads.push(thread);
        }
        Ok(Self { threads, closing, edge })
    }

    /// Takes no more connections and ends those that are there as they become idle.
    pub fn close(&self) {
        let _ = self.closing.send(true);
    }

    /// Whether every worker has ended.
    pub fn finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }
}

/// One worker's life: accept until closing, then wait for what runs.
async fn serve(
    worker: Rc<Worker>,
    acceptor: Acceptor,
    listener: std::net::TcpListener,
    handed: mpsc::UnboundedReceiver<(std::net::TcpStream, SocketAddr)>,
    mut closing: watch::Receiver<bool>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let accepting = tokio::task::spawn_local(accept(
        Rc::clone(&worker),
        Rc::new(acceptor),
        listener,
        handed,
        closing.clone(),
    ));
    let mut watch = Watch::begin(&worker.counters().runtime);
    let mut ticks = 0u32;
    loop {
        let due = clock::now() + SWEEP;
        tokio::time::sleep(SWEEP).await;
        watch.swept(clock::now().saturating_duration_since(due));
        ticks = ticks.wrapping_add(1);
        sweep(&worker, ticks);
        let shared = &worker.shared;
        shared.alive[worker.id].store(shared.backends.uptime().as_secs(), Relaxed);
        if *closing.borrow_and_update() {
            if !accepting.is_finished() {
                continue;
            }
            // Connections end by themselves once idle; past the deadline they are cut.
            // Handshakes count as open, and so do sockets handed over and not yet taken.
            let open = shared.open[worker.id].load(Relaxed);
            if open == 0 || shared.closing_now.load(Relaxed) {
                break;
            }
        }
    }
    // What is cut here records itself while it is dropped with the runtime.
}

fn sweep(worker: &Rc<Worker>, ticks: u32) {
    worker.refresh();
    let now = clock::now();
    let snapshot = worker.snapshot();
    let shared = &worker.shared;
    let closing = shared.closing.load(Relaxed) || shared.leaving.load(Relaxed);
    for (_, conn) in worker.conns.borrow().iter() {
        if closing && !conn.draining.get() {
            conn.draining.set(true);
            conn.wake();
        }
        conn.check(now, &snapshot.limits);
        if closing && conn.is_quiet() {
            conn.kick(Kick::Idle);
        }
    }
    if ticks.is_multiple_of(4) {
        let idle_timeout = |endpoint: &crate::backends::Endpoint| {
            snapshot.backends.iter().find(|b| b.name == endpoint.backend).map(|b| b.idle_timeout)
        };
        worker.pool.sweep(now, idle_timeout);
        worker.shadow_pool.sweep(now, idle_timeout);
    }
}
