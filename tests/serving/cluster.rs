//! Real container programs with the files of `hab-build cluster config`. They pull what the farm has, and ask nobody
//! else for what it lacks. A proxy through which every request to another host would go checks that.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{Serving, World, is_root};
use hab_oci::{Digest, media_type};
use serde_json::json;

/// A proxy that records requests: each one was meant to leave this machine.
struct Trap {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Trap {
    fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = [0; 512];
                let n = stream.read(&mut head).unwrap_or_default();
                let line = String::from_utf8_lossy(&head[..n]).lines().next().unwrap_or_default().to_owned();
                log.lock().unwrap().push(line);
                let _ =
                    stream.write_all(b"HTTP/1.1 502 Trap\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// A farm that pulls another farm through as docker.io; the other one has `library/hello` at v1 and v2.
struct Cluster {
    world: World,
    trap: Trap,
    upstream: Option<Serving>,
    farm: Serving,
    digests: [String; 2],
}

impl Cluster {
    fn new() -> Self {
        let world = World::new();
        let digests = ["v1", "v2"].map(|tag| import(&world, tag));
        let upstream = Serving::start_with(&world, "upstream", &["--no-sync"]);
        let config = fs::read_to_string(world.path("hab.toml")).unwrap();
        let more = format!(
            "{config}\n[registry.upstream.\"docker.io\"]\nurl = \"http://{}\"\nttl = \"0s\"\n",
            upstream.address
        );
        world.file("hab.toml", more);
        let farm = Serving::start_with(&world, "farm", &["--no-sync"]);
        Self { world, trap: Trap::set(), upstream: Some(upstream), farm, digests }
    }

    fn written_for(runtime: &str) -> Self {
        let cluster = Self::new();
        let url = format!("http://{}", cluster.farm.address);
        let words = ["cluster", "config", runtime, "--registry", &url, "--write", &cluster.path("host")];
        cluster.world.run("farm", &words).good();
        cluster
    }

    fn path(&self, name: &str) -> String {
        self.world.path(name).display().to_string()
    }

    /// A command that finds no settings of the user who runs the test, and meets the trap wherever it leaves this
    /// machine.
    fn command(&self, program: &str) -> Command {
        let home = self.world.path("home");
        fs::create_dir_all(&home).unwrap();
        let mut command = Command::new("timeout");
        command.args(["120", program]).env("HOME", &home).env("XDG_RUNTIME_DIR", &home).env("TMPDIR", &home);
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            command.env(name, format!("http://{}", self.trap.address));
        }
        command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1").stdin(Stdio::null());
        command
    }
}

/// Imports an image of one layer into the upstream as `library/hello:TAG`.
fn import(world: &World, tag: &str) -> String {
    let folder = world.path(&format!("layout-{tag}"));
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    let blob = |kind: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(folder.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    };
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(tag.len() as u64);
    archive.append_data(&mut header, "hello", tag.as_bytes()).unwrap();
    let plain = archive.into_inner().unwrap();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/hello"]},
                        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&plain)]}});
    let config = blob(media_type::IMAGE_CONFIG, config.to_string().as_bytes());
    let layer = blob("application/vnd.oci.image.layer.v1.tar", &plain);
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST, "config": config, "layers": [layer]});
    let manifest = blob(media_type::IMAGE_MANIFEST, manifest.to_string().as_bytes());
    fs::write(folder.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string())
        .unwrap();
    fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
    let (from, to) = (folder.display().to_string(), format!("library/hello:{tag}"));
    world.run("upstream", &["registry", "import", &from, &to]).good();
    manifest["digest"].as_str().unwrap().to_owned()
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        hab_skip::skip(hab_skip::Lack::Program, format_args!("no {program}"));
    }
    found
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Images that the farm has are pulled by tag and by digest, with and without the upstream. Pulls of other images fail,
/// and nobody else is asked.
fn nobody_else_is_asked(cluster: &mut Cluster, pull: impl Fn(&Cluster, &str, usize) -> Output) {
    let [here, never] = cluster.digests.clone();
    let mut round = 0;
    let mut pulls = |cluster: &Cluster, name: &str, good: bool| {
        round += 1;
        let output = pull(cluster, name, round);
        assert_eq!(output.status.success(), good, "{name}: {}", said(&output));
        assert_eq!(cluster.trap.asked(), [""; 0], "{name}");
    };
    for name in ["docker.io/library/hello:v1", &format!("docker.io/library/hello@{here}")] {
        pulls(cluster, name, true);
    }
    cluster.upstream = None;
    for name in ["docker.io/library/hello:v1", &format!("docker.io/library/hello@{here}")] {
        pulls(cluster, name, true);
    }
    for name in [
        "docker.io/library/hello:v2",
        &format!("docker.io/library/hello@{never}"),
        "docker.io/library/nothing:v1",
        "other.example.com/library/hello:v1",
        "pause.example.com/pause:3.9",
    ] {
        pulls(cluster, name, false);
    }
}

#[test]
fn an_image_that_was_pulled_through_in_part_is_not_exported_and_one_that_is_here_is() {
    let cluster = Cluster::new();
    let get = |path: &str| {
        let (status, bytes) = cluster.farm.get(&format!("/v2/docker.io/library/hello/{path}"));
        assert_eq!(status, 200, "{path}");
        bytes
    };
    let export = |to: &str| {
        let words = ["registry", "export", "docker.io/library/hello:v1", &cluster.path(to), "--json"];
        cluster.world.run("farm", &words)
    };
    let manifest: serde_json::Value = serde_json::from_slice(&get("manifests/v1")).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    get(&format!("blobs/{}", manifest["config"]["digest"].as_str().unwrap()));
    export("part").refused(2, &["cannot export", layer, "pull the image first"]);
    assert!(!cluster.world.path("part").exists());
    get(&format!("blobs/{layer}"));
    assert_eq!(export("whole").good().json["blobs"], 2);
}

#[test]
fn podman_pulls_what_the_farm_has_and_asks_nobody_else() {
    if !has("podman") {
        return;
    }
    let podman = |cluster: &Cluster, root: &str| {
        let mut podman = cluster.command("podman");
        podman.args([
            "--root",
            &cluster.path(root),
            "--runroot",
            &cluster.path("run"),
            "--storage-driver",
            "vfs",
        ]);
        podman
    };
    let pull = |cluster: &Cluster, name: &str, round: usize| {
        fs::create_dir_all(cluster.path("host/etc/containers/registries.conf.d")).unwrap();
        let mut pull = podman(cluster, &format!("root{round}"));
        pull.env("CONTAINERS_REGISTRIES_CONF", cluster.path("host/etc/containers/registries.conf"));
        pull.env("CONTAINERS_REGISTRIES_CONF_DIR", cluster.path("host/etc/containers/registries.conf.d"));
        let policy = cluster.path("host/etc/containers/policy.json");
        pull.args(["pull", "--signature-policy", &policy, name]).output().unwrap()
    };
    let mut cluster = Cluster::written_for("podman");
    nobody_else_is_asked(&mut cluster, pull);
    // The trap works: without our files, somebody else is asked.
    let policy = cluster.world.file("anything.json", "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}");
    let mut other = podman(&cluster, "other");
    other.env("CONTAINERS_REGISTRIES_CONF", cluster.world.file("empty.conf", ""));
    other.args(["pull", "--signature-policy", &policy, "docker.io/library/hello:v1"]);
    assert!(!other.output().unwrap().status.success());
    assert!(cluster.trap.asked()[0].contains("docker.io"));
}

/// A daemon that is killed when the test ends, also after a panic.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn containerd_pulls_what_the_farm_has_and_asks_nobody_else() {
    if !has("containerd") || !has("ctr") {
        return;
    }
    if !is_root() {
        return hab_skip::skip(hab_skip::Lack::Root, "containerd wants to be started by root");
    }
    let mut cluster = Cluster::written_for("containerd");
    let (socket, config) = (cluster.world.path("containerd.sock"), cluster.path("containerd.toml"));
    let text = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n",
        cluster.world.path("root"),
        cluster.world.path("state"),
    );
    fs::write(&config, text).unwrap();
    let mut start = Command::new("containerd");
    start.arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _daemon = Daemon(start.spawn().unwrap());
    let begun = Instant::now();
    while !socket.exists() {
        assert!(begun.elapsed() < Duration::from_secs(30), "containerd did not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    let ctr = |cluster: &Cluster| {
        let mut ctr = cluster.command("ctr");
        ctr.arg("--address").arg(&socket).args(["--connect-timeout", "20s"]);
        ctr
    };
    let pull = |cluster: &Cluster, name: &str, _: usize| {
        let mut pull = ctr(cluster);
        let hosts = cluster.path("host/etc/containerd/certs.d");
        pull.args(["images", "pull", "--hosts-dir", &hosts, "--snapshotter", "native", name]);
        let output = pull.output().unwrap();
        // Remove the image, so that the next pull asks again.
        let _ = ctr(cluster).args(["images", "rm", "--sync", name]).output().unwrap();
        output
    };
    nobody_else_is_asked(&mut cluster, pull);
    // The trap works: without our files, somebody else is asked.
    let mut other = ctr(&cluster);
    other.args(["images", "pull", "--snapshotter", "native", "docker.io/library/hello:v1"]);
    assert!(!other.output().unwrap().status.success());
    assert!(cluster.trap.asked()[0].contains("docker.io"));
}

#[test]
fn a_host_is_put_back_only_from_what_was_kept_there() {
    let world = World::new();
    let host = world.path("host").display().to_string();
    let daemon = world.path("host/etc/docker/daemon.json");
    fs::create_dir_all(daemon.parent().unwrap()).unwrap();
    fs::write(&daemon, "{}").unwrap();
    let write = ["cluster", "config", "docker", "--registry", "http://farm:5000", "--write", &host, "--yes"];
    world.run("farm", &write).good();
    let kept = |end: &str| world.path(&format!("host/etc/docker/daemon.json.before-hab-build.{end}"));
    fs::write(kept("99999999999999999999"), "{}").unwrap();
    fs::rename(kept("1"), kept("away")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", kept("1")).unwrap();
    let restore = |more: &[&str]| {
        world.run("farm", &[&["cluster", "config", "docker", "--restore", &host], more].concat())
    };
    restore(&[])
        .refused(2, &["refuse to put back ", "daemon.json.before-hab-build.1: it is a symbolic link"]);
    let json = restore(&["--json"]);
    json.refused(2, &["it is a symbolic link"]);
    assert!(json.json["hint"].as_str().unwrap().starts_with("nothing was changed; "), "{}", json.json);
    assert!(fs::read_to_string(&daemon).unwrap().contains("farm:5000"));
    fs::remove_file(kept("1")).unwrap();
    fs::rename(kept("away"), kept("1")).unwrap();
    let restored = restore(&["--json"]).good();
    assert!(restored.stderr.contains("99999999999999999999: it is left as it is"), "{}", restored.stderr);
    assert_eq!(restored.json.as_array().unwrap().len(), 2);
    assert_eq!(fs::read_to_string(&daemon).unwrap(), "{}");
}
