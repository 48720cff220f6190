//! `weir top`: what happens now, on the terminal.
//!
//! ```text
//! one event stream -> feed -> Seen -> rows -> draw        detail: a few calls while a page is open
//!                       keys -> View -^
//! ```
//!
//! Everything between the stream and the screen is plain data and pure steps; only this file and
//! `feed`, `detail` and `cli/terminal` touch the world. Where nobody sits at a terminal, one table is
//! printed instead.

use std::io;
use std::pin::pin;
use std::time::Duration;

use crossterm::event::KeyEvent;
use jiff::Timestamp;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::admin_client::{AdminClient, Stream, escaped};
use super::console::Console;
use super::fault::Fault;
use super::reading;
use super::terminal::{Input, Inputs, Taken};

mod detail;
mod draw;
mod events;
mod feed;
mod frame;
mod look;
mod past;
mod plain;
mod rows;
mod said;
mod seen;
mod spark;
mod view;
#[cfg(test)]
mod sample;

use detail::Detail;
use draw::{Link, Scene};
use feed::Heard;
use frame::{Frame, News};
use look::Look;
use rows::rows;
use seen::Seen;
use spark::Scales;
use view::{Then, View};

/// No frame for so long, and it is said.
const STALE: Duration = Duration::from_secs(3);

/// Least time between two screens.
const APART: Duration = Duration::from_millis(100);

/// Longest time between two screens: ages are told in seconds.
const ALIVE: Duration = Duration::from_secs(1);

/// Longest wait for the first second, where one table is wanted.
const FIRST: Duration = Duration::from_secs(10);

/// What is wanted.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// Only this experiment, or it first.
    pub(crate) experiment: Option<&'a str>,
    /// One table, or one frame.
    pub(crate) once: bool,
    /// Frames as JSON lines.
    pub(crate) json: bool,
}

/// Shows it.
pub(crate) fn top(
    client: &AdminClient,
    wanted: &Wanted<'_>,
    console: &mut Console,
) -> Result<(), Fault> {
    if let Some(name) = wanted.experiment {
        // For the fault that names those that exist.
        super::split::get(client, name, console)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::failed(format!("cannot start: {error}"), ""))?;
    let is_screen = !wanted.json && !wanted.once && console.is_interactive();
    runtime.block_on(async {
        if is_screen {
            let stream = feed::open(client, SCREEN).await?;
            return screen(client, stream, wanted.experiment, console).await;
        }
        let only = wanted.experiment.map(|name| format!("experiment={}", escaped(name)));
        if wanted.json {
            let path = format!("/live?{}", only.unwrap_or_default());
            let stream = feed::open(client, path.trim_end_matches('?')).await?;
            return lines(client, stream, &path, wanted.once, console).await;
        }
        let only = only.map_or_else(String::new, |only| format!("&{only}"));
        let stream = feed::open(client, &format!("/live?since=10s{only}")).await?;
        table(stream, console).await
    })
}

/// The stream that a screen is made of: ten minutes, five seconds to a place.
const SCREEN: &str = "/live?since=10m&step=5";

/// Prints one table.
async fn table(mut stream: Stream, console: &mut Console) -> Result<(), Fault> {
    let mut seen = Seen::default();
    let mut parser = events::Parser::default();
    let begun = Instant::now();
    let never = |why: &str| {
        Fault::failed(
            format!("the gateway told nothing of what it does: {why}"),
            "is it overloaded? `weir status` asks in another way",
        )
    };
    let mut told = false;
    loop {
        let piece = tokio::time::timeout(ALIVE, stream.next()).await;
        let waited = begun.elapsed();
        let piece = match piece {
            Ok(piece) => piece.ok_or_else(|| never("the stream ended"))?,
            Err(_) if waited > FIRST => return Err(never("no frame within 10 s")),
            Err(_) => {
                told = true;
                console.progress("waiting for the next second", waited);
                continue;
            }
        };
        for event in parser.push(&piece).map_err(|_| never("it is no event stream"))? {
            take(&mut seen, &event);
        }
        if seen.frame.at > 0 {
            if told {
                console.progress_ends();
            }
            let text = plain::screen(&seen, console.width(), console.out_paint());
            console.print(&text);
            return Ok(());
        }
    }
}

/// Prints frames as they come, one a line, until nobody reads them.
async fn lines(
    client: &AdminClient,
    stream: Stream,
    path: &str,
    once: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let (to, mut heard) = mpsc::channel(8);
    let mut follow = pin!(feed::follow(client, path, stream, to));
    loop {
        let heard = tokio::select! {
            () = &mut follow => return Ok(()),
            heard = heard.recv() => heard,
        };
        match heard {
            Some(Heard::Event(event)) if event.name == "frame" => {
                console.json(event.text.as_bytes());
                if once || console.is_gone() {
                    return Ok(());
                }
            }
            Some(Heard::Lost { why, again }) => {
                console.note(&format!("weir: {why}; trying again in {} s", again.as_secs()));
            }
            Some(Heard::Event(_) | Heard::Trying) => {}
            None => return Ok(()),
        }
    }
}

/// Takes note of an event.
fn take(seen: &mut Seen, event: &events::Event) {
    let Some(data) = event.json() else { return };
    match &*event.name {
        "history" => seen.history(&data),
        "frame" => {
            if let Some(frame) = Frame::read(&data) {
                let news = reading::list(&data, "events").iter().filter_map(News::read).collect();
                seen.frame(frame, news);
            }
        }
        _ => {}
    }
}

/// Everything that a screen is made of, and what changes it.
#[derive(Debug)]
struct App {
    seen: Seen,
    detail: Option<Detail>,
    /// What was seen when it was paused.
    frozen: Option<Box<(Seen, Option<Detail>)>>,
    view: View,
    scales: Scales,
    heard: Instant,
    /// Why there is no connection, and when the next attempt is made.
    lost: Option<(String, Instant)>,
    look: Look,
    url: String,
}

impl App {
    fn new(experiment: Option<&str>, look: Look, url: &str) -> Self {
        Self {
            seen: Seen::default(),
            detail: None,
            frozen: None,
            view: View::new(experiment),
            scales: Scales::default(),
            heard: Instant::now(),
            lost: None,
            look,
            url: url.to_owned(),
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Event(event) => {
                self.lost = None;
                self.heard = Instant::now();
                take(&mut self.seen, &event);
            }
            Heard::Lost { why, again } => self.lost = Some((why, Instant::now() + again)),
            Heard::Trying => {
                if let Some((_, again)) = &mut self.lost {
                    *again = Instant::now();
                }
            }
        }
    }

    /// False if that was the end.
    fn input(&mut self, input: Input) -> bool {
        match input {
            Input::End => return false,
            Input::Resized => {}
            Input::Paste(text) => self.view.write(&text),
            Input::Key(key) => return self.key(key),
        }
        true
    }

    fn key(&mut self, key: KeyEvent) -> bool {
        let seen = self.frozen.as_ref().map_or(&self.seen, |frozen| &frozen.0);
        let page = self.view.page().clone();
        let rows = rows(seen, &page, self.view.sort, &self.view.filter);
        match self.view.key(key, &rows) {
            Then::Stay => {}
            Then::Quit => return false,
            Then::Pause => {
                self.frozen = match self.frozen.take() {
                    Some(_) => None,
                    None => Some(Box::new((self.seen.clone(), self.detail.clone()))),
                };
            }
        }
        true
    }

    fn link(&self) -> Link {
        if self.heard.elapsed() < STALE {
            return Link::Live;
        }
        let now = Instant::now();
        Link::Silent {
            why: self.lost.as_ref().map(|(why, _)| why.clone()),
            again: self.lost.as_ref().map(|(_, again)| {
                // Rounded up: "in 0 s" is now.
                (again.saturating_duration_since(now) + Duration::from_millis(999)).as_secs()
            }),
        }
    }

    fn draw(&mut self, screen: &mut ratatui::Frame<'_>) {
        let (seen, detail) = match &self.frozen {
            Some(frozen) => (&frozen.0, frozen.1.as_ref()),
            None => (&self.seen, self.detail.as_ref()),
        };
        let scene = Scene {
            seen,
            detail,
            link: self.link(),
            is_paused: self.frozen.is_some(),
            url: &self.url,
            now: Timestamp::now().as_second(),
            look: self.look,
        };
        draw::draw(screen, &scene, &mut self.view, &mut self.scales);
    }
}

/// Shows it until somebody quits.
async fn screen(
    client: &AdminClient,
    stream: Stream,
    experiment: Option<&str>,
    console: &Console,
) -> Result<(), Fault> {
    let gone = |error: io::Error| {
        Fault::failed(format!("cannot use this terminal: {error}"), "`weir top --once` needs none")
    };
    let look = Look { colour: console.out_paint().on, fine: console.is_fine() };
    let mut app = App::new(experiment, look, client.url());
    let _taken = Taken::over(true).map_err(gone)?;
    let mut inputs = Inputs::new().map_err(gone)?;
    let mut terminal = Terminal::new(CrosstermBackend::new(io::stdout())).map_err(gone)?;
    let (told, mut heard) = mpsc::channel(8);
    let mut follow = pin!(feed::follow(client, SCREEN, stream, told));
    let (want, wanted) = watch::channel(experiment.map(str::to_owned));
    let (known, mut details) = mpsc::channel(1);
    let mut asking = pin!(detail::follow(client, wanted, known));
    let mut due = Instant::now();
    loop {
        tokio::select! {
            biased;
            input = inputs.next() => {
                if !app.input(input) {
                    return Ok(());
                }
                let page = app.view.page().experiment().map(str::to_owned);
                want.send_if_modified(|wanted| {
                    let is_news = *wanted != page;
                    if is_news {
                        *wanted = page;
                    }
                    is_news
                });
            }
            Some(event) = heard.recv() => app.hear(event),
            Some(detail) = details.recv() => app.detail = Some(detail),
            () = &mut follow => return Ok(()),
            () = &mut asking => return Ok(()),
            () = tokio::time::sleep_until(due) => {
                terminal.draw(|screen| app.draw(screen)).map_err(gone)?;
                due = Instant::now() + ALIVE;
                continue;
            }
        }
        // Whatever it was, it is seen soon; many things at once make one screen.
        due = due.min(Instant::now() + APART);
    }
}
