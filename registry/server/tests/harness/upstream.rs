//! Upstreams for tests: how one is configured, and a repository that one may have.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hab_oci::{Descriptor, Digest, media_type};
use hab_registry::{Access, ServiceLimits, UpstreamConfig, Upstreams};

use super::fake::{Asked, Say};
use super::{Server, descriptor, manifest};

pub const SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

pub fn config(url: &str) -> UpstreamConfig {
    UpstreamConfig { ttl: Duration::from_secs(60), ..UpstreamConfig::new("up.invalid", url) }
}

pub fn upstreams(config: UpstreamConfig) -> Upstreams {
    Upstreams::new(vec![config]).unwrap()
}

pub fn through(config: UpstreamConfig) -> Server {
    Server::through(Access::ReadWrite, ServiceLimits::default(), upstreams(config))
}

#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What an upstream has of the repository `a/b`.
#[derive(Clone, Default)]
pub struct Repository {
    blobs: BTreeMap<String, Vec<u8>>,
    /// By digest: the media type and the bytes.
    pub manifests: BTreeMap<String, (&'static str, Vec<u8>)>,
    pub tags: BTreeMap<String, String>,
    /// Descriptors by subject; without, there is no such endpoint.
    pub referrers: Option<BTreeMap<String, Vec<String>>>,
    /// How many of anything are in a page.
    pub page: usize,
}

impl Repository {
    pub fn new() -> Self {
        Self { page: 1000, ..Self::default() }
    }

    pub fn blob(&mut self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.blobs.insert(digest.to_string(), bytes.to_vec());
        digest
    }

    pub fn lose_blob(&mut self, digest: &Digest) {
        self.blobs.remove(&digest.to_string());
    }

    pub fn manifest(&mut self, kind: &'static str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.manifests.insert(digest.to_string(), (kind, bytes.to_vec()));
        digest
    }

    pub fn tag(&mut self, tag: &str, digest: &Digest) {
        self.tags.insert(tag.to_owned(), digest.to_string());
    }

    /// An image made of a text; `extra` is more JSON fields, each with a comma before it.
    pub fn image(&mut self, text: &str, extra: &str) -> Digest {
        let (config, layer) = (format!("{{\"of\":\"{text}\"}}").into_bytes(), text.repeat(1000).into_bytes());
        self.blob(&config);
        self.blob(&layer);
        self.manifest(media_type::IMAGE_MANIFEST, &manifest(&config, &layer, extra))
    }

    /// An index over images for these platforms, `linux/amd64`.
    pub fn index(&mut self, text: &str, platforms: &[&str]) -> (Digest, Vec<Digest>) {
        let mut images = Vec::new();
        let mut members = Vec::new();
        for platform in platforms {
            let image = self.image(&format!("{text} {platform}"), "");
            let (os, architecture) = platform.split_once('/').unwrap();
            let size = self.manifests[&image.to_string()].1.len();
            members.push(format!(
                "{{\"mediaType\":\"{}\",\"digest\":\"{image}\",\"size\":{size},\"platform\":{{\"os\":\"{os}\",\
                 \"architecture\":\"{architecture}\"}}}}",
                media_type::IMAGE_MANIFEST
            ));
            images.push(image);
        }
        let index = format!("{{\"schemaVersion\":2,\"manifests\":[{}]}}", members.join(","));
        (self.manifest(media_type::IMAGE_INDEX, index.as_bytes()), images)
    }

    /// A descriptor of a manifest, as a subject or in a list.
    pub fn described(&self, digest: &Digest) -> String {
        let (kind, bytes) = &self.manifests[&digest.to_string()];
        descriptor(&Descriptor::of(kind, bytes))
    }

    /// An artifact about a manifest, listed where there is an endpoint.
    pub fn artifact(&mut self, subject: &Digest, kind: &str, text: &str) -> Digest {
        let about = self.described(subject);
        let extra = format!(",\"subject\":{about},\"artifactType\":\"{kind}\"");
        let artifact = self.image(text, &extra);
        self.refer(subject, &artifact, kind);
        artifact
    }

    pub fn refer(&mut self, subject: &Digest, artifact: &Digest, kind: &str) {
        let described = self.described(artifact);
        let entry = format!("{},\"artifactType\":\"{kind}\"}}", &described[..described.len() - 1]);
        let lists = self.referrers.get_or_insert_default();
        lists.entry(subject.to_string()).or_default().push(entry);
    }

    /// A manifest that carries signatures: payloads and what is said to be the signature over each.
    pub fn carrier(&mut self, signed: &[(Vec<u8>, String)], extra: &str) -> Digest {
        self.carrier_with(b"{}", 2, signed, extra)
    }

    /// The same with another configuration, of which the manifest says that it has `size` bytes.
    pub fn carrier_with(
        &mut self,
        config: &[u8],
        size: u64,
        signed: &[(Vec<u8>, String)],
        extra: &str,
    ) -> Digest {
        self.blob(config);
        let mut layers = Vec::new();
        for (payload, signature) in signed {
            let digest = self.blob(payload);
            layers.push(format!(
                "{{\"mediaType\":\"{SIGNING}\",\"digest\":\"{digest}\",\"size\":{},\"annotations\":{{\
                 \"dev.cosignproject.cosign/signature\":\"{signature}\"}}}}",
                payload.len()
            ));
        }
        let config = descriptor(&Descriptor { size, ..Descriptor::of(media_type::IMAGE_CONFIG, config) });
        let text =
            format!("{{\"schemaVersion\":2,\"config\":{config},\"layers\":[{}]{extra}}}", layers.join(","));
        self.manifest(media_type::IMAGE_MANIFEST, text.as_bytes())
    }

    /// What a registry that has it answers.
    pub fn say(&self, asked: &Asked) -> Say {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let after = query.split('&').find_map(|pair| pair.strip_prefix("last=")).unwrap_or_default();
        let Some(rest) = path.strip_prefix("/v2/a/b/") else { return Say::status(404) };
        let (what, last) = rest.rsplit_once('/').unwrap();
        match what {
            "tags" => {
                let behind = self.tags.keys().filter(|tag| tag.as_str() > after);
                let page: Vec<&String> = behind.clone().take(self.page).collect();
                let body = serde_json::json!({ "name": "a/b", "tags": page }).to_string();
                let said = Say::ok("application/json", body.as_bytes());
                if behind.count() > page.len() {
                    said.with("Link", &format!("<{path}?last={}>; rel=\"next\"", page.last().unwrap()))
                } else {
                    said
                }
            }
            "referrers" => {
                let Some(lists) = &self.referrers else { return Say::status(404) };
                let all = lists.get(last).cloned().unwrap_or_default();
                let first: usize = after.parse().unwrap_or(0);
                let end = all.len().min(first + self.page);
                let body = format!(
                    "{{\"schemaVersion\":2,\"mediaType\":\"{}\",\"manifests\":[{}]}}",
                    media_type::IMAGE_INDEX,
                    all[first..end].join(",")
                );
                let said = Say::ok(media_type::IMAGE_INDEX, body.as_bytes());
                if end < all.len() {
                    said.with("Link", &format!("<{path}?last={end}>; rel=\"next\""))
                } else {
                    said
                }
            }
            "manifests" => {
                let digest = self.tags.get(last).map_or(last, String::as_str);
                let Some((kind, bytes)) = self.manifests.get(digest) else { return Say::status(404) };
                Say::ok(kind, bytes).with("Docker-Content-Digest", digest)
            }
            "blobs" => match self.blobs.get(last) {
                Some(bytes) => Say::ok("application/octet-stream", bytes),
                None => Say::status(404),
            },
            _ => Say::status(404),
        }
    }
}
