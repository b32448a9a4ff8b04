//! Limits for clients, and rules for pushed content.

use std::net::IpAddr;
use std::time::Duration;

use hab_store::Gaps;

use crate::network::Network;

/// How much of the service clients can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Bytes of a manifest; the specification asks for at least 4 MiB.
    pub manifest: usize,
    /// Bytes of a blob.
    pub blob: u64,
    /// How long a client may take for its TLS handshake, and for a request's head, from its first byte to its last.
    pub head: Duration,
    /// How long a client may keep a connection open without a request.
    pub keep: Duration,
    /// How long a client that sends a body may go without sending a byte, and the time over which its `pace` is
    /// measured.
    pub idle: Duration,
    /// The time over which the `pace` of a client that takes an answer is measured; it may pause for this long.
    pub taking: Duration,
    /// The fewest bytes a second that a client must send of a body, or take of an answer, while the server waits for
    /// it.
    pub pace: u64,
    /// How long the further bytes of a client are read and discarded after an early answer.
    pub linger: Duration,
    /// How long open requests may go on after a shutdown begins.
    pub drain: Duration,
    /// Connections at the same time.
    pub connections: usize,
    /// Connections of one client at the same time: an IPv4 address, or a /64 of IPv6.
    pub connections_each: usize,
    /// Networks of proxies, or of many clients behind one address. Each address there may have three quarters of all
    /// connections, like an address of this machine itself.
    pub trusted: Vec<Network>,
    /// How long an upload may stay unfinished.
    pub upload: Duration,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        let hab_upstream::UpstreamLimits { manifest, blob } = hab_upstream::UpstreamLimits::default();
        Self {
            manifest,
            blob,
            head: Duration::from_secs(10),
            keep: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            taking: Duration::from_secs(120),
            pace: 1 << 10,
            linger: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            connections: 1024,
            connections_each: 128,
            trusted: Vec::new(),
            upload: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl ServiceLimits {
    /// How many connections the client at this address may have; never all of them, if there are four or more.
    pub(crate) fn connections_of(&self, address: IpAddr) -> usize {
        let most = self.connections - self.connections / 4;
        if self.is_trusted(address) { most } else { self.connections_each.clamp(1, most.max(1)) }
    }

    /// Whether the client at this address may have more than others.
    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.trusted.iter().any(|network| network.has(address))
    }
}

/// Rules for pushed content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What a pushed manifest may name that its repository does not hold.
    pub gaps: Gaps,
}

impl Default for Rules {
    fn default() -> Self {
        Self { gaps: Gaps::Indexes }
    }
}
