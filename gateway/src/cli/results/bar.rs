//! A ratio with its interval, as a picture of one line.

use crate::cli::console::Console;

/// Columns of a picture; odd, so that 1 stands in the middle.
const COLUMNS: usize = 25;

/// The picture's ends: a quarter and four times, as powers of two.
const REACH: f64 = 2.0;

/// What pictures are drawn with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    line: char,
    value: char,
    one: char,
    left: char,
    right: char,
}

const PLAIN: Bar = Bar { line: '-', value: 'o', one: '|', left: '<', right: '>' };
const FINE: Bar = Bar { line: '━', value: '●', one: '│', left: '◀', right: '▶' };

impl Bar {
    /// Fine lines on a terminal that can show them, plain ones elsewhere.
    pub(super) fn of(console: &Console) -> Self {
        Self::with(console.is_fine())
    }

    /// The one or the other.
    pub(super) fn with(fine: bool) -> Self {
        if fine { FINE } else { PLAIN }
    }

    /// Plain ones.
    #[cfg(test)]
    pub(super) fn plain() -> Self {
        PLAIN
    }

    /// What the picture means.
    pub(super) fn legend(self) -> String {
        let Self { line, value, one, .. } = self;
        format!(
            "variant over control from 1/4 to 4 times, {one} is the same, \
             {line}{value}{line} the ratio and where it lies"
        )
    }

    /// From `low` to `high` with a mark at `value`; an arrow where it goes on outside. Without a
    /// bound on either side only the middle is drawn.
    pub(super) fn draw(self, value: Option<f64>, low: Option<f64>, high: Option<f64>) -> String {
        let mut columns = [' '; COLUMNS];
        columns[COLUMNS / 2] = self.one;
        let low = low.unwrap_or(0.0);
        let high = high.unwrap_or(f64::INFINITY);
        // All is possible: that is no interval to show.
        if low > 0.0 || high.is_finite() {
            let (from, to) = (place(low), place(high));
            for column in &mut columns[from.min(to)..=to] {
                *column = self.line;
            }
            if low < 2_f64.powf(-REACH) {
                columns[0] = self.left;
            }
            if high > 2_f64.powf(REACH) {
                columns[COLUMNS - 1] = self.right;
            }
            let middle = &mut columns[COLUMNS / 2];
            if *middle == self.line {
                *middle = self.one;
            }
            let inside = 2_f64.powf(-REACH)..=2_f64.powf(REACH);
            if let Some(value) = value.filter(|value| inside.contains(value)) {
                columns[place(value)] = self.value;
            }
        }
        columns.iter().collect::<String>().trim_end().to_owned()
    }
}

/// The column of a ratio, on a scale of powers.
fn place(ratio: f64) -> usize {
    let at = (ratio.log2().clamp(-REACH, REACH) + REACH) / (2.0 * REACH);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a column")]
    let column = (at * (COLUMNS - 1) as f64).round() as usize;
    column.min(COLUMNS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_stands_where_it_belongs() {
        let draw = |value, low, high| PLAIN.draw(value, low, high);
        assert_eq!(draw(Some(1.0), Some(0.5), Some(2.0)), "      ------o------");
        assert_eq!(draw(Some(2.0), Some(1.5), Some(9.0)), "            |   --o----->");
        assert_eq!(draw(Some(8.0), Some(5.0), None), "            |           >");
        assert_eq!(draw(None, Some(0.0), Some(1.0)), "<-----------|");
        assert_eq!(draw(None, None, None), "            |");
    }
}
