//! A store that fails when told to: before it keeps a change, after, or at every call.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::comparison::known::ComparisonRow;
use crate::comparison::sample::{Disagreement, DisagreementRow};
use crate::evidence::EvidenceRow;
use crate::recorder::row::Row;
use crate::store::outbox::{Outbox, Tried};
use crate::store::sqlite::Sqlite;
use crate::store::{
    Asked, AuditEntry, AuditHead, AuditPiece, AuditRow, Change, FeedbackRow, FileStatement,
    Installation, KeyRow, LayerRow, OutcomeQuery, RampRow, RevisionRow, Store, StoreError,
    TallyRow,
};
use crate::webhooks::Event;
use crate::webhooks::alert::Alert;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The next change is not kept.
    BeforeCommit,
    /// The next change is kept, and yet reported as failed.
    AfterCommit,
    /// The same, and from then on nothing can be read or written.
    AfterCommitThenAway,
    /// Nothing can be read or written.
    Away,
}

/// The store and its switch.
pub(super) struct Faulty {
    pub(super) store: Sqlite,
    pub(super) fault: Arc<Mutex<Fault>>,
}

fn failed() -> StoreError {
    StoreError::Unavailable("as the test asked".into())
}

impl Faulty {
    fn there(&mut self) -> Result<&mut Sqlite, StoreError> {
        if *self.fault.lock() == Fault::Away {
            return Err(failed());
        }
        Ok(&mut self.store)
    }
}

impl Store for Faulty {
    fn audited(&self) -> u64 {
        self.store.audited()
    }

    fn add_change(&mut self, change: &Change) -> Result<(), StoreError> {
        let fault = *self.fault.lock();
        let next = match fault {
            Fault::None => return self.store.add_change(change),
            Fault::Away => return Err(failed()),
            Fault::BeforeCommit => Fault::None,
            Fault::AfterCommit => self.store.add_change(change).map(|()| Fault::None)?,
            Fault::AfterCommitThenAway => self.store.add_change(change).map(|()| Fault::Away)?,
        };
        *self.fault.lock() = next;
        Err(failed())
    }
    fn installation(&mut self) -> Result<Installation, StoreError> {
        self.there()?.installation()
    }
    fn keys(&mut self) -> Result<Vec<KeyRow>, StoreError> {
        self.there()?.keys()
    }
    fn add_key(&mut self, key: &KeyRow, audit: &AuditRow) -> Result<(), StoreError> {
        self.there()?.add_key(key, audit)
    }
    fn revoke_key(&mut self, id: &str, at: i64, audit: &AuditRow) -> Result<(), StoreError> {
        self.there()?.revoke_key(id, at, audit)
    }
    fn experiments(&mut self) -> Result<Vec<RevisionRow>, StoreError> {
        self.there()?.experiments()
    }
    fn revisions(
        &mut self,
        experiment: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<RevisionRow>, StoreError> {
        self.there()?.revisions(experiment, before, limit)
    }
    fn definitions(&mut self) -> Result<Vec<(String, serde_json::Value)>, StoreError> {
        self.there()?.definitions()
    }
    fn file_statements(&mut self) -> Result<Vec<FileStatement>, StoreError> {
        self.there()?.file_statements()
    }
    fn layers(&mut self) -> Result<Vec<LayerRow>, StoreError> {
        self.there()?.layers()
    }
    fn ramps(&mut self, decisions: u32) -> Result<Vec<RampRow>, StoreError> {
        self.there()?.ramps(decisions)
    }
    fn set_ramp_state(&mut self, name: &str, number: u64, state: &str) -> Result<(), StoreError> {
        self.there()?.set_ramp_state(name, number, state)
    }
    fn outbox(&mut self, webhook: &str, now: i64) -> Result<Outbox, StoreError> {
        self.there()?.outbox(webhook, now)
    }
    fn tried_message(
        &mut self,
        webhook: &str,
        message: (u64, Event),
        tried: &Tried,
    ) -> Result<(), StoreError> {
        self.there()?.tried_message(webhook, message, tried)
    }
    fn cut_messages(&mut self, webhook: &str, now: i64) -> Result<u64, StoreError> {
        self.there()?.cut_messages(webhook, now)
    }
    fn hurry_messages(&mut self, webhook: &str) -> Result<(), StoreError> {
        self.there()?.hurry_messages(webhook)
    }
    fn forget_messages(
        &mut self,
        webhooks: &[String],
        experiments: &[String],
    ) -> Result<Vec<(String, u64)>, StoreError> {
        self.there()?.forget_messages(webhooks, experiments)
    }
    fn lasting(&mut self) -> Result<Vec<Alert>, StoreError> {
        self.there()?.lasting()
    }
    fn add_audit(&mut self, audit: &AuditRow) -> Result<(), StoreError> {
        self.there()?.add_audit(audit)
    }
    fn audit(&mut self, before: Option<u64>, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.there()?.audit(before, limit)
    }
    fn check_audit(&mut self, from: AuditHead, limit: u32) -> Result<AuditPiece, StoreError> {
        self.there()?.check_audit(from, limit)
    }
    fn add_outcomes(&mut self, boot: [u8; 16], rows: &[Box<Row>]) -> Result<(), StoreError> {
        self.there()?.add_outcomes(boot, rows)
    }
    fn outcomes(&mut self, query: &OutcomeQuery) -> Result<Vec<serde_json::Value>, StoreError> {
        self.there()?.outcomes(query)
    }
    fn outcome(&mut self, id: [u8; 16]) -> Result<Option<serde_json::Value>, StoreError> {
        self.there()?.outcome(id)
    }
    fn boots(&mut self) -> Result<Vec<([u8; 16], u64, u64)>, StoreError> {
        self.there()?.boots()
    }
    fn delete_outcomes(&mut self, before: i64, limit: u32) -> Result<u64, StoreError> {
        self.there()?.delete_outcomes(before, limit)
    }
    fn outcome_of(&mut self, ids: &[[u8; 16]]) -> Result<Vec<Option<Asked>>, StoreError> {
        self.there()?.outcome_of(ids)
    }
    fn add_feedback(&mut self, rows: &[&FeedbackRow]) -> Result<Vec<bool>, StoreError> {
        self.there()?.add_feedback(rows)
    }
    fn feedback_of(
        &mut self,
        id: [u8; 16],
        limit: u32,
    ) -> Result<Vec<serde_json::Value>, StoreError> {
        self.there()?.feedback_of(id, limit)
    }
    fn delete_feedback(&mut self, before: i64, limit: u32) -> Result<u64, StoreError> {
        self.there()?.delete_feedback(before, limit)
    }
    fn set_tallies(&mut self, boot: [u8; 16], rows: &[TallyRow]) -> Result<(), StoreError> {
        self.there()?.set_tallies(boot, rows)
    }
    fn set_evidence(&mut self, rows: &[EvidenceRow]) -> Result<(), StoreError> {
        self.there()?.set_evidence(rows)
    }
    fn evidence(&mut self) -> Result<Vec<EvidenceRow>, StoreError> {
        self.there()?.evidence()
    }
    fn set_comparisons(&mut self, rows: &[ComparisonRow]) -> Result<(), StoreError> {
        self.there()?.set_comparisons(rows)
    }
    fn comparisons(&mut self) -> Result<Vec<ComparisonRow>, StoreError> {
        self.there()?.comparisons()
    }
    fn delete_comparisons(
        &mut self,
        keep: &[String],
        before: i64,
    ) -> Result<Vec<String>, StoreError> {
        self.there()?.delete_comparisons(keep, before)
    }
    fn add_disagreements(&mut self, rows: &[DisagreementRow]) -> Result<(), StoreError> {
        self.there()?.add_disagreements(rows)
    }
    fn disagreements(
        &mut self,
        shadow: &str,
        before: Option<u64>,
        limit: u32,
        audit: &AuditRow,
    ) -> Result<Vec<Disagreement>, StoreError> {
        self.there()?.disagreements(shadow, before, limit, audit)
    }
    fn keep_disagreements(&mut self, allowed: &[(String, i64, u32)]) -> Result<(), StoreError> {
        self.there()?.keep_disagreements(allowed)
    }
    fn delete_evidence(&mut self, before: i64) -> Result<Vec<String>, StoreError> {
        self.there()?.delete_evidence(before)
    }
    fn tallies(&mut self) -> Result<Vec<([u8; 16], TallyRow)>, StoreError> {
        self.there()?.tallies()
    }
    fn check(&mut self) -> Result<(), StoreError> {
        self.there()?.check()
    }
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.there()?.reopen()
    }
}
