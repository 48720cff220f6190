//! A comparison, and a disagreement, as a person reads them.

use jiff::Timestamp;
use serde_json::Value;

use crate::cli::console::{Paint, Tone};
use crate::cli::table::{Cell, Lean, Table};
use crate::cli::{reading, words};

/// Rows of the table of labels that are shown.
const MOST_LABELS: usize = 12;

/// Columns of the longest bar of a histogram.
const BAR: f64 = 32.0;

/// `97.2 %`; one digit more where it nearly is all or nothing.
pub(super) fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    let near = percent.min(100.0 - percent);
    if near > 0.0 && near < 0.95 { format!("{percent:.2} %") } else { format!("{percent:.1} %") }
}

fn none() -> &'static Value {
    static NONE: Value = Value::Null;
    &NONE
}

fn under<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(path).unwrap_or(none())
}

/// Everything on one screen: words first, then the tables.
pub(super) fn screen(found: &Value, now: Timestamp, width: usize, paint: Paint) -> String {
    let mut lines = vec![heading(found, now, paint), String::new()];
    let passed = found.get("passed").and_then(Value::as_bool);
    let failing = reading::text(under(found, "/failures"), "verdict") == Some("breached");
    let tone = match passed {
        _ if failing => Tone::Bad,
        Some(true) => Tone::Good,
        Some(false) | None => Tone::Plain,
    };
    lines.push(paint.paint(tone, &words::clean(reading::text(found, "words").unwrap_or("?"))));
    if let Some(said) = reading::text(under(found, "/to_pass"), "words") {
        lines.push(paint.paint(tone, &words::clean(said)));
    }
    for (title, table) in [
        pairs(found),
        latency(found),
        statuses(found),
        labels(found),
        similarity(found),
        backends(found),
    ]
    .into_iter()
    .flatten()
    {
        lines.push(String::new());
        lines.push(paint.paint(Tone::Bold, &title));
        lines.extend(table.lines(2, width, paint));
    }
    lines.push(String::new());
    let alpha = reading::number(found, "alpha").unwrap_or(0.05);
    let legend = format!(
        "intervals hold however often you look, with {:.0} % confidence; times are from the moment \
         when the request was on its way",
        (1.0 - alpha) * 100.0
    );
    lines.push(paint.paint(Tone::Dim, &legend));
    lines.join("\n")
}

fn heading(found: &Value, now: Timestamp, paint: Paint) -> String {
    let text = |key| words::clean(reading::text(found, key).unwrap_or("?")).into_owned();
    let mut line = paint.paint(Tone::Bold, &text("shadow"));
    line.push_str(&format!(": {} beside route {}", text("backend"), text("route")));
    if found.get("running").and_then(Value::as_bool) == Some(false) {
        line.push_str(&format!(", {}", paint.paint(Tone::Warn, "not in force any more")));
    }
    let compare = under(found, "/compare");
    let kind = reading::text(compare, "kind").unwrap_or("?");
    line.push_str(&format!(", compared by {}", words::clean(kind)));
    if let Some(path) = reading::text(compare, "path") {
        line.push_str(&format!(" at {}", words::clean(path)));
    }
    if let Some(revision) = reading::whole(found, "revision") {
        line.push_str(&format!(", revision {revision}"));
    }
    if let Some(since) = reading::time(found, "since") {
        line.push_str(&format!(
            ", counted since {} ({})",
            words::relative(now, since),
            words::utc(since)
        ));
    }
    line
}

/// What a name of the API means to a person.
fn label(name: &str) -> String {
    match name {
        "content" => "differ in what is compared",
        "copy_shape" => "the copy has nothing to compare",
        "status" => "one refused, the other did not",
        "copy_failed" => "only the copy failed",
        "live_failed" => "only the live answer failed",
        "client_left" => "the client left",
        "gateway" => "ended in the gateway",
        "both_failed" => "both failed",
        "both_refused" => "both refused (4xx)",
        "encoded" => "compressed",
        "too_long" => "too long",
        "no_room" => "no room to keep it",
        "live_shape" => "the live answer has nothing to compare",
        other => other,
    }
    .to_owned()
}

fn pairs(found: &Value) -> Option<(String, Table)> {
    let mut table = Table::new(&[("pairs", Lean::Left), ("", Lean::Right)]);
    let mut row = |name: String, count: u64| {
        table.row([Cell::from(name), Cell::from(words::count(count))]);
    };
    row("agree".to_owned(), reading::whole(under(found, "/agreement"), "agreed")?);
    let mut any = false;
    for section in ["differences", "not_comparable"] {
        for (name, count) in reading::members(found, section) {
            if let Some(count) = count.as_u64().filter(|count| *count > 0) {
                let prefix = if section == "not_comparable" { "not compared: " } else { "" };
                row(format!("{prefix}{}", label(name)), count);
                any = true;
            }
        }
    }
    let dropped = reading::whole(under(found, "/this_process"), "dropped").unwrap_or(0);
    if dropped > 0 {
        row("dropped: more came than could be compared".to_owned(), dropped);
        any = true;
    }
    any.then(|| ("What became of pairs".to_owned(), table))
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2}x")
}

fn latency(found: &Value) -> Option<(String, Table)> {
    let mut table = Table::new(&[
        ("copy over live", Lean::Left),
        ("mean", Lean::Right),
        ("between", Lean::Left),
        ("p50", Lean::Right),
        ("p95", Lean::Right),
        ("slower in", Lean::Right),
        ("faster in", Lean::Right),
        ("pairs", Lean::Right),
        ("", Lean::Left),
    ])
    .sparing(&[5, 6, 7, 4]);
    let mut any = false;
    for (member, name) in
        [("first_byte", "first byte"), ("first_token", "first token"), ("end", "end")]
    {
        let of = under(found, &format!("/latency/{member}")).clone();
        if of.is_null() {
            continue;
        }
        any = true;
        let (ratio, signs) = (under(&of, "/ratio"), under(&of, "/sign_test"));
        let number = |value: &Value, key: &str| {
            reading::number(value, key).map_or_else(|| "–".to_owned(), times)
        };
        let count = |value: &Value, key: &str| {
            reading::whole(value, key).map_or_else(|| "–".to_owned(), words::count)
        };
        let between = match (reading::number(ratio, "low"), reading::number(ratio, "high")) {
            (Some(low), Some(high)) => format!("{} to {}", times(low), times(high)),
            (Some(_) | None, _) => String::new(),
        };
        let (tone, verdict) = match reading::text(&of, "verdict") {
            Some("slower") => (Tone::Warn, "slower"),
            Some("faster") => (Tone::Good, "faster"),
            _ => (Tone::Plain, ""),
        };
        table.row([
            Cell::from(name),
            Cell::from(number(ratio, "value")),
            Cell::toned(between, Tone::Dim),
            Cell::from(number(&of, "p50")),
            Cell::from(number(&of, "p95")),
            Cell::from(count(signs, "slower")),
            Cell::from(count(signs, "faster")),
            Cell::from(count(&of, "pairs")),
            Cell::toned(verdict, tone),
        ]);
    }
    any.then(|| ("Time, pair by pair".to_owned(), table))
}

/// Nothing where all had the same pair of statuses and nobody failed: the words say it.
fn statuses(found: &Value) -> Option<(String, Table)> {
    let rows = reading::list(found, "status_pairs");
    if rows.len() < 2 {
        return None;
    }
    let mut rows: Vec<&Value> = rows.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(reading::whole(row, "count")));
    let mut table =
        Table::new(&[("live", Lean::Right), ("copy", Lean::Right), ("pairs", Lean::Right)]);
    let status = |row: &Value, key: &str| match reading::whole(row, key) {
        Some(0) | None => "none".to_owned(),
        Some(status) => status.to_string(),
    };
    for row in rows {
        table.row([
            Cell::from(status(row, "live")),
            Cell::from(status(row, "copy")),
            Cell::from(reading::whole(row, "count").map_or_else(String::new, words::count)),
        ]);
    }
    let failures = under(found, "/failures");
    let count = |key| reading::whole(failures, key).map_or_else(|| "?".to_owned(), words::count);
    let verdict = match reading::text(failures, "verdict") {
        Some("breached") => "the copy fails more often",
        Some("held") => "the copy fails no more often",
        _ => "too early to say who fails more often",
    };
    let title = format!(
        "Statuses: only the copy failed in {}, only the live answer in {}, both in {}; {verdict}",
        count("only_copy"),
        count("only_live"),
        count("both"),
    );
    Some((title, table))
}

fn labels(found: &Value) -> Option<(String, Table)> {
    let labels = found.get("labels").filter(|labels| !labels.is_null())?;
    let rows = reading::list(labels, "table");
    let mut table =
        Table::new(&[("live", Lean::Left), ("copy", Lean::Left), ("pairs", Lean::Right)]);
    for row in rows.iter().take(MOST_LABELS) {
        let (live, copy) = (reading::text(row, "live"), reading::text(row, "copy"));
        let tone = if live == copy { Tone::Plain } else { Tone::Warn };
        table.row([
            Cell::toned(live.unwrap_or(""), tone),
            Cell::toned(copy.unwrap_or(""), tone),
            Cell::from(reading::whole(row, "count").map_or_else(String::new, words::count)),
        ]);
    }
    let mut title = "Labels: what turned into what".to_owned();
    if let Some(kappa) = reading::number(labels, "kappa") {
        title.push_str(&format!("; beyond chance (kappa) {kappa:.2}"));
    }
    if rows.len() > MOST_LABELS {
        title.push_str(&format!("; the {MOST_LABELS} most frequent of {} rows", rows.len()));
    }
    Some((title, table))
}

fn similarity(found: &Value) -> Option<(String, Table)> {
    let similarity = found.get("similarity").filter(|value| !value.is_null())?;
    let bins = reading::list(similarity, "bins");
    let most = bins.iter().filter_map(|bin| reading::whole(bin, "count")).max()?.max(1);
    let mut table = Table::new(&[("alike", Lean::Left), ("pairs", Lean::Right), ("", Lean::Left)]);
    for bin in bins.iter().rev() {
        let count = reading::whole(bin, "count").unwrap_or(0);
        if count == 0 {
            continue;
        }
        let edge = |key| reading::number(bin, key).unwrap_or(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "columns")]
        let columns = (BAR * count as f64 / most as f64).ceil() as usize;
        table.row([
            Cell::from(format!("{:.2} to {:.2}", edge("from"), edge("to"))),
            Cell::from(words::count(count)),
            Cell::from("#".repeat(columns)),
        ]);
    }
    let ratio = reading::number(similarity, "length_ratio");
    let lengths = ratio.map_or_else(String::new, |ratio| {
        format!("; the shorter text has {} of the longer one", percent(ratio))
    });
    Some((format!("How alike answers are, 1 is the same{lengths}"), table))
}

/// Nothing where all live answers came from one backend.
fn backends(found: &Value) -> Option<(String, Table)> {
    let mut table =
        Table::new(&[("live backend", Lean::Left), ("agree", Lean::Right), ("pairs", Lean::Right)]);
    let mut rows = 0;
    for (backend, agreement) in reading::members(found, "by_backend") {
        rows += 1;
        let share = reading::number(agreement, "value");
        table.row([
            Cell::from(backend),
            Cell::from(share.map_or_else(|| "–".to_owned(), percent)),
            Cell::from(reading::whole(agreement, "pairs").map_or_else(String::new, words::count)),
        ]);
    }
    (rows > 1).then(|| ("By who answered the client".to_owned(), table))
}

/// One disagreement: what was asked, and both answers.
pub(super) fn disagreement(item: &Value, now: Timestamp, paint: Paint) -> String {
    let text = |key| words::clean(reading::text(item, key).unwrap_or("?")).into_owned();
    let mut first = paint.paint(Tone::Bold, &text("request_id"));
    if let Some(at) = reading::time(item, "at") {
        first.push_str(&format!(", {} ({})", words::relative(now, at), words::utc(at)));
    }
    first.push_str(&format!(": {}", label(&text("cause"))));
    if let Some(similarity) = reading::number(item, "similarity") {
        first.push_str(&format!(", alike {similarity:.2}"));
    }
    if let Some(gap) = reading::number(item, "gap") {
        first.push_str(&format!(", largest gap {gap}"));
    }
    let mut lines = vec![first];
    let body = |value: &Value| match reading::text(value, "text") {
        Some(text) => {
            let cut = value.get("cut").and_then(Value::as_bool) == Some(true);
            format!("{}{}", words::clean(text), if cut { " …" } else { "" })
        }
        None => "(not kept)".to_owned(),
    };
    lines.push(format!("  asked  {}", body(under(item, "/request"))));
    for (side, name) in [("live", "live"), ("copy", "copy")] {
        let of = under(item, &format!("/{side}")).clone();
        let status = match reading::whole(&of, "status") {
            Some(0) | None => "none".to_owned(),
            Some(status) => status.to_string(),
        };
        lines.push(format!("  {name}   {status} {}", body(under(&of, "/body"))));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found() -> Value {
        let latency = |value: f64, low: f64, high: f64, verdict: &str| {
            json!({ "pairs": 4_200, "ratio": { "value": value, "low": low, "high": high },
                "verdict": verdict, "p50": value, "p95": 1.9,
                "sign_test": { "slower": 3_000, "faster": 1_100 } })
        };
        json!({
            "shadow": "next", "running": true, "route": "chat", "backend": "llama-70b",
            "revision": 2, "since": "2026-11-22T17:20:21Z", "alpha": 0.05, "passed": true,
            "compare": { "kind": "label", "path": "/class" },
            "words": "next agrees with what clients got in 97.2 % of 4,310 pairs (96.4 to 97.8)",
            "to_pass": { "words": "has passed: at least 95.0 % agree, and it fails no more often" },
            "agreement": { "value": 0.972, "agreed": 4_189, "pairs": 4_310 },
            "differences": { "content": 118, "copy_shape": 0, "copy_failed": 3 },
            "not_comparable": { "client_left": 12, "encoded": 0 },
            "this_process": { "dropped": 0 },
            "latency": { "first_byte": latency(1.02, 0.99, 1.05, "too_early"), "first_token": null,
                "end": latency(1.12, 1.09, 1.15, "slower") },
            "status_pairs": [{ "live": 200, "copy": 0, "count": 3 },
                { "live": 200, "copy": 200, "count": 4_307 }],
            "failures": { "only_copy": 3, "only_live": 0, "both": 0, "verdict": "too_early" },
            "labels": { "kappa": 0.91, "table": [
                { "live": "cat", "copy": "cat", "count": 4_000 },
                { "live": "cat", "copy": "dog", "count": 118 } ] },
            "similarity": { "length_ratio": 0.9, "bins": [
                { "from": 0.0, "to": 0.05, "count": 1 }, { "from": 0.95, "to": 1.0, "count": 40 } ] },
            "by_backend": { "llama-8b": { "value": 0.98, "pairs": 4_000 },
                "llama-8b-int8": { "value": 0.87, "pairs": 310 } },
        })
    }

    #[test]
    fn a_comparison_reads_like_this() {
        let now = "2026-11-22T19:20:21Z".parse().unwrap();
        let text = screen(&found(), now, usize::MAX, Paint { on: false });
        assert_eq!(text, include_str!("screen.txt").trim_end(), "{text}");
    }

    #[test]
    fn a_disagreement_shows_what_was_asked_and_answered() {
        let now = "2026-11-22T19:20:21Z".parse().unwrap();
        let item = json!({
            "request_id": "0199", "at": "2026-11-22T19:20:11Z", "cause": "content",
            "similarity": 0.25, "request": { "text": "{\"q\":\"hi\"}", "cut": false },
            "live": { "backend": "live", "status": 200, "body": { "text": "yes\u{1b}[2J", "cut": true } },
            "copy": { "status": 0, "body": null },
        });
        assert_eq!(
            disagreement(&item, now, Paint { on: false }),
            "0199, 10 s ago (2026-11-22 19:20:11 UTC): differ in what is compared, alike 0.25\n  \
             asked  {\"q\":\"hi\"}\n  live   200 yes\\u{1b}[2J …\n  copy   none (not kept)"
        );
    }
}
