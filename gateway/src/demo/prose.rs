//! What the demo's models say: words that followed one another in a short text, dealt anew.
//!
//! A chain of word pairs is about the smallest thing that produces text word by word, as a language
//! model does: each word is drawn given the last, so answers differ, have a length that is not known
//! before, and end when a sentence does.

use std::collections::BTreeMap;

const TEXT: &str = "\
A weir is a low wall across a river. The wall splits the river and measures the flow. Most of the \
water takes the old channel and a small part of it takes the new one. If the new channel holds, the \
keeper raises the gate a little and waits. If it does not hold, the keeper lowers the gate and the \
river runs as before. A good keeper moves the gate slowly and writes down what the water does. The \
flow over a weir depends on the head of water above it. The head is measured upstream, where the \
river is calm. A small change of the gate moves a small part of the river, and the rest of the river \
runs as before. Water that took the old channel stays in the old channel until the keeper moves the \
gate. Nobody downstream needs to know which channel the water took. The keeper measures both channels \
and waits until the difference is larger than the noise of the river.";

/// Words after which an answer ends even in the middle of a sentence.
const LONGEST: usize = 64;

/// Which words follow which.
#[derive(Debug)]
pub(crate) struct Prose {
    follows: BTreeMap<&'static str, Vec<&'static str>>,
    first: Vec<&'static str>,
}

impl Prose {
    /// Reads the text.
    pub(crate) fn new() -> Self {
        let words: Vec<&str> = TEXT.split(' ').collect();
        let mut follows: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut first = vec![words[0]];
        for pair in words.windows(2) {
            if pair[0].ends_with('.') {
                first.push(pair[1]);
            } else {
                follows.entry(pair[0]).or_default().push(pair[1]);
            }
        }
        Self { follows, first }
    }

    /// An answer in pieces, a word each: one to three sentences.
    pub(crate) fn answer(&self, random: &mut fastrand::Rng) -> Vec<String> {
        let mut pieces: Vec<String> = Vec::new();
        for _ in 0..random.usize(1..=3) {
            let mut word = random.choice(&self.first).copied();
            while let Some(this) = word {
                pieces.push(if pieces.is_empty() { this.to_owned() } else { format!(" {this}") });
                if pieces.len() == LONGEST {
                    return pieces;
                }
                word = self.follows.get(this).and_then(|next| random.choice(next)).copied();
            }
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_sentences_of_bounded_length() {
        let prose = Prose::new();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..500 {
            let pieces = prose.answer(&mut random);
            let text = pieces.concat();
            assert!((1..=LONGEST).contains(&pieces.len()), "{text}");
            assert!(pieces.len() == LONGEST || text.ends_with('.'), "{text}");
            assert_eq!(text.split(' ').count(), pieces.len(), "{text}");
        }
    }
}
