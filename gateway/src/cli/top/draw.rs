//! A screen: three lines above that never move, what is looked at, and a line with the keys.

use ratatui::Frame as Screen;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::detail::Detail;
use super::look::Look;
use super::rows::rows;
use super::said::{self, Weight};
use super::seen::{Seen, Whose};
use super::spark::Scales;
use super::view::{Page, View};
use crate::cli::words;

mod columns;
mod experiment;
mod help;
mod table;
mod variant;

/// Whether frames come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// They do.
    Live,
    /// None has come for a while.
    Silent {
        /// Why, if that is known.
        why: Option<String>,
        /// Seconds until the next attempt; nothing while one is made.
        again: Option<u64>,
    },
}

/// Everything that a screen is made of.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) seen: &'a Seen,
    pub(super) detail: Option<&'a Detail>,
    pub(super) link: Link,
    pub(super) is_paused: bool,
    /// Where the gateway is.
    pub(super) url: &'a str,
    /// Seconds since 1970.
    pub(super) now: i64,
    pub(super) look: Look,
}

impl Scene<'_> {
    /// `weight` in colours.
    fn style(&self, weight: Weight) -> Style {
        match weight {
            Weight::Plain => Style::new(),
            Weight::Wait => self.look.wait(),
            Weight::Harm => self.look.harm(),
        }
    }

    /// Whether what is shown is of the past.
    fn is_old(&self) -> bool {
        self.is_paused || self.link != Link::Live
    }
}

/// Draws it.
pub(super) fn draw(
    screen: &mut Screen<'_>,
    scene: &Scene<'_>,
    view: &mut View,
    scales: &mut Scales,
) {
    let area = screen.area();
    if area.width < 20 || area.height < 6 {
        let text = "the window is too small";
        screen.buffer_mut().set_stringn(area.x, area.y, text, area.width.into(), Style::new());
        return;
    }
    let line = |at: u16| Rect { y: area.y + at, height: 1, ..area };
    let buffer = screen.buffer_mut();
    header(buffer, line(0), scene, view);
    put(buffer, line(1), &figures(scene, area.width));
    put(buffer, line(2), &note(scene, area.width));
    let body = Rect { y: area.y + 3, height: area.height - 4, ..area };
    if view.is_help {
        help::draw(buffer, body, scene.look);
    } else {
        match view.page().clone() {
            Page::Everything | Page::Route(_) => table::draw(buffer, body, scene, view, scales),
            Page::Experiment(name) => {
                experiment::draw(buffer, body, scene, view, scales, &name);
            }
            Page::Variant(of, name) => variant::draw(buffer, body, scene, scales, (&of, &name)),
        }
    }
    let last = line(area.height - 1);
    put(buffer, last, &footer(scene, view, area.width));
    if view.is_typing {
        let typed = FILTER.len() + view.filter.chars().count();
        let x = last.x.saturating_add(u16::try_from(typed).unwrap_or(u16::MAX));
        screen.set_cursor_position(Position::new(x.min(last.right() - 1), last.y));
    }
}

/// Before the filter while it is written.
const FILTER: &str = "filter: ";

/// Where we are, and since when.
fn header(buffer: &mut Buffer, area: Rect, scene: &Scene<'_>, view: &View) {
    let look = scene.look;
    let mut left = vec![Span::styled("weir top", look.head())];
    let mut crumb = |text: &str| {
        left.push(Span::styled(format!(" {} ", look.into()), look.dim()));
        left.push(Span::raw(words::clean(text).into_owned()));
    };
    crumb(scene.url.trim_start_matches("http://").trim_start_matches("https://"));
    match view.page() {
        Page::Everything => {}
        Page::Route(name) => crumb(name),
        Page::Experiment(name) => {
            if let Some(of) = scene.seen.experiment(name) {
                crumb(&of.route);
            }
            crumb(name);
        }
        Page::Variant(experiment, name) => {
            crumb(experiment);
            crumb(name);
        }
    }
    put(buffer, area, &Line::from(left));
    let (text, style) = match scene.link {
        _ if scene.is_paused => ("PAUSED".to_owned(), look.picked()),
        Link::Live => (format!("live {}", said::clock(scene.seen.frame.at)), Style::new()),
        Link::Silent { .. } => ("NOT LIVE".to_owned(), look.picked()),
    };
    put_right(buffer, area, &Line::from(Span::styled(format!(" {text}"), style)));
}

/// The gateway in one line.
fn figures(scene: &Scene<'_>, width: u16) -> Line<'static> {
    let gateway = &scene.seen.frame.gateway;
    let window = scene.seen.window(&Whose::Gateway);
    let rate = window.map_or(0.0, |window| window.rate());
    let failed = window.and_then(|window| window.failed());
    let failed_text = match failed {
        Some(failed) => format!("{} failed", words::failures(failed)),
        None => "none failed".to_owned(),
    };
    let harm = failed.is_some_and(is_harm);
    let failed_style = if harm { scene.look.harm() } else { Style::new() };
    let mut parts = vec![
        Span::raw(format!("{} requests/s", words::per_second(rate))),
        Span::styled(failed_text, failed_style),
    ];
    // Where there is little room, only if there is something to tell.
    if width >= NARROW || gateway.rejected > 0.0 {
        parts.push(Span::raw(format!("{} rejected/s", words::per_second(gateway.rejected))));
    }
    parts.push(Span::raw(format!("{} in flight", words::count(gateway.in_flight))));
    if width >= 90 {
        let connections = match gateway.connections {
            1 => "1 connection".to_owned(),
            many => format!("{} connections", words::count(many)),
        };
        parts.push(Span::raw(connections));
        parts.push(Span::raw(format!("generation {}", gateway.generation)));
    }
    joined(parts, width, scene).into_iter().next().unwrap_or_default()
}

/// Narrower windows are spared blanks.
const NARROW: u16 = 72;

/// `parts` with a sign between them, in as many lines as they need, dimmed if they are of the past.
fn joined(parts: Vec<Span<'static>>, width: u16, scene: &Scene<'_>) -> Vec<Line<'static>> {
    let dot = scene.look.dot();
    let dot = if width >= NARROW { format!("  {dot}  ") } else { format!(" {dot} ") };
    let mut lines: Vec<Line<'static>> = Vec::new();
    for part in parts {
        let wide = dot.chars().count() + part.width();
        match lines.last_mut() {
            Some(line) if line.width() + wide <= width.into() => {
                line.push_span(Span::styled(dot.clone(), scene.look.dim()));
                line.push_span(part);
            }
            Some(_) | None => lines.push(Line::from(part)),
        }
    }
    let old = |line: Line<'static>| {
        if scene.is_old() { line.style(scene.look.dim()) } else { line }
    };
    lines.into_iter().map(old).collect()
}

/// The one thing that somebody should know. The place is always there.
fn note(scene: &Scene<'_>, width: u16) -> Line<'static> {
    let look = scene.look;
    let at = scene.seen.frame.at;
    if let Link::Silent { why, again } = &scene.link {
        let mut text = match at {
            0 => "Not live. Nothing has been seen yet.".to_owned(),
            _ => format!(
                "Not live. These numbers are from {}, {}.",
                said::clock(at),
                said::ago(scene.now, at)
            ),
        };
        let next = match again {
            None => " Waiting.".to_owned(),
            Some(0) => " Trying again.".to_owned(),
            Some(seconds) => format!(" Trying again in {seconds} s."),
        };
        let why = why.as_ref().map(|why| format!(" ({})", look.plain(why)));
        // What does not fit whole is not begun.
        for more in std::iter::once(next).chain(why) {
            if text.chars().count() + more.chars().count() <= width.into() {
                text.push_str(&more);
            }
        }
        return Line::from(Span::styled(text, look.wait()));
    }
    if scene.is_paused {
        let text = format!(
            "Paused. These numbers are from {}, {}; p goes on.",
            said::clock(at),
            said::ago(scene.now, at)
        );
        return Line::from(Span::styled(text, look.wait()));
    }
    let needs = said::needs(&scene.seen.frame);
    let Some((text, weight)) = needs.first() else {
        return Line::from(Span::styled("Nothing needs you.", look.dim()));
    };
    let more = match needs.len() {
        1 => String::new(),
        all => format!(" And {} more.", all - 1),
    };
    let room = usize::from(width).saturating_sub(2 + more.chars().count());
    let text = format!("! {}{more}", words::cut(&look.plain(text), room));
    Line::from(Span::styled(text, scene.style(*weight)))
}

/// Which keys do what.
fn footer(scene: &Scene<'_>, view: &View, width: u16) -> Line<'static> {
    let look = scene.look;
    if view.is_typing {
        return Line::from(vec![
            Span::styled(FILTER, look.head()),
            Span::raw(view.filter.clone()),
            Span::styled("   Enter keeps it, Esc clears it", look.dim()),
        ]);
    }
    let is_list = matches!(view.page(), Page::Everything | Page::Route(_));
    let is_wide = width >= 90;
    // Each with how soon it gives way where there is no room for all.
    let mut keys: Vec<(u8, &str, String)> = Vec::new();
    if !matches!(view.page(), Page::Variant(..)) {
        keys.push((8, if look.fine { "↑↓" } else { "Up Down" }, "pick".into()));
        keys.push((2, "Enter", "open".into()));
    }
    if !matches!(view.page(), Page::Everything) {
        keys.push((2, "Esc", "back".into()));
    }
    if is_list {
        let sorted = format!("sorted {}", view.sort.words());
        keys.push((5, "s", if is_wide { sorted } else { "sort".into() }));
    }
    if !matches!(view.page(), Page::Variant(..)) {
        keys.push((6, "m", said::measure(view.measure).into()));
    }
    if is_list {
        let filter = match view.filter.is_empty() {
            true => "filter".to_owned(),
            false => format!("filter \"{}\"", words::cut(&view.filter, 12)),
        };
        keys.push((4, "/", filter));
    }
    keys.push((3, "p", if scene.is_paused { "go on" } else { "pause" }.into()));
    keys.push((1, "?", "help".into()));
    keys.push((0, "q", "quit".into()));
    let gap = if is_wide { 3 } else { 2 };
    let wide = |keys: &[(u8, &str, String)]| -> usize {
        keys.iter().map(|(_, key, does)| key.chars().count() + 1 + does.chars().count() + gap).sum()
    };
    while wide(&keys) > usize::from(width) + gap
        && let Some(least) = (0..keys.len()).max_by_key(|at| keys[*at].0)
    {
        keys.remove(least);
    }
    let mut spans = Vec::new();
    for (_, key, does) in keys {
        if !spans.is_empty() {
            spans.push(Span::raw(" ".repeat(gap)));
        }
        spans.push(Span::styled(key.to_owned(), look.head()));
        spans.push(Span::styled(format!(" {does}"), look.dim()));
    }
    Line::from(spans)
}

/// Failures from here on are shown as harm: one in a hundred.
fn is_harm(failed: f64) -> bool {
    failed >= 0.01
}

/// `line` from the left.
fn put(buffer: &mut Buffer, area: Rect, line: &Line<'_>) {
    if area.height > 0 {
        buffer.set_line(area.x, area.y, line, area.width);
    }
}

/// `line` up to the right end.
fn put_right(buffer: &mut Buffer, area: Rect, line: &Line<'_>) {
    let width = u16::try_from(line.width()).unwrap_or(u16::MAX).min(area.width);
    buffer.set_line(area.right() - width, area.y, line, width);
}

/// What happened, the newest first, as many lines as there is room for.
fn changes(scene: &Scene<'_>, only: Option<&str>, room: usize, width: u16) -> Vec<Line<'static>> {
    let look = scene.look;
    let of = scene.seen.news.iter().filter(|news| {
        only.is_none_or(|experiment| news.experiment.as_deref() == Some(experiment))
    });
    let mut lines = vec![Line::from(Span::styled("changes", look.head()))];
    for news in said::told(of).into_iter().take(room.saturating_sub(1)) {
        let when = said::ago(scene.now, news.at);
        let text = look.plain(&said::news(news, only.is_some()));
        let text = words::cut(&text, usize::from(width).saturating_sub(14)).into_owned();
        lines.push(Line::from(vec![
            Span::styled(format!("{when:>10}  "), look.dim()),
            Span::raw(text),
        ]));
    }
    if lines.len() == 1 && room > 1 {
        lines.push(Line::from(Span::styled("none in the last 15 min", look.dim())));
    }
    lines
}

/// The rows of the page that is looked at.
fn page_rows<'a>(scene: &Scene<'a>, view: &View) -> Vec<super::rows::Row<'a>> {
    rows(scene.seen, view.page(), view.sort, &view.filter)
}

#[cfg(test)]
mod tests;
