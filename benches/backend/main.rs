//! The model server behind every gateway that is compared: one thread, HTTP/1.1 with kept
//! connections, answers at once.
//!
//! By path: `/stream` gives 200 events, one each 5 ms; `/large` gives 1 MiB; `/v1/traces` takes
//! traces; every other path gives a short chat completion. Request bodies are read to the end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::{Instant, Sleep};

const EVENTS: u32 = 200;
const GAP: Duration = Duration::from_millis(5);
const EVENT: &[u8] = b"data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" river\"}}]}\n\n";
const LAST: &[u8] = b"data: [DONE]\n\n";
const COMPLETION: &[u8] = br#"{"id":"chatcmpl-1","object":"chat.completion","created":1763800000,"model":"chat-1","choices":[{"index":0,"message":{"role":"assistant","content":"A weir is a low wall across a river that raises the water and measures its flow."},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":18,"total_tokens":30}}"#;
static LARGE: [u8; 1 << 20] = [b'x'; 1 << 20];

#[derive(Debug, Parser)]
#[command(about = "The model server of benches/compare")]
struct Arguments {
    /// Address to listen on; its own address is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// An answer's body.
enum Answer {
    Whole(Option<Bytes>),
    Events { left: u32, next: Pin<Box<Sleep>> },
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Events { left: 0, .. } => Poll::Ready(None),
            Self::Events { left, next } => {
                std::task::ready!(next.as_mut().poll(cx));
                *left -= 1;
                next.as_mut().reset(Instant::now() + GAP);
                let event = if *left == 0 { LAST } else { EVENT };
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(event)))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Events { .. } => SizeHint::default(),
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Answer>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        frame?;
    }
    let (kind, answer) = if path.ends_with("/stream") {
        let next = Box::pin(tokio::time::sleep(Duration::ZERO));
        ("text/event-stream", Answer::Events { left: EVENTS, next })
    } else if path.ends_with("/large") {
        ("application/octet-stream", Answer::Whole(Some(Bytes::from_static(&LARGE))))
    } else if path.ends_with("/v1/traces") {
        ("application/x-protobuf", Answer::Whole(Some(Bytes::new())))
    } else {
        ("application/json", Answer::Whole(Some(Bytes::from_static(COMPLETION))))
    };
    let mut response = Response::new(answer);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    use std::io::Write as _;
    let listener = TcpListener::bind(Arguments::parse().listen).await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .pipeline_flush(true)
                .serve_connection(TokioIo::new(socket), service_fn(answer))
                .await;
        });
    }
}
