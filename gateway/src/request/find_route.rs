//! Which route a request belongs to. Reads the body's `model` only when a rule asks for it.

use routing::{Found, Model, RequestHead};

use crate::request::read_head::{Head, Payload};
use crate::request::record::cut;
use crate::request::{Cx, Record, Rejection, feedback, payload};

/// Who answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The route at this place in the snapshot.
    Route(usize),
    /// The gateway: `GET /v1/models` where no route has that path.
    Models,
    /// The gateway: `POST /feedback` where no route names that path.
    Feedback,
}

/// Who answers it. A route that takes every path (`/*`) does not take `/feedback`: one that is to have
/// it names it.
///
/// # Errors
/// 404 and 421 where nothing fits, 400 where a deciding header came twice or the body cannot be read.
pub async fn find_route(cx: &Cx, head: &mut Head, record: &mut Record) -> Result<Place, Rejection> {
    let feedback = feedback::is_sent(head);
    if feedback && !cx.snapshot.feedback.claimed {
        return Ok(Place::Feedback);
    }
    let mut found = find(cx, head, Model::Unread)?;
    if matches!(found, Found::NeedsModel) {
        let limit = cx.snapshot.limits.inspect_bytes;
        payload::read_whole(cx, head, record, limit, &[]).await?;
        let model = match head.payload.peeked().and_then(|peeked| peeked.model.as_ref()) {
            Some((model, _)) => Model::Named(model),
            None => Model::Absent,
        };
        found = find(cx, head, model)?;
    }
    match found {
        Found::Route(&place) => Ok(Place::Route(place)),
        Found::UnknownHost => Err(Rejection::UnknownHost),
        Found::NoModel | Found::NeedsModel => Err(Rejection::NoModel {
            model: match &head.payload {
                Payload::Whole(_, peeked) => {
                    peeked.model.as_ref().map(|(model, _)| cut(model, 128).to_owned())
                }
                Payload::Unread | Payload::Empty | Payload::Streaming(..) => None,
            },
        }),
        Found::NoPath | Found::NoMethod
            if head.method == http::Method::GET && head.path == "/v1/models" =>
        {
            Ok(Place::Models)
        }
        Found::NoPath | Found::NoMethod if feedback => Ok(Place::Feedback),
        Found::NoPath | Found::NoMethod => Err(Rejection::NoRoute {
            method: cut(head.method.as_str(), 32).to_owned(),
            path: cut(&head.path, 256).to_owned(),
        }),
    }
}

fn find<'a>(cx: &'a Cx, head: &Head, model: Model<'_>) -> Result<Found<'a, usize>, Rejection> {
    let seen = RequestHead {
        method: &head.method,
        host: &head.host,
        path: &head.path,
        headers: &head.headers,
    };
    cx.snapshot
        .table
        .find(&seen, model)
        .map_err(|repeated| Rejection::RepeatedHeader(repeated.name.to_string()))
}
