//! `weir split EXPERIMENT` on a real terminal: shown, moved with keys, and never by accident.

use serde_json::{Value, json};
use weir_tests::gateway::ADMIN_KEY;
use weir_tests::{Gateway, Terminal, gateway, seconds, terminal, weir_program};

use crate::experiments::two;

fn split(gateway: &Gateway, token: &str, arguments: &[&str]) -> Terminal {
    let on = terminal(80, 30).env("WEIR_ADMIN", &format!("http://{}", gateway.admin));
    on.env("WEIR_TOKEN", token).run(&weir_program(), &[&["split", "int8"], arguments].concat())
}

async fn shares(gateway: &Gateway) -> Value {
    let shown = gateway.get("/experiments/int8").await;
    json!([
        shown["revision"],
        shown["variants"]["stable"]["share"],
        shown["variants"]["canary"]["share"],
    ])
}

#[tokio::test]
async fn keys_move_the_share_and_enter_puts_it_in_force_with_its_reason() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let screen = split(&gateway, ADMIN_KEY, &[]);
    // What it showed before there were keys is shown first.
    screen.shows("int8 on route chat, revision 1, running").await;
    screen.shows("changed ").await;
    screen.shows("← → move the edge between stable and canary").await;
    assert!(!screen.is_other_screen(), "what is shown stays in the terminal");
    screen.press("PageDown");
    screen
        .shows("About 1,000 of 10,000 user buckets move, from stable to canary. None of them")
        .await;
    screen.press("Right");
    screen.press("Shift-Left");
    screen.press(",");
    screen.shows("■ canary      10 %  →  19.2 %").await;
    screen.press("2");
    screen.press("5");
    screen.press("Enter");
    screen.shows("→  25 %").await;
    assert_eq!(shares(&gateway).await, json!([1, 0.9, 0.1]), "nothing happens before Enter");
    screen.press("Enter");
    screen.shows("reason: ").await;
    // What is pasted with a line end in it confirms nothing.
    screen.paste("fast\nenough");
    screen.shows("reason: fast enough").await;
    assert_eq!(shares(&gateway).await, json!([1, 0.9, 0.1]));
    screen.press("Enter");
    assert_eq!(screen.exit(seconds(10)).await, Some(0));
    assert!(screen.text().contains("revision 2 in force after"), "{screen:?}");
    assert!(screen.text().contains("stable 75 %, canary 25 %; 1,500 of 10,000"), "{screen:?}");
    assert!(screen.is_cooked() && !screen.is_cursor_hidden());
    assert_eq!(shares(&gateway).await, json!([2, 0.75, 0.25]));
    let history = gateway.get("/experiments/int8/history").await;
    let newest = &history["revisions"][0];
    assert_eq!(newest["reason"], "fast enough");
    assert_eq!(newest["buckets_moved"], 1500, "as many as the preview said");
}

#[tokio::test]
async fn whoever_leaves_has_changed_nothing() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    for keys in
        [&["Esc"][..], &["Enter"], &["Left", "Esc"], &["Left", "Enter", "Esc"], &["Left", "Ctrl-C"]]
    {
        let screen = split(&gateway, ADMIN_KEY, &[]);
        screen.shows("move the edge").await;
        for key in keys {
            screen.press(key);
            // One after the other, as a person presses them: a lone Esc is no beginning of another key.
            match *key {
                "Left" => screen.shows("Esc leaves, nothing is changed").await,
                "Enter" if keys.len() > 1 => screen.shows("reason: ").await,
                _ => {}
            }
        }
        assert_eq!(screen.exit(seconds(5)).await, Some(0), "{keys:?}");
        assert_eq!(screen.text().contains("nothing was changed"), keys.len() > 1, "{screen:?}");
        assert!(screen.is_cooked() && !screen.is_cursor_hidden(), "{keys:?}");
    }
    assert_eq!(shares(&gateway).await, json!([1, 0.9, 0.1]));
}

#[tokio::test]
async fn who_was_faster_is_shown_and_nothing_of_mine_is_applied_before_i_say_so_again() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let screen = split(&gateway, ADMIN_KEY, &[]);
    screen.shows("move the edge").await;
    screen.press("PageDown");
    screen.press("Enter");
    screen.shows("reason: ").await;
    let changed = gateway.set_weights("int8", json!({"stable": 85, "canary": 15})).await;
    assert_eq!(changed.status, 200);
    screen.press("Enter");
    screen.shows("You started from revision 1; revision 2 is").await;
    screen.shows("yours was applied.").await;
    screen.shows("canary              10 %      15 %        20 %").await;
    assert_eq!(shares(&gateway).await, json!([2, 0.85, 0.15]));
    screen.press("Enter");
    screen.shows("About 500 of 10,000 user buckets move").await;
    assert_eq!(shares(&gateway).await, json!([2, 0.85, 0.15]), "the draft is kept, not applied");
    screen.press("Enter");
    screen.shows("reason: ").await;
    screen.press("Enter");
    assert_eq!(screen.exit(seconds(10)).await, Some(0));
    assert_eq!(shares(&gateway).await, json!([3, 0.8, 0.2]));
}

#[tokio::test]
async fn who_may_only_look_is_shown_it_and_so_is_who_asks_for_no_more() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let viewer = gateway.make_key("viewer", Value::Null).await;
    let screen = split(&gateway, &viewer, &[]);
    assert_eq!(screen.exit(seconds(10)).await, Some(0));
    assert!(screen.text().contains("this key may look, not change it (role viewer)"), "{screen:?}");
    let shown = split(&gateway, ADMIN_KEY, &["--show"]);
    assert_eq!(shown.exit(seconds(10)).await, Some(0));
    assert!(!shown.text().contains("move the edge"), "{shown:?}");
    let json = split(&gateway, ADMIN_KEY, &["--json"]);
    assert_eq!(json.exit(seconds(10)).await, Some(0));
    assert!(json.text().starts_with('{'), "{json:?}");
}
