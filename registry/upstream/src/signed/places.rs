//! Where to look for signatures of a manifest.

use std::collections::BTreeMap;

use hab_oci::{Digest, Tag};
use hab_store::Referrer;

use crate::judge::{BUNDLE, SIMPLE_SIGNING};

/// The artifact types of referrers that carry signatures.
const SIGNATURE_TYPES: [&str; 3] =
    [BUNDLE, SIMPLE_SIGNING, "application/vnd.dev.cosign.artifact.sig.v1+json"];
/// The annotation of a bundle's manifest that names the kind of its statement, and the kind that is a signature.
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// The artifact type that some registries state for every artifact with an empty configuration.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The most manifests that are read for the signatures of one manifest.
pub(super) const CARRIERS: usize = 20;

/// The tag where cosign puts the signatures of a manifest.
pub(super) fn signature_tag(digest: &Digest) -> Option<Tag> {
    format!("{}-{}.sig", digest.algorithm().name(), digest.hex()).parse().ok()
}

/// Which referrers to look into for signatures, the likeliest first.
pub(super) fn likeliest(referrers: Vec<Referrer>) -> impl Iterator<Item = Digest> {
    let rank = |Referrer { manifest, artifact_type, annotations }: Referrer| {
        likelihood(artifact_type.as_deref(), &annotations).map(|rank| (rank, manifest.digest))
    };
    let mut found: Vec<(u8, Digest)> = referrers.into_iter().filter_map(rank).collect();
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().take(CARRIERS).map(|(_, digest)| digest)
}

/// How likely a referrer carries signatures: the smaller, the likelier; `None` if it cannot. A list may leave out the
/// artifact type, and the annotation proves nothing, so every possible carrier is read as far as there is room.
fn likelihood(artifact_type: Option<&str>, annotations: &BTreeMap<String, String>) -> Option<u8> {
    match (artifact_type, annotations.get(PREDICATE).map(String::as_str)) {
        (Some(BUNDLE), Some(SIGN)) => Some(0),
        // A statement about something else, such as an SBOM.
        (Some(BUNDLE), Some(_)) => Some(3),
        (Some(kind), _) if SIGNATURE_TYPES.contains(&kind) => Some(1),
        (None | Some("" | EMPTY), _) => Some(2),
        (Some(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_looked_for_first_where_it_is_likely() {
        let note = |text: &str| BTreeMap::from([(PREDICATE.to_owned(), text.to_owned())]);
        let none = BTreeMap::new();
        let order = [
            likelihood(Some(BUNDLE), &note(SIGN)),
            likelihood(Some(BUNDLE), &none),
            likelihood(Some(EMPTY), &none),
            likelihood(Some(BUNDLE), &note("https://spdx.dev/Document")),
        ];
        assert!(order.is_sorted() && order.iter().all(Option::is_some), "{order:?}");
        assert_eq!(likelihood(None, &none), likelihood(Some(EMPTY), &none));
        assert_eq!(likelihood(Some(SIMPLE_SIGNING), &none), likelihood(Some(BUNDLE), &none));
        assert_eq!(likelihood(Some("sbom/type"), &note(SIGN)), None);
    }
}
