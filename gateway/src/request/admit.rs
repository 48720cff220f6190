//! Whether there is room: for this caller, on this gateway.

use std::sync::Arc;

use policies::Permission;
use policies::api_key::KeyEntry;
use policies::limit::InFlightGuard;

use crate::limits::KeyState;
use crate::request::read_head::Head;
use crate::request::{Cx, Rejection, authenticate, feedback};
use crate::snapshot::RoutePlan;

/// Places taken; given back when dropped.
#[derive(Debug, Default)]
pub struct Places {
    /// The key's limits, to charge tokens to.
    pub key: Option<Arc<KeyState>>,
    /// Its place among the key's concurrent requests.
    _concurrent: Option<InFlightGuard>,
}

/// What is asked before anything of the body is read: may this key do such a thing at all, and is there
/// room behind the `ahead` requests that are in flight?
///
/// # Errors
/// 403 and 503.
pub fn early(cx: &Cx, caller: &KeyEntry, head: &Head, ahead: usize) -> Result<(), Rejection> {
    let (needed, what) = if feedback::is_sent(head) {
        (Permission::Feedback, "send feedback")
    } else {
        (Permission::Call, "call models")
    };
    if !caller.role.allows(needed) {
        authenticate::count_denied(cx);
        return Err(Rejection::Forbidden(what));
    }
    if ahead >= cx.snapshot.limits.in_flight {
        return Err(Rejection::Overloaded);
    }
    Ok(())
}

/// Takes a place in every limit.
///
/// # Errors
/// 403 where the key may not call this route, 429 and 503 where a limit is reached.
pub fn admit(cx: &Cx, route: &RoutePlan, caller: &KeyEntry) -> Result<Places, Rejection> {
    // `early` asked for another permission if a route has the path of feedback.
    if !caller.role.allows(Permission::Call) || !caller.grants.allows(route.name) {
        authenticate::count_denied(cx);
        return Err(Rejection::Forbidden("call this route"));
    }
    limits(cx, caller, true)
}

/// Takes a place in every limit of the key; `tokens`: also where tokens are limited.
///
/// # Errors
/// 429 where one is reached.
pub fn limits(cx: &Cx, caller: &KeyEntry, tokens: bool) -> Result<Places, Rejection> {
    let Some(state) = cx.snapshot.key_states.get(&caller.id) else {
        return Ok(Places::default());
    };
    let now = cx.worker.shared.backends.nanos();
    if let Some(limit) = &state.requests {
        limit.check(now, 1).map_err(|retry_after| Rejection::RateLimited {
            what: "requests per second",
            retry_after,
        })?;
    }
    if let Some(limit) = state.tokens.as_ref().filter(|_| tokens) {
        // What an answer costs is known at its end; here only debt turns away.
        limit.check(now, 0).map_err(|retry_after| Rejection::RateLimited {
            what: "tokens per minute",
            retry_after,
        })?;
    }
    let concurrent = match &state.concurrent {
        None => None,
        Some(limit) => Some(limit.try_enter().ok_or(Rejection::RateLimited {
            what: "requests at the same time",
            retry_after: std::time::Duration::from_secs(1),
        })?),
    };
    Ok(Places { key: Some(Arc::clone(state)), _concurrent: concurrent })
}
