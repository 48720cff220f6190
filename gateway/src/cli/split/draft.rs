//! The arithmetic of a split that is being drafted, and what is said of it. Shares are in basis points:
//! whole buckets, 10,000 in all. The same arithmetic deals the buckets when the change is made.

use routing::Allocation;
use serde_json::Value;

use crate::cli::{reading, words};

/// All buckets.
const ALL: u16 = routing::BUCKETS;

/// A split in force, and what somebody would make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    /// Names of the variants, control first.
    pub(super) names: Vec<String>,
    /// Shares in force.
    pub(super) live: Vec<u16>,
    /// Shares as drafted.
    pub(super) shares: Vec<u16>,
    /// The edge that moves stands after this variant: it trades between it and the next.
    pub(super) edge: usize,
}

/// Where an edge goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slide {
    /// By so many basis points to the right, or to the left if below 0.
    By(i32),
    /// As far left as it goes: the variant before it gets nothing.
    Start,
    /// As far right as it goes.
    End,
}

/// What would happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Preview {
    /// Buckets that change hands.
    pub(super) moved: u16,
    pub(super) from: Vec<String>,
    pub(super) to: Vec<String>,
    /// Not control, and nobody leaves them.
    pub(super) kept: Vec<String>,
}

impl Draft {
    /// The split of `experiment` as the API shows it; nothing if there is nothing to move.
    pub(super) fn of(experiment: &Value) -> Option<Self> {
        let variants = reading::variants(experiment);
        let names: Vec<String> = variants.iter().map(|(name, _)| (*name).to_owned()).collect();
        let shares = variants.iter().map(|(_, of)| points(reading::number(of, "share")? * 100.0));
        let live: Vec<u16> = shares.collect::<Option<_>>()?;
        let sum: u32 = live.iter().copied().map(u32::from).sum();
        if names.len() < 2 || sum != u32::from(ALL) {
            return None;
        }
        // Where there is something to trade.
        let edge = live.windows(2).position(|two| two[0] + two[1] > 0).unwrap_or(0);
        Some(Self { names, shares: live.clone(), live, edge })
    }

    /// Whether it differs from what is in force.
    pub(super) fn is_changed(&self) -> bool {
        self.shares != self.live
    }

    /// Moves the edge: what one of its neighbours loses the other gets.
    pub(super) fn slide(&mut self, slide: Slide) {
        let (left, right) = (self.shares[self.edge], self.shares[self.edge + 1]);
        let both = left + right;
        let now = match slide {
            Slide::Start => 0,
            Slide::End => both,
            Slide::By(by) => {
                let moved = (i32::from(left) + by).clamp(0, i32::from(both));
                u16::try_from(moved).unwrap_or(left)
            }
        };
        self.shares[self.edge] = now;
        self.shares[self.edge + 1] = both - now;
    }

    /// The variant that a typed number is for: the one after the edge, which is never control.
    pub(super) fn typed_for(&self) -> &str {
        &self.names[self.edge + 1]
    }

    /// Gives that variant a share. It is taken from control or given to it; there is no more to take
    /// than control has.
    pub(super) fn give(&mut self, points: u16) {
        let at = self.edge + 1;
        let both = self.shares[0] + self.shares[at];
        self.shares[at] = points.min(both);
        self.shares[0] = both - self.shares[at];
    }

    /// The next edge, or the one before; after the last comes the first.
    pub(super) fn turn(&mut self, forward: bool) {
        let edges = self.names.len() - 1;
        self.edge = (self.edge + if forward { 1 } else { edges - 1 }) % edges;
    }

    /// Starts from `live`, keeping what was drafted: for somebody who was overtaken. False if it cannot
    /// be kept, because the variants are others now.
    pub(super) fn rebase(&mut self, live: &Self) -> bool {
        if self.names != live.names {
            return false;
        }
        self.live.clone_from(&live.live);
        true
    }

    /// Weights that the gateway makes exactly these shares of: percent.
    pub(super) fn weights(&self) -> Vec<(String, f64)> {
        let percent = self.shares.iter().map(|points| f64::from(*points) / 100.0);
        self.names.iter().cloned().zip(percent).collect()
    }

    /// What would happen.
    pub(super) fn preview(&self) -> Preview {
        // Dealt anew with the same shares: how many buckets move depends on nothing else.
        let dealt = Allocation::initial(&self.live).and_then(|now| now.retarget(&self.shares));
        let mut preview = Preview {
            moved: dealt.map_or(0, |dealt| dealt.moved),
            from: Vec::new(),
            to: Vec::new(),
            kept: Vec::new(),
        };
        let shares = self.live.iter().zip(&self.shares);
        for (at, (name, (before, after))) in self.names.iter().zip(shares).enumerate() {
            if after < before {
                preview.from.push(name.clone());
            }
            if after > before {
                preview.to.push(name.clone());
            }
            // Who has nobody keeps nobody.
            if after >= before && at > 0 && *before > 0 {
                preview.kept.push(name.clone());
            }
        }
        preview
    }
}

/// What the experiment keeps together, one of them, from the first place that its unit is looked for.
pub(super) fn noun(unit: &[&str]) -> &'static str {
    let first = unit.first().copied().unwrap_or("request").to_lowercase();
    let is = |words: &[&str]| words.iter().any(|word| first.contains(word));
    match first.split(':').next() {
        Some("request") => "request",
        Some("key") => "key",
        Some("address") => "address",
        _ if is(&["tenant", "org", "account", "customer", "team"]) => "tenant",
        _ if is(&["conversation", "session", "thread", "chat"]) => "conversation",
        _ => "user",
    }
}

/// The same, many of them.
pub(crate) fn nouns(unit: &[&str]) -> &'static str {
    match noun(unit) {
        "request" => "requests",
        "key" => "keys",
        "address" => "addresses",
        "tenant" => "tenants",
        "conversation" => "conversations",
        _ => "users",
    }
}

impl Preview {
    /// What would happen, in two or three sentences; `load` is requests a second of the experiment.
    pub(super) fn words(&self, noun: &str, load: Option<f64>) -> String {
        let mut text = format!(
            "About {} of 10,000 {noun} buckets move, from {} to {}.",
            words::count(self.moved.into()),
            words::listed(&self.from, "and"),
            words::listed(&self.to, "and"),
        );
        if !self.kept.is_empty() {
            text.push_str(&format!(" None of them out of {}.", words::listed(&self.kept, "or")));
        }
        let sides = load.map(|load| load * f64::from(self.moved) / f64::from(ALL));
        match sides {
            Some(rate) if rate >= 1.0 => text.push_str(&format!(
                " At this load about {} requests/s change sides.",
                words::about(rate)
            )),
            Some(rate) if rate > 0.0 => {
                text.push_str(" At this load less than 1 request/s changes sides.");
            }
            Some(_) | None => {}
        }
        text
    }
}

/// A share in percent, as somebody types it, in basis points.
pub(super) fn typed(text: &str) -> Option<u16> {
    let text = text.trim().trim_end_matches('%').trim_end().replace(',', ".");
    let is_plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let percent: f64 = text.parse().ok().filter(|_| is_plain)?;
    points(percent)
}

/// Percent in basis points; nothing if there are not so many.
fn points(percent: f64) -> Option<u16> {
    let points = (percent * 100.0).round();
    if !(0.0..=f64::from(ALL)).contains(&points) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 10,000")]
    let points = points as u16;
    Some(points)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use routing::shares_of_weights;
    use serde_json::json;

    use super::*;

    fn draft(shares: &[u16]) -> Draft {
        let names = ["stable", "canary", "next", "more", "last"];
        Draft {
            names: names.iter().take(shares.len()).map(|name| (*name).to_owned()).collect(),
            live: shares.to_vec(),
            shares: shares.to_vec(),
            edge: 0,
        }
    }

    #[test]
    fn an_edge_trades_between_its_neighbours_and_nobody_else() {
        let mut of = draft(&[8500, 1000, 500]);
        of.slide(Slide::By(-1000));
        assert_eq!(of.shares, [7500, 2000, 500]);
        of.turn(true);
        of.slide(Slide::By(10));
        assert_eq!(of.shares, [7500, 2010, 490]);
        of.slide(Slide::By(99_999));
        assert_eq!(of.shares, [7500, 2500, 0], "it stops at the next edge");
        of.slide(Slide::Start);
        assert_eq!(of.shares, [7500, 0, 2500]);
        of.slide(Slide::End);
        assert_eq!(of.shares, [7500, 2500, 0]);
        of.turn(true);
        assert_eq!(of.edge, 0, "after the last comes the first");
        of.turn(false);
        assert_eq!(of.edge, 1);
    }

    #[test]
    fn a_typed_share_takes_from_control_and_gives_to_it_and_from_nobody_else() {
        let mut of = draft(&[8500, 1000, 500]);
        of.give(2000);
        assert_eq!(of.shares, [7500, 2000, 500]);
        of.turn(true);
        of.give(0);
        assert_eq!((of.typed_for(), &of.shares[..]), ("next", &[8000, 2000, 0][..]));
        of.give(10_000);
        assert_eq!(of.shares, [0, 2000, 8000], "no more than there is");
    }

    #[test]
    fn what_was_typed_is_a_share_or_nothing() {
        let read = ["20", "20 %", "0,5", "33.33", " 7 ", "0", "100"].map(typed);
        assert_eq!(read.map(Option::unwrap), [2000, 2000, 50, 3333, 700, 0, 10_000]);
        for wrong in ["", ".", "abc", "-1", "101", "1e2", "NaN", "inf", "+5"] {
            assert_eq!(typed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_preview_says_how_many_move_from_where_to_where_and_who_stays() {
        let mut of = draft(&[8500, 1000, 500]);
        of.slide(Slide::By(-1000));
        assert_eq!(
            of.preview().words("user", Some(118.0)),
            "About 1,000 of 10,000 user buckets move, from stable to canary. None of them out of canary or \
             next. At this load about 12 requests/s change sides."
        );
        let mut of = draft(&[9000, 1000]);
        of.slide(Slide::By(500));
        assert_eq!(
            of.preview().words("request", Some(3.0)),
            "About 500 of 10,000 request buckets move, from canary to stable. \
             At this load less than 1 request/s changes sides."
        );
        assert!(of.preview().words("user", None).ends_with("from canary to stable."));
    }

    #[test]
    fn the_unit_gives_the_noun() {
        let nouns = [
            &["header:x-user-id", "key"][..],
            &["request"],
            &[],
            &["header:x-tenant"],
            &["body:conversation_id"],
            &["key"],
            &["address"],
            &["jwt:sub"],
        ]
        .map(noun);
        assert_eq!(
            nouns,
            ["user", "request", "request", "tenant", "conversation", "key", "address", "user"]
        );
    }

    #[test]
    fn what_the_api_shows_can_be_drafted_control_first() {
        let of = |variants: Value| {
            Draft::of(
                &json!({ "control": "stable", "order": ["canary", "stable"], "variants": variants }),
            )
        };
        let shown = of(json!({ "canary": { "share": 0.3333 }, "stable": { "share": 0.6667 } }));
        let shown = shown.unwrap();
        assert_eq!((&shown.names[0][..], &shown.live[..]), ("stable", &[6667, 3333][..]));
        let shown =
            of(json!({ "stable": { "share": 0.0 }, "a": { "share": 0.0 }, "b": { "share": 1.0 } }));
        assert_eq!(shown.unwrap().edge, 1, "where there is something to trade");
        assert_eq!(
            of(json!({ "stable": { "share": 1.0 } })),
            None,
            "there is nobody to trade with"
        );
        assert_eq!(of(json!({ "stable": { "share": 0.5 }, "canary": { "share": 0.1 } })), None);
    }

    /// Shares of two to five variants.
    fn shares(count: usize) -> impl Strategy<Value = Vec<u16>> {
        prop::collection::vec(0.0..100.0_f64, count).prop_filter_map("nobody serves", |weights| {
            let weights: Vec<f64> = weights.iter().map(|weight| weight.floor()).collect();
            shares_of_weights(&weights).ok()
        })
    }

    proptest! {
        /// However the buckets were dealt before, as many move as the preview says.
        #[test]
        fn as_many_buckets_move_as_the_preview_says(
            history in (2_usize..=5).prop_flat_map(|count| prop::collection::vec(shares(count), 3..6)),
        ) {
            let mut dealt = Allocation::initial(&history[0]).unwrap();
            for next in &history[1..] {
                let mut draft = draft(&dealt.shares());
                draft.shares.clone_from(next);
                let moved = dealt.retarget(next).unwrap();
                prop_assert_eq!(draft.preview().moved, moved.moved);
                dealt = moved.allocation;
            }
        }

        /// What is sent becomes exactly what was drafted.
        #[test]
        fn the_weights_that_are_sent_are_the_shares_that_were_drafted(
            shares in (2_usize..=5).prop_flat_map(shares),
        ) {
            let weights: Vec<f64> = draft(&shares).weights().into_iter().map(|(_, w)| w).collect();
            prop_assert_eq!(shares_of_weights(&weights).unwrap(), shares);
        }

        /// Whatever is done to a draft, it deals all buckets.
        #[test]
        fn a_draft_always_deals_every_bucket(
            start in (2_usize..=5).prop_flat_map(shares),
            moves in prop::collection::vec((0..5_u8, -12_000..12_000_i32), 0..20),
        ) {
            let mut draft = draft(&start);
            for (what, by) in moves {
                match what {
                    0 => draft.slide(Slide::By(by)),
                    1 => draft.slide(Slide::Start),
                    2 => draft.slide(Slide::End),
                    3 => draft.turn(by > 0),
                    _ => draft.give(u16::try_from(by.unsigned_abs() % 10_001).unwrap()),
                }
                prop_assert_eq!(draft.shares.iter().copied().map(u32::from).sum::<u32>(), 10_000);
            }
        }
    }
}
