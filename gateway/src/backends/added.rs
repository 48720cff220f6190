//! What the gateway itself says to a backend, beside the fields that came from the client.
//!
//! Kept apart from the client's: writing a few lines costs less than making room for them in a map
//! and looking each of them up there.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::snapshot::names;

/// Bytes of a `traceparent`.
type Traceparent = [u8; policies::trace_context::TRACEPARENT_LEN];

/// Fields that the gateway adds to a request.
#[derive(Clone, Debug, Default)]
pub struct Added {
    /// Where the request came from; `None` where a peer that is believed has said so: then it stands
    /// among the other fields.
    pub forwarded: Option<Forwarded>,
    /// The trace, and the span that is the parent of what the backend does.
    pub traceparent: Option<Traceparent>,
    /// What other tracers said.
    pub tracestate: Option<HeaderValue>,
}

/// `x-forwarded-*` of a client that came directly.
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// Its address.
    pub client: HeaderValue,
    /// The host that it asked for, if it named one.
    pub host: Option<HeaderValue>,
}

impl Added {
    /// Calls `field` with the name and value of each.
    pub(super) fn each(&self, mut field: impl FnMut(&HeaderName, &[u8])) {
        if let Some(forwarded) = &self.forwarded {
            field(&names::FORWARDED_FOR, forwarded.client.as_bytes());
            // Nothing else is listened to.
            field(&names::FORWARDED_PROTO, b"https");
            if let Some(host) = &forwarded.host {
                field(&names::FORWARDED_HOST, host.as_bytes());
            }
        }
        if let Some(traceparent) = &self.traceparent {
            field(&names::TRACEPARENT, traceparent);
        }
        if let Some(state) = &self.tracestate {
            field(&names::TRACESTATE, state.as_bytes());
        }
    }

    /// Puts them into `headers`, in place of any of their names.
    pub fn insert_into(&self, headers: &mut HeaderMap) {
        if let Some(forwarded) = &self.forwarded {
            headers.insert(&names::FORWARDED_FOR, forwarded.client.clone());
            headers.insert(&names::FORWARDED_PROTO, HeaderValue::from_static("https"));
            if let Some(host) = &forwarded.host {
                headers.insert(&names::FORWARDED_HOST, host.clone());
            }
        }
        if let Some(traceparent) = &self.traceparent
            && let Ok(mut value) = HeaderValue::from_bytes(traceparent)
        {
            // Different each time: not worth a place in HPACK's table.
            value.set_sensitive(true);
            headers.insert(&names::TRACEPARENT, value);
        }
        if let Some(state) = &self.tracestate {
            headers.insert(&names::TRACESTATE, state.clone());
        }
    }
}
