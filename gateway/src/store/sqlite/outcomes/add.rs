//! How outcomes are added: which member becomes a column, and which lies in the blob.

use std::net::SocketAddr;
use std::sync::LazyLock;

use policies::outcome::Flag;
use rusqlite::{Connection, Statement, ToSql, Transaction, params};

use super::Key;
use super::address::Address;
use super::packed::{Blob, More, bit};
use crate::ids::RequestId;
use crate::names::Name;
use crate::recorder::row::{Protocol, Row};
use crate::recorder::tried::Tried;
use crate::store::sqlite::vocabulary::Vocabulary;
use crate::store::sqlite::{Fault, changes, count, int, tallies};

/// Rows of one statement. What a statement costs beside its rows is as much as half a row, and its
/// cursors stay where the last row was.
const TOGETHER: usize = 16;

/// Columns in the order in which they are bound.
const COLUMNS: &str = "boot, id_high, id_low, seq, way, status, outcome, t_total, unit_hash, more";

pub(super) static INSERT_ONE: LazyLock<String> = LazyLock::new(|| insert(1));
static INSERT_TOGETHER: LazyLock<String> = LazyLock::new(|| insert(TOGETHER));

/// A statement for so many rows of one boot, which is its first parameter.
///
/// `OR FAIL`: whoever adds takes the whole transaction back if a row is refused, so the statement need
/// not be able to take itself back, for which SQLite would copy every page it touches.
fn insert(rows: usize) -> String {
    let others = COLUMNS.split(',').count() - 1;
    let row = format!("(?1{})", ",?".repeat(others));
    let rows = vec![row; rows].join(",");
    format!("INSERT OR FAIL INTO outcomes ({COLUMNS}) VALUES {rows} ON CONFLICT DO NOTHING")
}

/// Adds rows, and to the counts of their boot what was really added (D3, D4).
pub(in crate::store::sqlite) fn add(
    transaction: &Transaction<'_>,
    vocabulary: &mut Vocabulary,
    boot: [u8; 16],
    rows: &[Box<Row>],
) -> Result<(), Fault> {
    let boot = tallies::boot_number(transaction, boot)?;
    let mut one = transaction.prepare_cached(&INSERT_ONE)?;
    let mut together = transaction.prepare_cached(&INSERT_TOGETHER)?;
    let mut blob = Blob::default();
    for statement in [&mut one, &mut together] {
        Parameters::of(statement).boot(boot)?;
    }
    let mut stored = 0;
    let mut greatest = 0;
    for rows in rows.chunks(TOGETHER) {
        // A refused request has no number and is not part of the account.
        let counted = rows.iter().all(|row| row.seq > 0);
        let whole = counted && rows.len() == TOGETHER;
        let statement = if whole { &mut together } else { &mut one };
        let mut to = Parameters::of(statement);
        for row in rows {
            greatest = greatest.max(int(row.seq));
            bind_row(transaction, vocabulary, row, &mut blob, &mut to)?;
            if !whole {
                let added = to.run()?;
                stored += if row.seq > 0 { added } else { 0 };
            }
        }
        if whole {
            stored += to.run()?;
        }
    }
    transaction
        .prepare_cached(
            "UPDATE boots SET greatest_seq = max(greatest_seq, ?2), stored = stored + ?3
             WHERE id = ?1",
        )?
        .execute(params![boot, greatest, int(stored as u64)])?;
    Ok(())
}

/// Binds one row, the next of the statement.
fn bind_row(
    connection: &Connection,
    vocabulary: &mut Vocabulary,
    row: &Row,
    blob: &mut Blob,
    to: &mut Parameters<'_, '_>,
) -> Result<(), Fault> {
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
        // Spans are on their way before a row comes here: of them, the attempts are kept.
        spans,
    } = row;
    let (http_10, http_2) = match protocol {
        Protocol::Http10 => (true, false),
        Protocol::Http11 => (false, false),
        Protocol::Http2 => (false, true),
    };
    let path_is_pattern = Some(path.as_str()) == *pattern;
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
        (path_is_pattern, bit::PATH_IS_PATTERN),
    ];
    let way = [*route, *pattern, *experiment, *variant, *served, *backend];
    let way = vocabulary.way(connection, way)?;
    let mut name = |name: Option<Name>| match name {
        Some(name) if !name.is_empty() => vocabulary.number(connection, name).map(Some),
        _ => Ok(None),
    };
    let peer_address = Address::of(*peer);
    let endpoint = endpoint.map(Address::of);
    let client = (*client != peer.ip()).then(|| Address::of(SocketAddr::new(*client, 0)));
    let tried = if *attempts > 1 { Tried::all(row) } else { Vec::new() };
    let tried = if tried.is_empty() { String::new() } else { changes::to_json(&tried)? };
    let more = More {
        bits: bits.iter().fold(0, |all, &(set, bit)| if set { all | bit } else { all }),
        started: started_unix_nanos.wrapping_sub(RequestId(*request_id).unix_nanos()).cast_signed(),
        reason: name(Some(reason))?.map(count),
        rejected: name(rejected.map(policies::outcome::RejectReason::as_str))?.map(count),
        flag: name(flag.and_then(Flag::error_type))?.map(count),
        tls_version: name(Some(tls_version))?.map(count),
        tls_cipher: name(Some(tls_cipher))?.map(count),
        request_model: name(*request_model)?.map(count),
        revision: *revision,
        bucket: bucket.map(u64::from),
        attempts: u64::from(*attempts),
        upstream_status: u64::from(*upstream_status),
        request_bytes: *request_bytes,
        response_bytes: *response_bytes,
        chunks: *chunks,
        input_tokens: *input_tokens,
        output_tokens: *output_tokens,
        t_header: t_header.get(),
        t_auth: t_auth.get(),
        t_connect: t_connect.get(),
        t_send: t_send.get(),
        t_first_byte: t_first_byte.get(),
        t_first_token: t_first_token.get(),
        t_stream: t_stream.get(),
        t_gateway: t_gateway.get(),
        peer: peer_address.whole(),
        client: client.as_ref().map_or(&[], Address::without_port),
        endpoint: endpoint.as_ref().map_or(&[], Address::whole),
        trace_id: *trace_id,
        span_id: *span_id,
        parent_span_id: *parent_span_id,
        attempt_span_id: *attempt_span_id,
        method,
        path: if path_is_pattern { "" } else { path },
        host,
        user_agent,
        key_id,
        response_model,
        finish_reason,
        client_request_id,
        upstream_request_id,
        t_attempt: spans.began.get(),
        tried: &tried,
    };
    let columns = Columns {
        key: Key::of(*request_id),
        seq: int(*seq),
        way,
        status: i64::from(*status),
        outcome: name(outcome.map(policies::outcome::Outcome::as_str))?,
        t_total: t_total.get().map(int),
        unit_hash: (*unit_hash != 0).then(|| unit_hash.cast_signed()),
    };
    more.write(blob);
    Ok(columns.bind(blob.bytes(), to)?)
}

/// All columns but `boot` and `more`.
pub(super) struct Columns {
    pub(super) key: Key,
    pub(super) seq: i64,
    pub(super) way: i64,
    pub(super) status: i64,
    pub(super) outcome: Option<i64>,
    pub(super) t_total: Option<i64>,
    pub(super) unit_hash: Option<i64>,
}

impl Columns {
    /// Binds them and the blob.
    #[inline]
    pub(super) fn bind(&self, more: &[u8], to: &mut Parameters<'_, '_>) -> rusqlite::Result<()> {
        let &Self { key, seq, way, status, outcome, t_total, unit_hash } = self;
        to.bind(key.high)?;
        to.bind(key.low)?;
        to.bind(seq)?;
        to.bind(way)?;
        to.bind(status)?;
        to.bind(outcome)?;
        to.bind(t_total)?;
        to.bind(unit_hash)?;
        to.bind(more)
    }
}

/// Binds values to the parameters of a statement, one after the other.
pub(super) struct Parameters<'a, 'c> {
    statement: &'a mut Statement<'c>,
    last: usize,
}

impl<'a, 'c> Parameters<'a, 'c> {
    pub(super) fn of(statement: &'a mut Statement<'c>) -> Self {
        Self { statement, last: 1 }
    }

    /// Of all rows until it is another.
    pub(super) fn boot(&mut self, number: i64) -> rusqlite::Result<()> {
        self.statement.raw_bind_parameter(1, number)
    }

    /// Runs the statement and begins again; how many rows were added.
    pub(super) fn run(&mut self) -> rusqlite::Result<usize> {
        self.last = 1;
        self.statement.raw_execute()
    }

    #[inline]
    fn bind(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.last += 1;
        self.statement.raw_bind_parameter(self.last, value)
    }
}
