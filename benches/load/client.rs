//! A small blocking HTTP/1.1 client over TLS 1.3: it reads what these benches' backend sends, and
//! fails on anything else.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Whatever went wrong ends the run.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Where requests go, and with what.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    to: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    head: String,
}

impl Target {
    /// Asks `to` for `path`. Without `resumed` every connection makes a full handshake. One classical
    /// key exchange for all, because OpenSSL 3.0 knows no other.
    pub(crate) fn new(
        to: SocketAddr,
        ca: Option<&Path>,
        path: &str,
        key: &str,
        resumed: bool,
    ) -> Result<Self> {
        let tls = ca.map(|ca| config(ca, resumed)).transpose()?.map(Arc::new);
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\n"
        );
        Ok(Self { to, tls, head })
    }

    /// A request of user `user` with `body`, as bytes.
    pub(crate) fn request(&self, user: u64, body: &[u8]) -> Vec<u8> {
        let fields =
            format!("x-user-id: user-{}\r\ncontent-length: {}\r\n\r\n", user % 10_000, body.len());
        [self.head.as_bytes(), fields.as_bytes(), body].concat()
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Result<Connection> {
        let tcp = TcpStream::connect(self.to)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
        tcp.set_write_timeout(Some(Duration::from_secs(20)))?;
        let wire = match &self.tls {
            None => Wire::Plain(tcp),
            Some(config) => {
                let name = ServerName::try_from("localhost")?;
                let tls = ClientConnection::new(Arc::clone(config), name)?;
                Wire::Tls(Box::new(StreamOwned::new(tls, tcp)))
            }
        };
        Ok(Connection { wire, read: Vec::with_capacity(32 << 10), at: 0 })
    }
}

fn config(ca: &Path, resumed: bool) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    if !resumed {
        config.resumption = Resumption::disabled();
    }
    Ok(config)
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(into),
            Self::Tls(tls) => tls.read(into),
        }
    }
}

/// What an answer was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: u16,
    /// Bytes of body.
    pub(crate) body: u64,
    /// When the first bytes of the body came.
    pub(crate) first: Instant,
    /// Reads that brought bytes of the body.
    pub(crate) reads: u64,
}

/// One connection.
pub(crate) struct Connection {
    wire: Wire,
    // Bytes read and not yet used begin at `at`.
    read: Vec<u8>,
    at: usize,
}

impl Connection {
    /// Whether the handshake resumed an earlier session.
    pub(crate) fn resumed(&self) -> bool {
        match &self.wire {
            Wire::Plain(_) => false,
            Wire::Tls(tls) => tls.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        }
    }

    /// Sends a whole request.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<()> {
        match &mut self.wire {
            Wire::Plain(tcp) => tcp.write_all(request)?,
            Wire::Tls(tls) => {
                tls.write_all(request)?;
                tls.flush()?;
            }
        }
        Ok(())
    }

    fn more(&mut self) -> Result<()> {
        if self.at == self.read.len() {
            self.read.clear();
            self.at = 0;
        }
        let mut piece = [0; 16 << 10];
        let count = self.wire.read(&mut piece)?;
        if count == 0 {
            return Err("the connection ended in the middle of an answer".into());
        }
        self.read.extend_from_slice(&piece[..count]);
        Ok(())
    }

    /// Reads an answer to its end.
    pub(crate) fn answer(&mut self) -> Result<Answer> {
        let end = loop {
            let unread = &self.read[self.at..];
            if let Some(end) = memchr::memmem::find(unread, b"\r\n\r\n") {
                break end;
            }
            self.more()?;
        };
        let head = std::str::from_utf8(&self.read[self.at..self.at + end])?.to_ascii_lowercase();
        self.at += end + 4;
        let status = head.get(9..12).ok_or("no status line")?.parse()?;
        let field = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let mut answer = Answer { status, body: 0, first: Instant::now(), reads: 0 };
        if let Some(length) = field("content-length") {
            let length: u64 = length.parse()?;
            self.skip(length, &mut answer)?;
        } else if field("transfer-encoding") == Some("chunked") {
            loop {
                let length = self.chunk_length()?;
                self.skip(length, &mut answer)?;
                self.line()?;
                if length == 0 {
                    break;
                }
            }
        } else {
            return Err(format!("an answer without a length: {head}").into());
        }
        Ok(answer)
    }

    // Passes over `left` bytes of body.
    fn skip(&mut self, mut left: u64, answer: &mut Answer) -> Result<()> {
        let mut fresh = true;
        while left > 0 {
            if self.at == self.read.len() {
                self.more()?;
                fresh = true;
            }
            if answer.body == 0 {
                answer.first = Instant::now();
            }
            answer.reads += u64::from(fresh);
            fresh = false;
            let here = (self.read.len() - self.at).min(usize::try_from(left)?);
            self.at += here;
            answer.body += here as u64;
            left -= here as u64;
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        loop {
            let unread = &self.read[self.at..];
            if let Some(end) = memchr::memmem::find(unread, b"\r\n") {
                let line = std::str::from_utf8(&unread[..end])?.to_owned();
                self.at += end + 2;
                return Ok(line);
            }
            self.more()?;
        }
    }

    fn chunk_length(&mut self) -> Result<u64> {
        Ok(u64::from_str_radix(self.line()?.trim(), 16)?)
    }

    /// Sends a request and reads its answer, which must be a 200.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        self.send(request)?;
        let answer = self.answer()?;
        if answer.status != 200 {
            return Err(format!("status {}", answer.status).into());
        }
        Ok(answer)
    }
}

/// Runs `each` on `count` threads and gives what they found.
///
/// # Errors
/// The first error of any.
pub(crate) fn threads<T: Send>(
    count: usize,
    each: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let each = &each;
        let running: Vec<_> = (0..count).map(|n| scope.spawn(move || each(n))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a thread of the load panicked")?)
            .collect()
    })
}

/// The value at quantile `q` of sorted `values`, by the nearest rank.
pub(crate) fn quantile(values: &[f64], q: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let rank = (q * values.len() as f64).ceil().max(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank between 1 and the number of values"
    )]
    let index = rank as usize - 1;
    values[index.min(values.len() - 1)]
}
