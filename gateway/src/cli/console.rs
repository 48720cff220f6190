//! The terminal, or whatever stands in its place: the only way this process prints for people.
//!
//! Results go to stdout, remarks and errors to stderr. Colour is for terminals only, and never
//! with `NO_COLOR`; each stream is asked by itself, so that `weir status | less` stays plain.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use super::fault::{Exit, Fault, without_keys};
use super::words::clean;

/// Erases from the cursor to the end of the line.
const ERASE_LINE: &str = "\x1b[K";

/// What a piece of text wants to say with its looks. Few, on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// Less important: headings, units of time, what has not changed.
    Dim,
    /// More important.
    Bold,
    /// In order.
    Good,
    /// Look here.
    Warn,
    /// Not in order.
    Bad,
    /// The first series of a picture.
    First,
    /// The second.
    Second,
    /// The third.
    Third,
}

/// Whether tones become colours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    /// Whether they do.
    pub(crate) on: bool,
}

impl Paint {
    /// `text` in `tone`.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        // The sixteen colours only: those are the reader's own choice, on dark and light alike.
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Dim => "2",
            Tone::Bold => "1",
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            // Bright: on black, many terminals' blue cannot be read.
            Tone::First => "94",
            Tone::Second => "36",
            Tone::Third => "35",
        };
        if self.on && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Where output goes.
pub(crate) struct Console {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    out_paint: Paint,
    err_paint: Paint,
    out_is_terminal: bool,
    err_is_terminal: bool,
    /// Whether somebody sits at stdin and stdout, and the terminal can do more than print.
    is_interactive: bool,
    /// Whether nobody reads stdout any more.
    is_gone: bool,
    /// Why stdout did not take what was printed, if somebody should have read it.
    unwritten: Option<io::Error>,
    /// Lines of the picture that stands at the end of stdout.
    picture: usize,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("out_is_terminal", &self.out_is_terminal)
            .finish_non_exhaustive()
    }
}

impl Console {
    /// The process's own stdout and stderr.
    pub(crate) fn standard() -> Self {
        // https://no-color.org: present and not empty, whatever it says.
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && !is_dumb;
        let (out_is_terminal, err_is_terminal) =
            (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            out_paint: Paint { on: colour && out_is_terminal },
            err_paint: Paint { on: colour && err_is_terminal },
            out_is_terminal,
            err_is_terminal,
            is_interactive: out_is_terminal && io::stdin().is_terminal() && !is_dumb,
            is_gone: false,
            unwritten: None,
            picture: 0,
        }
    }

    /// Writes to `out` and `err`, neither of them a terminal.
    #[cfg(test)]
    pub(crate) fn into(out: Box<dyn Write>, err: Box<dyn Write>) -> Self {
        let plain = Paint { on: false };
        Self {
            out,
            err,
            out_paint: plain,
            err_paint: plain,
            out_is_terminal: false,
            err_is_terminal: false,
            is_interactive: false,
            is_gone: false,
            unwritten: None,
            picture: 0,
        }
    }

    /// Whether stdout takes colours.
    pub(crate) fn out_paint(&self) -> Paint {
        self.out_paint
    }

    /// Whether stderr takes colours.
    pub(crate) fn err_paint(&self) -> Paint {
        self.err_paint
    }

    /// Whether somebody watches stdout.
    pub(crate) fn is_terminal(&self) -> bool {
        self.out_is_terminal
    }

    /// Whether somebody can answer with keys.
    pub(crate) fn is_interactive(&self) -> bool {
        self.is_interactive
    }

    /// Whether nobody reads any more what is printed: for whoever would print for ever.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Whether lines and blocks can be drawn: somebody watches, and the locale is UTF-8.
    pub(crate) fn is_fine(&self) -> bool {
        self.out_is_terminal && is_utf8(|name| std::env::var(name).ok())
    }

    /// Columns that may be filled; no bound if nobody watches.
    pub(crate) fn width(&self) -> usize {
        if self.out_is_terminal { super::terminal::size().0 } else { usize::MAX }
    }

    /// Prints to stdout, with an end of line if `text` has none.
    pub(crate) fn print(&mut self, text: &str) {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        if let Err(error) = write(&mut self.out, &format!("{text}{end}")) {
            self.is_gone = true;
            // That nobody reads any more (`weir history | head`) is no error of ours.
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.unwritten = Some(error);
            }
        }
    }

    /// The fault of a result that could not be written, such as on a full disk.
    pub(crate) fn written(&mut self) -> Result<(), Fault> {
        let Some(error) = self.unwritten.take() else { return Ok(()) };
        let mend = "what was asked for is done; only its answer is lost, or a part of it";
        Err(Fault::failed(format!("cannot write the answer: {error}"), mend))
    }

    /// Prints a document of the API as it came.
    ///
    /// For a terminal, the control characters that JSON allows to stand as they are become
    /// escapes of the same meaning (T28).
    pub(crate) fn json(&mut self, body: &[u8]) {
        let text = String::from_utf8_lossy(body);
        let text = text.trim_end();
        if self.out_is_terminal && text.contains(is_hidden) {
            let escaped = text.chars().fold(String::new(), |mut out, c| {
                if is_hidden(c) {
                    out.push_str(&format!("\\u{:04x}", u32::from(c)))
                } else {
                    out.push(c)
                }
                out
            });
            return self.print(&escaped);
        }
        self.print(text);
    }

    /// Says something on stderr that is no result.
    pub(crate) fn note(&mut self, text: &str) {
        put(&mut self.err, &format!("{text}\n"));
    }

    /// Says what went wrong and how to mend it.
    pub(crate) fn fault(&mut self, fault: &Fault) {
        if fault.exit == Exit::Config {
            // Each problem begins with its place, so that editors can jump there.
            let lines: Vec<_> = fault.what.lines().map(clean).collect();
            return self.note(&lines.join("\n"));
        }
        let mut text = self.err_paint.paint(Tone::Bad, "weir:");
        let said = |line: &str| clean(&without_keys(line)).into_owned();
        for (at, line) in fault.what.lines().enumerate() {
            text.push_str(if at == 0 { " " } else { "\n      " });
            text.push_str(&said(line));
        }
        for line in fault.mend.lines() {
            text.push_str("\n      ");
            text.push_str(&said(line));
        }
        self.note(&text);
    }

    /// Says that something takes `so_far` already: in place on a terminal, once elsewhere.
    pub(crate) fn progress(&mut self, what: &str, so_far: Duration) {
        let seconds = so_far.as_secs();
        if self.err_is_terminal {
            let line = self.err_paint.paint(Tone::Dim, &format!("{what} ({seconds} s)"));
            put(&mut self.err, &format!("\r{line}{ERASE_LINE}"));
        } else if seconds == 1 {
            self.note(what);
        }
    }

    /// Takes the line of [`progress`](Self::progress) away again.
    pub(crate) fn progress_ends(&mut self) {
        if self.err_is_terminal {
            put(&mut self.err, &format!("\r{ERASE_LINE}"));
        }
    }

    /// Draws `lines` where the last picture stood. For terminals.
    pub(crate) fn draw(&mut self, lines: &[String]) {
        // One write, so that no half picture is seen; no line wrap, so that every line is one row
        // and the next picture finds the first of them, even in a window that became narrower.
        let mut frame = String::from("\x1b[?25l\x1b[?7l");
        if self.picture > 0 {
            frame.push_str(&format!("\x1b[{}A", self.picture));
        }
        frame.push('\r');
        for line in lines {
            frame.push_str(line);
            frame.push_str(ERASE_LINE);
            // Also where the terminal does not go back to the first column by itself.
            frame.push_str("\r\n");
        }
        // A shorter picture than the last leaves nothing of it behind.
        frame.push_str("\x1b[J\x1b[?7h");
        self.picture = lines.len();
        put(&mut self.out, &frame);
    }

    /// Prints `text` above the picture, which the next [`draw`](Self::draw) draws again below it.
    pub(crate) fn print_above(&mut self, text: &str) {
        self.erase();
        self.print(text);
    }

    /// Takes the picture away.
    pub(crate) fn erase(&mut self) {
        if self.picture > 0 {
            let up = std::mem::take(&mut self.picture);
            put(&mut self.out, &format!("\x1b[{up}A\r\x1b[J\x1b[?25h"));
        }
    }

    /// Leaves the last picture standing, and gives the cursor back.
    pub(crate) fn draw_ends(&mut self) {
        if self.picture > 0 {
            self.picture = 0;
            // Over the "^C" that the terminal wrote.
            put(&mut self.out, &format!("\r{ERASE_LINE}\x1b[?25h"));
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.draw_ends();
    }
}

/// Writes and flushes.
fn write(to: &mut dyn Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes()).and_then(|()| to.flush())
}

/// The same, of what is no result: if it cannot be told, there is nobody to tell that.
fn put(to: &mut dyn Write, text: &str) {
    let _ = write(to, text);
}

/// Control characters other than those that give a document its shape.
fn is_hidden(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t' | '\r')
}

/// Whether the locale says that text is UTF-8.
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable);
    let locale = set.into_iter().find(|value| !value.is_empty()).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_only_where_it_is_wanted() {
        assert_eq!(Paint { on: false }.paint(Tone::Bad, "x"), "x");
        assert_eq!(Paint { on: true }.paint(Tone::Bad, "x"), "\x1b[31mx\x1b[0m");
        assert_eq!(Paint { on: true }.paint(Tone::Plain, "x"), "x");
    }

    #[test]
    fn the_first_variable_that_is_set_names_the_locale() {
        let with = |all: &'static str, lang: &'static str| {
            is_utf8(move |name| match name {
                "LC_ALL" => Some(all.to_owned()),
                "LANG" => Some(lang.to_owned()),
                _ => None,
            })
        };
        assert!(with("", "en_GB.UTF-8") && with("C.utf8", "C"));
        assert!(!with("C", "en_GB.UTF-8") && !with("", ""));
    }
}
