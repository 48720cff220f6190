//! Columns of a table, as many as there is room for.

/// Blanks between two columns where there is room.
const WIDE: usize = 112;

/// Columns of text that a picture has at least.
const SPARK: usize = 8;

/// Columns of text that a name has before there is a picture: its sign, and enough to know it by.
const NAME: usize = 16;

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Weight,
    Share,
    Arrived,
    Rate,
    Failed,
    P50,
    P95,
    P99,
    FirstByte,
}

impl Column {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Share => "share",
            Self::Arrived => "arrived",
            Self::Rate => "req/s",
            Self::Failed => "failed",
            Self::P50 => "p50",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::FirstByte => "1st byte",
        }
    }

    pub(super) fn width(self) -> usize {
        match self {
            Self::Weight => 6,
            Self::Rate => 6,
            Self::FirstByte => 8,
            Self::Share | Self::Arrived | Self::Failed => 7,
            Self::P50 | Self::P95 | Self::P99 => 7,
        }
    }
}

/// How a table is divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// Columns of text for the name.
    pub(super) name: usize,
    pub(super) all: &'static [Column],
    /// Blanks between two.
    pub(super) gutter: usize,
    /// Columns of text for the picture; 0 if there is no room.
    pub(super) spark: usize,
}

const FULL: &[Column] = &[
    Column::Weight,
    Column::Share,
    Column::Arrived,
    Column::Rate,
    Column::Failed,
    Column::P50,
    Column::P95,
    Column::P99,
];
const FULLEST: &[Column] = &[
    Column::Weight,
    Column::Share,
    Column::Arrived,
    Column::Rate,
    Column::Failed,
    Column::P50,
    Column::P95,
    Column::P99,
    Column::FirstByte,
];
const SOME: &[Column] =
    &[Column::Share, Column::Rate, Column::Failed, Column::P50, Column::P95, Column::P99];
const FEW: &[Column] = &[Column::Share, Column::Rate, Column::Failed, Column::P95];
const FEWER: &[Column] = &[Column::Share, Column::Rate, Column::Failed];
const FEWEST: &[Column] = &[Column::Rate, Column::Failed];

impl Columns {
    /// For a terminal of `width`, and names of `longest`.
    pub(super) fn of(width: usize, longest: usize) -> Self {
        let (all, gutter) = match width {
            140.. => (FULLEST, 2),
            WIDE..140 => (FULL, 2),
            76..WIDE => (SOME, 1),
            48..76 => (FEW, 1),
            39..48 => (FEWER, 1),
            _ => (FEWEST, 1),
        };
        let numbers: usize = all.iter().map(|column| column.width() + gutter).sum();
        let room = width.saturating_sub(numbers);
        // A picture stands two blanks off.
        let least = longest.min(NAME).min(room);
        let name = longest.clamp(8, 40).min(room.saturating_sub(SPARK + 2)).max(least).max(8);
        let left = room.saturating_sub(name);
        let spark = if left >= SPARK + 2 { left - 2 } else { 0 };
        Self { name, all, gutter, spark: spark.min(super::super::past::PLACES) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_most_stays_when_there_is_little_room() {
        for (width, all, spark) in [
            (200, FULLEST, true),
            (120, FULL, true),
            (112, FULL, true),
            (100, SOME, true),
            (80, SOME, true),
            (60, FEW, true),
            (50, FEW, false),
            (40, FEWER, false),
            (32, FEWEST, false),
        ] {
            let columns = Columns::of(width, 24);
            assert_eq!(columns.all, all, "{width}");
            assert!(columns.name >= NAME, "{width}: {columns:?}");
            assert_eq!(columns.spark > 0, spark, "{width}: {columns:?}");
            let numbers: usize = all.iter().map(|column| column.width() + columns.gutter).sum();
            let picture = if columns.spark > 0 { columns.spark + 2 } else { 0 };
            assert!(columns.name + numbers + picture <= width, "{width}: {columns:?}");
        }
    }
}
