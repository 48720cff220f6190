//! Webhooks: where messages go, what is told, and what they are signed with.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;

use super::Check;
use super::backends::Owner;
use crate::config::plan::{Endpoint, Scheme, Webhook, WebhookUrl};
use crate::config::value;
use crate::config::written::{self, At, Entries, OneOrMany, WebhookFormat};
use crate::webhooks::sign::{SHORT, Secret};
use crate::webhooks::{Events, event};

/// Most webhooks: each has a task, and its name is a label (L19).
const MOST: usize = 64;
/// Most secrets of one: each is a signature in every message.
const MOST_SECRETS: usize = 8;
const TIMEOUT: Duration = Duration::from_secs(10);
const MOST_TIMEOUT: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const PATH: [&str; 1] = ["webhooks"];
const MAKE_ONE: &str = "`echo whsec_$(openssl rand -base64 32)` makes one";
const ALERTS: &str = "/api/v2/alerts";
/// Labels that alerts have by themselves.
const OWN_LABELS: [&str; 6] =
    ["alertname", "experiment", "variant", "metric", "severity", "source"];

impl Check<'_> {
    pub(super) fn webhooks(
        &mut self,
        webhooks: Option<At<Vec<At<written::Webhook>>>>,
    ) -> Vec<Arc<Webhook>> {
        let list = webhooks.map(|list| list.value).unwrap_or_default();
        if let Some(first) = list.get(MOST) {
            let what = format!("{} webhooks are too many", list.len());
            self.problem(&first.span, what, format!("at most {MOST}; this is the first on top"));
        }
        let mut names = HashSet::new();
        // Names that are written come first: a default gives way to them.
        for written in list.iter().filter_map(|webhook| webhook.value.name.as_ref()) {
            let label = format!("webhook {}", self.show(written));
            self.name(&label, written);
            if !names.insert(written.value.clone()) {
                let mend = "every webhook has a name of its own";
                self.problem(&written.span, format!("{label} is written twice"), mend);
            }
        }
        list.into_iter().map(|webhook| Arc::new(self.webhook(webhook, &mut names))).collect()
    }

    fn webhook(&mut self, webhook: At<written::Webhook>, names: &mut HashSet<String>) -> Webhook {
        let At { span, value } = webhook;
        let written::Webhook {
            name,
            url,
            events,
            secret,
            format,
            labels,
            credential,
            credential_header,
            tls,
            allow_private,
            timeout,
            give_up_after,
        } = value;
        let label = match &name {
            Some(name) => format!("webhook {}", self.show(name)),
            None => "webhooks".to_owned(),
        };
        let example = "\"https://hooks.example.com/weir\"";
        let takes_alerts =
            format.is_some_and(|format| matches!(format.value, WebhookFormat::Alertmanager));
        let url = self
            .required(url, &label, &PATH, "url", &span, example)
            .and_then(|url| self.webhook_url(&label, &url, takes_alerts));
        let endpoints: Vec<Endpoint> = url.iter().map(|url| url.endpoint.clone()).collect();
        let events = self.required(events, &label, &PATH, "events", &span, "[\"ramp.*\"]");
        let events = events.map(|events| self.events(&label, &events)).unwrap_or_default();
        let owner =
            Owner { path: &PATH, place: "the receiver", asks: "what the receiver asks for" };
        let name = name.map_or_else(|| default_name(url.as_ref(), names), |name| name.value);
        Webhook {
            events,
            secrets: self.secrets(&label, secret, takes_alerts, &span),
            labels: self.labels(&label, labels, takes_alerts),
            credential: self.credential(&label, credential, credential_header, &owner),
            tls: self.backend_tls(&label, &endpoints, tls),
            allow_private: allow_private.is_some_and(|allow| allow.value),
            timeout: self.duration(
                &format!("{label}: timeout"),
                timeout.as_ref(),
                TIMEOUT,
                Duration::from_millis(100)..=MOST_TIMEOUT,
            ),
            give_up_after: self.duration(
                &format!("{label}: give_up_after"),
                give_up_after.as_ref(),
                DAY,
                Duration::from_secs(1)..=7 * DAY,
            ),
            takes_alerts,
            url: url.unwrap_or_else(nowhere),
            name: name.into(),
        }
    }

    /// Where messages go. No message of ours repeats more than its host: the path may be a secret.
    fn webhook_url(
        &mut self,
        label: &str,
        url: &At<String>,
        takes_alerts: bool,
    ) -> Option<WebhookUrl> {
        let read = value::url(&url.value).and_then(|(endpoint, authority, target)| {
            let target = match target {
                "" if takes_alerts => ALERTS.to_owned(),
                "" => "/".to_owned(),
                query if query.starts_with('?') => format!("/{query}"),
                path => path.to_owned(),
            };
            let target = target.parse::<PathAndQuery>();
            let authority = HeaderValue::try_from(authority);
            match (target, authority) {
                (Ok(target), Ok(authority)) => Ok(WebhookUrl { endpoint, authority, target }),
                _ => Err("it has characters that a URL cannot have; write them as %XX"),
            }
        });
        match read {
            Ok(url) => Some(url),
            Err(reason) => {
                let what = format!("{label}: its url cannot be used: {reason}");
                self.problem(&url.span, what, "write https://HOST/PATH or http://HOST:PORT/PATH");
                None
            }
        }
    }

    fn events(&mut self, label: &str, written: &At<OneOrMany>) -> Events {
        let mut events = Events::default();
        if written.value.0.is_empty() && self.present(&PATH) {
            self.problem(
                &written.span,
                format!("{label} asks for no event"),
                "write events = [\"*\"]",
            );
        }
        for pattern in &written.value.0 {
            if events.add(&pattern.value) {
                continue;
            }
            // A single string has the place of the whole.
            let span = if pattern.span.is_empty() { &written.span } else { &pattern.span };
            let patterns = event::patterns();
            let mut mend = String::new();
            if let Some(guess) = value::closest(&pattern.value, patterns.iter().map(String::as_str))
            {
                mend = format!("did you mean {guess:?}?\n");
            }
            mend.push_str("events: ");
            mend.push_str(&patterns.join(", "));
            let shown = self.show(&At { span: span.clone(), value: pattern.value.clone() });
            self.problem(span, format!("{label}: there is no event {shown}"), mend);
        }
        events
    }

    fn secrets(
        &mut self,
        label: &str,
        written: Option<At<OneOrMany>>,
        takes_alerts: bool,
        span: &Range<usize>,
    ) -> Vec<Secret> {
        let Some(At { span: at, value: OneOrMany(list) }) = written else {
            if !takes_alerts && self.present(&PATH) {
                let what = format!("{label}: \"secret\" is missing");
                let mend = format!(
                    "add secret = \"env:NAME\" or \"file:PATH\": the receiver knows by it that a \
                     message is ours; {MAKE_ONE}"
                );
                self.problem(span, what, mend);
            }
            return Vec::new();
        };
        if list.is_empty() || list.len() > MOST_SECRETS {
            let what = format!("{label}: it has {} secrets", list.len());
            self.problem(
                &at,
                what,
                format!("from 1 to {MOST_SECRETS}: the new one, and old ones for a while"),
            );
        }
        let mut secrets = Vec::new();
        for written in list {
            let written =
                if written.span.is_empty() { At { span: at.clone(), ..written } } else { written };
            let whose = "the secret that the receiver verifies messages with";
            let Some((text, place)) = self.secret(label, "secret", &written, whose) else {
                continue;
            };
            match Secret::read(&text) {
                Ok(secret) => {
                    if secret.is_short {
                        let what =
                            format!("{label}: the secret in {place} has fewer than {SHORT} bytes");
                        let mend = format!("a longer one is harder to guess; {MAKE_ONE}");
                        self.notice(&written.span, what, mend);
                    }
                    secrets.push(secret);
                }
                Err(reason) => {
                    let what = format!("{label}: the secret in {place} cannot be used: {reason}");
                    let mend = format!("\"whsec_\" and base64, or any other text; {MAKE_ONE}");
                    self.problem(&written.span, what, mend);
                }
            }
        }
        secrets
    }

    fn labels(
        &mut self,
        label: &str,
        labels: Entries<At<String>>,
        takes_alerts: bool,
    ) -> Vec<(String, String)> {
        if let Some((first, _)) = labels.0.first()
            && !takes_alerts
        {
            let mend = "write format = \"alertmanager\", or remove them";
            self.problem(&first.span, format!("{label}: labels are for alerts"), mend);
        }
        let mut kept = Vec::new();
        for (name, value) in labels.0 {
            let is_name = name.value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !is_name {
                let what = format!("{label}: {} is not the name of a label", self.show(&name));
                self.problem(&name.span, what, "names have letters, digits and \"_\"");
            } else if OWN_LABELS.contains(&name.value.as_str()) {
                let what = format!("{label}: label {} is Weir's own", self.show(&name));
                self.problem(&name.span, what, format!("not one of: {}", OWN_LABELS.join(", ")));
            }
            if value.value.is_empty() {
                let what = format!("{label}: label {} is empty", self.show(&name));
                self.problem(&value.span, what, "Alertmanager drops it; write a value");
            }
            kept.push((name.value, value.value));
        }
        kept
    }
}

/// The host and the port as written; with a number if a webhook before has that name.
fn default_name(url: Option<&WebhookUrl>, names: &mut HashSet<String>) -> String {
    let authority = url.and_then(|url| url.authority.to_str().ok()).unwrap_or("webhook");
    // Of an IPv6 address brackets and colons are left out.
    let fits = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
    let base: String = authority.trim_matches(['[', ']']).chars().map(fits).take(60).collect();
    let mut name = base.clone();
    let mut number = 1;
    while !names.insert(name.clone()) {
        number += 1;
        name = format!("{base}-{number}");
    }
    name
}

/// Stands in for a URL that cannot be used: the plan is not used either.
fn nowhere() -> WebhookUrl {
    WebhookUrl {
        endpoint: Endpoint { scheme: Scheme::Http, host: "".into(), port: 0 },
        authority: HeaderValue::from_static("nowhere"),
        target: PathAndQuery::from_static("/"),
    }
}
