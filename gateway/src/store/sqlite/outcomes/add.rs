//! How outcomes are added: what of a row queries ask for, what is packed, and which block has it.

use std::collections::HashSet;
use std::net::SocketAddr;

use policies::outcome::Flag;
use rusqlite::{Connection, Transaction, params};

use super::address::Address;
use super::block::{Block, Known, Writer};
use super::packed::{More, bit};
use super::{Key, Slice};
use crate::ids::RequestId;
use crate::names::Name;
use crate::recorder::row::{Protocol, Row};
use crate::recorder::tried::Tried;
use crate::store::sqlite::vocabulary::Vocabulary;
use crate::store::sqlite::{Fault, changes, count, int, tallies};
use crate::threads::Turns;

/// Rows of one block at most: who asks for one of them reads all.
const MOST: u64 = 512;

/// Rows that are packed before a worker that waits for this core has its turn.
const AT_ONCE: u64 = 16;

/// Whether rows may be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::sqlite) enum Arrival {
    /// They were never given to a store.
    First,
    /// Some of them may be: they were part of a commit in doubt, or come from the spool.
    Again,
}

/// Adds rows, and to the counts of their boot what was really added (D3, D4).
pub(in crate::store::sqlite) fn add(
    transaction: &Transaction<'_>,
    vocabulary: &mut Vocabulary,
    boot: [u8; 16],
    rows: &[Box<Row>],
    arrival: Arrival,
) -> Result<(), Fault> {
    let boot = tallies::boot_number(transaction, boot)?;
    // By the slice they began in. Nearly all rows of a batch began in one or two, in this order.
    let mut by_slice: Vec<(Slice, &Row)> =
        rows.iter().map(|row| (Key::of(row.request_id).slice(), &**row)).collect();
    if !by_slice.is_sorted_by_key(|(slice, _)| *slice) {
        by_slice.sort_by_key(|(slice, _)| *slice);
    }
    let mut writer = Writer::default();
    let mut stored = 0;
    let mut turns = Turns::default();
    for of_slice in by_slice.chunk_by(|(one, _), (other, _)| one == other) {
        let [(slice, _), ..] = of_slice else { continue };
        let mut known = match arrival {
            Arrival::First => None,
            Arrival::Again => Some(stored_in(transaction, *slice)?),
        };
        for (_, row) in of_slice {
            if let Some(known) = &mut known
                && !known.insert(Key::of(row.request_id))
            {
                continue;
            }
            add_row(transaction, vocabulary, row, &mut writer)?;
            // A refused request has no number and is not part of the account.
            stored += u64::from(row.seq > 0);
            if writer.rows() == MOST {
                writer.keep(transaction, *slice, boot)?;
            } else if writer.rows().is_multiple_of(AT_ONCE) {
                turns.give();
            }
        }
        writer.keep(transaction, *slice, boot)?;
    }
    let greatest = rows.iter().map(|row| row.seq).max().unwrap_or(0);
    transaction
        .prepare_cached(
            "UPDATE boots SET greatest_seq = max(greatest_seq, ?2), stored = stored + ?3
             WHERE id = ?1",
        )?
        .execute(params![boot, int(greatest), int(stored)])?;
    Ok(())
}

/// The requests of a slice whose outcomes are there.
fn stored_in(connection: &Connection, slice: Slice) -> Result<HashSet<Key>, Fault> {
    let mut known = HashSet::new();
    let mut blocks = connection.prepare_cached(super::BLOCKS_OF)?;
    let blocks = blocks.query_map([slice.first(), slice.after()], |row| row.get(0))?;
    for block in blocks {
        known.extend(Block::read(connection, block?)?.rows.iter().map(|row| row.key));
    }
    Ok(known)
}

/// Adds one row to the block that is put together.
fn add_row(
    connection: &Connection,
    vocabulary: &mut Vocabulary,
    row: &Row,
    to: &mut Writer,
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
    more.pack(&mut to.more);
    to.add(&Known {
        key: Key::of(*request_id),
        seq: *seq,
        way,
        status: *status,
        outcome: name(outcome.map(policies::outcome::Outcome::as_str))?,
        t_total: t_total.get(),
        unit_hash: (*unit_hash != 0).then_some(*unit_hash),
    });
    Ok(())
}
