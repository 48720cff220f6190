//! A comparison in words: first what was found, then what it takes to pass.

use policies::comparison::{ALPHA, Tally};
use policies::statistics::shadow::{Agreed, PairedLatency};
use policies::statistics::{Interval, Verdict};

use crate::config::plan::Compare;

/// Below so many pairs the interval of a mean is not to be trusted, as below so many answers that of
/// feedback is not.
const LEAST: u64 = 100;

/// How fast copies are beside what clients get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// Shown to take longer.
    Slower,
    /// Shown to take less long.
    Faster,
    /// Neither.
    Alike,
}

impl Pace {
    pub(crate) fn of(paired: &PairedLatency) -> Self {
        match paired.slowdown(ALPHA).filter(|_| paired.pairs() >= LEAST) {
            Some((_, Interval { lower, .. })) if lower > 1.0 => Self::Slower,
            Some((_, Interval { upper, .. })) if upper < 1.0 => Self::Faster,
            Some(_) | None => Self::Alike,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Slower => "slower",
            Self::Faster => "faster",
            Self::Alike => "too_early",
        }
    }
}

/// `4,310`.
fn count(number: u64) -> String {
    crate::cli::words::count(number)
}

/// `97.2`; one digit more where it nearly is all or nothing.
fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    let near = percent.min(100.0 - percent);
    if near > 0.0 && near < 0.95 { format!("{percent:.2}") } else { format!("{percent:.1}") }
}

/// What was found, in a sentence.
pub(crate) fn headline(name: &str, tally: &Tally, verdict: Verdict) -> String {
    let agreed = &tally.agreed;
    let Some(share) = agreed.share() else {
        return match tally.pairs() {
            0 => format!("no answer of {name} was compared yet"),
            pairs => format!("none of {} pairs of {name} could be compared", count(pairs)),
        };
    };
    let Interval { lower, upper } = agreed.at_all_times(ALPHA);
    let pairs = if agreed.pairs == 1 { "pair" } else { "pairs" };
    let mut said = format!(
        "{name} agrees with what clients got in {} % of {} {pairs} ({} to {})",
        percent(share),
        count(agreed.pairs),
        percent(lower),
        percent(upper),
    );
    if let Some(pace) = pace(&tally.end) {
        said.push_str(&format!("; it {pace}"));
    }
    if verdict == Verdict::Breached {
        said.push_str("; it fails more often");
    }
    said
}

/// `is 12 % slower (9 to 15)`; nothing below two pairs.
fn pace(paired: &PairedLatency) -> Option<String> {
    let (ratio, Interval { lower, upper }) = paired.slowdown(ALPHA)?;
    let more = |ratio: f64| match (ratio - 1.0) * 100.0 {
        // Ten times as long is told as such, not as 900 % more.
        more if more.abs() < 10.0 => format!("{more:.1}"),
        more => format!("{more:.0}"),
    };
    let less = |ratio: f64| more(2.0 - ratio);
    let times = |ratio: f64| format!("{ratio:.1}");
    Some(match Pace::of(paired) {
        Pace::Slower if ratio >= 2.0 => {
            format!("takes {} times as long ({} to {})", times(ratio), times(lower), times(upper))
        }
        Pace::Slower => {
            format!("is {} % slower ({} to {})", more(ratio), more(lower), more(upper))
        }
        Pace::Faster => {
            format!("is {} % faster ({} to {})", less(ratio), less(upper), less(lower))
        }
        Pace::Alike if paired.pairs() < LEAST => {
            format!("was timed in {} pairs, which is too early to say more", count(paired.pairs()))
        }
        Pace::Alike => "is not shown to be slower or faster".to_owned(),
    })
}

/// Whether the shadow has passed, and if not, why.
pub(crate) fn passing(agreed: &Agreed, compare: &Compare, verdict: Verdict) -> String {
    let least = percent(compare.agreement);
    if verdict == Verdict::Breached {
        return "has not passed: it fails more often than what clients get".to_owned();
    }
    let lower = agreed.at_all_times(ALPHA).lower;
    let pairs = if agreed.pairs < compare.min_pairs {
        Some(format!("{} of {} pairs", count(agreed.pairs), count(compare.min_pairs)))
    } else {
        None
    };
    let agreement = (lower < compare.agreement)
        .then(|| format!("agreement is surely {} % at least, not {least} %", percent(lower)));
    match [pairs, agreement].into_iter().flatten().reduce(|a, b| format!("{a}; {b}")) {
        Some(why) => format!("has not passed yet: {why}"),
        None => format!("has passed: at least {least} % agree, and it fails no more often"),
    }
}

#[cfg(test)]
mod tests {
    use policies::comparison::How;

    use super::*;

    fn tally(agreed: u64, pairs: u64, slowdown: f64) -> Tally {
        let mut tally = Tally { agreed: Agreed { agreed, pairs }, ..Tally::default() };
        for n in 0..pairs {
            let spread = 1.0 + 0.2 * ((n % 7) as f64 / 7.0 - 0.5);
            tally.end.add(0.1, 0.1 * slowdown * spread);
        }
        tally
    }

    #[test]
    fn what_was_found_reads_as_a_sentence() {
        let said = |agreed, pairs, slowdown| {
            headline("next", &tally(agreed, pairs, slowdown), Verdict::TooEarly)
        };
        assert_eq!(said(0, 0, 1.0), "no answer of next was compared yet");
        assert_eq!(
            said(4_189, 4_310, 1.135),
            "next agrees with what clients got in 97.2 % of 4,310 pairs (96.3 to 97.9); \
             it is 12 % slower (11 to 12)"
        );
        assert!(
            said(990, 1_000, 0.5).contains("; it is 51 % faster ("),
            "{}",
            said(990, 1_000, 0.5)
        );
        assert!(said(990, 1_000, 3.0).contains("; it takes 3.0 times as long (2.9 to 3.0)"));
        assert!(said(500, 500, 1.015).ends_with("; it is not shown to be slower or faster"));
        let early = said(5, 5, 3.0);
        assert!(early.ends_with("; it was timed in 5 pairs, which is too early to say more"));
        let failing = headline("next", &tally(5, 5, 1.0), Verdict::Breached);
        assert!(failing.ends_with("; it fails more often"), "{failing}");
        let mut none = Tally::default();
        none.void[0] = 12;
        let none = headline("next", &none, Verdict::TooEarly);
        assert_eq!(none, "none of 12 pairs of next could be compared");
    }

    #[test]
    fn what_it_takes_to_pass_is_said() {
        let compare = Compare {
            how: How::Status,
            answer_bytes: 1,
            agreement: 0.95,
            min_pairs: 1_000,
            samples: None,
        };
        let said = |agreed, pairs, verdict| passing(&Agreed { agreed, pairs }, &compare, verdict);
        assert_eq!(said(400, 400, Verdict::Held), "has not passed yet: 400 of 1,000 pairs");
        assert_eq!(
            said(9_000, 10_000, Verdict::Held),
            "has not passed yet: agreement is surely 89.0 % at least, not 95.0 %"
        );
        assert_eq!(
            said(9_990, 10_000, Verdict::TooEarly),
            "has passed: at least 95.0 % agree, and it fails no more often"
        );
        assert!(said(9_990, 10_000, Verdict::Breached).contains("fails more often"));
    }
}
