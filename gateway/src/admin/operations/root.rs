//! Operations outside `/api/v1`: health, the console's pages, service and `/debug`.

use axum::routing::{get, post, put};

use super::{DRAIN, LOG_LEVEL, OPEN, Operation, READ, op, page};
use crate::admin::openapi::answers;
use crate::admin::status::{self, List};
use crate::admin::{console, debug, drain, experiments, health};

pub(super) const OPERATIONS: &[Operation] = &[
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
            t.says("The same as /api/v1/requests/{id}")
                .answers::<answers::outcomes::OutcomeInFull>(200);
        },
    ),
    op(
        "PUT",
        "/debug/log-level",
        LOG_LEVEL,
        || put(debug::log_level),
        |t| {
            t.says("The least severe events that are logged, for a while");
            t.once().body::<debug::SetLevel>().answers::<debug::Level>(200);
        },
    ),
];
