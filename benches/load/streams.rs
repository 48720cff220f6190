//! Event streams, each read to its end before the next is asked for on its connection.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Result, Target, quantile, threads};
use crate::handshakes::BODY;

/// `connections` streams at a time for `seconds`.
pub(crate) fn run(target: &Target, connections: usize, seconds: f64) -> Result<Value> {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let found = threads(connections, |thread| {
        let mut connection = target.connect()?;
        let (mut pieces, mut bytes, mut first) = (0u64, 0u64, Vec::new());
        let mut user = thread as u64;
        while Instant::now() < until {
            let request = target.request(user, BODY);
            let sent = Instant::now();
            let answer = connection.ask(&request)?;
            first.push((answer.first - sent).as_secs_f64() * 1e6);
            pieces += answer.reads;
            bytes += answer.body;
            user += connections as u64;
        }
        Ok((pieces, bytes, first))
    })?;
    let pieces: u64 = found.iter().map(|(pieces, ..)| pieces).sum();
    let bytes: u64 = found.iter().map(|(_, bytes, _)| bytes).sum();
    let mut first: Vec<f64> = found.into_iter().flat_map(|(.., first)| first).collect();
    first.sort_by(f64::total_cmp);
    Ok(json!({
        "requests": first.len(),
        "pieces": pieces,
        "bytes": bytes,
        "first_p50_us": quantile(&first, 0.5),
        "first_p99_us": quantile(&first, 0.99),
    }))
}
