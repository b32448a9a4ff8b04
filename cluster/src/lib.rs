//! The settings that make a host pull images from one registry and from nowhere else, and the check that it does.
//!
//! In scope: reading the settings of containerd, k3s, RKE2, podman, CRI-O and Docker as these programs read them
//! ([`check()`]), planning what to change in them ([`Plan`]), and writing that without losing what was there
//! ([`place`]). Out of scope: asking a running program, the network, proxies and firewalls.
//!
//! A question that the files leave open is a [`Finding`] of its own kind, [`Kind::Unknown`]: a host that cannot be
//! judged does not count as one that pulls from here alone.
//!
//! Synchronous; it reads and writes below one root folder and asks no server. Start reading at [`check()`] and
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

/// The program that pulls images on a host.
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

    /// The runtime of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|runtime| runtime.name() == name)
    }
}

/// The farm's registry: its address, and the upstreams whose images it has.
#[derive(Clone, Debug)]
pub struct Registry {
    /// `http://farm:5000` or `https://farm`.
    pub url: String,
    /// The names of the upstreams that are pulled through it.
    pub upstreams: Vec<String>,
    /// The certificate, in PEM, of the authority for the registry; `None` if hosts know it already.
    pub authority: Option<String>,
}
