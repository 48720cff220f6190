//! What the gateway keeps: keys, experiments and their revisions, the audit log, outcomes, tallies.
//!
//! [`Store`] is the narrow trait; `store/sqlite.rs` is the embedded default. Everything blocks, and
//! everything runs on one thread of its own (`store/thread.rs`), so that neither a request nor the
//! admin runtime ever waits inside a database. No SQL and no database type leaves `store/`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::comparison::known::ComparisonRow;
use crate::comparison::sample::{Disagreement, DisagreementRow};
use crate::evidence::EvidenceRow;
use crate::ids::RequestId;
use crate::names::Name;
use crate::recorder::row::Row;
use crate::webhooks::Event;
use crate::webhooks::alert::Alert;

pub mod outbox;
pub mod spool;
pub mod sqlite;
pub mod thread;

use outbox::{Outbox, Subscriber, Tried};

/// Secrets and identity of one installation, made at the first start and kept.
///
/// No `Debug` of the content: every member but `instance` is a secret.
#[derive(Clone)]
pub struct Installation {
    /// Key of the assignment hash.
    pub hash_key: [u8; 16],
    /// Pepper of stored key hashes.
    pub pepper: [u8; 32],
    /// Key that signs receipts.
    pub receipt_key: [u8; 32],
    /// Identity of this store in records, 32 hex digits.
    pub instance: String,
}

impl std::fmt::Debug for Installation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Installation").field("instance", &self.instance).finish_non_exhaustive()
    }
}

/// A stored key. The secret itself is never stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyRow {
    /// Public id.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Role, as written (`client`, …).
    pub role: String,
    /// Routes it may call; `None` for all.
    pub routes: Option<Vec<String>>,
    /// `policies::api_key::stored_hash`.
    #[serde(skip)]
    pub hash: [u8; 32],
    /// Seconds since 1970.
    pub created_at: i64,
    /// Who made it.
    pub created_by: String,
    /// Seconds since 1970.
    pub expires_at: Option<i64>,
    /// Seconds since 1970; set means revoked.
    pub revoked_at: Option<i64>,
    /// Own limits.
    pub requests_per_second: Option<f64>,
    /// Own limits.
    pub concurrent: Option<u32>,
    /// Own limits.
    pub tokens_per_minute: Option<u64>,
}

/// Where a revision came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The configuration file.
    File,
    /// The admin API.
    Api,
    /// A ramp.
    Ramp,
}

/// Whether an experiment decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It decides.
    Running,
    /// Kill switch: the route's backend serves everything.
    Stopped,
    /// It is over; results stay.
    Ended,
}

/// One revision of one experiment: the weights and the buckets they were dealt to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevisionRow {
    /// Experiment.
    pub experiment: String,
    /// 1, 2, 3, … without gaps.
    pub revision: u64,
    /// State from this revision on.
    pub state: State,
    /// Variants and relative weights, control first.
    pub weights: Vec<(String, f64)>,
    /// `routing::Allocation::to_bytes`.
    #[serde(skip)]
    pub allocation: Arc<[u8]>,
    /// Source.
    pub source: Source,
    /// Who: key name, or `file`.
    pub by: String,
    /// Microseconds since 1970.
    pub at: i64,
    /// Reason given.
    pub reason: Option<String>,
    /// Buckets that changed hands.
    pub buckets_moved: u16,
    /// The revision this one takes back.
    pub undoes: Option<u64>,
    /// What the experiment is from this revision on, where that changed: its definition, or null for
    /// what the file says.
    pub definition: Option<serde_json::Value>,
}

/// What the file says of an experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatement {
    /// Experiment.
    pub experiment: String,
    /// Its split, as canonical text (see `live::statement`).
    pub split: String,
    /// All of its definition, as canonical text; `None`: an earlier version did not keep it.
    pub whole: Option<String>,
}

/// One entry of the audit log, before the store numbers and chains it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Microseconds since 1970.
    pub at: i64,
    /// Public id of the key, or `file`, `start`.
    pub key_id: String,
    /// Name of the key.
    pub actor: String,
    /// Address it came from; empty for the file.
    pub from: String,
    /// What was done, such as `weights.set`.
    pub action: String,
    /// To what, such as `experiment/int8`.
    pub target: String,
    /// Reason given.
    pub reason: Option<String>,
    /// State before, JSON.
    pub before: serde_json::Value,
    /// State after, JSON.
    pub after: serde_json::Value,
    /// Id of the admin request.
    pub request_id: String,
}

/// An audit entry as stored: numbered and chained (D8).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// 1, 2, 3, … without gaps.
    pub id: u64,
    /// Entry.
    #[serde(flatten)]
    pub row: AuditRow,
    /// BLAKE3 over the previous hash and this entry, hex.
    pub hash: String,
}

/// The newest entry of an audit log, or of a part of it: number and hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditHead {
    /// Number; 0 before the first.
    pub id: u64,
    /// Hash; zeros before the first.
    pub hash: [u8; 32],
}

/// A part of the audit log that was walked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditPiece {
    /// The last entry that fits.
    pub head: AuditHead,
    /// The first that does not.
    pub bad: Option<u64>,
    /// Whether there is nothing behind it.
    pub is_last: bool,
    /// Revisions of experiments that entries tell of.
    pub revisions: Vec<(String, u64)>,
    /// Ids of keys that entries tell of.
    pub keys: Vec<String>,
}

/// Cumulative tally of one variant under one revision, as this process counted it.
#[derive(Clone, Debug, PartialEq)]
pub struct TallyRow {
    /// Route.
    pub route: String,
    /// Experiment; empty for traffic that no experiment decided.
    pub experiment: String,
    /// Revision; 0 without an experiment.
    pub revision: u64,
    /// Variant; empty without an experiment.
    pub variant: String,
    /// Encoded counts and sketches; the recorder knows the shape.
    pub bytes: Vec<u8>,
}

/// A layer: its name, the names of its slots, `routing::Allocation::to_bytes`.
pub type LayerRow = (String, Vec<String>, Vec<u8>);

/// One decision of a ramp, with where it leaves the ramp: kept together, or not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct RampStep {
    /// Experiment.
    pub experiment: String,
    /// Number of the decision: 1, 2, 3, … without gaps.
    pub number: u64,
    /// What the ramp is told, JSON.
    pub settings: String,
    /// Where it stands now, JSON.
    pub state: String,
    /// The decision with its evidence, JSON.
    pub decision: String,
    /// Audit entry of a decision that makes no revision; one that does has the revision's.
    pub audit: Option<AuditRow>,
}

/// A ramp as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct RampRow {
    /// Experiment.
    pub experiment: String,
    /// Number of its newest decision.
    pub number: u64,
    /// What it is told, JSON.
    pub settings: String,
    /// Where it stands, JSON.
    pub state: String,
    /// Its newest decisions, oldest first, JSON each.
    pub decisions: Vec<String>,
}

/// What one change keeps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Revisions and one audit entry for each, in the order in which they are made.
    pub revisions: Vec<(RevisionRow, AuditRow)>,
    /// What the file says now, by experiment, all of it: one not named here is forgotten. `None`
    /// leaves what is remembered.
    pub statements: Option<Vec<FileStatement>>,
    /// Layers whose allocation is another one now; the others stay.
    pub layers: Vec<LayerRow>,
    /// Decisions of ramps.
    pub ramps: Vec<RampStep>,
    /// What is seen and changes nothing. Kept unless it is known already: what lasts is told when it
    /// begins and when it ends.
    pub seen: Vec<AuditRow>,
    /// Who is told of all this: messages for them are kept with the audit entries.
    pub subscribers: Arc<[Subscriber]>,
}

impl Change {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        let Self { revisions, statements, layers, ramps, seen, subscribers: _ } = self;
        revisions.is_empty()
            && statements.is_none()
            && layers.is_empty()
            && ramps.is_empty()
            && seen.is_empty()
    }
}

/// What `GET /requests` asks for. Empty members do not filter.
#[derive(Clone, Debug, Default)]
pub struct OutcomeQuery {
    /// Route.
    pub route: Option<String>,
    /// Experiment.
    pub experiment: Option<String>,
    /// Assigned variant.
    pub variant: Option<String>,
    /// Outcome as in `policies::outcome::Outcome::as_str`.
    pub outcome: Option<String>,
    /// Total time above, microseconds.
    pub slower: Option<u64>,
    /// Keyed hash of the unit.
    pub unit_hash: Option<u64>,
    /// Started at or after, microseconds since 1970.
    pub since: Option<i64>,
    /// Continue after this request id (newest first).
    pub before: Option<[u8; 16]>,
    /// At most this many.
    pub limit: u32,
}

/// A piece of the answer to an [`OutcomeQuery`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutcomePage {
    /// Newest first; may be fewer than asked for, even none, although there are more.
    pub items: Vec<serde_json::Value>,
    /// Where to go on (`before` of the next query); `None` when there is nothing more.
    pub next: Option<[u8; 16]>,
}

/// What somebody said of one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedbackRow {
    /// The request whose answer it is about.
    pub request_id: [u8; 16],
    /// What was asked.
    pub metric: Name,
    /// Key that said it.
    pub key_id: Arc<str>,
    /// The client's own id of this answer. One is kept for each (request, metric, key, id).
    pub id: Option<Box<str>>,
    /// What was said.
    pub value: FeedbackValue,
    /// Labels, a JSON object of strings.
    pub segment: Option<Box<str>>,
    /// Microseconds since 1970.
    pub received_at: i64,
    /// What it is credited to.
    pub exposure: Exposure,
}

/// The value of a [`FeedbackRow`].
#[derive(Clone, Debug, PartialEq)]
pub enum FeedbackValue {
    /// Yes or no.
    Bool(bool),
    /// Finite.
    Number(f64),
    /// Kept, not analysed.
    Text(Box<str>),
}

/// What a request was assigned, as far as feedback is credited to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposure {
    /// Experiment.
    pub experiment: Name,
    /// Its revision then: the epoch.
    pub revision: u64,
    /// Assigned variant.
    pub variant: Name,
    /// Keyed hash of the unit.
    pub unit_hash: u64,
    /// Whether chance dealt the variant.
    pub eligible: bool,
    /// Key that made the request, if another one gives the feedback.
    pub asked_by: Option<Box<str>>,
}

/// A request as its outcome tells it: who may speak of it, and what it was assigned.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Key that made it.
    pub key_id: String,
    /// Its route.
    pub route: Option<Name>,
    /// What it was assigned; `None` if no experiment took it. `asked_by` is left out.
    pub exposure: Option<Exposure>,
}

/// Something the store could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is locked, full, read-only or gone: trying later may help.
    #[error("store is not available: {0}")]
    Unavailable(String),
    /// The file is not what it should be; nothing was changed.
    #[error("store is damaged: {0}")]
    Damaged(String),
    /// The file was written by a newer version.
    #[error("store has schema {found}, this version knows up to {known}")]
    Newer {
        /// In the file.
        found: u32,
        /// Known here.
        known: u32,
    },
    /// A row that must be new exists already (a revision, a key id).
    #[error("{0} exists already")]
    Exists(String),
    /// No such row.
    #[error("{0} does not exist")]
    Missing(String),
}

/// What the gateway keeps. All methods block and are atomic: all or nothing.
pub trait Store: Send {
    /// The installation's secrets; made on the first call.
    fn installation(&mut self) -> Result<Installation, StoreError>;

    /// Every key, revoked ones too.
    fn keys(&mut self) -> Result<Vec<KeyRow>, StoreError>;
    /// Adds a key and its audit entry.
    fn add_key(&mut self, key: &KeyRow, audit: &AuditRow) -> Result<(), StoreError>;
    /// Revokes a key, with its audit entry. Revoking twice changes nothing and is no error.
    fn revoke_key(&mut self, id: &str, at: i64, audit: &AuditRow) -> Result<(), StoreError>;

    /// The newest revision of every experiment ever seen.
    fn experiments(&mut self) -> Result<Vec<RevisionRow>, StoreError>;
    /// Keeps a whole change with its audit entries, in one transaction. Doing it twice is doing it
    /// once: a revision or decision that is there already, member for member, is left alone with its
    /// entry. `Exists` if another one has its number: somebody else was faster. `Missing` if it would
    /// leave a gap.
    fn add_change(&mut self, change: &Change) -> Result<(), StoreError>;
    /// Revisions of one experiment, newest first, below `before` if given.
    fn revisions(
        &mut self,
        experiment: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<RevisionRow>, StoreError>;

    /// What each experiment is that was ever defined elsewhere than in the file: the newest
    /// `RevisionRow::definition` of each, null if the file defines it again.
    fn definitions(&mut self) -> Result<Vec<(String, serde_json::Value)>, StoreError>;

    /// What the file said of each experiment when it was last read, by experiment.
    fn file_statements(&mut self) -> Result<Vec<FileStatement>, StoreError>;

    /// Allocation tables of layers, by layer name (`routing::Allocation::to_bytes`, with the names
    /// of its slots).
    fn layers(&mut self) -> Result<Vec<LayerRow>, StoreError>;

    /// Every ramp, with at most `decisions` of its newest decisions.
    fn ramps(&mut self, decisions: u32) -> Result<Vec<RampRow>, StoreError>;
    /// Keeps where a ramp stands since its decision of this number; nothing if it has decided since.
    fn set_ramp_state(
        &mut self,
        experiment: &str,
        number: u64,
        state: &str,
    ) -> Result<(), StoreError>;

    /// How it stands with what a webhook is still to be told, at `now` (microseconds since 1970).
    fn outbox(&mut self, webhook: &str, now: i64) -> Result<Outbox, StoreError>;
    /// Keeps what became of a try to deliver what entry `audit` is to `webhook`. Nothing if the message
    /// is gone.
    fn tried_message(
        &mut self,
        webhook: &str,
        message: (u64, Event),
        tried: &Tried,
    ) -> Result<(), StoreError>;
    /// Gives up the oldest messages that wait for a webhook, beyond `outbox::MOST_WAITING`, at `now`
    /// (microseconds since 1970); how many.
    fn cut_messages(&mut self, webhook: &str, now: i64) -> Result<u64, StoreError>;
    /// Everything that waits for a webhook is due now.
    fn hurry_messages(&mut self, webhook: &str) -> Result<(), StoreError>;
    /// Forgets what waits for webhooks that are not among `webhooks`, and what lasts of experiments
    /// that are not among `experiments`; which webhooks those were, and how many messages waited.
    fn forget_messages(
        &mut self,
        webhooks: &[String],
        experiments: &[String],
    ) -> Result<Vec<(String, u64)>, StoreError>;
    /// What began and has not ended, in the order in which it began.
    fn lasting(&mut self) -> Result<Vec<Alert>, StoreError>;

    /// Adds an audit entry that belongs to no other row.
    fn add_audit(&mut self, audit: &AuditRow) -> Result<(), StoreError>;
    /// Audit entries, newest first, below `before` if given.
    fn audit(&mut self, before: Option<u64>, limit: u32) -> Result<Vec<AuditEntry>, StoreError>;
    /// How many audit entries were added through this value, whatever was there before.
    fn audited(&self) -> u64;
    /// Walks the chain of audit entries on from `from`, over `limit` of them at most.
    fn check_audit(&mut self, from: AuditHead, limit: u32) -> Result<AuditPiece, StoreError>;
    /// Walks the whole chain; the number of entries, or the first one that does not fit.
    fn verify_audit(&mut self) -> Result<Result<u64, u64>, StoreError> {
        let piece = self.check_audit(AuditHead::default(), u32::MAX)?;
        Ok(piece.bad.map_or(Ok(piece.head.id), Err))
    }

    /// Adds outcomes; rows that are there already are left alone (D3). All rows carry `boot`.
    fn add_outcomes(&mut self, boot: [u8; 16], rows: &[Box<Row>]) -> Result<(), StoreError>;
    /// The same of rows that were never given to a store before: nobody looks whether they are there.
    fn add_new_outcomes(&mut self, boot: [u8; 16], rows: &[Box<Row>]) -> Result<(), StoreError> {
        self.add_outcomes(boot, rows)
    }
    /// Outcomes as JSON objects (members named as in the access log, plus `boot_id`, `seq`), newest
    /// first.
    fn outcomes(&mut self, query: &OutcomeQuery) -> Result<Vec<serde_json::Value>, StoreError>;
    /// The same in pieces of bounded work: what is rare may be far back, and a search for it must not
    /// hold up the recorder. Ask again with `next` until there are enough, or the asker's patience
    /// ends.
    fn outcome_page(&mut self, query: &OutcomeQuery) -> Result<OutcomePage, StoreError> {
        let items = self.outcomes(query)?;
        let full = u32::try_from(items.len()).is_ok_and(|found| found >= query.limit);
        let last = items.last().filter(|_| full);
        let next = last.and_then(|item| RequestId::parse(item.get("request_id")?.as_str()?));
        Ok(OutcomePage { items, next: next.map(|id| id.0) })
    }
    /// One outcome.
    fn outcome(&mut self, id: [u8; 16]) -> Result<Option<serde_json::Value>, StoreError>;
    /// Per boot: id, greatest seq stored, rows stored (D4: lost = greatest - rows, less pending).
    fn boots(&mut self) -> Result<Vec<([u8; 16], u64, u64)>, StoreError>;
    /// Deletes outcomes started before `before` (microseconds since 1970), the oldest first, until about
    /// `limit` have gone; how many. The last tenth of a second before it may stay.
    fn delete_outcomes(&mut self, before: i64, limit: u32) -> Result<u64, StoreError>;

    /// What is known of these requests, in their order; `None` where no outcome is stored.
    fn outcome_of(&mut self, ids: &[[u8; 16]]) -> Result<Vec<Option<Asked>>, StoreError>;
    /// Adds feedback. For each row in its order whether it is new: what is there already, also
    /// earlier among these rows, is left alone (D3).
    fn add_feedback(&mut self, rows: &[&FeedbackRow]) -> Result<Vec<bool>, StoreError>;
    /// What was said of one request, as JSON objects, by metric; at most `limit`.
    fn feedback_of(
        &mut self,
        id: [u8; 16],
        limit: u32,
    ) -> Result<Vec<serde_json::Value>, StoreError>;
    /// Deletes about `limit` answers to requests made before `before` (microseconds since 1970); how
    /// many.
    fn delete_feedback(&mut self, before: i64, limit: u32) -> Result<u64, StoreError>;

    /// Replaces these tallies of this boot (cumulative, so repeating is harmless); others stay.
    fn set_tallies(&mut self, boot: [u8; 16], rows: &[TallyRow]) -> Result<(), StoreError>;
    /// Every tally of every boot.
    fn tallies(&mut self) -> Result<Vec<([u8; 16], TallyRow)>, StoreError>;

    /// Replaces the evidence of these experiments; that of others stays.
    fn set_evidence(&mut self, rows: &[EvidenceRow]) -> Result<(), StoreError>;
    /// The evidence of every experiment.
    fn evidence(&mut self) -> Result<Vec<EvidenceRow>, StoreError>;
    /// Deletes the evidence of experiments that are over, if it did not change since `before`
    /// (microseconds since 1970); whose it was.
    fn delete_evidence(&mut self, before: i64) -> Result<Vec<String>, StoreError>;

    /// Replaces the counts of these shadows; those of others stay.
    fn set_comparisons(&mut self, rows: &[ComparisonRow]) -> Result<(), StoreError>;
    /// The counts of every shadow.
    fn comparisons(&mut self) -> Result<Vec<ComparisonRow>, StoreError>;
    /// Deletes the counts of shadows that are not in `keep`, if they did not change since `before`
    /// (microseconds since 1970); whose they were.
    fn delete_comparisons(
        &mut self,
        keep: &[String],
        before: i64,
    ) -> Result<Vec<String>, StoreError>;
    /// Adds disagreements that may be kept.
    fn add_disagreements(&mut self, rows: &[DisagreementRow]) -> Result<(), StoreError>;
    /// Disagreements of a shadow, newest first, below `before` if given. Nobody reads them without an
    /// audit entry: it is added in the same transaction (T27).
    fn disagreements(
        &mut self,
        shadow: &str,
        before: Option<u64>,
        limit: u32,
        audit: &AuditRow,
    ) -> Result<Vec<Disagreement>, StoreError>;
    /// Keeps of each of these shadows the newest disagreements: at most so many, of requests that came
    /// at or after a time (microseconds since 1970). Deletes all others.
    fn keep_disagreements(&mut self, allowed: &[(String, i64, u32)]) -> Result<(), StoreError>;

    /// A cheap sign of life: can it read and write?
    fn check(&mut self) -> Result<(), StoreError>;
    /// Makes the connection anew after an error that leaves its state in doubt (F15).
    fn reopen(&mut self) -> Result<(), StoreError>;
}
