//! A network between a client and a server, with faults that a test turns on and off while bytes
//! flow. It forwards TCP and understands nothing of what it forwards.
//!
//! ```ignore
//! let network = fault_proxy(slow.addr).start().await;
//! network.delay_answers(millis(200));
//! network.black_hole(true);
//! network.heal();
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::backend::listen;
use crate::backend::own_thread::OwnThread;
use crate::backend::wire::reset_when_closed;

/// A proxy, not started, that forwards to `server`.
pub fn fault_proxy(server: SocketAddr) -> FaultProxyBuilder {
    FaultProxyBuilder { server }
}

/// Where a proxy will forward to.
#[must_use]
#[derive(Clone, Debug)]
pub struct FaultProxyBuilder {
    server: SocketAddr,
}

impl FaultProxyBuilder {
    /// Starts it on a free port of 127.0.0.1, without a fault.
    #[expect(clippy::unused_async, reason = "every server of this library starts with .await")]
    pub async fn start(self) -> FaultProxy {
        self.start_now()
    }

    /// [`FaultProxyBuilder::start`] for tests on plain threads.
    ///
    /// # Panics
    /// If there is no port.
    pub fn start_now(self) -> FaultProxy {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let addr = listener.local_addr().unwrap();
        let (faults, seen_faults) = watch::channel(Faults::new(self.server));
        let (commands, received) = mpsc::unbounded_channel();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let thread = OwnThread::run("fault proxy", move || {
            accept(listener, addr, seen_faults, received, shared)
        });
        FaultProxy { addr, faults, commands, counts, _thread: thread }
    }
}

/// A proxy that runs until it is dropped. What is set here holds for the connections that are open
/// and for those to come.
#[derive(Debug)]
pub struct FaultProxy {
    /// Where it listens.
    pub addr: SocketAddr,
    faults: watch::Sender<Faults>,
    commands: mpsc::UnboundedSender<Command>,
    counts: Arc<Counts>,
    _thread: OwnThread,
}

impl FaultProxy {
    /// Delays every byte on its way to the server.
    pub fn delay_requests(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.requests.delay = delay);
    }

    /// Delays every byte on its way to the client.
    pub fn delay_answers(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.answers.delay = delay);
    }

    /// Lets so many bytes a second through to the server, on each connection; `None` lets all.
    pub fn limit_requests(&self, bytes_per_second: Option<u64>) {
        self.faults.send_modify(|faults| faults.requests.bandwidth = bytes_per_second);
    }

    /// Lets so many bytes a second through to the client, on each connection; `None` lets all.
    pub fn limit_answers(&self, bytes_per_second: Option<u64>) {
        self.faults.send_modify(|faults| faults.answers.bandwidth = bytes_per_second);
    }

    /// Accepts connections, and reads and forwards nothing, until turned off again; what waits in
    /// between is not lost. See [`never_connects`] for a server that does not even accept.
    pub fn black_hole(&self, on: bool) {
        self.faults.send_modify(|faults| faults.black_hole = on);
    }

    /// Refuses new connections. Those that are open go on. In force on return.
    pub fn refuse(&self) {
        self.command(Command::Refuse);
    }

    /// Accepts connections again, on the same port. In force on return.
    pub fn accept(&self) {
        self.command(Command::Accept);
    }

    /// Resets all open connections on both sides (RST).
    pub fn reset_all(&self) {
        self.faults.send_modify(|faults| faults.resets += 1);
    }

    /// Resets a connection once so many more bytes have gone through it to the server.
    pub fn cut_requests_after(&self, bytes: u64) {
        self.faults.send_modify(|faults| faults.requests.cut(bytes));
    }

    /// Resets a connection once so many more bytes have gone through it to the client.
    pub fn cut_answers_after(&self, bytes: u64) {
        self.faults.send_modify(|faults| faults.answers.cut(bytes));
    }

    /// Sends FIN to the server on all open connections, and drops what the client still sends.
    pub fn half_close_requests(&self) {
        self.faults.send_modify(|faults| faults.requests.half_closes += 1);
    }

    /// Sends FIN to the client on all open connections, and drops what the server still sends.
    pub fn half_close_answers(&self) {
        self.faults.send_modify(|faults| faults.answers.half_closes += 1);
    }

    /// Sends new connections to another server.
    pub fn forward_to(&self, server: SocketAddr) {
        self.faults.send_modify(|faults| faults.server = server);
    }

    /// Ends every fault. What has been cut stays cut.
    pub fn heal(&self) {
        self.faults.send_modify(|faults| {
            faults.black_hole = false;
            faults.requests.heal();
            faults.answers.heal();
        });
        self.accept();
    }

    /// How many connections it accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    /// How many bytes went to the server.
    #[must_use]
    pub fn request_bytes(&self) -> u64 {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// How many bytes went to the client.
    #[must_use]
    pub fn answer_bytes(&self) -> u64 {
        self.counts.answers.load(Ordering::SeqCst)
    }

    fn command(&self, command: impl FnOnce(Done) -> Command) {
        let (done, is_done) = std::sync::mpsc::channel();
        self.commands.send(command(done)).expect("the proxy runs");
        is_done.recv().expect("the proxy runs");
    }
}

/// Told when a command is in force.
type Done = std::sync::mpsc::Sender<()>;

enum Command {
    Refuse(Done),
    Accept(Done),
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicU64,
    answers: AtomicU64,
}

#[derive(Clone, Debug)]
struct Faults {
    server: SocketAddr,
    black_hole: bool,
    /// Raised to reset what is open.
    resets: u64,
    requests: Direction,
    answers: Direction,
}

#[derive(Clone, Copy, Debug, Default)]
struct Direction {
    delay: Duration,
    bandwidth: Option<u64>,
    /// Raised to send FIN.
    half_closes: u64,
    /// How many bytes more, and the number of the order: each counts from when it was given.
    cut_after: Option<u64>,
    cuts: u64,
}

impl Faults {
    fn new(server: SocketAddr) -> Self {
        let (requests, answers) = (Direction::default(), Direction::default());
        Self { server, black_hole: false, resets: 0, requests, answers }
    }
}

impl Direction {
    fn cut(&mut self, bytes: u64) {
        self.cut_after = Some(bytes);
        self.cuts += 1;
    }

    fn heal(&mut self) {
        self.delay = Duration::ZERO;
        self.bandwidth = None;
        self.cut_after = None;
    }
}

async fn accept(
    listener: std::net::TcpListener,
    addr: SocketAddr,
    faults: watch::Receiver<Faults>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    counts: Arc<Counts>,
) {
    let mut listener = Some(TcpListener::from_std(listener).unwrap());
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                None => return,
                Some(Command::Refuse(done)) => {
                    listener = None;
                    let _ = done.send(());
                }
                Some(Command::Accept(done)) => {
                    if listener.is_none() {
                        listener = Some(TcpListener::from_std(listen(addr)).unwrap());
                    }
                    let _ = done.send(());
                }
            },
            accepted = accepted => {
                let Ok((client, _)) = accepted else { continue };
                counts.connections.fetch_add(1, Ordering::SeqCst);
                counts.open.fetch_add(1, Ordering::SeqCst);
                let (faults, counts) = (faults.clone(), Arc::clone(&counts));
                tokio::spawn(async move {
                    forward(client, faults, &counts).await;
                    counts.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        }
    }
}

/// Forwards one connection to its end. What ends otherwise than both sides closing is passed on as
/// a reset, also a server that cannot be reached.
async fn forward(mut client: TcpStream, mut faults: watch::Receiver<Faults>, counts: &Counts) {
    let _ = client.set_nodelay(true);
    let mut reset_faults = faults.clone();
    let resets = reset_faults.borrow().resets;
    let mut server = None;
    let whole = async {
        let addr = faults.wait_for(|now| !now.black_hole).await.map_err(io::Error::other)?.server;
        let server = server.insert(TcpStream::connect(addr).await?);
        let _ = server.set_nodelay(true);
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let requests = Pump::new(|it| it.requests, &faults, &counts.requests);
        let answers = Pump::new(|it| it.answers, &faults, &counts.answers);
        tokio::try_join!(requests.run(from_client, to_server), answers.run(from_server, to_client))
    };
    let cut_short = tokio::select! {
        ended = whole => ended.is_err(),
        _ = reset_faults.wait_for(|now| now.resets != resets) => true,
    };
    if cut_short {
        reset_when_closed(&client);
        server.iter().for_each(reset_when_closed);
    }
}

/// One direction of one connection.
struct Pump<'a> {
    direction: fn(&Faults) -> Direction,
    faults: watch::Receiver<Faults>,
    count: &'a AtomicU64,
}

/// How much is on its way between the two halves of a pump: pieces, each of up to 16 KiB.
const ON_ITS_WAY: usize = 64;
const PIECE: usize = 16 * 1024;
/// Into how many portions a second's bandwidth is cut.
const PORTIONS: u64 = 50;

impl<'a> Pump<'a> {
    fn new(
        direction: fn(&Faults) -> Direction,
        faults: &watch::Receiver<Faults>,
        count: &'a AtomicU64,
    ) -> Self {
        Self { direction, faults: faults.clone(), count }
    }

    async fn run(&self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> io::Result<()> {
        let (sender, receiver) = mpsc::channel(ON_ITS_WAY);
        tokio::try_join!(self.read(from, sender), self.write(to, receiver)).map(|_| ())
    }

    /// Reads, and notes when each piece is due on the other side. An empty piece is the end.
    async fn read(
        &self,
        mut from: ReadHalf<'_>,
        pieces: mpsc::Sender<(Instant, Bytes)>,
    ) -> io::Result<()> {
        let mut faults = self.faults.clone();
        loop {
            faults.wait_for(|now| !now.black_hole).await.map_err(io::Error::other)?;
            let mut piece = Vec::with_capacity(PIECE);
            let count = tokio::select! {
                biased;
                _ = faults.changed() => continue,
                count = from.read_buf(&mut piece) => count?,
            };
            let due = Instant::now() + (self.direction)(&faults.borrow()).delay;
            if pieces.send((due, piece.into())).await.is_err() || count == 0 {
                return Ok(());
            }
        }
    }

    /// Writes what is due, as fast as is allowed and no more than is allowed.
    async fn write(
        &self,
        mut to: WriteHalf<'_>,
        mut pieces: mpsc::Receiver<(Instant, Bytes)>,
    ) -> io::Result<()> {
        let mut faults = self.faults.clone();
        let half_closes = (self.direction)(&faults.borrow()).half_closes;
        let mut cut = Cut::default();
        loop {
            let piece = tokio::select! {
                biased;
                _ = faults.wait_for(|now| (self.direction)(now).half_closes != half_closes) => None,
                piece = pieces.recv() => piece,
            };
            let Some((due, mut piece)) = piece else { break };
            tokio::time::sleep_until(due).await;
            if piece.is_empty() {
                break;
            }
            while !piece.is_empty() {
                faults.wait_for(|now| !now.black_hole).await.map_err(io::Error::other)?;
                let direction = (self.direction)(&faults.borrow());
                let portion =
                    direction.bandwidth.map_or(PIECE as u64, |rate| rate.div_ceil(PORTIONS));
                let left = cut.left(&direction);
                let size = portion.min(left.unwrap_or(u64::MAX)).min(piece.len() as u64);
                let now = piece.split_to(usize::try_from(size).unwrap());
                to.write_all(&now).await?;
                self.count.fetch_add(size, Ordering::SeqCst);
                cut.gone += size;
                if left == Some(size) {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                if let Some(rate) = direction.bandwidth {
                    tokio::time::sleep(Duration::from_secs(1).mul_f64(size as f64 / rate as f64))
                        .await;
                }
            }
        }
        let _ = to.shutdown().await;
        // After a half-close, the rest is taken and dropped, so that its sender notices nothing.
        while pieces.recv().await.is_some_and(|(_, piece)| !piece.is_empty()) {}
        Ok(())
    }
}

/// How much has gone since the latest order to cut.
#[derive(Default)]
struct Cut {
    order: u64,
    gone: u64,
}

impl Cut {
    fn left(&mut self, direction: &Direction) -> Option<u64> {
        if self.order != direction.cuts {
            *self = Self { order: direction.cuts, gone: 0 };
        }
        direction.cut_after.map(|bytes| bytes.saturating_sub(self.gone))
    }
}

/// An address that answers no SYN, as a host does that is gone: connecting to it neither succeeds
/// nor fails. Its listener's queue is full and nobody accepts.
///
/// # Panics
/// If the queue does not fill, on a system that has no such limit.
#[must_use]
pub fn never_connects() -> NeverConnects {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    loop {
        assert!(queued.len() < 100, "the queue of a listener does not fill");
        match StdStream::connect_timeout(&addr, Duration::from_millis(100)) {
            Ok(stream) => queued.push(stream),
            Err(_) => return NeverConnects { addr, _queued: queued, _listener: socket },
        }
    }
}

/// Keeps [`never_connects`] as it is until dropped.
#[derive(Debug)]
pub struct NeverConnects {
    /// The address.
    pub addr: SocketAddr,
    _queued: Vec<StdStream>,
    _listener: Socket,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, Failure, backend, millis, raw_backend, raw_script, seconds, until};
    use crate::{RawClient, raw_client::Ended};

    #[tokio::test]
    async fn without_a_fault_it_only_forwards() {
        let served = backend().large(1_000_000).start().await;
        let network = fault_proxy(served.addr).start().await;
        let client = Client::plain(network.addr);
        assert_eq!(client.get("/").await.body.len(), 1_000_000);
        assert_eq!(client.get("/").await.body.len(), 1_000_000);
        assert_eq!((network.connections(), network.open_connections()), (1, 1));
        until(seconds(2), || network.answer_bytes() > 2_000_000).await;
        assert!((1..1_000).contains(&network.request_bytes()));
        drop(client);
        until(seconds(2), || network.open_connections() == 0).await;
        until(seconds(2), || served.open_connections() == 0).await;
    }

    #[tokio::test]
    async fn delays_and_limits_hold_in_each_direction_and_can_be_healed() {
        let served = backend().echo().start().await;
        let network = fault_proxy(served.addr).start().await;
        let client = Client::plain(network.addr);
        client.get("/").await;
        network.delay_requests(millis(60));
        network.delay_answers(millis(90));
        let slow = client.get("/").await.first_byte;
        assert!(slow >= millis(150), "{slow:?}");
        network.heal();
        network.limit_requests(Some(100_000));
        let slow = client.post("/", vec![b'x'; 40_000]).await;
        assert!(slow.first_byte >= millis(350), "{:?}", slow.first_byte);
        network.limit_requests(None);
        network.limit_answers(Some(100_000));
        let slow = client.post("/", vec![b'x'; 40_000]).await;
        let body = slow.total - slow.first_byte;
        assert!(body >= millis(300), "{slow:?}");
        network.heal();
        let fast = client.post("/", vec![b'x'; 40_000]).await.total;
        assert!(fast < millis(300), "{fast:?}");
    }

    #[tokio::test]
    async fn a_black_hole_accepts_and_swallows_until_it_ends() {
        let served = backend().answers("x").start().await;
        let network = fault_proxy(served.addr).start().await;
        let client = Client::plain(network.addr);
        client.get("/").await;
        network.black_hole(true);
        let kept = tokio::spawn(client.get("/").attempt());
        let new = tokio::spawn(client.apart().get("/").attempt());
        let late = client.apart().get("/").within(millis(100)).attempt().await.unwrap_err();
        assert!(matches!(late, Failure::Late(_)), "{late}");
        assert_eq!((served.calls(), network.connections()), (1, 3));
        network.black_hole(false);
        assert_eq!(kept.await.unwrap().unwrap().text(), "x");
        assert_eq!(new.await.unwrap().unwrap().text(), "x");
    }

    #[tokio::test]
    async fn refusing_leaves_open_connections_alone() {
        let served = backend().answers("x").start().await;
        let network = fault_proxy(served.addr).start().await;
        let client = Client::plain(network.addr);
        client.get("/").await;
        network.refuse();
        let refused = client.apart().get("/").attempt().await.unwrap_err();
        assert!(matches!(refused, Failure::Connect(_)), "{refused}");
        assert_eq!(client.get("/").await.connection, 0);
        network.accept();
        assert_eq!(client.apart().get("/").await.text(), "x");
    }

    #[tokio::test]
    async fn a_reset_reaches_both_sides_and_new_connections_are_whole() {
        let served = backend().stalls().start().await;
        let network = fault_proxy(served.addr).start().await;
        let client = Client::plain(network.addr);
        let asking = tokio::spawn(client.get("/").attempt());
        until(seconds(2), || served.calls() == 1).await;
        network.reset_all();
        let failure = asking.await.unwrap().unwrap_err();
        assert!(failure.to_string().contains("reset"), "{failure}");
        until(seconds(2), || served.aborted().len() == 1).await;
        served.becomes(backend().answers("x"));
        assert_eq!(client.get("/").await.text(), "x");
    }

    #[tokio::test]
    async fn a_connection_is_cut_at_the_byte_that_was_said() {
        let served = raw_backend(raw_script().reads(4).writes("0123456789").stays_open());
        let served = served.start().await;
        let network = fault_proxy(served.addr).start().await;
        let mut raw = RawClient::plain(network.addr).await;
        network.cut_answers_after(7);
        raw.send("four").await.unwrap();
        assert_eq!(raw.read_to_close(seconds(2)).await, (b"0123456".to_vec(), Some(Ended::Reset)));

        network.heal();
        network.cut_requests_after(3);
        let mut raw = RawClient::plain(network.addr).await;
        raw.send("four").await.unwrap();
        assert_eq!(raw.read_to_close(seconds(2)).await, (vec![], Some(Ended::Reset)));
        until(seconds(2), || served.connections() == 2).await;
        until(seconds(2), || served.received()[1].closed_by_client.is_some()).await;
        assert_eq!(served.received()[1].text(), "fou");
    }

    #[tokio::test]
    async fn each_direction_can_be_closed_alone() {
        let served = raw_backend(raw_script().reads(1).writes("a").reads(1).stays_open());
        let served = served.start().await;
        let network = fault_proxy(served.addr).start().await;
        let mut raw = RawClient::plain(network.addr).await;
        raw.send("1").await.unwrap();
        assert_eq!(raw.read_exactly(1, seconds(2)).await.unwrap(), b"a");
        network.half_close_answers();
        assert_eq!(raw.read_to_close(seconds(2)).await, (vec![], Some(Ended::Cleanly)));
        raw.send("2").await.unwrap();
        until(seconds(2), || served.received_text() == "12").await;
        network.half_close_requests();
        until(seconds(2), || served.received()[0].closed_by_client.is_some()).await;
    }

    #[tokio::test]
    async fn a_server_that_is_gone_resets_and_another_can_take_its_place() {
        let (first, second) = (backend().start().await, backend().answers("second").start().await);
        let network = fault_proxy(first.addr).start().await;
        first.stop();
        let client = Client::plain(network.addr);
        assert!(client.get("/").attempt().await.is_err());
        network.forward_to(second.addr);
        assert_eq!(client.get("/").await.text(), "second");
    }

    #[tokio::test]
    async fn some_addresses_never_connect() {
        let nowhere = never_connects();
        let client = Client::plain(nowhere.addr);
        let late = client.get("/").within(millis(300)).attempt().await.unwrap_err();
        assert!(matches!(late, Failure::Late(_)), "{late}");
    }
}
