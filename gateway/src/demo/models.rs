//! Model servers that speak the OpenAI chat API, plain and streaming.
//!
//! They stand where real ones would: behind a socket, each on its own thread, with latencies and
//! failures of its own. What they count as a token is a word, and they count every one they send.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::prose::Prose;

/// Largest request that is read.
const LARGEST: usize = 1 << 20;

/// How a model behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Its name in the table, and of its thread.
    pub(crate) name: &'static str,
    /// Median latency of a whole answer.
    pub(crate) median: Duration,
    /// Spread of the latency: the standard deviation of its logarithm.
    pub(crate) spread: f64,
    /// Chance of a 500, a fraction.
    pub(crate) failures: f64,
}

/// A running model server; dropping it stops it.
#[derive(Debug)]
pub(crate) struct Model {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Tokens it has sent.
    pub(crate) tokens: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Model {
    /// Starts a server on a free port of the loopback interface.
    pub(crate) fn start(manner: Manner) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let tokens = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let server = Arc::new(Server { manner, tokens: Arc::clone(&tokens), prose: Prose::new() });
        let thread = std::thread::Builder::new().name(format!("model-{}", manner.name)).spawn(
            move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serve(listener, server) => {}
                        _ = stopped => {}
                    }
                });
            },
        )?;
        Ok(Self { address, tokens, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, server: Arc<Server>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // Out of files, most likely; they come back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = socket.set_nodelay(true);
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let answer = |request| {
                let server = Arc::clone(&server);
                async move { Ok::<_, Infallible>(server.answer(request).await) }
            };
            // A client that goes away is no news.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(socket), hyper::service::service_fn(answer))
                .await;
        });
    }
}

struct Server {
    manner: Manner,
    tokens: Arc<AtomicU64>,
    prose: Prose,
}

/// What a request asks for, as far as these models care.
#[derive(Debug)]
struct Asked {
    model: String,
    prompt_tokens: u64,
    most: usize,
    stream: bool,
    usage: bool,
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Said> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/health") => whole(StatusCode::OK, &json!({ "status": "ok" })),
            (&Method::GET, "/v1/models") => {
                let model =
                    json!({ "id": format!("demo-{}", self.manner.name), "object": "model" });
                whole(StatusCode::OK, &json!({ "object": "list", "data": [model] }))
            }
            (&Method::POST, "/v1/chat/completions") => self.chat(request).await,
            _ => refusal(StatusCode::NOT_FOUND, "invalid_request_error", "there is no such path"),
        }
    }

    async fn chat(&self, request: Request<Incoming>) -> Response<Said> {
        let asked = match Limited::new(request.into_body(), LARGEST).collect().await {
            Ok(body) => asked(&body.to_bytes()),
            Err(_) => Err("the body is too large, or broke off"),
        };
        let asked = match asked {
            Ok(asked) => asked,
            Err(why) => return refusal(StatusCode::BAD_REQUEST, "invalid_request_error", why),
        };
        let mut random = fastrand::Rng::new();
        let latency = self.manner.median.mul_f64(log_normal(self.manner.spread, &mut random));
        if random.f64() < self.manner.failures {
            tokio::time::sleep(latency / 3).await;
            let why = "the model ran out of memory";
            return refusal(StatusCode::INTERNAL_SERVER_ERROR, "server_error", why);
        }
        let mut pieces = self.prose.answer(&mut random);
        let finish = if pieces.len() > asked.most { "length" } else { "stop" };
        pieces.truncate(asked.most);
        let id = format!("chatcmpl-{:016x}", random.u64(..));
        if asked.stream {
            return self.stream(asked, id, pieces, finish, latency).await;
        }

        tokio::time::sleep(latency).await;
        let sent = pieces.len() as u64;
        self.tokens.fetch_add(sent, Relaxed);
        whole(
            StatusCode::OK,
            &json!({
                "id": id,
                "object": "chat.completion",
                "created": Timestamp::now().as_second(),
                "model": asked.model,
                "choices": [{
                    "index": 0,
                    "message": { "role": "assistant", "content": pieces.concat(), "refusal": null },
                    "logprobs": null,
                    "finish_reason": finish,
                }],
                "usage": usage(asked.prompt_tokens, sent),
            }),
        )
    }

    /// An answer as server-sent events: the head after about a third of the time, as from a model
    /// that reads its prompt first, then a word at a time.
    async fn stream(
        &self,
        asked: Asked,
        id: String,
        pieces: Vec<String>,
        finish: &'static str,
        latency: Duration,
    ) -> Response<Said> {
        let begun = Instant::now();
        let reading = latency.mul_f64(0.3);
        tokio::time::sleep_until(begun + reading).await;

        // Small, so that a slow reader slows the model, as it would a real one.
        let (sender, receiver) = mpsc::channel(4);
        let tokens = Arc::clone(&self.tokens);
        tokio::spawn(async move {
            let events = Events {
                id,
                model: asked.model,
                created: Timestamp::now().as_second(),
                usage: asked.usage,
            };
            let role = json!({ "role": "assistant", "content": "", "refusal": null });
            let mut sent = 0_u64;
            let mut alive = sender.send(events.chunk(&role, None)).await.is_ok();
            let step = latency.saturating_sub(reading).div_f64(pieces.len().max(1) as f64);
            let mut due = begun + reading;
            for piece in pieces {
                if !alive {
                    return;
                }
                due += step;
                // The timer counts milliseconds; what is due sooner goes at once.
                if due > Instant::now() + Duration::from_millis(1) {
                    tokio::time::sleep_until(due).await;
                }
                alive = sender.send(events.chunk(&json!({ "content": piece }), None)).await.is_ok();
                sent += u64::from(alive);
                tokens.fetch_add(u64::from(alive), Relaxed);
            }
            let mut last = vec![events.chunk(&json!({}), Some(finish))];
            last.extend(events.usage.then(|| events.total(usage(asked.prompt_tokens, sent))));
            last.push(Bytes::from_static(b"data: [DONE]\n\n"));
            for event in last {
                if sender.send(event).await.is_err() {
                    return;
                }
            }
        });
        let mut response = Response::new(Said { first: None, more: Some(receiver) });
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

/// What the events of one stream share.
#[derive(Debug)]
struct Events {
    id: String,
    model: String,
    created: i64,
    usage: bool,
}

impl Events {
    fn chunk(&self, delta: &Value, finish: Option<&str>) -> Bytes {
        let choice =
            json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish });
        // A client that asked for usage finds the member in every event, null until the last.
        self.event(json!([choice]), self.usage.then_some(Value::Null))
    }

    fn total(&self, usage: Value) -> Bytes {
        self.event(json!([]), Some(usage))
    }

    fn event(&self, choices: Value, usage: Option<Value>) -> Bytes {
        let mut event = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if let Some(usage) = usage {
            event["usage"] = usage;
        }
        Bytes::from(format!("data: {event}\n\n"))
    }
}

fn usage(prompt: u64, completion: u64) -> Value {
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    })
}

/// Reads a request; why not, in words for its author.
fn asked(body: &[u8]) -> Result<Asked, &'static str> {
    let body: Value = serde_json::from_slice(body).map_err(|_| "the body is not JSON")?;
    let model = body.get("model").and_then(Value::as_str).ok_or("`model` must be a string")?;
    let messages =
        body.get("messages").and_then(Value::as_array).ok_or("`messages` must be a list")?;
    if messages.is_empty() {
        return Err("`messages` must not be empty");
    }
    let most =
        ["max_completion_tokens", "max_tokens"].iter().find_map(|name| body.get(name)?.as_u64());
    let usage = body.pointer("/stream_options/include_usage").and_then(Value::as_bool);
    Ok(Asked {
        model: model.to_owned(),
        prompt_tokens: messages.iter().map(words).sum(),
        most: most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX)),
        stream: body.get("stream").and_then(Value::as_bool).unwrap_or(false),
        usage: usage.unwrap_or(false),
    })
}

/// Words of a message, whose content is a text or a list of parts.
fn words(message: &Value) -> u64 {
    let count = |text: &str| text.split_whitespace().count() as u64;
    match message.get("content") {
        Some(Value::String(text)) => count(text),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("text")?.as_str()).map(count).sum()
        }
        Some(_) | None => 0,
    }
}

/// A draw with median 1 whose logarithm has the standard deviation `spread`: the shape that
/// latencies of model servers have, with a long tail to the right (Box and Muller's method).
fn log_normal(spread: f64, random: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * random.f64()).cos();
    (spread * normal).exp()
}

fn whole(status: StatusCode, body: &Value) -> Response<Said> {
    let mut response =
        Response::new(Said { first: Some(Bytes::from(body.to_string())), more: None });
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refusal(status: StatusCode, kind: &str, why: &str) -> Response<Said> {
    whole(
        status,
        &json!({ "error": { "message": why, "type": kind, "param": null, "code": null } }),
    )
}

/// The body of an answer: at once, or as it comes.
#[derive(Debug)]
struct Said {
    first: Option<Bytes>,
    more: Option<mpsc::Receiver<Bytes>>,
}

impl http_body::Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match &mut self.more {
            Some(more) => {
                more.poll_recv(context).map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.more.is_none()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match (&self.first, &self.more) {
            (Some(first), None) => http_body::SizeHint::with_exact(first.len() as u64),
            (None, None) => http_body::SizeHint::with_exact(0),
            (Some(_) | None, Some(_)) => http_body::SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;

    fn model(failures: f64) -> Model {
        let median = Duration::from_millis(5);
        Model::start(Manner { name: "stable", median, spread: 0.1, failures }).unwrap()
    }

    /// Head and body of the answer to `body`.
    fn post(model: &Model, body: &str) -> (String, String) {
        let mut socket = TcpStream::connect(model.address).unwrap();
        write!(
            socket,
            "POST /v1/chat/completions HTTP/1.1\r\nhost: model\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        if !head.contains("chunked") {
            return (head.to_owned(), body.to_owned());
        }
        let mut whole = String::new();
        let mut rest = body;
        while let Some((size, after)) = rest.split_once("\r\n") {
            let size = usize::from_str_radix(size, 16).unwrap();
            whole.push_str(&after[..size]);
            rest = &after[size + 2..];
        }
        (head.to_owned(), whole)
    }

    #[test]
    fn a_plain_answer_counts_its_words() {
        let model = model(0.0);
        let (head, body) = post(
            &model,
            r#"{"model":"m","messages":[{"role":"user","content":"what is a weir"}]}"#,
        );
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        let body: Value = serde_json::from_str(&body).unwrap();
        let text = body["choices"][0]["message"]["content"].as_str().unwrap();
        let words = text.split(' ').count() as u64;
        assert_eq!(body["object"], "chat.completion");
        assert_eq!(body["model"], "m");
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
        assert_eq!(body["usage"], usage(4, words));
        assert_eq!(model.tokens.load(Relaxed), words);
    }

    #[test]
    fn a_stream_has_the_shape_that_clients_expect() {
        let model = model(0.0);
        let ask = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"max_tokens":3,
            "messages":[{"role":"user","content":[{"type":"text","text":"two words"}]}]}"#;
        let (head, body) = post(&model, ask);
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        let events: Vec<&str> = body.split_terminator("\n\n").collect();
        let data: Vec<&str> =
            events.iter().map(|event| event.strip_prefix("data: ").unwrap()).collect();
        assert_eq!(data.len(), 1 + 3 + 1 + 1 + 1, "role, three words, end, usage, done: {body}");
        assert_eq!(*data.last().unwrap(), "[DONE]");
        let event = |at: usize| serde_json::from_str::<Value>(data[at]).unwrap();
        assert_eq!(event(0)["object"], "chat.completion.chunk");
        assert_eq!(event(0)["choices"][0]["delta"]["role"], "assistant");
        assert_eq!(event(0)["usage"], Value::Null);
        for at in 1..=3 {
            assert!(
                event(at)["choices"][0]["delta"]["content"]
                    .as_str()
                    .is_some_and(|word| !word.is_empty())
            );
            assert_eq!(event(at)["choices"][0]["finish_reason"], Value::Null);
        }
        assert_eq!(event(4)["choices"][0]["finish_reason"], "length");
        assert_eq!(event(5)["choices"], json!([]));
        assert_eq!(event(5)["usage"], usage(2, 3));
        assert_eq!(model.tokens.load(Relaxed), 3);
    }

    #[test]
    fn without_the_wish_there_is_no_usage_event() {
        let ask = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
        let (_, body) = post(&model(0.0), ask);
        assert!(!body.contains("usage") && body.ends_with("data: [DONE]\n\n"), "{body}");
    }

    #[test]
    fn failures_and_bad_requests_have_the_shape_of_the_api() {
        let ask = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        let (head, body) = post(&model(1.0), ask);
        assert!(head.starts_with("HTTP/1.1 500"), "{head}");
        assert!(body.contains(r#""type":"server_error""#), "{body}");
        let (head, body) = post(&model(0.0), r#"{"messages":[]}"#);
        assert!(head.starts_with("HTTP/1.1 400"), "{head}");
        assert!(body.contains("`model` must be a string"), "{body}");
    }

    #[test]
    fn latencies_have_the_median_and_the_tail_that_they_should() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut draws: Vec<f64> = (0..20_000).map(|_| log_normal(0.5, &mut random)).collect();
        draws.sort_by(f64::total_cmp);
        assert!((draws[10_000] - 1.0).abs() < 0.02, "{}", draws[10_000]);
        // The 95th percentile is exp(1.645 * 0.5).
        assert!((draws[19_000] - 2.276).abs() < 0.1, "{}", draws[19_000]);
    }
}
