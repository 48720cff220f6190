//! `weir webhook`: how webhooks stand, and a test.

use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use super::admin_client::{AdminClient, Call, escaped};
use super::console::{Console, Paint, Tone};
use super::fault::Fault;
use super::table::{Cell, Lean, Table};
use super::{reading, words};

/// Lists them.
pub(crate) fn list(client: &AdminClient, json: bool, console: &mut Console) -> Result<(), Fault> {
    let answer = client.ask(Call::get("/webhooks"), "list webhooks", console)?;
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    let webhooks = reading::list(&answer.json, "items");
    if webhooks.is_empty() {
        console.print("no webhooks; [[webhooks]] in the configuration file makes one");
        return Ok(());
    }
    let text = screen(webhooks, Timestamp::now(), console.width(), console.out_paint());
    console.print(&text);
    Ok(())
}

fn screen(webhooks: &[Value], now: Timestamp, width: usize, paint: Paint) -> String {
    let lines = table(webhooks, now).lines(0, width, paint);
    lines.join("\n")
}

/// One row each; what they met last, at the end.
pub(crate) fn table(webhooks: &[Value], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        ("webhook", Lean::Left),
        ("to", Lean::Left),
        ("state", Lean::Left),
        ("waiting", Lean::Right),
        ("delivered", Lean::Right),
        ("given up", Lean::Right),
        ("last", Lean::Left),
    ]);
    for webhook in webhooks {
        let text = |key: &str| Cell::from(reading::text(webhook, key).unwrap_or("–"));
        let count = |key: &str| {
            let count = reading::whole(webhook, key);
            count.map_or_else(|| "–".to_owned(), words::count)
        };
        let state = reading::text(webhook, "state").unwrap_or("–");
        let tone = match state {
            "ok" => Tone::Good,
            "failing" => Tone::Bad,
            _ => Tone::Plain,
        };
        let last = match (failure(webhook), reading::time(webhook, "last_delivered_at")) {
            (Some(why), _) => why,
            (None, Some(at)) => words::relative(now, at),
            (None, None) => String::new(),
        };
        table.row([
            text("name"),
            text("destination"),
            Cell::toned(state, tone),
            Cell::from(count("pending")),
            Cell::from(count("delivered")),
            Cell::from(count("dead")),
            Cell::from(last),
        ]);
    }
    table
}

/// What one that fails met last.
pub(crate) fn failure(webhook: &Value) -> Option<String> {
    reading::text(webhook, "failing_since")?;
    let error = webhook.get("last_error")?;
    Some(reading::text(error, "message").unwrap_or("no reason given").to_owned())
}

/// Sends a test.
pub(crate) fn test(
    client: &AdminClient,
    name: &str,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let path = format!("/webhooks/{}/test", escaped(name));
    let aim = format!("test webhook \"{name}\"");
    let answer = client.ask(Call::write(Method::POST, &path, None), &aim, console)?;
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    let took = reading::number(&answer.json, "took")
        .map_or_else(String::new, |took| format!(" in {}", words::latency(took)));
    let status = reading::whole(&answer.json, "status").unwrap_or(0);
    let id = reading::text(&answer.json, "id").unwrap_or("?");
    let text = format!("{name} took the test{took}: answered {status}, message {id}");
    console.print(&words::clean(&text));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_says_what_the_failing_ones_met() {
        let now = "2026-11-22T19:20:21Z".parse().unwrap();
        let webhooks = [
            json!({
                "name": "chat-ops", "destination": "https://hooks.example.com", "state": "ok",
                "pending": 0, "delivered": 1204, "dead": 0,
                "last_delivered_at": "2026-11-22T19:15:21Z", "failing_since": null,
                "last_error": { "at": "2026-11-20T00:00:00Z", "message": "old" },
            }),
            json!({
                "name": "pager", "destination": "http://10.0.0.9:8080", "state": "failing",
                "pending": 12, "delivered": 0, "dead": 1, "last_delivered_at": null,
                "failing_since": "2026-11-22T19:15:21Z",
                "last_error": { "at": "2026-11-22T19:20:00Z", "message": "10.0.0.9:8080 refuses connections" },
            }),
        ];
        assert_eq!(
            screen(&webhooks, now, 200, Paint { on: false }),
            "\
webhook   to                         state    waiting  delivered  given up  last
chat-ops  https://hooks.example.com  ok             0      1,204         0  5 min ago
pager     http://10.0.0.9:8080       failing       12          0         1  10.0.0.9:8080 refuses connections"
        );
    }
}
