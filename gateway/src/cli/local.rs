//! The commands that need no running gateway: `serve`, which becomes one, `check` and `schema`.

use std::path::Path;

use serde_json::{Value, json};

use super::console::{Console, Tone};
use super::fault::{Exit, Fault};
use crate::config::{self, Problem, Problems};
use crate::{Gateway, Signals, StartError, StartOptions};

/// Runs the gateway until it is told to stop.
pub(crate) fn serve(config: &Path, console: &mut Console) -> Result<(), Fault> {
    // Before anything slow (F24).
    let signals = Signals::listen()
        .map_err(|error| Fault::failed(format!("cannot start: no signals: {error}"), ""))?;
    let admin_key = std::env::var("WEIR_ADMIN_KEY").ok().filter(|key| !key.is_empty());
    let options = StartOptions { admin_key, ..StartOptions::default() };
    let gateway = match Gateway::start_with(config, options, signals) {
        // Nothing had begun that would have to be drained.
        Err(StartError::Ended) => return Ok(()),
        started => started.map_err(not_started)?,
    };
    if let Some(key) = gateway.first_admin_key() {
        console.note(&format!(
            "the store was empty; this is its first admin key, shown only now:\n\n  {key}\n\n\
             export it as WEIR_TOKEN, and `weir status` works"
        ));
    }
    match gateway.run_until_signal() {
        0 => Ok(()),
        _ => Err(Fault::failed("the gateway did not stop in order", "its log says why")),
    }
}

/// The fault of a gateway that did not start.
pub(crate) fn not_started(error: StartError) -> Fault {
    if let StartError::Config(problems) = &error {
        return told(problems, "nothing was started");
    }
    let mut what = format!("cannot start: {error}");
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        // Some errors print their cause themselves.
        let text = cause.to_string();
        if !what.ends_with(&text) {
            what.push_str(&format!(": {text}"));
        }
        source = cause.source();
    }
    Fault::failed(what, "")
}

/// All problems, as one fault.
fn told(problems: &Problems, then: &str) -> Fault {
    Fault { exit: Exit::Config, what: format!("{problems}; {then}"), mend: String::new() }
}

/// The verdict that start and reload would give.
pub(crate) fn check(path: &Path, as_json: bool, console: &mut Console) -> Result<(), Fault> {
    let loaded = config::load(path, &|name| std::env::var(name).ok());
    if as_json {
        let (problems, notices) = match &loaded {
            Ok(loaded) => (&[][..], loaded.notices.as_slice()),
            Err(problems) => (problems.list.as_slice(), &[][..]),
        };
        let list = |each: &[Problem]| each.iter().map(document).collect::<Vec<Value>>();
        let verdict = json!({ "problems": list(problems), "notices": list(notices) });
        console.json(format!("{verdict:#}").as_bytes());
        let count = problems.len();
        return match count {
            0 => Ok(()),
            _ => Err(Fault {
                exit: Exit::Config,
                what: format!(
                    "{} has {count} problem{}",
                    path.display(),
                    if count == 1 { "" } else { "s" }
                ),
                mend: String::new(),
            }),
        };
    }
    let loaded = loaded.map_err(|problems| told(&problems, "no gateway would start with this"))?;
    for notice in &loaded.notices {
        let text = super::words::clean(&notice.to_string()).replace("\\n", "\n");
        console.note(&format!("{} {text}", console.err_paint().paint(Tone::Warn, "note:")));
    }
    let plan = &loaded.plan;
    console.print(&format!(
        "{} is in order: {}, {}, {}, {}",
        path.display(),
        counted(plan.routes.len(), "route"),
        counted(plan.backends.len(), "backend"),
        counted(plan.experiments.len(), "experiment"),
        counted(plan.shadows.len(), "shadow"),
    ));
    Ok(())
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn document(problem: &Problem) -> Value {
    json!({
        "path": problem.path.display().to_string(),
        "line": problem.line,
        "column": problem.column,
        "what": problem.what,
        "mend": problem.mend,
    })
}

/// Prints the schema of the configuration file.
pub(crate) fn schema(console: &mut Console) -> Result<(), Fault> {
    console.print(&format!("{:#}", config::schema()));
    Ok(())
}
