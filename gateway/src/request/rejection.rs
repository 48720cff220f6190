//! Answers the gateway gives by itself: what a client reads when something is wrong.
//!
//! A status, a stable code in `x-weir-error`, and the error body that the client's SDK expects. Names
//! of variants, backends and addresses stay inside.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use policies::api_key::Denied;
use policies::outcome::{Flag, Outcome, RejectReason};

use crate::body::BodyFault;
use crate::request::{Cx, Record, ResponseBody, stream_back};
use crate::server::conn::Refusal;
use crate::snapshot::names;

/// Why a request is not answered by a backend.
#[derive(Debug, Clone, PartialEq)]
pub enum Rejection {
    /// The bytes are not beyond doubt, or did not come in time.
    Refused(Refusal),
    /// The head is well formed and still not acceptable.
    Head(String),
    /// A header that decides came twice.
    RepeatedHeader(String),
    /// `Expect` is not `100-continue`.
    Expectation,
    /// CONNECT or TRACE.
    Method,
    /// No route has this host.
    UnknownHost,
    /// No route has this path and method.
    NoRoute {
        /// As the client asked.
        method: String,
        /// Canonical.
        path: String,
    },
    /// Routes match, but none for this model.
    NoModel {
        /// As the client asked, cut.
        model: Option<String>,
    },
    /// No credential, or one that does not work.
    Unauthenticated(Denied),
    /// A credential that is not enough.
    Forbidden(&'static str),
    /// The body did not arrive whole.
    Body(BodyFault),
    /// The body cannot be read although it must be.
    BadBody(String),
    /// The forced variant does not exist.
    UnknownVariant(String),
    /// A limit of this key.
    RateLimited {
        /// Which.
        what: &'static str,
        /// When to come again.
        retry_after: Duration,
    },
    /// Too many requests in flight.
    Overloaded,
    /// The gateway is about to end.
    Draining,
    /// Too many requests in flight at the backend.
    BackendFull,
    /// No endpoint has an address, or all are away.
    NoEndpoint,
    /// A name never resolved.
    Dns,
    /// No connection.
    ConnectFailed,
    /// No connection in time.
    ConnectTimeout,
    /// No response in time.
    FirstByteTimeout,
    /// The whole request took too long.
    TotalTimeout,
    /// The backend closed before it answered.
    Closed,
    /// The backend answered with something that is not HTTP.
    Protocol,
    /// What must be on stable storage before it is answered cannot get there (D1).
    StoreAway,
    /// Our own fault.
    Internal,
}

/// How a rejection is told: to the client, to the log, to the counters.
#[derive(Debug)]
pub struct Told {
    /// Status.
    pub status: StatusCode,
    /// Envoy's flag.
    pub flag: Flag,
    /// For people.
    pub message: String,
    /// Counted as; `None` once the request was assigned, when `outcome` says it.
    pub reason: Option<RejectReason>,
    /// Outcome, if the request was assigned.
    pub outcome: Outcome,
}

impl Rejection {
    /// Status, flag and words. No `_` arm: a new rejection does not compile until somebody has
    /// chosen them.
    pub fn told(&self) -> Told {
        use RejectReason as R;
        let (status, flag, reason, outcome, message) = match self {
            Self::Refused(Refusal::HeaderTimeout) => (
                408,
                Flag::ClientIdleTimeout,
                Some(R::HeaderTimeout),
                Outcome::ClientError,
                "the request head did not arrive in time".to_owned(),
            ),
            Self::Refused(Refusal::Framing(fault)) => {
                let status = fault.status();
                let reason =
                    if matches!(status, 414 | 431) { R::HeaderTooLarge } else { R::Malformed };
                let flag = if status == 431 {
                    Flag::InvalidHeaders
                } else {
                    Flag::DownstreamProtocolError
                };
                (
                    status,
                    flag,
                    Some(reason),
                    Outcome::ClientError,
                    format!("malformed request: {fault}"),
                )
            }
            Self::Head(why) => {
                (400, Flag::InvalidHeaders, Some(R::Malformed), Outcome::ClientError, why.clone())
            }
            Self::RepeatedHeader(name) => (
                400,
                Flag::InvalidHeaders,
                Some(R::Malformed),
                Outcome::ClientError,
                format!(
                    "header `{name}` decides where this request goes, so it may occur once with one value"
                ),
            ),
            Self::Expectation => (
                417,
                Flag::InvalidHeaders,
                Some(R::Malformed),
                Outcome::ClientError,
                "only `Expect: 100-continue` is understood".to_owned(),
            ),
            Self::Method => (
                405,
                Flag::DownstreamProtocolError,
                Some(R::Malformed),
                Outcome::ClientError,
                "CONNECT and TRACE are not served".to_owned(),
            ),
            Self::UnknownHost => (
                421,
                Flag::NoRoute,
                Some(R::NoRoute),
                Outcome::ClientError,
                "this host is not served here".to_owned(),
            ),
            Self::NoRoute { method, path } => (
                404,
                Flag::NoRoute,
                Some(R::NoRoute),
                Outcome::ClientError,
                format!("no route for {method} {path}"),
            ),
            Self::NoModel { model } => (
                404,
                Flag::NoRoute,
                Some(R::NoRoute),
                Outcome::ClientError,
                match model {
                    Some(model) => {
                        format!("the model `{model}` does not exist or is not served here")
                    }
                    None => "the request names no `model`, and this path needs one".to_owned(),
                },
            ),
            // One text for all: who guesses learns nothing (T14).
            Self::Unauthenticated(_) => (
                401,
                Flag::Unauthenticated,
                Some(R::Unauthenticated),
                Outcome::ClientError,
                "no valid credential; send `Authorization: Bearer KEY`, `x-api-key` or `api-key`"
                    .to_owned(),
            ),
            Self::Forbidden(what) => (
                403,
                Flag::Forbidden,
                Some(R::Forbidden),
                Outcome::ClientError,
                format!("this credential may not {what}"),
            ),
            Self::Body(fault) => match fault {
                BodyFault::TooLarge(_) => (
                    413,
                    Flag::DownstreamProtocolError,
                    Some(R::BodyTooLarge),
                    Outcome::ClientError,
                    fault.to_string(),
                ),
                BodyFault::TooSlow => (
                    408,
                    Flag::ClientIdleTimeout,
                    Some(R::HeaderTimeout),
                    Outcome::ClientError,
                    fault.to_string(),
                ),
                BodyFault::Malformed(_) | BodyFault::Broken => (
                    400,
                    Flag::ClientAborted,
                    Some(R::Malformed),
                    Outcome::ClientAborted,
                    fault.to_string(),
                ),
            },
            Self::BadBody(why) => (
                400,
                Flag::DownstreamProtocolError,
                Some(R::Malformed),
                Outcome::ClientError,
                why.clone(),
            ),
            Self::UnknownVariant(name) => (
                400,
                Flag::InvalidHeaders,
                Some(R::Malformed),
                Outcome::ClientError,
                format!("no experiment of this route has a variant `{name}`"),
            ),
            Self::RateLimited { what, .. } => (
                429,
                Flag::RateLimited,
                Some(R::RateLimited),
                Outcome::ClientError,
                format!("the limit of {what} of this key is reached"),
            ),
            Self::Overloaded => (
                503,
                Flag::Overloaded,
                Some(R::Overloaded),
                Outcome::GatewayError,
                "too many requests in flight".to_owned(),
            ),
            Self::Draining => (
                503,
                Flag::Overloaded,
                Some(R::Draining),
                Outcome::GatewayError,
                "the gateway is shutting down".to_owned(),
            ),
            Self::BackendFull => (
                503,
                Flag::UpstreamOverflow,
                Some(R::Overloaded),
                Outcome::UpstreamError,
                "the model has too many requests in flight".to_owned(),
            ),
            Self::NoEndpoint => (
                503,
                Flag::NoHealthyUpstream,
                None,
                Outcome::UpstreamError,
                "no model server is available".to_owned(),
            ),
            Self::Dns => (
                502,
                Flag::DnsFailure,
                None,
                Outcome::UpstreamError,
                "the model server's name does not resolve".to_owned(),
            ),
            Self::ConnectFailed => (
                502,
                Flag::UpstreamConnectFailure,
                None,
                Outcome::UpstreamError,
                "the model server cannot be reached".to_owned(),
            ),
            Self::ConnectTimeout => (
                504,
                Flag::UpstreamConnectFailure,
                None,
                Outcome::Timeout,
                "the model server cannot be reached in time".to_owned(),
            ),
            Self::FirstByteTimeout => (
                504,
                Flag::UpstreamTimeout,
                None,
                Outcome::Timeout,
                "the model server did not answer in time".to_owned(),
            ),
            Self::TotalTimeout => (
                504,
                Flag::MaxDuration,
                None,
                Outcome::Timeout,
                "the request took too long".to_owned(),
            ),
            Self::Closed => (
                502,
                Flag::UpstreamClosed,
                None,
                Outcome::UpstreamReset,
                "the model server closed the connection before it answered".to_owned(),
            ),
            Self::Protocol => (
                502,
                Flag::UpstreamProtocolError,
                None,
                Outcome::UpstreamError,
                "the model server's answer is not valid HTTP".to_owned(),
            ),
            Self::StoreAway => (
                503,
                Flag::Overloaded,
                Some(R::Overloaded),
                Outcome::GatewayError,
                "nothing can be stored at the moment; send it again later".to_owned(),
            ),
            Self::Internal => (
                500,
                Flag::None,
                None,
                Outcome::GatewayError,
                "an error inside the gateway".to_owned(),
            ),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        Told { status, flag, message, reason, outcome }
    }

    /// `error.type` and `x-weir-error`.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the flag names the rest")]
    fn code(&self, told: &Told) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Body(BodyFault::TooLarge(_)) => "body_too_large",
            Self::Refused(Refusal::Framing(_)) if told.status == StatusCode::URI_TOO_LONG => {
                "target_too_long"
            }
            Self::Draining => "draining",
            Self::StoreAway => "store_unavailable",
            _ => told.flag.error_type().unwrap_or("invalid_request"),
        }
    }

    /// Whether the client's connection must end: the framing is not trusted any more.
    fn closes(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Body(_) | Self::Draining)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "coming again helps only with these")]
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after, .. } => {
                Some(retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0))
            }
            Self::Overloaded
            | Self::Draining
            | Self::BackendFull
            | Self::NoEndpoint
            | Self::StoreAway => Some(1),
            _ => None,
        }
    }

    /// The response, and the end of the record.
    pub async fn into_response(self, cx: &Cx, mut record: Record) -> Response<ResponseBody> {
        if let Self::Body(BodyFault::Malformed(fault)) = self {
            // It says no more than if it had been seen in the head.
            let refused = Self::Refused(Refusal::Framing(fault));
            return Box::pin(refused.into_response(cx, record)).await;
        }
        let told = self.told();
        let code = self.code(&told);
        let shape = Shape::of(record.path(), record.content_type());
        let id = record.id().text();
        let body = shape.body(told.status, code, &told.message, id.as_str(), &self);
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = if shape == Shape::Grpc { StatusCode::OK } else { told.status };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(shape.content_type()));
        headers.insert(&names::ERROR, HeaderValue::from_static(code));
        if told.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if shape == Shape::Grpc {
            headers.insert("grpc-status", HeaderValue::from_static(grpc_status(told.status)));
            if let Ok(message) = HeaderValue::from_str(&told.message) {
                headers.insert("grpc-message", message);
            }
        }
        if let Some(seconds) = self.retry_after()
            && let Some(value) = cx.worker.header_of_number(seconds)
        {
            headers.insert(header::RETRY_AFTER, value);
        }
        if self.closes() && record.is_http1() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        } else {
            // So that the connection can go on: read what little is left of the body (T03).
            record.drain_body().await;
        }
        record.rejected(&self, &told);
        stream_back::own(cx, response, record)
    }
}

/// The error body that a client's SDK expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    OpenAi,
    Anthropic,
    Grpc,
    Plain,
}

impl Shape {
    fn of(path: &str, content_type: &str) -> Self {
        if content_type.starts_with("application/grpc") {
            Self::Grpc
        } else if path == "/v1/messages" || path.starts_with("/v1/messages/") {
            Self::Anthropic
        } else if path.starts_with("/v1/") {
            Self::OpenAi
        } else {
            Self::Plain
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Grpc => "application/grpc",
            Self::OpenAi | Self::Anthropic | Self::Plain => "application/json",
        }
    }

    fn body(
        self,
        status: StatusCode,
        code: &str,
        message: &str,
        id: &str,
        rejection: &Rejection,
    ) -> String {
        let value = match self {
            Self::Grpc => return String::new(),
            Self::OpenAi => {
                let kind = match status.as_u16() {
                    401 => "authentication_error",
                    403 => "permission_error",
                    429 => "rate_limit_error",
                    400..=499 => "invalid_request_error",
                    _ => "server_error",
                };
                #[expect(clippy::wildcard_enum_match_arm, reason = "OpenAI names only these")]
                let (param, code) = match rejection {
                    Rejection::NoModel { .. } => (Some("model"), "model_not_found"),
                    Rejection::Unauthenticated(_) => (None, "invalid_api_key"),
                    Rejection::RateLimited { .. } => (None, "rate_limit_exceeded"),
                    _ => (None, code),
                };
                serde_json::json!({
                    "error": {
                        "message": message, "type": kind, "param": param, "code": code,
                        "request_id": id,
                    }
                })
            }
            Self::Anthropic => {
                let kind = match status.as_u16() {
                    401 => "authentication_error",
                    403 => "permission_error",
                    404 => "not_found_error",
                    413 => "request_too_large",
                    429 => "rate_limit_error",
                    503 => "overloaded_error",
                    400..=499 => "invalid_request_error",
                    _ => "api_error",
                };
                serde_json::json!({
                    "type": "error",
                    "error": { "type": kind, "message": message },
                    "request_id": id,
                })
            }
            Self::Plain => serde_json::json!({
                "error": { "type": code, "message": message, "request_id": id }
            }),
        };
        value.to_string()
    }
}

/// gRPC's own mapping of HTTP statuses.
fn grpc_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "16",
        403 => "7",
        404 | 421 => "12",
        408 | 504 => "4",
        413 | 429 | 431 => "8",
        400..=499 => "3",
        502 | 503 => "14",
        _ => "13",
    }
}
