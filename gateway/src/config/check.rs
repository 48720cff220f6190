//! From what is written to a [`Plan`]: defaults filled in, names resolved, and every problem told.
//!
//! Pure: what stands outside the file (certificates, credentials, variables, the time) comes in
//! through [`World`]. Structs are taken apart member by member, so that a new member does not
//! compile until somebody has handled it.
//!
//! A check that finds a problem goes on with some harmless value, to find the next one; a plan is
//! only used if there were none.

mod server;
mod certificates;
mod backends;
mod routes;
mod shadows;
mod experiments;
mod feedback;
mod webhooks;

use std::collections::HashMap;
use std::collections::HashSet;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;

use super::harvest::Lost;
use super::plan::{DeclaredKey, Experiment, KeyLimits, Plan};
use super::problem::{Problem, Source};
use super::value;
use super::written::{self, At, Entries};

/// Reads a file; why not, in words that follow its name.
pub(crate) type Read<'a> = dyn FnMut(&Path) -> Result<Vec<u8>, String> + 'a;

/// What a check may know of the world outside the file.
pub(crate) struct World<'a> {
    /// Folder of the file: where relative paths begin.
    pub(crate) folder: PathBuf,
    /// Reads a file.
    pub(crate) read: &'a mut Read<'a>,
    /// Answers for variables of the environment.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Cores of this machine.
    pub(crate) cores: usize,
    /// Seconds since 1970.
    pub(crate) now: i64,
    /// The cryptography in use.
    pub(crate) provider: Arc<CryptoProvider>,
}

/// A check under way.
pub(crate) struct Check<'a> {
    pub(crate) source: &'a Source<'a>,
    pub(crate) lost: &'a Lost,
    pub(crate) expanded: &'a HashSet<usize>,
    pub(crate) world: World<'a>,
    /// What is wrong.
    pub(crate) problems: Vec<Problem>,
    /// What deserves a look.
    pub(crate) notices: Vec<Problem>,
}

/// Most routes, and most experiments (L18).
const MOST: usize = 10_000;

impl<'a> Check<'a> {
    /// The plan that `file` describes; worth nothing if there are problems afterwards.
    pub(crate) fn plan(&mut self, file: written::File) -> Plan {
        let written::File {
            server,
            admin,
            store,
            recording,
            feedback,
            telemetry,
            auth,
            backends,
            routes,
            experiments,
            shadows,
            layers,
            holdout,
            webhooks,
        } = file;
        let server = self.server(server);
        let admin = self.admin(admin, &server);
        let store = self.store(store);
        let recording = self.recording(recording, &store);
        let feedback = self.feedback(feedback);
        let telemetry = self.telemetry(telemetry);
        let backend_names = self.names("backend", "backends", &backends);
        let route_names = self.names("route", "routes", &routes);
        let layer_names = self.names("layer", "layers", &layers);
        self.names("experiment", "experiments", &experiments);
        self.names("shadow", "shadows", &shadows);
        self.count("routes", &routes);
        self.count("experiments", &experiments);
        if routes.0.is_empty() && self.present(&["routes"]) {
            let what = "no route is defined: every request will be answered with 404";
            self.notices
                .push(self.source.whole(what.to_owned(), "define [routes.NAME]".to_owned()));
        }
        let routes = self.routes(routes, &backend_names, server.limits.body_bytes);
        Plan {
            declared_keys: self.keys(auth, &route_names),
            backends: self.backends(backends),
            shadows: self.shadows(shadows, &routes, &route_names, &backend_names),
            routes,
            experiments: self.experiments(experiments, &route_names, &backend_names, &layer_names),
            layers: layers
                .0
                .into_iter()
                .map(|(name, written::Layer {})| name.value.into())
                .collect(),
            holdout_bp: self.holdout(holdout),
            webhooks: self.webhooks(webhooks),
            server,
            admin,
            store,
            recording,
            feedback,
            telemetry,
        }
    }

    /// Experiments, as if they stood in the file that `plan` is of.
    pub(crate) fn experiments_of(
        &mut self,
        entries: Entries<written::Experiment>,
        plan: &Plan,
    ) -> Vec<Experiment> {
        self.names("experiment", "experiments", &entries);
        self.count("experiments", &entries);
        let backends = Names::of("backend", "backends", plan.backends.iter().map(|b| &*b.name));
        let routes = Names::of("route", "routes", plan.routes.iter().map(|route| &*route.name));
        let layers = Names::of("layer", "layers", plan.layers.iter().map(|layer| &**layer));
        self.experiments(entries, &routes, &backends, &layers)
    }

    fn count<T>(&mut self, section: &str, entries: &Entries<T>) {
        if let Some((first, _)) = entries.0.get(MOST) {
            let what = format!("{} {section} are too many", entries.0.len());
            self.problem(&first.span, what, format!("at most {MOST}; this is the first on top"));
        }
    }

    fn holdout(&mut self, holdout: Option<At<written::Holdout>>) -> u16 {
        let Some(At { span, value: written::Holdout { percent } }) = holdout else { return 0 };
        let Some(percent) = self.required(percent, "holdout", &["holdout"], "percent", &span, "1")
        else {
            return 0;
        };
        self.basis_points("holdout: percent", &percent)
    }

    fn keys(&mut self, auth: Option<At<written::Auth>>, routes: &Names) -> Vec<DeclaredKey> {
        let Some(At { span: _, value: written::Auth { keys } }) = auth else { return Vec::new() };
        let mut by_name: HashMap<String, Range<usize>> = HashMap::new();
        let mut by_hash: HashMap<[u8; 32], String> = HashMap::new();
        let mut declared = Vec::new();
        for At { span, value: key } in keys.map(|keys| keys.value).unwrap_or_default() {
            let written::Key {
                name,
                hash,
                role,
                routes: allowed,
                requests_per_second,
                concurrent,
                tokens_per_minute,
            } = key;
            let path = ["auth", "keys"];
            let name = self.required(name, "auth.keys", &path, "name", &span, "\"mobile\"");
            let label = match &name {
                Some(name) => format!("key {}", self.show(name)),
                None => "auth.keys".to_owned(),
            };
            if let Some(name) = &name {
                self.name(&label, name);
                if by_name.insert(name.value.clone(), name.span.clone()).is_some() {
                    let mend = "every key has a name of its own";
                    self.problem(&name.span, format!("{label} is written twice"), mend);
                }
            }
            let example = "\"blake3:…\" (the hash of the secret)";
            let hash =
                self.required(hash, &label, &path, "hash", &span, example).and_then(|hash| {
                    match policies::api_key::parse_hash(&hash.value) {
                        Ok(bytes) => Some(At { span: hash.span, value: bytes }),
                        Err(fault) => {
                            let mend = "hash = \"blake3:\" and 64 hexadecimal digits";
                            self.problem(&hash.span, format!("{label}: {fault}"), mend);
                            None
                        }
                    }
                });
            if let Some(hash) = &hash
                && let Some(other) = by_hash.insert(hash.value, label.clone())
            {
                let mend = "every key has a secret of its own";
                self.problem(&hash.span, format!("{label} has the same secret as {other}"), mend);
            }
            let role = self.required(role, &label, &path, "role", &span, "\"client\"");
            let allowed = allowed.map(|allowed| {
                if allowed.value.is_empty() && self.present(&path) {
                    let mend = "leave \"routes\" out to allow all";
                    self.problem(&allowed.span, format!("{label} may call no route"), mend);
                }
                let mut names: Vec<Arc<str>> = Vec::new();
                for route in allowed.value {
                    self.find(&label, &route, routes);
                    names.push(route.value.into());
                }
                names
            });
            let limits = KeyLimits {
                requests_per_second: requests_per_second.map(|rate| {
                    if !(rate.value.is_finite() && rate.value > 0.0) {
                        let what = format!("{label}: requests_per_second is {}", rate.value);
                        self.problem(&rate.span, what, "a number above 0, such as 50 or 0.5");
                    }
                    rate.value
                }),
                concurrent: concurrent.as_ref().map(|written| {
                    self.whole(
                        &format!("{label}: concurrent"),
                        Some(written),
                        1,
                        1..=u32::MAX.into(),
                    )
                }),
                tokens_per_minute: tokens_per_minute.as_ref().map(|written| {
                    let most = 1 << 53;
                    self.whole(&format!("{label}: tokens_per_minute"), Some(written), 1, 1..=most)
                }),
            };
            declared.push(DeclaredKey {
                name: name.map(|name| name.value).unwrap_or_default().into(),
                hash: hash.map_or([0; 32], |hash| hash.value),
                role: role.map_or(policies::Role::Client, |role| match role.value {
                    written::Role::Client => policies::Role::Client,
                    written::Role::Viewer => policies::Role::Viewer,
                    written::Role::Experimenter => policies::Role::Experimenter,
                    written::Role::Operator => policies::Role::Operator,
                    written::Role::Auditor => policies::Role::Auditor,
                    written::Role::Admin => policies::Role::Admin,
                }),
                routes: allowed,
                limits,
            });
        }
        declared
    }
}

/// Names of one section, and the index of each.
pub(crate) struct Names {
    noun: &'static str,
    section: &'static str,
    order: Vec<String>,
    index: HashMap<String, usize>,
}

impl Names {
    fn of<'a>(
        noun: &'static str,
        section: &'static str,
        names: impl Iterator<Item = &'a str>,
    ) -> Self {
        let order: Vec<String> = names.map(str::to_owned).collect();
        let index = order.iter().cloned().zip(0..).collect();
        Self { noun, section, order, index }
    }

    /// Whether there is one of this name.
    fn has(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }
}

/// What the checks have in common: telling, and reading the simple values.
impl Check<'_> {
    fn problem(&mut self, at: &Range<usize>, what: impl Into<String>, mend: impl Into<String>) {
        if !self.lost.damage().touches(at.start) {
            self.problems.push(self.source.problem(at.start, what.into(), mend.into()));
        }
    }

    fn notice(&mut self, at: &Range<usize>, what: impl Into<String>, mend: impl Into<String>) {
        self.notices.push(self.source.problem(at.start, what.into(), mend.into()));
    }

    /// A string for a message: quoted; as written if variables were put into it.
    fn show(&self, text: &At<String>) -> String {
        if self.expanded.contains(&text.span.start) {
            self.source.text.get(text.span.clone()).unwrap_or("\"…\"").to_owned()
        } else {
            format!("{:?}", text.value)
        }
    }

    /// Whether what is missing at `path` was really left out.
    fn present(&self, path: &[&str]) -> bool {
        self.lost.damage().is_empty() && !self.lost.covers(path)
    }

    /// The member `name`, which has no default, of what is at `path`; `example` is a value for it.
    fn required<T>(
        &mut self,
        member: Option<At<T>>,
        label: &str,
        path: &[&str],
        name: &str,
        at: &Range<usize>,
        example: &str,
    ) -> Option<At<T>> {
        let whole: Vec<&str> = path.iter().copied().chain([name]).collect();
        if member.is_none() && self.present(&whole) {
            let mend = format!("add {name} = {example}");
            self.problem(at, format!("{label}: {name:?} is missing"), mend);
        }
        member
    }

    /// Checks the names of a section.
    fn names<T>(
        &mut self,
        noun: &'static str,
        section: &'static str,
        entries: &Entries<T>,
    ) -> Names {
        let mut names = Names { noun, section, order: Vec::new(), index: HashMap::new() };
        for (index, (name, _)) in entries.0.iter().enumerate() {
            self.name(&format!("{noun} {:?}", name.value), name);
            names.order.push(name.value.clone());
            names.index.insert(name.value.clone(), index);
        }
        names
    }

    fn name(&mut self, label: &str, name: &At<String>) {
        if let Err(reason) = value::name(&name.value) {
            let mend = "names have 1 to 64 of the characters A-Z a-z 0-9 _ . -";
            self.problem(&name.span, format!("{label}: the name {reason}"), mend);
        }
    }

    /// The index of what `name` names; 0 (and a problem) if it is not defined.
    fn find(&mut self, label: &str, name: &At<String>, known: &Names) -> usize {
        if let Some(index) = known.index.get(&name.value) {
            return *index;
        }
        let Names { noun, section, order, index: _ } = known;
        let damage = self.lost.damage();
        let lost = self.lost.covers(&[section, &name.value])
            || damage.may_define(self.source.text, &name.value);
        if !lost {
            let what = format!("{label}: {noun} {} is not defined", self.show(name));
            let shown =
                value::name(&name.value).is_ok() && !self.expanded.contains(&name.span.start);
            let define = if shown { &name.value } else { "NAME" };
            let mut mend = format!("define [{section}.{define}]");
            if let Some(guess) = value::closest(&name.value, order.iter().map(String::as_str)) {
                mend.push_str(&format!("; did you mean {guess:?}?"));
            }
            self.problem(&name.span, what, mend);
        }
        0
    }

    /// A duration within `range`, or `default` if none is written.
    fn duration(
        &mut self,
        label: &str,
        written: Option<&At<written::Duration>>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(At { span, value: written::Duration(text) }) = written else { return default };
        let duration = match value::duration(text) {
            Ok(duration) => duration,
            Err(reason) => {
                let shown = self.show(&At { span: span.clone(), value: text.clone() });
                let what = format!("{label}: {shown} is not a duration: {reason}");
                self.problem(
                    span,
                    what,
                    "numbers with the units d h m s ms us ns: \"5s\", \"1h30m\"",
                );
                return default;
            }
        };
        if !range.contains(&duration) {
            let (least, most) =
                (value::show_duration(*range.start()), value::show_duration(*range.end()));
            let what = format!(
                "{label}: {}",
                out_of_range(
                    duration.is_zero(),
                    duration < *range.start(),
                    &value::show_duration(duration)
                )
            );
            self.problem(span, what, format!("from {least} to {most}"));
            return default;
        }
        duration
    }

    /// A size within `range`, or `default` if none is written.
    fn size<T: TryFrom<u64>>(
        &mut self,
        label: &str,
        written: Option<&At<written::Size>>,
        default: T,
        range: RangeInclusive<u64>,
    ) -> T {
        let Some(At { span, value: size }) = written else { return default };
        let bytes = match size {
            written::Size::Bytes(bytes) => *bytes,
            written::Size::Text(text) => match value::size(text) {
                Ok(bytes) => bytes,
                Err(reason) => {
                    let shown = self.show(&At { span: span.clone(), value: text.clone() });
                    let what = format!("{label}: {shown} is not a size: {reason}");
                    let mend = "a number with one of the units B kB MB GB KiB MiB GiB: \"64KiB\"";
                    self.problem(span, what, mend);
                    return default;
                }
            },
        };
        if !range.contains(&bytes) {
            let (least, most) = (value::show_size(*range.start()), value::show_size(*range.end()));
            let what = format!(
                "{label}: {}",
                out_of_range(bytes == 0, bytes < *range.start(), &value::show_size(bytes))
            );
            self.problem(span, what, format!("from {least} to {most}"));
            return default;
        }
        T::try_from(bytes).unwrap_or(default)
    }

    /// A whole number within `range`, or `default` if none is written.
    fn whole<T: TryFrom<u64>>(
        &mut self,
        label: &str,
        written: Option<&At<u64>>,
        default: T,
        range: RangeInclusive<u64>,
    ) -> T {
        let Some(At { span, value: number }) = written else { return default };
        if !range.contains(number) {
            let what = format!(
                "{label}: {}",
                out_of_range(*number == 0, number < range.start(), &number.to_string())
            );
            self.problem(span, what, format!("from {} to {}", range.start(), range.end()));
            return default;
        }
        T::try_from(*number).unwrap_or(default)
    }

    /// Percent as basis points; 0 (and a problem) unless from 0 to 100 in steps of 0.01.
    fn basis_points(&mut self, label: &str, percent: &At<f64>) -> u16 {
        value::basis_points(percent.value).unwrap_or_else(|| {
            let mend = "a number from 0 to 100, with at most two decimals";
            self.problem(&percent.span, format!("{label} is {}", percent.value), mend);
            0
        })
    }

    /// A path that can be asked for, in its one spelling.
    fn request_path(&mut self, label: &str, path: &At<String>) -> String {
        let problem = match routing::canonical_path(&path.value) {
            Ok(_) if path.value.contains('?') || path.value == "*" => {
                "it is not a path without a query".to_owned()
            }
            Ok(canonical) if canonical == path.value.as_str() => return path.value.clone(),
            Ok(_) if self.expanded.contains(&path.span.start) => {
                "requests for it arrive in another spelling".to_owned()
            }
            Ok(canonical) => format!("requests for it arrive as {canonical:?}"),
            Err(fault) => fault.to_string(),
        };
        let what = format!("{label}: {} cannot be used: {problem}", self.show(path));
        self.problem(&path.span, what, "write a path such as \"/health\"");
        path.value.clone()
    }

    /// Where the file named `path` is.
    fn file(&self, path: &str) -> PathBuf {
        self.world.folder.join(path)
    }
}

fn out_of_range(zero: bool, below: bool, shown: &str) -> String {
    if zero {
        "0 is not allowed: it cannot be switched off".to_owned()
    } else if below {
        format!("{shown} is too little")
    } else {
        format!("{shown} is too much")
    }
}
