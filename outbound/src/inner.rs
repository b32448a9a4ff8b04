//! Recognises addresses that are not on the public internet. A host outside must not choose one of these: only this
//! machine or its network can reach them, and services there often trust everybody who can.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Names that no public host has: RFC 6761, RFC 6762, RFC 8375, and ICANN's reservation of `internal`.
const INNER_NAMES: [&str; 5] = ["localhost", "local", "internal", "home.arpa", "localdomain"];

/// Whether an address is not globally reachable by IANA's special-purpose registries (RFC 6890), or is internal to a
/// cloud.
pub fn is_inner(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_inner_v4(v4),
        IpAddr::V6(v6) => is_inner_v6(v6),
    }
}

fn is_inner_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240 // reserved, and broadcast
        || (a == 100 && b & 0xc0 == 64) // shared by carriers
        || (a == 198 && b & 0xfe == 18) // benchmarks
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || (a == 192 && b == 88 && c == 99) // the old 6to4 relays
        // Azure's own services for its machines; unreachable from elsewhere.
        || address == Ipv4Addr::new(168, 63, 129, 16)
}

fn is_inner_v6(address: Ipv6Addr) -> bool {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match (s0, s1) {
        // A NAT64 address leads to an IPv4 address (RFC 6052).
        (0x0064, 0xff9b) if [s2, s3, s4, s5] == [0; 4] => is_inner_v4(v4(s6, s7)),
        // So does a 6to4 address (RFC 3056).
        (0x2002, _) => is_inner_v4(v4(s1, s2)),
        // IETF protocol assignments: Teredo, benchmarks, ORCHID.
        (0x2001, second) if second & 0xfe00 == 0 => true,
        // For documentation.
        (0x2001, 0x0db8) => true,
        (0x3fff, second) if second & 0xf000 == 0 => true,
        // Only 2000::/3 is assigned to the public internet (RFC 4291, section 2.4; IANA's IPv6 address space).
        (first, _) => first & 0xe000 != 0x2000,
    }
}

/// Whether a host is inner by its spelling: an inner address, or a name that no public host has. The resolver checks
/// the addresses of other names.
pub fn looks_inner(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = literal.parse::<IpAddr>() {
        return is_inner(address);
    }
    // A resolver may complete a name of one label with this network's own search list.
    !host.contains('.')
        || INNER_NAMES.iter().any(|name| {
            host.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_only_this_network_can_reach_is_known() {
        for inner in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::127.0.0.1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "100::1",
            "5f00::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a00:1",
            "64:ff9b:1::101:101",
        ] {
            assert!(is_inner(inner.parse().unwrap()), "{inner}");
        }
        for public in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "2606:4700::1",
            "2a00:1450::1",
            "2001:4860::1",
            "64:ff9b::101:101",
            "2002:101:101::1",
            "::ffff:1.1.1.1",
        ] {
            assert!(!is_inner(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn a_name_that_no_public_host_has_is_known() {
        for inner in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1",
            "[::1]",
            "[::ffff:10.0.0.1]",
            "registry",
            "metadata.google.internal",
            "nas.local",
            "nas.home.arpa",
            "",
        ] {
            assert!(looks_inner(inner), "{inner}");
        }
        for public in ["localhost.example", "notlocal.example", "a.mylocal", "1.1.1.1", "[2606:4700::1]"] {
            assert!(!looks_inner(public), "{public}");
        }
    }
}
