//! Log lines: one JSON object each, written by a thread of their own.
//!
//! A writer that cannot get rid of its bytes (a pipe nobody reads, a full disk) must not hold up
//! recording, so lines go through a bounded channel and are dropped, and counted, when it is full.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{LazyLock, OnceLock};

use crate::clock;
use crate::config::plan::AccessLog;

/// Chunks of lines that may wait for a writer.
const WAITING: usize = 256;

/// Lines of events that were dropped.
pub static EVENTS_DROPPED: AtomicU64 = AtomicU64::new(0);

static STDOUT: LazyLock<SyncSender<Chunk>> = LazyLock::new(|| writer("log-stdout", io::stdout()));
static QUIET: OnceLock<()> = OnceLock::new();

enum Chunk {
    Lines(Vec<u8>),
    Flush(SyncSender<()>),
}

fn writer(name: &str, mut to: impl Write + Send + 'static) -> SyncSender<Chunk> {
    let (sender, lines) = sync_channel::<Chunk>(WAITING);
    let spawned = std::thread::Builder::new().name(name.into()).spawn(move || {
        for chunk in lines {
            match chunk {
                // A line that cannot be written has nowhere to be reported.
                Chunk::Lines(bytes) => drop(to.write_all(&bytes).and_then(|()| to.flush())),
                Chunk::Flush(done) => drop(done.send(())),
            }
        }
    });
    // Without a thread the channel closes and lines are dropped and counted.
    drop(spawned);
    sender
}

/// No event lines from here on: a command that draws on the terminal owns it.
pub fn quiet() {
    let _ = QUIET.set(());
}

/// How much an event matters: `error` means somebody must act, `warn` that we coped, `info` that
/// something asked for has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For whoever looks for something, and turned it on.
    Debug,
    /// Asked for, happened.
    Info,
    /// Coped.
    Warn,
    /// Somebody must act.
    Error,
}

impl Severity {
    /// Every one, the least first.
    pub const ALL: [Self; 4] = [Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// The least that is written: a place in [`Severity::ALL`].
static LEVEL: AtomicUsize = AtomicUsize::new(1);

/// The least severe events that are written from here on.
pub fn set_level(least: Severity) {
    LEVEL.store(least as usize, Relaxed);
}

/// The least severe events that are written.
pub fn level() -> Severity {
    Severity::ALL[LEVEL.load(Relaxed).min(Severity::ALL.len() - 1)]
}

/// Writes one event line to standard output, if its severity is asked for.
pub fn event(severity: Severity, name: &str, members: &[(&str, serde_json::Value)]) {
    if severity >= level() {
        event_anyway(severity, name, members);
    }
}

/// The same whatever is asked for.
pub fn event_anyway(severity: Severity, name: &str, members: &[(&str, serde_json::Value)]) {
    if QUIET.get().is_some() {
        return;
    }
    let mut line = Vec::with_capacity(256);
    line.extend_from_slice(b"{\"timestamp\":\"");
    line.extend_from_slice(clock::rfc3339(clock::unix_nanos()).as_bytes());
    line.extend_from_slice(b"\",\"severity\":\"");
    line.extend_from_slice(severity.as_str().as_bytes());
    line.extend_from_slice(b"\",\"event\":");
    string(&mut line, name);
    for (key, value) in members {
        line.push(b',');
        string(&mut line, key);
        line.push(b':');
        match value {
            serde_json::Value::String(text) => string(&mut line, text),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => drop(serde_json::to_writer(&mut line, value)),
        }
    }
    line.extend_from_slice(b"}\n");
    if STDOUT.try_send(Chunk::Lines(line)).is_err() {
        EVENTS_DROPPED.fetch_add(1, Relaxed);
    }
}

/// Waits until what was written before is out, for at most a second.
pub fn flush() {
    let (done, flushed) = sync_channel(1);
    if STDOUT.try_send(Chunk::Flush(done)).is_ok() {
        let _ = flushed.recv_timeout(std::time::Duration::from_secs(1));
    }
}

/// A JSON string: control characters, U+2028 and U+2029 escaped, so that one record is one line and
/// no escape sequence reaches a terminal (hardening T28).
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for part in text.chars() {
        match part {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(part));
            }
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// Where access lines go.
pub struct AccessWriter {
    to: Option<SyncSender<Chunk>>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for AccessWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessWriter")
    }
}

impl AccessWriter {
    /// Opens what the configuration says.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn open(log: &AccessLog) -> io::Result<Self> {
        let to = match log {
            AccessLog::Off => None,
            AccessLog::Errors | AccessLog::Stdout => Some(STDOUT.clone()),
            AccessLog::File(path) => Some(writer("log-access", AppendFile::open(path.clone())?)),
        };
        Ok(Self { to, buffer: Vec::new() })
    }

    /// Whether lines go nowhere.
    pub fn is_off(&self) -> bool {
        self.to.is_none()
    }

    /// Lines are appended here, each with its line end.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Passes the buffer on. `false` if it had to be dropped.
    pub fn flush(&mut self) -> bool {
        if self.buffer.is_empty() {
            return true;
        }
        let Some(to) = &self.to else { return true };
        let lines = std::mem::take(&mut self.buffer);
        !matches!(
            to.try_send(Chunk::Lines(lines)),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_))
        )
    }

    /// Waits until everything is out, for at most a second.
    pub fn close(&self) {
        let Some(to) = &self.to else { return };
        let (done, flushed) = sync_channel(1);
        if to.try_send(Chunk::Flush(done)).is_ok() {
            let _ = flushed.recv_timeout(std::time::Duration::from_secs(1));
        }
    }
}

/// A file that is opened again when somebody has moved it away, as log rotation does.
struct AppendFile {
    path: PathBuf,
    file: File,
    checked: std::time::Instant,
}

impl AppendFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        Ok(Self { path, file, checked: clock::now() })
    }
}

impl Write for AppendFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.checked.elapsed() > std::time::Duration::from_secs(1) {
            self.checked = clock::now();
            if !self.path.exists()
                && let Ok(file) = OpenOptions::new().create(true).append(true).open(&self.path)
            {
                self.file = file;
            }
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t28_client_text_stays_one_line_of_json() {
        let mut out = Vec::new();
        let nasty = "a\n{\"x\":1}\u{1b}[31m\u{2028}\u{0}\"\\é";
        string(&mut out, nasty);
        let text = String::from_utf8(out).unwrap();
        assert!(text.chars().all(|c| !c.is_control() && c != '\u{2028}'), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), nasty);
    }
}
