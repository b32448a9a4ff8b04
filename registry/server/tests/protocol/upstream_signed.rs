//! Repositories of an upstream of which only what is signed is served.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hab_oci::{Digest, media_type};
use hab_registry::{Access, ImageJudge, Signature, Signed, UpstreamConfig};

use crate::harness::Server;
use crate::harness::fake::Fake;
use crate::harness::upstream::{Repository, SIGNING, config, through, upstreams, wait_until};

/// A judge without cryptography: a signature is the key's word and the digest of the payload, which is a manifest's; a
/// bundle is the word, what it does, and the manifest's digest.
#[derive(Debug)]
pub struct Word(pub &'static str);

impl ImageJudge for Word {
    fn approve(&self, manifest: &Digest, signatures: &[Signature]) -> Result<(), String> {
        let signs = |s: &Signature| match s {
            Signature::Document { payload, .. } => payload == manifest.to_string().as_bytes(),
            Signature::Bundle(bytes) => *bytes == format!("{} signs {manifest}", self.0).into_bytes(),
        };
        match signatures.iter().find(|s| self.made(s) && signs(s)) {
            Some(_) => Ok(()),
            None => Err(format!("none of {} is by {}", signatures.len(), self.0)),
        }
    }

    fn made(&self, signature: &Signature) -> bool {
        match signature {
            Signature::Document { payload, signature } => {
                *signature == format!("{} {}", self.0, Digest::of(payload))
            }
            Signature::Bundle(bytes) => bytes.starts_with(format!("{} ", self.0).as_bytes()),
        }
    }
}

fn sign(word: &str, manifest: &Digest) -> (Vec<u8>, String) {
    let payload = manifest.to_string().into_bytes();
    let signature = format!("{word} {}", Digest::of(&payload));
    (payload, signature)
}

/// Signs a manifest as cosign does: in a manifest at a tag.
fn sign_by_tag(there: &mut Repository, word: &str, manifest: &Digest) -> Digest {
    let carrier = there.carrier(&[sign(word, manifest)], "");
    there.tag(&format!("sha256-{}.sig", manifest.hex()), &carrier);
    carrier
}

pub fn strict(url: &str) -> UpstreamConfig {
    let signed = vec![Signed { repositories: Vec::new(), judge: Arc::new(Word("sesame")) }];
    UpstreamConfig { signed, ..config(url) }
}

pub type Shared = Arc<Mutex<Repository>>;

/// An upstream whose content a test goes on changing.
pub fn upstream(there: &Repository) -> (Fake, Shared) {
    let shared = Arc::new(Mutex::new(there.clone()));
    let said = shared.clone();
    (Fake::start(move |asked| said.lock().unwrap().say(asked)), shared)
}

pub fn manifest(reference: impl std::fmt::Display) -> String {
    format!("/v2/up.invalid/a/b/manifests/{reference}")
}

pub fn blob(text: &str) -> String {
    format!("/v2/up.invalid/a/b/blobs/{}", Digest::of(text.repeat(1000).as_bytes()))
}

/// That something is refused, and why.
#[track_caller]
pub fn refused(server: &Server, path: &str) -> String {
    let reply = server.get(path);
    assert_eq!(reply.error(), (403, "DENIED".into()), "{path}");
    assert_eq!(server.head(path).status, 403, "{path}");
    reply.json()["errors"][0]["message"].as_str().unwrap().to_owned()
}

#[track_caller]
pub fn served(server: &Server, path: &str) {
    let reply = server.get(path);
    assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
}

#[test]
fn what_nobody_signed_is_refused_by_tag_by_digest_and_blob_by_blob() {
    let mut there = Repository::new();
    let image = there.image("unsigned", "");
    there.tag("v1", &image);
    let (upstream, _) = upstream(&there);
    let server = through(strict(&upstream.url()));
    let said = refused(&server, &manifest("v1"));
    assert_eq!(
        said,
        format!(
            "up.invalid/a/b is served only if signed, and {image} lacks signatures: none of 0 is by sesame"
        )
    );
    refused(&server, &manifest(&image));
    let said = refused(&server, &blob("unsigned"));
    assert!(said.contains("none of 0 is by sesame"), "{said}");
    // A blob that nothing names is not even asked for.
    let said = refused(&server, &blob("something"));
    assert!(said.contains("no manifest that was pulled here names it"), "{said}");
    assert!(upstream.asked("").iter().all(|asked| !asked.path.contains("/blobs/")));
    // Who asks again and again does not make upstream be asked again and again.
    let before = upstream.asked(".sig").len();
    for _ in 0..5 {
        refused(&server, &manifest(&image));
    }
    assert_eq!(upstream.asked(".sig").len(), before);
}

#[test]
fn an_index_that_is_signed_approves_its_images_and_their_blobs() {
    let mut there = Repository::new();
    let (index, images) = there.index("good", &["linux/amd64", "linux/arm64"]);
    there.tag("v1", &index);
    let other = there.image("other", "");
    let signature = sign_by_tag(&mut there, "sesame", &index);
    let (upstream, _) = upstream(&there);
    let server = through(strict(&upstream.url()));
    // Nothing here says yet that a signed index lists it.
    refused(&server, &manifest(&images[0]));
    served(&server, &manifest("v1"));
    for image in &images {
        served(&server, &manifest(image));
    }
    served(&server, &blob("good linux/arm64"));
    refused(&server, &manifest(&other));
    refused(&server, &blob("other"));
    // A client checks for itself.
    served(&server, &manifest(format!("sha256-{}.sig", index.hex())));
    served(&server, &manifest(&signature));
    let payload = Digest::of(index.to_string().as_bytes());
    served(&server, &format!("/v2/up.invalid/a/b/blobs/{payload}"));
}

#[test]
fn signatures_are_served_whoever_asks_for_them_first() {
    let mut there = Repository::new();
    let (index, images) = there.index("good", &["linux/amd64"]);
    sign_by_tag(&mut there, "sesame", &index);
    let (of_image, of_index) =
        (sign_by_tag(&mut there, "sesame", &images[0]), format!("sha256-{}.sig", index.hex()));
    let by_others = there.carrier(&[sign("mellon", &index)], "");
    let (upstream, _) = upstream(&there);
    let server = through(config(&upstream.url()));
    // One that came before the policy, without what is signed.
    served(&server, &manifest(&of_image));
    let server = server.restarted_through(Access::ReadOnly, upstreams(strict(&upstream.url())));
    served(&server, &manifest(of_index));
    served(&server, &manifest(&of_image));
    refused(&server, &manifest(&by_others));
}

#[test]
fn signatures_that_are_referrers_count_too() {
    for endpoint in [true, false] {
        let mut there = Repository::new();
        let image = there.image("referred", "");
        let about = format!(",\"subject\":{},\"artifactType\":\"{SIGNING}\"", there.described(&image));
        let carrier = there.carrier(&[sign("sesame", &image)], &about);
        there.refer(&image, &carrier, SIGNING);
        if !endpoint {
            let entry = there.referrers.take().unwrap()[&image.to_string()][0].clone();
            let index = format!("{{\"schemaVersion\":2,\"manifests\":[{entry}]}}");
            let index = there.manifest(media_type::IMAGE_INDEX, index.as_bytes());
            there.tag(&format!("sha256-{}", image.hex()), &index);
        }
        let (upstream, _) = upstream(&there);
        let server = through(strict(&upstream.url()));
        served(&server, &manifest(&image));
        served(&server, &blob("referred"));
        served(&server, &manifest(&carrier));
    }
}

#[test]
fn signatures_are_served_as_signatures_and_bring_nothing_else_with_them() {
    let mut there = Repository::new();
    let image = there.image("good", "");
    there.tag("latest", &image);
    sign_by_tag(&mut there, "sesame", &image);
    let config = |n: usize| format!("{{\"n\":\"{}\"}}", "x".repeat(n)).into_bytes();
    let (small, large, lies) = (config(1000), config(20_000), config(30_000));
    let signed = [sign("sesame", &image)];
    let wrapper = there.carrier_with(&small, small.len() as u64, &signed, "");
    let with_large = there.carrier_with(&large, large.len() as u64, &signed, "");
    let with_lies = there.carrier_with(&lies, 1000, &signed, "");
    let with_more = there.carrier(&[signed[0].clone(), sign("mellon", &wrapper)], "");
    // Somebody else signed the same.
    let with_other = there.carrier(&[signed[0].clone(), sign("mellon", &image)], "");
    let (upstream, shared) = upstream(&there);
    let server = through(UpstreamConfig { ttl: Duration::ZERO, ..strict(&upstream.url()) });
    served(&server, &manifest("latest"));
    shared.lock().unwrap().tag("latest", &wrapper);
    shared.lock().unwrap().tag("new", &wrapper);
    let said = refused(&server, &manifest("new"));
    assert!(said.contains("only signatures of others"), "{said}");
    // It stays where it was, however often it is looked at: a look ends before the next one begins.
    let looks = || upstream.asked("/manifests/latest").len();
    let before = looks();
    wait_until("the tag was looked at again", || {
        assert_eq!(Digest::of(&server.get(&manifest("latest")).body), image);
        looks() >= before + 3
    });
    served(&server, &manifest(&wrapper));
    served(&server, &format!("/v2/up.invalid/a/b/blobs/{}", Digest::of(&small)));
    served(&server, &manifest(&with_other));
    for other in [&with_large, &with_lies, &with_more] {
        refused(&server, &manifest(other));
    }
    for bytes in [&large, &lies, &wrapper.to_string().into_bytes()] {
        refused(&server, &format!("/v2/up.invalid/a/b/blobs/{}", Digest::of(bytes)));
    }
}

#[test]
fn signatures_by_others_over_others_or_cut_ones_do_not_count() {
    let mut there = Repository::new();
    let (image, other) = (there.image("image", ""), there.image("other", ""));
    let (payload, signature) = sign("sesame", &image);
    let large = vec![b'x'; 300 * 1024];
    let large_signature = format!("sesame {}", Digest::of(&large));
    for signed in [
        vec![sign("mellon", &image)],
        vec![sign("sesame", &other)],
        vec![(payload.clone(), signature[..20].to_owned())],
        vec![(payload[..20].to_vec(), signature)],
        vec![(large, large_signature)],
        vec![],
    ] {
        let carrier = there.carrier(&signed, "");
        there.tag(&format!("sha256-{}.sig", image.hex()), &carrier);
        let (upstream, _) = upstream(&there);
        refused(&through(strict(&upstream.url())), &manifest(&image));
    }
}

#[test]
fn decisions_are_made_again_after_a_restart_without_the_upstream_and_of_what_came_before_the_policy() {
    let mut there = Repository::new();
    let (good, bad) = (there.image("good", ""), there.image("bad", ""));
    there.tag("good", &good);
    there.tag("bad", &bad);
    sign_by_tag(&mut there, "sesame", &good);
    let (upstream, _) = upstream(&there);
    let server = through(config(&upstream.url()));
    for path in [manifest("good"), manifest("bad"), blob("good"), blob("bad")] {
        served(&server, &path);
    }
    for text in ["good", "bad"] {
        served(
            &server,
            &format!("/v2/up.invalid/a/b/blobs/{}", Digest::of(format!("{{\"of\":\"{text}\"}}").as_bytes())),
        );
    }
    // Switched on; upstream is asked for what was not wanted before.
    let server = server.restarted_through(Access::ReadOnly, upstreams(strict(&upstream.url())));
    served(&server, &blob("good"));
    served(&server, &manifest("good"));
    refused(&server, &manifest("bad"));
    refused(&server, &blob("bad"));
    upstream.stop();
    let mut server = server;
    for offline in [false, true] {
        let all = upstreams(UpstreamConfig { offline, ..strict(&upstream.url()) });
        server = server.restarted_through(Access::ReadOnly, all);
        served(&server, &manifest("good"));
        served(&server, &blob("good"));
        if offline {
            refused(&server, &manifest("bad"));
        } else {
            // Whether it is signed by now cannot be known.
            assert_eq!(server.get(&manifest("bad")).error(), (502, "UNKNOWN".into()));
        }
    }
}

#[test]
fn a_tag_that_moves_to_what_is_not_signed_stays_until_it_is() {
    let mut there = Repository::new();
    let (old, new) = (there.image("old", ""), there.image("new", ""));
    there.tag("v1", &old);
    sign_by_tag(&mut there, "sesame", &old);
    let (upstream, shared) = upstream(&there);
    let server = through(UpstreamConfig { ttl: Duration::from_millis(100), ..strict(&upstream.url()) });
    served(&server, &manifest("v1"));
    shared.lock().unwrap().tag("v1", &new);
    // The second look begins when the first has ended.
    wait_until("the new one was looked at twice", || {
        assert_eq!(Digest::of(&server.get(&manifest("v1")).body), old);
        upstream.asked(&format!("sha256-{}.sig", new.hex())).len() >= 2
    });
    assert_eq!(Digest::of(&server.get(&manifest("v1")).body), old);
    refused(&server, &manifest(&new));
    sign_by_tag(&mut shared.lock().unwrap(), "sesame", &new);
    wait_until("it is signed", || Digest::of(&server.get(&manifest("v1")).body) == new);
}

#[test]
fn an_image_that_calls_itself_a_signature_is_none() {
    let mut there = Repository::new();
    let good = there.image("good", "");
    sign_by_tag(&mut there, "sesame", &good);
    // One that says something about a signed image, and one in the place of its signatures' neighbours.
    let artifact = there.artifact(&good, SIGNING, "evil");
    there.tag("latest", &artifact);
    let attestation = there.image("attestation", "");
    there.tag(&format!("sha256-{}.att", good.hex()), &attestation);
    // A real signature, and a layer to run beside it.
    let (payload, signature) = sign("sesame", &good);
    let carrier = there.carrier(&[(payload, signature)], "");
    let mut text = String::from_utf8(there.manifests[&carrier.to_string()].1.clone()).unwrap();
    let layer = there.blob(b"evil layer");
    let more =
        format!(",{{\"mediaType\":\"{}\",\"digest\":\"{layer}\",\"size\":10}}]", media_type::LAYER_GZIP);
    text = text.replace("]}", &format!("{more}}}"));
    let mixed = there.manifest(media_type::IMAGE_MANIFEST, text.as_bytes());
    there.tag("mixed", &mixed);
    // Only in an index that nobody signed.
    let (index, _) = there.index("unsigned", &["linux/amd64"]);
    let (upstream, _) = upstream(&there);
    let server = through(strict(&upstream.url()));
    served(&server, &manifest(&good));
    for reference in
        ["latest".to_owned(), "mixed".to_owned(), format!("sha256-{}.att", good.hex()), index.to_string()]
    {
        refused(&server, &manifest(reference));
    }
    refused(&server, &format!("/v2/up.invalid/a/b/blobs/{layer}"));
    // The list is a list, and says nothing about trust.
    assert_eq!(server.get(&format!("/v2/up.invalid/a/b/referrers/{good}")).status, 200);
}

#[test]
fn every_rule_that_names_a_repository_has_to_be_met() {
    let mut there = Repository::new();
    let (one, both) = (there.image("one", ""), there.image("both", ""));
    sign_by_tag(&mut there, "sesame", &one);
    let carrier = there.carrier(&[sign("sesame", &both), sign("mellon", &both)], "");
    there.tag(&format!("sha256-{}.sig", both.hex()), &carrier);
    let (upstream, _) = upstream(&there);
    let rule = |pattern: &str, word| Signed {
        repositories: vec![pattern.parse().unwrap()],
        judge: Arc::new(Word(word)),
    };
    let with = |signed| through(UpstreamConfig { signed, ..config(&upstream.url()) });
    let server = with(vec![rule("a/*", "sesame"), rule("*", "mellon")]);
    served(&server, &manifest(&both));
    assert!(refused(&server, &manifest(&one)).contains("by mellon"));
    let server = with(vec![rule("a/*", "sesame"), rule("c/*", "mellon")]);
    served(&server, &manifest(&one));
    served(&with(vec![rule("c/*", "mellon")]), &manifest(&one));
}
