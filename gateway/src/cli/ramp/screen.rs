//! A ramp as people see it: where it stands, a line for each guardrail, what was decided.
//!
//! `weir ramp status` and `weir demo` draw the same lines.

use jiff::Timestamp;
use serde_json::Value;

use crate::cli::console::{Console, Paint, Tone};
use crate::cli::table::{Cell, Lean, Table};
use crate::cli::{reading, words};

/// So many decisions are shown.
const DECISIONS: usize = 8;

/// Columns from which on bars are long.
const WIDE: usize = 128;

/// Columns below which they are short.
const NARROW: usize = 96;

/// What the two bars of a guardrail mean.
pub(crate) const LEGEND: &str =
    "harm full: rolled back at once; safety full: holds. Evidence, as the logarithm of an e-value";

/// How much room there is, and what may be drawn in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Colours.
    pub(crate) paint: Paint,
    /// Columns of the terminal.
    pub(crate) width: usize,
    /// Whether blocks can be shown; else signs that every screen has.
    pub(crate) is_fine: bool,
}

impl Look {
    /// For what prints here.
    pub(crate) fn of(console: &Console) -> Self {
        Self { paint: console.out_paint(), width: console.width(), is_fine: console.is_fine() }
    }

    /// `[######..........]  2.1 of 4.6`; evidence that speaks against it is none, whatever its size.
    fn bar(self, log_e: f64, needed: f64) -> String {
        let log_e = log_e.max(0.0);
        let cells = match self.width {
            ..NARROW => 5,
            NARROW..WIDE => 8,
            WIDE.. => 16,
        };
        let (full, empty) = if self.is_fine { ('█', '░') } else { ('#', '.') };
        let part = if needed > 0.0 { (log_e / needed).clamp(0.0, 1.0) } else { 0.0 };
        let is_full = |at: usize| (at + 1) as f64 <= part * cells as f64;
        let bar: String = (0..cells).map(|at| if is_full(at) { full } else { empty }).collect();
        let bar = if self.is_fine { bar } else { format!("[{bar}]") };
        format!("{bar} {log_e:>4.1} of {needed:.1}")
    }
}

/// "step 2 of 4, canary at 5 %".
pub(crate) fn standing(ramp: &Value) -> String {
    let is_bandit = reading::text(ramp, "mode") == Some("bandit");
    if let Some(bandit) = ramp.get("bandit").filter(|_| is_bandit) {
        return shares(bandit);
    }
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

pub(crate) fn tone(state: &str) -> Tone {
    match state {
        "running" | "promoted" => Tone::Good,
        "rolled_back" => Tone::Bad,
        _ => Tone::Warn,
    }
}

pub(crate) fn state_in_words(ramp: &Value) -> String {
    let state = reading::text(ramp, "state").unwrap_or("?");
    match (state, reading::text(ramp, "holding")) {
        ("rolled_back", _) => "rolled back".to_owned(),
        ("holding", Some("sample_ratio")) => {
            "holding: units do not arrive as they were dealt".to_owned()
        }
        ("holding", Some("drift")) => "holding: the inputs have drifted".to_owned(),
        ("holding", Some("undecided")) => "holding: undecided for too long".to_owned(),
        ("holding", Some("epochs")) => {
            "holding: evidence is kept of so many revisions and no more; promote, abort, or begin \
             afresh"
                .to_owned()
        }
        (other, _) => words::clean(other).into_owned(),
    }
}

/// The ramp, as a screen.
pub(super) fn screen(ramp: &Value, now: Timestamp, look: Look) -> String {
    let paint = look.paint;
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
    let is_over = !matches!(state, "running" | "holding" | "paused");
    let cool = reading::time(ramp, "cool_until").filter(|until| is_over && *until > now);
    if let Some(until) = cool {
        text.push_str(&format!("may begin again {}\n", words::relative(now, until)));
    }
    let arms = arms(ramp, look);
    if arms.len() > 1 {
        text.push('\n');
        for line in arms {
            text.push_str(&format!("{line}\n"));
        }
    }
    let guardrails = guardrails(ramp, look);
    if guardrails.len() > 1 {
        text.push('\n');
        for line in guardrails {
            text.push_str(&format!("{line}\n"));
        }
        text.push_str(&format!("  {}\n", paint.paint(Tone::Dim, LEGEND)));
    }
    text.push_str(&decisions(ramp, now, paint));
    text
}

pub(crate) fn until_next(ramp: &Value, state: &str) -> String {
    if let Some(bandit) = ramp.get("bandit").filter(|bandit| !bandit.is_null()) {
        return until_move(ramp, bandit, state);
    }
    let stands = if state == "paused" { "; paused: the clock stands still" } else { "" };
    format!("{}{stands}", until_enough(ramp))
}

/// What is missing of a step's least time and exposures.
fn until_enough(ramp: &Value) -> String {
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
    format!("{time}{exposures}")
}

/// A line for each guardrail, under a heading.
pub(crate) fn guardrails(ramp: &Value, look: Look) -> Vec<String> {
    let control = words::clean(reading::text(ramp, "control").unwrap_or("control")).into_owned();
    let all = reading::list(ramp, "guardrails");
    let whose = |each: &Value| reading::text(each, "variant").map(str::to_owned);
    // Of several arms each has its own.
    let are_several = all.iter().any(|each| whose(each) != whose(&all[0]));
    let mut table = Table::new(&[
        (if are_several { "variant, guardrail" } else { "guardrail" }, Lean::Left),
        ("verdict", Lean::Left),
        ("harm", Lean::Left),
        ("safety", Lean::Left),
        ("seen", Lean::Left),
    ]);
    for each in all {
        let whose = whose(each).filter(|_| are_several);
        table.row(guardrail(each, whose.as_deref(), &control, look));
    }
    table.lines(2, look.width, look.paint)
}

/// `canary 15 %, stable 85 %`.
fn shares(bandit: &Value) -> String {
    let each = |arm: &Value| {
        let share = reading::number(arm, "share").map_or_else(|| "–".to_owned(), words::share);
        format!("{} {share}", words::clean(reading::text(arm, "variant").unwrap_or("?")))
    };
    reading::list(bandit, "arms").iter().map(each).collect::<Vec<_>>().join(", ")
}

/// When shares may move, and by what.
fn until_move(ramp: &Value, bandit: &Value, state: &str) -> String {
    let is_cold = reading::text(ramp, "phase") == Some("warm_up") && state != "paused";
    let metric = words::clean(reading::text(bandit, "metric").unwrap_or("?")).into_owned();
    let way = match reading::text(bandit, "better") {
        Some("higher") => "more",
        _ => "less",
    };
    let left = reading::whole(ramp, "seconds_left").unwrap_or(0);
    let least = bandit.get("least").cloned().unwrap_or_default();
    let arms = reading::list(bandit, "arms");
    let is_seen = |arm: &&Value| arm.get("is_enough").and_then(Value::as_bool).unwrap_or(true);
    let is_in = |arm: &&Value| reading::text(arm, "state") == Some("in");
    let unseen: Vec<&str> = arms
        .iter()
        .filter(is_in)
        .filter(|arm| !is_seen(arm))
        .filter_map(|arm| reading::text(arm, "variant"))
        .collect();
    let when = match (state, left, unseen.as_slice()) {
        _ if is_cold => format!("warm-up, in which no times are looked at: {}", until_enough(ramp)),
        ("paused", ..) => "paused: shares stay".to_owned(),
        (_, _, [_, ..]) => format!(
            "waiting for {}: at least {} exposures and {} events of each",
            words::clean(&unseen.join(", ")),
            reading::whole(&least, "values").unwrap_or(0),
            reading::whole(&least, "events").unwrap_or(0),
        ),
        (_, 0, []) => "the next look may move shares".to_owned(),
        (_, left, []) => format!("shares may move in {}", words::span(left)),
    };
    format!("{way} {metric} is better; {when}")
}

/// A line for each of a bandit's arms, under a heading; none for a ramp with steps.
fn arms(ramp: &Value, look: Look) -> Vec<String> {
    let Some(bandit) = ramp.get("bandit").filter(|bandit| !bandit.is_null()) else {
        return Vec::new();
    };
    let mut table = Table::new(&[
        ("variant", Lean::Left),
        ("share", Lean::Right),
        ("best with", Lean::Right),
        ("calls for", Lean::Right),
        ("mean", Lean::Left),
        ("seen", Lean::Left),
    ]);
    for arm in reading::list(bandit, "arms") {
        let share =
            |name: &str| reading::number(arm, name).map_or_else(|| "–".to_owned(), words::share);
        let chance = reading::number(arm, "chance_best")
            .map_or_else(|| "–".to_owned(), |chance| format!("{:.0} %", 100.0 * chance));
        let mean = match (reading::number(arm, "mean"), reading::number(arm, "spread")) {
            (Some(mean), Some(spread)) => format!("{mean:.4} ± {:.4}", 2.0 * spread),
            _ => "–".to_owned(),
        };
        let count = |name: &str| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            let count = reading::number(arm, name).unwrap_or(0.0).max(0.0).round() as u64;
            words::count(count)
        };
        let seen = format!("{} of {}", count("events"), count("values"));
        let (state, tone) = match reading::text(arm, "state") {
            Some("rolled_back") => (", rolled back", Tone::Bad),
            Some("off") => (", off", Tone::Dim),
            _ => ("", Tone::Plain),
        };
        table.row([
            Cell::toned(reading::text(arm, "variant").unwrap_or("?"), tone),
            Cell::from(share("share")),
            Cell::from(chance),
            Cell::from(share("target")),
            Cell::from(mean),
            Cell::from(format!("{seen}{state}")),
        ]);
    }
    table.lines(2, look.width, look.paint)
}

fn guardrail(each: &Value, whose: Option<&str>, control: &str, look: Look) -> [Cell; 5] {
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
    let metric = whose.map_or_else(|| metric.to_owned(), |whose| format!("{whose}, {metric}"));
    let required = each.get("required").and_then(Value::as_bool).unwrap_or(true);
    let exposures = each.get("exposures").cloned().unwrap_or_default();
    let count = |of: &Value, side: &str| reading::whole(of, side).unwrap_or(0);
    let seen = match each.get("events").filter(|events| !events.is_null()) {
        Some(events) => format!(
            "{} of {}, {control} {} of {}",
            words::count(count(events, "treated")),
            words::count(count(&exposures, "treated")),
            words::count(count(events, "control")),
            words::count(count(&exposures, "control")),
        ),
        None => format!(
            "{}, {control} {}",
            words::count(count(&exposures, "treated")),
            words::count(count(&exposures, "control")),
        ),
    };
    [
        Cell::from(if required { metric } else { format!("{metric} (watched)") }),
        Cell::toned(verdict, tone),
        Cell::from(look.bar(harm, breach)),
        Cell::from(look.bar(safe, held)),
        Cell::from(seen),
    ]
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
    use serde_json::json;

    use super::*;

    #[test]
    fn a_ramp_reads_like_this() {
        let look = Look { paint: Paint { on: false }, width: usize::MAX, is_fine: false };
        let now = "2026-11-22T19:20:21Z".parse().unwrap();
        let ramp = json!({
            "experiment": "int8", "variant": "canary", "control": "stable", "state": "running", "phase": "step",
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
            screen(&ramp, now, look),
            "int8: step 2 of 4, canary at 5 %, running
at least 1 min 59 s left, 1,234 of 2,000 exposures

  guardrail              verdict    harm                            safety                          seen
  failed                 too early  [#######.........]  2.1 of 4.6  [########........]  1.5 of 3.0  9 of 1,234, stable 80 of 23,446
  latency_p99 (watched)  holds      [................]  0.0 of 4.6  [################]  3.3 of 3.0  1,100, stable 21,000
  harm full: rolled back at once; safety full: holds. Evidence, as the logarithm of an e-value

decisions, newest first
  10 min ago  canary goes to 5 %, since all required guardrails hold
"
        );
        let narrow = Look { width: 100, is_fine: true, ..look };
        assert_eq!(
            guardrails(&ramp, narrow)[1],
            "  failed                 too early  ███░░░░░  2.1 of 4.6  ████░░░░  1.5 of 3.0  9 of 1,234, stable…"
        );
    }

    #[test]
    fn a_bandit_reads_like_this() {
        let look = Look { paint: Paint { on: false }, width: usize::MAX, is_fine: false };
        let now = "2026-11-22T19:20:21Z".parse().unwrap();
        let arm = |name: &str, state: &str, share: f64, chance: Option<f64>| {
            json!({ "variant": name, "state": state, "share": share, "values": 4_000.0, "events": 40.0,
                "is_enough": true, "mean": 0.01, "spread": 0.0016, "chance_best": chance,
                "target": chance.map(|chance| 0.05 + 0.9 * chance) })
        };
        let guardrail = |name: &str| {
            json!({ "metric": "failed", "variant": name, "required": true, "verdict": "too_early",
                "log_e_harm": 0.0, "log_e_safe": 1.0, "thresholds": { "breach": 4.6, "held": 3.0 },
                "exposures": { "treated": 4_000, "control": 9_000 },
                "events": { "treated": 40, "control": 90 } })
        };
        let mut ramp = json!({
            "experiment": "int8", "variant": "canary", "control": "stable", "mode": "bandit",
            "state": "running", "phase": "bandit", "step": 1, "steps": [], "seconds_left": 61,
            "bandit": { "metric": "failed", "better": "lower", "least": { "values": 200, "events": 20 },
                "arms": [arm("canary", "in", 0.25, Some(0.5)), arm("next", "rolled_back", 0.0, None),
                    arm("stable", "in", 0.75, Some(0.5))] },
            "guardrails": [guardrail("canary"), guardrail("next")],
            "decisions": [],
        });
        assert_eq!(
            screen(&ramp, now, look),
            "int8: canary 25 %, next 0 %, stable 75 %, running
less failed is better; shares may move in 1 min 1 s

  variant  share  best with  calls for  mean             seen
  canary    25 %       50 %       50 %  0.0100 ± 0.0032  40 of 4,000
  next       0 %          –          –  0.0100 ± 0.0032  40 of 4,000, rolled back
  stable    75 %       50 %       50 %  0.0100 ± 0.0032  40 of 4,000

  variant, guardrail  verdict    harm                            safety                          seen
  canary, failed      too early  [................]  0.0 of 4.6  [#####...........]  1.0 of 3.0  40 of 4,000, stable 90 of 9,000
  next, failed        too early  [................]  0.0 of 4.6  [#####...........]  1.0 of 3.0  40 of 4,000, stable 90 of 9,000
  harm full: rolled back at once; safety full: holds. Evidence, as the logarithm of an e-value

decisions, newest first
"
        );
        let cold = |mut ramp: Value| {
            ramp["phase"] = json!("warm_up");
            ramp["min_exposures"] = json!(50);
            ramp["exposures"] = json!(12);
            ramp
        };
        assert_eq!(
            until_next(&cold(ramp.clone()), "running"),
            "less failed is better; warm-up, in which no times are looked at: at least 1 min 1 s left, \
             12 of 50 exposures"
        );
        ramp["bandit"]["arms"][0]["is_enough"] = json!(false);
        assert_eq!(
            until_next(&ramp, "running"),
            "less failed is better; waiting for canary: at least 200 exposures and 20 events of each"
        );
    }
}
