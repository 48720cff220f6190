//! Completions in real shells, on a real terminal: Tab is pressed, and the screen looked at.
//!
//! bash is everywhere that these tests run. zsh and fish are not: `scripts/test` runs theirs where they
//! are installed, and says where they are not.

use std::path::Path;
use std::time::Instant;

use weir_tests::gateway::ADMIN_KEY;
use weir_tests::{Gateway, Terminal, gateway, millis, seconds, terminal, weir_program};

use crate::experiments::two;

/// A shell that has nothing but the completions, with the program on its path.
fn shell(gateway: Option<&Gateway>, program: &str, arguments: &[&str]) -> Terminal {
    let folder = weir_program().parent().unwrap().display().to_string();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let admin = gateway.map_or_else(|| "127.0.0.1:9".to_owned(), |of| of.admin.to_string());
    let home = std::env::temp_dir().display().to_string();
    terminal(100, 30)
        .env("PATH", &path)
        .env("HOME", &home)
        .env("ZDOTDIR", "/nowhere")
        .env("WEIR_ADMIN", &format!("http://{admin}"))
        .env("WEIR_TOKEN", ADMIN_KEY)
        .env("PS1", "ready> ")
        .run(Path::new(program), arguments)
}

async fn enter(shell: &Terminal, line: &str) {
    shell.press(line);
    shell.press("Enter");
    shell.press("clear");
    shell.press("Enter");
    shell.hides(line).await;
}

/// What stands on the line after Tab; the line is taken away again.
async fn tab(shell: &Terminal, line: &str, then: &str) {
    shell.press(line);
    shell.press("Tab");
    shell.shows(then).await;
    // Not Ctrl-C, which throws away what is typed after it too.
    shell.press("Ctrl-U");
    shell.press("clear");
    shell.press("Enter");
    shell.hides(then).await;
}

async fn knows_what_runs(shell: &Terminal) {
    tab(shell, "weir split in", "weir split int8").await;
    tab(shell, "weir results in", "weir results int8").await;
    tab(shell, "weir top in", "weir top int8").await;
    tab(shell, "weir ramp start int8 --variant ca", "--variant canary").await;
    tab(shell, "weir split int8 can", "weir split int8 canary=").await;
    tab(shell, "weir key create mobile --route ch", "--route chat").await;
    tab(shell, "weir key create mobile --role cl", "--role client").await;
    tab(shell, "weir undo int8 --to ", "weir undo int8 --to 1").await;
    tab(shell, "weir ramp sta", "weir ramp sta").await;
    tab(shell, "weir hist", "weir history").await;
}

#[tokio::test]
async fn bash_completes_commands_and_what_runs() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let bash = shell(Some(&gateway), "bash", &["--norc", "--noprofile", "-i"]);
    bash.shows("ready>").await;
    enter(&bash, "source <(weir completions bash)").await;
    knows_what_runs(&bash).await;
    // A variant that has a weight already is not offered again, and after `=` comes a number.
    bash.press("weir split int8 stable=90 ");
    bash.press("Tab");
    bash.press("Tab");
    bash.shows("--reason").await;
    let offered = bash.text().lines().skip(1).collect::<Vec<_>>().join(" ");
    assert!(offered.contains("canary=") && !offered.contains("stable= "), "{bash:?}");
    bash.press("Ctrl-U");
    bash.press("weir split int8 stable=");
    bash.press("Tab");
    bash.press("Tab");
    bash.press("9\x01: ");
    bash.shows(": weir split int8 stable=9").await;
    bash.press("Enter");
}

#[tokio::test]
async fn a_gateway_that_is_not_there_costs_no_word_and_no_time() {
    let bash = shell(None, "bash", &["--norc", "--noprofile", "-i"]);
    bash.shows("ready>").await;
    enter(&bash, "source <(weir completions bash)").await;
    bash.press("weir split in");
    bash.press("Tab");
    bash.press("Tab");
    bash.press("x");
    bash.shows("weir split inx").await;
    bash.press("Ctrl-U");
    let screen = bash.text();
    assert!(!screen.contains("cannot reach") && !screen.contains("error"), "{screen}");
    // Commands are known without it.
    tab(&bash, "weir hist", "weir history").await;
}

#[tokio::test]
async fn a_gateway_that_hangs_is_not_waited_for() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!("http://{}", silent.local_addr().unwrap());
    let began = Instant::now();
    let asked = std::process::Command::new(weir_program())
        .args(["--", "weir", "split", ""])
        .env("WEIR_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", "2")
        .env("WEIR_ADMIN", admin)
        .env("WEIR_TOKEN", ADMIN_KEY)
        .output()
        .unwrap();
    // Options are offered all the same; far less than the five seconds a command would wait.
    assert!(began.elapsed() < seconds(4), "{:?}", began.elapsed());
    assert!(asked.status.success() && asked.stderr.is_empty(), "{asked:?}");
    assert!(millis(300) <= began.elapsed(), "it was asked at all");
}

#[tokio::test]
#[ignore = "needs zsh; scripts/test runs it where zsh is installed"]
async fn zsh_completes_commands_and_what_runs() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let zsh = shell(Some(&gateway), "zsh", &["-f", "-i"]);
    zsh.shows("ready>").await;
    enter(&zsh, "autoload -Uz compinit; compinit -u -D; source <(weir completions zsh)").await;
    knows_what_runs(&zsh).await;
}

#[tokio::test]
#[ignore = "needs fish; scripts/test runs it where fish is installed"]
async fn fish_completes_commands_and_what_runs() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let prompt = "function fish_prompt; echo 'ready> '; end";
    let arguments = ["--no-config", "--interactive", "--init-command", prompt];
    let fish = shell(Some(&gateway), "fish", &arguments);
    fish.shows("ready>").await;
    enter(&fish, "weir completions fish | source").await;
    knows_what_runs(&fish).await;
}
