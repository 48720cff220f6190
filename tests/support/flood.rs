//! Very much feedback, and what must come of it: fresh answers, replays, duplicates, forged and expired
//! receipts, mixed.
//!
//! ```ignore
//! let flood = Flood { items: 20_000, each: 50, callers: 32 };
//! let told = flood.pour(&gateway).await;
//! assert_eq!(told, flood.expected());
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gateway::ids::RequestId;
use gateway::request::receipt::Receipt;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::Client;
use crate::gateway::Gateway;

/// How much is said, how many items a post has, and from how many connections.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Items.
    pub items: u64,
    /// Items of a post.
    pub each: u64,
    /// Posts at the same time.
    pub callers: u64,
}

/// What the answers said, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Items that were stored.
    pub stored: u64,
    /// Items that were there already.
    pub duplicates: u64,
    /// Forged receipts, and texts that are none.
    pub invalid: u64,
    /// Items that came too late.
    pub expired: u64,
    /// Posts that were answered 200.
    pub posts: u64,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Said for the first time.
    Fresh,
    /// The same as an item before.
    Again,
    /// Signed with another key.
    Forged,
    /// A receipt with one letter changed.
    Changed,
    /// Of a request of two days ago.
    Expired,
}

/// Items come in rounds of this many.
const ROUND: u64 = 20;
/// A day is how long feedback is taken by default.
const TWO_DAYS_MILLIS: u64 = 2 * 24 * 60 * 60 * 1000;

impl Kind {
    /// Of item `number`: 13 of 20 are fresh, 3 come again, 2 are forged, 1 is changed, 1 expired.
    fn of(number: u64) -> Self {
        match number % ROUND {
            0..13 => Self::Fresh,
            13..16 => Self::Again,
            16 | 17 => Self::Forged,
            18 => Self::Changed,
            _ => Self::Expired,
        }
    }
}

/// Who gives out receipts, and who forges them.
struct Signer {
    key: [u8; 32],
    key_id: String,
    now_millis: u64,
}

impl Signer {
    fn receipt(&self, number: u64, kind: Kind) -> String {
        // What comes again was said earlier in this round.
        let of = if kind == Kind::Again { number - 13 } else { number };
        let at_millis = match kind {
            Kind::Expired => self.now_millis - TWO_DAYS_MILLIS,
            _ => self.now_millis,
        };
        let random = of.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let receipt = Receipt {
            request_id: RequestId::new(at_millis * 1_000_000 + of % 1_000_000, random).0,
            at_millis,
            unit_hash: random,
            revision: 1,
            eligible: true,
            key_id: self.key_id.clone(),
            experiment: "int8".into(),
            variant: if of.is_multiple_of(2) { "stable" } else { "canary" }.into(),
        };
        let key = if kind == Kind::Forged { [7; 32] } else { self.key };
        let text = receipt.sign(&key);
        if kind != Kind::Changed {
            return text;
        }
        let at = 30 + usize::try_from(of % 20).unwrap();
        let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{other}{}", &text[..at], &text[at + 1..])
    }

    fn item(&self, number: u64) -> Value {
        let kind = Kind::of(number);
        json!({
            "receipt": self.receipt(number, kind),
            "metric": "thumbs_up",
            "value": !number.is_multiple_of(3),
        })
    }
}

impl Flood {
    /// What the answers have to say.
    #[must_use]
    pub fn expected(&self) -> Sums {
        let mut sums = Sums { posts: self.items.div_ceil(self.each), ..Sums::default() };
        for number in 0..self.items {
            match Kind::of(number) {
                Kind::Fresh => sums.stored += 1,
                Kind::Again => sums.duplicates += 1,
                Kind::Forged | Kind::Changed => sums.invalid += 1,
                Kind::Expired => sums.expired += 1,
            }
        }
        sums
    }

    /// Says all of it to a gateway that has the experiment `int8`: what the answers said.
    ///
    /// # Panics
    /// If a post is not answered with 200.
    pub async fn pour(self, gateway: &Gateway) -> Sums {
        let installation = gateway.running.as_ref().unwrap().changes().installation();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let signer = Arc::new(Signer {
            key: installation.receipt_key,
            key_id: key_id(&gateway.client_key),
            now_millis: u64::try_from(now.as_millis()).unwrap(),
        });
        let next = Arc::new(AtomicU64::new(0));
        let mut callers = JoinSet::new();
        for _ in 0..self.callers {
            // A connection of its own, so that none waits for another.
            let client = gateway.client();
            let (signer, next) = (Arc::clone(&signer), Arc::clone(&next));
            callers.spawn(async move { self.call(&client, &signer, &next).await });
        }
        let mut sums = Sums::default();
        while let Some(told) = callers.join_next().await {
            let told = told.unwrap();
            sums.stored += told.stored;
            sums.duplicates += told.duplicates;
            sums.invalid += told.invalid;
            sums.expired += told.expired;
            sums.posts += told.posts;
        }
        sums
    }

    async fn call(self, client: &Client, signer: &Signer, next: &AtomicU64) -> Sums {
        let mut sums = Sums::default();
        loop {
            let first = next.fetch_add(self.each, Relaxed);
            if first >= self.items {
                return sums;
            }
            let last = (first + self.each).min(self.items);
            let body = if self.each == 1 {
                signer.item(first)
            } else {
                (first..last).map(|number| signer.item(number)).collect()
            };
            let answer = client.post("/feedback", body.to_string()).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let told = answer.json();
            sums.posts += 1;
            sums.stored += told["stored"].as_u64().unwrap();
            sums.duplicates += told["duplicates"].as_u64().unwrap();
            for rejected in told["rejected"].as_array().unwrap() {
                match rejected["code"].as_str().unwrap() {
                    "invalid" => sums.invalid += 1,
                    "expired" => sums.expired += 1,
                    other => panic!("{other}: {rejected}"),
                }
            }
        }
    }
}

/// The public id in a key.
fn key_id(secret: &str) -> String {
    secret.split('_').nth(1).unwrap().to_owned()
}
