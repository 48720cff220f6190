//! A request: what it says, and sending it.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, TE};
use http::{HeaderMap, Method, StatusCode, Uri};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::answer::{Answer, Failure, Streaming, told};
use super::upload::{Outgoing, Upload, Uploader};
use super::{Client, Sender, Settings};

/// A request that has not been sent. `.await` sends it and reads the whole answer.
#[must_use = "nothing is sent before `.await`"]
#[derive(Debug)]
pub struct Request {
    pub(super) client: Client,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) upload: Upload,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) deadline: Duration,
}

impl Request {
    /// Adds a field.
    ///
    /// # Panics
    /// If it cannot be a field.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        add(&mut self.headers, name, value);
        self
    }

    /// Says that trailers are welcome (`te: trailers`); HTTP/1.1 servers send none otherwise.
    pub fn welcomes_trailers(mut self) -> Self {
        self.headers.insert(TE, HeaderValue::from_static("trailers"));
        self
    }

    /// Ends the body with these fields.
    ///
    /// # Panics
    /// If they cannot be fields.
    pub fn trailers(mut self, fields: &[(&str, &str)]) -> Self {
        let trailers = self.trailers.get_or_insert_default();
        for (name, value) in fields {
            add(trailers, name, value);
        }
        self
    }

    /// Sends the body in these pieces, the first at once and the others each after `gap`. Its
    /// length is not declared, unless as a field.
    pub fn in_pieces<P: Into<Bytes>>(
        mut self,
        pieces: impl IntoIterator<Item = P>,
        gap: Duration,
    ) -> Self {
        self.upload = Upload::Pieces(pieces.into_iter().map(Into::into).collect(), gap);
        self
    }

    /// Sends the body as the test writes it.
    pub fn uploading(mut self) -> (Self, Uploader) {
        let (sender, receiver) = mpsc::channel(1);
        self.upload = Upload::Channel(receiver);
        (self, Uploader::new(sender))
    }

    /// Declares this length, true or not.
    pub fn declaring_length(mut self, length: u64) -> Self {
        self.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        self
    }

    /// How long it may take to the end of the answer (with [`Request::open`], to its head).
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sends it and reads the whole answer. An answer whose body breaks off is still an answer, with
    /// [`Answer::error`] set.
    ///
    /// # Errors
    /// There was no answer, or not all of it came in time.
    pub async fn attempt(self) -> Result<Answer, Failure> {
        let deadline = self.deadline;
        let whole = async { Ok(self.open().await?.rest().await) };
        tokio::time::timeout(deadline, whole).await.unwrap_or(Err(Failure::Late(deadline)))
    }

    /// Sends it and waits for the head of the answer only.
    ///
    /// # Errors
    /// There was none, or not in time.
    pub async fn open(self) -> Result<Streaming, Failure> {
        let deadline = self.deadline;
        tokio::time::timeout(deadline, self.send()).await.unwrap_or(Err(Failure::Late(deadline)))
    }

    async fn send(self) -> Result<Streaming, Failure> {
        let (mut lease, mut was_kept) = self.client.connection().await?;
        let Self { client, method, path, headers, upload, trailers, .. } = self;
        let informational: Arc<Mutex<Vec<(StatusCode, HeaderMap)>>> = Arc::default();
        let mut outgoing =
            head(&client.settings, method, &path, headers, lease.connection().is_h2());
        if let Some(trailers) = &trailers {
            let names: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
            let names = HeaderValue::try_from(names.join(", ")).unwrap();
            outgoing.headers_mut().insert("trailer", names);
        }
        let noted = Arc::clone(&informational);
        hyper::ext::on_informational(&mut outgoing, move |response| {
            noted.lock().push((response.status(), response.headers().clone()));
        });
        let mut outgoing = outgoing.map(|()| Outgoing::new(upload, trailers));

        loop {
            let started = Instant::now();
            let connection = lease.connection();
            let number = connection.number;
            let sent = match &mut connection.sender {
                Sender::H1(sender) => sender.try_send_request(outgoing).await,
                Sender::H2(sender) => sender.try_send_request(outgoing).await,
            };
            match sent {
                Ok(response) => {
                    return Ok(Streaming::new(response, started, number, lease, &informational));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if was_kept => {
                        let h2 = lease.connection().is_h2();
                        lease = client.lease(client.connect().await?);
                        assert_eq!(h2, lease.connection().is_h2(), "the server changed its mind");
                        (outgoing, was_kept) = (unsent, false);
                    }
                    _ => return Err(Failure::Broken(told(error.error()))),
                },
            }
        }
    }
}

impl IntoFuture for Request {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    /// Panics if there is no answer; [`Request::attempt`] tells why instead.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let what = format!("{} {}", self.method, self.path);
            self.attempt().await.unwrap_or_else(|failure| panic!("{what}: {failure}"))
        })
    }
}

/// Sends all of these at the same time, and gives the answers in their order.
///
/// # Panics
/// If one of them panics.
pub async fn together(requests: impl IntoIterator<Item = Request>) -> Vec<Result<Answer, Failure>> {
    let mut running = JoinSet::new();
    for (index, request) in requests.into_iter().enumerate() {
        running.spawn(async move { (index, request.attempt().await) });
    }
    let mut answers = running.join_all().await;
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

fn head(
    settings: &Settings,
    method: Method,
    path: &str,
    headers: HeaderMap,
    h2: bool,
) -> http::Request<()> {
    let authority = format!("{}:{}", settings.server_name, settings.addr.port());
    let mut request = http::Request::new(());
    *request.uri_mut() = if h2 {
        let scheme = if settings.roots.is_some() { "https" } else { "http" };
        Uri::try_from(format!("{scheme}://{authority}{path}")).unwrap()
    } else {
        request.headers_mut().insert(HOST, HeaderValue::try_from(&authority).unwrap());
        Uri::try_from(path).unwrap()
    };
    if method == Method::POST {
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
    }
    *request.method_mut() = method;
    for fields in [&settings.headers, &headers] {
        // A field that is given replaces one that is not said, or said for all requests.
        for name in fields.keys() {
            request.headers_mut().remove(name);
        }
        for (name, value) in fields {
            request.headers_mut().append(name, value.clone());
        }
    }
    request
}

/// Adds a field to what is there.
pub(super) fn add(headers: &mut HeaderMap, name: &str, value: &str) {
    headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
}
