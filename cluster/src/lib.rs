//! What a host must be told so that it pulls images from one registry and from nowhere else, and whether it does.
//!
//! In scope: reading the settings of containerd, k3s, RKE2, podman, CRI-O and Docker as these programs read them
//! ([`check()`]), planning what to change in them ([`Plan`]), and writing that without losing what was there ([`place`]).
//! Out of scope: asking a running program, the network, proxies and firewalls.
//!
//! A question that the files do not answer is a [`Finding`] of its own kind, [`Kind::Unknown`]: a host that cannot be
//! judged is not one that pulls from here alone.
//!
//! Synchronous; it reads and writes below one root folder and asks nobody. Start reading at [`check()`] and
//! [`Plan::new`].

mod address;
mod authority;
mod check;
mod file;
mod finding;
mod glob;
mod host;
mod kept;
pub mod place;
mod units;
mod used;
mod write;
mod yaml;

pub use check::check;
pub use file::{FileError, Wrong};
pub use finding::{Finding, Kind};
pub use used::{Use, upstream_tables};
pub use write::{Change, Files, Plan, PlanError, files};

/// What pulls images on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// K3s: registries.yaml
    K3s,
    /// RKE2: registries.yaml
    Rke2,
    /// containerd: hosts.toml below certs.d
    Containerd,
    /// CRI-O: registries.conf
    Crio,
    /// podman: registries.conf and policy.json
    Podman,
    /// Docker: daemon.json
    Docker,
}

impl Runtime {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::K3s, Self::Rke2, Self::Containerd, Self::Crio, Self::Podman, Self::Docker];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
            Self::Containerd => "containerd",
            Self::Crio => "crio",
            Self::Podman => "podman",
            Self::Docker => "docker",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|runtime| runtime.name() == name)
    }
}

/// Where the registry is, and whose images it has.
#[derive(Clone, Debug)]
pub struct Registry {
    /// `http://farm:5000` or `https://farm`.
    pub url: String,
    /// The names of the upstreams that are pulled through it.
    pub upstreams: Vec<String>,
    /// The certificate, in PEM, of who vouches for the registry's; none where hosts know it already.
    pub authority: Option<String>,
}
