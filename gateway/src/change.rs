//! The one writer: file, admin API and ramp all change the gateway through here.
//!
//! A change is worked out, stored with its audit entry in one transaction, and only then put in force
//! by one swap; the answer comes after the swap. Whoever changes an experiment names the revision it
//! saw, and is refused if somebody was faster. The first start is a change from nothing, so start and
//! reload are one path. What fails leaves everything as it was. When the store turns out to know more
//! than we do, `ledger` catches up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use crate::config::plan::Plan;
use crate::config::{Problem, Problems, Says};
use crate::limits::KeyStates;
use crate::live::{LiveExperiment, LiveLayer, WeightsFault};
use crate::server::tls::Certificates;
use crate::store::thread::StoreHandle;
use crate::store::{FileStatement, Installation, KeyRow, LayerRow, RevisionRow, StoreError};
use crate::worker::Shared;

mod defined;
mod experiments;
mod force;
mod keys;
mod ledger;
mod ramps;
mod reload;

pub use experiments::weights_json;
pub use force::empty_snapshot;
pub use ramps::Step;
pub use reload::ReloadStats;

use ledger::Ledger;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Without this key nobody could make another.
    #[error(
        "key {0:?} is the last of role admin that works, and without one nobody can make another: make \
         that first"
    )]
    LastAdmin(String),
    /// No such experiment, key or revision.
    #[error("{0}")]
    Missing(String),
    /// There is one already.
    #[error("{0}")]
    Exists(String),
    /// It is over.
    #[error("experiment {0:?} has ended; undo that, or create it anew")]
    Ended(String),
    /// As it would stand in the file, it would not pass.
    #[error("{}", in_words(.0))]
    Problems(Problems),
    /// The file owns it.
    #[error(
        "experiment {0:?} is owned by the file (`owner = \"file\"`); change it there and reload"
    )]
    OwnedByFile(String),
    /// The file declares it.
    #[error("key {0:?} is declared in the file; take it out there and reload")]
    DeclaredInFile(String),
    /// Somebody was faster.
    #[error("revision {seen} is not in force any more: {by} made revision {current}")]
    Stale {
        /// The revision the caller saw.
        seen: u64,
        /// The one in force.
        current: u64,
        /// Who made it.
        by: String,
    },
    /// Not possible as asked.
    #[error("{0}")]
    Invalid(String),
    /// Not allowed to this caller.
    #[error("{0}")]
    Forbidden(String),
    /// Nothing was changed, because it could not be stored.
    #[error("nothing was changed: {0}")]
    Store(#[from] StoreError),
}

/// What is wrong, without places: they would be those of a file that nobody has.
fn in_words(problems: &Problems) -> String {
    let of = |problem: &Problem| {
        let mend = problem.mend.replace('\n', "; ");
        if mend.is_empty() { problem.what.clone() } else { format!("{} ({mend})", problem.what) }
    };
    problems.list.iter().map(of).collect::<Vec<_>>().join("; ")
}

impl From<WeightsFault> for ChangeError {
    fn from(fault: WeightsFault) -> Self {
        Self::Invalid(fault.to_string())
    }
}

/// What is known beyond the snapshot: held by the writer alone.
#[derive(Debug)]
struct Held {
    /// What the file says.
    file: Arc<Says>,
    /// That, with what is defined elsewhere.
    plan: Arc<Plan>,
    /// Experiments that are defined elsewhere and do not fit this file: what is wrong.
    aside: BTreeMap<String, Problems>,
    ledger: Ledger,
    keys: Vec<KeyRow>,
    generation: u64,
}

/// What anybody may look at: the same, frozen at the last change.
#[derive(Debug)]
pub struct View {
    /// The plan in force.
    pub plan: Arc<Plan>,
    /// What the file says by itself.
    pub file: Arc<Says>,
    /// Experiments that are defined elsewhere than in the file, those that are over too.
    pub definitions: BTreeMap<String, Value>,
    /// Of them, those that do not fit this file and so are not in the plan: what is wrong.
    pub aside: BTreeMap<String, Problems>,
    /// Of them, those that are not in the plan: over, or set aside.
    pub past: BTreeMap<String, LiveExperiment>,
    /// Experiments as they stand.
    pub live: BTreeMap<String, LiveExperiment>,
    /// Layers as they stand.
    pub layers: BTreeMap<String, LiveLayer>,
    /// Number of the snapshot.
    pub generation: u64,
}

/// The writer.
pub struct Changes {
    state: tokio::sync::Mutex<Held>,
    view: arc_swap::ArcSwap<View>,
    /// Experiments whose stop waits for its turn: they decide nothing, whatever their revision says.
    /// Held while a snapshot is built and swapped in.
    stopping: Mutex<Vec<String>>,
    shared: Arc<Shared>,
    key_states: KeyStates,
    installation: Installation,
    store: StoreHandle,
    edge_certificates: Arc<Certificates>,
    admin_certificates: Arc<Certificates>,
    file: PathBuf,
    watched: Mutex<Vec<PathBuf>>,
    reloads: Mutex<ReloadStats>,
    told: tokio::sync::watch::Sender<u64>,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("file", &self.file).finish_non_exhaustive()
    }
}

/// What the store knew when the process started.
#[derive(Debug)]
pub struct Stored {
    /// Secrets.
    pub installation: Installation,
    /// Keys.
    pub keys: Vec<KeyRow>,
    /// Newest revisions.
    pub revisions: Vec<RevisionRow>,
    /// What the file said last.
    pub statements: Vec<FileStatement>,
    /// What is defined elsewhere.
    pub definitions: Vec<(String, Value)>,
    /// Layers.
    pub layers: Vec<LayerRow>,
}

impl Stored {
    /// Reads everything. Blocks.
    ///
    /// # Errors
    /// The store's.
    pub fn read(store: &StoreHandle) -> Result<Self, StoreError> {
        store.call_blocking(|store| {
            Ok(Self {
                installation: store.installation()?,
                keys: store.keys()?,
                revisions: store.experiments()?,
                statements: store.file_statements()?,
                definitions: store.definitions()?,
                layers: store.layers()?,
            })
        })
    }
}

impl Changes {
    /// Makes the writer and puts what the file says in force: a change from nothing.
    ///
    /// # Errors
    /// When the store cannot be read or written, or holds an allocation that cannot be read.
    #[expect(clippy::too_many_arguments, reason = "the parts of the process meet here once")]
    pub async fn start(
        file: &Path,
        says: Says,
        watched: Vec<PathBuf>,
        notices: Vec<String>,
        stored: Stored,
        shared: Arc<Shared>,
        store: StoreHandle,
        certificates: (Arc<Certificates>, Arc<Certificates>),
    ) -> Result<Arc<Self>, ChangeError> {
        let Stored { revisions, statements, layers, definitions, keys, installation } = stored;
        let ledger = Ledger::read(&revisions, statements, layers, definitions)?;
        let says = Arc::new(says);
        let state = Held {
            file: Arc::clone(&says),
            plan: Arc::clone(&says.plan),
            aside: BTreeMap::new(),
            ledger,
            keys,
            generation: 0,
        };
        let view = View {
            plan: Arc::clone(&says.plan),
            file: Arc::clone(&says),
            definitions: BTreeMap::new(),
            aside: BTreeMap::new(),
            past: BTreeMap::new(),
            live: BTreeMap::new(),
            layers: BTreeMap::new(),
            generation: 0,
        };
        let changes = Arc::new(Self {
            state: tokio::sync::Mutex::new(state),
            view: arc_swap::ArcSwap::from_pointee(view),
            stopping: Mutex::default(),
            shared,
            key_states: KeyStates::default(),
            installation,
            store,
            edge_certificates: certificates.0,
            admin_certificates: certificates.1,
            file: file.to_owned(),
            watched: Mutex::new(watched.clone()),
            reloads: Mutex::default(),
            told: tokio::sync::watch::Sender::new(0),
        });
        changes.apply_plan(says, watched, notices).await?;
        Ok(changes)
    }

    /// What is in force.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The installation's identity and secrets.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// How reloads went.
    pub fn reloads(&self) -> ReloadStats {
        self.reloads.lock().clone()
    }

    /// Files whose change calls for a reload.
    pub fn watched(&self) -> Vec<PathBuf> {
        self.watched.lock().clone()
    }

    /// The configuration file.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

#[cfg(test)]
mod tests;
