//! `weir split EXPERIMENT` where somebody sits: the split is moved with keys under what is shown.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::editor::{Editor, Pen, Then};
use super::{report, revision};
use crate::cli::admin_client::{AdminClient, Answer, Call, escaped};
use crate::cli::console::Console;
use crate::cli::fault::Fault;
use crate::cli::reading;
use crate::cli::terminal::{Input, Inputs, Taken, size};

/// How often it is looked whether somebody else changed it, and how much traffic there is.
const LOOK: Duration = Duration::from_secs(2);

/// A call under way.
type Asking<'a> = Pin<Box<dyn Future<Output = Result<Answer, Fault>> + 'a>>;

/// What is left when the editor is.
enum Ending {
    Left,
    Done(Answer),
}

/// Whether `experiment` can be moved by whoever asks; else why not, for people, or nothing to say.
fn may_edit(client: &AdminClient, experiment: &Value, console: &mut Console) -> Result<(), String> {
    if reading::text(experiment, "state") == Some("ended") {
        return Err(String::new());
    }
    if reading::text(experiment, "owner") == Some("file") {
        return Err("its weights are changed in the file, which owns it".to_owned());
    }
    // An older gateway does not say what a key may do: then the change itself is refused.
    let Ok(session) = client.ask(Call::get("/session"), "see what this key may do", console) else {
        return Ok(());
    };
    let may = reading::texts(&session.json, "permissions");
    if !may.is_empty() && !may.contains(&policies::Permission::ChangeWeights.as_str()) {
        let role = reading::text(&session.json, "role").unwrap_or("this role");
        return Err(format!("this key may look, not change it (role {role})"));
    }
    Ok(())
}

/// Lets the split that was just shown be moved, until it is changed or left as it is.
pub(super) fn edit(
    client: &AdminClient,
    name: &str,
    shown: &Answer,
    console: &mut Console,
) -> Result<(), Fault> {
    let Some(mut editor) = Editor::new(&shown.json, revision(shown, name)?) else { return Ok(()) };
    if let Err(why) = may_edit(client, &shown.json, console) {
        if !why.is_empty() {
            console.print(&why);
        }
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::failed(format!("cannot start: {error}"), ""))?;
    // A blank between what is shown and what can be done about it.
    console.print("");
    let ending = runtime.block_on(hold(client, name, &mut editor, console));
    console.erase();
    match ending.map_err(|error| {
        Fault::failed(
            format!("cannot use this terminal: {error}"),
            "`weir split --show` needs none, and `weir split EXPERIMENT NAME=NUMBER` changes weights",
        )
    })? {
        Ending::Done(answer) => report(&answer, false, console),
        Ending::Left => {
            if editor.is_changed() {
                console.print("nothing was changed");
            }
            Ok(())
        }
    }
}

async fn hold(
    client: &AdminClient,
    name: &str,
    editor: &mut Editor,
    console: &mut Console,
) -> io::Result<Ending> {
    let _taken = Taken::over(false)?;
    let mut inputs = Inputs::new()?;
    let path = format!("/experiments/{}", escaped(name));
    let mut asking: Option<Asking<'_>> = None;
    let mut sent = Instant::now();
    let mut look = tokio::time::interval(LOOK);
    // The first is now, and what is shown was asked for just now.
    look.tick().await;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        let (width, height) = size();
        let waited = if editor.is_sending() { sent.elapsed().as_secs() } else { 0 };
        let pen = Pen {
            paint: console.out_paint(),
            fine: console.is_fine(),
            // The last column stays empty, so that no terminal wraps.
            width: width.saturating_sub(1),
            height,
            now: Timestamp::now(),
            waited,
        };
        console.draw(&editor.lines(pen));
        let is_idle = asking.is_none() && !editor.is_sending();
        let answered = async {
            match &mut asking {
                Some(asking) => asking.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            input = inputs.next() => {
                let then = match input {
                    Input::End => Then::Leave,
                    Input::Resized => Then::Stay,
                    Input::Paste(text) => { editor.paste(&text); Then::Stay }
                    Input::Key(key) => editor.key(key),
                };
                match then {
                    Then::Stay => {}
                    Then::Leave => return Ok(Ending::Left),
                    Then::Send => {
                        sent = Instant::now();
                        let (path, body, seen) = change(name, editor);
                        asking = Some(Box::pin(async move {
                            let put = Call::write(Method::PUT, &path, Some(body)).if_match(seen);
                            client.send(put).await
                        }));
                    }
                }
            }
            answer = answered => {
                asking = None;
                if !editor.is_sending() {
                    // What is shown stays true when it cannot be read again.
                    if let Ok(answer) = answer
                        && answer.status.is_success()
                        && let Some(revision) = answer.revision
                    {
                        editor.look(&answer.json, revision);
                    }
                    continue;
                }
                match answer {
                    Ok(answer) if answer.status.is_success() => return Ok(Ending::Done(answer)),
                    Ok(answer) if answer.status == StatusCode::PRECONDITION_FAILED => {
                        overtaken(client, &path, &answer, editor).await;
                    }
                    Ok(answer) => {
                        let change = format!("change the split of \"{name}\"");
                        let fault = client.refused(&answer, &change);
                        editor.refused(said(&fault));
                    }
                    Err(fault) => editor.refused(said(&fault)),
                }
            }
            _ = look.tick(), if is_idle => {
                asking = Some(Box::pin(client.send(Call::get(&path))));
            }
            _ = second.tick() => {}
        }
    }
}

fn said(fault: &Fault) -> String {
    let all = format!("{}\n{}", fault.what, fault.mend);
    all.trim_end().to_owned()
}

/// Where the change goes, what it says, and the revision that it starts from.
fn change(name: &str, editor: &Editor) -> (String, Value, u64) {
    let weights: serde_json::Map<String, Value> =
        editor.draft.weights().into_iter().map(|(name, weight)| (name, json!(weight))).collect();
    let mut body = json!({ "weights": weights });
    let reason = editor.reason.trim();
    if !reason.is_empty() {
        body["reason"] = json!(reason);
    }
    (format!("/experiments/{}/weights", escaped(name)), body, editor.revision)
}

/// Somebody was faster: what they made of it is read and shown beside the draft.
async fn overtaken(client: &AdminClient, path: &str, answer: &Answer, editor: &mut Editor) {
    match client.send(Call::get(path)).await {
        Ok(now) if now.status.is_success() => {
            let revision = now.revision.or_else(|| reading::whole(&now.json, "revision"));
            editor.look(&now.json, revision.unwrap_or(0));
        }
        Ok(_) | Err(_) => editor.refused(said(&client.refused(answer, "change the split"))),
    }
}
