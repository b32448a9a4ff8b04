//! Kills writers. A child is this test program again, and a variable tells it what to do.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use hab_oci::{Digest, TagOrDigest};
use hab_store::{Blobs, Store};

use crate::harness::{Image, files, repository};

const TASK: &str = "HAB_STORE_TEST_TASK";
const FOLDER: &str = "HAB_STORE_TEST_FOLDER";

/// Not a test: the entry point of the children.
#[test]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let folder = std::path::PathBuf::from(std::env::var(FOLDER).unwrap());
    match task.as_str() {
        "write" => {
            let mut writer = Blobs::open(&folder).unwrap().writer().unwrap();
            writer.write_all(&vec![1; 1 << 20]).unwrap();
            say_ready();
            std::thread::sleep(Duration::from_secs(60));
        }
        "publish" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let store = Store::open(&folder).await.unwrap();
                for round in 0..1_000_000 {
                    let image = Image::new(&format!("{}-{round}", std::process::id()));
                    image.write_blobs(&store.blobs);
                    store.publish(image.publication(&["latest"], round)).await.unwrap();
                    if round == 0 {
                        say_ready();
                    }
                }
            });
        }
        "push" | "collect" | "scrub" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(crate::kills::work(&task, &folder));
        }
        other => panic!("{other}"),
    }
}

pub fn say_ready() {
    println!("\nready");
    std::io::stdout().flush().unwrap();
}

pub fn start(task: &str, folder: &Path) -> Child {
    let (child, _) = start_talking(task, folder);
    child
}

/// Starts a child, and returns it with the lines that it prints after it is ready.
pub fn start_talking(task: &str, folder: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::child", "--nocapture"])
        .env(TASK, task)
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line == "ready"), "the child ended early");
    (child, lines)
}

#[test]
fn a_killed_writer_leaves_nothing_visible_and_its_file_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start("write", folder.path());
    let blobs = Blobs::open(folder.path()).unwrap();
    assert_eq!(files(folder.path()).len(), 1, "it is alive, so its file stays");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(blobs.get(&Digest::of(&vec![1; 1 << 20])).unwrap(), None);
    Blobs::open(folder.path()).unwrap();
    assert_eq!(files(folder.path()), [""; 0]);
}

#[tokio::test]
async fn whenever_a_publisher_is_killed_everything_that_is_served_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..8 {
        let mut child = start("publish", folder.path());
        tokio::time::sleep(Duration::from_millis(5 + 13 * round)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let moves = store.catalog.tag_history(&repository(), &"latest".parse().unwrap()).await.unwrap();
        let now = store.catalog.manifest(&repository(), &"latest".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(moves.last().unwrap().digest.as_ref(), Some(&now.digest));
        for each in moves {
            whole(&store, &each.digest.unwrap()).await;
        }
        store.catalog.close().await;
    }
}

async fn whole(store: &Store, digest: &Digest) {
    let reference = TagOrDigest::Digest(digest.clone());
    let found = store.catalog.manifest(&repository(), &reference).await.unwrap().unwrap();
    let bytes = store.blobs.read(&found.digest, 1 << 30).unwrap().unwrap();
    for edge in hab_oci::Outline::read(&found.media_type, &bytes).unwrap().edges {
        assert_eq!(store.catalog.blob(&repository(), &edge.digest).await.unwrap(), Some(edge.size));
        assert_eq!(store.blobs.read(&edge.digest, 1 << 30).unwrap().unwrap().len() as u64, edge.size);
    }
}
