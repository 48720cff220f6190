//! Verdicts in words: first what was found, then what to do.

use policies::guardrail::{Guardrail, Metric};
use policies::statistics::mean::Better;

use super::against::Compared;

/// One variant, in one word and in a sentence.
pub(super) struct Verdict {
    pub(super) word: &'static str,
    pub(super) words: String,
    /// Further exposures until a verdict is likely.
    pub(super) needed: Option<f64>,
    /// No request that counts went to it.
    pub(super) has_nothing: bool,
}

/// How a metric is spoken of: what a variant does more of, if it is worse.
fn does(metric: &Metric) -> (String, &'static str) {
    let of = |text: &str| text.to_owned();
    match metric {
        Metric::Failed => (of("fails"), "often"),
        Metric::ClientError => (of("refuses requests (4xx)"), "often"),
        Metric::Aborted => (of("loses clients before the end"), "often"),
        Metric::LatencyP50 => (of("at the median takes"), "long"),
        Metric::LatencyP95 => (of("at p95 takes"), "long"),
        Metric::LatencyP99 => (of("at p99 takes"), "long"),
        Metric::FirstByteP95 => (of("at p95 takes to the first byte"), "long"),
        Metric::TokenTimeP50 => (of("for each token takes"), "long"),
        Metric::Feedback(name) => (format!("in {name} is rated"), "high"),
    }
}

fn more(metric: &Metric) -> &'static str {
    match metric {
        Metric::Failed | Metric::ClientError | Metric::Aborted => "more often",
        Metric::Feedback(_) => "differently",
        Metric::LatencyP50
        | Metric::LatencyP95
        | Metric::LatencyP99
        | Metric::FirstByteP95
        | Metric::TokenTimeP50 => "longer",
    }
}

fn less(metric: &Metric) -> &'static str {
    match metric {
        Metric::Failed | Metric::ClientError | Metric::Aborted => "less often",
        Metric::Feedback(_) => "better",
        Metric::LatencyP50
        | Metric::LatencyP95
        | Metric::LatencyP99
        | Metric::FirstByteP95
        | Metric::TokenTimeP50 => "less long",
    }
}

/// What is said of one metric.
pub(super) fn words(
    variant: &str,
    control: &str,
    compared: &Compared,
    guardrail: &Guardrail,
) -> String {
    let (verb, measure) = does(&compared.metric);
    let is_feedback = matches!(compared.metric, Metric::Feedback(_));
    match compared.verdict {
        "worse" if is_feedback => {
            let way = if guardrail.better == Better::Higher { "lower" } else { "higher" };
            format!("{variant} {verb} {way} than {control}")
        }
        "worse" => match compared.ratio.filter(|ratio| ratio.is_finite() && *ratio > 1.0) {
            Some(ratio) => {
                format!("{variant} {verb} {ratio:.1} times as {measure} as {control}")
            }
            None => format!("{variant} {verb} {} than {control}", more(&compared.metric)),
        },
        "better" => format!("{variant} {verb} {} than {control}", less(&compared.metric)),
        "no_worse" if is_feedback => format!("{variant} {verb} no worse than {control}"),
        "no_worse" => format!(
            "{variant} {verb} no {} than {control}, within {:.0} %",
            more(&compared.metric),
            compared.margin * 100.0
        ),
        _ => format!(
            "too early to say whether {variant} {verb} {} than {control}{}",
            more(&compared.metric),
            until(variant, compared.needed)
        ),
    }
}

fn until(variant: &str, needed: Option<f64>) -> String {
    match needed {
        Some(needed) => format!(": about {} more requests to {variant}", grouped(needed)),
        None => String::new(),
    }
}

/// `12,300`: a forecast, so two digits are enough.
fn grouped(number: f64) -> String {
    let step = 10_f64.powf((number.max(1.0).log10().floor() - 1.0).max(0.0));
    let digits = format!("{:.0}", (number / step).ceil() * step);
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// One variant over all metrics that must hold.
pub(super) fn verdict(variant: &str, control: &str, all: &[Compared]) -> Verdict {
    let required = || all.iter().filter(|each| each.is_required);
    let plain = |word, words| Verdict { word, words, needed: None, has_nothing: false };
    if let Some(worst) = required().find(|each| each.verdict == "worse") {
        let (verb, _) = does(&worst.metric);
        let what = format!("{variant} {verb} {} than {control}", more(&worst.metric));
        return plain("worse", format!("{what}: roll it back"));
    }
    let open: Vec<&Compared> = required().filter(|each| each.verdict == "too_early").collect();
    if !open.is_empty() {
        // Whoever needs most is waited for; if one cannot say, nobody can.
        let needed: Option<Vec<f64>> = open.iter().map(|each| each.needed).collect();
        let needed = needed.and_then(|all| all.into_iter().reduce(f64::max));
        let words = format!(
            "too early to judge {variant}, nothing shown against it{}",
            until(variant, needed)
        );
        return Verdict { word: "too_early", words, needed, has_nothing: false };
    }
    if required().next().is_none() {
        return plain("too_early", format!("nothing is watched of {variant}"));
    }
    match required().find(|each| each.verdict == "better") {
        Some(best) => {
            let (verb, _) = does(&best.metric);
            let what = format!("{variant} {verb} {} than {control}", less(&best.metric));
            plain("better", format!("{what}, and is no worse otherwise: it can have more traffic"))
        }
        None => plain(
            "no_worse",
            format!("{variant} is no worse than {control}: it can have more traffic"),
        ),
    }
}

/// Of a variant that no request went to.
pub(super) fn nothing_yet(variant: &str) -> String {
    format!("{variant} has had no traffic that counts: nothing to judge")
}

/// All variants together: those that something is known of first.
pub(super) fn headline(verdicts: &[Verdict], mismatch: bool) -> String {
    let mut sorted: Vec<&Verdict> = verdicts.iter().collect();
    sorted.sort_by_key(|verdict| verdict.has_nothing);
    let all: Vec<&str> = sorted.iter().map(|verdict| &*verdict.words).collect();
    let said = all.join("; ");
    if mismatch {
        format!("requests do not arrive as they were dealt, so nothing here can be trusted; {said}")
    } else {
        said
    }
}
