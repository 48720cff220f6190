//! Everything that is known: the newest frame, what came before it, what happened.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use super::frame::{Experiment, Frame, News, Numbers, moment};
use super::past::{Measure, PLACES, Point, STEP, Second, Track, Window, place_of};
use crate::cli::reading;

/// Most pieces of news that are kept.
const NEWS: usize = 200;

/// Whose numbers they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    Gateway,
    Route(String),
    /// Experiment and variant.
    Variant(String, String),
    Shadow(String),
}

/// Everything that is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The newest second.
    pub(super) frame: Frame,
    /// What happened, the newest first.
    pub(super) news: VecDeque<News>,
    tracks: HashMap<Whose, Track>,
    windows: HashMap<Whose, Window>,
    /// The place of the newest second.
    newest: i64,
}

impl Seen {
    /// Takes note of a history. Seconds to a place are what was asked for; single seconds are also
    /// what tables are made of.
    pub(super) fn history(&mut self, past: &Value) {
        let times: Vec<i64> =
            reading::list(past, "at_unix").iter().filter_map(Value::as_i64).collect();
        let (Some(first), Some(last)) = (times.first().copied(), times.last().copied()) else {
            return;
        };
        if last < self.frame.at {
            // The clock went back: what is known belongs to another time.
            *self = Self::default();
        }
        let step = moment(past, "step").unwrap_or(STEP);
        for event in reading::list(past, "events").iter().filter_map(News::read) {
            self.tell(event);
        }
        let to = moment(past, "to_unix").unwrap_or(last);
        let columns = |of: &Value| {
            ["rate", "failed", "p95", "assigned_share"].map(|key| reading::list(of, key).to_vec())
        };
        let mut all: Vec<(Whose, u64, [Vec<Value>; 4])> = Vec::new();
        all.extend(past.get("gateway").map(|gateway| (Whose::Gateway, 0, columns(gateway))));
        for (name, shadow) in reading::members(past, "shadows") {
            all.push((Whose::Shadow(name.to_owned()), 0, columns(shadow)));
        }
        for (name, route) in reading::members(past, "routes") {
            all.push((Whose::Route(name.to_owned()), 0, columns(route)));
        }
        for (name, experiment) in reading::members(past, "experiments") {
            // Seconds before the newest change belong to another revision.
            let begun = self.begun(name).unwrap_or(first);
            for (variant, of) in reading::members(experiment, "variants") {
                let whose = Whose::Variant(name.to_owned(), variant.to_owned());
                let skipped = times.iter().filter(|at| **at <= begun).count();
                all.push((whose, skipped as u64, columns(of)));
            }
        }
        for (whose, skipped, [rate, failed, p95, assigned]) in all {
            let number = |column: &[Value], index: usize| column.get(index).and_then(Value::as_f64);
            let track = self.tracks.entry(whose.clone()).or_default();
            for (index, at) in times.iter().enumerate() {
                let seconds = if step == 1 {
                    1.0
                } else {
                    // The last place may have begun only.
                    (to.min(*at) - place_of(*at) * STEP).clamp(1, step) as f64
                };
                let point = Point {
                    seconds,
                    rate: number(&rate, index),
                    failed: number(&failed, index),
                    p95: number(&p95, index),
                };
                track.add(place_of(*at), point);
            }
            if step > 1 {
                continue;
            }
            let window = self.windows.entry(whose).or_default();
            for (index, at) in times.iter().enumerate().skip(usize::try_from(skipped).unwrap_or(0))
            {
                let Some(rate) = number(&rate, index) else { continue };
                let assigned = number(&assigned, index).map(|part| (part, rate.max(1e-9)));
                window.seed(Second { at: *at, rate, failed: number(&failed, index), assigned });
            }
        }
        self.newest = self.newest.max(place_of(to));
    }

    /// When the newest revision of an experiment that is known of came into force.
    fn begun(&self, experiment: &str) -> Option<i64> {
        let of = |news: &&News| news.experiment.as_deref() == Some(experiment);
        self.news.iter().filter(of).find(|news| news.revision.is_some()).map(|news| news.at)
    }

    /// Takes note of a frame, and of what happened in it.
    pub(super) fn frame(&mut self, frame: Frame, news: Vec<News>) {
        if frame.at < self.frame.at {
            *self = Self::default();
        }
        let at = frame.at;
        let place = place_of(at);
        self.newest = place;
        let gateway = Numbers {
            rate: frame.gateway.rate,
            failed: frame.gateway.failed,
            ..Numbers::default()
        };
        self.second(Whose::Gateway, 0, at, gateway, None);
        for route in &frame.routes {
            self.second(Whose::Route(route.name.clone()), 0, at, route.numbers, None);
        }
        for shadow in &frame.shadows {
            let numbers =
                Numbers { rate: shadow.rate, failed: shadow.failed, ..Numbers::default() };
            self.second(Whose::Shadow(shadow.name.clone()), 0, at, numbers, None);
        }
        for experiment in &frame.experiments {
            let total = experiment.rate();
            for variant in &experiment.variants {
                let whose = Whose::Variant(experiment.name.clone(), variant.name.clone());
                // A second whose requests have all begun and none ended counts a little too.
                let assigned = variant.assigned.map(|part| (part, total.max(0.1)));
                self.second(whose, experiment.revision, at, variant.numbers, assigned);
            }
        }
        // Who is not told of any more is forgotten once nothing of it could be shown.
        let long_ago = place - i64::try_from(PLACES).unwrap_or(i64::MAX);
        self.tracks.retain(|_, track| track.newest() > long_ago);
        self.windows.retain(|whose, _| self.tracks.contains_key(whose));
        news.into_iter().for_each(|news| self.tell(news));
        self.frame = frame;
    }

    fn second(
        &mut self,
        whose: Whose,
        revision: u64,
        at: i64,
        numbers: Numbers,
        assigned: Option<(f64, f64)>,
    ) {
        let Numbers { rate, failed, p95, .. } = numbers;
        let point = Point { seconds: 1.0, rate: Some(rate), failed, p95 };
        self.tracks.entry(whose.clone()).or_default().add(place_of(at), point);
        let window = self.windows.entry(whose).or_default();
        window.push(revision, Second { at, rate, failed, assigned });
    }

    /// Keeps it once: what was told in a history is not told again, but a stream may begin anew.
    fn tell(&mut self, news: News) {
        if self.news.contains(&news) {
            return;
        }
        let place = self.news.iter().position(|of| of.at <= news.at).unwrap_or(self.news.len());
        self.news.insert(place, news);
        self.news.truncate(NEWS);
    }

    /// The last ten seconds of `whose`, or as much of them as is known.
    pub(super) fn window(&self, whose: &Whose) -> Option<&Window> {
        self.windows.get(whose)
    }

    /// The last `count` places of `whose`, the oldest first.
    pub(super) fn values(&self, whose: &Whose, count: usize, measure: Measure) -> Vec<Option<f64>> {
        let count = count.min(PLACES);
        let track = self.tracks.get(whose);
        track.map_or_else(|| vec![None; count], |track| track.values(self.newest, count, measure))
    }

    /// The experiment of this name, as it is now.
    pub(super) fn experiment(&self, name: &str) -> Option<&Experiment> {
        self.frame.experiment(name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn frame(at: i64, revision: u64, rate: f64) -> Frame {
        Frame::read(&json!({
            "at_unix": at,
            "gateway": { "rate": rate, "failed": 0.5, "rejected": 0.0 },
            "routes": { "chat": { "rate": rate, "failed": 0.5, "p95": 0.2 } },
            "experiments": { "int8": { "route": "chat", "revision": revision, "state": "running",
                "variants": { "stable": { "weight": 1, "share": 1.0, "assigned_share": 1.0,
                    "rate": rate, "failed": 0.5, "p95": 0.2 } }, "ramp": null } },
        }))
        .unwrap()
    }

    fn stable() -> Whose {
        Whose::Variant("int8".into(), "stable".into())
    }

    #[test]
    fn frames_go_on_where_the_history_ends() {
        let mut seen = Seen::default();
        // Places end at 100 and 105; of the second, only three seconds are over.
        seen.history(&json!({ "to_unix": 103, "step": 5, "at_unix": [100, 103], "routes": {},
            "experiments": { "int8": { "variants": { "stable": {
                "rate": [10.0, 20.0], "failed": [0.0, 0.0], "p95": [0.1, 0.1] } } } } }));
        assert_eq!(seen.values(&stable(), 3, Measure::Rate), [None, Some(10.0), Some(20.0)]);
        seen.frame(frame(104, 1, 40.0), Vec::new());
        // Three seconds with 20, one with 40.
        assert_eq!(seen.values(&stable(), 1, Measure::Rate), [Some(25.0)]);
        seen.frame(frame(111, 1, 4.0), Vec::new());
        assert_eq!(seen.values(&stable(), 3, Measure::Rate), [Some(25.0), None, Some(4.0)]);
        assert_eq!(seen.window(&stable()).unwrap().rate(), 22.0);
    }

    #[test]
    fn a_history_of_seconds_fills_the_table_with_what_the_newest_revision_did() {
        let mut seen = Seen::default();
        let past = |from: i64| {
            json!({ "to_unix": 103, "step": 1, "at_unix": [100, 101, 102, 103], "routes": {},
                "experiments": { "int8": { "variants": { "stable": {
                    "rate": [90.0, 90.0, 2.0, 4.0], "failed": [0.0, 0.0, 0.0, 0.0],
                    "p95": [null, null, null, null], "assigned_share": [1.0, 1.0, 1.0, 1.0] } } } },
                "gateway": { "rate": [80.0, 80.0, 80.0, 80.0], "failed": [0.0, 0.0, 0.0, 0.0],
                    "rejected": [0.0, 0.0, 0.0, 0.0] },
                "shadows": { "next": { "rate": [8.0, 8.0, 8.0, 8.0], "failed": [1.0, 1.0, 1.0, 1.0] } },
                "events": [{ "at_unix": from, "experiment": "int8", "revision": 2, "by": "ada",
                    "words": "canary 5 → 10 %" }] })
        };
        seen.history(&past(101));
        seen.frame(frame(104, 2, 6.0), Vec::new());
        assert_eq!(seen.window(&stable()).unwrap().rate(), 4.0);
        // What has no revisions has all of it.
        assert_eq!(seen.window(&Whose::Gateway).unwrap().rate(), (4.0 * 80.0 + 6.0) / 5.0);
        let shadow = seen.window(&Whose::Shadow("next".into())).unwrap();
        assert_eq!((shadow.rate(), shadow.failed()), (8.0, Some(1.0)));
        // The same piece of news, told again, is one.
        seen.history(&past(101));
        assert_eq!(seen.news.len(), 1);
    }

    #[test]
    fn who_is_gone_is_forgotten_and_a_clock_that_goes_back_begins_anew() {
        let mut seen = Seen::default();
        seen.frame(frame(100, 1, 1.0), Vec::new());
        seen.frame(Frame { at: 2_000, ..Frame::default() }, Vec::new());
        assert!(seen.window(&stable()).is_none());
        seen.frame(frame(50, 1, 3.0), Vec::new());
        assert_eq!(seen.values(&stable(), 1, Measure::Rate), [Some(3.0)]);
    }
}
