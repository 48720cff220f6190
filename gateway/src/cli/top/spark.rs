//! Small pictures of numbers over time, in the cells of a terminal. Amounts start at 0: noise looks
//! like noise. A gap in what is known is a gap in the picture.

use std::collections::HashMap;

use super::past::Measure;

/// From nothing to all, for a terminal that has blocks, and for one that has not.
const FINE: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const PLAIN: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

/// One line: a column for each of `values`, `top` is as high as it goes.
pub(super) fn line(values: &[Option<f64>], top: f64, fine: bool) -> String {
    let levels = if fine { FINE } else { PLAIN };
    let column = |value: &Option<f64>| match value {
        None => ' ',
        Some(value) => levels[step(*value, top, 7)],
    };
    values.iter().map(column).collect()
}

/// The same, `height` lines high, the highest first.
pub(super) fn chart(values: &[Option<f64>], top: f64, height: usize, fine: bool) -> Vec<String> {
    if height <= 1 {
        return vec![line(values, top, fine)];
    }
    let row = |row: usize| -> String {
        // Eighths below this row.
        let below = (height - 1 - row) * 8;
        let column = |value: &Option<f64>| {
            let Some(value) = value else { return ' ' };
            let eighths = step(*value, top, height * 8);
            match eighths.saturating_sub(below) {
                // What is nothing stands on the ground, so that it is told from a gap.
                0 if below == 0 => {
                    if fine {
                        FINE[0]
                    } else {
                        PLAIN[0]
                    }
                }
                0 => ' ',
                part if fine => FINE[part.min(8) - 1],
                1..4 => '.',
                4..8 => ':',
                _ => '#',
            }
        };
        values.iter().map(column).collect()
    };
    (0..height).map(row).collect()
}

/// `value` of `top` in so many steps.
fn step(value: f64, top: f64, steps: usize) -> usize {
    let part = if top > 0.0 { (value / top).clamp(0.0, 1.0) } else { 0.0 };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a column's height"
    )]
    let step = (part * steps as f64).round() as usize;
    step.min(steps)
}

/// How high pictures go: fixed while one watches, made wider by steps of 1, 2, 5, never narrower.
#[derive(Clone, Debug, Default)]
pub(super) struct Scales(HashMap<(String, Measure), f64>);

impl Scales {
    /// The top of `group`'s pictures, once `values` are among them.
    pub(super) fn top(
        &mut self,
        group: &str,
        measure: Measure,
        values: impl IntoIterator<Item = f64>,
    ) -> f64 {
        let least = match measure {
            Measure::Rate => 1.0,
            Measure::Failed => 0.01,
            Measure::P95 => 0.01,
        };
        let largest = values.into_iter().fold(least, f64::max);
        let top = self.0.entry((group.to_owned(), measure)).or_insert(least);
        *top = top.max(round_up(largest));
        *top
    }
}

/// The next of 1, 2, 5, 10, 20 …
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    // A hair above a step is that step: 0.1 + 0.2 is not 0.5.
    steps.into_iter().find(|step| value <= step * (1.0 + 1e-9)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [Option<f64>; 6] = [Some(0.0), Some(1.0), None, Some(4.0), Some(8.0), Some(99.0)];

    #[test]
    fn amounts_start_at_0_and_a_gap_is_a_gap() {
        assert_eq!(line(&VALUES, 8.0, true), "▁▂ ▅██");
        assert_eq!(line(&VALUES, 8.0, false), "_. =##");
        assert_eq!(line(&[Some(0.0), Some(3.0)], 0.0, true), "▁▁");
    }

    #[test]
    fn a_chart_is_as_high_as_there_is_room() {
        assert_eq!(chart(&VALUES, 8.0, 2, true), ["    ██", "▁▂ ███"]);
        assert_eq!(chart(&VALUES, 16.0, 2, false), ["     #", "_. :##"]);
        assert_eq!(chart(&VALUES, 8.0, 1, true), [line(&VALUES, 8.0, true)]);
    }

    #[test]
    fn a_scale_grows_by_1_2_5_and_never_shrinks() {
        let mut scales = Scales::default();
        assert_eq!(scales.top("chat", Measure::Rate, [0.0, 0.3]), 1.0);
        assert_eq!(scales.top("chat", Measure::Rate, [17.0]), 20.0);
        assert_eq!(scales.top("chat", Measure::Rate, [3.0]), 20.0);
        assert_eq!(scales.top("chat", Measure::Failed, [0.3]), 0.5);
        assert_eq!(scales.top("other", Measure::P95, []), 0.01);
        assert_eq!([1.0, 1.01, 2.0, 0.05, 900.0].map(round_up), [1.0, 2.0, 2.0, 0.05, 1000.0]);
    }
}
