//! What pictures are made of: a route or a variant over the last ten minutes, five seconds to a place,
//! and what tables say of it: the last ten seconds, second by second.

use std::collections::VecDeque;

/// Seconds to a place.
pub(super) const STEP: i64 = 5;

/// Places that are kept: ten minutes.
pub(super) const PLACES: usize = 120;

/// Seconds that a table speaks of.
const WINDOW: i64 = 10;

/// What a picture shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Measure {
    /// Requests a second.
    #[default]
    Rate,
    /// The part that failed.
    Failed,
    /// Duration at p95.
    P95,
}

impl Measure {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Rate => Self::Failed,
            Self::Failed => Self::P95,
            Self::P95 => Self::Rate,
        }
    }
}

/// The place of a second that ended at `at`.
pub(super) fn place_of(at: i64) -> i64 {
    (at - 1).div_euclid(STEP)
}

/// Five seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    /// Seconds of it that are known.
    pub(super) seconds: f64,
    pub(super) rate: Option<f64>,
    pub(super) failed: Option<f64>,
    pub(super) p95: Option<f64>,
}

impl Point {
    /// One second more.
    fn add(&mut self, second: Self) {
        let weight = |of: &Self| of.seconds * of.rate.unwrap_or(0.0);
        let (before, now) = (weight(self), weight(&second));
        self.failed = match (self.failed, second.failed) {
            (Some(_), Some(_)) if before + now == 0.0 => second.failed,
            (Some(was), Some(is)) => Some((was * before + is * now) / (before + now)),
            (was, is) => is.or(was),
        };
        if let Some(rate) = second.rate {
            let total = self.seconds + second.seconds;
            let was = self.rate.map_or(0.0, |was| was * self.seconds);
            self.rate = Some((was + rate * second.seconds) / total);
        }
        self.seconds += second.seconds;
        // A quantile looks back by itself.
        self.p95 = second.p95.or(self.p95);
    }

    fn of(self, measure: Measure) -> Option<f64> {
        match measure {
            Measure::Rate => self.rate,
            Measure::Failed => self.failed,
            Measure::P95 => self.p95,
        }
    }
}

/// One route or variant over time.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    /// Place of the newest point.
    newest: i64,
    /// The oldest first.
    points: VecDeque<Point>,
}

impl Track {
    /// What was known at `place`. What is older than what is known already changes nothing.
    pub(super) fn add(&mut self, place: i64, point: Point) {
        let gap = if self.points.is_empty() { 1 } else { place - self.newest };
        match gap {
            ..0 => return,
            0 => {
                if let Some(newest) = self.points.back_mut() {
                    newest.add(point);
                }
                return;
            }
            1.. => {}
        }
        let missing = usize::try_from(gap - 1).unwrap_or(PLACES).min(PLACES);
        self.points.extend(std::iter::repeat_n(Point::default(), missing));
        self.points.push_back(point);
        self.newest = place;
        while self.points.len() > PLACES {
            self.points.pop_front();
        }
    }

    /// Place of the newest point.
    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    /// The last `count` places up to `newest`, the oldest first; a gap is nothing.
    pub(super) fn values(&self, newest: i64, count: usize, measure: Measure) -> Vec<Option<f64>> {
        let first = self.newest + 1 - i64::try_from(self.points.len()).unwrap_or(0);
        let from = newest + 1 - i64::try_from(count).unwrap_or(0);
        let at = |place: i64| {
            let index = usize::try_from(place - first).ok()?;
            self.points.get(index)?.of(measure)
        };
        (from..=newest).map(at).collect()
    }
}

/// One second of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Second {
    pub(super) at: i64,
    pub(super) rate: f64,
    pub(super) failed: Option<f64>,
    /// The part of the experiment's requests that was assigned here, and how many those were.
    pub(super) assigned: Option<(f64, f64)>,
}

/// The last ten seconds; of a variant, those since its experiment's revision began.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    revision: u64,
    seconds: VecDeque<Second>,
    /// Whether the revision is still to be told.
    is_seed: bool,
}

impl Window {
    /// One second more. What was counted of another revision is another matter.
    pub(super) fn push(&mut self, revision: u64, second: Second) {
        if self.revision != revision && !self.is_seed {
            self.seconds.clear();
        }
        self.revision = revision;
        self.is_seed = false;
        self.seconds.push_back(second);
        let is_old = |of: &Second| of.at <= second.at - WINDOW || of.at > second.at;
        while self.seconds.front().is_some_and(is_old) {
            self.seconds.pop_front();
        }
    }

    /// A second of the past, of which it is not said which revision it is of: that of the next.
    pub(super) fn seed(&mut self, second: Second) {
        self.push(self.revision, second);
        self.is_seed = true;
    }

    /// Requests a second.
    pub(super) fn rate(&self) -> f64 {
        if self.seconds.is_empty() {
            return 0.0;
        }
        self.seconds.iter().map(|of| of.rate).sum::<f64>() / self.seconds.len() as f64
    }

    /// The part that failed; nothing without requests.
    pub(super) fn failed(&self) -> Option<f64> {
        mean(self.seconds.iter().filter_map(|of| Some((of.failed?, of.rate))))
    }

    /// The part of the experiment's requests that was assigned here.
    pub(super) fn assigned(&self) -> Option<f64> {
        mean(self.seconds.iter().filter_map(|of| of.assigned))
    }
}

/// Values, each with its weight.
fn mean(of: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let (sum, weight) =
        of.fold((0.0, 0.0), |all, (value, weight)| (all.0 + value * weight, all.1 + weight));
    (weight > 0.0).then(|| sum / weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(rate: f64, failed: Option<f64>) -> Point {
        Point { seconds: 1.0, rate: Some(rate), failed, p95: None }
    }

    #[test]
    fn seconds_of_a_place_are_one_point_and_what_is_missing_is_a_gap() {
        assert_eq!([1, 5, 6, 10, 11].map(place_of), [0, 0, 1, 1, 2]);
        let mut track = Track::default();
        track.add(7, point(10.0, Some(0.1)));
        track.add(7, point(30.0, Some(0.5)));
        track.add(9, point(8.0, None));
        track.add(8, point(99.0, None));
        let rates = track.values(10, 5, Measure::Rate);
        assert_eq!(rates, [None, Some(20.0), None, Some(8.0), None]);
        // 1 of 10 and 15 of 30 failed.
        assert_eq!(track.values(7, 1, Measure::Failed), [Some(0.4)]);
        track.add(5_000, point(1.0, None));
        assert_eq!(track.points.len(), PLACES);
        assert_eq!(track.values(5_000, 2, Measure::Rate), [None, Some(1.0)]);
    }

    #[test]
    fn a_table_speaks_of_ten_seconds_and_never_of_two_revisions() {
        let mut window = Window::default();
        let second = |at: i64, rate: f64, failed: f64| Second {
            at,
            rate,
            failed: Some(failed),
            assigned: Some((failed, rate)),
        };
        (1..=20).for_each(|at| window.push(1, second(at, if at > 10 { 4.0 } else { 400.0 }, 0.0)));
        assert_eq!((window.rate(), window.failed()), (4.0, Some(0.0)));
        window.push(1, second(21, 36.0, 1.0));
        // Nine seconds with 4 and one with 36.
        assert_eq!((window.rate(), window.failed()), (7.2, Some(0.5)));
        window.push(2, second(22, 3.0, 0.0));
        assert_eq!((window.rate(), window.assigned()), (3.0, Some(0.0)));
    }
}
