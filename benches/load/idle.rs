//! Connections that asked once and then stay.

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};

use crate::client::{Result, Target};
use crate::handshakes::BODY;

/// Opens `connections`, says `ready`, holds them until standard input ends.
pub(crate) fn run(target: &Target, connections: usize) -> Result<Value> {
    let mut open = Vec::with_capacity(connections);
    for user in 0..connections {
        let mut connection = target.connect()?;
        connection.ask(&target.request(user as u64, BODY))?;
        open.push(connection);
    }
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    out.flush()?;
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest)?;
    Ok(json!({ "connections": open.len() }))
}
