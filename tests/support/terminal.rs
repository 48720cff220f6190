//! A real terminal: a program on a pseudo-terminal, keys that are pressed, and what the screen shows.
//!
//! ```ignore
//! let top = terminal(80, 24).run(&weir_program(), &["top"]);
//! top.shows("live").await;
//! top.press("q");
//! assert_eq!(top.exit(seconds(5)).await, Some(0));
//! ```

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pty_process::Size;
use pty_process::blocking::{Command, Pty};

use crate::{millis, seconds};

/// How long anything may take to be on the screen.
const SOON: Duration = seconds(30);

/// A terminal of so many columns and rows, on which nothing runs yet.
pub fn terminal(columns: u16, rows: u16) -> TerminalBuilder {
    let variables = [("TERM", "xterm-256color"), ("LANG", "C.UTF-8"), ("LC_ALL", "C.UTF-8")];
    TerminalBuilder {
        columns,
        rows,
        variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
    }
}

/// How a program is run on a terminal.
#[must_use]
#[derive(Clone, Debug)]
pub struct TerminalBuilder {
    columns: u16,
    rows: u16,
    variables: Vec<(String, String)>,
}

impl TerminalBuilder {
    /// One more variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it; killed when dropped.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn run<A: AsRef<OsStr>>(self, program: &Path, arguments: &[A]) -> Terminal {
        let (pty, side) = pty_process::blocking::open().unwrap();
        pty.resize(Size::new(self.rows, self.columns)).unwrap();
        let mut command = Command::new(program).args(arguments);
        for name in ["NO_COLOR", "WEIR_ADMIN", "WEIR_TOKEN", "WEIR_CA"] {
            command = command.env_remove(name);
        }
        for (name, value) in &self.variables {
            command = command.env(name, value);
        }
        let child = command.spawn(side).unwrap();
        let pty = Arc::new(pty);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(
            at_least_1(self.rows),
            at_least_1(self.columns),
            0,
        )));
        let (from, to) = (Arc::clone(&pty), Arc::clone(&screen));
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 16 << 10];
            // The other side that is gone is an error here, not an end.
            while let Ok(count @ 1..) = (&*from).read(&mut piece) {
                to.lock().process(&piece[..count]);
            }
        });
        Terminal { pty, child: Mutex::new(child), screen, reader }
    }
}

/// A program on a terminal.
pub struct Terminal {
    pty: Arc<Pty>,
    child: Mutex<Child>,
    screen: Arc<Mutex<vt100::Parser>>,
    reader: std::thread::JoinHandle<()>,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

fn at_least_1(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN)
}

/// What a key sends, as xterm has it.
fn bytes_of(key: &str) -> &[u8] {
    match key {
        "Up" => b"\x1b[A",
        "Down" => b"\x1b[B",
        "Right" => b"\x1b[C",
        "Left" => b"\x1b[D",
        "Shift-Left" => b"\x1b[1;2D",
        "PageUp" => b"\x1b[5~",
        "PageDown" => b"\x1b[6~",
        "Enter" => b"\r",
        "Esc" => b"\x1b",
        "Tab" => b"\t",
        "Ctrl-C" => b"\x03",
        "Ctrl-U" => b"\x15",
        text => text.as_bytes(),
    }
}

impl Terminal {
    /// Presses a key, such as `Enter`, `Left` or `Ctrl-C`; everything else is typed as it is.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn press(&self, key: &str) {
        (&*self.pty).write_all(bytes_of(key)).unwrap();
    }

    /// Pastes `text`, as a terminal does where a program asked to be told of it.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn paste(&self, text: &str) {
        (&*self.pty).write_all(format!("\x1b[200~{text}\x1b[201~").as_bytes()).unwrap();
    }

    /// Makes the window another size.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.screen.lock().set_size(at_least_1(rows), at_least_1(columns));
        self.pty.resize(Size::new(rows, columns)).unwrap();
    }

    /// What is on the screen, without blanks at the ends of lines.
    #[must_use]
    pub fn text(&self) -> String {
        let contents = self.screen.lock().screen().contents();
        contents.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    /// Whether the program is on the other screen, which goes away with it.
    #[must_use]
    pub fn is_other_screen(&self) -> bool {
        self.screen.lock().screen().alternate_screen()
    }

    /// Whether the cursor is hidden.
    #[must_use]
    pub fn is_cursor_hidden(&self) -> bool {
        self.screen.lock().screen().hide_cursor()
    }

    /// Whether what is typed comes line by line and is echoed, as a shell left it.
    ///
    /// # Panics
    /// If the terminal is gone.
    #[must_use]
    pub fn is_cooked(&self) -> bool {
        use rustix::termios::LocalModes;
        let modes = rustix::termios::tcgetattr(&*self.pty).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Colours on the screen, each once.
    #[must_use]
    pub fn colours(&self) -> Vec<vt100::Color> {
        let parser = self.screen.lock();
        let screen = parser.screen();
        let (rows, columns) = screen.size();
        let (rows, columns) = (rows.get(), columns.get());
        let mut all = Vec::new();
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |at| (row, at))) {
            let colour = screen.cell(row, column).map_or(vt100::Color::Default, |of| of.fgcolor());
            if colour != vt100::Color::Default && !all.contains(&colour) {
                all.push(colour);
            }
        }
        all
    }

    /// Waits until the screen shows `text`.
    ///
    /// # Panics
    /// If it does not soon.
    #[track_caller]
    pub fn shows<'a>(&'a self, text: &'a str) -> impl Future<Output = ()> + 'a {
        self.until(text, move |screen| screen.contains(text))
    }

    /// Waits until the screen does not show `text` any more.
    ///
    /// # Panics
    /// If it still does after a while.
    #[track_caller]
    pub fn hides<'a>(&'a self, text: &'a str) -> impl Future<Output = ()> + 'a {
        self.until(text, move |screen| !screen.contains(text))
    }

    #[track_caller]
    fn until<'a>(
        &'a self,
        what: &'a str,
        holds: impl Fn(&str) -> bool + 'a,
    ) -> impl Future<Output = ()> + 'a {
        let place = std::panic::Location::caller();
        async move {
            let began = Instant::now();
            while !holds(&self.text()) {
                let screen = self.text();
                assert!(
                    began.elapsed() < SOON,
                    "{place}: {what:?} is waited for in vain:\n{screen}"
                );
                tokio::time::sleep(millis(10)).await;
            }
        }
    }

    /// Sends it a signal, such as `TERM`.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.lock().id());
        assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end and until all that it wrote is on the screen: the exit code, `None` if a signal
    /// ended it.
    ///
    /// # Panics
    /// If it does not end within `limit`.
    pub async fn exit(&self, limit: Duration) -> Option<i32> {
        let began = Instant::now();
        loop {
            let ended = self.child.lock().try_wait().unwrap();
            if let Some(status) = ended.filter(|_| self.reader.is_finished()) {
                return status.code();
            }
            assert!(began.elapsed() < limit, "it runs on after {limit:?}:\n{}", self.text());
            tokio::time::sleep(millis(5)).await;
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let _ = child.kill();
        let _ = child.wait();
    }
}
