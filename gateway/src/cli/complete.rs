//! Completions that know what runs.
//!
//! A shell's script calls this program with the words so far and `WEIR_COMPLETE` set. Commands and
//! options come from the command line's own definition; names of experiments, variants and routes from
//! the gateway, if it says them soon. Otherwise there are none: somebody is typing, and an error would
//! stand in the middle of it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, CommandFactory as _};
use clap_complete::env::{CompleteEnv, Shells};
use clap_complete::{CompletionCandidate, Shell};
use serde_json::Value;

use super::admin_client::{AdminClient, Call, Token, escaped};
use super::console::Console;
use super::fault::Fault;
use super::{Cli, reading, words};

/// What tells a shell's question from a command.
const VARIABLE: &str = "WEIR_COMPLETE";

/// Somebody waits with a finger on Tab.
const SOON: Duration = Duration::from_millis(300);

/// Answers a shell, if it is one that asks. Before anything else happens.
pub(crate) fn answers() -> bool {
    if std::env::var_os(VARIABLE).is_some()
        && Asked::now().is_some_and(|asked| asked.is_in_a_weight())
    {
        return true;
    }
    let folder = std::env::current_dir().ok();
    let asked = CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .bin("weir")
        .try_complete(std::env::args_os(), folder.as_deref());
    // A question that is not understood has no answer.
    asked.unwrap_or(true)
}

/// Prints the script that completes `weir` in `shell`; it calls this program where it is now.
pub(crate) fn script(shell: Shell, console: &mut Console) -> Result<(), Fault> {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    // Found on the path, it will be found there again; called by its place, that is where it is.
    let program = match (called.components().count(), std::env::current_dir()) {
        (2.., Ok(folder)) => folder.join(called),
        _ => PathBuf::from("weir"),
    };
    let shells = Shells::builtins();
    let name = shell.to_string();
    let Some(completer) = shells.completer(&name) else {
        return Err(Fault::usage(format!("there are no completions for {name}"), ""));
    };
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "weir", "weir", &program.to_string_lossy(), &mut script)
        .map_err(|error| Fault::failed(format!("cannot write the script: {error}"), ""))?;
    console.print(&String::from_utf8_lossy(&script));
    Ok(())
}

/// Names of experiments.
pub(crate) fn experiments() -> Vec<CompletionCandidate> {
    let known = Asked::now().and_then(|asked| asked.get("/experiments")).unwrap_or_default();
    let each = reading::list(&known, "items").iter().filter_map(|of| {
        let help = format!(
            "{}, on route {}: {}",
            reading::text(of, "state").unwrap_or("?"),
            reading::text(of, "route").unwrap_or("?"),
            reading::shares(of),
        );
        candidate(reading::text(of, "name")?, &help)
    });
    each.collect()
}

/// Names of the variants of the experiment that was named before, but for control, which is ramped by
/// ramping the others.
pub(crate) fn judged_variants() -> Vec<CompletionCandidate> {
    let Some((_, experiment)) = Asked::now().and_then(|asked| asked.experiment()) else {
        return Vec::new();
    };
    let variants = reading::variants(&experiment).into_iter().skip(1);
    variants.filter_map(|(name, of)| candidate(name, &of_variant(of))).collect()
}

/// The beginning of a weight, `canary=`, for each variant that has none yet.
pub(crate) fn weights() -> Vec<CompletionCandidate> {
    let Some((asked, experiment)) = Asked::now().and_then(|asked| asked.experiment()) else {
        return Vec::new();
    };
    let variants = reading::variants(&experiment);
    let given: Vec<&str> =
        asked.words.iter().map(|word| word.split('=').next().unwrap_or(word)).collect();
    let open = variants.into_iter().filter(|(name, _)| {
        // The last word is the one that is written.
        !given[..given.len().saturating_sub(1)].contains(name)
    });
    open.filter_map(|(name, of)| candidate(&format!("{name}="), &of_variant(of))).collect()
}

fn of_variant(of: &Value) -> String {
    let share = reading::number(of, "share").map_or_else(|| "?".to_owned(), words::share);
    format!("{share}, backend {}", reading::text(of, "backend").unwrap_or("?"))
}

/// Revisions that one can go back to.
pub(crate) fn revisions() -> Vec<CompletionCandidate> {
    let history = Asked::now().and_then(|asked| {
        let name: String = found(&asked.matches, "experiment")?;
        asked.get(&format!("/experiments/{}/history?limit=30", escaped(&name)))
    });
    let history = history.unwrap_or_default();
    let each = reading::list(&history, "revisions").iter().filter_map(|of| {
        let revision = reading::whole(of, "revision")?.to_string();
        let by = reading::text(of, "by").unwrap_or("?");
        candidate(&revision, &format!("{} by {by}", reading::weights(of)))
    });
    each.collect()
}

/// Names of roles.
pub(crate) fn roles() -> Vec<CompletionCandidate> {
    policies::Role::ALL.iter().filter_map(|role| candidate(role.as_str(), "")).collect()
}

/// Names of routes.
pub(crate) fn routes() -> Vec<CompletionCandidate> {
    let known = Asked::now().and_then(|asked| asked.get("/routes")).unwrap_or_default();
    let each = reading::list(&known, "items").iter().filter_map(|of| {
        candidate(reading::text(of, "name")?, reading::text(of, "pattern").unwrap_or_default())
    });
    each.collect()
}

/// Ids of keys that still work.
pub(crate) fn keys() -> Vec<CompletionCandidate> {
    let known = Asked::now().and_then(|asked| asked.get("/keys")).unwrap_or_default();
    let is_revoked = |of: &&Value| {
        of.get("revoked").and_then(Value::as_bool) == Some(true)
            || of.get("revoked_at").is_some_and(|at| !at.is_null())
    };
    let each = reading::list(&known, "items").iter().filter(|of| !is_revoked(of));
    each.filter_map(|of| {
        let text = |key| reading::text(of, key).unwrap_or("?");
        candidate(text("id"), &format!("{}, {}", text("name"), text("role")))
    })
    .collect()
}

/// Names of webhooks.
pub(crate) fn webhooks() -> Vec<CompletionCandidate> {
    named("/webhooks")
}

/// Names of shadows.
pub(crate) fn shadows() -> Vec<CompletionCandidate> {
    named("/shadows")
}

fn named(path: &str) -> Vec<CompletionCandidate> {
    let known = Asked::now().and_then(|asked| asked.get(path)).unwrap_or_default();
    let names = reading::list(&known, "items").iter().filter_map(|of| reading::text(of, "name"));
    names.filter_map(|name| candidate(name, "")).collect()
}

/// A candidate with what is said of it; nothing of a name that would be more than one word.
fn candidate(value: &str, help: &str) -> Option<CompletionCandidate> {
    if value.is_empty() || value.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let help = words::clean(help).into_owned();
    Some(CompletionCandidate::new(value).help((!help.is_empty()).then(|| help.into())))
}

/// What is asked: the words so far, as far as they are understood.
struct Asked {
    words: Vec<String>,
    matches: ArgMatches,
}

impl Asked {
    /// By the shell that called this process.
    fn now() -> Option<Self> {
        let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
        let words: Vec<OsString> = words.collect();
        let matches = understood(&words)?;
        let words = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        Some(Self { words, matches })
    }

    /// Whether a weight has begun and wants a number, of which nobody knows which. bash takes `=` for a
    /// blank, so that `canary=` comes as `canary` and nothing, and `canary=5` as three words.
    fn is_in_a_weight(&self) -> bool {
        let mut back = self.words.iter().rev().skip(1);
        let (Some(before), second) = (back.next(), back.next()) else { return false };
        let weights = found_all(&self.matches, "weights");
        weights.contains(before) && !before.contains('=') && second.is_none_or(|word| word != "=")
            || before == "="
    }

    /// What the gateway says at `path`, if it says so soon.
    fn get(&self, path: &str) -> Option<Value> {
        let admin: String = found(&self.matches, "admin")?;
        let token: Option<Token> = found(&self.matches, "token");
        let ca: Option<PathBuf> = found(&self.matches, "ca");
        let client = AdminClient::new(&admin, token, ca.as_deref()).ok()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let answer = runtime.block_on(async {
            tokio::time::timeout(SOON, client.send(Call::get(path))).await.ok()?.ok()
        })?;
        answer.status.is_success().then_some(answer.json)
    }

    /// The experiment that is named, with its variants.
    fn experiment(self) -> Option<(Self, Value)> {
        let name: String = found(&self.matches, "experiment")?;
        let experiment = self.get(&format!("/experiments/{}", escaped(&name)))?;
        Some((self, experiment))
    }
}

/// The words before the one that is written. That one may be no value yet, as nothing is no revision, and then
/// clap reads no further: neither the environment nor defaults.
fn understood(words: &[impl AsRef<OsStr>]) -> Option<ArgMatches> {
    let mut before = words.split_last()?.1;
    if let Some((last, others)) = before.split_last()
        && last.as_ref().as_encoded_bytes().starts_with(b"-")
    {
        // An option whose value is written.
        before = others;
    }
    let before = before.iter().map(AsRef::as_ref);
    Cli::command().ignore_errors(true).try_get_matches_from(before).ok()
}

/// The value of an argument, wherever among the subcommands it stands.
fn found<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Option<T> {
    let here = matches.try_get_one::<T>(name).ok().flatten().cloned();
    here.or_else(|| found(matches.subcommand()?.1, name))
}

/// All values of an argument.
fn found_all(matches: &ArgMatches, name: &str) -> Vec<String> {
    match matches.try_get_many::<String>(name).ok().flatten() {
        Some(values) => values.cloned().collect(),
        None => matches.subcommand().map_or_else(Vec::new, |(_, below)| found_all(below, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_that_has_begun_wants_a_number() {
        let is_in_a_weight = |words: &[&str]| {
            let matches = understood(words).unwrap();
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            Asked { words, matches }.is_in_a_weight()
        };
        assert!(is_in_a_weight(&["weir", "split", "int8", "canary", ""]));
        assert!(is_in_a_weight(&["weir", "split", "int8", "canary", "=", "5"]));
        for words in [
            &["weir", "split", "int8", ""][..],
            &["weir", "split", "int8", "canary=5", ""],
            &["weir", "split", "int8", "canary", "=", "5", ""],
            &["weir", "split", "int8", "can"],
            &["weir", "split", ""],
            &["weir", ""],
        ] {
            assert!(!is_in_a_weight(words), "{words:?}");
        }
    }

    #[test]
    fn the_experiment_is_found_however_far_the_words_are() {
        for words in [
            &["weir", "split", "int8", "stable=90", ""][..],
            &["weir", "split", "--reason", "split it", "int8", "can"],
            &["weir", "ramp", "start", "int8", "--variant", ""],
            &["weir", "undo", "int8", "--to", ""],
        ] {
            let matches = understood(words).unwrap();
            assert_eq!(
                found::<String>(&matches, "experiment").as_deref(),
                Some("int8"),
                "{words:?}"
            );
            assert!(found::<String>(&matches, "admin").is_some(), "{words:?}");
        }
        let matches = understood(&["weir", "split", "--admin", "http://127.0.0.1:1", ""]).unwrap();
        assert_eq!(found::<String>(&matches, "admin").as_deref(), Some("http://127.0.0.1:1"));
    }

    #[test]
    fn what_is_more_than_one_word_is_no_candidate() {
        assert!(candidate("int8", "help").is_some());
        assert!(candidate("a b", "").is_none() && candidate("a\nb", "").is_none());
    }
}
