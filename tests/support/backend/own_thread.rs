//! A thread with a runtime of its own, for everything here that serves.
//!
//! A backend on the test's runtime would stand still whenever the test blocks, and would live by
//! the test's paused clock. Stopping means dropping the runtime: every socket on it closes at once.

use std::future::Future;
use std::thread::{Builder, JoinHandle};

use tokio::sync::oneshot;

/// Runs one future until it is told to stop or is dropped.
#[derive(Debug)]
pub(crate) struct OwnThread {
    /// Dropped to stop: nothing is ever sent.
    running: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl OwnThread {
    /// Runs what `work` makes. It is made on the thread, so it need not be `Send`.
    pub(crate) fn run<F>(name: &str, work: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()>,
    {
        let (running, stopped) = oneshot::channel::<()>();
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    tokio::select! {
                        _ = stopped => {}
                        () = work() => {}
                    }
                });
            })
            .unwrap();
        Self { running: Some(running), thread: Some(thread) }
    }

    /// Stops; on return every task has been dropped and every socket closed.
    pub(crate) fn stop(&mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has already printed itself.
            let _ = thread.join();
        }
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        self.stop();
    }
}
