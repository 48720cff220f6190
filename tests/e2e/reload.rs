//! A new file, a bad file, new certificates, while everything runs.

use serde_json::json;
use weir_tests::{Client, backend, gateway, millis, seconds, until_async, weir};

use crate::durability::Load;
use crate::recording::{split, sum_of};

/// F20: refused as a whole, and the log says where.
#[tokio::test]
async fn f20_a_bad_file_changes_nothing_and_the_log_says_file_line_and_column() {
    let stable = backend().answers("stable").start().await;
    let prepared = gateway(split(&stable, &stable)).write();
    let weir = prepared.spawn().await;
    let client = weir.client(&weir.make_key("client").await);
    let good = std::fs::read_to_string(&prepared.file).unwrap();
    let line = good.lines().position(|line| line.contains("[routes.rest]")).unwrap() + 3;
    let version = weir.get("/status").await["generation"].clone();
    let huge = format!("{good}\n# {}", "x".repeat(20 << 20));
    for (bad, place) in [
        (
            good.replacen(
                "backend = \"stable\"\n        [experiments",
                "backend = \"gone\"\n        [experiments",
                1,
            ),
            Some(format!("weir.toml:{line}:")),
        ),
        (good.replace("/rest/*", "/rest/*\u{0}"), None),
        (good.replace("weight = 50", "weight = -1"), None),
        (good.replace("chain = ", "chian = "), None),
        (String::new(), None),
        ("\u{feff}[[[".to_owned(), None),
        (huge, None),
    ] {
        assert_ne!(bad, good);
        let before = weir.events("weir.config.refused").len();
        std::fs::write(&prepared.file, &bad).unwrap();
        weir.signal("HUP");
        until_async(seconds(5), || async { weir.events("weir.config.refused").len() > before })
            .await;
        let refused = weir.events("weir.config.refused").pop().unwrap();
        let problems = refused["problems"].as_str().unwrap();
        if let Some(place) = place {
            assert!(problems.contains(&place), "{problems}, not {place}");
        }
        assert!(problems.contains("weir.toml"), "{problems}");
        assert_eq!(client.get("/rest/x").await.status, 200);
        let status = weir.get("/status").await;
        assert_eq!(status["generation"], version);
        assert_eq!(status["config"]["last_error"], problems);
        let metrics = Client::plain(weir.admin).get("/metrics").await.text();
        assert_eq!(sum_of(&metrics, "weir_config_last_reload_successful", ""), 0.0);
    }
    std::fs::write(&prepared.file, good).unwrap();
    weir.signal("HUP");
    until_async(seconds(3), || async {
        weir.get("/status").await["config"]["last_error"].is_null()
    })
    .await;
    let metrics = Client::plain(weir.admin).get("/metrics").await.text();
    assert_eq!(sum_of(&metrics, "weir_config_last_reload_successful", ""), 1.0);
    assert!(
        sum_of(&metrics, "weir_config_reloads_total", "result=\"error\"") >= 7.0
            || sum_of(&metrics, "weir_config_reloads_total", "") >= 8.0
    );
}

#[tokio::test]
async fn twenty_reloads_under_load_fail_no_request() {
    let stable = backend().answers("stable").counts_only().start().await;
    let canary = backend().answers("canary").counts_only().start().await;
    let text = split(&stable, &canary);
    let mut gateway = gateway(&*text).start().await;
    let (h1, h2) = (gateway.client(), gateway.client().h2());
    let loads = [Load::start(&h1, "/v1/chat/completions", 4), Load::start(&h2, "/rest/x", 4)];
    for round in 0..20 {
        let next = match round % 4 {
            0 => text.replacen("weight = 50", &format!("weight = {}", 60 + round), 1),
            1 => text.replace("[routes.rest]", "[routes.remainder]"),
            2 => text.replace("backend = \"stable\", weight", "backend = \"gone\", weight"),
            _ => text.clone(),
        };
        assert_eq!(gateway.reconfigure(&next).await.is_err(), round % 4 == 2);
        tokio::time::sleep(millis(30)).await;
    }
    for load in loads {
        assert_eq!(load.failed(), 0);
        assert!(load.stop().await.len() > 50);
    }
    let metrics = gateway.metrics().await;
    assert_eq!(sum_of(&metrics, "weir_config_reloads_total", ""), 21.0);
}

async fn until_it_says(client: &Client, text: &str, within: std::time::Duration) {
    until_async(within, || async {
        let said = client.get("/rest/x").await.text();
        if said == text { Ok(()) } else { Err(said) }
    })
    .await;
}

#[tokio::test]
async fn a_changed_file_is_in_force_within_two_seconds_and_at_once_after_sighup() {
    let one = backend().answers("one").start().await;
    let two = backend().answers("two").start().await;
    let prepared = gateway(split(&one, &one)).write();
    let weir = prepared.spawn().await;
    let client = weir.client(&weir.make_key("client").await);
    until_it_says(&client, "one", seconds(1)).await;
    let first = std::fs::read_to_string(&prepared.file).unwrap();
    let second = first.replace(&one.url(), &two.url());

    std::fs::write(&prepared.file, &second).unwrap();
    until_it_says(&client, "two", seconds(2)).await;
    // As editors and mounted configuration do it.
    let beside = prepared.dir.join("weir.toml.new");
    std::fs::write(&beside, &first).unwrap();
    std::fs::rename(&beside, &prepared.file).unwrap();
    until_it_says(&client, "one", seconds(2)).await;

    std::fs::write(&prepared.file, &second).unwrap();
    weir.signal("HUP");
    until_it_says(&client, "two", millis(450)).await;
}

/// What was written while a reload ran was taken for read, and never read. A reload can run long:
/// it waits for names that do not resolve.
#[tokio::test]
async fn what_is_written_during_a_reload_is_read_after_it() {
    let one = backend().answers("one").start().await;
    let two = backend().answers("two").start().await;
    let prepared = gateway(split(&one, &one)).write();
    let weir = prepared.spawn().await;
    let client = weir.client(&weir.make_key("client").await);
    let first = std::fs::read_to_string(&prepared.file).unwrap();
    // A store that is locked holds a reload up: this one writes a new revision.
    let other = rusqlite::Connection::open(prepared.dir.join("weir.db")).unwrap();
    other.busy_timeout(seconds(5)).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    std::fs::write(&prepared.file, first.replacen("weight = 50", "weight = 70", 1)).unwrap();
    weir.signal("HUP");
    tokio::time::sleep(millis(500)).await;
    std::fs::write(&prepared.file, first.replace(&one.url(), &two.url())).unwrap();
    tokio::time::sleep(millis(500)).await;
    other.execute_batch("COMMIT").unwrap();
    until_it_says(&client, "two", seconds(3)).await;
}

#[tokio::test]
async fn a_live_weight_stays_until_the_file_itself_says_something_new() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let text = split(&stable, &canary);
    let mut gateway = gateway(&*text).start().await;
    let shown = async |gateway: &weir_tests::Gateway| {
        let experiment = gateway.get("/experiments/int8").await;
        (
            experiment["variants"]["canary"]["weight"].as_f64().unwrap(),
            experiment["differs_from_file"].as_bool().unwrap(),
            experiment["revision"].as_u64().unwrap(),
        )
    };
    assert_eq!(shown(&gateway).await, (50.0, false, 1));
    let live = gateway.set_weights("int8", json!({"stable": 95, "canary": 5})).await;
    assert_eq!(live.status, 200);
    assert_eq!(shown(&gateway).await, (5.0, true, 2));

    gateway.reconfigure(&format!("{text}\n# a comment\n")).await.unwrap();
    assert_eq!(shown(&gateway).await, (5.0, true, 2));
    gateway.reconfigure(&text.replace("/rest/*", "/others/*")).await.unwrap();
    assert_eq!(shown(&gateway).await, (5.0, true, 2));
    let gateway = gateway.restart().await;
    assert_eq!(shown(&gateway).await, (5.0, true, 2));

    let mut gateway = gateway;
    let said =
        text.replace("backend = \"canary\", weight = 50", "backend = \"canary\", weight = 30");
    gateway.reconfigure(&said).await.unwrap();
    assert_eq!(shown(&gateway).await, (30.0, false, 3));
    // To say again what it said first is something new, too.
    gateway.reconfigure(&text).await.unwrap();
    assert_eq!(shown(&gateway).await, (50.0, false, 4));
    let history = gateway.get("/experiments/int8/history").await;
    let sources: Vec<&str> = history["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|revision| revision["source"].as_str().unwrap())
        .collect();
    assert_eq!(sources, ["file", "file", "api", "file"]);
}

/// A reload with another mode was shown as in force although it takes a restart, and the notice of
/// it was gone after the next reload.
#[tokio::test]
async fn what_takes_a_restart_stays_in_force_and_the_notice_stays_until_then() {
    let stable = backend().answers("stable").start().await;
    let prepared = gateway(split(&stable, &stable)).write();
    let weir = prepared.spawn().await;
    let good = std::fs::read_to_string(&prepared.file).unwrap();
    let other = format!("{good}\n[recording]\noutcomes = \"sync\"\n");
    for text in [other.clone(), format!("{other}# again\n")] {
        let before = weir.events("weir.config.loaded").len();
        std::fs::write(&prepared.file, text).unwrap();
        weir.signal("HUP");
        until_async(seconds(3), || async { weir.events("weir.config.loaded").len() > before })
            .await;
        let status = weir.get("/status").await;
        assert_eq!(status["store"]["mode"], "group", "{:#}", status["store"]);
        assert_eq!(
            status["config"]["notices"],
            json!(["recording.outcomes changed; that takes a restart, the old value stays"])
        );
    }
    weir.signal("TERM");
    assert_eq!(weir.exit(seconds(5)).await, Some(0));
    let weir = prepared.spawn().await;
    assert_eq!(weir.get("/status").await["store"]["mode"], "sync");
}

#[tokio::test]
async fn f21_a_bad_file_at_start_ends_with_78_and_says_where() {
    let stable = backend().answers("stable").start().await;
    let prepared = gateway(split(&stable, &stable)).write();
    let good = std::fs::read_to_string(&prepared.file).unwrap();
    let line = good.lines().position(|line| line.contains("[routes.rest]")).unwrap() + 3;
    let bad = good.replacen(
        "backend = \"stable\"\n        [experiments",
        "backend = \"gone\"\n        [experiments",
        1,
    );
    std::fs::write(&prepared.file, bad).unwrap();
    let file = prepared.file.to_str().unwrap();
    let mut verdicts = Vec::new();
    for command in ["serve", "check"] {
        let output = weir(&[command, "--config", file]);
        assert_eq!(output.status.code(), Some(78), "{command}");
        let told =
            String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
        assert!(told.contains(&format!("weir.toml:{line}:")), "{command}: {told}");
        assert!(told.contains("backend") && told.contains("gone"), "{command}: {told}");
        let place = told.lines().find(|line| line.contains("weir.toml:")).unwrap().to_owned();
        verdicts.push(place);
    }
    assert_eq!(verdicts[0], verdicts[1], "one verdict");
    assert!(!prepared.dir.join("weir.db").exists(), "nothing was begun");
    let missing = weir(&["serve", "--config", "/nowhere/weir.toml"]);
    assert_eq!(missing.status.code(), Some(78));
}

/// Handshakes one after the other: how many failed, and the leaf last served.
async fn leaf_of(edge: std::net::SocketAddr, roots: &rustls::RootCertStore) -> Option<Vec<u8>> {
    let config = rustls::ClientConfig::builder_with_provider(
        rustls::crypto::aws_lc_rs::default_provider().into(),
    )
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots.clone())
    .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(edge).await.ok()?;
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let tls = connector.connect(name, stream).await.ok()?;
    Some(tls.get_ref().1.peer_certificates()?.first()?.to_vec())
}

#[tokio::test]
async fn f22_certificates_are_exchanged_under_load_and_a_bad_pair_keeps_the_old_one() {
    let stable = backend().answers("stable").counts_only().start().await;
    let prepared = gateway(split(&stable, &stable)).write();
    let weir = prepared.spawn().await;
    let client = weir.client(&weir.make_key("client").await);
    let load = Load::start(&client.always_new_connection(), "/rest/x", 3);
    let roots = prepared.authority.roots();
    let first = leaf_of(weir.edge, &roots).await.unwrap();

    let next = prepared.authority.leaf(&["localhost", "127.0.0.1"]);
    assert_ne!(first, next.leaf_der());
    // The chain alone does not fit the key.
    std::fs::write(prepared.dir.join("edge.pem"), &next.chain_pem).unwrap();
    weir.signal("HUP");
    until_async(seconds(3), || async { !weir.events("weir.config.refused").is_empty() }).await;
    assert_eq!(leaf_of(weir.edge, &roots).await.unwrap(), first, "a bad pair keeps the old one");
    // Half of a file.
    std::fs::write(prepared.dir.join("edge.key"), &next.key_pem[..40]).unwrap();
    weir.signal("HUP");
    until_async(seconds(3), || async { weir.events("weir.config.refused").len() >= 2 }).await;
    assert_eq!(leaf_of(weir.edge, &roots).await.unwrap(), first);

    std::fs::write(prepared.dir.join("edge.key"), &next.key_pem).unwrap();
    until_async(seconds(3), || async {
        leaf_of(weir.edge, &roots).await.expect("a handshake failed") == next.leaf_der()
    })
    .await;
    for _ in 0..3 {
        let pair = prepared.authority.leaf(&["localhost", "127.0.0.1"]);
        std::fs::write(prepared.dir.join("edge.pem"), &pair.chain_pem).unwrap();
        std::fs::write(prepared.dir.join("edge.key"), &pair.key_pem).unwrap();
        until_async(seconds(3), || async {
            leaf_of(weir.edge, &roots).await.expect("a handshake failed") == pair.leaf_der()
        })
        .await;
    }
    assert_eq!(load.failed(), 0);
    assert!(load.stop().await.len() > 20);
    let metrics = Client::plain(weir.admin).get("/metrics").await.text();
    let ends =
        sum_of(&metrics, "weir_tls_certificate_not_after_timestamp_seconds", "listener=\"edge\"");
    assert!(ends > 1e9, "{ends}");
}
