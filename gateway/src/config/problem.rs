//! What is wrong with a configuration, where, and how to mend it: written for the person who has
//! to mend it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One thing that is wrong (or, as a notice, one that deserves a look).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The configuration file, as it was named to us.
    pub path: PathBuf,
    /// Line, from 1; 0 if the problem is the file as a whole.
    pub line: usize,
    /// Column in characters, from 1; 0 if the problem is the file as a whole.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// How to mend it; may be empty, may have several lines.
    pub mend: String,
}

impl fmt::Display for Problem {
    /// `file:line:column  what`, and below it, indented to the same column, how to mend it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.line {
            0 => self.path.display().to_string(),
            line => format!("{}:{line}:{}", self.path.display(), self.column),
        };
        write!(f, "{place}  {}", self.what)?;
        let indent = place.chars().count() + 2;
        for line in self.mend.lines() {
            write!(f, "\n{:indent$}{line}", "")?;
        }
        Ok(())
    }
}

/// Every problem of a configuration, by position; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The problems, sorted by position.
    pub list: Vec<Problem>,
}

impl Problems {
    /// Sorts `list` by position and drops exact repetitions.
    pub(crate) fn new(mut list: Vec<Problem>) -> Self {
        list.sort_by(|a, b| (a.line, a.column, &a.what).cmp(&(b.line, b.column, &b.what)));
        list.dedup();
        Self { list }
    }
}

impl fmt::Display for Problems {
    /// All problems and their count. The count line has no end of line, so that the caller may say
    /// what follows: `3 problems; nothing was changed, generation 17 keeps running`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            writeln!(f, "{problem}")?;
        }
        match self.list.len() {
            1 => f.write_str("1 problem"),
            count => write!(f, "{count} problems"),
        }
    }
}

impl std::error::Error for Problems {}

/// The text of the file, and where its lines begin.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    /// The file, as it was named to us.
    pub(crate) path: &'a Path,
    /// Its text.
    pub(crate) text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Source<'a> {
    /// Finds the lines of `text`.
    pub(crate) fn new(path: &'a Path, text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(ends.map(|(end, _)| end + 1)).collect();
        Self { path, text, starts }
    }

    /// Line and column, from 1, of a byte offset; the column counts characters.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line_of(offset);
        let start = self.starts.get(line).copied().unwrap_or(0);
        let before = self.text.as_bytes().get(start..offset.min(self.text.len())).unwrap_or(&[]);
        // Counting the bytes that begin a character needs no valid boundary at `offset`.
        (line + 1, before.iter().filter(|byte| (**byte & 0xC0) != 0x80).count() + 1)
    }

    /// Bytes of the line that holds `offset`, its end of line included.
    pub(crate) fn line_range(&self, offset: usize) -> Range<usize> {
        let line = self.line_of(offset);
        let start = self.starts.get(line).copied().unwrap_or(0);
        start..self.starts.get(line + 1).copied().unwrap_or(self.text.len())
    }

    /// The problem `what` at the byte offset `at`.
    pub(crate) fn problem(&self, at: usize, what: String, mend: String) -> Problem {
        let (line, column) = self.position(at);
        Problem { path: self.path.to_owned(), line, column, what, mend }
    }

    /// The problem `what` of the file as a whole.
    pub(crate) fn whole(&self, what: String, mend: String) -> Problem {
        Problem { path: self.path.to_owned(), line: 0, column: 0, what, mend }
    }

    /// Index of the line that holds `offset`, from 0.
    fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_survive_any_offset() {
        let source = Source::new(Path::new("weir.toml"), "a\nüüx = 1\r\n");
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(2), (2, 1));
        assert_eq!(source.position(6), (2, 3), "two characters of two bytes each");
        assert_eq!(source.position(999), (3, 1));
        assert_eq!(source.line_range(4), 2..13);
    }

    #[test]
    fn a_problem_reads_as_promised() {
        let text = "\n\n  weight = -5\n";
        let source = Source::new(Path::new("weir.toml"), text);
        let negative = source.problem(
            14,
            "experiment \"int8\": weight of \"canary\" is negative (-5)".to_owned(),
            "weights are relative, any number from 0 up; 0 means drain".to_owned(),
        );
        let whole = source.whole("[server] is missing".to_owned(), String::new());
        assert_eq!(
            Problems::new(vec![negative.clone(), whole, negative]).to_string(),
            "weir.toml  [server] is missing\n\
             weir.toml:3:13  experiment \"int8\": weight of \"canary\" is negative (-5)\n\
             \x20               weights are relative, any number from 0 up; 0 means drain\n\
             2 problems"
        );
    }
}
