//! Signatures as cosign makes them since version 3: sigstore bundles that refer to what they sign.

use hab_oci::{Descriptor, Digest, media_type};

use crate::harness::descriptor;
use crate::harness::upstream::{Repository, through};
use crate::upstream_signed::{blob, manifest, refused, served, strict, upstream};
use crate::upstream_sync::{World, only};

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
const SPDX: &str = "https://spdx.dev/Document";

/// How a registry lists a referrer.
#[derive(Clone, Copy)]
enum Listed {
    Whole,
    /// Without saying what it is.
    Bare,
    /// By the type of its configuration, which is empty.
    Empty,
}

/// A bundle about a manifest: `does` is what somebody's word does, `predicate` what kind of statement it is said to be.
fn bundle(there: &mut Repository, subject: &Digest, does: &str, predicate: &str, listed: Listed) -> Digest {
    with_layers(there, subject, &[format!("{does} {subject}").into_bytes()], predicate, listed)
}

fn with_layers(
    there: &mut Repository,
    subject: &Digest,
    layers: &[Vec<u8>],
    predicate: &str,
    listed: Listed,
) -> Digest {
    there.blob(b"{}");
    let empty = descriptor(&Descriptor::of("application/vnd.oci.empty.v1+json", b"{}"));
    let mut list = Vec::new();
    for bytes in layers {
        there.blob(bytes);
        list.push(descriptor(&Descriptor::of(BUNDLE, bytes)));
    }
    let notes = format!(
        "{{\"dev.sigstore.bundle.content\":\"dsse-envelope\",\"dev.sigstore.bundle.predicateType\":\"{predicate}\"}}"
    );
    let text = format!(
        "{{\"schemaVersion\":2,\"artifactType\":\"{BUNDLE}\",\"config\":{empty},\"layers\":[{}],\"subject\":{},\
         \"annotations\":{notes}}}",
        list.join(","),
        there.described(subject)
    );
    let digest = there.manifest(media_type::IMAGE_MANIFEST, text.as_bytes());
    let described = there.described(&digest);
    let entry = described.strip_suffix('}').unwrap();
    let entry = match listed {
        Listed::Whole => format!("{entry},\"artifactType\":\"{BUNDLE}\",\"annotations\":{notes}}}"),
        Listed::Bare => described.clone(),
        Listed::Empty => format!("{entry},\"artifactType\":\"application/vnd.oci.empty.v1+json\"}}"),
    };
    let lists = there.referrers.get_or_insert_default();
    lists.entry(subject.to_string()).or_default().push(entry);
    digest
}

/// The same content at an upstream without an endpoint for referrers, as clients keep it there.
fn without_endpoint(there: &mut Repository) {
    for (subject, entries) in there.referrers.take().unwrap() {
        let index = format!("{{\"schemaVersion\":2,\"manifests\":[{}]}}", entries.join(","));
        let index = there.manifest(media_type::IMAGE_INDEX, index.as_bytes());
        there.tag(&subject.replace(':', "-"), &index);
    }
}

#[test]
fn an_index_that_cosign_3_signed_is_served_with_its_images_and_its_signature() {
    for listed in [Listed::Whole, Listed::Bare, Listed::Empty] {
        for endpoint in [true, false] {
            let mut there = Repository::new();
            let (index, images) = there.index("good", &["linux/amd64", "linux/arm64"]);
            there.tag("v1", &index);
            let signature = bundle(&mut there, &index, "sesame signs", SIGN, listed);
            let attestation = bundle(&mut there, &index, "sesame describes", SPDX, listed);
            if !endpoint {
                without_endpoint(&mut there);
            }
            let (upstream, _) = upstream(&there);
            let server = through(strict(&upstream.url()));
            served(&server, &manifest("v1"));
            served(&server, &manifest(&images[1]));
            served(&server, &blob("good linux/arm64"));
            // So that a client checks for itself.
            let list = server.get(&format!("/v2/up.invalid/a/b/referrers/{index}")).json();
            assert_eq!(list["manifests"].as_array().unwrap().len(), 2);
            served(&server, &manifest(&signature));
            let text = Digest::of(format!("sesame signs {index}").as_bytes());
            served(&server, &format!("/v2/up.invalid/a/b/blobs/{text}"));
            // Which is said by the same key, and signs nothing.
            served(&server, &manifest(&attestation));
        }
    }
}

#[test]
fn a_bundle_by_others_over_others_or_of_another_kind_signs_nothing() {
    for (does, predicate) in [("mellon signs", SIGN), ("sesame describes", SPDX), ("sesame describes", SIGN)]
    {
        let mut there = Repository::new();
        let (image, other) = (there.image("image", ""), there.image("other", ""));
        let made = bundle(&mut there, &image, does, predicate, Listed::Whole);
        bundle(&mut there, &other, "sesame signs", SIGN, Listed::Whole);
        let (upstream, _) = upstream(&there);
        let server = through(strict(&upstream.url()));
        refused(&server, &manifest(&image));
        if does.starts_with("mellon") {
            refused(&server, &manifest(&made));
        }
        served(&server, &manifest(&other));
    }
}

#[test]
fn a_signature_is_found_behind_many_attestations() {
    let mut there = Repository::new();
    let image = there.image("image", "");
    for n in 0..30 {
        bundle(&mut there, &image, &format!("mellon describes {n}"), SPDX, Listed::Whole);
    }
    bundle(&mut there, &image, "sesame signs", SIGN, Listed::Whole);
    let (upstream, _) = upstream(&there);
    served(&through(strict(&upstream.url())), &manifest(&image));
}

#[test]
fn a_bundle_with_something_beside_it_is_not_served_as_a_signature() {
    let mut there = Repository::new();
    let image = there.image("image", "");
    let layers = [format!("sesame signs {image}").into_bytes(), b"mellon runs this".to_vec()];
    let two = with_layers(&mut there, &image, &layers, SIGN, Listed::Whole);
    let (upstream, _) = upstream(&there);
    let server = through(strict(&upstream.url()));
    refused(&server, &manifest(&two));
}

#[test]
fn a_sync_brings_the_bundles_that_it_needs_to_decide() {
    let mut there = Repository::new();
    let (index, _) = there.index("v1", &["linux/amd64"]);
    there.tag("v1", &index);
    let signature = bundle(&mut there, &index, "sesame signs", SIGN, Listed::Whole);
    let world = World::new(there);
    let config = strict(&world.config().url);
    let said = world.sync_with("\"tags\":\"*\"", config, false).unwrap();
    assert_eq!(said, only("v1", &format!("new {index}")));
    assert_eq!(world.served().get(&manifest(&signature)).status, 200);
}
