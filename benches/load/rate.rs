//! A fixed rate. A request's latency counts from when it was due, so that a gateway which falls
//! behind is not spared the requests that it held back.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Result, Target, quantile, threads};

/// `rate` requests per second over `connections`, for `seconds`.
pub(crate) fn run(
    target: &Target,
    connections: usize,
    seconds: f64,
    rate: f64,
    bursts: bool,
) -> Result<Value> {
    let every = Duration::from_secs_f64(connections as f64 / rate);
    let body = format!(
        r#"{{"model":"chat","messages":[{{"role":"user","content":"{}"}}]}}"#,
        "x".repeat(440)
    );
    // Time to connect before the first request is due.
    let begin = Instant::now() + Duration::from_millis(500);
    let end = begin + Duration::from_secs_f64(seconds);
    let found = threads(connections, |thread| {
        let mut connection = target.connect()?;
        let offset =
            if bursts { Duration::ZERO } else { every.mul_f64(thread as f64 / connections as f64) };
        let mut due = begin + offset;
        let mut latencies = Vec::new();
        let mut user = thread as u64;
        while due < end {
            let request = target.request(user, body.as_bytes());
            if let Some(wait) = due.checked_duration_since(Instant::now()) {
                thread::sleep(wait);
            }
            connection.ask(&request)?;
            latencies.push(due.elapsed().as_secs_f64() * 1e6);
            due += every;
            user += connections as u64;
        }
        Ok(latencies)
    })?;
    let mut all = found.concat();
    all.sort_by(f64::total_cmp);
    Ok(json!({
        "requests": all.len(),
        "p50_us": quantile(&all, 0.5),
        "p99_us": quantile(&all, 0.99),
        "p999_us": quantile(&all, 0.999),
    }))
}
