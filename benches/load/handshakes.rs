//! A new connection for each request: connect, handshake, ask, close.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Result, Target, threads};

/// What a client asks.
pub(crate) const BODY: &[u8] = br#"{"model":"chat","messages":[{"role":"user","content":"hi"}]}"#;

/// `connections` at a time for `seconds`.
pub(crate) fn run(target: &Target, connections: usize, seconds: f64) -> Result<Value> {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let counts = threads(connections, |thread| {
        let (mut made, mut resumed) = (0u64, 0u64);
        while Instant::now() < until {
            let mut connection = target.connect()?;
            connection.ask(&target.request(made * 31 + thread as u64, BODY))?;
            made += 1;
            resumed += u64::from(connection.resumed());
        }
        Ok((made, resumed))
    })?;
    let made: u64 = counts.iter().map(|(made, _)| made).sum();
    let resumed: u64 = counts.iter().map(|(_, resumed)| resumed).sum();
    Ok(json!({ "requests": made, "resumed": resumed }))
}
