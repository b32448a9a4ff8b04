//! Layers to an image: configuration, manifest, index (OCI image specification 1.1).

use std::collections::BTreeMap;

use hab_oci::{
    Config, Descriptor, Empty, ImageConfig, ImageIndex, ImageManifest, Platform, RootFs, annotations,
    media_type,
};

use crate::{ImageError, Written};

/// What an image is beside its layers.
#[derive(Clone, Debug)]
pub struct ImageSpec {
    /// What it runs on.
    pub platform: Platform,
    /// The source's date, in seconds since 1970.
    pub created: i64,
    /// `uid:gid`.
    pub user: String,
    /// The program and its fixed arguments.
    pub entrypoint: Vec<String>,
    /// Arguments that a user may replace.
    pub cmd: Vec<String>,
    /// The running program's variables.
    pub env: BTreeMap<String, String>,
    /// Where it starts.
    pub working_dir: String,
    /// `8333/tcp`.
    pub ports: Vec<String>,
    /// Absolute paths.
    pub volumes: Vec<String>,
    /// The signal that asks it to end.
    pub stop_signal: Option<String>,
    /// OCI annotations; `created` is added.
    pub annotations: BTreeMap<String, String>,
}

/// An image for one platform, ready to be stored.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// The configuration's bytes.
    pub config: Vec<u8>,
    /// The configuration's descriptor.
    pub config_descriptor: Descriptor,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The manifest's descriptor, with its platform.
    pub manifest_descriptor: Descriptor,
}

/// Makes the configuration and the manifest over `layers`, base first.
pub fn assemble(spec: &ImageSpec, layers: &[Written]) -> Result<Assembled, ImageError> {
    let created = rfc3339(spec.created)?;
    let mut notes = spec.annotations.clone();
    notes.insert(annotations::CREATED.to_owned(), created.clone());
    let keys = |names: &[String]| names.iter().map(|n| (n.clone(), Empty::default())).collect();
    let config = ImageConfig {
        created,
        architecture: spec.platform.architecture().to_owned(),
        os: "linux".to_owned(),
        config: Config {
            user: spec.user.clone(),
            exposed_ports: keys(&spec.ports),
            env: spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            entrypoint: spec.entrypoint.clone(),
            cmd: spec.cmd.clone(),
            volumes: keys(&spec.volumes),
            working_dir: spec.working_dir.clone(),
            labels: notes.clone(),
            stop_signal: spec.stop_signal.clone().unwrap_or_default(),
        },
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: layers.iter().map(|l| l.diff_id.clone()).collect(),
        },
    };
    let config = json(&config)?;
    let config_descriptor = Descriptor::of(media_type::IMAGE_CONFIG, &config);
    let manifest = json(&ImageManifest {
        schema_version: 2,
        media_type: media_type::IMAGE_MANIFEST.to_owned(),
        config: config_descriptor.clone(),
        layers: layers.iter().map(|l| l.descriptor.clone()).collect(),
        annotations: notes,
    })?;
    let mut manifest_descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &manifest);
    manifest_descriptor.platform = Some(spec.platform);
    Ok(Assembled { config, config_descriptor, manifest, manifest_descriptor })
}

/// The index over one manifest a platform, in the order given.
pub fn index(
    manifests: Vec<Descriptor>,
    annotations: BTreeMap<String, String>,
) -> Result<Vec<u8>, ImageError> {
    json(&ImageIndex {
        schema_version: 2,
        media_type: media_type::IMAGE_INDEX.to_owned(),
        manifests,
        annotations,
    })
}

fn json(document: &impl serde::Serialize) -> Result<Vec<u8>, ImageError> {
    let failed = |e: serde_json::Error| ImageError::Io { path: "a document".to_owned(), source: e.into() };
    serde_json::to_vec(document).map_err(failed)
}

fn rfc3339(epoch: i64) -> Result<String, ImageError> {
    jiff::Timestamp::from_second(epoch).map(|t| t.to_string()).map_err(|_| ImageError::Time(epoch))
}
