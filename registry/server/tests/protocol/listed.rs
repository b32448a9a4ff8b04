//! Whatever an index lists is pushed, pulled through and synced, of whatever type it is; and what could be read in
//! two ways, or would not be read, is not.

use hab_oci::shapes::LARGEST_CONFIG;
use hab_oci::{Descriptor, Digest, media_type};
use hab_registry::Access;

use crate::harness::fake::Fake;
use crate::harness::upstream::{Repository, config, through, upstreams};
use crate::harness::{Server, descriptor, manifest};
use crate::upstream_mend::{path, scrub};
use crate::upstream_sync::{World, only};

const CACHE: &str = "application/vnd.buildkit.cacheconfig.v0";

fn index(members: &[String]) -> Vec<u8> {
    format!("{{\"schemaVersion\":2,\"manifests\":[{}]}}", members.join(",")).into_bytes()
}

fn member(kind: &str, bytes: &[u8]) -> String {
    descriptor(&Descriptor::of(kind, bytes))
}

/// A cache as BuildKit pushes it: an index of layers and of what it knows about them.
fn cache(there: &mut Repository) -> (Digest, [Vec<u8>; 2]) {
    let parts = [b"a layer of the cache".to_vec(), b"{\"records\":[]}".to_vec()];
    for bytes in &parts {
        there.blob(bytes);
    }
    let text = index(&[member(media_type::LAYER_GZIP, &parts[0]), member(CACHE, &parts[1])]);
    (there.manifest(media_type::IMAGE_INDEX, &text), parts)
}

fn blob(bytes: &[u8]) -> String {
    format!("/v2/up.invalid/a/b/blobs/{}", Digest::of(bytes))
}

fn at(reference: &str) -> String {
    format!("/v2/up.invalid/a/b/manifests/{reference}")
}

#[test]
fn layers_that_an_index_lists_are_pushed_and_cannot_be_deleted_while_it_is_here() {
    let server = Server::writable();
    let parts = [b"a layer of the cache".as_slice(), b"{}"];
    let digests = parts.map(|bytes| server.push_blob("c", bytes));
    let text = index(&[member(media_type::LAYER_GZIP, parts[0]), member(CACHE, parts[1])]);
    for kind in [media_type::IMAGE_INDEX, media_type::DOCKER_MANIFEST_LIST] {
        let reply = server.put_manifest("c", "cache", kind, &text);
        assert_eq!(reply.status, 201, "{reply:?}");
    }
    for digest in &digests {
        let path = format!("/v2/c/blobs/{digest}");
        assert_eq!(server.send("DELETE", &path, &[], b"").error(), (405, "UNSUPPORTED".into()));
        assert_eq!(server.get(&path).status, 200);
    }
    // Part of an index may be elsewhere.
    let sparse = index(&[member(media_type::LAYER_GZIP, b"absent")]);
    assert_eq!(server.put_manifest("c", "sparse", media_type::IMAGE_INDEX, &sparse).status, 201);
}

#[test]
fn a_manifest_or_configuration_that_clients_read_in_two_ways_is_refused() {
    let server = Server::writable();
    let (config, layer) = (b"{}".as_slice(), b"layer".as_slice());
    let two = br#"{"os":"linux","OS":"windows"}"#;
    for bytes in [config, layer, two] {
        server.push_blob("a", bytes);
    }
    let listed = member(media_type::LAYER_GZIP, layer);
    for extra in [
        format!(",\"LAYERS\":[{listed}]"),
        format!(",\"layers\":[{listed}]"),
        ",\"annotations\":{\"a\":\"1\",\"a\":\"2\"}".to_owned(),
    ] {
        let bytes = manifest(config, layer, &extra);
        for reference in ["v1".to_owned(), Digest::of(&bytes).to_string()] {
            let reply = server.put_manifest("a", &reference, media_type::IMAGE_MANIFEST, &bytes);
            assert_eq!(reply.error(), (400, "MANIFEST_INVALID".into()), "{extra}");
        }
    }
    let reply = server.put_manifest("a", "v1", media_type::IMAGE_MANIFEST, &manifest(two, layer, ""));
    assert_eq!(reply.error(), (400, "MANIFEST_INVALID".into()));
    let said = reply.json()["errors"][0].to_string();
    assert!(said.contains("is \\\"os\\\" to programs that ignore case"), "{said}");
    let reply = server.put_manifest("a", "v1", media_type::IMAGE_MANIFEST, &manifest(config, layer, ""));
    assert_eq!(reply.status, 201);
}

#[test]
fn a_manifest_of_an_upstream_that_clients_read_in_two_ways_is_not_pulled_through() {
    let mut there = Repository::new();
    let image = there.image("two", ",\"LAYERS\":[]");
    there.tag("v1", &image);
    let upstream = Fake::start(move |asked| there.say(asked));
    let server = through(config(&upstream.url()));
    for reference in ["v1".to_owned(), image.to_string()] {
        assert_eq!(server.get(&at(&reference)).status, 502, "{reference}");
    }
}

#[test]
fn a_configuration_of_an_upstream_that_runtimes_read_in_two_ways_is_not_pulled_through() {
    let mut there = Repository::new();
    let two = br#"{"config":{"User":"1000"},"Config":{"User":"0"}}"#;
    there.blob(two);
    there.blob(b"layer");
    let image = there.manifest(media_type::IMAGE_MANIFEST, &manifest(two, b"layer", ""));
    let upstream = Fake::start(move |asked| there.say(asked));
    let server = through(config(&upstream.url()));
    assert_eq!(server.get(&at(&image.to_string())).status, 200);
    // Its last byte never comes.
    let reply = server.raw_get(&blob(two));
    assert!(reply.is_none_or(|reply| reply.status != 200 || reply.body.len() < two.len()));
    assert_eq!(server.get(&blob(b"layer")).status, 200);
    assert_eq!(std::fs::read_dir(path(&server, &Digest::of(two)).parent().unwrap()).unwrap().count(), 0);
}

#[test]
fn a_configuration_that_is_too_large_to_be_read_is_refused_before_it_comes() {
    let large = vec![b' '; usize::try_from(LARGEST_CONFIG).unwrap() + 1];
    let honest = String::from_utf8(manifest(&large, b"layer", "")).unwrap();
    // Which also names it as a layer, of the size that it has.
    let both = String::from_utf8(manifest(&large, &large, "")).unwrap();
    let size = |n: usize| format!("\"size\":{n}}}");
    let lying = both.replacen(&size(large.len()), &size(2), 1);
    for (text, status) in [(honest, 502), (lying, 200)] {
        let mut there = Repository::new();
        there.blob(&large);
        let image = there.manifest(media_type::IMAGE_MANIFEST, text.as_bytes());
        let upstream = Fake::start(move |asked| there.say(asked));
        let server = through(config(&upstream.url()));
        let reply = server.get(&at(&image.to_string()));
        assert_eq!(reply.status, status, "{text}");
        if status == 502 {
            let said = String::from_utf8_lossy(&reply.body);
            assert!(said.contains("16777217 bytes: at most 16777216 are read"), "{said}");
            assert_eq!(upstream.asked(Digest::of(&large).hex()).len(), 0);
            continue;
        }
        // By what upstream says of it when it begins.
        let reply = server.get(&blob(&large));
        assert_eq!(reply.status, 502);
        let said = String::from_utf8_lossy(&reply.body);
        assert!(said.contains("a blob of 16777217 bytes, more than 16777216"), "{said}");
    }
}

#[test]
fn a_descriptor_whose_data_is_not_what_it_describes_is_refused() {
    let server = Server::writable();
    let (config, layer) = (b"{}".as_slice(), b"layer".as_slice());
    for bytes in [config, layer] {
        server.push_blob("a", bytes);
    }
    let plain = member(media_type::IMAGE_CONFIG, config);
    let embedded = |data: &str| {
        let with = format!("{},\"data\":\"{data}\"}}", &plain[..plain.len() - 1]);
        let text = String::from_utf8(manifest(config, layer, "")).unwrap().replacen(&plain, &with, 1);
        server.put_manifest("a", "v1", media_type::IMAGE_MANIFEST, text.as_bytes())
    };
    for (data, why) in [
        ("W10=", format!("its digest is {}", Digest::of(b"[]"))),
        ("e30g", "it has 3 bytes, and the descriptor's size is 2".to_owned()),
        ("e30", "it is not base64".to_owned()),
    ] {
        let reply = embedded(data);
        assert_eq!(reply.error(), (400, "MANIFEST_INVALID".into()), "{data}");
        let said = reply.json()["errors"][0]["detail"].as_str().unwrap().to_owned();
        let of = format!("the data in the manifest's descriptor of {}", Digest::of(config));
        assert!(said.starts_with(&of) && said.ends_with(&why), "{said}");
    }
    assert_eq!(server.get("/v2/a/manifests/v1").status, 404);
    assert_eq!(embedded("e30=").status, 201);
}

#[test]
fn a_cache_that_lists_layers_is_pulled_through() {
    let mut there = Repository::new();
    let (digest, parts) = cache(&mut there);
    there.tag("cache", &digest);
    let upstream = Fake::start(move |asked| there.say(asked));
    let server = through(config(&upstream.url()));
    assert_eq!(server.get(&at("cache")).status, 200);
    for bytes in &parts {
        assert_eq!(&server.get(&blob(bytes)).body, bytes);
    }
    upstream.stop();
    let server = server.restarted_through(Access::ReadOnly, upstreams(config(&upstream.url())));
    for bytes in &parts {
        assert_eq!(&server.get(&blob(bytes)).body, bytes);
    }
}

#[test]
fn a_damaged_layer_that_only_an_index_lists_is_fetched_again() {
    let mut there = Repository::new();
    let (digest, parts) = cache(&mut there);
    there.tag("cache", &digest);
    let upstream = Fake::start(move |asked| there.say(asked));
    let server = through(config(&upstream.url()));
    assert_eq!(server.get(&at("cache")).status, 200);
    let layer = Digest::of(&parts[0]);
    assert_eq!(server.get(&blob(&parts[0])).status, 200);
    std::fs::remove_file(path(&server, &layer)).unwrap();
    let found = scrub(&server, &upstream.url());
    assert_eq!((found.missing, found.mended), (vec![layer.clone()], vec![layer]));
    upstream.stop();
    assert_eq!(server.get(&blob(&parts[0])).body, parts[0]);
}

#[test]
fn a_cache_that_lists_layers_is_synced_whole_and_again_without_asking_for_it() {
    let mut there = Repository::new();
    let (inner, parts) = cache(&mut there);
    // Beside an image, in an index of indexes that calls a layer an image.
    let image = there.image("one", "");
    let liar = b"a layer that is called an image".to_vec();
    there.blob(&liar);
    let members =
        [there.described(&inner), there.described(&image), member(media_type::IMAGE_MANIFEST, &liar)];
    let outer = there.manifest(media_type::IMAGE_INDEX, &index(&members));
    there.tag("cache", &outer);
    let world = World::new(there);
    assert_eq!(world.sync("\"tags\":\"*\""), only("cache", &format!("new {outer}")));
    assert_eq!(world.sync("\"tags\":\"*\""), only("cache", &format!("same {outer}")));
    for bytes in &parts {
        assert_eq!(world.upstream.asked(&Digest::of(bytes).to_string()).len(), 1);
    }
    let server = world.served();
    for digest in [&outer, &inner, &image] {
        assert_eq!(server.get(&at(&digest.to_string())).status, 200);
    }
    for bytes in parts.iter().chain([&liar]) {
        assert_eq!(&server.get(&blob(bytes)).body, bytes);
    }
}

#[test]
fn an_index_of_indexes_is_synced_for_a_platform_that_only_one_of_them_has() {
    let mut there = Repository::new();
    let (one, _) = there.index("one", &["linux/amd64"]);
    let (two, images) = there.index("two", &["linux/arm64"]);
    let members = [there.described(&one), there.described(&two)];
    let outer = there.manifest(media_type::IMAGE_INDEX, &index(&members));
    there.tag("v1", &outer);
    let world = World::new(there);
    let rule = |platform: &str| format!("\"tags\":\"*\",\"platforms\":[\"{platform}\"]");
    let said = world.sync(&rule("linux/s390x"));
    assert!(said["v1"].contains("has no image for linux/s390x"), "{said:?}");
    assert_eq!(world.sync(&rule("linux/arm64")), only("v1", &format!("new {outer}")));
    assert_eq!(world.served().get(&at(&images[0].to_string())).status, 200);
}

#[test]
fn a_sync_of_an_index_whose_layer_is_nowhere_leaves_the_tag_where_it_was() {
    let mut there = Repository::new();
    let image = there.image("old", "");
    there.tag("v1", &image);
    let world = World::new(there.clone());
    assert_eq!(world.sync("\"tags\":\"*\""), only("v1", &format!("new {image}")));
    let broken = index(&[member(media_type::LAYER_GZIP, b"nowhere")]);
    let broken = there.manifest(media_type::IMAGE_INDEX, &broken);
    there.tag("v1", &broken);
    world.has(there);
    let said = world.sync("\"tags\":\"*\"");
    assert!(said["v1"].contains(&format!("has no blob {}", Digest::of(b"nowhere"))), "{said:?}");
    assert_eq!(Digest::of(&world.served().get(&at("v1")).body), image);
}
