//! Aligned columns.

use super::console::{Paint, Tone};
use super::words::{clean, cut};

/// Blank columns between two columns of a table.
const GUTTER: usize = 2;

/// Columns of text that the last column has at least.
const LEAST: usize = 8;

/// To which side a column leans: text to the left, numbers to the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lean {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// One cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// `text` in `tone`, made safe to show.
    pub(crate) fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: clean(text.as_ref()).into_owned(), tone }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// Columns and rows.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Lean)>,
    rows: Vec<Vec<Cell>>,
    /// Places of columns that are left out where there is no room, the first of them first.
    spare: &'static [usize],
}

impl Table {
    /// An empty table.
    pub(crate) fn new(columns: &[(&'static str, Lean)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new(), spare: &[] }
    }

    /// The columns at these places are left out where there is no room, one by one, in this order.
    pub(crate) fn sparing(self, spare: &'static [usize]) -> Self {
        Self { spare, ..self }
    }

    /// Adds a row; cells that are missing stay blank.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut row: Vec<Cell> = cells.into_iter().collect();
        row.resize_with(self.columns.len(), Cell::default);
        self.rows.push(row);
    }

    /// Heading and rows, each indented by `indent`. If `width` is too small, what can be spared is left
    /// out and the last column is cut; whatever is free text belongs there.
    pub(crate) fn lines(&self, indent: usize, width: usize, paint: Paint) -> Vec<String> {
        let mut widths: Vec<usize> =
            self.columns.iter().map(|(name, _)| name.chars().count()).collect();
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(cell.text.chars().count());
            }
        }
        let shown = self.shown(indent, width, &widths);
        if let Some((&last, others)) = shown.split_last() {
            let before = indent + others.iter().map(|&at| widths[at] + GUTTER).sum::<usize>();
            widths[last] = widths[last].min(width.saturating_sub(before).max(LEAST));
        }
        let heading: Vec<Cell> =
            self.columns.iter().map(|(name, _)| Cell::toned(name, Tone::Dim)).collect();
        let line = |row: &Vec<Cell>| {
            let mut line = " ".repeat(indent);
            let mut blanks = 0;
            for &at in &shown {
                let (cell, width, (_, lean)) = (&row[at], widths[at], self.columns[at]);
                let text = cut(&cell.text, width);
                let pad = width.saturating_sub(text.chars().count());
                let (left, right) = if lean == Lean::Right { (pad, 0) } else { (0, pad) };
                blanks += left;
                if !text.is_empty() {
                    // Blanks are written when something follows, so that no line ends in them.
                    line.extend(std::iter::repeat_n(' ', std::mem::take(&mut blanks)));
                    line.push_str(&paint.paint(cell.tone, &text));
                }
                blanks += right + GUTTER;
            }
            line.trim_end().to_owned()
        };
        std::iter::once(&heading).chain(&self.rows).map(line).collect()
    }

    /// Places of the columns that there is room for.
    fn shown(&self, indent: usize, width: usize, widths: &[usize]) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..widths.len()).collect();
        let mut spare = self.spare.iter();
        loop {
            let Some((&last, others)) = shown.split_last() else { return shown };
            let before = indent + others.iter().map(|&at| widths[at] + GUTTER).sum::<usize>();
            if before + widths[last].min(LEAST) <= width {
                return shown;
            }
            let Some(next) = spare.next() else { return shown };
            shown.retain(|at| at != next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table =
            Table::new(&[("variant", Lean::Left), ("weight", Lean::Right), ("why", Lean::Left)]);
        table.row(["stable".into(), "90".into(), "a long story\x1b[1m".into()]);
        table.row(["canary".into(), "10".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_blank_end() {
        assert_eq!(
            table().lines(2, usize::MAX, Paint { on: false }),
            [
                "  variant  weight  why",
                "  stable       90  a long story\\u{1b}[1m",
                "  canary       10",
            ]
        );
    }

    #[test]
    fn the_last_column_gives_way() {
        assert_eq!(table().lines(0, 27, Paint { on: false })[1], "stable       90  a long st…");
    }

    #[test]
    fn what_can_be_spared_is_left_out_before_a_line_is_too_long() {
        let table = table().sparing(&[1, 0]);
        let narrow = |width| table.lines(0, width, Paint { on: false })[1].clone();
        assert_eq!(narrow(25), "stable       90  a long…");
        assert_eq!(narrow(24), "stable   a long story\\u…");
        assert_eq!(narrow(16), "a long story\\u{…");
    }

    #[test]
    fn colours_do_not_shift_columns() {
        let mut table = Table::new(&[("a", Lean::Right), ("b", Lean::Right)]);
        table.row([Cell::toned("1", Tone::Bad), Cell::from("22")]);
        assert_eq!(table.lines(0, 80, Paint { on: true })[1], "\x1b[31m1\x1b[0m  22");
    }
}
