//! RFC 6455 as far as tests need it: the handshake, frames of both sides, and a server that echoes.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::record::Exchange;
use super::wire::Control;

/// The opcode of a text frame.
pub const TEXT: u8 = 0x1;
/// The opcode of a binary frame.
pub const BINARY: u8 = 0x2;
/// The opcode of the frame that closes.
pub const CLOSE: u8 = 0x8;
/// The opcode of a ping.
pub const PING: u8 = 0x9;
/// The opcode of a pong.
pub const PONG: u8 = 0xa;

/// One frame; continuations are left as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whether it is the last of its message.
    pub last: bool,
    /// What kind it is.
    pub opcode: u8,
    /// The payload, unmasked.
    pub payload: Vec<u8>,
}

/// The value of `sec-websocket-accept` that answers `key`.
#[must_use]
pub fn accept_for(key: &str) -> String {
    let joined = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, joined.as_bytes()))
}

/// One whole frame in bytes. A client must give a `mask`, a server must not.
#[must_use]
pub fn frame(opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => bytes.push(masked | u8::try_from(length).unwrap()),
        length @ 126..=0xffff => {
            bytes.push(masked | 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| bytes.extend(mask)).unwrap_or_default();
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Reads one frame.
///
/// # Errors
/// Whatever ended the stream before the frame was whole.
pub async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let [first, second] = [stream.read_u8().await?, stream.read_u8().await?];
    let length = match second & 0x7f {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        short => u64::from(short),
    };
    let mut mask = [0; 4];
    if second & 0x80 != 0 {
        stream.read_exact(&mut mask).await?;
    }
    let mut payload = Vec::new();
    stream.take(length).read_to_end(&mut payload).await?;
    if payload.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok(Frame { last: first & 0x80 != 0, opcode: first & 0x0f, payload })
}

/// The 101 to a proper opening handshake, taking the first protocol offered.
pub(crate) fn accepts(request: &Parts) -> Option<Response<()>> {
    let names_websocket =
        request.headers.get(UPGRADE)?.as_bytes().eq_ignore_ascii_case(b"websocket");
    let key = request.headers.get("sec-websocket-key")?.to_str().ok()?;
    if !names_websocket {
        return None;
    }
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert("sec-websocket-accept", HeaderValue::try_from(accept_for(key)).unwrap());
    if let Some(offered) = request.headers.get(SEC_WEBSOCKET_PROTOCOL) {
        let offered = offered.to_str().ok()?;
        let first = offered.split(',').next().unwrap_or_default().trim();
        fields.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::try_from(first).ok()?);
    }
    Some(response)
}

/// Gives every message back, answers pings, and closes when asked to. A client that goes without a
/// closing frame has aborted.
pub(crate) async fn echo(upgrade: OnUpgrade, mut exchange: Exchange, control: Arc<Control>) {
    let Ok(upgraded) = upgrade.await else { return };
    let stream = TokioIo::new(upgraded);
    tokio::select! {
        () = echo_on(stream, &mut exchange) => {}
        () = control.cut.notified() => exchange.cut(),
    }
}

async fn echo_on(mut stream: TokioIo<Upgraded>, exchange: &mut Exchange) {
    while let Ok(asked) = read_frame(&mut stream).await {
        exchange.entry().body_piece(&asked.payload);
        let opcode = if asked.opcode == PING { PONG } else { asked.opcode };
        let mut answer = frame(opcode, &asked.payload, None);
        if !asked.last {
            answer[0] &= 0x7f;
        }
        if stream.write_all(&answer).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        exchange.sent(asked.payload.len());
        if asked.opcode == CLOSE {
            exchange.entry().body_ended(None);
            exchange.ended();
            let _ = stream.shutdown().await;
            return;
        }
    }
}
