use hab_oci::{Algorithm, Descriptor, Digest, media_type};
use serde_json::json;

use crate::harness::{Server, descriptor, manifest};

#[test]
fn a_manifest_comes_back_byte_for_byte_by_tag_and_by_digest() {
    let server = Server::writable();
    let pushed = server.push_image("hab/bitcoin", "v31.1", ",   \"annotations\": { \"k\":\"v\" }");
    let digest = Digest::of(&pushed).to_string();
    for reference in ["v31.1", &digest] {
        let path = format!("/v2/hab/bitcoin/manifests/{reference}");
        let reply = server.get(&path);
        assert_eq!((reply.status, &reply.body), (200, &pushed));
        let head = server.head(&path);
        assert_eq!((head.status, head.body.len()), (200, 0));
        for reply in [reply, head] {
            assert_eq!(reply.header("docker-content-digest"), Some(digest.as_str()));
            assert_eq!(reply.header("content-type"), Some(media_type::IMAGE_MANIFEST));
            assert_eq!(reply.header("content-length"), Some(pushed.len().to_string().as_str()));
        }
    }
}

/// What was just served may be kept, but never longer than it is true, whoever made it untrue.
#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_another_process_moves_or_deletes_is_served_where_it_is() {
    let server = Server::writable();
    let one = server.push_image("a", "v1", "");
    let two = server.push_image("a", "v2", ", \"annotations\":{\"n\":\"2\"}");
    let other = hab_store::Store::open(server.folder()).await.unwrap();
    let (repository, tag) = ("a".parse().unwrap(), "v1".parse().unwrap());
    for bytes in [&one, &two, &one, &two] {
        let manifest = hab_store::NewManifest::new(media_type::IMAGE_MANIFEST, bytes.clone());
        let publication = hab_store::Publication {
            repository: "a".parse().unwrap(),
            blobs: Vec::new(),
            root: manifest.digest.clone(),
            manifests: vec![manifest],
            tags: vec!["v1".parse().unwrap()],
            gaps: hab_store::Gaps::None,
            at: 5,
        };
        other.publish(publication).await.unwrap();
        for _ in 0..3 {
            assert_eq!(&server.get("/v2/a/manifests/v1").body, bytes);
        }
    }
    assert!(other.catalog.delete_tag(&repository, &tag, 6).await.unwrap());
    assert_eq!(server.get("/v2/a/manifests/v1").status, 404);
}

#[test]
fn docker_manifests_and_lists_stay_docker_manifests_and_lists() {
    let server = Server::writable();
    let (config, layer) = (b"{}".to_vec(), b"layer".to_vec());
    server.push_blob("d", &config);
    server.push_blob("d", &layer);
    let image = manifest(&config, &layer, &format!(",\"mediaType\":\"{}\"", media_type::DOCKER_MANIFEST));
    assert_eq!(server.put_manifest("d", "one", media_type::DOCKER_MANIFEST, &image).status, 201);
    let child = descriptor(&Descriptor::of(media_type::DOCKER_MANIFEST, &image));
    let list = format!("{{\"schemaVersion\":2,\"manifests\":[{child}]}}");
    let reply = server.put_manifest("d", "all", media_type::DOCKER_MANIFEST_LIST, list.as_bytes());
    assert_eq!(reply.status, 201, "{reply:?}");
    for (tag, kind, bytes) in [
        ("one", media_type::DOCKER_MANIFEST, image.as_slice()),
        ("all", media_type::DOCKER_MANIFEST_LIST, list.as_bytes()),
    ] {
        let reply = server.get(&format!("/v2/d/manifests/{tag}"));
        assert_eq!((reply.header("content-type"), reply.body.as_slice()), (Some(kind), bytes));
    }
}

#[test]
fn a_manifest_is_pushed_by_either_algorithm_and_must_have_the_digest() {
    let server = Server::writable();
    let bytes = server.push_image("a", "v1", "");
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let digest = Digest::of_with(algorithm, &bytes).to_string();
        let reply = server.put_manifest("a", &digest, media_type::IMAGE_MANIFEST, &bytes);
        assert_eq!((reply.status, reply.header("docker-content-digest")), (201, Some(digest.as_str())));
        assert_eq!(server.get(&format!("/v2/a/manifests/{digest}")).body, bytes);
    }
    let other = Digest::of(b"other").to_string();
    let reply = server.put_manifest("a", &other, media_type::IMAGE_MANIFEST, &bytes);
    assert_eq!(reply.error(), (400, "DIGEST_INVALID".into()));
    assert_eq!(server.get(&format!("/v2/a/manifests/{other}")).status, 404);
}

#[test]
fn a_manifest_that_points_at_what_is_not_there_is_refused_by_name() {
    let server = Server::writable();
    let (config, layer) = (b"{}".to_vec(), b"never pushed".to_vec());
    server.push_blob("a", &config);
    // Another repository's blob is not this one's.
    server.push_blob("b", &layer);
    let bytes = manifest(&config, &layer, "");
    let reply = server.put_manifest("a", "v1", media_type::IMAGE_MANIFEST, &bytes);
    assert_eq!(reply.error(), (400, "MANIFEST_BLOB_UNKNOWN".into()));
    assert!(String::from_utf8_lossy(&reply.body).contains(Digest::of(&layer).hex()));
    assert_eq!(server.get("/v2/a/manifests/v1").status, 404);
}

#[test]
fn what_is_no_manifest_is_refused() {
    let server = Server::writable();
    let good = server.push_image("a", "v1", "");
    let html = b"<html>please sign in</html>".as_slice();
    let twice = [good.as_slice(), b"{}"].concat();
    for (kind, bytes) in [
        (media_type::IMAGE_MANIFEST, html),
        (media_type::IMAGE_MANIFEST, b"".as_slice()),
        (media_type::IMAGE_MANIFEST, &good[..good.len() - 1]),
        (media_type::IMAGE_MANIFEST, &twice),
        (media_type::IMAGE_INDEX, &good),
        ("text/plain", &good),
        ("", &good),
    ] {
        let reply = server.put_manifest("a", "v2", kind, bytes);
        assert_eq!(reply.error(), (400, "MANIFEST_INVALID".into()), "{kind}");
    }
    let reply = server.put_manifest("a", "-bad-tag", media_type::IMAGE_MANIFEST, &good);
    assert_eq!(reply.error(), (400, "MANIFEST_INVALID".into()));
    let deep = format!("{{\"schemaVersion\":2,\"x\":{}", "[".repeat(100_000));
    assert_eq!(server.put_manifest("a", "v2", media_type::IMAGE_MANIFEST, deep.as_bytes()).status, 400);
    assert_eq!(server.get("/v2/a/manifests/v2").status, 404);
}

#[test]
fn a_manifest_has_at_most_four_mebibytes() {
    let server = Server::writable();
    let fill = |size: usize| format!(",\"annotations\":{{\"k\":\"{}\"}}", "x".repeat(size));
    server.push_image("a", "large", &fill((4 << 20) - 1000));
    let over = manifest(b"c", b"l", &fill(4 << 20));
    let reply = server.put_manifest("a", "over", media_type::IMAGE_MANIFEST, &over);
    assert_eq!(reply.error(), (413, "MANIFEST_INVALID".into()));
}

#[test]
fn referrers_are_listed_from_the_subject_which_may_come_later() {
    let server = Server::writable();
    let subject = Descriptor::of(media_type::IMAGE_MANIFEST, b"unborn");
    let path = format!("/v2/a/referrers/{}", subject.digest);
    let empty = server.get(&path);
    assert_eq!(empty.header("content-type"), Some(media_type::IMAGE_INDEX));
    let index =
        |manifests| json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": manifests});
    assert_eq!(empty.json(), index(json!([])));

    server.push_image("a", "v1", "");
    let extra = format!(
        ",\"subject\":{},\"artifactType\":\"application/spdx+json\",\"annotations\":{{\"k\":\"v\"}}",
        descriptor(&subject)
    );
    let config = b"{\"of\":\"a\"}".to_vec();
    let sbom = manifest(&config, b"a layer", &extra);
    let reply = server.put_manifest("a", &Digest::of(&sbom).to_string(), media_type::IMAGE_MANIFEST, &sbom);
    assert_eq!(reply.header("oci-subject"), Some(subject.digest.to_string().as_str()), "{reply:?}");
    let entry = json!({
        "mediaType": media_type::IMAGE_MANIFEST, "digest": Digest::of(&sbom), "size": sbom.len(),
        "artifactType": "application/spdx+json", "annotations": {"k": "v"},
    });
    assert_eq!(server.get(&path).json(), index(json!([entry])));
    let filtered = server.get(&format!("{path}?artifactType=application%2Fspdx%2Bjson"));
    assert_eq!(filtered.json(), index(json!([entry])));
    assert_eq!(filtered.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(server.get(&format!("{path}?artifactType=other")).json(), index(json!([])));
    assert_eq!(server.get("/v2/a/referrers/sha256:zz").error(), (400, "DIGEST_INVALID".into()));
    assert_eq!(server.get(&path.replace("/a/", "/other/")).json(), index(json!([])));
}

#[test]
fn tags_manifests_and_unused_blobs_are_deleted_at_once() {
    let server = Server::writable();
    let bytes = server.push_image("a", "v1", "");
    server.put_manifest("a", "v2", media_type::IMAGE_MANIFEST, &bytes);
    let by_digest = format!("/v2/a/manifests/{}", Digest::of(&bytes));
    let layer = format!("/v2/a/blobs/{}", Digest::of(b"a layer"));
    let delete = |path: &str| server.send("DELETE", path, &[], b"").status;
    assert_eq!((delete("/v2/a/manifests/v1"), delete("/v2/a/manifests/v1")), (202, 404));
    assert_eq!((server.get("/v2/a/manifests/v1").status, server.get(&by_digest).status), (404, 200));
    assert_eq!((delete(&layer), server.get(&layer).status), (405, 200), "a manifest still needs it");
    assert_eq!(server.send("DELETE", &layer, &[], b"").header("allow"), Some("GET, HEAD"));
    assert_eq!((delete(&by_digest), delete(&by_digest)), (202, 404));
    assert_eq!(server.get("/v2/a/manifests/v2").status, 404);
    assert_eq!(server.get("/v2/a/tags/list").json()["tags"], json!([]));
    assert_eq!((delete(&layer), delete(&layer), server.get(&layer).status), (202, 404, 404));
}

#[test]
fn a_push_by_digest_may_give_several_tags_at_once() {
    let server = Server::writable();
    let bytes = server.push_image("a", "first", "");
    let digest = Digest::of(&bytes).to_string();
    let reply = server.put_manifest(
        "a",
        &format!("{digest}?tag=1.2.3&tag=1.2&tag=latest"),
        media_type::IMAGE_MANIFEST,
        &bytes,
    );
    assert_eq!(reply.status, 201, "{reply:?}");
    let told: Vec<_> =
        reply.headers.iter().filter(|(n, _)| n == "oci-tag").map(|(_, v)| v.as_str()).collect();
    assert_eq!(told, ["1.2", "1.2.3", "latest"]);
    for tag in ["1.2.3", "1.2", "latest"] {
        assert_eq!(server.get(&format!("/v2/a/manifests/{tag}")).body, bytes);
    }
    // All of them, or none.
    let bad =
        server.put_manifest("a", &format!("{digest}?tag=good&tag=-bad"), media_type::IMAGE_MANIFEST, &bytes);
    assert_eq!(bad.error(), (400, "MANIFEST_INVALID".into()));
    assert_eq!(server.get("/v2/a/manifests/good").status, 404);
    let by_tag = server.put_manifest("a", "v9?tag=v8", media_type::IMAGE_MANIFEST, &bytes);
    assert_eq!(by_tag.error(), (400, "MANIFEST_INVALID".into()));
    let many = (0..101).fold(String::new(), |all, n| all + &format!("&tag=t{n}"));
    let reply =
        server.put_manifest("a", &format!("{digest}?{}", &many[1..]), media_type::IMAGE_MANIFEST, &bytes);
    assert_eq!(reply.error(), (414, "MANIFEST_INVALID".into()));
}

#[test]
fn an_index_may_name_images_that_are_not_here_and_an_image_may_not_name_such_layers() {
    let server = Server::writable();
    let image = server.push_image("a", "image", "");
    let here = descriptor(&Descriptor::of(media_type::IMAGE_MANIFEST, &image));
    let elsewhere = descriptor(&Descriptor::of(media_type::IMAGE_MANIFEST, b"not pushed"));
    let index = format!("{{\"schemaVersion\":2,\"manifests\":[{here},{elsewhere}]}}");
    let reply = server.put_manifest("a", "some", media_type::IMAGE_INDEX, index.as_bytes());
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(server.get("/v2/a/manifests/some").body, index.as_bytes());
    let absent = Digest::of(b"not pushed");
    assert_eq!(server.get(&format!("/v2/a/manifests/{absent}")).error(), (404, "MANIFEST_UNKNOWN".into()));
    // It nests.
    let nested = descriptor(&Descriptor::of(media_type::IMAGE_INDEX, index.as_bytes()));
    let outer = format!("{{\"schemaVersion\":2,\"manifests\":[{nested}]}}");
    assert_eq!(server.put_manifest("a", "outer", media_type::IMAGE_INDEX, outer.as_bytes()).status, 201);
    let hollow = manifest(b"{}", b"nowhere", "");
    server.push_blob("a", b"{}");
    let reply = server.put_manifest("a", "hollow", media_type::IMAGE_MANIFEST, &hollow);
    assert_eq!(reply.error(), (400, "MANIFEST_BLOB_UNKNOWN".into()));
    // Unless the operator says so.
    let sparse = Server::sparse();
    assert_eq!(sparse.put_manifest("a", "hollow", media_type::IMAGE_MANIFEST, &hollow).status, 201);
    assert_eq!(sparse.get("/v2/a/manifests/hollow").body, hollow);
}

#[test]
fn an_immutable_tag_is_pushed_once_and_answers_a_conflict_from_then_on() {
    let server = Server::with_immutable("v*");
    let first = server.push_image("a", "v1", "");
    server.push_image("a", "latest", "");
    let other = manifest(b"{\"of\":\"a\"}", b"a layer", ",\"annotations\":{\"k\":\"v\"}");
    let denied = (409, "DENIED".to_owned());
    let reply = server.put_manifest("a", "v1", media_type::IMAGE_MANIFEST, &other);
    assert_eq!(reply.error(), denied);
    assert!(String::from_utf8_lossy(&reply.body).contains("a:v1 is immutable"));
    let by_digest = Digest::of(&first).to_string();
    for reference in ["v1", &by_digest] {
        let path = format!("/v2/a/manifests/{reference}");
        assert_eq!(server.send("DELETE", &path, &[], b"").error(), denied, "{reference}");
    }
    assert_eq!(server.get("/v2/a/manifests/v1").body, first);
    assert_eq!(server.put_manifest("a", "v1", media_type::IMAGE_MANIFEST, &first).status, 201);
    assert_eq!(server.put_manifest("a", "latest", media_type::IMAGE_MANIFEST, &other).status, 201);
}
