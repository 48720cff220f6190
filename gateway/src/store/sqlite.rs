//! The embedded store: one SQLite file in WAL mode, one writer.
//!
//! Reading order: `open` makes a connection, `migrate` the schema (`migrations/*.sql`), `changes` and `audit` keep what
//! people change, `outcomes` what requests did, with `vocabulary` for its names, `tallies` the
//! counts, `feedback` what people said of answers and `exposures` whose answers those were.
//!
//! What it promises, and how: a method that answers `Ok` has been synced to stable storage
//! (`synchronous=FULL`, D1); a write takes the lock at its beginning (`BEGIN IMMEDIATE`), so it
//! never fails half-way because somebody else wrote; a file that is not what it should be is left
//! as it is (F14): not even the write-ahead log is folded into it. Values are always bound, never
//! part of the text (T21).

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, ffi, params,
};

use self::open::{connect, keep_hands_off};
use self::outcomes::Arrival;
use self::vocabulary::Vocabulary;
use super::outbox::{Outbox, Tried};
use super::{
    Asked, AuditEntry, AuditHead, AuditPiece, AuditRow, Change, FeedbackRow, FileStatement,
    Installation, KeyRow, LayerRow, OutcomePage, OutcomeQuery, RampRow, RevisionRow, Store,
    StoreError, TallyRow,
};
use crate::comparison::known::ComparisonRow;
use crate::comparison::sample::{Disagreement, DisagreementRow};
use crate::evidence::EvidenceRow;
use crate::ids;
use crate::recorder::row::Row;
use crate::webhooks::Event;
use crate::webhooks::alert::Alert;

mod audit;
mod changes;
mod comparisons;
mod evidence;
mod exposures;
mod feedback;
mod migrate;
mod open;
mod outbox;
mod outcomes;
mod ramps;
mod tallies;
mod vocabulary;

/// How long a write waits for another connection's lock.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A [`Store`] in one SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    busy_timeout: Duration,
    connection: Connection,
    vocabulary: Vocabulary,
    state: Health,
    // Audit entries committed.
    audited: u64,
}

/// What the last failure means for the next call.
#[derive(Debug)]
enum Health {
    /// Nothing.
    Sound,
    /// Reading or writing failed: what the connection has in memory may not be what is on disk, so
    /// it is made anew first (F15).
    InDoubt,
    /// The file is damaged: nothing is written to it until `reopen` finds it whole.
    Damaged(String),
}

impl Sqlite {
    /// Opens the file at `path`, or makes it, readable for its owner only: it holds secrets.
    ///
    /// # Errors
    /// `Damaged` if the file is not a whole store of this program, `Newer` if a later version made
    /// it, `Unavailable` if it cannot be opened or is locked. The file is unchanged in each case.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, BUSY_TIMEOUT)
    }

    /// The same with another patience for locks than [`BUSY_TIMEOUT`].
    ///
    /// # Errors
    /// As [`Sqlite::open`].
    pub fn open_with(path: &Path, busy_timeout: Duration) -> Result<Self, StoreError> {
        let connection = connect(path, busy_timeout, true).map_err(|fault| fault.named(path))?;
        Ok(Self {
            path: path.to_owned(),
            busy_timeout,
            connection,
            vocabulary: Vocabulary::default(),
            state: Health::Sound,
            audited: 0,
        })
    }

    /// Runs one operation, and draws the conclusions if it fails.
    fn run<T>(
        &mut self,
        operation: impl FnOnce(&mut Connection, &mut Vocabulary) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        match &self.state {
            Health::Sound => {}
            Health::InDoubt => self.connect_anew(false)?,
            Health::Damaged(what) => return Err(StoreError::Damaged(what.clone())),
        }
        operation(&mut self.connection, &mut self.vocabulary).map_err(|fault| {
            // It may hold numbers that were just rolled back.
            self.vocabulary = Vocabulary::default();
            if let Fault::Sql(error) = &fault {
                match error.sqlite_error_code() {
                    Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                        keep_hands_off(&self.connection);
                        self.state = Health::Damaged(damage(&self.path, error));
                    }
                    Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
                        keep_hands_off(&self.connection);
                        self.state = Health::InDoubt;
                    }
                    _ => {}
                }
            }
            fault.named(&self.path)
        })
    }

    /// Runs one operation inside a transaction that takes the write lock first.
    fn write<T>(
        &mut self,
        operation: impl FnOnce(&Transaction<'_>, &mut Vocabulary) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.run(|connection, vocabulary| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = operation(&transaction, vocabulary)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    fn connect_anew(&mut self, check: bool) -> Result<(), StoreError> {
        self.vocabulary = Vocabulary::default();
        self.connection = connect(&self.path, self.busy_timeout, check)
            .map_err(|fault| fault.named(&self.path))?;
        self.state = Health::Sound;
        Ok(())
    }
}

impl Store for Sqlite {
    fn installation(&mut self) -> Result<Installation, StoreError> {
        if let Some(made) = self.run(|connection, _| installation(connection))? {
            return Ok(made);
        }
        self.write(|transaction, _| {
            // Asked again under the lock: another process may have been faster.
            if let Some(made) = installation(transaction)? {
                return Ok(made);
            }
            let mut instance = [0; 16];
            let mut new = Installation {
                hash_key: [0; 16],
                pepper: [0; 32],
                receipt_key: [0; 32],
                instance: String::new(),
            };
            let secrets: [&mut [u8]; 4] =
                [&mut new.hash_key, &mut new.pepper, &mut new.receipt_key, &mut instance];
            for bytes in secrets {
                ids::random(bytes).map_err(|error| {
                    StoreError::Unavailable(format!("no random numbers for secrets: {error}"))
                })?;
            }
            new.instance = ids::hex(&instance);
            transaction.execute(
                "INSERT INTO installation (only_row, hash_key, pepper, receipt_key, instance)
                 VALUES (1, ?1, ?2, ?3, ?4)",
                params![&new.hash_key[..], &new.pepper[..], &new.receipt_key[..], new.instance],
            )?;
            Ok(new)
        })
    }

    fn keys(&mut self) -> Result<Vec<KeyRow>, StoreError> {
        self.run(|connection, _| changes::keys(connection))
    }

    fn add_key(&mut self, key: &KeyRow, audit: &AuditRow) -> Result<(), StoreError> {
        self.write(|transaction, _| {
            changes::add_key(transaction, key)?;
            audit::append(transaction, audit).map(drop)
        })?;
        self.audited += 1;
        Ok(())
    }

    fn revoke_key(&mut self, id: &str, at: i64, audit: &AuditRow) -> Result<(), StoreError> {
        let revoked = self.write(|transaction, _| {
            let revoked = changes::revoke_key(transaction, id, at)?;
            if revoked {
                audit::append(transaction, audit)?;
            }
            Ok(revoked)
        })?;
        self.audited += u64::from(revoked);
        Ok(())
    }

    fn experiments(&mut self) -> Result<Vec<RevisionRow>, StoreError> {
        self.run(|connection, _| changes::experiments(connection))
    }

    fn add_change(&mut self, change: &Change) -> Result<(), StoreError> {
        let entries = self.write(|transaction, _| changes::add(transaction, change))?;
        self.audited += entries;
        Ok(())
    }

    fn revisions(
        &mut self,
        experiment: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<RevisionRow>, StoreError> {
        self.run(|connection, _| changes::revisions(connection, experiment, before, limit))
    }

    fn definitions(&mut self) -> Result<Vec<(String, serde_json::Value)>, StoreError> {
        self.run(|connection, _| changes::definitions(connection))
    }

    fn file_statements(&mut self) -> Result<Vec<FileStatement>, StoreError> {
        self.run(|connection, _| changes::file_statements(connection))
    }

    fn layers(&mut self) -> Result<Vec<LayerRow>, StoreError> {
        self.run(|connection, _| changes::layers(connection))
    }

    fn ramps(&mut self, decisions: u32) -> Result<Vec<RampRow>, StoreError> {
        self.run(|connection, _| ramps::list(connection, decisions))
    }

    fn set_ramp_state(
        &mut self,
        experiment: &str,
        number: u64,
        state: &str,
    ) -> Result<(), StoreError> {
        self.write(|transaction, _| ramps::set_state(transaction, experiment, number, state))
    }

    fn outbox(&mut self, webhook: &str, now: i64) -> Result<Outbox, StoreError> {
        self.run(|connection, _| outbox::look(connection, webhook, now))
    }

    fn tried_message(
        &mut self,
        webhook: &str,
        message: (u64, Event),
        tried: &Tried,
    ) -> Result<(), StoreError> {
        self.write(|transaction, _| outbox::tried(transaction, webhook, message, tried))
    }

    fn cut_messages(&mut self, webhook: &str, now: i64) -> Result<u64, StoreError> {
        self.write(|transaction, _| outbox::cut(transaction, webhook, now))
    }

    fn hurry_messages(&mut self, webhook: &str) -> Result<(), StoreError> {
        self.write(|transaction, _| outbox::hurry(transaction, webhook))
    }

    fn forget_messages(
        &mut self,
        webhooks: &[String],
        experiments: &[String],
    ) -> Result<Vec<(String, u64)>, StoreError> {
        self.write(|transaction, _| outbox::forget(transaction, webhooks, experiments))
    }

    fn lasting(&mut self) -> Result<Vec<Alert>, StoreError> {
        self.run(|connection, _| outbox::lasting(connection))
    }

    fn add_audit(&mut self, audit: &AuditRow) -> Result<(), StoreError> {
        self.write(|transaction, _| audit::append(transaction, audit).map(drop))?;
        self.audited += 1;
        Ok(())
    }

    fn audit(&mut self, before: Option<u64>, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.run(|connection, _| audit::list(connection, before, limit))
    }

    fn audited(&self) -> u64 {
        self.audited
    }

    fn check_audit(&mut self, from: AuditHead, limit: u32) -> Result<AuditPiece, StoreError> {
        self.run(|connection, _| audit::check(connection, from, limit))
    }

    fn add_outcomes(&mut self, boot: [u8; 16], rows: &[Box<Row>]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.write(|transaction, vocabulary| {
            outcomes::add(transaction, vocabulary, boot, rows, Arrival::Again)
        })
    }

    fn add_new_outcomes(&mut self, boot: [u8; 16], rows: &[Box<Row>]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.write(|transaction, vocabulary| {
            outcomes::add(transaction, vocabulary, boot, rows, Arrival::First)
        })
    }

    fn outcomes(&mut self, query: &OutcomeQuery) -> Result<Vec<serde_json::Value>, StoreError> {
        let mut found = Vec::new();
        let mut query = query.clone();
        loop {
            let page = self.outcome_page(&query)?;
            query.limit -= u32::try_from(page.items.len()).unwrap_or(u32::MAX).min(query.limit);
            query.before = page.next;
            found.extend(page.items);
            if query.before.is_none() || query.limit == 0 {
                return Ok(found);
            }
        }
    }

    fn outcome_page(&mut self, query: &OutcomeQuery) -> Result<OutcomePage, StoreError> {
        self.run(|connection, vocabulary| outcomes::page(connection, vocabulary, query))
    }

    fn outcome(&mut self, id: [u8; 16]) -> Result<Option<serde_json::Value>, StoreError> {
        self.run(|connection, vocabulary| outcomes::one(connection, vocabulary, id))
    }

    fn boots(&mut self) -> Result<Vec<([u8; 16], u64, u64)>, StoreError> {
        self.run(|connection, _| {
            let mut statement = connection
                .prepare_cached("SELECT boot, greatest_seq, stored FROM boots ORDER BY id")?;
            let rows = statement
                .query_map([], |row| Ok((row.get(0)?, count(row.get(1)?), count(row.get(2)?))))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn delete_outcomes(&mut self, before: i64, limit: u32) -> Result<u64, StoreError> {
        self.write(|transaction, _| outcomes::delete(transaction, before, limit))
    }

    fn outcome_of(&mut self, ids: &[[u8; 16]]) -> Result<Vec<Option<Asked>>, StoreError> {
        self.run(|connection, vocabulary| exposures::of(connection, vocabulary, ids))
    }

    fn add_feedback(&mut self, rows: &[&FeedbackRow]) -> Result<Vec<bool>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        self.write(|transaction, vocabulary| feedback::add(transaction, vocabulary, rows))
    }

    fn feedback_of(
        &mut self,
        id: [u8; 16],
        limit: u32,
    ) -> Result<Vec<serde_json::Value>, StoreError> {
        self.run(|connection, _| feedback::of(connection, id, limit))
    }

    fn delete_feedback(&mut self, before: i64, limit: u32) -> Result<u64, StoreError> {
        self.write(|transaction, _| feedback::delete(transaction, before, limit))
    }

    fn set_tallies(&mut self, boot: [u8; 16], rows: &[TallyRow]) -> Result<(), StoreError> {
        self.write(|transaction, _| tallies::set(transaction, boot, rows))
    }

    fn set_evidence(&mut self, rows: &[EvidenceRow]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.write(|transaction, _| evidence::set(transaction, rows))
    }

    fn evidence(&mut self) -> Result<Vec<EvidenceRow>, StoreError> {
        self.run(|connection, _| evidence::all(connection))
    }

    fn delete_evidence(&mut self, before: i64) -> Result<Vec<String>, StoreError> {
        self.write(|transaction, _| evidence::delete(transaction, before))
    }

    fn set_comparisons(&mut self, rows: &[ComparisonRow]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.write(|transaction, _| comparisons::set(transaction, rows))
    }

    fn comparisons(&mut self) -> Result<Vec<ComparisonRow>, StoreError> {
        self.run(|connection, _| comparisons::all(connection))
    }

    fn delete_comparisons(
        &mut self,
        keep: &[String],
        before: i64,
    ) -> Result<Vec<String>, StoreError> {
        self.write(|transaction, _| comparisons::delete(transaction, keep, before))
    }

    fn add_disagreements(&mut self, rows: &[DisagreementRow]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.write(|transaction, _| comparisons::add_disagreements(transaction, rows))
    }

    fn disagreements(
        &mut self,
        shadow: &str,
        before: Option<u64>,
        limit: u32,
        audit: &AuditRow,
    ) -> Result<Vec<Disagreement>, StoreError> {
        let found = self.write(|transaction, _| {
            audit::append(transaction, audit)?;
            comparisons::disagreements(transaction, shadow, before, limit)
        })?;
        self.audited += 1;
        Ok(found)
    }

    fn keep_disagreements(&mut self, allowed: &[(String, i64, u32)]) -> Result<(), StoreError> {
        self.write(|transaction, _| comparisons::keep_disagreements(transaction, allowed))
    }

    fn tallies(&mut self) -> Result<Vec<([u8; 16], TallyRow)>, StoreError> {
        self.run(|connection, _| tallies::all(connection))
    }

    fn check(&mut self) -> Result<(), StoreError> {
        self.write(|transaction, _| {
            transaction.prepare_cached("UPDATE installation SET beats = beats + 1")?.execute([])?;
            Ok(())
        })
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        keep_hands_off(&self.connection);
        let check = matches!(self.state, Health::Damaged(_));
        self.connect_anew(check)
    }
}

/// The installation, if it was made already.
fn installation(connection: &Connection) -> Result<Option<Installation>, Fault> {
    let mut statement = connection
        .prepare_cached("SELECT hash_key, pepper, receipt_key, instance FROM installation")?;
    let made = statement.query_row([], |row| {
        Ok(Installation {
            hash_key: row.get(0)?,
            pepper: row.get(1)?,
            receipt_key: row.get(2)?,
            instance: row.get(3)?,
        })
    });
    Ok(made.optional()?)
}

/// What went wrong inside, before it is put into the words of [`StoreError`].
#[derive(Debug)]
enum Fault {
    Sql(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<rusqlite::types::FromSqlError> for Fault {
    fn from(error: rusqlite::types::FromSqlError) -> Self {
        Self::Sql(error.into())
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Fault {
    /// In words for people, with the file in it.
    fn named(self, path: &Path) -> StoreError {
        let error = match self {
            Self::Store(error) => return error,
            Self::Sql(error) => error,
        };
        let shown = path.display();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Damaged(damage(path, &error))
            }
            Some(ErrorCode::ConstraintViolation) if is_taken(&error) => {
                StoreError::Exists(format!("{shown}: a row ({error})"))
            }
            // Busy, locked, full, read-only, input/output, cannot open; and whatever else SQLite
            // may say: nothing was changed, and it may go better later.
            Some(_) => StoreError::Unavailable(format!("{shown}: {error}")),
            // A value that is not of its column's type or not what was written.
            None => StoreError::Damaged(format!("{shown}: {error}")),
        }
    }
}

/// What an operator needs to know of a damaged file.
fn damage(path: &Path, what: &dyn std::fmt::Display) -> String {
    let file = path.display();
    format!(
        "{file}: {what}. Nothing was changed. Restore a backup of the file; or move {file}, \
         {file}-wal and {file}-shm aside to start with an empty store, in which the keys, \
         revisions and outcomes of this one are missing"
    )
}

/// A stored value that cannot be understood.
fn damaged(what: &dyn std::fmt::Display, error: &dyn std::fmt::Display) -> Fault {
    StoreError::Damaged(format!("{what}: {error}")).into()
}

/// Whether a row was refused because one like it is there.
fn is_taken(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        matches!(
            error.extended_code,
            ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
        )
    })
}

/// A count as SQLite keeps it.
fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count as it was kept.
fn count(int: i64) -> u64 {
    u64::try_from(int).unwrap_or(0)
}

#[cfg(test)]
pub(in crate::store) mod tests;
