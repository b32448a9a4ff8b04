//! Where signatures of a manifest are looked for.

use std::collections::BTreeMap;

use hab_oci::{Digest, Tag};
use hab_store::Referrer;

use crate::judge::{BUNDLE, SIMPLE_SIGNING};

/// What an artifact that carries signatures says it is, as a referrer.
const SIGNATURE_TYPES: [&str; 3] =
    [BUNDLE, SIMPLE_SIGNING, "application/vnd.dev.cosign.artifact.sig.v1+json"];
/// The annotation of a bundle's manifest that says what kind of statement is in it, and what that is of a signature.
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// What some registries say of every artifact, whose configuration is empty.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The most manifests that carry signatures of one.
pub(super) const CARRIERS: usize = 20;

/// Where cosign puts the signatures of a manifest.
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

/// How likely it is that a referrer carries signatures, the likeliest first; `None` if it does not. A list may leave
/// out what an artifact is, and the annotation is nobody's promise: whatever may be one is looked at, as far as there
/// is room.
fn likelihood(artifact_type: Option<&str>, annotations: &BTreeMap<String, String>) -> Option<u8> {
    match (artifact_type, annotations.get(PREDICATE).map(String::as_str)) {
        (Some(BUNDLE), Some(SIGN)) => Some(0),
        // Of an SBOM or the like.
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
