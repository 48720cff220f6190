//! `weir status`: the whole gateway on one screen.

use jiff::Timestamp;
use serde_json::Value;

use super::admin_client::{AdminClient, Call};
use super::console::{Console, Paint, Tone};
use super::fault::Fault;
use super::table::{Cell, Lean, Table};
use super::{reading, webhooks, words};

/// Shows it.
pub(crate) fn status(client: &AdminClient, json: bool, console: &mut Console) -> Result<(), Fault> {
    let answer = client.ask(Call::get("/status"), "read the status", console)?;
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    let text = screen(&answer.json, Timestamp::now(), console.width(), console.out_paint());
    console.print(&text);
    Ok(())
}

/// The screen: what deserves attention first, then everything by name.
fn screen(status: &Value, now: Timestamp, width: usize, paint: Paint) -> String {
    let mut lines = vec![summary(status)];
    let config = status.get("config").unwrap_or(&Value::Null);
    let file = words::clean(reading::text(config, "file").unwrap_or("?")).into_owned();
    lines.push(match reading::time(config, "loaded_at") {
        Some(at) => {
            format!("config  {file}, read {} ({})", words::relative(now, at), words::utc(at))
        }
        None => format!("config  {file}"),
    });
    lines.extend(recording(status));
    for (tone, warning) in warnings(status) {
        lines.push(paint.paint(tone, &words::clean(&warning)));
    }
    let tables = [
        routes(status),
        experiments(status),
        shadows(status),
        backends(status),
        webhooks(status, now),
    ];
    for (title, table) in tables.into_iter().flatten() {
        lines.push(String::new());
        lines.push(paint.paint(Tone::Bold, title));
        lines.extend(table.lines(2, width, paint));
    }
    lines.join("\n")
}

fn summary(status: &Value) -> String {
    let mut parts = vec![format!("weir {}", reading::text(status, "version").unwrap_or("?"))];
    if let Some(uptime) = reading::number(status, "uptime_seconds") {
        parts.push(format!("up {}", words::span(seconds(uptime))));
    }
    if let Some(generation) = reading::whole(status, "generation") {
        parts.push(format!("generation {generation}"));
    }
    for side in ["edge", "admin"] {
        parts.extend(reading::text(status, side).map(|address| format!("{side} {address}")));
    }
    words::clean(&parts.join(" · ")).into_owned()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float becomes the nearest whole number that there is"
)]
fn seconds(number: f64) -> u64 {
    number as u64
}

fn recording(status: &Value) -> Option<String> {
    let recording = status.get("recording")?;
    let store = status.get("store")?;
    let number = |key| reading::whole(recording, key).map_or_else(|| "?".to_owned(), words::count);
    let state = match store.get("up").and_then(Value::as_bool) {
        Some(true) => "up",
        Some(false) => "down",
        None => "unknown",
    };
    let mut line = format!(
        "store   {state}, outcomes {}: {} assigned, {} recorded, {} pending, {} dropped",
        reading::text(store, "mode").unwrap_or("?"),
        number("assigned"),
        number("recorded"),
        number("pending"),
        number("dropped"),
    );
    if let Some(bytes) = reading::whole(recording, "spool_bytes").filter(|bytes| *bytes > 0) {
        line.push_str(&format!(", {} bytes on disk still to store", words::count(bytes)));
    }
    Some(words::clean(&line).into_owned())
}

/// What is not as it should be, worst first.
fn warnings(status: &Value) -> Vec<(Tone, String)> {
    let mut out = Vec::new();
    let under = |key: &str| status.get(key).unwrap_or(&Value::Null);
    if under("store").get("up").and_then(Value::as_bool) == Some(false) {
        let why = reading::text(under("store"), "last_error").unwrap_or("no reason given");
        out.push((
            Tone::Bad,
            format!("! the store is down: {why}; outcomes wait on disk, changes are refused"),
        ));
    }
    if let Some(error) = reading::text(under("config"), "last_error") {
        // A problem has lines; here it is one.
        let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
        out.push((Tone::Bad, format!("! the last reload changed nothing: {error}")));
    }
    if let Some(dropped) =
        reading::whole(under("recording"), "dropped").filter(|dropped| *dropped > 0)
    {
        out.push((
            Tone::Warn,
            format!("! {} outcomes were dropped and are not stored", words::count(dropped)),
        ));
    }
    for webhook in reading::list(status, "webhooks") {
        let Some(why) = webhooks::failure(webhook) else { continue };
        let name = reading::text(webhook, "name").unwrap_or("?");
        let waiting =
            reading::whole(webhook, "pending").map_or_else(|| "?".to_owned(), words::count);
        out.push((
            Tone::Warn,
            format!("! webhook {name} takes no messages, {waiting} wait: {why}"),
        ));
    }
    if under("draining").as_bool() == Some(true) {
        out.push((
            Tone::Warn,
            "! draining: running requests finish, then the gateway stops".to_owned(),
        ));
    }
    for experiment in reading::list(status, "experiments") {
        out.extend(differs(experiment).map(|warning| (Tone::Warn, warning)));
        if let Some(why) = reading::text(experiment, "set_aside") {
            let name = reading::text(experiment, "name").unwrap_or("?");
            let mend = "takes no traffic until it fits the file again";
            out.push((Tone::Warn, format!("! {name} is set aside, {mend}: {why}")));
        }
    }
    out
}

/// Where an experiment is not what the file says.
fn differs(experiment: &Value) -> Option<String> {
    if experiment.get("differs_from_file").and_then(Value::as_bool) != Some(true) {
        return None;
    }
    let name = reading::text(experiment, "name").unwrap_or("?");
    let file = experiment.get("file").unwrap_or(&Value::Null);
    let line = reading::whole(file, "line").map(|line| format!(":{line}")).unwrap_or_default();
    let place = reading::text(file, "path")
        .map_or_else(|| "the file".to_owned(), |path| format!("{path}{line}"));
    let of = |difference: &Value| {
        let said = |side: &str| difference.get(side).map(ToString::to_string).unwrap_or_default();
        let member = reading::text(difference, "member").unwrap_or("?");
        format!("{member} is {}, in the file {}", said("live"), said("file"))
    };
    let all: Vec<String> = reading::list(file, "differences").iter().map(of).collect();
    Some(format!("! {name} differs from {place}, and what is live counts: {}", all.join("; ")))
}

/// Columns that routes and variants share.
const RATES: [(&str, Lean); 5] = [
    ("req/s", Lean::Right),
    ("errors", Lean::Right),
    ("p50", Lean::Right),
    ("p95", Lean::Right),
    ("p99", Lean::Right),
];

fn rates(value: &Value) -> [Cell; 5] {
    let show = |key: &str, how: fn(f64) -> String| {
        reading::number(value, key).map_or_else(|| "–".to_owned(), how)
    };
    let errors = reading::number(value, "error_rate");
    let tone = if errors.is_some_and(|rate| rate >= 0.01) { Tone::Bad } else { Tone::Plain };
    [
        Cell::from(show("requests_per_second", words::per_second)),
        Cell::toned(show("error_rate", words::failures), tone),
        Cell::from(show("p50", words::latency)),
        Cell::from(show("p95", words::latency)),
        Cell::from(show("p99", words::latency)),
    ]
}

fn table(left: &[(&'static str, Lean)], right: &[(&'static str, Lean)]) -> Table {
    Table::new(&[left, right].concat())
}

fn name(value: &Value, key: &str) -> Cell {
    Cell::from(reading::text(value, key).unwrap_or("–"))
}

fn count(value: &Value, key: &str) -> Cell {
    Cell::from(reading::whole(value, key).map_or_else(|| "–".to_owned(), words::count))
}

fn routes(status: &Value) -> Option<(&'static str, Table)> {
    let routes = reading::list(status, "routes");
    let mut table = table(
        &[("route", Lean::Left), ("matches", Lean::Left), ("backend", Lean::Left)],
        &[&RATES[..], &[("experiments", Lean::Left)]].concat(),
    )
    .sparing(&[5, 7, 1, 2]);
    for route in routes {
        let [rate, errors, p50, p95, p99] = rates(route);
        let experiments = Cell::from(reading::texts(route, "experiments").join(", "));
        table.row([
            name(route, "name"),
            name(route, "pattern"),
            name(route, "backend"),
            rate,
            errors,
            p50,
            p95,
            p99,
            experiments,
        ]);
    }
    (!routes.is_empty()).then_some(("Routes", table))
}

fn experiments(status: &Value) -> Option<(&'static str, Table)> {
    let experiments = reading::list(status, "experiments");
    let mut table = table(
        &[
            ("experiment", Lean::Left),
            ("variant", Lean::Left),
            ("weight", Lean::Right),
            ("share", Lean::Right),
            ("requests", Lean::Right),
        ],
        &RATES,
    )
    .sparing(&[2, 7, 9, 4]);
    for experiment in experiments {
        // Named once, in the first of its rows.
        let mut title = reading::text(experiment, "name").unwrap_or("?").to_owned();
        if let Some(revision) = reading::whole(experiment, "revision") {
            title.push_str(&format!("@{revision}"));
        }
        let running = reading::text(experiment, "state").is_none_or(|state| state == "running");
        if let (false, Some(state)) = (running, reading::text(experiment, "state")) {
            title.push_str(&format!(" ({state})"));
        }
        for (variant, value) in reading::variants(experiment) {
            let [rate, errors, p50, p95, p99] = rates(value);
            let tone = if running { Tone::Plain } else { Tone::Warn };
            table.row([
                Cell::toned(std::mem::take(&mut title), tone),
                Cell::from(variant),
                Cell::from(
                    reading::number(value, "weight").map_or_else(|| "–".to_owned(), words::weight),
                ),
                Cell::from(
                    reading::number(value, "share").map_or_else(|| "–".to_owned(), words::share),
                ),
                count(value, "requests"),
                rate,
                errors,
                p50,
                p95,
                p99,
            ]);
        }
    }
    (!experiments.is_empty()).then_some(("Experiments", table))
}

fn shadows(status: &Value) -> Option<(&'static str, Table)> {
    let shadows = reading::list(status, "shadows");
    let mut table = table(
        &[("shadow", Lean::Left), ("route", Lean::Left), ("backend", Lean::Left)],
        &[("ok", Lean::Right), ("errors", Lean::Right), ("dropped", Lean::Right)],
    );
    for shadow in shadows {
        table.row([
            name(shadow, "name"),
            name(shadow, "route"),
            name(shadow, "backend"),
            count(shadow, "ok"),
            count(shadow, "error"),
            count(shadow, "dropped"),
        ]);
    }
    (!shadows.is_empty()).then_some(("Shadows", table))
}

fn backends(status: &Value) -> Option<(&'static str, Table)> {
    let backends = reading::list(status, "backends");
    let mut table = table(
        &[("backend", Lean::Left), ("endpoint", Lean::Left)],
        &[("in flight", Lean::Right), ("state", Lean::Left)],
    );
    for backend in backends {
        let mut title = reading::text(backend, "name").unwrap_or("?").to_owned();
        for endpoint in reading::list(backend, "endpoints") {
            let state = reading::text(endpoint, "state").unwrap_or("–");
            let tone = match state {
                "serving" => Tone::Good,
                "ejected" => Tone::Bad,
                _ => Tone::Warn,
            };
            table.row([
                Cell::from(std::mem::take(&mut title)),
                name(endpoint, "address"),
                count(endpoint, "in_flight"),
                Cell::toned(state.replace('_', " "), tone),
            ]);
        }
    }
    (!backends.is_empty()).then_some(("Backends", table))
}

fn webhooks(status: &Value, now: Timestamp) -> Option<(&'static str, Table)> {
    let webhooks = reading::list(status, "webhooks");
    (!webhooks.is_empty()).then(|| ("Webhooks", webhooks::table(webhooks, now)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gateway() -> Value {
        json!({
            "version": "0.1.0", "uptime_seconds": 7500, "generation": 4,
            "config": { "file": "weir.toml", "loaded_at": "2026-11-22T17:15:21Z",
                        "last_error": "weir.toml:3:1  [server] is missing\n   add it" },
            "edge": "0.0.0.0:8443", "admin": "127.0.0.1:8444", "draining": false,
            "routes": [{ "name": "chat", "pattern": "/v1/chat/completions", "backend": "llama-8b",
                "requests_per_second": 20.04, "error_rate": 0.003, "p50": 0.041, "p95": 0.09, "p99": 1.2,
                "experiments": ["int8"] }],
            "experiments": [{ "name": "int8", "route": "chat", "state": "running", "revision": 7,
                "control": "stable", "differs_from_file": true,
                "file": { "path": "weir.toml", "line": 31, "differences": [
                    { "member": "variants.canary.weight", "file": 5, "live": 10 } ] }, "variants": {
                    "canary": { "backend": "llama-8b-int8", "weight": 10, "share": 0.1, "requests": 12_000,
                        "requests_per_second": 2.0, "error_rate": 0.031, "p50": 0.063, "p95": 0.15, "p99": 0.22 },
                    "stable": { "backend": "llama-8b", "weight": 90, "share": 0.9, "requests": 0,
                        "requests_per_second": 0.0, "error_rate": null, "p50": null, "p95": null, "p99": null },
                } }],
            "backends": [{ "name": "llama-8b", "in_flight": 3, "endpoints": [
                { "address": "10.0.0.1:8000", "state": "serving", "in_flight": 3 },
                { "address": "10.0.0.2:8000", "state": "on_trial", "in_flight": 0 } ] }],
            "shadows": [{ "name": "next", "route": "chat", "backend": "llama-70b", "ok": 1290, "error": 3, "dropped": 0 }],
            "store": { "up": true, "mode": "group", "last_error": null },
            "recording": { "assigned": 12_003, "recorded": 12_000, "dropped": 0, "pending": 3, "spool_bytes": 0 },
        })
    }

    #[test]
    fn a_status_reads_like_this() {
        let now = "2026-11-22T19:20:21Z".parse().unwrap();
        assert_eq!(
            screen(&gateway(), now, 100, Paint { on: false }),
            "\
weir 0.1.0 · up 2 h 5 min · generation 4 · edge 0.0.0.0:8443 · admin 127.0.0.1:8444
config  weir.toml, read 2 h ago (2026-11-22 17:15:21 UTC)
store   up, outcomes group: 12,003 assigned, 12,000 recorded, 3 pending, 0 dropped
! the last reload changed nothing: weir.toml:3:1 [server] is missing add it
! int8 differs from weir.toml:31, and what is live counts: variants.canary.weight is 10, in the file 5

Routes
  route  matches               backend   req/s  errors    p50    p95     p99  experiments
  chat   /v1/chat/completions  llama-8b   20.0   0.3 %  41 ms  90 ms  1.20 s  int8

Experiments
  experiment  variant  weight  share  requests  req/s  errors    p50     p95     p99
  int8@7      stable       90   90 %         0    0.0       –      –       –       –
              canary       10   10 %    12,000    2.0   3.1 %  63 ms  150 ms  220 ms

Shadows
  shadow  route  backend       ok  errors  dropped
  next    chat   llama-70b  1,290       3        0

Backends
  backend   endpoint       in flight  state
  llama-8b  10.0.0.1:8000          3  serving
            10.0.0.2:8000          0  on trial"
        );
    }

    #[test]
    fn a_store_that_is_down_comes_first() {
        let status =
            json!({ "store": { "up": false, "last_error": "disk full" }, "draining": true });
        let said: Vec<String> = warnings(&status).into_iter().map(|(_, text)| text).collect();
        assert_eq!(
            said[0],
            "! the store is down: disk full; outcomes wait on disk, changes are refused"
        );
        assert_eq!(said.len(), 2);
        let status = json!({ "webhooks": [
            { "name": "quiet", "pending": 0, "failing_since": null },
            { "name": "pager", "pending": 1200, "failing_since": "2026-11-22T19:15:21Z",
              "last_error": { "message": "no answer within 10s" } },
        ] });
        let said: Vec<String> = warnings(&status).into_iter().map(|(_, text)| text).collect();
        assert_eq!(said, ["! webhook pager takes no messages, 1,200 wait: no answer within 10s"]);
    }
}
