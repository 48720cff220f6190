//! Python, programs, and whose turn it is on this machine.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use weir_tests::{Gateway, millis, seconds};

static MACHINE: RwLock<()> = RwLock::const_new(());

/// A turn together with others of this kind.
pub(crate) async fn a_turn() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().await
}

/// A turn for a test that measures time, or keeps all cores busy.
pub(crate) async fn the_machine() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}

/// The checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The Python that has the SDKs.
pub(crate) fn python() -> PathBuf {
    let python = root().join("target/test-env/venv/bin/python");
    assert!(
        python.exists(),
        "no Python SDKs in target/test-env: run scripts/test, it installs them"
    );
    python
}

/// The gateway as a program. Cargo builds it for tests of its own package only.
pub(crate) fn weir() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let weir = here.parent().unwrap().parent().unwrap().join("weir");
    assert!(weir.exists(), "no {}: run scripts/test, or cargo build --bins", weir.display());
    weir
}

/// What a client is told of `gateway`, in the variables that the examples read.
pub(crate) fn told(gateway: &Gateway) -> Vec<(&'static str, String)> {
    vec![
        ("WEIR_EDGE", format!("https://localhost:{}", gateway.edge.port())),
        ("WEIR_CA", gateway.prepared.dir.join("ca.pem").display().to_string()),
        ("WEIR_KEY", gateway.client_key.clone()),
        ("WEIR_ADMIN", format!("http://{}", gateway.admin)),
        ("WEIR_TOKEN", weir_tests::gateway::ADMIN_KEY.to_owned()),
    ]
}

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

fn settled(command: &mut Command, env: &[(&str, String)]) {
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1")
        .env("NO_PROXY", "localhost,127.0.0.1")
        .env("no_proxy", "localhost,127.0.0.1")
        .envs(env.iter().map(|(name, value)| (name, value)))
        .current_dir(root())
        .stdin(Stdio::null());
}

/// Runs a program to its end, for two minutes at most.
pub(crate) async fn run(words: &[&str], env: &[(&str, String)]) -> Ran {
    let mut command = Command::new("timeout");
    command.arg("120").args(words);
    settled(&mut command, env);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { ok: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Runs a script that lies beside this file; the JSON that it printed last.
pub(crate) async fn script(name: &str, arguments: &[&str], env: &[(&str, String)]) -> Value {
    let path = root().join("tests/real").join(name).display().to_string();
    let python = python().display().to_string();
    let ran = run(&[&[python.as_str(), path.as_str()], arguments].concat(), env).await;
    assert!(ran.ok, "{name} {arguments:?} failed\n{}{}", ran.out, ran.err);
    let last = ran.out.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{name}: {error}: {}", ran.out))
}

/// A program that runs until it is told to end, or dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

fn collect(source: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            lines.lock().push(line);
        }
    });
}

impl Program {
    /// Starts it. It ends with this test, whatever becomes of the test.
    pub(crate) fn start(words: &[&str], env: &[(&str, String)]) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).args(words);
        settled(&mut command, env);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let lines = Arc::default();
        collect(child.stdout.take().unwrap(), &lines);
        collect(child.stderr.take().unwrap(), &lines);
        Self { child, lines }
    }

    /// What it printed so far, on both streams.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// Waits for what `find` makes of its lines.
    pub(crate) async fn printed<T>(
        &mut self,
        within: Duration,
        find: impl Fn(&[String]) -> Option<T>,
    ) -> T {
        let end = Instant::now() + within;
        loop {
            if let Some(found) = find(&self.lines()) {
                return found;
            }
            let over = self.child.try_wait().unwrap();
            if over.is_some() || Instant::now() > end {
                let mut text = String::new();
                for line in self.lines() {
                    let _ = writeln!(text, "{line}");
                }
                panic!("not printed within {within:?} (ended: {over:?}):\n{text}");
            }
            tokio::time::sleep(millis(20)).await;
        }
    }

    /// The rest of the first line that begins with `start`.
    pub(crate) async fn after(&mut self, within: Duration, start: &str) -> String {
        let rest = |lines: &[String]| {
            lines.iter().find_map(|line| Some(line.strip_prefix(start)?.trim().to_owned()))
        };
        self.printed(within, rest).await
    }

    /// Sends it a signal, such as `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self, within: Duration) -> ExitStatus {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "still there after {within:?}: {:?}", self.lines());
            tokio::time::sleep(millis(20)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            return;
        }
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-s", "TERM", &pid]).status();
        let end = Instant::now() + seconds(40);
        while self.child.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            std::thread::sleep(millis(20));
        }
    }
}
