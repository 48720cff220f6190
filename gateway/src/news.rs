//! What happened to the gateway lately, for those who watch it: revisions, decisions of ramps,
//! reloads, keys. The live stream tells it; the audit log is what proves it.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;

use crate::clock;

/// How long news are kept, microseconds: as long as the live stream's history.
const KEPT_MICROS: i64 = 15 * 60 * 1_000_000;

/// Most news that are kept.
const MOST: usize = 500;

/// What a piece of news is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An experiment has a new revision.
    Revision,
    /// A ramp decided something.
    Ramp,
    /// The file was read again, or was refused.
    Reload,
    /// A key was made or revoked.
    Key,
    /// The gateway is taken out of service, or back.
    Drain,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct News {
    /// What it is about.
    pub kind: Kind,
    /// What was done, as the audit log has it where it has it: `weights.set`, `ramp.widen`.
    pub action: String,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// The same in whole seconds since 1970.
    pub at_unix: i64,
    /// Experiment it happened to.
    pub experiment: Option<String>,
    /// Revision that is in force since.
    pub revision: Option<u64>,
    /// Who did it: name of a key, `file` or `ramp`.
    pub by: String,
    /// Why, if somebody said so.
    pub reason: Option<String>,
    /// What changed, as one clause: `canary 5 → 20 %`.
    pub words: String,
}

impl News {
    /// Something that happens now, to no experiment.
    pub fn now(kind: Kind, action: impl Into<String>, by: &str, words: String) -> Self {
        Self::at(clock::unix_micros(), kind, action, by, words)
    }

    /// Something that happened at `at`, microseconds since 1970.
    pub fn at(at: i64, kind: Kind, action: impl Into<String>, by: &str, words: String) -> Self {
        Self {
            kind,
            action: action.into(),
            at: clock::rfc3339_micros(at),
            at_unix: at.div_euclid(1_000_000),
            experiment: None,
            revision: None,
            by: by.to_owned(),
            reason: None,
            words,
        }
    }
}

/// The latest news, in the order in which they were told.
#[derive(Debug, Default)]
pub struct Board(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    // Time it was told, microseconds since 1970.
    news: VecDeque<(i64, Arc<News>)>,
    told: u64,
}

impl Board {
    /// Tells something to everybody who watches.
    pub fn tell(&self, news: News) {
        let now = clock::unix_micros();
        let mut kept = self.0.lock();
        kept.news.push_back((now, Arc::new(news)));
        kept.told += 1;
        while kept.news.len() > MOST
            || kept.news.front().is_some_and(|(at, _)| now - at > KEPT_MICROS)
        {
            kept.news.pop_front();
        }
    }

    /// What was told after the first `seen`, and how many there were.
    pub fn after(&self, seen: u64) -> (Vec<Arc<News>>, u64) {
        let kept = self.0.lock();
        let new = usize::try_from(kept.told.saturating_sub(seen)).unwrap_or(usize::MAX);
        let from = kept.news.len().saturating_sub(new);
        (kept.news.iter().skip(from).map(|(_, news)| Arc::clone(news)).collect(), kept.told)
    }

    /// What was told from `since` on (seconds since 1970), and before the news after the first `seen`.
    pub fn since(&self, since: i64, seen: u64) -> Vec<Arc<News>> {
        let kept = self.0.lock();
        let later = usize::try_from(kept.told.saturating_sub(seen)).unwrap_or(usize::MAX);
        let all = kept.news.iter().take(kept.news.len().saturating_sub(later));
        all.filter(|(at, _)| at.div_euclid(1_000_000) >= since)
            .map(|(_, news)| Arc::clone(news))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(words: &str) -> News {
        News::now(Kind::Reload, "config.reload", "file", words.to_owned())
    }

    #[test]
    fn news_are_told_once_in_order_and_the_oldest_go_first() {
        let board = Board::default();
        board.tell(news("a"));
        let (first, seen) = board.after(0);
        assert_eq!((first.len(), seen), (1, 1));
        for number in 0..MOST {
            board.tell(news(&number.to_string()));
        }
        let (later, all) = board.after(seen);
        assert_eq!((later.len(), all), (MOST, MOST as u64 + 1));
        assert_eq!(later[0].words, "0", "the first was pushed out");
        assert_eq!(board.after(all).0.len(), 0);
        assert_eq!(board.since(0, seen).len(), 0, "what comes in frames is not history");
        assert_eq!(board.since(0, all).len(), MOST);
        assert_eq!(board.since(clock::unix_seconds() + 10, all).len(), 0);
    }
}
