//! One try: a POST, and what became of it.
//!
//! Whatever the receiver does, a try is over after the webhook's `timeout`, reads at most a head, and
//! leads nowhere else: redirects are not followed (T23).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::sign;
use crate::backends::connect::{self, ConnectError, Destination};
use crate::backends::resolve;
use crate::backends::stream::Stream;
use crate::config::plan::Webhook;
use crate::config::show_duration;
use crate::telemetry::events;

/// Who sends.
const NAME: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));
/// Largest head of an answer.
const MOST_HEAD: usize = 64 << 10;

/// How a try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 2xx.
    Taken(StatusCode),
    /// The receiver does not want this very message (4xx but for 408, 425 and 429).
    Refused(StatusCode),
    /// It takes nothing now: 5xx, 408, 425, 429; or it sends us elsewhere (3xx). And for how long, if
    /// it says so.
    NotNow(StatusCode, Option<Duration>),
    /// There is no answer within the webhook's timeout.
    Late(Duration),
    /// Nobody was there, or nobody we may talk to.
    Unreachable(String),
}

/// Label `result` of `weir_webhook_deliveries_total`.
pub const RESULTS: [&str; 7] = ["ok", "3xx", "4xx", "5xx", "timeout", "connect_error", "dead"];

/// The place in [`RESULTS`] of messages that were given up.
pub const DEAD: usize = 6;

impl Answer {
    /// Its label, as a place in [`RESULTS`].
    pub fn result(&self) -> usize {
        match self {
            Self::Taken(_) => 0,
            Self::Refused(status) | Self::NotNow(status, _) => match status.as_u16() {
                300..=399 => 1,
                400..=499 => 2,
                _ => 3,
            },
            Self::Late(_) => 4,
            Self::Unreachable(_) => 5,
        }
    }

    /// The status, if there was an answer.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Taken(status) | Self::Refused(status) | Self::NotNow(status, _) => Some(*status),
            Self::Late(_) | Self::Unreachable(_) => None,
        }
    }

    /// What was met, for people. Nothing of what the receiver wrote: it may repeat a secret.
    pub fn why(&self) -> String {
        match self {
            Self::Taken(status) | Self::Refused(status) => format!("answered {}", status.as_u16()),
            Self::NotNow(status, _) if status.is_redirection() => format!(
                "answered {}: redirects are not followed, `url` must be the last address",
                status.as_u16()
            ),
            Self::NotNow(status, _) => format!("answered {}", status.as_u16()),
            Self::Late(timeout) => format!("no answer within {}", show_duration(*timeout)),
            Self::Unreachable(why) => why.clone(),
        }
    }
}

/// Sends `body` to the receiver as message `id`, signed at `now` (seconds since 1970).
pub async fn post(webhook: &Webhook, id: &str, body: Bytes, now: i64) -> Answer {
    let tried = tokio::time::timeout(webhook.timeout, ask(webhook, id, body, now)).await;
    match tried {
        Err(_) => Answer::Late(webhook.timeout),
        Ok(Err(why)) => Answer::Unreachable(why),
        Ok(Ok((status, _))) if status.is_success() => Answer::Taken(status),
        Ok(Ok((status, after))) => {
            let is_later = matches!(status.as_u16(), 408 | 425 | 429);
            if status.is_client_error() && !is_later {
                Answer::Refused(status)
            } else {
                Answer::NotNow(status, after)
            }
        }
    }
}

/// The status, and how long the receiver asks us to wait.
async fn ask(
    webhook: &Webhook,
    id: &str,
    body: Bytes,
    now: i64,
) -> Result<(StatusCode, Option<Duration>), String> {
    let request = request(webhook, id, body, now)?;
    let stream = connected(webhook).await?;
    let broken = |error: hyper::Error| events::chain(&error);
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MOST_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Driven here, so that a try that is given up is a connection that is closed.
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(sender.send_request(request));
    let answered = tokio::select! {
        biased;
        answered = &mut answer => answered,
        ended = &mut connection => match (answer.await, ended) {
            // It may end with the answer that it brought.
            (Ok(answered), _) => Ok(answered),
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
        },
    };
    let answered = answered.map_err(broken)?;
    // The other form, a date, is hardly used where rates are limited.
    let seconds = answered.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok());
    let after = seconds.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
    Ok((answered.status(), after))
}

/// The message as it is sent.
fn request(
    webhook: &Webhook,
    id: &str,
    body: Bytes,
    now: i64,
) -> Result<Request<Full<Bytes>>, String> {
    let value = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, webhook.url.authority.clone());
    headers.insert(header::USER_AGENT, HeaderValue::from_static(NAME));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("webhook-id", value(id)?);
    headers.insert("webhook-timestamp", now.into());
    if !webhook.secrets.is_empty() {
        let signature = sign::signature(&webhook.secrets, id, now, &body);
        headers.insert("webhook-signature", value(&signature)?);
    }
    if let Some((name, credential)) = &webhook.credential {
        headers.insert(name, credential.clone());
    }
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = webhook.url.target.clone().into();
    *request.headers_mut() = headers;
    Ok(request)
}

/// A connection to the first address of the receiver that takes one.
async fn connected(webhook: &Webhook) -> Result<Stream, String> {
    let endpoint = &webhook.url.endpoint;
    let host = &endpoint.host;
    let found = resolve::of(endpoint, webhook.allow_private)
        .await
        .map_err(|why| format!("{host} {why}"))?;
    let mut why = format!("{host} leads to no address");
    for address in found.into_iter().map(|ip| SocketAddr::new(ip, endpoint.port)) {
        let destination =
            Destination { address, scheme: endpoint.scheme, host, tls: webhook.tls.as_ref() };
        match connect::stream(&destination, true).await {
            Ok((stream, _)) => return Ok(stream),
            Err(error) => why = told(address, &error),
        }
    }
    Err(why)
}

fn told(address: SocketAddr, error: &ConnectError) -> String {
    if let ConnectError::Tcp(error) = error
        && error.kind() == io::ErrorKind::ConnectionRefused
    {
        return format!("{address} refuses connections");
    }
    format!("{address}: {}", events::chain(error))
}
