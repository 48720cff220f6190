//! `GET /live`: what happens now, a frame a second, for whoever watches.
//!
//! ```text
//! tallies -> Second -> History (always, fifteen minutes)
//!                   -> Frame, written once for each filter -> every watcher (if there is one)
//! ```
//!
//! Once a second, when the clock's second is over, everything is counted once: the same tallies as
//! metrics and results are made of. A watcher first gets the history that it asked for, then frames.
//! One that does not read is let go of. Whoever comes back with `Last-Event-ID` gets what it missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Context;
use super::access::Who;
use super::error::ApiError;
use super::extract::Query;
use super::requests::moment;
use crate::clock;
use crate::ids;
use crate::news::News;

mod frame;
mod history;
mod named;
mod second;
mod watchers;

use frame::{Frame, Written, event};
use history::{History, KEPT};
pub use named::Named;
use second::{Copies, Second};
use watchers::{NoRoom, Watchers};

/// Seconds to a place of the history at most.
const MOST_STEP: u32 = 60;

/// What a watcher wants to see. Everything, if it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Filter {
    route: Option<String>,
    experiment: Option<String>,
    /// The route of that experiment.
    of_experiment: Option<String>,
}

impl Filter {
    fn is_all(&self) -> bool {
        self.route.is_none() && self.experiment.is_none()
    }

    fn wants_route(&self, name: &str) -> bool {
        let wanted = self.route.as_ref().or(self.of_experiment.as_ref());
        wanted.is_none_or(|wanted| wanted == name)
    }

    fn wants(&self, experiment: &str, route: &str) -> bool {
        self.experiment.as_ref().is_none_or(|wanted| wanted == experiment)
            && self.route.as_ref().is_none_or(|wanted| wanted == route)
    }
}

/// What is known of the last fifteen minutes, and who watches.
#[derive(Debug, Default)]
pub struct Live {
    history: Mutex<History>,
    watchers: Watchers,
    /// News that the frames have told.
    told: AtomicU64,
    /// Refusals up to the last second.
    refused: AtomicU64,
}

impl Live {
    /// Refusals since this was asked last; `now` is their sum.
    fn refused_since(&self, now: u64) -> u64 {
        now.saturating_sub(self.refused.swap(now, Relaxed))
    }

    /// Ends every stream: the process is about to end.
    pub fn close(&self) {
        self.watchers.close();
    }
}

/// Counts every second and tells it, for ever.
pub async fn keep_telling(context: &Context) {
    let mut copies = Copies::default();
    loop {
        let at_unix = next_second().await;
        let second = Second::count(context, &mut copies, at_unix);
        let live = &context.live;
        let (events, told) = context.shared.news.after(live.told.load(Relaxed));
        let mut history = live.history.lock();
        history.push(&second);
        // With the history, so that a watcher finds each piece of news in one of them.
        live.told.store(told, Relaxed);
        drop(history);
        if live.watchers.count() == 0 {
            continue;
        }
        let keys = Arc::clone(&context.shared.current.load().keys);
        live.watchers.keep(|key_id| {
            let key = keys.entries().find(|key| *key.id == *key_id);
            key.is_some_and(|key| {
                !key.revoked && key.expires_at_unix.is_none_or(|end| end > at_unix)
            })
        });
        let frame = Frame::new(context, &second, events);
        live.watchers.tell(&Arc::new(Written::new(frame)));
    }
}

/// Waits until a second of the wall clock is over, and says which.
async fn next_second() -> i64 {
    const SECOND: u64 = 1_000_000_000;
    let left = SECOND - clock::unix_nanos() % SECOND;
    tokio::time::sleep(Duration::from_nanos(left)).await;
    let mut now = clock::unix_nanos();
    if now % SECOND > SECOND * 9 / 10 {
        // Timers are a little early where the two clocks do not run alike.
        tokio::time::sleep(Duration::from_nanos(SECOND - now % SECOND)).await;
        now = clock::unix_nanos();
    }
    i64::try_from(now / SECOND).unwrap_or(i64::MAX)
}

/// `?since=&step=&route=&experiment=`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Begins with the history from here on: a duration before now (`10m`), or a time.
    since: Option<String>,
    /// Seconds to a place of the history, 1 to 60.
    step: Option<u32>,
    /// Only this route, and experiments on it.
    route: Option<String>,
    /// Only this experiment, and its route.
    experiment: Option<String>,
}

/// What one event of the stream holds: `history` first if it was asked for, then `frame`s.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "what the document says of the stream")]
pub(super) enum OfStream {
    History(history::Past),
    Frame(frame::Frame),
}

/// `GET /live`.
pub async fn live(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = match headers.get("last-event-id") {
        Some(id) => Some(seen(id)?),
        None => asked.since.as_deref().map(since).transpose()?,
    };
    let step = asked.step.unwrap_or(1);
    if !(1..=MOST_STEP).contains(&step) {
        return Err(ApiError::invalid("`step` is the seconds to a place, from 1 to 60"));
    }
    let filter = filter(&context, asked.route, asked.experiment)?;
    let stream = context.live.watchers.join(Arc::clone(&who.caller.key_id));
    let mut stream = stream.map_err(refused)?;
    stream.filter = filter.clone();
    let told = if let Some(after) = after {
        // A page of it is worked out beside the runtime: it may be a million numbers.
        let worked = tokio::task::spawn_blocking(move || history(&context, after, step, &filter));
        let (written, to_unix) = worked.await.map_err(|_| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the history failed")
        })?;
        stream.after = to_unix;
        written
    } else {
        Vec::new()
    };
    // A browser that lost the connection tries again after two seconds.
    let mut first = b"retry: 2000\n\n".to_vec();
    first.extend_from_slice(&told);
    stream.first = Some(first.into());
    let head = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        // For proxies that would wait for more.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((head, Body::new(stream)).into_response())
}

/// The event with what is kept since `after`, and the second up to which it goes.
fn history(context: &Context, after: i64, step: u32, filter: &Filter) -> (Vec<u8>, i64) {
    let live = &context.live;
    let history = live.history.lock();
    let mut past = history.told(after, step, filter, ids::hex(&context.shared.boot));
    past.events = context.shared.news.since(after.saturating_add(1), live.told.load(Relaxed));
    drop(history);
    (event("history", Some(past.to_unix), &past).to_vec(), past.to_unix)
}

fn refused(why: NoRoom) -> ApiError {
    let (kind, message) = match why {
        NoRoom::Full => ("too_many_streams", "there are 64 live streams already; close one"),
        NoRoom::Closed => ("shutting_down", "the gateway is about to end"),
    };
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, kind, message)
}

/// The last second a watcher has seen, as its `Last-Event-ID` says.
fn seen(id: &HeaderValue) -> Result<i64, ApiError> {
    let id = id.to_str().ok().and_then(|id| id.trim().parse().ok());
    id.ok_or_else(|| ApiError::invalid("`Last-Event-ID` is not one of this stream's"))
}

/// The second before the history that is asked for.
fn since(text: &str) -> Result<i64, ApiError> {
    let from = moment(text).ok_or_else(|| {
        ApiError::invalid("`since` is not understood; give a duration such as 10m, or a time")
    })?;
    let most = i64::try_from(KEPT).unwrap_or(i64::MAX);
    Ok(from.div_euclid(1_000_000).max(clock::unix_seconds() - most - 1))
}

fn filter(
    context: &Context,
    route: Option<String>,
    experiment: Option<String>,
) -> Result<Filter, ApiError> {
    let view = context.changes.view();
    if let Some(name) = &route
        && !view.plan.routes.iter().any(|route| *route.name == **name)
    {
        return Err(ApiError::missing(format!("route {name:?} does not exist")));
    }
    let of_experiment = match &experiment {
        None => None,
        Some(name) => {
            let known = view.plan.experiments.iter().find(|known| *known.name == **name);
            let known = known
                .ok_or_else(|| ApiError::missing(format!("experiment {name:?} does not exist")))?;
            Some(view.plan.routes[known.route].name.to_string())
        }
    };
    Ok(Filter { route, experiment, of_experiment })
}
