//! `[[webhooks]]`, as it stands in the file.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{At, BackendTls, Duration, Entries, OneOrMany, WebhookFormat};

/// Whom decisions are told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Webhook {
    /// Its name, in metrics, `weir status` and `weir webhook`. Default: the host in `url`, with its
    /// port if it has one.
    #[schemars(regex(pattern = "^[A-Za-z0-9_.-]{1,64}$"))]
    pub(crate) name: Option<At<String>>,
    /// Where messages are sent: `https://…` or `http://…`. Only its host is ever shown. Without a
    /// path, alerts go to `/api/v2/alerts`.
    #[schemars(required)]
    pub(crate) url: Option<At<String>>,
    /// What is told: events such as `ramp.roll_back`, all of a kind such as `ramp.*`, or `*`.
    #[schemars(required)]
    pub(crate) events: Option<At<OneOrMany>>,
    /// What messages are signed with, as `env:NAME` or `file:PATH`; several while one is exchanged
    /// for another. `whsec_` and base64, or any other text. Only `format = "alertmanager"` can do
    /// without.
    #[schemars(regex(pattern = "^(env|file):.+$"))]
    pub(crate) secret: Option<At<OneOrMany>>,
    /// What messages look like: `weir` (the default: one event each), or `alertmanager` (a list of
    /// alerts, as `POST /api/v2/alerts` takes it).
    pub(crate) format: Option<At<WebhookFormat>>,
    /// Labels that every alert gets besides its own; `format = "alertmanager"` only.
    #[serde(default)]
    pub(crate) labels: Entries<At<String>>,
    /// What the receiver asks for, as `env:NAME` or `file:PATH`.
    #[schemars(regex(pattern = "^(env|file):.+$"))]
    pub(crate) credential: Option<At<String>>,
    /// Header that carries the credential. Default `authorization`, as `Bearer CREDENTIAL`; any
    /// other header gets the bare credential.
    pub(crate) credential_header: Option<At<String>>,
    /// TLS towards an `https` receiver.
    pub(crate) tls: Option<At<BackendTls>>,
    /// Whether a DNS name may lead to loopback or private addresses. Default false.
    pub(crate) allow_private: Option<At<bool>>,
    /// Longest try, from the name's resolution to the answer. Default `10s`.
    pub(crate) timeout: Option<At<Duration>>,
    /// Age at which a message that was not taken is given up. Default `24h`.
    pub(crate) give_up_after: Option<At<Duration>>,
}
