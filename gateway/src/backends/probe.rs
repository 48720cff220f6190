//! Active health probes: a small GET to each endpoint of a backend that asks for it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, Request};
use policies::health::{Change, may_eject};

use super::added::Added;
use super::connect::{self, Connected};
use super::h1::{H1, H1Body, OpenConnection};
use super::h1_head::RequestHead;
use super::{Backend, Endpoint};
use crate::body::Outgoing;
use crate::config::plan::Probe;
use crate::telemetry::events;
use crate::worker::Shared;

/// Probes for ever, on a runtime of one thread.
pub async fn keep_probing(shared: Arc<Shared>) {
    let mut due: std::collections::HashMap<u64, Instant> = std::collections::HashMap::new();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let snapshot = shared.current.load_full();
        let now = crate::clock::now();
        let mut seen = Vec::new();
        for backend in &snapshot.backends {
            let Some(probe) = &backend.plan.health else { continue };
            for endpoint in &backend.life.endpoints.load_full().all {
                seen.push(endpoint.id);
                if due.get(&endpoint.id).is_some_and(|at| *at > now) {
                    continue;
                }
                due.insert(endpoint.id, now + probe.interval);
                tokio::task::spawn_local(run(
                    Arc::clone(&shared),
                    Arc::clone(backend),
                    Arc::clone(endpoint),
                    probe.clone(),
                ));
            }
        }
        due.retain(|id, _| seen.contains(id));
    }
}

async fn run(shared: Arc<Shared>, backend: Arc<Backend>, endpoint: Arc<Endpoint>, probe: Probe) {
    let ok = tokio::time::timeout(probe.timeout, ask(&backend, &endpoint, &probe.path))
        .await
        .unwrap_or(false);
    let all = backend.life.endpoints.load_full();
    let ejected = all.all.iter().filter(|e| !e.health.is_serving()).count();
    let may = may_eject(ejected, all.all.len());
    match endpoint.health.probe(ok, shared.backends.uptime(), may) {
        Some(Change::Ejected { .. }) => {
            backend.life.ejections.fetch_add(1, Relaxed);
            events::endpoint_ejected(backend.name, endpoint.address);
        }
        Some(Change::Restored) => events::endpoint_restored(backend.name, endpoint.address),
        None => {}
    }
}

/// Whether the endpoint answers 200 to 399.
async fn ask(backend: &Arc<Backend>, endpoint: &Arc<Endpoint>, path: &str) -> bool {
    let limits = policies::framing::HeadLimits {
        target_bytes: 0,
        header_bytes: 64 << 10,
        header_fields: 128,
    };
    let Ok(connected) = connect::connect(endpoint).await else { return false };
    match connected {
        Connected::H1(stream) => {
            let head = RequestHead {
                method: &Method::GET,
                path,
                query: "",
                host: &endpoint.authority,
                headers: &HeaderMap::new(),
                added: &Added::default(),
                credential: backend.credential.as_ref(),
                upgrade: false,
            };
            let open = OpenConnection::new(backend, 0);
            let mut h1 = H1::new(stream, limits, Arc::clone(endpoint), open);
            let Ok(parts) = h1.send(&head, Outgoing::Empty).await else { return false };
            let mut body = H1Body::new(h1);
            while let Some(frame) = std::future::poll_fn(|cx| body.poll_frame(cx)).await {
                if frame.is_err() {
                    return false;
                }
            }
            parts.status.is_success() || parts.status.is_redirection()
        }
        Connected::H2(io) => {
            let Ok((mut send, connection)) = connect::h2_builder().handshake(io).await else {
                return false;
            };
            let task = tokio::task::spawn_local(connection);
            let target =
                format!("http://{}{path}", endpoint.authority.to_str().unwrap_or_default());
            let Ok(mut request) = Request::get(target).body(Outgoing::Empty) else { return false };
            if let Some((name, value)) = &backend.credential {
                request.headers_mut().insert(name, value.clone());
            }
            let answer = send.send_request(request).await;
            task.abort();
            answer.is_ok_and(|r| r.status().is_success() || r.status().is_redirection())
        }
    }
}
