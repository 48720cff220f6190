//! A terminal that is asked for keys: taken over, listened to, and given back whatever happens.
//!
//! Taken over means raw mode (keys come one by one, Ctrl-C too) and, for a whole screen, the other
//! screen that terminals have, so that what stood there is there again afterwards. It is given back
//! when [`Taken`] is dropped, when any thread panics, and when a signal ends the command.

use std::io::{self, Write as _};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use crossterm::cursor::Show;
use crossterm::event::{
    self, DisableBracketedPaste, EnableBracketedPaste, Event, KeyCode, KeyEvent, KeyEventKind,
    KeyModifiers,
};
use crossterm::terminal::{self, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{execute, queue};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// How often the thread that waits for keys looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

static IS_RAW: AtomicBool = AtomicBool::new(false);
static IS_OTHER_SCREEN: AtomicBool = AtomicBool::new(false);

/// A terminal that was taken over.
#[derive(Debug)]
pub(crate) struct Taken(());

impl Taken {
    /// Takes it over; `whole` is the other screen.
    pub(crate) fn over(whole: bool) -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let earlier = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                // First, or the message is lost on the other screen.
                give_back();
                earlier(info);
            }));
        });
        terminal::enable_raw_mode()?;
        IS_RAW.store(true, SeqCst);
        let taken = Self(());
        let mut out = io::stdout();
        // So that a line end in what is pasted is not taken for Enter.
        queue!(out, EnableBracketedPaste)?;
        if whole {
            IS_OTHER_SCREEN.store(true, SeqCst);
            queue!(out, EnterAlternateScreen)?;
        }
        out.flush()?;
        Ok(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives it back, once. That it may be gone is no reason to complain.
fn give_back() {
    if !IS_RAW.swap(false, SeqCst) {
        return;
    }
    let mut out = io::stdout();
    if IS_OTHER_SCREEN.swap(false, SeqCst) {
        let _ = queue!(out, LeaveAlternateScreen);
    }
    let _ = execute!(out, DisableBracketedPaste, Show);
    let _ = terminal::disable_raw_mode();
}

/// Columns and rows of the terminal; those of an ordinary one if it does not say.
pub(crate) fn size() -> (usize, usize) {
    match terminal::size() {
        Ok((width, height)) if width > 0 && height > 0 => (width.into(), height.into()),
        Ok(_) | Err(_) => (80, 24),
    }
}

/// What comes from whoever sits there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A key.
    Key(KeyEvent),
    /// Text, as a whole.
    Paste(String),
    /// The window has another size now.
    Resized,
    /// The command is asked to end: Ctrl-C, a signal, or the terminal is gone.
    End,
}

/// Keys and signals, as they come.
#[derive(Debug)]
pub(crate) struct Inputs {
    keys: mpsc::UnboundedReceiver<Input>,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Inputs {
    /// Listens from here on. Needs a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let (to, keys) = mpsc::unbounded_channel();
        // The terminal is read by waiting for it, which is not for a runtime's thread.
        std::thread::Builder::new().name("keys".into()).spawn(move || listen(&to))?;
        Ok(Self {
            keys,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Input {
        tokio::select! {
            input = self.keys.recv() => input.unwrap_or(Input::End),
            _ = self.interrupt.recv() => Input::End,
            _ = self.terminate.recv() => Input::End,
            _ = self.hangup.recv() => Input::End,
        }
    }
}

fn listen(to: &mpsc::UnboundedSender<Input>) {
    while !to.is_closed() {
        let input = match event::poll(LOOK) {
            Ok(false) => continue,
            Ok(true) => match event::read() {
                Ok(event) => read(event),
                Err(_) => Some(Input::End),
            },
            Err(_) => Some(Input::End),
        };
        let is_over = input == Some(Input::End);
        if input.is_some_and(|input| to.send(input).is_err()) || is_over {
            return;
        }
    }
}

fn read(event: Event) -> Option<Input> {
    match event {
        Event::Key(key) if key.kind == KeyEventKind::Release => None,
        Event::Key(key) if is_interrupt(key) => Some(Input::End),
        Event::Key(key) => Some(Input::Key(key)),
        Event::Paste(text) => Some(Input::Paste(text)),
        Event::Resize(..) => Some(Input::Resized),
        Event::FocusGained | Event::FocusLost | Event::Mouse(_) => None,
    }
}

/// Whether `key` is Ctrl-C, which is a key like any other in raw mode.
fn is_interrupt(key: KeyEvent) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'C'))
}
