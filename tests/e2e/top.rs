//! `weir top` on a real terminal, and where there is none.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use weir_tests::gateway::ADMIN_KEY;
use weir_tests::terminal::TerminalBuilder;
use weir_tests::{
    Client, Gateway, Terminal, fault_proxy, gateway, seconds, terminal, until_async, weir,
    weir_program,
};

use crate::experiments::{answer_for, two};

/// `weir top` on a terminal, watching what listens at `admin`.
fn top(on: TerminalBuilder, admin: std::net::SocketAddr, arguments: &[&str]) -> Terminal {
    let on = on.env("WEIR_ADMIN", &format!("http://{admin}")).env("WEIR_TOKEN", ADMIN_KEY);
    on.run(&weir_program(), &[&["top"], arguments].concat())
}

/// Requests for as long as the test goes on.
fn load(gateway: &Gateway) -> tokio::task::JoinHandle<()> {
    let client: Client = gateway.client();
    tokio::spawn(async move {
        for user in 0.. {
            answer_for(&client, &format!("user-{}", user % 500)).await;
        }
    })
}

/// The line of the screen on which `name` stands first.
fn row(terminal: &Terminal, name: &str) -> String {
    let text = terminal.text();
    let found =
        text.lines().find(|line| line.trim_start_matches([' ', '■', '□']).starts_with(name));
    found.unwrap_or_else(|| panic!("{name} is not on the screen:\n{text}")).to_owned()
}

async fn ends(terminal: &Terminal) {
    assert_eq!(terminal.exit(seconds(5)).await, Some(0));
    assert!(!terminal.is_other_screen() && !terminal.is_cursor_hidden() && terminal.is_cooked());
    assert_eq!(terminal.text(), "", "what stood there is there again: nothing");
}

#[tokio::test]
async fn a_terminal_shows_the_split_the_load_and_every_change_and_follows_the_keys() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let load = load(&gateway);
    let screen = top(terminal(80, 24), gateway.admin, &[]);
    screen.shows("int8@1  running").await;
    screen.shows("■ canary").await;
    assert!(screen.is_other_screen() && !screen.is_cooked());
    screen.shows("Nothing needs you.").await;
    assert!(row(&screen, "stable").contains("90 %"), "{screen:?}");
    // Requests are seen within seconds: a number that is not 0 in the column of requests a second.
    until_async(seconds(15), || async {
        let row = row(&screen, "canary");
        let rate = row.split_whitespace().nth(4).unwrap_or_default().to_owned();
        if rate.parse::<f64>().is_ok_and(|rate| rate > 0.0) { Ok(()) } else { Err(row) }
    })
    .await;
    let picture = row(&screen, "canary").chars().any(|c| ('▁'..='█').contains(&c));
    assert!(picture, "{screen:?}");

    let changed = gateway.set_weights("int8", json!({"stable": 50, "canary": 50})).await;
    assert_eq!(changed.status, 200);
    screen.shows("int8@2  running").await;
    screen.shows("canary 10 → 50 %").await;
    assert!(row(&screen, "canary").contains("50 %"), "{screen:?}");

    screen.press("Down");
    screen.press("Enter");
    screen.shows("› chat › int8").await;
    screen.shows("verdicts").await;
    screen.shows("changed").await;
    screen.press("Down");
    screen.press("Enter");
    screen.shows("canary of int8 at revision 2").await;
    screen.shows("p95  0 to ").await;
    screen.press("Esc");
    screen.hides("canary of int8").await;
    screen.press("Esc");
    screen.shows("/ filter").await;
    screen.press("/");
    screen.press("canary");
    screen.press("Enter");
    screen.shows("filter \"canary\"").await;
    screen.hides("■ stable").await;
    screen.press("?");
    screen.shows("any key closes it").await;
    screen.press("?");
    screen.press("p");
    screen.shows("PAUSED").await;
    screen.press("p");
    screen.hides("PAUSED").await;
    screen.resize(60, 15);
    screen.shows("q quit").await;
    assert!(screen.text().lines().all(|line| line.chars().count() <= 60), "{screen:?}");
    screen.press("q");
    ends(&screen).await;
    load.abort();
}

#[tokio::test]
async fn however_it_ends_the_terminal_is_given_back() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    for end in ["Ctrl-C", "TERM", "HUP", "INT"] {
        let screen = top(terminal(80, 24), gateway.admin, &["int8"]);
        // It begins with the experiment that is named.
        screen.shows("› chat › int8").await;
        match end {
            "Ctrl-C" => screen.press(end),
            signal => screen.signal(signal),
        }
        ends(&screen).await;
    }
}

#[tokio::test]
async fn that_the_gateway_is_gone_is_said_and_it_is_found_again() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let network = fault_proxy(gateway.admin).start().await;
    let screen = top(terminal(100, 24), network.addr, &[]);
    screen.shows("live ").await;
    screen.shows("int8@1").await;
    network.refuse();
    network.reset_all();
    screen.shows("NOT LIVE").await;
    screen.shows("Not live. These numbers are from ").await;
    screen.shows("Trying again").await;
    screen.shows("int8@1").await;
    // What happens meanwhile is told when it is back, with the seconds that were missed.
    let changed = gateway.set_weights("int8", json!({"stable": 70, "canary": 30})).await;
    assert_eq!(changed.status, 200);
    network.accept();
    screen.shows("int8@2").await;
    screen.shows("live ").await;
    screen.shows("canary 10 → 30 %").await;
    screen.hides("Not live").await;
    screen.press("q");
    ends(&screen).await;
}

#[tokio::test]
async fn colours_are_for_who_wants_them() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let with = top(terminal(80, 24), gateway.admin, &[]);
    // Rows are written from the top: with this one on the screen the one above is, too.
    with.shows("■ canary").await;
    // The hue of canary; nothing failed, so nothing is red.
    assert_eq!(with.colours(), [vt100::Color::Idx(12)]);
    let without = top(terminal(80, 24).env("NO_COLOR", "1"), gateway.admin, &[]);
    without.shows("■ canary").await;
    assert_eq!(without.colours(), []);
    let plain = top(terminal(80, 24).env("LC_ALL", "C"), gateway.admin, &[]);
    plain.shows("int8@1").await;
    assert!(plain.text().is_ascii(), "{plain:?}");
    // One that can only print gets a table.
    let dumb = top(terminal(120, 24).env("TERM", "dumb"), gateway.admin, &[]);
    assert_eq!(dumb.exit(seconds(10)).await, Some(0));
    assert!(dumb.text().contains("route, experiment, variant") && !dumb.is_other_screen());
}

#[tokio::test]
async fn without_a_terminal_it_prints_one_table_and_ends() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    for user in 0..40 {
        answer_for(&client, &format!("user-{user}")).await;
    }
    let admin = format!("http://{}", gateway.admin);
    let run = |arguments: &[&str]| {
        let all = [&["top", "--admin", &admin, "--token", ADMIN_KEY], arguments].concat();
        let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
        tokio::task::spawn_blocking(move || {
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let output = weir(&all);
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            (output.status.code(), text(output.stdout), text(output.stderr))
        })
    };
    let (code, out, err) = run(&[]).await.unwrap();
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    assert!(!out.contains('\x1b'), "{out}");
    let heads =
        out.lines().position(|line| line.starts_with("route, experiment, variant")).unwrap();
    let rows: Vec<&str> = out.lines().skip(heads + 1).take(4).map(str::trim).collect();
    assert!(rows[0].starts_with("chat "), "{out}");
    assert!(rows[1].starts_with("int8@1 ") && rows[1].ends_with("running"), "{out}");
    assert!(rows[2].starts_with("stable ") && rows[2].ends_with("control"), "{out}");
    assert!(rows[3].starts_with("canary  ") && rows[3].contains(" 10 %"), "{out}");

    let (code, out, err) = run(&["--json", "--once"]).await.unwrap();
    assert_eq!((code, &*err, out.lines().count()), (Some(0), "", 1));
    let frame: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(frame["experiments"]["int8"]["variants"]["canary"]["share"], 0.1);

    let (code, out, err) = run(&["in8"]).await.unwrap();
    assert_eq!((code, &*out), (Some(1), ""));
    assert_eq!(err, "weir: there is no experiment \"in8\"\n      did you mean \"int8\"?\n");
}

#[tokio::test]
async fn frames_are_lines_of_json_for_as_long_as_somebody_reads_them() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let admin = format!("http://{}", gateway.admin);
    let lines = tokio::task::spawn_blocking(move || {
        let mut top = Command::new(weir_program())
            .args(["top", "int8", "--json", "--admin", &admin, "--token", ADMIN_KEY])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut head = Command::new("head");
        head.args(["-n", "2"]).stdin(top.stdout.take().unwrap());
        let read = head.output().unwrap();
        // With head and its end of the pipe gone the next line has no reader, and that is the end.
        drop(head);
        let ended = top.wait().unwrap();
        (ended.code(), String::from_utf8(read.stdout).unwrap())
    });
    let (code, lines) = tokio::time::timeout(seconds(20), lines).await.unwrap().unwrap();
    assert_eq!(code, Some(0));
    let frames: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let at = |frame: &Value| frame["at_unix"].as_i64().unwrap();
    assert!(at(&frames[1]) > at(&frames[0]), "{lines}");
}
