//! Two classifiers on MLServer, asked with NVIDIA's client of the Open Inference Protocol.

use std::collections::BTreeMap;

use weir_tests::{gateway, seconds};

use crate::setup::{Program, python, root, run, the_machine, told};

#[tokio::test]
async fn tritonclient_classifies_through_the_edge() {
    let _turn = the_machine().await;
    let start = root().join("examples/mlserver/run").display().to_string();
    let mut servers = Program::start(&[&start, "--servers-only"], &[]);
    let text = std::fs::read_to_string(root().join("examples/mlserver/weir.toml")).unwrap();
    let (_, text) = text.split_at(text.find("[backends.").unwrap());
    let mut text = text.to_owned();
    for name in ["stable", "canary"] {
        let port = servers.after(seconds(280), &format!("ready {name} http://127.0.0.1:")).await;
        text = text.replace(&format!("${{{}_PORT}}", name.to_uppercase()), &port);
    }
    let gateway = gateway(text).start().await;

    let python = python().display().to_string();
    let infer = root().join("examples/mlserver/infer.py").display().to_string();
    let mut env = told(&gateway);
    let ran = run(&[&python, &infer, "--users", "150"], &env).await;
    assert!(ran.ok, "{}{}", ran.out, ran.err);
    eprintln!("{}", ran.out.trim());
    assert!(ran.out.contains("150 requests, 0 with a wrong prediction"), "{}", ran.out);
    let again = run(&[&python, &infer, "--users", "40"], &env).await;
    assert!(again.ok, "{}{}", again.out, again.err);

    let rows = gateway.outcomes("route=iris").await;
    assert_eq!(rows.len(), 190);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut units: BTreeMap<&str, &str> = BTreeMap::new();
    for row in &rows {
        assert_eq!(row["outcome"], "ok", "{row}");
        let (unit, variant) =
            (row["unit.hash"].as_str().unwrap(), row["variant"].as_str().unwrap());
        assert_eq!(*units.entry(unit).or_insert(variant), variant, "a user keeps the variant");
    }
    // The first 150, which came before the others.
    for row in &rows[40..] {
        *counts.entry(row["variant"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!(units.len(), 150);
    let answered = format!("1: {}, 2: {}", counts["stable"], counts["canary"]);
    assert!(ran.out.contains(&answered), "recorded {answered}, said {}", ran.out);

    // Without the authority nothing is asked at all.
    env.retain(|(name, _)| *name != "WEIR_CA");
    let untrusting = run(&[&python, &infer, "--users", "1"], &env).await;
    assert!(
        !untrusting.ok && untrusting.err.contains("CERTIFICATE_VERIFY_FAILED"),
        "{untrusting:?}"
    );
    assert_eq!(gateway.outcomes("route=iris").await.len(), 190);
}
