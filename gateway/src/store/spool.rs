//! Outcome rows on disk while the store is away (D5, L16): written in order, synced, read back once.
//!
//! A folder of segments, `NUMBER.spool`, each a sequence of records: magic, length, check, payload.
//! The payload is the boot and the row as JSON, so that a later version can read what an earlier one
//! left. A segment is deleted when all its rows are in the store; rows that come twice are harmless
//! there (D3). A record that was cut off by a crash was never acknowledged and is ignored. One that
//! does not fit its check is skipped and counted, and its segment is kept aside as `NUMBER.bad`.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::StoreError;
use crate::recorder::row::Row;
use record::{Records, decode, encode};

mod record;
mod written;

/// A new segment begins after this many bytes.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Rows handed to the store at once when reading back.
const REPLAY_ROWS: usize = 512;

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

#[cfg(test)]
pub(in crate::store) mod tests;
