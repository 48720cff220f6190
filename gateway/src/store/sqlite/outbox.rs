//! Messages for webhooks, written with the audit entries that they tell of; and what lasts.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::{Value, json};

use super::changes::to_json;
use super::{Fault, count, damaged, int};
use crate::store::AuditRow;
use crate::store::outbox::{MOST_DEAD, MOST_WAITING, Message, Outbox, Subscriber, Tried};
use crate::webhooks::alert::{self as alerts, Alert, Effects};
use crate::webhooks::{Event, message};

/// Whether an entry about what is seen says something new: what lasts is told when it begins and
/// when it ends, and not again in between.
pub(super) fn is_news(transaction: &Transaction<'_>, row: &AuditRow) -> Result<bool, Fault> {
    let effects = alerts::effects(row, &message::events(row));
    let Some(experiment) = message::experiment(row) else { return Ok(false) };
    for begun in &effects.begins {
        if is_open(transaction, &begun.name, experiment, Some(&begun.about))? {
            return Ok(false);
        }
    }
    if effects.begins.is_empty() && effects.says.is_empty() {
        for name in &effects.ends {
            if is_open(transaction, name, experiment, None)? {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    Ok(true)
}

fn is_open(
    transaction: &Transaction<'_>,
    name: &str,
    experiment: &str,
    about: Option<&str>,
) -> Result<bool, Fault> {
    let found: Option<i64> = transaction
        .prepare_cached(
            "SELECT 1 FROM alerts WHERE name = ?1 AND experiment = ?2 AND about = coalesce(?3, about)",
        )?
        .query_row(params![name, experiment, about], |row| row.get(0))
        .optional()?;
    Ok(found.is_some())
}

/// Leaves a message for each of `subscribers` that asks for what entry `number` is, and keeps what
/// begins and ends with it.
pub(super) fn tell(
    transaction: &Transaction<'_>,
    subscribers: &[Subscriber],
    number: u64,
    row: &AuditRow,
) -> Result<(), Fault> {
    let events = message::events(row);
    let effects = alerts::effects(row, &events);
    let Effects { begins, says, ends } = &effects;
    let experiment = message::experiment(row).unwrap_or_default();
    let mut ended = Vec::new();
    for name in ends {
        ended.extend(end(transaction, name, experiment)?);
    }
    for begun in begins {
        begin(transaction, begun)?;
    }
    if subscribers.is_empty() || (events.is_empty() && ended.is_empty()) {
        return Ok(());
    }
    let instance: String =
        transaction.query_row("SELECT instance FROM installation", [], |row| row.get(0))?;
    for subscriber in subscribers {
        if !subscriber.takes_alerts {
            for event in events.iter().filter(|event| subscriber.events.has(**event)) {
                let body = message::body(&instance, number, *event, row);
                add(transaction, &subscriber.name, number, *event, &body, row.at)?;
            }
            continue;
        }
        let asked = |event: &Event| subscriber.events.has(*event);
        let began = begins.iter().filter(|begun| asked(&begun.event));
        let said = says.iter().filter(|(event, _)| asked(event));
        let over = ended.iter().filter(|over| asked(&over.event));
        let alerts: Vec<Value> = began
            .map(|begun| alerts::entry(&begun.shown, row.at, None))
            .chain(said.map(|(_, shown)| alerts::entry(shown, row.at, None)))
            .chain(over.map(|over| alerts::entry(&over.shown, over.began, Some(row.at))))
            .collect();
        // One message tells all of it; what only ends something goes by the event that began it.
        let event = events.first().copied().or(ended.first().map(|over| over.event));
        if let Some(event) = event.filter(|_| !alerts.is_empty()) {
            add(transaction, &subscriber.name, number, event, &json!(alerts), row.at)?;
        }
    }
    Ok(())
}

fn add(
    transaction: &Transaction<'_>,
    webhook: &str,
    number: u64,
    event: Event,
    body: &Value,
    at: i64,
) -> Result<(), Fault> {
    transaction
        .prepare_cached(
            "INSERT INTO outbox (webhook, audit, event, body, is_alerts, at, tries, due, refused)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0)",
        )?
        .execute(params![
            webhook,
            int(number),
            event.as_str(),
            to_json(body)?,
            body.is_array(),
            at
        ])?;
    Ok(())
}

/// Gives up the oldest that wait, beyond [`MOST_WAITING`]; how many.
pub(super) fn cut(transaction: &Transaction<'_>, webhook: &str, at: i64) -> Result<u64, Fault> {
    let cut = transaction
        .prepare_cached(
            "UPDATE outbox SET dead_at = ?2, why = 'too many messages waited for this webhook'
             WHERE webhook = ?1 AND dead_at IS NULL AND audit <=
                (SELECT audit FROM outbox WHERE webhook = ?1 AND dead_at IS NULL
                 ORDER BY audit DESC LIMIT 1 OFFSET ?3)",
        )?
        .execute(params![webhook, at, MOST_WAITING])?;
    bury(transaction, webhook)?;
    Ok(cut as u64)
}

/// Lets go of the oldest that were given up, beyond [`MOST_DEAD`].
fn bury(transaction: &Transaction<'_>, webhook: &str) -> Result<(), Fault> {
    transaction
        .prepare_cached(
            "DELETE FROM outbox WHERE webhook = ?1 AND dead_at IS NOT NULL AND audit <
                (SELECT audit FROM outbox WHERE webhook = ?1 AND dead_at IS NOT NULL
                 ORDER BY audit DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![webhook, MOST_DEAD - 1])?;
    Ok(())
}

const COUNTS: &str = "SELECT count(*) FILTER (WHERE dead_at IS NULL),
        min(at) FILTER (WHERE dead_at IS NULL), count(dead_at)
    FROM outbox WHERE webhook = ?1";

/// The first that need not wait for its own time.
pub(super) const FIRST: &str =
    "SELECT audit, event, body, is_alerts, at, tries, due, refused, why FROM outbox
    WHERE webhook = ?1 AND dead_at IS NULL AND (refused = 0 OR due <= ?2)
    ORDER BY audit, event LIMIT 1";

/// Of those that do, the one whose time comes first.
const SOONEST: &str =
    "SELECT audit, event, body, is_alerts, at, tries, due, refused, why FROM outbox
    WHERE webhook = ?1 AND (audit, event) = (
        SELECT audit, event FROM outbox WHERE webhook = ?1 AND dead_at IS NULL
        ORDER BY due, audit, event LIMIT 1)";

/// How it stands with one webhook. Messages come in the order of their entries, but one that the
/// receiver refused waits for its own time while others pass it.
pub(super) fn look(connection: &Connection, webhook: &str, now: i64) -> Result<Outbox, Fault> {
    let (pending, oldest, dead) = connection
        .prepare_cached(COUNTS)?
        .query_row([webhook], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut first = connection.prepare_cached(FIRST)?;
    let mut next = first.query(params![webhook, now])?.next()?.map(read).transpose()?;
    if next.is_none() && pending > 0 {
        let mut soonest = connection.prepare_cached(SOONEST)?;
        next = soonest.query([webhook])?.next()?.map(read).transpose()?;
    }
    Ok(Outbox { next, pending: count(pending), oldest, dead: count(dead) })
}

fn read(row: &Row<'_>) -> Result<Message, Fault> {
    let event: String = row.get(1)?;
    Ok(Message {
        audit: count(row.get(0)?),
        event: named(&event)?,
        body: row.get(2)?,
        is_alerts: row.get(3)?,
        at: row.get(4)?,
        tries: row.get(5)?,
        due: row.get(6)?,
        refused: row.get(7)?,
        why: row.get(8)?,
    })
}

fn named(event: &str) -> Result<Event, Fault> {
    Event::named(event).ok_or_else(|| damaged(&"a message for a webhook", &"its event is unknown"))
}

/// Keeps what became of a try.
pub(super) fn tried(
    transaction: &Transaction<'_>,
    webhook: &str,
    (number, event): (u64, Event),
    tried: &Tried,
) -> Result<(), Fault> {
    let of = (webhook, int(number), event.as_str());
    match tried {
        Tried::Delivered => {
            transaction
                .prepare_cached(
                    "DELETE FROM outbox WHERE webhook = ?1 AND audit = ?2 AND event = ?3",
                )?
                .execute(params![of.0, of.1, of.2])?;
        }
        Tried::Again { due, refused, why } => {
            transaction
                .prepare_cached(
                    "UPDATE outbox SET tries = tries + 1, due = ?4, refused = ?5, why = ?6
                     WHERE webhook = ?1 AND audit = ?2 AND event = ?3",
                )?
                .execute(params![of.0, of.1, of.2, due, refused, why])?;
        }
        Tried::Dead { at, why } => {
            transaction
                .prepare_cached(
                    "UPDATE outbox SET tries = tries + 1, dead_at = ?4, why = ?5
                     WHERE webhook = ?1 AND audit = ?2 AND event = ?3",
                )?
                .execute(params![of.0, of.1, of.2, at, why])?;
            bury(transaction, webhook)?;
        }
    }
    Ok(())
}

/// Makes everything that waits for a webhook due now.
pub(super) fn hurry(transaction: &Transaction<'_>, webhook: &str) -> Result<(), Fault> {
    transaction
        .prepare_cached("UPDATE outbox SET due = 0 WHERE webhook = ?1 AND dead_at IS NULL")?
        .execute([webhook])?;
    Ok(())
}

/// Forgets what waits for webhooks that are not among `webhooks`, and what lasts of experiments that
/// are not among `experiments`; how many messages were waiting, by webhook.
pub(super) fn forget(
    transaction: &Transaction<'_>,
    webhooks: &[String],
    experiments: &[String],
) -> Result<Vec<(String, u64)>, Fault> {
    let (webhooks, experiments) = (to_json(webhooks)?, to_json(experiments)?);
    let mut statement = transaction.prepare_cached(
        "SELECT webhook, sum(dead_at IS NULL) FROM outbox
         WHERE webhook NOT IN (SELECT value FROM json_each(?1)) GROUP BY webhook",
    )?;
    let gone = statement
        .query_map([&webhooks], |row| Ok((row.get(0)?, count(row.get(1)?))))?
        .collect::<Result<Vec<_>, _>>()?;
    if !gone.is_empty() {
        transaction
            .prepare_cached(
                "DELETE FROM outbox WHERE webhook NOT IN (SELECT value FROM json_each(?1))",
            )?
            .execute([&webhooks])?;
    }
    transaction
        .prepare_cached(
            "DELETE FROM alerts WHERE experiment NOT IN (SELECT value FROM json_each(?1))",
        )?
        .execute([&experiments])?;
    Ok(gone)
}

fn begin(transaction: &Transaction<'_>, begun: &Alert) -> Result<(), Fault> {
    let Alert { name, experiment, about, event, began, shown } = begun;
    transaction
        .prepare_cached(
            "INSERT INTO alerts (name, experiment, about, event, began, shown)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (name, experiment, about) DO UPDATE SET shown = excluded.shown",
        )?
        .execute(params![
            name.as_ref(),
            experiment,
            about,
            event.as_str(),
            began,
            to_json(shown)?
        ])?;
    Ok(())
}

/// Ends what lasts under this name; what that was.
fn end(transaction: &Transaction<'_>, name: &str, experiment: &str) -> Result<Vec<Alert>, Fault> {
    let mut statement = transaction.prepare_cached(
        "DELETE FROM alerts WHERE name = ?1 AND experiment = ?2
         RETURNING name, experiment, about, event, began, shown",
    )?;
    let mut rows = statement.query([name, experiment])?;
    let mut over = Vec::new();
    while let Some(row) = rows.next()? {
        over.push(alert(row)?);
    }
    Ok(over)
}

/// Everything that lasts, in the order in which it began.
pub(super) fn lasting(connection: &Connection) -> Result<Vec<Alert>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT name, experiment, about, event, began, shown FROM alerts
         ORDER BY began, name, experiment, about",
    )?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(alert(row)?);
    }
    Ok(all)
}

fn alert(row: &Row<'_>) -> Result<Alert, Fault> {
    let (name, event, shown): (String, String, String) = (row.get(0)?, row.get(3)?, row.get(5)?);
    Ok(Alert {
        name: name.into(),
        experiment: row.get(1)?,
        about: row.get(2)?,
        event: named(&event)?,
        began: row.get(4)?,
        shown: serde_json::from_str(&shown).map_err(|error| damaged(&"an alert", &error))?,
    })
}
