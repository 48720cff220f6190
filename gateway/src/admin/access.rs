//! Who may do what on the admin listener: one table, deny by default (hardening T19, T20).

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{ConnectInfo, MatchedPath, RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use policies::Caller;
use policies::api_key::credential_of;

use super::Context;
use super::error::{ApiError, no_such_method};
use super::experiments;
use super::listener::Peer;
use super::operations;
use super::session::{self, InSession};
use crate::clock;
use crate::ids::RequestId;
use crate::live::Actor;
use crate::store::Source;
use crate::telemetry::events;
use crate::telemetry::logs::{self, Severity};

/// Who makes a call; put into the request by [`guard`].
#[derive(Clone, Debug)]
pub struct Who {
    /// The caller.
    pub caller: Caller,
    /// Address.
    pub from: String,
    /// Id of this call.
    pub request_id: String,
}

impl Who {
    /// As the audit log has it.
    pub fn actor(&self) -> Actor {
        Actor {
            key_id: self.caller.key_id.to_string(),
            name: self.caller.name.to_string(),
            from: self.from.clone(),
            source: Source::Api,
            request_id: self.request_id.clone(),
        }
    }
}

/// Checks host, credential and permission before any handler runs.
pub async fn guard(
    State(context): State<Context>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    matched: Option<MatchedPath>,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Response {
    let experiment = params.ok().and_then(|params| {
        params.iter().find(|(name, _)| *name == "experiment").map(|(_, value)| value.to_owned())
    });
    let response = checked(&context, peer, matched, experiment, request, next).await;
    with_headers(response, context.is_tls())
}

async fn checked(
    context: &Context,
    peer: SocketAddr,
    matched: Option<MatchedPath>,
    experiment: Option<String>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Err(error) = check_host(context, &request) {
        return error.into_response();
    }
    let Some(matched) = matched else {
        // Unknown paths say nothing to strangers about which paths there are.
        return match authenticate(context, request.headers()) {
            Ok(_) => next.run(request).await,
            Err(error) => error.into_response(),
        };
    };
    let method = match request.method() {
        &Method::HEAD => Method::GET,
        other => other.clone(),
    };
    let operation = operations::all()
        .find(|each| each.method == method.as_str() && each.path == matched.as_str());
    let needs = match operation.map(|operation| operation.needs) {
        Some(None) => return next.run(request).await,
        Some(Some(permission)) => permission,
        // What is not in the table is refused to everybody who may know that it is not there.
        None => {
            return match authenticate(context, request.headers()) {
                Ok(_) => no_such_method(request.uri().clone()).await.into_response(),
                Err(error) => error.into_response(),
            };
        }
    };
    let (caller, session) = match authenticate(context, request.headers()) {
        Ok(found) => found,
        Err(error) => return error.into_response(),
    };
    if !caller.role.allows(needs) {
        return ApiError::forbidden(format!(
            "a key of role {} lacks the permission {needs}",
            caller.role
        ))
        .into_response();
    }
    if method != Method::GET
        && let Some(experiment) = experiment
        && let Some(route) = experiments::route_of(&context.changes.view(), &experiment)
        && let Err(error) = may_change(&caller, &route)
    {
        return error.into_response();
    }
    if let Some(session) = &session
        && method != Method::GET
        && let Err(error) = session::check_change(context, session, request.headers())
    {
        return error.into_response();
    }
    let request_id = RequestId::new(clock::unix_nanos(), fastrand::u64(..)).to_string();
    let (key_id, began) = (Arc::clone(&caller.key_id), clock::now());
    request.extensions_mut().insert(Who { caller, from: peer.ip().to_string(), request_id });
    let response = run(request, next, method == Method::GET).await;
    if logs::level() == Severity::Debug {
        let status = response.status().as_u16();
        events::admin_call(method.as_str(), matched.as_str(), status, &key_id, began.elapsed());
    }
    response
}

/// A key for some routes changes experiments of those.
pub(super) fn may_change(caller: &Caller, route: &str) -> Result<(), ApiError> {
    if caller.grants.allows(route) {
        return Ok(());
    }
    Err(ApiError::forbidden(format!("this key may change nothing of route {route:?}")))
}

async fn run(request: Request, next: Next, is_read: bool) -> Response {
    if is_read {
        return next.run(request).await;
    }
    // A change that was begun is made to its end, whether or not the caller still waits for it: one
    // that is stored and not in force would be in the way of every later one.
    tokio::spawn(next.run(request)).await.unwrap_or_else(|_| {
        let said = "an error inside the gateway";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", said).into_response()
    })
}

/// What a browser may do with an answer (T22): whatever it is, it is no other page's, and runs nothing
/// that was not built in.
fn with_headers(mut response: Response, is_tls: bool) -> Response {
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    if is_tls {
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The content security policy of everything on this listener.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// Who calls: by key, or by the session of a browser that signed in with one. A key that is presented
/// counts, whatever cookies come along.
pub(super) fn authenticate(
    context: &Context,
    headers: &HeaderMap,
) -> Result<(Caller, Option<InSession>), ApiError> {
    match credential_of(headers) {
        Ok(Some(presented)) => {
            let snapshot = context.shared.current.load();
            let entry = snapshot.keys.find(presented, clock::unix_seconds());
            entry.map(|entry| (entry.caller(), None)).map_err(|_| ApiError::unauthenticated())
        }
        Ok(None) => session::caller(context, headers)
            .map(|(caller, session)| (caller, Some(session)))
            .ok_or_else(ApiError::unauthenticated),
        Err(_) => Err(ApiError::unauthenticated()),
    }
}

/// A page of another origin must not reach a listener on loopback through a name of its own (T20).
fn check_host(context: &Context, request: &Request) -> Result<(), ApiError> {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .or_else(|| request.uri().authority().map(axum::http::uri::Authority::as_str))
        .unwrap_or("");
    let known = routing::canonical_authority(host).is_ok_and(|authority| {
        let name: &str = &authority.host;
        let ip: Option<std::net::IpAddr> =
            name.trim_start_matches('[').trim_end_matches(']').parse().ok();
        name == "localhost"
            || ip.is_some_and(|ip| ip.is_loopback() || ip == context.admin.ip())
            || (context.admin.ip().is_unspecified() && ip.is_some())
            || context.changes.view().plan.admin.hosts.iter().any(|allowed| allowed == name)
    });
    if known {
        return Ok(());
    }
    Err(ApiError::new(
        axum::http::StatusCode::MISDIRECTED_REQUEST,
        "unknown_host",
        "the admin API is not served under this host; `admin.hosts` lists the names it answers to",
    ))
}
