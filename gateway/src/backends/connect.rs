//! A new connection to an endpoint: TCP, then TLS where asked.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Endpoint;
use super::stream::Stream;
use crate::config::plan::{Scheme, Tls};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not within the connect timeout.
    #[error("no connection in time")]
    TimedOut,
    /// Refused, unreachable, reset.
    #[error("no connection")]
    Tcp(#[source] io::Error),
    /// The TLS handshake failed: certificate, name, protocol.
    #[error("no TLS")]
    Tls(#[source] io::Error),
    /// The backend has no address (its names never resolved).
    #[error("no address")]
    NoAddress,
    /// HTTP/2 preface or settings failed.
    #[error("no HTTP")]
    Protocol(#[source] hyper::Error),
}

impl ConnectError {
    /// Whether nobody was there at all, as against somebody who could not be talked to.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::TimedOut | Self::Tcp(_))
    }
}

/// A connection, and which HTTP goes over it.
#[derive(Debug)]
pub enum Connected {
    /// HTTP/1.1.
    H1(Stream),
    /// HTTP/2.
    H2(TokioIo<Stream>),
}

/// Runs hyper's HTTP/2 tasks on the worker that asked.
#[derive(Clone, Copy, Debug)]
pub struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Settings of HTTP/2 towards backends.
pub fn h2_builder() -> http2::Builder<Local> {
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        // Large enough that a fast model is not held up by a round trip.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .max_header_list_size(64 << 10)
        // A dead connection is found although no request times out on it.
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// Connects to `endpoint`.
///
/// # Errors
/// [`ConnectError`]; the caller sets the deadline.
pub async fn connect(endpoint: &Endpoint) -> Result<Connected, ConnectError> {
    connect_as(endpoint, false).await
}

/// The same, but never HTTP/2: an upgrade needs a connection of its own.
///
/// # Errors
/// As [`connect`].
pub async fn connect_http1(endpoint: &Endpoint) -> Result<Connected, ConnectError> {
    connect_as(endpoint, true).await
}

async fn connect_as(endpoint: &Endpoint, only_http1: bool) -> Result<Connected, ConnectError> {
    let destination = Destination {
        address: endpoint.address,
        scheme: endpoint.scheme,
        host: &endpoint.host,
        tls: endpoint.tls.as_ref(),
    };
    let (stream, http2) = stream(&destination, only_http1).await?;
    Ok(if http2 { Connected::H2(TokioIo::new(stream)) } else { Connected::H1(stream) })
}

/// Where a connection is made to.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// Address that is dialled.
    pub address: SocketAddr,
    /// Protocol.
    pub scheme: Scheme,
    /// Host as configured: the name that TLS verifies.
    pub host: &'a str,
    /// How TLS is spoken to it.
    pub tls: Option<&'a Tls>,
}

/// A connection, and whether HTTP/2 goes over it.
///
/// # Errors
/// [`ConnectError`]; the caller sets the deadline.
pub async fn stream(
    to: &Destination<'_>,
    only_http1: bool,
) -> Result<(Stream, bool), ConnectError> {
    let tcp = TcpStream::connect(to.address).await.map_err(ConnectError::Tcp)?;
    tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10));
    let _ = socket2::SockRef::from(&tcp).set_tcp_keepalive(&keepalive);

    Ok(match to.scheme {
        Scheme::Http => (Stream::Plain(tcp), false),
        Scheme::H2c => (Stream::Plain(tcp), true),
        Scheme::Https => {
            let Some(Tls { config, server_name, .. }) = to.tls else {
                return Err(ConnectError::Tls(io::Error::other("no TLS configuration")));
            };
            let name = server_name.as_deref().unwrap_or(to.host);
            let name = ServerName::try_from(name.to_owned())
                .map_err(|error| ConnectError::Tls(io::Error::other(error)))?;
            let config = if only_http1 {
                let mut config = rustls::ClientConfig::clone(config);
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                Arc::new(config)
            } else {
                Arc::clone(config)
            };
            let tls =
                TlsConnector::from(config).connect(name, tcp).await.map_err(ConnectError::Tls)?;
            let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            (Stream::Tls(Box::new(tls)), http2)
        }
    })
}
