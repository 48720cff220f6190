//! Whose answer feedback is about: what an outcome says of its request.

use rusqlite::Connection;
use serde_json::Value;

use super::vocabulary::Vocabulary;
use super::{Fault, outcomes};
use crate::names::{Name, intern};
use crate::store::{Asked, Exposure};

/// What is known of these requests, in their order; `None` where no outcome is stored.
pub(super) fn of(
    connection: &Connection,
    vocabulary: &mut Vocabulary,
    ids: &[[u8; 16]],
) -> Result<Vec<Option<Asked>>, Fault> {
    let asked = ids.iter().map(|id| Ok(outcomes::one(connection, vocabulary, *id)?.map(asked)));
    asked.collect()
}

/// By the names of the access log, so that only `outcomes` knows how a row is laid out.
fn asked(outcome: Value) -> Asked {
    let text = |member: &str| outcome.get(member).and_then(Value::as_str);
    // Words of the operators' vocabulary, as all that rows carry by number.
    let name = |member: &str| text(member).map(intern);
    let exposure = |experiment: Name, variant: Name| Exposure {
        experiment,
        variant,
        revision: outcome.get("experiment.revision").and_then(Value::as_u64).unwrap_or(0),
        unit_hash: text("unit.hash").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0),
        eligible: outcome.get("assignment.eligible").and_then(Value::as_bool).unwrap_or(false),
        asked_by: None,
    };
    Asked {
        key_id: text("auth.key_id").unwrap_or_default().to_owned(),
        route: name("route"),
        exposure: name("experiment").zip(name("variant")).map(|(e, v)| exposure(e, v)),
    }
}
