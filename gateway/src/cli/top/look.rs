//! Colours and signs: what may be drawn with on this terminal.
//!
//! Colour is data: a hue is a variant, by its place; red is harm; what asks to be looked at is bold.
//! Everything else is plain. The sixteen colours only: those are the reader's own choice, on dark and
//! light alike. Beside each stands a word or another sign, so that nothing is lost without them.

use ratatui::style::{Color, Modifier, Style};

/// What may be drawn with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Whether there are colours.
    pub(super) colour: bool,
    /// Whether blocks and lines can be shown.
    pub(super) fine: bool,
}

/// Of variants from the second on; control has the reader's own colour.
const HUES: [Color; 4] = [Color::LightBlue, Color::Yellow, Color::Cyan, Color::Magenta];

impl Look {
    /// The hue of the variant at this place of its experiment.
    pub(super) fn hue(self, place: usize) -> Style {
        match place.checked_sub(1) {
            Some(place) if self.colour => Style::new().fg(HUES[place % HUES.len()]),
            Some(_) | None => Style::new(),
        }
    }

    /// Worse, failed, rolled back.
    pub(super) fn harm(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.colour { style.fg(Color::Red) } else { style }
    }

    /// Look here first.
    pub(super) fn wait(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Explains, and is not news.
    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// The head of a group.
    pub(super) fn head(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The row that is picked.
    pub(super) fn picked(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// The sign of a variant: full; hollow for a shadow, which no client sees.
    pub(super) fn swatch(self, is_shadow: bool) -> &'static str {
        match (self.fine, is_shadow) {
            (true, false) => "■",
            (true, true) => "□",
            (false, false) => "*",
            (false, true) => "o",
        }
    }

    /// What the part of the variant at this place is filled with in a split bar.
    pub(super) fn fill(self, place: usize) -> char {
        let fills = if self.fine { ['█', '▓', '▒', '░'] } else { ['#', '=', '-', '.'] };
        fills[place % fills.len()]
    }

    /// Between two parts of a sentence, or two places.
    pub(super) fn dot(self) -> &'static str {
        if self.fine { "·" } else { "-" }
    }

    /// From a place to one inside it.
    pub(super) fn into(self) -> &'static str {
        if self.fine { "›" } else { ">" }
    }

    /// Text from elsewhere with signs of ours, for a terminal that may not have them.
    pub(super) fn plain(self, text: &str) -> String {
        let clean = crate::cli::words::clean(text);
        if self.fine {
            return clean.into_owned();
        }
        clean.replace('→', "->").replace('×', "x").replace('−', "-").replace(['…', '–'], "-")
    }
}
