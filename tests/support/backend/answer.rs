//! From a request and a script to an answer.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::body::{Faults, ScriptedBody, Source, pieces};
use super::record::{Entry, Exchange, Ledger, Peer, Seen};
use super::script::{Answering, Script, Silence};
use super::wire::Control;
use super::{anthropic, openai, websocket};

/// Answers one request as `script` says. An error closes an HTTP/1.1 connection and resets an
/// HTTP/2 stream.
pub(crate) async fn answer(
    script: Arc<Script>,
    request: Request<Incoming>,
    ledger: Arc<Ledger>,
    control: Arc<Control>,
    peer: Peer,
) -> io::Result<Response<ScriptedBody>> {
    let (head, incoming) = request.into_parts();
    let mut exchange = ledger.open(&head, &peer);
    let entry = exchange.entry();
    let multiplexed = head.version == Version::HTTP_2;

    if let Some(fields) = &script.early_hints {
        assert!(!multiplexed, "early hints are scripted for HTTP/1.1 only");
        control.inject(&early_hints(fields));
    }

    // An echo answers while it reads; the rest read first and answer then.
    let (mut incoming, mut body, mut request_trailers) = (Some(incoming), Bytes::new(), None);
    if script.reads_body && !matches!(script.answering, Answering::GrpcEcho) {
        let incoming = incoming.take().unwrap();
        match read(incoming, &entry).await {
            Ok(read) => (body, request_trailers) = read,
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    if !script.delay.is_zero() {
        tokio::time::sleep(script.delay).await;
    }
    match script.silence {
        Some(Silence::Stall) => std::future::pending().await,
        Some(Silence::Reset) => {
            exchange.cut();
            control.reset();
            std::future::pending().await
        }
        Some(Silence::Close) => {
            exchange.cut();
            control.close();
            std::future::pending().await
        }
        None => {}
    }

    let request = Asked { head: &head, body: &body, script: &script };
    let (mut response, source) = match &script.answering {
        Answering::Fixed { content_type, body } => {
            (typed(content_type), Source::Whole(body.clone()))
        }
        Answering::Pieces(all) => {
            (typed("application/octet-stream"), pieces(all.clone(), script.gap))
        }
        Answering::Pattern(length) => {
            (typed("application/octet-stream"), Source::Pattern { next: 0, left: *length })
        }
        Answering::Echo => whole_json(&echo(&head, &body, request_trailers.as_ref())),
        Answering::OpenAi { model } => openai::answer(&request, model),
        Answering::Anthropic { model } => anthropic::answer(&request, model),
        Answering::GrpcEcho => {
            (typed("application/grpc"), grpc_echo(incoming.take().unwrap(), entry))
        }
        Answering::GrpcError { code, message } => (grpc_error(*code, message), empty()),
        Answering::WebSocketEcho => match websocket::accepts(&head) {
            Some(response) => {
                let upgrade = hyper::upgrade::on(Request::from_parts(head, ()));
                tokio::spawn(websocket::echo(upgrade, exchange, Arc::clone(&control)));
                // The exchange now belongs to the echo; the answer's body is nobody's.
                let unwatched = Faults::default();
                let body = ScriptedBody::new(empty(), None, unwatched, control, None, multiplexed);
                return Ok(response.map(|()| body));
            }
            None => {
                let mut response = typed("text/plain");
                *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
                (response, empty())
            }
        },
        Answering::Handler(handler) => {
            let seen = seen_whole(&exchange, &head, body, request_trailers, &peer);
            let (head, body) = handler(seen).await.into_parts();
            (Response::from_parts(head, ()), Source::Whole(body))
        }
    };

    if let Some(status) = script.status {
        *response.status_mut() = status;
    }
    for (name, value) in &script.headers {
        response.headers_mut().append(name, value.clone());
    }
    if let Some(trailers) = &script.trailers
        && !multiplexed
    {
        let names: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
        response.headers_mut().insert("trailer", HeaderValue::try_from(names.join(", ")).unwrap());
    }
    let trailers = script.trailers.clone();
    let mut body =
        ScriptedBody::new(source, trailers, script.faults, control, Some(exchange), multiplexed);
    if head.method == Method::HEAD {
        body.nobody_reads();
    }
    Ok(response.map(|()| body))
}

/// A request that has been read, and the script it is answered by.
pub(crate) struct Asked<'a> {
    pub(crate) head: &'a Parts,
    pub(crate) body: &'a Bytes,
    pub(crate) script: &'a Script,
}

impl Asked<'_> {
    /// The body as JSON; `null` if it is not.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn path(&self) -> &str {
        self.head.uri.path()
    }
}

/// A response head with this content type.
pub(crate) fn typed(content_type: &str) -> Response<()> {
    let value = HeaderValue::try_from(content_type).unwrap();
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}

/// A response of JSON in one piece.
pub(crate) fn whole_json(value: &Value) -> (Response<()>, Source) {
    (typed("application/json"), Source::Whole(value.to_string().into()))
}

fn empty() -> Source {
    Source::Whole(Bytes::new())
}

/// Reads a body to its end, noting it as it comes.
async fn read(mut incoming: Incoming, entry: &Entry) -> hyper::Result<(Bytes, Option<HeaderMap>)> {
    let mut body = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = incoming.frame().await {
        match frame?.into_data() {
            Ok(piece) => {
                entry.body_piece(&piece);
                body.extend_from_slice(&piece);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    entry.body_ended(trailers.clone());
    Ok((body.freeze(), trailers))
}

fn early_hints(fields: &[(String, String)]) -> Vec<u8> {
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 103 Early Hints\r\n{lines}\r\n").into_bytes()
}

fn echo(head: &Parts, body: &Bytes, trailers: Option<&HeaderMap>) -> Value {
    json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "authority": head.uri.authority().map(http::uri::Authority::as_str),
        "version": format!("{:?}", head.version),
        "headers": listed(&head.headers),
        "body": String::from_utf8_lossy(body),
        "length": body.len(),
        "sha256": sha256(body),
        "trailers": trailers.map(listed),
    })
}

/// The SHA-256 of `bytes`, in lower-case hex: what an echo answers of a body.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn listed(fields: &HeaderMap) -> Vec<[String; 2]> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    fields.iter().map(|(name, value)| [name.to_string(), text(value)]).collect()
}

/// Gives back each piece as it comes; the status follows when the request has ended.
fn grpc_echo(mut incoming: Incoming, entry: Entry) -> Source {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut trailers = None;
        loop {
            let frame = tokio::select! {
                frame = incoming.frame() => frame,
                () = sender.closed() => return,
            };
            let piece = match frame.map(|frame| frame.map(Frame::into_data)) {
                None => break,
                Some(Ok(Ok(piece))) => piece,
                Some(Ok(Err(frame))) => {
                    trailers = frame.into_trailers().ok();
                    continue;
                }
                Some(Err(error)) => {
                    let _ = sender.send(Err(io::Error::other(error))).await;
                    return;
                }
            };
            entry.body_piece(&piece);
            if sender.send(Ok(Frame::data(piece))).await.is_err() {
                return;
            }
        }
        entry.body_ended(trailers);
        let status = HeaderMap::from_iter([(
            HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("0"),
        )]);
        let _ = sender.send(Ok(Frame::trailers(status))).await;
    });
    Source::Channel(receiver)
}

/// "Trailers-only": one HEADERS frame that carries the status and ends the stream.
fn grpc_error(code: u32, message: &str) -> Response<()> {
    let mut response = typed("application/grpc");
    response.headers_mut().insert("grpc-status", HeaderValue::from(code));
    response.headers_mut().insert("grpc-message", HeaderValue::try_from(message).unwrap());
    response
}

/// The request for a handler, with the whole of its body.
fn seen_whole(
    exchange: &Exchange,
    head: &Parts,
    body: Bytes,
    trailers: Option<HeaderMap>,
    peer: &Peer,
) -> Seen {
    let body_length = body.len() as u64;
    Seen {
        body,
        body_length,
        body_complete: true,
        trailers,
        ..Seen::of(exchange.number(), head, peer)
    }
}
