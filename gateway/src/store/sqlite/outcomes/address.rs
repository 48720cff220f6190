//! An address as it is kept.

use std::net::{IpAddr, SocketAddr};

/// 4 or 16 bytes and 2 of the port.
pub(super) struct Address {
    bytes: [u8; 18],
    length: usize,
}

impl Address {
    pub(super) fn of(address: SocketAddr) -> Self {
        let mut bytes = [0; 18];
        let length = match address.ip() {
            IpAddr::V4(ip) => {
                bytes[..4].copy_from_slice(&ip.octets());
                4
            }
            IpAddr::V6(ip) => {
                bytes[..16].copy_from_slice(&ip.octets());
                16
            }
        };
        bytes[length..length + 2].copy_from_slice(&address.port().to_be_bytes());
        Self { bytes, length }
    }

    pub(super) fn whole(&self) -> &[u8] {
        &self.bytes[..self.length + 2]
    }

    pub(super) fn without_port(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Address and port; the port only if there is one.
    pub(super) fn read(bytes: &[u8]) -> Option<(IpAddr, Option<u16>)> {
        let (ip, port): (IpAddr, _) = if let Some((ip, port)) = bytes.split_first_chunk::<16>() {
            ((*ip).into(), port)
        } else {
            let (ip, port) = bytes.split_first_chunk::<4>()?;
            ((*ip).into(), port)
        };
        Some((ip, port.first_chunk().map(|port| u16::from_be_bytes(*port))))
    }
}
