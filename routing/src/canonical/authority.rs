//! The one spelling of `Host` and `:authority`.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// Host and port as a client named them, in their one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Lower case, without a closing dot; an IPv6 address in brackets and in its shortest form.
    pub host: Cow<'a, str>,
    /// The port, if one was named.
    pub port: Option<u16>,
}

/// Why an authority is refused; all of them are answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityFault {
    /// `user@host`: a way to show one host and mean another.
    #[error("the host carries user information (`@`)")]
    UserInfo,
    /// `host:1:2`, or an IPv6 address without brackets.
    #[error("the host carries more than one port")]
    SecondPort,
    /// Nothing, or only a dot or a port.
    #[error("the host is empty")]
    EmptyHost,
    /// `a..b` or `.a`.
    #[error("the host has an empty label")]
    EmptyLabel,
    /// A byte that no host name carries.
    #[error("the host contains a byte that no host name carries (0x{byte:02X})")]
    HostByte {
        /// The byte.
        byte: u8,
    },
    /// Brackets around something that is no IPv6 address.
    #[error("the brackets do not hold an IPv6 address")]
    BadAddress,
    /// Not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    BadPort,
}

/// The canonical spelling of `raw`; borrowed if it already has it.
///
/// A host is a name of letters, digits, `-`, `_` and `.`, or an IPv6 address in brackets. Escapes
/// are refused, and so is an empty port (`host:`): no client needs either.
pub fn canonical_authority(raw: &str) -> Result<Authority<'_>, AuthorityFault> {
    if raw.contains('@') {
        return Err(AuthorityFault::UserInfo);
    }
    if raw.starts_with('[') {
        let Some(close) = raw.find(']') else { return Err(AuthorityFault::BadAddress) };
        let (written, after) = raw.split_at(close + 1);
        let port = match after.as_bytes() {
            [] => None,
            [b':', ..] => Some(canonical_port(&after[1..])?),
            [byte, ..] => return Err(AuthorityFault::HostByte { byte: *byte }),
        };
        return Ok(Authority { host: canonical_address(written, close)?, port });
    }
    let (name, port) = match raw.split_once(':') {
        Some((name, port)) => (name, Some(canonical_port(port)?)),
        None => (raw, None),
    };
    Ok(Authority { host: canonical_name(name)?, port })
}

fn canonical_name(written: &str) -> Result<Cow<'_, str>, AuthorityFault> {
    let name = written.strip_suffix('.').unwrap_or(written);
    if name.is_empty() {
        return Err(AuthorityFault::EmptyHost);
    }
    let mut upper_case = false;
    let mut before = b'.';
    for &byte in name.as_bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
            b'A'..=b'Z' => upper_case = true,
            b'.' if before != b'.' => {}
            b'.' => return Err(AuthorityFault::EmptyLabel),
            _ => return Err(AuthorityFault::HostByte { byte }),
        }
        before = byte;
    }
    if before == b'.' {
        return Err(AuthorityFault::EmptyLabel);
    }
    Ok(if upper_case { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) })
}

/// `written` is an address in brackets, the closing one at `close`.
fn canonical_address(written: &str, close: usize) -> Result<Cow<'_, str>, AuthorityFault> {
    let Ok(address) = written[1..close].parse::<Ipv6Addr>() else {
        return Err(AuthorityFault::BadAddress);
    };
    let canonical = format!("[{address}]");
    Ok(if canonical == written { Cow::Borrowed(written) } else { Cow::Owned(canonical) })
}

fn canonical_port(written: &str) -> Result<u16, AuthorityFault> {
    if written.contains(':') {
        return Err(AuthorityFault::SecondPort);
    }
    // `u16::from_str` would take "+80" and "0000080".
    if written.len() > 5 || !written.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AuthorityFault::BadPort);
    }
    match written.parse() {
        Ok(0) | Err(_) => Err(AuthorityFault::BadPort),
        Ok(port) => Ok(port),
    }
}
