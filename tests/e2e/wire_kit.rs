//! What the tests of the wire share: small configurations, and ways to say what was seen.

use serde_json::Value;
use weir_tests::raw_client::RawResponse;
use weir_tests::{Gateway, RawBackend, RawScript, millis, raw_backend, raw_script, seconds, until};

/// One backend behind every path; `route` are more lines of the route, `more` of the backend.
pub(crate) fn all_to_with(url: &str, backend: &str, route: &str) -> String {
    format!(
        "[backends.one]\nendpoints = [\"{url}\"]\n{backend}\n\
         [routes.all]\npath = \"/*\"\nbackend = \"one\"\n{route}\n"
    )
}

/// One backend behind every path.
pub(crate) fn all_to(url: &str) -> String {
    all_to_with(url, "", "")
}

/// Answers `ok` to every request, and keeps all bytes it was sent.
pub(crate) async fn listening() -> RawBackend {
    raw_backend(answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").again()).start().await
}

/// Reads a request and writes this.
pub(crate) fn answering(bytes: &'static str) -> RawScript {
    raw_script().reads_request().writes(bytes)
}

/// Sends these bytes on a connection of their own, `KEY` being a key that works: the answer, and
/// whether the connection ended after it.
pub(crate) async fn send_raw(gateway: &Gateway, bytes: &[u8]) -> (RawResponse, bool) {
    let mut raw = gateway.raw().await;
    raw.send(with_key(gateway, bytes)).await.unwrap();
    let answer = raw.read_response(seconds(5)).await;
    let answer =
        answer.unwrap_or_else(|missing| panic!("{:?}: {missing}", String::from_utf8_lossy(bytes)));
    let closed = raw.is_closed(millis(1500)).await;
    (answer, closed)
}

/// `KEY` replaced by a key that works.
pub(crate) fn with_key(gateway: &Gateway, bytes: &[u8]) -> Vec<u8> {
    let key = gateway.client_key.as_bytes();
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(3).position(|window| window == b"KEY") {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(key);
        rest = &rest[at + 3..];
    }
    out.extend_from_slice(rest);
    out
}

/// The access lines with this status, once there are so many of them.
pub(crate) async fn lines_of(gateway: &Gateway, status: u16, count: usize) -> Vec<Value> {
    let lines = || -> Vec<Value> {
        let all = gateway.access_lines().into_iter();
        all.filter(|line| line["http.response.status_code"] == status).collect()
    };
    until(seconds(5), || {
        let found = lines().len();
        if found == count { Ok(()) } else { Err(format!("{found} of {count} lines with {status}")) }
    })
    .await;
    lines()
}

/// What is counted as refused for `reason`, over all protocols.
pub(crate) async fn rejected(gateway: &Gateway, reason: &str) -> f64 {
    let start = format!("weir_rejected_total{{reason=\"{reason}\"");
    let text = gateway.metrics().await;
    let values = text.lines().filter(|line| line.starts_with(&start));
    values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// The fields of an echo's answer, lower-case names and values.
pub(crate) fn echoed(answer: &Value) -> Vec<(String, String)> {
    let fields = answer["headers"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    fields.map(|field| (text(&field[0]), text(&field[1]))).collect()
}

/// The values of one echoed field.
pub(crate) fn values_of(fields: &[(String, String)], name: &str) -> Vec<String> {
    fields.iter().filter(|(it, _)| it == name).map(|(_, value)| value.clone()).collect()
}
