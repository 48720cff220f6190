//! Who calls. Deny by default; every denial looks the same from outside (hardening T14).

use policies::api_key::{Denied, KeyEntry, take_credential};

use crate::request::read_head::Head;
use crate::request::{Cx, Record, Rejection};
use crate::telemetry::counters::bump;

/// Finds the key and takes the credential out of the head: the backend never sees it (T24).
///
/// # Errors
/// [`Rejection::Unauthenticated`].
pub fn authenticate<'a>(
    cx: &'a Cx,
    head: &mut Head,
    record: &mut Record,
) -> Result<&'a KeyEntry, Rejection> {
    let counters = cx.worker.counters();
    // Expiry is a matter of seconds: the time at which the head was complete will do.
    let now = i64::try_from(record.row().started_unix_nanos / 1_000_000_000).unwrap_or(i64::MAX);
    let presented = take_credential(&mut head.headers, head.seen).map_err(Denied::from);
    let found = presented
        .and_then(|key| key.ok_or(Denied::Missing))
        .and_then(|key| cx.snapshot.keys.find(key.token(), now));
    record.authenticated();
    let entry = match found {
        Ok(entry) => entry,
        Err(why) => {
            counters.denied(why);
            return Err(Rejection::Unauthenticated(why));
        }
    };
    bump(&counters.auth[0], 1);
    record.row().key_id.push_str(&entry.id);
    Ok(entry)
}

/// Counts a caller that is known and may not.
pub fn count_denied(cx: &Cx) {
    bump(&cx.worker.counters().auth[6], 1);
}
