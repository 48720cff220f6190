//! What each key does and what is shown, word by word.

use serde_json::json;

use super::*;
use crate::cli::console::Paint;

fn experiment(revision: u64, shares: [f64; 3]) -> Value {
    let [stable, canary, next] = shares;
    json!({
        "name": "int8", "route": "chat", "state": "running", "revision": revision, "control": "stable",
        "unit": ["header:x-user-id", "key"], "order": ["stable", "canary", "next"],
        "variants": {
            "stable": { "share": stable, "requests_per_second": 100.0 },
            "canary": { "share": canary, "requests_per_second": 12.0 },
            "next": { "share": next, "requests_per_second": 6.0 },
        },
        "changed_by": "sre-oncall", "changed_at": "2026-11-22T19:20:09Z",
    })
}

fn editor() -> Editor {
    Editor::new(&experiment(8, [0.85, 0.1, 0.05]), 8).unwrap()
}

fn pen() -> Pen {
    Pen {
        paint: Paint { on: false },
        fine: true,
        width: 79,
        height: 24,
        now: "2026-11-22T19:20:21Z".parse().unwrap(),
        waited: 0,
    }
}

fn press(editor: &mut Editor, keys: &[&str]) -> Then {
    let mut then = Then::Stay;
    for key in keys {
        let (modifiers, name) = match key.strip_prefix("S-") {
            Some(name) => (KeyModifiers::SHIFT, name),
            None => (KeyModifiers::NONE, *key),
        };
        let code = match name {
            "Left" => KeyCode::Left,
            "Right" => KeyCode::Right,
            "Up" => KeyCode::Up,
            "PageUp" => KeyCode::PageUp,
            "PageDown" => KeyCode::PageDown,
            "Home" => KeyCode::Home,
            "End" => KeyCode::End,
            "Tab" => KeyCode::Tab,
            "Enter" => KeyCode::Enter,
            "Esc" => KeyCode::Esc,
            "Backspace" => KeyCode::Backspace,
            one => KeyCode::Char(one.chars().next().unwrap()),
        };
        then = editor.key(KeyEvent::new(code, modifiers));
    }
    then
}

/// Shares after `keys`, in basis points.
fn after(keys: &[&str]) -> Vec<u16> {
    let mut editor = editor();
    press(&mut editor, keys);
    editor.draft.shares
}

fn shown(editor: &Editor, pen: Pen) -> String {
    let lines = editor.lines(pen);
    for line in &lines {
        assert!(line.chars().count() <= pen.width, "{line}");
        assert_eq!(line.trim_end(), line, "no line ends in blanks");
    }
    lines.join("\n")
}

#[test]
fn every_key_moves_what_it_says() {
    assert_eq!(after(&["Left"]), [8400, 1100, 500]);
    assert_eq!(after(&["Right", "Right"]), [8700, 800, 500]);
    assert_eq!(after(&["S-Left"]), [8490, 1010, 500]);
    assert_eq!(after(&[",", ",", "."]), [8490, 1010, 500], "for terminals that do not tell Shift");
    assert_eq!(after(&["PageDown"]), [7500, 2000, 500]);
    assert_eq!(after(&["PageUp"]), [9500, 0, 500]);
    assert_eq!(after(&["Tab", "Left"]), [8500, 900, 600]);
    assert_eq!(after(&["Tab", "Tab", "Left"]), [8400, 1100, 500]);
    assert_eq!(after(&["Home"]), [0, 9500, 500]);
    assert_eq!(after(&["End"]), [9500, 0, 500]);
    assert_eq!(after(&["2", "0", "Enter"]), [7500, 2000, 500]);
    assert_eq!(after(&["Tab", "0", ".", "5", "Enter"]), [8950, 1000, 50]);
    assert_eq!(after(&["2", "0", "Esc"]), [8500, 1000, 500], "a number is taken with Enter only");
    assert_eq!(after(&["Left", "Backspace"]), [8500, 1000, 500], "back to what is in force");
}

#[test]
fn an_edge_that_cannot_move_says_so() {
    let mut editor = Editor::new(&experiment(8, [0.0, 0.0, 1.0]), 8).unwrap();
    press(&mut editor, &["Right"]);
    assert_eq!(editor.said, "", "canary takes from next");
    press(&mut editor, &["End", "Right"]);
    assert_eq!(editor.said, "that edge goes no further");
    press(&mut editor, &["Tab", "Left"]);
    assert_eq!(editor.said, "that edge goes no further", "stable has nothing to give");
    let mut editor = Editor::new(&experiment(8, [0.0, 0.0, 1.0]), 8).unwrap();
    press(&mut editor, &["Tab", "Left"]);
    assert_eq!(editor.said, "stable and canary have nothing to give each other");
}

#[test]
fn enter_confirms_twice_and_esc_leaves_at_every_point() {
    let mut editor = editor();
    assert_eq!(press(&mut editor, &["Left", "Enter"]), Then::Stay, "the reason is asked for");
    assert_eq!(press(&mut editor, &["f", "i", "n", "e", "q", "Backspace", "Enter"]), Then::Send);
    assert_eq!((&*editor.reason, editor.is_sending()), ("fine", true));
    assert_eq!(press(&mut editor, &["Esc"]), Then::Stay, "what is on its way is not called back");
    for keys in [&["Esc"][..], &["q"], &["Enter"], &["Left", "Esc"], &["Left", "Enter", "Esc"]] {
        assert_eq!(press(&mut self::editor(), keys), Then::Leave, "{keys:?}");
    }
    let mut editor = self::editor();
    assert_eq!(press(&mut editor, &["Left", "Enter", "a", "Up", "Left", "Enter"]), Then::Stay);
    assert_eq!((&*editor.reason, editor.draft.shares[0]), ("a", 8300), "back and forth");
}

#[test]
fn what_is_pasted_is_a_reason_and_no_enter() {
    let mut editor = editor();
    editor.paste("nothing is asked for yet");
    press(&mut editor, &["Left", "Enter"]);
    editor.paste("two\nlines\x1b[31m");
    assert_eq!((&*editor.reason, editor.is_sending()), ("two lines [31m", false));
    editor.paste(&"ü".repeat(2_000));
    assert!(editor.reason.len() <= 1_000, "as long as the gateway takes it");
}

#[test]
fn before_the_first_move_only_the_keys_are_shown() {
    assert_eq!(
        shown(&editor(), pen()),
        "  ← → move the edge between stable and canary   Enter leaves it as it is"
    );
}

#[test]
fn a_draft_reads_like_this() {
    let mut editor = editor();
    press(&mut editor, &["PageDown"]);
    assert_eq!(
        shown(&editor, pen()),
        "  ████████████████████████████████████████████████████████▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▒▒▒▒
  ▸ ■ stable      85 %  →  75 %
  ▸ ■ canary      10 %  →  20 %
    ■ next         5 %

  About 1,000 of 10,000 user buckets move, from stable to canary. None of them
  out of canary or next. At this load about 12 requests/s change sides.

  ← more to canary   → more to stable
  1 % a press, 0.1 % with Shift or by , . and 10 % by PgUp PgDn
  0-9 types the share of canary   Tab the next two   Enter goes on
  Esc leaves, nothing is changed"
    );
    press(&mut editor, &["Enter", "o", "k"]);
    let text = shown(&editor, pen());
    assert!(
        text.ends_with(
            "
  reason: ok▏
  Enter puts it in force   ↑ back to the shares
  Esc leaves, nothing is changed"
        ),
        "{text}"
    );
    press(&mut editor, &["Enter"]);
    let text = shown(&editor, Pen { waited: 2, ..pen() });
    assert!(text.ends_with("\n  Putting it in force (2 s)."), "{text}");
}

#[test]
fn a_number_shows_what_is_typed_and_is_told_if_it_is_none() {
    let mut editor = editor();
    press(&mut editor, &["2", "5"]);
    let text = shown(&editor, pen());
    assert!(text.contains("\n  ▸ ■ canary      10 %  →  25▏ percent\n"), "{text}");
    press(&mut editor, &["0", "Enter"]);
    let text = shown(&editor, pen());
    assert!(text.contains("\n  250 is no share: write 0 to 100, in percent\n"), "{text}");
    press(&mut editor, &["9", "9", "Enter"]);
    let text = shown(&editor, pen());
    assert!(text.contains("\n  canary gets 95 %: control has no more to give\n"), "{text}");
}

#[test]
fn whoever_was_faster_is_named_and_the_draft_is_kept() {
    let mut editor = editor();
    press(&mut editor, &["PageDown", "Enter", "o", "k", "Enter"]);
    editor.look(&experiment(9, [0.8, 0.15, 0.05]), 9);
    let text = shown(&editor, pen());
    assert!(
        text.ends_with(
            "
  sre-oncall changed this 12 s ago. You started from revision 8; revision 9 is
  in force now. Nothing of yours was applied.

          you started from  in force  your draft
  stable              85 %      80 %        75 %
  canary              10 %      15 %        20 %
  next                 5 %       5 %         5 %

  Enter keeps your draft, from revision 9 on   t takes theirs
  Esc leaves, nothing is changed"
        ),
        "{text}"
    );
    let mut theirs = editor.clone();
    assert_eq!(press(&mut editor, &["Enter"]), Then::Stay, "it is looked at again first");
    assert_eq!((editor.revision, &editor.draft.shares[..]), (9, &[7500, 2000, 500][..]));
    assert!(
        shown(&editor, pen()).contains("About 500 of 10,000 user buckets move"),
        "against what is in force now"
    );
    assert_eq!(press(&mut editor, &["Enter", "Enter"]), Then::Send);
    assert_eq!(editor.reason, "ok");
    press(&mut theirs, &["t"]);
    assert_eq!((theirs.revision, theirs.is_changed()), (9, false));
    assert_eq!(theirs.draft.shares, [8000, 1500, 500]);
}

#[test]
fn a_change_by_somebody_else_is_told_before_anything_is_sent() {
    let mut editor = editor();
    editor.look(&experiment(9, [0.8, 0.15, 0.05]), 9);
    assert_eq!((editor.revision, &editor.draft.shares[..]), (9, &[8000, 1500, 500][..]));
    let text = shown(&editor, pen());
    assert!(
        text.starts_with("  revision 9 is in force now"),
        "nothing of theirs was at stake: {text}"
    );
    press(&mut editor, &["Left"]);
    editor.look(&experiment(10, [0.5, 0.45, 0.05]), 10);
    assert!(shown(&editor, pen()).contains("You started from revision 9; revision 10 is"));
    assert_eq!(press(&mut editor, &["Esc"]), Then::Leave);
    // Variants that are others now cannot keep a draft of the old ones.
    let mut other = experiment(11, [0.5, 0.45, 0.05]);
    let next = other["variants"].as_object_mut().unwrap().remove("next").unwrap();
    other["variants"]["more"] = next;
    editor.look(&other, 11);
    press(&mut editor, &["Enter"]);
    assert_eq!(editor.draft.names, ["stable", "canary", "more"]);
    assert!(shown(&editor, pen()).contains("your draft was let go of"));
    // Nobody is left to trade with.
    press(&mut editor, &["Left"]);
    let mut one = experiment(12, [1.0, 0.0, 0.0]);
    one["variants"] = json!({ "stable": { "share": 1.0 } });
    editor.look(&one, 12);
    assert_eq!(press(&mut editor, &["x"]), Then::Leave);
}

#[test]
fn a_refusal_keeps_the_draft_and_says_why() {
    let mut editor = editor();
    press(&mut editor, &["Left", "Enter", "Enter"]);
    editor.refused("cannot change the split of \"int8\": no\ngive another token".to_owned());
    let text = shown(&editor, pen());
    assert!(
        text.contains("\n  cannot change the split of \"int8\": no\n  give another token\n"),
        "{text}"
    );
    assert_eq!(editor.draft.shares, [8400, 1100, 500]);
}

#[test]
fn what_else_is_to_be_known_stands_beside_the_preview() {
    let mut stopped = experiment(8, [0.85, 0.1, 0.05]);
    stopped["state"] = json!("stopped");
    stopped["ramp"] = json!({ "state": "paused" });
    let mut editor = Editor::new(&stopped, 8).unwrap();
    press(&mut editor, &["Left"]);
    let text = shown(&editor, pen());
    assert!(text.contains("\n  It is stopped: new weights start it again.\n"), "{text}");
    assert!(text.contains("\n  A ramp is under way: it goes on from the new shares.\n"), "{text}");
}

#[test]
fn a_small_window_shows_what_the_edge_is_between() {
    let mut many = experiment(8, [0.85, 0.1, 0.05]);
    for at in 0..30 {
        many["variants"][format!("v{at}")] = json!({ "share": 0.0 });
    }
    let mut editor = Editor::new(&many, 8).unwrap();
    press(&mut editor, &["Tab", "Tab", "Left"]);
    let small = Pen { width: 59, height: 15, ..pen() };
    let text = shown(&editor, small);
    assert!(text.lines().count() < 15, "{text}");
    assert!(text.contains("▸ ■ next") && text.contains("▸ ■ v0"), "{text}");
    assert!(text.contains("Esc leaves, nothing is changed"), "{text}");
}

#[test]
fn signs_that_a_terminal_lacks_are_not_used() {
    let mut editor = editor();
    press(&mut editor, &["PageDown", "2"]);
    let plain = Pen { fine: false, ..pen() };
    let text = shown(&editor, plain);
    assert!(text.is_ascii(), "{text}");
    press(&mut editor, &["Esc", "Enter"]);
    assert!(shown(&editor, plain).is_ascii());
    editor.look(&experiment(9, [0.8, 0.15, 0.05]), 9);
    assert!(shown(&editor, plain).is_ascii());
}
