//! `POST /feedback`: what people said of answers, credited to the variant that gave them.
//!
//! Every item is judged by itself, and one that is refused does not spoil the others. The answer
//! leaves when everything it counts as stored is on stable storage (hardening D1).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header};
use policies::Permission;
use policies::api_key::KeyEntry;
use serde::Serialize;

use crate::feedback::counts::{OTHER, Outcome};
use crate::feedback::rules::{Metric, PATH, Said};
use crate::feedback::{Away, Claim, Entry, Fate};
use crate::ids::RequestId;
use crate::names::{Name, intern};
use crate::request::read_head::Head;
use crate::request::receipt::{Read, Room};
use crate::request::{Answer, Cx, Record, Rejection, admit, payload};
use crate::store::{Exposure, FeedbackRow, FeedbackValue};

pub mod items;

use items::{About, Item};

/// Largest body: a thousand receipts with what belongs to them are half of it.
const MOST_BYTES: u64 = 1 << 20;
/// The outcome of a request that has just ended may not be stored yet: it is looked for again, after
/// so long each time.
const LOOK_AGAIN: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(150), Duration::from_millis(400)];
/// Requests younger than this can be such.
const JUST_ENDED_MICROS: i64 = 600 * 1_000_000;

/// Whether this is feedback, unless a route has the path.
pub fn is_sent(head: &Head) -> bool {
    head.path == PATH && head.method == Method::POST
}

/// What the client reads.
#[derive(Debug, Serialize)]
struct Told {
    stored: usize,
    duplicates: usize,
    rejected: Vec<Rejected>,
}

/// An item that was not taken.
#[derive(Debug, Serialize)]
struct Rejected {
    index: usize,
    code: &'static str,
    error: Cow<'static, str>,
}

/// Why an item is not taken.
struct Refused {
    outcome: Outcome,
    why: Cow<'static, str>,
    experiment: Name,
    metric: Name,
}

impl Refused {
    fn invalid(why: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome: Outcome::Invalid, why: why.into(), experiment: "", metric: OTHER }
    }
}

/// Takes feedback.
///
/// # Errors
/// 429 where a limit of the key is reached, 400, 408 and 413 for the body, 503 while the store is
/// away. An item that is refused is told in the answer.
pub async fn take(cx: &Cx, caller: &KeyEntry, record: &mut Record) -> Result<Answer, Rejection> {
    let places = admit::limits(cx, caller, false)?;
    record.own(PATH, places);
    let body = payload::whole(cx, record, MOST_BYTES).await?;
    let received_at = i64::try_from(record.row().started_unix_nanos / 1_000).unwrap_or(i64::MAX);

    let mut told = Told { stored: 0, duplicates: 0, rejected: Vec::new() };
    let mut entries = Vec::new();
    // The place of each entry among the items.
    let mut places = Vec::new();
    for (index, raw) in items::list(&body).map_err(Rejection::BadBody)?.into_iter().enumerate() {
        let entry = items::item(raw)
            .map_err(Refused::invalid)
            .and_then(|item| entry(cx, caller, item, received_at));
        match entry {
            Ok(entry) => {
                entries.push(entry);
                places.push(index);
            }
            Err(refused) => reject(cx, &mut told, index, refused),
        }
    }
    for (index, entry) in places.into_iter().zip(keep(cx, entries).await?) {
        let refused = match entry.fate {
            Fate::Stored => {
                told.stored += 1;
                continue;
            }
            Fate::Duplicate => {
                told.duplicates += 1;
                continue;
            }
            Fate::NoExperiment => {
                Refused::invalid("no experiment took this request: there is nothing to credit")
            }
            Fate::UnknownRequest | Fate::Waiting => Refused {
                outcome: Outcome::UnknownRequest,
                why:
                    "no request of this key with this id is stored here; a receipt needs no look-up"
                        .into(),
                ..Refused::invalid("")
            },
        };
        reject(cx, &mut told, index, Refused { metric: entry.label, ..refused });
    }
    told.rejected.sort_by_key(|rejected| rejected.index);
    answer(&told)
}

fn answer(told: &Told) -> Result<Answer, Rejection> {
    let body = serde_json::to_vec(told).map_err(|_| Rejection::Internal)?;
    let mut response = Response::new(Bytes::from(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Answer::Own(response))
}

fn reject(cx: &Cx, told: &mut Told, index: usize, refused: Refused) {
    let Refused { outcome, why, experiment, metric } = refused;
    cx.worker.shared.feedback.counts().add(experiment, metric, outcome, 1);
    told.rejected.push(Rejected { index, code: outcome.as_str(), error: why });
}

/// What is to be kept of an item, unless it is refused.
fn entry(cx: &Cx, caller: &KeyEntry, item: Item<'_>, received_at: i64) -> Result<Entry, Refused> {
    let Item { about, metric, value, id, segment } = item;
    let rules = &cx.snapshot.feedback;
    let metric = rules.metric(&metric, &cx.worker.shared.feedback).map_err(Refused::invalid)?;
    let of_metric = |refused: Refused| Refused { metric: metric.label, ..refused };
    metric.check(&value).map_err(|why| of_metric(Refused::invalid(why)))?;
    let others = caller.role.allows(Permission::FeedbackForOthers);
    let (request_id, asked_at, exposure, claim) = match about {
        About::Receipt(text) => {
            let mut room = Room::default();
            let receipt = Read::of(&text, &cx.snapshot.receipt_key, &mut room)
                // Of whatever is wrong with it, nothing is told.
                .ok_or_else(|| of_metric(Refused::invalid("this is no receipt of ours")))?;
            let exposure = credited(cx, caller, &receipt, others).map_err(of_metric)?;
            let asked_at = micros(receipt.at_millis);
            (receipt.request_id, asked_at, exposure, None)
        }
        About::Request(text) => {
            let unknown = || of_metric(Refused::invalid("`request_id` is no id of a request"));
            let RequestId(id) = RequestId::parse(&text).ok_or_else(unknown)?;
            // A UUIDv7 begins with its time. One that was made up is not found.
            let millis = u64::from_be_bytes([0, 0, id[0], id[1], id[2], id[3], id[4], id[5]]);
            let claim = Claim { routes: caller.grants.clone(), others };
            (id, micros(millis), Exposure::default(), Some(claim))
        }
    };
    in_time(&metric, asked_at, received_at, exposure.experiment)?;
    let value = match value {
        Said::Bool(yes) => FeedbackValue::Bool(yes),
        Said::Number(number) => FeedbackValue::Number(number),
        Said::Text(text) => FeedbackValue::Text(text.into()),
    };
    let row = FeedbackRow {
        request_id,
        metric: metric.name,
        key_id: Arc::clone(&caller.id),
        id: id.map(Box::from),
        value,
        segment,
        received_at,
        exposure,
    };
    Ok(Entry { row, asked_at, claim, label: metric.label, fate: Fate::Waiting })
}

/// What a receipt says was assigned, if this key may speak of it (T31).
fn credited(
    cx: &Cx,
    caller: &KeyEntry,
    receipt: &Read<'_>,
    others: bool,
) -> Result<Exposure, Refused> {
    let own = *receipt.key_id == *caller.id;
    if !own && !others {
        return Err(Refused::invalid("this receipt was given to another key"));
    }
    let known = cx.snapshot.feedback.experiment(receipt.experiment);
    let allowed = match known {
        Some(known) => caller.grants.allows(known.route),
        // The experiment is over. What a key was allowed to ask, it may speak of.
        None => own || caller.grants == policies::Grants::All,
    };
    if !allowed {
        return Err(Refused::invalid("this credential may not call the route of this receipt"));
    }
    // A signed name was a configured one, so that no client's text is interned.
    let variant = known.and_then(|known| known.variant(receipt.variant));
    Ok(Exposure {
        experiment: known.map_or_else(|| intern(receipt.experiment), |known| known.name),
        revision: receipt.revision,
        variant: variant.unwrap_or_else(|| intern(receipt.variant)),
        unit_hash: receipt.unit_hash,
        eligible: receipt.eligible,
        asked_by: (!own).then(|| receipt.key_id.into()),
    })
}

/// Whether it comes within its metric's window. A clock that is behind makes nothing too late.
fn in_time(
    metric: &Metric,
    asked_at: i64,
    received_at: i64,
    experiment: Name,
) -> Result<(), Refused> {
    let age = u64::try_from(received_at.saturating_sub(asked_at)).unwrap_or(0);
    if Duration::from_micros(age) <= metric.window {
        return Ok(());
    }
    let window = crate::config::show_duration(metric.window);
    Err(Refused {
        outcome: Outcome::Expired,
        why: format!("its request is too long ago: this metric is taken for {window}").into(),
        experiment,
        metric: metric.label,
    })
}

fn micros(millis: u64) -> i64 {
    i64::try_from(millis.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

/// Brings entries to stable storage; in their order, with their fates.
async fn keep(cx: &Cx, entries: Vec<Entry>) -> Result<Vec<Entry>, Rejection> {
    if entries.is_empty() {
        return Ok(entries);
    }
    let feedback = &cx.worker.shared.feedback;
    let count = |metrics: &[Name]| {
        for metric in metrics {
            feedback.counts().add("", metric, Outcome::Unavailable, 1);
        }
    };
    let mut labels: Vec<Name> = entries.iter().map(|entry| entry.label).collect();
    let mut kept = feedback.keep(entries).await.map_err(|Away| {
        count(&labels);
        Rejection::StoreAway
    })?;
    for pause in LOOK_AGAIN {
        let just_ended = |entry: &Entry| {
            entry.fate == Fate::UnknownRequest
                && entry.row.received_at - entry.asked_at < JUST_ENDED_MICROS
        };
        let places: Vec<usize> = (0..kept.len()).filter(|&at| just_ended(&kept[at])).collect();
        if places.is_empty() {
            break;
        }
        tokio::time::sleep(pause).await;
        let again = places
            .iter()
            .map(|&at| Entry { fate: Fate::Waiting, ..kept[at].clone() })
            .collect::<Vec<_>>();
        labels = again.iter().map(|entry| entry.label).collect();
        let again = feedback.keep(again).await.map_err(|Away| {
            count(&labels);
            Rejection::StoreAway
        })?;
        for (at, entry) in places.into_iter().zip(again) {
            kept[at] = entry;
        }
    }
    Ok(kept)
}
