//! A server that knows no HTTP: for each connection it runs a script of bytes, and it keeps every
//! byte it was sent.
//!
//! For backends that break the protocol, and for seeing exactly what a gateway sends.
//!
//! ```ignore
//! let hostile = raw_backend(
//!     raw_script()
//!         .reads_request()
//!         .writes("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc")
//!         .stays_open(),
//! )
//! .start()
//! .await;
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::listen;
use super::own_thread::OwnThread;
use super::wire::reset_when_closed;
use crate::raw_client::framing::{Message, head_length};

#[derive(Clone, Debug)]
enum Step {
    ReadHead,
    ReadRequest,
    Read(usize),
    Write(Bytes),
    WriteInPieces { bytes: Bytes, size: usize, gap: Duration },
    Pause(Duration),
    HalfClose,
    Close,
    Reset,
    StayOpen,
    Again,
}

/// What is done on a connection, step by step. After the last step it is closed.
#[must_use]
#[derive(Clone, Debug, Default)]
pub struct RawScript {
    steps: Vec<Step>,
}

/// A script without steps.
pub fn raw_script() -> RawScript {
    RawScript::default()
}

impl RawScript {
    /// Reads to the empty line that ends a head.
    pub fn reads_head(self) -> Self {
        self.step(Step::ReadHead)
    }

    /// Reads a head and the body it declares, by length or in chunks.
    pub fn reads_request(self) -> Self {
        self.step(Step::ReadRequest)
    }

    /// Reads so many bytes.
    pub fn reads(self, bytes: usize) -> Self {
        self.step(Step::Read(bytes))
    }

    /// Writes these bytes.
    pub fn writes(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::Write(bytes.into()))
    }

    /// Writes these bytes, `size` at a time, with `gap` between.
    pub fn writes_in_pieces(self, bytes: impl Into<Bytes>, size: usize, gap: Duration) -> Self {
        self.step(Step::WriteInPieces { bytes: bytes.into(), size, gap })
    }

    /// Waits.
    pub fn pauses(self, time: Duration) -> Self {
        self.step(Step::Pause(time))
    }

    /// Sends FIN and goes on reading.
    pub fn half_closes(self) -> Self {
        self.step(Step::HalfClose)
    }

    /// Closes with FIN. What has come by then is kept first, since closing on unread bytes would
    /// make it an RST.
    pub fn closes(self) -> Self {
        self.step(Step::Close)
    }

    /// Closes with RST.
    pub fn resets(self) -> Self {
        self.step(Step::Reset)
    }

    /// Keeps reading until the other side closes.
    pub fn stays_open(self) -> Self {
        self.step(Step::StayOpen)
    }

    /// Begins anew with the first step, for the next request on the connection.
    pub fn again(self) -> Self {
        self.step(Step::Again)
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// A server that has not been started, of which every connection runs `script`.
pub fn raw_backend(script: RawScript) -> RawBackendBuilder {
    RawBackendBuilder { scripts: vec![script] }
}

/// The scripts of a server's connections.
#[must_use]
#[derive(Clone, Debug)]
pub struct RawBackendBuilder {
    scripts: Vec<RawScript>,
}

impl RawBackendBuilder {
    /// Another script for the next connection; the last one serves all that follow.
    pub fn then(mut self, script: RawScript) -> Self {
        self.scripts.push(script);
        self
    }

    /// Starts it on a free port of 127.0.0.1.
    #[expect(clippy::unused_async, reason = "every server of this library starts with .await")]
    pub async fn start(self) -> RawBackend {
        self.start_now()
    }

    /// [`RawBackendBuilder::start`] for tests on plain threads.
    ///
    /// # Panics
    /// If there is no port.
    pub fn start_now(self) -> RawBackend {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let addr = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<RawConnection>>> = Arc::default();
        let shared = Arc::clone(&received);
        let thread = OwnThread::run("raw backend", move || accept(listener, self.scripts, shared));
        RawBackend { addr, received, thread: Mutex::new(Some(thread)) }
    }
}

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct RawBackend {
    /// Where it listens.
    pub addr: SocketAddr,
    received: Arc<Mutex<Vec<RawConnection>>>,
    thread: Mutex<Option<OwnThread>>,
}

/// What one connection brought.
#[derive(Clone, Debug)]
pub struct RawConnection {
    /// When it was accepted.
    pub at: Instant,
    /// Every byte that was read from it.
    pub bytes: Vec<u8>,
    /// When the other side was found to have closed it.
    pub closed_by_client: Option<Instant>,
    /// When the script was through with it.
    pub ended: Option<Instant>,
}

impl RawConnection {
    /// The bytes as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl RawBackend {
    /// Its address as a gateway's configuration writes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What came, one for each connection.
    #[must_use]
    pub fn received(&self) -> Vec<RawConnection> {
        self.received.lock().clone()
    }

    /// Everything that came, of all connections one after the other, as text.
    #[must_use]
    pub fn received_text(&self) -> String {
        self.received.lock().iter().map(RawConnection::text).collect()
    }

    /// How many bytes came over all connections.
    #[must_use]
    pub fn received_bytes(&self) -> usize {
        self.received.lock().iter().map(|connection| connection.bytes.len()).sum()
    }

    /// How many connections were accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.received.lock().len()
    }

    /// Refuses connections and cuts those that are open.
    pub fn stop(&self) {
        drop(self.thread.lock().take());
    }
}

async fn accept(
    listener: std::net::TcpListener,
    scripts: Vec<RawScript>,
    received: Arc<Mutex<Vec<RawConnection>>>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((tcp, _)) = listener.accept().await else { continue };
        let _ = tcp.set_nodelay(true);
        let number = {
            let (at, bytes) = (Instant::now(), Vec::new());
            let mut received = received.lock();
            received.push(RawConnection { at, bytes, closed_by_client: None, ended: None });
            received.len() - 1
        };
        let script = scripts[number.min(scripts.len() - 1)].clone();
        let connection = Connection { tcp, received: Arc::clone(&received), number, taken: 0 };
        tokio::spawn(connection.run(script));
    }
}

struct Connection {
    tcp: TcpStream,
    received: Arc<Mutex<Vec<RawConnection>>>,
    number: usize,
    /// How much of what came has been taken by a reading step.
    taken: usize,
}

/// The other side has closed or reset the connection.
struct Gone;

impl Connection {
    async fn run(mut self, script: RawScript) {
        let _ = self.steps(&script.steps).await;
        self.change(|connection| connection.ended = Some(Instant::now()));
    }

    async fn steps(&mut self, steps: &[Step]) -> Result<(), Gone> {
        loop {
            let mut again = false;
            for step in steps {
                match step {
                    Step::ReadHead => self.read_until(head_length).await?,
                    Step::ReadRequest => {
                        self.read_until(|bytes| Message::request(bytes).map(|it| it.length))
                            .await?;
                    }
                    Step::Read(count) => {
                        self.read_until(|bytes| (bytes.len() >= *count).then_some(*count)).await?;
                    }
                    Step::Write(bytes) => self.write(bytes).await?,
                    Step::WriteInPieces { bytes, size, gap } => {
                        for piece in bytes.chunks(*size) {
                            self.write(piece).await?;
                            tokio::time::sleep(*gap).await;
                        }
                    }
                    Step::Pause(time) => tokio::time::sleep(*time).await,
                    Step::HalfClose => self.tcp.shutdown().await.map_err(|_| Gone)?,
                    Step::Close => {
                        self.keep_what_has_come();
                        return Ok(());
                    }
                    Step::Reset => {
                        reset_when_closed(&self.tcp);
                        return Ok(());
                    }
                    Step::StayOpen => loop {
                        self.read_more().await?;
                    },
                    Step::Again => {
                        again = true;
                        break;
                    }
                }
            }
            if !again {
                self.keep_what_has_come();
                return Ok(());
            }
        }
    }

    /// Reads until `enough` finds its end among the bytes not yet taken, and takes them.
    async fn read_until(&mut self, enough: impl Fn(&[u8]) -> Option<usize>) -> Result<(), Gone> {
        loop {
            let length = enough(&self.received.lock()[self.number].bytes[self.taken..]);
            if let Some(length) = length {
                self.taken += length;
                return Ok(());
            }
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> Result<(), Gone> {
        let mut buffer = vec![0; 64 * 1024];
        match self.tcp.read(&mut buffer).await {
            Ok(count) if count > 0 => {
                self.change(|connection| connection.bytes.extend_from_slice(&buffer[..count]));
                Ok(())
            }
            Ok(_) | Err(_) => {
                self.change(|connection| connection.closed_by_client = Some(Instant::now()));
                Err(Gone)
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.tcp.write_all(bytes).await.map_err(|_| {
            self.change(|connection| connection.closed_by_client = Some(Instant::now()));
            Gone
        })
    }

    fn keep_what_has_come(&mut self) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count) = self.tcp.try_read(&mut buffer) {
            if count == 0 {
                return;
            }
            self.change(|connection| connection.bytes.extend_from_slice(&buffer[..count]));
        }
    }

    fn change(&self, change: impl FnOnce(&mut RawConnection)) {
        change(&mut self.received.lock()[self.number]);
    }
}
