//! The demo's load: twenty thousand users, some of them busy, who ask through the edge as real
//! clients do: TLS, kept connections, a part of them streaming.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::cli::admin_client::client_config;

/// Requests per second, all together: enough for evidence within minutes, and little for a machine.
const RATE: f64 = 200.0;

/// Connections. More than the requests that are ever in flight, so that a slow answer does not hold
/// back the next request.
const CONNECTIONS: u32 = 60;

/// Users.
const USERS: u32 = 20_000;

/// How uneven the users are: the nth asks in proportion to `n^-SKEW`.
const SKEW: f64 = 0.5;

/// Part of the requests that ask for a stream.
const STREAMING: f64 = 0.2;

const QUESTIONS: [&str; 6] = [
    "What is a weir?",
    "How is the flow of a river measured?",
    "Tell me about the keeper of the gate.",
    "Explain to a child why one would split a river in two.",
    "When should the gate be raised, and how fast?",
    "Summarise what is known about canals in one sentence, please.",
];

/// What the load has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Answers to the last byte.
    pub(crate) answered: AtomicU64,
    /// Those with a status of 400 or more.
    pub(crate) failed: AtomicU64,
    /// Requests whose connection failed.
    pub(crate) broken: AtomicU64,
}

/// The running load.
#[derive(Debug)]
pub(crate) struct Load {
    /// What it has seen.
    pub(crate) seen: Arc<Seen>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Where the load goes, and with which credentials.
struct Target {
    edge: SocketAddr,
    tls: TlsConnector,
    name: ServerName<'static>,
    credential: HeaderValue,
    /// Sums of the users' popularity, the last of them the sum of all.
    popularity: Vec<f64>,
    seen: Arc<Seen>,
    stopping: Arc<AtomicBool>,
}

impl Load {
    /// Starts asking the edge at `edge`, whose certificate authority is in the file `ca`.
    pub(crate) fn start(edge: SocketAddr, ca: &Path, key: &str) -> io::Result<Self> {
        let seen = Arc::new(Seen::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(ca).map_err(io::Error::other)?;
        roots.add(ca).map_err(io::Error::other)?;
        let mut credential =
            HeaderValue::try_from(format!("Bearer {key}")).map_err(io::Error::other)?;
        credential.set_sensitive(true);
        let mut sum = 0.0;
        let popularity = (1..=USERS).map(|n| {
            sum += f64::from(n).powf(-SKEW);
            sum
        });
        let target = Arc::new(Target {
            edge,
            tls: TlsConnector::from(Arc::new(client_config(roots).map_err(io::Error::other)?)),
            name: ServerName::from(edge.ip()),
            credential,
            popularity: popularity.collect(),
            seen: Arc::clone(&seen),
            stopping: Arc::clone(&stopping),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || {
            runtime.block_on(async {
                let clients: Vec<_> =
                    (0..CONNECTIONS).map(|_| tokio::spawn(client(Arc::clone(&target)))).collect();
                for client in clients {
                    let _ = client.await;
                }
            });
        })?;
        Ok(Self { seen, stopping, thread: Some(thread) })
    }
}

impl Drop for Load {
    /// Waits for the answers that are on their way: a moment, at this load.
    fn drop(&mut self) {
        self.stopping.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One connection's worth of users: requests at random times, independent of the answers, so that
/// a slow gateway does not get less to do.
async fn client(target: Arc<Target>) {
    let mut random = fastrand::Rng::new();
    let mut sender: Option<SendRequest<Full<Bytes>>> = None;
    let mut due = Instant::now();
    loop {
        let pause = -(1.0 - random.f64()).ln() * f64::from(CONNECTIONS) / RATE;
        due += Duration::from_secs_f64(pause);
        // In short steps, so that the end of the demo is not waited for.
        while Instant::now() < due {
            if target.stopping.load(Relaxed) {
                return;
            }
            tokio::time::sleep_until(due.min(Instant::now() + Duration::from_millis(50))).await;
        }
        // What was missed while the gateway was away is not made up for.
        due = due.max(Instant::now() - Duration::from_secs(1));
        let ready = match &mut sender {
            Some(kept) => kept.ready().await.is_ok(),
            None => false,
        };
        if !ready {
            sender = target.connect().await.ok();
        }
        let Some(kept) = &mut sender else {
            target.seen.broken.fetch_add(1, Relaxed);
            continue;
        };
        match tokio::time::timeout(Duration::from_secs(30), target.ask(kept, &mut random)).await {
            Ok(Ok(failed)) => {
                target.seen.answered.fetch_add(1, Relaxed);
                target.seen.failed.fetch_add(u64::from(failed), Relaxed);
            }
            Ok(Err(_)) | Err(_) => {
                target.seen.broken.fetch_add(1, Relaxed);
                sender = None;
            }
        }
    }
}

impl Target {
    async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let tcp = TcpStream::connect(self.edge).await?;
        tcp.set_nodelay(true)?;
        let stream = self.tls.connect(self.name.clone(), tcp).await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Asks one question and reads the whole answer; whether it is a failure.
    async fn ask(
        &self,
        sender: &mut SendRequest<Full<Bytes>>,
        random: &mut fastrand::Rng,
    ) -> Result<bool, hyper::Error> {
        let question = QUESTIONS[random.usize(..QUESTIONS.len())];
        let mut body = json!({
            "model": "demo",
            "messages": [{ "role": "user", "content": question }],
        });
        if random.f64() < STREAMING {
            body["stream"] = json!(true);
            body["stream_options"] = json!({ "include_usage": true });
        }
        let mut request = Request::new(Full::new(Bytes::from(body.to_string())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static("/v1/chat/completions");
        let headers = request.headers_mut();
        let text =
            |text: String| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        headers.insert(HOST, text(self.edge.to_string()));
        headers.insert(AUTHORIZATION, self.credential.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("x-user-id", text(format!("user-{}", self.user(random))));

        let mut response = sender.send_request(request).await?;
        while let Some(frame) = response.frame().await {
            frame?;
        }
        Ok(response.status().as_u16() >= 400)
    }

    /// A user, from 1; the first are the busy ones.
    fn user(&self, random: &mut fastrand::Rng) -> usize {
        let all = self.popularity.last().copied().unwrap_or(1.0);
        let drawn = random.f64() * all;
        1 + self.popularity.partition_point(|sum| *sum <= drawn)
    }
}
