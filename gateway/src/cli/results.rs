//! `weir results`: what each variant did and how it compares with control, verdict first.

use jiff::Timestamp;
use serde_json::Value;

use super::admin_client::{AdminClient, Call, escaped};
use super::console::{Console, Paint, Tone};
use super::fault::Fault;
use super::table::{Cell, Lean, Table};
use super::{reading, split, words};

mod bar;
mod csv;

use bar::Bar;

/// Narrower terminals are spared some columns.
const WIDE: usize = 112;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Screen,
    /// As the API says it.
    Json,
    /// A row for each number.
    Csv,
}

/// Shows them; `since` is a revision, a duration before now, or a time.
pub(crate) fn results(
    client: &AdminClient,
    name: &str,
    since: Option<&str>,
    form: Form,
    console: &mut Console,
) -> Result<(), Fault> {
    let mut path = format!("/experiments/{}/results", escaped(name));
    if let Some(since) = since {
        path.push_str(&format!("?since={}", escaped(since)));
    }
    let answer = client.ask_anyway(Call::get(&path), console)?;
    if !answer.status.is_success() {
        let aim = format!("read the results of \"{name}\"");
        return Err(split::refused(client, &answer, name, &aim, console));
    }
    match form {
        Form::Json => console.json(&answer.body),
        Form::Csv => console.print(&csv::rows(&answer.json)),
        Form::Screen => {
            let bar = Bar::of(console);
            let text =
                screen(&answer.json, Timestamp::now(), bar, console.width(), console.out_paint());
            console.print(&text);
        }
    }
    Ok(())
}

/// Everything on one screen.
fn screen(results: &Value, now: Timestamp, bar: Bar, width: usize, paint: Paint) -> String {
    let control = reading::text(results, "control").unwrap_or("?");
    let mut text = heading(results, now, paint);
    text.push('\n');
    let variants = reading::variants(results);
    let others = || variants.iter().filter(|(name, _)| *name != control);
    // Those that something is known of come first.
    let has_nothing = |variant: &Value| reading::whole(variant, "exposures") == Some(0);
    let (silent, seen): (Vec<_>, Vec<_>) = others().partition(|(_, variant)| has_nothing(variant));
    for (name, variant) in seen.into_iter().chain(silent) {
        let said = reading::text(variant, "words")
            .map_or_else(|| format!("nothing is known of {name} yet"), |said| said.to_owned());
        let tone = tone_of(reading::text(variant, "verdict"));
        text.push_str(&format!("{}\n", paint.paint(tone, &words::clean(&said))));
    }
    text.push_str(&format!("{}\n\n", arrivals(results, paint)));

    let is_wide = width >= WIDE;
    for line in numbers(&variants, is_wide).lines(2, width, paint) {
        text.push_str(&format!("{line}\n"));
    }
    // Of a variant without traffic there is nothing to compare.
    let had_traffic = |variant: &Value| reading::whole(variant, "exposures") != Some(0);
    for (name, variant) in others().filter(|(_, variant)| had_traffic(variant)) {
        let table = against(variant, control, bar, is_wide);
        let Some(table) = table else { continue };
        let title = format!("{} against {}", words::clean(name), words::clean(control));
        text.push_str(&format!("\n{}\n", paint.paint(Tone::Bold, &title)));
        for line in table.lines(2, width, paint) {
            text.push_str(&format!("{line}\n"));
        }
    }
    text.push('\n');
    for line in legend(results, bar).lines() {
        text.push_str(&format!("{}\n", paint.paint(Tone::Dim, line)));
    }
    text
}

fn heading(results: &Value, now: Timestamp, paint: Paint) -> String {
    let name = reading::text(results, "experiment").unwrap_or("?");
    let mut text = paint.paint(Tone::Bold, &words::clean(name));
    if let Some(route) = reading::text(results, "route") {
        text.push_str(&format!(" on route {}", words::clean(route)));
    }
    if let Some(revision) = reading::whole(results, "revision") {
        text.push_str(&format!(", revision {revision}"));
    }
    if let Some(state) = reading::text(results, "state").filter(|state| *state != "running") {
        text.push_str(&format!(", {}", paint.paint(Tone::Warn, &words::clean(state))));
    }
    if let Some(since) = reading::time(results, "since") {
        text.push_str(&format!(
            ", counted since {} ({})",
            words::relative(now, since),
            words::utc(since)
        ));
    }
    let revisions = reading::list(results, "revisions").len();
    if revisions > 1 {
        text.push_str(&format!(", over {revisions} revisions"));
    }
    text.push('\n');
    text
}

fn tone_of(verdict: Option<&str>) -> Tone {
    match verdict {
        Some("worse") => Tone::Bad,
        Some("better" | "no_worse") => Tone::Good,
        _ => Tone::Plain,
    }
}

/// The state of the sample ratio: on every screen, because everything else stands on it.
fn arrivals(results: &Value, paint: Paint) -> String {
    let Some(ratio) = results.get("sample_ratio") else {
        return paint.paint(Tone::Dim, "whether units arrive as they were dealt is not known");
    };
    let what = reading::text(results, "counts").unwrap_or("requests");
    let counted: Vec<String> = reading::members(ratio, "observed")
        .map(|(name, count)| {
            let expected = ratio.get("expected").and_then(|all| all.get(name)?.as_f64());
            let due = expected.map_or_else(String::new, |due| format!(" of {} due", whole(due)));
            let got = count.as_u64().map_or_else(|| "?".to_owned(), words::count);
            format!("{} {got}{due}", words::clean(name))
        })
        .collect();
    let p = reading::number(ratio, "p_value")
        .map_or_else(String::new, |p| format!(" (p = {})", chance(p)));
    let counted = counted.join(", ");
    if reading::text(ratio, "verdict") == Some("mismatch") {
        let text = format!(
            "SAMPLE RATIO MISMATCH: {what} do not arrive as dealt{p}, so trust no number below: {counted}"
        );
        return paint.paint(Tone::Bad, &text);
    }
    format!("sample ratio: {what} arrive as dealt{p}: {counted}")
}

/// `0.31`, `0.0004`, `below 0.0001`.
fn chance(p: f64) -> String {
    match () {
        () if p < 0.0001 => "below 0.0001".to_owned(),
        () if p < 0.01 => format!("{p:.4}"),
        () => format!("{p:.2}"),
    }
}

/// A forecast: two digits are all that it knows.
fn about(number: f64) -> String {
    let step = 10_f64.powf((number.max(1.0).log10().floor() - 1.0).max(0.0));
    whole((number / step).ceil() * step)
}

fn whole(number: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rounded count")]
    let number = number.max(0.0).round() as u64;
    words::count(number)
}

/// A line for each variant.
fn numbers(variants: &[(&str, &Value)], is_wide: bool) -> Table {
    let columns = [
        ("variant", Lean::Left),
        ("exposures", Lean::Right),
        ("units", Lean::Right),
        ("fails", Lean::Right),
        ("between", Lean::Left),
        ("p50", Lean::Right),
        ("p95", Lean::Right),
        ("p99", Lean::Right),
        ("first byte p95", Lean::Right),
        ("tokens in", Lean::Right),
        ("out", Lean::Right),
    ];
    let mut table =
        Table::new(if is_wide { &columns } else { &columns[..9] }).sparing(&[4, 8, 5, 7, 2]);
    let count = |value: &Value, key: &str| {
        reading::whole(value, key).map_or_else(|| "–".to_owned(), words::count)
    };
    for (name, variant) in variants {
        let rate = variant.get("error_rate");
        let fails = rate.and_then(|rate| reading::number(rate, "value"));
        let none = Value::Null;
        let of = |outer: &str, inner: &str| {
            let value = variant.get(outer).and_then(|all| all.get(inner));
            let value = value.and_then(|each| reading::number(each, "value"));
            Cell::from(value.map_or_else(|| "–".to_owned(), words::latency))
        };
        let tokens = variant.get("tokens").unwrap_or(&none);
        let cells = [
            Cell::from(*name),
            Cell::from(count(variant, "exposures")),
            Cell::from(count(variant, "units")),
            Cell::from(fails.map_or_else(|| "–".to_owned(), percent)),
            Cell::toned(
                fails.and(rate).map_or_else(String::new, |rate| ends(rate, percent)),
                Tone::Dim,
            ),
            of("latency", "p50"),
            of("latency", "p95"),
            of("latency", "p99"),
            of("time_to_first_byte", "p95"),
            Cell::from(count(tokens, "input")),
            Cell::from(count(tokens, "output")),
        ];
        let shown = if is_wide { cells.len() } else { 9 };
        table.row(cells.into_iter().take(shown));
    }
    table
}

/// `3.1 %`, `0.12 %`: one digit more where it is small.
fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    if percent.abs() > 0.0 && percent.abs() < 0.95 {
        format!("{percent:.2} %")
    } else {
        format!("{percent:.1} %")
    }
}

/// `2.1 % to 4.0 %`; an end without bound is left open.
fn ends(value: &Value, say: impl Fn(f64) -> String) -> String {
    match (reading::number(value, "low"), reading::number(value, "high")) {
        (Some(low), Some(high)) => format!("{} to {}", say(low), say(high)),
        (Some(low), None) => format!("{} or more", say(low)),
        (None, Some(high)) => format!("{} or less", say(high)),
        (None, None) => String::new(),
    }
}

/// A line for each metric, with the ratio as a picture; nothing if nothing was compared.
fn against(variant: &Value, control: &str, bar: Bar, is_wide: bool) -> Option<Table> {
    let columns = [
        ("metric", Lean::Left),
        ("", Lean::Left),
        ("ratio", Lean::Right),
        ("between", Lean::Left),
        ("difference", Lean::Right),
        ("verdict", Lean::Left),
    ];
    // The picture says where the ratio lies.
    let keeps = |column: usize| is_wide || !matches!(column, 3 | 4);
    let shown: Vec<_> = (0..columns.len()).filter(|at| keeps(*at)).map(|at| columns[at]).collect();
    let mut table = Table::new(&shown);
    let mut any = false;
    for (metric, found) in reading::members(variant, "versus_control") {
        let none = Value::Null;
        let ratio = found.get("ratio").unwrap_or(&none);
        let value = reading::number(ratio, "value");
        let is_required = found.get("required").and_then(Value::as_bool).unwrap_or(true);
        let difference = reading::number(found, "difference");
        if !is_required && value.is_none() && difference.is_none() {
            continue;
        }
        any = true;
        let (low, high) = (reading::number(ratio, "low"), reading::number(ratio, "high"));
        let is_time = is_time(metric);
        let difference = difference.map_or_else(String::new, |by| {
            let sign = if by < 0.0 { "-" } else { "+" };
            let size = if is_time { words::latency(by.abs()) } else { points(metric, by.abs()) };
            format!("{sign}{size}")
        });
        let verdict = reading::text(found, "verdict");
        let cells = [
            Cell::from(label(metric)),
            Cell::from(bar.draw(value, low, high)),
            Cell::from(value.map_or_else(String::new, times)),
            Cell::toned(ends(ratio, times), Tone::Dim),
            Cell::from(difference),
            Cell::toned(verdict_words(verdict, found, control), tone_of(verdict)),
        ];
        let cells = cells.into_iter().enumerate().filter(|(at, _)| keeps(*at));
        table.row(cells.map(|(_, cell)| cell));
    }
    any.then_some(table)
}

/// The lines of a variant's comparison with `control`, unpainted; none if nothing was compared.
pub(crate) fn comparison(variant: &Value, control: &str, fine: bool, width: usize) -> Vec<String> {
    let table = against(variant, control, Bar::with(fine), width >= WIDE);
    table.map_or_else(Vec::new, |table| table.lines(0, width, Paint { on: false }))
}

/// A difference of rates, in percentage points; of what feedback says, as it is.
fn points(metric: &str, by: f64) -> String {
    if metric.starts_with("feedback:") {
        return format!("{by:.3}");
    }
    format!("{} points", percent(by).trim_end_matches(" %"))
}

fn is_time(metric: &str) -> bool {
    ["latency_", "first_byte_", "token_time_"].iter().any(|start| metric.starts_with(start))
}

/// `1.02x`.
fn times(ratio: f64) -> String {
    if ratio >= 99.5 { format!("{ratio:.0}x") } else { format!("{ratio:.2}x") }
}

/// A metric's name, for people.
fn label(metric: &str) -> String {
    match metric {
        "error_rate" => "failures".to_owned(),
        "client_error" => "refusals (4xx)".to_owned(),
        "aborted" => "clients that left".to_owned(),
        "first_byte_p95" => "first byte p95".to_owned(),
        "token_time_p50" => "time per token".to_owned(),
        other => other.strip_prefix("feedback:").unwrap_or(other).replace('_', " "),
    }
}

fn verdict_words(verdict: Option<&str>, found: &Value, control: &str) -> String {
    match verdict {
        Some("worse") => "worse".to_owned(),
        Some("better") => "better".to_owned(),
        Some("no_worse") => {
            let margin = reading::number(found, "margin").unwrap_or(0.0);
            format!("no worse (within {:.0} % of {control})", margin * 100.0)
        }
        _ => match reading::number(found, "needed") {
            Some(needed) => format!("too early, about {} more requests", about(needed)),
            None => "too early".to_owned(),
        },
    }
}

fn legend(results: &Value, bar: Bar) -> String {
    let alpha = reading::number(results, "alpha").unwrap_or(0.05);
    format!(
        "bars: {}\nintervals hold however often you look, with {:.0} % confidence",
        bar.legend(),
        (1.0 - alpha) * 100.0
    )
}

#[cfg(test)]
mod tests;
