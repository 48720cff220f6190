//! Feedback: what people said of answers, one row for each (request, metric, key, id).

use rusqlite::{Transaction, params};

use super::vocabulary::Vocabulary;
use super::{Fault, count, int};
use crate::store::{FeedbackRow, FeedbackValue};

const INSERT: &str = "INSERT INTO feedback (
        request_id, metric, key_id, id, received, experiment, revision, variant, unit_hash,
        eligible, asked_by, kind, number, text, segment)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING";

/// The oldest, up to the last of ?2 rows; of one request all or none.
const DELETE_OLDEST: &str = "DELETE FROM feedback WHERE request_id < ?1 AND request_id <= (
        SELECT max(request_id) FROM (
            SELECT request_id FROM feedback ORDER BY request_id LIMIT ?2))";

/// Adds rows that are not there; for each whether it was added.
pub(super) fn add(
    transaction: &Transaction<'_>,
    vocabulary: &mut Vocabulary,
    rows: &[&FeedbackRow],
) -> Result<Vec<bool>, Fault> {
    let mut statement = transaction.prepare_cached(INSERT)?;
    let mut added = Vec::with_capacity(rows.len());
    for row in rows {
        // Field by field, so that a new one does not compile until it is kept.
        let FeedbackRow { request_id, metric, key_id, id, value, segment, received_at, exposure } =
            row;
        let (kind, number, text) = match value {
            FeedbackValue::Bool(yes) => (0, Some(f64::from(u8::from(*yes))), None),
            FeedbackValue::Number(number) => (1, Some(*number), None),
            FeedbackValue::Text(text) => (2, None, Some(text)),
        };
        let new = statement.execute(params![
            &request_id[..],
            metric,
            key_id,
            id.as_deref().unwrap_or_default(),
            received_at,
            vocabulary.number(transaction, exposure.experiment)?,
            int(exposure.revision),
            vocabulary.number(transaction, exposure.variant)?,
            exposure.unit_hash.cast_signed(),
            exposure.eligible,
            exposure.asked_by,
            kind,
            number,
            text,
            segment,
        ])?;
        added.push(new == 1);
    }
    Ok(added)
}

/// Deletes the oldest answers to requests made before `before` (µs), about `limit`; how many.
pub(super) fn delete(transaction: &Transaction<'_>, before: i64, limit: u32) -> Result<u64, Fault> {
    // The least id of that millisecond: 48 bits of time, then chance.
    let millis = count(before / 1000).min((1 << 48) - 1);
    let least = ((u128::from(millis)) << 80).to_be_bytes();
    let deleted = transaction.prepare_cached(DELETE_OLDEST)?.execute(params![&least[..], limit])?;
    Ok(deleted as u64)
}

/// Every query that walks through feedback, and the index it must use.
#[cfg(test)]
pub(super) fn plans() -> [(&'static str, &'static str); 1] {
    [(DELETE_OLDEST, "USING PRIMARY KEY")]
}
