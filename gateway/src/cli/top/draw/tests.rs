//! Whole screens, compared word by word. The files in `tests/` are what a terminal of that size shows.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};

use super::super::detail::Detail;
use super::super::sample;
use super::*;

const FINE: Look = Look { colour: true, fine: true };

/// What is looked at, and what is known of it.
struct Shown {
    seen: Seen,
    detail: Option<Detail>,
    link: Link,
    is_paused: bool,
    look: Look,
    view: View,
}

fn shown(page: Page) -> Shown {
    let mut view = View::new(None);
    view.go(page);
    Shown {
        seen: sample::seen(),
        detail: Some(sample::detail()),
        link: Link::Live,
        is_paused: false,
        look: FINE,
        view,
    }
}

fn experiment() -> Page {
    Page::Experiment("int8".into())
}

fn variant(name: &str) -> Page {
    Page::Variant("int8".into(), name.into())
}

impl Shown {
    /// The cells of a terminal of this size.
    fn buffer(&mut self, width: u16, height: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let scene = Scene {
            seen: &self.seen,
            detail: self.detail.as_ref(),
            link: self.link.clone(),
            is_paused: self.is_paused,
            url: "http://127.0.0.1:8444",
            now: sample::NOW + 1,
            look: self.look,
        };
        let view = &mut self.view;
        terminal.draw(|screen| draw(screen, &scene, view, &mut Scales::default())).unwrap();
        terminal.backend().buffer().clone()
    }

    /// The same as text, without blanks at the end of lines.
    fn text(&mut self, width: u16, height: u16) -> String {
        let buffer = self.buffer(width, height);
        let row = |y: u16| -> String {
            let symbols = (0..width).map(|x| buffer[(x, y)].symbol());
            symbols.collect::<String>().trim_end().to_owned()
        };
        (0..height).map(row).collect::<Vec<_>>().join("\n") + "\n"
    }
}

/// What a file of `tests/` says, with its name.
macro_rules! file {
    ($name:literal) => {
        ($name, include_str!(concat!("tests/", $name)))
    };
}

/// Compares screens of these sizes with files, and shows all that differ. With `WEIR_BLESS` set they are
/// written there too, to be looked at; the test passes when it is built with them.
fn read_like(mut shown: Shown, files: &[(u16, u16, (&str, &str))]) {
    let mut others = String::new();
    for (width, height, (name, wanted)) in files {
        let text = shown.text(*width, *height);
        if std::env::var_os("WEIR_BLESS").is_some() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/top/draw/tests/");
            std::fs::write(format!("{folder}{name}"), &text).unwrap();
        }
        if text != *wanted {
            others.push_str(&format!("{name} is:\n{text}"));
        }
    }
    assert!(others.is_empty(), "{others}");
}

#[test]
fn everything_reads_like_this() {
    let files = [
        (120, 40, file!("everything_120x40.txt")),
        (80, 24, file!("everything_80x24.txt")),
        (60, 15, file!("everything_60x15.txt")),
    ];
    read_like(shown(Page::Everything), &files);
}

#[test]
fn an_experiment_reads_like_this() {
    let files = [
        (120, 40, file!("experiment_120x40.txt")),
        (80, 24, file!("experiment_80x24.txt")),
        (60, 15, file!("experiment_60x15.txt")),
    ];
    read_like(shown(experiment()), &files);
}

#[test]
fn a_variant_reads_like_this() {
    let files = [
        (120, 40, file!("variant_120x40.txt")),
        (80, 24, file!("variant_80x24.txt")),
        (60, 15, file!("variant_60x15.txt")),
    ];
    read_like(shown(variant("canary")), &files);
    let control = shown(variant("stable")).text(80, 24);
    assert!(control.contains("■ stable, control of int8 at revision 7"), "{control}");
    assert!(!control.contains("verdict") && !control.contains("metric"), "{control}");
}

#[test]
fn help_reads_like_this() {
    let mut help = shown(Page::Everything);
    help.view.is_help = true;
    let small = help.text(60, 15);
    assert!(small.contains("q Ctrl-C") && !small.contains("numbers"), "{small}");
    read_like(help, &[(80, 24, file!("help_80x24.txt"))]);
}

#[test]
fn a_terminal_without_unicode_gets_signs_that_it_has() {
    let mut plain = shown(Page::Everything);
    plain.look = Look { colour: false, fine: false };
    read_like(plain, &[(80, 24, file!("everything_plain_80x24.txt"))]);
    for page in [experiment(), variant("canary")] {
        let mut plain = shown(page);
        plain.look = Look { colour: false, fine: false };
        let text = plain.text(120, 40);
        assert!(text.is_ascii(), "{text}");
    }
}

#[test]
fn without_colours_nothing_is_coloured_and_nothing_is_lost() {
    for page in [Page::Everything, experiment(), variant("canary")] {
        let mut with = shown(page.clone());
        let mut without = shown(page);
        without.look = Look { colour: false, fine: true };
        let buffer = without.buffer(120, 40);
        let plain =
            |cell: &ratatui::buffer::Cell| cell.fg == Color::Reset && cell.bg == Color::Reset;
        assert!(buffer.content.iter().all(plain));
        assert_eq!(with.text(120, 40), without.text(120, 40));
    }
}

#[test]
fn red_is_harm_and_a_hue_is_a_variant() {
    let buffer = shown(Page::Everything).buffer(120, 40);
    let at = |text: &str, style: Color| {
        let found = (0..40).flat_map(|y| (0..120).map(move |x| (x, y))).filter(|(x, y)| {
            let symbols = (*x..120).map(|x| buffer[(x, *y)].symbol());
            symbols.take(text.chars().count()).collect::<String>() == text
        });
        found.filter(|place| buffer[*place].fg == style).count()
    };
    assert_eq!(at("3.1 %", Color::Red), 1, "failed of canary");
    assert_eq!(at("0.2 %", Color::Red), 0, "failed of stable");
    assert_eq!(at("■ canary", Color::LightBlue), 1);
    assert_eq!(at("■ next", Color::Yellow), 1);
    assert_eq!(at("■ stable", Color::Reset), 1, "control has the reader's own colour");
    // Everything else has no colour at all.
    let hues = [Color::Reset, Color::Red, Color::LightBlue, Color::Yellow];
    assert!(buffer.content.iter().all(|cell| hues.contains(&cell.fg)));
}

#[test]
fn that_nothing_comes_any_more_is_said_and_seen() {
    let mut stale = shown(Page::Everything);
    let lines = |shown: &mut Shown, width: u16| -> Vec<String> {
        shown.text(width, 24).lines().take(3).map(str::to_owned).collect()
    };
    stale.link = Link::Silent { why: Some("connection refused".into()), again: Some(4) };
    let said = lines(&mut stale, 120);
    assert!(said[0].ends_with(" NOT LIVE"), "{said:?}");
    assert_eq!(
        said[2],
        "Not live. These numbers are from 19:20:20 UTC, 1 s ago. Trying again in 4 s. (connection refused)"
    );
    let buffer = stale.buffer(120, 24);
    assert!(buffer[(118, 0)].modifier.contains(Modifier::REVERSED));
    let dim = (3..12).all(|y| buffer[(30, y)].modifier.contains(Modifier::DIM));
    assert!(dim, "numbers of the past are dim");
    stale.link = Link::Silent { why: None, again: None };
    assert!(lines(&mut stale, 80)[2].ends_with(" 1 s ago. Waiting."));
    assert!(lines(&mut stale, 60)[2].ends_with(" 1 s ago."), "no half sentence");
    stale.seen = Seen::default();
    assert_eq!(lines(&mut stale, 80)[2], "Not live. Nothing has been seen yet. Waiting.");
    let mut paused = shown(Page::Everything);
    paused.is_paused = true;
    let said = lines(&mut paused, 80);
    assert!(said[0].ends_with(" PAUSED"), "{said:?}");
    assert_eq!(said[2], "Paused. These numbers are from 19:20:20 UTC, 1 s ago; p goes on.");
}

#[test]
fn no_size_breaks_it() {
    for page in [Page::Everything, experiment(), variant("canary"), Page::Route("gone".into())] {
        for (width, height) in [(1, 1), (20, 6), (33, 7), (40, 10), (61, 16), (99, 23), (300, 90)] {
            let mut shown = shown(page.clone());
            shown.text(width, height);
            shown.view.is_help = true;
            shown.view.is_typing = true;
            shown.text(width, height);
        }
    }
}

#[test]
fn what_is_not_there_any_more_is_told() {
    let mut gone = shown(Page::Experiment("gone".into()));
    assert!(gone.text(80, 24).contains("gone is not there any more; Esc goes back"));
    let mut nothing = shown(Page::Everything);
    nothing.view.filter = "zebra".into();
    assert!(nothing.text(80, 24).contains("nothing is called \"zebra\"; Esc clears the filter"));
    let mut early = shown(Page::Everything);
    early.seen = Seen::default();
    assert!(early.text(80, 24).contains("waiting for the first second"));
}

#[test]
fn a_mismatch_withholds_verdicts() {
    let mut shown = shown(experiment());
    let detail = shown.detail.as_mut().unwrap();
    let results = detail.results.as_mut().unwrap();
    results["sample_ratio"]["verdict"] = "mismatch".into();
    results["sample_ratio"]["p_value"] = 0.00001.into();
    let text = shown.text(120, 40);
    assert!(
        text.contains(
            "! Requests do not arrive as dealt (p below 0.0001). Verdicts are withheld until it is found why."
        ),
        "{text}"
    );
    assert!(!text.contains("worse"), "{text}");
}

#[test]
fn no_escape_sequence_of_anybody_reaches_the_terminal() {
    let mut shown = shown(Page::Everything);
    shown.seen.news[0].reason = Some("\x1b[2Jgone\u{202e}".into());
    shown.seen.news[0].by = "\x07bell".into();
    let text = shown.text(120, 40);
    assert!(text.contains("\\u{1b}[2Jgone\\u{202e}") && text.contains("\\u{7}bell"), "{text}");
}
