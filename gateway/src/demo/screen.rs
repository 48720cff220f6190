//! What the demo shows: a table and the evidence of the ramp, drawn again every second, or a line
//! every ten where nobody watches.
//!
//! All numbers are the gateway's own, from `GET /status`; only the tokens of the shadow are counted
//! by its model server, because the gateway does not read what no client gets.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use super::setting::{EXPERIMENT, SHADOW};
use crate::cli::console::Tone;
use crate::cli::ramp::screen::{self, Look};
use crate::cli::{reading, words};

/// How far a rate that is worked out here looks back; the gateway's look back as far.
const WINDOW: Duration = Duration::from_secs(10);

/// Columns that the full table needs; below, weight and tokens are left out.
const FULL: usize = 98;

/// The shadow's row.
const COPIES: &str = "copies";

/// One row of the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    name: String,
    tone: Tone,
    weight: String,
    share: f64,
    requests: u64,
    rate: f64,
    errors: Option<f64>,
    quantiles: [Option<f64>; 3],
    tokens: f64,
}

/// Everything on the screen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    route: String,
    revision: u64,
    state: String,
    up: u64,
    rows: Vec<Row>,
    change: String,
    trouble: Vec<String>,
}

impl View {
    /// Reads the gateway's status. `shadow_rates` are requests and tokens a second of the shadow.
    ///
    /// `None` if the experiment is not in it, as when somebody took it out of the file.
    pub(crate) fn read(status: &Value, shadow_rates: (f64, f64), now: Timestamp) -> Option<Self> {
        let named = |list: &str, wanted: &str| {
            reading::list(status, list)
                .iter()
                .find(|each| reading::text(each, "name") == Some(wanted))
                .cloned()
        };
        let experiment = named("experiments", EXPERIMENT)?;
        let state = reading::text(&experiment, "state").unwrap_or("?").to_owned();
        let tones = [Tone::First, Tone::Second, Tone::Third];
        let mut rows = Vec::new();
        for (at, (name, variant)) in reading::variants(&experiment).into_iter().enumerate() {
            let number = |key| reading::number(variant, key);
            rows.push(Row {
                name: words::clean(name).into_owned(),
                tone: tones.get(at).copied().unwrap_or_default(),
                weight: number("weight").map_or_else(|| "–".to_owned(), words::weight),
                share: if state == "running" { number("share").unwrap_or(0.0) } else { 0.0 },
                requests: reading::whole(variant, "requests").unwrap_or(0),
                rate: number("requests_per_second").unwrap_or(0.0),
                errors: errors(variant),
                quantiles: ["p50", "p95", "p99"].map(number),
                tokens: number("output_tokens_per_second").unwrap_or(0.0),
            });
        }
        let mut trouble = Vec::new();
        if let Some(shadow) = named("shadows", SHADOW) {
            let count = |key| reading::whole(&shadow, key).unwrap_or(0);
            let (ok, error) = (count("ok"), count("error"));
            rows.push(Row {
                name: COPIES.to_owned(),
                tone: Tone::Dim,
                weight: "copy".to_owned(),
                share: reading::number(&shadow, "percent").unwrap_or(0.0) / 100.0,
                requests: ok + error,
                rate: shadow_rates.0,
                errors: (ok + error > 0).then(|| ratio(error, ok + error)),
                quantiles: ["p50", "p95", "p99"].map(|key| reading::number(&shadow, key)),
                tokens: shadow_rates.1,
            });
            if count("dropped") > 0 {
                let dropped = words::count(count("dropped"));
                trouble.push(format!(
                    "{dropped} copies for {SHADOW} were dropped, so that no client waits"
                ));
            }
        }
        if let Some(error) =
            status.get("config").and_then(|config| reading::text(config, "last_error"))
        {
            let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
            trouble.push(format!("the last reload changed nothing: {}", words::clean(&error)));
        }
        Some(Self {
            route: words::clean(reading::text(&experiment, "route").unwrap_or("?")).into_owned(),
            revision: reading::whole(&experiment, "revision").unwrap_or(0),
            state: words::clean(&state).into_owned(),
            up: reading::whole(status, "uptime_seconds").unwrap_or(0),
            rows,
            change: last_change(&experiment, now),
            trouble,
        })
    }

    /// The table, and what is known of the ramp.
    pub(crate) fn lines(&self, ramp: Option<&Value>, look: Look) -> Vec<String> {
        let Look { paint, width, .. } = look;
        let full = width >= FULL;
        let bar = if full { 12 } else { 10 };
        let running = self.state == "running";
        let state = paint.paint(if running { Tone::Good } else { Tone::Warn }, &self.state);
        let heading = format!(
            "  {} on route {}, revision {}, {state}, up {}",
            paint.paint(Tone::Bold, EXPERIMENT),
            self.route,
            self.revision,
            words::span(self.up),
        );

        let weight = |text: &str| if full { format!("  {text:>6}") } else { String::new() };
        let tokens = |text: &str| if full { format!("  {text:>8}") } else { String::new() };
        let titles = format!(
            "  {:<8}{}  {:<space$}  {:>8}  {:>5}  {:>6}  {:>6}  {:>6}  {:>6}{}",
            "variant",
            weight("weight"),
            "share",
            "requests",
            "req/s",
            "errors",
            "p50",
            "p95",
            "p99",
            tokens("tokens/s"),
            space = bar + 8,
        );
        let mut lines = vec![heading, String::new(), paint.paint(Tone::Dim, &titles)];
        for row in &self.rows {
            let errors = row.errors.map_or_else(|| "–".to_owned(), words::failures);
            let tone =
                if row.errors.is_some_and(|rate| rate >= 0.01) { Tone::Bad } else { Tone::Plain };
            let [p50, p95, p99] =
                row.quantiles.map(|q| q.map_or_else(|| "–".to_owned(), words::latency));
            lines.push(format!(
                "  {}{}  {} {:>7}  {:>8}  {:>5}  {}  {p50:>6}  {p95:>6}  {p99:>6}{}",
                paint.paint(row.tone, &format!("{:<8}", words::cut(&row.name, 8))),
                weight(&row.weight),
                paint.paint(row.tone, &bar_of(row.share, bar)),
                words::share(row.share),
                words::count(row.requests),
                words::per_second(row.rate),
                paint.paint(tone, &format!("{errors:>6}")),
                tokens(&format!("{:.0}", row.tokens)),
            ));
        }
        lines.push(String::new());
        if let Some(ramp) = ramp {
            lines.extend(of_ramp(ramp, look));
            lines.push(String::new());
        }
        lines.push(format!("  {}", words::cut(&self.change, width.saturating_sub(3))));
        for trouble in &self.trouble {
            lines.push(format!(
                "  {}",
                paint.paint(Tone::Warn, &words::cut(trouble, width.saturating_sub(3)))
            ));
        }
        if !running {
            let text = format!(
                "{} serves all traffic now; `undo` takes the split up again",
                self.serving()
            );
            lines.push(format!("  {}", paint.paint(Tone::Warn, &text)));
        }
        lines.push(paint.paint(
            Tone::Dim,
            "  req/s, latencies and tokens/s over the last 10 s · Ctrl-C stops everything",
        ));
        lines
    }

    /// The same in one line, for a log.
    pub(crate) fn summary(&self, ramp: Option<&Value>) -> String {
        let each = |row: &Row| {
            let errors = row.errors.map_or_else(|| "–".to_owned(), words::failures);
            let p95 = row.quantiles[1].map_or_else(|| "–".to_owned(), words::latency);
            format!(
                "{} {}: {} requests, {}/s, errors {errors}, p95 {p95}",
                row.name,
                words::share(row.share),
                words::count(row.requests),
                words::per_second(row.rate),
            )
        };
        // Who gets nothing says nothing.
        let served = self.rows.iter().filter(|row| row.share > 0.0);
        let rows = served.map(each).collect::<Vec<_>>().join(" | ");
        let ramp = ramp.map_or_else(String::new, |ramp| format!(" | {}", in_short(ramp)));
        format!(
            "[{}] revision {} {} | {rows}{ramp}",
            words::span(self.up),
            self.revision,
            self.state
        )
    }

    /// The backend of a stopped experiment's route is the control's, in the demo.
    fn serving(&self) -> &str {
        self.rows.first().map_or("the route's backend", |row| row.name.as_str())
    }
}

/// Where the ramp stands, and its guardrails.
fn of_ramp(ramp: &Value, look: Look) -> Vec<String> {
    let state = reading::text(ramp, "state").unwrap_or("?");
    let room = look.width.saturating_sub(3);
    let (standing, state_in_words) = (screen::standing(ramp), screen::state_in_words(ramp));
    let is_under_way = matches!(state, "running" | "holding" | "paused");
    let rest = match is_under_way {
        true => format!("; {}", screen::until_next(ramp, state)),
        false => String::new(),
    };
    // Cut before it is painted: colours have no width.
    let rest = words::cut(
        &rest,
        room.saturating_sub(
            "ramp: , ".len() + standing.chars().count() + state_in_words.chars().count(),
        ),
    )
    .into_owned();
    let state = look.paint.paint(screen::tone(state), &state_in_words);
    let mut lines =
        vec![format!("  {}: {standing}, {state}{rest}", look.paint.paint(Tone::Bold, "ramp"))];
    lines.extend(screen::guardrails(ramp, look));
    lines
}

/// `ramp: step 1 of 2, canary at 20 %, running; harm at most 3.4 of 4.6 (failed), 1 of 5 hold`.
fn in_short(ramp: &Value) -> String {
    let guardrails = reading::list(ramp, "guardrails");
    let harm = |each: &Value| {
        let needed = reading::number(each.get("thresholds")?, "breach")?;
        let log_e = reading::number(each, "log_e_harm")?;
        Some((log_e / needed, log_e, needed, reading::text(each, "metric")?.to_owned()))
    };
    let worst = guardrails.iter().filter_map(harm).max_by(|a, b| a.0.total_cmp(&b.0));
    let worst = worst.map_or_else(String::new, |(_, log_e, needed, metric)| {
        let held = guardrails.iter().filter(|each| reading::text(each, "verdict") == Some("held"));
        format!(
            "; harm at most {log_e:.1} of {needed:.1} ({}), {} of {} guardrails hold",
            words::clean(&metric),
            held.count(),
            guardrails.len(),
        )
    });
    format!("ramp: {}, {}{worst}", screen::standing(ramp), screen::state_in_words(ramp))
}

/// Errors since the start if the gateway counts them, else of the last seconds.
fn errors(variant: &Value) -> Option<f64> {
    match (reading::whole(variant, "failures"), reading::whole(variant, "requests")) {
        (Some(failures), Some(requests)) if requests > 0 => Some(ratio(failures, requests)),
        _ => reading::number(variant, "error_rate"),
    }
}

fn last_change(experiment: &Value, now: Timestamp) -> String {
    let when = reading::time(experiment, "changed_at").map(|at| words::relative(now, at));
    let mut text = format!("last change: {}", when.as_deref().unwrap_or("?"));
    if let Some(by) = reading::text(experiment, "changed_by") {
        text.push_str(&format!(" by {}", words::clean(by)));
    }
    if let Some(reason) = reading::text(experiment, "reason") {
        text.push_str(&format!(": {}", words::clean(reason)));
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "counts of a demo are far below 2^53")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// A bar of `width` columns, filled to `share`, in steps of an eighth of a column.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share lies between 0 and 1, and a bar is short"
)]
fn bar_of(share: f64, width: usize) -> String {
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    // A small share is seen as something.
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    let mut bar = "█".repeat(eighths / 8);
    bar.extend(['▏', '▎', '▍', '▌', '▋', '▊', '▉'].get((eighths % 8).wrapping_sub(1)));
    let filled = bar.chars().count();
    bar.extend(std::iter::repeat_n(' ', width.saturating_sub(filled)));
    bar
}

/// Counts that only rise, and how fast they rose in the last ten seconds.
#[derive(Debug, Default)]
pub(crate) struct Rising(VecDeque<(Instant, [u64; 2])>);

impl Rising {
    /// Takes note of `counts` at `now`; gives their rates per second.
    pub(crate) fn note(&mut self, now: Instant, counts: [u64; 2]) -> (f64, f64) {
        self.0.push_back((now, counts));
        while self.0.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
        let Some((at, before)) = self.0.front() else { return (0.0, 0.0) };
        let seconds = now.duration_since(*at).as_secs_f64();
        if seconds == 0.0 {
            return (0.0, 0.0);
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "what happens in ten seconds is far below 2^53"
        )]
        let rate = |at: usize| counts[at].saturating_sub(before[at]) as f64 / seconds;
        (rate(0), rate(1))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::console::Paint;

    fn look(width: usize) -> Look {
        Look { paint: Paint { on: false }, width, is_fine: false }
    }

    fn ramp() -> Value {
        let guardrail = |metric: &str, harm: f64| {
            json!({ "metric": metric, "required": true, "verdict": "too_early",
                "log_e_harm": harm, "log_e_safe": 1.0, "thresholds": { "breach": 4.6, "held": 3.7 },
                "exposures": { "treated": 312, "control": 2_900 },
                "events": { "treated": 9, "control": 6 } })
        };
        json!({ "experiment": "int8", "variant": "canary", "control": "stable", "state": "running",
            "phase": "step", "step": 1, "steps": [{}, {}], "share": 0.2, "seconds_left": 3,
            "exposures": 120, "min_exposures": 200,
            "guardrails": [guardrail("failed", 3.4), guardrail("latency_p50", 0.2)] })
    }

    fn view(state: &str) -> View {
        let status = json!({
            "uptime_seconds": 75,
            "experiments": [{
                "name": "int8", "route": "chat", "revision": 2, "state": state, "control": "stable",
                "changed_at": "2026-11-22T19:20:17Z", "changed_by": "first-admin", "reason": "a first look",
                "variants": {
                    "canary": { "weight": 10, "share": 0.1, "requests": 131, "requests_per_second": 1.94,
                        "error_rate": 0.0312, "p50": 0.063, "p95": 0.15, "p99": 0.22, "output_tokens_per_second": 48.2 },
                    "stable": { "weight": 90, "share": 0.9, "requests": 1234, "requests_per_second": 18.2,
                        "error_rate": 0.0, "p50": 0.041, "p95": 0.085, "p99": 1.204, "output_tokens_per_second": 512.0 },
                },
            }],
            "shadows": [{ "name": "next", "percent": 10.0, "ok": 136, "error": 0, "dropped": 0,
                "p50": 0.097, "p95": 0.21, "p99": null }],
        });
        View::read(&status, (2.0, 52.0), "2026-11-22T19:20:21Z".parse().unwrap()).unwrap()
    }

    #[test]
    fn the_full_table() {
        let lines = view("running").lines(None, look(100));
        assert_eq!(
            lines.join("\n"),
            "  int8 on route chat, revision 2, running, up 1 min 15 s

  variant   weight  share                 requests  req/s  errors     p50     p95     p99  tokens/s
  stable        90  ██████████▊     90 %     1,234   18.2   0.0 %   41 ms   85 ms  1.20 s       512
  canary        10  █▎              10 %       131    1.9   3.1 %   63 ms  150 ms  220 ms        48
  copies      copy  █▎              10 %       136    2.0   0.0 %   97 ms  210 ms       –        52

  last change: 4 s ago by first-admin: a first look
  req/s, latencies and tokens/s over the last 10 s · Ctrl-C stops everything"
        );
    }

    #[test]
    fn a_ramp_stands_under_the_table() {
        let lines = view("running").lines(Some(&ramp()), look(100));
        assert_eq!(
            lines[7..10].join("\n"),
            "  ramp: step 1 of 2, canary at 20 %, running; at least 3 s left, 120 of 200 exposures
  guardrail    verdict    harm                    safety                  seen
  failed       too early  [#####...]  3.4 of 4.6  [##......]  1.0 of 3.7  9 of 312, stable 6 of 2,9…"
        );
        assert!(lines.len() <= 23, "a small terminal has 24 lines");
    }

    #[test]
    fn a_narrow_terminal_gets_a_narrower_table() {
        let lines = view("running").lines(None, look(79));
        assert_eq!(
            lines[2..6].join("\n"),
            "  variant   share               requests  req/s  errors     p50     p95     p99
  stable    █████████     90 %     1,234   18.2   0.0 %   41 ms   85 ms  1.20 s
  canary    █             10 %       131    1.9   3.1 %   63 ms  150 ms  220 ms
  copies    █             10 %       136    2.0   0.0 %   97 ms  210 ms       –"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_whatever_a_reason_says() {
        let mut view = view("stopped");
        view.change = "long ".repeat(60);
        for width in [79, 80, 99, 100, 200] {
            for line in view.lines(Some(&ramp()), look(width)) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn a_stopped_experiment_says_who_serves() {
        let lines = view("stopped").lines(None, look(100));
        assert!(
            lines.iter().any(|line| line.contains("stable serves all traffic now")),
            "{lines:#?}"
        );
        assert!(lines[3].contains("    0 %"), "{}", lines[3]);
    }

    #[test]
    fn a_log_gets_a_line() {
        assert_eq!(
            view("running").summary(Some(&ramp())),
            "[1 min 15 s] revision 2 running | stable 90 %: 1,234 requests, 18.2/s, errors 0.0 %, p95 85 ms \
             | canary 10 %: 131 requests, 1.9/s, errors 3.1 %, p95 150 ms \
             | copies 10 %: 136 requests, 2.0/s, errors 0.0 %, p95 210 ms \
             | ramp: step 1 of 2, canary at 20 %, running; harm at most 3.4 of 4.6 (failed), 0 of 2 guardrails hold"
        );
    }

    #[test]
    fn rates_look_back_ten_seconds() {
        let mut rising = Rising::default();
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        assert_eq!(rising.note(at(0), [0, 0]), (0.0, 0.0));
        assert_eq!(rising.note(at(5), [100, 10]), (20.0, 2.0));
        // From here on nothing happens; after ten seconds nothing of the past is left.
        assert_eq!(rising.note(at(10), [100, 10]), (10.0, 1.0));
        assert_eq!(rising.note(at(15), [100, 10]), (0.0, 0.0));
    }

    #[test]
    fn bars_are_as_long_as_their_share() {
        assert_eq!(bar_of(0.0, 4), "    ");
        assert_eq!(bar_of(0.001, 4), "▏   ");
        assert_eq!(bar_of(0.5, 4), "██  ");
        assert_eq!(bar_of(1.0, 4), "████");
    }
}
