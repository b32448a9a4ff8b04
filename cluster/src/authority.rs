//! Where a host keeps who vouches for a registry.

use crate::host::Host;
use crate::{Registry, Runtime};

impl Registry {
    /// Where a runtime looks for who vouches for the registry, or is told to look.
    pub(crate) fn authority_path(&self, runtime: Runtime) -> String {
        match (folder(runtime), runtime) {
            (Some(folder), _) => below(folder, self.host()),
            (None, Runtime::Rke2) => "etc/rancher/rke2/hab-build-ca.crt".to_owned(),
            (None, _) => "etc/rancher/k3s/hab-build-ca.crt".to_owned(),
        }
    }
}

/// The folder with a folder for each registry; none where settings name one file.
fn folder(runtime: Runtime) -> Option<&'static str> {
    match runtime {
        Runtime::Containerd => Some("etc/containerd/certs.d"),
        Runtime::K3s | Runtime::Rke2 => None,
        Runtime::Crio | Runtime::Podman => Some("etc/containers/certs.d"),
        Runtime::Docker => Some("etc/docker/certs.d"),
    }
}

fn below(folder: &str, registry: &str) -> String {
    format!("{folder}/{registry}/ca.crt")
}

/// Where the host has folders for such a certificate: the registry's name, and the certificate's path.
pub(crate) fn of_each(host: &mut Host<'_>, runtime: Runtime) -> Vec<(String, String)> {
    let Some(folder) = folder(runtime) else { return Vec::new() };
    let names = host.names(folder).into_iter();
    names.map(|name| (name.clone(), below(folder, &name))).collect()
}
