//! The one place that reads: the file, and every file it names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check::{Check, World};
use super::harvest::harvest;
use super::plan::Plan;
use super::problem::{Problem, Problems, Source};

/// Largest configuration (L18).
const LARGEST: u64 = 4 << 20;

/// Largest certificate, key, authority or credential file; a bundle of all public authorities has
/// a quarter of it.
const LARGEST_NAMED: u64 = 1 << 20;

/// A configuration that may be used.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub plan: Plan,
    /// The file itself, then every certificate, key, authority and credential file that was read:
    /// a change of any of them calls for a reload.
    pub files: Vec<PathBuf>,
    /// The text of the file.
    pub text: String,
    /// What deserves a look, though it is not wrong.
    pub notices: Vec<Problem>,
}

/// Reads and checks the configuration at `path`; `env` answers for environment variables.
///
/// Start, reload and `weir check` all come through here, and so give one verdict. Fails with every
/// problem that could be found.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
    let whole = |what: String, mend: &str| {
        let source = Source::new(path, "");
        Problems::new(vec![source.whole(what, mend.to_owned())])
    };
    let bytes =
        read_up_to(path, LARGEST).map_err(|reason| whole(reason, "name the file with --config"))?;
    let text = String::from_utf8(bytes).map_err(|fault| {
        let valid = fault.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(&fault.as_bytes()[..valid]);
        let source = Source::new(path, &text);
        let mend = "TOML is written in UTF-8: save the file in that encoding";
        Problems::new(vec![source.problem(valid, "not UTF-8".to_owned(), mend.to_owned())])
    })?;

    let source = Source::new(path, &text);
    let harvested = harvest(&source, env);
    let mut read: BTreeMap<PathBuf, Result<Vec<u8>, String>> = BTreeMap::new();
    let mut named = |path: &Path| {
        // Read once, so that two members that name one file see the same bytes.
        let bytes = read.entry(path.to_owned()).or_insert_with(|| read_up_to(path, LARGEST_NAMED));
        bytes.clone()
    };
    let mut check = Check {
        source: &source,
        lost: &harvested.lost,
        expanded: &harvested.expanded,
        world: World {
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
            read: &mut named,
            variable: env,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            now: crate::clock::unix_seconds(),
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        },
        problems: harvested.problems,
        notices: Vec::new(),
    };
    let plan = check.plan(harvested.file);
    let Check { problems, notices, .. } = check;
    if !problems.is_empty() {
        return Err(Problems::new(problems));
    }
    let notices = Problems::new(notices).list;
    let files = std::iter::once(path.to_owned()).chain(read.into_keys()).collect();
    Ok(Loaded { plan, files, text, notices })
}

/// What is in the file at `path`; why not, in words that follow its name.
fn read_up_to(path: &Path, largest: u64) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // A pipe or device has no length to ask for, so the bound is on what is read.
        File::open(path)?.take(largest + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() as u64 > largest => {
            Err(format!("is too large: at most {}", super::value::show_size(largest)))
        }
        Ok(bytes) => Ok(bytes),
        Err(fault) => Err(reason(&fault)),
    }
}

/// Why a file cannot be read, in words that do not depend on the system where they need not.
fn reason(fault: &io::Error) -> String {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of input and output errors grow")]
    match fault.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be read (permission denied)".to_owned(),
        io::ErrorKind::IsADirectory => "is a folder".to_owned(),
        _ => format!("cannot be read: {fault}"),
    }
}
