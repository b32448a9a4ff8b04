//! Selects images of an index by platform.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use hab_oci::shapes::{self, is_manifest};
use hab_oci::{Digest, json};
use serde::Deserialize;

/// `os/architecture` or `os/architecture/variant`, in Go's words: `linux/amd64`, `linux/arm/v7`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PlatformName {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl FromStr for PlatformName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let good = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [os, architecture, rest @ ..] if rest.len() < 2 && parts.iter().all(good) => Ok(Self {
                os: (*os).to_owned(),
                architecture: (*architecture).to_owned(),
                variant: rest.first().map(|variant| (*variant).to_owned()),
            }),
            _ => Err(format!("{text:?} is not a platform, such as linux/amd64 or linux/arm/v7")),
        }
    }
}

impl TryFrom<String> for PlatformName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for PlatformName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[derive(Deserialize)]
struct Index {
    manifests: Option<Vec<Member>>,
    blobs: Option<Vec<Member>>,
}

#[derive(Deserialize)]
struct Member {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: Digest,
    size: u64,
    /// Where else it is: then no registry has to hold it.
    urls: Option<Vec<String>>,
    platform: Option<Platform>,
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// The annotations with which builders mark an attestation within an index.
#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "vnd.docker.reference.digest")]
    about: Option<String>,
}

impl Member {
    fn is(&self, wanted: &PlatformName) -> bool {
        // A member without a platform may be for any.
        self.platform.as_ref().is_none_or(|platform| {
            let variant = wanted.variant.is_none() || wanted.variant == platform.variant;
            platform.os == wanted.os && platform.architecture == wanted.architecture && variant
        })
    }
}

/// The selected members of an index.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    /// Images and indexes, each with its size.
    pub(super) manifests: Vec<(Digest, u64)>,
    /// Its other members, such as the layers in a cache of BuildKit.
    pub(super) blobs: Vec<(Digest, u64)>,
}

/// The members of an index for these platforms, and their attestations in the index; all members if there are no
/// platforms. `None` if it is no index.
pub(super) fn members(index: &[u8], wanted: &[PlatformName]) -> Option<Members> {
    let index: Index = json::read(index, shapes::MANIFEST).ok()?;
    let is_wanted = |member: &Member| wanted.is_empty() || wanted.iter().any(|platform| member.is(platform));
    let listed = index.manifests.unwrap_or_default();
    let found: HashSet<Digest> = listed.iter().filter(|m| is_wanted(m)).map(|m| m.digest.clone()).collect();
    let about = |member: &Member| {
        let about = member.annotations.as_ref().and_then(|annotations| annotations.about.as_deref());
        about.is_some_and(|about| about.parse().is_ok_and(|digest: Digest| found.contains(&digest)))
    };
    let mut members = Members::default();
    let blobs = index.blobs.into_iter().flatten();
    for member in listed.into_iter().filter(|member| is_wanted(member) || about(member)).chain(blobs) {
        if is_manifest(&member.media_type) {
            members.manifests.push((member.digest, member.size));
        } else if member.urls.is_none_or(|urls| urls.is_empty()) {
            members.blobs.push((member.digest, member.size));
        }
    }
    Some(members)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hab_oci::media_type;

    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    /// A member without its closing brace.
    fn member(kind: &str, n: u8, platform: &str) -> String {
        let digest = digest(n);
        format!("{{\"mediaType\":\"{kind}\",\"digest\":\"{digest}\",\"size\":{n}{platform}")
    }

    fn image(n: u8, os: &str, architecture: &str, more: &str) -> String {
        let platform = format!(",\"platform\":{{\"os\":\"{os}\",\"architecture\":\"{architecture}\"{more}}}");
        member(media_type::IMAGE_MANIFEST, n, &platform)
    }

    fn found(index: &str, platforms: &[&str]) -> [Vec<Digest>; 2] {
        let wanted: Vec<PlatformName> = platforms.iter().map(|text| text.parse().unwrap()).collect();
        let members = members(index.as_bytes(), &wanted).unwrap();
        [members.manifests, members.blobs].map(|list| list.into_iter().map(|(digest, _)| digest).collect())
    }

    #[test]
    fn a_platform_with_a_variant_is_more_exact_and_attestations_go_with_their_image() {
        let about =
            |n: u8| format!(",\"annotations\":{{\"vnd.docker.reference.digest\":\"{}\"}}}}", digest(n));
        let index = format!(
            "{{\"manifests\":[{}}},{}}},{}}},{}{},{}{}]}}",
            image(1, "linux", "amd64", ""),
            image(2, "linux", "arm", ",\"variant\":\"v6\""),
            image(3, "linux", "arm", ",\"variant\":\"v7\""),
            image(4, "unknown", "unknown", ""),
            about(1),
            image(5, "unknown", "unknown", ""),
            about(3),
        );
        let found = |platforms: &[&str]| found(&index, platforms)[0].clone();
        assert_eq!(found(&[]).len(), 5);
        assert_eq!(found(&["linux/amd64"]), [digest(1), digest(4)]);
        assert_eq!(found(&["linux/arm/v7"]), [digest(3), digest(5)]);
        assert_eq!(found(&["linux/arm"]), [digest(2), digest(3), digest(5)]);
        assert!(found(&["linux/s390x"]).is_empty());
    }

    #[test]
    fn what_says_no_platform_is_for_any_and_what_is_no_manifest_is_a_blob() {
        let index = format!(
            "{{\"manifests\":[{}}},{}}},{}}}],\"blobs\":[{}}}]}}",
            member(media_type::IMAGE_MANIFEST, 9, ""),
            member(media_type::LAYER_GZIP, 8, ""),
            member("application/vnd.buildkit.cacheconfig.v0", 7, ""),
            member("b/t", 6, ""),
        );
        for platforms in [&[][..], &["linux/amd64"]] {
            assert_eq!(found(&index, platforms), [vec![digest(9)], vec![digest(8), digest(7), digest(6)]]);
        }
        assert_eq!(members(br#"{"manifests":[],"Manifests":[]}"#, &[]), None);
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for bad in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b"] {
            assert!(bad.parse::<PlatformName>().is_err(), "{bad}");
        }
        assert_eq!("linux/arm/v7".parse::<PlatformName>().unwrap().to_string(), "linux/arm/v7");
    }
}
