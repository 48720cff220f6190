//! `weir demo` from outside: the story is told to its end, from the gateway's own numbers, and nothing
//! is left of it.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A running demo, killed if a test ends before it does.
struct Demo {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = weir()
            .args(["demo", "--edge", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(arguments)
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stdout, kept) = (child.stdout.take().unwrap(), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        Self { child, lines, folder }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The first line of which this is true.
    fn printed(&self, limit: Duration, is: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + limit;
        loop {
            if let Some(line) = self.lines().into_iter().find(|line| is(line)) {
                return line;
            }
            assert!(Instant::now() < end, "not printed: {:#?}", self.lines());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What stands behind `export NAME=`.
    fn exported(&self, name: &str) -> String {
        let start = format!("export {name}=");
        let line = self.printed(Duration::from_secs(60), |line| line.contains(&start));
        line.split_once(&start).unwrap().1.to_owned()
    }

    /// Asks the gateway of the demo, with what the demo says.
    fn asked(&self, arguments: &[&str]) -> Value {
        let output = weir()
            .args(arguments)
            .env("WEIR_ADMIN", self.exported("WEIR_ADMIN"))
            .env("WEIR_TOKEN", self.exported("WEIR_TOKEN"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Ctrl-C: it ends well, and nothing is left.
    fn interrupt(mut self) {
        let admin = self.exported("WEIR_ADMIN").replace("http://", "");
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let end = Instant::now() + Duration::from_secs(30);
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < end, "it does not end: {:#?}", self.lines()),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(status.code(), Some(0), "{:#?}", self.lines());
        let last = self.printed(Duration::from_secs(5), |line| line.starts_with("stopped after"));
        assert!(last.ends_with("nothing is left"), "{last}");
        let left: Vec<_> = self.folder.path().read_dir().unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(TcpStream::connect(admin).is_err(), "somebody still listens");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn weir() -> Command {
    Command::new(env!("CARGO_BIN_EXE_weir"))
}

#[test]
fn a_bad_candidate_is_rolled_back_and_a_good_one_promoted_as_the_gateway_says() {
    let demo = Demo::start(&[]);
    demo.printed(Duration::from_secs(400), |line| line.starts_with("The end"));
    let ramp = demo.asked(&["ramp", "status", "int8", "--json"]);
    let text = |made: &Value, name: &str| made[name].as_str().unwrap().to_owned();
    let mut decisions = ramp["decisions"].as_array().unwrap().clone();
    decisions.reverse();
    // Every decision was told, in the gateway's words and in its order.
    let lines = demo.lines();
    let mut from = 0;
    for made in &decisions {
        let words = text(made, "words");
        let place = lines[from..].iter().position(|line| line.ends_with(&words));
        from += place.unwrap_or_else(|| panic!("{words:?} was not told: {lines:#?}")) + 1;
    }
    let actions: Vec<String> = decisions.iter().map(|made| text(made, "action")).collect();
    let until = actions.iter().position(|action| action == "roll_back").unwrap();
    assert_eq!(text(&decisions[until], "reason"), "breached");
    assert!(text(&decisions[until], "words").starts_with("canary "), "{decisions:#?}");
    let second = ["start", "widen", "widen", "widen", "promote"];
    assert_eq!(actions[until + 1..], second, "{actions:?}");
    assert_eq!((ramp["variant"].as_str(), ramp["share"].as_f64()), (Some("next"), Some(1.0)));
    // What is said of the bad one at the end is what the decision says.
    let first = &decisions[until]["evidence"]["guardrails"][0];
    let end = demo.printed(Duration::ZERO, |line| line.starts_with("The end"));
    let seen = first["exposures"]["treated"].as_u64().unwrap();
    assert!(end.replace(',', "").contains(&format!(" {seen} ")), "{end} is not of {first:#}");
    // The statistics are the defaults: 5 % over five guardrails.
    let guardrails = ramp["guardrails"].as_array().unwrap();
    assert_eq!(guardrails.len(), 5);
    for guardrail in guardrails {
        let breach = guardrail["thresholds"]["breach"].as_f64().unwrap();
        assert!((breach - 100_f64.ln()).abs() < 1e-9, "{guardrail:#}");
    }
    demo.interrupt();
}

#[test]
fn without_load_there_is_no_story_and_a_named_folder_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let named = folder.path().join("kept");
    let demo = Demo::start(&["--no-load", "--dir", named.to_str().unwrap()]);
    demo.printed(Duration::from_secs(60), |line| line.contains("No load"));
    assert!(!demo.lines().iter().any(|line| line.contains("What happens now")));
    let split = demo.asked(&["split", "int8", "--json"]);
    assert_eq!(split["variants"]["stable"]["share"], 1.0);
    let mut demo = demo;
    let id = demo.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(demo.child.wait().unwrap().code(), Some(0));
    for kept in ["weir.toml", "weir.db", "curl.sh"] {
        assert!(Path::new(&named).join(kept).exists(), "{kept}");
    }
}
