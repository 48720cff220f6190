//! TLS of the edge and of the admin listener: certificates by name, exchanged without a dropped
//! connection.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::plan::Certificate;

/// Certificates by name. Swapped whole; running connections keep what they have.
#[derive(Debug)]
struct ByName {
    exact: HashMap<String, Arc<CertifiedKey>>,
    // `*.example.com` is kept as `example.com`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    first: Option<Arc<CertifiedKey>>,
}

impl ByName {
    fn new(certificates: &[Certificate]) -> Self {
        let mut by_name = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            first: certificates.first().map(|c| Arc::clone(&c.certified)),
        };
        for certificate in certificates {
            for name in &certificate.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut by_name.wildcard, parent),
                    None => (&mut by_name.exact, &**name),
                };
                // The first written wins.
                map.entry(name.to_owned()).or_insert_with(|| Arc::clone(&certificate.certified));
            }
        }
        by_name
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = name else { return self.first.clone() };
        let name = name.to_ascii_lowercase();
        let parent = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(&name).or_else(parent).or(self.first.as_ref()).cloned()
    }
}

/// The certificates in force.
#[derive(Debug)]
pub struct Certificates(ArcSwap<ByName>);

impl Certificates {
    /// These certificates.
    pub fn new(certificates: &[Certificate]) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(ByName::new(certificates))))
    }

    /// Puts others in force: handshakes from here on see them.
    pub fn replace(&self, certificates: &[Certificate]) {
        self.0.store(Arc::new(ByName::new(certificates)));
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().find(hello.server_name())
    }
}

/// The server side of TLS.
///
/// # Errors
/// When the provider has no protocol version; it has.
pub fn server_config(
    certificates: Arc<Certificates>,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    // Tickets need no memory here; the key is made anew by each process.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// Version and cipher suite of a connection, for the access line.
pub fn described(connection: &rustls::ServerConnection) -> (&'static str, &'static str) {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
        _ => "",
    };
    let cipher =
        connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("");
    (version, cipher)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        Certificate {
            certified: Arc::new(CertifiedKey::new(vec![made.cert.der().clone()], key)),
            names,
            not_after: 0,
            subject: String::new(),
            files: Default::default(),
        }
    }

    #[test]
    fn a_name_finds_its_certificate_and_the_first_serves_the_rest() {
        let pair = [certificate(&["a.test"]), certificate(&["*.b.test", "c.test"])];
        let by_name = ByName::new(&pair);
        let which = |name: Option<&str>| {
            let found = by_name.find(name).unwrap();
            pair.iter().position(|c| Arc::ptr_eq(&c.certified, &found)).unwrap()
        };
        assert_eq!(which(Some("a.test")), 0);
        assert_eq!(which(Some("X.B.test")), 1);
        assert_eq!(which(Some("c.test")), 1);
        assert_eq!(which(Some("b.test")), 0, "a wildcard does not hold its parent");
        assert_eq!(which(Some("x.y.b.test")), 0, "a wildcard is one label");
        assert_eq!(which(None), 0);
    }
}
