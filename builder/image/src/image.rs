//! Makes an image of layers, and an index of images.

use std::collections::{BTreeMap, BTreeSet};

use hab_oci::{
    Config, Descriptor, Empty, ImageConfig, ImageIndex, ImageManifest, Platform, RootFs, annotations,
    media_type,
};

use crate::{ImageError, PackedLayer, date};

/// How an image is run, and what its annotations say: OCI image specification, "Image configuration".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSpec {
    /// The platform that the image runs on.
    pub platform: Platform,
    /// The source's date, in seconds since 1970; it becomes `created` in the configuration and the annotations.
    pub created: i64,
    /// The program, by its absolute path, and its fixed arguments.
    pub entrypoint: Vec<String>,
    /// Arguments that a user may replace.
    pub cmd: Vec<String>,
    /// The user: `uid`, `uid:gid` or a name; empty for root.
    pub user: String,
    /// Ports that the program listens on: `8333/tcp` or `8333`.
    pub ports: Vec<String>,
    /// Absolute paths that are volumes.
    pub volumes: Vec<String>,
    /// Environment variables, by name.
    pub env: BTreeMap<String, String>,
    /// The working folder: an absolute path, or empty for `/`.
    pub workdir: String,
    /// The signal that stops the program, such as `SIGTERM`; empty for the runtime's default.
    pub stop_signal: String,
    /// The manifest's annotations; `created` is added. Keys are in [`hab_oci::annotations`].
    pub annotations: BTreeMap<String, String>,
}

impl ImageSpec {
    /// A specification for `platform` with every other field empty.
    pub fn new(platform: Platform, created: i64) -> Self {
        Self {
            platform,
            created,
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            user: String::new(),
            ports: Vec::new(),
            volumes: Vec::new(),
            env: BTreeMap::new(),
            workdir: String::new(),
            stop_signal: String::new(),
            annotations: BTreeMap::new(),
        }
    }
}

/// An image's two documents, each with its descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The configuration's bytes.
    pub config: Vec<u8>,
    /// The configuration's descriptor.
    pub config_descriptor: Descriptor,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The manifest's descriptor, with the platform, as an index needs it.
    pub descriptor: Descriptor,
}

/// Makes the configuration and the manifest of an image of `layers`, base first.
pub fn assemble(spec: &ImageSpec, layers: &[PackedLayer]) -> Result<Image, ImageError> {
    let created = date::rfc3339(spec.created)?;
    let mut annotations = spec.annotations.clone();
    annotations.insert(annotations::CREATED.to_owned(), created.clone());
    let config = ImageConfig {
        created,
        architecture: spec.platform.architecture().to_owned(),
        os: "linux".to_owned(),
        config: Config {
            user: spec.user.clone(),
            exposed_ports: set(&spec.ports, "a port such as 8333/tcp", is_port)?,
            env: environment(&spec.env)?,
            entrypoint: spec.entrypoint.clone(),
            cmd: spec.cmd.clone(),
            volumes: set(&spec.volumes, "an absolute path", |v| v.starts_with('/'))?,
            working_dir: match spec.workdir.as_str() {
                "" => String::new(),
                path if path.starts_with('/') => path.to_owned(),
                path => {
                    return Err(ImageError::Spec { value: path.to_owned(), expected: "an absolute path" });
                }
            },
            labels: annotations.clone(),
            stop_signal: spec.stop_signal.clone(),
        },
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        },
    };
    let config = serde_json::to_vec(&config)?;
    let config_descriptor = Descriptor::of(media_type::IMAGE_CONFIG, &config);
    let manifest = serde_json::to_vec(&ImageManifest {
        schema_version: 2,
        media_type: media_type::IMAGE_MANIFEST.to_owned(),
        config: config_descriptor.clone(),
        layers: layers.iter().map(|layer| layer.descriptor.clone()).collect(),
        annotations,
    })?;
    let mut descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &manifest);
    descriptor.platform = Some(spec.platform);
    Ok(Image { config, config_descriptor, manifest, descriptor })
}

/// Makes an index of images for different platforms. It is sorted by platform, whatever their order here is.
pub fn index(
    manifests: &[Descriptor],
    annotations: BTreeMap<String, String>,
) -> Result<(Vec<u8>, Descriptor), ImageError> {
    let platforms: BTreeSet<_> = manifests.iter().map(|m| m.platform).collect();
    if manifests.is_empty() {
        return Err(ImageError::Index("it would have no image"));
    }
    if platforms.contains(&None) {
        return Err(ImageError::Index("an image names no platform"));
    }
    if platforms.len() < manifests.len() {
        return Err(ImageError::Index("two images are for the same platform"));
    }
    let mut manifests = manifests.to_vec();
    manifests.sort_by_key(|m| m.platform);
    let media_type = media_type::IMAGE_INDEX.to_owned();
    let bytes = serde_json::to_vec(&ImageIndex { schema_version: 2, media_type, manifests, annotations })?;
    let descriptor = Descriptor::of(media_type::IMAGE_INDEX, &bytes);
    Ok((bytes, descriptor))
}

/// The specification writes sets as objects with empty values.
#[expect(clippy::zero_sized_map_values, reason = "the type is the document's shape")]
fn set(
    values: &[String],
    expected: &'static str,
    valid: fn(&str) -> bool,
) -> Result<BTreeMap<String, Empty>, ImageError> {
    let checked = |value: &String| {
        if valid(value) {
            Ok((value.clone(), Empty {}))
        } else {
            Err(ImageError::Spec { value: value.clone(), expected })
        }
    };
    values.iter().map(checked).collect()
}

fn is_port(text: &str) -> bool {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    matches!(protocol, "tcp" | "udp") && number.parse::<u16>().is_ok_and(|n| n > 0)
}

fn environment(env: &BTreeMap<String, String>) -> Result<Vec<String>, ImageError> {
    let checked = |(name, value): (&String, &String)| {
        if name.is_empty() || name.contains('=') || name.contains('\0') || value.contains('\0') {
            let expected = "the name of an environment variable with a value";
            return Err(ImageError::Spec { value: name.clone(), expected });
        }
        Ok(format!("{name}={value}"))
    };
    env.iter().map(checked).collect()
}
