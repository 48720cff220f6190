//! What the keys do, and what the numbers are.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::look::Look;
use super::put;

const KEYS: [(&str, &str); 9] = [
    ("Up Down, k j", "pick a row; PgUp PgDn a screen, Home End to either end"),
    ("Enter", "open it: a route, an experiment, a variant"),
    ("Esc", "back"),
    ("s", "sort routes and experiments: as configured, requests/s, failed, p95"),
    ("m", "what the pictures show: requests/s, failed, p95"),
    ("/", "show only what is called so; Enter keeps it, Esc clears it"),
    ("p, Space", "pause: nothing moves until it is pressed again"),
    ("?", "this; any key closes it"),
    ("q, Ctrl-C", "quit"),
];

const NUMBERS: [(&str, &str); 7] = [
    ("share", "part of the users that is dealt to a variant, by its weight"),
    ("arrived", "part of the requests that it was assigned in the last 10 s"),
    ("req/s, failed", "over the last 10 s, never across a revision; failed by its backend"),
    ("p50 p95 p99", "durations of the last 10 s, rounded up by 2 % at most"),
    ("pictures", "5 s to a column, now at the right; from 0 up; variants on one scale"),
    ("red", "harm, from 1 % failed on; the other hues are variants"),
    ("shadow", "copies of requests; no client sees their answers"),
];

/// Draws it.
pub(super) fn draw(buffer: &mut Buffer, area: Rect, look: Look) {
    let row = |(key, does): &(&str, &str)| {
        Line::from(vec![
            Span::styled(format!("  {key:<14} "), look.head()),
            Span::raw((*does).to_owned()),
        ])
    };
    let mut lines = vec![Line::from(Span::styled("keys", look.head()))];
    lines.extend(KEYS.iter().map(row));
    // Where there is little room the keys are what is looked for.
    if usize::from(area.height) > KEYS.len() + NUMBERS.len() + 2 {
        lines.push(Line::default());
    }
    lines.push(Line::from(Span::styled("numbers", look.head())));
    lines.extend(NUMBERS.iter().map(row));
    for (y, line) in (area.y..area.bottom()).zip(&lines) {
        put(buffer, Rect { y, height: 1, ..area }, line);
    }
}
