//! Routes: rules and deadlines.

use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use routing::{HeaderMatch, HeaderValueMatch, HostPattern, PathPattern, PathPatternFault, Rule};

use super::{Check, Names};
use crate::config::plan::{Route, Timeouts};
use crate::config::written::{self, At, Entries};

pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);

impl Check<'_> {
    pub(super) fn routes(
        &mut self,
        entries: Entries<written::Route>,
        backends: &Names,
        body_bytes: u64,
    ) -> Vec<Route> {
        let mut seen: HashMap<String, String> = HashMap::new();
        let mut routes = Vec::new();
        for (name, route) in entries.0 {
            let written::Route {
                path,
                hosts,
                methods,
                headers,
                model,
                backend,
                timeouts,
                retry_non_idempotent,
                websocket,
                preserve_host,
                body_bytes: own_body_bytes,
                server_timing,
                payload_capture,
            } = route;
            let label = format!("route {:?}", name.value);
            let place = ["routes", name.value.as_str()];
            let whole = self.problems.len();
            let path = self.required(path, &label, &place, "path", &name.span, "\"/v1/*\"");
            let pattern = path.as_ref().and_then(|path| self.path(&label, path));
            let hosts = self.hosts(&label, hosts);
            let methods = self.methods(&label, methods);
            let headers = self.headers(&label, headers);
            if let Some(model) = &model
                && model.value.is_empty()
            {
                let mend = "leave it out to take every model";
                self.problem(&model.span, format!("{label}: model is empty"), mend);
            }
            let sound = whole == self.problems.len();
            let rule = Rule {
                hosts,
                path: pattern.unwrap_or(PathPattern::Prefix("".into())),
                methods,
                headers,
                model: model.map(|model| model.value.into()),
            };
            if sound
                && self.present(&place)
                && let Some(other) = seen.insert(spelling(&rule), name.value.clone())
            {
                let what = format!("{label} takes the same requests as route {other:?}");
                let mend = "it would never be asked: change its rule, or remove one of the two";
                self.problem(&name.span, what, mend);
            }
            let example = "\"NAME\" (of a [backends.NAME])";
            let backend = self.required(backend, &label, &place, "backend", &name.span, example);
            let backend = backend.map_or(0, |backend| self.find(&label, &backend, backends));
            routes.push(Route {
                pattern: path.map(|path| path.value).unwrap_or_default().into(),
                rule,
                backend,
                timeouts: self.timeouts(&label, timeouts),
                retry_non_idempotent: retry_non_idempotent.is_some_and(|yes| yes.value),
                websocket: websocket.is_some_and(|yes| yes.value),
                preserve_host: preserve_host.is_some_and(|yes| yes.value),
                body_bytes: self.size(
                    &format!("{label}: body_bytes"),
                    own_body_bytes.as_ref(),
                    body_bytes,
                    1..=64 << 30,
                ),
                server_timing: server_timing.is_some_and(|yes| yes.value),
                payload_capture: payload_capture.is_some_and(|yes| yes.value),
                name: name.value.into(),
            });
        }
        routes
    }

    fn path(&mut self, label: &str, path: &At<String>) -> Option<PathPattern> {
        let shown = self.show(path);
        let (what, mend) = match PathPattern::parse(&path.value) {
            // Routing takes it for "everything"; a path that does not start with a slash is more
            // likely a slip.
            Ok(_) if path.value == "*" => (
                format!("{label}: path {shown} does not start with \"/\""),
                "write \"/*\" for every path".to_owned(),
            ),
            Ok(_) if path.value.contains('?') => (
                format!("{label}: path {shown} has a query"),
                "a route looks at the path alone".to_owned(),
            ),
            Ok(pattern) => return Some(pattern),
            Err(PathPatternFault::NotCanonical { canonical }) => (
                format!("{label}: path {shown} is never asked for in this spelling"),
                if self.expanded.contains(&path.span.start) {
                    "no \"//\", \"/./\" or \"/../\", and no escapes that are not needed".to_owned()
                } else {
                    format!("write {canonical:?}")
                },
            ),
            Err(PathPatternFault::StrayStar) => (
                format!("{label}: path {shown} has a \"*\" that is not its whole last part"),
                "a path is exact (\"/v1/embeddings\") or a prefix (\"/v2/models/*\")".to_owned(),
            ),
            Err(PathPatternFault::Path(fault)) => (
                format!("{label}: path {shown} cannot be asked for: {fault}"),
                "a path is exact (\"/v1/embeddings\") or a prefix (\"/v2/models/*\")".to_owned(),
            ),
        };
        self.problem(&path.span, what, mend);
        None
    }

    fn hosts(&mut self, label: &str, hosts: Option<At<Vec<At<String>>>>) -> Box<[HostPattern]> {
        let Some(hosts) = hosts else { return Box::default() };
        if hosts.value.is_empty() && self.present(&["routes"]) {
            let mend = "leave it out to take every host";
            self.problem(&hosts.span, format!("{label}: hosts is empty"), mend);
        }
        let mut patterns = Vec::new();
        for host in hosts.value {
            match HostPattern::parse(&host.value) {
                Ok(pattern) => patterns.push(pattern),
                Err(fault) => {
                    let what =
                        format!("{label}: host {} cannot be used: {fault}", self.show(&host));
                    self.problem(
                        &host.span,
                        what,
                        "write \"api.example.com\" or \"*.example.com\"",
                    );
                }
            }
        }
        patterns.into()
    }

    fn methods(&mut self, label: &str, methods: Option<At<Vec<At<String>>>>) -> Box<[Method]> {
        let Some(methods) = methods else { return Box::default() };
        if methods.value.is_empty() && self.present(&["routes"]) {
            let mend = "leave it out to take every method";
            self.problem(&methods.span, format!("{label}: methods is empty"), mend);
        }
        let mut all: Vec<Method> = Vec::new();
        for method in methods.value {
            let shown = self.show(&method);
            match Method::try_from(method.value.as_str()) {
                Ok(parsed) if parsed == Method::CONNECT => {
                    let what = format!("{label}: method {shown} is never forwarded");
                    self.problem(&method.span, what, "remove it");
                }
                // Methods are case-sensitive: "post" would match nothing that clients send.
                Ok(parsed) if method.value.bytes().any(|byte| byte.is_ascii_lowercase()) => {
                    let what = format!("{label}: method {shown} is not in upper case");
                    let mend = format!("write {:?}", parsed.as_str().to_ascii_uppercase());
                    self.problem(&method.span, what, mend);
                }
                Ok(parsed) => all.push(parsed),
                Err(_) => {
                    let what = format!("{label}: {shown} is not a method");
                    self.problem(&method.span, what, "write \"GET\", \"POST\" …");
                }
            }
        }
        all.into()
    }

    fn headers(&mut self, label: &str, headers: Entries<At<String>>) -> Box<[HeaderMatch]> {
        let mut all: Vec<HeaderMatch> = Vec::new();
        for (name, value) in headers.0 {
            if let Some(header) = self.header(&format!("{label}: headers"), &name, &value) {
                if all.iter().any(|other| other.name == header.name) {
                    let what = format!("{label}: header {:?} is written twice", name.value);
                    self.problem(&name.span, what, "upper and lower case do not matter: keep one");
                }
                all.push(header);
            }
        }
        all.into()
    }

    /// A header with one value, as a rule or target asks for it.
    pub(super) fn header(
        &mut self,
        label: &str,
        name: &At<String>,
        value: &At<String>,
    ) -> Option<HeaderMatch> {
        let parsed = HeaderName::try_from(name.value.as_str());
        if parsed.is_err() {
            let what = format!("{label}: {} is not the name of a header", self.show(name));
            self.problem(&name.span, what, "write a name such as \"x-team\"");
        }
        // Values arrive without white space around them.
        let fits = HeaderValue::try_from(value.value.as_str()).is_ok()
            && value.value.trim() == value.value
            && !value.value.is_empty();
        if !fits {
            let what =
                format!("{label}: {} is not a value that a header can have", self.show(value));
            self.problem(
                &value.span,
                what,
                "one line of text, not empty, without spaces around it",
            );
        }
        let name = parsed.ok().filter(|_| fits)?;
        Some(HeaderMatch { name, value: HeaderValueMatch::Exact(value.value.as_str().into()) })
    }

    fn timeouts(&mut self, label: &str, timeouts: Option<At<written::Timeouts>>) -> Timeouts {
        let written::Timeouts { connect, first_byte, idle, total } =
            timeouts.unwrap_or_default().value;
        let mut time = |member: &str, written: Option<At<written::Duration>>, seconds| {
            let default = Duration::from_secs(seconds);
            let label = format!("{label}: timeouts.{member}");
            self.duration(&label, written.as_ref(), default, MILLISECOND..=DAY)
        };
        Timeouts {
            connect: time("connect", connect, 2),
            first_byte: time("first_byte", first_byte, 60),
            idle: time("idle", idle, 60),
            total: time("total", total, 600),
        }
    }
}

/// One spelling for all rules that take the same requests.
fn spelling(rule: &Rule) -> String {
    let Rule { hosts, path, methods, headers, model } = rule;
    let sorted = |parts: Vec<String>| {
        let mut parts = parts;
        parts.sort_unstable();
        parts.dedup();
        parts
    };
    let hosts = sorted(hosts.iter().map(ToString::to_string).collect());
    let methods = sorted(methods.iter().map(ToString::to_string).collect());
    let headers = sorted(headers.iter().map(|header| format!("{header:?}")).collect());
    format!("{hosts:?} {path:?} {methods:?} {headers:?} {model:?}")
}
