//! One webhook's task: the next message, a try, what became of it; again and again.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::alert::{self, AGAIN};
use super::hook::Hook;
use super::{Answer, Webhooks, message, post};
use crate::clock;
use crate::config::plan::Webhook;
use crate::store::outbox::{MOST_WAITING, Message, Outbox, Tried};
use crate::telemetry::events;

/// The first wait after a failure; each is twice as long as the one before, up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);
/// The store is asked this often although nobody said that it has something: a commit in doubt may
/// have landed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long to wait for a store that is away.
const STORE_AWAY: Duration = Duration::from_secs(1);

/// The wait after `tries` failures: doubled each time and bounded, less up to a half by chance
/// (`random`, from 0 to 1), so that many gateways do not come back at the same moment.
fn wait(tries: u32, random: f64) -> Duration {
    let doubled =
        FIRST.saturating_mul(1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(LONGEST).mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Webhooks {
    /// Delivers to one webhook until it is no longer in the file.
    pub(super) async fn deliver_to(&self, hook: &Arc<Hook>) {
        let mut told = self.changes.told();
        // At once: the receiver may have been told by a process before this one.
        let mut remind_at = clock::now();
        while let Some(webhook) = self.planned(&hook.name) {
            told.mark_unchanged();
            let Some(outbox) = self.look(hook).await else {
                tokio::time::sleep(STORE_AWAY).await;
                continue;
            };
            let mut until = LOOK_AGAIN;
            let mut is_away = false;
            if let Some(next) = outbox.next {
                // What is due later than any wait was written by a clock that has jumped since.
                let left = next.due.saturating_sub(clock::unix_micros());
                if left <= 0 || left > micros(LONGEST) {
                    self.try_one(&webhook, hook, next).await;
                    continue;
                }
                until = until.min(Duration::from_micros(u64::try_from(left).unwrap_or(0)));
                is_away = !next.refused;
            }
            // A receiver that is away is not reminded beside what waits for it.
            if webhook.takes_alerts && !is_away {
                if clock::now() >= remind_at {
                    self.remind(&webhook, hook).await;
                    remind_at = clock::now() + AGAIN;
                }
                until = until.min(remind_at.saturating_duration_since(clock::now()));
            }
            tokio::select! {
                () = tokio::time::sleep(until) => {}
                () = hook.hurried() => {}
                _ = told.changed() => {}
            }
        }
    }

    /// What the store has for it; nothing if the store is away.
    async fn look(&self, hook: &Hook) -> Option<Outbox> {
        let (name, now) = (Arc::clone(&hook.name), clock::unix_micros());
        let mut outbox = self.store.call(move |store| store.outbox(&name, now)).await.ok()?;
        if outbox.pending > u64::from(MOST_WAITING) {
            let name = Arc::clone(&hook.name);
            let looked = self.store.call(move |store| {
                let cut = store.cut_messages(&name, now)?;
                Ok((cut, store.outbox(&name, now)?))
            });
            let (cut, after) = looked.await.ok()?;
            let why = "too many messages wait";
            events::webhook_gave_up(&hook.name, "", &format!("{cut} messages"), 0, why);
            hook.gave_up(cut);
            outbox = after;
        }
        hook.saw(&outbox);
        Some(outbox)
    }

    async fn try_one(&self, webhook: &Webhook, hook: &Hook, message: Message) {
        let id = message::id(&self.changes.installation().instance, message.audit, message.event);
        let tried = match body(webhook, &message) {
            None => {
                let why = "made for another format than the webhook has now".to_owned();
                Tried::Dead { at: clock::unix_micros(), why }
            }
            Some(body) => {
                let answer = post::post(webhook, &id, body.into(), clock::unix_seconds()).await;
                hook.tried(&answer);
                became(webhook, &message, &answer, clock::unix_micros(), fastrand::f64())
            }
        };
        if let Tried::Dead { why, .. } = &tried {
            let (what, tries) = (message.event.as_str(), message.tries + 1);
            events::webhook_gave_up(&webhook.name, &id, what, tries, why);
            hook.gave_up(1);
        }
        // The receiver has it: whatever else happens, it is not to get it again and again.
        loop {
            let (name, of, tried) =
                (Arc::clone(&webhook.name), (message.audit, message.event), tried.clone());
            let kept = self.store.call(move |store| store.tried_message(&name, of, &tried)).await;
            if kept.is_ok() {
                return;
            }
            tokio::time::sleep(STORE_AWAY).await;
        }
    }

    /// Sends everything that lasts once more. What fails is tried at the next time.
    async fn remind(&self, webhook: &Webhook, hook: &Hook) {
        let Ok(lasting) = self.store.call(|store| store.lasting()).await else { return };
        let asked = lasting.iter().filter(|alert| webhook.events.has(alert.event));
        let alerts: Vec<Value> =
            asked.map(|lasts| alert::entry(&lasts.shown, lasts.began, None)).collect();
        if alerts.is_empty() {
            return;
        }
        let mut random = [0; 32];
        if crate::ids::random(&mut random).is_err() {
            return;
        }
        let body = alert::body(&alerts.into(), &webhook.labels, clock::unix_micros());
        let (id, now) = (message::id_of_test(random), clock::unix_seconds());
        hook.tried(&post::post(webhook, &id, body.to_string().into(), now).await);
    }
}

/// A message as its receiver gets it; nothing if it was made for a webhook of the other format.
fn body(webhook: &Webhook, message: &Message) -> Option<String> {
    if webhook.takes_alerts != message.is_alerts {
        return None;
    }
    if !message.is_alerts {
        return Some(message.body.clone());
    }
    let alerts: Value = serde_json::from_str(&message.body).ok()?;
    Some(alert::body(&alerts, &webhook.labels, clock::unix_micros()).to_string())
}

/// What becomes of a message that met `answer` at `now` (microseconds since 1970).
fn became(webhook: &Webhook, message: &Message, answer: &Answer, now: i64, random: f64) -> Tried {
    let why = answer.why();
    if matches!(answer, Answer::Taken(_)) {
        return Tried::Delivered;
    }
    // Asked after a try, so that one is made however long the process was away.
    if now.saturating_sub(message.at) >= micros(webhook.give_up_after) {
        return Tried::Dead { at: now, why };
    }
    let asked = if let Answer::NotNow(_, Some(after)) = answer { *after } else { Duration::ZERO };
    let asked = asked.min(LONGEST);
    let due = now.saturating_add(micros(wait(message.tries + 1, random).max(asked)));
    Tried::Again { due, refused: matches!(answer, Answer::Refused(_)), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_a_message_follows_from_the_answer_and_its_age() {
        let webhook = Webhook {
            name: "ops".into(),
            url: crate::config::plan::WebhookUrl {
                endpoint: crate::config::plan::Endpoint {
                    scheme: crate::config::plan::Scheme::Http,
                    host: "a".into(),
                    port: 80,
                },
                authority: http::HeaderValue::from_static("a"),
                target: http::uri::PathAndQuery::from_static("/"),
            },
            events: Default::default(),
            secrets: Vec::new(),
            takes_alerts: false,
            labels: Vec::new(),
            credential: None,
            tls: None,
            allow_private: false,
            timeout: Duration::from_secs(1),
            give_up_after: Duration::from_secs(60),
        };
        let message = Message {
            audit: 1,
            event: super::super::Event::RampHold,
            body: "{}".into(),
            is_alerts: false,
            at: 0,
            tries: 0,
            due: 0,
            refused: false,
            why: None,
        };
        let of = |status: u16, after: Option<u64>| {
            let status = http::StatusCode::from_u16(status).unwrap();
            Answer::NotNow(status, after.map(Duration::from_secs))
        };
        let due = |answer: &Answer, now| match became(&webhook, &message, answer, now, 0.0) {
            Tried::Again { due, refused, .. } => Some((due - now, refused)),
            Tried::Delivered | Tried::Dead { .. } => None,
        };
        let second = 1_000_000;
        assert_eq!(due(&of(503, None), second), Some((second, false)));
        assert_eq!(due(&of(429, Some(30)), second), Some((30 * second, false)), "as it asks");
        assert_eq!(due(&of(429, Some(86_400)), second), Some((300 * second, false)));
        let refused = Answer::Refused(http::StatusCode::BAD_REQUEST);
        assert_eq!(due(&refused, second), Some((second, true)));
        assert_eq!(due(&of(503, None), 59 * second), Some((second, false)));
        let old = became(&webhook, &message, &of(503, None), 60 * second, 0.0);
        assert_eq!(old, Tried::Dead { at: 60 * second, why: "answered 503".into() });
        let taken = Answer::Taken(http::StatusCode::ACCEPTED);
        assert_eq!(became(&webhook, &message, &taken, 90 * second, 0.0), Tried::Delivered);
    }

    #[test]
    fn waits_double_up_to_five_minutes_and_chance_takes_off_a_half_at_most() {
        let seconds = |tries, random| wait(tries, random).as_secs_f64();
        assert_eq!([1, 2, 3, 4, 9].map(|tries| seconds(tries, 0.0)), [1.0, 2.0, 4.0, 8.0, 256.0]);
        for tries in [10, 33, 100, u32::MAX] {
            assert_eq!(seconds(tries, 0.0), 300.0, "{tries}");
            assert_eq!(seconds(tries, 1.0), 150.0, "{tries}");
        }
        assert_eq!(seconds(0, 0.0), 1.0);
    }
}
