//! `weir split`, `weir undo`, `weir stop`: see how an experiment's traffic is split, and move it.

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::admin_client::{AdminClient, Answer, Call, escaped};
use super::console::{Console, Tone};
use super::fault::Fault;
use super::table::{Cell, Lean, Table};
use super::{reading, words};

pub(crate) mod bar;
mod draft;
mod edit;
mod editor;

pub(crate) use draft::nouns;

/// What a change is about, and why it is made.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    /// Name of the experiment.
    pub(crate) experiment: &'a str,
    /// For the history.
    pub(crate) reason: Option<String>,
}

/// The experiment, or a fault that names those that exist.
pub(crate) fn get(
    client: &AdminClient,
    name: &str,
    console: &mut Console,
) -> Result<Answer, Fault> {
    let path = format!("/experiments/{}", escaped(name));
    let answer = client.ask_anyway(Call::get(&path), console)?;
    if answer.status.is_success() {
        return Ok(answer);
    }
    Err(refused(client, &answer, name, &format!("read experiment \"{name}\""), console))
}

/// The fault of a refusal that may be about the experiment's name.
pub(crate) fn refused(
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
    let Ok(known) = client.ask(Call::get("/experiments"), "list experiments", console) else {
        return fault;
    };
    let names: Vec<&str> = reading::list(&known.json, "items")
        .iter()
        .filter_map(|each| reading::text(each, "name"))
        .collect();
    if names.contains(&name) {
        return fault;
    }
    fault.what = format!("there is no experiment \"{name}\"");
    fault.mend = match words::nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if names.is_empty() => "this gateway has no experiments".to_owned(),
        None => format!("there is: {}", names.join(", ")),
    };
    fault
}

/// How a split is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// As the API says it.
    Json,
    /// For people, and that is all.
    Only,
    /// For people, and to be moved with keys where somebody sits.
    AndEdit,
}

/// Shows the split, and lets it be moved.
pub(crate) fn show(
    client: &AdminClient,
    name: &str,
    how: Show,
    console: &mut Console,
) -> Result<(), Fault> {
    let answer = get(client, name, console)?;
    if how == Show::Json {
        console.json(&answer.body);
        return Ok(());
    }
    let text = screen(&answer.json, Timestamp::now(), console);
    console.print(&text);
    if how == Show::AndEdit && console.is_interactive() {
        return edit::edit(client, name, &answer, console);
    }
    Ok(())
}

/// The split, as a screen.
fn screen(experiment: &Value, now: Timestamp, console: &Console) -> String {
    let paint = console.out_paint();
    let name = reading::text(experiment, "name").unwrap_or("?");
    let state = reading::text(experiment, "state").unwrap_or("?");
    let mut heading = format!(
        "{} on route {}, revision {}",
        paint.paint(Tone::Bold, &words::clean(name)),
        words::clean(reading::text(experiment, "route").unwrap_or("?")),
        reading::whole(experiment, "revision").map_or_else(|| "?".to_owned(), |r| r.to_string()),
    );
    let tone = if state == "running" { Tone::Good } else { Tone::Warn };
    heading.push_str(&format!(", {}", paint.paint(tone, &words::clean(state))));
    if reading::text(experiment, "owner") == Some("file") {
        heading.push_str(", owned by the file");
    }

    let control = reading::text(experiment, "control");
    let mut table = Table::new(&[
        ("variant", Lean::Left),
        ("weight", Lean::Right),
        ("share", Lean::Right),
        ("backend", Lean::Left),
        ("", Lean::Left),
    ]);
    for (variant, value) in reading::variants(experiment) {
        table.row([
            Cell::from(variant),
            Cell::from(
                reading::number(value, "weight").map_or_else(|| "–".to_owned(), words::weight),
            ),
            Cell::from(
                reading::number(value, "share").map_or_else(|| "–".to_owned(), words::share),
            ),
            Cell::from(reading::text(value, "backend").unwrap_or("–")),
            Cell::toned(if Some(variant) == control { "control" } else { "" }, Tone::Dim),
        ]);
    }
    let mut text = format!("{heading}\n\n");
    for line in table.lines(2, console.width(), paint) {
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str(&format!("\nchanged {}\n", reading::change(experiment, now)));
    let unit = reading::texts(experiment, "unit").join(", then ");
    if !unit.is_empty() {
        text.push_str(&format!("unit    {}\n", words::clean(&unit)));
    }
    let ramp = experiment.get("ramp").filter(|ramp| ramp.is_object());
    if let Some(state) = ramp.and_then(|ramp| reading::text(ramp, "state"))
        && matches!(state, "running" | "holding" | "paused")
    {
        text.push_str(&format!(
            "ramp    {}: shares move by themselves; `weir ramp status {name}` shows how it goes\n",
            words::clean(state)
        ));
    }
    match state {
        "stopped" => text.push_str(&format!(
            "stopped: all traffic goes to the route's backend; `weir undo {name}` takes the split up again\n"
        )),
        "ended" => text.push_str("ended: all traffic goes to the route's backend\n"),
        _ => {}
    }
    text
}

/// Changes the weights, and says what that moved.
pub(crate) fn set(
    client: &AdminClient,
    change: Change<'_>,
    weights: &[(String, f64)],
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let name = change.experiment;
    let before = get(client, name, console)?;
    unknown_variant(&before.json, name, weights)?;
    let seen = revision(&before, name)?;

    let weights: Map<String, Value> =
        weights.iter().map(|(variant, weight)| (variant.clone(), json!(weight))).collect();
    let mut body = json!({ "weights": weights });
    if let Some(reason) = &change.reason {
        body["reason"] = json!(reason);
    }
    let path = format!("/experiments/{}/weights", escaped(name));
    let put = Call::write(Method::PUT, &path, Some(body)).if_match(seen);
    let answer = client.ask_anyway(put, console)?;
    if answer.status == StatusCode::PRECONDITION_FAILED {
        return Err(overtaken(client, name, seen, &answer, console));
    }
    let aim = format!("change the split of \"{name}\"");
    if !answer.status.is_success() {
        return Err(refused(client, &answer, name, &aim, console));
    }
    let was = reading::text(&before.json, "state");
    report(&answer, json, console)?;
    if !json && was == Some("stopped") && reading::text(&answer.json, "state") == Some("running") {
        console.note(&format!("\"{name}\" was stopped; with this it is split again"));
    }
    Ok(())
}

/// The revision that a change starts from.
pub(crate) fn revision(seen: &Answer, name: &str) -> Result<u64, Fault> {
    seen.revision.or_else(|| reading::whole(&seen.json, "revision")).ok_or_else(|| {
        Fault::failed(
            format!("cannot change \"{name}\": the gateway did not say which revision is in force"),
            "is this command older or newer than the gateway? compare `weir --version` and `weir status`",
        )
    })
}

/// Goes back to an earlier revision.
pub(crate) fn undo(
    client: &AdminClient,
    change: Change<'_>,
    to: Option<u64>,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let name = change.experiment;
    let mut body = Map::new();
    body.extend(to.map(|to| ("to".to_owned(), json!(to))));
    body.extend(change.reason.map(|reason| ("reason".to_owned(), json!(reason))));
    let seen = revision(&get(client, name, console)?, name)?;
    let path = format!("/experiments/{}/undo", escaped(name));
    let post = Call::write(Method::POST, &path, Some(body.into())).if_match(seen);
    let answer = client.ask_anyway(post, console)?;
    if answer.status == StatusCode::PRECONDITION_FAILED {
        return Err(overtaken(client, name, seen, &answer, console));
    }
    if !answer.status.is_success() {
        let mut fault =
            refused(client, &answer, name, &format!("undo a change of \"{name}\""), console);
        if to.is_some() {
            fault.mend = format!("`weir history {name}` shows the revisions\n{}", fault.mend);
        }
        return Err(fault);
    }
    report(&answer, json, console)
}

/// The kill switch.
pub(crate) fn stop(
    client: &AdminClient,
    change: Change<'_>,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let name = change.experiment;
    let mut body = Map::new();
    body.extend(change.reason.map(|reason| ("reason".to_owned(), json!(reason))));
    let path = format!("/experiments/{}/stop", escaped(name));
    let answer = client.ask_anyway(Call::write(Method::POST, &path, Some(body.into())), console)?;
    if !answer.status.is_success() {
        return Err(refused(client, &answer, name, &format!("stop \"{name}\""), console));
    }
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    if let Some(warning) = reading::text(&answer.json, "warning") {
        let warning = words::clean(warning);
        console.note(&format!("{} {warning}", console.err_paint().paint(Tone::Warn, "warning:")));
    }
    let route = reading::text(&answer.json, "route").unwrap_or("?");
    let revision = reading::whole(&answer.json, "revision");
    console.print(&format!(
        "{name} is stopped{}, in force after {}: all traffic of route {} goes to the route's backend\n\
         `weir undo {name}` takes the split up again",
        revision.map(|revision| format!(" (revision {revision})")).unwrap_or_default(),
        words::latency(answer.took.as_secs_f64()),
        words::clean(route),
    ));
    Ok(())
}

/// Says which revision is in force now, and what it moved.
fn report(answer: &Answer, json: bool, console: &mut Console) -> Result<(), Fault> {
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    let Some(revision) = reading::whole(&answer.json, "revision").or(answer.revision) else {
        console.print("done");
        return Ok(());
    };
    // Taking back a stop moves every unit of a variant, but no bucket.
    let is_undo = answer.json.get("undoes").is_some_and(|undoes| !undoes.is_null());
    let moved =
        reading::whole(&answer.json, "buckets_moved").filter(|moved| *moved > 0 || !is_undo);
    let moved = match moved {
        Some(moved) => format!("; {} of 10,000 buckets moved", words::count(moved)),
        None => String::new(),
    };
    console.print(&format!(
        "revision {revision} in force after {}: {}{moved}",
        words::latency(answer.took.as_secs_f64()),
        match reading::text(&answer.json, "state") {
            Some("stopped") => "stopped, all traffic to the route's backend".to_owned(),
            Some(_) | None => words::clean(&reading::shares(&answer.json)).into_owned(),
        },
    ));
    if let Some(note) = reading::text(&answer.json, "note") {
        console.note(&words::clean(note));
    }
    Ok(())
}

/// A name that is no variant is told before anything is sent.
fn unknown_variant(experiment: &Value, name: &str, weights: &[(String, f64)]) -> Result<(), Fault> {
    let known: Vec<&str> =
        reading::variants(experiment).into_iter().map(|(variant, _)| variant).collect();
    let unknown = weights.iter().find(|(variant, _)| !known.contains(&variant.as_str()));
    let Some((variant, _)) = unknown else { return Ok(()) };
    if known.is_empty() {
        return Ok(());
    }
    let near = words::nearest(variant, known.iter().copied())
        .map(|near| format!("did you mean \"{near}\"? "))
        .unwrap_or_default();
    Err(Fault::usage(
        format!("experiment \"{name}\" has no variant \"{variant}\""),
        format!("{near}its variants are {}", known.join(", ")),
    ))
}

/// Somebody else changed the experiment between our look and our change: says who, and what.
pub(crate) fn overtaken(
    client: &AdminClient,
    name: &str,
    seen: u64,
    answer: &Answer,
    console: &mut Console,
) -> Fault {
    let what = format!("\"{name}\" was changed meanwhile; nothing was changed by you");
    let again = "look at it, and if you still want your change, give the same command again";
    let Ok(now) = get(client, name, console) else {
        let fault = client.refused(answer, &format!("change the split of \"{name}\""));
        return Fault { what: format!("{what}\n{}", fault.what), ..fault };
    };
    Fault::failed(
        format!(
            "{what}\nyou saw revision {seen}; revision {} was made {}\nit says: {}",
            reading::whole(&now.json, "revision").map_or_else(|| "?".to_owned(), |r| r.to_string()),
            reading::change(&now.json, Timestamp::now()),
            reading::shares(&now.json),
        ),
        again,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment() -> Value {
        json!({
            "name": "int8", "route": "chat", "owner": "api", "state": "running", "revision": 7,
            "control": "stable", "unit": ["header:x-user-id", "key"],
            "variants": {
                "canary": { "backend": "llama-8b-int8", "weight": 10, "share": 0.1 },
                "stable": { "backend": "llama-8b", "weight": 90, "share": 0.9 },
            },
            "changed_at": "2026-11-22T19:17:20.000001Z", "changed_by": "ada", "reason": "a first look",
        })
    }

    #[test]
    fn a_split_reads_like_this() {
        let console = Console::into(Box::new(std::io::sink()), Box::new(std::io::sink()));
        let now = "2026-11-22T19:20:21Z".parse().unwrap();
        assert_eq!(
            screen(&experiment(), now, &console),
            "int8 on route chat, revision 7, running

  variant  weight  share  backend
  stable       90   90 %  llama-8b       control
  canary       10   10 %  llama-8b-int8

changed 3 min ago by ada (2026-11-22 19:17:20 UTC): a first look
unit    header:x-user-id, then key
"
        );
    }

    #[test]
    fn an_unknown_variant_is_told_with_the_one_that_was_meant() {
        let weights = [("canry".to_owned(), 10.0)];
        let fault = unknown_variant(&experiment(), "int8", &weights).unwrap_err();
        assert_eq!(fault.what, "experiment \"int8\" has no variant \"canry\"");
        assert_eq!(fault.mend, "did you mean \"canary\"? its variants are stable, canary");
        assert_eq!(fault.exit, super::super::fault::Exit::Usage);
    }
}
