//! What one git client, and all of them together, may use.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::File;
use std::io::{Read, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hab_mirror::{Keep, KeepError, NamedBlob};
use hab_mirror_server::{GitLimits, Mirror, router};
use hab_oci::Digest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Keeps nothing: git needs only a folder for its requests.
struct Nothing(PathBuf);

impl Keep for Nothing {
    fn open(&self, _: &Digest) -> Result<Option<File>, KeepError> {
        Ok(None)
    }
    fn take(&self, _: Option<&Digest>, _: &mut dyn Read) -> Result<(Digest, u64), KeepError> {
        Ok((Digest::of(b""), 0))
    }
    fn remember(&self, _: &str, _: &str, _: &Digest, _: u64) -> Result<(), KeepError> {
        Ok(())
    }
    fn latest(&self, _: &str, _: &str) -> Result<Option<Digest>, KeepError> {
        Ok(None)
    }
    fn names(&self, _: &str) -> Result<Vec<NamedBlob>, KeepError> {
        Ok(Vec::new())
    }
    fn path(&self, _: &Digest) -> Result<Option<PathBuf>, KeepError> {
        Ok(None)
    }
    fn partial(&self) -> &Path {
        &self.0
    }
}

struct World {
    folder: tempfile::TempDir,
    address: SocketAddr,
    commit: String,
}

impl World {
    async fn new(limits: GitLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let git = |words: &[&str]| {
            let output = Command::new("git")
                .args(["-c", "user.name=n", "-c", "user.email=e", "-C"])
                .arg(at.join("git/p.git"))
                .args(words)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        std::fs::create_dir_all(at.join("git/p.git")).unwrap();
        git(&["init", "-q", "--bare", "-b", "main"]);
        // Larger than what fits into all buffers between git and a client that does not read.
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .take(24 << 20)
        .collect();
        std::fs::write(at.join("noise"), noise).unwrap();
        let blob = git(&["hash-object", "-w", at.join("noise").to_str().unwrap()]);
        std::fs::write(at.join("tree"), format!("100644 blob {blob}\tnoise\n")).unwrap();
        let mktree = Command::new("git")
            .args(["mktree"])
            .current_dir(at.join("git/p.git"))
            .stdin(File::open(at.join("tree")).unwrap())
            .output()
            .unwrap();
        let tree = String::from_utf8(mktree.stdout).unwrap();
        let commit = git(&["commit-tree", "-m", "m", tree.trim()]);
        git(&["update-ref", "refs/heads/main", &commit]);
        let mirror = Mirror::new(Arc::new(Nothing(at.to_owned())), at.join("git"), limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = router(mirror).into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { folder, address, commit }
    }

    /// Sends a request with this body and these header lines.
    async fn post(&self, headers: &str, length: usize, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "POST /git/p.git/git-upload-pack HTTP/1.1\r\nHost: x\r\nGit-Protocol: version=2\r\nConnection: close\r\n\
             Content-Type: application/x-git-upload-pack-request\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        stream
    }

    /// A request for everything.
    fn everything(&self) -> Vec<u8> {
        format!("0011command=fetch00010032want {}\n0009done\n0000", self.commit).into_bytes()
    }
}

async fn answer(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn limits() -> GitLimits {
    GitLimits {
        packs: 1,
        // None for a client, so that git has to wait for who does not read.
        spool: 0,
        turn: Duration::from_millis(300),
        idle: Duration::from_millis(500),
        ..GitLimits::default()
    }
}

#[tokio::test]
async fn who_comes_when_all_are_busy_waits_and_is_then_told_to_come_again() {
    let world = World::new(limits()).await;
    let body = world.everything();
    let mut first = world.post("", body.len(), &body).await;
    let mut start = [0; 12];
    first.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    let second = answer(world.post("", body.len(), &body).await).await;
    assert!(second.starts_with("HTTP/1.1 503"), "{second}");
    assert!(second.contains("retry-after: 60"), "{second}");
    // A list of refs needs no such turn.
    let list = b"0014command=ls-refs\n0000";
    let listed = answer(world.post("", list.len(), list).await).await;
    assert!(listed.contains("refs/heads/main"), "{listed}");
    // The first one goes away, and its turn is free.
    drop(first);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let third = answer(world.post("", body.len(), &body).await).await;
    assert!(third.starts_with("HTTP/1.1 200") && third.len() > 24 << 20);
}

#[tokio::test]
async fn clients_that_read_slowly_hold_no_git_that_others_wait_for_and_get_all_of_their_answers() {
    let world =
        World::new(GitLimits { packs: 2, spool: 1 << 30, turn: Duration::from_secs(20), ..limits() }).await;
    let body = world.everything();
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut stream = world.post("", body.len(), &body).await;
        let mut start = [0; 12];
        timeout(Duration::from_secs(20), stream.read_exact(&mut start)).await.unwrap().unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        slow.push(stream);
    }
    let other = answer(world.post("", body.len(), &body).await).await;
    assert!(other.starts_with("HTTP/1.1 200") && other.len() > 24 << 20);
    for stream in slow {
        assert!(answer(stream).await.len() > 24 << 20, "nothing is lost on the way over the disk");
    }
}

#[tokio::test]
async fn an_answer_that_is_larger_than_its_share_of_the_disk_comes_whole() {
    let world = World::new(GitLimits { spool: 8 << 20, ..limits() }).await;
    let body = world.everything();
    let mut stream = world.post("", body.len(), &body).await;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    // Somebody waits, so git's answer goes to the disk, as far as there is room.
    let waiting = world.post("", body.len(), &body).await;
    assert!(answer(waiting).await.starts_with("HTTP/1.1 503"));
    assert!(answer(stream).await.len() > 24 << 20);
}

#[tokio::test]
async fn a_request_may_be_compressed_and_is_bounded_when_it_is_unpacked() {
    let world = World::new(GitLimits { request: 1 << 20, ..limits() }).await;
    let gzip = |bytes: &[u8]| {
        let mut child = Command::new("gzip")
            .arg("-c")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        child.wait_with_output().unwrap().stdout
    };
    let list = gzip(b"0014command=ls-refs\n0000");
    let listed = answer(world.post("Content-Encoding: gzip\r\n", list.len(), &list).await).await;
    assert!(listed.contains("refs/heads/main"), "{listed}");
    let bomb = gzip(&vec![b'0'; 64 << 20]);
    assert!(bomb.len() < 1 << 20);
    let refused = answer(world.post("Content-Encoding: gzip\r\n", bomb.len(), &bomb).await).await;
    assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");
    let refused = answer(world.post("Content-Encoding: br\r\n", 4, b"0000").await).await;
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
}

#[tokio::test]
async fn a_client_that_stops_sending_holds_no_process() {
    let world = World::new(limits()).await;
    let stalled = answer(world.post("", 1000, b"0014command=ls-refs\n").await).await;
    assert!(stalled.starts_with("HTTP/1.1 408"), "{stalled}");
}

#[tokio::test]
async fn a_protocol_header_that_git_would_not_write_is_refused() {
    let world = World::new(limits()).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let request = "GET /git/p.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                   Git-Protocol: version=2;$(touch x)\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let refused = answer(stream).await;
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
}

/// A GET for a path of the list.
async fn listed(world: &World, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(stream).await
}

#[tokio::test]
async fn the_list_of_projects_names_what_is_served_and_nothing_else() {
    let world = World::new(limits()).await;
    let git = world.folder.path().join("git");
    std::fs::create_dir_all(git.join("verified")).unwrap();
    for copy in ["verified/p.git", "a.git", "no name.git"] {
        let copied = Command::new("git")
            .args(["clone", "-q", "--bare", "--shared", "p.git", copy])
            .current_dir(&git)
            .status();
        assert!(copied.unwrap().success());
    }
    std::fs::create_dir_all(git.join("folder")).unwrap();
    for file in ["p.journal", "p.state", "file.git"] {
        std::fs::write(git.join(file), "").unwrap();
    }
    let text = listed(&world, "/git/", "").await;
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("content-type: text/plain"), "{text}");
    let (_, lines) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(lines, "a.git\np.git\nverified/p.git\n");
    for line in lines.lines() {
        let refs = listed(&world, &format!("/git/{line}/info/refs?service=git-upload-pack"), "").await;
        assert!(refs.contains("refs/heads/main"), "what is listed is served: {line}: {refs}");
    }
    let json = listed(&world, "/git/", "Accept: application/json\r\n").await;
    let (head, body) = json.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json") && head.contains("vary: Accept"), "{head}");
    let expected =
        r#"{"projects":[{"name":"a","git":"a.git"},{"name":"p","git":"p.git","verified":"verified/p.git"}]}"#;
    assert_eq!(body, expected);
    let moved = listed(&world, "/git", "").await;
    assert!(moved.starts_with("HTTP/1.1 308") && moved.contains("location: git/"), "{moved}");
    std::fs::remove_dir_all(&git).unwrap();
    let none = listed(&world, "/git/", "").await;
    assert!(none.starts_with("HTTP/1.1 200") && none.ends_with("\r\n\r\n"), "nothing is mirrored: {none}");
}
