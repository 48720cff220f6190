//! Certificates made on the spot: an authority of the test's own, and what it vouches for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// How many authorities this process has made.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// A certificate authority that only this test trusts.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
}

/// A certificate chain and its private key, in PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate of the leaf; the authority itself is not part of it.
    pub chain_pem: String,
    /// The private key, PKCS #8.
    pub key_pem: String,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new authority; no two of them trust each other's certificates.
    #[must_use]
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Each its own name: of two issuers by one name, only a signature tells which is meant.
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("Weir test authority {number}");
        params.distinguished_name.push(DnType::CommonName, name);
        let ca_pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), ca_pem }
    }

    /// A server certificate for `names`, each a DNS name or an IP address.
    #[must_use]
    pub fn leaf(&self, names: &[&str]) -> Pair {
        self.issue(server(names))
    }

    /// A server certificate for `names` that ceased to be valid years ago.
    #[must_use]
    pub fn expired_leaf(&self, names: &[&str]) -> Pair {
        let mut params = server(names);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.issue(params)
    }

    /// A client certificate whose subject alternative name is `name`: a URI if it has `://` in it,
    /// a mail address if it has `@`, otherwise a DNS name.
    #[must_use]
    pub fn client(&self, name: &str) -> Pair {
        self.issue(client(name))
    }

    /// A client certificate that ceased to be valid years ago.
    #[must_use]
    pub fn expired_client(&self, name: &str) -> Pair {
        let mut params = client(name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.issue(params)
    }

    /// The authority's own certificate, in PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A trust store that holds this authority and nothing else.
    #[must_use]
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).unwrap()).unwrap();
        roots
    }

    /// Writes the authority's certificate to `folder` as `NAME.pem`, and gives its path.
    pub fn write_ca(&self, folder: impl AsRef<Path>, name: &str) -> PathBuf {
        let path = folder.as_ref().join(format!("{name}.pem"));
        std::fs::write(&path, &self.ca_pem).unwrap();
        path
    }

    fn issue(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let chain_pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { chain_pem, key_pem: key.serialize_pem() }
    }
}

impl Pair {
    /// Writes both to `folder` as `NAME.pem` and `NAME.key`, and gives their paths.
    pub fn write(&self, folder: impl AsRef<Path>, name: &str) -> (PathBuf, PathBuf) {
        let chain = folder.as_ref().join(format!("{name}.pem"));
        let key = folder.as_ref().join(format!("{name}.key"));
        std::fs::write(&chain, &self.chain_pem).unwrap();
        std::fs::write(&key, &self.key_pem).unwrap();
        (chain, key)
    }

    /// The leaf in DER, as the other side of a handshake sees it.
    #[must_use]
    pub fn leaf_der(&self) -> Vec<u8> {
        CertificateDer::from_pem_slice(self.chain_pem.as_bytes()).unwrap().to_vec()
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.chain_pem.as_bytes()).map(Result::unwrap).collect()
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap()
    }
}

/// What a client presents and accepts. `protocols` is its ALPN list.
pub(crate) fn client_config(
    roots: &RootCertStore,
    identity: Option<&Pair>,
    protocols: &[&str],
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.clone());
    let mut config = match identity {
        Some(pair) => builder.with_client_auth_cert(pair.chain(), pair.key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn(protocols);
    Arc::new(config)
}

/// What a server presents, and whose clients it insists on, if on any.
pub(crate) fn server_config(
    pair: &Pair,
    clients: Option<&RootCertStore>,
    protocols: &[&str],
) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Some(roots) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider())
                .build()
                .unwrap(),
        ),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(pair.chain(), pair.key()).unwrap();
    config.alpn_protocols = alpn(protocols);
    Arc::new(config)
}

/// Named wherever it is used, so that no test depends on a process-wide default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn alpn(protocols: &[&str]) -> Vec<Vec<u8>> {
    protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}

fn server(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.distinguished_name.push(DnType::CommonName, "Weir test server");
    params
}

fn client(name: &str) -> CertificateParams {
    let san = name.try_into().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![if name.contains("://") {
        SanType::URI(san)
    } else if name.contains('@') {
        SanType::Rfc822Name(san)
    } else {
        SanType::DnsName(san)
    }];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.distinguished_name.push(DnType::CommonName, "Weir test client");
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, backend};

    #[tokio::test]
    async fn a_leaf_is_trusted_through_its_own_authority_only() {
        let authority = Authority::new();
        let served = backend().answers("in").tls(&authority.leaf(&["localhost"])).start().await;

        let trusting = Client::new(served.addr, authority.roots());
        assert_eq!(trusting.get("/").await.text(), "in");
        let foreign = Client::new(served.addr, Authority::new().roots());
        let failure = foreign.get("/").attempt().await.unwrap_err();
        assert!(failure.to_string().contains("UnknownIssuer"), "{failure}");
    }

    #[tokio::test]
    async fn an_expired_leaf_and_a_foreign_name_are_refused() {
        let authority = Authority::new();
        for (pair, reason) in [
            (authority.expired_leaf(&["localhost"]), "expired"),
            (authority.leaf(&["elsewhere.test"]), "not valid for name"),
        ] {
            let served = backend().tls(&pair).start().await;
            let client = Client::new(served.addr, authority.roots());
            let failure = client.get("/").attempt().await.unwrap_err();
            assert!(failure.to_string().contains(reason), "{failure}");
        }
    }

    #[tokio::test]
    async fn a_server_that_insists_on_a_client_certificate_sees_it() {
        let authority = Authority::new();
        let served = backend()
            .answers("known")
            .tls(&authority.leaf(&["localhost"]))
            .insists_on_clients_of(&authority)
            .start()
            .await;

        let pair = authority.client("spiffe://weir.test/mobile");
        let known = Client::new(served.addr, authority.roots()).identity(&pair);
        assert_eq!(known.get("/").await.text(), "known");
        assert_eq!(served.last().client_certificate, Some(pair.leaf_der()));
        assert_eq!(served.last().server_name.as_deref(), Some("localhost"));

        let unknown = Client::new(served.addr, authority.roots());
        assert!(unknown.get("/").attempt().await.is_err());
        let expired = authority.expired_client("mobile.test");
        let expired = Client::new(served.addr, authority.roots()).identity(&expired);
        assert!(expired.get("/").attempt().await.is_err());
        assert_eq!(served.calls(), 1);
    }

    #[test]
    fn files_hold_what_was_issued() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let pair = authority.leaf(&["127.0.0.1"]);
        let (chain, key) = pair.write(folder.path(), "edge");
        assert_eq!(std::fs::read_to_string(chain).unwrap(), pair.chain_pem);
        assert_eq!(std::fs::read_to_string(key).unwrap(), pair.key_pem);
        let ca = authority.write_ca(folder.path(), "ca");
        assert_eq!(std::fs::read_to_string(ca).unwrap(), authority.ca_pem());
    }
}
