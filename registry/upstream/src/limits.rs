//! How much an upstream may send.

/// The most bytes that an upstream may send, by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// Bytes of a manifest; the distribution specification asks for at least 4 MiB.
    pub manifest: usize,
    /// Bytes of a blob.
    pub blob: u64,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self { manifest: 4 << 20, blob: 64 << 30 }
    }
}
