//! The folder of a demo: certificate, keys, configuration, data.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::cli::fault::Fault;

/// Readable by the owner alone: there are keys in it.
const PRIVATE: u32 = 0o600;

/// The same, and may be run.
const PROGRAM: u32 = 0o700;

/// A folder that is removed with everything in it when it is dropped, unless somebody named it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    removed: bool,
}

impl Folder {
    /// The folder `named`, made if it is missing and kept at the end; or a fresh one.
    pub(crate) fn open(named: Option<PathBuf>) -> Result<Self, Fault> {
        let mut builder = DirBuilder::new();
        builder.mode(PROGRAM);
        if let Some(path) = named {
            builder.recursive(true);
            let made = builder.create(&path).and_then(|()| path.canonicalize());
            let path = made.map_err(|error| {
                Fault::failed(
                    format!("cannot use {}: {error}", path.display()),
                    "name another --dir",
                )
            })?;
            return Ok(Self { path, removed: false });
        }
        let path = std::env::temp_dir().join(format!("weir-demo-{:08x}", fastrand::u32(..)));
        // Not recursive: a folder that somebody else prepared under this name is not ours.
        match builder.create(&path) {
            Ok(()) => Ok(Self { path, removed: true }),
            Err(error) => Err(Fault::failed(
                format!("cannot make {}: {error}", path.display()),
                "name a folder with --dir",
            )),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it goes when the demo ends.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed
    }

    /// Writes `name`, for the owner alone.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), Fault> {
        self.put(name, text, PRIVATE)
    }

    /// Writes the script `name`.
    pub(crate) fn write_script(&self, name: &str, text: &str) -> Result<(), Fault> {
        self.put(name, text, PROGRAM)
    }

    /// What was written to `name` in an earlier run.
    pub(crate) fn read(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.path.join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn put(&self, name: &str, text: &str, mode: u32) -> Result<(), Fault> {
        let path = self.path.join(name);
        let written = || -> io::Result<()> {
            // Removed first, because the mode counts only when a file is made.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Err(_) | Ok(()) => {}
            }
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
            file.write_all(text.as_bytes())
        };
        written()
            .map_err(|error| Fault::failed(format!("cannot write {}: {error}", path.display()), ""))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.removed {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_fresh_folder_is_private_and_leaves_nothing_behind() {
        let folder = Folder::open(None).unwrap();
        folder.write("edge.key", "secret\n").unwrap();
        folder.write("edge.key", "another\n").unwrap();
        let path = folder.path().to_owned();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("edge.key"))), (0o700, 0o600));
        assert_eq!(folder.read("edge.key").as_deref(), Some("another"));
        drop(folder);
        assert!(!path.exists());
    }
}
