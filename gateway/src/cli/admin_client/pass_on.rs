//! An answer that is passed on as it comes, however long it is.

use std::io;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{ANSWER, AdminClient, Answer, CONNECT, Call, Fault, LARGEST, reason};

/// Takes one piece.
type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

impl AdminClient {
    /// Makes `call` and gives the body of a good answer to `sink`, piece by piece, until its end. Ends in
    /// peace when `sink` takes no more.
    ///
    /// # Errors
    /// Whatever is not a success, and an answer that breaks off: a part is never taken for the whole.
    pub(crate) fn pass_on(&self, call: Call<'_>, aim: &str, sink: Sink<'_>) -> Result<(), Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Fault::failed(format!("cannot start: {error}"), ""))?;
        let request = self.request(call)?;
        runtime.block_on(async {
            let connected = TcpStream::connect((self.host.as_str(), self.port));
            let tcp = match tokio::time::timeout(CONNECT, connected).await {
                Ok(Ok(tcp)) => tcp,
                Ok(Err(error)) => return Err(self.unreachable(&reason(&error))),
                Err(_) => return Err(self.unreachable("no answer within 5 s")),
            };
            match &self.tls {
                None => self.pieces(tcp, request, aim, sink).await,
                Some((tls, name)) => match tls.connect(name.clone(), tcp).await {
                    Ok(stream) => self.pieces(stream, request, aim, sink).await,
                    Err(error) => Err(self.untrusted(&error)),
                },
            }
        })
    }

    async fn pieces<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
        aim: &str,
        sink: Sink<'_>,
    ) -> Result<(), Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |error: hyper::Error| self.no_http(&error);
        let broken = |why: &str| {
            let what = format!("the answer of {} broke off: {why}", self.url);
            Fault::failed(what, "what was printed is a part, not the whole")
        };
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(failed)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(failed)?;
            let (head, mut body) = response.into_parts();
            if !head.status.is_success() {
                let read = Limited::new(body, LARGEST).collect().await;
                let read = read.map_err(|error| broken(&error.to_string()))?.to_bytes();
                return Err(self.refused(&refusal(head.status, read), aim));
            }
            // A piece may take its time, while the store looks for what is rare.
            loop {
                let piece = tokio::time::timeout(ANSWER, body.frame()).await;
                let piece = piece.map_err(|_| broken("nothing came for 60 s"))?;
                let Some(piece) = piece else { return Ok(()) };
                let piece = piece.map_err(|error| broken(&error.to_string()))?;
                if let Some(bytes) = piece.data_ref()
                    && sink(bytes).is_err()
                {
                    return Ok(());
                }
            }
        };
        let driven = async {
            let _ = connection.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            exchanged = exchange => exchanged,
            () = driven => Err(self.unreachable("the connection was closed")),
        }
    }
}

fn refusal(status: StatusCode, body: Bytes) -> Answer {
    Answer {
        status,
        json: serde_json::from_slice(&body).unwrap_or(Value::Null),
        body,
        revision: None,
        took: std::time::Duration::ZERO,
        retry_after: None,
    }
}
