//! The same for a pipe, a file, or a terminal that asks for it once: one table, and JSON lines.

use super::frame::{Experiment, Numbers};
use super::past::Window;
use super::rows::{Row, rows};
use super::said;
use super::seen::{Seen, Whose};
use super::view::{Page, Sort};
use crate::cli::console::{Paint, Tone};
use crate::cli::table::{Cell, Lean, Table};
use crate::cli::words;

/// What a table says of whoever has nothing to say.
const NONE: &str = "–";

/// One table: a line that sums up, then a row for each route, experiment, variant and shadow.
pub(super) fn screen(seen: &Seen, width: usize, paint: Paint) -> String {
    let gateway = &seen.frame.gateway;
    let window = seen.window(&Whose::Gateway);
    let failed = window.and_then(Window::failed);
    let mut text = format!(
        "{} requests/s, {} failed, {} rejected/s, {} in flight, at {}\n",
        words::per_second(window.map_or(0.0, Window::rate)),
        failed.map_or_else(|| "none".to_owned(), words::failures),
        words::per_second(gateway.rejected),
        words::count(gateway.in_flight),
        said::clock(seen.frame.at),
    );
    for (need, weight) in said::needs(&seen.frame) {
        let tone = if weight == said::Weight::Harm { Tone::Bad } else { Tone::Warn };
        text.push_str(&format!("{}\n", paint.paint(tone, &format!("! {need}"))));
    }
    text.push('\n');
    let mut table = Table::new(&[
        ("route, experiment, variant", Lean::Left),
        ("weight", Lean::Right),
        ("share", Lean::Right),
        ("arrived", Lean::Right),
        ("req/s", Lean::Right),
        ("failed", Lean::Right),
        ("p50", Lean::Right),
        ("p95", Lean::Right),
        ("p99", Lean::Right),
        ("", Lean::Left),
    ])
    .sparing(&[1, 3, 6, 8, 5]);
    for row in rows(seen, &Page::Everything, Sort::Written, "") {
        table.row(cells(seen, &row));
    }
    for line in table.lines(0, width, paint) {
        text.push_str(&format!("{line}\n"));
    }
    text.push_str(&paint.paint(
        Tone::Dim,
        "\nover the last 10 s, never across a revision; arrived: part of the experiment's requests",
    ));
    text
}

fn cells(seen: &Seen, row: &Row<'_>) -> Vec<Cell> {
    let blank = || Cell::from("");
    let figures = |whose: &Whose, now: &Numbers| {
        let window = seen.window(whose);
        let failed = window.and_then(Window::failed);
        let is_bad = failed.is_some_and(|failed| failed >= 0.01);
        let latency =
            |value: Option<f64>| Cell::from(value.map_or_else(|| NONE.to_owned(), words::latency));
        vec![
            Cell::from(words::per_second(window.map_or(now.rate, Window::rate))),
            Cell::toned(
                failed.map_or_else(|| NONE.to_owned(), words::failures),
                if is_bad { Tone::Bad } else { Tone::Plain },
            ),
            latency(now.p50),
            latency(now.p95),
            latency(now.p99),
        ]
    };
    match row {
        Row::Route(of) => {
            let whose = Whose::Route(of.name.clone());
            let mut cells = vec![Cell::toned(&of.name, Tone::Bold), blank(), blank(), blank()];
            cells.extend(figures(&whose, &of.numbers));
            cells
        }
        Row::Experiment(of) => {
            let (state, _) = said::doing(of);
            let mut cells = vec![Cell::from(format!("  {}@{}", of.name, of.revision))];
            cells.extend(std::iter::repeat_with(blank).take(8));
            cells.push(Cell::from(state));
            cells
        }
        Row::Variant(of, at) => variant(seen, of, *at, &figures),
        Row::Shadow(of) => {
            let whose = Whose::Shadow(of.name.clone());
            let now = Numbers { rate: of.rate, failed: of.failed, ..Numbers::default() };
            let mut cells = vec![Cell::from(&of.name), blank(), blank(), blank()];
            cells.extend(figures(&whose, &now));
            cells.push(Cell::toned("shadow", Tone::Dim));
            cells
        }
    }
}

fn variant(
    seen: &Seen,
    of: &Experiment,
    at: usize,
    figures: &dyn Fn(&Whose, &Numbers) -> Vec<Cell>,
) -> Vec<Cell> {
    let variant = &of.variants[at];
    let whose = Whose::Variant(of.name.clone(), variant.name.clone());
    let arrived = seen.window(&whose).and_then(Window::assigned);
    let mut cells = vec![
        Cell::from(format!("    {}", variant.name)),
        Cell::from(words::weight(variant.weight)),
        Cell::from(words::share(variant.share)),
        Cell::from(arrived.map_or_else(|| NONE.to_owned(), words::failures)),
    ];
    cells.extend(figures(&whose, &variant.numbers));
    cells.push(Cell::toned(if at == 0 { "control" } else { "" }, Tone::Dim));
    cells
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_table_reads_like_this() {
        let text = screen(&sample::seen(), usize::MAX, Paint { on: false });
        assert_eq!(text, include_str!("plain.txt").trim_end(), "{text}");
    }

    #[test]
    fn what_matters_most_fits_a_narrow_terminal() {
        let text = screen(&sample::seen(), 72, Paint { on: false });
        let table: Vec<&str> = text.lines().filter(|line| line.contains("  ")).collect();
        assert!(table.len() > 8 && table.iter().all(|line| line.chars().count() <= 72), "{text}");
        for column in ["share", "req/s", "failed", "p95"] {
            assert!(table[0].contains(column), "{text}");
        }
    }
}
