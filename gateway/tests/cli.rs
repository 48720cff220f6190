//! The `weir` command against an admin API that is played by the test: what is sent, what is shown,
//! and how it ends.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

const TOKEN: &str = "weir_4fT9aZq1_0pQ0123456789012345678901234567890123456789kV1zWx9B";

/// One request, as it came.
#[derive(Clone, Debug, Default)]
struct Seen {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }
}

/// Status, `ETag` and body of an answer.
type Said = (u16, Option<&'static str>, String);

/// An admin API that answers as `answer` says.
struct Admin {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Admin {
    fn start(answer: impl Fn(&str) -> Said + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let mut reader = BufReader::new(socket.unwrap());
                let mut request = Seen::default();
                reader.read_line(&mut request.line).unwrap();
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    let Some((name, value)) = line.trim_end().split_once(": ") else { break };
                    request.headers.push((name.to_ascii_lowercase(), value.to_owned()));
                }
                let length =
                    request.header("content-length").map_or(0, |text| text.parse().unwrap());
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                request.body = String::from_utf8(body).unwrap();
                let target = request.line.trim_end().strip_suffix(" HTTP/1.1").unwrap().to_owned();
                log.lock().unwrap().push(request);
                let (status, etag, body) = answer(&target);
                let etag = etag.map(|etag| format!("etag: \"{etag}\"\r\n")).unwrap_or_default();
                let head =
                    format!("HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\n{etag}");
                let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { address, seen }
    }

    fn weir(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments)
            .env("WEIR_ADMIN", format!("http://{}", self.address))
            .env("WEIR_TOKEN", TOKEN)
            .output()
            .unwrap()
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn experiment(revision: u64, stable: f64) -> Value {
    json!({
        "name": "int8", "route": "chat", "owner": "api", "state": "running", "revision": revision,
        "control": "stable", "unit": ["header:x-user-id"], "order": ["stable", "canary"],
        "variants": {
            "stable": { "backend": "a", "weight": stable, "share": stable / 100.0 },
            "canary": { "backend": "b", "weight": 100.0 - stable, "share": 1.0 - stable / 100.0 },
        },
        "changed_at": "2026-01-02T03:04:05.000006Z", "changed_by": "ada", "reason": "too slow",
    })
}

fn refusal(message: &str) -> String {
    json!({ "error": { "type": "t", "message": message, "request_id": "r1", "details": ["one", "two"] } })
        .to_string()
}

#[test]
fn a_split_is_changed_from_the_revision_that_was_seen() {
    let admin = Admin::start(|target| match target {
        "GET /api/v1/experiments/int8" => (200, Some("7"), experiment(7, 95.0).to_string()),
        _ => {
            let mut after = experiment(8, 90.0);
            after["buckets_moved"] = json!(500);
            (200, Some("8"), after.to_string())
        }
    });
    let output =
        admin.weir(&["split", "int8", "stable=90", "canary=10", "--reason", "a first look"]);
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
    let text = out(&output);
    assert!(text.starts_with("revision 8 in force after ") && text.contains(" ms: "), "{text}");
    assert!(text.ends_with(": stable 90 %, canary 10 %; 500 of 10,000 buckets moved\n"), "{text}");

    let [get, put] = admin.seen().try_into().unwrap();
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(get.header("authorization"), Some(bearer.as_str()));
    assert_eq!(put.line.trim_end(), "PUT /api/v1/experiments/int8/weights HTTP/1.1");
    assert_eq!(put.header("if-match"), Some("\"7\""));
    assert!(put.header("idempotency-key").is_some_and(|key| key.len() == 32));
    let body: Value = serde_json::from_str(&put.body).unwrap();
    assert_eq!(
        body,
        json!({ "weights": { "stable": 90.0, "canary": 10.0 }, "reason": "a first look" })
    );
}

#[test]
fn whoever_was_overtaken_learns_by_whom() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let admin = Admin::start(move |target| {
        if target.starts_with("PUT") {
            return (412, None, refusal("revision 7 is not in force any more"));
        }
        if first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            return (200, Some("7"), experiment(7, 95.0).to_string());
        }
        (200, Some("8"), experiment(8, 50.0).to_string())
    });
    let output = admin.weir(&["split", "int8", "stable=90"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(1), ""));
    let text = err(&output);
    assert!(
        text.starts_with("weir: \"int8\" was changed meanwhile; nothing was changed by you\n"),
        "{text}"
    );
    assert!(text.contains("you saw revision 7; revision 8 was made "), "{text}");
    assert!(text.contains(" by ada (2026-01-02 03:04:05 UTC): too slow\n"), "{text}");
    assert!(text.contains("it says: stable 50 %, canary 50 %\n"), "{text}");
    assert!(text.contains("give the same command again"), "{text}");
}

#[test]
fn a_variant_that_does_not_exist_is_not_sent() {
    let admin = Admin::start(|_| (200, Some("7"), experiment(7, 95.0).to_string()));
    let output = admin.weir(&["split", "int8", "canry=10"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        err(&output),
        "weir: experiment \"int8\" has no variant \"canry\"\n      \
         did you mean \"canary\"? its variants are stable, canary\n"
    );
    assert_eq!(admin.seen().len(), 1);
}

#[test]
fn an_unknown_experiment_is_told_with_those_that_exist() {
    let admin = Admin::start(|target| match target {
        "GET /api/v1/experiments" => {
            (200, None, json!({ "items": [experiment(7, 95.0)], "next": null }).to_string())
        }
        _ => (404, None, refusal("no such experiment")),
    });
    for command in [
        &["split", "reranker"][..],
        &["stop", "reranker"],
        &["undo", "reranker"],
        &["history", "reranker"],
    ] {
        let output = admin.weir(command);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert_eq!(
            err(&output),
            "weir: there is no experiment \"reranker\"\n      there is: int8\n",
            "{command:?}"
        );
    }
}

#[test]
fn a_token_that_is_not_accepted_is_mended_but_never_shown() {
    let admin = Admin::start(|_| (401, None, refusal("unauthorized")));
    let output = admin.weir(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let text = err(&output);
    assert!(text.contains("does not accept this token"), "{text}");
    assert!(text.contains("--token or WEIR_TOKEN"), "{text}");
    let help = admin.weir(&["status", "--help"]);
    for text in [text, out(&output), out(&help), err(&help)] {
        assert!(!text.contains("0pQ012"), "{text}");
    }
}

#[test]
fn a_refusal_is_shown_with_its_details_and_its_request() {
    let admin = Admin::start(|_| (409, None, refusal("the file owns it\u{1b}[31m")));
    let output = admin.weir(&["stop", "int8"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        "weir: cannot stop \"int8\": the file owns it\\u{1b}[31m\n        one\n        two\n      \
         status 409, request r1\n"
    );
}

#[test]
fn what_makes_no_sense_is_wrong_usage_and_what_is_refused_has_failed() {
    for (status, exit) in [(400, 2), (403, 1), (404, 1), (409, 1), (503, 1)] {
        let admin = Admin::start(move |_| (status, None, refusal("no")));
        let output = admin.weir(&["results", "int8", "--since", "yesterday"]);
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(exit), ""), "{status}");
    }
}

#[test]
fn an_answer_that_cannot_be_written_is_no_success() {
    let admin = Admin::start(|_| (200, Some("7"), experiment(7, 95.0).to_string()));
    for command in [&["split", "int8", "--json"][..], &["export", "outcomes"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(command)
            .env("WEIR_ADMIN", format!("http://{}", admin.address))
            .stdout(full)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let told = "weir: cannot write the answer: No space left";
        assert!(err(&output).starts_with(told), "{output:?}");
    }
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("status")
        .envs([("WEIR_ADMIN", ""), ("WEIR_TOKEN", ""), ("WEIR_CA", "")])
        .output()
        .unwrap();
    // Whether or not a gateway listens at the default address of this machine, it is asked.
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("the admin API at http://127.0.0.1:8444"), "{output:?}");
}

#[test]
fn an_experiment_without_a_ramp_is_told_how_to_have_one() {
    let admin = Admin::start(|target| match target {
        "GET /api/v1/experiments" => {
            (200, None, json!({ "items": [experiment(7, 95.0)], "next": null }).to_string())
        }
        _ => (404, None, refusal("experiment \"int8\" has no ramp; `POST …/ramp` starts one")),
    });
    let output = admin.weir(&["ramp", "status", "int8"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        "weir: experiment \"int8\" has no ramp\n      `weir ramp start int8` starts one\n"
    );
}

#[test]
fn weights_that_start_a_stopped_experiment_again_say_so() {
    let admin = Admin::start(|target| {
        let mut said = experiment(7, 95.0);
        if target.starts_with("GET") {
            said["state"] = json!("stopped");
        }
        (200, Some("7"), said.to_string())
    });
    let output = admin.weir(&["split", "int8", "stable=90"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(err(&output), "\"int8\" was stopped; with this it is split again\n");
}

#[test]
fn json_is_the_answer_of_the_api_unchanged() {
    let body = r#"{"name":"int8" ,  "revision":7,"more":["kept"]}"#;
    let admin = Admin::start(move |_| (200, Some("7"), body.to_owned()));
    for command in [
        &["split", "int8", "--json"][..],
        &["history", "int8", "--json"],
        &["assign", "int8", "alice", "--json"],
        &["status", "--json"],
        &["key", "list", "--json"],
        &["undo", "int8", "--json"],
        &["stop", "int8", "--json"],
        &["key", "create", "mobile", "--role", "client", "--json"],
        &["key", "revoke", "4fT9aZq1", "--json"],
    ] {
        let output = admin.weir(command);
        assert_eq!(output.status.code(), Some(0), "{command:?}: {}", err(&output));
        assert_eq!(out(&output), format!("{body}\n"), "{command:?}");
    }
}

#[test]
fn a_key_is_printed_once_and_alone() {
    let answer = json!({ "id": "4fT9aZq1", "name": "mobile", "role": "client", "routes": ["chat"],
        "secret": TOKEN, "expires_at": null });
    let admin = Admin::start(move |_| (201, None, answer.to_string()));
    let output = admin.weir(&[
        "key",
        "create",
        "mobile",
        "--role",
        "client",
        "--route",
        "chat",
        "--expires",
        "90d",
    ]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(out(&output), format!("{TOKEN}\n"));
    assert!(
        err(&output).contains("key 4fT9aZq1 \"mobile\": client, route chat, until it is revoked")
    );
    assert!(!err(&output).contains(TOKEN));
    let sent: Value = serde_json::from_str(&admin.seen()[0].body).unwrap();
    assert_eq!(
        (&sent["name"], &sent["role"], &sent["routes"]),
        (&json!("mobile"), &json!("client"), &json!(["chat"]))
    );
    assert!(sent["expires_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{sent}");
}

#[test]
fn undo_and_stop_send_what_was_asked_for() {
    let admin = Admin::start(|_| (200, Some("9"), experiment(9, 90.0).to_string()));
    let output = admin.weir(&["undo", "int8", "--to", "3", "--reason", "back"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(out(&output).starts_with("revision 9 in force after "), "{}", out(&output));
    let output = admin.weir(&["stop", "int8"]);
    assert!(
        out(&output).starts_with("int8 is stopped (revision 9), in force after "),
        "{}",
        out(&output)
    );
    let [look, undo, stop] = admin.seen().try_into().unwrap();
    assert_eq!(look.line.trim_end(), "GET /api/v1/experiments/int8 HTTP/1.1");
    assert_eq!(undo.header("if-match"), Some("\"9\""));
    assert_eq!(undo.line.trim_end(), "POST /api/v1/experiments/int8/undo HTTP/1.1");
    assert_eq!(
        serde_json::from_str::<Value>(&undo.body).unwrap(),
        json!({ "to": 3, "reason": "back" })
    );
    assert_eq!((stop.body.as_str(), stop.header("if-match")), ("{}", None));
}

#[test]
fn a_unit_may_be_anything() {
    let admin = Admin::start(|_| {
        (
            200,
            None,
            json!({ "experiment": "int8", "unit": "a/b ?", "variant": "canary", "reason": "split",
            "bucket": 12, "revision": 7, "backend": "b" })
            .to_string(),
        )
    });
    let output = admin.weir(&["assign", "int8", "a/b ?"]);
    assert_eq!(
        out(&output),
        "a/b ? gets canary (backend b); experiment int8@7, bucket 12 of 0 to 9,999, reason: split\n"
    );
    assert!(admin.seen()[0].line.contains("/assign?unit=a%2Fb%20%3F "), "{:?}", admin.seen());
}

#[test]
fn what_takes_long_says_so_on_stderr() {
    let admin = Admin::start(|_| {
        std::thread::sleep(Duration::from_millis(1_300));
        (200, None, json!({ "version": "0.1.0" }).to_string())
    });
    let output = admin.weir(&["status", "--json"]);
    assert_eq!(out(&output), "{\"version\":\"0.1.0\"}\n");
    assert_eq!(err(&output), format!("waiting for http://{}\n", admin.address));
}

#[test]
fn something_else_than_the_admin_api_is_recognised() {
    let admin = Admin::start(|_| (200, None, "<html>hello</html>".to_owned()));
    let output = admin.weir(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("did not answer like the admin API"), "{}", err(&output));
}
