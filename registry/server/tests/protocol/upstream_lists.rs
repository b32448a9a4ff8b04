//! What is said about an upstream's manifests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hab_oci::{Digest, media_type};
use hab_registry::UpstreamConfig;

use crate::harness::fake::{Fake, Say};
use crate::harness::upstream::{Repository, config, through, wait_until};
use crate::harness::{Reply, Server};

const SBOM: &str = "application/spdx+json";

fn referrers(server: &Server, subject: &Digest) -> (Option<String>, Vec<String>) {
    let reply = server.get(&format!("/v2/up.invalid/a/b/referrers/{subject}"));
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some(media_type::IMAGE_INDEX)),
        "{reply:?}"
    );
    (reply.header("x-hab-cache").map(str::to_owned), listed(&reply))
}

fn listed(reply: &Reply) -> Vec<String> {
    let manifests = reply.json()["manifests"].as_array().unwrap().clone();
    manifests.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
}

fn sorted(digests: &[&Digest]) -> Vec<String> {
    let mut texts: Vec<String> = digests.iter().map(ToString::to_string).collect();
    texts.sort();
    texts
}

#[test]
fn referrers_are_asked_for_page_by_page_once_and_stay_when_upstream_is_gone() {
    let mut there = Repository::new();
    there.page = 2;
    let image = there.image("image", "");
    let about: Vec<Digest> = (0..5).map(|n| there.artifact(&image, SBOM, &format!("sbom {n}"))).collect();
    let other = there.artifact(&image, "other/type", "other");
    let all = sorted(&about.iter().chain([&other]).collect::<Vec<_>>());
    let said = there.clone();
    let upstream = Fake::start(move |asked| said.say(asked));
    let server = through(UpstreamConfig { ttl: Duration::from_secs(3), ..config(&upstream.url()) });
    assert_eq!(referrers(&server, &image), (Some("miss".to_owned()), all.clone()));
    assert_eq!(upstream.asked("").len(), 3, "three pages");
    let reply = server.get(&format!("/v2/a/b/referrers/{image}?ns=up.invalid&artifactType=other/type"));
    assert_eq!(
        (reply.header("oci-filters-applied"), listed(&reply)),
        (Some("artifactType"), sorted(&[&other]))
    );
    assert_eq!(upstream.asked("").len(), 3, "it was asked a moment ago");
    // One of them is pulled as usual, and then it is here.
    let one = server.get(&format!("/v2/up.invalid/a/b/manifests/{}", about[0]));
    assert_eq!((one.status, Digest::of(&one.body)), (200, about[0].clone()));
    upstream.stop();
    wait_until("it is away", || referrers(&server, &image).0.as_deref() == Some("stale"));
    assert_eq!(referrers(&server, &image).1, all, "what it said last still counts");
    let restarted = server.restarted_through(
        hab_registry::Access::ReadOnly,
        crate::harness::upstream::upstreams(config(&upstream.url())),
    );
    assert_eq!(referrers(&restarted, &image), (Some("stale".to_owned()), sorted(&[&about[0]])));
}

#[test]
fn an_upstream_without_the_endpoint_is_asked_by_the_tag_schema() {
    let mut there = Repository::new();
    let image = there.image("image", "");
    let artifact = there.artifact(&image, SBOM, "sbom");
    there.referrers = None;
    let index = format!("{{\"schemaVersion\":2,\"manifests\":[{}]}}", there.described(&artifact));
    let index = there.manifest(media_type::IMAGE_INDEX, index.as_bytes());
    there.tag(&format!("sha256-{}", image.hex()), &index);
    let lonely = there.image("lonely", "");
    let said = there.clone();
    let upstream = Fake::start(move |asked| said.say(asked));
    let server = through(config(&upstream.url()));
    assert_eq!(referrers(&server, &image), (Some("miss".to_owned()), sorted(&[&artifact])));
    assert_eq!(referrers(&server, &lonely), (Some("miss".to_owned()), Vec::new()));
    let endpoint = upstream.asked("").iter().filter(|asked| asked.path.contains("/referrers/")).count();
    assert_eq!(endpoint, 1, "that there is none is remembered");
}

#[test]
fn a_list_that_is_none_or_leads_elsewhere_is_refused_and_what_is_here_is_listed() {
    let mut there = Repository::new();
    let image = there.image("image", "");
    let artifact = there.artifact(&image, SBOM, "sbom");
    let elsewhere = Fake::start(|_| Say::status(500));
    let answer = Arc::new(Mutex::new(None::<Say>));
    let (said, now) = (there.clone(), answer.clone());
    let upstream = Fake::start(move |asked| {
        let other = now.lock().unwrap().clone().filter(|_| asked.path.contains("/referrers/"));
        other.unwrap_or_else(|| said.say(asked))
    });
    let server = through(UpstreamConfig { ttl: Duration::ZERO, ..config(&upstream.url()) });
    server.get(&format!("/v2/up.invalid/a/b/manifests/{artifact}"));
    let empty =
        format!("{{\"schemaVersion\":2,\"mediaType\":\"{}\",\"manifests\":[]}}", media_type::IMAGE_INDEX);
    let page = || Say::ok(media_type::IMAGE_INDEX, empty.as_bytes());
    let link = |to: &str| page().with("Link", &format!("<{to}>; rel=\"next\""));
    for bad in [
        Say::ok("text/html", b"<html>please log in</html>"),
        Say::ok(media_type::IMAGE_INDEX, b""),
        Say::ok(media_type::IMAGE_INDEX, b"{\"schemaVersion\":2}"),
        Say { endless: true, ..page() },
        link(&format!("{}/v2/a/b/referrers/{image}", elsewhere.url())),
        link("/v2/other/referrers/x"),
        // Round and round.
        link(&format!("/v2/a/b/referrers/{image}?last=1")),
    ] {
        *answer.lock().unwrap() = Some(bad);
        assert_eq!(referrers(&server, &image), (Some("stale".to_owned()), sorted(&[&artifact])));
    }
    assert!(elsewhere.asked("").is_empty());
    // One entry that is none hides no others.
    let mixed = format!("{{\"manifests\":[{{\"digest\":\"md5:00\"}}, 3, {}]}}", there.described(&image));
    *answer.lock().unwrap() = Some(Say::ok(media_type::IMAGE_INDEX, mixed.as_bytes()));
    assert_eq!(referrers(&server, &image), (Some("miss".to_owned()), sorted(&[&artifact, &image])));
}

#[test]
fn a_list_that_goes_on_and_on_in_large_pages_is_given_up() {
    let entry = format!(
        "{{\"mediaType\":\"{}\",\"digest\":\"{}\",\"size\":2,\"annotations\":{{\"note\":\"{}\"}}}}",
        media_type::IMAGE_MANIFEST,
        Digest::of(b"{}"),
        "x".repeat(3 << 20)
    );
    let page = format!("{{\"schemaVersion\":2,\"manifests\":[{entry}]}}");
    let pages = Mutex::new(0);
    let upstream = Fake::start(move |asked| {
        if !asked.path.contains("/referrers/") {
            return Say::status(404);
        }
        let mut count = pages.lock().unwrap();
        *count += 1;
        let path = asked.path.split('?').next().unwrap_or_default();
        Say::ok(media_type::IMAGE_INDEX, page.as_bytes())
            .with("Link", &format!("<{path}?p={count}>; rel=\"next\""))
    });
    let server = through(config(&upstream.url()));
    let nothing = (Some("stale".to_owned()), Vec::new());
    assert_eq!(referrers(&server, &Digest::of(b"image")), nothing);
    assert_eq!(upstream.asked("").len(), 6, "16 MiB and no more");
}
