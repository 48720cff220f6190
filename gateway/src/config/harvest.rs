//! From text to what is written: everything that can be read is read, and everything that cannot
//! is reported, at once.
//!
//! A deserialiser stops at the first mistake. So the text becomes a table first, with places; what
//! the deserialiser complains about is reported, taken out of the table and remembered, and the
//! deserialiser starts again, until it is content. What was taken out is never reported as missing.

mod dom;
mod syntax;

use std::collections::HashSet;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::problem::{Problem, Source};
use super::value::closest;
use super::written::File;
use dom::Step;
pub(crate) use syntax::Damage;

/// After so many mistakes of one kind the rest waits for the next run: each costs a pass.
const ENOUGH: usize = 100;

/// What came of a text.
#[derive(Debug)]
pub(crate) struct Harvest {
    /// What is written, without what could not be read.
    pub(crate) file: File,
    /// What could not be read.
    pub(crate) problems: Vec<Problem>,
    /// What was taken out, and where the text itself is damaged.
    pub(crate) lost: Lost,
    /// Where the strings begin into which variables were put: their text is not repeated in a
    /// message, because a variable may hold a secret.
    pub(crate) expanded: HashSet<usize>,
}

/// What a check cannot expect to find, because it was taken out or never understood.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    paths: Vec<Vec<String>>,
    damage: Damage,
}

impl Lost {
    /// Whether `path`, a part of it or something around it was taken out.
    pub(crate) fn covers(&self, path: &[&str]) -> bool {
        self.paths.iter().any(|lost| lost.iter().zip(path).all(|(a, b)| a == b))
    }

    /// Where the text is no TOML.
    pub(crate) fn damage(&self) -> &Damage {
        &self.damage
    }

    fn remember(&mut self, path: &[Step]) {
        let names = path.iter().map_while(|step| match step {
            Step::Member(name) => Some(name.clone()),
            Step::Element(_) => None,
        });
        self.paths.push(names.collect());
    }
}

/// Members that the interface names but that this version does not do.
const NOT_YET: [(&[&str], &str); 4] = [
    (&["auth", "jwt"], "callers are known by API keys alone; remove it"),
    (&["auth", "mtls"], "callers are known by API keys alone; remove it"),
    (&["server", "tls", "client_ca"], "client certificates are not asked for; remove it"),
    (&["server", "tls", "client_auth"], "client certificates are not asked for; remove it"),
];

/// Reads `source`; `env` answers for `${NAME}` in strings.
pub(crate) fn harvest(source: &Source<'_>, env: &dyn Fn(&str) -> Option<String>) -> Harvest {
    let mut problems = Vec::new();
    let (text, damage) = syntax::readable(source, &mut problems);
    let mut table = DeTable::parse_recoverable(&text).0.into_inner();
    let mut lost = Lost { paths: Vec::new(), damage };
    for path in dom::take_damaged(&mut table, &lost.damage) {
        lost.remember(&path);
    }
    refuse_what_is_not_done_yet(source, &mut table, &mut problems);
    let expanded = expand(source, env, &mut table, &mut problems, &mut lost);
    let file = read(source, table, &expanded, &mut problems, &mut lost);
    Harvest { file, problems, lost, expanded }
}

fn refuse_what_is_not_done_yet(
    source: &Source<'_>,
    table: &mut DeTable<'_>,
    problems: &mut Vec<Problem>,
) {
    for (path, mend) in NOT_YET {
        if let Some(at) = dom::take_member(table, path) {
            let what = format!("{}: not supported in this version", path.join("."));
            problems.push(source.problem(at, what, mend.to_owned()));
        }
    }
}

/// Puts variables into strings; answers where. A string that cannot be completed is taken out.
fn expand(
    source: &Source<'_>,
    env: &dyn Fn(&str) -> Option<String>,
    table: &mut DeTable<'_>,
    problems: &mut Vec<Problem>,
    lost: &mut Lost,
) -> HashSet<usize> {
    let mut expanded = HashSet::new();
    let mut failed = Vec::new();
    dom::visit(table, &mut |path, value| {
        let at = value.span().start;
        let DeValue::String(text) = value.get_mut() else { return };
        if !text.contains("${") {
            return;
        }
        match with_variables(text, env) {
            Ok(whole) => {
                *text = whole.into();
                expanded.insert(at);
            }
            Err((what, mend)) => {
                let what = format!("{}: {what}", dom::show(path));
                problems.push(source.problem(at, what, mend));
                failed.push(path.to_vec());
            }
        }
    });
    // From the end, so that earlier elements of a list keep their places.
    for path in failed.iter().rev() {
        dom::take(table, path);
        lost.remember(path);
    }
    expanded
}

/// `text` with `${NAME}` replaced and `$${` made `${`; or what is wrong and how to mend it.
fn with_variables(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<String, (String, String)> {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = rest.split_at(at);
        let after = &after[2..];
        if let Some(literal) = before.strip_suffix('$') {
            whole.push_str(literal);
            whole.push_str("${");
            rest = after;
            continue;
        }
        whole.push_str(before);
        let Some((name, behind)) = after.split_once('}') else {
            return Err((
                "\"${\" is not closed".to_owned(),
                "write ${NAME}; a \"${\" that is meant as it stands is written \"$${\"".to_owned(),
            ));
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(fits) {
            return Err((
                format!("{name:?} is not the name of a variable"),
                "names have letters, digits and \"_\"; defaults are not supported".to_owned(),
            ));
        }
        let Some(value) = env(name) else {
            return Err((
                format!("the environment variable {name} is not set"),
                format!("set {name}, or write the value here"),
            ));
        };
        whole.push_str(&value);
        rest = behind;
    }
    whole.push_str(rest);
    Ok(whole)
}

/// Deserialises `table`, taking out what cannot be read until the rest can.
fn read(
    source: &Source<'_>,
    mut table: DeTable<'_>,
    expanded: &HashSet<usize>,
    problems: &mut Vec<Problem>,
    lost: &mut Lost,
) -> File {
    let mut found: Vec<Problem> = Vec::new();
    for _ in 0..ENOUGH {
        let document = Spanned::new(0..0, table.clone());
        let error = match File::deserialize(Deserializer::from(document)) {
            Ok(file) => {
                problems.append(&mut found);
                return file;
            }
            Err(error) => error,
        };
        let place = error.span().and_then(|span| dom::innermost(&table, &span));
        let Some(mut path) = place else {
            found.push(source.whole(error.message().to_owned(), String::new()));
            break;
        };
        // A list of sections and its first section share a place.
        if error.message().starts_with("invalid type: sequence")
            && let [.., Step::Element(_)] = path.as_slice()
            && dom::look(&table, &path).1.is_some_and(|value| !value.get_ref().is_array())
        {
            path.pop();
        }
        let (key_at, value) = dom::look(&table, &path);
        let at = error.span().map_or(0, |span| span.start);
        let found_here = value.map(|value| shown(source, value, expanded));
        let (what, mend) =
            explain(error.message(), &path, found_here.as_deref(), expanded.contains(&at));
        let at = if error.message().starts_with("unknown field") { key_at } else { at };
        if !lost.damage.touches(at) {
            found.push(source.problem(at, what, mend));
        }
        dom::take(&mut table, &path);
        lost.remember(&path);
    }
    problems.append(&mut found);
    let more = "there may be more: too many to look for in one run".to_owned();
    problems.push(source.whole(more, "mend these first".to_owned()));
    lost.paths.push(Vec::new());
    File::default()
}

/// What was found, for a message: kind and value, the value only if it is short and nobody's
/// secret.
fn shown(source: &Source<'_>, value: &Spanned<DeValue<'_>>, expanded: &HashSet<usize>) -> String {
    let span = value.span();
    let (kind, scalar) = match value.get_ref() {
        DeValue::String(_) => ("a string", false),
        DeValue::Integer(_) => ("a whole number", true),
        DeValue::Float(_) => ("a number", true),
        DeValue::Boolean(_) => ("a boolean", true),
        DeValue::Datetime(_) => ("a date", true),
        DeValue::Array(_) => ("a list", false),
        DeValue::Table(_) => ("a table", false),
    };
    match source.text.get(span.clone()) {
        Some(text) if scalar && text.len() <= 40 && !expanded.contains(&span.start) => {
            format!("{kind} ({text})")
        }
        Some(_) | None => kind.to_owned(),
    }
}

/// The deserialiser's `message` about the member at `path`, in our words: what, and how to mend it.
///
/// * `found`: kind of what stands there.
/// * `veiled`: whether its text is not to be repeated.
fn explain(message: &str, path: &[Step], found: Option<&str>, veiled: bool) -> (String, String) {
    if message.starts_with("unknown field") {
        let known = quoted(message);
        let (name, around) = match path.split_last() {
            Some((Step::Member(name), around)) => (name.as_str(), around),
            Some((Step::Element(_), around)) => ("", around),
            None => ("", path),
        };
        let place = if around.is_empty() { String::new() } else { dom::show(around) + ": " };
        return (format!("{place}unknown member {name:?}"), choose("known here", name, &known));
    }
    let place = dom::show(path);
    if message.starts_with("unknown variant") {
        let word = message.split('`').nth(1).unwrap_or_default();
        let known = quoted(message.strip_prefix("unknown variant").unwrap_or(message));
        let what = if veiled {
            format!("{place}: its value is not known here")
        } else {
            format!("{place}: {word:?} is not known here")
        };
        return (what, choose("known here", word, &known));
    }
    let Some((_, expected)) = message.rsplit_once("expected ") else {
        return (format!("{place}: {message}"), String::new());
    };
    let (expected, mend) = match expected {
        "a string" => ("a string", "write it in quotes"),
        "a boolean" => ("true or false", "write true or false, without quotes"),
        "f64" => ("a number", "write a number such as 2.5"),
        "u64" => ("a whole number from 0 up", "write a number such as 100"),
        "a sequence" => ("a list", "write it in brackets: [ … ]"),
        "a map" | "a table" => ("a table", "write it in braces, { … }, or as a [section]"),
        other if other.starts_with("a duration") => {
            (other, "the units are d h m s ms us ns: \"500ms\", \"1h30m\"")
        }
        other if other.starts_with("a size") => (other, "the units are B kB MB GB KiB MiB GiB"),
        other => (other, "write it in quotes"),
    };
    let found = found.unwrap_or("something else");
    (format!("{place}: found {found}, expected {expected}"), mend.to_owned())
}

/// The names that stand in backticks behind "expected" in a deserialiser's `message`.
fn quoted(message: &str) -> Vec<&str> {
    let known = message.rsplit_once(", expected ").map_or("", |(_, known)| known);
    known.split('`').skip(1).step_by(2).collect()
}

/// "did you mean …?" if `word` is close to a known one, and what is `known`.
fn choose(label: &str, word: &str, known: &[&str]) -> String {
    let list = known.join(", ");
    match closest(word, known.iter().copied()) {
        Some(guess) => format!("did you mean {guess:?}?\n{label}: {list}"),
        None if known.is_empty() => "nothing can be said here; remove it".to_owned(),
        None => format!("{label}: {list}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("10.0.0.7".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_put_in_once_and_can_be_escaped() {
        for (text, whole) in [
            ("http://${HOST}:80", "http://10.0.0.7:80"),
            ("${HOST}${HOST}", "10.0.0.710.0.0.7"),
            ("a${EMPTY}b", "ab"),
            ("${NESTED}", "${HOST}"),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$${HOST}"),
            ("$HOST $ {x}", "$HOST $ {x}"),
            ("costs 5$", "costs 5$"),
        ] {
            assert_eq!(with_variables(text, &env).as_deref(), Ok(whole), "{text}");
        }
        for (text, reason) in [
            ("${MISSING}", "the environment variable MISSING is not set"),
            ("${HOST", "\"${\" is not closed"),
            ("${}", "\"\" is not the name of a variable"),
            ("${HOST:-x}", "\"HOST:-x\" is not the name of a variable"),
        ] {
            let problem = with_variables(text, &env).map_err(|(what, _)| what);
            assert_eq!(problem, Err(reason.to_owned()), "{text}");
        }
    }

    #[test]
    fn entries_keep_the_order_in_which_they_are_written() {
        let text = "[backends.z]\n[backends.a]\n[routes.b]\n[backends.m]\n\
                    [experiments.x.variants]\nz={}\na={}\n[experiments.x.variants.b]\n";
        let path = std::path::Path::new("weir.toml");
        let harvest = harvest(&Source::new(path, text), &env);
        assert_eq!(harvest.problems, []);
        let names = |entries: &[(super::super::written::At<String>, _)]| -> Vec<String> {
            entries.iter().map(|(name, _)| name.value.clone()).collect()
        };
        assert_eq!(names(&harvest.file.backends.0), ["z", "a", "m"]);
        let variants = &harvest.file.experiments.0[0].1.variants.0;
        let order: Vec<&str> = variants.iter().map(|(name, _)| name.value.as_str()).collect();
        assert_eq!(order, ["z", "a", "b"]);
    }
}
