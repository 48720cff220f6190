//! Outcomes: how they are laid out, added, found and forgotten.
//!
//! Request ids are UUIDv7 made when `started_unix_nanos` was read, so their order is the order of
//! time, new rows go to the end of table and index, and a time says where to look. A clock that is
//! set back by more than [`SLACK_MILLIS`] while requests run breaks only that: such rows may be
//! missing from an answer with `since`, or be kept longer.

use std::net::{IpAddr, SocketAddr};

use policies::outcome::Flag;
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Statement, ToSql, Transaction, params};
use serde_json::{Map, Value};

use super::vocabulary::{self, Vocabulary};
use super::{Fault, count, int, tallies};
use crate::clock::rfc3339;
use crate::ids::{RequestId, hex};
use crate::names::Name;
use crate::recorder::row::{Protocol, Row};
use crate::store::{OutcomePage, OutcomeQuery, StoreError};

/// Rows that one call may look at. About 20 ms: the recorder's batches wait that long at most.
const STEP: u32 = 20_000;

/// How far the time in a request id may lie from the time of its row.
const SLACK_MILLIS: i64 = 60_000;

/// Number of the name `ok`; the migration and the index `outcomes_not_ok` say so too.
const OK: i64 = 1;

/// Members of `bits`.
mod bit {
    pub(super) const SAMPLED: i64 = 1;
    pub(super) const ELIGIBLE: i64 = 1 << 1;
    pub(super) const REUSED: i64 = 1 << 2;
    pub(super) const STREAM: i64 = 1 << 3;
    pub(super) const COMPLETE: i64 = 1 << 4;
    pub(super) const TOKENS_ESTIMATED: i64 = 1 << 5;
    pub(super) const SHADOW: i64 = 1 << 6;
    /// One of the two is set, or neither: HTTP/1.1.
    pub(super) const HTTP_10: i64 = 1 << 7;
    pub(super) const HTTP_2: i64 = 1 << 8;
}

/// Columns in the order in which [`add_one`] binds them.
const INSERT: &str = "INSERT INTO outcomes (
        request_id, boot, seq, started, bits, route, pattern, experiment, revision, variant, served,
        reason, bucket, unit_hash, backend, endpoint, attempts, upstream_status, status, outcome,
        rejected, flag, method, path, host, user_agent, key_id, peer, client, tls_version,
        tls_cipher, request_bytes, response_bytes, chunks, request_model, response_model,
        input_tokens, output_tokens, finish_reason, t_header, t_auth, t_connect, t_send,
        t_first_byte, t_first_token, t_stream, t_total, t_gateway, trace, client_request_id,
        upstream_request_id)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
            ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING";

/// Adds rows, and to the counts of their boot what was really added (D3, D4).
pub(super) fn add(
    transaction: &Transaction<'_>,
    vocabulary: &mut Vocabulary,
    boot: [u8; 16],
    rows: &[Box<Row>],
) -> Result<(), Fault> {
    let boot = tallies::boot_number(transaction, boot)?;
    let mut statement = transaction.prepare_cached(INSERT)?;
    let mut stored = 0;
    let mut greatest = 0;
    for row in rows {
        let added = add_one(transaction, &mut statement, vocabulary, boot, row)?;
        // A refused request has no number and is not part of the account.
        if added && row.seq > 0 {
            stored += 1;
        }
        greatest = greatest.max(int(row.seq));
    }
    transaction
        .prepare_cached(
            "UPDATE boots SET greatest_seq = max(greatest_seq, ?2), stored = stored + ?3
             WHERE id = ?1",
        )?
        .execute(params![boot, greatest, stored])?;
    Ok(())
}

/// Adds one row unless it is there; whether it was added.
fn add_one(
    connection: &Connection,
    statement: &mut Statement<'_>,
    vocabulary: &mut Vocabulary,
    boot: i64,
    row: &Row,
) -> Result<bool, Fault> {
    // Field by field, so that a new one does not compile until it is kept.
    let Row {
        request_id,
        seq,
        started_unix_nanos,
        client_request_id,
        upstream_request_id,
        trace_id,
        span_id,
        parent_span_id,
        sampled,
        attempt_span_id,
        peer,
        client,
        protocol,
        tls_version,
        tls_cipher,
        user_agent,
        method,
        path,
        host,
        route,
        pattern,
        request_bytes,
        key_id,
        experiment,
        revision,
        variant,
        served,
        reason,
        bucket,
        unit_hash,
        eligible,
        backend,
        endpoint,
        attempts,
        upstream_status,
        reused,
        status,
        outcome,
        rejected,
        flag,
        response_bytes,
        stream,
        chunks,
        complete,
        request_model,
        response_model,
        input_tokens,
        output_tokens,
        tokens_estimated,
        finish_reason,
        t_header,
        t_auth,
        t_connect,
        t_send,
        t_first_byte,
        t_first_token,
        t_stream,
        t_total,
        t_gateway,
        shadow,
        // Spans are on their way before a row comes here.
        spans: _,
    } = row;
    let (http_10, http_2) = match protocol {
        Protocol::Http10 => (true, false),
        Protocol::Http11 => (false, false),
        Protocol::Http2 => (false, true),
    };
    let bits = [
        (*sampled, bit::SAMPLED),
        (*eligible, bit::ELIGIBLE),
        (*reused, bit::REUSED),
        (*stream, bit::STREAM),
        (*complete, bit::COMPLETE),
        (*tokens_estimated, bit::TOKENS_ESTIMATED),
        (*shadow, bit::SHADOW),
        (http_10, bit::HTTP_10),
        (http_2, bit::HTTP_2),
    ];
    let bits = bits.iter().fold(0, |all, &(set, bit)| if set { all | bit } else { all });
    let mut name = |name: Option<Name>| match name {
        Some(name) if !name.is_empty() => vocabulary.number(connection, name).map(Some),
        _ => Ok(None),
    };
    let peer_address = Address::of(*peer);
    let endpoint = endpoint.map(Address::of);
    let client = (*client != peer.ip()).then(|| Address::of(SocketAddr::new(*client, 0)));
    let mut trace = [0; 40];
    trace[..16].copy_from_slice(trace_id);
    trace[16..24].copy_from_slice(span_id);
    trace[24..32].copy_from_slice(parent_span_id);
    trace[32..].copy_from_slice(attempt_span_id);

    let mut to = Columns { statement, last: 0 };
    to.bind(&request_id[..])?;
    to.bind(boot)?;
    to.bind(int(*seq))?;
    to.bind(int(*started_unix_nanos))?;
    to.bind(bits)?;
    to.bind(name(*route)?)?;
    to.bind(name(*pattern)?)?;
    to.bind(name(*experiment)?)?;
    to.bind(int(*revision))?;
    to.bind(name(*variant)?)?;
    to.bind(name(*served)?)?;
    to.bind(name(Some(reason))?)?;
    to.bind(*bucket)?;
    to.bind((*unit_hash != 0).then(|| unit_hash.cast_signed()))?;
    to.bind(name(*backend)?)?;
    to.bind(endpoint.as_ref().map(Address::whole))?;
    to.bind(*attempts)?;
    to.bind(*upstream_status)?;
    to.bind(*status)?;
    to.bind(name(outcome.map(policies::outcome::Outcome::as_str))?)?;
    to.bind(name(rejected.map(policies::outcome::RejectReason::as_str))?)?;
    to.bind(name(flag.and_then(Flag::error_type))?)?;
    to.text(method)?;
    to.bind((Some(path.as_str()) != *pattern).then_some(path))?;
    to.text(host)?;
    to.text(user_agent)?;
    to.text(key_id)?;
    to.bind(peer_address.whole())?;
    to.bind(client.as_ref().map(Address::without_port))?;
    to.bind(name(Some(tls_version))?)?;
    to.bind(name(Some(tls_cipher))?)?;
    to.bind(int(*request_bytes))?;
    to.bind(int(*response_bytes))?;
    to.bind(int(*chunks))?;
    to.bind(name(*request_model)?)?;
    to.text(response_model)?;
    to.bind(input_tokens.map(int))?;
    to.bind(output_tokens.map(int))?;
    to.text(finish_reason)?;
    for time in [
        t_header,
        t_auth,
        t_connect,
        t_send,
        t_first_byte,
        t_first_token,
        t_stream,
        t_total,
        t_gateway,
    ] {
        to.bind(time.get().map(int))?;
    }
    to.bind((trace != [0; 40]).then_some(&trace[..]))?;
    to.text(client_request_id)?;
    to.text(upstream_request_id)?;
    Ok(statement.raw_execute()? == 1)
}

/// Binds values to the columns of [`INSERT`], one after the other.
struct Columns<'a, 'c> {
    statement: &'a mut Statement<'c>,
    last: usize,
}

impl Columns<'_, '_> {
    #[inline]
    fn bind(&mut self, value: impl ToSql) -> Result<(), Fault> {
        self.last += 1;
        Ok(self.statement.raw_bind_parameter(self.last, value)?)
    }

    /// NULL if empty.
    #[inline]
    fn text(&mut self, text: &str) -> Result<(), Fault> {
        self.bind((!text.is_empty()).then_some(text))
    }
}

/// An address as it is kept: 4 or 16 bytes and 2 of the port.
struct Address {
    bytes: [u8; 18],
    length: usize,
}

impl Address {
    fn of(address: SocketAddr) -> Self {
        let mut bytes = [0; 18];
        let length = match address.ip() {
            IpAddr::V4(ip) => {
                bytes[..4].copy_from_slice(&ip.octets());
                4
            }
            IpAddr::V6(ip) => {
                bytes[..16].copy_from_slice(&ip.octets());
                16
            }
        };
        bytes[length..length + 2].copy_from_slice(&address.port().to_be_bytes());
        Self { bytes, length }
    }

    fn whole(&self) -> &[u8] {
        &self.bytes[..self.length + 2]
    }

    fn without_port(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Address and port; the port only if there is one.
    fn read(bytes: &[u8]) -> Option<(IpAddr, Option<u16>)> {
        let (ip, port): (IpAddr, _) = if let Some((ip, port)) = bytes.split_first_chunk::<16>() {
            ((*ip).into(), port)
        } else {
            let (ip, port) = bytes.split_first_chunk::<4>()?;
            ((*ip).into(), port)
        };
        Some((ip, port.first_chunk().map(|port| u16::from_be_bytes(*port))))
    }
}

/// Newest first, below ?1, not below ?2. `NULL` filters nothing.
const PAGE: &str = "SELECT o.*, b.boot AS boot_id
    FROM outcomes AS o JOIN boots AS b ON b.id = o.boot
    WHERE o.request_id < ?1 AND o.request_id >= ?2
      AND (?3 IS NULL OR o.route = ?3) AND (?4 IS NULL OR o.experiment = ?4)
      AND (?5 IS NULL OR o.variant = ?5) AND (?6 IS NULL OR o.outcome = ?6)
      AND (?7 IS NULL OR o.t_total > ?7) AND (?8 IS NULL OR o.unit_hash = ?8)
      AND (?9 IS NULL OR o.started >= ?9)
    ORDER BY o.request_id DESC LIMIT ?10";

/// The same for one outcome that is not `ok`, along its index.
const PAGE_NOT_OK: &str = "SELECT o.*, b.boot AS boot_id
    FROM outcomes AS o INDEXED BY outcomes_not_ok JOIN boots AS b ON b.id = o.boot
    WHERE o.request_id < ?1 AND o.request_id >= ?2
      AND (?3 IS NULL OR o.route = ?3) AND (?4 IS NULL OR o.experiment = ?4)
      AND (?5 IS NULL OR o.variant = ?5) AND o.outcome = ?6 AND o.outcome <> 1
      AND (?7 IS NULL OR o.t_total > ?7) AND (?8 IS NULL OR o.unit_hash = ?8)
      AND (?9 IS NULL OR o.started >= ?9)
    ORDER BY o.request_id DESC LIMIT ?10";

/// The id after ?2 steps back from ?1: from the index alone.
const STEP_BACK: &str = "SELECT request_id FROM outcomes WHERE request_id < ?1
    ORDER BY request_id DESC LIMIT 1 OFFSET ?2";

const STEP_BACK_NOT_OK: &str = "SELECT request_id FROM outcomes INDEXED BY outcomes_not_ok
    WHERE outcome = ?3 AND outcome <> 1 AND request_id < ?1
    ORDER BY request_id DESC LIMIT 1 OFFSET ?2";

const DELETE_OLDEST: &str = "DELETE FROM outcomes WHERE rowid IN (
        SELECT rowid FROM outcomes WHERE request_id < ?1 AND started < ?2
        ORDER BY request_id LIMIT ?3)";

/// Looks at no more than [`STEP`] rows.
pub(super) fn page(
    connection: &Connection,
    vocabulary: &mut Vocabulary,
    query: &OutcomeQuery,
) -> Result<OutcomePage, Fault> {
    let OutcomeQuery {
        route,
        experiment,
        variant,
        outcome,
        slower,
        unit_hash,
        since,
        before,
        limit,
    } = query;
    let nothing = OutcomePage { items: Vec::new(), next: None };
    if *limit == 0 {
        return Ok(nothing);
    }
    let mut numbers = [None; 4];
    for (number, text) in numbers.iter_mut().zip([route, experiment, variant, outcome]) {
        let Some(text) = text else { continue };
        *number = vocabulary::find(connection, text)?;
        // A name that no row ever carried.
        if number.is_none() {
            return Ok(nothing);
        }
    }
    let [route, experiment, variant, outcome] = numbers;
    let failed = outcome.filter(|&number| number != OK);

    // Above every id, as it is longer than all of them.
    let newest = [0xff; 17];
    let below = before.as_ref().map_or(&newest[..], |id| &id[..]);
    let oldest = since.map_or([0; 16], |micros| id_at(micros / 1000 - SLACK_MILLIS));
    let step: Option<[u8; 16]> = match failed {
        Some(number) => connection
            .prepare_cached(STEP_BACK_NOT_OK)?
            .query_row(params![below, STEP - 1, number], |row| row.get(0))
            .optional()?,
        None => connection
            .prepare_cached(STEP_BACK)?
            .query_row(params![below, STEP - 1], |row| row.get(0))
            .optional()?,
    };
    // Past `oldest` there is nothing more to find.
    let step = step.filter(|id| *id > oldest);
    let floor = step.unwrap_or(oldest);

    let text = if failed.is_some() { PAGE_NOT_OK } else { PAGE };
    let mut statement = connection.prepare_cached(text)?;
    let mut rows = statement.query(params![
        below,
        &floor[..],
        route,
        experiment,
        variant,
        outcome,
        slower.map(int),
        unit_hash.map(u64::cast_signed),
        since.map(|micros| micros.saturating_mul(1000)),
        limit
    ])?;
    let mut items = Vec::new();
    let mut last = None;
    while let Some(row) = rows.next()? {
        last = Some(row.get("request_id")?);
        items.push(json(connection, vocabulary, row)?);
    }
    let full = u32::try_from(items.len()).is_ok_and(|found| found >= *limit);
    Ok(OutcomePage { items, next: if full { last } else { step } })
}

/// One outcome.
pub(super) fn one(
    connection: &Connection,
    vocabulary: &mut Vocabulary,
    id: [u8; 16],
) -> Result<Option<Value>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT o.*, b.boot AS boot_id FROM outcomes AS o JOIN boots AS b ON b.id = o.boot
         WHERE o.request_id = ?1",
    )?;
    let mut rows = statement.query([id.as_slice()])?;
    rows.next()?.map(|row| json(connection, vocabulary, row)).transpose()
}

/// Deletes the oldest rows that started before `before` (µs), at most `limit`; how many.
pub(super) fn delete(transaction: &Transaction<'_>, before: i64, limit: u32) -> Result<u64, Fault> {
    let deleted = transaction.prepare_cached(DELETE_OLDEST)?.execute(params![
        &id_at(before / 1000 + SLACK_MILLIS)[..],
        before.saturating_mul(1000),
        limit
    ])?;
    Ok(deleted as u64)
}

/// The least id of this millisecond.
fn id_at(millis: i64) -> [u8; 16] {
    // 48 bits; what is beyond is beyond every id too.
    let millis = count(millis).min((1 << 48) - 1);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(millis << 16).to_be_bytes());
    id
}

/// A row with the names of the access log, as far as they are known.
fn json(
    connection: &Connection,
    vocabulary: &mut Vocabulary,
    row: &rusqlite::Row<'_>,
) -> Result<Value, Fault> {
    let mut out = Map::new();
    let bits: i64 = row.get("bits")?;
    let set = |bit| bits & bit != 0;

    out.insert("request_id".into(), RequestId(row.get("request_id")?).to_string().into());
    out.insert("boot_id".into(), hex(&row.get::<_, [u8; 16]>("boot_id")?).into());
    out.insert("timestamp".into(), rfc3339(count(row.get("started")?)).into());
    out.insert("trace_sampled".into(), set(bit::SAMPLED).into());
    let protocol = if set(bit::HTTP_10) {
        Protocol::Http10
    } else if set(bit::HTTP_2) {
        Protocol::Http2
    } else {
        Protocol::Http11
    };
    out.insert("network.protocol.version".into(), protocol.as_str().into());
    for (member, bit) in [
        ("stream", bit::STREAM),
        ("stream.complete", bit::COMPLETE),
        ("connection.reused", bit::REUSED),
        ("shadow", bit::SHADOW),
    ] {
        out.insert(member.into(), set(bit).into());
    }

    for (member, column) in [
        ("route", "route"),
        ("http.route", "pattern"),
        ("experiment", "experiment"),
        ("variant", "variant"),
        ("variant.served", "served"),
        ("assignment.reason", "reason"),
        ("backend", "backend"),
        ("outcome", "outcome"),
        ("rejected", "rejected"),
        ("error.type", "flag"),
        ("tls.protocol.version", "tls_version"),
        ("tls.cipher", "tls_cipher"),
        ("gen_ai.request.model", "request_model"),
    ] {
        let Some(number) = row.get::<_, Option<i64>>(column)? else { continue };
        let word = vocabulary.word(connection, number)?.ok_or_else(|| {
            StoreError::Damaged(format!("name {number} is missing, an outcome has it"))
        })?;
        out.insert(member.into(), word.into());
    }
    let flag = out.get("error.type").and_then(Value::as_str);
    let flag = Flag::ALL.into_iter().find(|known| known.error_type() == flag).unwrap_or_default();
    out.insert("flags".into(), flag.as_str().into());

    for (member, column) in [
        ("seq", "seq"),
        ("attempts", "attempts"),
        ("http.request.body.size", "request_bytes"),
        ("http.response.body.size", "response_bytes"),
        ("stream.chunks", "chunks"),
        ("assignment.bucket", "bucket"),
        ("gen_ai.usage.input_tokens", "input_tokens"),
        ("gen_ai.usage.output_tokens", "output_tokens"),
        ("t_header", "t_header"),
        ("t_auth", "t_auth"),
        ("t_connect", "t_connect"),
        ("t_send", "t_send"),
        ("t_first_byte", "t_first_byte"),
        ("t_first_token", "t_first_token"),
        ("t_stream", "t_stream"),
        ("t_total", "t_total"),
        ("t_gateway", "t_gateway"),
        // Texts. Their columns hold nothing else.
        ("http.request.method", "method"),
        ("server.address", "host"),
        ("user_agent.original", "user_agent"),
        ("auth.key_id", "key_id"),
        ("gen_ai.response.model", "response_model"),
        ("gen_ai.response.finish_reason", "finish_reason"),
        ("client_request_id", "client_request_id"),
        ("upstream_request_id", "upstream_request_id"),
    ] {
        match row.get(column)? {
            SqlValue::Integer(number) => out.insert(member.into(), number.into()),
            SqlValue::Text(text) => out.insert(member.into(), text.into()),
            SqlValue::Null | SqlValue::Real(_) | SqlValue::Blob(_) => None,
        };
    }
    // Zero means that there was none.
    for (member, column) in
        [("http.response.status_code", "status"), ("upstream.status", "upstream_status")]
    {
        let status: u16 = row.get(column)?;
        if status != 0 {
            out.insert(member.into(), status.into());
        }
    }
    if out.contains_key("experiment") {
        let revision: i64 = row.get("revision")?;
        out.insert("experiment.revision".into(), revision.into());
        out.insert("assignment.eligible".into(), set(bit::ELIGIBLE).into());
    }
    if out.contains_key("gen_ai.usage.output_tokens") {
        let source = if set(bit::TOKENS_ESTIMATED) { "estimated" } else { "reported" };
        out.insert("usage.source".into(), source.into());
    }
    if let Some(hash) = row.get::<_, Option<i64>>("unit_hash")? {
        // As text: a number of 64 bits does not survive JavaScript.
        out.insert("unit.hash".into(), hex(&hash.to_be_bytes()).into());
    }
    match row.get::<_, Option<String>>("path")? {
        Some(path) if path.is_empty() => None,
        Some(path) => out.insert("url.path".into(), path.into()),
        None => {
            let pattern = out.get("http.route").cloned();
            pattern.and_then(|pattern| out.insert("url.path".into(), pattern))
        }
    };
    addresses(row, &mut out)?;
    traces(row, &mut out)?;
    Ok(Value::Object(out))
}

fn addresses(row: &rusqlite::Row<'_>, out: &mut Map<String, Value>) -> Result<(), Fault> {
    if let Some((ip, port)) = Address::read(row.get_ref("peer")?.as_blob().unwrap_or_default()) {
        out.insert("network.peer.address".into(), ip.to_string().into());
        out.insert("network.peer.port".into(), port.into());
        out.insert("client.address".into(), ip.to_string().into());
    }
    let client: Option<Vec<u8>> = row.get("client")?;
    if let Some((ip, _)) = client.as_deref().and_then(Address::read) {
        out.insert("client.address".into(), ip.to_string().into());
    }
    let endpoint: Option<Vec<u8>> = row.get("endpoint")?;
    if let Some((ip, port)) = endpoint.as_deref().and_then(Address::read) {
        let address = SocketAddr::new(ip, port.unwrap_or_default());
        out.insert("server.backend.address".into(), address.to_string().into());
    }
    Ok(())
}

fn traces(row: &rusqlite::Row<'_>, out: &mut Map<String, Value>) -> Result<(), Fault> {
    let Some(trace) = row.get::<_, Option<[u8; 40]>>("trace")? else { return Ok(()) };
    for (member, bytes) in [
        ("trace_id", &trace[..16]),
        ("span_id", &trace[16..24]),
        ("parent_span_id", &trace[24..32]),
        ("attempt.span_id", &trace[32..]),
    ] {
        if bytes.iter().any(|&byte| byte != 0) {
            out.insert(member.into(), hex(bytes).into());
        }
    }
    Ok(())
}

/// Every query that walks through outcomes, and the index it must use.
#[cfg(test)]
pub(super) fn plans() -> [(&'static str, &'static str); 5] {
    [
        (PAGE, "sqlite_autoindex_outcomes_1"),
        (PAGE_NOT_OK, "outcomes_not_ok"),
        (STEP_BACK, "COVERING INDEX sqlite_autoindex_outcomes_1"),
        (STEP_BACK_NOT_OK, "COVERING INDEX outcomes_not_ok"),
        (DELETE_OLDEST, "sqlite_autoindex_outcomes_1"),
    ]
}
