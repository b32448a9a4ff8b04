//! The names by which clients mean an upstream's repository, and the tags that it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use hab_oci::{Digest, media_type};
use hab_registry::{Access, ServiceLimits, UpstreamConfig, Upstreams};
use serde_json::json;

use crate::harness::fake::{Fake, Say};
use crate::harness::upstream::{Repository, config, through, wait_until};
use crate::harness::{Server, manifest};

fn pulls(config: UpstreamConfig) -> Server {
    Server::through(Access::ReadWrite, ServiceLimits::default(), Upstreams::new(vec![config]).unwrap())
}

#[test]
fn docker_hubs_three_names_are_one_and_an_official_image_is_below_library() {
    let image = manifest(b"{}", b"layer", "");
    let said = image.clone();
    let upstream = Fake::start(move |asked| match asked.path.as_str() {
        "/v2/library/alpine/manifests/3" => Say::ok(media_type::IMAGE_MANIFEST, &said),
        _ => Say::status(404),
    });
    for name in ["docker.io", "registry-1.docker.io", "index.docker.io"] {
        let server = pulls(UpstreamConfig::new(name, &upstream.url()));
        for path in [
            "/v2/library/alpine/manifests/3?ns=docker.io",
            "/v2/library/alpine/manifests/3?ns=index.docker.io",
            "/v2/library/alpine/manifests/3?ns=registry-1.docker.io",
            "/v2/alpine/manifests/3?ns=docker.io",
            "/v2/docker.io/library/alpine/manifests/3",
            "/v2/docker.io/alpine/manifests/3",
            "/v2/index.docker.io/library/alpine/manifests/3",
        ] {
            let reply = server.get(path);
            assert_eq!((reply.status, &reply.body), (200, &image), "{name}: {path}");
        }
        // All of them are one repository here.
        let listed = server.get("/v2/_catalog").json();
        assert_eq!(listed, json!({"repositories": [format!("{name}/library/alpine")]}));
        assert_eq!(server.get("/v2/library/alpine/manifests/3?ns=docker.io.example").status, 404);
    }
    let asked = upstream.asked("");
    assert!(asked.iter().all(|asked| asked.path == "/v2/library/alpine/manifests/3"), "{asked:?}");
    // What may be pulled is said by the whole name.
    let only = |pattern: &str| UpstreamConfig {
        repositories: vec![pattern.parse().unwrap()],
        ..UpstreamConfig::new("docker.io", &upstream.url())
    };
    assert_eq!(pulls(only("library/*")).get("/v2/docker.io/alpine/manifests/3").status, 200);
    assert_eq!(pulls(only("alpine")).get("/v2/docker.io/alpine/manifests/3").status, 403);
    // No other registry has such names.
    let other = pulls(UpstreamConfig::new("quay.example", &upstream.url()));
    assert_eq!(other.get("/v2/quay.example/alpine/manifests/3").status, 404);
}

#[test]
fn whose_repository_was_answered_for_is_said_to_who_asked_by_ns() {
    let mut there = Repository::new();
    let image = there.image("image", "");
    there.tag("v1", &image);
    let layer = there.blob("image".repeat(1000).as_bytes());
    let upstream = Fake::start(move |asked| there.say(asked));
    let server = through(config(&upstream.url()));
    for path in [
        "manifests/v1".to_owned(),
        format!("blobs/{layer}"),
        "tags/list".to_owned(),
        format!("referrers/{image}"),
    ] {
        let by_ns = server.get(&format!("/v2/a/b/{path}?ns=up.invalid"));
        assert_eq!((by_ns.status, by_ns.header("oci-namespace")), (200, Some("up.invalid")), "{path}");
        let by_path = server.get(&format!("/v2/up.invalid/a/b/{path}"));
        assert_eq!((by_path.status, by_path.header("oci-namespace")), (200, None), "{path}");
    }
    server.push_image("ours", "v1", "");
    assert_eq!(server.get("/v2/ours/manifests/v1").header("oci-namespace"), None);
}

#[test]
fn the_tags_that_are_listed_are_those_that_upstream_has_and_those_that_are_here() {
    let mut there = Repository::new();
    there.page = 2;
    let image = there.image("image", "");
    for tag in ["v1", "v2", "v3", "v10", "latest"] {
        there.tag(tag, &image);
    }
    let (status, now) = (Arc::new(AtomicU16::new(200)), Arc::new(std::sync::Mutex::new(there.clone())));
    let (says, said) = (status.clone(), now.clone());
    let upstream = Fake::start(move |asked| match says.load(Ordering::Relaxed) {
        200 => said.lock().unwrap().say(asked),
        other => Say::status(other),
    });
    let short = UpstreamConfig { ttl: Duration::from_millis(300), ..config(&upstream.url()) };
    let server = through(short);
    let list = |query: &str| {
        let reply = server.get(&format!("/v2/a/b/tags/list?ns=up.invalid{query}"));
        assert_eq!(reply.status, 200, "{reply:?}");
        let cache = reply.header("x-hab-cache").unwrap().to_owned();
        let link = reply.header("link").map(str::to_owned);
        (reply.json()["tags"].clone(), cache, link)
    };
    let all = json!(["latest", "v1", "v10", "v2", "v3"]);
    assert_eq!(list(""), (all.clone(), "miss".into(), None), "nothing of it was pulled");
    let before = upstream.asked("").len();
    assert_eq!(before, 3, "three pages");
    let first = list("&n=2");
    assert_eq!(first.0, json!(["latest", "v1"]));
    let next = "</v2/a/b/tags/list?ns=up.invalid&n=2&last=v1>; rel=\"next\"";
    assert_eq!(first.2.as_deref(), Some(next), "the next page is of the same upstream");
    assert_eq!(list("&n=2&last=v1").0, json!(["v10", "v2"]));
    assert_eq!(list("&n=0"), (json!([]), "hit".into(), None));
    assert_eq!(upstream.asked("").len(), before, "it was asked a moment ago");
    // A tag that was pulled stays when it is gone there; a new one is found when the time is over.
    assert_eq!(server.get("/v2/up.invalid/a/b/manifests/v1").status, 200);
    now.lock().unwrap().tags.remove("v1");
    now.lock().unwrap().tag("v4", &image);
    wait_until("the list is new", || list("").0 == json!(["latest", "v1", "v10", "v2", "v3", "v4"]));
    // When it is away, what it said last is said, and that it is old.
    status.store(503, Ordering::Relaxed);
    wait_until("it is away", || list("").1 == "stale");
    assert_eq!(list("").0, json!(["latest", "v1", "v10", "v2", "v3", "v4"]));
    // Without anything that it said, there is what is here.
    let server =
        server.restarted_through(Access::ReadOnly, Upstreams::new(vec![config(&upstream.url())]).unwrap());
    let here = server.get("/v2/up.invalid/a/b/tags/list");
    assert_eq!((here.json()["tags"].clone(), here.header("x-hab-cache")), (json!(["v1"]), Some("stale")));
    let offline = UpstreamConfig { offline: true, ..config(&upstream.url()) };
    let server = server.restarted_through(Access::ReadOnly, Upstreams::new(vec![offline]).unwrap());
    assert_eq!(server.get("/v2/up.invalid/a/b/tags/list").json()["tags"], json!(["v1"]));
    assert_eq!(server.get("/v2/up.invalid/a/c/tags/list").error(), (404, "NAME_UNKNOWN".into()));
}

#[test]
fn a_repository_that_upstream_does_not_have_is_unknown_and_one_that_is_away_is_no_empty_list() {
    let upstream = Fake::start(|asked| Say::status(if asked.path.contains("/a/") { 404 } else { 500 }));
    let server = through(config(&upstream.url()));
    for _ in 0..3 {
        assert_eq!(server.get("/v2/up.invalid/a/b/tags/list").error(), (404, "NAME_UNKNOWN".into()));
    }
    assert_eq!(upstream.asked("").len(), 1, "it said so a moment ago");
    assert_eq!(server.get("/v2/up.invalid/c/d/tags/list").error(), (502, "UNKNOWN".into()));
}

#[test]
fn a_long_list_of_an_upstreams_referrers_comes_in_pages_that_any_client_reads() {
    let mut there = Repository::new();
    there.page = 3;
    let image = there.image("image", "");
    let note = "n".repeat(1_000_000);
    let entry = |n: u8| {
        format!(
            "{{\"mediaType\":\"{}\",\"digest\":\"{}\",\"size\":2,\"artifactType\":\"t/{}\",\"annotations\":{{\"n\":\"{note}\"}}}}",
            media_type::IMAGE_MANIFEST,
            Digest::of(&[n]),
            n % 2
        )
    };
    let entries = (0..9).map(entry).collect();
    there.referrers.get_or_insert_default().insert(image.to_string(), entries);
    let upstream = Fake::start(move |asked| there.say(asked));
    let server = through(config(&upstream.url()));
    for (filter, count) in [("", 9), ("&artifactType=t/1", 4)] {
        let mut next = Some(format!("/v2/a/b/referrers/{image}?ns=up.invalid{filter}"));
        let (mut seen, mut pages) = (Vec::new(), 0);
        while let Some(path) = next {
            let reply = server.get(&path);
            assert_eq!(reply.status, 200, "{path}");
            assert!(reply.body.len() <= 4 << 20, "{}", reply.body.len());
            pages += 1;
            let json = reply.json();
            let digests = json["manifests"].as_array().unwrap().iter();
            seen.extend(digests.map(|entry| entry["digest"].as_str().unwrap().to_owned()));
            let link = reply.header("link").map(|link| link.strip_suffix(">; rel=\"next\"").unwrap());
            next = link.map(|link| link.strip_prefix('<').unwrap().to_owned());
        }
        let mut sorted = seen.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!((&seen, seen.len()), (&sorted, count), "in order, each once");
        assert!(pages > 1 || count == 4, "{pages}");
    }
}

#[test]
fn a_chart_whose_version_has_a_plus_is_at_the_tag_that_helm_writes_for_it() {
    let server = Server::writable();
    let chart = server.push_image("charts/a", "1.2.3_build.5", "");
    for reference in ["1.2.3_build.5", "1.2.3+build.5", "1.2.3%2Bbuild.5", "1.2.3%2bbuild.5"] {
        assert_eq!(server.get(&format!("/v2/charts/a/manifests/{reference}")).body, chart, "{reference}");
    }
    let put = server.put_manifest("charts/a", "2.0.0+x", media_type::IMAGE_MANIFEST, &chart);
    assert_eq!(put.status, 201, "{put:?}");
    let tags = server.get("/v2/charts/a/tags/list").json();
    assert_eq!(tags["tags"], json!(["1.2.3_build.5", "2.0.0_x"]), "one tag, whichever way it is written");
    assert_eq!(server.send("DELETE", "/v2/charts/a/manifests/2.0.0+x", &[], b"").status, 202);
    assert_eq!(server.get("/v2/charts/a/manifests/2.0.0_x").status, 404);
    for none in ["+", "%2B", "+1"] {
        // A tag may begin with an underscore, so these name one that is not there.
        assert_eq!(server.get(&format!("/v2/charts/a/manifests/{none}")).status, 404, "{none}");
    }
    // Through to an upstream, which has it by the same tag.
    let said = chart.clone();
    let upstream = Fake::start(move |asked| match asked.path.as_str() {
        "/v2/a/b/manifests/1.0.0_x" => Say::ok(media_type::IMAGE_MANIFEST, &said),
        _ => Say::status(404),
    });
    assert_eq!(through(config(&upstream.url())).get("/v2/up.invalid/a/b/manifests/1.0.0+x").body, chart);
}
