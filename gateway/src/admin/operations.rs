//! Every operation of the admin listener: who may do it, who answers it, and what the document says of it.
//!
//! One table. The router is made of it, `access` asks it for permissions, `openapi` writes it down; a path
//! that is not here does not exist (hardening T19).

use axum::Router;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use policies::Permission;

use super::experiments::{self, define, shown};
use super::openapi::{Told, answers};
use super::status::{self, List};
use super::{
    Context, audit, comparison, console, debug, drain, export, health, keys, live, openapi, ramps,
    requests, results, session, webhooks,
};

/// One operation.
#[derive(Clone, Copy)]
pub struct Operation {
    /// Method.
    pub method: &'static str,
    /// Path, as axum has it.
    pub path: &'static str,
    /// What it needs; `None`: no credential.
    pub needs: Option<Permission>,
    route: fn() -> MethodRouter<Context>,
    pub(super) told: fn(&mut Told<'_>),
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operation")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("needs", &self.needs)
            .finish_non_exhaustive()
    }
}

const fn op(
    method: &'static str,
    path: &'static str,
    needs: Option<Permission>,
    route: fn() -> MethodRouter<Context>,
    told: fn(&mut Told<'_>),
) -> Operation {
    Operation { method, path, needs, route, told }
}

const OPEN: Option<Permission> = None;
const READ: Option<Permission> = Some(Permission::Read);
const EDIT: Option<Permission> = Some(Permission::EditExperiment);
const RAMP: Option<Permission> = Some(Permission::ControlRamp);
const KEYS: Option<Permission> = Some(Permission::ManageKeys);
const AUDIT: Option<Permission> = Some(Permission::ReadAudit);
const DRAIN: Option<Permission> = Some(Permission::Drain);

/// Every path of the router, with its methods.
pub fn router() -> Router<Context> {
    let all = OPERATIONS.iter();
    all.fold(Router::new(), |router, operation| router.route(operation.path, (operation.route)()))
}

/// A page of the console.
const fn page(path: &'static str) -> Operation {
    op("GET", path, OPEN, || get(console::page), |t| t.says("A page of the console").html())
}

/// The table.
pub const OPERATIONS: &[Operation] = &[
    op(
        "GET",
        "/livez",
        OPEN,
        || get(health::livez),
        |t| {
            t.says("Whether the workers make progress").query::<health::Verbose>().health();
        },
    ),
    op(
        "GET",
        "/healthz",
        OPEN,
        || get(health::livez),
        |t| {
            t.says("The same as /livez").query::<health::Verbose>().health();
        },
    ),
    op(
        "GET",
        "/readyz",
        OPEN,
        || get(health::readyz),
        |t| {
            t.says("Whether traffic should come here").query::<health::Verbose>().health();
        },
    ),
    op(
        "GET",
        "/startupz",
        OPEN,
        || get(health::startupz),
        |t| {
            t.says("Whether the first configuration is in force")
                .query::<health::Verbose>()
                .health();
        },
    ),
    op(
        "GET",
        "/version",
        OPEN,
        || get(health::version),
        |t| {
            t.says("Which build this is").answers::<health::Version>(200);
        },
    ),
    op(
        "GET",
        "/metrics",
        OPEN,
        || get(health::metrics),
        |t| {
            t.says("Prometheus or OpenMetrics text, as `Accept` asks").text("text/plain");
            t.text("application/openmetrics-text");
        },
    ),
    page("/"),
    page("/experiments"),
    page("/experiments/{experiment}"),
    page("/requests"),
    page("/requests/{id}"),
    page("/backends"),
    page("/keys"),
    page("/audit"),
    page("/gateway"),
    op(
        "GET",
        "/console/{file}",
        OPEN,
        || get(console::file),
        |t| {
            t.says("A file of the console").file();
        },
    ),
    op(
        "GET",
        "/status",
        READ,
        || get(status::status),
        |t| {
            t.says("The same as /api/v1/status").answers::<status::Status>(200);
        },
    ),
    op(
        "POST",
        "/drain",
        DRAIN,
        || post(drain::drain),
        |t| {
            t.says("Out of service, as after SIGTERM, while the process goes on");
            t.once().optional_body::<experiments::Because>().answers::<drain::Drained>(200);
        },
    ),
    op(
        "POST",
        "/undrain",
        DRAIN,
        || post(drain::undrain),
        |t| {
            t.says("Back into service");
            t.once().optional_body::<experiments::Because>().answers::<drain::Drained>(200);
        },
    ),
    op(
        "GET",
        "/debug/config",
        READ,
        || get(debug::config),
        |t| {
            t.says("The file in force, without secrets").answers::<debug::Config>(200);
        },
    ),
    op(
        "GET",
        "/debug/routes",
        READ,
        || get(debug::routes),
        |t| {
            t.says("Rules in the order of the table").answers::<List<debug::RouteRule>>(200);
        },
    ),
    op(
        "GET",
        "/debug/backends",
        READ,
        || get(status::backends),
        |t| {
            t.says("The same as /api/v1/backends").answers::<List<status::Backend>>(200);
        },
    ),
    op(
        "GET",
        "/debug/experiments",
        READ,
        || get(debug::experiments),
        |t| {
            t.says("Whose buckets are whose").answers::<List<debug::Dealt>>(200);
        },
    ),
    op(
        "GET",
        "/debug/connections",
        READ,
        || get(debug::connections),
        |t| {
            t.says("Client connections of each worker").answers::<List<debug::OfWorker>>(200);
        },
    ),
    op(
        "GET",
        "/debug/assign",
        READ,
        || get(debug::assign),
        |t| {
            t.says("Which variant a unit gets, and why");
            t.query::<debug::WhoGetsWhat>().answers::<experiments::Assigned>(200);
        },
    ),
    op(
        "GET",
        "/debug/requests/{id}",
        READ,
        || get(debug::request),
        |t| {
            t.says("The same as /api/v1/requests/{id}").answers::<answers::OutcomeInFull>(200);
        },
    ),
    op(
        "PUT",
        "/debug/log-level",
        Some(Permission::LogLevel),
        || put(debug::log_level),
        |t| {
            t.says("The least severe events that are logged, for a while");
            t.once().body::<debug::SetLevel>().answers::<debug::Level>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/openapi.json",
        OPEN,
        || get(openapi::document),
        |t| {
            t.says("This document").anything(200);
        },
    ),
    op(
        "GET",
        "/api/v1/session",
        OPEN,
        || get(session::show),
        |t| {
            t.says("Who the caller is, and what it may do").answers::<answers::Session>(200);
        },
    ),
    op(
        "POST",
        "/api/v1/session",
        OPEN,
        || post(session::sign_in),
        |t| {
            t.says("Signs a browser in, with a key");
            t.body::<session::SignIn>().answers::<answers::Session>(200);
        },
    ),
    op(
        "DELETE",
        "/api/v1/session",
        READ,
        || delete(session::sign_out),
        |t| {
            t.says("Signs out").nothing(204);
        },
    ),
    op(
        "GET",
        "/api/v1/status",
        READ,
        || get(status::status),
        |t| {
            t.says("The whole gateway on one screen").answers::<status::Status>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/live",
        READ,
        || get(live::live),
        |t| {
            t.says("What happens now: an event stream with a frame a second");
            t.query::<live::Asked>().events::<live::OfStream>();
        },
    ),
    op(
        "GET",
        "/api/v1/routes",
        READ,
        || get(status::routes),
        |t| {
            t.says("Routes and what they do").answers::<List<status::Route>>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/backends",
        READ,
        || get(status::backends),
        |t| {
            t.says("Backends and their endpoints").answers::<List<status::Backend>>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/shadows",
        READ,
        || get(status::shadows),
        |t| {
            t.says("Shadows and what became of copies").answers::<List<status::Shadow>>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/shadows/{shadow}/comparison",
        READ,
        || get(comparison::show),
        |t| {
            t.says("Answers to copies beside those that clients got");
            t.answers::<answers::Comparison>(200);
        },
    ),
    op(
        "POST",
        "/api/v1/shadows/{shadow}/comparison/restart",
        EDIT,
        || post(comparison::restart),
        |t| {
            t.says("Counting begins anew").once().optional_body::<experiments::Because>();
            t.answers::<answers::Restarted>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/shadows/{shadow}/disagreements",
        Some(Permission::ReadPayloads),
        || get(comparison::disagreements),
        |t| {
            t.says("Answers that disagree, as far as they are kept; written down in the audit log");
            t.query::<comparison::Page>().answers::<List<answers::Disagreement>>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/experiments",
        READ,
        || get(experiments::list),
        |t| {
            t.says("Experiments and what their variants do");
            t.query::<experiments::InState>().answers::<List<shown::Experiment>>(200);
        },
    ),
    op(
        "POST",
        "/api/v1/experiments",
        EDIT,
        || post(define::create),
        |t| {
            t.says("Makes an experiment; checked as the file is");
            t.once().body::<define::NewExperiment>().changed(201).conflicts();
        },
    ),
    op(
        "GET",
        "/api/v1/experiments/{experiment}",
        READ,
        || get(experiments::show),
        |t| {
            t.says("One experiment; its revision is the `ETag`").answers::<shown::Experiment>(200);
            t.tagged();
        },
    ),
    op(
        "PATCH",
        "/api/v1/experiments/{experiment}",
        EDIT,
        || patch(define::edit),
        |t| {
            t.says("Changes what an experiment is: JSON merge patch (RFC 7396)");
            t.once().if_match().body::<define::Patch>().changed(200);
        },
    ),
    op(
        "DELETE",
        "/api/v1/experiments/{experiment}",
        EDIT,
        || delete(define::end),
        |t| {
            t.says("Ends an experiment; results stay");
            t.once().if_match().query::<define::Because>().changed(200);
        },
    ),
    op(
        "GET",
        "/api/v1/experiments/{experiment}/export",
        READ,
        || get(define::export),
        |t| {
            t.says("An experiment as a section of the file").text("application/toml");
        },
    ),
    op(
        "PUT",
        "/api/v1/experiments/{experiment}/weights",
        Some(Permission::ChangeWeights),
        || put(experiments::set_weights),
        |t| {
            t.says("Moves weights; answered once it is in force");
            t.once().if_match().body::<experiments::SetWeights>().changed(200);
        },
    ),
    op(
        "POST",
        "/api/v1/experiments/{experiment}/stop",
        Some(Permission::StopExperiment),
        || post(experiments::stop),
        |t| {
            t.says("Kill switch: the route's backend serves everything");
            t.once().optional_body::<experiments::Because>().changed(200);
        },
    ),
    op(
        "POST",
        "/api/v1/experiments/{experiment}/undo",
        Some(Permission::UndoExperiment),
        || post(experiments::undo),
        |t| {
            t.says("Back to an earlier revision");
            t.once().if_match().optional_body::<experiments::Undo>().changed(200);
        },
    ),
    op(
        "GET",
        "/api/v1/experiments/{experiment}/history",
        READ,
        || get(experiments::history),
        |t| {
            t.says("Every revision, newest first");
            t.query::<experiments::Page>().answers::<experiments::History>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/experiments/{experiment}/assign",
        READ,
        || get(experiments::assign),
        |t| {
            t.says("Which variant a unit gets, and why");
            t.query::<experiments::UnitQuery>().answers::<experiments::Assigned>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/experiments/{experiment}/ramp",
        READ,
        || get(ramps::show),
        |t| {
            t.says("Where the ramp stands").answers::<answers::Ramp>(200);
        },
    ),
    op(
        "POST",
        "/api/v1/experiments/{experiment}/ramp",
        RAMP,
        || post(ramps::start),
        |t| {
            t.says("Starts a ramp").once().optional_body::<answers::StartRamp>();
            t.answers::<answers::Ramp>(201).tagged().conflicts();
        },
    ),
    op(
        "POST",
        "/api/v1/experiments/{experiment}/ramp/{hand}",
        RAMP,
        || post(ramps::hand),
        |t| {
            t.says("Pauses, resumes, aborts or promotes a ramp");
            t.once().optional_body::<experiments::Because>();
            t.answers::<answers::Ramp>(200).tagged().conflicts();
        },
    ),
    op(
        "GET",
        "/api/v1/experiments/{experiment}/results",
        READ,
        || get(results::results),
        |t| {
            t.says("What each variant did, against control");
            t.query::<results::Asked>().answers::<answers::Results>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/requests",
        READ,
        || get(requests::list),
        |t| {
            t.says("Stored outcomes, newest first");
            t.query::<requests::Filter>().answers::<List<answers::Outcome>>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/requests/{id}",
        READ,
        || get(requests::show),
        |t| {
            t.says("One stored outcome, with its attempts, phases and decision");
            t.answers::<answers::OutcomeInFull>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/export/outcomes",
        READ,
        || get(export::export),
        |t| {
            t.says("Stored outcomes as lines of JSON or as CSV; written down in the audit log");
            t.query::<export::Asked>().text("application/x-ndjson").text("text/csv");
        },
    ),
    op(
        "GET",
        "/api/v1/audit",
        AUDIT,
        || get(audit::list),
        |t| {
            t.says("The audit log, newest first; reading it is written down");
            t.query::<audit::Page>().answers::<List<audit::Entry>>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/audit/verify",
        AUDIT,
        || get(audit::verify),
        |t| {
            t.says("Whether the audit log is whole and nothing of it was changed");
            t.query::<audit::Known>().answers::<audit::Verdict>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/webhooks",
        READ,
        || get(webhooks::list),
        |t| {
            t.says("Webhooks and how each stands").answers::<List<answers::Webhook>>(200);
        },
    ),
    op(
        "POST",
        "/api/v1/webhooks/{name}/test",
        Some(Permission::TestWebhook),
        || post(webhooks::test),
        |t| {
            t.says("Sends a test at once; 502 if it was not taken");
            t.once().answers::<answers::WebhookTest>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/keys",
        KEYS,
        || get(keys::list),
        |t| {
            t.says("Keys, without their secrets").answers::<List<keys::Key>>(200);
        },
    ),
    op(
        "POST",
        "/api/v1/keys",
        KEYS,
        || post(keys::create),
        |t| {
            t.says("Makes a key of a lower role; its secret is told this once");
            t.once().body::<keys::NewKey>().answers::<keys::MadeKey>(201).conflicts();
        },
    ),
    op(
        "DELETE",
        "/api/v1/keys/{id}",
        KEYS,
        || delete(keys::revoke),
        |t| {
            t.says("Revokes a key of a lower role, at once").once().answers::<keys::Key>(200);
            t.conflicts();
        },
    ),
];
