//! Which images of an index are wanted.

use std::fmt;
use std::str::FromStr;

use hab_oci::Digest;
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
    #[serde(default)]
    manifests: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    digest: Digest,
    platform: Option<Platform>,
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// What builders say of an attestation within an index.
#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "vnd.docker.reference.digest")]
    about: Option<String>,
}

impl Member {
    fn is(&self, wanted: &PlatformName) -> bool {
        // A member that says no platform may be for any.
        self.platform.as_ref().is_none_or(|platform| {
            let variant = wanted.variant.is_none() || wanted.variant == platform.variant;
            platform.os == wanted.os && platform.architecture == wanted.architecture && variant
        })
    }
}

/// The members of an index that are for one of these platforms, and what the index says about those; all without
/// platforms. `None` if there is none for any of them.
pub(super) fn members(index: &[u8], wanted: &[PlatformName]) -> Option<Vec<Digest>> {
    let index: Index = serde_json::from_slice(index).ok()?;
    if wanted.is_empty() {
        return Some(index.manifests.into_iter().map(|member| member.digest).collect());
    }
    let is_wanted = |member: &&Member| wanted.iter().any(|platform| member.is(platform));
    let mut found: Vec<Digest> = index.manifests.iter().filter(is_wanted).map(|m| m.digest.clone()).collect();
    let about = |member: &&Member| {
        let about = member.annotations.as_ref().and_then(|annotations| annotations.about.as_deref());
        about.is_some_and(|about| found.iter().any(|digest| digest.to_string() == about))
    };
    let said: Vec<Digest> = index.manifests.iter().filter(about).map(|m| m.digest.clone()).collect();
    found.extend(said);
    Some(found).filter(|found| !found.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_with_a_variant_is_more_exact_and_attestations_go_with_their_image() {
        let digest = |n: u8| Digest::of(&[n]);
        let member = |n: u8, os: &str, architecture: &str, more: &str| {
            let digest = digest(n);
            format!(
                "{{\"digest\":\"{digest}\",\"platform\":{{\"os\":\"{os}\",\"architecture\":\"{architecture}\"{more}"
            )
        };
        let about =
            |n: u8| format!("}},\"annotations\":{{\"vnd.docker.reference.digest\":\"{}\"}}}}", digest(n));
        let index = format!(
            "{{\"manifests\":[{}}}}},{}}}}},{}}}}},{},{}]}}",
            member(1, "linux", "amd64", ""),
            member(2, "linux", "arm", ",\"variant\":\"v6\""),
            member(3, "linux", "arm", ",\"variant\":\"v7\""),
            member(4, "unknown", "unknown", &about(1)),
            member(5, "unknown", "unknown", &about(3)),
        );
        let found = |platforms: &[&str]| {
            let wanted: Vec<PlatformName> = platforms.iter().map(|text| text.parse().unwrap()).collect();
            members(index.as_bytes(), &wanted)
        };
        assert_eq!(found(&[]).unwrap().len(), 5);
        assert_eq!(found(&["linux/amd64"]).unwrap(), [digest(1), digest(4)]);
        assert_eq!(found(&["linux/arm/v7"]).unwrap(), [digest(3), digest(5)]);
        assert_eq!(found(&["linux/arm"]).unwrap(), [digest(2), digest(3), digest(5)]);
        assert_eq!(found(&["linux/s390x"]), None);
        let any = format!("{{\"manifests\":[{{\"digest\":\"{}\"}}]}}", digest(9));
        assert_eq!(members(any.as_bytes(), &["linux/amd64".parse().unwrap()]).unwrap(), [digest(9)]);
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for bad in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b"] {
            assert!(bad.parse::<PlatformName>().is_err(), "{bad}");
        }
        assert_eq!("linux/arm/v7".parse::<PlatformName>().unwrap().to_string(), "linux/arm/v7");
    }
}
