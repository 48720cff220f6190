//! Sentences about what is seen: the house's words, the same as the dashboard's.

use jiff::Timestamp;

use super::frame::{Experiment, Frame, News, Ramp};
use super::past::Measure;
use crate::cli::words;

/// How loud a sentence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Plain,
    Wait,
    Harm,
}

/// `14:43:08 UTC`.
pub(super) fn clock(at: i64) -> String {
    let time = Timestamp::from_second(at).unwrap_or_default();
    time.strftime("%H:%M:%S UTC").to_string()
}

/// `3 min ago`.
pub(super) fn ago(now: i64, at: i64) -> String {
    let time = |at| Timestamp::from_second(at).unwrap_or_default();
    words::relative(time(now), time(at))
}

/// What a picture shows.
pub(super) fn measure(measure: Measure) -> &'static str {
    match measure {
        Measure::Rate => "requests/s",
        Measure::Failed => "failed",
        Measure::P95 => "p95",
    }
}

/// How far a picture goes up: with its unit, where the picture's name is not that already.
pub(super) fn scale(of: Measure, top: f64) -> String {
    match of {
        Measure::Rate if top >= 1_000.0 => format!("0 to {}", words::about(top)),
        Measure::Rate => format!("0 to {}", words::weight(top)),
        Measure::Failed | Measure::P95 => format!("0 to {}", amount(of, top)),
    }
}

/// A number of a measure, with its unit.
pub(super) fn amount(measure: Measure, value: f64) -> String {
    match measure {
        Measure::Rate if value >= 10.0 || value.fract() == 0.0 => format!("{value:.0} requests/s"),
        Measure::Rate => format!("{} requests/s", words::per_second(value)),
        Measure::Failed => words::share(value),
        Measure::P95 => words::latency(value),
    }
}

/// `step 2 of 4, canary at 5 %, running`; of one that is over, how it ended.
pub(super) fn ramp(ramp: &Ramp) -> (String, Weight) {
    let share = ramp.share.map_or_else(|| "–".to_owned(), words::share);
    let name = words::clean(&ramp.variant);
    let step = match ramp.step {
        0 => "warm-up".to_owned(),
        step if step > ramp.steps => "verification".to_owned(),
        step => format!("step {step} of {}", ramp.steps),
    };
    let (word, weight) = match &*ramp.state {
        "rolled_back" => return (format!("{name} was rolled back"), Weight::Harm),
        "promoted" => return (format!("{name} was promoted"), Weight::Plain),
        "aborted" => return (format!("the ramp of {name} was aborted"), Weight::Plain),
        "holding" => ("holds", Weight::Wait),
        "paused" => ("paused", Weight::Wait),
        other => (other, Weight::Plain),
    };
    (format!("{step}, {name} at {share}, {word}"), weight)
}

/// Whether it decides.
pub(super) fn state(experiment: &Experiment) -> (String, Weight) {
    match &*experiment.state {
        "running" => ("running".to_owned(), Weight::Plain),
        "stopped" => ("stopped: all traffic goes to the route's backend".to_owned(), Weight::Wait),
        other => (words::clean(other).into_owned(), Weight::Wait),
    }
}

/// What an experiment does, beside its name: its state, or more.
pub(super) fn doing(experiment: &Experiment) -> (String, Weight) {
    let Some(of) = experiment.ramp.as_ref().filter(|_| experiment.state == "running") else {
        return state(experiment);
    };
    let (said, weight) = ramp(of);
    match is_under_way(of) {
        true => (format!("ramp: {said}"), weight),
        false => (format!("running; {said}"), weight),
    }
}

/// Whether a ramp still moves shares, or may again.
pub(super) fn is_under_way(ramp: &Ramp) -> bool {
    matches!(&*ramp.state, "running" | "holding" | "paused")
}

/// What needs somebody, the worst first.
pub(super) fn needs(frame: &Frame) -> Vec<(String, Weight)> {
    let mut harm = Vec::new();
    let mut wait = Vec::new();
    for backend in frame.backends.iter().filter(|of| of.endpoints > 0 && of.serving < of.endpoints)
    {
        let name = words::clean(&backend.name);
        if backend.serving == 0 {
            harm.push(format!(
                "{name}: no endpoint serves. Each was ejected after failures and is tried again by itself."
            ));
        } else {
            wait.push(format!(
                "{name}: {} of {} endpoints serve. The others were ejected after failures and are \
                 tried again by themselves.",
                backend.serving, backend.endpoints
            ));
        }
    }
    for experiment in frame.experiments.iter().filter(|of| of.state == "running") {
        let Some(ramp) = &experiment.ramp else { continue };
        let (name, variant) = (words::clean(&experiment.name), words::clean(&ramp.variant));
        match &*ramp.state {
            "rolled_back" => wait.push(format!("{name}: {variant} was rolled back.")),
            "holding" => wait.push(format!(
                "{name}: the ramp of {variant} holds. It neither widens nor goes back until \
                 somebody looks."
            )),
            _ => {}
        }
    }
    if frame.gateway.is_draining {
        wait.push(
            "This gateway is draining. It finishes what runs and takes nothing new.".to_owned(),
        );
    }
    let harm = harm.into_iter().map(|text| (text, Weight::Harm));
    harm.chain(wait.into_iter().map(|text| (text, Weight::Wait))).collect()
}

/// `ml-team, int8: next 0 → 5 %: "int4 under real load"`.
///
/// On a page that is about the experiment its name goes without saying.
pub(super) fn news(of: &News, is_own_page: bool) -> String {
    let mut text = words::clean(&of.by).into_owned();
    if let Some(experiment) = of.experiment.as_ref().filter(|_| !is_own_page) {
        text.push_str(&format!(", {}", words::clean(experiment)));
    }
    text.push_str(&format!(": {}", words::clean(&of.words)));
    if let Some(reason) = &of.reason {
        text.push_str(&format!(": \"{}\"", words::clean(reason)));
    }
    text
}

/// What of `all` is told by itself: a decision of a ramp comes with the revision that it made, and that
/// names it as its reason.
pub(super) fn told<'a>(all: impl Iterator<Item = &'a News> + Clone) -> Vec<&'a News> {
    let is_reason_of = |of: &News, other: &News| {
        other.revision.is_some()
            && other.experiment == of.experiment
            && (other.at - of.at).abs() <= 1
            && other.reason.as_ref().is_some_and(|reason| reason.starts_with(&of.words))
    };
    let again = all.clone();
    all.filter(|of| !again.clone().any(|other| is_reason_of(of, other))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::frame::Backend;
    use super::*;

    #[test]
    fn a_ramp_says_where_it_stands() {
        let ramp_at = |state: &str, step: u64| {
            let of = Ramp {
                variant: "canary".into(),
                state: state.into(),
                step,
                steps: 4,
                share: Some(0.05),
            };
            ramp(&of)
        };
        assert_eq!(ramp_at("running", 0).0, "warm-up, canary at 5 %, running");
        assert_eq!(
            ramp_at("holding", 2),
            ("step 2 of 4, canary at 5 %, holds".into(), Weight::Wait)
        );
        assert_eq!(ramp_at("running", 5).0, "verification, canary at 5 %, running");
        assert_eq!(ramp_at("rolled_back", 2), ("canary was rolled back".into(), Weight::Harm));
    }

    #[test]
    fn a_decision_and_its_revision_are_one_piece_of_news() {
        let news = |at: i64, words: &str, revision: Option<u64>, reason: Option<&str>| News {
            at,
            experiment: Some("int8".into()),
            revision,
            by: "ramp".into(),
            reason: reason.map(str::to_owned),
            words: words.into(),
        };
        let all = [
            news(11, "ramp started: canary at 5 %", None, Some("weir demo")),
            news(10, "canary 0 → 5 %", Some(2), Some("ramp started: canary at 5 %: weir demo")),
            news(5, "the ramp is paused", None, None),
        ];
        let told: Vec<&str> = told(all.iter()).into_iter().map(|news| &*news.words).collect();
        assert_eq!(told, ["canary 0 → 5 %", "the ramp is paused"]);
    }

    #[test]
    fn the_worst_comes_first() {
        let backend = |name: &str, endpoints: u64, serving: u64| Backend {
            name: name.into(),
            endpoints,
            serving,
        };
        let frame = Frame {
            backends: vec![backend("ok", 2, 2), backend("half", 2, 1), backend("gone", 1, 0)],
            ..Frame::default()
        };
        let needs = needs(&frame);
        assert_eq!(needs.len(), 2);
        assert_eq!(needs[0].1, Weight::Harm);
        assert!(needs[0].0.starts_with("gone: no endpoint serves."), "{needs:?}");
        assert!(needs[1].0.starts_with("half: 1 of 2 endpoints serve."), "{needs:?}");
    }
}
