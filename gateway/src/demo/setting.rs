//! What is set up for a demo: the configuration, and who listens where.

use std::net::SocketAddr;

/// The experiment that splits the route.
pub(crate) const EXPERIMENT: &str = "int8";

/// The shadow that copies it.
pub(crate) const SHADOW: &str = "next";

/// Percent of requests that the shadow copies.
pub(crate) const SHADOW_PERCENT: u8 = 10;

/// Addresses of a demo; port 0 takes a free one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) edge: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) stable: SocketAddr,
    pub(crate) canary: SocketAddr,
    pub(crate) next: SocketAddr,
}

/// The demo's `weir.toml`: an ordinary one, to read and to try things with.
pub(crate) fn config(at: &Addresses) -> String {
    let Addresses { edge, admin, stable, canary, next } = at;
    format!(
        r#"# The configuration of `weir demo`. Change it while the demo runs: it is read again when saved.

[server]
listen = "{edge}"
[server.tls]
certificates = [{{ chain = "edge.pem", key = "edge.key" }}]

[admin]
listen = "{admin}"

[store]
url = "sqlite:weir.db"

[telemetry]
access_log = "file:access.log"

# Three model servers, built into the demo. Each is told its own model name.
[backends.stable]
endpoints = ["http://{stable}"]
model = "demo-stable"
health = {{ path = "/health" }}

[backends.canary]
endpoints = ["http://{canary}"]
model = "demo-canary"
health = {{ path = "/health" }}

[backends.next]
endpoints = ["http://{next}"]
model = "demo-next"
health = {{ path = "/health" }}

[routes.chat]
path = "/v1/chat/completions"
backend = "stable"                     # serves when no experiment decides

# The question: may one of the others serve instead of stable? Ramps will move these weights.
[experiments.{EXPERIMENT}]
route = "chat"
unit = ["header:x-user-id", "key"]     # a user stays on one variant
control = "stable"
[experiments.{EXPERIMENT}.variants]
stable = {{ backend = "stable", weight = 100 }}
canary = {{ backend = "canary", weight = 0 }}
next = {{ backend = "next", weight = 0 }}

# Copies of requests, for a model that no client need see yet: its answers are only measured.
[shadows.{SHADOW}]
route = "chat"
backend = "next"
percent = {SHADOW_PERCENT}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{certificates, folder::Folder};

    #[test]
    fn the_configuration_of_the_demo_is_in_order() {
        let folder = Folder::open(None).unwrap();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let model = SocketAddr::from(([127, 0, 0, 1], 9000));
        let at = Addresses {
            edge: loopback,
            admin: loopback,
            stable: model,
            canary: model,
            next: model,
        };
        let made = certificates::make(loopback.ip()).unwrap();
        folder.write("edge.pem", &made.chain).unwrap();
        folder.write("edge.key", &made.key).unwrap();
        folder.write("weir.toml", &config(&at)).unwrap();
        let loaded = crate::config::load(&folder.path().join("weir.toml"), &|_| None);
        let loaded = loaded.map_err(|problems| problems.to_string()).unwrap();
        assert_eq!(loaded.notices, []);
        assert_eq!(&*loaded.plan.experiments[0].name, EXPERIMENT);
    }
}
