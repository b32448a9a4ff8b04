//! A registry on a loopback port, and a client small enough to send what no client would.

pub mod fake;
pub mod programs;
pub mod secure;
pub mod shield;
pub mod upstream;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use hab_oci::{Descriptor, Digest, media_type};
use hab_registry::{
    Access, AccessConfig, AccessLog, Guard, Rate, Registry, Rules, ServiceLimits, Tls, TlsConfig, Upstreams,
};
use hab_store::{Store, Tags};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Ends with its folder when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    folder: Option<TempDir>,
}

/// What an operator may say.
#[derive(Default)]
pub struct Setup {
    pub rules: Rules,
    pub upstreams: Upstreams,
    pub immutable: Vec<Tags>,
    /// Its data folder is the server's.
    pub access: Option<AccessConfig>,
    pub tls: Option<TlsConfig>,
    pub rate: Option<Rate>,
    /// Gets a line for every request.
    pub log: Option<PathBuf>,
}

impl Server {
    pub fn writable() -> Self {
        Self::with(Access::ReadWrite, ServiceLimits::default())
    }

    pub fn with(access: Access, limits: ServiceLimits) -> Self {
        Self::on(tempfile::tempdir().unwrap(), access, limits, Setup::default())
    }

    /// One through which others are pulled.
    pub fn through(access: Access, limits: ServiceLimits, upstreams: Upstreams) -> Self {
        Self::on(tempfile::tempdir().unwrap(), access, limits, Setup { upstreams, ..Setup::default() })
    }

    /// One over a folder that has something in it, through which others are pulled.
    pub fn kept_on(folder: TempDir, access: Access, limits: ServiceLimits, upstreams: Upstreams) -> Self {
        Self::on(folder, access, limits, Setup { upstreams, ..Setup::default() })
    }

    /// One that accepts images whose layers are not here.
    pub fn sparse() -> Self {
        let setup = Setup { rules: Rules { gaps: hab_store::Gaps::All }, ..Setup::default() };
        Self::on(tempfile::tempdir().unwrap(), Access::ReadWrite, ServiceLimits::default(), setup)
    }

    /// Everybody may push, but tags like `pattern` stay where they are.
    pub fn with_immutable(pattern: &str) -> Self {
        let tags = Tags { repository: "*".parse().unwrap(), tag: pattern.parse().unwrap() };
        let setup = Setup { immutable: vec![tags], ..Setup::default() };
        Self::on(tempfile::tempdir().unwrap(), Access::ReadWrite, ServiceLimits::default(), setup)
    }

    /// One with all that an operator may say.
    pub fn set_up(access: Access, limits: ServiceLimits, setup: Setup) -> Self {
        Self::on(tempfile::tempdir().unwrap(), access, limits, setup)
    }

    /// Everybody may push, into a folder that is somebody else's.
    pub fn over(folder: &Path) -> Self {
        Self::at(folder.to_owned(), Access::ReadWrite, ServiceLimits::default(), Setup::default())
    }

    fn on(folder: TempDir, access: Access, limits: ServiceLimits, setup: Setup) -> Self {
        let mut server = Self::at(folder.path().to_owned(), access, limits, setup);
        server.folder = Some(folder);
        server
    }

    fn at(data: PathBuf, access: Access, limits: ServiceLimits, setup: Setup) -> Self {
        let Setup { rules, upstreams, immutable, access: accounts, tls, rate, log } = setup;
        let (stop, stopped) = oneshot::channel();
        let (told, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2).enable_all().build().unwrap().block_on(async move {
                let store = Store::open(&data).await.unwrap().with_immutable(&immutable);
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let registry = Registry::new(store, access)
                    .with_limits(limits)
                    .with_rules(rules)
                    .with_upstreams(upstreams);
                let guard = accounts.map(|config| Guard::open(AccessConfig { data, ..config }).unwrap());
                let registry = guard.into_iter().fold(registry, Registry::with_guard);
                let tls = tls.map(|config| Tls::open(config).unwrap());
                let registry = tls.into_iter().fold(registry, Registry::with_tls);
                let registry =
                    rate.into_iter().fold(registry, |registry, rate| registry.with_rate(rate).unwrap());
                let log = log.map(|path| AccessLog::open(&path).unwrap());
                let registry = log.into_iter().fold(registry, Registry::with_access_log);
                told.send(listener.local_addr().unwrap()).unwrap();
                let shutdown = async { drop(stopped.await) };
                hab_registry::serve(listener, registry, axum::Router::default(), shutdown).await.unwrap();
            });
        });
        let address = address.recv_timeout(Duration::from_secs(20)).unwrap();
        Self { address, stop: Some(stop), thread: Some(thread), folder: None }
    }

    /// Another server over the same folder, after this one has ended.
    pub fn restarted(self, access: Access) -> Self {
        self.restarted_through(access, Upstreams::default())
    }

    /// The same, through which others are pulled.
    pub fn restarted_through(mut self, access: Access, upstreams: Upstreams) -> Self {
        self.end();
        let setup = Setup { upstreams, ..Setup::default() };
        Self::on(self.folder.take().unwrap(), access, ServiceLimits::default(), setup)
    }

    pub fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    /// A GET whose answer may be cut off.
    pub fn raw_get(&self, path: &str) -> Option<Reply> {
        let mut stream = self.connect();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").as_bytes())
            .unwrap();
        Reply::read(&mut stream)
    }

    pub fn head(&self, path: &str) -> Reply {
        self.send("HEAD", path, &[], b"")
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let reply = self.raw(&[head.as_bytes(), body].concat());
        let length = reply.header("content-length").map(|text| text.parse::<usize>().unwrap());
        if method != "HEAD" && ![204, 304].contains(&reply.status) {
            assert_eq!(length, Some(reply.body.len()), "{method} {path}: every answer says its length");
        }
        assert_eq!(reply.header("docker-distribution-api-version"), Some("registry/2.0"));
        reply
    }

    /// Sends exactly these bytes and reads the answer to its end.
    pub fn raw(&self, bytes: &[u8]) -> Reply {
        self.try_raw(bytes).unwrap()
    }

    /// The same, of an answer that may break off before its head was sent.
    pub fn try_raw(&self, bytes: &[u8]) -> Option<Reply> {
        let mut stream = self.connect();
        // A server that answers before it has read everything may close first; its answer is still there.
        let _ = stream.write_all(bytes);
        Reply::read(&mut stream)
    }

    /// Sends exactly these bytes and says that no more will come. Whoever does that may not get an answer.
    pub fn cut(&self, bytes: &[u8]) -> Option<Reply> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        Reply::read(&mut stream)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Pushes a blob in one request.
    pub fn push_blob(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let reply = self.send("POST", &format!("/v2/{name}/blobs/uploads/?digest={digest}"), &[], bytes);
        assert_eq!(reply.status, 201, "{reply:?}");
        digest
    }

    pub fn put_manifest(&self, name: &str, reference: &str, media_type: &str, bytes: &[u8]) -> Reply {
        let path = format!("/v2/{name}/manifests/{reference}");
        self.send("PUT", &path, &[("Content-Type", media_type)], bytes)
    }

    /// Pushes an image with its blobs and returns its manifest.
    pub fn push_image(&self, name: &str, tag: &str, extra: &str) -> Vec<u8> {
        let (config, layer) = (format!("{{\"of\":\"{name}\"}}").into_bytes(), b"a layer".to_vec());
        self.push_blob(name, &config);
        self.push_blob(name, &layer);
        let manifest = manifest(&config, &layer, extra);
        let reply = self.put_manifest(name, tag, media_type::IMAGE_MANIFEST, &manifest);
        assert_eq!(reply.status, 201, "{reply:?}");
        assert_eq!(reply.header("docker-content-digest"), Some(Digest::of(&manifest).to_string().as_str()));
        manifest
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// An image's manifest; `extra` is more JSON fields, each with a comma before it.
pub fn manifest(config: &[u8], layer: &[u8], extra: &str) -> Vec<u8> {
    let config = descriptor(&Descriptor::of(media_type::IMAGE_CONFIG, config));
    let layer = descriptor(&Descriptor::of(media_type::LAYER_GZIP, layer));
    format!("{{\"schemaVersion\":2,\"config\":{config},\"layers\":[{layer}]{extra}}}").into_bytes()
}

pub fn descriptor(d: &Descriptor) -> String {
    format!("{{\"mediaType\":\"{}\",\"digest\":\"{}\",\"size\":{}}}", d.media_type, d.digest, d.size)
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn read(stream: &mut impl Read) -> Option<Self> {
        let mut bytes = Vec::new();
        // A reset after the answer is no news.
        let _ = stream.read_to_end(&mut bytes);
        let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let text = std::str::from_utf8(&bytes[..head]).unwrap();
        let mut lines = text.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Some(Self { status, headers: lines.map(header).collect(), body: bytes[head + 4..].to_vec() })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The status and the specification's code of an error.
    pub fn error(&self) -> (u16, String) {
        let json = self.json();
        let entry = &json["errors"][0];
        assert!(entry["message"].is_string(), "{json}");
        assert!(!json.to_string().contains("/tmp"), "a body never tells a path: {json}");
        (self.status, entry["code"].as_str().unwrap().to_owned())
    }
}
