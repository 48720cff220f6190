//! Names of backends to addresses: asked again as their time to live says, never on the request path.
//!
//! The last good answer stays when a name stops resolving (hardening F07). Where a name may lead is
//! checked here, on the addresses that are then dialled: link-local, multicast and unspecified never;
//! loopback and private ones only if the backend allows it or the file itself wrote that address
//! (T23).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use parking_lot::Mutex;

use super::{Backend, Backends};
use crate::clock;
use crate::config::plan;
use crate::telemetry::events;
use crate::worker::Shared;

/// How long a start or reload waits for names.
pub const FIRST_WAIT: Duration = Duration::from_secs(5);
/// Bounds of a time to live.
const LEAST: Duration = Duration::from_secs(5);
const MOST: Duration = Duration::from_secs(300);

struct Known {
    addresses: Vec<IpAddr>,
    until: Instant,
}

/// What names lead to, and for how long that holds.
struct Answers {
    // Or why there is none.
    resolver: Result<TokioResolver, String>,
    known: Mutex<HashMap<String, Known>>,
}

/// Answers of the system's name servers.
static ANSWERS: LazyLock<Answers> = LazyLock::new(|| Answers {
    resolver: TokioResolver::builder_tokio()
        .map(|builder| builder.build())
        .map_err(|error| format!("the system has no usable DNS configuration: {error}")),
    known: Mutex::default(),
});

impl Answers {
    /// Where `host` leads at `now`, in order: asked again when the last answer's time is over; the
    /// last good answer where there is no better one.
    async fn of(&self, host: &str, now: Instant) -> Result<Vec<IpAddr>, String> {
        if let Some(known) = self.known.lock().get(host)
            && known.until > now
        {
            return Ok(known.addresses.clone());
        }
        let answer = match &self.resolver {
            Ok(resolver) => resolver.lookup_ip(format!("{host}.")).await.map_err(|e| e.to_string()),
            Err(error) => Err(error.clone()),
        };
        let mut answers = self.known.lock();
        match answer {
            Ok(found) => {
                let mut addresses: Vec<IpAddr> = found.iter().collect();
                addresses.sort_unstable();
                addresses.dedup();
                let ttl = found.valid_until().saturating_duration_since(now).clamp(LEAST, MOST);
                let known = Known { addresses: addresses.clone(), until: now + ttl };
                answers.insert(host.to_owned(), known);
                Ok(addresses)
            }
            Err(error) => match answers.get_mut(host) {
                Some(known) => {
                    known.until = now + LEAST;
                    Ok(known.addresses.clone())
                }
                None => Err(format!("does not resolve: {error}")),
            },
        }
    }
}

/// Gives a backend whose file wrote only addresses its endpoints, at once. Where it has names that
/// were resolved before, what they led to stays, under the settings of now.
pub fn literals(backends: &Backends, backend: &Backend) {
    let endpoints = &backend.plan.endpoints;
    let found: Option<Vec<_>> = endpoints
        .iter()
        .map(|endpoint| {
            Some((endpoint.clone(), vec![SocketAddr::new(literal(endpoint)?, endpoint.port)]))
        })
        .collect();
    if let Some(found) = found {
        backend.life.unresolved.lock().clear();
        put(backends, backend, &found);
        return;
    }
    let now = backend.life.endpoints.load();
    let known = |spec: &plan::Endpoint| -> Option<Vec<SocketAddr>> {
        let of_spec = now.all.iter().filter(|endpoint| {
            endpoint.scheme == spec.scheme
                && endpoint.host == spec.host
                && endpoint.address.port() == spec.port
        });
        let sockets: Vec<SocketAddr> = of_spec.map(|endpoint| endpoint.address).collect();
        (!sockets.is_empty()).then_some(sockets)
    };
    let found: Option<Vec<_>> =
        endpoints.iter().map(|spec| Some((spec.clone(), known(spec)?))).collect();
    if let Some(found) = found {
        put(backends, backend, &found);
    }
}

/// Resolves every backend of the snapshot in force, all at the same time; waits at most `wait`.
pub async fn resolve_all(shared: &Arc<Shared>, wait: Duration) {
    let snapshot = shared.current.load_full();
    let mut all = tokio::task::JoinSet::new();
    for backend in &snapshot.backends {
        let (shared, backend) = (Arc::clone(shared), Arc::clone(backend));
        all.spawn(async move { resolve(&shared, &backend).await });
    }
    let _ = tokio::time::timeout(wait, async { while all.join_next().await.is_some() {} }).await;
    // A name that takes longer is left to its task.
    all.detach_all();
}

/// Asks again for names whose time is over, for ever.
pub async fn keep_resolving(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Each round waits for its slowest name, so that a dead server is asked once at a time.
        resolve_all(&shared, Duration::from_secs(60)).await;
    }
}

fn literal(endpoint: &plan::Endpoint) -> Option<IpAddr> {
    if &*endpoint.host == "localhost" {
        return Some(IpAddr::from([127, 0, 0, 1]));
    }
    endpoint.host.parse().ok()
}

/// Puts what was found in force, if it is not what is there.
fn put(backends: &Backends, backend: &Backend, found: &[(plan::Endpoint, Vec<SocketAddr>)]) {
    let before = backend.life.endpoints.load();
    let now: Vec<(&plan::Endpoint, SocketAddr)> = found
        .iter()
        .flat_map(|(spec, sockets)| sockets.iter().map(move |socket| (spec, *socket)))
        .collect();
    let same = before.all.len() == now.len()
        && before
            .all
            .iter()
            .zip(&now)
            .all(|(endpoint, (spec, address))| endpoint.is(backend, spec, *address))
        && before.ring.is_some() == (backend.balance == plan::Balance::HashUnit);
    if !same {
        backends.set_addresses(backend, found);
    }
}

async fn resolve(shared: &Arc<Shared>, backend: &Arc<Backend>) {
    let mut found = Vec::new();
    let mut failed = Vec::new();
    for endpoint in &backend.plan.endpoints {
        let addresses = match addresses(endpoint).await {
            Ok(found) => {
                let (good, bad) = found.sorted(backend.plan.allow_private);
                if let Some(ip) = bad {
                    let allows = format!("[backends.{}]", backend.name);
                    failed.push((Arc::clone(&endpoint.host), forbidden(ip, &allows)));
                }
                good
            }
            Err(why) => {
                failed.push((Arc::clone(&endpoint.host), why));
                Vec::new()
            }
        };
        let sockets = addresses.into_iter().map(|ip| SocketAddr::new(ip, endpoint.port)).collect();
        found.push((endpoint.clone(), sockets));
    }
    let mut known = backend.life.unresolved.lock();
    if *known != failed {
        for (host, why) in &failed {
            events::resolve_failed(backend.name, host, why);
        }
        *known = failed;
    }
    drop(known);
    // A reload may have replaced the backend while its old names were asked for.
    if shared.current.load().backends.iter().any(|current| Arc::ptr_eq(current, backend)) {
        put(&shared.backends, backend, &found);
    }
}

/// Where a webhook's host leads now: addresses that may be dialled, in order. The same rule as for
/// backends (T23): an address written in the file is the operator's word, a name can be made to lead
/// anywhere.
///
/// # Errors
/// Why there is none, in words that follow the host.
pub async fn of(endpoint: &plan::Endpoint, allow_private: bool) -> Result<Vec<IpAddr>, String> {
    let (good, bad) = addresses(endpoint).await?.sorted(allow_private);
    match bad {
        Some(ip) if good.is_empty() => Err(forbidden(ip, "its [[webhooks]]")),
        Some(_) | None => Ok(good),
    }
}

/// Addresses of an endpoint.
struct Found {
    addresses: Vec<IpAddr>,
    /// Whether the file wrote the address itself.
    literal: bool,
}

impl Found {
    /// Those that may be dialled, and the first that may not.
    fn sorted(self, allow_private: bool) -> (Vec<IpAddr>, Option<IpAddr>) {
        let (good, bad): (Vec<IpAddr>, Vec<IpAddr>) =
            self.addresses.into_iter().partition(|ip| allowed(*ip, self.literal || allow_private));
        (good, bad.first().copied())
    }
}

/// Why `ip` is not dialled; `allows` is where the file could allow it.
fn forbidden(ip: IpAddr, allows: &str) -> String {
    if allowed(ip, true) {
        format!(
            "leads to {ip}, which is not a public address; `allow_private = true` in {allows} \
             allows it"
        )
    } else {
        format!("leads to {ip}, where nothing is dialled (link-local, multicast, …)")
    }
}

async fn addresses(endpoint: &plan::Endpoint) -> Result<Found, String> {
    if let Some(ip) = literal(endpoint) {
        return Ok(Found { addresses: vec![ip], literal: true });
    }
    Ok(Found { addresses: ANSWERS.of(&endpoint.host, clock::now()).await?, literal: false })
}

/// Whether a name may lead to `ip`.
fn allowed(ip: IpAddr, private: bool) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let never =
                ip.is_link_local() || ip.is_multicast() || ip.is_unspecified() || ip.is_broadcast();
            let shared_space = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
            !never && (private || !(ip.is_private() || ip.is_loopback() || shared_space))
        }
        IpAddr::V6(ip) => {
            let never = ip.is_multicast() || ip.is_unspecified() || ip.is_unicast_link_local();
            !never && (private || !(ip.is_loopback() || ip.is_unique_local()))
        }
    }
}

#[cfg(test)]
mod tests;
