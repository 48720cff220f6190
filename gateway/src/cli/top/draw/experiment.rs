//! One experiment: its split, its variants, what is shown of them, its ramp, what happened.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::super::detail::Detail;
use super::super::frame::Experiment;
use super::super::past::{Measure, PLACES, STEP};
use super::super::said;
use super::super::seen::Whose;
use super::super::spark::{self, Scales};
use super::super::view::View;
use super::columns::Columns;
use super::{Scene, changes, page_rows, put, table};
use crate::cli::console::Paint;
use crate::cli::ramp::screen as ramp;
use crate::cli::{reading, split, words};

/// Columns of text at the end of a picture, for whose it is and its newest number.
const LABEL: usize = 34;

/// Draws the page.
pub(super) fn draw(
    buffer: &mut Buffer,
    area: Rect,
    scene: &Scene<'_>,
    view: &mut View,
    scales: &mut Scales,
    name: &str,
) {
    let width = usize::from(area.width);
    let Some(experiment) = scene.seen.experiment(name) else {
        let text = match scene.seen.frame.at {
            0 => "waiting for the first second".to_owned(),
            _ => format!("{name} is not there any more; Esc goes back"),
        };
        put(buffer, area, &Line::from(Span::styled(text, scene.look.dim())));
        return;
    };
    let detail = scene.detail.filter(|detail| detail.experiment == name);
    let mut lines = vec![heading(experiment, detail, scene), bar(experiment, width, scene)];

    let rows = page_rows(scene, view);
    let picked = view.picked(&rows);
    let longest = experiment.variants.iter().map(|of| of.name.chars().count()).max().unwrap_or(0);
    let columns = Columns::of(width, longest + 14);
    lines.push(table::heading("variant", &columns, view.measure, scene));
    let first = lines.len();
    for row in &rows {
        lines.push(table::line(row, &columns, view.measure, scene, scales));
    }
    let height = usize::from(area.height);
    let mut sections = vec![verdicts(experiment, detail, width, scene)];
    sections.extend(of_ramp(experiment, detail, width, scene));
    for section in sections {
        // What does not fit whole is cut at its end, but not to a heading alone.
        if lines.len() + 2 < height {
            if height > 16 {
                lines.push(Line::default());
            }
            lines.extend(section);
        }
    }
    // The picture that the table shows small comes first.
    let measures = [view.measure, view.measure.next(), view.measure.next().next()];
    for measure in measures {
        let chart = chart(experiment, measure, width, scene, scales);
        if lines.len() + 1 + chart.len() + 3 <= height {
            lines.push(Line::default());
            lines.extend(chart);
        }
    }
    if lines.len() + 3 <= height {
        lines.push(Line::default());
        let room = height - lines.len();
        lines.extend(changes(scene, Some(name), room, area.width));
    }
    for (index, line) in lines.iter().take(height).enumerate() {
        let place = Rect { y: area.y + u16::try_from(index).unwrap_or(0), height: 1, ..area };
        put(buffer, place, line);
        if index == first + picked && !rows.is_empty() {
            buffer.set_style(place, scene.look.picked());
        }
    }
}

/// `revision 7, running · changed 3 min ago by ada: a first look`.
fn heading(of: &Experiment, detail: Option<&Detail>, scene: &Scene<'_>) -> Line<'static> {
    let (state, weight) = said::state(of);
    let mut spans = vec![
        Span::raw(format!("revision {}, ", of.revision)),
        Span::styled(state, scene.style(weight)),
    ];
    if let Some(described) = detail.and_then(|detail| detail.described.as_ref()) {
        let mut more = String::new();
        if reading::text(described, "owner") == Some("file") {
            more.push_str(", owned by the file");
        }
        // Of the revision that is in force, or of none.
        if reading::whole(described, "revision") == Some(of.revision)
            && let Some(at) = reading::time(described, "changed_at")
        {
            let when = said::ago(scene.now, at.as_second());
            more.push_str(&format!("  {}  changed {when}", scene.look.dot()));
            if let Some(by) = reading::text(described, "changed_by") {
                more.push_str(&format!(" by {by}"));
            }
            if let Some(reason) = reading::text(described, "reason") {
                more.push_str(&format!(": \"{reason}\""));
            }
        }
        spans.push(Span::styled(scene.look.plain(&more), scene.look.dim()));
    }
    Line::from(spans)
}

/// The split: each variant as wide as its share, and nobody who has one without a column.
fn bar(of: &Experiment, width: usize, scene: &Scene<'_>) -> Line<'static> {
    let shares: Vec<f64> = of.variants.iter().map(|of| of.share).collect();
    let columns = split::bar::columns(&shares, width);
    let parts = columns.into_iter().enumerate().map(|(at, wide)| {
        let fill = scene.look.fill(at).to_string().repeat(wide);
        Span::styled(fill, scene.look.hue(at))
    });
    Line::from(parts.collect::<Vec<_>>())
}

/// A line for each variant that is judged, and one for how requests arrive.
fn verdicts(
    of: &Experiment,
    detail: Option<&Detail>,
    width: usize,
    scene: &Scene<'_>,
) -> Vec<Line<'static>> {
    let look = scene.look;
    let Some(results) = detail.and_then(|detail| detail.results.as_ref()) else {
        let text = match detail.and_then(|detail| detail.why.as_ref()) {
            Some(why) => format!("verdicts are not known: {}", look.plain(why)),
            None => "verdicts: looking".to_owned(),
        };
        return vec![Line::from(Span::styled(text, look.dim()))];
    };
    let judged = detail.map_or(0, |detail| detail.judged);
    let mut lines = vec![Line::from(vec![
        Span::styled("verdicts", look.head()),
        Span::styled(format!("  as of {}", said::ago(scene.now, judged)), look.dim()),
    ])];
    let ratio = results.get("sample_ratio");
    let is_mismatch = ratio.and_then(|ratio| reading::text(ratio, "verdict")) == Some("mismatch");
    // What is dealt, by its name: nobody speaks of units.
    let described = detail.and_then(|detail| detail.described.as_ref());
    let units = described.map_or_else(Vec::new, |described| reading::texts(described, "unit"));
    let is_units = reading::text(results, "counts") == Some("units");
    let what = if is_units { split::nouns(&units) } else { "requests" };
    let p = ratio.and_then(|ratio| reading::number(ratio, "p_value"));
    let p = p.map_or_else(String::new, |p| match p < 0.0001 {
        true => " (p below 0.0001)".to_owned(),
        false if p > 0.995 => " (p = 1)".to_owned(),
        false => format!(" (p = {p:.2})"),
    });
    if is_mismatch {
        let text = format!(
            "! {} do not arrive as dealt{p}. Verdicts are withheld until it is found why.",
            capital(what)
        );
        for text in words::wrapped(&text, width) {
            lines.push(Line::from(Span::styled(text, look.wait())));
        }
        return lines;
    }
    for (at, variant) in of.variants.iter().enumerate().skip(1) {
        let found = results.get("variants").and_then(|all| all.get(&variant.name));
        let verdict = found.and_then(|found| reading::text(found, "verdict"));
        let said = found.and_then(|found| reading::text(found, "words"));
        let said =
            said.map_or_else(|| format!("nothing is known of {} yet", variant.name), str::to_owned);
        let swatch = Span::styled(format!("{} ", look.swatch(false)), look.hue(at));
        lines.extend(verdict_lines(Some(swatch), verdict, &said, width, scene));
    }
    let text = format!("{} arrive as dealt{p}", capital(what));
    lines.push(Line::from(Span::styled(text, look.dim())));
    lines
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Sign, word and sentence of a verdict, in as many lines as they need.
pub(super) fn verdict_lines(
    swatch: Option<Span<'static>>,
    verdict: Option<&str>,
    said: &str,
    width: usize,
    scene: &Scene<'_>,
) -> Vec<Line<'static>> {
    let (sign, word, style) = sign(verdict, scene);
    let said = scene.look.plain(said);
    // Not "too early: too early to say".
    let head = match said.starts_with(word) {
        true => format!("{sign} "),
        false => format!("{sign} {word}: "),
    };
    let mut first: Vec<Span<'static>> = swatch.into_iter().collect();
    first.push(Span::styled(head, style));
    let taken: usize = first.iter().map(Span::width).sum();
    let mut lines = words::wrapped(&said, width.saturating_sub(taken).max(10)).into_iter();
    first.push(Span::raw(lines.next().unwrap_or_default()));
    let rest = lines.map(|text| Line::from(format!("{}{text}", " ".repeat(taken))));
    std::iter::once(Line::from(first)).chain(rest).collect()
}

/// Sign, word and looks of a verdict: harm alone has a colour.
fn sign(verdict: Option<&str>, scene: &Scene<'_>) -> (&'static str, &'static str, Style) {
    let fine = scene.look.fine;
    let of = |good: &'static str, plain: &'static str| if fine { good } else { plain };
    match verdict {
        Some("worse") => (of("▼", "!"), "worse", scene.look.harm()),
        Some("better") => (of("✓✓", "++"), "better", scene.look.head()),
        Some("no_worse") => (of("✓", "+"), "no worse", scene.look.head()),
        _ => (of("◌", "."), "too early", scene.look.dim()),
    }
}

/// Where the newest ramp stands, if there was one.
fn of_ramp(
    of: &Experiment,
    detail: Option<&Detail>,
    width: usize,
    scene: &Scene<'_>,
) -> Option<Vec<Line<'static>>> {
    let now = of.ramp.as_ref()?;
    let (standing, weight) = said::ramp(now);
    let mut first = vec![
        Span::styled("ramp  ", scene.look.head()),
        Span::styled(standing, scene.style(weight)),
    ];
    let ramp = detail.and_then(|detail| detail.ramp.as_ref());
    let is_under_way = said::is_under_way(now);
    let mut lines = Vec::new();
    if let Some(ramp) = ramp.filter(|_| is_under_way) {
        let rest = ramp::until_next(ramp, &now.state);
        let taken: usize = first.iter().map(Span::width).sum();
        if taken + 2 + rest.chars().count() <= width {
            first.push(Span::styled(format!("; {rest}"), scene.look.dim()));
        } else {
            lines.push(Line::from(Span::styled(format!("  {rest}"), scene.look.dim())));
        }
        let look = ramp::Look { paint: Paint { on: false }, width, is_fine: scene.look.fine };
        let guardrails = ramp::guardrails(ramp, look);
        if guardrails.len() > 1 {
            lines.extend(guardrails.into_iter().enumerate().map(|(at, text)| {
                let style = match at {
                    0 => scene.look.dim(),
                    _ if text.contains("  breached") => scene.look.harm(),
                    _ => Style::new(),
                };
                Line::from(Span::styled(text, style))
            }));
        }
    }
    lines.insert(0, Line::from(first));
    Some(lines)
}

/// One measure of all variants over time, on one scale, each named at its end.
fn chart(
    of: &Experiment,
    measure: Measure,
    width: usize,
    scene: &Scene<'_>,
    scales: &mut Scales,
) -> Vec<Line<'static>> {
    let look = scene.look;
    let whose = |name: &str| Whose::Variant(of.name.clone(), name.to_owned());
    let every = of.variants.iter();
    let every = every.flat_map(|of| scene.seen.values(&whose(&of.name), PLACES, measure)).flatten();
    let top = scales.top(&format!("experiment {}", of.name), measure, every);
    let columns = width.saturating_sub(LABEL).min(PLACES);
    let seconds = STEP.unsigned_abs() * columns as u64;
    let mut lines = vec![Line::from(vec![
        Span::styled(said::measure(measure), look.head()),
        Span::styled(
            format!("  {}, last {}", said::scale(measure, top), words::span(seconds)),
            look.dim(),
        ),
    ])];
    for (at, variant) in of.variants.iter().enumerate() {
        let values = scene.seen.values(&whose(&variant.name), columns, measure);
        // What was is not what is: nothing now is nothing.
        let now = values.last().copied().flatten();
        let now = now.map_or_else(|| "–".to_owned(), |now| said::amount(measure, now));
        let name = words::cut(&variant.name, LABEL - 18).into_owned();
        lines.push(Line::from(vec![
            Span::styled(spark::line(&values, top, look.fine), look.hue(at)),
            Span::styled(format!(" {} ", look.swatch(false)), look.hue(at)),
            Span::raw(look.plain(&format!("{name} {now}"))),
        ]));
    }
    lines
}
