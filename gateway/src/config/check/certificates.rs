//! Certificates, keys and authorities: parsed, known to belong together, and known when they end.

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Check;
use crate::config::plan::Certificate;
use crate::config::written::{self, At};

/// What is read from a leaf.
struct Leaf {
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
    subject: String,
}

impl Check<'_> {
    /// The certificates of a listener; at least one.
    pub(super) fn certificates(
        &mut self,
        label: &str,
        path: &[&str],
        tls: At<written::ServerTls>,
    ) -> Vec<Certificate> {
        let At { span, value: written::ServerTls { certificates } } = tls;
        let example = "[{ chain = \"edge.pem\", key = \"edge.key\" }]";
        let list = self.required(certificates, label, path, "certificates", &span, example);
        let Some(list) = list else { return Vec::new() };
        let path: Vec<&str> = path.iter().copied().chain(["certificates"]).collect();
        if list.value.is_empty() && self.present(&path) {
            let mend = format!("write certificates = {example}");
            self.problem(&list.span, format!("{label}: there is no certificate"), mend);
        }
        let mut parsed = Vec::new();
        for At { span, value: written::Certificate { chain, key } } in list.value {
            // Both are looked at, so that what is wrong with both is told at once.
            let label = format!("{label}.certificates");
            let chain = self.required(chain, &label, &path, "chain", &span, "\"FILE\"");
            let key = self.required(key, &label, &path, "key", &span, "\"FILE\"");
            let chain = chain.and_then(|chain| self.chain(&label, chain));
            let key = key.and_then(|key| self.private_key(&label, key));
            if let (Some((chain_file, chain)), Some((key_file, key))) = (chain, key)
                && let Some(certificate) = self.pair(&label, chain_file, chain, key_file, key)
            {
                parsed.push(certificate);
            }
        }
        parsed
    }

    /// A chain and its key, if they belong together.
    pub(super) fn pair(
        &mut self,
        label: &str,
        chain_file: At<PathBuf>,
        chain: Vec<CertificateDer<'static>>,
        key_file: At<PathBuf>,
        key: PrivateKeyDer<'static>,
    ) -> Option<Certificate> {
        // As written: the whole path is nobody's business but this machine's.
        let source = self.source;
        let name = |file: &At<PathBuf>| source.text.get(file.span.clone()).unwrap_or_default();
        let leaf = chain.first().map_or(Err("there is none".to_owned()), leaf);
        let leaf = match leaf {
            Ok(leaf) => leaf,
            Err(reason) => {
                let what = format!(
                    "{label}: the certificate in {} is malformed: {reason}",
                    name(&chain_file)
                );
                self.problem(
                    &chain_file.span,
                    what,
                    "the first certificate of the file is the server's own",
                );
                return None;
            }
        };
        let key = match self.world.provider.key_provider.load_private_key(key) {
            Ok(key) => key,
            Err(_) => {
                // The reason may speak of the key's content.
                let what = format!("{label}: the key in {} cannot be used", name(&key_file));
                self.problem(
                    &key_file.span,
                    what,
                    "use an ECDSA (P-256, P-384), Ed25519 or RSA (2048 bits and more) key",
                );
                return None;
            }
        };
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                let what = format!(
                    "{label}: the key in {} does not belong to the certificate in {}",
                    name(&key_file),
                    name(&chain_file)
                );
                self.problem(
                    &key_file.span,
                    what,
                    "both files must come from the same issue of the certificate",
                );
                return None;
            }
            Err(fault) => {
                let what = format!(
                    "{label}: the certificate in {} cannot be used: {fault}",
                    name(&chain_file)
                );
                self.problem(&chain_file.span, what, "use an X.509 certificate of version 3");
                return None;
            }
        }
        if leaf.not_after <= self.world.now {
            let days = (self.world.now - leaf.not_after) / 86_400;
            let since = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
            let what =
                format!("{label}: the certificate in {} expired {since} ago", name(&chain_file));
            self.notice(&chain_file.span, what, "clients will refuse it; renew it");
        } else if leaf.not_before > self.world.now {
            let what =
                format!("{label}: the certificate in {} is not valid yet", name(&chain_file));
            self.notice(&chain_file.span, what, "clients will refuse it; is the clock right?");
        }
        if leaf.names.is_empty() {
            let what = format!("{label}: the certificate in {} names no host", name(&chain_file));
            self.notice(
                &chain_file.span,
                what,
                "clients will refuse it; issue it with a subject alternative name",
            );
        }
        let Leaf { names, not_before: _, not_after, subject } = leaf;
        Some(Certificate {
            certified: Arc::new(certified),
            names,
            not_after,
            subject,
            files: [chain_file.value, key_file.value],
        })
    }

    /// The certificates in a file.
    pub(super) fn chain(
        &mut self,
        label: &str,
        written: At<String>,
    ) -> Option<(At<PathBuf>, Vec<CertificateDer<'static>>)> {
        let bytes = self.contents(label, &written)?;
        let parsed: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
        let mend = "it must have -----BEGIN CERTIFICATE-----, the server's own first";
        let what = match parsed {
            Ok(chain) if !chain.is_empty() => {
                return Some((At { value: self.file(&written.value), span: written.span }, chain));
            }
            Ok(_) => format!("{label}: {} holds no certificate", self.show(&written)),
            Err(fault) => {
                format!("{label}: {} is not PEM: {}", self.show(&written), pem_fault(&fault))
            }
        };
        self.problem(&written.span, what, mend);
        None
    }

    /// The private key in a file.
    pub(super) fn private_key(
        &mut self,
        label: &str,
        written: At<String>,
    ) -> Option<(At<PathBuf>, PrivateKeyDer<'static>)> {
        let bytes = self.contents(label, &written)?;
        let what = match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(key) => {
                return Some((At { value: self.file(&written.value), span: written.span }, key));
            }
            Err(pem::Error::NoItemsFound) => {
                format!("{label}: {} holds no private key", self.show(&written))
            }
            Err(fault) => {
                format!("{label}: {} is not PEM: {}", self.show(&written), pem_fault(&fault))
            }
        };
        self.problem(
            &written.span,
            what,
            "it must have -----BEGIN PRIVATE KEY-----, without a password",
        );
        None
    }

    /// The authorities in a file.
    pub(super) fn authorities(&mut self, label: &str, written: At<String>) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        if let Some((file, certificates)) = self.chain(label, written) {
            for certificate in certificates {
                if let Err(fault) = roots.add(certificate) {
                    let shown = self.source.text.get(file.span.clone()).unwrap_or_default();
                    let what = format!("{label}: an authority in {shown} is malformed: {fault}");
                    self.problem(
                        &file.span,
                        what,
                        "it must hold the authorities' own certificates",
                    );
                    break;
                }
            }
        }
        roots
    }

    /// What is in the file that is written.
    pub(super) fn contents(&mut self, label: &str, written: &At<String>) -> Option<Vec<u8>> {
        if written.value.is_empty() || written.value.contains('\0') {
            let what = format!("{label}: {} names no file", self.show(written));
            self.problem(&written.span, what, "write the path of a file, relative to this one");
            return None;
        }
        let path = self.file(&written.value);
        match (self.world.read)(&path) {
            Ok(bytes) => Some(bytes),
            Err(reason) => {
                let what = format!("{label}: {} {reason}", self.show(written));
                self.problem(&written.span, what, "paths are relative to the folder of this file");
                None
            }
        }
    }
}

/// What stands in a leaf certificate.
fn leaf(der: &CertificateDer<'_>) -> Result<Leaf, String> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|fault| fault.to_string())?;
    if !rest.is_empty() {
        return Err("bytes follow its end".to_owned());
    }
    let alternatives = certificate.subject_alternative_name().map_err(|fault| fault.to_string())?;
    let mut names = Vec::new();
    for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
        // Only these two are asked for by clients of a server.
        if let GeneralName::DNSName(name) = name {
            names.push(name.to_ascii_lowercase());
        } else if let GeneralName::IPAddress(bytes) = name {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            names.extend(v4.or(v6).map(|address| address.to_string()));
        }
    }
    Ok(Leaf {
        names,
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        subject: certificate.subject().to_string(),
    })
}

/// Why a file is no PEM, without repeating any of it: it may be a key.
fn pem_fault(fault: &pem::Error) -> &'static str {
    #[expect(clippy::wildcard_enum_match_arm, reason = "its cases may grow")]
    match fault {
        pem::Error::MissingSectionEnd { .. } => "a section does not end",
        pem::Error::IllegalSectionStart { .. } => "a section starts in the wrong place",
        pem::Error::Base64Decode(_) => "a section is not base64",
        pem::Error::SectionTooLarge => "a section is too large",
        pem::Error::NoItemsFound => "nothing that is needed is in it",
        _ => "it is malformed",
    }
}
