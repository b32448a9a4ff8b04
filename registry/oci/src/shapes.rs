//! The field names of documents in the image specification and in Docker's older formats.

use crate::json::{Shape, check};
use crate::media_type;

const FREE: Shape = Shape::Free;

const PLATFORM: Shape = Shape::Fields(&[
    ("architecture", FREE),
    ("os", FREE),
    ("os.version", FREE),
    ("os.features", FREE),
    ("variant", FREE),
    ("features", FREE),
]);

/// A descriptor: image specification, "OCI Content Descriptors".
pub const DESCRIPTOR: Shape = Shape::Fields(&[
    ("mediaType", FREE),
    ("digest", FREE),
    ("size", FREE),
    ("urls", FREE),
    ("annotations", FREE),
    ("data", FREE),
    ("artifactType", FREE),
    ("platform", PLATFORM),
]);

/// A manifest or an index, OCI's or Docker's. One shape for all, so that no document can be read as both.
pub const MANIFEST: Shape = Shape::Fields(&[
    ("schemaVersion", FREE),
    ("mediaType", FREE),
    ("artifactType", FREE),
    ("config", DESCRIPTOR),
    ("layers", DESCRIPTOR),
    ("blobs", DESCRIPTOR),
    ("manifests", DESCRIPTOR),
    ("subject", DESCRIPTOR),
    ("annotations", FREE),
]);

/// The execution parameters of a container, in both formats.
const RUN: Shape = Shape::Fields(&[
    ("User", FREE),
    ("ExposedPorts", FREE),
    ("Env", FREE),
    ("Entrypoint", FREE),
    ("Cmd", FREE),
    ("Volumes", FREE),
    ("WorkingDir", FREE),
    ("Labels", FREE),
    ("StopSignal", FREE),
    ("StopTimeout", FREE),
    ("Shell", FREE),
    ("OnBuild", FREE),
    ("ArgsEscaped", FREE),
    ("NetworkDisabled", FREE),
    ("MacAddress", FREE),
    ("Hostname", FREE),
    ("Domainname", FREE),
    ("AttachStdin", FREE),
    ("AttachStdout", FREE),
    ("AttachStderr", FREE),
    ("Tty", FREE),
    ("OpenStdin", FREE),
    ("StdinOnce", FREE),
    ("Image", FREE),
    ("Memory", FREE),
    ("MemorySwap", FREE),
    ("CpuShares", FREE),
    (
        "Healthcheck",
        Shape::Fields(&[
            ("Test", FREE),
            ("Interval", FREE),
            ("Timeout", FREE),
            ("StartPeriod", FREE),
            ("StartInterval", FREE),
            ("Retries", FREE),
        ]),
    ),
]);

const HISTORY: Shape = Shape::Fields(&[
    ("created", FREE),
    ("created_by", FREE),
    ("author", FREE),
    ("comment", FREE),
    ("empty_layer", FREE),
]);

/// The configuration of an image.
pub const CONFIG: Shape = Shape::Fields(&[
    ("created", FREE),
    ("author", FREE),
    ("architecture", FREE),
    ("variant", FREE),
    ("os", FREE),
    ("os.version", FREE),
    ("os.features", FREE),
    ("config", RUN),
    ("rootfs", Shape::Fields(&[("type", FREE), ("diff_ids", FREE)])),
    ("history", HISTORY),
    ("id", FREE),
    ("parent", FREE),
    ("comment", FREE),
    ("container", FREE),
    ("container_config", RUN),
    ("docker_version", FREE),
]);

/// The most bytes of an image's configuration: far more than any real one has, and few enough to read before
/// publishing.
pub const LARGEST_CONFIG: u64 = 16 << 20;

/// Whether runtimes read content of this type as the configuration of an image.
pub fn is_image_config(media_type: &str) -> bool {
    matches!(media_type, media_type::IMAGE_CONFIG | media_type::DOCKER_CONFIG)
}

/// Whether a registry serves content of this type as a manifest or an index.
pub fn is_manifest(media_type: &str) -> bool {
    is_index(media_type) || matches!(media_type, media_type::IMAGE_MANIFEST | media_type::DOCKER_MANIFEST)
}

/// Whether content of this type is an index.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, media_type::IMAGE_INDEX | media_type::DOCKER_MANIFEST_LIST)
}

/// Refuses the configuration of an image that two runtimes could read in two ways. Bytes that do not begin as a JSON
/// object pass: no runtime reads them, and artifacts have all sorts of bytes as their configuration.
pub fn check_image_config(bytes: &[u8]) -> Result<(), serde_json::Error> {
    match bytes.trim_ascii_start().first() {
        Some(b'{') => check(bytes, CONFIG),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_runtimes_could_read_in_two_ways_is_refused() {
        let real =
            br#"{"architecture":"amd64","os":"linux","config":{"Env":["A=1"],"Labels":{"a":"1","A":"2"},
            "ExposedPorts":{"80/tcp":{}}},"rootfs":{"type":"layers","diff_ids":[]},
            "history":[{"created_by":"x","empty_layer":true}],"moby.buildkit.buildinfo.v1":"e30="}"#;
        check_image_config(real).unwrap();
        for other in [b"".as_slice(), b"\x7fELF", b"config", b"[1]"] {
            check_image_config(other).unwrap();
        }
        for bad in [
            r#"{"os":"linux","os":"linux"}"#,
            r#"{"os":"linux","OS":"windows"}"#,
            r#"{"config":{"Entrypoint":["/a"],"entrypoint":["/b"]}}"#,
            r#"{"config":{"User":"1000"},"Config":{"User":"0"}}"#,
            r#"{"config":{"Labels":{"a":"1","a":"2"}}}"#,
            r#"{"rootfs":{"diff_ids":[],"diff_IDs":[]}}"#,
            r#"{"history":[{"author":"a","Author":"b"}]}"#,
            r#" {"os":"linux"} {"os":"windows"}"#,
            r#"{"os":"linux""#,
        ] {
            assert!(check_image_config(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
