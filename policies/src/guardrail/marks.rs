//! When marks are frozen, and when they are replaced because they say nothing any more.

use super::Guardrail;
use crate::evidence::{Evidence, MOST_REPLACED, Marks, Slowness};
use crate::sketch::Sketch;
use crate::statistics::slowdown::{Judged, Mark};

/// A mark that control passes less than a fourth as often as its quantile says is stale.
const STALE: u64 = 4;

/// Control's requests since marks were last looked at, in the epoch in force.
///
/// Marks are made of what control did so far. If that was an incident, they may stand where nobody
/// comes any more once it is over: then neither harm nor safety can ever be shown. So control is
/// watched in blocks of as many requests as a first mark needs. A block in which it passed the mark
/// far too rarely makes a new mark, of this block alone. It depends on what was before only, as a
/// mark must; and what was counted above the old one still counts.
///
/// Not stored: after a restart a new block begins.
#[derive(Clone, Debug, Default)]
pub struct MarkWatch {
    revision: u64,
    control: u8,
    blocks: [Option<Block>; Slowness::ALL.len()],
}

/// Where a block began.
#[derive(Clone, Debug)]
struct Block {
    marks: Marks,
    /// Control's requests above the marks or not, and above.
    n: u64,
    above: u64,
    times: Sketch,
}

impl MarkWatch {
    /// The mark that takes the place of the one in force, at the end of a block that shows it stale.
    fn stale(
        &mut self,
        evidence: &Evidence,
        (slowness, marks): (Slowness, &Marks),
        judged: &Judged,
    ) -> Option<Mark> {
        let epoch = evidence.epochs().get(&self.revision)?;
        let tally = epoch.variants.get(&self.control)?;
        let slow = &tally.slow[slowness.index()];
        let block = &mut self.blocks[slowness.index()];
        let begun = block.as_ref().filter(|block| block.marks == *marks && block.n <= slow.n);
        let times = || tally.latencies.as_deref()?.of(slowness.timing());
        let Some(begun) = begun else {
            let (n, above) = (slow.n, slow.above_control);
            let times = times().cloned().unwrap_or_default();
            *block = Some(Block { marks: marks.clone(), n, above, times });
            return None;
        };
        let n = slow.n - begun.n;
        if n < judged.least_control {
            return None;
        }
        let above = slow.above_control.saturating_sub(begun.above);
        let is_stale = (above * STALE) as f64 <= n as f64 * (1.0 - judged.quantile);
        let recent = times().map(|times| times.since(&begun.times));
        *block = None;
        let mark = Mark::freeze(&recent.filter(|_| is_stale)?, judged)?;
        (epoch.replaced(slowness) < MOST_REPLACED).then_some(mark)
    }
}

/// The marks that are due in an epoch now, for guardrails on latency: the first, once control was
/// seen often enough, and later those that take the place of stale ones. Give each to
/// [`Evidence::freeze`].
///
/// `margins` are the slowdowns that any step may ask about, besides the guardrails' own. Call it
/// from the end of warm-up on, in the newest epoch. With a new `watch` each time no mark is ever
/// replaced.
pub fn marks_due(
    evidence: &Evidence,
    (revision, control): (u64, u8),
    guardrails: &[Guardrail],
    margins: &[f64],
    watch: &mut MarkWatch,
) -> Vec<(Slowness, Marks)> {
    if (watch.revision, watch.control) != (revision, control) {
        *watch = MarkWatch { revision, control, ..MarkWatch::default() };
    }
    let mut due: Vec<(Slowness, Marks)> = Vec::new();
    for guardrail in guardrails {
        let Some(slowness) = guardrail.metric.slowness() else { continue };
        if due.iter().any(|(at, _)| *at == slowness) {
            continue;
        }
        let judged = Judged { tolerance: guardrail.tolerance, ..slowness.judged() };
        let epoch = evidence.epochs().get(&revision);
        let mark = match epoch.and_then(|epoch| epoch.marks[slowness.index()].as_ref()) {
            Some(marks) => watch.stale(evidence, (slowness, marks), &judged),
            None => Mark::freeze(&evidence.latencies(control, slowness.timing()), &judged),
        };
        if let Some(mark) = mark {
            let margin = guardrail.margin.unwrap_or_else(|| guardrail.usual_margin());
            let forgiven = [guardrail.tolerance, margin].into_iter().chain(margins.iter().copied());
            due.push((slowness, Marks::new(mark, forgiven)));
        }
    }
    due
}
