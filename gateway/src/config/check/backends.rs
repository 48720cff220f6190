//! Backends: endpoints, credentials, probes, and TLS towards them.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, header};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::Check;
use crate::config::plan::{Backend, Balance, Certificate, Endpoint, Probe, Scheme, Tls};
use crate::config::value;
use crate::config::written::{self, At, Entries};

const HOUR: Duration = Duration::from_secs(3600);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Headers that frame a message or belong to one connection: none of them carries a credential.
const NO_CREDENTIAL: [HeaderName; 9] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
];

/// Who asks for a credential.
pub(super) struct Owner<'a> {
    /// Where it stands in the file.
    pub(super) path: &'a [&'a str],
    /// What it is.
    pub(super) place: &'a str,
    /// What it asks for.
    pub(super) asks: &'a str,
}

impl Check<'_> {
    pub(super) fn backends(&mut self, entries: Entries<written::Backend>) -> Vec<Backend> {
        entries.0.into_iter().map(|(name, backend)| self.backend(name, backend)).collect()
    }

    fn backend(&mut self, name: At<String>, backend: written::Backend) -> Backend {
        let written::Backend {
            endpoints,
            model,
            balance,
            credential,
            credential_header,
            health,
            tls,
            host,
            max_in_flight,
            idle_timeout,
            allow_private,
        } = backend;
        let label = format!("backend {:?}", name.value);
        let path = ["backends", name.value.as_str()];
        let example = "[\"http://10.0.0.1:8000\"]";
        let endpoints = self.required(endpoints, &label, &path, "endpoints", &name.span, example);
        let endpoints =
            endpoints.map(|list| self.endpoints(&label, &name.value, list)).unwrap_or_default();
        if let Some(model) = &model
            && model.value.is_empty()
        {
            let mend = "leave it out to keep the model of the request";
            self.problem(&model.span, format!("{label}: model is empty"), mend);
        }
        let owner =
            Owner { path: &["backends"], place: "the backend", asks: "the backend's credential" };
        let credential = self.credential(&label, credential, credential_header, &owner);
        let health = health.map(|health| self.probe(&label, &name.value, health));
        let tls = self.backend_tls(&label, &endpoints, tls);
        let host = host.and_then(|host| {
            match (value::authority(&host.value), HeaderValue::try_from(host.value.as_str())) {
                (Ok(_), Ok(value)) => Some(value),
                (Err(reason), _) => {
                    let what = format!("{label}: {} is not a host: {reason}", self.show(&host));
                    self.problem(&host.span, what, "write a name, and :PORT if it has one");
                    None
                }
                (Ok(_), Err(_)) => None,
            }
        });
        let max_in_flight = max_in_flight.map(|most| {
            self.whole(&format!("{label}: max_in_flight"), Some(&most), 1, 1..=1_000_000)
        });
        let idle_timeout = self.duration(
            &format!("{label}: idle_timeout"),
            idle_timeout.as_ref(),
            Duration::from_secs(4),
            MILLISECOND..=HOUR,
        );
        Backend {
            endpoints,
            model: model.map(|model| model.value.into()),
            balance: match balance.map(|balance| balance.value) {
                Some(written::Balance::LeastRequests) | None => Balance::LeastRequests,
                Some(written::Balance::RoundRobin) => Balance::RoundRobin,
                Some(written::Balance::HashUnit) => Balance::HashUnit,
            },
            credential,
            health,
            tls,
            host,
            max_in_flight,
            idle_timeout,
            allow_private: allow_private.is_some_and(|allow| allow.value),
            name: name.value.into(),
        }
    }

    fn endpoints(&mut self, label: &str, name: &str, list: At<Vec<At<String>>>) -> Vec<Endpoint> {
        if list.value.is_empty() && self.present(&["backends", name, "endpoints"]) {
            let mend = "write endpoints = [\"http://10.0.0.1:8000\"]";
            self.problem(&list.span, format!("{label} has no endpoint"), mend);
        }
        let mut endpoints = Vec::new();
        let mut seen = HashSet::new();
        for written in list.value {
            match value::endpoint(&written.value) {
                Ok(endpoint) => {
                    if !seen.insert(endpoint.clone()) {
                        let what =
                            format!("{label}: endpoint {} is written twice", self.show(&written));
                        self.problem(&written.span, what, "keep one of them");
                    }
                    endpoints.push(endpoint);
                }
                Err(reason) => {
                    // An endpoint that carries a user name may carry a password.
                    let shown = if written.value.contains('@') {
                        "an endpoint".to_owned()
                    } else {
                        self.show(&written)
                    };
                    let what = format!("{label}: {shown} cannot be used: {reason}");
                    self.problem(
                        &written.span,
                        what,
                        "write http://HOST:PORT, https://HOST or h2c://HOST:PORT",
                    );
                }
            }
        }
        endpoints
    }

    /// The header that carries a credential. No message repeats what is in it.
    pub(super) fn credential(
        &mut self,
        label: &str,
        credential: Option<At<String>>,
        header: Option<At<String>>,
        owner: &Owner<'_>,
    ) -> Option<(HeaderName, HeaderValue)> {
        let mut name = header::AUTHORIZATION;
        if let Some(written) = &header {
            match HeaderName::try_from(written.value.as_str()) {
                Ok(written) if !NO_CREDENTIAL.contains(&written) => name = written,
                Ok(_) => {
                    let what = format!(
                        "{label}: credential_header {} has another task",
                        self.show(written)
                    );
                    self.problem(
                        &written.span,
                        what,
                        format!("write the header {} asks for, such as \"x-api-key\"", owner.place),
                    );
                }
                Err(_) => {
                    let what = format!(
                        "{label}: credential_header {} is not the name of a header",
                        self.show(written)
                    );
                    self.problem(&written.span, what, "write a name such as \"x-api-key\"");
                }
            }
            if credential.is_none() && self.present(owner.path) {
                let what = format!("{label}: credential_header without credential");
                self.problem(&written.span, what, "add credential = \"env:NAME\" or \"file:PATH\"");
            }
        }
        let written = credential?;
        let (secret, place) = self.secret(label, "credential", &written, owner.asks)?;
        let text = if name == header::AUTHORIZATION { format!("Bearer {secret}") } else { secret };
        let visible = text.bytes().all(|byte| (0x20..0x7F).contains(&byte));
        match HeaderValue::try_from(text) {
            Ok(mut value) if visible => {
                value.set_sensitive(true);
                Some((name, value))
            }
            Ok(_) | Err(_) => {
                let what = format!(
                    "{label}: the credential in {place} has characters that no header can carry"
                );
                self.problem(
                    &written.span,
                    what,
                    "it must be one line of visible ASCII characters",
                );
                None
            }
        }
    }

    /// What `env:NAME` or `file:PATH` leads to, without white space around it, and a name for the
    /// place. `member` is what it is written as, `whose` what should be there.
    pub(super) fn secret(
        &mut self,
        label: &str,
        member: &str,
        written: &At<String>,
        whose: &str,
    ) -> Option<(String, String)> {
        let (text, place) = match written.value.split_once(':') {
            Some(("env", name)) => {
                let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                if name.is_empty() || !name.bytes().all(fits) {
                    let what = format!("{label}: {member} names no environment variable");
                    self.problem(&written.span, what, format!("write {member} = \"env:NAME\""));
                    return None;
                }
                let Some(value) = (self.world.variable)(name) else {
                    let what = format!("{label}: the environment variable {name} is not set");
                    self.problem(&written.span, what, format!("set it to {whose}"));
                    return None;
                };
                (value, name.to_owned())
            }
            Some(("file", path)) => {
                let file = At { span: written.span.clone(), value: path.to_owned() };
                let bytes = self.contents(&format!("{label}: {member}"), &file)?;
                (String::from_utf8_lossy(&bytes).into_owned(), format!("{path:?}"))
            }
            Some(_) | None => {
                let what = format!("{label}: {member} names no place");
                let mend = "write \"env:NAME\" or \"file:PATH\": secrets do not stand in this file";
                self.problem(&written.span, what, mend);
                return None;
            }
        };
        let text = text.trim();
        if text.is_empty() {
            let what = format!("{label}: the {member} in {place} is empty");
            self.problem(&written.span, what, format!("put {whose} there, or remove this member"));
            return None;
        }
        Some((text.to_owned(), place))
    }

    fn probe(&mut self, label: &str, name: &str, health: At<written::Health>) -> Probe {
        let At { span, value: written::Health { path, interval, timeout } } = health;
        let place = ["backends", name, "health"];
        let path =
            self.required(path, &format!("{label}: health"), &place, "path", &span, "\"/health\"");
        let path = path.map(|path| self.request_path(&format!("{label}: health.path"), &path));
        let default = Duration::from_secs(5);
        let range = Duration::from_millis(10)..=HOUR;
        let every =
            self.duration(&format!("{label}: health.interval"), interval.as_ref(), default, range);
        let wait = self.duration(
            &format!("{label}: health.timeout"),
            timeout.as_ref(),
            Duration::from_secs(2).min(every),
            MILLISECOND..=HOUR,
        );
        if wait > every {
            let (wait, every) = (value::show_duration(wait), value::show_duration(every));
            let what = format!(
                "{label}: health.timeout ({wait}) is longer than health.interval ({every})"
            );
            let at = timeout.as_ref().map_or(&span, |timeout| &timeout.span);
            self.problem(at, what, "a probe ends before the next one begins");
        }
        Probe { path: path.unwrap_or_default(), interval: every, timeout: wait }
    }

    /// How TLS is spoken to `https` endpoints, if there are any.
    pub(super) fn backend_tls(
        &mut self,
        label: &str,
        endpoints: &[Endpoint],
        tls: Option<At<written::BackendTls>>,
    ) -> Option<Tls> {
        let encrypted = endpoints.iter().any(|endpoint| endpoint.scheme == Scheme::Https);
        let written_at: Option<Range<usize>> = tls.as_ref().map(|tls| tls.span.clone());
        if let Some(at) = &written_at
            && !encrypted
            && !endpoints.is_empty()
        {
            let mend = "write https:// endpoints, or remove it";
            self.problem(at, format!("{label}: tls without an https endpoint"), mend);
        }
        let At { span, value: tls } = tls.unwrap_or_default();
        let written::BackendTls { ca, client_certificate, client_key, server_name } = tls;
        let label = format!("{label}: tls");
        if let Some(name) = &server_name
            && ServerName::try_from(name.value.as_str()).is_err()
        {
            let what = format!(
                "{label}.server_name: {} is neither a DNS name nor an address",
                self.show(name)
            );
            self.problem(&name.span, what, "write the name in the backend's certificate");
        }
        let roots = match ca {
            Some(ca) => self.authorities(&format!("{label}.ca"), ca),
            None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
        };
        let alone = |member: &str, other: &str| {
            (format!("{label}: {member} without {other}"), format!("add {other} = \"FILE\""))
        };
        let client = match (client_certificate, client_key) {
            (Some(chain), Some(key)) => {
                let chain = self.chain(&format!("{label}.client_certificate"), chain);
                let key = self.private_key(&format!("{label}.client_key"), key);
                match (chain, key) {
                    (Some((chain_file, chain)), Some((key_file, key))) => {
                        self.pair(&label, chain_file, chain, key_file, key)
                    }
                    (_, _) => None,
                }
            }
            (None, None) => None,
            (Some(_), None) => {
                let (what, mend) = alone("client_certificate", "client_key");
                if self.present(&["backends"]) {
                    self.problem(&span, what, mend);
                }
                None
            }
            (None, Some(_)) => {
                let (what, mend) = alone("client_key", "client_certificate");
                if self.present(&["backends"]) {
                    self.problem(&span, what, mend);
                }
                None
            }
        };
        if !encrypted {
            return None;
        }
        let server_name: Option<Arc<str>> = server_name.map(|name| name.value.into());
        let fingerprint = fingerprint(&roots, client.as_ref(), server_name.as_deref());
        let config = self.client_config(roots, client)?;
        Some(Tls { config, server_name, fingerprint })
    }

    fn client_config(
        &mut self,
        roots: RootCertStore,
        client: Option<Certificate>,
    ) -> Option<Arc<ClientConfig>> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.world.provider));
        let builder = match builder.with_safe_default_protocol_versions() {
            Ok(builder) => builder.with_root_certificates(roots),
            Err(fault) => {
                let what = format!("TLS cannot be used: {fault}");
                self.problems.push(self.source.whole(what, String::new()));
                return None;
            }
        };
        let mut config = match client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                let only: Arc<dyn ResolvesClientCert> =
                    Arc::new(SingleCertAndKey::from(client.certified));
                builder.with_client_cert_resolver(only)
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Some(Arc::new(config))
    }
}

/// Tells TLS settings apart. The client's key needs no part in it: its certificate names it.
fn fingerprint(
    roots: &RootCertStore,
    client: Option<&Certificate>,
    server_name: Option<&str>,
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    // Each piece with its length, so that no two lists of pieces run into the same bytes.
    let mut piece = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    piece(&(roots.roots.len() as u64).to_le_bytes());
    for anchor in &roots.roots {
        piece(&anchor.subject);
        piece(&anchor.subject_public_key_info);
        piece(anchor.name_constraints.as_deref().unwrap_or_default());
    }
    if let Some(client) = client {
        client.certified.cert.iter().for_each(|certificate| piece(certificate));
    }
    piece(server_name.unwrap_or_default().as_bytes());
    hasher.finalize().into()
}
