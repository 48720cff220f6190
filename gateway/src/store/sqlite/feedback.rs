//! Feedback: what people said of answers, one row for each (request, metric, key, id).

use rusqlite::{Connection, Transaction, params};
use serde_json::{Value, json};

use super::vocabulary::Vocabulary;
use super::{Fault, count, damaged, int};
use crate::clock;
use crate::store::{FeedbackRow, FeedbackValue};

const INSERT: &str = "INSERT INTO feedback (
        request_id, metric, key_id, id, received, experiment, revision, variant, unit_hash,
        eligible, asked_by, kind, number, text, segment)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING";

const OF_REQUEST: &str =
    "SELECT metric, key_id, id, kind, number, text, segment, received, eligible
    FROM feedback WHERE request_id = ?1 ORDER BY metric, key_id, id LIMIT ?2";

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

/// What was said of one request, by metric.
pub(super) fn of(connection: &Connection, id: [u8; 16], limit: u32) -> Result<Vec<Value>, Fault> {
    let mut statement = connection.prepare_cached(OF_REQUEST)?;
    let mut rows = statement.query(params![&id[..], limit])?;
    let mut said = Vec::new();
    while let Some(row) = rows.next()? {
        let number: Option<f64> = row.get(4)?;
        let value = match (row.get::<_, i64>(3)?, number) {
            (0, Some(number)) => Value::Bool(number != 0.0),
            (1, Some(number)) => Value::from(number),
            _ => row.get::<_, Option<String>>(5)?.into(),
        };
        let segment: Option<String> = row.get(6)?;
        let segment = segment.map(|text| serde_json::from_str::<Value>(&text));
        let segment = segment.transpose().map_err(|error| damaged(&"segments", &error))?;
        let id: String = row.get(2)?;
        said.push(json!({
            "metric": row.get::<_, String>(0)?,
            "value": value,
            "segment": segment,
            "key_id": row.get::<_, String>(1)?,
            "id": (!id.is_empty()).then_some(id),
            "received_at": clock::rfc3339_micros(row.get(7)?),
            "eligible": row.get::<_, bool>(8)?,
        }));
    }
    Ok(said)
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
pub(super) fn plans() -> [(&'static str, &'static str); 2] {
    [(DELETE_OLDEST, "USING PRIMARY KEY"), (OF_REQUEST, "USING PRIMARY KEY")]
}
