//! The story that the demo tells: a bad candidate is rolled back, a good one is promoted.
//!
//! It does nothing that could not be typed: it starts two ramps through the admin API, one after the
//! other, and tells what they decide. What it does next depends on nothing but where the ramp stands,
//! so whoever pauses, aborts or stops something meanwhile is followed, and a demo that is started
//! again in the same folder goes on where it was.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::setting::EXPERIMENT;
use crate::cli::console::Tone;
use crate::cli::{reading, words};

/// The bad candidate.
const BAD: &str = "canary";
/// The good one.
const GOOD: &str = "next";

/// How long traffic is watched before the first ramp, and a decision is left to be read before the
/// next one.
const PAUSE: Duration = Duration::from_secs(6);

/// What a ramp of the demo is told. Shares, least times and least exposures are those of somebody in
/// a hurry; guardrails, margins and chances of error are the defaults, since none is given.
pub(crate) fn schedule(variant: &str) -> Value {
    json!({
        "variant": variant,
        "warm_up": { "share": 0.05, "min_time": "6s", "min_exposures": 30 },
        "steps": [
            { "share": 0.2, "min_time": "8s", "min_exposures": 200 },
            { "share": 0.5, "min_time": "8s", "min_exposures": 500 },
        ],
        "verify": { "share": 0.9, "min_time": "10s" },
        "reason": "weir demo",
    })
}

/// What is printed before anything happens.
pub(crate) fn beforehand() -> [String; 4] {
    [
        format!(
            "1. {BAD}, slower than stable and failing now and then, is given more and more traffic"
        ),
        "   until the evidence against it is enough; then all of it is taken back.".to_owned(),
        format!(
            "2. {GOOD}, quicker than stable, goes the same way to its end and serves everybody."
        ),
        "Only the schedule is made short: a step lasts 8 s and 200 requests instead of 10 min and \
         2,000.\n  What must be shown is not: guardrails, margins and chances of error are the \
         defaults."
            .to_owned(),
    ]
}

/// One thing that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// How it looks.
    pub(crate) tone: Tone,
    /// What it says.
    pub(crate) text: String,
}

/// What follows from a look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    /// What is said, in this order.
    pub(crate) said: Vec<Said>,
    /// The variant whose ramp is to be started now.
    pub(crate) start: Option<&'static str>,
    /// Whether the story has just ended.
    pub(crate) ends: bool,
}

/// How far the story is.
#[derive(Debug)]
pub(crate) struct Story {
    begun: Instant,
    /// How this program was called.
    weir: String,
    /// Decisions that were told, or were there before the story began; `None` before the first look.
    told: Option<usize>,
    /// Since when nothing is under way.
    quiet: Option<Instant>,
    is_over: bool,
}

impl Story {
    /// Before anything has happened. `weir` is how the program is called in a shell.
    pub(crate) fn new(now: Instant, weir: String) -> Self {
        Self { begun: now, weir, told: None, quiet: None, is_over: false }
    }

    /// Looks at the ramp of the experiment; `None` if there is none yet.
    pub(crate) fn look(&mut self, now: Instant, ramp: Option<&Value>) -> Turn {
        let mut turn = Turn::default();
        if self.is_over {
            return turn;
        }
        let decisions = ramp.map_or(&[][..], |ramp| reading::list(ramp, "decisions"));
        let told = *self.told.get_or_insert(decisions.len());
        let news = decisions.len().saturating_sub(told);
        for made in decisions[..news].iter().rev() {
            self.tell(made, now, &mut turn.said);
        }
        self.told = Some(decisions.len());

        let state = ramp.and_then(|ramp| reading::text(ramp, "state"));
        let variant = ramp.and_then(|ramp| reading::text(ramp, "variant"));
        let next = match (state, variant) {
            (None, _) => Some(BAD),
            (Some("rolled_back" | "aborted"), Some(BAD)) => Some(GOOD),
            (Some("promoted" | "rolled_back" | "aborted"), _) => None,
            // Under way.
            (Some(_), _) => {
                self.quiet = None;
                return turn;
            }
        };
        let Some(next) = next else {
            self.is_over = true;
            turn.ends = true;
            turn.said.extend(self.ending(state, variant, decisions));
            return turn;
        };
        let quiet = *self.quiet.get_or_insert(now);
        if now.duration_since(quiet) >= PAUSE {
            self.quiet = None;
            turn.start = Some(next);
            turn.said.extend(opening(next));
        }
        turn
    }

    /// A ramp could not be started: the experiment is in somebody else's hand.
    pub(crate) fn refused(&mut self, why: &str) -> Turn {
        self.is_over = true;
        let text = format!("the ramp was not started: {}; the rest is yours", words::clean(why));
        Turn { said: vec![Said { tone: Tone::Warn, text }], start: None, ends: true }
    }

    /// A decision, in its words, and what it means if it is the first of its kind.
    fn tell(&self, made: &Value, now: Instant, said: &mut Vec<Said>) {
        let seconds = now.duration_since(self.begun).as_secs();
        let clock = format!("{}:{:02}", seconds / 60, seconds % 60);
        let action = reading::text(made, "action").unwrap_or("?");
        let tone = match action {
            "roll_back" | "abort" => Tone::Bad,
            "hold" | "pause" => Tone::Warn,
            "promote" => Tone::Good,
            _ => Tone::Bold,
        };
        let text = words::clean(reading::text(made, "words").unwrap_or("?")).into_owned();
        said.push(Said { tone, text: format!("{clock:>5}  {text}") });
        let by_hand = reading::text(made, "reason") == Some("by_hand");
        let more = match action {
            "roll_back" => &[
                "one change, stored with this evidence in the audit log. Looking every second spends",
                "nothing: all looks together blame a healthy variant with a chance of at most 5 %",
            ][..],
            "pause" if by_hand => &["the share is frozen, judging goes on; `resume` goes on"],
            "hold" => &["`weir ramp status` says why; `weir ramp resume` goes on"],
            _ => &[],
        };
        said.extend(more.iter().map(|line| dim(line)));
    }

    fn ending(&self, state: Option<&str>, variant: Option<&str>, made: &[Value]) -> Vec<Said> {
        let text = match (state, variant) {
            (Some("promoted"), Some(GOOD)) => {
                let bad = seen(made)
                    .map_or_else(String::new, |seen| format!("{BAD} was rolled back {seen}, and "));
                format!("The end: {bad}{GOOD} serves everybody.")
            }
            (Some("rolled_back"), Some(GOOD)) => format!(
                "The end, an unlikely one: at most one healthy ramp in twenty is rolled back, and \
                 that of {GOOD} was."
            ),
            _ => "The end: a ramp was ended by hand.".to_owned(),
        };
        let weir = &self.weir;
        let tries = [
            format!("{weir} ramp status {EXPERIMENT}"),
            format!("{weir} results {EXPERIMENT}"),
            format!("{weir} history {EXPERIMENT}"),
            format!("{weir} split {EXPERIMENT} stable=50 next=50"),
        ];
        let mut said = vec![Said { tone: Tone::Bold, text: format!("\n{text}") }];
        said.push(dim("everything keeps running, and is yours to move (in the other terminal):"));
        let plain = |each: String| Said { tone: Tone::Plain, text: format!("       {each}") };
        said.extend(tries.into_iter().map(plain));
        said
    }
}

/// What was seen of the bad candidate when it was rolled back.
fn seen(decisions: &[Value]) -> Option<String> {
    let last = decisions.iter().find(|made| {
        reading::text(made, "action") == Some("roll_back")
            && reading::text(made, "reason") == Some("breached")
    })?;
    let first = reading::list(last.get("evidence")?, "guardrails").first()?;
    let answers = reading::whole(first.get("exposures")?, "treated")?;
    let answers = words::count(answers);
    match (reading::text(first, "metric"), first.get("events")) {
        (Some("failed"), Some(events)) => {
            let failed = words::count(reading::whole(events, "treated")?);
            Some(format!("when {failed} of its {answers} answers had failed"))
        }
        _ => Some(format!("after {answers} answers")),
    }
}

/// A line under a decision.
fn dim(line: &str) -> Said {
    Said { tone: Tone::Dim, text: format!("       {line}") }
}

fn opening(variant: &str) -> Vec<Said> {
    let (title, more) = if variant == BAD {
        (
            format!(
                "Act 1: may {BAD} serve everybody? Nobody has told the gateway that it is bad."
            ),
            "its share grows step by step while nothing speaks against it; see the bars of harm",
        )
    } else {
        (
            format!("Act 2: and {GOOD}? Copies of requests tried it out; no client saw an answer."),
            "a step is over when every guardrail holds: see the bars of safety fill",
        )
    };
    vec![Said { tone: Tone::Bold, text: format!("\n{title}") }, dim(more)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Only the schedule is made short."
    #[test]
    fn the_schedule_says_nothing_of_what_must_be_shown() {
        let schedule = schedule("canary");
        let members = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(members(&schedule), ["variant", "warm_up", "steps", "verify", "reason"]);
        for part in schedule["steps"].as_array().unwrap().iter().chain([&schedule["warm_up"]]) {
            assert_eq!(members(part), ["share", "min_time", "min_exposures"]);
        }
    }

    fn ramp(variant: &str, state: &str, decisions: &[&str]) -> Value {
        let decisions: Vec<Value> = decisions
            .iter()
            .rev()
            .map(|action| json!({ "action": action, "reason": "held", "words": format!("{action} it") }))
            .collect();
        json!({ "variant": variant, "state": state, "decisions": decisions })
    }

    fn texts(turn: &Turn) -> String {
        turn.said.iter().map(|said| format!("{}\n", said.text)).collect()
    }

    #[test]
    fn a_bad_candidate_then_a_good_one_and_every_decision_is_told_once() {
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut story = Story::new(begun, "weir".to_owned());
        assert_eq!(story.look(at(0), None), Turn::default());
        assert_eq!(story.look(at(5), None).start, None, "first it watches");
        let turn = story.look(at(6), None);
        assert_eq!(turn.start, Some("canary"));
        assert!(texts(&turn).contains("Act 1"), "{turn:?}");

        let turn = story.look(at(7), Some(&ramp("canary", "running", &["start"])));
        assert_eq!(texts(&turn), " 0:07  start it\n");
        assert_eq!(
            story.look(at(8), Some(&ramp("canary", "running", &["start"]))),
            Turn::default()
        );
        let over = ramp("canary", "rolled_back", &["start", "widen", "roll_back"]);
        let turn = story.look(at(70), Some(&over));
        assert!(texts(&turn).starts_with(" 1:10  widen it\n 1:10  roll_back it\n"), "{turn:?}");
        assert_eq!(story.look(at(75), Some(&over)).start, None, "time to read");
        assert_eq!(story.look(at(76), Some(&over)).start, Some("next"));

        let all = ["start", "widen", "roll_back", "start", "promote"];
        let turn = story.look(at(99), Some(&ramp("next", "promoted", &all)));
        assert!(turn.ends && texts(&turn).contains("next serves everybody"), "{turn:?}");
        assert_eq!(story.look(at(100), Some(&ramp("next", "promoted", &all))), Turn::default());
    }

    #[test]
    fn a_folder_that_was_used_before_goes_on_where_it_was() {
        let begun = Instant::now();
        let after = begun + PAUSE;
        let mut story = Story::new(begun, "weir".to_owned());
        let over = ramp("canary", "rolled_back", &["start", "roll_back"]);
        assert_eq!(story.look(begun, Some(&over)), Turn::default(), "that was told");
        assert_eq!(story.look(after, Some(&over)).start, Some("next"));
        let mut story = Story::new(begun, "weir".to_owned());
        let turn = story.look(begun, Some(&ramp("next", "promoted", &["start", "promote"])));
        assert!(turn.ends && turn.start.is_none());
    }

    #[test]
    fn whoever_takes_over_ends_the_story() {
        let begun = Instant::now();
        let mut story = Story::new(begun, "weir".to_owned());
        let turn = story.look(begun, Some(&ramp("canary", "promoted", &[])));
        assert!(turn.ends && texts(&turn).contains("by hand"), "{turn:?}");
        let mut story = Story::new(begun, "weir".to_owned());
        let turn = story.refused("experiment \"int8\" is not running");
        assert!(turn.ends && texts(&turn).contains("not running"), "{turn:?}");
        assert_eq!(story.look(begun + PAUSE, None), Turn::default());
    }
}
