//! Two streams joined after a 101: bytes both ways until one side ends.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::backends::h1::OpenConnection;
use crate::backends::wire::BackendIo;
use crate::request::{Record, upgrade};

/// The backend's side of a tunnel, waiting for the client's.
pub struct Tunnel {
    /// Stream.
    pub stream: BackendIo,
    /// Bytes that came with the 101.
    pub early: Bytes,
    /// Ends with the tunnel.
    pub record: Record,
    /// Longest silence in both directions.
    pub idle: Duration,
    /// Counted as an open connection.
    pub _open: OpenConnection,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").field("record", &self.record).finish_non_exhaustive()
    }
}

impl Tunnel {
    /// Joins the two sides. `sent` are bytes that the client sent behind its head.
    pub async fn run(self, mut client: impl AsyncRead + AsyncWrite + Unpin, sent: Vec<u8>) {
        let Self { mut stream, early, mut record, idle, _open } = self;
        let (mut up, mut down) = (sent.len() as u64, early.len() as u64);
        let begun = async {
            stream.write_all(&sent).await?;
            stream.flush().await?;
            client.write_all(&early).await?;
            client.flush().await
        };
        let mut clean = begun.await.is_ok();
        let mut from_client = vec![0; 16 << 10];
        let mut from_backend = vec![0; 16 << 10];
        while clean {
            let step = tokio::time::timeout(idle, async {
                tokio::select! {
                    read = client.read(&mut from_client) => (true, read),
                    read = stream.read(&mut from_backend) => (false, read),
                }
            });
            let Ok((is_client, read)) = step.await else { break };
            let Ok(count) = read else {
                // The client's reset is an ordinary end; the backend's is not.
                clean = is_client;
                break;
            };
            if count == 0 {
                break;
            }
            let wrote = if is_client {
                up += count as u64;
                async {
                    stream.write_all(&from_client[..count]).await?;
                    stream.flush().await
                }
                .await
            } else {
                down += count as u64;
                async {
                    client.write_all(&from_backend[..count]).await?;
                    client.flush().await
                }
                .await
            };
            if wrote.is_err() {
                break;
            }
        }
        let _ = stream.shutdown().await;
        let _ = client.shutdown().await;
        let row = record.row();
        row.request_bytes = up;
        row.response_bytes = down;
        upgrade::ended(&mut record, clean);
    }
}
