//! The admin listener: health, metrics, and the API that people and tools change things with.
//!
//! It runs on the control runtime, never on a worker, and shares nothing with the edge but atomics
//! and snapshots: it can stall without a request noticing. Every operation but health, version and
//! metrics needs a credential, and names its permission in one table ([`operations::all`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::extract::DefaultBodyLimit;

use crate::change::Changes;
use crate::control::Control;
use crate::store::thread::StoreHandle;
use crate::webhooks::Webhooks;
use crate::worker::Shared;

pub mod listener;
pub mod access;
pub mod session;
pub mod console;
pub mod error;
pub mod extract;
pub mod idempotency;
pub mod rates;
pub mod live;
pub mod health;
pub mod status;
pub mod experiments;
pub mod keys;
pub mod requests;
pub mod audit;
pub mod export;
pub mod debug;
pub mod drain;
pub mod openapi;
pub mod operations;
pub mod ramps;
pub mod results;
pub mod comparison;
pub mod webhooks;

/// What handlers work with.
#[derive(Clone, Debug)]
pub struct Context(Arc<Inner>);

/// The content of a [`Context`].
#[derive(Debug)]
pub struct Inner {
    /// The writer.
    pub changes: Arc<Changes>,
    /// Who moves ramps.
    pub control: Arc<Control>,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// The store.
    pub store: StoreHandle,
    /// Address of the edge.
    pub edge: SocketAddr,
    /// Address of this listener.
    pub admin: SocketAddr,
    /// Rates of the last seconds.
    pub rates: rates::Rates,
    /// Who watches, and what was there lately.
    pub live: live::Live,
    /// Answers to repeated requests.
    pub answers: idempotency::Answers,
    /// Who is signed in to the console.
    pub sessions: session::Sessions,
    /// Who has read what lately.
    pub reads: audit::Reads,
    /// Changes of the log level so far.
    pub level_turn: Arc<AtomicU64>,
    /// How often it was taken out of service, and back.
    pub drain_turn: Arc<AtomicU64>,
    /// Start of the process, seconds since 1970.
    pub started_unix: i64,
    /// Whom decisions are told.
    pub webhooks: Arc<Webhooks>,
    /// How sending spans went, where they are sent.
    pub spans: Option<Arc<crate::telemetry::traces::SpanCounts>>,
}

impl std::ops::Deref for Context {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Context {
    /// For one process.
    pub fn new(
        (changes, control, webhooks): (Arc<Changes>, Arc<Control>, Arc<Webhooks>),
        shared: Arc<Shared>,
        store: StoreHandle,
        edge: SocketAddr,
        admin: SocketAddr,
        spans: Option<Arc<crate::telemetry::traces::SpanCounts>>,
    ) -> Self {
        Self(Arc::new(Inner {
            changes,
            control,
            shared,
            store,
            edge,
            admin,
            rates: rates::Rates::default(),
            live: live::Live::default(),
            answers: idempotency::Answers::default(),
            sessions: session::Sessions::default(),
            reads: audit::Reads::default(),
            level_turn: Arc::default(),
            drain_turn: Arc::default(),
            started_unix: crate::clock::unix_seconds(),
            webhooks,
            spans,
        }))
    }

    /// Whether this listener speaks TLS; without it, it is on loopback.
    pub fn is_tls(&self) -> bool {
        !self.changes.view().plan.admin.certificates.is_empty()
    }
}

/// Runs a change to its end although the caller may hang up: a change that is stored must also come
/// into force.
///
/// # Errors
/// When the change panicked.
pub async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = T> + Send + 'static,
) -> Result<T, error::ApiError> {
    tokio::spawn(change).await.map_err(|_| {
        error::ApiError::new(
            axum::http::StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "an error inside the gateway; look at the log",
        )
    })
}

/// Serves until the runtime ends.
pub async fn serve(
    tcp: tokio::net::TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    context: Context,
) {
    let sampling = context.clone();
    tokio::spawn(async move { live::keep_telling(&sampling).await });
    let telling = context.clone();
    tokio::spawn(async move { audit::keep_telling_head(&telling).await });
    let app = router(context).into_make_service_with_connect_info::<listener::Peer>();
    let served = axum::serve(listener::AdminListener::new(tcp, tls), app).await;
    if let Err(error) = served {
        crate::telemetry::events::warning("weir.admin.ended", &error.to_string());
    }
}

/// Every path of the admin listener.
fn router(context: Context) -> Router {
    operations::router()
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(axum::middleware::from_fn_with_state(context.clone(), access::guard))
        .layer(DefaultBodyLimit::max(1 << 20))
        .with_state(context)
}
