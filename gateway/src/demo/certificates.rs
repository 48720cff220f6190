//! A certificate authority that lives as long as one demo, and the edge's certificate from it.

use std::net::IpAddr;

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// Days for which a demo may run; long-lived certificates are refused by some clients.
const DAYS: i64 = 30;

/// What a demo needs of certificates, in PEM. The authority's private key is gone already.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// The authority: what clients are told to trust.
    pub(crate) ca: String,
    /// The edge's certificate.
    pub(crate) chain: String,
    /// The edge's private key.
    pub(crate) key: String,
}

/// Makes them, for `localhost`, the loopback addresses and `edge`.
pub(crate) fn make(edge: IpAddr) -> Result<Certificates, rcgen::Error> {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(DnType::CommonName, "Weir demo authority");
    valid(&mut ca);
    let ca_key = KeyPair::generate()?;
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let mut leaf = CertificateParams::new(vec!["localhost".to_owned()])?;
    leaf.distinguished_name.push(DnType::CommonName, "Weir demo edge");
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    if !addresses.contains(&edge) && !edge.is_unspecified() {
        addresses.push(edge);
    }
    leaf.subject_alt_names.extend(addresses.into_iter().map(SanType::IpAddress));
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    valid(&mut leaf);
    let key = KeyPair::generate()?;
    let chain = leaf.signed_by(&key, &issuer)?.pem();
    Ok(Certificates { ca: ca_pem, chain, key: key.serialize_pem() })
}

/// From yesterday, because clocks differ.
fn valid(params: &mut CertificateParams) {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let day = |days: i64| {
        let date = today.saturating_add(days.days());
        date_time_ymd(
            i32::from(date.year()),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = day(-1);
    params.not_after = day(DAYS);
}
