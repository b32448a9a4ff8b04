//! Loses and restores the catalog or the blobs in every order.

use std::fs;
use std::path::{Path, PathBuf};

use hab_oci::Digest;
use hab_store::{Error, Mismatch, Rebuild, Scrub, Status, Store, accept};

use crate::collect::{has, push, push_blob, rules};
use crate::harness::{Image, files, repository, tag};

const HALVES: [&str; 2] = ["catalog", "blobs"];

pub struct Folder(tempfile::TempDir);

impl Folder {
    /// A data folder with an image at `v1`, a mirrored name, a build, and a mirrored blob without a name.
    pub async fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let store = folder.open().await.unwrap();
        push(&store, &Image::new("one"), &["v1"], 1).await.unwrap();
        let document = store.blobs.put(b"an InRelease").unwrap();
        store.catalog.remember("debian", "bookworm/InRelease", &document, 12, 2).await.unwrap();
        store.catalog.record_build(&document, "{}", 3, 4).await.unwrap();
        store.catalog.close().await;
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub async fn open(&self) -> hab_store::Result<Store> {
        Store::open(self.path()).await
    }

    /// The paths of a half.
    pub fn parts(&self, half: &str) -> Vec<PathBuf> {
        let names: &[&str] = if half == "catalog" {
            &["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"]
        } else {
            &["blobs"]
        };
        names.iter().map(|name| self.path().join(name)).collect()
    }

    pub fn lose(&self, half: &str) {
        for part in self.parts(half) {
            if part.is_dir() {
                fs::remove_dir_all(part).unwrap();
            } else if part.exists() {
                fs::remove_file(part).unwrap();
            }
        }
    }

    pub fn back_up(&self, half: &str, to: &Path) {
        for part in self.parts(half) {
            copy(&part, &to.join(part.file_name().unwrap()));
        }
    }

    pub fn restore(&self, half: &str, from: &Path) {
        self.lose(half);
        for part in self.parts(half) {
            copy(&from.join(part.file_name().unwrap()), &part);
        }
    }

    pub async fn refused(&self) -> Mismatch {
        let error = self.open().await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&self.path().display().to_string()), "{text}");
        assert!(error.hint().is_some(), "{text}");
        let Error::Mismatch { mismatch, .. } = error else { panic!("{text}") };
        mismatch
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else if from.exists() {
        fs::copy(from, to).unwrap();
    }
}

/// The facts of the catalog that the journal has to restore, as text.
pub async fn facts(store: &Store) -> String {
    let (repository, catalog) = (repository(), &store.catalog);
    let mut said = String::new();
    for row in catalog.tag_rows(&repository).await.unwrap() {
        let history = catalog.tag_history(&repository, &row.tag).await.unwrap();
        said.push_str(&format!("{} {} {} {history:?}\n", row.tag, row.digest, row.moved));
    }
    let totals = catalog.totals().await.unwrap();
    let names = catalog.names("debian").await.unwrap();
    let build = catalog.build(&Digest::of(b"an InRelease")).await.unwrap();
    format!("{said}{totals:?} {names:?} {build:?}")
}

pub async fn change(store: &Store, seed: &str, at: i64) {
    push(store, &Image::new(seed), &["v1", seed], at).await.unwrap();
    store.catalog.delete_tag(&repository(), &tag(seed), at + 1).await.unwrap();
}

#[tokio::test]
async fn a_lost_half_is_refused_and_nothing_of_the_other_is_touched() {
    for (half, wanted) in [("catalog", Mismatch::CatalogLost), ("blobs", Mismatch::BlobsLost)] {
        let folder = Folder::new().await;
        folder.lose(half);
        let before = files(folder.path());
        assert_eq!(folder.refused().await, wanted);
        assert_eq!(folder.refused().await, wanted, "the first try has not made it look right");
        let kept = |all: &[String]| -> Vec<String> {
            all.iter().filter(|name| name.contains("sha256/")).cloned().collect()
        };
        assert_eq!(kept(&files(folder.path())), kept(&before));
        assert!(!folder.path().join("catalog.sqlite").exists() || half == "blobs");
    }
}

#[tokio::test]
async fn an_older_half_is_refused_by_what_it_lacks() {
    for half in HALVES {
        let (folder, backup) = (Folder::new().await, tempfile::tempdir().unwrap());
        folder.back_up(half, backup.path());
        let store = folder.open().await.unwrap();
        change(&store, "two", 10).await;
        store.catalog.close().await;
        folder.restore(half, backup.path());
        match (half, folder.refused().await) {
            // Four changes: two blobs, the publication and the deleted tag.
            ("catalog", Mismatch::CatalogOlder { missing: 4 })
            | ("blobs", Mismatch::BlobsOlder { missing: 3, of: 6 }) => {}
            (_, other) => panic!("{half}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn halves_of_two_farms_are_refused() {
    let (one, other) = (Folder::new().await, Folder::new().await);
    for half in HALVES {
        let backup = tempfile::tempdir().unwrap();
        other.back_up(half, backup.path());
        let ours = tempfile::tempdir().unwrap();
        one.back_up(half, ours.path());
        one.restore(half, backup.path());
        assert_eq!(one.refused().await, Mismatch::Strangers, "{half}");
        one.restore(half, ours.path());
        one.open().await.unwrap().catalog.close().await;
    }
}

#[tokio::test]
async fn both_halves_restored_from_one_backup_go_on_from_there() {
    let (folder, backup) = (Folder::new().await, tempfile::tempdir().unwrap());
    for half in HALVES {
        folder.back_up(half, backup.path());
    }
    let store = folder.open().await.unwrap();
    change(&store, "two", 10).await;
    store.catalog.close().await;
    for half in HALVES {
        folder.restore(half, backup.path());
    }
    let store = folder.open().await.unwrap();
    assert!(has(&store, Image::new("one").digest()).await);
    change(&store, "three", 20).await;
}

#[tokio::test]
async fn a_catalog_that_is_damaged_while_it_is_open_is_not_ready() {
    let folder = Folder::new().await;
    let store = folder.open().await.unwrap();
    store.is_ready().await.unwrap();
    store.catalog.check().await.unwrap();
    store.catalog.close().await;
    let store = folder.open().await.unwrap();
    let file = fs::OpenOptions::new().write(true).open(folder.path().join("catalog.sqlite")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0x5a; 64 * 1024], 4096).unwrap();
    let error = store.is_ready().await.unwrap_err();
    assert!(error.is_catalog_damage(), "{error:?}");
    let error = store.catalog.check().await.unwrap_err();
    assert!(error.to_string().contains("catalog.sqlite") && error.hint().is_some(), "{error}");
}

#[tokio::test]
async fn what_a_person_accepts_is_used_and_nothing_is_deleted_for_being_unknown() {
    for half in HALVES {
        let (folder, backup) = (Folder::new().await, tempfile::tempdir().unwrap());
        folder.back_up(half, backup.path());
        let store = folder.open().await.unwrap();
        change(&store, "two", 10).await;
        store.catalog.close().await;
        drop(store);
        folder.restore(half, backup.path());
        folder.refused().await;
        accept(folder.path()).await.unwrap();
        let count = || files(&folder.path().join("blobs")).iter().filter(|f| f.contains("sha256")).count();
        let before = count();
        let store = folder.open().await.unwrap();
        // In the newer catalog the first image has lost its tag, so it would be removed after its grace.
        let late = if half == "catalog" { 1_000_000 } else { 50 };
        store.collect(&rules(), late).await.unwrap();
        Scrub::new(store.clone(), None).pass(1_000_000).await.unwrap();
        assert_eq!(count(), before, "{half}");
        change(&store, "three", 20).await;
        store.catalog.close().await;
        folder.open().await.unwrap().catalog.close().await;
    }
}

#[tokio::test]
async fn a_push_whose_commit_was_cut_off_is_whole_after_the_next_start() {
    let (folder, backup) = (Folder::new().await, tempfile::tempdir().unwrap());
    let store = folder.open().await.unwrap();
    store.catalog.close().await;
    drop(store);
    folder.back_up("catalog", backup.path());
    let store = folder.open().await.unwrap();
    push_blob(&store, b"pushed", 9).await.unwrap();
    store.catalog.close().await;
    drop(store);
    // The journal has the change and the catalog does not, as after a kill between the two writes.
    folder.restore("catalog", backup.path());
    let store = folder.open().await.unwrap();
    assert_eq!(store.catalog.blob(&repository(), &Digest::of(b"pushed")).await.unwrap(), Some(6));
    let status = Status::of(folder.path()).await.unwrap();
    assert_eq!((status.catalog, status.mismatch), (Some(Ok(status.journal)), None));
}

#[tokio::test]
async fn a_journal_that_a_power_failure_cut_is_mended_by_a_copy() {
    let folder = Folder::new().await;
    let journal = folder.path().join("blobs/catalog/00000000000000000001.journal");
    let short = fs::read(&journal).unwrap();
    let store = folder.open().await.unwrap();
    change(&store, "two", 10).await;
    let before = facts(&store).await;
    store.catalog.close().await;
    drop(store);
    fs::write(&journal, short).unwrap();
    folder.open().await.unwrap().catalog.close().await;
    folder.lose("catalog");
    let rebuilt = Rebuild::default().run(folder.path()).await.unwrap();
    assert!(rebuilt.base.is_some() && rebuilt.missing == 0, "{rebuilt:?}");
    assert_eq!(facts(&folder.open().await.unwrap()).await, before);
}

#[tokio::test]
async fn three_copies_stay_and_the_journal_behind_the_oldest() {
    let folder = Folder::new().await;
    let store = folder.open().await.unwrap();
    for round in 0..6 {
        change(&store, &format!("round-{round}"), 10 + round).await;
        store.copy_catalog().await.unwrap();
    }
    let before = facts(&store).await;
    let kept = files(&folder.path().join("blobs/catalog"));
    let count = |ending| kept.iter().filter(|name: &&String| name.ends_with(ending)).count();
    assert_eq!(count(".sqlite"), 3, "{kept:?}");
    assert!((1..=3).contains(&count(".journal")), "{kept:?}");
    store.catalog.close().await;
    drop(store);
    // The newest copy is damaged, so the rebuild uses the one before it and the journal.
    folder.lose("catalog");
    let copies: Vec<_> = kept.iter().filter(|name| name.ends_with(".sqlite")).collect();
    fs::write(folder.path().join("blobs/catalog").join(copies[2]), "no database").unwrap();
    let rebuilt = Rebuild::default().run(folder.path()).await.unwrap();
    assert_eq!((rebuilt.unusable.len(), rebuilt.missing), (1, 0), "{rebuilt:?}");
    assert_eq!(facts(&folder.open().await.unwrap()).await, before);
}

#[tokio::test]
async fn an_identity_that_is_damaged_gives_no_catalog_up() {
    for (harm, refused) in [("", false), ("x\n", false), ("0123456789abcdef0123456789abcdef\n", true)] {
        let folder = Folder::new().await;
        let store = folder.open().await.unwrap();
        for round in 0..5 {
            change(&store, &format!("round-{round}"), 10 + round).await;
            store.copy_catalog().await.unwrap();
        }
        let before = facts(&store).await;
        store.catalog.close().await;
        drop(store);
        fs::write(folder.path().join("blobs/farm"), harm).unwrap();
        assert_eq!(folder.refused().await, Mismatch::Strangers);
        let rebuilt = Rebuild::default().run(folder.path()).await;
        assert_eq!(rebuilt.is_err(), refused, "{harm:?}: {rebuilt:?}");
        if refused {
            accept(folder.path()).await.unwrap();
        }
        assert_eq!(facts(&folder.open().await.unwrap()).await, before, "{harm:?}");
    }
}

#[tokio::test]
async fn blobs_that_are_gone_are_named_and_the_folder_can_be_used_without_them() {
    for rebuild in [false, true] {
        let folder = Folder::new().await;
        fs::remove_dir_all(folder.path().join("blobs/sha256")).unwrap();
        assert_eq!(folder.refused().await, Mismatch::BlobsLost);
        let gone = if rebuild {
            Rebuild::default().run(folder.path()).await.unwrap().lost
        } else {
            accept(folder.path()).await.unwrap().gone
        };
        assert!(gone.contains(Image::new("one").digest()) && gone.len() >= 3, "{gone:?}");
        let store = folder.open().await.unwrap();
        assert!(!has(&store, Image::new("one").digest()).await);
        let known = Scrub::new(store.clone(), None).pass(9).await.unwrap();
        assert_eq!((known.missing.len(), known.known.len()), (0, gone.len()));
        change(&store, "two", 10).await;
    }
    let folder = Folder::new().await;
    fs::remove_dir_all(folder.path().join("blobs/sha256")).unwrap();
    folder.lose("catalog");
    assert_eq!(folder.refused().await, Mismatch::BothLost);
}

#[tokio::test]
async fn a_status_says_that_blobs_are_older_and_a_rebuild_names_what_is_gone() {
    let (folder, backup) = (Folder::new().await, tempfile::tempdir().unwrap());
    folder.back_up("blobs", backup.path());
    let store = folder.open().await.unwrap();
    change(&store, "two", 10).await;
    store.catalog.close().await;
    drop(store);
    folder.restore("blobs", backup.path());
    let status = Status::of(folder.path()).await.unwrap();
    assert_eq!(status.mismatch, Some(Mismatch::BlobsOlder { missing: 3, of: 6 }));
    let rebuilt = Rebuild::default().run(folder.path()).await.unwrap();
    assert_eq!(rebuilt.lost.len(), 3, "{rebuilt:?}");
    let from = Some(folder.path().join("none.sqlite"));
    let error = Rebuild { from }.run(folder.path()).await.unwrap_err();
    assert!(matches!(error, Error::NoCopy { .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_no_plain_file_in_the_place_of_a_blob_is_no_blob_and_is_not_waited_for() {
    let folder = Folder::new().await;
    let store = folder.open().await.unwrap();
    let layer = Digest::of(&Image::new("one").layer);
    let path = store.blobs.path(&layer);
    for make in [&["mkfifo"][..], &["mkdir"], &["ln", "-s", "/etc/passwd"]] {
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        let made = std::process::Command::new(make[0]).args(&make[1..]).arg(&path).status().unwrap();
        assert!(made.success());
        assert!(
            store.blobs.open_blob(&layer).unwrap().is_none() && store.blobs.get(&layer).unwrap().is_none()
        );
        let found = Scrub::new(store.clone(), None).pass(9).await.unwrap();
        assert!(
            found.missing.iter().chain(&found.known).any(|digest| *digest == layer),
            "{make:?}: {found:?}"
        );
    }
}
