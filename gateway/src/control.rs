//! Ramps that move themselves: once a second each looks at its evidence, and what it decides is
//! carried out through the one writer.
//!
//! ```text
//! evidence book -> policies::ramp::look -> a decision -> one transaction -> in force
//! ```
//!
//! What a look means is in `policies::ramp`; here is only when it looks and what becomes of what it
//! says. Decision, evidence, the ramp's new state, weights and audit entry are stored together, made
//! from the revision that was seen: a crash before that leaves the old state, and the same decision is
//! made again; after it the new state knows. A change by hand that was faster makes the decision
//! stale, and the next look sees the new revision. Only a rollback is in force before it is stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use policies::guardrail::Tables;
use policies::ramp::{self, Action, Decision, Situation, Status};
use policies::sketch::Sketch;

use crate::change::{ChangeError, Changes, Step, View};
use crate::clock;
use crate::comparison::{self, NotPassed};
use crate::config::plan::Plan;
use crate::evidence::Watched;
use crate::live::{Actor, LiveExperiment};
use crate::news::{Kind, News};
use crate::store::thread::StoreHandle;
use crate::store::{RampStep, Source, State as Running, StoreError};
use crate::telemetry::events;
use crate::worker::Shared;

mod hand;
mod kept;
mod route_times;
mod series;
mod watch;
pub mod words;

pub use hand::{HandFault, Told as Start};
pub use kept::{Made, Ramp, Told};
use route_times::RouteTimes;
pub use series::Point;
use watch::Watch;

/// How often ramps are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// So many decisions of a ramp are read back at a start; all of them stay in the store.
const DECISIONS: u32 = 100;
/// A state without a decision is saved every so many seconds: what it loses is time of a step.
const SAVE_EVERY: u64 = 5;

/// Every ramp, and who moves them.
pub struct Control {
    changes: Arc<Changes>,
    shared: Arc<Shared>,
    store: StoreHandle,
    ramps: Mutex<BTreeMap<String, Arc<Ramp>>>,
    /// Held by whoever decides: a look or a hand. Tables save logarithms from look to look.
    turn: tokio::sync::Mutex<BTreeMap<String, Tables>>,
    routes: RouteTimes,
    /// Decisions of this process, by experiment, action and reason.
    counts: Mutex<BTreeMap<(String, &'static str, &'static str), u64>>,
    watch: Watch,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// With what the store has.
    ///
    /// # Errors
    /// The store's; `Damaged` if a ramp cannot be read.
    pub async fn start(
        changes: Arc<Changes>,
        shared: Arc<Shared>,
        store: StoreHandle,
    ) -> Result<Arc<Self>, StoreError> {
        let mut ramps = BTreeMap::new();
        for row in store.call(|store| store.ramps(DECISIONS)).await? {
            let mut ramp = Ramp::read(&row)?;
            if !ramp.state.is_over() {
                let guardrails = ramp.told.settings.guardrails.clone();
                let watched = Watched { guardrails, freezes: false };
                ramp.is_watched = shared.evidence.watch(&row.experiment, Some(watched));
            }
            ramps.insert(row.experiment, Arc::new(ramp));
        }
        let lasting = store.call(|store| store.lasting()).await?;
        Ok(Arc::new(Self {
            changes,
            shared,
            store,
            ramps: Mutex::new(ramps),
            turn: tokio::sync::Mutex::default(),
            routes: RouteTimes::default(),
            counts: Mutex::default(),
            watch: Watch::new(&lasting),
        }))
    }

    /// The newest ramp of an experiment.
    pub fn ramp(&self, experiment: &str) -> Option<Arc<Ramp>> {
        self.ramps.lock().get(experiment).cloned()
    }

    /// Every ramp, by experiment.
    pub fn ramps(&self) -> Vec<(String, Arc<Ramp>)> {
        let ramps = self.ramps.lock();
        ramps.iter().map(|(name, ramp)| (name.clone(), Arc::clone(ramp))).collect()
    }

    /// Decisions of this process, by experiment, action and reason.
    pub fn counts(&self) -> BTreeMap<(String, &'static str, &'static str), u64> {
        self.counts.lock().clone()
    }

    /// Looks at every ramp again and again.
    pub async fn keep_looking(self: Arc<Self>) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.look_at_all().await;
        }
    }

    async fn look_at_all(&self) {
        if let Err(error) = self.changes.store_what_waits().await {
            events::warning("weir.ramp.not_stored", &error.to_string());
        }
        self.watch_ratios().await;
        if self.ramps.lock().is_empty() {
            return;
        }
        self.shared.evidence.count_begun(&self.shared.tallies);
        self.time_routes();
        for (experiment, _) in self.ramps() {
            let mut turn = self.turn.lock().await;
            let tables = turn.entry(experiment.clone()).or_default();
            if let Err(error) = self.look_at(&experiment, tables).await {
                events::warning("weir.ramp.failed", &format!("{experiment}: {error}"));
            }
        }
    }

    /// Takes note of how long routes take whose ramps have an objective.
    fn time_routes(&self) {
        let view = self.changes.view();
        let mut routes = Vec::new();
        for (experiment, ramp) in self.ramps() {
            let is_asked = ramp.told.settings.objective.is_some() && !ramp.state.is_over();
            routes.extend(is_asked.then(|| route(&view.plan, &experiment)).flatten());
        }
        self.routes.keep(&routes);
        let now = clock::now();
        routes.retain(|route| self.routes.is_due(route, now));
        if routes.is_empty() {
            return;
        }
        let tallies = self.shared.tallies.by_variant();
        for route in routes {
            let mut all = Sketch::new();
            for (_, tally) in tallies.iter().filter(|(key, _)| *key.route == *route) {
                all.merge(&tally.duration.sketch);
            }
            self.routes.note(&route, now, all);
        }
    }

    fn route_seconds(&self, view: &View, ramp: &Ramp, experiment: &str) -> Option<f64> {
        let objective = ramp.told.settings.objective.as_ref()?;
        self.routes.of(&route(&view.plan, experiment)?, &objective.metric)
    }

    /// One look at one ramp, and what follows from it.
    async fn look_at(&self, experiment: &str, tables: &mut Tables) -> Result<(), ChangeError> {
        let Some(ramp) = self.ramp(experiment) else { return Ok(()) };
        // What the store may know better is asked first; without it only a rollback is carried out.
        let (ramp, is_sure) = if ramp.in_doubt {
            match self.read_again(experiment).await {
                Ok(Some(read)) => (read, true),
                Ok(None) | Err(_) => (ramp, false),
            }
        } else {
            (ramp, true)
        };
        let view = self.changes.view();
        let Some(live) = view.live.get(experiment) else { return Ok(()) };
        let Some(mut at) = situation(&view, live, &ramp, experiment) else {
            return self.lose(experiment, &ramp, live).await;
        };
        at.route_seconds = self.route_seconds(&view, &ramp, experiment);
        if live.state != Running::Running {
            return self.stand_still(experiment, &ramp, &at).await;
        }
        let mut next = Ramp::clone(&ramp);
        if !self.count(experiment, &mut next) {
            return Ok(());
        }
        let looked = self.shared.evidence.with_known(experiment, |known| {
            let (evidence, settings) = (&mut known.evidence, &next.told.settings);
            let due = ramp::marks_due(&ramp.state, &at, evidence, settings, &mut known.marks);
            for (slowness, marks) in due {
                evidence.freeze(at.revision, slowness, marks);
            }
            let (state, decision) = ramp::look(&ramp.state, &at, evidence, settings, tables);
            let seen = ramp::seen(&state, &at, evidence, settings, tables);
            (state, decision, seen, evidence.exposures(settings.treated))
        });
        let Some((state, decision, seen, exposures)) = looked else { return Ok(()) };
        if !state.is_over() {
            self.watch_observed(experiment, &next.told, at.revision, &seen.judged).await;
        }
        next.saw(&state, seen, exposures, at.now);
        let Some(decision) = decision else {
            let moved = state.phase != ramp.state.phase || state.revision != ramp.state.revision;
            next.state = state;
            if (moved || at.now >= next.saved_at.saturating_add(SAVE_EVERY))
                && !ramp.state.is_over()
            {
                next.saved_at = at.now;
                self.save(experiment, &next);
            }
            self.put(experiment, next);
            return Ok(());
        };
        if !is_sure && decision.action != Action::RollBack {
            return Ok(());
        }
        // Another backend has not passed because the one before did.
        if decision.action == Action::Start
            && let Some(shadow) = &ramp.told.shadow
            && self.vouched(&view, experiment, &ramp.told.variant, shadow).is_err()
        {
            return Ok(());
        }
        next.state = state;
        self.carry_out(experiment, &ramp, next, decision, &look_actor(), None).await.map(drop)
    }

    /// Whether `shadow` has passed for the backend that serves this variant.
    fn vouched(
        &self,
        view: &View,
        experiment: &str,
        variant: &str,
        shadow: &str,
    ) -> Result<(), NotPassed> {
        let planned = view.plan.experiments.iter().find(|planned| *planned.name == *experiment);
        let of = |planned: &crate::config::plan::Experiment| {
            let found = planned.variants.iter().find(|planned| *planned.name == *variant)?;
            let backend = view.plan.backends.get(found.backend)?;
            Some((view.plan.routes.get(planned.route)?, backend))
        };
        let Some((route, backend)) = planned.and_then(of) else {
            return Err(NotPassed::Missing(shadow.to_owned()));
        };
        comparison::passed(&self.shared.current.load(), shadow, &route.name, &backend.name)
    }

    /// Carries out a decision that leaves the ramp as `next`.
    async fn carry_out(
        &self,
        experiment: &str,
        before: &Arc<Ramp>,
        mut next: Ramp,
        decision: Decision,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<LiveExperiment, ChangeError> {
        let (seen, said_why) = (decision.from_revision, reason.clone());
        if decision.fresh {
            next.told.from = seen + 1;
            next.series.clear();
        }
        next.number = before.number + 1;
        let made = Made::of(&next.told, decision);
        let decision = &made.decision;
        if let Some(until) = next.state.cool_until.filter(|_| decision.action == Action::RollBack) {
            next.told.cooling.insert(made.variant.clone(), until);
        }
        let said = serde_json::to_value(&made).unwrap_or_default();
        let shares = shares(&next.told, decision);
        let in_words = words::decision(&made);
        let (action, why) = (words::action(decision.action), words::reason(decision.reason));
        let step = Step {
            step: RampStep {
                experiment: experiment.to_owned(),
                number: next.number,
                settings: serde_json::to_string(&next.told).unwrap_or_default(),
                state: serde_json::to_string(&next.state).unwrap_or_default(),
                decision: said.to_string(),
                audit: None,
            },
            action: format!("ramp.{action}"),
            decision: told_of(&next, said),
            shares,
            rest: next.told.control.clone(),
            anew: decision.fresh,
            reason: Some(reason.map_or(in_words.clone(), |reason| format!("{in_words}: {reason}"))),
        };
        if decision.action == Action::Start {
            // Before the first request of it: a cold variant is not timed.
            let guardrails = next.told.settings.guardrails.clone();
            self.shared.evidence.watch(experiment, Some(Watched { guardrails, freezes: false }));
            next.is_watched = true;
            self.watch.begins(experiment);
        }
        let done = if decision.action == Action::RollBack {
            self.changes.roll_back(experiment, seen, step, actor).await
        } else {
            self.changes.ramp(experiment, seen, step, actor).await
        };
        match &done {
            Ok(_) => {}
            // In force, and stored as soon as that is possible.
            Err(ChangeError::Store(_)) if decision.action == Action::RollBack => {}
            // Somebody was faster: the next look sees what they made.
            Err(ChangeError::Stale { .. }) => return done,
            Err(_) => {
                self.put(experiment, Ramp { in_doubt: true, ..Ramp::clone(before) });
                return done;
            }
        }
        let share = done.as_ref().ok().map_or_else(
            || decision.share.map(|share| f64::from(share) / 10_000.0),
            |live| next.told.share(live),
        );
        events::ramp_decided(experiment, &next, &made, (action, why), share, &in_words);
        let revision = done.as_ref().map_or(decision.from_revision, |live| live.revision);
        self.shared.news.tell(News {
            experiment: Some(experiment.to_owned()),
            revision: Some(revision),
            reason: said_why,
            ..News::now(Kind::Ramp, format!("ramp.{action}"), &actor.name, in_words.clone())
        });
        let of = (experiment.to_owned(), action, why);
        *self.counts.lock().entry(of).or_default() += 1;
        next.in_doubt = false;
        next.saved_at = decision.at;
        next.decided(made);
        self.put(experiment, next);
        done
    }

    /// The numbers of the variants in the evidence, and the evidence since the ramp began; false if
    /// there is none to look at.
    fn count(&self, experiment: &str, ramp: &mut Ramp) -> bool {
        let from = ramp.told.from;
        let told = &mut ramp.told;
        let is_known = self.shared.evidence.with_known(experiment, |known| {
            let is_older = known
                .evidence
                .epochs()
                .iter()
                .any(|(revision, epoch)| *revision < from && epoch.shares.is_some());
            if is_older {
                known.begin_anew();
            }
            let numbers = (known.number(&told.variant), known.number(&told.control));
            let (Some(treated), Some(control)) = numbers else { return false };
            (told.settings.treated, told.settings.control) = (treated, control);
            if let Some(bandit) = &mut told.settings.bandit {
                let arms = told.arms.iter().map(|arm| known.number(arm)).collect();
                let Some(arms) = arms else { return false };
                bandit.arms = arms;
            }
            if let Some(cell) = &told.control_cell {
                let Some(cell) = known.number(cell) else { return false };
                told.settings.control_cell = Some(cell);
            }
            true
        });
        if is_known != Some(true) {
            return false;
        }
        // The ramp freezes its own marks, after warm-up.
        let watched = if ramp.state.is_over() {
            None
        } else {
            Some(Watched { guardrails: ramp.told.settings.guardrails.clone(), freezes: false })
        };
        if ramp.is_watched != watched.is_some() {
            ramp.is_watched = watched.is_some();
            self.shared.evidence.watch(experiment, watched);
        }
        true
    }

    /// The kill switch, or the end of the experiment: the ramp stands still until somebody resumes it.
    async fn stand_still(
        &self,
        experiment: &str,
        ramp: &Arc<Ramp>,
        at: &Situation,
    ) -> Result<(), ChangeError> {
        let Ok((state, decision)) = ramp::pause(&ramp.state, at, &ramp.told.settings) else {
            return Ok(());
        };
        let next = Ramp { state, ..Ramp::clone(ramp) };
        let why = Some("the experiment was stopped".to_owned());
        self.carry_out(experiment, ramp, next, decision, &look_actor(), why).await.map(drop)
    }

    /// Its variant or control is gone from the file: there is nothing left to compare.
    async fn lose(
        &self,
        experiment: &str,
        ramp: &Arc<Ramp>,
        live: &LiveExperiment,
    ) -> Result<(), ChangeError> {
        let at = Situation {
            now: now(),
            revision: live.revision,
            share: 0,
            arms: Vec::new(),
            backend: ramp.state.backend,
            drifted: false,
            route_seconds: None,
        };
        let Ok((state, decision)) = ramp::abort(&ramp.state, &at, &ramp.told.settings) else {
            return Ok(());
        };
        let decision = Decision { share: None, control_share: None, ..decision };
        let next = Ramp { state, ..Ramp::clone(ramp) };
        let why = Some("a variant that it compares is gone".to_owned());
        self.carry_out(experiment, ramp, next, decision, &look_actor(), why).await.map(drop)
    }

    fn put(&self, experiment: &str, ramp: Ramp) {
        self.ramps.lock().insert(experiment.to_owned(), Arc::new(ramp));
    }

    async fn read_again(&self, experiment: &str) -> Result<Option<Arc<Ramp>>, StoreError> {
        let rows = self.store.call(|store| store.ramps(DECISIONS)).await?;
        let Some(row) = rows.into_iter().find(|row| row.experiment == experiment) else {
            return Ok(None);
        };
        let ramp = Arc::new(Ramp::read(&row)?);
        self.ramps.lock().insert(experiment.to_owned(), Arc::clone(&ramp));
        Ok(Some(ramp))
    }

    /// Keeps the state in passing: nobody waits, and the store takes saves in their order.
    fn save(&self, experiment: &str, ramp: &Ramp) {
        let Ok(text) = serde_json::to_string(&ramp.state) else { return };
        let (store, name, number) = (self.store.clone(), experiment.to_owned(), ramp.number);
        tokio::spawn(async move {
            // What is lost is a few seconds of a step's time.
            let _ = store.call(move |store| store.set_ramp_state(&name, number, &text)).await;
        });
    }
}

fn now() -> u64 {
    u64::try_from(clock::unix_seconds()).unwrap_or(0)
}

/// A decision as the audit log has it: with the names of whom it is about.
fn told_of(ramp: &Ramp, mut decision: serde_json::Value) -> serde_json::Value {
    if let Some(members) = decision.as_object_mut() {
        members.insert("control".into(), ramp.told.control.clone().into());
    }
    decision
}

/// Who a look is, in history and audit log.
fn look_actor() -> Actor {
    Actor {
        key_id: "ramp".into(),
        name: "ramp".into(),
        from: String::new(),
        source: Source::Ramp,
        request_id: String::new(),
    }
}

/// The name of an experiment's route.
fn route(plan: &Plan, experiment: &str) -> Option<String> {
    let planned = plan.experiments.iter().find(|planned| *planned.name == *experiment)?;
    Some(plan.routes.get(planned.route)?.name.to_string())
}

/// What is in force; `None` if a variant of the ramp is gone.
fn situation(
    view: &View,
    live: &LiveExperiment,
    ramp: &Ramp,
    experiment: &str,
) -> Option<Situation> {
    let place = |name: &str| live.weights.iter().position(|(variant, _)| variant == name);
    place(&ramp.told.control)?;
    if let Some(cell) = &ramp.told.control_cell {
        place(cell)?;
    }
    let share = live.shares().get(place(&ramp.told.variant)?).copied()?;
    Some(Situation {
        now: now(),
        revision: live.revision,
        share,
        arms: arm_shares(live, &ramp.told.arms, &ramp.told.control)?,
        backend: backend(&view.plan, experiment, ramp.told.treated())?,
        drifted: false,
        route_seconds: None,
    })
}

/// The shares in force of a bandit's arms and of control; none of a ramp with steps. `None` if one of
/// them is gone.
fn arm_shares(live: &LiveExperiment, arms: &[String], control: &str) -> Option<Vec<u16>> {
    if arms.is_empty() {
        return Some(Vec::new());
    }
    let shares = live.shares();
    let of = |name: &str| {
        let at = live.weights.iter().position(|(variant, _)| variant == name)?;
        shares.get(at).copied()
    };
    arms.iter().map(String::as_str).chain([control]).map(of).collect()
}

/// Whose shares a decision changes, and to what; control has the rest.
fn shares(told: &Told, decision: &Decision) -> Vec<(String, u16)> {
    if !told.arms.is_empty() {
        return told.arms.iter().cloned().zip(decision.shares.iter().copied()).collect();
    }
    let mut shares: Vec<_> =
        decision.share.map(|share| (told.variant.clone(), share)).into_iter().collect();
    if let (Some(cell), Some(share)) = (&told.control_cell, decision.control_share) {
        shares.push((cell.clone(), share));
    }
    shares
}

/// What stands for the backends of variants: where each is and which model it is asked for.
fn backend(plan: &Plan, experiment: &str, variants: &[String]) -> Option<u64> {
    let planned = plan.experiments.iter().find(|planned| *planned.name == *experiment)?;
    let mut hasher = blake3::Hasher::new();
    for variant in variants {
        let planned = planned.variants.iter().find(|planned| *planned.name == **variant)?;
        let backend = plan.backends.get(planned.backend)?;
        hasher.update(backend.name.as_bytes());
        for endpoint in &backend.endpoints {
            hasher.update(b"\n").update(endpoint.host.as_bytes());
            hasher.update(&endpoint.port.to_le_bytes());
        }
        hasher.update(b"\0").update(backend.model.as_deref().unwrap_or("").as_bytes());
    }
    let bytes: [u8; 8] = hasher.finalize().as_bytes()[..8].try_into().ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Every word of [`status_word`].
pub const STATES: [&str; 6] =
    ["running", "holding", "paused", "promoted", "rolled_back", "aborted"];

/// The word of a status, as the API and the metrics have it.
pub fn status_word(status: Status) -> &'static str {
    match status {
        Status::Running => "running",
        Status::Holding => "holding",
        Status::Paused => "paused",
        Status::Promoted => "promoted",
        Status::RolledBack => "rolled_back",
        Status::Aborted => "aborted",
    }
}
