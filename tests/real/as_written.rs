//! What a newcomer types: the commands of the examples' READMEs, and what `weir demo` prints.

use std::path::Path;

use serde_json::Value;
use weir_tests::seconds;

use crate::setup::{Program, a_turn, python, root, run, the_machine, weir};

/// The shell commands of a README, block by block.
fn commands(readme: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(readme).unwrap();
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(str::to_owned).collect()
}

/// The subcommands that this gateway has.
async fn subcommands() -> Vec<String> {
    let help = run(&[&weir().display().to_string(), "--help"], &[]).await.out;
    let words = help.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    words.map(str::to_owned).collect()
}

/// Types the commands of `example` into a shell, from the second step on, and gives what that
/// printed and the example's own terminal.
async fn typed(example: &str, experiment: &str) -> (String, Vec<String>) {
    let folder = root().join("examples").join(example);
    let data = tempfile::tempdir().unwrap();
    let at = data.path().display().to_string();
    let start = folder.join("run").display().to_string();
    let binary = [("WEIR_BIN", weir().display().to_string())];
    // Other ports and another folder than usual, for those who are in use on this machine.
    let words = [&*start, "--port-edge", "0", "--port-admin", "0", "--data", &at];
    let mut example = Program::start(&words, &binary);
    let source = example.after(seconds(280), "in a second terminal:").await;

    let known = subcommands().await;
    let mut shell = format!("set -euo pipefail\n{source}\n");
    for block in commands(&folder.join("README.md")) {
        // The first step is done, a little differently; the SDKs are installed already.
        if block.contains("cargo build") || block.starts_with(". ~") {
            continue;
        }
        let mut kept = String::new();
        for line in block.lines() {
            let installs = line.starts_with("python3 -m venv") || line.contains("/pip install");
            let unknown = line.strip_prefix("weir ").is_some_and(|rest| {
                !known.iter().any(|command| Some(&**command) == rest.split(' ').next())
            });
            if unknown {
                eprintln!("not in this gateway yet: {line}");
            }
            if !installs && !unknown {
                kept += line;
                kept.push('\n');
            }
        }
        // 28: the time of `-m` is over, as it should be.
        match kept.contains(" -m 1 ") {
            true => shell += &format!("{{ {kept} }} || [ $? = 28 ]\n"),
            false => shell += &kept,
        }
    }
    shell += &format!("echo the history:\nweir history {experiment} --json\n");
    let shell = shell
        .replace("~/.cache/weir-examples/client/bin/python", &python().display().to_string())
        .replace("~/.cache/", "${XDG_CACHE_HOME:-$HOME/.cache}/");
    let ran = run(&["bash", "-c", &shell], &[]).await;
    assert!(ran.ok, "{}{}\nof\n{shell}", ran.out, ran.err);

    example.signal("INT");
    let status = example.ended(seconds(60)).await;
    assert_eq!(status.code(), Some(130), "{:?}", example.lines());
    assert!(data.path().join("weir.db").exists(), "the store is kept");
    let (out, history) = ran.out.split_once("the history:\n").unwrap();
    let history: Value = serde_json::from_str(history).unwrap();
    // As in the file, moved, undone, stopped.
    assert!(history["revisions"].as_array().unwrap().len() >= 3, "{history}");
    (out.to_owned(), example.lines())
}

#[tokio::test]
async fn the_readme_of_the_language_models_does_what_it_says() {
    let _turn = the_machine().await;
    let (out, terminal) = typed("llm", "brevity").await;
    // Section 3: one answer by curl, then 20 users.
    assert!(out.starts_with("{\"id\":\"chatcmpl-"), "{out}");
    let users: u32 = out
        .lines()
        .filter_map(|line| line.trim_start().split_once(" \"system_fingerprint\":"))
        .map(|(count, _)| count.parse::<u32>().unwrap())
        .sum();
    assert_eq!(users, 20, "{out}");
    // Section 4: the SDK, plain and streamed.
    for word in ["plain:", "streamed:", "first token after", "80 tokens in"] {
        assert!(out.contains(word), "{word} is not in {out}");
    }
    // Section 6: the model server noticed.
    assert!(terminal.iter().any(|line| line.starts_with("stable cancelled id=")), "{terminal:?}");
}

#[tokio::test]
async fn the_readme_of_mlserver_does_what_it_says() {
    let _turn = the_machine().await;
    let (out, _) = typed("mlserver", "forest").await;
    assert!(out.contains("40 requests, 0 with a wrong prediction; answered by"), "{out}");
    assert!(out.contains("400 requests, 0 with a wrong prediction; answered by 1: "), "{out}");
    assert!(out.contains("\"data\":[0]"), "{out}");
}

/// Pastes a `curl` command; again if the demo's canary failed, as it is made to do now and then.
async fn asked(command: &str) -> String {
    for _ in 0..5 {
        let ran = run(&["bash", "-c", command], &[]).await;
        assert!(ran.ok, "{command}\n{}", ran.err);
        if !ran.out.contains("the model ran out of memory") {
            return ran.out;
        }
    }
    panic!("five failures in a row: {command}");
}

#[tokio::test]
async fn the_demo_prints_commands_that_work_as_pasted() {
    let _turn = a_turn().await;
    let words =
        [&*weir().display().to_string(), "demo", "--edge", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut demo = Program::start(&words, &[]);
    let all = |lines: &[String]| {
        lines.iter().any(|line| line.contains("ramp started")).then(|| lines.to_vec())
    };
    let lines = demo.printed(seconds(60), all).await;
    let from = lines.iter().position(|line| line.trim_start().starts_with("curl")).unwrap();
    let until = from + lines[from..].iter().position(|line| !line.ends_with('\\')).unwrap();
    let curl = lines[from..=until].join("\n");

    let answer = asked(&format!("{curl} -s -w '\n%{{http_code}}'")).await;
    let (body, status) = answer.rsplit_once('\n').unwrap();
    assert_eq!(status, "200", "{answer}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert!(body["choices"][0]["message"]["content"].is_string(), "{body}");
    let streamed = curl.replace("\"model\": \"demo\",", "\"model\": \"demo\", \"stream\": true,");
    let streamed = asked(&streamed).await;
    assert!(streamed.trim_end().ends_with("data: [DONE]"), "{streamed}");

    let other = lines.iter().position(|line| line == "In another terminal").unwrap();
    let pasted = lines[other + 1..]
        .iter()
        .filter(|line| line.contains("export ") || line.contains("   # "))
        .fold("set -e\n".to_owned(), |all, line| all + line + "\n");
    let tried = run(&["bash", "-c", &pasted], &[]).await;
    assert!(tried.ok && pasted.lines().count() == 14, "{pasted}\n{}\n{}", tried.out, tried.err);
    for word in ["50", "alice", "weir_requests_total", "guardrail", "sample ratio", "arrived"] {
        assert!(tried.out.contains(word), "{word} is not in {}", tried.out);
    }

    demo.signal("INT");
    let status = demo.ended(seconds(20)).await;
    assert_eq!(status.code(), Some(0), "{:?}", demo.lines());
    let stopped =
        |lines: &[String]| lines.iter().find(|line| line.starts_with("stopped after")).cloned();
    let stopped = demo.printed(seconds(5), stopped).await;
    assert!(stopped.contains("nothing is left"), "{stopped}");
    let ca = curl.split_whitespace().skip_while(|word| *word != "--cacert").nth(1).unwrap();
    assert!(!Path::new(ca).parent().unwrap().exists(), "{ca} is left");
}
