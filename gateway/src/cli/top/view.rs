//! What is looked at, and what each key does. Knows nothing of how it is drawn.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::past::Measure;
use super::rows::{Id, Row};

/// Longest filter.
const LONGEST: usize = 60;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Everything,
    Route(String),
    Experiment(String),
    /// Experiment and variant.
    Variant(String, String),
}

impl Page {
    /// The experiment that it is about, if it is about one.
    pub(super) fn experiment(&self) -> Option<&str> {
        match self {
            Self::Experiment(name) | Self::Variant(name, _) => Some(name),
            Self::Everything | Self::Route(_) => None,
        }
    }
}

/// What routes and experiments are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// As in the configuration.
    #[default]
    Written,
    Rate,
    Failed,
    P95,
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Written => Self::Rate,
            Self::Rate => Self::Failed,
            Self::Failed => Self::P95,
            Self::P95 => Self::Written,
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Written => "as configured",
            Self::Rate => "by requests/s",
            Self::Failed => "by failed",
            Self::P95 => "by p95",
        }
    }
}

/// What follows from a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Stay,
    /// Stop, or go on with, showing what is new.
    Pause,
    Quit,
}

/// One page of those that were opened one from the other.
#[derive(Clone, Debug)]
struct Level {
    page: Page,
    picked: Option<Id>,
    /// The first row that is in sight.
    top: usize,
}

impl Level {
    fn new(page: Page) -> Self {
        Self { page, picked: None, top: 0 }
    }
}

/// What is looked at, and how.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// The last is what is seen; never empty.
    levels: Vec<Level>,
    pub(super) sort: Sort,
    pub(super) measure: Measure,
    pub(super) filter: String,
    /// Whether keys write the filter.
    pub(super) is_typing: bool,
    pub(super) is_help: bool,
    /// Rows that the table had room for when it was last drawn.
    page_rows: usize,
}

impl View {
    /// Everything, or `experiment` with everything behind it.
    pub(super) fn new(experiment: Option<&str>) -> Self {
        let mut levels = vec![Level::new(Page::Everything)];
        levels.extend(experiment.map(|name| Level::new(Page::Experiment(name.to_owned()))));
        Self {
            levels,
            sort: Sort::default(),
            measure: Measure::default(),
            filter: String::new(),
            is_typing: false,
            is_help: false,
            page_rows: 10,
        }
    }

    /// Opens `page` from what is looked at.
    pub(super) fn go(&mut self, page: Page) {
        self.levels.push(Level::new(page));
    }

    /// What is looked at.
    pub(super) fn page(&self) -> &Page {
        &self.level().page
    }

    fn level(&self) -> &Level {
        // Never empty: the first is not taken away.
        &self.levels[self.levels.len() - 1]
    }

    fn level_mut(&mut self) -> &mut Level {
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    /// The place of the picked row among `rows`: the first if it is gone.
    pub(super) fn picked(&self, rows: &[Row<'_>]) -> usize {
        let picked = self.level().picked.as_ref();
        picked.and_then(|id| rows.iter().position(|row| row.id() == *id)).unwrap_or(0)
    }

    /// The first row that is drawn where there is room for `room`, so that the picked one is in sight.
    pub(super) fn top(&mut self, rows: &[Row<'_>], room: usize) -> usize {
        let picked = self.picked(rows);
        self.page_rows = room.max(1);
        let top = &mut self.level_mut().top;
        *top = (*top).min(rows.len().saturating_sub(room)).min(picked);
        if picked >= *top + room.max(1) {
            *top = picked + 1 - room.max(1);
        }
        *top
    }

    /// Does what `key` says. `rows` are those of the page.
    pub(super) fn key(&mut self, key: KeyEvent, rows: &[Row<'_>]) -> Then {
        if self.is_help {
            self.is_help = false;
            return if key.code == KeyCode::Char('q') { Then::Quit } else { Then::Stay };
        }
        if self.is_typing && self.typed(key) {
            return Then::Stay;
        }
        match key.code {
            KeyCode::Char('q') => return Then::Quit,
            KeyCode::Char('p' | ' ') => return Then::Pause,
            KeyCode::Char('?') => self.is_help = true,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('m') => self.measure = self.measure.next(),
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Up | KeyCode::Char('k') => self.pick(rows, |at| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.pick(rows, |at| at + 1),
            KeyCode::PageUp => {
                let by = self.page_rows;
                self.pick(rows, |at| at.saturating_sub(by));
            }
            KeyCode::PageDown => {
                let by = self.page_rows;
                self.pick(rows, |at| at + by);
            }
            KeyCode::Home | KeyCode::Char('g') => self.pick(rows, |_| 0),
            KeyCode::End | KeyCode::Char('G') => self.pick(rows, |_| usize::MAX),
            KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => self.open(rows),
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace | KeyCode::Char('h') => self.back(),
            KeyCode::BackTab
            | KeyCode::CapsLock
            | KeyCode::Char(_)
            | KeyCode::Delete
            | KeyCode::F(_)
            | KeyCode::Insert
            | KeyCode::KeypadBegin
            | KeyCode::Media(_)
            | KeyCode::Menu
            | KeyCode::Modifier(_)
            | KeyCode::Null
            | KeyCode::NumLock
            | KeyCode::Pause
            | KeyCode::PrintScreen
            | KeyCode::ScrollLock
            | KeyCode::Tab => {}
        }
        Then::Stay
    }

    /// Whether `key` was for the filter.
    fn typed(&mut self, key: KeyEvent) -> bool {
        #[expect(clippy::wildcard_enum_match_arm, reason = "all other keys keep their meaning")]
        match key.code {
            KeyCode::Char(c) if !key.modifiers.contains(KeyModifiers::CONTROL) => {
                self.write(&c.to_string());
            }
            KeyCode::Backspace => {
                if self.filter.pop().is_none() {
                    self.is_typing = false;
                }
            }
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.is_typing = false;
            }
            _ => return false,
        }
        true
    }

    /// Adds `text` to the filter.
    pub(super) fn write(&mut self, text: &str) {
        if !self.is_typing {
            return;
        }
        let room = LONGEST.saturating_sub(self.filter.chars().count());
        self.filter.extend(text.chars().filter(|c| !c.is_control()).take(room));
    }

    fn pick(&mut self, rows: &[Row<'_>], to: impl FnOnce(usize) -> usize) {
        let at = to(self.picked(rows)).min(rows.len().saturating_sub(1));
        self.level_mut().picked = rows.get(at).map(Row::id);
    }

    /// What the picked row is about. An open route's own row has nothing more to tell.
    fn open(&mut self, rows: &[Row<'_>]) {
        let page = match rows.get(self.picked(rows)).map(Row::id) {
            Some(Id::Route(name)) => Page::Route(name),
            Some(Id::Experiment(name)) => Page::Experiment(name),
            Some(Id::Variant(experiment, name)) => Page::Variant(experiment, name),
            Some(Id::Shadow(_)) | None => return,
        };
        if page == *self.page() {
            return;
        }
        // What is picked when one comes back.
        self.pick(rows, |at| at);
        self.go(page);
    }

    fn back(&mut self) {
        if self.levels.len() > 1 {
            self.levels.pop();
        } else {
            self.filter.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::rows;
    use super::super::sample;
    use super::*;

    /// The view after `keys`, each a character or a name in angle brackets.
    fn after(keys: &[&str]) -> (View, Then) {
        let seen = sample::seen();
        let mut view = View::new(None);
        let mut then = Then::Stay;
        for key in keys {
            let code = match *key {
                "<Enter>" => KeyCode::Enter,
                "<Esc>" => KeyCode::Esc,
                "<Up>" => KeyCode::Up,
                "<Down>" => KeyCode::Down,
                "<End>" => KeyCode::End,
                "<PageDown>" => KeyCode::PageDown,
                "<Backspace>" => KeyCode::Backspace,
                one => KeyCode::Char(one.chars().next().unwrap()),
            };
            let page = view.page().clone();
            let rows = rows(&seen, &page, view.sort, &view.filter);
            then = view.key(KeyEvent::new(code, KeyModifiers::NONE), &rows);
        }
        (view, then)
    }

    fn picked(view: &View) -> Id {
        let seen = sample::seen();
        let rows = rows(&seen, view.page(), view.sort, &view.filter);
        rows[view.picked(&rows)].id()
    }

    #[test]
    fn one_goes_from_everything_to_a_variant_and_comes_back_to_where_one_was() {
        let (view, _) = after(&["<Down>", "<Enter>"]);
        assert_eq!(*view.page(), Page::Experiment("int8".into()));
        let (view, _) = after(&["<Down>", "<Enter>", "j", "<Enter>"]);
        assert_eq!(*view.page(), Page::Variant("int8".into(), "canary".into()));
        let (view, _) = after(&["<Down>", "<Enter>", "j", "<Enter>", "<Esc>"]);
        assert_eq!(picked(&view), Id::Variant("int8".into(), "canary".into()));
        let (view, _) = after(&["<Down>", "<Enter>", "j", "<Enter>", "<Esc>", "<Esc>", "<Esc>"]);
        assert_eq!(*view.page(), Page::Everything);
        assert_eq!(picked(&view), Id::Experiment("int8".into()));
        let (view, _) = after(&["<Enter>", "<Enter>", "<Enter>"]);
        assert_eq!(*view.page(), Page::Route("chat".into()));
        let (view, _) = after(&["<End>", "<Enter>"]);
        assert_eq!(*view.page(), Page::Everything, "a shadow has no page");
    }

    #[test]
    fn what_is_picked_stays_picked_when_rows_change_places() {
        let (view, _) = after(&["<Down>", "<Down>", "<Down>", "s"]);
        assert_eq!(view.sort, Sort::Rate);
        assert_eq!(picked(&view), Id::Variant("int8".into(), "canary".into()));
        let (view, _) = after(&["s", "s", "s", "s"]);
        assert_eq!(view.sort, Sort::Written);
        let (view, _) = after(&["<End>", "<Down>", "<PageDown>"]);
        assert_eq!(picked(&view), Id::Shadow("next".into()), "there is nothing below the last");
    }

    #[test]
    fn letters_write_the_filter_while_it_is_written() {
        let (view, then) = after(&["/", "q", "p", "s"]);
        assert_eq!((&*view.filter, then, view.sort), ("qps", Then::Stay, Sort::Written));
        let (view, _) = after(&["/", "b", "g", "<Enter>", "<Down>", "<Enter>"]);
        assert_eq!(*view.page(), Page::Experiment("bge".into()));
        let (view, _) = after(&["/", "b", "<Esc>"]);
        assert_eq!((&*view.filter, view.is_typing), ("", false));
        let (view, _) = after(&["/", "b", "<Backspace>", "<Backspace>"]);
        assert_eq!((&*view.filter, view.is_typing), ("", false));
        let (view, _) = after(&["/", "b", "<Enter>", "<Esc>"]);
        assert_eq!(view.filter, "", "Esc where there is nothing to go back to");
    }

    #[test]
    fn one_can_quit_pause_and_ask_for_help() {
        assert_eq!(after(&["q"]).1, Then::Quit);
        assert_eq!(after(&["p"]).1, Then::Pause);
        let (view, then) = after(&["?", "p"]);
        assert_eq!((view.is_help, then), (false, Then::Stay), "any key closes the help");
        assert_eq!(after(&["?", "q"]).1, Then::Quit);
        assert_eq!(after(&["m", "m"]).0.measure, Measure::P95);
    }

    #[test]
    fn the_picked_row_is_always_in_sight() {
        let seen = sample::seen();
        let all = rows(&seen, &Page::Everything, Sort::Written, "");
        let mut view = View::new(None);
        assert_eq!(view.top(&all, 4), 0);
        view.pick(&all, |_| 6);
        assert_eq!(view.top(&all, 4), 3);
        view.pick(&all, |_| 4);
        assert_eq!(view.top(&all, 4), 3, "nothing moves that need not");
        view.pick(&all, |_| 0);
        assert_eq!(view.top(&all, 4), 0);
        view.pick(&all, |_| usize::MAX);
        assert_eq!(view.top(&all, 100), 0, "a larger window shows all there is");
    }
}
