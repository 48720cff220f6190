//! One request, from its head to its last byte. Start reading here.
//!
//! Each step is a file in `request/`, called in this order. A step takes values and gives back a
//! value or a [`Rejection`]; only `dispatch` and `shadow` talk to the network. Whatever happens, the
//! [`Record`] writes itself exactly once: it is a guard, and its drop is the end of the request.

use std::rc::Rc;

use http::{Request, Response, Version, request};

use crate::body::ClientBody;
use crate::recorder::row::Protocol;
use crate::request::find_route::Place;
use crate::server::conn::{Conn, Refusal};
use crate::worker::{Taken, Worker};

pub mod read_head;
pub mod authenticate;
pub mod find_route;
pub mod payload;
pub mod admit;
pub mod assign;
pub mod trace;
pub mod shadow;
pub mod dispatch;
pub mod upgrade;
pub mod stream_back;
pub mod record;
pub mod rejection;
pub mod receipt;
pub mod models;
pub mod feedback;

pub use record::Record;
pub use rejection::Rejection;
pub use stream_back::ResponseBody;

/// What every step may look at: the worker, the connection, and one snapshot from head to last byte.
#[derive(Clone, Debug)]
pub struct Cx {
    /// Worker the request lives on.
    pub worker: Rc<Worker>,
    /// Connection it came on.
    pub conn: Rc<Conn>,
    /// The configuration it sees, the only one.
    pub snapshot: Taken,
}

/// Answers one request. Never fails: whatever goes wrong becomes a response in `rejection`.
pub async fn handle(cx: Cx, head: request::Parts, body: ClientBody) -> Response<ResponseBody> {
    let mut record = Record::open(&cx, &head, body);
    let response = match answer(&cx, head, &mut record).await {
        Ok(response) => response.into_response(&cx, record),
        // Boxed: the future of every request holds room for its largest step.
        Err(rejection) => Box::pin(rejection.into_response(&cx, record)).await,
    };
    stream_back::settled(&cx, response).await
}

/// Answers what is no request, or none in time.
pub async fn refuse(cx: Cx, why: Refusal) -> Response<ResponseBody> {
    let (mut nothing, ()) = Request::new(()).into_parts();
    if cx.conn.protocol == Protocol::Http2 {
        nothing.version = Version::HTTP_2;
    }
    let mut record = Record::open(&cx, &nothing, ClientBody::None);
    // Nothing is known of it.
    record.row().method.clear();
    let response = Rejection::Refused(why).into_response(&cx, record).await;
    stream_back::settled(&cx, response).await
}

/// What the path ends with, short of a rejection.
#[derive(Debug)]
pub enum Answer {
    /// A backend's response.
    Backend(Box<dispatch::Answered>),
    /// Both sides switched protocols.
    Upgrade(Box<upgrade::Upgraded>),
    /// An answer of the gateway's own.
    Own(Response<bytes::Bytes>),
}

impl Answer {
    fn into_response(self, cx: &Cx, record: Record) -> Response<ResponseBody> {
        match self {
            Self::Backend(answered) => stream_back::stream_back(cx, *answered, record),
            Self::Upgrade(upgraded) => upgrade::switch(cx, *upgraded, record),
            Self::Own(response) => stream_back::own(cx, response, record),
        }
    }
}

async fn answer(
    cx: &Cx,
    parts: http::request::Parts,
    record: &mut Record,
) -> Result<Answer, Rejection> {
    let mut head = read_head::read_head(cx, parts, record)?;
    if let Some(own) = read_head::health(cx, &head) {
        return Ok(Answer::Own(own));
    }
    let caller = authenticate::authenticate(cx, &mut head, record)?;
    trace::begin(cx, caller, &mut head, record);
    admit::early(cx, caller, &head, record.ahead())?;
    let place = match find_route::find_route(cx, &mut head, record).await? {
        Place::Route(place) => place,
        Place::Models => return models::list(cx, &head, caller),
        // Boxed, so that the future of every other request is the smaller.
        Place::Feedback => return Box::pin(feedback::take(cx, caller, record)).await,
    };
    let route = &cx.snapshot.routes[place];
    record.found(place);
    let places = admit::admit(cx, route, caller)?;
    record.inspect = caller.role.allows(policies::Permission::ExperimentInspect);
    record.admitted(cx, place, places);
    payload::prepare(cx, route, &mut head, record).await?;
    if let Some((model, _)) = head.payload.peeked().and_then(|peeked| peeked.model.as_ref()) {
        record.model(model);
    }
    let assignment = assign::assign(cx, route, caller, &head, record)?;
    record.assigned(cx, place, &assignment);
    trace::tell(&mut head, record.row());

    let copies = shadow::fork(cx, route, &head, record);
    if head.upgrade {
        // Boxed, so that the future of every other request is the smaller.
        let upgrade = Box::pin(upgrade::dispatch(cx, route, &assignment, head, record));
        return upgrade.await.map(Answer::Upgrade);
    }
    let result = dispatch::dispatch(cx, route, &assignment, head, record).await;
    shadow::send(cx, place, copies, record);
    result.map(|answered| Answer::Backend(Box::new(answered)))
}
