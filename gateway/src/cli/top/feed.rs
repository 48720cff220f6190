//! The one connection that everything is seen through: opened, read, and opened again from where it
//! broke off.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use super::events::{Event, Parser};
use crate::cli::admin_client::{AdminClient, Opened, Stream};
use crate::cli::fault::Fault;
use crate::cli::reading;

/// A frame comes each second. After so long without a byte the connection is given up.
const SILENCE: Duration = Duration::from_secs(10);

/// Waits between attempts; the last one repeats.
const WAITS: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(5),
];

/// What is heard.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard {
    Event(Event),
    /// The connection is gone, or there is none: why, and when the next attempt is made.
    Lost {
        why: String,
        again: Duration,
    },
    /// It is made now.
    Trying,
}

/// Opens the stream at `path`.
pub(super) async fn open(client: &AdminClient, path: &str) -> Result<Stream, Fault> {
    match client.open(path, None).await? {
        Opened::Stream(stream) => Ok(stream),
        Opened::Refused(answer) => Err(client.refused(&answer, "watch the gateway")),
    }
}

/// Tells what comes, for as long as somebody listens.
pub(super) async fn follow(
    client: &AdminClient,
    path: &str,
    stream: Stream,
    to: mpsc::Sender<Heard>,
) {
    let mut stream = Some(stream);
    let mut last: Option<String> = None;
    let mut attempts = 0;
    loop {
        let why = match stream.take() {
            Some(stream) => match listen(stream, &mut last, &mut attempts, &to).await {
                Some(why) => why,
                None => return,
            },
            None => match client.open(path, last.as_deref()).await {
                Ok(Opened::Stream(opened)) => {
                    stream = Some(opened);
                    continue;
                }
                Ok(Opened::Refused(answer)) => client.refused(&answer, "watch the gateway").what,
                Err(fault) => fault.what,
            },
        };
        let again = WAITS[attempts.min(WAITS.len() - 1)];
        attempts += 1;
        if to.send(Heard::Lost { why, again }).await.is_err() {
            return;
        }
        tokio::time::sleep(again).await;
        if to.send(Heard::Trying).await.is_err() {
            return;
        }
    }
}

/// Reads `stream` to its end: why it ended, or nothing if nobody listens any more.
async fn listen(
    mut stream: Stream,
    last: &mut Option<String>,
    attempts: &mut usize,
    to: &mpsc::Sender<Heard>,
) -> Option<String> {
    let mut parser = Parser::default();
    let mut why = "the connection was closed".to_owned();
    loop {
        let piece = match tokio::time::timeout(SILENCE, stream.next()).await {
            Ok(Some(piece)) => piece,
            Ok(None) => return Some(why),
            Err(_) => return Some(format!("nothing came for {} s", SILENCE.as_secs())),
        };
        let Ok(events) = parser.push(&piece) else {
            return Some("what came is no event stream".to_owned());
        };
        for event in events {
            if event.id.is_some() {
                last.clone_from(&event.id);
                *attempts = 0;
            }
            if event.name == "end" {
                why = ending(&event.json().unwrap_or_default());
            }
            if to.send(Heard::Event(event)).await.is_err() {
                return None;
            }
        }
    }
}

fn ending(event: &Value) -> String {
    match reading::text(event, "reason") {
        Some("shutdown") => "the gateway is ending".to_owned(),
        Some("credential") => "this key was revoked or has expired".to_owned(),
        Some(other) => format!("the gateway ended the stream: {other}"),
        None => "the gateway ended the stream".to_owned(),
    }
}
