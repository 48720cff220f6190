//! What can be told: a closed list of events, and which of them a webhook asks for.

use std::fmt;

/// Declares the events: each constant, its name, and what happened.
macro_rules! events {
    ($($variant:ident = $name:literal $what:literal,)*) => {
        /// Something that is told. Where it is somebody's change, its name is the action that the
        /// audit log has.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Event {
            $(#[doc = $what] $variant,)*
        }

        impl Event {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What happened, in one sentence.
            pub fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }
        }
    };
}

events! {
    RampStart = "ramp.start" "A ramp began, or began again.",
    RampWiden = "ramp.widen" "A ramp gave its variant more traffic.",
    RampHold = "ramp.hold" "A ramp holds until something becomes clear.",
    RampPause = "ramp.pause" "Somebody froze a ramp, or its experiment was stopped.",
    RampResume = "ramp.resume" "A ramp goes on after a pause or a hold.",
    RampRollBack = "ramp.roll_back" "A ramp took all traffic from its variant.",
    RampPromote = "ramp.promote" "A ramp gave its variant all traffic.",
    RampAbort = "ramp.abort" "Somebody ended a ramp: no traffic to its variant.",
    RampMove = "ramp.move" "A bandit gave more traffic to whoever is likelier to be the best.",
    GuardrailBreached = "guardrail.breached" "The evidence shows that a variant is worse than a guardrail allows.",
    SampleRatioMismatch = "sample_ratio.mismatch" "Units do not arrive in the shares that were dealt.",
    SampleRatioCleared = "sample_ratio.cleared" "The counts in which units did not arrive as dealt are no longer part of the evidence.",
    WeightsSet = "weights.set" "Somebody changed weights, or the file did.",
    ExperimentCreate = "experiment.create" "An experiment is there for the first time.",
    ExperimentEdit = "experiment.edit" "Somebody changed what an experiment is, beside its weights.",
    ExperimentEnd = "experiment.end" "An experiment is over; its results stay.",
    ExperimentUndo = "experiment.undo" "Somebody went back to an earlier revision.",
    ExperimentStop = "experiment.stop" "Kill switch: the route's backend serves everything.",
    WebhookTest = "webhook.test" "Somebody asked for a test; it is sent whatever the webhook asks for.",
}

impl Event {
    /// The event of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|event| event.as_str() == name)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(u32);

// Each event is a bit of `Events`.
const _: () = assert!(Event::ALL.len() <= 32);

impl Events {
    /// Whether `event` is among them.
    pub fn has(self, event: Event) -> bool {
        self.0 & (1 << event as u32) != 0
    }

    /// Adds what `pattern` stands for: an event, all of a kind (`ramp.*`), or all (`*`). False if it
    /// stands for nothing.
    pub fn add(&mut self, pattern: &str) -> bool {
        let kind = pattern.strip_suffix('*');
        let mut found = false;
        for event in Event::ALL {
            let name = event.as_str();
            let is_meant = match kind {
                Some("") => true,
                Some(kind) => kind.ends_with('.') && name.starts_with(kind),
                None => name == pattern,
            };
            if is_meant {
                self.0 |= 1 << *event as u32;
                found = true;
            }
        }
        found
    }

    /// Their names.
    pub fn names(self) -> Vec<&'static str> {
        let all = Event::ALL.iter().copied();
        all.filter(|event| self.has(*event)).map(Event::as_str).collect()
    }
}

/// Everything that may stand in `events`: each event, each kind, and all.
pub fn patterns() -> Vec<String> {
    let mut patterns = vec!["*".to_owned()];
    for event in Event::ALL {
        let kind = event.as_str().split_once('.').map_or("", |(kind, _)| kind);
        let all_of_kind = format!("{kind}.*");
        if !patterns.contains(&all_of_kind) {
            patterns.push(all_of_kind);
        }
        patterns.push(event.as_str().to_owned());
    }
    patterns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_an_event_a_kind_or_all_and_for_nothing_else() {
        let of = |pattern: &str| {
            let mut events = Events::default();
            events.add(pattern).then(|| events.names())
        };
        assert_eq!(of("ramp.hold"), Some(vec!["ramp.hold"]));
        assert_eq!(of("ramp.*").map(|names| names.len()), Some(9));
        assert_eq!(
            of("sample_ratio.*"),
            Some(vec!["sample_ratio.mismatch", "sample_ratio.cleared"])
        );
        assert_eq!(of("*").map(|names| names.len()), Some(Event::ALL.len()));
        for nothing in ["", "ramp", "ramp.", "ramp*", "ram*", "*.hold", ".*", "Ramp.hold", "**"] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
        for pattern in patterns() {
            assert!(of(&pattern).is_some(), "{pattern}");
        }
    }

    #[test]
    fn the_documentation_has_the_events_as_declared() {
        let table: String =
            Event::ALL.iter().map(|event| format!("| `{event}` | {} |\n", event.what())).collect();
        let table = format!("| event | what happened |\n|---|---|\n{table}");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/webhooks.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, rest) = text.split_once("<!-- events: generated -->\n").unwrap();
        let (written, after) = rest.split_once("<!-- end -->").unwrap();
        if std::env::var_os("WEIR_WRITE_DOCS").is_some() {
            let text = format!("{before}<!-- events: generated -->\n{table}<!-- end -->{after}");
            std::fs::write(path, text).unwrap();
        } else {
            assert_eq!(
                written, table,
                "run this test with WEIR_WRITE_DOCS=1 and look at the change"
            );
        }
    }

    /// Whatever is done to an experiment can be told: an action that is new is an event too.
    #[test]
    fn every_action_on_an_experiment_is_an_event() {
        use policies::ramp::Action;
        for action in [
            Action::Start,
            Action::Widen,
            Action::Promote,
            Action::RollBack,
            Action::Hold,
            Action::Resume,
            Action::Pause,
            Action::Abort,
            Action::Move,
        ] {
            // No `_` arm: a new action does not compile until somebody has put it above.
            match action {
                Action::Start | Action::Widen | Action::Promote | Action::RollBack => {}
                Action::Hold | Action::Resume | Action::Pause | Action::Abort | Action::Move => {}
            }
            let name = format!("ramp.{}", crate::control::words::action(action));
            assert!(Event::named(&name).is_some(), "{name}");
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/change");
        let mut found = 0;
        for file in
            std::fs::read_dir(folder).unwrap().flatten().filter(|file| file.path().is_file())
        {
            let text = std::fs::read_to_string(file.path()).unwrap();
            for literal in text.split('"').skip(1).step_by(2) {
                if literal.starts_with("experiment.") || literal.starts_with("weights.") {
                    assert!(Event::named(literal).is_some(), "{literal} in {file:?}");
                    found += 1;
                }
            }
        }
        assert!(found >= 5, "{found} actions");
    }

    #[test]
    fn names_are_told_apart() {
        for event in Event::ALL {
            assert_eq!(Event::named(event.as_str()), Some(*event));
        }
    }
}
