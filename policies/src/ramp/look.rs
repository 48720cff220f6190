//! One look at a ramp.

use super::bandit::{self, ArmEvidence, ArmState, Memory};
use super::{
    Action, Decision, DecisionEvidence, EpochCounts, OnUndecided, Phase, Reason, Settings,
    Situation, State, Status, Step,
};
use crate::evidence::{Evidence, Marks, Slowness, UnitKind};
use crate::guardrail::{self, Guardrail, Judgement, MarkWatch, Tables};
use crate::statistics::{Verdict, sample_ratio};

/// From look to look a step's clock counts at most so many seconds.
pub const LONGEST_GAP: u64 = 60;

/// The chance that an interval beside a decision ever misses the truth.
const SHOWN: f64 = 0.05;

/// The share of everything, in basis points.
pub(super) const ALL: u16 = 10_000;

/// The marks to freeze now in the epoch in force: see [`guardrail::marks_due`]. None in warm-up. A
/// bandit's are never replaced: it compares its variants by one mark.
pub fn marks_due(
    state: &State,
    at: &Situation,
    evidence: &Evidence,
    settings: &Settings,
    watch: &mut MarkWatch,
) -> Vec<(Slowness, Marks)> {
    if state.is_over() || state.phase == Phase::WarmUp {
        return Vec::new();
    }
    let margins = settings.latency_margins();
    let control = settings.compared_with();
    let mut guardrails = settings.guardrails.clone();
    // What a bandit compares by needs marks too.
    guardrails.extend(settings.bandit.as_ref().map(|bandit| Guardrail::new(bandit.metric.clone())));
    let mut nobody = MarkWatch::default();
    let watch = if settings.bandit.is_some() { &mut nobody } else { watch };
    guardrail::marks_due(evidence, (at.revision, control), &guardrails, &margins, watch)
}

/// Looks once: where the ramp stands now, and what is to be done.
///
/// The same state, situation and evidence give the same answer; the state that comes back, looked at
/// again, decides nothing again.
pub fn look(
    state: &State,
    at: &Situation,
    evidence: &Evidence,
    settings: &Settings,
    tables: &mut Tables,
) -> (State, Option<Decision>) {
    if state.is_over() {
        return begin_again(state, at, settings);
    }
    if let Some(bandit) = &settings.bandit {
        return bandit::look(state, at, evidence, (settings, bandit), tables);
    }
    let mut next = state.clone();
    adopt(&mut next, at, evidence, settings);
    tick(&mut next, at, evidence, settings);
    let judged = judge(&mut next, evidence, settings, tables);
    let ratios = sample_ratios(&mut next, evidence, settings);
    let mut look = Look { next, at, evidence, settings, judged, ratios };
    let decision = look.decide();
    (look.next, decision)
}

/// What a page shows between decisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Every guardrail as it stands now, in the order of the settings; of a bandit arm by arm. With
    /// the number of the variant that is judged.
    pub judged: Vec<(u8, Judgement)>,
    /// A bandit's arms, and control, last.
    pub arms: Vec<ArmEvidence>,
    /// A bandit's period in force, in seconds.
    pub period: Option<u64>,
}

/// How everything stands now, without deciding anything.
pub fn seen(
    state: &State,
    at: &Situation,
    evidence: &Evidence,
    settings: &Settings,
    tables: &mut Tables,
) -> Seen {
    let mut state = state.clone();
    let Some(bandit) = &settings.bandit else {
        let judged = judge(&mut state, evidence, settings, tables);
        let of_treated = judged.into_iter().map(|judgement| (settings.treated, judgement));
        return Seen { judged: of_treated.collect(), ..Seen::default() };
    };
    let judged = bandit::judge(&mut state, evidence, settings, tables);
    let each = bandit.arms.iter().zip(&judged);
    let each = each.flat_map(|(arm, all)| all.iter().map(|judgement| (*arm, judgement.clone())));
    Seen {
        judged: each.collect(),
        arms: bandit::known(&state, at, evidence, (settings, bandit), judged),
        period: Some(bandit.period_in_force(evidence)),
    }
}

/// A rolled-back ramp begins again by itself once it has cooled down and another backend is there.
fn begin_again(state: &State, at: &Situation, settings: &Settings) -> (State, Option<Decision>) {
    let is_cool = state.cool_until.is_some_and(|until| at.now >= until);
    if state.status != Status::RolledBack || !is_cool || state.backend == at.backend {
        return (state.clone(), None);
    }
    let next = State { rollbacks: state.rollbacks, ..State::first(at, settings) };
    let start = Decision::start(&next, at, settings, Reason::NewBackend);
    let decision = Decision { fresh: true, from_phase: state.phase, ..start };
    (next, Some(decision))
}

/// A revision that the ramp has not seen: its own change, or somebody's by hand.
fn adopt(state: &mut State, at: &Situation, evidence: &Evidence, settings: &Settings) {
    if at.revision == state.revision {
        return;
    }
    state.revision = at.revision;
    // Widened by hand beyond this step: then the ramp is in a later one. A share below the step's
    // is left to whoever set it.
    let reached = settings.steps.iter().rposition(|step| step.share <= at.share);
    if at.share > settings.share(state.phase)
        && let Some(step) = reached.map(Phase::Step)
        && step > state.phase
    {
        state.enter(step, at.now, evidence, settings);
    }
}

/// The step's clock: it runs while control has exposures.
pub(super) fn tick(state: &mut State, at: &Situation, evidence: &Evidence, settings: &Settings) {
    let seen = evidence.exposures(settings.compared_with());
    if seen > state.control_seen {
        state.control_at = at.now;
    }
    state.control_seen = seen;
    let gap = at.now.saturating_sub(state.looked_at).min(LONGEST_GAP);
    // A clock that went back has no gap, and must not stand still until it has caught up.
    state.control_at = state.control_at.min(at.now);
    let has_traffic = at.now - state.control_at < LONGEST_GAP && seen > 0;
    if has_traffic && state.status != Status::Paused {
        state.step_seconds = state.step_seconds.saturating_add(gap);
    }
    state.looked_at = at.now;
    // Evidence that was lost takes the mark with it.
    let treated = evidence.exposures(settings.treated);
    state.exposures_before = state.exposures_before.min(treated);
}

fn judge(
    state: &mut State,
    evidence: &Evidence,
    settings: &Settings,
    tables: &mut Tables,
) -> Vec<Judgement> {
    let alphas = settings.alphas();
    let step = match state.phase {
        Phase::WarmUp => settings.steps.first(),
        Phase::Step(at) => settings.steps.get(at),
        Phase::Verify | Phase::Bandit => settings.steps.last(),
    };
    state.reached.resize(settings.guardrails.len(), Default::default());
    let (treated, control) = (settings.treated, settings.compared_with());
    let mut judge = |(guardrail, reached): (&_, &mut _)| {
        let guardrail = settings.at(guardrail, step);
        let judgement =
            guardrail::judge(evidence, treated, control, &guardrail, alphas, *reached, tables);
        *reached = judgement.reached;
        judgement
    };
    settings.guardrails.iter().zip(&mut state.reached).map(&mut judge).collect()
}

/// Assigned, served, feedback: does each arrive as it was dealt?
pub(super) fn sample_ratios(
    state: &mut State,
    evidence: &Evidence,
    settings: &Settings,
) -> [f64; 3] {
    let metric = settings.guardrails.iter().find_map(|guardrail| guardrail.metric.feedback());
    let now = ratios(evidence, metric);
    for (reached, log_e) in state.sample_ratio.iter_mut().zip(now) {
        *reached = reached.with(log_e);
    }
    now
}

/// The logarithms of e-values against "arrive as dealt", over all variants of each epoch: of what
/// was assigned, what was served by the assigned variant, and feedback on `metric` (0 without one).
pub fn ratios(evidence: &Evidence, metric: Option<&str>) -> [f64; 3] {
    let mut log_e = [0.0; 3];
    for (revision, epoch) in evidence.epochs() {
        let Some(shares) = &epoch.shares else { continue };
        let shares: Vec<f64> = shares.iter().map(|share| f64::from(*share)).collect();
        let count = |which: fn(&Evidence, u64, u8, Option<&str>) -> u64| -> Vec<u64> {
            (0..=u8::MAX)
                .zip(&shares)
                .map(|(variant, _)| which(evidence, *revision, variant, metric))
                .collect()
        };
        let of = |counts: &[u64]| {
            let epoch = sample_ratio::Epoch { counts, shares: &shares };
            sample_ratio::log_e(&[epoch], sample_ratio::CONCENTRATION)
        };
        let (all, served) = (count(assigned), count(served));
        let of_all = of(&all);
        log_e[0] += of_all;
        // Nearly always nobody was rescued: half of the work.
        log_e[1] += if served == all { of_all } else { of(&served) };
        if metric.is_some() {
            log_e[2] += of(&count(answered));
        }
    }
    log_e
}

fn assigned(evidence: &Evidence, revision: u64, variant: u8, _: Option<&str>) -> u64 {
    let tally = evidence.epochs().get(&revision).and_then(|epoch| epoch.variants.get(&variant));
    match evidence.unit() {
        UnitKind::Request => tally.map_or(0, |tally| tally.assigned()),
        UnitKind::Sticky { .. } => evidence.sampled().count(revision, variant).seen,
    }
}

fn served(evidence: &Evidence, revision: u64, variant: u8, _: Option<&str>) -> u64 {
    let tally = evidence.epochs().get(&revision).and_then(|epoch| epoch.variants.get(&variant));
    match evidence.unit() {
        // What still runs is taken to be served: a slow variant loses nothing.
        UnitKind::Request => {
            tally.map_or(0, |tally| tally.assigned().saturating_sub(tally.rescued))
        }
        UnitKind::Sticky { .. } => evidence.sampled().count(revision, variant).served,
    }
}

fn answered(evidence: &Evidence, revision: u64, variant: u8, metric: Option<&str>) -> u64 {
    let Some(metric) = metric else { return 0 };
    let tally = evidence.epochs().get(&revision).and_then(|epoch| epoch.variants.get(&variant));
    match evidence.unit() {
        UnitKind::Request => {
            tally.and_then(|tally| tally.feedback.get(metric)).map_or(0, |mean| mean.moments.n)
        }
        UnitKind::Sticky { .. } => evidence.sampled().count(revision, variant).answered,
    }
}

/// Whether `T` gets nothing although much was dealt to it: over everything, and where requests are
/// the unit also in the newest epoch alone.
pub(super) fn no_traffic(evidence: &Evidence, treated: u8) -> bool {
    let epochs = || evidence.epochs().iter();
    let of = |revision: u64, share: f64, shares: &[u16]| {
        let all = (0..=u8::MAX).zip(shares).map(|(variant, _)| variant);
        let eligible = all.map(|variant| assigned(evidence, revision, variant, None));
        (share, eligible.fold(0, u64::saturating_add))
    };
    let dealt: Vec<(f64, u64)> = epochs()
        .filter_map(|(revision, epoch)| {
            let share = f64::from(epoch.share(treated)) / f64::from(ALL);
            Some(of(*revision, share, epoch.shares.as_deref()?))
        })
        .collect();
    let got = |revision: &u64| {
        let epoch = evidence.epochs().get(revision);
        epoch.and_then(|epoch| epoch.variants.get(&treated)).map_or(0, |tally| tally.assigned())
    };
    let in_all = epochs().map(|(revision, _)| got(revision)).fold(0, u64::saturating_add);
    if sample_ratio::no_traffic(in_all, &dealt) {
        return true;
    }
    let newest = epochs().rfind(|(_, epoch)| epoch.shares.is_some());
    match (evidence.unit(), newest, dealt.last()) {
        (UnitKind::Request, Some((revision, _)), Some(last)) => {
            sample_ratio::no_traffic(got(revision), &[*last])
        }
        // Units count once, where they were first: a later epoch may see few new ones.
        (UnitKind::Request | UnitKind::Sticky { .. }, _, _) => false,
    }
}

/// Whether this ends it. A cold variant is slow: nothing is frozen in warm-up, but marks of a former
/// epoch may be.
pub(super) fn rolls_back(judgement: &Judgement, is_cold: bool) -> bool {
    judgement.verdict == Verdict::Breached
        && judgement.action == guardrail::Action::RollBack
        && !(is_cold && judgement.metric.slowness().is_some())
}

/// What must become clear first, if something must.
pub(super) fn unclear(state: &State, at: &Situation) -> Option<Reason> {
    let mismatch = state.sample_ratio.iter().any(|each| each.mismatch(sample_ratio::ALPHA));
    if mismatch && !state.mismatch_accepted {
        return Some(Reason::SampleRatio);
    }
    at.drifted.then_some(Reason::Drift)
}

struct Look<'a> {
    next: State,
    at: &'a Situation,
    evidence: &'a Evidence,
    settings: &'a Settings,
    judged: Vec<Judgement>,
    ratios: [f64; 3],
}

impl Look<'_> {
    /// The rows, in their order.
    fn decide(&mut self) -> Option<Decision> {
        let is_cold = self.next.phase == Phase::WarmUp;
        if let Some(at) = self.judged.iter().position(|judgement| rolls_back(judgement, is_cold)) {
            // The one that decided first.
            self.judged[..=at].rotate_right(1);
            return Some(self.roll_back(Reason::Breached, 1));
        }
        if no_traffic(self.evidence, self.settings.treated) {
            return Some(self.roll_back(Reason::NoTraffic, 2));
        }
        if self.next.status == Status::Paused {
            return None;
        }
        if self.next.misses_objective(self.at, self.settings) {
            return Some(self.decision(Action::Pause, Reason::Objective, 3, None));
        }
        if let Some(reason) = unclear(&self.next, self.at) {
            return self.hold(reason, 3);
        }
        if matches!(self.next.holding, Some(Reason::SampleRatio | Reason::Drift)) {
            self.next.status = Status::Running;
            self.next.holding = None;
            return Some(self.decision(Action::Resume, Reason::Cleared, 3, None));
        }
        if !self.is_due() {
            return None;
        }
        match self.next.phase {
            Phase::WarmUp | Phase::Verify => return Some(self.go_on(Reason::TimePassed, 5)),
            Phase::Step(_) | Phase::Bandit => {}
        }
        if self.all_held() && !self.is_novel() {
            return Some(self.go_on(Reason::Held, 5));
        }
        if self.next.step_seconds < self.settings.patience {
            return None;
        }
        match self.settings.on_undecided {
            OnUndecided::Hold => self.hold(Reason::Undecided, 6),
            OnUndecided::Promote => Some(self.go_on(Reason::Undecided, 6)),
            OnUndecided::RollBack => Some(self.roll_back(Reason::Undecided, 6)),
        }
    }

    fn step_exposures(&self) -> u64 {
        let treated = self.evidence.exposures(self.settings.treated);
        treated.saturating_sub(self.next.exposures_before)
    }

    /// Least time and least exposures.
    fn is_due(&self) -> bool {
        let (time, exposures) = match self.next.phase {
            Phase::WarmUp => {
                self.settings.warm_up.map_or((0, 0), |w| (w.min_time, w.min_exposures))
            }
            Phase::Step(at) => {
                let step: Option<&Step> = self.settings.steps.get(at);
                step.map_or((0, 0), |step| (step.min_time, step.min_exposures))
            }
            Phase::Verify => self.settings.verify().map_or((0, 0), |verify| (verify.min_time, 0)),
            // It has no steps: never due.
            Phase::Bandit => (u64::MAX, 0),
        };
        self.next.step_seconds >= time && self.step_exposures() >= exposures
    }

    fn all_held(&self) -> bool {
        let mut required = self.judged.iter().filter(|judgement| judgement.required);
        required.all(|judgement| judgement.verdict == Verdict::Held)
    }

    /// The last step of a model that people rate waits for the first day to be over.
    fn is_novel(&self) -> bool {
        let is_last = self.next.phase == Phase::Step(self.settings.steps.len().saturating_sub(1));
        let rated = self
            .settings
            .guardrails
            .iter()
            .any(|guardrail| guardrail.required && guardrail.metric.feedback().is_some());
        let age = self.at.now.saturating_sub(self.next.began_at);
        is_last && rated && age < self.settings.novelty
    }

    fn hold(&mut self, reason: Reason, row: u8) -> Option<Decision> {
        if self.next.status == Status::Holding && self.next.holding == Some(reason) {
            return None;
        }
        self.next.status = Status::Holding;
        self.next.holding = Some(reason);
        Some(self.decision(Action::Hold, reason, row, None))
    }

    /// To the next phase, or to the end.
    fn go_on(&mut self, reason: Reason, row: u8) -> Decision {
        let steps = self.settings.steps.len();
        let phase = match self.next.phase {
            Phase::WarmUp => Some(Phase::Step(0)),
            Phase::Step(at) if at + 1 < steps => Some(Phase::Step(at + 1)),
            Phase::Step(_) => self.settings.verify().map(|_| Phase::Verify),
            Phase::Verify | Phase::Bandit => None,
        };
        let (action, share) = match phase {
            // A share that somebody raised by hand is never lowered by going on.
            Some(phase) => (Action::Widen, self.settings.share(phase).max(self.at.share)),
            None => (Action::Promote, ALL),
        };
        let decision = self.decision(action, reason, row, Some(share));
        self.next.status = Status::Running;
        self.next.holding = None;
        match phase {
            Some(phase) => self.next.enter(phase, self.at.now, self.evidence, self.settings),
            None => self.next.status = Status::Promoted,
        }
        decision
    }

    fn roll_back(&mut self, reason: Reason, row: u8) -> Decision {
        let decision = self.decision(Action::RollBack, reason, row, Some(0));
        self.next.cool_down(self.at.now, self.settings);
        self.next.status = Status::RolledBack;
        self.next.holding = None;
        decision
    }

    fn decision(&self, action: Action, reason: Reason, row: u8, share: Option<u16>) -> Decision {
        let settings = self.settings;
        let (treated, control) = (settings.treated, settings.compared_with());
        Decision {
            action,
            row,
            evidence: DecisionEvidence {
                guardrails: self
                    .judged
                    .iter()
                    .map(|judged| settings.with_ratio(judged, self.evidence, treated))
                    .collect(),
                // JSON knows no infinity.
                sample_ratio: self.ratios.map(|log_e| log_e.min(f64::MAX)),
                epochs: EpochCounts::of(self.evidence, treated, control),
                step_seconds: self.next.step_seconds,
                step_exposures: self.step_exposures(),
                arms: Vec::new(),
            },
            ..Decision::bare(&self.next, self.at, settings, reason, share)
        }
    }
}

impl Decision {
    /// The beginning of a ramp that stands as `state` says.
    pub(super) fn start(
        state: &State,
        at: &Situation,
        settings: &Settings,
        reason: Reason,
    ) -> Self {
        let (share, shares) = match &settings.bandit {
            None => (Some(settings.share(state.phase)), Vec::new()),
            Some(bandit) => (None, bandit::opening(at, bandit)),
        };
        let bare = Self::bare(state, at, settings, reason, share);
        Self { action: Action::Start, shares, ..bare }
    }

    /// Without numbers; `action` is to be set.
    pub(super) fn bare(
        state: &State,
        at: &Situation,
        settings: &Settings,
        reason: Reason,
        share: Option<u16>,
    ) -> Self {
        let cell = settings.control_cell.and(share);
        Self {
            action: Action::Hold,
            reason,
            row: 0,
            at: at.now,
            from_revision: at.revision,
            from_phase: state.phase,
            share,
            // An equal control ends with the comparison.
            control_share: cell.map(|share| if share > ALL / 2 { 0 } else { share }),
            shares: Vec::new(),
            arm: None,
            fresh: false,
            evidence: DecisionEvidence::default(),
        }
    }
}

impl Settings {
    /// A judgement with the ratio that it is about, and where that lies: for decisions, not for every
    /// look, since it takes some hundred times as long.
    pub(super) fn with_ratio(
        &self,
        judged: &Judgement,
        evidence: &Evidence,
        treated: u8,
    ) -> Judgement {
        let mut judged = judged.clone();
        let of = self.guardrails.iter().find(|guardrail| guardrail.metric == judged.metric);
        judged.ratio = of.map(|guardrail| {
            guardrail::shown(evidence, treated, self.compared_with(), guardrail, SHOWN).into()
        });
        judged
    }

    /// `T`'s share in a phase, in basis points.
    pub(super) fn share(&self, phase: Phase) -> u16 {
        match phase {
            Phase::WarmUp => self.warm_up.map(|warm_up| warm_up.share),
            Phase::Step(at) => self.steps.get(at).map(|step| step.share),
            Phase::Verify => self.verify().map(|verify| verify.share),
            Phase::Bandit => None,
        }
        .unwrap_or(0)
    }
}

impl State {
    /// Whether the route has missed its objective for too long: then the state is paused.
    pub(super) fn misses_objective(&mut self, at: &Situation, settings: &Settings) -> bool {
        let Some(objective) = &settings.objective else { return false };
        if at.route_seconds.is_none_or(|seconds| seconds <= objective.below) {
            self.missed_since = None;
            return false;
        }
        let since = *self.missed_since.get_or_insert(at.now);
        // A clock that went back has not waited.
        if at.now.saturating_sub(since) < objective.lasting {
            return false;
        }
        self.missed_since = None;
        self.status = Status::Paused;
        self.holding = None;
        true
    }

    /// The beginning, now.
    pub(super) fn first(at: &Situation, settings: &Settings) -> Self {
        let first = if settings.bandit.is_some() { Phase::Bandit } else { Phase::Step(0) };
        let phase = if settings.warm_up.is_some() { Phase::WarmUp } else { first };
        let arms = settings.bandit.as_ref().map_or(0, |bandit| bandit.arms.len() + 1);
        Self {
            status: Status::Running,
            phase,
            holding: None,
            revision: at.revision,
            backend: at.backend,
            began_at: at.now,
            since: at.now,
            step_seconds: 0,
            exposures_before: 0,
            control_seen: 0,
            control_at: at.now,
            looked_at: at.now,
            reached: vec![Default::default(); settings.guardrails.len()],
            sample_ratio: Default::default(),
            mismatch_accepted: false,
            missed_since: None,
            arms: vec![ArmState::default(); arms],
            memory: Memory::default(),
            rollbacks: 0,
            cool_until: None,
        }
    }

    pub(super) fn enter(
        &mut self,
        phase: Phase,
        now: u64,
        evidence: &Evidence,
        settings: &Settings,
    ) {
        self.phase = phase;
        self.since = now;
        self.step_seconds = 0;
        self.exposures_before = evidence.exposures(settings.treated);
    }

    /// Something was rolled back: the cool-down begins, twice as long as the last one.
    pub(super) fn cool_down(&mut self, now: u64, settings: &Settings) {
        let doubled = 1_u64.checked_shl(self.rollbacks).unwrap_or(u64::MAX);
        let cool_down = settings.cool_down.saturating_mul(doubled).min(settings.most_cool_down);
        self.rollbacks = self.rollbacks.saturating_add(1);
        self.cool_until = Some(now.saturating_add(cool_down));
    }
}
