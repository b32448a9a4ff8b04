//! Whether a host would still pull from somewhere else. Its files are read as its programs read them, not compared with
//! the ones that this program writes, so a finding says what would happen.

mod containerd;
mod containers;
mod docker;
mod hosts;
mod imports;
mod k3s;
mod k3s_flags;
mod policy;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_containerd;
#[cfg(test)]
mod tests_containers;
#[cfg(test)]
mod tests_k3s;

use std::collections::BTreeMap;
use std::path::Path;

use crate::host::Host;
use crate::{Finding, Registry, Runtime};

pub(crate) use containerd::{
    FOLDER as CONTAINERD_FOLDER, folders as containerd_folders, sandbox as containerd_sandbox,
};
pub(crate) use containers::{Conf, ENDS};
pub(crate) use k3s_flags::Flags;

/// Checks the host's files below `root`, usually `/`. Without a finding the host pulls from the farm alone, as far as
/// its files say. A question that they leave open is a finding of [`crate::Kind::Unknown`].
pub fn check(runtime: Runtime, registry: &Registry, root: &Path) -> Vec<Finding> {
    check_with(runtime, registry, root, &BTreeMap::new())
}

/// Like [`check`], with some files as they would be.
pub(crate) fn check_with(
    runtime: Runtime,
    registry: &Registry,
    root: &Path,
    planned: &BTreeMap<String, String>,
) -> Vec<Finding> {
    let mut host = Host::new(registry, root, planned);
    let authority = registry.authority_path(runtime);
    if registry.authority.is_some() && !host.has(&authority) {
        host.tell(&authority, "is not there: the farm's certificate is not trusted");
    }
    match runtime {
        Runtime::Containerd => containerd::check(&mut host),
        Runtime::K3s | Runtime::Rke2 => k3s::check(&mut host, runtime),
        Runtime::Crio | Runtime::Podman => containers::check(&mut host, runtime),
        Runtime::Docker => docker::check(&mut host),
    }
    host.found
}
