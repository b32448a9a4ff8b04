//! Descriptors, manifests, indexes and image configurations: the subset of the OCI image specification that this
//! program writes. Foreign documents (a client's push, another registry's bytes) are passed on unchanged, so these
//! types need not round-trip them. Fields are in the order in which they are written.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Digest;

/// Media types, by the specifications' names.
pub mod media_type {
    /// An OCI image manifest.
    pub const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI image configuration.
    pub const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A layer: tar, not compressed.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer: tar, compressed with gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer: tar, compressed with zstd.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker's image manifest, version 2 schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's manifest list.
    pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
}

/// Pre-defined annotation keys of the image specification.
pub mod annotations {
    /// The date of the image, RFC 3339; this program always writes the source's date.
    pub const CREATED: &str = "org.opencontainers.image.created";
    /// The address of the source.
    pub const SOURCE: &str = "org.opencontainers.image.source";
    /// The source's revision.
    pub const REVISION: &str = "org.opencontainers.image.revision";
    /// The packaged version.
    pub const VERSION: &str = "org.opencontainers.image.version";
    /// SPDX licence expression.
    pub const LICENSES: &str = "org.opencontainers.image.licenses";
    /// A title for people.
    pub const TITLE: &str = "org.opencontainers.image.title";
    /// A description in one sentence.
    pub const DESCRIPTION: &str = "org.opencontainers.image.description";
}

/// A reference to content: its type, identity and size in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The content's media type.
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's size in bytes.
    pub size: u64,
    /// The platform that the content runs on; only within an index.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// Describes `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            platform: None,
        }
    }
}

/// A platform that this program builds for: `linux/amd64` or `linux/arm64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Platform {
    /// x86_64.
    LinuxAmd64,
    /// aarch64.
    LinuxArm64,
}

/// Why a text is not a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform: expected linux/amd64 or linux/arm64")]
pub struct PlatformError(String);

impl Platform {
    /// Every platform, in the order in which an index lists them.
    pub const ALL: [Self; 2] = [Self::LinuxAmd64, Self::LinuxArm64];

    /// The architecture's name in Go (GOARCH) and Debian.
    pub const fn architecture(self) -> &'static str {
        match self {
            Self::LinuxAmd64 => "amd64",
            Self::LinuxArm64 => "arm64",
        }
    }

    /// The architecture's name in a GNU triplet.
    pub const fn machine(self) -> &'static str {
        match self {
            Self::LinuxAmd64 => "x86_64",
            Self::LinuxArm64 => "aarch64",
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        match text {
            "linux/amd64" => Ok(Self::LinuxAmd64),
            "linux/arm64" | "linux/arm64/v8" => Ok(Self::LinuxArm64),
            _ => Err(PlatformError(text.chars().take(100).collect())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.architecture())
    }
}

#[derive(Serialize, Deserialize)]
struct PlatformFields<'a> {
    architecture: std::borrow::Cow<'a, str>,
    os: std::borrow::Cow<'a, str>,
}

/// Written as the image specification has it within an index: `{"architecture": "amd64", "os": "linux"}`.
impl Serialize for Platform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        PlatformFields { architecture: self.architecture().into(), os: "linux".into() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = PlatformFields::deserialize(deserializer)?;
        format!("{}/{}", fields.os, fields.architecture).parse().map_err(serde::de::Error::custom)
    }
}

/// An image for one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`media_type::IMAGE_MANIFEST`].
    pub media_type: String,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, base first.
    pub layers: Vec<Descriptor>,
    /// Notes for people and tools.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub annotations: BTreeMap<String, String>,
}

/// Images for several platforms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2.
    pub schema_version: u32,
    /// [`media_type::IMAGE_INDEX`].
    pub media_type: String,
    /// The manifests, one for each platform.
    pub manifests: Vec<Descriptor>,
    /// Notes for people and tools.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub annotations: BTreeMap<String, String>,
}

/// How to run an image: the image specification's `config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// The source's date, RFC 3339.
    pub created: String,
    /// The architecture, as GOARCH names it.
    pub architecture: String,
    /// The operating system, as GOOS names it.
    pub os: String,
    /// The execution parameters.
    pub config: Config,
    /// The digests of the layers before compression.
    pub rootfs: RootFs,
}

/// The execution parameters within an [`ImageConfig`].
#[allow(clippy::zero_sized_map_values)] // the specification's sets are objects with empty objects in them
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// `uid:gid` or a name.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub user: String,
    /// `8333/tcp` -> {}.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub env: Vec<String>,
    /// The program and its fixed arguments.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub entrypoint: Vec<String>,
    /// Arguments that a user may replace.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub cmd: Vec<String>,
    /// `/path` -> {}.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub volumes: BTreeMap<String, Empty>,
    /// The folder in which the program starts.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub working_dir: String,
    /// The annotations again, because some tools show only labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to end.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub stop_signal: String,
}

/// `{}`: the specification writes a set as an object with this value for each member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// The layers of an image, by their digests before compression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// sha256 of each layer's tar, base first.
    pub diff_ids: Vec<Digest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_written_as_the_specification_writes_it() {
        let mut d = Descriptor::of(media_type::IMAGE_MANIFEST, b"{}");
        d.platform = Some(Platform::LinuxArm64);
        let json = serde_json::to_string(&d).unwrap();
        assert_eq!(
            json,
            "{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\
             \"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2,\
             \"platform\":{\"architecture\":\"arm64\",\"os\":\"linux\"}}"
        );
        assert_eq!(serde_json::from_str::<Descriptor>(&json).unwrap(), d);
    }

    #[test]
    fn platforms_parse_as_users_write_them() {
        assert_eq!("linux/amd64".parse(), Ok(Platform::LinuxAmd64));
        assert!("windows/amd64".parse::<Platform>().is_err());
        assert_eq!(Platform::LinuxArm64.to_string(), "linux/arm64");
    }
}
