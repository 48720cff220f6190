//! The program `weir` as an operator runs it: started, signalled, killed, and listened to.
//!
//! ```ignore
//! let prepared = gateway(text).write();
//! let weir = prepared.spawn().await;
//! let answer = weir.client(&weir.make_key("client").await).get("/").await;
//! weir.signal("TERM");
//! assert_eq!(weir.exit(seconds(5)).await, Some(0));
//! ```
//!
//! It lies beside the test programs: `cargo build --bin weir` puts it there.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::RootCertStore;
use serde_json::{Value, json};

use crate::gateway::{ADMIN_KEY, Prepared};
use crate::{Client, millis, seconds};

/// Where the program is.
///
/// # Panics
/// If it has not been built.
#[must_use]
pub fn weir_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("weir");
    assert!(program.exists(), "no {}: run `cargo build --bin weir`", program.display());
    program
}

/// Runs `weir` with these arguments to its end.
///
/// # Panics
/// If it cannot be run.
#[must_use]
pub fn weir(arguments: &[&str]) -> Output {
    Command::new(weir_program())
        .args(arguments)
        .env_remove("WEIR_ADMIN_KEY")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// `weir serve`, killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Mutex<Child>,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    roots: RootCertStore,
    /// Address of the edge.
    pub edge: SocketAddr,
    /// Address of the admin listener.
    pub admin: SocketAddr,
    /// How long it took to say that it serves.
    pub took: Duration,
}

impl Prepared {
    /// Starts the program and waits until it serves.
    ///
    /// # Panics
    /// If it ends before, or does not serve within ten seconds.
    pub async fn spawn(&self) -> Process {
        self.spawn_with(&[]).await
    }

    /// The same, with these variables in its environment.
    ///
    /// # Panics
    /// As [`Self::spawn`].
    pub async fn spawn_with(&self, variables: &[(&str, &str)]) -> Process {
        let began = Instant::now();
        let mut child = Command::new(weir_program())
            .args(["serve", "--config"])
            .arg(&self.file)
            .env("WEIR_ADMIN_KEY", ADMIN_KEY)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        let ready = loop {
            let text = String::from_utf8_lossy(&stdout.lock()).into_owned();
            let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            let mut events = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(ready) = events.find(|event| event["event"] == "weir.ready") {
                break ready;
            }
            if child.try_wait().unwrap().is_some() || began.elapsed() > seconds(10) {
                let _ = child.kill();
                let told = String::from_utf8_lossy(&stderr.lock()).into_owned();
                panic!("weir does not serve:\n{text}{told}");
            }
            tokio::time::sleep(millis(2)).await;
        };
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        Process {
            edge: address("edge"),
            admin: address("admin"),
            took: began.elapsed(),
            child: Mutex::new(child),
            stdout,
            stderr,
            roots: self.authority.roots(),
        }
    }
}

impl Process {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.lock().id()
    }

    /// Sends it a signal, such as `TERM`.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }

    /// `kill -9`. On return it is gone.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn kill(&self) {
        let mut child = self.child.lock();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for its end: the exit code, `None` if a signal ended it.
    ///
    /// # Panics
    /// If it does not end within `limit`.
    pub async fn exit(&self, limit: Duration) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.lock().try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < limit, "weir runs on after {limit:?}:\n{}", self.stdout());
            tokio::time::sleep(millis(5)).await;
        }
    }

    /// Whether it runs.
    ///
    /// # Panics
    /// If the system does not say.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.child.lock().try_wait().unwrap().is_none()
    }

    /// What it wrote to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout.lock()).into_owned()
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock()).into_owned()
    }

    /// The events of this name that it logged so far.
    #[must_use]
    pub fn events(&self, name: &str) -> Vec<Value> {
        let text = self.stdout();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["event"] == name).collect()
    }

    /// A client of the edge with this key.
    #[must_use]
    pub fn client(&self, key: &str) -> Client {
        self.anonymous().bearer(key)
    }

    /// A client of the edge without a credential.
    #[must_use]
    pub fn anonymous(&self) -> Client {
        Client::new(self.edge, self.roots.clone())
    }

    /// A client of the admin API.
    #[must_use]
    pub fn api(&self) -> Client {
        Client::plain(self.admin).bearer(ADMIN_KEY)
    }

    /// `GET` of the admin API: its JSON.
    ///
    /// # Panics
    /// If the answer is none of success.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.api().get(&format!("/api/v1{path}")).await;
        assert!(answer.status.is_success(), "GET {path}: {} {}", answer.status, answer.text());
        answer.json()
    }

    /// Makes a key: its secret.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn make_key(&self, role: &str) -> String {
        let body = json!({ "name": format!("test-{role}"), "role": role }).to_string();
        let answer = self.api().post("/api/v1/keys", body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["secret"].as_str().unwrap().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Keeps reading, so that the pipe never fills.
fn collect(mut from: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let all: Arc<Mutex<Vec<u8>>> = Arc::default();
    let to = Arc::clone(&all);
    std::thread::spawn(move || {
        let mut piece = [0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            to.lock().extend_from_slice(&piece[..count]);
        }
    });
    all
}
