//! What webhooks are still to be told, as it is kept.

use std::sync::Arc;

use crate::webhooks::{Event, Events};

/// A webhook, as far as the store must know whom to tell what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Its name.
    pub name: Arc<str>,
    /// What it asks for.
    pub events: Events,
    /// Whether it is told in the form of Alertmanager.
    pub takes_alerts: bool,
}

/// Most messages that wait for one webhook; the oldest is given up for one more.
pub const MOST_WAITING: u32 = 2_000;

/// So many of those that were given up stay to be looked at, for each webhook.
pub const MOST_DEAD: u32 = 100;

/// A message to deliver.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The audit entry that it tells of.
    pub audit: u64,
    /// What happened.
    pub event: Event,
    /// JSON: the event, or a list of alerts.
    pub body: String,
    /// Whether `body` is a list of alerts.
    pub is_alerts: bool,
    /// When it happened, microseconds since 1970.
    pub at: i64,
    /// Tries that failed.
    pub tries: u32,
    /// Not before, microseconds since 1970.
    pub due: i64,
    /// Whether the receiver refused this very message.
    pub refused: bool,
    /// What the last try met.
    pub why: Option<String>,
}

/// How it stands with one webhook.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outbox {
    /// The message to deliver next; it may not be due yet. Nothing: none waits.
    pub next: Option<Message>,
    /// Messages that wait.
    pub pending: u64,
    /// When the oldest of them happened, microseconds since 1970.
    pub oldest: Option<i64>,
    /// Messages that were given up and are kept.
    pub dead: u64,
}

/// What became of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The receiver took it.
    Delivered,
    /// Again, not before `due` (microseconds since 1970). `refused`: others need not wait for it.
    Again {
        /// When.
        due: i64,
        /// Whether the receiver refused this very message.
        refused: bool,
        /// What it met.
        why: String,
    },
    /// It is given up.
    Dead {
        /// When, microseconds since 1970.
        at: i64,
        /// What the last try met.
        why: String,
    },
}
