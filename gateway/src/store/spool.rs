//! Outcome rows on disk while the store is away (D5, L16): written in order, synced, read back once.
//!
//! A folder of segments, `NUMBER.spool`, each a sequence of records: magic, length, check, payload.
//! The payload is the boot and the row as JSON, so that a later version can read what an earlier one
//! left. A segment is deleted when all its rows are in the store; rows that come twice are harmless
//! there (D3). A record that was cut off by a crash was never acknowledged and is ignored. One that
//! does not fit its check is skipped and counted, and its segment is kept aside as `NUMBER.bad`.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use policies::outcome::{Flag, Outcome, RejectReason};
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::names::{Name, intern};
use crate::recorder::row::{Micros, Protocol, Row};

/// A new segment begins after this many bytes.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Rows handed to the store at once when reading back.
const REPLAY_ROWS: usize = 512;

/// Beginning of every record. Payloads cannot contain a record: the length that follows here has a
/// zero byte at its end, and JSON has none, whatever a client put into its texts.
const MAGIC: [u8; 4] = *b"WSP1";

/// Magic, length, check.
const HEAD: usize = 4 + 4 + 16;

/// Longest payload taken seriously; texts in a row are cut long before.
const PAYLOAD_BYTES: usize = 1 << 20;

/// What became of the rows of one [`Spool::append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Rows that are on disk now, synced: the first ones.
    pub stored: u64,
    /// Rows for which there was no room: the last ones.
    pub refused: u64,
}

/// Why reading back stopped. What was not read stays where it is.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The store did not take the rows.
    #[error("the store did not take spooled rows")]
    Store(#[source] StoreError),
    /// The spool cannot be read or cleared.
    #[error("the spool cannot be read")]
    Io(#[from] io::Error),
}

/// Rows waiting on disk. One process at a time has it.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    max_bytes: u64,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// Where the newest segment goes on, if it does.
    tail: Option<Tail>,
    next_number: u64,
    damaged: u64,
    /// Held, never read: keeps other processes away.
    _lock: File,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    /// Up to the end of its last whole record.
    bytes: u64,
}

/// The end of the newest segment, `bytes` of which is where the next record goes.
#[derive(Debug)]
struct Tail {
    file: File,
    /// There may be something after the last whole record; cut it off first.
    torn: bool,
}

impl Spool {
    /// Opens the spool in `folder`, or makes it. It never grows beyond `max_bytes`.
    ///
    /// # Errors
    /// If the folder cannot be made, read or written, or another process has it.
    pub fn open(folder: &Path, max_bytes: u64) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
        let lock = private(OpenOptions::new().write(true).create(true).truncate(false))
            .open(folder.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = format!("{}: another process has this spool", folder.display());
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }

        let mut spool = Self {
            folder: folder.to_owned(),
            max_bytes,
            segments: VecDeque::new(),
            tail: None,
            next_number: 1,
            damaged: 0,
            _lock: lock,
        };
        let mut numbers = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            let Some(number) = number else { continue };
            spool.next_number = spool.next_number.max(number.saturating_add(1));
            if path.extension().is_some_and(|extension| extension == "spool") {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        for &number in &numbers {
            let bytes = fs::metadata(spool.path(number))?.len();
            spool.segments.push_back(Segment { number, bytes });
        }
        spool.find_tail()?;
        Ok(spool)
    }

    /// Finds where the newest segment goes on. A damaged one does not: it is only read.
    fn find_tail(&mut self) -> io::Result<()> {
        let Some(newest) = self.segments.back() else { return Ok(()) };
        let path = self.path(newest.number);
        let bytes = fs::read(&path)?;
        let mut records = Records::of(&bytes);
        let damaged = records.by_ref().any(|record| record.is_none());
        let end = records.end as u64;
        if !damaged && let Some(newest) = self.segments.back_mut() {
            let file = OpenOptions::new().write(true).open(path)?;
            self.tail = Some(Tail { file, torn: end < newest.bytes });
            newest.bytes = end;
        }
        Ok(())
    }

    /// Bytes of records that wait to be read back.
    pub fn pending_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Records that could not be read back since this spool was opened; their segments are kept
    /// aside.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Adds rows and syncs them. Rows beyond the limit are refused, the last ones first.
    ///
    /// # Errors
    /// If writing or syncing fails: then none of these rows counts as stored, and none will be read
    /// back. The next call tries again.
    pub fn append(&mut self, boot: [u8; 16], rows: &[Box<Row>]) -> io::Result<Appended> {
        let room = self.max_bytes.saturating_sub(self.pending_bytes());
        let mut bytes = Vec::new();
        let mut stored = 0;
        for row in rows {
            let before = bytes.len();
            encode(boot, row, &mut bytes)?;
            if bytes.len() as u64 > room {
                bytes.truncate(before);
                break;
            }
            stored += 1;
        }
        let appended = Appended { stored, refused: rows.len() as u64 - stored };
        if stored > 0 {
            self.write(&bytes)?;
        }
        Ok(appended)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let full = self.segments.back().is_some_and(|newest| newest.bytes >= SEGMENT_BYTES);
        let tail = match self.tail.take() {
            Some(tail) if !full => tail,
            _ => self.begin_segment()?,
        };
        let Some(newest) = self.segments.back_mut() else {
            return Err(io::Error::other("a segment was begun and is not there"));
        };
        match tail.write(newest.bytes, bytes) {
            Ok(tail) => {
                newest.bytes += bytes.len() as u64;
                self.tail = Some(tail);
                Ok(())
            }
            Err(error) => {
                // The next rows begin another segment. This one stays for the rows it has.
                if newest.bytes == 0 {
                    let _ = fs::remove_file(self.folder.join(file_name(newest.number)));
                    self.segments.pop_back();
                }
                Err(error)
            }
        }
    }

    fn begin_segment(&mut self) -> io::Result<Tail> {
        let number = self.next_number;
        self.next_number += 1;
        let path = self.path(number);
        let file = private(OpenOptions::new().write(true).create_new(true)).open(&path)?;
        // Without this, the name of the file may be lost although its content was synced.
        if let Err(error) = self.sync_folder() {
            let _ = fs::remove_file(path);
            return Err(error);
        }
        self.segments.push_back(Segment { number, bytes: 0 });
        Ok(Tail { file, torn: false })
    }

    /// Hands every row to `store`, in order, and deletes each segment when all of it is stored.
    /// Gives the number of rows.
    ///
    /// # Errors
    /// The first one of `store`, or of the file system. What was not stored stays; what was stored
    /// may come again, which [`Store::add_outcomes`](super::Store::add_outcomes) does not mind.
    pub fn replay(
        &mut self,
        mut store: impl FnMut([u8; 16], Vec<Box<Row>>) -> Result<(), StoreError>,
    ) -> Result<u64, ReplayError> {
        let mut rows = 0;
        while let Some(more) = self.replay_oldest(&mut store)? {
            rows += more;
        }
        Ok(rows)
    }

    /// The same for the oldest segment only, so that a long spool can be read back between other
    /// work. `None` when there is nothing left.
    ///
    /// # Errors
    /// As [`Spool::replay`].
    pub fn replay_oldest(
        &mut self,
        mut store: impl FnMut([u8; 16], Vec<Box<Row>>) -> Result<(), StoreError>,
    ) -> Result<Option<u64>, ReplayError> {
        let Some(&Segment { number, bytes }) = self.segments.front() else { return Ok(None) };
        if self.segments.len() == 1 {
            // It is about to go; what comes next begins another.
            self.tail = None;
        }
        let path = self.path(number);
        let mut content = Vec::new();
        match File::open(&path) {
            Ok(file) => drop(file.take(bytes).read_to_end(&mut content)?),
            // Somebody took it away; the numbers of the rows (D4) show what is missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }

        let mut rows = 0;
        let mut damaged = 0;
        let mut batch = Vec::new();
        let mut batch_boot = [0; 16];
        for record in Records::of(&content) {
            let Some((boot, row)) = record.and_then(decode) else {
                damaged += 1;
                continue;
            };
            if (boot != batch_boot || batch.len() >= REPLAY_ROWS) && !batch.is_empty() {
                store(batch_boot, std::mem::take(&mut batch)).map_err(ReplayError::Store)?;
            }
            batch_boot = boot;
            batch.push(row);
            rows += 1;
        }
        if !batch.is_empty() {
            store(batch_boot, batch).map_err(ReplayError::Store)?;
        }

        let cleared = if damaged > 0 {
            fs::rename(&path, path.with_extension("bad"))
        } else {
            fs::remove_file(&path)
        };
        match cleared {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        self.damaged += damaged;
        self.segments.pop_front();
        self.sync_folder()?;
        Ok(Some(rows))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(file_name(number))
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

impl Tail {
    /// Writes and syncs at `end`. On an error the file is cut off there, and the tail is gone: after
    /// a failed sync nobody knows what is on disk (F15).
    fn write(mut self, end: u64, bytes: &[u8]) -> io::Result<Self> {
        if self.torn {
            self.file.set_len(end)?;
            self.torn = false;
        }
        self.file.seek(SeekFrom::Start(end))?;
        let written = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => Ok(self),
            Err(error) => {
                let _ = self.file.set_len(end);
                Err(error)
            }
        }
    }
}

fn file_name(number: u64) -> String {
    format!("{number:012}.spool")
}

/// Files hold addresses of clients: for their owner only.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Payloads in the bytes of a segment; `None` once for each stretch that is damaged. A record that is
/// cut off at the end is not damaged: it was never whole.
struct Records<'a> {
    bytes: &'a [u8],
    /// After the last record or damaged stretch.
    end: usize,
}

impl<'a> Records<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, end: 0 }
    }

    /// The record at `at`, if it is whole and fits its check.
    fn at(&self, at: usize) -> Option<&'a [u8]> {
        let record = self.bytes.get(at..)?;
        let (head, rest) = record.split_at_checked(HEAD)?;
        let length = head.strip_prefix(&MAGIC)?.first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let payload = rest.get(..length)?;
        (length <= PAYLOAD_BYTES && check(payload) == head[8..]).then_some(payload)
    }

    /// Whether what is left looks like the beginning of a record that was never finished.
    fn torn(&self) -> bool {
        let rest = &self.bytes[self.end..];
        let Some(after_magic) = rest.strip_prefix(&MAGIC) else {
            // A file may also have grown before its content arrived: zeros.
            return MAGIC.starts_with(rest) || rest.iter().all(|&byte| byte == 0);
        };
        let Some(length) = after_magic.first_chunk() else { return true };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        length <= PAYLOAD_BYTES && rest.len() < HEAD + length
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(payload) = self.at(self.end) {
            self.end += HEAD + payload.len();
            return Some(Some(payload));
        }
        if self.end == self.bytes.len() {
            return None;
        }
        // Something is wrong here. Is there a whole record after it?
        let later = (self.end + 1..self.bytes.len())
            .find(|&at| self.bytes[at..].starts_with(&MAGIC) && self.at(at).is_some());
        match later {
            Some(at) => {
                self.end = at;
                Some(None)
            }
            None if self.torn() => None,
            None => {
                self.end = self.bytes.len();
                Some(None)
            }
        }
    }
}

fn check(payload: &[u8]) -> [u8; 16] {
    let mut check = [0; 16];
    check.copy_from_slice(&blake3::hash(payload).as_bytes()[..16]);
    check
}

/// Appends one record.
fn encode(boot: [u8; 16], row: &Row, to: &mut Vec<u8>) -> io::Result<()> {
    let start = to.len();
    to.extend_from_slice(&[0; HEAD]);
    to.extend_from_slice(&boot);
    serde_json::to_writer(&mut *to, &Written::of(row))?;
    let (head, payload) = to[start..].split_at_mut(HEAD);
    let length = u32::try_from(payload.len())
        .ok()
        .filter(|_| payload.len() <= PAYLOAD_BYTES)
        .ok_or_else(|| io::Error::other("a row is too large for the spool"))?;
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&length.to_le_bytes());
    head[8..].copy_from_slice(&check(payload));
    Ok(())
}

fn decode(payload: &[u8]) -> Option<([u8; 16], Box<Row>)> {
    let (boot, json) = payload.split_first_chunk()?;
    let written: Written<'_> = serde_json::from_slice(json).ok()?;
    Some((*boot, Box::new(written.read()?)))
}

/// A [`Row`] as it is written. Members that are missing were unknown to the version that wrote them.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Written<'a> {
    request_id: [u8; 16],
    seq: u64,
    started_unix_nanos: u64,
    #[serde(skip_serializing_if = "is_default")]
    client_request_id: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    upstream_request_id: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    trace_id: [u8; 16],
    #[serde(skip_serializing_if = "is_default")]
    span_id: [u8; 8],
    #[serde(skip_serializing_if = "is_default")]
    parent_span_id: [u8; 8],
    #[serde(skip_serializing_if = "is_default")]
    sampled: bool,
    #[serde(skip_serializing_if = "is_default")]
    attempt_span_id: [u8; 8],
    peer: Option<SocketAddr>,
    client: Option<IpAddr>,
    protocol: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    tls_version: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    tls_cipher: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    user_agent: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    method: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    host: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    route: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    pattern: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    request_bytes: u64,
    #[serde(skip_serializing_if = "is_default")]
    key_id: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    experiment: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    revision: u64,
    #[serde(skip_serializing_if = "is_default")]
    variant: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    served: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    reason: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    bucket: Option<u16>,
    #[serde(skip_serializing_if = "is_default")]
    unit_hash: u64,
    #[serde(skip_serializing_if = "is_default")]
    eligible: bool,
    #[serde(skip_serializing_if = "is_default")]
    backend: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    endpoint: Option<SocketAddr>,
    #[serde(skip_serializing_if = "is_default")]
    attempts: u32,
    #[serde(skip_serializing_if = "is_default")]
    upstream_status: u16,
    #[serde(skip_serializing_if = "is_default")]
    reused: bool,
    #[serde(skip_serializing_if = "is_default")]
    status: u16,
    #[serde(skip_serializing_if = "is_default")]
    outcome: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    rejected: Option<Cow<'a, str>>,
    /// `error.type`, which is unlike for each flag; empty for `Flag::None`.
    #[serde(skip_serializing_if = "is_default")]
    flag: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    response_bytes: u64,
    #[serde(skip_serializing_if = "is_default")]
    stream: bool,
    #[serde(skip_serializing_if = "is_default")]
    chunks: u64,
    #[serde(skip_serializing_if = "is_default")]
    complete: bool,
    #[serde(skip_serializing_if = "is_default")]
    request_model: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    response_model: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    tokens_estimated: bool,
    #[serde(skip_serializing_if = "is_default")]
    finish_reason: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    t_header: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    t_auth: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    t_connect: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    t_send: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    t_first_byte: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    t_first_token: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    t_stream: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    t_total: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    t_gateway: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    shadow: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl<'a> Written<'a> {
    fn of(row: &'a Row) -> Self {
        // Field by field, so that a new one does not compile until it is written.
        let &Row {
            request_id,
            seq,
            started_unix_nanos,
            ref client_request_id,
            ref upstream_request_id,
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
            ref user_agent,
            ref method,
            ref path,
            ref host,
            route,
            pattern,
            request_bytes,
            ref key_id,
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
            ref response_model,
            input_tokens,
            output_tokens,
            tokens_estimated,
            ref finish_reason,
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
        Self {
            request_id,
            seq,
            started_unix_nanos,
            client_request_id: client_request_id.into(),
            upstream_request_id: upstream_request_id.into(),
            trace_id,
            span_id,
            parent_span_id,
            sampled,
            attempt_span_id,
            peer: Some(peer),
            client: Some(client),
            protocol: protocol.as_str().into(),
            tls_version: tls_version.into(),
            tls_cipher: tls_cipher.into(),
            user_agent: user_agent.into(),
            method: method.into(),
            path: path.into(),
            host: host.into(),
            route: route.map(Cow::from),
            pattern: pattern.map(Cow::from),
            request_bytes,
            key_id: key_id.into(),
            experiment: experiment.map(Cow::from),
            revision,
            variant: variant.map(Cow::from),
            served: served.map(Cow::from),
            reason: reason.into(),
            bucket,
            unit_hash,
            eligible,
            backend: backend.map(Cow::from),
            endpoint,
            attempts,
            upstream_status,
            reused,
            status,
            outcome: outcome.map(|outcome| outcome.as_str().into()),
            rejected: rejected.map(|reason| reason.as_str().into()),
            flag: flag.map(|flag| flag.error_type().unwrap_or_default().into()),
            response_bytes,
            stream,
            chunks,
            complete,
            request_model: request_model.map(Cow::from),
            response_model: response_model.into(),
            input_tokens,
            output_tokens,
            tokens_estimated,
            finish_reason: finish_reason.into(),
            t_header: t_header.get(),
            t_auth: t_auth.get(),
            t_connect: t_connect.get(),
            t_send: t_send.get(),
            t_first_byte: t_first_byte.get(),
            t_first_token: t_first_token.get(),
            t_stream: t_stream.get(),
            t_total: t_total.get(),
            t_gateway: t_gateway.get(),
            shadow,
        }
    }

    /// `None` if it says something that this version does not know.
    fn read(self) -> Option<Row> {
        let unknown = Row::default();
        let name = |text: Option<Cow<'_, str>>| -> Option<Name> { text.map(|text| intern(&text)) };
        let protocols = [Protocol::Http10, Protocol::Http11, Protocol::Http2];
        let protocol = protocols.into_iter().find(|known| known.as_str() == self.protocol)?;
        let outcome = match self.outcome {
            None => None,
            Some(text) => Some(Outcome::ALL.into_iter().find(|known| known.as_str() == text)?),
        };
        let rejected = match self.rejected {
            None => None,
            Some(text) => Some(RejectReason::ALL.into_iter().find(|known| known.as_str() == text)?),
        };
        let flag = match self.flag {
            None => None,
            Some(text) => Some(
                Flag::ALL
                    .into_iter()
                    .find(|known| known.error_type().unwrap_or_default() == text)?,
            ),
        };
        Some(Row {
            request_id: self.request_id,
            seq: self.seq,
            started_unix_nanos: self.started_unix_nanos,
            client_request_id: self.client_request_id.into_owned(),
            upstream_request_id: self.upstream_request_id.into_owned(),
            trace_id: self.trace_id,
            span_id: self.span_id,
            parent_span_id: self.parent_span_id,
            sampled: self.sampled,
            attempt_span_id: self.attempt_span_id,
            peer: self.peer.unwrap_or(unknown.peer),
            client: self.client.unwrap_or(unknown.client),
            protocol,
            tls_version: intern(&self.tls_version),
            tls_cipher: intern(&self.tls_cipher),
            user_agent: self.user_agent.into_owned(),
            method: self.method.into_owned(),
            path: self.path.into_owned(),
            host: self.host.into_owned(),
            route: name(self.route),
            pattern: name(self.pattern),
            request_bytes: self.request_bytes,
            key_id: self.key_id.into_owned(),
            experiment: name(self.experiment),
            revision: self.revision,
            variant: name(self.variant),
            served: name(self.served),
            reason: intern(&self.reason),
            bucket: self.bucket,
            unit_hash: self.unit_hash,
            eligible: self.eligible,
            backend: name(self.backend),
            endpoint: self.endpoint,
            attempts: self.attempts,
            upstream_status: self.upstream_status,
            reused: self.reused,
            status: self.status,
            outcome,
            rejected,
            flag,
            response_bytes: self.response_bytes,
            stream: self.stream,
            chunks: self.chunks,
            complete: self.complete,
            request_model: name(self.request_model),
            response_model: self.response_model.into_owned(),
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            tokens_estimated: self.tokens_estimated,
            finish_reason: self.finish_reason.into_owned(),
            t_header: self.t_header.map_or(Micros::NONE, Micros::from_micros),
            t_auth: self.t_auth.map_or(Micros::NONE, Micros::from_micros),
            t_connect: self.t_connect.map_or(Micros::NONE, Micros::from_micros),
            t_send: self.t_send.map_or(Micros::NONE, Micros::from_micros),
            t_first_byte: self.t_first_byte.map_or(Micros::NONE, Micros::from_micros),
            t_first_token: self.t_first_token.map_or(Micros::NONE, Micros::from_micros),
            t_stream: self.t_stream.map_or(Micros::NONE, Micros::from_micros),
            t_total: self.t_total.map_or(Micros::NONE, Micros::from_micros),
            t_gateway: self.t_gateway.map_or(Micros::NONE, Micros::from_micros),
            shadow: self.shadow,
            spans: unknown.spans,
        })
    }
}

#[cfg(test)]
pub(in crate::store) mod tests {
    use std::cell::Cell;

    use super::*;

    const BOOT: [u8; 16] = [7; 16];

    fn row(seq: u64) -> Box<Row> {
        let path = format!("/v1/\u{1}\"WSP1\u{0}\u{0}{seq}");
        Box::new(Row { seq, path, route: Some(intern("chat")), ..Row::default() })
    }

    #[expect(clippy::vec_box, reason = "the spool takes rows as the recorder has them")]
    fn rows(seqs: std::ops::Range<u64>) -> Vec<Box<Row>> {
        seqs.map(row).collect()
    }

    /// Reads everything back; boots and numbers in order.
    fn drain(spool: &mut Spool) -> Vec<u64> {
        let mut seqs = Vec::new();
        spool
            .replay(|boot, rows| {
                assert_eq!(boot, BOOT);
                seqs.extend(rows.iter().map(|row| row.seq));
                Ok(())
            })
            .unwrap();
        seqs
    }

    fn segment_files(folder: &Path, extension: &str) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|is| is == extension))
            .collect();
        files.sort();
        files
    }

    /// A row in which no field is what it is by default.
    pub(in crate::store) fn full_row() -> Row {
        Row {
            request_id: [1; 16],
            seq: 2,
            started_unix_nanos: 1_700_000_000_123_456_789,
            client_request_id: "client \u{0} \"id\"".into(),
            upstream_request_id: "upstream".into(),
            trace_id: [3; 16],
            span_id: [4; 8],
            parent_span_id: [5; 8],
            sampled: true,
            attempt_span_id: [6; 8],
            peer: "[2001:db8::1]:443".parse().unwrap(),
            client: "192.0.2.7".parse().unwrap(),
            protocol: Protocol::Http2,
            tls_version: "1.3",
            tls_cipher: "TLS_AES_128_GCM_SHA256",
            user_agent: "curl/8 Grüße".into(),
            method: "POST".into(),
            path: "/v1/chat/completions".into(),
            host: "example.org".into(),
            route: Some("chat"),
            pattern: Some("/v1/chat/*"),
            request_bytes: 10,
            key_id: "k1".into(),
            experiment: Some("int8"),
            revision: 7,
            variant: Some("canary"),
            served: Some("stable"),
            reason: "split",
            bucket: Some(9_999),
            unit_hash: u64::MAX - 1,
            eligible: true,
            backend: Some("llama"),
            endpoint: Some("10.0.0.3:8000".parse().unwrap()),
            attempts: 2,
            upstream_status: 503,
            reused: true,
            status: 499,
            outcome: Some(Outcome::ClientAborted),
            rejected: Some(RejectReason::Draining),
            flag: Some(Flag::Forbidden),
            response_bytes: 11,
            stream: true,
            chunks: 12,
            complete: true,
            request_model: Some("m"),
            response_model: "m-1".into(),
            input_tokens: Some(13),
            output_tokens: Some(0),
            tokens_estimated: true,
            finish_reason: "length".into(),
            t_header: Micros::from_micros(0),
            t_auth: Micros::from_micros(1),
            t_connect: Micros::from_micros(2),
            t_send: Micros::from_micros(3),
            t_first_byte: Micros::from_micros(4),
            t_first_token: Micros::from_micros(5),
            t_stream: Micros::from_micros(6),
            t_total: Micros::from_micros(7),
            t_gateway: Micros::from_micros(8),
            shadow: true,
            // Not kept.
            spans: Default::default(),
        }
    }

    fn survives(row: &Row) {
        let mut bytes = Vec::new();
        encode(BOOT, row, &mut bytes).unwrap();
        let mut records = Records::of(&bytes);
        let (boot, back) = decode(records.next().unwrap().unwrap()).unwrap();
        assert!(records.next().is_none());
        assert_eq!(boot, BOOT);
        assert_eq!(format!("{back:?}"), format!("{row:?}"));
    }

    #[test]
    fn every_field_of_a_row_survives() {
        survives(&Row::default());
        survives(&full_row());
        for outcome in Outcome::ALL {
            survives(&Row { outcome: Some(outcome), ..Row::default() });
        }
        for reason in RejectReason::ALL {
            survives(&Row { rejected: Some(reason), ..Row::default() });
        }
        for flag in Flag::ALL {
            survives(&Row { flag: Some(flag), ..Row::default() });
        }
        for protocol in [Protocol::Http10, Protocol::Http11, Protocol::Http2] {
            survives(&Row { protocol, ..Row::default() });
        }
        // Every field of `full_row` differs from the default, so that none of the above is vacuous.
        let (full, empty) = (format!("{:#?}", full_row()), format!("{:#?}", Row::default()));
        let fields = |text: &str| -> Vec<String> {
            let mut fields = vec![String::new()];
            for line in text.lines() {
                if line.starts_with("    ") && !line.starts_with("     ") && line.contains(": ") {
                    fields.push(String::new());
                }
                fields.last_mut().unwrap().push_str(line);
            }
            fields.split_off(1)
        };
        let (full, empty) = (fields(&full), fields(&empty));
        assert_eq!(full.len(), empty.len());
        assert!(full.len() > 55);
        for (full, empty) in full.iter().zip(&empty) {
            // What only spans are made of is not kept.
            assert_eq!(full == empty, full.starts_with("    spans: "), "{full}");
        }
    }

    #[test]
    fn rows_come_back_once_in_order_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
        let done = spool.append(BOOT, &rows(0..600)).unwrap();
        assert_eq!(done, Appended { stored: 600, refused: 0 });
        drop(spool);
        let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
        let waiting = spool.pending_bytes();
        assert!(waiting > 0);
        spool.append(BOOT, &rows(600..700)).unwrap();
        assert_eq!(segment_files(folder.path(), "spool").len(), 1);
        assert_eq!(drain(&mut spool), (0..700).collect::<Vec<_>>());
        assert_eq!(spool.pending_bytes(), 0);
        assert_eq!(segment_files(folder.path(), "spool"), Vec::<PathBuf>::new());
        assert_eq!(drain(&mut spool), Vec::<u64>::new());
        spool.append(BOOT, &rows(700..701)).unwrap();
        assert_eq!(drain(&mut spool), [700]);
    }

    #[test]
    fn rows_of_two_boots_are_not_mixed() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
        spool.append([1; 16], &rows(1..3)).unwrap();
        spool.append([2; 16], &rows(1..4)).unwrap();
        let mut calls = Vec::new();
        let all = spool.replay(|boot, rows| {
            calls.push((boot[0], rows.len()));
            Ok(())
        });
        assert_eq!(all.unwrap(), 5);
        assert_eq!(calls, [(1, 2), (2, 3)]);
    }

    #[test]
    fn what_the_store_does_not_take_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
        spool.append(BOOT, &rows(0..1000)).unwrap();
        let waiting = spool.pending_bytes();
        let calls = Cell::new(0);
        let error = spool.replay(|_, _| {
            calls.set(calls.get() + 1);
            if calls.get() == 2 { Err(StoreError::Unavailable("locked".into())) } else { Ok(()) }
        });
        assert!(matches!(error, Err(ReplayError::Store(StoreError::Unavailable(_)))));
        assert_eq!(spool.pending_bytes(), waiting);
        spool.append(BOOT, &rows(1000..1010)).unwrap();
        assert_eq!(drain(&mut spool), (0..1010).collect::<Vec<_>>());
    }

    #[test]
    fn a_new_segment_begins_at_16_mib_and_each_goes_when_it_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
        let large = |seq| Box::new(Row { seq, host: "h".repeat(512 << 10), ..Row::default() });
        for seq in 0..70 {
            spool.append(BOOT, &[large(seq)]).unwrap();
        }
        assert_eq!(segment_files(folder.path(), "spool").len(), 3);
        let mut seen = Vec::new();
        while let Some(count) = spool.replay_oldest(|_, _| Ok(())).unwrap() {
            seen.push((count, segment_files(folder.path(), "spool").len()));
        }
        assert_eq!(seen, [(32, 2), (32, 1), (6, 0)]);
    }

    #[test]
    fn beyond_its_limit_it_refuses_the_last_rows_and_takes_more_when_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = Vec::new();
        encode(BOOT, &row(1), &mut one).unwrap();
        let mut spool = Spool::open(folder.path(), one.len() as u64 * 3).unwrap();
        let done = spool.append(BOOT, &rows(1..6)).unwrap();
        assert_eq!(done, Appended { stored: 3, refused: 2 });
        let done = spool.append(BOOT, &rows(6..8)).unwrap();
        assert_eq!(done, Appended { stored: 0, refused: 2 });
        assert_eq!(drain(&mut spool), [1, 2, 3]);
        assert_eq!(spool.append(BOOT, &rows(6..8)).unwrap().stored, 2);
    }

    /// A crash may end the file after any byte of what was being written.
    #[test]
    fn a_record_torn_at_any_byte_is_ignored_and_cut_off_by_the_next_append() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
        spool.append(BOOT, &rows(0..2)).unwrap();
        let whole = spool.pending_bytes();
        spool.append(BOOT, &rows(2..3)).unwrap();
        drop(spool);
        let file = segment_files(folder.path(), "spool").remove(0);
        let bytes = fs::read(&file).unwrap();
        for length in usize::try_from(whole).unwrap()..bytes.len() {
            for zeros in [0, 100] {
                let folder = tempfile::tempdir().unwrap();
                let torn = folder.path().join(file.file_name().unwrap());
                let mut content = bytes[..length].to_vec();
                if length as u64 == whole {
                    content.resize(length + zeros, 0);
                }
                fs::write(&torn, &content).unwrap();

                let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
                assert_eq!(spool.pending_bytes(), whole, "cut at {length}");
                spool.append(BOOT, &rows(3..4)).unwrap();
                assert_eq!(fs::metadata(&torn).unwrap().len(), spool.pending_bytes());
                assert_eq!(drain(&mut spool), [0, 1, 3], "cut at {length}");
                assert_eq!(spool.damaged(), 0, "cut at {length}");

                fs::write(&torn, &content).unwrap();
                drop(spool);
                let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
                assert_eq!(drain(&mut spool), [0, 1], "cut at {length}, not appended to");
            }
        }
    }

    /// Every single changed byte costs its own record and no other; the file is kept.
    #[test]
    fn a_damaged_record_is_skipped_and_its_segment_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
        spool.append(BOOT, &rows(0..1)).unwrap();
        let from = usize::try_from(spool.pending_bytes()).unwrap();
        spool.append(BOOT, &rows(1..2)).unwrap();
        let to = usize::try_from(spool.pending_bytes()).unwrap();
        spool.append(BOOT, &rows(2..4)).unwrap();
        drop(spool);
        let file = segment_files(folder.path(), "spool").remove(0);
        let bytes = fs::read(&file).unwrap();
        for at in from..to {
            let folder = tempfile::tempdir().unwrap();
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            fs::write(folder.path().join(file.file_name().unwrap()), &changed).unwrap();
            let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
            // It goes on elsewhere, not in the damaged segment.
            spool.append(BOOT, &rows(4..5)).unwrap();
            assert_eq!(drain(&mut spool), [0, 2, 3, 4], "byte {at}");
            assert_eq!(spool.damaged(), 1);
            let kept = segment_files(folder.path(), "bad");
            assert_eq!(kept.len(), 1);
            assert_eq!(fs::read(&kept[0]).unwrap(), changed);
            assert_eq!(spool.pending_bytes(), 0);
        }
    }

    #[test]
    fn two_processes_do_not_share_a_spool() {
        let folder = tempfile::tempdir().unwrap();
        let first = Spool::open(folder.path(), 1).unwrap();
        let second = Spool::open(folder.path(), 1).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::ResourceBusy);
        drop(first);
        Spool::open(folder.path(), 1).unwrap();
    }

    #[test]
    fn a_disk_that_cannot_be_written_to_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
        spool.append(BOOT, &rows(0..2)).unwrap();
        // A file that was opened for reading takes no write.
        let file = segment_files(folder.path(), "spool").remove(0);
        spool.tail = Some(Tail { file: File::open(&file).unwrap(), torn: false });
        assert!(spool.append(BOOT, &rows(2..4)).is_err());
        spool.append(BOOT, &rows(4..5)).unwrap();
        assert_eq!(segment_files(folder.path(), "spool").len(), 2);
        assert_eq!(drain(&mut spool), [0, 1, 4]);
    }

    /// Not a test: prints what a row costs.
    #[test]
    #[ignore = "a measurement, not a test"]
    fn the_cost_of_a_spooled_row() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
        let batch: Vec<_> = (0..512).map(|_| Box::new(full_row())).collect();
        let start = crate::clock::now();
        for _ in 0..200 {
            spool.append(BOOT, &batch).unwrap();
        }
        let append = start.elapsed() / (200 * 512);
        let bytes = spool.pending_bytes() / (200 * 512);
        let start = crate::clock::now();
        let rows = spool.replay(|_, _| Ok(())).unwrap();
        println!(
            "append {append:?} a row with fsync, {bytes} bytes; reading {:?} a row",
            start.elapsed() / u32::try_from(rows).unwrap()
        );
    }
}
