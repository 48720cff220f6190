//! The configuration from outside: whole files in, plans or problems out.
//!
//! `tests/configs/broken` has a file for each kind of mistake, and beside it what must be said about
//! it, word for word. `WEIR_BLESS=1 cargo test` writes what is said now; read the difference.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use routing::{Condition, UnitSource, VariantId};

use super::plan::{
    AccessLog, Balance, Durability, Feedback, FeedbackMetric, MetricKind, OnFailure, Owner, Scheme,
    Store,
};
use super::*;

/// What must never be repeated, wherever it stands.
const SECRET: &str = "s3cr3t-canary";

fn env(name: &str) -> Option<String> {
    match name {
        "LLAMA_KEY" => Some(SECRET.to_owned()),
        "MODEL_HOST" => Some("10.0.0.9".to_owned()),
        "EMPTY" => Some(String::new()),
        "HOOK" => Some(format!("{SECRET}-of-twenty-four-bytes")),
        "BAD_BASE64" => Some(format!("whsec_{SECRET}")),
        "TWO_LINES" => Some(format!("{SECRET}\n{SECRET}")),
        _ => None,
    }
}

/// A folder with certificates as the examples and the broken files name them.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let issue = |names: &[&str], expired: bool| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        if expired {
            parameters.not_after = date_time_ymd(2020, 1, 2);
        }
        let key = KeyPair::generate().unwrap();
        (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let (chain, key) = issue(&["Edge.example.com", "*.example.com", "127.0.0.1", "::1"], false);
    put("tls/edge.pem", &chain);
    put("tls/edge.key", &key);
    put("tls/admin.pem", &chain);
    put("tls/admin.key", &key);
    put("tls/ca.pem", &chain);
    let (chain, key) = issue(&["old.example.com"], true);
    put("tls/old.pem", &chain);
    put("tls/old.key", &key);
    put("tls/text.pem", SECRET);
    put("tls/torn.pem", &format!("-----BEGIN CERTIFICATE-----\n{SECRET}\n"));
    put("secrets/llama", &format!("{SECRET}\n"));
    put("secrets/blank", "  \n");
    folder
}

fn load_text(folder: &Path, text: &str) -> Result<Loaded, Problems> {
    let path = folder.join("weir.toml");
    fs::write(&path, text).unwrap();
    load(&path, &env)
}

/// The files that end in `.toml` in a folder of this crate or beside it.
fn toml_files(folder: &str) -> Vec<PathBuf> {
    let folder = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|kind| kind == "toml")).collect();
    files.sort();
    files
}

#[test]
fn f20_f21_t16_every_broken_file_gives_exactly_its_problems() {
    let folder = folder();
    let files = toml_files("../tests/configs/broken");
    assert!(files.len() >= 20, "{}", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let Err(mut problems) = load_text(folder.path(), &text) else {
            panic!("{}: no problem was found", file.display());
        };
        for problem in &mut problems.list {
            problem.path = PathBuf::from(file.file_name().unwrap());
        }
        let said = format!("{problems}\n");
        assert!(!said.contains(SECRET), "{}: a secret was told:\n{said}", file.display());
        let expected = file.with_extension("problems");
        if std::env::var_os("WEIR_BLESS").is_some() {
            fs::write(&expected, &said).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if said != expected {
            wrong.push(format!("{}:\nexpected:\n{expected}\nsaid:\n{said}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_example_loads() {
    let files = toml_files("examples");
    let names: Vec<_> = files.iter().map(|file| file.file_stem().unwrap().to_owned()).collect();
    assert_eq!(names, ["access", "canary", "shadow", "split", "webhooks"]);
    for file in files {
        let folder = folder();
        let text = fs::read_to_string(&file).unwrap();
        match load_text(folder.path(), &text) {
            Ok(loaded) => assert_eq!(loaded.notices, [], "{}", file.display()),
            Err(problems) => panic!("{}:\n{problems}", file.display()),
        }
    }
}

const SMALLEST: &str = r#"
[server]
listen = "127.0.0.1:0"
[server.tls]
certificates = [{ chain = "tls/edge.pem", key = "tls/edge.key" }]
"#;

#[test]
fn l01_l17_what_is_not_written_has_its_default() {
    let folder = folder();
    let text = format!(
        "{SMALLEST}\n[backends.b]\nendpoints = [\"http://10.0.0.1\"]\nhealth.path = \"/h\"\n\
         [routes.r]\npath = \"/*\"\nbackend = \"b\"\n[shadows.s]\nroute = \"r\"\nbackend = \"b\"\npercent = 1\n"
    );
    let loaded = load_text(folder.path(), &text).unwrap();
    assert_eq!(loaded.notices, []);
    let plan = loaded.plan;
    assert_eq!(plan.server.workers, std::thread::available_parallelism().unwrap().get());
    assert_eq!(plan.server.health_path, None);
    assert_eq!(plan.server.pre_drain, Duration::from_secs(5));
    assert_eq!(plan.server.drain_timeout, Duration::from_secs(300));
    // Debug shows every member, so that this is the whole table of hardening's defaults.
    let limits = format!("{:?}", plan.server.limits);
    assert_eq!(
        limits,
        "Limits { target_bytes: 8192, header_bytes: 32768, h2_header_bytes: 16384, header_fields: 100, \
         header_timeout: 10s, body_bytes: 10485760, body_idle_timeout: 30s, body_min_rate: 1024, \
         h2_streams: 100, h2_stream_window: 65536, h2_connection_window: 1048576, connections: 10000, \
         connections_per_address: 256, handshakes: 512, handshake_timeout: 5s, idle_timeout: 75s, \
         h2_idle_timeout: 300s, requests_per_connection: 10000, in_flight: 4096, \
         response_header_bytes: 65536, response_header_fields: 128, write_buffer: 262144, \
         write_timeout: 30s, replay_bytes: 65536, shadow_bytes: 1048576, inspect_bytes: 1048576, \
         compare_bytes: 67108864 }"
    );
    assert_eq!(plan.admin.listen.to_string(), "127.0.0.1:8444");
    assert!(plan.admin.certificates.is_empty() && plan.admin.hosts.is_empty());
    assert_eq!(plan.store, Store::Sqlite(folder.path().join("weir.db")));
    assert_eq!(plan.recording.outcomes, Durability::Group);
    assert_eq!(plan.recording.retention, None);
    assert_eq!(plan.recording.spool, folder.path().join("weir.db.spool"));
    assert_eq!(plan.recording.spool_bytes, 1 << 30);
    let day = Duration::from_secs(24 * 60 * 60);
    assert_eq!(plan.feedback, Feedback { window: day, undeclared: true, metrics: Vec::new() });
    assert_eq!(plan.telemetry.access_log, AccessLog::Stdout);
    assert_eq!((plan.telemetry.sample_ratio, plan.telemetry.sample_errors), (0.01, true));
    assert_eq!(plan.telemetry.otlp, None);
    let backend = &plan.backends[0];
    assert_eq!(backend.balance, Balance::LeastRequests);
    assert_eq!(backend.idle_timeout, Duration::from_secs(4));
    assert!(backend.tls.is_none() && backend.credential.is_none() && !backend.allow_private);
    let probe = backend.health.as_ref().unwrap();
    assert_eq!((probe.interval, probe.timeout), (Duration::from_secs(5), Duration::from_secs(2)));
    let route = &plan.routes[0];
    assert_eq!(
        format!("{:?}", route.timeouts),
        "Timeouts { connect: 2s, first_byte: 60s, idle: 60s, total: 600s }"
    );
    assert_eq!(route.body_bytes, 10 << 20);
    assert!(!route.retry_non_idempotent && !route.websocket && !route.preserve_host);
    assert!(!route.payload_capture);
    let shadow = &plan.shadows[0];
    assert_eq!((shadow.share, shadow.max_in_flight, shadow.queue), (0.01, 64, 256));
    assert_eq!(shadow.timeout, Duration::from_secs(600));
    assert_eq!(
        format!("{:?}", shadow.compare),
        "Compare { how: Status, answer_bytes: 262144, agreement: 0.95, min_pairs: 1000, samples: None }"
    );
    assert_eq!(plan.holdout_bp, 0);
}

#[test]
fn what_is_written_arrives() {
    let folder = folder();
    let text = r#"
[server]
listen = "[::1]:8443"
workers = 3
health_path = "/edge-health"
trusted_peers = ["10.0.0.0/8", "::1"]
pre_drain = "0s"
[server.tls]
certificates = [{ chain = "tls/edge.pem", key = "tls/edge.key" }, { chain = "tls/old.pem", key = "tls/old.key" }]
[server.limits]
body_bytes = 4096
header_timeout = "1m30s"
[admin]
listen = "0.0.0.0:9000"
hosts = ["Weir.example.com:9000"]
[admin.tls]
certificates = [{ chain = "tls/admin.pem", key = "tls/admin.key" }]
[store]
url = "sqlite:/var/lib/weir/weir.db"
[recording]
outcomes = "sync"
retention = "30d"
spool_bytes = "2GiB"
[telemetry]
access_log = "file:logs/access.json"
sample = { ratio = 0.5, errors = false }
otlp = "http://127.0.0.1:4317"
[[auth.keys]]
name = "mobile"
hash = "blake3:00000000000000000000000000000000000000000000000000000000000000ff"
role = "experimenter"
routes = ["chat"]
requests_per_second = 0.5
concurrent = 4
tokens_per_minute = 100000
[backends.z-first]
endpoints = ["https://${MODEL_HOST}:8443", "h2c://triton:8001"]
model = "llama $${x}"
balance = "hash:unit"
credential = "env:LLAMA_KEY"
health = { path = "/health", interval = "1s" }
tls = { ca = "tls/ca.pem", client_certificate = "tls/edge.pem", client_key = "tls/edge.key", server_name = "llm.internal" }
host = "llm.example.com:8443"
max_in_flight = 7
idle_timeout = "30s"
allow_private = true
[backends.a-second]
endpoints = ["https://api.example.com"]
credential = "file:secrets/llama"
credential_header = "X-Api-Key"
[routes.chat]
path = "/v1/*"
hosts = ["API.example.com", "*.example.org"]
methods = ["POST"]
headers = { x-team = "research" }
model = "chat"
backend = "z-first"
timeouts = { first_byte = "5s" }
body_bytes = "64KiB"
websocket = true
[experiments.int8]
route = "chat"
unit = "header:X-User-Id"
control = "stable"
owner = "file"
on_failure = "fallback"
layer = { name = "models", percent = 40.5 }
[experiments.int8.variants]
canary = { backend = "a-second", weight = 5 }
stable = { backend = "z-first", weight = 95.0 }
[[experiments.int8.targets]]
when = { unit = ["b", "a"] }
variant = "canary"
[[experiments.int8.targets]]
when.key = "mobile"
variant = "stable"
[experiments.second]
route = "chat"
unit = ["body:user.id", "request"]
control = "a"
layer = { name = "models", percent = 59.5 }
variants.a = { backend = "a-second", weight = 0 }
variants.b = { backend = "z-first", weight = 1e300 }
[layers.models]
[holdout]
percent = 2.5
[[webhooks]]
url = "https://Hooks.example.com/T0/B0?x=1"
events = ["ramp.*", "experiment.stop"]
secret = ["file:secrets/llama", "env:HOOK"]
[[webhooks]]
url = "http://alerts:9093"
events = "*"
format = "alertmanager"
labels = { team = "ml" }
credential = "env:LLAMA_KEY"
allow_private = true
timeout = "3s"
give_up_after = "1h"
[[webhooks]]
name = "third"
url = "https://hooks.example.com"
events = "webhook.test"
secret = "env:HOOK"
tls = { ca = "tls/ca.pem" }
[[webhooks]]
url = "https://hooks.example.com:443"
events = "guardrail.breached"
secret = "env:HOOK"
[[webhooks]]
url = "https://hooks.example.com:443/again"
events = "*"
secret = "env:HOOK"
"#;
    let loaded = load_text(folder.path(), text).unwrap();
    let said: Vec<String> = loaded.notices.iter().map(|notice| notice.what.clone()).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[1].ends_with("the secret in \"secrets/llama\" has fewer than 24 bytes"),
        "{said:?}"
    );
    assert!(said[0].starts_with("server.tls.certificates: the certificate in "), "{said:?}");
    assert!(
        said[0].contains("tls/old.pem\" expired ") && said[0].ends_with(" days ago"),
        "{said:?}"
    );
    let names: Vec<_> =
        loaded.files.iter().map(|file| file.strip_prefix(folder.path()).unwrap()).collect();
    let expected = [
        "weir.toml",
        "secrets/llama",
        "tls/admin.key",
        "tls/admin.pem",
        "tls/ca.pem",
        "tls/edge.key",
        "tls/edge.pem",
        "tls/old.key",
        "tls/old.pem",
    ];
    assert_eq!(names, expected.map(Path::new));
    assert_eq!(loaded.text, text);
    assert!(!format!("{:?}", loaded.plan).contains(SECRET), "a sensitive value is not shown");

    let plan = loaded.plan;
    assert_eq!((plan.server.workers, plan.server.limits.body_bytes), (3, 4096));
    assert_eq!(plan.server.limits.header_timeout, Duration::from_secs(90));
    assert_eq!(plan.server.certificates.len(), 2);
    let certificate = &plan.server.certificates[0];
    assert_eq!(certificate.names, ["edge.example.com", "*.example.com", "127.0.0.1", "::1"]);
    assert!(certificate.not_after > 4_000_000_000 && certificate.certified.keys_match().is_ok());
    assert_eq!(certificate.files, ["tls/edge.pem", "tls/edge.key"].map(|f| folder.path().join(f)));
    assert_eq!(plan.admin.hosts, ["weir.example.com:9000"]);
    assert_eq!(plan.store, Store::Sqlite("/var/lib/weir/weir.db".into()));
    assert_eq!(plan.recording.spool, Path::new("/var/lib/weir/weir.db.spool"));
    assert_eq!(plan.recording.retention, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!(plan.telemetry.access_log, AccessLog::File(folder.path().join("logs/access.json")));
    let key = &plan.declared_keys[0];
    assert_eq!((key.hash[31], key.role), (255, policies::Role::Experimenter));
    assert_eq!(key.routes.as_deref(), Some(&["chat".into()][..]));
    assert_eq!((key.limits.requests_per_second, key.limits.concurrent), (Some(0.5), Some(4)));

    let [first, second] = plan.backends.as_slice() else { panic!("order or number") };
    assert_eq!((&*first.name, &*second.name), ("z-first", "a-second"));
    assert_eq!(first.endpoints[0].scheme, Scheme::Https);
    assert_eq!(&*first.endpoints[0].host, "10.0.0.9");
    assert_eq!(first.model.as_deref(), Some("llama ${x}"));
    let (name, value) = first.credential.as_ref().unwrap();
    assert_eq!(
        (name.as_str(), value.as_bytes()),
        ("authorization", format!("Bearer {SECRET}").as_bytes())
    );
    assert!(value.is_sensitive());
    let tls = first.tls.as_ref().unwrap();
    assert_eq!(tls.config.alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    assert!(tls.config.client_auth_cert_resolver.has_certs());
    assert_eq!(tls.server_name.as_deref(), Some("llm.internal"));
    let (name, value) = second.credential.as_ref().unwrap();
    assert_eq!((name.as_str(), value.as_bytes()), ("x-api-key", SECRET.as_bytes()));
    assert!(!second.tls.as_ref().unwrap().config.client_auth_cert_resolver.has_certs());
    assert_eq!(first.health.as_ref().unwrap().timeout, Duration::from_secs(1), "the interval's");

    let route = &plan.routes[0];
    assert_eq!((&*route.pattern, route.body_bytes, route.backend), ("/v1/*", 64 << 10, 0));
    assert_eq!(route.rule.hosts[0].to_string(), "api.example.com");
    let [int8, second] = plan.experiments.as_slice() else { panic!("order or number") };
    assert_eq!(int8.unit, [UnitSource::Header("x-user-id".parse().unwrap())]);
    assert_eq!((int8.owner, int8.on_failure), (Owner::File, OnFailure::Fallback));
    assert_eq!((int8.layer, second.layer), (Some((0, 4050)), Some((0, 5950))));
    let variants: Vec<_> = int8.variants.iter().map(|v| (&*v.name, v.backend, v.weight)).collect();
    assert_eq!(variants, [("stable", 0, 95.0), ("canary", 1, 5.0)], "control first");
    assert_eq!(int8.control, 0);
    assert_eq!(int8.targets[0].variant, VariantId(1));
    assert_eq!(int8.targets[0].when, Condition::Unit(Box::new(["a".into(), "b".into()])));
    assert_eq!(int8.targets[1].variant, VariantId(0));
    assert_eq!(plan.holdout_bp, 250);

    let [first, alerts, third, same, again] = plan.webhooks.as_slice() else { panic!("number") };
    let names = [first, alerts, third, same, again].map(|webhook| &*webhook.name);
    assert_eq!(
        names,
        [
            "Hooks.example.com",
            "alerts-9093",
            "third",
            "hooks.example.com-443",
            "hooks.example.com-443-2"
        ]
    );
    assert_eq!((first.url.target.as_str(), first.secrets.len()), ("/T0/B0?x=1", 2));
    assert_eq!(first.events.names().len(), 10);
    assert!(!first.takes_alerts && !first.allow_private && first.tls.is_some());
    assert_eq!((first.timeout, first.give_up_after), (Duration::from_secs(10), day()));
    assert_eq!(&*first.url.endpoint.host, "hooks.example.com");
    assert_eq!(first.url.origin(), "https://Hooks.example.com");
    assert_eq!(alerts.url.target.as_str(), "/api/v2/alerts");
    assert!(alerts.takes_alerts && alerts.allow_private && alerts.secrets.is_empty());
    assert_eq!(alerts.labels, [("team".to_owned(), "ml".to_owned())]);
    assert!(alerts.credential.as_ref().unwrap().1.is_sensitive() && alerts.tls.is_none());
    assert_eq!((alerts.timeout, alerts.give_up_after), (Duration::from_secs(3), day() / 24));
    assert_eq!(third.url.target.as_str(), "/");
    assert!(!format!("{:?}", plan.webhooks).contains("T0"), "a path may be a secret");
}

fn day() -> Duration {
    Duration::from_secs(24 * 60 * 60)
}

#[test]
fn the_example_of_the_interface_loads() {
    let folder = folder();
    let text = r#"
[server]
listen = "0.0.0.0:8443"
[server.tls]
certificates = [{ chain = "tls/edge.pem", key = "tls/edge.key" }]
[admin]
listen = "127.0.0.1:8444"
[store]
url = "sqlite:weir.db"
[recording]
outcomes = "group"
[telemetry]
access_log = "stdout"
sample = { ratio = 0.01, errors = true }
[auth]
[backends.llama-8b]
endpoints = ["http://10.0.0.1:8000", "http://10.0.0.2:8000"]
model = "llama-3.1-8b-instruct"
balance = "least_requests"
credential = "env:LLAMA_KEY"
health = { path = "/health", interval = "5s" }
[backends.llama-8b-int8]
endpoints = ["http://10.0.0.3:8000"]
[backends.llama-70b]
endpoints = ["http://10.0.0.4:8000"]
[routes.chat]
path = "/v1/chat/completions"
model = "chat"
backend = "llama-8b"
timeouts = { connect = "2s", first_byte = "60s", idle = "60s", total = "600s" }
[experiments.int8]
route = "chat"
unit = ["header:x-user-id", "jwt:sub", "key"]
control = "stable"
[experiments.int8.variants]
stable = { backend = "llama-8b", weight = 95 }
canary = { backend = "llama-8b-int8", weight = 5 }
[[experiments.int8.targets]]
when = { header = { name = "x-team", value = "research" } }
variant = "canary"
[shadows.next]
route = "chat"
backend = "llama-70b"
percent = 10
"#;
    let loaded = load_text(folder.path(), text).unwrap();
    let said: Vec<_> = loaded.notices.iter().map(|notice| notice.what.as_str()).collect();
    assert_eq!(
        said,
        [
            "experiment \"int8\": unit \"jwt:sub\" is never there: tokens are not read in this version"
        ]
    );
}

#[test]
fn l18_f21_files_that_are_no_configuration_are_refused_whole() {
    let folder = folder();
    let path = folder.path().join("weir.toml");
    let said = |problems: Problems| {
        problems.list.iter().map(|p| (p.line, p.what.clone())).collect::<Vec<_>>()
    };
    assert_eq!(said(load(&path, &env).unwrap_err()), [(0, "does not exist".to_owned())]);
    assert_eq!(said(load(folder.path(), &env).unwrap_err()), [(0, "is a folder".to_owned())]);
    fs::write(&path, b"[server]\n# \xFF\n").unwrap();
    assert_eq!(said(load(&path, &env).unwrap_err()), [(2, "not UTF-8".to_owned())]);
    fs::write(&path, "#".repeat((4 << 20) + 1)).unwrap();
    assert_eq!(
        said(load(&path, &env).unwrap_err()),
        [(0, "is too large: at most 4MiB".to_owned())]
    );
    fs::write(&path, "[".repeat(4 << 20)).unwrap();
    assert!(load(&path, &env).is_err());
    let many: String =
        (0..10_001).map(|i| format!("[routes.r{i}]\npath='/{i}'\nbackend='b'\n")).collect();
    let text = format!("{SMALLEST}[backends.b]\nendpoints=['http://b']\n{many}");
    assert_eq!(said(load_text(folder.path(), &text).unwrap_err()).len(), 1);
}

#[test]
fn a_file_full_of_mistakes_is_answered_soon_and_not_at_endless_length() {
    let folder = folder();
    let many: String = (0..50_000).map(|i| format!("m{i} = 1\n")).collect();
    let problems = load_text(folder.path(), &many).unwrap_err();
    assert_eq!(problems.list.len(), 101);
}

/// A valid configuration of some size.
fn valid() -> impl Strategy<Value = String> {
    let name = "[a-z][a-z0-9-]{0,12}";
    let backends = prop::collection::btree_map(name, (1_u16.., 0..3_usize), 1..6);
    let routes = prop::collection::btree_map(name, ("[a-z]{1,8}", any::<bool>()), 1..6);
    let weights = prop::collection::vec(1..1000_u32, 2..8);
    (
        backends,
        routes,
        prop::collection::btree_map(name, weights, 0..4),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(backends, routes, experiments, pick)| {
            let mut text = SMALLEST.to_owned();
            let backend_names: Vec<_> = backends.keys().cloned().collect();
            for (name, (port, scheme)) in backends {
                let scheme = ["http", "https", "h2c"][scheme];
                text += &format!("[backends.{name}]\nendpoints = [\"{scheme}://host:{port}\"]\n");
            }
            let route_names: Vec<_> = routes.keys().cloned().collect();
            for (name, (path, prefix)) in routes {
                let star = if prefix { "/*" } else { "" };
                let backend = pick.get(&backend_names);
                text += &format!(
                    "[routes.{name}]\npath = \"/{name}/{path}{star}\"\nbackend = \"{backend}\"\n"
                );
            }
            text += "[layers.one]\n";
            for (name, weights) in experiments {
                let route = pick.get(&route_names);
                text += &format!(
                    "[experiments.{name}]\nroute = \"{route}\"\nunit = \"key\"\ncontrol = \"v1\"\n"
                );
                text += "layer = { name = \"one\", percent = 25 }\n";
                for (index, weight) in weights.iter().enumerate() {
                    let backend = pick.get(&backend_names);
                    text += &format!(
                        "variants.v{index} = {{ backend = \"{backend}\", weight = {weight} }}\n"
                    );
                }
            }
            text
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_valid_configuration_loads(text in valid()) {
        let folder = folder();
        let loaded = load_text(folder.path(), &text);
        prop_assert!(loaded.is_ok(), "{}\n{}", text, loaded.unwrap_err());
    }

    #[test]
    fn a_cut_or_changed_configuration_never_panics(
        text in valid(), at in any::<prop::sample::Index>(), instead in "[\\[\\]{}=\"'.,\n a0#$-]{0,3}", cut in any::<bool>(),
    ) {
        let folder = folder();
        let at = at.index(text.len());
        let end = if cut { text.len() } else { at + 1 };
        let _ = load_text(folder.path(), &format!("{}{instead}{}", &text[..at], &text[end..]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), toml in "[\\[\\]{}=\"'.,\n a-e0-9#$\\\\-]{0,80}") {
        let folder = tempfile::tempdir().unwrap();
        let _ = load_text(folder.path(), &text);
        let _ = load_text(folder.path(), &toml);
    }
}

#[test]
fn metrics_of_feedback_arrive_with_their_kinds_ranges_and_windows() {
    let folder = folder();
    let text = format!(
        "{SMALLEST}\n[routes.r]\npath = \"/*\"\nbackend = \"b\"\n[backends.b]\n\
         endpoints = [\"http://10.0.0.1\"]\n[feedback]\nwindow = \"48h\"\nundeclared = \"refuse\"\n\
         [feedback.metrics]\nthumbs_up = {{ kind = \"bool\" }}\n\
         stars = {{ kind = \"number\", min = 1, max = 5.0, window = \"7d\" }}\n\
         margin = {{ kind = \"number\", min = 0 }}\nwhy = {{ kind = \"text\" }}\n"
    );
    let loaded = load_text(folder.path(), &text).unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    let metric = |name: &str, kind, window| FeedbackMetric { name: name.into(), kind, window };
    let expected = Feedback {
        window: 2 * day,
        undeclared: false,
        metrics: vec![
            metric("thumbs_up", MetricKind::Bool, 2 * day),
            metric("stars", MetricKind::Number { min: 1.0, max: 5.0 }, 7 * day),
            metric("margin", MetricKind::Number { min: 0.0, max: f64::MAX }, 2 * day),
            metric("why", MetricKind::Text, 2 * day),
        ],
    };
    assert_eq!(loaded.plan.feedback, expected);
}
