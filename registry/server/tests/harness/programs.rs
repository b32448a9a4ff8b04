//! The programs that people pull with, each with folders of its own.
#![allow(dead_code)] // each test program uses a part of it

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hab_oci::{Descriptor, Digest, ImageIndex, Platform, media_type};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(120);

/// A folder for what programs read and write.
pub struct Desk(tempfile::TempDir);

impl Desk {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A program that finds no settings, caches or sockets of the person who runs the test.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let home = self.path("home");
        fs::create_dir_all(&home).unwrap();
        command.env("HOME", &home).env("XDG_RUNTIME_DIR", &home).env("XDG_DATA_HOME", &home);
        command.env_remove("REGISTRY_AUTH_FILE").env("TMPDIR", &home).stdin(Stdio::null());
        command
    }

    /// podman, which believes every signature.
    pub fn podman(&self, word: &str) -> Command {
        let policy = self.path("policy.json");
        fs::write(&policy, "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}").unwrap();
        let mut podman = self.command("podman");
        podman.arg("--root").arg(self.path("root")).arg("--runroot").arg(self.path("run"));
        podman.args(["--storage-driver", "vfs"]).arg(word);
        if matches!(word, "pull" | "push") {
            podman.arg("--signature-policy").arg(&policy);
        }
        podman
    }
}

pub fn needs(program: &str) -> Option<()> {
    let found = Command::new(program).arg("--version").output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(());
    }
    hab_skip::skip(hab_skip::Lack::Program, format_args!("no {program}"));
    None
}

/// Runs to the end, within a time limit, and prints what it said.
pub fn run(mut command: Command) -> Output {
    let said = format!("{command:?}");
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{said} took too long");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    println!("$ {said}\n{}", String::from_utf8_lossy(&output.stdout));
    println!("{}{}", String::from_utf8_lossy(&output.stderr), output.status);
    output
}

pub fn succeeds(command: Command) -> String {
    let output = run(command);
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// An OCI layout (image specification, "Image Layout") of one index, tagged v1, with an image for each platform.
pub fn write_layout(folder: &Path) -> Digest {
    let put = |bytes: &[u8]| {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(Digest::of(bytes).hex()), bytes).unwrap();
    };
    let manifests = Platform::ALL.map(|platform| {
        let (plain, packed) = layer(&platform.to_string());
        let config = json!({
            "created": "2026-01-01T00:00:00Z", "architecture": platform.architecture(), "os": "linux",
            "config": {"Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&plain)]},
        })
        .to_string()
        .into_bytes();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST,
            "config": Descriptor::of(media_type::IMAGE_CONFIG, &config),
            "layers": [Descriptor::of(media_type::LAYER_GZIP, &packed)],
        })
        .to_string()
        .into_bytes();
        for bytes in [&packed, &config, &manifest] {
            put(bytes);
        }
        let mut described = Descriptor::of(media_type::IMAGE_MANIFEST, &manifest);
        described.platform = Some(platform);
        described
    });
    let index = serde_json::to_vec(&ImageIndex {
        schema_version: 2,
        media_type: media_type::IMAGE_INDEX.to_owned(),
        manifests: manifests.to_vec(),
        annotations: BTreeMap::new(),
    })
    .unwrap();
    put(&index);
    let mut entry = serde_json::to_value(Descriptor::of(media_type::IMAGE_INDEX, &index)).unwrap();
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    fs::write(folder.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string())
        .unwrap();
    fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
    Digest::of(&index)
}

/// A layer with one file, plain and compressed; large enough for several batches.
fn layer(text: &str) -> (Vec<u8>, Vec<u8>) {
    let mut archive = tar::Builder::new(Vec::new());
    let noise = (0..400_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes());
    let content: Vec<u8> = text.bytes().chain(noise).collect();
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, "hello", content.as_slice()).unwrap();
    let plain = archive.into_inner().unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&plain).unwrap();
    (plain, packed.finish().unwrap())
}

/// containerd, with folders of its own. Ended by its own handle when the test is over, however it ends.
pub struct Containerd<'a> {
    desk: &'a Desk,
    child: Child,
}

impl<'a> Containerd<'a> {
    /// `None` where it cannot be started.
    pub fn start(desk: &'a Desk) -> Option<Self> {
        needs("containerd").and_then(|()| needs("ctr"))?;
        let id = Command::new("id").arg("-u").output().unwrap();
        if id.stdout != b"0\n" {
            hab_skip::skip(hab_skip::Lack::Root, "containerd wants to be started by root");
            return None;
        }
        let (socket, config) = (desk.path("containerd.sock"), desk.path("containerd.toml"));
        let text = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {socket:?}\n",
            desk.path("root"),
            desk.path("state"),
        );
        fs::write(&config, text).unwrap();
        let log = fs::File::create(desk.path("log")).unwrap();
        let mut start = desk.command("containerd");
        start.arg("-c").arg(&config).stdout(Stdio::null()).stderr(log);
        let this = Self { desk, child: start.spawn().unwrap() };
        let begun = Instant::now();
        while !socket.exists() {
            let log = || fs::read_to_string(desk.path("log")).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(30), "containerd did not start: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(this)
    }

    /// `ctr images WORD`
    pub fn images(&self, word: &str) -> Command {
        let mut ctr = self.desk.command("ctr");
        ctr.arg("--address").arg(self.desk.path("containerd.sock")).args(["--connect-timeout", "20s"]);
        ctr.args(["images", word]);
        ctr
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
