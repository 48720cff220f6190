//! Every operation of the admin listener × every role × no credential and a wrong one (T19).

use std::collections::BTreeSet;

use ::gateway::admin::operations;
use serde_json::Value;
use weir_tests::{Answer, Client, gateway};

use crate::experiments::two;

/// Who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum May {
    /// Without a credential.
    Everybody,
    /// Whoever may look.
    Look,
    /// Whoever may move traffic.
    Change,
    /// Whoever keeps the gateway running.
    Keep,
    /// Whoever checks the others.
    Check,
}

impl May {
    fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Everybody => &ROLES,
            Self::Look => &["viewer", "experimenter", "operator", "auditor", "admin"],
            Self::Change => &["experimenter", "operator", "admin"],
            Self::Keep => &["operator", "admin"],
            Self::Check => &["auditor", "admin"],
        }
    }
}

const ROLES: [&str; 6] = ["client", "viewer", "experimenter", "operator", "auditor", "admin"];

/// What is promised, by hand: an operation that is not here fails the test, and so does a row here that no
/// operation has.
#[rustfmt::skip]
const PROMISED: &[(&str, May)] = &[
    ("GET /livez", May::Everybody),
    ("GET /healthz", May::Everybody),
    ("GET /readyz", May::Everybody),
    ("GET /startupz", May::Everybody),
    ("GET /version", May::Everybody),
    ("GET /metrics", May::Everybody),
    // The console's pages and files hold nothing but themselves.
    ("GET /", May::Everybody),
    ("GET /experiments", May::Everybody),
    ("GET /experiments/{experiment}", May::Everybody),
    ("GET /requests", May::Everybody),
    ("GET /requests/{id}", May::Everybody),
    ("GET /backends", May::Everybody),
    ("GET /keys", May::Everybody),
    ("GET /audit", May::Everybody),
    ("GET /gateway", May::Everybody),
    ("GET /console/{file}", May::Everybody),
    // The way in.
    ("GET /api/v1/session", May::Everybody),
    ("POST /api/v1/session", May::Everybody),
    ("DELETE /api/v1/session", May::Look),

    ("GET /status", May::Look),
    ("POST /drain", May::Keep),
    ("POST /undrain", May::Keep),
    ("GET /debug/config", May::Look),
    ("GET /debug/routes", May::Look),
    ("GET /debug/backends", May::Look),
    ("GET /debug/experiments", May::Look),
    ("GET /debug/connections", May::Look),
    ("GET /debug/assign", May::Look),
    ("GET /debug/requests/{id}", May::Look),
    ("PUT /debug/log-level", May::Keep),

    ("GET /api/v1/openapi.json", May::Look),
    ("GET /api/v1/status", May::Look),
    ("GET /api/v1/live", May::Look),
    ("GET /api/v1/routes", May::Look),
    ("GET /api/v1/backends", May::Look),
    ("GET /api/v1/shadows", May::Look),
    ("GET /api/v1/shadows/{shadow}/comparison", May::Look),
    ("POST /api/v1/shadows/{shadow}/comparison/restart", May::Change),
    // What clients asked and were answered (T27).
    ("GET /api/v1/shadows/{shadow}/disagreements", May::Keep),
    ("GET /api/v1/experiments", May::Look),
    ("POST /api/v1/experiments", May::Change),
    ("GET /api/v1/experiments/{experiment}", May::Look),
    ("PATCH /api/v1/experiments/{experiment}", May::Change),
    ("DELETE /api/v1/experiments/{experiment}", May::Change),
    ("GET /api/v1/experiments/{experiment}/export", May::Look),
    ("PUT /api/v1/experiments/{experiment}/weights", May::Change),
    ("POST /api/v1/experiments/{experiment}/stop", May::Change),
    ("POST /api/v1/experiments/{experiment}/undo", May::Change),
    ("GET /api/v1/experiments/{experiment}/history", May::Look),
    ("GET /api/v1/experiments/{experiment}/assign", May::Look),
    ("GET /api/v1/experiments/{experiment}/ramp", May::Look),
    ("POST /api/v1/experiments/{experiment}/ramp", May::Change),
    ("POST /api/v1/experiments/{experiment}/ramp/{hand}", May::Change),
    ("GET /api/v1/experiments/{experiment}/results", May::Look),
    ("GET /api/v1/requests", May::Look),
    ("GET /api/v1/requests/{id}", May::Look),
    ("GET /api/v1/export/outcomes", May::Look),
    ("GET /api/v1/audit", May::Check),
    ("GET /api/v1/audit/verify", May::Check),
    ("GET /api/v1/webhooks", May::Look),
    ("POST /api/v1/webhooks/{name}/test", May::Keep),
    ("GET /api/v1/keys", May::Keep),
    ("POST /api/v1/keys", May::Keep),
    ("DELETE /api/v1/keys/{id}", May::Keep),
];

/// A call that is let in or not, and in neither case changes anything: what it asks for is not there, is
/// no JSON, or names no revision.
fn harmless(method: &str, path: &str) -> (String, &'static str) {
    let mut target = path
        .replace("{experiment}", "int8")
        .replace("{hand}", "pause")
        .replace("{id}", "0190a1b2c3d4")
        .replace("{shadow}", "none")
        .replace("{name}", "none")
        .replace("{file}", "console.js");
    if path.ends_with("/live") {
        // Else it would have no end.
        target.push_str("?since=never");
    }
    (target, if method == "GET" { "" } else { "{" })
}

fn message(answer: &Answer) -> String {
    answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn every_operation_answers_every_role_as_promised() {
    let (_stable, _canary, split) = two().await;
    let gateway = gateway(split).start().await;
    let mut keys = Vec::new();
    for role in ROLES {
        keys.push((role, gateway.make_key(role, Value::Null).await));
    }
    let before = (gateway.get("/experiments/int8").await, gateway.get("/keys").await);
    let bare = Client::plain(gateway.admin);
    let mut rows: BTreeSet<&str> = PROMISED.iter().map(|(operation, _)| *operation).collect();
    assert_eq!(rows.len(), PROMISED.len(), "a row stands there twice");
    for operation in operations::all() {
        let (method, path) = (operation.method, operation.path);
        let name = format!("{method} {path}");
        let row = PROMISED.iter().find(|(promised, _)| *promised == name);
        let (row, may) = *row.unwrap_or_else(|| panic!("{name}: nobody has said who may"));
        rows.remove(row);
        let (target, body) = harmless(method, path);
        let call = |client: Client| client.request(method, &target, body);
        let none = call(bare.clone()).await;
        let wrong = call(bare.clone().bearer("not-a-key")).await;
        if may == May::Everybody {
            // Signing in takes a page of this origin, which this is not.
            let expected = if name == "POST /api/v1/session" { 403 } else { 200 };
            assert_eq!(none.status, expected, "{name} without a credential: {}", none.text());
            // Whoever asks who it is must not take a key that does not work for a good one.
            let expected = if name == "GET /api/v1/session" { 401 } else { expected };
            assert_eq!(wrong.status, expected, "{name} with a wrong credential");
        } else {
            assert_eq!(none.status, 401, "{name} without a credential");
            assert_eq!(none.header("www-authenticate"), Some("Bearer"), "{name}");
            let said = (wrong.status.as_u16(), message(&wrong));
            assert_eq!(said, (401, message(&none)), "{name} with a wrong credential");
        }
        for (role, key) in &keys {
            let answer = call(bare.clone().bearer(key)).await;
            let status = answer.status.as_u16();
            if may == May::Everybody {
                assert_eq!(answer.status, none.status, "{name} as {role}");
            } else if may.roles().contains(role) {
                let let_in = ![401, 403].contains(&status) && status < 500;
                assert!(let_in, "{name} as {role}: {status} {}", answer.text());
            } else {
                let lacks = operation.needs.map(policies::Permission::as_str).unwrap();
                let said = format!("a key of role {role} lacks the permission {lacks}");
                assert_eq!((status, message(&answer)), (403, said), "{name}");
            }
        }
    }
    assert!(rows.is_empty(), "promised, and not there: {rows:?}");
    let after = (gateway.get("/experiments/int8").await, gateway.get("/keys").await);
    assert_eq!(after.0["revision"], before.0["revision"], "nothing was changed");
    assert_eq!(after.1, before.1, "nothing was changed");
}
