//! `weir ramp`: start a ramp, see where it stands and why, pause, resume, abort, promote it.

use std::path::Path;

use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::admin_client::{AdminClient, Answer, Call, escaped};
use super::console::{Console, Paint, Tone};
use super::fault::Fault;
use super::table::{Cell, Lean, Table};
use super::{reading, split, words};

/// Cells of a bar.
const BAR: usize = 16;
/// So many decisions are shown.
const DECISIONS: usize = 8;

/// How a ramp is started.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// The variant; the only one there is beside control if it is not named.
    pub(crate) variant: Option<String>,
    /// Settings as JSON.
    pub(crate) settings: Option<&'a Path>,
    /// Whether evidence of an earlier ramp is forgotten.
    pub(crate) afresh: bool,
}

/// Starts one.
pub(crate) fn start(
    client: &AdminClient,
    change: split::Change<'_>,
    start: Start<'_>,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let name = change.experiment;
    let mut body = match start.settings {
        None => Map::new(),
        Some(file) => settings(file)?,
    };
    body.extend(start.variant.map(|variant| ("variant".to_owned(), json!(variant))));
    body.extend(change.reason.map(|reason| ("reason".to_owned(), json!(reason))));
    if start.afresh {
        body.insert("afresh".to_owned(), json!(true));
    }
    let path = format!("/experiments/{}/ramp", escaped(name));
    let post = Call::write(Method::POST, &path, Some(body.into()));
    let answer = client.ask_anyway(post, console)?;
    moved(client, name, &answer, &format!("start a ramp of \"{name}\""), json, console)
}

fn settings(file: &Path) -> Result<Map<String, Value>, Fault> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| {
        Fault::usage(format!("cannot read {shown}: {error}"), "name a file with settings as JSON")
    })?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(settings)) => Ok(settings),
        Ok(_) => Err(Fault::usage(
            format!("{shown} is not an object"),
            "docs/experiments.md shows what a ramp can be told",
        )),
        Err(error) => Err(Fault::usage(
            format!("{shown} is not JSON: {error}"),
            "docs/experiments.md shows what a ramp can be told",
        )),
    }
}

/// Pauses, resumes, aborts or promotes: `hand` is the word.
pub(crate) fn hand(
    client: &AdminClient,
    hand: &str,
    change: split::Change<'_>,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let name = change.experiment;
    let mut body = Map::new();
    body.extend(change.reason.map(|reason| ("reason".to_owned(), json!(reason))));
    let path = format!("/experiments/{}/ramp/{hand}", escaped(name));
    let answer = client.ask_anyway(Call::write(Method::POST, &path, Some(body.into())), console)?;
    moved(client, name, &answer, &format!("{hand} the ramp of \"{name}\""), json, console)
}

fn moved(
    client: &AdminClient,
    name: &str,
    answer: &Answer,
    aim: &str,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    if !answer.status.is_success() {
        return Err(split::refused(client, answer, name, aim, console));
    }
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    let ramp = &answer.json;
    let said = reading::list(ramp, "decisions")
        .first()
        .and_then(|made| reading::text(made, "words"))
        .unwrap_or("done");
    console.print(&format!(
        "{}, in force after {}\n{}\n`weir ramp status {name}` shows how it goes",
        words::clean(said),
        words::latency(answer.took.as_secs_f64()),
        standing(ramp),
    ));
    Ok(())
}

/// Shows where it stands.
pub(crate) fn status(
    client: &AdminClient,
    name: &str,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let path = format!("/experiments/{}/ramp", escaped(name));
    let answer = client.ask_anyway(Call::get(&path), console)?;
    if !answer.status.is_success() {
        let aim = format!("read the ramp of \"{name}\"");
        return Err(split::refused(client, &answer, name, &aim, console));
    }
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    let text = screen(&answer.json, Timestamp::now(), console);
    console.print(&text);
    Ok(())
}

/// "step 2 of 4, canary at 5 %".
fn standing(ramp: &Value) -> String {
    let variant = words::clean(reading::text(ramp, "variant").unwrap_or("?")).into_owned();
    let share = reading::number(ramp, "share").map_or_else(|| "–".to_owned(), words::share);
    let step = match reading::text(ramp, "phase") {
        Some("warm_up") => "warm-up".to_owned(),
        Some("verify") => "verification".to_owned(),
        _ => format!(
            "step {} of {}",
            reading::whole(ramp, "step").unwrap_or(0),
            reading::list(ramp, "steps").len()
        ),
    };
    match reading::text(ramp, "state") {
        Some("promoted" | "rolled_back" | "aborted") => format!("{variant} at {share}"),
        _ => format!("{step}, {variant} at {share}"),
    }
}

fn tone(state: &str) -> Tone {
    match state {
        "running" | "promoted" => Tone::Good,
        "rolled_back" => Tone::Bad,
        _ => Tone::Warn,
    }
}

fn state_in_words(ramp: &Value) -> String {
    let state = reading::text(ramp, "state").unwrap_or("?");
    match (state, reading::text(ramp, "holding")) {
        ("rolled_back", _) => "rolled back".to_owned(),
        ("holding", Some("sample_ratio")) => {
            "holding: units do not arrive as they were dealt".to_owned()
        }
        ("holding", Some("drift")) => "holding: the inputs have drifted".to_owned(),
        ("holding", Some("undecided")) => "holding: undecided for too long".to_owned(),
        (other, _) => words::clean(other).into_owned(),
    }
}

/// The ramp, as a screen.
fn screen(ramp: &Value, now: Timestamp, console: &Console) -> String {
    let paint = console.out_paint();
    let state = reading::text(ramp, "state").unwrap_or("?");
    let mut text = format!(
        "{}: {}, {}\n",
        paint.paint(Tone::Bold, &words::clean(reading::text(ramp, "experiment").unwrap_or("?"))),
        standing(ramp),
        paint.paint(tone(state), &state_in_words(ramp)),
    );
    if matches!(state, "running" | "holding" | "paused") {
        text.push_str(&format!("{}\n", until_next(ramp, state)));
    }
    if let Some(until) = reading::time(ramp, "cool_until").filter(|until| *until > now) {
        text.push_str(&format!("may begin again {}\n", words::relative(now, until)));
    }
    let guardrails = reading::list(ramp, "guardrails");
    if !guardrails.is_empty() {
        text.push('\n');
        let mut table = Table::new(&[
            ("guardrail", Lean::Left),
            ("verdict", Lean::Left),
            ("harm", Lean::Left),
            ("safety", Lean::Left),
            ("seen", Lean::Left),
        ]);
        for each in guardrails {
            table.row(guardrail(each));
        }
        for line in table.lines(2, console.width(), paint) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text.push_str(&decisions(ramp, now, paint));
    text
}

fn until_next(ramp: &Value, state: &str) -> String {
    let left = reading::whole(ramp, "seconds_left").unwrap_or(0);
    let seen = reading::whole(ramp, "exposures").unwrap_or(0);
    let needed = reading::whole(ramp, "min_exposures").unwrap_or(0);
    let time = if left == 0 {
        "least time is over".to_owned()
    } else {
        format!("at least {} left", words::span(left))
    };
    let exposures = if needed == 0 {
        String::new()
    } else {
        format!(", {} of {} exposures", words::count(seen), words::count(needed))
    };
    let stands = if state == "paused" { "; paused: the clock stands still" } else { "" };
    format!("{time}{exposures}{stands}")
}

fn guardrail(each: &Value) -> [Cell; 5] {
    let thresholds = each.get("thresholds").cloned().unwrap_or_default();
    let of = |name: &str, needed: &str| {
        let log_e = reading::number(each, name).unwrap_or(0.0);
        let needed = reading::number(&thresholds, needed).unwrap_or(0.0);
        (log_e, needed)
    };
    let (harm, breach) = of("log_e_harm", "breach");
    let (safe, held) = of("log_e_safe", "held");
    // Below its ceiling is as good as within its margin.
    let safe = safe.max(reading::number(each, "log_e_below_ceiling").unwrap_or(f64::MIN));
    let (verdict, tone) = match reading::text(each, "verdict") {
        Some("breached") => ("breached", Tone::Bad),
        Some("held") => ("holds", Tone::Good),
        _ => ("too early", Tone::Dim),
    };
    let metric = reading::text(each, "metric").unwrap_or("?");
    let required = each.get("required").and_then(Value::as_bool).unwrap_or(true);
    let exposures = each.get("exposures").cloned().unwrap_or_default();
    let count = |of: &Value, side: &str| reading::whole(of, side).unwrap_or(0);
    let seen = match each.get("events").filter(|events| !events.is_null()) {
        Some(events) => format!(
            "{} of {}, control {} of {}",
            words::count(count(events, "treated")),
            words::count(count(&exposures, "treated")),
            words::count(count(events, "control")),
            words::count(count(&exposures, "control")),
        ),
        None => format!(
            "{}, control {}",
            words::count(count(&exposures, "treated")),
            words::count(count(&exposures, "control")),
        ),
    };
    [
        Cell::from(if required { metric.to_owned() } else { format!("{metric} (watched)") }),
        Cell::toned(verdict, tone),
        Cell::from(bar(harm, breach)),
        Cell::from(bar(safe, held)),
        Cell::from(seen),
    ]
}

/// `[######..........] log_e 2.1 of 4.6 needed`; evidence against it leaves the bar empty.
fn bar(log_e: f64, needed: f64) -> String {
    let part = if needed > 0.0 { (log_e / needed).clamp(0.0, 1.0) } else { 0.0 };
    let is_full = |at: usize| (at + 1) as f64 <= part * BAR as f64;
    let bar: String = (0..BAR).map(|at| if is_full(at) { '#' } else { '.' }).collect();
    format!("[{bar}] log_e {log_e:.1} of {needed:.1} needed")
}

fn decisions(ramp: &Value, now: Timestamp, paint: Paint) -> String {
    let all = reading::list(ramp, "decisions");
    let mut text = String::from("\ndecisions, newest first\n");
    for made in all.iter().take(DECISIONS) {
        let when = reading::time(made, "at")
            .map_or_else(|| "?".to_owned(), |then| words::relative(now, then));
        let said = words::clean(reading::text(made, "words").unwrap_or("?")).into_owned();
        text.push_str(&format!("  {}  {said}\n", paint.paint(Tone::Dim, &format!("{when:>10}"))));
    }
    if all.len() > DECISIONS {
        text.push_str(&format!("  and {} earlier ones: `--json`\n", all.len() - DECISIONS));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_reads_like_this() {
        let console = Console::into(Box::new(std::io::sink()), Box::new(std::io::sink()));
        let now = "2026-11-22T19:20:21Z".parse().unwrap();
        let ramp = json!({
            "experiment": "int8", "variant": "canary", "state": "running", "phase": "step",
            "step": 2, "steps": [{}, {}, {}, {}], "share": 0.05, "seconds_left": 119,
            "exposures": 1234, "min_exposures": 2000,
            "guardrails": [
                { "metric": "failed", "required": true, "verdict": "too_early",
                  "log_e_harm": 2.1, "log_e_safe": -0.4, "log_e_below_ceiling": 1.5,
                  "thresholds": { "breach": 4.6, "held": 3.0 },
                  "exposures": { "treated": 1234, "control": 23446 },
                  "events": { "treated": 9, "control": 80 } },
                { "metric": "latency_p99", "required": false, "verdict": "held",
                  "log_e_harm": -3.0, "log_e_safe": 3.3,
                  "thresholds": { "breach": 4.6, "held": 3.0 },
                  "exposures": { "treated": 1100, "control": 21000 } },
            ],
            "decisions": [
                { "at": "2026-11-22T19:10:21Z",
                  "words": "canary goes to 5 %, since all required guardrails hold" },
            ],
        });
        assert_eq!(
            screen(&ramp, now, &console),
            "int8: step 2 of 4, canary at 5 %, running
at least 1 min 59 s left, 1,234 of 2,000 exposures

  guardrail              verdict    harm                                         safety                                      seen
  failed                 too early  [#######.........] log_e 2.1 of 4.6 needed   [########........] log_e 1.5 of 3.0 needed  9 of 1,234, control 80 of 23,446
  latency_p99 (watched)  holds      [................] log_e -3.0 of 4.6 needed  [################] log_e 3.3 of 3.0 needed  1,100, control 21,000

decisions, newest first
  10 min ago  canary goes to 5 %, since all required guardrails hold
"
        );
    }
}
