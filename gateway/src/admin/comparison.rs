//! Shadows beside what clients got: `GET /shadows/{s}/comparison`, disagreements that are kept, and a
//! fresh start.
//!
//! Every interval holds however often one looks; only `wilson` is for one look.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use policies::comparison::{ALPHA, Cause, FAILURES_TOLERATED, Reason, Tally};
use policies::statistics::attribution::{Epoch, log_e_harm};
use policies::statistics::shadow::{Agreed, PairedLatency};
use policies::statistics::{Interval, Verdict, threshold};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::access::Who;
use super::error::ApiError;
use super::experiments::{Because, body, reason};
use super::extract::{Body, Path, Query};
use super::idempotency::{Answer, Answers};
use super::status::items;
use super::{Context, to_the_end};
use crate::clock;
use crate::comparison::known::{Counts, Kept, Known};
use crate::comparison::{described, said};
use crate::snapshot::{RoutePlan, ShadowPlan, Snapshot};
use crate::store::AuditRow;

/// Ratios between which pairs are counted, from a quarter to four times: eight to a doubling.
const HISTOGRAM: usize = 33;

/// A shadow in force, with its route.
fn in_force<'a>(snapshot: &'a Snapshot, name: &str) -> Option<(&'a RoutePlan, &'a ShadowPlan)> {
    let of = |route: &'a RoutePlan| {
        Some((route, route.shadows.iter().find(|shadow| shadow.name == name)?))
    };
    snapshot.routes.iter().find_map(of)
}

fn missing(name: &str) -> ApiError {
    ApiError::missing(format!("shadow {name:?} does not exist"))
}

/// What is known of a shadow that is in force, or was and whose counts are kept.
fn known(context: &Context, name: &str) -> Result<Arc<Known>, ApiError> {
    context.shared.comparisons.of(name).ok_or_else(|| missing(name))
}

/// `GET /shadows/{s}/comparison`.
pub async fn show(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let known = known(&context, &name)?;
    let snapshot = context.shared.current.load_full();
    let (verdict, kept) = known.look();
    Ok(Json(told(&name, in_force(&snapshot, &name).zip(Some(&*snapshot)), &known, verdict, &kept)))
}

/// What a list of shadows says of its comparison.
pub(super) fn in_short(plan: &ShadowPlan) -> Value {
    let (verdict, kept) = plan.known.look();
    let agreed = kept.tally.agreed;
    json!({
        "kind": described(&plan.compare)["kind"],
        "revision": kept.revision,
        "pairs": kept.tally.pairs(),
        "agreement": agreement(&agreed),
        "passed": agreed.passes(plan.compare.min_pairs, plan.compare.agreement, &[verdict]),
        "words": said::headline(plan.name, &kept.tally, verdict),
    })
}

fn told(
    name: &str,
    in_force: Option<((&RoutePlan, &ShadowPlan), &Snapshot)>,
    known: &Known,
    verdict: Verdict,
    kept: &Kept,
) -> Value {
    let tally = &kept.tally;
    // Of a shadow that is gone, what it was about is all that is known.
    let subject: Value = serde_json::from_str(&kept.subject).unwrap_or_default();
    let mut out = json!({
        "shadow": name,
        "running": in_force.is_some(),
        "route": subject["route"],
        "backend": subject["backend"],
        "percent": in_force.map(|((_, shadow), _)| shadow.share * 100.0),
        "revision": kept.revision,
        "since": clock::rfc3339_micros(kept.began_at),
        "compare": subject["compare"],
        "words": said::headline(name, tally, verdict),
        "alpha": ALPHA,
        "pairs": tally.pairs(),
        "agreement": agreement(&tally.agreed),
        "differences": named(Cause::ALL.map(Cause::as_str), tally.differ),
        "not_comparable": named(Reason::ALL.map(Reason::as_str), tally.void),
        "by_backend": tally.by_backend.iter()
            .map(|(backend, agreed)| (backend.clone(), agreement(agreed)))
            .collect::<Map<_, _>>(),
        "status_pairs": tally.statuses.iter()
            .map(|(live, copy, count)| json!({ "live": live, "copy": copy, "count": count }))
            .collect::<Vec<_>>(),
        "other_status_pairs": tally.other_statuses,
        "labels": labels(tally),
        "similarity": similarity(tally),
        "largest_gap": tally.largest_gap,
        "latency": {
            "first_byte": latency(&tally.first_byte),
            "first_token": latency(&tally.first_piece),
            "end": latency(&tally.end),
            "slow_readers": tally.slow_readers,
        },
        "failures": failures(tally, verdict),
        "this_process": this_process(&known.counts),
    });
    if let Some(((_, shadow), snapshot)) = in_force {
        let compare = &shadow.compare;
        let passed = tally.agreed.passes(compare.min_pairs, compare.agreement, &[verdict]);
        let more = json!({
            "backend": snapshot.backends[shadow.backend].name,
            "passed": passed,
            "to_pass": {
                "agreement": compare.agreement,
                "min_pairs": compare.min_pairs,
                "words": said::passing(&tally.agreed, compare, verdict),
            },
            "answer_bytes": compare.answer_bytes,
            "samples": compare.samples.as_ref().map(|samples| json!({
                "most": samples.most, "bytes": samples.bytes,
                "retention_seconds": samples.retention.as_secs(),
            })),
        });
        super::status::merge(&mut out, more);
    }
    out
}

fn named<const N: usize>(names: [&str; N], counts: [u64; N]) -> Map<String, Value> {
    names.into_iter().zip(counts).map(|(name, count)| (name.to_owned(), count.into())).collect()
}

fn interval(interval: Interval) -> Value {
    // What is not known is `null`, not infinite: JSON has no such number.
    json!({ "low": interval.lower, "high": interval.upper })
}

fn agreement(agreed: &Agreed) -> Value {
    let Interval { lower, upper } = agreed.at_all_times(ALPHA);
    json!({
        "value": agreed.share(),
        "low": lower,
        "high": upper,
        "agreed": agreed.agreed,
        "pairs": agreed.pairs,
        "wilson": agreed.share().map(|_| interval(agreed.interval())),
    })
}

fn labels(tally: &Tally) -> Value {
    if tally.labels.agreement().pairs == 0 {
        return Value::Null;
    }
    let mut table: Vec<_> = tally.labels.table().collect();
    table.sort_by_key(|(live, copy, count)| (std::cmp::Reverse(*count), *live, *copy));
    let row = |(live, copy, count)| json!({ "live": live, "copy": copy, "count": count });
    json!({
        "kappa": tally.labels.kappa(),
        "table": table.into_iter().map(row).collect::<Vec<_>>(),
    })
}

fn similarity(tally: &Tally) -> Value {
    let counts = &tally.similarities.counts;
    if counts.iter().all(|count| *count == 0) {
        return Value::Null;
    }
    let bin = |(at, count): (usize, &u64)| {
        let edge = |at: usize| at as f64 / counts.len() as f64;
        json!({ "from": edge(at), "to": edge(at + 1), "count": count })
    };
    let ratios = &tally.length_ratios;
    json!({
        "bins": counts.iter().enumerate().map(bin).collect::<Vec<_>>(),
        "length_ratio": (ratios.n > 0).then_some(ratios.mean),
    })
}

/// How much slower copies are; `null` without pairs.
fn latency(paired: &PairedLatency) -> Value {
    if paired.pairs() == 0 {
        return Value::Null;
    }
    let signs = paired.signs();
    let (slower, faster) = (signs.treated, signs.control);
    let turned = Epoch { pi: signs.pi, treated: faster, control: slower };
    let slowdown = paired.slowdown(ALPHA);
    let bounds: Vec<f64> = (0..HISTOGRAM).map(|at| ((at as f64 - 16.0) / 8.0).exp2()).collect();
    let counts = paired.histogram(&bounds);
    let bin = |(at, count): (usize, u64)| {
        let before = at.checked_sub(1).and_then(|at| bounds.get(at));
        json!({ "from": before, "to": bounds.get(at), "count": count })
    };
    json!({
        "pairs": paired.pairs(),
        "ratio": slowdown.map(|(value, bounds)| json!({
            "value": value, "low": bounds.lower, "high": bounds.upper,
        })),
        "verdict": said::Pace::of(paired).as_str(),
        "p50": paired.quantile(0.5),
        "p95": paired.quantile(0.95),
        "p99": paired.quantile(0.99),
        "sign_test": {
            "slower": slower,
            "faster": faster,
            "equal": paired.pairs() - slower - faster,
            "log_e_slower": log_e_harm(&[signs], 1.0),
            "log_e_faster": log_e_harm(&[turned], 1.0),
            "threshold": threshold(ALPHA),
        },
        "histogram": counts.into_iter().enumerate().map(bin).collect::<Vec<_>>(),
    })
}

fn failures(tally: &Tally, verdict: Verdict) -> Value {
    json!({
        "only_copy": tally.failures.only_copy,
        "only_live": tally.failures.only_live,
        "both": tally.both_failed,
        "tolerance": FAILURES_TOLERATED - 1.0,
        "log_e_harm": log_e_harm(&[tally.failures.events()], FAILURES_TOLERATED),
        "threshold": threshold(ALPHA),
        "verdict": match verdict {
            Verdict::Breached => "breached",
            Verdict::Held => "held",
            Verdict::TooEarly => "too_early",
        },
    })
}

fn this_process(counts: &Counts) -> Value {
    json!({
        "dropped": counts.dropped.load(Relaxed),
        "outdated": counts.outdated.load(Relaxed),
        "samples": counts.samples.load(Relaxed),
        "samples_lost": counts.samples_lost.load(Relaxed),
    })
}

/// `POST /shadows/{s}/comparison/restart`: counting begins anew, because something changed that the
/// gateway does not see, such as the model behind a backend's name.
pub async fn restart(
    State(context): State<Context>,
    Path(name): Path<String>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Body(bytes): Body,
) -> Result<Answer, ApiError> {
    let what = format!("restart {name}");
    let key = Answers::key(&who, &headers)?;
    let _turn = context.answers.turn(key.as_deref()).await;
    if let Some(answer) = context.answers.find(key.as_deref(), &what)? {
        return Ok(answer);
    }
    let asked: Because = body(&bytes, Some(Because::default()))?;
    let reason = reason(asked.reason)?;
    let known = known(&context, &name)?;
    if in_force(&context.shared.current.load(), &name).is_none() {
        return Err(missing(&name));
    }
    let (_, before) = known.look();
    let audit = AuditRow {
        reason,
        before: json!({ "revision": before.revision, "pairs": before.tally.pairs() }),
        after: json!({ "revision": before.revision + 1 }),
        ..entry(&who, "comparison.restart", &name)
    };
    let store = context.store.clone();
    let revision = to_the_end(async move {
        store.call(move |store| store.add_audit(&audit)).await?;
        Ok::<u64, ApiError>(known.begin_anew())
    })
    .await??;
    let body = json!({ "shadow": name, "revision": revision });
    let answer = Answer { status: axum::http::StatusCode::OK, revision: None, body };
    context.answers.keep(key, what, &answer);
    Ok(answer)
}

/// `?cursor=&limit=`.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// `next` of the page before.
    cursor: Option<u64>,
    /// At most this many: 20 if it is not said, never more than 1,000.
    limit: Option<u32>,
}

/// `GET /shadows/{s}/disagreements`: what was kept, where that is allowed, newest first. Reading it is
/// an audit entry, and without one there is no reading (T27).
pub async fn disagreements(
    State(context): State<Context>,
    Path(name): Path<String>,
    Extension(who): Extension<Who>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, ApiError> {
    let limit = page.limit.unwrap_or(20).clamp(1, 1_000);
    let cursor = page.cursor;
    {
        let snapshot = context.shared.current.load();
        let (route, shadow) = in_force(&snapshot, &name).ok_or_else(|| missing(&name))?;
        if !who.caller.grants.allows(route.name) {
            return Err(ApiError::forbidden(format!("this key is not for route {:?}", route.name)));
        }
        if shadow.compare.samples.is_none() {
            return Err(ApiError::missing(format!(
                "shadow {name:?} keeps no disagreements; `samples` in [shadows.{name}.compare] and \
                 `payload_capture = true` in [routes.{}] make it keep the next ones",
                route.name
            )));
        }
    }
    let audit = AuditRow {
        after: json!({ "cursor": cursor, "limit": limit }),
        ..entry(&who, "disagreements.read", &name)
    };
    let shadow = name.clone();
    let read = move |store: &mut dyn crate::store::Store| {
        store.disagreements(&shadow, cursor, limit, &audit)
    };
    let found = context.store.call(read).await?;
    let next = (found.len() == limit as usize)
        .then(|| found.last().map(|last| last.id.to_string()))
        .flatten();
    let item = |each: crate::comparison::sample::Disagreement| {
        let mut item = json!({ "id": each.id, "at": clock::rfc3339_micros(each.at) });
        super::status::merge(&mut item, each.content);
        item
    };
    Ok(items(found.into_iter().map(item).collect(), next))
}

fn entry(who: &Who, action: &str, shadow: &str) -> AuditRow {
    super::audit::entry(who, action, &format!("shadow/{shadow}"), Value::Null)
}
