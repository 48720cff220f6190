//! `weir shadow`: what copies answer beside what clients got, verdict first; disagreements that are
//! kept; a fresh start.

use clap::Subcommand;
use clap_complete::ArgValueCandidates;
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::admin_client::{AdminClient, Answer, Call, escaped};
use super::console::Console;
use super::fault::Fault;
use super::table::{Cell, Lean, Table};
use super::{Connection, Output, complete, reading, words};

mod screen;

/// What can be asked about shadows.
#[derive(Debug, Subcommand)]
pub(super) enum ShadowCommand {
    /// Every shadow: where copies go, how they ended, how they agree
    List {
        #[command(flatten)]
        gateway: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// How its answers compare with those that clients got: agreement, times, failures
    Comparison {
        /// Name of the shadow
        #[arg(add = ArgValueCandidates::new(complete::shadows))]
        shadow: String,
        #[command(flatten)]
        gateway: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// The newest disagreements that were kept; every read is an entry of the audit log
    Disagreements {
        /// Name of the shadow
        #[arg(add = ArgValueCandidates::new(complete::shadows))]
        shadow: String,
        /// How many
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        #[command(flatten)]
        gateway: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Count anew, after a change that the gateway cannot see
    Restart {
        /// Name of the shadow
        #[arg(add = ArgValueCandidates::new(complete::shadows))]
        shadow: String,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        gateway: Connection,
        #[command(flatten)]
        output: Output,
    },
}

/// Does it.
pub(super) fn obey(command: ShadowCommand, console: &mut Console) -> Result<(), Fault> {
    match command {
        ShadowCommand::List { gateway, output } => list(&gateway.client()?, output.json, console),
        ShadowCommand::Comparison { shadow, gateway, output } => {
            comparison(&gateway.client()?, &shadow, output.json, console)
        }
        ShadowCommand::Disagreements { shadow, limit, gateway, output } => {
            disagreements(&gateway.client()?, &shadow, limit, output.json, console)
        }
        ShadowCommand::Restart { shadow, reason, gateway, output } => {
            restart(&gateway.client()?, &shadow, reason, output.json, console)
        }
    }
}

fn list(client: &AdminClient, json: bool, console: &mut Console) -> Result<(), Fault> {
    let answer = client.ask(Call::get("/shadows"), "list shadows", console)?;
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    let shadows = reading::list(&answer.json, "items");
    if shadows.is_empty() {
        console.note("this gateway has no shadows; docs/shadows.md shows how to have one");
        return Ok(());
    }
    let mut table = Table::new(&[
        ("shadow", Lean::Left),
        ("route", Lean::Left),
        ("backend", Lean::Left),
        ("copied", Lean::Right),
        ("ok", Lean::Right),
        ("errors", Lean::Right),
        ("dropped", Lean::Right),
        ("by", Lean::Left),
        ("agree", Lean::Right),
        ("pairs", Lean::Right),
        ("", Lean::Left),
    ])
    .sparing(&[9, 7, 1, 6, 2]);
    let none = Value::Null;
    for shadow in shadows {
        let text = |key| Cell::from(reading::text(shadow, key).unwrap_or("–"));
        let count = |key| {
            let number = reading::whole(shadow, key);
            Cell::from(number.map_or_else(|| "–".to_owned(), words::count))
        };
        let found = shadow.get("comparison").unwrap_or(&none);
        let agreement = found.get("agreement").unwrap_or(&none);
        let share = reading::number(agreement, "value");
        let passed = found.get("passed").and_then(Value::as_bool) == Some(true);
        let copied = reading::number(shadow, "percent");
        table.row([
            text("name"),
            text("route"),
            text("backend"),
            Cell::from(copied.map_or_else(|| "–".to_owned(), |percent| format!("{percent} %"))),
            count("ok"),
            count("error"),
            count("dropped"),
            Cell::from(reading::text(found, "kind").unwrap_or("–")),
            Cell::from(share.map_or_else(|| "–".to_owned(), screen::percent)),
            Cell::from(reading::whole(agreement, "pairs").map_or_else(String::new, words::count)),
            Cell::from(if passed { "passed" } else { "" }),
        ]);
    }
    let lines = table.lines(0, console.width(), console.out_paint());
    console.print(&lines.join("\n"));
    Ok(())
}

fn comparison(
    client: &AdminClient,
    name: &str,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let path = format!("/shadows/{}/comparison", escaped(name));
    let answer = client.ask_anyway(Call::get(&path), console)?;
    if !answer.status.is_success() {
        let aim = format!("read the comparison of \"{name}\"");
        return Err(refused(client, &answer, name, &aim, console));
    }
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    let text = screen::screen(&answer.json, Timestamp::now(), console.width(), console.out_paint());
    console.print(&text);
    Ok(())
}

fn disagreements(
    client: &AdminClient,
    name: &str,
    limit: u32,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let path = format!("/shadows/{}/disagreements?limit={limit}", escaped(name));
    let answer = client.ask_anyway(Call::get(&path), console)?;
    if !answer.status.is_success() {
        let aim = format!("read disagreements of \"{name}\"");
        return Err(refused(client, &answer, name, &aim, console));
    }
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    let items = reading::list(&answer.json, "items");
    if items.is_empty() {
        console.note(&format!("no disagreement of {name} was kept yet"));
        return Ok(());
    }
    let now = Timestamp::now();
    let shown: Vec<String> =
        items.iter().map(|item| screen::disagreement(item, now, console.out_paint())).collect();
    console.print(&shown.join("\n\n"));
    Ok(())
}

fn restart(
    client: &AdminClient,
    name: &str,
    reason: Option<String>,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let mut body = Map::new();
    body.extend(reason.map(|reason| ("reason".to_owned(), json!(reason))));
    let path = format!("/shadows/{}/comparison/restart", escaped(name));
    let answer = client.ask_anyway(Call::write(Method::POST, &path, Some(body.into())), console)?;
    if !answer.status.is_success() {
        let aim = format!("restart the comparison of \"{name}\"");
        return Err(refused(client, &answer, name, &aim, console));
    }
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    let revision = reading::whole(&answer.json, "revision").unwrap_or(0);
    console.print(&format!("{} is counted anew, revision {revision}", words::clean(name)));
    Ok(())
}

/// Why not; if there is no such shadow, which there are.
fn refused(
    client: &AdminClient,
    answer: &Answer,
    name: &str,
    aim: &str,
    console: &mut Console,
) -> Fault {
    let mut fault = client.refused(answer, aim);
    if answer.status != StatusCode::NOT_FOUND {
        return fault;
    }
    // Only to help; if it does not, the fault stands as it is.
    let Ok(known) = client.ask(Call::get("/shadows"), "list shadows", console) else {
        return fault;
    };
    let names: Vec<&str> = reading::list(&known.json, "items")
        .iter()
        .filter_map(|each| reading::text(each, "name"))
        .collect();
    if names.contains(&name) {
        return fault;
    }
    fault.what = format!("there is no shadow \"{name}\"");
    fault.mend = match words::nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if names.is_empty() => "this gateway has no shadows".to_owned(),
        None => format!("there is: {}", names.join(", ")),
    };
    fault
}
