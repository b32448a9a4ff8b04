//! IP networks.

use std::net::IpAddr;
use std::str::FromStr;

/// An IP network: `10.42.0.0/16`, `2001:db8::/32`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u32,
}

/// Why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a network: expected an address, or an address and a prefix length, such as 10.42.0.0/16"
)]
pub struct NetworkError(String);

impl Network {
    /// Whether the network has an address. An IPv4 address that is mapped into IPv6 counts as the IPv4 address.
    pub fn has(&self, address: IpAddr) -> bool {
        let beginning = |bits: u128, of: u32| bits.checked_shr(of - self.bits).unwrap_or(0);
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(other)) => {
                beginning(u128::from(first.to_bits()), 32) == beginning(u128::from(other.to_bits()), 32)
            }
            (IpAddr::V6(first), IpAddr::V6(other)) => {
                beginning(first.to_bits(), 128) == beginning(other.to_bits(), 128)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let error = || NetworkError(text.chars().take(100).collect());
        let (first, bits) = text.split_once('/').map_or((text, None), |(first, bits)| (first, Some(bits)));
        let first: IpAddr = first.parse().map_err(|_| error())?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| error()))?;
        if bits > most { Err(error()) } else { Ok(Self { first, bits }) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_a_network_if_it_begins_like_it() {
        let has =
            |network: &str, address: &str| network.parse::<Network>().unwrap().has(address.parse().unwrap());
        assert!(has("10.42.0.0/16", "10.42.255.1") && !has("10.42.0.0/16", "10.43.0.1"));
        assert!(has("10.42.0.0/16", "::ffff:10.42.0.9"));
        assert!(has("192.0.2.1", "192.0.2.1") && !has("192.0.2.1", "192.0.2.2"));
        assert!(has("0.0.0.0/0", "192.0.2.1") && !has("0.0.0.0/0", "2001:db8::1"));
        assert!(has("::/0", "2001:db8::1") && has("2001:db8::/32", "2001:db8:1::1"));
        for bad in ["", "10.0.0.0/33", "10.0.0.0/-1", "farm/8", "::/129", "10.0.0.0/"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
