use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Duration;

use arc_swap::ArcSwap;
use policies::api_key::KeyRing;
use rcgen::{CertificateParams, KeyPair};

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use policies::outcome::Outcome;
use policies::retry::Failure;
use routing::Reason;

use super::*;
use crate::backends::{AttemptResult, Backends};
use crate::comparison::Comparisons;
use crate::config;
use crate::config::plan::Plan;
use crate::feedback::{Feedback, counts};
use crate::live::{Actor, LiveExperiment};
use crate::recorder::Recorder;
use crate::recorder::row::{Micros, Row};
use crate::recorder::tally::{Tallies, TallyKey};
use crate::request::shadow::gate::Gates;
use crate::snapshot::{self, Parts};
use crate::store::sqlite::Sqlite;
use crate::store::thread::StoreThread;
use crate::telemetry::counters::{Counters, bump};
use crate::telemetry::histogram::StepTimes;
use crate::telemetry::names;

const FILE: &str = r#"
    [server]
    listen = "127.0.0.1:0"
    tls.certificates = [{ chain = "edge.pem", key = "edge.key" }]
    [backends.old]
    endpoints = ["http://127.0.0.1:1"]
    [backends.new]
    endpoints = ["http://127.0.0.1:2"]
    [routes.chat]
    path = "/v1/chat/completions"
    backend = "old"
    [experiments.int8]
    route = "chat"
    unit = "header:x-user"
    control = "control"
    [experiments.int8.variants]
    control = { backend = "old", weight = 90 }
    canary = { backend = "new", weight = 10 }
    [shadows.next]
    route = "chat"
    backend = "new"
    percent = 10
"#;

fn plan() -> Plan {
    plan_of(FILE)
}

fn plan_of(text: &str) -> Plan {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let chain = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("edge.pem", &chain.self_signed(&key).unwrap().pem());
    put("edge.key", &key.serialize_pem());
    put("weir.toml", text);
    match config::load(&folder.path().join("weir.toml"), &|_| None) {
        Ok(loaded) => loaded.plan,
        Err(problems) => panic!("{problems}"),
    }
}

fn shared(plan: &Plan) -> Shared {
    let actor = Actor::file();
    let live = plan
        .experiments
        .iter()
        .map(|e| (e.name.to_string(), LiveExperiment::first(e, &actor, 0).unwrap()))
        .collect();
    let (backends, tallies, gates) = (Backends::new(2), Tallies::new(2), Gates::default());
    let comparisons = Comparisons::default();
    let parts = Parts {
        generation: 1,
        keys: Arc::new(KeyRing::new([0; 32], [], [])),
        key_states: Default::default(),
        live: &live,
        layers: &BTreeMap::new(),
        hash_key: routing::HashKey([0; 16]),
        receipt_key: [0; 32],
        gates: &gates,
        comparisons: &comparisons,
    };
    let snapshot = snapshot::build(plan, parts, &backends, &tallies);
    comparisons.open(&snapshot);
    for shadow in snapshot.routes.iter().flat_map(|route| &route.shadows) {
        shadow.known.add_for_tests(&comparisons.room, 0.01, 0.02);
    }
    Shared {
        current: ArcSwap::from_pointee(snapshot),
        backends,
        tallies,
        shadow_tallies: Tallies::new(2),
        gates,
        comparisons,
        evidence: Default::default(),
        counters: Counters::new(2),
        recorder: Recorder::new(2),
        news: crate::news::Board::default(),
        feedback: feedback(),
        draining: AtomicBool::new(false),
        leaving: AtomicBool::new(false),
        closing: AtomicBool::new(false),
        closing_now: AtomicBool::new(false),
        in_use: crate::worker::InUse::default(),
        open: (0..2).map(|_| AtomicUsize::new(0)).collect(),
        alive: (0..2).map(|_| AtomicU64::new(0)).collect(),
        boot: [0x5a; 16],
    }
}

/// With one answer that was stored and one of a metric that nobody declared.
fn feedback() -> Feedback {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&folder.path().join("weir.db")).unwrap();
    let (store, _thread) = StoreThread::spawn(Box::new(store)).unwrap();
    let feedback = Feedback::new(store);
    feedback.counts().add("int8", "thumbs_up", counts::Outcome::Stored, 1);
    feedback.counts().add("", counts::OTHER, counts::Outcome::Invalid, 1);
    feedback
}

fn stats() -> StoreStats {
    let (control, batch) = (StepTimes::default(), StepTimes::default());
    control.add_micros(400);
    control.add_micros(1_600);
    StoreStats {
        up: true,
        operations: 2,
        took: [control.read(), batch.read()],
        busy: true,
        audited: 7,
        unavailable: 1,
        damaged: 0,
        newer: 0,
        exists: 9,
        missing: 9,
        panics: 0,
        refused: 0,
        control_waiting: 0,
        batches_waiting: 0,
        last_error: None,
    }
}

fn text(shared: &Shared, dialect: Dialect) -> String {
    let extra = Extra {
        config_last_successful: true,
        certificates: vec![("edge", "CN=a".into(), 20), ("edge", "CN=a".into(), 10)],
        ramps: vec![("int8".into(), "running", 1)],
        ramp_decisions: vec![("int8".into(), "widen", "held", 1)],
        sample_ratios: vec![("int8".into(), 0.25)],
        webhooks: vec![("pager".into(), [3, 0, 0, 2, 0, 0, 1], 4)],
        ..Extra::default()
    };
    render(shared, Some(&stats()), &extra, dialect)
}

fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|have| have == *line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn every_declared_metric_is_written_and_no_other() {
    let shared = shared(&plan());
    let text = text(&shared, Dialect::Prometheus004);
    let announced: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let declared: Vec<&str> = names::ALL.iter().map(|metric| metric.name).collect();
    let (mut sorted, mut expected) = (announced.clone(), declared);
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected);
    for name in announced {
        let has_series = text
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .any(|rest| rest.starts_with(['{', ' ', '_']));
        assert!(has_series, "{name} has no series");
    }
    let mut series: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.rsplit_once(' ')?.0))
        .collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), all, "no series stands there twice");
}

#[test]
fn enumerated_counters_are_there_at_zero_from_the_start() {
    let text = text(&shared(&plan()), Dialect::Prometheus004);
    has(
        &text,
        &[
            "weir_requests_total{route=\"chat\",experiment=\"\",variant=\"\",outcome=\"ok\"} 0",
            "weir_requests_total{route=\"chat\",experiment=\"int8\",variant=\"canary\",outcome=\"timeout\"} 0",
            "weir_rejected_total{reason=\"rate_limited\",protocol=\"2\"} 0",
            "weir_connections_closed_total{listener=\"edge\",reason=\"abuse\"} 0",
            "weir_tls_handshakes_total{listener=\"edge\",result=\"ok\",version=\"1.3\"} 0",
            "weir_upstream_attempts_total{backend=\"new\",result=\"5xx\",retry=\"true\"} 0",
            "weir_upstream_connect_seconds_count{backend=\"new\"} 0",
            "weir_upstream_first_byte_seconds_bucket{backend=\"new\",le=\"0.005\"} 0",
            "weir_retries_total{backend=\"new\",reason=\"reused_closed\"} 0",
            "weir_retry_budget_exhausted_total{backend=\"new\",reason=\"connect_failed\"} 0",
            "weir_circuit_state{backend=\"new\",state=\"half_open\"} 0",
            "weir_assignments_total{experiment=\"int8\",variant=\"canary\",reason=\"split\"} 0",
            "weir_assignments_total{experiment=\"int8\",variant=\"control\",reason=\"default\"} 0",
            "weir_assignments_total{experiment=\"\",variant=\"\",reason=\"holdout\"} 0",
            "weir_streams_open{route=\"chat\"} 0",
            "weir_overhead_seconds_bucket{route=\"chat\",le=\"0.000025\"} 0",
            "weir_shadow_in_flight{backend=\"new\"} 0",
            "weir_runtime_busy_ratio{worker=\"1\"} 0",
            "weir_runtime_queue_depth{worker=\"1\"} 0",
            "weir_runtime_stall_seconds_count{worker=\"1\"} 0",
            "weir_tls_handshake_seconds_bucket{listener=\"edge\",le=\"0.0005\"} 0",
            "weir_outcome_commit_seconds_bucket{le=\"10\"} 0",
            "weir_store_operation_seconds_count{backend=\"sqlite\",operation=\"batch\"} 0",
            "weir_shadow_requests_total{backend=\"new\",result=\"dropped_queue\"} 0",
            "weir_shadow_duration_seconds_count{backend=\"new\"} 0",
            "weir_outcomes_total{state=\"dropped\",reason=\"spool_full\"} 0",
            "weir_auth_total{method=\"api_key\",result=\"revoked\"} 0",
            "weir_config_reloads_total{result=\"failed\"} 0",
            "weir_telemetry_dropped_total{signal=\"traces\",reason=\"export_failed\"} 0",
            "weir_label_overflow_total{metric=\"weir_requests_total\"} 0",
            "weir_panics_total 0",
        ],
    );
    assert!(!text.contains("weir_shadow_requests_total{backend=\"old\""), "it gets no copies");
}

#[test]
fn numbers_are_those_that_were_counted() {
    let shared = shared(&plan());
    let snapshot = shared.current.load_full();
    let route = &snapshot.routes[0];
    let canary = &route.plans[0].variants[1];
    let row = Row {
        t_total: Micros::from_micros(7_000),
        t_first_byte: Micros::from_micros(3_000),
        ..Row::default()
    };
    (0..2).for_each(|_| canary.cell.begin(1, Reason::Split));
    canary.cell.begin(0, Reason::Override);
    route.cell.begin(0, Reason::NoExperiment);
    route.cell.add(0, &Row::default(), Outcome::Ok);
    canary.cell.overhead(0, 60);
    route.cell.overhead(1, 200_000);
    canary.cell.stream_opened(1);
    canary.cell.add(0, &row, Outcome::Ok);
    canary.cell.add(1, &row, Outcome::Timeout);
    let (one, two) = (shared.counters.of(0), shared.counters.of(1));
    one.handshakes.add_micros(2_500);
    two.runtime.stalls.add_micros(3_000_000);
    bump(&one.assigned, 3);
    bump(&one.finished, 2);
    bump(&two.queue_full, 1);
    shared.recorder.counts.recorded.store(1, Relaxed);
    let backend = &snapshot.backends[canary.backend];
    bump(&backend.life.counts[0].attempts[AttemptResult::Ok as usize][1], 5);
    bump(&backend.life.counts[1].attempts[AttemptResult::Timeout as usize][1], 2);
    let counts = &backend.life.counts[1];
    bump(&counts.retries[Failure::Other as usize], 2);
    bump(&counts.budget_exhausted[Failure::ConnectFailed as usize], 4);
    bump(&counts.shadows_open, 3);
    counts.connect.add_micros(700);
    counts.first_byte.add_micros(40_000);
    shared.recorder.counts.commits.add_micros(1_000);
    let key = TallyKey { route: "chat", experiment: "next", revision: 0, variant: "shadow" };
    shared.shadow_tallies.cell(key).add(0, &row, Outcome::Ok);

    let text = text(&shared, Dialect::OpenMetrics);
    has(
        &text,
        &[
            "weir_requests_total{route=\"chat\",experiment=\"int8\",variant=\"canary\",outcome=\"ok\"} 1",
            "weir_request_duration_seconds_sum{route=\"chat\",experiment=\"int8\",variant=\"canary\"} 0.014",
            "weir_request_duration_seconds_bucket{route=\"chat\",experiment=\"int8\",variant=\"canary\",le=\"0.005\"} 0",
            "weir_request_duration_seconds_bucket{route=\"chat\",experiment=\"int8\",variant=\"canary\",le=\"0.01\"} 2",
            "weir_time_to_first_byte_seconds_bucket{route=\"chat\",experiment=\"int8\",variant=\"canary\",le=\"0.005\"} 2",
            "weir_in_flight_requests{route=\"chat\"} 1",
            "weir_streams_open{route=\"chat\"} 1",
            "weir_overhead_seconds_bucket{route=\"chat\",le=\"0.00005\"} 0",
            "weir_overhead_seconds_bucket{route=\"chat\",le=\"0.0001\"} 1",
            "weir_overhead_seconds_bucket{route=\"chat\",le=\"0.1024\"} 1",
            "weir_overhead_seconds_bucket{route=\"chat\",le=\"+Inf\"} 2",
            "weir_overhead_seconds_sum{route=\"chat\"} 0.20006",
            "weir_assignments_total{experiment=\"int8\",variant=\"canary\",reason=\"split\"} 2",
            "weir_assignments_total{experiment=\"int8\",variant=\"canary\",reason=\"targeting_match\"} 1",
            "weir_assignments_total{experiment=\"\",variant=\"\",reason=\"none\"} 1",
            "weir_tls_handshake_seconds_bucket{listener=\"edge\",le=\"0.0025\"} 1",
            "weir_runtime_stall_seconds_bucket{worker=\"1\",le=\"2.5\"} 0",
            "weir_runtime_stall_seconds_bucket{worker=\"1\",le=\"5.0\"} 1",
            "weir_variant_weight_ratio{experiment=\"int8\",variant=\"control\"} 0.9",
            "weir_variant_weight_ratio{experiment=\"int8\",variant=\"canary\"} 0.1",
            "weir_experiment_revision{experiment=\"int8\"} 1",
            "weir_upstream_attempts_total{backend=\"new\",result=\"ok\",retry=\"true\"} 5",
            "weir_retries_total{backend=\"new\",reason=\"other\"} 2",
            "weir_retry_budget_exhausted_total{backend=\"new\",reason=\"connect_failed\"} 4",
            "weir_upstream_connect_seconds_bucket{backend=\"new\",le=\"0.001\"} 1",
            "weir_upstream_first_byte_seconds_sum{backend=\"new\"} 0.04",
            "weir_circuit_state{backend=\"new\",state=\"open\"} 1",
            "weir_shadow_in_flight{backend=\"new\"} 3",
            "weir_shadow_duration_seconds_count{backend=\"new\"} 1",
            "weir_shadow_pairs_total{shadow=\"next\",result=\"agree\"} 2",
            "weir_shadow_differences_total{shadow=\"next\",cause=\"copy_failed\"} 0",
            "weir_shadow_not_comparable_total{shadow=\"next\",reason=\"too_long\"} 0",
            "weir_shadow_agreement_ratio{shadow=\"next\"} 1",
            "weir_shadow_latency_ratio{shadow=\"next\",at=\"end\"} 2",
            "weir_shadow_samples_total{shadow=\"next\",result=\"kept\"} 0",
            "weir_shadow_compare_bytes 0",
            "weir_feedback_total{experiment=\"int8\",metric=\"thumbs_up\",result=\"stored\"} 1",
            "weir_feedback_total{experiment=\"int8\",metric=\"thumbs_up\",result=\"duplicate\"} 0",
            "weir_feedback_total{experiment=\"\",metric=\"_other\",result=\"invalid\"} 1",
            "weir_outcomes_total{state=\"assigned\",reason=\"\"} 3",
            "weir_outcomes_total{state=\"dropped\",reason=\"queue_full\"} 1",
            "weir_outcomes_pending 1",
            "weir_store_up{backend=\"sqlite\"} 1",
            "weir_store_operation_seconds_sum{backend=\"sqlite\",operation=\"control\"} 0.002",
            "weir_store_operation_seconds_bucket{backend=\"sqlite\",operation=\"control\",le=\"0.0005\"} 1",
            "weir_store_pool_connections{backend=\"sqlite\",state=\"used\"} 1",
            "weir_store_pool_connections{backend=\"sqlite\",state=\"idle\"} 0",
            "weir_audit_entries_total 7",
            "weir_outcome_commit_seconds_bucket{le=\"0.001\"} 1",
            "weir_store_errors_total{backend=\"sqlite\",kind=\"unavailable\"} 1",
            "weir_tls_certificate_not_after_timestamp_seconds{listener=\"edge\",subject=\"CN=a\"} 10",
            "weir_sample_ratio_mismatch_pvalue{experiment=\"int8\"} 0.25",
            "weir_webhook_deliveries_total{webhook=\"pager\",result=\"ok\"} 3",
            "weir_webhook_deliveries_total{webhook=\"pager\",result=\"5xx\"} 2",
            "weir_webhook_deliveries_total{webhook=\"pager\",result=\"dead\"} 1",
            "weir_webhook_pending{webhook=\"pager\"} 4",
        ],
    );
    assert!(text.ends_with("# EOF\n"));
}

/// As much as one gateway is made for: 100 routes and 100 backends, and 20 experiments with four
/// variants each, every one with a shadow beside it.
fn large() -> String {
    let mut file = String::from(
        "[server]\nlisten = \"127.0.0.1:0\"\n\
         tls.certificates = [{ chain = \"edge.pem\", key = \"edge.key\" }]\n",
    );
    for n in 0..100 {
        let (port, path) = (n + 1, format!("/v{n}/chat/completions"));
        // Writing to a string does not fail.
        let _ = writeln!(file, "[backends.b{n}]\nendpoints = [\"http://127.0.0.1:{port}\"]");
        let _ = writeln!(file, "[routes.r{n}]\npath = \"{path}\"\nbackend = \"b{n}\"");
    }
    for n in 0..20 {
        let _ = writeln!(
            file,
            "[shadows.s{n}]\nroute = \"r{n}\"\nbackend = \"b{n}\"\npercent = 1\n\
             [experiments.e{n}]\nroute = \"r{n}\"\nunit = \"header:x-user\"\ncontrol = \"v0\"\n\
             [experiments.e{n}.variants]"
        );
        for variant in 0..4 {
            let backend = n * 4 + variant;
            let _ = writeln!(file, "v{variant} = {{ backend = \"b{backend}\", weight = 25 }}");
        }
    }
    file
}

#[test]
fn a_hundred_routes_and_twenty_experiments_have_at_most_20_000_series() {
    let shared = shared(&plan_of(&large()));
    let text = text(&shared, Dialect::Prometheus004);
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series <= 20_000, "{series}");
    // All of it is there: nothing was folded to stay below.
    let overflown = "weir_label_overflow_total";
    let mut folded = text.lines().filter(|line| line.starts_with(overflown));
    assert!(folded.all(|line| line.ends_with(" 0")));
    assert_eq!(text.matches("weir_request_duration_seconds_count{").count(), 100 + 20 * 4);
    assert_eq!(text.matches("weir_overhead_seconds_count{").count(), 100);
    assert_eq!(text.matches("weir_upstream_connect_seconds_count{").count(), 100);
    assert_eq!(text.matches("weir_assignments_total{").count(), 20 * 4 * 4 + 4);
}

/// A scrape takes less than 100 ms. Run in release with `--ignored --nocapture`; `WEIR_METRICS_OUT`
/// names a folder for both texts, to try other parsers on them.
#[test]
#[ignore = "a measurement"]
fn measure_a_scrape_of_many_series() {
    let shared = shared(&plan_of(&large()));
    let snapshot = shared.current.load_full();
    let row = Row {
        t_total: Micros::from_micros(9),
        t_first_byte: Micros::from_micros(7),
        ..Row::default()
    };
    let cells = snapshot.routes.iter().flat_map(|route| {
        let variants = route.plans.iter().flat_map(|plan| &plan.variants);
        variants.map(|variant| &variant.cell).chain([&route.cell])
    });
    for cell in cells {
        (0..2).for_each(|worker| cell.add(worker, &row, Outcome::Ok));
    }
    for dialect in [Dialect::Prometheus004, Dialect::OpenMetrics] {
        let mut best = Duration::MAX;
        let mut last = String::new();
        for _ in 0..20 {
            let began = crate::clock::now();
            last = text(&shared, dialect);
            best = best.min(began.elapsed());
        }
        let series = last.lines().filter(|line| !line.starts_with('#')).count();
        println!("{dialect:?}: {best:?} for {series} series, {} bytes", last.len());
        if let Some(folder) = std::env::var_os("WEIR_METRICS_OUT") {
            let path = std::path::Path::new(&folder).join(format!("{dialect:?}.txt"));
            std::fs::write(path, last).unwrap();
        }
    }
}
