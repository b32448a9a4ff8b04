//! What the disk lost is fetched again.

use std::fs;

use hab_oci::{Digest, TagOrDigest};
use hab_store::{Scrub, Scrubbed, Store};

use crate::harness::fake::Fake;
use crate::harness::upstream::{Repository, config, through, upstreams};

pub fn path(server: &crate::harness::Server, digest: &Digest) -> std::path::PathBuf {
    server.folder().join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex())
}

/// Hashes everything in a server's folder, with what an upstream has to mend it by.
pub fn scrub(server: &crate::harness::Server, url: &str) -> Scrubbed {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(server.folder()).await.unwrap();
        let mender = upstreams(config(url)).mender(&store);
        let found = Scrub::new(store.clone(), None).with_mender(mender).pass(1).await.unwrap();
        store.catalog.close().await;
        found
    })
}

fn sorted(mut digests: Vec<Digest>) -> Vec<Digest> {
    digests.sort();
    digests
}

#[test]
fn damaged_and_lost_blobs_and_manifests_are_fetched_again_from_the_upstream_that_has_them() {
    let mut there = Repository::new();
    let image = there.image("image", "");
    there.tag("v1", &image);
    let (layer, configuration) =
        (Digest::of("image".repeat(1000).as_bytes()), Digest::of(b"{\"of\":\"image\"}"));
    let said = there.clone();
    let upstream = Fake::start(move |asked| said.say(asked));
    let server = through(config(&upstream.url()));
    let blob = |digest: &Digest| format!("/v2/up.invalid/a/b/blobs/{digest}");
    assert_eq!(server.get("/v2/up.invalid/a/b/manifests/v1").status, 200);
    for digest in [&layer, &configuration] {
        assert_eq!(server.get(&blob(digest)).status, 200);
    }
    // The same bytes, pushed here, and others that nobody has.
    server.push_blob("ours", "image".repeat(1000).as_bytes());
    let ours = server.push_blob("ours", b"only here");
    for (digest, bytes) in [(&layer, b"flipped".as_slice()), (&image, b"{}"), (&ours, b"gone")] {
        fs::remove_file(path(&server, digest)).unwrap();
        fs::write(path(&server, digest), bytes).unwrap();
    }
    fs::remove_file(path(&server, &configuration)).unwrap();
    let found = scrub(&server, &upstream.url());
    assert_eq!(sorted(found.damaged), sorted(vec![layer.clone(), image.clone(), ours.clone()]));
    assert_eq!(found.missing, std::slice::from_ref(&configuration));
    assert_eq!(sorted(found.mended), sorted(vec![layer.clone(), image.clone(), configuration.clone()]));
    upstream.stop();
    for digest in [&layer, &configuration] {
        assert_eq!(Digest::of(&server.get(&blob(digest)).body), *digest);
    }
    assert_eq!(Digest::of(&server.get("/v2/up.invalid/a/b/manifests/v1").body), image);
    assert_eq!(Digest::of(&server.get(&format!("/v2/ours/blobs/{layer}")).body), layer);
    assert_eq!(server.get(&format!("/v2/ours/blobs/{ours}")).status, 404);
    assert_eq!(
        server.get(&format!("/v2/ours/blobs/{image}")).status,
        404,
        "a manifest is no blob of a repository"
    );
}

#[test]
fn other_bytes_mend_nothing_and_what_is_mended_later_is_found() {
    let mut there = Repository::new();
    let image = there.image("image", "");
    let layer = Digest::of("image".repeat(1000).as_bytes());
    let said = there.clone();
    let good = Fake::start(move |asked| said.say(asked));
    let wrong = Fake::start(|_| crate::harness::fake::Say::ok("application/octet-stream", b"something else"));
    let server = through(config(&good.url()));
    let blob = format!("/v2/up.invalid/a/b/blobs/{layer}");
    assert_eq!(server.get(&format!("/v2/up.invalid/a/b/manifests/{image}")).status, 200);
    assert_eq!(server.get(&blob).status, 200);
    fs::remove_file(path(&server, &layer)).unwrap();
    let found = scrub(&server, &wrong.url());
    assert_eq!((found.missing, found.mended), (vec![layer.clone()], vec![]));
    // A client that asks is answered by upstream, and that mends it as well.
    assert_eq!(Digest::of(&server.get(&blob).body), layer);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(server.folder()).await.unwrap();
        let reference = TagOrDigest::Digest(image.clone());
        let repository = "up.invalid/a/b".parse().unwrap();
        assert!(store.catalog.manifest(&repository, &reference).await.unwrap().is_some());
        assert!(store.catalog.blob(&repository, &layer).await.unwrap().is_some());
        store.catalog.close().await;
    });
}
