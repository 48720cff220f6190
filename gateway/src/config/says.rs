//! What the file says, kept as it came into force, so that experiments that are defined elsewhere can be
//! checked as if they stood in it.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::check::{Check, World};
use super::definition;
use super::harvest::{Harvest, harvest};
use super::load::Loaded;
use super::plan::{Experiment, Plan};
use super::problem::{Problem, Problems, Source};
use super::written::Entries;

/// A file that is in force.
#[derive(Debug)]
pub struct Says {
    /// What it makes.
    pub plan: Arc<Plan>,
    path: PathBuf,
    text: String,
    // Where each experiment begins.
    lines: BTreeMap<String, usize>,
}

impl Says {
    /// Of a file that was loaded; `plan` is its plan.
    pub fn new(path: &Path, text: String, plan: Plan) -> Self {
        let source = Source::new(path, &text);
        let harvested = harvested(&source);
        let places = harvested.file.experiments.0.iter();
        let lines = places
            .map(|(name, _)| (name.value.clone(), source.position(name.span.start).0))
            .collect();
        Self { plan: Arc::new(plan), path: path.to_owned(), text, lines }
    }

    /// The line at which the file declares an experiment.
    pub fn line(&self, experiment: &str) -> Option<usize> {
        self.lines.get(experiment).copied()
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text of the file as JSON: variables as they are written.
    pub fn as_json(&self) -> Value {
        let read = toml::from_str::<toml::Value>(&self.text).ok();
        read.and_then(|read| serde_json::to_value(read).ok()).unwrap_or_default()
    }

    /// What the file itself says of an experiment.
    pub fn definition(&self, experiment: &str) -> Option<Value> {
        let plan = &self.plan;
        let found = plan.experiments.iter().find(|planned| *planned.name == *experiment)?;
        Some(definition::of(plan, found, &[]))
    }

    /// The plan with the experiments of the file, and with those that `defined` has instead or besides.
    ///
    /// # Errors
    /// Every problem that `weir check` would find if they stood in the file.
    pub fn plan_with(
        &self,
        defined: &[(&str, &Map<String, Value>)],
    ) -> Result<Arc<Plan>, Problems> {
        if defined.is_empty() {
            return Ok(Arc::clone(&self.plan));
        }
        let sections: Vec<String> =
            defined.iter().map(|(name, members)| definition::toml(name, members)).collect();
        let besides = sections.join("\n");
        // Behind the file's text, so that a place means one thing in both: what is read second is read
        // from a text that is empty as far as the first goes.
        let whole = format!("{}\n{besides}", self.text);
        let padded = format!("{}\n{besides}", " ".repeat(self.text.len()));
        let source = Source::new(&self.path, &whole);
        let of_file = harvested(&Source::new(&self.path, &self.text));
        let more = harvest(&Source::new(&self.path, &padded), &|_| None);
        let is_defined = |name: &str| defined.iter().any(|(other, _)| *other == name);
        let file = of_file.file.experiments.0.into_iter();
        let mut entries: Vec<_> = file.filter(|(name, _)| !is_defined(&name.value)).collect();
        entries.extend(more.file.experiments.0);
        let expanded: HashSet<usize> = of_file.expanded.union(&more.expanded).copied().collect();
        let mut check = Check {
            source: &source,
            lost: &more.lost,
            expanded: &expanded,
            world: World {
                folder: PathBuf::new(),
                read: &mut |_| Err("is not read here".to_owned()),
                variable: &|_| None,
                cores: 1,
                now: 0,
                provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            },
            problems: more.problems,
            notices: Vec::new(),
        };
        let experiments = check.experiments_of(Entries(entries), &self.plan);
        let problems: Vec<Problem> = check.problems;
        if !problems.is_empty() {
            return Err(Problems::new(problems));
        }
        Ok(Arc::new(Plan { experiments, ..Plan::clone(&self.plan) }))
    }
}

/// What was harvested before, once more: a start or a reload has found it good.
fn harvested(source: &Source<'_>) -> Harvest {
    harvest(source, &|name| std::env::var(name).ok())
}

impl From<(&Path, Loaded)> for Says {
    fn from((path, loaded): (&Path, Loaded)) -> Self {
        Self::new(path, loaded.text, loaded.plan)
    }
}

/// The experiment of this name.
pub fn experiment<'a>(plan: &'a Plan, name: &str) -> Option<&'a Experiment> {
    plan.experiments.iter().find(|planned| *planned.name == *name)
}
