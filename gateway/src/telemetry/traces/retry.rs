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

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses so often, as told, then takes.
    struct Refusing {
        left: u32,
        again: Option<Duration>,
        sent: u32,
    }

    impl Destination for Refusing {
        async fn send(&mut self, batch: Bytes) -> Result<(), Refused> {
            assert_eq!(batch, "spans");
            self.sent += 1;
            if self.left == 0 {
                return Ok(());
            }
            self.left -= 1;
            Err(Refused { why: format!("no {}", self.sent), again: self.again })
        }
    }

    fn sent(left: u32, again: Option<Duration>, time: Duration) -> (u32, Result<(), String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut refusing = Refusing { left, again, sent: 0 };
        let batch = Bytes::from_static(b"spans");
        let result = runtime.block_on(send(&mut refusing, &batch, time));
        (refusing.sent, result.map_err(|refused| refused.why))
    }

    #[test]
    fn a_batch_is_sent_again_as_often_and_as_long_as_it_makes_sense() {
        let hour = Duration::from_secs(3_600);
        let now = Some(Duration::ZERO);
        assert_eq!(sent(0, now, hour), (1, Ok(())));
        assert_eq!(sent(2, now, hour), (3, Ok(())));
        assert_eq!(sent(9, now, hour), (4, Err("no 4".into())));
        assert_eq!(sent(9, None, hour), (1, Err("no 1".into())), "for good");
        assert_eq!(sent(9, now, Duration::from_millis(90)), (1, Err("no 1".into())), "no time");
        let late = Some(Duration::from_secs(20));
        assert_eq!(sent(9, late, Duration::from_secs(19)), (1, Err("no 1".into())), "asked for");
        let began = clock::now();
        assert_eq!(sent(1, Some(Duration::from_millis(300)), hour), (2, Ok(())));
        assert!(began.elapsed() >= Duration::from_millis(300));
    }
}
