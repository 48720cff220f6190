//! The audit log: read, and held against itself.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Extension, State};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Context;
use super::access::Who;
use super::error::ApiError;
use super::extract::Query;
use super::requests::moment;
use super::status::List;
use crate::clock;
use crate::ids::hex;
use crate::store::{AuditEntry, AuditHead, AuditRow, KeyRow, RevisionRow};
use crate::telemetry::events;

/// Entries that are walked at once: a few milliseconds of the store's time.
const PIECE: u32 = 2_000;
/// Pieces that one page of a filtered list looks at.
const PIECES: usize = 50;
/// How often the newest entry is told to the log, if it is another one.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// `?actor=&action=&target=&since=&cursor=&limit=`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Only of this key's name, or `file`, `ramp`, `start`.
    actor: Option<String>,
    /// Only this action, or those that begin with it: `experiment.`.
    action: Option<String>,
    /// Only about this, such as `experiment/int8`.
    target: Option<String>,
    /// Only from here on: a duration before now (`2h`), or a time.
    since: Option<String>,
    /// `next` of the page before.
    cursor: Option<u64>,
    /// At most this many: 100 if it is not said, never more than 1,000.
    limit: Option<u32>,
}

/// One entry.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Entry {
    /// 1, 2, 3, … without gaps.
    id: u64,
    /// When, RFC 3339 in UTC.
    at: String,
    /// Public id of the key, or `file`, `ramp`, `start`.
    key_id: String,
    /// Name of the key.
    actor: String,
    /// Address it came from; empty where it came from none.
    from: String,
    /// What was done, such as `weights.set`, or read, such as `audit.read`.
    action: String,
    /// To what, such as `experiment/int8`.
    target: String,
    /// Why, if somebody said so.
    reason: Option<String>,
    /// What it was before.
    before: Value,
    /// What it is since.
    after: Value,
    /// Id of the call.
    request_id: String,
    /// BLAKE3 over the hash before and this entry, 64 hex digits.
    hash: String,
}

impl From<AuditEntry> for Entry {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { id, row, hash } = entry;
        Self {
            id,
            at: clock::rfc3339_micros(row.at),
            key_id: row.key_id,
            actor: row.actor,
            from: row.from,
            action: row.action,
            target: row.target,
            reason: row.reason,
            before: row.before,
            after: row.after,
            request_id: row.request_id,
            hash,
        }
    }
}

/// `GET /audit`, newest first. Whoever reads it does not find this reading in what it reads: the newest
/// entry is what was done last.
pub async fn list(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    Query(page): Query<Page>,
) -> Result<Json<List<Entry>>, ApiError> {
    let entries = entries(&context, page).await?;
    context.reads.note(&context, &who, "audit.read", "audit", EVERY_MINUTE).await;
    Ok(Json(entries))
}

async fn entries(context: &Context, page: Page) -> Result<List<Entry>, ApiError> {
    let since = match page.since.as_deref() {
        None => None,
        Some(text) => Some(moment(text).ok_or_else(|| {
            ApiError::invalid("`since` is not understood; give a duration such as 2h, or a time")
        })?),
    };
    let limit = page.limit.unwrap_or(100).clamp(1, 1_000);
    let wanted = |row: &AuditRow| {
        page.actor.as_ref().is_none_or(|actor| row.actor == *actor)
            && page.action.as_ref().is_none_or(|action| row.action.starts_with(action))
            && page.target.as_ref().is_none_or(|target| row.target == *target)
    };
    let is_filtered = page.actor.is_some() || page.action.is_some() || page.target.is_some();
    let step = if is_filtered { PIECE } else { limit };
    let (mut found, mut cursor) = (Vec::new(), page.cursor);
    for _ in 0..PIECES {
        let from = cursor;
        let entries = context.store.call(move |store| store.audit(from, step)).await?;
        let is_last = entries.len() < step as usize;
        for entry in entries {
            if since.is_some_and(|since| entry.row.at < since) {
                return Ok(List { items: found, next: None });
            }
            cursor = Some(entry.id);
            if wanted(&entry.row) {
                found.push(entry.into());
                if found.len() >= limit as usize {
                    let next = cursor.filter(|id| *id > 1).map(|id| id.to_string());
                    return Ok(List { items: found, next });
                }
            }
        }
        if is_last {
            return Ok(List { items: found, next: None });
        }
    }
    Ok(List { items: found, next: cursor.map(|id| id.to_string()) })
}

/// `?head=`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// An entry that somebody has kept, as `ID:HASH`: it must be there, and be that one.
    head: Option<String>,
}

/// What the chain says of itself.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Verdict {
    /// Whether nothing is wrong.
    intact: bool,
    /// Entries that fit, from the first on.
    entries: u64,
    /// The last of them: to be kept elsewhere, and held against a later verdict with `head`.
    head: Option<Head>,
    /// The first that does not fit.
    first_bad: Option<u64>,
    /// What is wrong, a sentence each.
    problems: Vec<String>,
}

/// An entry by number and hash.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Head {
    /// Number.
    id: u64,
    /// Hash, 64 hex digits.
    hash: String,
}

/// `GET /audit/verify`: walks the whole log. An entry that was changed, put in or taken out breaks the
/// chain. That its end was cut off shows by what is missing there: revisions and keys that no entry
/// tells of, the entry that this process saw last, and the one that the caller has kept.
pub async fn verify(
    State(context): State<Context>,
    Query(known): Query<Known>,
) -> Result<Json<Verdict>, ApiError> {
    let kept = known.head.as_deref().map(head).transpose()?;
    let mut anchors: Vec<(&str, AuditHead)> = Vec::new();
    anchors.extend(context.reads.head().map(|head| ("this process saw", head)));
    anchors.extend(kept.map(|head| ("you have kept", head)));
    // Read first: whatever is there now has its entry, which the walk must meet.
    let (stored, made) =
        context.store.call(|store| Ok((store.experiments()?, store.keys()?))).await?;
    let mut at = AuditHead::default();
    let mut revisions: HashMap<String, u64> = HashMap::new();
    let mut keys = HashSet::new();
    let mut problems = Vec::new();
    let first_bad = loop {
        // No piece ends beyond an anchor that is still ahead, so that its hash is seen.
        let ahead = anchors.iter().map(|(_, head)| head.id).filter(|id| *id > at.id).min();
        let most = ahead.map_or(PIECE, |id| u32::try_from(id - at.id).unwrap_or(PIECE).min(PIECE));
        let piece = context.store.call(move |store| store.check_audit(at, most)).await?;
        at = piece.head;
        for (experiment, revision) in piece.revisions {
            let newest = revisions.entry(experiment).or_default();
            *newest = revision.max(*newest);
        }
        keys.extend(piece.keys);
        for (who, anchor) in anchors.iter().filter(|(_, head)| head.id == at.id && at.id > 0) {
            if anchor.hash != at.hash {
                problems.push(format!("entry {} is not the one that {who}", at.id));
            }
        }
        if piece.bad.is_some() || piece.is_last && ahead.is_none_or(|ahead| at.id < ahead) {
            break piece.bad;
        }
    };
    match first_bad {
        Some(bad) => problems.push(format!(
            "entry {bad} does not follow from the one before: it or an earlier one was changed, put in \
             or taken out"
        )),
        None => {
            problems.extend(cut_off(at, &anchors));
            problems.extend(untold(&stored, &made, &revisions, &keys));
        }
    }
    Ok(Json(Verdict {
        intact: problems.is_empty(),
        entries: at.id,
        head: (at.id > 0).then(|| Head { id: at.id, hash: hex(&at.hash) }),
        first_bad,
        problems,
    }))
}

/// Entries that were seen and are not there.
fn cut_off(last: AuditHead, anchors: &[(&str, AuditHead)]) -> Vec<String> {
    let beyond = anchors.iter().filter(|(_, head)| head.id > last.id);
    let of = |(who, head): &(&str, AuditHead)| {
        format!("the log ends with entry {}, and {who} entry {}", last.id, head.id)
    };
    beyond.map(of).collect()
}

/// Revisions and keys that no entry tells of.
fn untold(
    stored: &[RevisionRow],
    made: &[KeyRow],
    revisions: &HashMap<String, u64>,
    keys: &HashSet<String>,
) -> Vec<String> {
    let told = |experiment: &str| revisions.get(experiment).copied().unwrap_or(0);
    let of_experiments = stored
        .iter()
        .filter(|row| row.revision > told(&row.experiment))
        .map(|row| format!("revision {} of experiment {:?}", row.revision, row.experiment));
    let of_keys = made
        .iter()
        .filter(|key| !keys.contains(&key.id))
        .map(|key| format!("key {} ({})", key.id, key.name));
    of_experiments
        .chain(of_keys)
        .map(|what| format!("no entry tells of {what}: the end of the log was cut off"))
        .collect()
}

/// `ID:HASH`.
fn head(text: &str) -> Result<AuditHead, ApiError> {
    let read = || {
        let (id, hash) = text.split_once(':')?;
        let mut bytes = [0; 32];
        (hash.len() == 64 && hash.is_ascii()).then_some(())?;
        for (byte, digits) in bytes.iter_mut().zip(hash.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(AuditHead { id: id.parse().ok()?, hash: bytes })
    };
    read().ok_or_else(|| {
        ApiError::invalid("`head` is not understood; give `ID:HASH` as an earlier verdict had it")
    })
}

/// How often one who reads again and again is written down.
pub const EVERY_MINUTE: Duration = Duration::from_secs(60);
/// The same of what a page shows that is open all day.
pub const EVERY_HOUR: Duration = Duration::from_secs(3_600);

/// Reads of what not everybody should read, and the newest entry of the log that was seen.
#[derive(Debug, Default)]
pub struct Reads {
    noted: Mutex<HashMap<(String, &'static str), Instant>>,
    head: Mutex<Option<AuditHead>>,
}

impl Reads {
    /// Writes down that `who` reads, unless that was written down lately. That it cannot be is no
    /// reason not to answer: it is logged.
    pub async fn note(
        &self,
        context: &Context,
        who: &Who,
        action: &'static str,
        target: &str,
        every: Duration,
    ) {
        let of = (who.caller.key_id.to_string(), action);
        {
            let mut noted = self.noted.lock();
            noted.retain(|_, at| at.elapsed() < EVERY_HOUR);
            if noted.get(&of).is_some_and(|at| at.elapsed() < every) {
                return;
            }
            noted.insert(of, clock::now());
        }
        let row = entry(who, action, target, Value::Null);
        if let Err(error) = context.store.call(move |store| store.add_audit(&row)).await {
            events::warning("weir.audit.unwritten", &format!("{action}: {error}"));
        }
    }

    fn head(&self) -> Option<AuditHead> {
        *self.head.lock()
    }
}

/// An entry about something that is not an experiment's or a key's.
pub fn entry(who: &Who, action: &str, target: &str, after: Value) -> AuditRow {
    let actor = who.actor();
    AuditRow {
        at: clock::unix_micros(),
        key_id: actor.key_id,
        actor: actor.name,
        from: actor.from,
        action: action.to_owned(),
        target: target.to_owned(),
        reason: None,
        before: Value::Null,
        after,
        request_id: actor.request_id,
    }
}

/// Remembers the newest entry, and tells it to the log: whoever keeps that elsewhere can prove later that
/// the end was not cut off.
pub async fn keep_telling_head(context: &Context) {
    let mut timer = tokio::time::interval(TELL_EVERY);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let Ok(newest) = context.store.call(|store| store.audit(None, 1)).await else { continue };
        let Some(newest) = newest.first() else { continue };
        let Ok(now) = head(&format!("{}:{}", newest.id, newest.hash)) else { continue };
        let mut seen = context.reads.head.lock();
        // One that went back is what a verdict should find.
        if seen.is_none_or(|seen| now.id > seen.id) {
            *seen = Some(now);
            events::audit_head(newest.id, &newest.hash);
        }
    }
}
