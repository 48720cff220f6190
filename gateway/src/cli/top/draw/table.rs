//! Routes with their experiments, and these with their variants: one row each.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::super::frame::{Experiment, Numbers};
use super::super::past::{Measure, PLACES, STEP, Window};
use super::super::rows::{self, Row};
use super::super::said::{self, Weight};
use super::super::seen::{Seen, Whose};
use super::super::spark::{self, Scales};
use super::super::view::{Page, Sort, View};
use super::columns::{Column, Columns};
use super::{Scene, changes, is_harm, page_rows, put};
use crate::cli::words;

/// The table, and what happened below it.
pub(super) fn draw(
    buffer: &mut Buffer,
    area: Rect,
    scene: &Scene<'_>,
    view: &mut View,
    scales: &mut Scales,
) {
    let rows = page_rows(scene, view);
    let wanted = rows.len().max(1) + 1;
    let height = usize::from(area.height);
    // What happened has a third of the room at most, and what the table leaves.
    let below = match height {
        ..14 => 0,
        14..20 => 4,
        _ => (height / 3).min(12).max(height.saturating_sub(wanted + 1)),
    };
    let room = height - below;
    let top = view.top(&rows, room.saturating_sub(1));
    let title = match area.width {
        112.. => "route, experiment, variant",
        _ => "name",
    };
    let shown = rows.len().saturating_sub(top).min(room.saturating_sub(1));
    // Where one is in a list that is longer than the window.
    let place = match shown < rows.len() {
        true => format!("rows {} to {} of {}", top + 1, top + shown, rows.len()),
        false => title.to_owned(),
    };
    // Of all there are, so that a filter moves no column.
    let all = rows::rows(scene.seen, &Page::Everything, Sort::Written, "");
    let columns = Columns::of(usize::from(area.width), longest(&all).max(title.len()));
    put(buffer, area, &heading(&place, &columns, view.measure, scene));
    let picked = view.picked(&rows);
    for (index, row) in rows.iter().enumerate().skip(top).take(room.saturating_sub(1)) {
        let y = area.y + 1 + u16::try_from(index - top).unwrap_or(0);
        let place = Rect { y, height: 1, ..area };
        put(buffer, place, &line(row, &columns, view.measure, scene, scales));
        if index == picked {
            buffer.set_style(place, scene.look.picked());
        }
    }
    if rows.is_empty() {
        let text = match (view.filter.is_empty(), scene.seen.frame.at) {
            (_, 0) => "waiting for the first second".to_owned(),
            (false, _) => format!("nothing is called \"{}\"; Esc clears the filter", view.filter),
            (true, _) => "nothing is there any more; Esc goes back".to_owned(),
        };
        let place = Rect { y: area.y + 1, height: 1, ..area };
        put(buffer, place, &Line::from(Span::styled(text, scene.look.dim())));
    }
    if below > 1 {
        let lines = changes(scene, None, below - 1, area.width);
        for (index, line) in lines.iter().enumerate() {
            let y = area.y + u16::try_from(room + 1 + index).unwrap_or(0);
            put(buffer, Rect { y, height: 1, ..area }, line);
        }
    }
}

/// Columns that the longest name takes, with its sign.
fn longest(rows: &[Row<'_>]) -> usize {
    let of = |row: &Row<'_>| match row {
        Row::Route(of) => of.name.chars().count(),
        // It may go on into the numbers, which it has none of.
        Row::Experiment(of) => of.name.chars().count() + 3,
        Row::Variant(of, at) => {
            let control = if *at == 0 { CONTROL.len() } else { 0 };
            6 + of.variants[*at].name.chars().count() + control
        }
        Row::Shadow(of) => 2 + of.name.chars().count() + SHADOW.len(),
    };
    rows.iter().map(of).max().unwrap_or(0)
}

const CONTROL: &str = " control";
const SHADOW: &str = " shadow";

/// The names of the columns.
pub(super) fn heading(
    title: &str,
    columns: &Columns,
    measure: Measure,
    scene: &Scene<'_>,
) -> Line<'static> {
    let mut text = padded(title, columns.name, false);
    for column in columns.all {
        text.push_str(&" ".repeat(columns.gutter));
        text.push_str(&padded(column.title(), column.width(), true));
    }
    if columns.spark > 0 {
        let seconds = i64::try_from(columns.spark).unwrap_or(0) * STEP;
        let span = words::span(seconds.unsigned_abs());
        let full = format!("{}, last {span}", said::measure(measure));
        let short = if measure == Measure::Rate { "req/s" } else { said::measure(measure) };
        let fits = |text: &str| text.chars().count() <= columns.spark;
        let said = [full.as_str(), said::measure(measure)].into_iter().find(|text| fits(text));
        let said = said.unwrap_or(short);
        text.push_str(&format!("  {}", padded(said, columns.spark, true)));
    }
    Line::from(Span::styled(text, scene.look.dim()))
}

/// `text` in exactly `width` columns.
fn padded(text: &str, width: usize, right: bool) -> String {
    let text = words::cut(text, width);
    if right { format!("{text:>width$}") } else { format!("{text:<width$}") }
}

/// One row.
pub(super) fn line(
    row: &Row<'_>,
    columns: &Columns,
    measure: Measure,
    scene: &Scene<'_>,
    scales: &mut Scales,
) -> Line<'static> {
    let look = scene.look;
    let seen = scene.seen;
    let old = if scene.is_old() { look.dim() } else { Style::new() };
    let line = match row {
        Row::Experiment(of) => experiment(of, scene),
        Row::Route(of) => {
            let whose = Whose::Route(of.name.clone());
            let mut spans = vec![Span::styled(padded(&of.name, columns.name, false), look.head())];
            spans.extend(numbers(columns, &of.numbers, seen.window(&whose), None, scene));
            let group = format!("route {}", of.name);
            spans.extend(picture(columns, measure, &whose, &[&whose], &group, seen, scales, scene));
            Line::from(spans)
        }
        Row::Variant(of, at) => {
            let variant = &of.variants[*at];
            let whose = whose(of, *at);
            let sign = format!("    {} ", look.swatch(false));
            let taken = sign.chars().count();
            let mut spans = vec![Span::styled(sign, look.hue(*at))];
            let room = columns.name.saturating_sub(taken);
            let name = words::cut(&variant.name, room).into_owned();
            let left = room.saturating_sub(name.chars().count());
            let mark = if *at == 0 && left >= CONTROL.len() { CONTROL } else { "" };
            spans.push(Span::raw(name));
            spans.push(Span::styled(format!("{mark:<left$}"), look.dim()));
            let split = Split {
                weight: variant.weight,
                share: variant.share,
                first_byte: variant.first_byte_p95,
            };
            spans.extend(numbers(
                columns,
                &variant.numbers,
                seen.window(&whose),
                Some(split),
                scene,
            ));
            let all: Vec<Whose> = (0..of.variants.len()).map(|at| self::whose(of, at)).collect();
            let all: Vec<&Whose> = all.iter().collect();
            let group = format!("experiment {}", of.name);
            let drawn = picture(columns, measure, &whose, &all, &group, seen, scales, scene);
            spans.extend(drawn.into_iter().map(|span| span.patch_style(look.hue(*at))));
            Line::from(spans)
        }
        Row::Shadow(shadow) => {
            let whose = Whose::Shadow(shadow.name.clone());
            let sign = format!("{} ", look.swatch(true));
            let room = columns.name.saturating_sub(2);
            let name = words::cut(&shadow.name, room).into_owned();
            let left = room.saturating_sub(name.chars().count());
            let mark = if left >= SHADOW.len() { SHADOW } else { "" };
            let mut spans = vec![
                Span::raw(sign),
                Span::raw(name),
                Span::styled(format!("{mark:<left$}"), look.dim()),
            ];
            let now = Numbers { rate: shadow.rate, failed: shadow.failed, ..Numbers::default() };
            spans.extend(numbers(columns, &now, seen.window(&whose), None, scene));
            if measure != Measure::P95 {
                let group = format!("shadow {}", shadow.name);
                let drawn =
                    picture(columns, measure, &whose, &[&whose], &group, seen, scales, scene);
                spans.extend(drawn);
            }
            Line::from(spans)
        }
    };
    line.style(old)
}

fn whose(of: &Experiment, at: usize) -> Whose {
    Whose::Variant(of.name.clone(), of.variants[at].name.clone())
}

/// An experiment has no numbers of its own: its state stands there.
fn experiment(of: &Experiment, scene: &Scene<'_>) -> Line<'static> {
    let (state, weight) = said::doing(of);
    Line::from(vec![
        Span::raw(format!("  {}", words::clean(&of.name))),
        Span::styled(format!("@{}  ", of.revision), scene.look.dim()),
        Span::styled(
            state,
            if weight == Weight::Plain { scene.look.dim() } else { scene.style(weight) },
        ),
    ])
}

/// What only a variant has.
#[derive(Clone, Copy, Debug)]
struct Split {
    weight: f64,
    share: f64,
    first_byte: Option<f64>,
}

fn numbers(
    columns: &Columns,
    now: &Numbers,
    window: Option<&Window>,
    split: Option<Split>,
    scene: &Scene<'_>,
) -> Vec<Span<'static>> {
    let failed = window.and_then(Window::failed);
    let rate = window.map_or(now.rate, Window::rate);
    let latency = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), words::latency);
    let cell = |column: &Column| {
        let of_split = |say: &dyn Fn(Split) -> String| split.map_or_else(String::new, say);
        let text = match column {
            Column::Weight => of_split(&|split| short_weight(split.weight)),
            Column::Share => of_split(&|split| words::share(split.share)),
            Column::Arrived => match (split, window.and_then(Window::assigned)) {
                (None, _) => String::new(),
                (Some(_), None) => "–".to_owned(),
                (Some(_), Some(part)) => words::failures(part),
            },
            Column::Rate => words::per_second(rate),
            Column::Failed => failed.map_or_else(|| "–".to_owned(), words::failures),
            Column::P50 => latency(now.p50),
            Column::P95 => latency(now.p95),
            Column::P99 => latency(now.p99),
            Column::FirstByte => match split {
                None => String::new(),
                Some(split) => latency(split.first_byte),
            },
        };
        let text = scene.look.plain(&text);
        let is_bad = *column == Column::Failed && failed.is_some_and(is_harm);
        let style = if is_bad { scene.look.harm() } else { Style::new() };
        let width = column.width();
        Span::styled(format!("{}{}", " ".repeat(columns.gutter), padded(&text, width, true)), style)
    };
    columns.all.iter().map(cell).collect()
}

/// A weight in six columns.
fn short_weight(weight: f64) -> String {
    let text = words::weight(weight);
    if text.chars().count() <= 6 { text } else { format!("{weight:.1e}") }
}

/// The picture at the end of a row, on one scale with all of its group.
#[expect(clippy::too_many_arguments, reason = "a picture's data, its scale and its place")]
fn picture(
    columns: &Columns,
    measure: Measure,
    whose: &Whose,
    all: &[&Whose],
    group: &str,
    seen: &Seen,
    scales: &mut Scales,
    scene: &Scene<'_>,
) -> Option<Span<'static>> {
    if columns.spark == 0 {
        return None;
    }
    let every = all.iter().flat_map(|whose| seen.values(whose, PLACES, measure)).flatten();
    let top = scales.top(group, measure, every);
    let values = seen.values(whose, columns.spark, measure);
    Some(Span::raw(format!("  {}", spark::line(&values, top, scene.look.fine))))
}
