//! What a scripted backend does with a request, as data.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};

use super::Seen;
use super::body::Faults;

/// A handler of the test's own: it gets the request with its whole body.
pub(crate) type Handler =
    dyn Fn(Seen) -> Pin<Box<dyn Future<Output = Response<Bytes>> + Send>> + Send + Sync;

/// What the answer is made of.
#[derive(Clone)]
pub(crate) enum Answering {
    Fixed { content_type: &'static str, body: Bytes },
    Pieces(Vec<Bytes>),
    Pattern(u64),
    Echo,
    OpenAi { model: String },
    Anthropic { model: String },
    GrpcEcho,
    GrpcError { code: u32, message: String },
    WebSocketEcho,
    Handler(Arc<Handler>),
}

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed { .. } => "Fixed",
            Self::Pieces(_) => "Pieces",
            Self::Pattern(_) => "Pattern",
            Self::Echo => "Echo",
            Self::OpenAi { .. } => "OpenAi",
            Self::Anthropic { .. } => "Anthropic",
            Self::GrpcEcho => "GrpcEcho",
            Self::GrpcError { .. } => "GrpcError",
            Self::WebSocketEcho => "WebSocketEcho",
            Self::Handler(_) => "Handler",
        })
    }
}

/// What happens in place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    Stall,
    Reset,
    Close,
}

#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) answering: Answering,
    pub(crate) status: Option<StatusCode>,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) early_hints: Option<Vec<(String, String)>>,
    pub(crate) delay: Duration,
    pub(crate) silence: Option<Silence>,
    pub(crate) faults: Faults,
    /// Whether the body is read before anything is answered.
    pub(crate) reads_body: bool,
    /// Of a streamed answer.
    pub(crate) pieces: usize,
    pub(crate) gap: Duration,
    /// Other scripts for some requests: by path, for the first few, for every so many.
    pub(crate) on_path: Vec<(String, Arc<Script>)>,
    pub(crate) first: Option<(usize, Arc<Script>)>,
    pub(crate) every: Option<(usize, Arc<Script>)>,
    pub(crate) asked: Arc<AtomicUsize>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            answering: Answering::Fixed { content_type: "text/plain", body: Bytes::new() },
            status: None,
            headers: HeaderMap::new(),
            trailers: None,
            early_hints: None,
            delay: Duration::ZERO,
            silence: None,
            faults: Faults::default(),
            reads_body: true,
            pieces: 4,
            gap: Duration::ZERO,
            on_path: Vec::new(),
            first: None,
            every: None,
            asked: Arc::default(),
        }
    }
}

impl Script {
    /// The script for the next request, which asks for `path`.
    pub(crate) fn choose(self: &Arc<Self>, path: &str) -> Arc<Self> {
        if let Some((_, script)) = self.on_path.iter().find(|(on, _)| on == path) {
            return script.choose(path);
        }
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        match (&self.first, &self.every) {
            (Some((count, script)), _) if asked < *count => script.choose(path),
            (_, Some((period, script))) if (asked + 1).is_multiple_of(*period) => {
                script.choose(path)
            }
            _ => Arc::clone(self),
        }
    }
}
