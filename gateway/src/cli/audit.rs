//! `weir audit`: who did what, and whether the log of it is whole.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::Value;

use super::admin_client::{AdminClient, Call, escaped};
use super::console::{Console, Tone};
use super::fault::Fault;
use super::table::{Cell, Lean, Table};
use super::{Connection, Output, reading, words};

/// Entries of one call.
const PAGE: usize = 1_000;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: Option<AuditCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Walk the whole log: exit code 1 if an entry was changed, put in, or taken out
    #[command(
        after_help = "That the end was cut off shows by revisions and keys that no entry tells \
                            of, and by --head, if you keep what an earlier run printed."
    )]
    Verify {
        /// The newest entry of an earlier run: it must still be there
        #[arg(long, value_name = "ID:HASH")]
        head: Option<String>,
        #[command(flatten)]
        gateway: Connection,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only of this key's name, or file, ramp, start
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only this action, or those that begin with it, such as experiment.
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only about this, such as experiment/int8
    #[arg(long, value_name = "WHAT")]
    target: Option<String>,
    /// Only from here on: a duration such as 2h, or a time
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    gateway: Connection,
    #[command(flatten)]
    output: Output,
}

/// Does what is asked.
pub(crate) fn obey(args: AuditArgs, console: &mut Console) -> Result<(), Fault> {
    match args.command {
        None => list(args.list, console),
        Some(AuditCommand::Verify { head, gateway, output }) => {
            verify(&gateway.client()?, head.as_deref(), output.json, console)
        }
    }
}

fn list(args: ListArgs, console: &mut Console) -> Result<(), Fault> {
    let ListArgs { actor, action, target, since, limit, gateway, output } = args;
    let client = gateway.client()?;
    let filters: String =
        [("actor", actor), ("action", action), ("target", target), ("since", since)]
            .into_iter()
            .filter_map(|(name, value)| Some(format!("&{name}={}", escaped(&value?))))
            .collect();
    let mut entries: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    while entries.len() < limit {
        let rest = (limit - entries.len()).min(PAGE);
        let path = format!("/audit?limit={rest}{filters}{cursor}");
        let page = client.ask(Call::get(&path), "read the audit log", console)?;
        entries.extend_from_slice(reading::list(&page.json, "items"));
        let Some(next) = reading::text(&page.json, "next") else { break };
        cursor = format!("&cursor={}", escaped(next));
    }
    if output.json {
        let all = serde_json::json!({ "items": entries });
        console.json(all.to_string().as_bytes());
        return Ok(());
    }
    let lines = screen(&entries, Timestamp::now(), console);
    console.print(&lines.join("\n"));
    Ok(())
}

fn screen(entries: &[Value], now: Timestamp, console: &Console) -> Vec<String> {
    let mut table = Table::new(&[
        ("id", Lean::Right),
        ("when", Lean::Left),
        ("", Lean::Left),
        ("who", Lean::Left),
        ("from", Lean::Left),
        ("did", Lean::Left),
        ("to", Lean::Left),
        ("what changed", Lean::Left),
        ("reason", Lean::Left),
    ])
    .sparing(&[2, 4, 0, 6]);
    for entry in entries {
        let at = reading::time(entry, "at");
        table.row([
            Cell::from(reading::whole(entry, "id").map_or_else(String::new, |id| id.to_string())),
            Cell::from(at.map_or_else(|| "–".to_owned(), |at| words::relative(now, at))),
            Cell::toned(at.map(words::utc).unwrap_or_default(), Tone::Dim),
            Cell::from(reading::text(entry, "actor").unwrap_or("–")),
            Cell::from(reading::text(entry, "from").unwrap_or("–")),
            Cell::from(reading::text(entry, "action").unwrap_or("–")),
            Cell::from(reading::text(entry, "target").unwrap_or("–")),
            Cell::from(change(entry)),
            Cell::from(reading::text(entry, "reason").unwrap_or("")),
        ]);
    }
    table.lines(0, console.width(), console.out_paint())
}

/// What is other after than before, in few words.
fn change(entry: &Value) -> String {
    let side = |name: &str| entry.get(name).unwrap_or(&Value::Null);
    let (before, after) = (side("before"), side("after"));
    let Some(members) = after.as_object() else { return String::new() };
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "–".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            words::cut(&value.to_string(), 40).into_owned()
        }
    };
    let parts: Vec<String> = members
        .iter()
        .filter(|(name, value)| before.get(name.as_str()) != Some(*value) && !value.is_null())
        .map(|(name, value)| match before.get(name.as_str()) {
            Some(was) => format!("{name} {} → {}", shown(was), shown(value)),
            None => format!("{name} {}", shown(value)),
        })
        .collect();
    words::cut(&parts.join(", "), 90).into_owned()
}

fn verify(
    client: &AdminClient,
    head: Option<&str>,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let path = match head {
        Some(head) => format!("/audit/verify?head={}", escaped(head)),
        None => "/audit/verify".to_owned(),
    };
    let answer = client.ask(Call::get(&path), "verify the audit log", console)?;
    let verdict = &answer.json;
    if json {
        console.json(&answer.body);
    }
    let entries = words::count(reading::whole(verdict, "entries").unwrap_or(0));
    if verdict.get("intact").and_then(Value::as_bool) != Some(true) {
        let problems = reading::texts(verdict, "problems").join("\n");
        return Err(Fault::failed(
            format!("the audit log is not what it was; {entries} entries fit\n{problems}"),
            "keep the store as it is, and compare it with a backup",
        ));
    }
    if !json {
        let newest = verdict.get("head").unwrap_or(&Value::Null);
        let id = reading::whole(newest, "id").unwrap_or(0);
        let hash = reading::text(newest, "hash").unwrap_or("–");
        console.print(&format!(
            "the audit log is whole: {entries} entries, each follows from the one before\n\
             newest {id}:{}\nkeep that elsewhere: `weir audit verify --head` then finds a log that was cut off",
            words::clean(hash)
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_log_reads_like_this() {
        let console = Console::into(Box::new(std::io::sink()), Box::new(std::io::sink()));
        let entries = [
            json!({ "id": 9, "at": "2026-11-22T19:20:11Z", "actor": "ada", "from": "10.0.0.7",
                "action": "weights.set", "target": "experiment/int8", "reason": "half",
                "before": { "revision": 1, "state": "running", "weights": { "canary": 10 } },
                "after": { "revision": 2, "state": "running", "weights": { "canary": 50 } } }),
            json!({ "id": 8, "at": "2026-11-22T19:19:21Z", "actor": "bob", "from": "10.0.0.8",
                "action": "audit.read", "target": "audit", "reason": null, "before": null, "after": null }),
        ];
        assert_eq!(
            screen(&entries, "2026-11-22T19:20:21Z".parse().unwrap(), &console).join("\n"),
            "\
id  when                                who  from      did          to               what changed                                           reason
 9  10 s ago   2026-11-22 19:20:11 UTC  ada  10.0.0.7  weights.set  experiment/int8  revision 1 → 2, weights {\"canary\":10} → {\"canary\":50}  half
 8  1 min ago  2026-11-22 19:19:21 UTC  bob  10.0.0.8  audit.read   audit"
        );
    }
}
