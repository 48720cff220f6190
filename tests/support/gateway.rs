//! The real gateway in this process, on ports of its own, with certificates made on the spot.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Answer, Authority, Client, RawClient};

/// Admin key of every test gateway.
pub const ADMIN_KEY: &str = "test-admin-key-0123456789abcdef-0123456789";

/// The store in this folder, to be looked at from outside.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn database(dir: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = Connection::open_with_flags(dir.join("weir.db"), flags).unwrap();
    database.busy_timeout(crate::seconds(5)).unwrap();
    database
}

/// How a test gateway is made. `text` holds everything but `[server]`, `[admin]` and `[store]`.
#[must_use]
#[derive(Debug)]
pub struct GatewayBuilder {
    server: String,
    limits: String,
    admin: String,
    recording: String,
    text: String,
    dir: Option<PathBuf>,
    names: Vec<String>,
}

/// A gateway with these backends, routes, experiments and shadows (TOML).
pub fn gateway(text: impl Into<String>) -> GatewayBuilder {
    GatewayBuilder {
        server: "workers = 2\npre_drain = \"0s\"\n".into(),
        limits: String::new(),
        admin: String::new(),
        recording: String::new(),
        text: text.into(),
        dir: None,
        names: vec!["localhost".into(), "127.0.0.1".into()],
    }
}

impl GatewayBuilder {
    /// More lines for `[server]`.
    pub fn server(mut self, lines: &str) -> Self {
        self.server.push_str(lines);
        self.server.push('\n');
        self
    }

    /// Lines for `[server.limits]`.
    pub fn limits(mut self, lines: &str) -> Self {
        self.limits.push_str(lines);
        self.limits.push('\n');
        self
    }

    /// More lines for `[admin]`.
    pub fn admin(mut self, lines: &str) -> Self {
        self.admin.push_str(lines);
        self.admin.push('\n');
        self
    }

    /// Lines for `[recording]`.
    pub fn recording(mut self, lines: &str) -> Self {
        self.recording.push_str(lines);
        self.recording.push('\n');
        self
    }

    /// Uses this folder, and whatever store is in it, instead of a fresh one.
    pub fn in_dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    fn toml_in(&self, dir: &Path) -> String {
        let limits = if self.limits.is_empty() {
            String::new()
        } else {
            format!("[server.limits]\n{}", self.limits)
        };
        let recording = if self.recording.is_empty() {
            String::new()
        } else {
            format!("[recording]\n{}", self.recording)
        };
        let telemetry = if self.text.contains("[telemetry]") {
            String::new()
        } else {
            format!("[telemetry]\naccess_log = \"file:{}\"\n", dir.join("access.log").display())
        };
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n{}[server.tls]\n\
             certificates = [{{ chain = \"edge.pem\", key = \"edge.key\" }}]\n{limits}\
             [admin]\nlisten = \"127.0.0.1:0\"\n{}[store]\nurl = \"sqlite:weir.db\"\n\
             {recording}{telemetry}{}",
            self.server, self.admin, self.text
        )
    }

    /// Writes everything that [`start`](Self::start) would start from.
    pub fn write(self) -> Prepared {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let temp = self.dir.is_none().then(|| {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            tempfile::Builder::new().prefix(&format!("weir-{number}-")).tempdir().unwrap()
        });
        let dir = match (&self.dir, &temp) {
            (Some(dir), _) => dir.clone(),
            (None, Some(temp)) => temp.path().to_owned(),
            (None, None) => unreachable!("one of them is there"),
        };
        let authority = Authority::new();
        let names: Vec<&str> = self.names.iter().map(|name| &**name).collect();
        let pair = authority.leaf(&names);
        std::fs::write(dir.join("edge.pem"), &pair.chain_pem).unwrap();
        std::fs::write(dir.join("edge.key"), &pair.key_pem).unwrap();
        std::fs::write(dir.join("ca.pem"), authority.ca_pem()).unwrap();
        let file = dir.join("weir.toml");
        std::fs::write(&file, self.toml_in(&dir)).unwrap();
        Prepared { dir, file, authority, _temp: temp, builder: self }
    }

    /// Starts it. Panics with the problems if it does not start.
    pub async fn start(self) -> Gateway {
        self.write().start().await
    }
}

/// A folder from which a gateway can be started, in this process or as a program.
#[derive(Debug)]
pub struct Prepared {
    /// Folder with the configuration, the certificates and the store.
    pub dir: PathBuf,
    /// Configuration.
    pub file: PathBuf,
    /// Who signed the certificate.
    pub authority: Authority,
    _temp: Option<TempDir>,
    builder: GatewayBuilder,
}

impl Prepared {
    /// Starts the gateway in this process.
    pub async fn start(self) -> Gateway {
        let file = self.file.clone();
        // It makes runtimes of its own, which a runtime's thread must not.
        let running = tokio::task::spawn_blocking(move || {
            gateway::Gateway::start(
                &file,
                gateway::StartOptions { admin_key: Some(ADMIN_KEY.into()), quiet: true },
            )
        })
        .await
        .unwrap()
        .unwrap_or_else(|error| panic!("the gateway did not start:\n{error}"));
        let mut started = Gateway {
            edge: running.edge(),
            admin: running.admin(),
            running: Some(running),
            prepared: self,
            client_key: String::new(),
        };
        started.client_key = started.make_key("client", Value::Null).await;
        started
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Address of the edge.
    pub edge: SocketAddr,
    /// Address of the admin listener.
    pub admin: SocketAddr,
    /// The thing itself.
    pub running: Option<gateway::Gateway>,
    /// What it was started from.
    pub prepared: Prepared,
    /// Secret of a client key for all routes.
    pub client_key: String,
}

impl Gateway {
    /// A client with a key: HTTP/1.1.
    pub fn client(&self) -> Client {
        self.anonymous().bearer(&self.client_key)
    }

    /// A client without a credential.
    pub fn anonymous(&self) -> Client {
        Client::new(self.edge, self.prepared.authority.roots())
    }

    /// A client with the admin key on the edge.
    pub fn inspector(&self) -> Client {
        self.anonymous().bearer(ADMIN_KEY)
    }

    /// Exact bytes over TLS, HTTP/1.1.
    pub async fn raw(&self) -> RawClient {
        RawClient::tls(self.edge, &self.prepared.authority.roots(), &["http/1.1"]).await
    }

    /// Exact frames over TLS, HTTP/2.
    pub async fn raw_h2(&self) -> RawClient {
        RawClient::tls(self.edge, &self.prepared.authority.roots(), &["h2"]).await
    }

    /// A client of the admin API.
    pub fn api(&self) -> Client {
        Client::plain(self.admin).bearer(ADMIN_KEY)
    }

    /// `GET` of the admin API: its JSON.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.api().get(&format!("/api/v1{path}")).await;
        assert!(answer.status.is_success(), "GET {path}: {} {}", answer.status, answer.text());
        answer.json()
    }

    /// Makes a key of `role`; `more` are further members. Its secret.
    pub async fn make_key(&self, role: &str, more: Value) -> String {
        let mut body = json!({ "name": format!("test-{role}"), "role": role });
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        let answer = self.api().post("/api/v1/keys", body.to_string()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["secret"].as_str().unwrap().to_owned()
    }

    /// Sets weights at the present revision.
    pub async fn set_weights(&self, experiment: &str, weights: Value) -> Answer {
        let path = format!("/api/v1/experiments/{experiment}");
        let shown = self.api().get(&path).await;
        let etag = shown.header("etag").unwrap().to_owned();
        self.api()
            .request("PUT", &format!("{path}/weights"), json!({ "weights": weights }).to_string())
            .header("if-match", &etag)
            .await
    }

    /// The Prometheus text.
    pub async fn metrics(&self) -> String {
        Client::plain(self.admin).get("/metrics").await.text()
    }

    /// The value of one series, as `name{labels}` stands in the text; 0 if it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.metrics().await;
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.trim().parse().ok())
            .unwrap_or(0.0)
    }

    /// The accounting of outcomes once it is at rest: nothing pending.
    pub async fn accounts(&self) -> Value {
        let mut last = Value::Null;
        for _ in 0..400 {
            last = self.get("/status").await["recording"].clone();
            if last["pending"] == 0 {
                return last;
            }
            tokio::time::sleep(crate::millis(25)).await;
        }
        panic!("outcomes stay pending: {last}");
    }

    /// Stored outcomes, newest first, once nothing is pending. `query` such as `variant=canary`.
    pub async fn outcomes(&self, query: &str) -> Vec<Value> {
        self.accounts().await;
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/requests?limit=1000&{query}{cursor}")).await;
            all.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    /// Access lines so far; one that is being written is none yet.
    pub fn access_lines(&self) -> Vec<Value> {
        let text =
            std::fs::read_to_string(self.prepared.dir.join("access.log")).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Replaces the part of the configuration that the builder was given, and waits until the
    /// gateway has read it: its new generation, or what it said against it.
    pub async fn reconfigure(&mut self, text: &str) -> Result<u64, String> {
        self.prepared.builder.text = text.to_owned();
        let toml = self.prepared.builder.toml_in(&self.prepared.dir);
        std::fs::write(&self.prepared.file, toml).unwrap();
        self.running.as_ref().unwrap().changes().reload().await
    }

    /// Stops it and starts it again from the same folder: what a restart of the process keeps.
    pub async fn restart(mut self) -> Self {
        if let Some(running) = self.running.take() {
            tokio::task::spawn_blocking(move || running.stop()).await.unwrap();
        }
        let file = self.prepared.file.clone();
        let running = tokio::task::spawn_blocking(move || {
            gateway::Gateway::start(&file, gateway::StartOptions { admin_key: None, quiet: true })
        })
        .await
        .unwrap()
        .unwrap_or_else(|error| panic!("the gateway did not start again:\n{error}"));
        self.edge = running.edge();
        self.admin = running.admin();
        self.running = Some(running);
        self
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // A runtime must not be ended on a runtime's thread.
            let _ = std::thread::spawn(move || running.stop()).join();
        }
    }
}
