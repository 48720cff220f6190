//! What the system tells the process, heard from the moment this is made (F24).
//!
//! Made before anything slow: a signal that comes during a start is neither lost nor does it kill the
//! process in the middle of something.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals of a gateway, and the runtime that hears them.
#[derive(Debug)]
pub struct Signals {
    pub(crate) control: Runtime,
    pub(crate) end: End,
    pub(crate) reload: Signal,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub(crate) struct End {
    term: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen. From now on SIGTERM, SIGINT and SIGHUP no longer end the process by
    /// themselves.
    ///
    /// # Errors
    /// If the system gives no thread or no handler.
    pub fn listen() -> io::Result<Self> {
        let control = control()?;
        let (end, reload) = {
            let _inside = control.enter();
            let end = End {
                term: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            };
            (end, signal(SignalKind::hangup())?)
        };
        Ok(Self { control, end, reload })
    }
}

impl End {
    /// Waits for the next one, or takes one that came before.
    pub(crate) async fn come(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Does `work`, unless one comes before it is done: then nothing.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.come() => None,
            done = work => Some(done),
        }
    }
}

/// The runtime for everything that is not a request.
pub(crate) fn control() -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(1).thread_name("control").enable_all().build()
}
