//! `weir key`: make, list and revoke API keys.

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::admin_client::{AdminClient, Call, escaped};
use super::console::{Console, Tone};
use super::fault::Fault;
use super::table::{Cell, Lean, Table};
use super::{KeyCreateArgs, reading, words};

/// Makes a key.
///
/// The secret alone goes to stdout, so that `KEY=$(weir key create …)` works; what there is to say
/// about it goes to stderr.
pub(crate) fn create(args: KeyCreateArgs, console: &mut Console) -> Result<(), Fault> {
    let KeyCreateArgs { name, role, routes, expires, gateway, output } = args;
    let mut body = json!({ "name": name, "role": role.as_str() });
    if !routes.is_empty() {
        body["routes"] = json!(routes);
    }
    if let Some(expires) = expires {
        let end = Timestamp::now().checked_add(expires).map_err(|_| {
            Fault::usage("--expires is too far away", "leave it out for a key without an end")
        })?;
        body["expires_at"] = json!(format!("{end:.0}"));
    }
    let aim = format!("make key \"{name}\"");
    let answer =
        gateway.client()?.ask(Call::write(Method::POST, "/keys", Some(body)), &aim, console)?;
    if output.json {
        console.json(&answer.body);
        return Ok(());
    }
    let id = reading::text(&answer.json, "id").unwrap_or("?");
    let Some(secret) = reading::text(&answer.json, "secret") else {
        return Err(Fault::failed(
            format!("key {id} was made, but the gateway did not answer with its secret"),
            format!("`weir key revoke {id}` removes it"),
        ));
    };
    console.note(&format!("made {}", described(&answer.json, Timestamp::now())));
    console.print(&words::clean(secret));
    console.note(&format!(
        "this is the only time it is shown; `weir key revoke {}` makes it useless",
        words::clean(id)
    ));
    Ok(())
}

/// `key 4fT9aZq1 "mobile": client, routes chat, until 2027-02-20 19:20:21 UTC (in 90 d)`.
fn described(key: &Value, now: Timestamp) -> String {
    let expires = match reading::time(key, "expires_at") {
        Some(end) => format!("until {} ({})", words::utc(end), words::relative(now, end)),
        None => "until it is revoked".to_owned(),
    };
    let text = format!(
        "key {} \"{}\": {}, {}, {expires}",
        reading::text(key, "id").unwrap_or("?"),
        reading::text(key, "name").unwrap_or("?"),
        reading::text(key, "role").unwrap_or("?"),
        routes(key),
    );
    words::clean(&text).into_owned()
}

fn routes(key: &Value) -> String {
    match reading::texts(key, "routes").as_slice() {
        [] => "all routes".to_owned(),
        [one] => format!("route {one}"),
        more => format!("routes {}", more.join(", ")),
    }
}

/// Lists the keys.
pub(crate) fn list(client: &AdminClient, json: bool, console: &mut Console) -> Result<(), Fault> {
    let answer = client.ask(Call::get("/keys"), "list keys", console)?;
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    let mut keys: Vec<Value> = reading::list(&answer.json, "items").to_vec();
    let mut next = reading::text(&answer.json, "next").map(str::to_owned);
    while let Some(cursor) = next {
        let path = format!("/keys?cursor={}", escaped(&cursor));
        let page = client.ask(Call::get(&path), "list keys", console)?;
        keys.extend_from_slice(reading::list(&page.json, "items"));
        // A cursor that leads back to itself would never end.
        next = reading::text(&page.json, "next").filter(|next| *next != cursor).map(str::to_owned);
    }
    let lines = screen(&keys, Timestamp::now(), console);
    console.print(&lines.join("\n"));
    Ok(())
}

fn screen(keys: &[Value], now: Timestamp, console: &Console) -> Vec<String> {
    let mut table = Table::new(&[
        ("id", Lean::Left),
        ("name", Lean::Left),
        ("role", Lean::Left),
        ("state", Lean::Left),
        ("made", Lean::Left),
        ("expires", Lean::Left),
        ("routes", Lean::Left),
    ])
    .sparing(&[4, 6]);
    for key in keys {
        let expires = reading::time(key, "expires_at");
        let revoked = key.get("revoked").and_then(Value::as_bool) == Some(true)
            || key.get("revoked_at").is_some_and(|at| !at.is_null());
        let state = match expires {
            _ if revoked => Cell::toned("revoked", Tone::Dim),
            Some(end) if end <= now => Cell::toned("expired", Tone::Dim),
            Some(_) | None => Cell::toned("works", Tone::Good),
        };
        let made = reading::time(key, "created_at");
        let routes = reading::texts(key, "routes").join(", ");
        table.row([
            Cell::from(reading::text(key, "id").unwrap_or("?")),
            Cell::from(reading::text(key, "name").unwrap_or("–")),
            Cell::from(reading::text(key, "role").unwrap_or("–")),
            state,
            Cell::from(made.map_or_else(|| "–".to_owned(), |at| words::relative(now, at))),
            Cell::from(expires.map_or_else(|| "never".to_owned(), |at| words::relative(now, at))),
            Cell::from(if routes.is_empty() { "all".to_owned() } else { routes }),
        ]);
    }
    table.lines(0, console.width(), console.out_paint())
}

/// Makes a key useless.
pub(crate) fn revoke(
    client: &AdminClient,
    id: &str,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    // Whoever pastes the key itself means its id.
    let id = policies::api_key::parse_id(id).unwrap_or(id);
    let path = format!("/keys/{}", escaped(id));
    let answer = client.ask_anyway(Call::write(Method::DELETE, &path, None), console)?;
    if answer.status == StatusCode::NOT_FOUND {
        return Err(Fault::failed(
            format!("there is no key with the id \"{id}\""),
            "`weir key list` shows the ids",
        ));
    }
    if !answer.status.is_success() {
        return Err(client.refused(&answer, &format!("revoke key {id}")));
    }
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    console.print(&format!("key {id} is revoked"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_like_this() {
        let console = Console::into(Box::new(std::io::sink()), Box::new(std::io::sink()));
        let now: Timestamp = "2026-11-22T19:20:21Z".parse().unwrap();
        let keys = [
            json!({ "id": "4fT9aZq1", "name": "mobile", "role": "client", "routes": ["chat"],
                    "created_at": "2026-11-22T19:17:00Z", "expires_at": "2027-02-20T19:20:21Z" }),
            json!({ "id": "aaaaaaaa", "name": "first", "role": "admin", "routes": null,
                    "created_at": 1_795_000_000, "expires_at": null, "revoked_at": 1_795_300_000 }),
        ];
        assert_eq!(
            screen(&keys, now, &console).join("\n"),
            "\
id        name    role    state    made       expires  routes
4fT9aZq1  mobile  client  works    3 min ago  in 90 d  chat
aaaaaaaa  first   admin   revoked  4 d ago    never    all"
        );
        assert_eq!(
            described(&keys[0], now),
            "key 4fT9aZq1 \"mobile\": client, route chat, until 2027-02-20 19:20:21 UTC (in 90 d)"
        );
    }
}
