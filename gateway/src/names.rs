//! Names from the configuration, interned: cheap to copy, alive for ever.
//!
//! Records, tallies and telemetry carry names of routes, experiments, variants and backends for each
//! request, across threads and long after the snapshot that knew them is gone. Interning makes such
//! a name a pointer. What is interned comes from configuration and admin calls only, never from a
//! client, so the table grows with the operators' vocabulary and not with traffic.

use std::collections::HashSet;
use std::sync::LazyLock;

use parking_lot::Mutex;

/// An interned name.
pub type Name = &'static str;

static NAMES: LazyLock<Mutex<HashSet<Name>>> = LazyLock::new(Mutex::default);

/// The one `Name` that equals `text`.
pub fn intern(text: &str) -> Name {
    let mut names = NAMES.lock();
    if let Some(known) = names.get(text) {
        return known;
    }
    let name: Name = Box::leak(text.to_owned().into_boxed_str());
    names.insert(name);
    name
}
