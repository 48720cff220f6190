//! Decisions and alarms, told to receivers outside: signed JSON, or alerts for Alertmanager.
//!
//! ```text
//! audit entry + messages (one transaction) -> outbox -> one task a webhook -> POST -> gone from the outbox
//! ```
//!
//! What is told stands in the audit log, and its messages are stored in the transaction that stores
//! the entry (`store/sqlite/outbox.rs`): a decision that is kept is told, however often the process is
//! killed in between. Nothing here is near a request: tasks run on the control runtime, each waits
//! for its own receiver only, and they touch the store through its queue.
//!
//! At least once: a receiver that took a message which we could not note as taken gets it again, with
//! the same id. In order, as long as the receiver is there; a message that it refuses by itself steps
//! aside.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::change::Changes;
use crate::clock;
use crate::config::plan::{Plan, Webhook};
use crate::live::Actor;
use crate::store::thread::StoreHandle;
use crate::store::{AuditRow, StoreError};
use crate::telemetry::events;

pub mod event;
pub mod message;
pub mod alert;
pub mod sign;
pub mod post;
mod deliver;
pub mod hook;

pub use event::{Event, Events};
pub use hook::Hook;
pub use post::Answer;

/// How often the file in force is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Every webhook of the file in force, and who delivers to it.
pub struct Webhooks {
    changes: Arc<Changes>,
    store: StoreHandle,
    hooks: Mutex<BTreeMap<Arc<str>, Arc<Hook>>>,
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhooks").finish_non_exhaustive()
    }
}

/// Why a test was not sent.
#[derive(Debug, thiserror::Error)]
pub enum TestFault {
    /// There is no such webhook.
    #[error("webhook {0:?} does not exist")]
    Missing(String),
    /// That somebody asked for it could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A test that was sent.
#[derive(Clone, Debug)]
pub struct Tested {
    /// Id of its message.
    pub id: String,
    /// How it ended.
    pub answer: Answer,
    /// How long it took.
    pub took: Duration,
}

impl Webhooks {
    /// For the file in force.
    pub fn new(changes: Arc<Changes>, store: StoreHandle) -> Arc<Self> {
        let webhooks = Self { changes, store, hooks: Mutex::default() };
        webhooks.adopt(&webhooks.changes.view().plan);
        Arc::new(webhooks)
    }

    /// Every webhook, in the order of the file, with what is known of it.
    pub fn all(&self) -> Vec<(Arc<Webhook>, Arc<Hook>)> {
        let plan = Arc::clone(&self.changes.view().plan);
        // One that a reload has just brought has no hook for a moment.
        self.adopt(&plan);
        let hooks = self.hooks.lock();
        let of = |webhook: &Arc<Webhook>| {
            hooks.get(&webhook.name).map(|hook| (Arc::clone(webhook), Arc::clone(hook)))
        };
        plan.webhooks.iter().filter_map(of).collect()
    }

    /// Makes sure that there is a hook for each webhook of `plan` and for no other.
    fn adopt(&self, plan: &Plan) {
        let mut hooks = self.hooks.lock();
        hooks.retain(|name, _| plan.webhooks.iter().any(|webhook| webhook.name == *name));
        for webhook in &plan.webhooks {
            hooks
                .entry(Arc::clone(&webhook.name))
                .or_insert_with(|| Arc::new(Hook::new(&webhook.name)));
        }
    }

    /// Delivers for ever: a task for each webhook of the file in force.
    pub async fn keep_delivering(self: Arc<Self>) {
        let mut tasks: BTreeMap<Arc<str>, JoinHandle<()>> = BTreeMap::new();
        let mut looked_after: Option<Arc<Plan>> = None;
        loop {
            let plan = Arc::clone(&self.changes.view().plan);
            if looked_after.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &plan)) {
                tasks.retain(|name, task| {
                    let stays = plan.webhooks.iter().any(|webhook| webhook.name == *name);
                    if !stays {
                        task.abort();
                    }
                    stays
                });
                for (webhook, hook) in self.all() {
                    tasks.entry(Arc::clone(&webhook.name)).or_insert_with(|| {
                        let this = Arc::clone(&self);
                        tokio::spawn(async move { this.deliver_to(&hook).await })
                    });
                }
                if self.forget_others(&plan).await {
                    looked_after = Some(plan);
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Forgets what waits for webhooks that the file no longer has; false if the store is away.
    async fn forget_others(&self, plan: &Plan) -> bool {
        let names: Vec<String> =
            plan.webhooks.iter().map(|webhook| webhook.name.to_string()).collect();
        let experiments: Vec<String> =
            plan.experiments.iter().map(|experiment| experiment.name.to_string()).collect();
        let forgotten =
            self.store.call(move |store| store.forget_messages(&names, &experiments)).await;
        for (webhook, pending) in forgotten.iter().flatten() {
            events::webhook_removed(webhook, *pending);
        }
        forgotten.is_ok()
    }

    /// The webhook of this name in the file in force.
    fn planned(&self, name: &str) -> Option<Arc<Webhook>> {
        let view = self.changes.view();
        view.plan.webhooks.iter().find(|webhook| *webhook.name == *name).cloned()
    }

    /// Sends a test at once, whatever waits, and says what came of it. If the receiver takes it,
    /// everything that waits is tried at once.
    ///
    /// # Errors
    /// [`TestFault`]; then nothing was sent.
    pub async fn test(&self, name: &str, actor: &Actor) -> Result<Tested, TestFault> {
        let missing = || TestFault::Missing(name.to_owned());
        let webhook = self.planned(name).ok_or_else(missing)?;
        let (_, hook) = self
            .all()
            .into_iter()
            .find(|(each, _)| each.name == webhook.name)
            .ok_or_else(missing)?;
        let mut random = [0; 32];
        crate::ids::random(&mut random)
            .map_err(|error| StoreError::Unavailable(format!("no random numbers: {error}")))?;
        let (id, at) = (message::id_of_test(random), clock::unix_micros());
        let entry = AuditRow {
            at,
            key_id: actor.key_id.clone(),
            actor: actor.name.clone(),
            from: actor.from.clone(),
            action: Event::WebhookTest.as_str().into(),
            target: format!("webhook/{name}"),
            reason: None,
            before: serde_json::Value::Null,
            after: serde_json::json!({ "id": id }),
            request_id: actor.request_id.clone(),
        };
        self.store.call(move |store| store.add_audit(&entry)).await?;
        let body = if webhook.takes_alerts {
            alert::body(&alert::of_test(name, at, &actor.name), &webhook.labels, at)
        } else {
            let instance = &self.changes.installation().instance;
            message::test_body(instance, &id, at, name, &actor.name)
        };
        let began = clock::now();
        let now = clock::unix_seconds();
        let answer = post::post(&webhook, &id, body.to_string().into(), now).await;
        hook.tried(&answer);
        if matches!(answer, Answer::Taken(_)) {
            let of = name.to_owned();
            // If the store is away they wait for their own time.
            let _ = self.store.call(move |store| store.hurry_messages(&of)).await;
            hook.hurry();
        }
        Ok(Tested { id, answer, took: began.elapsed() })
    }
}
