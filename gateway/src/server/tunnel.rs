//! Two streams joined after a 101: bytes both ways until one side ends.

use std::cell::Cell;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::backends::h1::OpenConnection;
use crate::backends::stream::Stream;
use crate::clock;
use crate::request::dispatch::Busy;
use crate::request::{Record, upgrade};

/// The backend's side of a tunnel, waiting for the client's.
pub struct Tunnel {
    /// Stream.
    pub stream: Stream,
    /// Bytes that came with the 101.
    pub early: Bytes,
    /// Ends with the tunnel.
    pub record: Record,
    /// Longest silence in both directions.
    pub idle: Duration,
    /// Counted as an open connection.
    pub _open: OpenConnection,
    /// Its place at the backend.
    pub _busy: Busy,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").field("record", &self.record).finish_non_exhaustive()
    }
}

impl Tunnel {
    /// Joins the two sides. `sent` are bytes that the client sent behind its head.
    ///
    /// Each direction waits for itself alone: where both peers send much and one reads only after it
    /// has written, a single loop would stand still with every buffer full.
    pub async fn run(self, client: impl AsyncRead + AsyncWrite + Unpin, sent: Vec<u8>) {
        let Self { stream, early, mut record, idle, _open, _busy } = self;
        let (from_client, mut to_client) = tokio::io::split(client);
        let (from_backend, mut to_backend) = tokio::io::split(stream);
        let moved = Cell::new(clock::now());
        let (up, down) = (Cell::new(0), Cell::new(0));
        let clean = tokio::select! {
            // The client's reset is an ordinary end; the backend's is not.
            _ = pump(from_client, &mut to_backend, &sent, &moved, &up) => true,
            ended = pump(from_backend, &mut to_client, &early, &moved, &down) => {
                ended != Err(Broke::Reading)
            }
            () = silence(idle, &moved) => true,
        };
        let closing = async {
            let _ = to_backend.shutdown().await;
            let _ = to_client.shutdown().await;
        };
        // A peer that does not read must not hold the record.
        let _ = tokio::time::timeout(CLOSING, closing).await;
        let row = record.row();
        row.request_bytes = up.get();
        row.response_bytes = down.get();
        upgrade::ended(&mut record, clean);
    }
}

/// How long the last words to both sides may take.
const CLOSING: Duration = Duration::from_secs(1);

/// Which side of a direction broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broke {
    Reading,
    Writing,
}

/// One direction, until its source ends.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
    first: &[u8],
    moved: &Cell<Instant>,
    bytes: &Cell<u64>,
) -> Result<(), Broke> {
    let mut buffer = vec![0; 16 << 10];
    bytes.set(first.len() as u64);
    to.write_all(first).await.map_err(|_| Broke::Writing)?;
    loop {
        to.flush().await.map_err(|_| Broke::Writing)?;
        let count = from.read(&mut buffer).await.map_err(|_| Broke::Reading)?;
        moved.set(clock::now());
        if count == 0 {
            return Ok(());
        }
        bytes.set(bytes.get() + count as u64);
        to.write_all(buffer.get(..count).unwrap_or_default()).await.map_err(|_| Broke::Writing)?;
        moved.set(clock::now());
    }
}

/// Ends when nothing has moved for `idle`, in either direction.
async fn silence(idle: Duration, moved: &Cell<Instant>) {
    loop {
        let end = moved.get() + idle;
        if clock::now() >= end {
            return;
        }
        tokio::time::sleep_until(end.into()).await;
    }
}
