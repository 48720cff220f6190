//! Outcomes of schema 1, which had a column for every member: moved to schema 2 when the store is brought
//! up to date.

use std::collections::HashMap;

use rusqlite::{Connection, Statement, Transaction, params};

use super::packed::{More, bit};
use crate::ids::RequestId;
use crate::store::sqlite::vocabulary::{Vocabulary, Way};
use crate::store::sqlite::{Fault, count};

/// Moves what `outcomes_1` holds to `outcomes` and drops it. Takes up to 30 µs a row.
pub(in crate::store::sqlite) fn move_rows(transaction: &Transaction<'_>) -> Result<(), Fault> {
    {
        let mut old = transaction.prepare("SELECT * FROM outcomes_1 ORDER BY rowid")?;
        let mut new = transaction.prepare(
            "INSERT INTO outcomes
                (boot, id_high, id_low, seq, way, status, outcome, t_total, unit_hash, more)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING",
        )?;
        let mut vocabulary = Vocabulary::default();
        // Asking the row for a place by name takes longer than the row.
        let places =
            (0..).zip(old.column_names()).map(|(at, name)| (name.to_owned(), at)).collect();
        let mut rows = old.query([])?;
        while let Some(row) = rows.next()? {
            move_one(transaction, &mut vocabulary, &places, row, &mut new)?;
        }
    }
    Ok(transaction.execute_batch("DROP TABLE outcomes_1")?)
}

fn move_one(
    connection: &Connection,
    vocabulary: &mut Vocabulary,
    places: &HashMap<String, usize>,
    row: &rusqlite::Row<'_>,
    to: &mut Statement<'_>,
) -> Result<(), Fault> {
    // One that is not there is an error of the row.
    let at = |column: &str| places.get(column).copied().unwrap_or(usize::MAX);
    let number = |column| row.get::<_, Option<i64>>(at(column));
    let packed = |column| number(column).map(|number| number.map(count));
    let some = |column| row.get(at(column)).map(count);
    let bytes = |column| -> rusqlite::Result<_> {
        Ok(row.get_ref(at(column))?.as_blob_or_null()?.unwrap_or_default())
    };
    let text_or_null =
        |column| -> rusqlite::Result<_> { Ok(row.get_ref(at(column))?.as_str_or_null()?) };
    let text = |column| text_or_null(column).map(Option::unwrap_or_default);
    let mut way = Way::default();
    for (place, column) in
        way.iter_mut().zip(["route", "pattern", "experiment", "variant", "served", "backend"])
    {
        *place = number(column)?.unwrap_or(0);
    }
    let id: [u8; 16] = row.get(at("request_id"))?;
    let made = RequestId(id).unix_nanos().cast_signed();
    let trace = row.get::<_, Option<[u8; 40]>>(at("trace"))?.unwrap_or([0; 40]);
    let mut trace_id = [0; 16];
    trace_id.copy_from_slice(&trace[..16]);
    let span = |at| {
        let mut id = [0; 8];
        id.copy_from_slice(&trace[at..at + 8]);
        id
    };
    // NULL where it is the same.
    let path = text_or_null("path")?;
    let more = More {
        bits: some("bits")? | if path.is_none() { bit::PATH_IS_PATTERN } else { 0 },
        started: row.get::<_, i64>(at("started"))?.wrapping_sub(made),
        reason: packed("reason")?,
        rejected: packed("rejected")?,
        flag: packed("flag")?,
        tls_version: packed("tls_version")?,
        tls_cipher: packed("tls_cipher")?,
        request_model: packed("request_model")?,
        revision: some("revision")?,
        bucket: packed("bucket")?,
        attempts: some("attempts")?,
        upstream_status: some("upstream_status")?,
        request_bytes: some("request_bytes")?,
        response_bytes: some("response_bytes")?,
        chunks: some("chunks")?,
        input_tokens: packed("input_tokens")?,
        output_tokens: packed("output_tokens")?,
        t_header: packed("t_header")?,
        t_auth: packed("t_auth")?,
        t_connect: packed("t_connect")?,
        t_send: packed("t_send")?,
        t_first_byte: packed("t_first_byte")?,
        t_first_token: packed("t_first_token")?,
        t_stream: packed("t_stream")?,
        t_gateway: packed("t_gateway")?,
        peer: bytes("peer")?,
        client: bytes("client")?,
        endpoint: bytes("endpoint")?,
        trace_id,
        span_id: span(16),
        parent_span_id: span(24),
        attempt_span_id: span(32),
        method: text("method")?,
        path: path.unwrap_or_default(),
        host: text("host")?,
        user_agent: text("user_agent")?,
        key_id: text("key_id")?,
        response_model: text("response_model")?,
        finish_reason: text("finish_reason")?,
        client_request_id: text("client_request_id")?,
        upstream_request_id: text("upstream_request_id")?,
        t_attempt: None,
        tried: "",
    };
    let (high, low) = super::schema_2::halves(id);
    to.execute(params![
        row.get::<_, i64>(at("boot"))?,
        high,
        low,
        row.get::<_, i64>(at("seq"))?,
        vocabulary.way_of(connection, way)?,
        row.get::<_, i64>(at("status"))?,
        number("outcome")?,
        number("t_total")?,
        number("unit_hash")?,
        more.write(),
    ])?;
    Ok(())
}
