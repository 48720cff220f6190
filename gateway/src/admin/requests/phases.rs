//! Where the time of a request went, from what its row keeps: microseconds from the end of its head.

use serde_json::{Map, Value, json};

/// Its attempts, the first first.
pub(super) fn attempts(row: &Map<String, Value>) -> Vec<Value> {
    let member = |name: &str| row.get(name).cloned().unwrap_or(Value::Null);
    let mut all: Vec<Value> = Vec::new();
    for (at, tried) in earlier(row).iter().enumerate() {
        let of = |name: &str| tried.get(name).cloned().unwrap_or(Value::Null);
        all.push(json!({
            "attempt": at + 1,
            "backend": of("backend"),
            "endpoint": of("endpoint"),
            "reused": of("reused"),
            "status": null,
            "error": of("error"),
            "begin": of("began"),
            "end": of("ended"),
            "span_id": of("span_id"),
        }));
    }
    if number(row, "attempts").unwrap_or(0) > 0 {
        all.push(json!({
            "attempt": number(row, "attempts"),
            "backend": member("backend"),
            "endpoint": member("server.backend.address"),
            "reused": member("connection.reused"),
            "status": member("upstream.status"),
            "error": member("error.type"),
            "begin": member("t_attempt"),
            "end": member("t_total"),
            "span_id": member("attempt.span_id"),
        }));
    }
    all
}

/// What it spent its time on, in order and without gaps, and whom it waited for. Where the row does not
/// know a moment, two phases are one.
pub(super) fn phases(row: &Map<String, Value>) -> Vec<Value> {
    let mut told = Phases { all: Vec::new(), at: 0 };
    if let Some(header) = number(row, "t_header").filter(|header| *header > 0) {
        told.all.push(json!({
            "phase": "head", "of": "client", "begin": -header, "end": 0, "attempt": null,
        }));
    }
    let total = number(row, "t_total").unwrap_or(0);
    if let Some(auth) = number(row, "t_auth") {
        told.to(auth, "authenticate", "gateway", None);
    }
    let tried = earlier(row);
    for (at, tried) in tried.iter().enumerate() {
        let moment = |name: &str| tried.get(name).and_then(Value::as_i64);
        let (Some(began), Some(ended)) = (moment("began"), moment("ended")) else { continue };
        told.to(began, if at == 0 { "decide" } else { "retry" }, "gateway", None);
        told.to(ended, "attempt", "backend", Some(at + 1));
    }
    let last = tried.len() + 1;
    if let Some(began) = number(row, "t_attempt") {
        told.to(began, if tried.is_empty() { "decide" } else { "retry" }, "gateway", None);
        if tried.is_empty() {
            // Of several attempts only the sum is known.
            if let Some(connect) = number(row, "t_connect") {
                told.to(began + connect, "connect", "backend", Some(last));
                if let Some(send) = number(row, "t_send") {
                    told.to(began + connect + send, "send", "backend", Some(last));
                }
            }
        }
        match number(row, "t_first_byte") {
            Some(first_byte) => told.to(first_byte, "wait", "backend", Some(last)),
            None => told.to(total, "wait", "backend", Some(last)),
        }
    }
    if let Some(first) = number(row, "t_first_token") {
        told.to(first, "first_piece", "backend", Some(last));
        if let Some(stream) = number(row, "t_stream") {
            told.to(first + stream, "stream", "backend", Some(last));
        }
    }
    told.to(total, "end", "gateway", None);
    told.all
}

struct Phases {
    all: Vec<Value>,
    at: i64,
}

impl Phases {
    /// What lasted until `end`; nothing if that is over already.
    fn to(&mut self, end: i64, phase: &str, of: &str, attempt: Option<usize>) {
        if end <= self.at {
            return;
        }
        self.all.push(json!({
            "phase": phase, "of": of, "begin": self.at, "end": end, "attempt": attempt,
        }));
        self.at = end;
    }
}

fn number(row: &Map<String, Value>, name: &str) -> Option<i64> {
    row.get(name).and_then(Value::as_i64)
}

fn earlier(row: &Map<String, Value>) -> &[Value] {
    row.get("attempts.earlier").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn spans(row: &Map<String, Value>) -> Vec<(String, i64, i64)> {
        let of = |phase: &Value| {
            let moment = |name: &str| phase[name].as_i64().unwrap();
            (phase["phase"].as_str().unwrap().to_owned(), moment("begin"), moment("end"))
        };
        phases(row).iter().map(of).collect()
    }

    fn named(all: &[(&str, i64, i64)]) -> Vec<(String, i64, i64)> {
        all.iter().map(|(name, begin, end)| ((*name).to_owned(), *begin, *end)).collect()
    }

    #[test]
    fn the_phases_of_a_stream_follow_each_other_without_a_gap() {
        let row = row(json!({
            "attempts": 1, "t_header": 40, "t_auth": 10, "t_attempt": 60, "t_connect": 5,
            "t_send": 20, "t_first_byte": 1_000, "t_first_token": 1_100, "t_stream": 5_000,
            "t_total": 6_150,
        }));
        assert_eq!(
            spans(&row),
            named(&[
                ("head", -40, 0),
                ("authenticate", 0, 10),
                ("decide", 10, 60),
                ("connect", 60, 65),
                ("send", 65, 85),
                ("wait", 85, 1_000),
                ("first_piece", 1_000, 1_100),
                ("stream", 1_100, 6_100),
                ("end", 6_100, 6_150),
            ])
        );
    }

    #[test]
    fn a_failed_attempt_is_a_phase_of_its_own() {
        let row = row(json!({
            "attempts": 2, "t_auth": 10, "t_attempt": 300, "t_connect": 250, "t_first_byte": 900,
            "t_total": 900, "backend": "b", "upstream.status": 200, "connection.reused": true,
            "attempts.earlier": [
                {"backend": "a", "endpoint": "127.0.0.1:1", "reused": false,
                 "error": "upstream_connect_failure", "began": 20, "ended": 280, "span_id": "01"},
            ],
        }));
        assert_eq!(
            spans(&row),
            named(&[
                ("authenticate", 0, 10),
                ("decide", 10, 20),
                ("attempt", 20, 280),
                ("retry", 280, 300),
                ("wait", 300, 900),
            ])
        );
        let attempts = attempts(&row);
        assert_eq!((&attempts[0]["backend"], &attempts[1]["backend"]), (&json!("a"), &json!("b")));
        assert_eq!(attempts[0]["error"], "upstream_connect_failure");
        assert_eq!((&attempts[1]["status"], &attempts[1]["attempt"]), (&json!(200), &json!(2)));
    }

    #[test]
    fn who_never_reached_a_backend_has_no_attempt() {
        let row = row(json!({"attempts": 0, "t_total": 70}));
        assert_eq!(spans(&row), named(&[("end", 0, 70)]));
        assert!(attempts(&row).is_empty());
    }
}
