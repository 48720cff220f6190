//! A batch that was not taken is sent again, as OTLP asks: three times, each wait twice as long as the
//! one before, or as long as the collector says; and only if its word allows it.

use std::time::Duration;

use bytes::Bytes;

use crate::clock;

/// Times that a batch is sent again.
const AGAIN: u32 = 3;
/// The first wait, the longest, and what chance adds to each.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_millis(1_600);
const JITTER_MILLIS: u64 = 100;
/// The longest wait that a collector can ask for.
const MOST_ASKED: Duration = Duration::from_secs(30);

/// A batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// In words, without what the collector wrote: it may repeat a secret of ours.
    pub(super) why: String,
    /// Whether it may be sent again, and the shortest wait before that.
    pub(super) again: Option<Duration>,
}

impl Refused {
    /// It may be sent again.
    pub(super) fn for_now(why: impl ToString) -> Self {
        Self { why: why.to_string(), again: Some(Duration::ZERO) }
    }

    /// It may not.
    pub(super) fn for_good(why: impl ToString) -> Self {
        Self { why: why.to_string(), again: None }
    }
}

/// Where batches go.
pub(super) trait Destination: Send {
    /// Sends an `ExportTraceServiceRequest` once.
    fn send(&mut self, batch: Bytes) -> impl Future<Output = Result<(), Refused>> + Send;
}

/// Sends `batch`, and again if that may help and there is time: none begins after `time`.
///
/// # Errors
/// Why it was not taken the last time.
pub(super) async fn send(
    destination: &mut impl Destination,
    batch: &Bytes,
    time: Duration,
) -> Result<(), Refused> {
    let began = clock::now();
    let mut wait = FIRST;
    let mut longest = LONGEST;
    let mut sent = 0;
    loop {
        let Err(refused) = destination.send(batch.clone()).await else { return Ok(()) };
        let Some(asked) = refused.again.filter(|_| sent < AGAIN) else { return Err(refused) };
        sent += 1;
        let asked = asked.min(MOST_ASKED);
        if asked > longest {
            longest = MOST_ASKED;
        }
        wait = wait.max(asked);
        let pause = (wait + Duration::from_millis(fastrand::u64(..=JITTER_MILLIS))).min(longest);
        if began.elapsed() + pause >= time {
            return Err(refused);
        }
        tokio::time::sleep(pause).await;
        wait = (wait * 2).min(longest);
    }
}
