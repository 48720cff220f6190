//! Large bodies.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Result, Target, threads};

/// `connections` at a time for `seconds`, each request with a body of `send` bytes.
pub(crate) fn run(target: &Target, connections: usize, seconds: f64, send: usize) -> Result<Value> {
    let mut body = br#"{"model":"chat","input":""#.to_vec();
    body.resize(send.max(32) - 2, b'x');
    body.extend_from_slice(br#""}"#);
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let found = threads(connections, |thread| {
        let mut connection = target.connect()?;
        let request = target.request(thread as u64, &body);
        let (mut requests, mut bytes) = (0u64, 0u64);
        while Instant::now() < until {
            let answer = connection.ask(&request)?;
            requests += 1;
            bytes += answer.body;
        }
        Ok((requests, bytes))
    })?;
    let requests: u64 = found.iter().map(|(requests, _)| requests).sum();
    let bytes: u64 = found.iter().map(|(_, bytes)| bytes).sum();
    Ok(json!({ "requests": requests, "bytes": bytes }))
}
