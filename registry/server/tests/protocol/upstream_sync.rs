//! Whole repositories brought here before anybody asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hab_oci::{Digest, media_type};
use hab_registry::{
    Access, Change, ImageJudge, ServiceLimits, Signature, Signed, SyncRule, Synced, UpstreamConfig, Upstreams,
};
use hab_store::{Store, Tags};

use crate::harness::Server;
use crate::harness::fake::{Asked, Fake, Say};
use crate::harness::upstream::{Repository, config, upstreams};

/// A folder that is synced into, and what is asked of upstream meanwhile.
pub struct World {
    folder: tempfile::TempDir,
    pub upstream: Fake,
    there: Arc<Mutex<Repository>>,
}

impl World {
    pub fn new(there: Repository) -> Self {
        Self::answering(there, |_, say| say)
    }

    /// An upstream that answers otherwise than its content would.
    fn answering(there: Repository, other: impl Fn(&Asked, Say) -> Say + Send + Sync + 'static) -> Self {
        let there = Arc::new(Mutex::new(there));
        let said = there.clone();
        let upstream = Fake::start(move |asked| {
            let say = said.lock().unwrap().say(asked);
            other(asked, say)
        });
        Self { folder: tempfile::tempdir().unwrap(), upstream, there }
    }

    /// The upstream has something else from now on.
    pub fn has(&self, there: Repository) {
        *self.there.lock().unwrap() = there;
    }

    pub fn config(&self) -> UpstreamConfig {
        let mut config = config(&self.upstream.url());
        config.patience.rest = Duration::from_millis(50);
        config
    }

    pub fn sync(&self, rule: &str) -> BTreeMap<String, String> {
        self.sync_with(rule, self.config(), false).unwrap()
    }

    /// What became of each tag, in a word and a digest.
    pub fn sync_with(
        &self,
        rule: &str,
        config: UpstreamConfig,
        dry_run: bool,
    ) -> Result<BTreeMap<String, String>, String> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let synced = runtime.block_on(async {
            let fixed = Tags { repository: "*".parse().unwrap(), tag: "immutable*".parse().unwrap() };
            let store = Store::open(self.folder.path()).await.unwrap().with_immutable(&[fixed]);
            let rule: SyncRule = toml_of(rule);
            let synced = upstreams(config).sync(&store, "up.invalid", &rule, dry_run, |_, _| {}).await;
            store.catalog.close().await;
            synced
        });
        synced.map(|synced| words(&synced)).map_err(|e| e.to_string())
    }

    /// A server over what is here, whose upstream is gone.
    pub fn served(self) -> Server {
        self.upstream.stop();
        let all = upstreams(UpstreamConfig { offline: true, ..self.config() });
        Server::kept_on(self.folder, Access::ReadOnly, ServiceLimits::default(), all)
    }

    fn asked(&self) -> usize {
        self.upstream.asked("").len()
    }
}

/// A rule for `a/b`, in JSON.
fn toml_of(rule: &str) -> SyncRule {
    serde_json::from_str(&format!("{{\"repository\":\"a/b\",{rule}}}")).unwrap()
}

fn words(synced: &Synced) -> BTreeMap<String, String> {
    let word = |change: &Change| match change {
        Change::Same(at) => format!("same {at}"),
        Change::New(to) => format!("new {to}"),
        Change::Moved { from, to } => format!("moved {from} {to}"),
        Change::Failed(e) => format!("failed: {e}"),
    };
    synced.tags.iter().map(|(tag, change)| (tag.to_string(), word(change))).collect()
}

pub fn only(tag: &str, word: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(tag.to_owned(), word.to_string())])
}

fn manifest(reference: impl std::fmt::Display) -> String {
    format!("/v2/up.invalid/a/b/manifests/{reference}")
}

fn layer(text: &str) -> String {
    format!("/v2/up.invalid/a/b/blobs/{}", Digest::of(text.repeat(1000).as_bytes()))
}

#[test]
fn a_tag_comes_with_its_images_blobs_referrers_and_signatures_and_is_served_without_upstream() {
    let mut there = Repository::new();
    there.page = 2;
    let (index, images) = there.index("v1", &["linux/amd64", "linux/arm64"]);
    for tag in ["v1", "v1.0", "other", "w", "x", "y"] {
        there.tag(tag, &index);
    }
    let about_index = there.artifact(&index, "sbom/type", "sbom of all");
    let about_image = there.artifact(&images[1], "sbom/type", "sbom of one");
    let signature = there.carrier(&[(b"payload".to_vec(), "s".to_owned())], "");
    there.tag(&format!("sha256-{}.sig", images[0].hex()), &signature);
    let attestation = there.image("attestation", "");
    there.tag(&format!("sha256-{}.att", index.hex()), &attestation);
    let stranger = there.image("stranger", "");
    there.tag(&format!("sha256-{}.sbom", stranger.hex()), &attestation);
    let world = World::new(there);
    assert_eq!(
        world.sync(r#""tags":"v*""#),
        BTreeMap::from([
            ("v1".to_owned(), format!("new {index}")),
            ("v1.0".to_owned(), format!("new {index}")),
        ])
    );
    // Again: lists and heads are asked, and nothing that is here.
    let before = world.asked();
    assert_eq!(world.sync(r#""tags":"v1""#), only("v1", &format!("same {index}")));
    let again: Vec<Asked> = world.upstream.asked("").split_off(before);
    let fetched =
        |a: &&Asked| a.method == "GET" && !a.path.contains("/tags/") && !a.path.contains("/referrers/");
    assert!(again.iter().find(fetched).is_none(), "{again:?}");
    let server = world.served();
    for reference in
        ["v1".to_owned(), format!("sha256-{}.sig", images[0].hex()), format!("sha256-{}.att", index.hex())]
    {
        assert_eq!(server.get(&manifest(reference)).status, 200);
    }
    for digest in images.iter().chain([&about_index, &about_image]) {
        assert_eq!(server.get(&manifest(digest)).status, 200);
    }
    for text in ["v1 linux/amd64", "v1 linux/arm64", "sbom of all", "sbom of one", "attestation"] {
        assert_eq!(server.get(&layer(text)).status, 200, "{text}");
    }
    assert_eq!(server.get(&manifest("other")).status, 404);
    assert_eq!(server.get(&manifest(format!("sha256-{}.sbom", stranger.hex()))).status, 404);
    let list = server.get(&format!("/v2/up.invalid/a/b/referrers/{index}"));
    assert_eq!(list.json()["manifests"][0]["digest"], about_index.to_string());
}

#[test]
fn only_the_wanted_platforms_come_and_one_that_is_not_there_is_an_error() {
    let mut there = Repository::new();
    let (index, images) = there.index("v1", &["linux/amd64", "linux/arm64"]);
    there.tag("v1", &index);
    let world = World::new(there);
    let said = world.sync(r#""tags":"*","platforms":["linux/s390x"]"#);
    assert!(said["v1"].contains("has no image for linux/s390x"), "{said:?}");
    assert_eq!(world.sync(r#""tags":"*","platforms":["linux/arm64"]"#), only("v1", &format!("new {index}")));
    assert!(world.upstream.asked(&images[0].to_string()).is_empty());
    let server = world.served();
    assert_eq!(server.get(&manifest("v1")).status, 200);
    assert_eq!(server.get(&layer("v1 linux/arm64")).status, 200);
    assert_eq!(server.get(&manifest(&images[0])).status, 404);
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let mut there = Repository::new();
    let (one, two) = (there.image("one", ""), there.image("two", ""));
    there.tag("v1", &one);
    let world = World::new(there);
    let dry = |world: &World| world.sync_with(r#""tags":"*""#, world.config(), true).unwrap();
    assert_eq!(dry(&world), only("v1", &format!("new {one}")));
    assert_eq!(world.sync(r#""tags":"*""#), only("v1", &format!("new {one}")));
    world.there.lock().unwrap().tag("v1", &two);
    assert_eq!(dry(&world), only("v1", &format!("moved {one} {two}")));
    let fixed = UpstreamConfig { fixed: vec!["v*".parse().unwrap()], ..world.config() };
    assert_eq!(
        world.sync_with(r#""tags":"*""#, fixed.clone(), true).unwrap(),
        only("v1", &format!("same {one}"))
    );
    assert_eq!(world.sync_with(r#""tags":"*""#, fixed, false).unwrap(), only("v1", &format!("same {one}")));
    assert_eq!(dry(&world), only("v1", &format!("moved {one} {two}")));
    assert_eq!(world.sync(r#""tags":"*""#), only("v1", &format!("moved {one} {two}")));
}

#[test]
fn a_tag_moves_only_when_all_of_it_is_here_and_what_came_is_not_asked_for_again() {
    let mut there = Repository::new();
    let (old, _) = there.index("old", &["linux/amd64"]);
    let (new, images) = there.index("new", &["linux/amd64", "linux/arm64"]);
    there.tag("v1", &old);
    let world = World::new(there);
    world.sync(r#""tags":"*""#);
    let lost = Digest::of("new linux/arm64".repeat(1000).as_bytes());
    {
        let mut there = world.there.lock().unwrap();
        there.tag("v1", &new);
        there.lose_blob(&lost);
    }
    let said = world.sync(r#""tags":"*""#);
    assert!(said["v1"].contains(&format!("has no blob {lost}")), "{said:?}");
    let came = format!("/blobs/{}", Digest::of("new linux/amd64".repeat(1000).as_bytes()));
    assert_eq!(world.upstream.asked(&came).len(), 1);
    world.there.lock().unwrap().blob("new linux/arm64".repeat(1000).as_bytes());
    assert_eq!(world.sync(r#""tags":"*""#), only("v1", &format!("moved {old} {new}")));
    assert_eq!(world.upstream.asked(&came).len(), 1, "it was here");
    let server = world.served();
    assert_eq!(Digest::of(&server.get(&manifest("v1")).body), new);
    assert_eq!(server.get(&manifest(&images[1])).status, 200);
}

#[test]
fn half_an_image_is_never_served_while_it_is_synced() {
    let mut there = Repository::new();
    let image = there.image("image", "");
    there.tag("v1", &image);
    there.lose_blob(&Digest::of("image".repeat(1000).as_bytes()));
    let world = World::new(there);
    assert!(world.sync(r#""tags":"*""#)["v1"].starts_with("failed"));
    let server = world.served();
    assert_eq!(server.get(&manifest("v1")).status, 404);
    assert_eq!(server.get(&manifest(&image)).status, 404);
}

#[test]
fn one_tag_that_fails_does_not_keep_the_others_away() {
    let mut there = Repository::new();
    let (good, bad) = (there.image("good", ""), there.image("bad", ""));
    there.tag("v2", &bad);
    there.tag("v1", &good);
    there.tag("immutable1", &good);
    let world = World::answering(there, move |asked, say| {
        let wrong = asked.path.ends_with(&Digest::of("bad".repeat(1000).as_bytes()).to_string());
        if wrong { Say { body: vec![0; say.body.len()], ..say } } else { say }
    });
    let said = world.sync(r#""tags":"*""#);
    assert_eq!(said["v1"], format!("new {good}"));
    assert!(
        said["v2"].contains("its answer is refused") && said["v2"].contains("the bytes have the digest"),
        "{said:?}"
    );
    // What the operator made immutable stays where it is.
    let other = world.there.lock().unwrap().image("other", "");
    world.there.lock().unwrap().tag("immutable1", &other);
    let said = world.sync(r#""tags":"*""#);
    assert!(said["immutable1"].starts_with("failed: up.invalid/a/b:immutable1"), "{said:?}");
}

#[test]
fn one_that_limits_for_a_moment_is_waited_for_and_one_that_is_gone_is_not_asked_for_every_tag() {
    let mut there = Repository::new();
    let image = there.image("image", "");
    for n in 0..20 {
        there.tag(&format!("v{n}"), &image);
    }
    let count = AtomicUsize::new(0);
    let world = World::answering(there.clone(), move |_, say| {
        if count.fetch_add(1, Ordering::Relaxed) % 4 == 3 { Say::status(429) } else { say }
    });
    let said = world.sync(r#""tags":{"newest":3}"#);
    assert_eq!(said.into_keys().collect::<Vec<_>>(), ["v17", "v18", "v19"]);
    let world = World::answering(
        there,
        |asked, say| {
            if asked.path.contains("/tags/") { say } else { Say::status(503) }
        },
    );
    let said = world.sync(r#""tags":"*""#);
    assert_eq!(said.values().filter(|word| word.contains("503")).count(), 20, "{said:?}");
    assert!(world.asked() < 10, "{}", world.asked());
}

#[test]
fn a_list_of_tags_that_is_none_or_has_no_end_is_refused() {
    let mut there = Repository::new();
    let image = there.image("image", "");
    there.tag("v1", &image);
    for (body, link, words) in [
        ("<html>", None, "not a list of tags"),
        ("", None, "not a list of tags"),
        ("{\"schemaVersion\":2}", None, "neither a name nor tags"),
        ("{\"tags\":null}", Some("?last=a"), "its next page is not part of this list"),
        ("{\"tags\":null}", Some("http://other.invalid/v2/a/b/tags/list"), "not part of this list"),
    ] {
        let world = World::answering(there.clone(), move |asked, say| {
            let say = if asked.path.contains("/tags/") {
                Say::ok("application/json", body.as_bytes())
            } else {
                say
            };
            match link {
                Some(link) => say.with("Link", &format!("<{link}>; rel=\"next\"")),
                None => say,
            }
        });
        let said = world.sync_with(r#""tags":"*""#, world.config(), false).unwrap_err();
        assert!(said.contains(words), "{said}");
    }
    let world = World::new(there);
    let allowed = UpstreamConfig { repositories: vec!["c/*".parse().unwrap()], ..world.config() };
    let said = world.sync_with(r#""tags":"*""#, allowed, false).unwrap_err();
    assert_eq!(said, "up.invalid/a/b may not be pulled through this registry");
    assert_eq!(world.asked(), 0);
}

/// Whoever signs by the word.
#[derive(Debug)]
struct Word;

impl ImageJudge for Word {
    fn approve(&self, manifest: &Digest, signatures: &[Signature]) -> Result<(), String> {
        let is_it = |payload: &[u8]| payload == manifest.to_string().as_bytes();
        let good = |s: &Signature| matches!(s, Signature::Document { payload, .. } if is_it(payload) && self.made(s));
        if signatures.iter().any(good) { Ok(()) } else { Err("it is not signed".to_owned()) }
    }

    fn made(&self, signature: &Signature) -> bool {
        matches!(signature, Signature::Document { signature, .. } if signature == "sesame")
    }
}

#[test]
fn what_has_to_be_signed_moves_only_when_it_is() {
    let mut there = Repository::new();
    let (index, _) = there.index("v1", &["linux/amd64", "linux/arm64"]);
    there.tag("v1", &index);
    let world = World::new(there);
    let strict = || UpstreamConfig {
        signed: vec![Signed { repositories: Vec::new(), judge: Arc::new(Word) }],
        ..world.config()
    };
    let said = world.sync_with(r#""tags":"v*""#, strict(), false).unwrap();
    assert!(said["v1"].contains("lacks signatures: it is not signed"), "{said:?}");
    {
        let mut there = world.there.lock().unwrap();
        let carrier = there.carrier(&[(index.to_string().into_bytes(), "sesame".to_owned())], "");
        there.tag(&format!("sha256-{}.sig", index.hex()), &carrier);
    }
    let said = world.sync_with(r#""tags":"v*""#, strict(), false).unwrap();
    assert_eq!(said, only("v1", &format!("new {index}")));
}

#[test]
fn docker_lists_and_layers_that_are_elsewhere_are_synced() {
    let mut there = Repository::new();
    let config = there.blob(b"{}");
    let away = Digest::of(b"a layer that may not be passed on");
    let text = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{kind}\",\"config\":{{\"mediaType\":\"c/t\",\"digest\":\"{config}\",\"size\":2}},\
         \"layers\":[{{\"mediaType\":\"l/t\",\"digest\":\"{away}\",\"size\":33,\"urls\":[\"https://x.invalid\"]}}]}}",
        kind = media_type::DOCKER_MANIFEST
    );
    let image = there.manifest(media_type::DOCKER_MANIFEST, text.as_bytes());
    let list = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{}\",\"manifests\":[{}]}}",
        media_type::DOCKER_MANIFEST_LIST,
        there.described(&image)
    );
    let list = there.manifest(media_type::DOCKER_MANIFEST_LIST, list.as_bytes());
    there.tag("v1", &list);
    let world = World::new(there);
    assert_eq!(world.sync(r#""tags":"*""#), only("v1", &format!("new {list}")));
    assert!(world.upstream.asked(&away.to_string()).is_empty());
}

#[test]
fn a_rule_for_an_upstream_that_is_none_is_an_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let synced = Upstreams::default()
            .sync(&store, "up.invalid", &toml_of(r#""tags":"*""#), false, |_, _| {})
            .await;
        assert_eq!(synced.unwrap_err().to_string(), "there is no repository a/b");
    });
}
