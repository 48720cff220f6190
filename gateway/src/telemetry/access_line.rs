//! One request, one line: the access log.
//!
//! A flat JSON object whose members come in a fixed order and are absent when unknown. Everything is
//! written straight into the recorder's buffer, because one thread writes the lines of all workers.
//! What a client wrote is cut and escaped (hardening T28); no header, query or body is ever here
//! (T16).

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::logs;
use crate::ids::RequestId;
use crate::recorder::row::{Micros, Row};

/// Most bytes of one text of a client.
const MOST_TEXT: usize = 512;
/// Most bytes of a user agent.
const MOST_USER_AGENT: usize = 256;

/// Appends the line of `row`, with its line end. `durable`: whether the row is on its way to stable
/// storage.
pub fn write(row: &Row, durable: bool, out: &mut Vec<u8>) {
    let mut line = Line { out };
    identity(row, &mut line);
    client(row, &mut line);
    request(row, &mut line);
    caller(row, &mut line);
    decision(row, &mut line);
    backend(row, &mut line);
    result(row, &mut line);
    model(row, &mut line);
    times(row, &mut line);
    record(row, durable, &mut line);
    out.extend_from_slice(b"}\n");
}

fn identity(row: &Row, line: &mut Line<'_>) {
    line.out.extend_from_slice(b"{\"timestamp\":\"");
    timestamp(line.out, row.started_unix_nanos);
    line.out.extend_from_slice(b"\",\"severity\":\"");
    line.out.extend_from_slice(severity(row).as_bytes());
    line.out.extend_from_slice(b"\",\"event\":\"weir.access\"");
    line.plain(",\"request_id\":", RequestId(row.request_id).text().as_str());
    line.text(",\"client_request_id\":", &row.client_request_id, MOST_TEXT);
    if row.trace_id != [0; 16] {
        line.hex(",\"trace_id\":", &row.trace_id);
        line.hex(",\"span_id\":", &row.span_id);
        line.flag(",\"trace_sampled\":", row.sampled);
    }
}

fn client(row: &Row, line: &mut Line<'_>) {
    line.address(",\"client.address\":", row.client);
    line.address(",\"network.peer.address\":", row.peer.ip());
    line.plain(",\"network.protocol.version\":", row.protocol.as_str());
    line.plain(",\"tls.protocol.version\":", row.tls_version);
    line.plain(",\"tls.cipher\":", row.tls_cipher);
    line.text(",\"user_agent.original\":", &row.user_agent, MOST_USER_AGENT);
}

fn request(row: &Row, line: &mut Line<'_>) {
    line.text(",\"http.request.method\":", &row.method, MOST_TEXT);
    line.text(",\"url.path\":", &row.path, MOST_TEXT);
    line.text(",\"server.address\":", &row.host, MOST_TEXT);
    line.text(",\"http.route\":", row.pattern.unwrap_or_default(), MOST_TEXT);
    line.number(",\"http.request.body.size\":", row.request_bytes);
}

fn caller(row: &Row, line: &mut Line<'_>) {
    if !row.key_id.is_empty() {
        line.plain(",\"auth.method\":", "api_key");
        line.text(",\"auth.key_id\":", &row.key_id, MOST_TEXT);
    }
}

fn decision(row: &Row, line: &mut Line<'_>) {
    if let Some(experiment) = row.experiment {
        line.text(",\"experiment\":", experiment, MOST_TEXT);
        line.number(",\"experiment.revision\":", row.revision);
    }
    line.text(",\"variant\":", row.variant.unwrap_or_default(), MOST_TEXT);
    line.text(",\"variant.served\":", row.served.unwrap_or_default(), MOST_TEXT);
    line.plain(",\"assignment.reason\":", row.reason);
    if row.unit_hash != 0 {
        // As text: a number of 64 bits does not survive JavaScript.
        line.hex(",\"unit.hash\":", &row.unit_hash.to_be_bytes());
    }
}

fn backend(row: &Row, line: &mut Line<'_>) {
    line.text(",\"backend\":", row.backend.unwrap_or_default(), MOST_TEXT);
    if let Some(endpoint) = row.endpoint {
        line.socket(",\"server.backend.address\":", endpoint);
    }
    if row.attempts > 0 {
        line.number(",\"attempts\":", row.attempts.into());
    }
    if row.upstream_status > 0 {
        line.number(",\"upstream.status\":", row.upstream_status.into());
    }
    line.text(",\"upstream_request_id\":", &row.upstream_request_id, MOST_TEXT);
    if row.attempts > 0 {
        line.flag(",\"connection.reused\":", row.reused);
    }
}

fn result(row: &Row, line: &mut Line<'_>) {
    if row.status > 0 {
        line.number(",\"http.response.status_code\":", row.status.into());
    }
    if let Some(outcome) = row.outcome {
        line.plain(",\"outcome\":", outcome.as_str());
    }
    let flag = row.flag.unwrap_or_default();
    line.plain(",\"flags\":", flag.as_str());
    line.plain(",\"error.type\":", flag.error_type().unwrap_or_default());
    line.number(",\"http.response.body.size\":", row.response_bytes);
    if row.upstream_status > 0 {
        line.flag(",\"stream\":", row.stream);
    }
    if row.stream {
        line.number(",\"stream.chunks\":", row.chunks);
        line.flag(",\"stream.complete\":", row.complete);
    }
}

fn model(row: &Row, line: &mut Line<'_>) {
    line.text(",\"gen_ai.request.model\":", row.request_model.unwrap_or_default(), MOST_TEXT);
    line.text(",\"gen_ai.response.model\":", &row.response_model, MOST_TEXT);
    if let Some(tokens) = row.input_tokens {
        line.number(",\"gen_ai.usage.input_tokens\":", tokens);
    }
    if let Some(tokens) = row.output_tokens {
        line.number(",\"gen_ai.usage.output_tokens\":", tokens);
    }
    if row.input_tokens.is_some() || row.output_tokens.is_some() {
        let source = if row.tokens_estimated { "estimated" } else { "reported" };
        line.plain(",\"usage.source\":", source);
    }
}

fn times(row: &Row, line: &mut Line<'_>) {
    line.micros(",\"t_header\":", row.t_header);
    line.micros(",\"t_auth\":", row.t_auth);
    line.micros(",\"t_connect\":", row.t_connect);
    line.micros(",\"t_send\":", row.t_send);
    line.micros(",\"t_first_byte\":", row.t_first_byte);
    line.micros(",\"t_first_token\":", row.t_first_token);
    line.micros(",\"t_stream\":", row.t_stream);
    line.micros(",\"t_total\":", row.t_total);
    line.micros(",\"t_gateway\":", row.t_gateway);
}

fn record(row: &Row, durable: bool, line: &mut Line<'_>) {
    if row.seq > 0 {
        line.flag(",\"outcome.durable\":", durable);
        line.number(",\"outcome.seq\":", row.seq);
        line.flag(",\"shadow\":", row.shadow);
    }
}

/// `error` for every 5xx, `warn` for a 4xx that is our own answer.
fn severity(row: &Row) -> &'static str {
    match row.status {
        500.. => "error",
        400..500 if row.rejected.is_some() || (row.flag.is_some() && row.status != 499) => "warn",
        _ => "info",
    }
}

/// The line so far. Keys come with comma, quotes and colon: one copy instead of four.
struct Line<'a> {
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    /// A text of ours that needs no escaping. An empty one is unknown.
    fn plain(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.out.extend_from_slice(key.as_bytes());
            self.out.push(b'"');
            self.out.extend_from_slice(text.as_bytes());
            self.out.push(b'"');
        }
    }

    /// A text of others, cut and escaped. An empty one is unknown.
    fn text(&mut self, key: &str, text: &str, most: usize) {
        if text.is_empty() {
            return;
        }
        let text = &text[..text.floor_char_boundary(most)];
        // Nearly every text is plain; asking first is cheaper than going by characters.
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
            self.plain(key, text);
        } else {
            self.out.extend_from_slice(key.as_bytes());
            logs::string(self.out, text);
        }
    }

    fn number(&mut self, key: &str, number: u64) {
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    fn micros(&mut self, key: &str, micros: Micros) {
        if let Some(micros) = micros.get() {
            self.number(key, micros);
        }
    }

    fn flag(&mut self, key: &str, flag: bool) {
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(if flag { b"true" } else { b"false" });
    }

    fn hex<const N: usize>(&mut self, key: &str, bytes: &[u8; N]) {
        self.out.extend_from_slice(key.as_bytes());
        self.out.push(b'"');
        for byte in bytes {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            let pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
            self.out.extend_from_slice(&pair);
        }
        self.out.push(b'"');
    }

    fn address(&mut self, key: &str, address: IpAddr) {
        self.out.extend_from_slice(key.as_bytes());
        self.out.push(b'"');
        ip(self.out, address);
        self.out.push(b'"');
    }

    fn socket(&mut self, key: &str, address: SocketAddr) {
        self.out.extend_from_slice(key.as_bytes());
        self.out.push(b'"');
        match address.ip().to_canonical() {
            v4 @ IpAddr::V4(_) => ip(self.out, v4),
            v6 @ IpAddr::V6(_) => {
                self.out.push(b'[');
                ip(self.out, v6);
                self.out.push(b']');
            }
        }
        self.out.push(b':');
        self.out.extend_from_slice(itoa::Buffer::new().format(address.port()).as_bytes());
        self.out.push(b'"');
    }
}

/// An address; one of IPv4 in the clothes of IPv6 without them.
pub(super) fn ip(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            for (at, octet) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        // Writing to a vector does not fail.
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

/// `2026-11-22T19:20:21.123456789Z`.
fn timestamp(out: &mut Vec<u8>, unix_nanos: u64) {
    let seconds = unix_nanos / 1_000_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], second / 3_600);
    digits(&mut text[14..16], second / 60 % 60);
    digits(&mut text[17..19], second % 60);
    digits(&mut text[20..29], unix_nanos % 1_000_000_000);
    out.extend_from_slice(&text);
}

/// Year, month and day of a number of days since 1970-01-01 in the Gregorian calendar.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`. Years
/// begin in March there, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn digits(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        // A remainder of ten fits.
        *digit = b'0' + (number % 10).to_le_bytes()[0];
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use policies::outcome::{Flag, Outcome, RejectReason};

    use super::*;
    use crate::clock;
    use crate::recorder::row::Protocol;

    fn served() -> Row {
        Row {
            request_id: RequestId::new(1_763_837_221_123_456_789, 7).0,
            seq: 41,
            started_unix_nanos: 1_763_837_221_123_456_789,
            client_request_id: "job-17.retry_2".into(),
            upstream_request_id: "chatcmpl-9".into(),
            trace_id: [0xab; 16],
            span_id: [0xcd; 8],
            sampled: true,
            peer: "[::ffff:10.0.0.7]:51234".parse().unwrap(),
            client: "192.0.2.9".parse().unwrap(),
            protocol: Protocol::Http2,
            tls_version: "1.3",
            tls_cipher: "TLS13_AES_256_GCM_SHA384",
            user_agent: "OpenAI/Python 1.99.0 (linux; x86_64) httpx/0.28".into(),
            method: "POST".into(),
            path: "/v1/chat/completions".into(),
            host: "models.example.com".into(),
            route: Some("chat"),
            pattern: Some("/v1/chat/completions"),
            request_bytes: 2_113,
            key_id: "k_7f3a".into(),
            experiment: Some("int8"),
            revision: 12,
            variant: Some("canary"),
            served: Some("control"),
            reason: "split",
            bucket: Some(77),
            unit_hash: 0x0123_4567_89ab_cdef,
            eligible: true,
            backend: Some("vllm-int8"),
            endpoint: Some("[2001:db8::5]:8000".parse().unwrap()),
            attempts: 2,
            upstream_status: 200,
            reused: true,
            status: 200,
            outcome: Some(Outcome::Ok),
            response_bytes: 18_221,
            stream: true,
            chunks: 312,
            complete: true,
            request_model: Some("llama-3"),
            response_model: "llama-3-int8".into(),
            input_tokens: Some(512),
            output_tokens: Some(309),
            t_header: Micros::of(Duration::from_micros(31)),
            t_auth: Micros::from_micros(2),
            t_connect: Micros::from_micros(0),
            t_first_byte: Micros::from_micros(84_120),
            t_first_token: Micros::from_micros(84_151),
            t_stream: Micros::from_micros(2_100_000),
            t_total: Micros::from_micros(2_184_151),
            t_gateway: Micros::from_micros(61),
            shadow: true,
            ..Row::default()
        }
    }

    fn line(row: &Row) -> String {
        let mut out = Vec::new();
        write(row, true, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_served_request_has_every_member_in_the_promised_order() {
        let expected = concat!(
            r#"{"timestamp":"2025-11-22T18:47:01.123456789Z","severity":"info","#,
            r#""event":"weir.access","request_id":"019aace4-1903-774f-8000-000000000001","#,
            r#""client_request_id":"job-17.retry_2","#,
            r#""trace_id":"abababababababababababababababab","span_id":"cdcdcdcdcdcdcdcd","#,
            r#""trace_sampled":true,"#,
            r#""client.address":"192.0.2.9","network.peer.address":"10.0.0.7","#,
            r#""network.protocol.version":"2","tls.protocol.version":"1.3","#,
            r#""tls.cipher":"TLS13_AES_256_GCM_SHA384","#,
            r#""user_agent.original":"OpenAI/Python 1.99.0 (linux; x86_64) httpx/0.28","#,
            r#""http.request.method":"POST","url.path":"/v1/chat/completions","#,
            r#""server.address":"models.example.com","http.route":"/v1/chat/completions","#,
            r#""http.request.body.size":2113,"#,
            r#""auth.method":"api_key","auth.key_id":"k_7f3a","#,
            r#""experiment":"int8","experiment.revision":12,"variant":"canary","#,
            r#""variant.served":"control","assignment.reason":"split","#,
            r#""unit.hash":"0123456789abcdef","#,
            r#""backend":"vllm-int8","server.backend.address":"[2001:db8::5]:8000","#,
            r#""attempts":2,"upstream.status":200,"upstream_request_id":"chatcmpl-9","#,
            r#""connection.reused":true,"#,
            r#""http.response.status_code":200,"outcome":"ok","flags":"-","#,
            r#""http.response.body.size":18221,"stream":true,"stream.chunks":312,"#,
            r#""stream.complete":true,"#,
            r#""gen_ai.request.model":"llama-3","gen_ai.response.model":"llama-3-int8","#,
            r#""gen_ai.usage.input_tokens":512,"gen_ai.usage.output_tokens":309,"#,
            r#""usage.source":"reported","#,
            r#""t_header":31,"t_auth":2,"t_connect":0,"t_first_byte":84120,"#,
            r#""t_first_token":84151,"t_stream":2100000,"t_total":2184151,"t_gateway":61,"#,
            r#""outcome.durable":true,"outcome.seq":41,"shadow":true}"#,
            "\n"
        );
        assert_eq!(line(&served()), expected);
    }

    #[test]
    fn a_refused_request_leaves_out_what_was_never_known() {
        let row = Row {
            started_unix_nanos: 951_782_400_000_000_000,
            method: "GET".into(),
            path: "/nowhere".into(),
            status: 404,
            rejected: Some(RejectReason::NoRoute),
            flag: Some(Flag::NoRoute),
            t_total: Micros::from_micros(12),
            ..Row::default()
        };
        let expected = concat!(
            r#"{"timestamp":"2000-02-29T00:00:00.000000000Z","severity":"warn","#,
            r#""event":"weir.access","request_id":"00000000-0000-0000-0000-000000000000","#,
            r#""client.address":"0.0.0.0","network.peer.address":"0.0.0.0","#,
            r#""network.protocol.version":"1.1","http.request.method":"GET","#,
            r#""url.path":"/nowhere","http.request.body.size":0,"#,
            r#""http.response.status_code":404,"flags":"NR","error.type":"no_route","#,
            r#""http.response.body.size":0,"t_total":12}"#,
            "\n"
        );
        assert_eq!(line(&row), expected);
    }

    #[test]
    fn severity_follows_the_status_and_who_gave_it() {
        let row = |status, flag, rejected| Row { status, flag, rejected, ..Row::default() };
        for (row, expected) in [
            (row(200, None, None), "info"),
            (row(404, None, None), "info"),
            (row(429, Some(Flag::RateLimited), Some(RejectReason::RateLimited)), "warn"),
            (row(499, Some(Flag::ClientAborted), None), "info"),
            (row(500, None, None), "error"),
            (row(503, Some(Flag::Overloaded), Some(RejectReason::Overloaded)), "error"),
            (row(0, None, None), "info"),
        ] {
            assert_eq!(severity(&row), expected, "{}", row.status);
        }
    }

    /// Every text that comes from a client or a backend, full of what hurts a log.
    #[test]
    fn t28_client_text_is_cut_and_stays_one_line_of_json() {
        let nasty = format!("\u{1b}[31m\"\\\r\n\u{0}\u{2028}\u{2029}\u{85}é{}", "ü".repeat(600));
        let row = Row {
            client_request_id: nasty.as_str().into(),
            upstream_request_id: nasty.as_str().into(),
            user_agent: nasty.as_str().into(),
            method: nasty.as_str().into(),
            path: nasty.as_str().into(),
            host: nasty.as_str().into(),
            key_id: nasty.as_str().into(),
            response_model: nasty.as_str().into(),
            ..served()
        };
        let line = line(&row);
        let body = line.strip_suffix('\n').unwrap();
        let hurts = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        assert!(!body.chars().any(hurts), "{body}");
        let value: serde_json::Value = serde_json::from_str(body).unwrap();
        for (member, most) in [
            ("client_request_id", 512),
            ("upstream_request_id", 512),
            ("user_agent.original", 256),
            ("http.request.method", 512),
            ("url.path", 512),
            ("server.address", 512),
            ("auth.key_id", 512),
            ("gen_ai.response.model", 512),
        ] {
            let text = value[member].as_str().unwrap();
            assert!(nasty.starts_with(text) && text.len() <= most && text.len() > most - 2);
        }
    }

    #[test]
    fn timestamps_agree_with_the_clock_over_all_years() {
        // An odd step, so that every month and many times of day are met, up to the year 2554.
        let mut nanos: u64 = 0;
        while let Some(next) = nanos.checked_add(8_765_432_123_456_789) {
            let mut out = Vec::new();
            timestamp(&mut out, nanos);
            assert_eq!(String::from_utf8(out).unwrap(), clock::rfc3339(nanos));
            nanos = next;
        }
    }

    /// The recorder writes the lines of all workers: run in release with `--ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn measure_a_line() {
        let row = served();
        let mut out = Vec::with_capacity(1 << 20);
        let lines = 2_000_000_u32;
        let began = clock::now();
        for _ in 0..lines {
            if out.len() > 1 << 19 {
                out.clear();
            }
            write(std::hint::black_box(&row), true, &mut out);
        }
        let took = began.elapsed() / lines;
        println!("{took:?} a line of {} bytes", line(&row).len());
    }
}
