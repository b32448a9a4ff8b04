//! The programs that people pull with: skopeo, podman and containerd, each with folders of its own. What is not
//! installed is skipped, and says so.
#![allow(clippy::unwrap_used, clippy::format_push_string, missing_docs)]

#[allow(dead_code)] // the programs speak HTTP here, not the harness
mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hab_oci::{Descriptor, Digest, ImageIndex, Platform, media_type};
use hab_registry::{Access, Limits};
use harness::Server;
use serde_json::json;

const REPOSITORY: &str = "hab/hello";
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that skopeo has pushed an image of two platforms to, as `hab/hello:v1`; `None` without skopeo.
struct World {
    folder: tempfile::TempDir,
    server: Server,
    index: Digest,
}

impl World {
    fn pushed_by_skopeo() -> Option<Self> {
        needs("skopeo")?;
        let folder = tempfile::tempdir().unwrap();
        let index = write_layout(&folder.path().join("layout"));
        let world = Self { folder, server: Server::with(Access::ReadWrite, Limits::default()), index };
        let mut copy = world.command("skopeo");
        copy.args(["--insecure-policy", "copy", "--all", "--dest-tls-verify=false"]);
        copy.arg(format!("oci:{}:v1", world.path("layout").display()));
        copy.arg(format!("docker://{}:v1", world.name()));
        succeeds(copy);
        Some(world)
    }

    fn name(&self) -> String {
        format!("{}/{REPOSITORY}", self.server.address)
    }

    fn by_digest(&self) -> String {
        format!("{}@{}", self.name(), self.index)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program that finds no settings, caches or sockets of the person who runs the test.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let home = self.path("home");
        fs::create_dir_all(&home).unwrap();
        command.env("HOME", &home).env("XDG_RUNTIME_DIR", &home).env("XDG_DATA_HOME", &home);
        command.env_remove("REGISTRY_AUTH_FILE").env("TMPDIR", &home).stdin(Stdio::null());
        command
    }
}

fn needs(program: &str) -> Option<()> {
    let found = Command::new(program).arg("--version").output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(());
    }
    println!("skipped: no {program}");
    None
}

/// Runs to the end, within a time limit, and prints what it said.
fn run(mut command: Command) -> Output {
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

fn succeeds(command: Command) -> String {
    let output = run(command);
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// An OCI layout (image specification, "Image Layout") of one index, tagged v1, with an image for each platform.
fn write_layout(folder: &Path) -> Digest {
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

#[test]
fn skopeo_pushes_and_pulls_by_tag_and_by_digest() {
    let Some(world) = World::pushed_by_skopeo() else { return };
    let mut inspect = world.command("skopeo");
    inspect.args(["inspect", "--tls-verify=false", "--raw"]).arg(format!("docker://{}:v1", world.name()));
    assert_eq!(Digest::of(succeeds(inspect).as_bytes()), world.index, "the index was kept byte for byte");
    for (folder, reference) in [("by-tag", format!("{}:v1", world.name())), ("by-digest", world.by_digest())]
    {
        let mut copy = world.command("skopeo");
        copy.args(["--insecure-policy", "copy", "--all", "--src-tls-verify=false"]);
        copy.arg(format!("docker://{reference}")).arg(format!("oci:{}:v1", world.path(folder).display()));
        succeeds(copy);
        let blobs = |folder: &str| {
            let names = fs::read_dir(world.path(folder).join("blobs/sha256")).unwrap();
            let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(blobs(folder), blobs("layout"));
    }
    let mut tags = world.command("skopeo");
    tags.args(["list-tags", "--tls-verify=false"]).arg(format!("docker://{}", world.name()));
    assert!(succeeds(tags).contains("\"v1\""));
}

#[test]
fn podman_pulls_by_tag_and_by_digest() {
    let Some(world) = needs("podman").and_then(|()| World::pushed_by_skopeo()) else { return };
    let policy = world.path("policy.json");
    fs::write(&policy, "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}").unwrap();
    let podman = || {
        let mut podman = world.command("podman");
        podman.arg("--root").arg(world.path("root")).arg("--runroot").arg(world.path("run"));
        podman.args(["--storage-driver", "vfs"]);
        podman
    };
    for reference in [format!("{}:v1", world.name()), world.by_digest()] {
        let mut pull = podman();
        pull.args(["pull", "--tls-verify=false", "--signature-policy"]).arg(&policy).arg(&reference);
        succeeds(pull);
    }
    let mut inspect = podman();
    inspect.args(["image", "inspect", "--format", "{{.Architecture}} {{.RepoTags}}"]).arg(world.by_digest());
    assert!(succeeds(inspect).contains(&format!("{}:v1", world.name())));
}

/// Ended by its own handle when the test is over, however it ends.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn containerd_pulls_by_tag_and_by_digest() {
    let found = needs("containerd").and_then(|()| needs("ctr"));
    let Some(world) = found.and_then(|()| World::pushed_by_skopeo()) else { return };
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout != b"0\n" {
        println!("skipped: containerd wants to be started by root");
        return;
    }
    let socket = world.path("containerd.sock");
    let config = world.path("containerd.toml");
    let text = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = {socket:?}\n",
        world.path("root"),
        world.path("state"),
    );
    fs::write(&config, text).unwrap();
    let log = fs::File::create(world.path("log")).unwrap();
    let mut start = world.command("containerd");
    start.arg("-c").arg(&config).stdout(Stdio::null()).stderr(log);
    let _daemon = Daemon(start.spawn().unwrap());
    let ctr = || {
        let mut ctr = world.command("ctr");
        ctr.arg("--address").arg(&socket).args(["--connect-timeout", "20s"]);
        ctr
    };
    let begun = Instant::now();
    while !socket.exists() {
        let log = || fs::read_to_string(world.path("log")).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30), "containerd did not start: {}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
    for reference in [format!("{}:v1", world.name()), world.by_digest()] {
        let mut pull = ctr();
        pull.args(["images", "pull", "--plain-http", "--snapshotter", "native"]).arg(&reference);
        succeeds(pull);
    }
    let mut list = ctr();
    list.args(["images", "ls"]);
    let images = succeeds(list);
    assert!(images.contains(&world.by_digest()) && images.contains(&world.index.to_string()));
}
