//! `weir ramp`: start a ramp, see where it stands and why, pause, resume, abort, promote it.

use std::path::Path;

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::admin_client::{AdminClient, Answer, Call, escaped};
use super::console::Console;
use super::fault::Fault;
use super::{reading, split, words};

pub(crate) mod screen;

use screen::{Look, standing};

/// How a ramp is started.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// The variant; the only one there is beside control if it is not named.
    pub(crate) variant: Option<String>,
    /// Settings as JSON.
    pub(crate) settings: Option<&'a Path>,
    /// The shadow that has to have passed.
    pub(crate) shadow: Option<String>,
    /// Whether evidence of an earlier ramp is forgotten.
    pub(crate) afresh: bool,
    /// What else was said, over what the settings say.
    pub(crate) members: Map<String, Value>,
}

/// Starts one.
pub(crate) fn start(
    client: &AdminClient,
    change: split::Change<'_>,
    start: Start<'_>,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let name = change.experiment;
    let mut body = match start.settings {
        None => Map::new(),
        Some(file) => settings(file)?,
    };
    body.extend(start.members);
    body.extend(start.variant.map(|variant| ("variant".to_owned(), json!(variant))));
    body.extend(start.shadow.map(|shadow| ("shadow".to_owned(), json!(shadow))));
    body.extend(change.reason.map(|reason| ("reason".to_owned(), json!(reason))));
    if start.afresh {
        body.insert("afresh".to_owned(), json!(true));
    }
    let path = format!("/experiments/{}/ramp", escaped(name));
    let post = Call::write(Method::POST, &path, Some(body.into()));
    let answer = client.ask_anyway(post, console)?;
    moved(client, name, &answer, &format!("start a ramp of \"{name}\""), json, console)
}

fn settings(file: &Path) -> Result<Map<String, Value>, Fault> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| {
        Fault::usage(format!("cannot read {shown}: {error}"), "name a file with settings as JSON")
    })?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(settings)) => Ok(settings),
        Ok(_) => Err(Fault::usage(
            format!("{shown} is not an object"),
            "docs/experiments.md shows what a ramp can be told",
        )),
        Err(error) => Err(Fault::usage(
            format!("{shown} is not JSON: {error}"),
            "docs/experiments.md shows what a ramp can be told",
        )),
    }
}

/// Pauses, resumes, aborts or promotes: `hand` is the word, `variant` who is promoted if that must be
/// said.
pub(crate) fn hand(
    client: &AdminClient,
    hand: &str,
    change: split::Change<'_>,
    variant: Option<String>,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let name = change.experiment;
    let mut body = Map::new();
    body.extend(change.reason.map(|reason| ("reason".to_owned(), json!(reason))));
    body.extend(variant.map(|variant| ("variant".to_owned(), json!(variant))));
    let path = format!("/experiments/{}/ramp/{hand}", escaped(name));
    let answer = client.ask_anyway(Call::write(Method::POST, &path, Some(body.into())), console)?;
    moved(client, name, &answer, &format!("{hand} the ramp of \"{name}\""), json, console)
}

fn moved(
    client: &AdminClient,
    name: &str,
    answer: &Answer,
    aim: &str,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    if !answer.status.is_success() {
        return Err(split::refused(client, answer, name, aim, console));
    }
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    let ramp = &answer.json;
    for note in reading::texts(ramp, "notes") {
        console.note(&format!("note: {}", words::clean(note)));
    }
    let said = reading::list(ramp, "decisions")
        .first()
        .and_then(|made| reading::text(made, "words"))
        .unwrap_or("done");
    console.print(&format!(
        "{}, in force after {}\n{}\n`weir ramp status {name}` shows how it goes",
        words::clean(said),
        words::latency(answer.took.as_secs_f64()),
        standing(ramp),
    ));
    Ok(())
}

/// Shows where it stands.
pub(crate) fn status(
    client: &AdminClient,
    name: &str,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let path = format!("/experiments/{}/ramp", escaped(name));
    let answer = client.ask_anyway(Call::get(&path), console)?;
    if !answer.status.is_success() {
        let aim = format!("read the ramp of \"{name}\"");
        let fault = split::refused(client, &answer, name, &aim, console);
        // There is an experiment of this name, but no ramp.
        let is_none = answer.status == StatusCode::NOT_FOUND && fault.what.starts_with("cannot ");
        return Err(match is_none {
            true => Fault::failed(
                format!("experiment \"{name}\" has no ramp"),
                format!("`weir ramp start {name}` starts one"),
            ),
            false => fault,
        });
    }
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    let look = Look::of(console);
    console.print(&screen::screen(&answer.json, Timestamp::now(), look));
    Ok(())
}
