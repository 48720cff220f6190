//! `weir history`: every revision of an experiment.

use jiff::Timestamp;
use serde_json::Value;

use super::admin_client::{AdminClient, Call, escaped};
use super::console::{Console, Tone};
use super::fault::Fault;
use super::table::{Cell, Lean, Table};
use super::{reading, split, words};

/// Shows it.
pub(crate) fn history(
    client: &AdminClient,
    name: &str,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let path = format!("/experiments/{}/history?limit=1000", escaped(name));
    let answer = client.ask_anyway(Call::get(&path), console)?;
    if !answer.status.is_success() {
        let aim = format!("read the history of \"{name}\"");
        return Err(split::refused(client, &answer, name, &aim, console));
    }
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    let lines = screen(&answer.json, Timestamp::now(), console);
    console.print(&lines.join("\n"));
    if let Some(next) = reading::text(&answer.json, "next") {
        console.note(&format!("older than revision {}: not shown", words::clean(next)));
    }
    Ok(())
}

/// A line per revision, newest first.
fn screen(history: &Value, now: Timestamp, console: &Console) -> Vec<String> {
    let mut revisions: Vec<&Value> = reading::list(history, "revisions").iter().collect();
    revisions.sort_by_key(|each| std::cmp::Reverse(reading::whole(each, "revision")));
    let mut table = Table::new(&[
        ("revision", Lean::Right),
        ("when", Lean::Left),
        ("", Lean::Left),
        ("by", Lean::Left),
        ("from", Lean::Left),
        ("weights", Lean::Left),
        ("moved", Lean::Right),
        ("reason", Lean::Left),
    ])
    .sparing(&[2, 4, 6, 3]);
    for each in revisions {
        let at = reading::time(each, "at");
        let weights = match reading::text(each, "state") {
            Some("stopped") => "stopped".to_owned(),
            Some(_) | None => reading::weights(each),
        };
        let undoes = reading::whole(each, "undoes").map(|undoes| format!("undoes {undoes}"));
        let reason = reading::text(each, "reason").map(str::to_owned);
        table.row([
            Cell::from(
                reading::whole(each, "revision").map_or_else(|| "?".to_owned(), |r| r.to_string()),
            ),
            Cell::from(at.map_or_else(|| "–".to_owned(), |at| words::relative(now, at))),
            Cell::toned(at.map(words::utc).unwrap_or_default(), Tone::Dim),
            Cell::from(reading::text(each, "by").unwrap_or("–")),
            Cell::from(reading::text(each, "source").unwrap_or("–")),
            Cell::from(weights),
            Cell::from(
                reading::whole(each, "buckets_moved").map_or_else(|| "–".to_owned(), words::count),
            ),
            Cell::from(undoes.into_iter().chain(reason).collect::<Vec<_>>().join(": ")),
        ]);
    }
    table.lines(0, console.width(), console.out_paint())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_history_reads_like_this() {
        let console = Console::into(Box::new(std::io::sink()), Box::new(std::io::sink()));
        let history = json!({ "revisions": [
            { "revision": 1, "weights": { "canary": 10, "stable": 90 }, "source": "file", "by": "file",
              "at": "2026-11-20T08:00:00Z", "reason": null, "buckets_moved": 0, "undoes": null },
            { "revision": 2, "weights": { "canary": 50, "stable": 50 }, "source": "api", "by": "ada",
              "at": "2026-11-22T19:20:00Z", "reason": "half\nhalf", "buckets_moved": 4000, "undoes": null },
            { "revision": 3, "weights": { "canary": 10, "stable": 90 }, "source": "api", "by": "ada",
              "at": "2026-11-22T19:20:11Z", "reason": "slow", "buckets_moved": 4000, "undoes": 2 },
        ] });
        assert_eq!(
            screen(&history, "2026-11-22T19:20:21Z".parse().unwrap(), &console).join("\n"),
            "\
revision  when                               by    from  weights              moved  reason
       3  10 s ago  2026-11-22 19:20:11 UTC  ada   api   canary=10 stable=90  4,000  undoes 2: slow
       2  21 s ago  2026-11-22 19:20:00 UTC  ada   api   canary=50 stable=50  4,000  half\\nhalf
       1  2 d ago   2026-11-20 08:00:00 UTC  file  file  canary=10 stable=90      0"
        );
    }
}
