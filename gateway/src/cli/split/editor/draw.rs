//! The lines under a split that is edited.

use jiff::Timestamp;

use super::{Editor, Mode, Theirs, share};
use crate::cli::console::{Paint, Tone};
use crate::cli::split::bar;
use crate::cli::table::{Cell, Lean, Table};
use crate::cli::words;

/// What lines are drawn with, and how much room they have.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli::split) struct Pen {
    pub(in crate::cli::split) paint: Paint,
    /// Whether blocks and arrows can be shown.
    pub(in crate::cli::split) fine: bool,
    pub(in crate::cli::split) width: usize,
    pub(in crate::cli::split) height: usize,
    pub(in crate::cli::split) now: Timestamp,
    /// How long the gateway is waited for, in seconds.
    pub(in crate::cli::split) waited: u64,
}

/// Pieces of one line, each in its tone.
type Pieces = Vec<(Tone, String)>;

impl Pen {
    /// `pieces` in one line, cut where the terminal ends.
    fn line(self, pieces: Pieces) -> String {
        let mut left = self.width;
        let mut out = String::new();
        for (tone, text) in pieces {
            let text = words::cut(&text, left).into_owned();
            left -= text.chars().count().min(left);
            out.push_str(&self.paint.paint(tone, &text));
        }
        out
    }

    /// `text`, in as many lines as it needs.
    fn sentence(self, tone: Tone, text: &str) -> Vec<String> {
        let room = self.width.saturating_sub(2).max(10);
        let lines = words::wrapped(&words::clean(text), room);
        lines.into_iter().map(|text| self.line(vec![(tone, format!("  {text}"))])).collect()
    }

    fn sign(self, fine: &'static str, plain: &'static str) -> &'static str {
        if self.fine { fine } else { plain }
    }

    /// Keys and what they do, in as many lines as they need.
    fn keys(self, keys: &[(&str, &str)]) -> Vec<String> {
        let mut lines: Vec<Pieces> = vec![Vec::new()];
        let mut taken = 0;
        for (key, does) in keys {
            let wide = key.chars().count() + 1 + does.chars().count();
            if taken > 0 && taken + 3 + wide > self.width {
                lines.push(Vec::new());
                taken = 0;
            }
            let gap = if taken == 0 { "  " } else { "   " };
            let last = lines.len() - 1;
            lines[last].push((Tone::Plain, gap.to_owned()));
            lines[last].push((Tone::Bold, (*key).to_owned()));
            lines[last].push((Tone::Dim, format!(" {does}")));
            taken += wide + gap.len();
        }
        lines.into_iter().map(|pieces| self.line(pieces)).collect()
    }
}

/// The hue of the variant at this place: control has none.
fn hue(place: usize) -> Tone {
    match place.checked_sub(1) {
        None => Tone::Plain,
        Some(place) => [Tone::First, Tone::Warn, Tone::Second, Tone::Third][place % 4],
    }
}

impl Editor {
    /// What is shown under the split.
    pub(in crate::cli::split) fn lines(&self, pen: Pen) -> Vec<String> {
        let arrows = pen.sign("← →", "Left Right");
        if !self.is_open {
            let (left, right) = self.neighbours();
            let moves = format!("move the edge between {left} and {right}");
            let mut lines: Vec<String> = Vec::new();
            if !self.said.is_empty() {
                lines.extend(pen.sentence(Tone::Warn, &self.said));
            }
            lines.extend(pen.keys(&[(arrows, &moves), ("Enter", "leaves it as it is")]));
            return lines;
        }
        let mut lines = vec![self.bar(pen)];
        lines.extend(self.variants(pen, usize::MAX));
        let variants = lines.len();
        lines.push(String::new());
        lines.extend(self.below(pen));
        // A small window spares the blanks first, then variants that have no part in it.
        if lines.len() + 1 > pen.height {
            let mut few = vec![self.bar(pen)];
            let below: Vec<String> =
                lines.drain(variants..).filter(|line| !line.is_empty()).collect();
            let room = pen.height.saturating_sub(2 + below.len());
            few.extend(self.variants(pen, room));
            few.extend(below);
            return few;
        }
        lines
    }

    fn neighbours(&self) -> (&str, &str) {
        let draft = &self.draft;
        (&draft.names[draft.edge], &draft.names[draft.edge + 1])
    }

    /// The split as it would be.
    fn bar(&self, pen: Pen) -> String {
        let fills = if pen.fine { ['█', '▓', '▒', '░'] } else { ['#', '=', '-', '.'] };
        let shares: Vec<f64> =
            self.draft.shares.iter().map(|points| f64::from(*points) / 10_000.0).collect();
        let columns = bar::columns(&shares, pen.width.saturating_sub(4).min(100));
        let mut pieces = vec![(Tone::Plain, "  ".to_owned())];
        for (at, wide) in columns.into_iter().enumerate() {
            pieces.push((hue(at), fills[at % fills.len()].to_string().repeat(wide)));
        }
        pen.line(pieces)
    }

    /// A line for each variant, marked where the edge is; where there is no room, first for those that
    /// the edge is between, then in order.
    fn variants(&self, pen: Pen, room: usize) -> Vec<String> {
        let draft = &self.draft;
        let edge = [draft.edge, draft.edge + 1];
        let mut order: Vec<usize> = edge.to_vec();
        order.extend((0..draft.names.len()).filter(|at| !edge.contains(at)));
        order.truncate(room.max(2));
        order.sort_unstable();
        let longest = draft.names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let one = |at: usize| {
            let (live, now) = (share(draft.live[at]), share(draft.shares[at]));
            let mark = if edge.contains(&at) { pen.sign("▸ ", "> ") } else { "  " };
            let name = words::clean(&draft.names[at]).into_owned();
            let mut pieces = vec![
                (Tone::Bold, format!("  {mark}")),
                (hue(at), pen.sign("■ ", "* ").to_owned()),
                (Tone::Plain, format!("{name:<longest$}  {live:>8}")),
            ];
            let arrow = pen.sign("→", "->");
            let number = match &self.mode {
                Mode::Number(text) if at == draft.edge + 1 => Some(text),
                Mode::Number(_)
                | Mode::Shares
                | Mode::Reason
                | Mode::Sending
                | Mode::Overtaken(_) => None,
            };
            if let Some(text) = number {
                let cursor = pen.sign("▏", "_");
                pieces.push((Tone::Bold, format!("  {arrow}  {text}{cursor}")));
                pieces.push((Tone::Dim, " percent".to_owned()));
            } else if draft.live[at] != draft.shares[at] {
                pieces.push((Tone::Bold, format!("  {arrow}  {now}")));
            } else if at == 0 {
                pieces.push((Tone::Dim, "  control".to_owned()));
            }
            pen.line(pieces)
        };
        order.into_iter().map(one).collect()
    }

    /// What would happen, and which keys there are.
    fn below(&self, pen: Pen) -> Vec<String> {
        let mut lines = Vec::new();
        if let Mode::Overtaken(theirs) = &self.mode {
            return self.overtaken_by(theirs, pen);
        }
        if self.is_changed() {
            let preview = self.draft.preview();
            lines.extend(pen.sentence(Tone::Plain, &preview.words(self.noun, self.load)));
            for note in &self.notes {
                lines.extend(pen.sentence(Tone::Warn, note));
            }
        } else {
            lines.extend(pen.sentence(Tone::Dim, "Nothing is drafted: this is what is in force."));
        }
        if !self.said.is_empty() {
            for line in self.said.lines() {
                lines.extend(pen.sentence(Tone::Warn, line));
            }
        }
        lines.push(String::new());
        let (left, right) = self.neighbours();
        match &self.mode {
            Mode::Shares => {
                let arrow = (pen.sign("←", "Left"), pen.sign("→", "Right"));
                let gives = (format!("more to {right}"), format!("more to {left}"));
                lines.extend(pen.keys(&[(arrow.0, &*gives.0), (arrow.1, &*gives.1)]));
                let by = "1 % a press, 0.1 % with Shift or by , . and 10 % by PgUp PgDn";
                lines.extend(pen.sentence(Tone::Dim, by));
                let mut keys: Vec<(&str, &str)> = Vec::new();
                let number = format!("types the share of {right}");
                keys.push(("0-9", &number));
                if self.draft.names.len() > 2 {
                    keys.push(("Tab", "the next two"));
                }
                if self.is_changed() {
                    keys.push(("Enter", "goes on"));
                }
                keys.push(("Esc", "leaves, nothing is changed"));
                lines.extend(pen.keys(&keys));
            }
            Mode::Number(_) => {
                lines.extend(pen.keys(&[("Enter", "takes it"), ("Esc", "lets go of it")]));
            }
            Mode::Reason => {
                let cursor = pen.sign("▏", "_");
                // The end is what is written.
                let room = pen.width.saturating_sub(11);
                let skipped = self.reason.chars().count().saturating_sub(room);
                let shown: String = self.reason.chars().skip(skipped).collect();
                lines.push(pen.line(vec![
                    (Tone::Bold, "  reason: ".to_owned()),
                    (Tone::Plain, format!("{}{cursor}", words::clean(&shown))),
                ]));
                lines.extend(pen.keys(&[
                    ("Enter", "puts it in force"),
                    (pen.sign("↑", "Up"), "back to the shares"),
                    ("Esc", "leaves, nothing is changed"),
                ]));
            }
            Mode::Sending => {
                let waited = match pen.waited {
                    0 => String::new(),
                    seconds => format!(" ({seconds} s)"),
                };
                lines.extend(pen.sentence(Tone::Bold, &format!("Putting it in force{waited}.")));
            }
            Mode::Overtaken(_) => {}
        }
        lines
    }

    /// Who was faster, and how theirs differs.
    fn overtaken_by(&self, theirs: &Theirs, pen: Pen) -> Vec<String> {
        let when =
            theirs.at.map_or_else(String::new, |at| format!(" {}", words::relative(pen.now, at)));
        let text = format!(
            "{} changed this{when}. You started from revision {}; revision {} is in force now. Nothing of \
             yours was applied.",
            theirs.by, self.revision, theirs.revision
        );
        let mut lines = pen.sentence(Tone::Warn, &text);
        lines.push(String::new());
        let Some(split) = &theirs.split else {
            lines.extend(pen.sentence(Tone::Plain, "There is nothing left to split."));
            lines.extend(pen.keys(&[("any key", "leaves")]));
            return lines;
        };
        let mut table = Table::new(&[
            ("", Lean::Left),
            ("you started from", Lean::Right),
            ("in force", Lean::Right),
            ("your draft", Lean::Right),
        ]);
        let of = |draft: &super::Draft, shares: &[u16], name: &str| {
            let place = draft.names.iter().position(|each| each == name);
            place.map_or_else(|| pen.sign("–", "-").to_owned(), |place| share(shares[place]))
        };
        let gone = self.draft.names.iter().filter(|name| !split.names.contains(name));
        for name in split.names.iter().chain(gone) {
            table.row([
                Cell::from(name),
                Cell::from(of(&self.draft, &self.draft.live, name)),
                Cell::toned(of(split, &split.live, name), Tone::Bold),
                Cell::from(of(&self.draft, &self.draft.shares, name)),
            ]);
        }
        lines.extend(table.lines(2, pen.width, pen.paint));
        lines.push(String::new());
        let again = format!("keeps your draft, from revision {} on", theirs.revision);
        lines.extend(pen.keys(&[
            ("Enter", &again),
            ("t", "takes theirs"),
            ("Esc", "leaves, nothing is changed"),
        ]));
        lines
    }
}
