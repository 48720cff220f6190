//! `weir vectors`: this program's statistics, held against another package's numbers.

use std::path::Path;

use policies::statistics::vectors::{Case, cases};

use super::console::{Console, Tone};
use super::fault::Fault;
use super::words::{clean, count};

/// Evaluates every case of a file: a line for each that fails, then how many passed.
pub(crate) fn vectors(path: &Path, console: &mut Console) -> Result<(), Fault> {
    let file = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fault::failed(format!("cannot read {file}: {error}"), ""))?;
    let cases = cases(&text).map_err(|fault| {
        let why =
            std::error::Error::source(&fault).map_or_else(String::new, |why| format!(": {why}"));
        Fault::failed(
            format!("{file}: {fault}{why}"),
            "it should read { \"cases\": [ { \"id\", \"function\", \"inputs\", \"expected\", \
             \"tolerance\": { \"rel\", \"abs\" } } ] }",
        )
    })?;
    let failing: Vec<String> = cases.iter().filter_map(failure).collect();
    let mark = console.out_paint().paint(Tone::Bad, "failed");
    for line in &failing {
        console.print(&format!("{mark} {}", clean(line)));
    }
    let (all, failed) = (cases.len() as u64, failing.len() as u64);
    console.print(&format!("{} passed, {} failed", count(all - failed), count(failed)));
    match failed {
        0 => Ok(()),
        _ => Err(Fault::failed(format!("{file}: not every case passes"), "")),
    }
}

fn failure(case: &Case) -> Option<String> {
    let why = case.check().err()?;
    Some(format!("{} ({}): {why}", case.id, case.function))
}
