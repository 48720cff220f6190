//! What the keys do, and what the numbers are.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::look::Look;
use super::put;

const KEYS: [(&str, &str); 9] = [
    ("Up Down k j", "pick a row; PgUp PgDn, Home End go further"),
    ("Enter", "open it: a route, experiment or variant"),
    ("Esc", "back"),
    ("s", "sort: as configured, requests/s, failed, p95"),
    ("m", "pictures of requests/s, failed or p95"),
    ("/", "only what is called so; Esc clears it"),
    ("p Space", "pause, and go on"),
    ("?", "this; any key closes it"),
    ("q Ctrl-C", "quit"),
];

const NUMBERS: [(&str, &str); 7] = [
    ("share", "part of the users dealt to it, by weight"),
    ("arrived", "part of the requests it was assigned, last 10 s"),
    ("req/s failed", "last 10 s, never across a revision"),
    ("p50 p95 p99", "durations, last 10 s, up to 2 % too high"),
    ("pictures", "5 s a column, now at the right, from 0 up"),
    ("red", "harm; failed from 1 % on. Other hues: variants"),
    ("shadow", "copies; no client sees their answers"),
];

/// Draws it.
pub(super) fn draw(buffer: &mut Buffer, area: Rect, look: Look) {
    let row = |(key, does): &(&str, &str)| {
        Line::from(vec![
            Span::styled(format!(" {key:<12} "), look.head()),
            Span::raw((*does).to_owned()),
        ])
    };
    let mut lines = vec![Line::from(Span::styled("keys", look.head()))];
    lines.extend(KEYS.iter().map(row));
    // Where there is little room the keys are what is looked for.
    if usize::from(area.height) > KEYS.len() + NUMBERS.len() + 2 {
        lines.push(Line::default());
    }
    if usize::from(area.height) > KEYS.len() + 3 {
        lines.push(Line::from(Span::styled("numbers", look.head())));
        lines.extend(NUMBERS.iter().map(row));
    }
    for (y, line) in (area.y..area.bottom()).zip(&lines) {
        put(buffer, Rect { y, height: 1, ..area }, line);
    }
}
