//! Operations under `/api/v1`.

use axum::routing::{delete, get, patch, post, put};
use policies::Permission;

use super::{AUDIT, EDIT, KEYS, OPEN, Operation, RAMP, READ, op};
use crate::admin::experiments::{self, define, shown};
use crate::admin::openapi::{self, answers};
use crate::admin::status::{self, List};
use crate::admin::{
    audit, comparison, export, keys, live, ramps, requests, results, session, webhooks,
};

pub(super) const OPERATIONS: &[Operation] = &[
    op(
        "GET",
        "/api/v1/openapi.json",
        READ,
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
            t.answers::<answers::comparison::Comparison>(200);
        },
    ),
    op(
        "POST",
        "/api/v1/shadows/{shadow}/comparison/restart",
        EDIT,
        || post(comparison::restart),
        |t| {
            t.says("Counting begins anew").once().optional_body::<experiments::Because>();
            t.answers::<answers::comparison::Restarted>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/shadows/{shadow}/disagreements",
        Some(Permission::ReadPayloads),
        || get(comparison::disagreements),
        |t| {
            t.says("Answers that disagree, as far as they are kept; written down in the audit log");
            t.query::<comparison::Page>().answers::<List<answers::comparison::Disagreement>>(200);
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
            t.says("Where the ramp stands").answers::<answers::ramps::Ramp>(200);
        },
    ),
    op(
        "POST",
        "/api/v1/experiments/{experiment}/ramp",
        RAMP,
        || post(ramps::start),
        |t| {
            t.says("Starts a ramp").once().optional_body::<answers::ramps::StartRamp>();
            t.answers::<answers::ramps::Ramp>(201).tagged().conflicts();
        },
    ),
    op(
        "POST",
        "/api/v1/experiments/{experiment}/ramp/{hand}",
        RAMP,
        || post(ramps::hand),
        |t| {
            t.says("Pauses, resumes, aborts or promotes a ramp");
            t.once().optional_body::<ramps::Handed>();
            t.answers::<answers::ramps::Ramp>(200).tagged().conflicts();
        },
    ),
    op(
        "GET",
        "/api/v1/experiments/{experiment}/results",
        READ,
        || get(results::results),
        |t| {
            t.says("What each variant did, against control");
            t.query::<results::Asked>().answers::<answers::results::Results>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/requests",
        READ,
        || get(requests::list),
        |t| {
            t.says("Stored outcomes, newest first");
            t.query::<requests::Filter>().answers::<List<answers::outcomes::Outcome>>(200);
        },
    ),
    op(
        "GET",
        "/api/v1/requests/{id}",
        READ,
        || get(requests::show),
        |t| {
            t.says("One stored outcome, with its attempts, phases and decision");
            t.answers::<answers::outcomes::OutcomeInFull>(200);
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
