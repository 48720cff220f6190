//! A split as a bar: how many columns each part gets.

/// Columns of each of `shares` in a bar of `width`, in order: as exact as columns are, but whoever has
/// a share has a column while there are enough. Shares are fractions that add up to 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share lies between 0 and 1, and a bar is short"
)]
pub(crate) fn columns(shares: &[f64], width: usize) -> Vec<usize> {
    let mut edge = 0.0;
    let mut drawn = 0;
    let mut columns: Vec<usize> = shares
        .iter()
        .map(|share| {
            // Edges are rounded, not parts, so that they add up.
            edge += share.clamp(0.0, 1.0);
            let end = ((edge * width as f64).round() as usize).clamp(drawn, width);
            let own = end - drawn;
            drawn = end;
            own
        })
        .collect();
    for at in 0..columns.len() {
        if shares[at] > 0.0 && columns[at] == 0 {
            let widest = (0..columns.len()).max_by_key(|at| columns[*at]).unwrap_or(at);
            if columns[widest] > 1 {
                columns[widest] -= 1;
                columns[at] += 1;
            }
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn parts_add_up_and_whoever_has_a_share_is_seen() {
        assert_eq!(columns(&[0.9, 0.1], 10), [9, 1]);
        assert_eq!(columns(&[0.999, 0.001, 0.0], 20), [19, 1, 0]);
        assert_eq!(columns(&[0.3334, 0.3333, 0.3333], 10), [3, 4, 3]);
        assert_eq!(columns(&[1.0, 0.0], 7), [7, 0]);
        assert_eq!(columns(&[0.25; 4], 2).iter().sum::<usize>(), 2);
    }
}
