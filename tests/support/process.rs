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
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::RootCertStore;
use serde_json::{Value, json};

use crate::gateway::{ADMIN_KEY, Prepared};
use crate::{Client, millis, seconds};

/// Where the program is.
///
/// # Panics
/// If it has not been built, or not since its sources changed: cargo builds it for tests of its own
/// package only, and a test of yesterday's program proves nothing.
#[must_use]
pub fn weir_program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        let test = std::env::current_exe().unwrap();
        let program = test.parent().and_then(Path::parent).unwrap().join("weir");
        assert!(program.exists(), "no {}: run `cargo build --bin weir`", program.display());
        if let Some(source) = newer_source(&program) {
            panic!("{source} is newer than {}: run `cargo build --bin weir`", program.display());
        }
        program
    };
    PROGRAM.get_or_init(find).clone()
}

/// A source that changed after `program` was built from it, of those that cargo lists beside it.
fn newer_source(program: &Path) -> Option<String> {
    let changed = |path: &Path| path.metadata().and_then(|of| of.modified()).ok();
    let built = changed(program)?;
    let listed = std::fs::read_to_string(program.with_extension("d")).ok()?;
    let sources = listed.split_once(": ")?.1.split_whitespace();
    sources.filter(|source| changed(Path::new(source)) > Some(built)).map(str::to_owned).next()
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

/// `weir serve` that does not serve yet, killed when dropped.
#[derive(Debug)]
pub struct Starting {
    process: Process,
    began: Instant,
}

impl Prepared {
    /// Starts the program and waits until it serves.
    ///
    /// # Panics
    /// If it ends before, or does not serve within ten seconds.
    pub async fn spawn(&self) -> Process {
        self.begin().serves().await
    }

    /// The same, with these variables in its environment.
    ///
    /// # Panics
    /// As [`Self::spawn`].
    pub async fn spawn_with(&self, variables: &[(&str, &str)]) -> Process {
        self.begin_with(variables).serves().await
    }

    /// Starts the program.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn begin(&self) -> Starting {
        self.begin_with(&[])
    }

    fn begin_with(&self, variables: &[(&str, &str)]) -> Starting {
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
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let process = Process {
            edge: nowhere,
            admin: nowhere,
            took: Duration::ZERO,
            stdout: collect(child.stdout.take().unwrap()),
            stderr: collect(child.stderr.take().unwrap()),
            child: Mutex::new(child),
            roots: self.authority.roots(),
        };
        Starting { process, began }
    }
}

impl Starting {
    /// Waits until it serves.
    ///
    /// # Panics
    /// If it ends before, or does not serve within ten seconds.
    pub async fn serves(mut self) -> Process {
        loop {
            if let Some(ready) = self.process.events("weir.ready").pop() {
                let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
                self.process.edge = address("edge");
                self.process.admin = address("admin");
                self.process.took = self.began.elapsed();
                return self.process;
            }
            if !self.process.runs() || self.began.elapsed() > seconds(10) {
                let (stdout, stderr) = (self.process.stdout(), self.process.stderr());
                panic!("weir does not serve:\n{stdout}{stderr}");
            }
            tokio::time::sleep(millis(2)).await;
        }
    }

    /// Waits until it listens to a signal, such as 15 for SIGTERM, as the system tells it.
    ///
    /// # Panics
    /// If it does not within two seconds.
    pub async fn listens_to(&self, signal: u32) {
        let path = format!("/proc/{}/status", self.process.id());
        crate::until(seconds(2), || {
            let status = std::fs::read_to_string(&path).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            u64::from_str_radix(caught.trim(), 16).unwrap() >> (signal - 1) & 1 == 1
        })
        .await;
    }

    /// Waits until it has this file open.
    ///
    /// # Panics
    /// If it does not within two seconds.
    pub async fn opens(&self, file: &Path) {
        let folder = format!("/proc/{}/fd", self.process.id());
        let file = file.canonicalize().unwrap();
        crate::until(seconds(2), || {
            let open = std::fs::read_dir(&folder).unwrap().flatten();
            open.filter_map(|each| std::fs::read_link(each.path()).ok()).any(|open| open == file)
        })
        .await;
    }
}

impl std::ops::Deref for Starting {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
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
