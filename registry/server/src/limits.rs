//! How much one client can take, and what is accepted of those who push.

use std::net::IpAddr;
use std::time::Duration;

use hab_store::Gaps;

use crate::network::Network;

/// How much of anything one client can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a manifest; the specification asks for at least 4 MiB.
    pub manifest: usize,
    /// Bytes of a blob.
    pub blob: u64,
    /// How long a client may take for its TLS handshake, and for a request's head, from its first byte to its last.
    pub head: Duration,
    /// How long a client may keep a connection on which it asks nothing.
    pub keep: Duration,
    /// How long a client that sends a body may go without sending a byte, and the time over which its `pace` is
    /// measured.
    pub idle: Duration,
    /// The time over which the `pace` of a client is measured that is sent an answer: it may pause for so long.
    pub taking: Duration,
    /// The fewest bytes a second that a client has to send of a body, or to take of an answer, while it is waited for.
    pub pace: u64,
    /// How long what a client still sends is thrown away after it was answered early.
    pub linger: Duration,
    /// How long open requests may go on after a shutdown was asked for.
    pub drain: Duration,
    /// Connections at the same time.
    pub connections: usize,
    /// Connections of one client at the same time: an IPv4 address, or a /64 of IPv6.
    pub connections_each: usize,
    /// Networks of proxies and of many clients behind one address: each may have three quarters of all connections, as
    /// an address of this machine itself may.
    pub trusted: Vec<Network>,
    /// How long an upload may stay unfinished.
    pub upload: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let hab_upstream::Limits { manifest, blob } = hab_upstream::Limits::default();
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

impl Limits {
    /// How many connections the client at this address may have; never all of them, where there are four or more.
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

/// What is accepted of those who may push.
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
