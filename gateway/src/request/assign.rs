//! Which variant serves, and why: the unit is found here, `routing::assign` decides.

use std::borrow::Cow;

use policies::Permission;
use policies::api_key::KeyEntry;
use routing::{AssignFault, Assignment, Facts, Unit, UnitSource};

use crate::request::read_head::{Forced, Head};
use crate::request::{Cx, Record, Rejection};
use crate::snapshot::RoutePlan;

/// Assigns the request. Without an experiment, or outside of all, the route's backend serves.
///
/// # Errors
/// 400 for a forced variant that does not exist, and for a deciding header that came twice.
pub fn assign(
    cx: &Cx,
    route: &RoutePlan,
    caller: &KeyEntry,
    head: &Head,
    record: &mut Record,
) -> Result<Assignment, Rejection> {
    let may_force = caller.role.allows(Permission::ExperimentOverride);
    let forced = match &head.forced {
        Forced::Variant(name) if may_force => Some(&**name),
        Forced::Ambiguous if may_force => {
            return Err(Rejection::RepeatedHeader("x-weir-variant".into()));
        }
        Forced::No | Forced::Variant(_) | Forced::Ambiguous => None,
    };
    let request_id = record.id();
    let client = record.row().client;
    let facts = Facts { headers: &head.headers, key: &caller.name, forced };
    let unit_of = |experiment: usize| {
        route.plans[experiment].units.iter().find_map(|(source, place)| {
            let unit: Cow<'_, str> = match source {
                UnitSource::Header(name) => {
                    let mut values = head.headers.get_all(name).iter();
                    // A unit that came twice is none: the client must not choose between two.
                    let (Some(value), None) = (values.next(), values.next()) else { return None };
                    Cow::Borrowed(value.to_str().ok()?)
                }
                UnitSource::Cookie(name) => Cow::Borrowed(routing::cookie(&head.headers, name)?),
                UnitSource::Body(_) => {
                    let found = &head.payload.peeked()?.found;
                    Cow::Borrowed(found.get((*place)?)?.as_deref()?)
                }
                UnitSource::Key => Cow::Borrowed(&*caller.id),
                UnitSource::Address => Cow::Owned(client.to_canonical().to_string()),
                UnitSource::Request => Cow::Owned(request_id.text().as_str().to_owned()),
                // No token was verified, so no claim of it is known.
                UnitSource::Jwt(_) => return None,
            };
            (!unit.is_empty()).then_some(Unit(unit))
        })
    };
    let mut assignment =
        routing::assign(cx.snapshot.holdout.as_ref(), &route.experiments, &facts, unit_of)
            .map_err(|fault| match fault {
                AssignFault::RepeatedHeader(repeated) => {
                    Rejection::RepeatedHeader(repeated.name.to_string())
                }
                AssignFault::UnknownVariant { name } => Rejection::UnknownVariant(name.into()),
            })?;
    if assignment.experiment.is_none() {
        assignment.variant = None;
    }
    Ok(assignment)
}
