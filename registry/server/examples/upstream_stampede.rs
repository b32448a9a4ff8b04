//! How fast an upstream is pulled through: `cargo run --release -p hab-registry --example upstream_stampede`.
//!
//! An upstream on a loopback port has an image with a large layer (256 MiB, or as many as the first argument says), and takes
//! its time to send it, as one behind a network does (20 s, or as many as the second argument says). Without that, what is
//! measured is how fast this machine copies 50 layers, which no sharing makes as fast as one. Printed, one `name value` a line:
//!
//! - `manifest_requests`: how many requests the first pull of a manifest made upstream, of one that wants a token and was
//!   greeted; `manifest_requests_known`: of one for which the token is known.
//! - `blob_requests`: how many were made for the layer by 50 clients that missed it at once.
//! - `direct_seconds`: one download past this registry; `last_seconds`: until the last of the 50
//!   clients had it; `ratio`: of the two.
#![allow(clippy::unwrap_used, clippy::format_push_string, missing_docs)]

#[allow(dead_code)]
#[path = "../tests/harness/fake.rs"]
mod fake;

use std::time::{Duration, Instant};

use fake::{Asked, Fake, Say};
use hab_oci::{Descriptor, Digest, media_type};
use hab_registry::{Access, Registry, UpstreamConfig, Upstreams};
use hab_store::Store;

const CLIENTS: usize = 50;

fn main() {
    let number = |n, default| std::env::args().nth(n).map_or(default, |text| text.parse().expect("a number"));
    let (mebi, seconds) = (number(1, 256_u64), number(2, 20));
    // What nothing on the way makes smaller.
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()
    };
    let layer: Vec<u8> = (0..mebi << 17).flat_map(|_| next()).collect();
    let (digest, size) = (Digest::of(&layer), layer.len());
    let upstream = upstream(layer, Duration::from_secs(seconds));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(&upstream, size, &digest));
}

fn upstream(layer: Vec<u8>, time: Duration) -> Fake {
    let json = |d: &Descriptor| {
        format!("{{\"mediaType\":\"{}\",\"digest\":\"{}\",\"size\":{}}}", d.media_type, d.digest, d.size)
    };
    let config = json(&Descriptor::of(media_type::IMAGE_CONFIG, b"{}"));
    let listed = json(&Descriptor::of(media_type::LAYER_GZIP, &layer));
    let manifest = format!("{{\"schemaVersion\":2,\"config\":{config},\"layers\":[{listed}]}}").into_bytes();
    Fake::start(move |asked: &Asked| {
        if asked.path.starts_with("/token") {
            return Say::ok("application/json", b"{\"token\":\"t\",\"expires_in\":3600}");
        }
        if asked.header("authorization") != Some("Bearer t") {
            let host = asked.header("host").unwrap_or_default();
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
            return Say::status(401).with("WWW-Authenticate", &challenge);
        }
        if asked.path.contains("/manifests/") {
            return Say::ok(media_type::IMAGE_MANIFEST, &manifest)
                .with("Docker-Content-Digest", &Digest::of(&manifest).to_string());
        }
        // In a hundred parts, with a pause before each.
        Say { slow: time / 100, ..Say::ok("application/octet-stream", &layer) }
    })
}

async fn measure(upstream: &Fake, size: usize, digest: &Digest) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let config = UpstreamConfig::new("up.invalid", &upstream.url());
    let upstreams = Upstreams::new(vec![config]).unwrap();
    upstreams.greet().await;
    let registry = Registry::new(store, Access::ReadOnly).with_upstreams(upstreams);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v2/up.invalid/a/b", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        hab_registry::serve(listener, registry, axum::Router::default(), stopped).await.unwrap();
    });
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (tag, name) in [("v1", "manifest_requests"), ("v2", "manifest_requests_known")] {
        let before = upstream.asked("").len();
        let reply = http.get(format!("{base}/manifests/{tag}")).send().await.unwrap();
        assert!(reply.status().is_success(), "{reply:?}");
        println!("{name} {}", upstream.asked("").len() - before);
    }
    let url = format!("{}/v2/a/b/blobs/{digest}", upstream.url());
    let start = Instant::now();
    drain(http.get(url).header("authorization", "Bearer t"), size).await;
    let direct = start.elapsed();
    let before = upstream.asked(&digest.to_string()).len();
    let start = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let request = http.get(format!("{base}/blobs/{digest}"));
            tokio::spawn(async move {
                drain(request, size).await;
                start.elapsed()
            })
        })
        .collect();
    let mut last = Duration::ZERO;
    for client in clients {
        last = last.max(client.await.unwrap());
    }
    println!("blob_requests {}", upstream.asked(&digest.to_string()).len() - before);
    println!("direct_seconds {:.3}", direct.as_secs_f64());
    println!("last_seconds {:.3}", last.as_secs_f64());
    println!("ratio {:.2}", last.as_secs_f64() / direct.as_secs_f64());
    let _ = stop.send(());
    serving.await.unwrap();
}

/// Takes a whole body and looks at nothing but its length.
async fn drain(request: reqwest::RequestBuilder, size: usize) {
    let mut response = request.send().await.unwrap();
    let mut came = 0;
    while let Some(chunk) = response.chunk().await.unwrap() {
        came += chunk.len();
    }
    assert_eq!(came, size);
}
