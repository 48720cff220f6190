//! Text that is no TOML: what to say about it, and how to read on behind it.
//!
//! A parser that meets an unclosed bracket complains about every line that follows. So the first
//! complaint is told, the statement it is about is blanked out, and the parser starts again.

use std::ops::Range;

use toml::de::{DeTable, Error};

use super::ENOUGH;
use crate::config::problem::{Problem, Source};

/// Parts of the text whose meaning is lost.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    regions: Vec<Range<usize>>,
}

impl Damage {
    /// Whether the whole text is sound.
    pub(crate) fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// Whether the byte at `at` is in a damaged part.
    pub(crate) fn touches(&self, at: usize) -> bool {
        self.regions.iter().any(|region| region.contains(&at))
    }

    /// Whether `name` stands in a damaged part of `text`, and so may be defined there.
    pub(crate) fn may_define(&self, text: &str, name: &str) -> bool {
        let inside = |region: &Range<usize>| text.get(region.start..region.end.min(text.len()));
        self.regions.iter().filter_map(inside).any(|region| region.contains(name))
    }
}

/// The text of `source` with what is no TOML blanked out, byte for byte; what is wrong goes to
/// `problems`.
pub(super) fn readable(source: &Source<'_>, problems: &mut Vec<Problem>) -> (String, Damage) {
    let mut text = source.text.to_owned();
    let mut damage = Damage::default();
    for _ in 0..ENOUGH {
        let errors = DeTable::parse_recoverable(&text).1;
        let (twice, other): (Vec<Error>, Vec<Error>) = errors.into_iter().partition(is_about_names);
        let Some(first) = other.iter().min_by_key(|error| start(error)) else {
            for error in &twice {
                // The parser keeps the first of two; nothing needs to be blanked.
                if !damage.touches(start(error)) && problems.len() < ENOUGH {
                    problems.push(name_problem(source, error));
                    damage.regions.push(lost_with(source, start(error)));
                }
            }
            return (text, damage);
        };
        let (region, problem) = locate(source, &text, first);
        problems.push(problem);
        text = blanked(&text, &region);
        damage.regions.push(region);
    }
    let more = "there may be more: too much of the file is not TOML".to_owned();
    problems.push(source.whole(more, "mend these first".to_owned()));
    damage.regions.push(0..source.text.len() + 1);
    (String::new(), damage)
}

/// Whether the text is well formed and only says a thing twice, or in two ways.
fn is_about_names(error: &Error) -> bool {
    error.message() == "duplicate key" || error.message().starts_with("cannot extend value")
}

fn start(error: &Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

/// The quotes of a text of several lines, if that is what is not closed.
fn quotes_of(message: &str) -> Option<&'static str> {
    let quotes = if message.contains("literal") { "'''" } else { "\"\"\"" };
    message.contains("multi-line").then_some(quotes)
}

fn name_problem(source: &Source<'_>, error: &Error) -> Problem {
    let name = error.span().and_then(|span| source.text.get(span)).unwrap_or_default();
    let (what, mend) = if error.message() == "duplicate key" {
        (format!("{name} is written twice"), "keep one of them")
    } else {
        (format!("{name} is written above already, as something else"), "keep one of them")
    };
    source.problem(start(error), what, mend.to_owned())
}

/// Which part of the text `error` costs, and what to say.
fn locate(source: &Source<'_>, text: &str, error: &Error) -> (Range<usize>, Problem) {
    let at = start(error).min(text.len());
    let line = source.line_range(at);
    let shown = text.get(line.clone()).unwrap_or_default();
    let message = error.message();

    if let Some(quotes) = quotes_of(message)
        && let Some(open) = text.rfind(quotes)
    {
        // Whatever follows may be text or not.
        let region = source.line_range(open).start..source.text.len() + 1;
        let mend = "close the text with the quotes that opened it".to_owned();
        return (
            region,
            source.problem(open, "not TOML: this text is not closed".to_owned(), mend),
        );
    }

    // A list or table that begins above and is not closed before this line makes nonsense of it.
    let ends_early = message.starts_with("unclosed");
    let until = if starts_statement(shown) && !ends_early { line.start } else { line.end };
    if (starts_statement(shown) || ends_early)
        && let Some((above, open)) = opener_above(source, text, until)
    {
        if starts_section(text.get(above.clone()).unwrap_or_default()) {
            let mend = "a section is written [section], or [[section]] in a list of sections";
            let what = "not TOML: this section is not closed".to_owned();
            return (lost_with(source, above.start), source.problem(open, what, mend.to_owned()));
        }
        let (open_with, close_with) = match text.as_bytes().get(open) {
            Some(b'[') => ("[", "]"),
            Some(_) | None => ("{", "}"),
        };
        let what = format!("not TOML: this {open_with:?} is not closed");
        let mend = format!("write {close_with:?} behind its last element");
        return (above.start..until, source.problem(open, what, mend));
    }

    let mut region = lost_with(source, at);
    if text.get(region.clone()).is_none_or(|part| part.trim().is_empty()) {
        // Nothing can be said about where it ends.
        region = region.start..source.text.len() + 1;
    }
    let mend = if starts_section(shown) {
        "a section is written [section], or [[section]] in a list of sections"
    } else if message.contains("string values must be quoted") {
        "write it in quotes"
    } else if message.contains("basic string") {
        "close the string with the quote that opened it; a \\ in it is written \\\\"
    } else {
        "a member is written name = value, with strings in quotes; see https://toml.io"
    };
    (region, source.problem(at, format!("not TOML: {message}"), mend.to_owned()))
}

/// What is lost with the line at `at`: the line, and if it is that of a section its members, which
/// then belong nowhere.
fn lost_with(source: &Source<'_>, at: usize) -> Range<usize> {
    let line = source.line_range(at);
    let mut end = line.end;
    if starts_section(source.text.get(line.clone()).unwrap_or_default()) {
        for line in source.text.get(end..).unwrap_or_default().split_inclusive('\n') {
            if starts_section(line) {
                break;
            }
            end += line.len();
        }
    }
    line.start..end
}

/// The statement above `until` that opens a bracket there and does not close it in its section: its
/// first line, and where the bracket is.
fn opener_above(source: &Source<'_>, text: &str, until: usize) -> Option<(Range<usize>, usize)> {
    let rest = text.get(until..)?.split_inclusive('\n');
    let section_end =
        until + rest.take_while(|line| !starts_section(line)).map(str::len).sum::<usize>();
    let mut end = until;
    // A list of a thousand lines is one nobody writes by hand.
    for _ in 0..1000 {
        let line = source.line_range(end.checked_sub(1)?);
        let shown = text.get(line.clone())?;
        if starts_statement(shown) {
            let is_section = starts_section(shown);
            // What follows a section belongs to other statements.
            let reach = if is_section { line.end } else { section_end };
            let open = unclosed(text, line.start..reach);
            if let Some(open) = open.into_iter().rfind(|open| *open < until) {
                return Some((line, open));
            }
            if is_section {
                return None;
            }
        }
        end = line.start;
    }
    None
}

fn starts_section(line: &str) -> bool {
    let line = line.trim_start();
    let name = line.trim_start_matches('[');
    name.len() < line.len()
        && name.starts_with(|c: char| c.is_alphanumeric() || "_\"'$".contains(c))
}

fn starts_statement(line: &str) -> bool {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "_-.\"' \t".contains(c);
    let name = line.split_once('=').map_or("", |(name, _)| name).trim();
    starts_section(line) || (!name.is_empty() && name.chars().all(is_of_name))
}

/// The brackets in `range` that are opened there and not closed.
fn unclosed(text: &str, range: Range<usize>) -> Vec<usize> {
    let mut open = Vec::new();
    let mut quote = None;
    let mut escaped = false;
    let mut comment = false;
    let bytes = text.as_bytes().get(range.clone()).unwrap_or_default();
    for (at, byte) in bytes.iter().enumerate() {
        match (byte, quote) {
            (b'\n', _) => (quote, escaped, comment) = (None, false, false),
            _ if comment => {}
            (_, Some(_)) if escaped => escaped = false,
            (b'\\', Some(b'"')) => escaped = true,
            (byte, Some(opened)) if *byte == opened => quote = None,
            (_, Some(_)) => {}
            (b'"' | b'\'', None) => quote = Some(*byte),
            (b'#', None) => comment = true,
            (b'[' | b'{', None) => open.push(range.start + at),
            (b']' | b'}', None) => {
                open.pop();
            }
            (_, None) => {}
        }
    }
    open
}

/// `text` with spaces in place of `region`, ends of lines kept.
fn blanked(text: &str, region: &Range<usize>) -> String {
    let end = region.end.min(text.len());
    let (Some(before), Some(inside), Some(after)) =
        (text.get(..region.start), text.get(region.start..end), text.get(end..))
    else {
        return String::new();
    };
    let inside: String =
        inside.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    format!("{before}{inside}{after}")
}
