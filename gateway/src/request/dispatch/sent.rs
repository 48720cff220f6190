//! What a backend gets: the request as it came, with the target, host, model and credential that are
//! the endpoint's.

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, Version, header};
use policies::peek;

use crate::backends::h1_head::RequestHead;
use crate::backends::{Backend, Endpoint};
use crate::body::Outgoing;
use crate::config::plan::Scheme;
use crate::request::read_head::{Head, Payload};
use crate::request::{Cx, Rejection};

/// The body with the backend's own `model` in place of the client's, if there is one to replace.
pub fn rewritten(backend: &Backend, payload: &Payload) -> Option<Outgoing> {
    let model = backend.model?;
    let Payload::Whole(body, peeked) = payload else { return None };
    let (_, span) = peeked.model.as_ref()?;
    let body = peek::rewrite_model(body, span.clone(), model);
    Some(Outgoing::Full(Some(body.into())))
}

/// The head of a request for one endpoint over HTTP/1.1: canonical target, configured host, the
/// backend's own credential.
pub fn head_for<'a>(
    head: &'a Head,
    backend: &'a Backend,
    endpoint: &'a Endpoint,
    preserve_host: bool,
) -> RequestHead<'a> {
    RequestHead {
        method: &head.method,
        path: &head.path,
        query: &head.query,
        host: host_for(head, endpoint, preserve_host),
        headers: &head.headers,
        added: &head.added,
        credential: backend.credential.as_ref(),
        upgrade: head.upgrade,
    }
}

fn host_for<'a>(head: &'a Head, endpoint: &'a Endpoint, preserve_host: bool) -> &'a HeaderValue {
    match &head.authority {
        Some(authority) if preserve_host => authority,
        _ => &endpoint.authority,
    }
}

/// The same over HTTP/2, with its body.
///
/// # Errors
/// 400 where the target is none: together with a scheme and a host it may be too long although it was
/// not when it came.
pub fn outgoing(
    cx: &Cx,
    head: &Head,
    backend: &Backend,
    endpoint: &Endpoint,
    preserve_host: bool,
    body: Outgoing,
) -> Result<Request<Outgoing>, Rejection> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.version_mut() = Version::HTTP_2;
    let host = host_for(head, endpoint, preserve_host).to_str().unwrap_or_default();
    let scheme = if endpoint.scheme == Scheme::Https { "https://" } else { "http://" };
    let target = [scheme, host, &head.path, &head.query].concat();
    *request.uri_mut() = Uri::from_maybe_shared(Bytes::from(target))
        .map_err(|fault| Rejection::Head(format!("the target cannot be sent on: {fault}")))?;
    let length = http_body::Body::size_hint(request.body()).exact();
    let headers = request.headers_mut();
    headers.clone_from(&head.headers);
    head.added.insert_into(headers);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::HOST);
    // hyper frames the body by its size hint; a POST without a body must say so itself.
    let wants_length = length.is_some_and(|length| length > 0)
        || matches!(head.method, http::Method::POST | http::Method::PUT | http::Method::PATCH);
    if let Some(length) = length
        && wants_length
        && let Some(value) = cx.worker.header_of_number(length)
    {
        headers.insert(header::CONTENT_LENGTH, value);
    }
    if let Some((name, value)) = &backend.credential {
        headers.insert(name, value.clone());
    }
    Ok(request)
}
