//! Waiting for something to become true, with a deadline and a message that says what did not.
//!
//! Time here is the machine's, also under a paused tokio clock: what is waited for happens on other
//! threads and on sockets, which no paused clock holds up.

use std::fmt;
use std::panic::Location;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// How often a condition is asked.
const EVERY: Duration = Duration::from_millis(1);

/// What a condition may answer: `true` or `false`, or a `Result` whose error tells what is still
/// missing and ends up in the panic message.
pub trait Holds {
    /// `Ok` if the condition holds; what is missing otherwise, possibly nothing to say.
    ///
    /// # Errors
    /// The condition does not hold yet.
    fn holds(self) -> Result<(), String>;
}

impl Holds for bool {
    fn holds(self) -> Result<(), String> {
        if self { Ok(()) } else { Err(String::new()) }
    }
}

impl<E: std::fmt::Display> Holds for Result<(), E> {
    fn holds(self) -> Result<(), String> {
        self.map_err(|missing| missing.to_string())
    }
}

/// Waits until `condition` holds and panics when it does not within `deadline`, with the line of
/// the test that waited. [`Until::because`] says it in words.
///
/// ```ignore
/// until(seconds(2), || copied.calls() == 1).await;
/// until(seconds(2), || copied.calls() == 1).because("the shadow is asked once").await;
/// ```
#[track_caller]
pub fn until<H, C>(deadline: Duration, condition: C) -> Until<C>
where
    H: Holds,
    C: FnMut() -> H + Unpin,
{
    let place = Location::caller();
    Until { deadline, condition, description: None, place, end: None, pause: None }
}

/// [`until`] for a condition that has to wait itself, such as a request.
///
/// The deadline also cuts short a condition that hangs.
#[track_caller]
pub fn until_async<H, F, C>(
    deadline: Duration,
    mut condition: C,
) -> impl Future<Output = ()> + use<H, F, C>
where
    H: Holds,
    F: Future<Output = H>,
    C: FnMut() -> F,
{
    let place = Location::caller();
    async move {
        let end = Instant::now() + deadline;
        let mut missing = String::from("it did not answer");
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, condition()).await.map(Holds::holds) {
                Ok(Ok(())) => return,
                Ok(Err(now_missing)) => missing = now_missing,
                Err(_) => {}
            }
            if Instant::now() >= end {
                give_up(deadline, None, &missing, place);
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// [`until`] for tests on plain threads.
#[track_caller]
pub fn until_blocking<H: Holds>(deadline: Duration, mut condition: impl FnMut() -> H) {
    let place = Location::caller();
    let end = Instant::now() + deadline;
    while let Err(missing) = condition().holds() {
        if Instant::now() >= end {
            give_up(deadline, None, &missing, place);
        }
        std::thread::sleep(EVERY);
    }
}

/// A wait; `.await` it.
#[must_use = "nothing waits before `.await`"]
pub struct Until<C> {
    deadline: Duration,
    condition: C,
    description: Option<String>,
    place: &'static Location<'static>,
    /// Set at the first poll: the wait begins when it is awaited.
    end: Option<Instant>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<C> Until<C> {
    /// Says in words what should become true.
    pub fn because(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }
}

impl<H, C> Future for Until<C>
where
    H: Holds,
    C: FnMut() -> H + Unpin,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let end = *self.end.get_or_insert_with(|| Instant::now() + deadline);
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
            }
            let Err(missing) = (self.condition)().holds() else { return Poll::Ready(()) };
            if Instant::now() >= end {
                give_up(deadline, self.description.as_deref(), &missing, self.place);
            }
            self.pause = Some(Box::pin(tokio::time::sleep(EVERY)));
        }
    }
}

impl<C> fmt::Debug for Until<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Until")
            .field("deadline", &self.deadline)
            .field("description", &self.description)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// Ends the test, saying what was waited for, where, for how long and what was missing.
fn give_up(deadline: Duration, description: Option<&str>, missing: &str, place: &Location) -> ! {
    let condition = description
        .map(str::to_owned)
        .or_else(|| source_line(place))
        .unwrap_or_else(|| "the condition".to_owned());
    let missing = if missing.is_empty() { String::new() } else { format!(": {missing}") };
    panic!("not true within {deadline:?} (at {place}): {condition}{missing}");
}

/// The line of the test that waited, when its source is at hand: cargo runs tests in the package's
/// folder and names files from the workspace's.
fn source_line(place: &Location) -> Option<String> {
    let read = |folder: &str| std::fs::read_to_string(Path::new(folder).join(place.file())).ok();
    let source = read(".").or_else(|| read(".."))?;
    Some(source.lines().nth(place.line() as usize - 1)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{millis, seconds};

    fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
        panic.downcast_ref::<String>().unwrap().clone()
    }

    #[tokio::test]
    async fn a_wait_ends_as_soon_as_the_condition_holds() {
        let asked = AtomicUsize::new(0);
        until(seconds(5), || asked.fetch_add(1, Ordering::Relaxed) == 3).await;
        assert_eq!(asked.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn a_wait_in_vain_says_what_was_missing_and_where() {
        let waiting = tokio::spawn(async {
            until(millis(5), || Err::<(), _>("2 of 3 came")).because("three callers come").await;
        });
        let message = message_of(&*waiting.await.unwrap_err().into_panic());
        assert!(message.starts_with("not true within 5ms (at "), "{message}");
        assert!(message.ends_with("): three callers come: 2 of 3 came"), "{message}");
    }

    #[tokio::test]
    async fn a_wait_that_was_not_described_shows_its_line() {
        let waiting = tokio::spawn(async {
            until(millis(5), || 1 + 1 == 3).await;
        });
        let message = message_of(&*waiting.await.unwrap_err().into_panic());
        assert!(message.contains("until(millis(5), || 1 + 1 == 3).await;"), "{message}");
    }

    #[tokio::test]
    async fn a_condition_that_hangs_is_cut_short() {
        let waiting = tokio::spawn(async {
            until_async(millis(20), std::future::pending::<bool>).await;
        });
        let message = message_of(&*waiting.await.unwrap_err().into_panic());
        assert!(message.ends_with("it did not answer"), "{message}");
    }

    #[test]
    fn a_plain_thread_can_wait_too() {
        let mut asked = 0;
        until_blocking(seconds(5), || {
            asked += 1;
            asked == 3
        });
    }
}
