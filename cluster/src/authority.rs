//! Where a host keeps who vouches for a registry.

use crate::{Registry, Runtime};

impl Registry {
    /// Where a runtime looks for who vouches for the registry, or is told to look.
    pub(crate) fn authority_path(&self, runtime: Runtime) -> String {
        let host = self.host();
        match runtime {
            Runtime::Containerd => format!("etc/containerd/certs.d/{host}/ca.crt"),
            Runtime::K3s => "etc/rancher/k3s/hab-build-ca.crt".to_owned(),
            Runtime::Rke2 => "etc/rancher/rke2/hab-build-ca.crt".to_owned(),
            Runtime::Crio | Runtime::Podman => format!("etc/containers/certs.d/{host}/ca.crt"),
            Runtime::Docker => format!("etc/docker/certs.d/{host}/ca.crt"),
        }
    }
}
