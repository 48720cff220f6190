//! What happens while the demo runs: the gateway is asked, the story told, the picture drawn.

use std::time::{Duration, Instant};

use http::Method;
use jiff::Timestamp;
use serde_json::Value;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::MissedTickBehavior;

use super::screen::{Rising, View};
use super::setting::EXPERIMENT;
use super::story::{self, Story, Turn};
use super::{Interrupts, Running};
use crate::cli::admin_client::Call;
use crate::cli::console::{Console, Tone};
use crate::cli::ramp::screen::Look;
use crate::cli::reading;

/// How often the gateway is asked. A change is seen this soon; the picture is drawn once a second.
const LOOK: Duration = Duration::from_millis(250);

/// How often a ramp is asked for: as often as it looks.
const RAMP: Duration = Duration::from_secs(1);

/// How often a line is printed where nobody watches.
const LINE: Duration = Duration::from_secs(10);

/// What was last seen, and what was last shown of it.
struct Watch<'a> {
    running: &'a Running,
    rising: Rising,
    story: Option<Story>,
    ramp: Option<Value>,
    ramp_asked: Option<Instant>,
    begun: Instant,
    shown: Option<(Instant, (u64, String))>,
}

/// Shows what happens, until it is interrupted.
pub(super) async fn watch(running: &Running, interrupts: &mut Interrupts, console: &mut Console) {
    let mut timer = tokio::time::interval(LOOK);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begun = Instant::now();
    let mut watch = Watch {
        running,
        rising: Rising::default(),
        // Without load there is nothing to decide by.
        story: running.load.is_some().then(|| Story::new(begun, super::intro::weir())),
        ramp: None,
        ramp_asked: None,
        begun,
        shown: None,
    };
    loop {
        let looked = async {
            timer.tick().await;
            watch.look(console).await;
        };
        tokio::select! {
            () = interrupts.next() => return,
            () = looked => {}
        }
    }
}

impl Watch<'_> {
    async fn look(&mut self, console: &mut Console) {
        let now = Instant::now();
        // The next look is a moment away; the picture stands until then.
        let Some(status) = self.get("/status").await else { return };
        let is_due = self.ramp_asked.is_none_or(|at| now.duration_since(at) >= RAMP);
        // What moved the shares is told before the shares are shown.
        if (is_due || self.is_news(&status)) && self.ask_ramp().await {
            self.ramp_asked = Some(now);
            self.tell(now, console).await;
        }
        self.show(now, &status, console);
    }

    /// Whether another revision, or another state, is in force than was shown.
    fn is_news(&self, status: &Value) -> bool {
        let now = state_of(status);
        self.shown.as_ref().is_none_or(|(_, shown)| now.as_ref() != Some(shown))
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let answer = self.running.client.send(Call::get(path)).await.ok()?;
        answer.status.is_success().then_some(answer.json)
    }

    /// Where the ramp stands; false if that is not known.
    async fn ask_ramp(&mut self) -> bool {
        let path = format!("/experiments/{EXPERIMENT}/ramp");
        match self.running.client.send(Call::get(&path)).await {
            Ok(answer) if answer.status.is_success() => self.ramp = Some(answer.json),
            Ok(answer) if answer.status == http::StatusCode::NOT_FOUND => self.ramp = None,
            Ok(_) | Err(_) => return false,
        }
        true
    }

    async fn tell(&mut self, now: Instant, console: &mut Console) {
        let Some(story) = &mut self.story else { return };
        let turn = story.look(now, self.ramp.as_ref());
        say(&turn, console);
        let Some(variant) = turn.start else { return };
        let path = format!("/experiments/{EXPERIMENT}/ramp");
        let call = Call::write(Method::POST, &path, Some(story::schedule(variant)));
        let why = match self.running.client.send(call).await {
            Ok(answer) if answer.status.is_success() => return,
            Ok(answer) => {
                let error = answer.json.get("error").cloned().unwrap_or_default();
                reading::text(&error, "message").unwrap_or("it was refused").to_owned()
            }
            Err(fault) => fault.what,
        };
        say(&story.refused(&why), console);
    }

    /// Draws the picture, or prints a line.
    fn show(&mut self, now: Instant, status: &Value, console: &mut Console) {
        let copies = reading::list(status, "shadows").iter().map(|shadow| {
            ["ok", "error"].iter().filter_map(|key| reading::whole(shadow, key)).sum::<u64>()
        });
        let [_, _, next] = &self.running.models;
        let rates = self.rising.note(now, [copies.sum(), next.tokens.load(Relaxed)]);
        let Some(view) = View::read(status, rates, Timestamp::now()) else { return };
        let is_news = self.is_news(status);
        let waited = self.shown.as_ref().map_or(self.begun, |(at, _)| *at);
        // A little less than the whole second, because looks are not exact to the millisecond.
        let due = if console.is_terminal() { Duration::from_millis(900) } else { LINE };
        if now.duration_since(waited) < due && !is_news {
            return;
        }
        if console.is_terminal() {
            console.draw(&view.lines(self.ramp.as_ref(), Look::of(console)));
        } else if self.shown.is_some() || now.duration_since(self.begun) >= LINE {
            console.print(&view.summary(self.ramp.as_ref()));
        } else {
            return;
        }
        self.shown = state_of(status).map(|state| (now, state));
    }
}

/// Revision and state of the experiment.
fn state_of(status: &Value) -> Option<(u64, String)> {
    let experiments = reading::list(status, "experiments").iter();
    let mut experiments =
        experiments.filter(|each| reading::text(each, "name") == Some(EXPERIMENT));
    let experiment = experiments.next()?;
    Some((reading::whole(experiment, "revision")?, reading::text(experiment, "state")?.to_owned()))
}

fn say(turn: &Turn, console: &mut Console) {
    if turn.said.is_empty() {
        return;
    }
    let paint = console.out_paint();
    let lines = turn.said.iter().map(|said| match said.text.strip_prefix('\n') {
        Some(text) => format!("\n{}\n", paint.paint(said.tone, text)),
        None => format!("{}\n", paint.paint(said.tone, &said.text)),
    });
    let mut text: String = lines.collect();
    if turn.ends {
        text.push_str(&format!("{}\n", paint.paint(Tone::Dim, "       Ctrl-C ends everything")));
    }
    console.print_above(&text);
}
