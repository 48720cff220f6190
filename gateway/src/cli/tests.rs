use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use clap::CommandFactory as _;

use super::*;

/// A stream whose content can be looked at.
#[derive(Clone, Default)]
struct Paper(Rc<RefCell<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

/// Exit, stdout and stderr of `weir` with `arguments`.
fn weir(arguments: &[&str]) -> (Exit, String, String) {
    let (out, err) = (Paper::default(), Paper::default());
    let mut console = Console::into(Box::new(out.clone()), Box::new(err.clone()));
    let all = std::iter::once("weir").chain(arguments.iter().copied()).map(OsString::from);
    let exit = run(all, &mut console);
    (exit, out.text(), err.text())
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn help_and_version_are_answers() {
    let (exit, out, err) = weir(&["--version"]);
    assert_eq!(
        (exit, out.as_str(), err.as_str()),
        (Exit::Done, concat!("weir ", env!("CARGO_PKG_VERSION"), "\n"), "")
    );
    let (exit, out, _) = weir(&["--help"]);
    assert_eq!(exit, Exit::Done);
    for command in [
        "demo",
        "serve",
        "check",
        "schema",
        "key",
        "status",
        "top",
        "split",
        "history",
        "undo",
        "stop",
        "shadow",
        "assign",
        "vectors",
        "completions",
    ] {
        assert!(out.contains(&format!("  {command} ")), "{command} is missing:\n{out}");
    }
}

#[test]
fn wrong_usage_exits_with_2_and_says_nothing_on_stdout() {
    for wrong in [
        &[][..],
        &["splti", "int8"],
        &["split"],
        &["split", "int8", "--reason", "no weights"],
        &["key", "create", "mobile"],
        &["key", "create", "mobile", "--role", "king"],
        &["key", "create", "mobile", "--role", "client", "--expires", "90"],
        &["key", "create", "mobile", "--role", "client", "--expires", "0d"],
        &["undo", "int8", "--to", "-1"],
        &["assign", "int8"],
        &["demo", "--edge", "here"],
        &["status", "--admin", "localhost"],
        &["status", "--admin", "http://gateway.example:8444"],
    ] {
        let (exit, out, err) = weir(wrong);
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""), "{wrong:?}: {err}");
        assert!(!err.is_empty(), "{wrong:?}");
    }
}

#[test]
fn a_weight_that_is_none_is_told_before_anything_is_sent() {
    // Nobody listens there: an attempt to send would end with 1.
    let nobody = ["--admin", "http://127.0.0.1:9"];
    let (exit, _, err) = weir(&[&["split", "int8", "stable=NaN"][..], &nobody].concat());
    assert_eq!(exit, Exit::Usage);
    assert_eq!(
        err,
        "weir: the weight of \"stable\" is not a number (NaN)\n      \
         write NAME=NUMBER, as in stable=90 canary=10; weights are relative, 0 drains\n"
    );
    let (exit, _, err) = weir(&[&["split", "int8", "canary=-5"][..], &nobody].concat());
    assert_eq!(
        (exit, err.lines().next()),
        (Exit::Usage, Some("weir: the weight of \"canary\" is negative (-5)"))
    );
}

#[test]
fn a_gateway_that_is_not_there_is_told_with_the_option_that_names_it() {
    let (exit, out, err) = weir(&["status", "--admin", "http://127.0.0.1:9"]);
    assert_eq!((exit, out.as_str()), (Exit::Failed, ""));
    assert_eq!(
        err,
        "weir: cannot reach the admin API at http://127.0.0.1:9: connection refused\n      \
         is the gateway running? name its admin address with --admin URL or WEIR_ADMIN\n"
    );
}

#[test]
fn a_key_in_the_wrong_place_is_not_repeated() {
    let key = "weir_4fT9aZq1_0pQ0123456789012345678901234567890123456789kV1zWx9B";
    let (exit, _, err) = weir(&["status", key]);
    assert_eq!(exit, Exit::Usage);
    assert!(err.contains("weir_4fT9aZq1_***") && !err.contains("0pQ012"), "{err}");
}

#[test]
fn what_is_missing_is_told_and_nothing_that_the_environment_may_set() {
    let gateway = ["--admin", "http://127.0.0.1:9", "--token", "weir_x"];
    let (exit, _, err) = weir(&[&["ramp", "start"][..], &gateway].concat());
    assert_eq!(exit, Exit::Usage);
    assert!(err.contains("\nUsage: weir ramp start [OPTIONS] <EXPERIMENT>\n"), "{err}");
    let (exit, _, err) = weir(&["undo", "int8", "--to", "seven"]);
    assert_eq!(exit, Exit::Usage);
    assert!(err.contains("write its number, as `weir history` shows it"), "{err}");
}

#[test]
fn a_missing_configuration_exits_with_78() {
    let (exit, out, err) = weir(&["check", "--config", "no-such-folder/weir.toml"]);
    assert_eq!((exit, out.as_str()), (Exit::Config, ""));
    assert!(err.starts_with("no-such-folder/weir.toml  does not exist\n"), "{err}");
    let (exit, out, _) = weir(&["check", "--json", "--config", "no-such-folder/weir.toml"]);
    let verdict: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, &verdict["problems"][0]["what"]), (Exit::Config, &"does not exist".into()));
}

#[test]
fn the_schema_and_every_completion_are_printed() {
    let (exit, out, _) = weir(&["schema"]);
    assert_eq!(exit, Exit::Done);
    assert!(
        serde_json::from_str::<serde_json::Value>(&out).unwrap()["properties"]["server"]
            .is_object()
    );
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (exit, out, _) = weir(&["completions", shell]);
        assert!(exit == Exit::Done && out.contains("weir"), "{shell}");
    }
}
