//! What the kernel knows of this process, from `/proc`. Elsewhere than on Linux: nothing.

use std::fs;
use std::sync::LazyLock;

/// Ticks of the clock in `/proc/*/stat` per second. The kernel has used 100 for user space on every
/// architecture that Rust's standard library runs on; asking needs libc.
const TICKS: f64 = 100.0;

/// Figures of this process; `None` where unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Processor time, user and system, seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory, bytes.
    pub resident_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<usize>,
    /// Limit of open file descriptors; `None` also if there is none.
    pub max_fds: Option<u64>,
    /// Start, seconds since 1970.
    pub start_seconds: Option<f64>,
}

/// Reads them now. Some files in `/proc`: not for a thread that serves requests.
pub fn read() -> Process {
    static START: LazyLock<Option<f64>> = LazyLock::new(start);
    Process {
        cpu_seconds: cpu(),
        resident_bytes: resident(),
        // The folder itself is open while it is read.
        open_fds: fs::read_dir("/proc/self/fd")
            .ok()
            .map(|entries| entries.count().saturating_sub(1)),
        max_fds: max_fds(),
        start_seconds: *START,
    }
}

/// Field `number` of `/proc/self/stat`, counted from 1 as in proc(5); only those after the name.
fn stat(number: usize) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name stands in brackets and may hold anything; the third field follows the last of them.
    let (_, rest) = text.rsplit_once(") ")?;
    rest.split(' ').nth(number - 3)?.parse().ok()
}

fn cpu() -> Option<f64> {
    Some((stat(14)? + stat(15)?) / TICKS)
}

fn start() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = text.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    Some(boot + stat(22)? / TICKS)
}

fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn max_fds() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn the_figures_are_those_of_this_process() {
        let before = read();
        let files: Vec<_> = (0..40).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let pages = vec![1_u8; 64 << 20];
        // As long as it takes: beside other processes this one gets a part of the time only.
        let began = clock::now();
        let mut after = read();
        while after.cpu_seconds.unwrap() < before.cpu_seconds.unwrap() + 0.2 {
            assert!(began.elapsed().as_secs() < 60, "{after:?} does not grow from {before:?}");
            std::hint::black_box(&pages);
            after = read();
        }
        // Other tests run beside this one, and open and close files of their own.
        assert!(after.open_fds.unwrap() >= before.open_fds.unwrap() + files.len() / 2);
        assert!(after.resident_bytes.unwrap() > before.resident_bytes.unwrap() + (32 << 20));
        assert!(after.max_fds.is_none_or(|most| most >= 64));
        let age = clock::unix_nanos() as f64 / 1e9 - after.start_seconds.unwrap();
        assert!((-2.0..3_600.0).contains(&age), "{age}");
    }
}
