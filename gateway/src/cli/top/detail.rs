//! What frames do not tell of one experiment: who changed it, its verdicts, its ramp's evidence. Asked
//! for now and then, and only while its page is open.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::cli::admin_client::{AdminClient, Call, escaped};

/// How often a ramp is asked for.
const SOON: Duration = Duration::from_secs(2);

/// How often results are: they cost a look at all evidence.
const LATER: Duration = Duration::from_secs(10);

/// What is known of one experiment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Detail {
    pub(super) experiment: String,
    /// As `GET /experiments/{e}` shows it.
    pub(super) described: Option<Value>,
    pub(super) results: Option<Value>,
    /// Seconds since 1970 at which the results were read.
    pub(super) judged: i64,
    /// Nothing if there was never one.
    pub(super) ramp: Option<Value>,
    /// Why something of it is not known.
    pub(super) why: Option<String>,
}

/// Keeps asking for whatever is `wanted`, for ever.
pub(super) async fn follow(
    client: &AdminClient,
    mut wanted: watch::Receiver<Option<String>>,
    to: mpsc::Sender<Detail>,
) {
    let mut detail = Detail::default();
    let mut judged: Option<Instant> = None;
    loop {
        let name = wanted.borrow_and_update().clone();
        let Some(name) = name else {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        };
        if detail.experiment != name {
            detail = Detail { experiment: name.clone(), ..Detail::default() };
            judged = None;
        }
        let path = format!("/experiments/{}", escaped(&name));
        detail.why = None;
        ask(client, &path, &mut detail.why, &mut detail.described).await;
        ask(client, &format!("{path}/ramp"), &mut detail.why, &mut detail.ramp).await;
        if judged.is_none_or(|at| at.elapsed() >= LATER) {
            ask(client, &format!("{path}/results"), &mut detail.why, &mut detail.results).await;
            judged = Some(Instant::now());
            detail.judged = jiff::Timestamp::now().as_second();
        }
        if to.send(detail.clone()).await.is_err() {
            return;
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(SOON) => {}
        }
    }
}

/// What `path` says goes into `place`; what was known stays if it says nothing.
async fn ask(
    client: &AdminClient,
    path: &str,
    why: &mut Option<String>,
    place: &mut Option<Value>,
) {
    match client.send(Call::get(path)).await {
        Ok(answer) if answer.status.is_success() => *place = Some(answer.json),
        Ok(answer) if answer.status == StatusCode::NOT_FOUND => *place = None,
        Ok(answer) => *why = Some(client.refused(&answer, "read it").what),
        Err(fault) => *why = Some(fault.what),
    }
}
