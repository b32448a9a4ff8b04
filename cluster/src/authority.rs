//! Where a host keeps the certificate of a registry's authority.

use crate::host::Host;
use crate::{Registry, Runtime};

impl Registry {
    /// The path where a runtime looks for the certificate of the registry's authority, or is told to look.
    pub(crate) fn authority_path(&self, runtime: Runtime) -> String {
        match (folder(runtime), runtime) {
            (Some(folder), _) => below(folder, self.host()),
            (None, Runtime::Rke2) => "etc/rancher/rke2/hab-build-ca.crt".to_owned(),
            (None, _) => "etc/rancher/k3s/hab-build-ca.crt".to_owned(),
        }
    }
}

/// The folder that has a folder for each registry, or `None` where settings name one file.
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

/// Every registry that has a folder for such a certificate: its name, and the certificate's path.
pub(crate) fn of_each(host: &mut Host<'_>, runtime: Runtime) -> Vec<(String, String)> {
    let Some(folder) = folder(runtime) else { return Vec::new() };
    let names = host.names(folder).into_iter();
    names.map(|name| (name.clone(), below(folder, &name))).collect()
}
