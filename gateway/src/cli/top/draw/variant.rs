//! One variant: its numbers, its ten minutes, and how it stands against control.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::frame::Experiment;
use super::super::past::{Measure, PLACES, STEP};
use super::super::said;
use super::super::seen::Whose;
use super::super::spark::{self, Scales};
use super::experiment::verdict_lines;
use super::{Scene, is_harm, joined, put};
use crate::cli::{reading, results, words};

/// What matters most comes first, and is there when there is no room for all.
const PICTURES: [Measure; 3] = [Measure::Rate, Measure::P95, Measure::Failed];

/// Draws the page of a variant, named by experiment and variant.
pub(super) fn draw(
    buffer: &mut Buffer,
    area: Rect,
    scene: &Scene<'_>,
    scales: &mut Scales,
    (experiment, name): (&str, &str),
) {
    let width = usize::from(area.width);
    let height = usize::from(area.height);
    let of = scene.seen.experiment(experiment);
    let place = of.and_then(|of| of.variants.iter().position(|of| of.name == name));
    let (Some(of), Some(place)) = (of, place) else {
        let text = match scene.seen.frame.at {
            0 => "waiting for the first second".to_owned(),
            _ => format!("{name} is not there any more; Esc goes back"),
        };
        put(buffer, area, &Line::from(Span::styled(text, scene.look.dim())));
        return;
    };
    let mut lines = numbers(scene, experiment, of, place, area.width);
    let comparison = comparison(scene, experiment, of, place, width);
    let wanted = comparison.len();
    // Pictures share what is left: each has a blank, a title and a line at least.
    let left = height.saturating_sub(lines.len() + wanted + usize::from(wanted > 0));
    let drawn = &PICTURES[..(left / 3).min(PICTURES.len())];
    let each = left.checked_div(drawn.len()).unwrap_or(0).saturating_sub(2).min(8);
    for measure in drawn {
        lines.push(Line::default());
        lines.extend(chart(scene, scales, (experiment, name), place, *measure, (width, each)));
    }
    if wanted > 0 {
        lines.push(Line::default());
        lines.extend(comparison);
    }
    for (y, line) in (area.y..area.bottom()).zip(&lines) {
        put(buffer, Rect { y, height: 1, ..area }, line);
    }
}

fn numbers(
    scene: &Scene<'_>,
    experiment: &str,
    of: &Experiment,
    place: usize,
    width: u16,
) -> Vec<Line<'static>> {
    let look = scene.look;
    let variant = &of.variants[place];
    let window = scene.seen.window(&Whose::Variant(experiment.to_owned(), variant.name.clone()));
    let part =
        |value: Option<f64>, say: fn(f64) -> String| value.map_or_else(|| "–".to_owned(), say);
    let control = if place == 0 { ", control" } else { "" };
    let head = Line::from(vec![
        Span::styled(format!("{} ", look.swatch(false)), look.hue(place)),
        Span::styled(variant.name.clone(), look.head()),
        Span::styled(
            format!("{control} of {} at revision {}", words::clean(experiment), of.revision),
            look.dim(),
        ),
    ]);
    let arrived = window.and_then(|window| window.assigned());
    let failed = window.and_then(|window| window.failed());
    let rate = window.map_or(0.0, |window| window.rate());
    let harm = if failed.is_some_and(is_harm) { look.harm() } else { Default::default() };
    let first = vec![
        Span::raw(format!("weight {}", words::weight(variant.weight))),
        Span::raw(format!("share {}", words::share(variant.share))),
        Span::raw(look.plain(&format!("arrived {}", part(arrived, words::failures)))),
        Span::raw(format!("{} requests/s", words::per_second(rate))),
        Span::styled(look.plain(&format!("{} failed", part(failed, words::failures))), harm),
    ];
    let now = &variant.numbers;
    let times = [("p50", now.p50), ("p95", now.p95), ("p99", now.p99)];
    let mut second: Vec<Span<'static>> = times
        .iter()
        .map(|(name, value)| {
            Span::raw(look.plain(&format!("{name} {}", part(*value, words::latency))))
        })
        .collect();
    second.push(Span::raw(
        look.plain(&format!("first byte p95 {}", part(variant.first_byte_p95, words::latency))),
    ));
    let mut lines = vec![head];
    lines.extend(joined(first, width, scene));
    lines.extend(joined(second, width, scene));
    lines
}

/// One measure over time, `height` lines high.
fn chart(
    scene: &Scene<'_>,
    scales: &mut Scales,
    (experiment, name): (&str, &str),
    place: usize,
    measure: Measure,
    (width, height): (usize, usize),
) -> Vec<Line<'static>> {
    let whose = Whose::Variant(experiment.to_owned(), name.to_owned());
    let columns = width.min(PLACES);
    let every = scene.seen.values(&whose, PLACES, measure).into_iter().flatten();
    // A page of its own has a scale of its own.
    let top = scales.top(&format!("variant {experiment} {name}"), measure, every);
    let values = scene.seen.values(&whose, columns, measure);
    let seconds = STEP.unsigned_abs() * columns as u64;
    let title = format!("  {}, last {}", said::scale(measure, top), words::span(seconds));
    let mut lines = vec![Line::from(vec![
        Span::styled(said::measure(measure), scene.look.head()),
        Span::styled(title, scene.look.dim()),
    ])];
    let picture = spark::chart(&values, top, height, scene.look.fine);
    let hue = scene.look.hue(place);
    lines.extend(picture.into_iter().map(|row| Line::from(Span::styled(row, hue))));
    lines
}

/// The verdict and every measure against control; nothing of control itself.
fn comparison(
    scene: &Scene<'_>,
    experiment: &str,
    of: &Experiment,
    place: usize,
    width: usize,
) -> Vec<Line<'static>> {
    if place == 0 {
        return Vec::new();
    }
    let look = scene.look;
    let control = of.variants.first().map_or("control", |of| of.name.as_str());
    let results = scene
        .detail
        .filter(|detail| detail.experiment == experiment)
        .and_then(|detail| detail.results.as_ref());
    let found = results.and_then(|all| all.get("variants")?.get(&of.variants[place].name));
    let Some(found) = found else {
        return vec![Line::from(Span::styled("verdict: looking", look.dim()))];
    };
    let said = reading::text(found, "words").unwrap_or_default();
    let verdict = reading::text(found, "verdict");
    let mut lines = verdict_lines(None, verdict, said, width, scene);
    let table = results::comparison(found, control, look.fine, width);
    for (at, text) in table.into_iter().enumerate() {
        let style = match at {
            0 => look.dim(),
            _ if text.ends_with("  worse") => look.harm(),
            _ => Default::default(),
        };
        lines.push(Line::from(Span::styled(text, style)));
    }
    lines
}
