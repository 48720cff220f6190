//! Threads behind the workers: they store, count and judge what workers did.
//!
//! Where there are as many workers as cores, such a thread shares a core with one of them. At the same
//! priority it is left to run while a request waits: at 4,000 requests/s on one core a worker waited more
//! than 150 µs for the store 63 times in 4 s, a step below it 24 times (`perf sched`). What it needs it
//! still gets: at its priority a quarter of a core, if everybody wants all of it.

use std::io;
use std::thread::{Builder, JoinHandle};

use rustix::process::{getpriority_process, setpriority_process};

/// Steps of priority below the workers.
const BELOW: i32 = 5;

/// The lowest priority there is.
const LOWEST: i32 = 19;

/// Starts a thread that does `work` behind the workers.
///
/// # Errors
/// When no thread can be had.
pub fn behind<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(move || {
        step_back();
        work()
    })
}

/// A thread behind has done a piece of what it has to do, and there is less than [`LITTLE`] of that: a worker
/// that waits for this core goes first. Where there is much, it is not asked: a worker that is busy all the
/// time would leave it too little.
pub fn give_way(left: usize) {
    if left < LITTLE {
        std::thread::yield_now();
    }
}

/// Rows that are little to do: a batch of the recorder at some thousand requests a second.
const LITTLE: usize = 512;

/// This thread, and no other. If it may not, it runs as before.
fn step_back() {
    if let Ok(own) = getpriority_process(None) {
        let _ = setpriority_process(None, (own + BELOW).min(LOWEST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_behind_has_a_lower_priority_and_others_keep_theirs() {
        let own = getpriority_process(None).unwrap();
        let its = behind("behind", || getpriority_process(None).unwrap()).unwrap().join().unwrap();
        assert_eq!(its, (own + BELOW).min(LOWEST));
        assert_eq!(getpriority_process(None).unwrap(), own);
    }
}
