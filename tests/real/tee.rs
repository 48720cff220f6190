//! A wire with a clock in it: what a model server said when, and when it was left.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What went over the wire.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// When each piece of text went by, in seconds since 1970.
    pub(crate) pieces: Vec<f64>,
    /// When the caller closed a connection.
    pub(crate) left: Vec<Instant>,
}

/// Passes on connections to a model server.
#[derive(Debug)]
pub(crate) struct Tee {
    pub(crate) addr: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

pub(crate) fn wall() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

impl Tee {
    /// On a thread of its own, so that a test's thread does not delay what it measures.
    pub(crate) fn start(model: SocketAddr) -> Self {
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let noted = Arc::clone(&heard);
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((caller, _)) = listener.accept().await {
                    tokio::spawn(pass(caller, model, Arc::clone(&noted)));
                }
            });
        });
        Self { addr, heard }
    }

    /// What it heard since it was asked last.
    pub(crate) fn take(&self) -> Heard {
        std::mem::take(&mut *self.heard.lock())
    }

    /// When a connection was closed, if one was.
    pub(crate) fn left(&self) -> Option<Instant> {
        self.heard.lock().left.first().copied()
    }
}

async fn pass(caller: TcpStream, model: SocketAddr, heard: Arc<Mutex<Heard>>) {
    let Ok(server) = TcpStream::connect(model).await else { return };
    caller.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut from_caller, mut to_caller) = caller.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let noted = Arc::clone(&heard);
    let back = tokio::spawn(async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            let now = wall();
            let text = String::from_utf8_lossy(&buffer[..read]);
            // The role comes with an empty text, the end without any.
            let pieces = text.matches("\"delta\":{\"content\":").count();
            noted.lock().pieces.extend(std::iter::repeat_n(now, pieces));
            if to_caller.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from_caller.read(&mut buffer).await {
        if to_server.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    heard.lock().left.push(Instant::now());
    // Both halves gone, the model server sees the connection closed too.
    back.abort();
}
