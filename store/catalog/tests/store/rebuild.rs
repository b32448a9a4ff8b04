//! A catalog that is made again from its newest copy and its journal.

use std::fs;

use hab_oci::Digest;
use hab_store::{Error, Rebuild, accept};

use crate::collect::has;
use crate::halves::{Folder, change, facts};
use crate::harness::{Image, by_tag, repository};

#[tokio::test]
async fn a_catalog_that_was_lost_is_made_again_with_all_that_it_said() {
    for copied in [false, true] {
        let folder = Folder::new().await;
        let store = folder.open().await.unwrap();
        change(&store, "two", 10).await;
        if copied {
            store.copy_catalog().await.unwrap();
        }
        change(&store, "three", 20).await;
        store.catalog.delete_manifest(&repository(), Image::new("two").digest(), 30).await.unwrap();
        let before = facts(&store).await;
        store.catalog.close().await;
        drop(store);
        folder.lose("catalog");
        let rebuilt = Rebuild::default().run(folder.path()).await.unwrap();
        assert_eq!(rebuilt.base.is_some(), copied, "{rebuilt:?}");
        assert_eq!((rebuilt.missing, rebuilt.damaged, rebuilt.lost.as_slice()), (0, 0, &[][..]));
        let store = folder.open().await.unwrap();
        assert_eq!(facts(&store).await, before);
        change(&store, "four", 40).await;
    }
}

#[tokio::test]
async fn an_older_catalog_is_brought_up_to_the_blobs_and_kept_aside() {
    let (folder, backup) = (Folder::new().await, tempfile::tempdir().unwrap());
    folder.back_up("catalog", backup.path());
    let store = folder.open().await.unwrap();
    change(&store, "two", 10).await;
    let before = facts(&store).await;
    store.catalog.close().await;
    drop(store);
    folder.restore("catalog", backup.path());
    let old = fs::read(folder.path().join("catalog.sqlite")).unwrap();
    let rebuilt = Rebuild::default().run(folder.path()).await.unwrap();
    assert_eq!(rebuilt.replayed, 4, "{rebuilt:?}");
    assert_eq!(fs::read(rebuilt.aside.unwrap().join("catalog.sqlite")).unwrap(), old);
    assert_eq!(facts(&folder.open().await.unwrap()).await, before);
}

#[tokio::test]
async fn a_damaged_catalog_is_named_with_the_next_step_and_made_again() {
    let folder = Folder::new().await;
    let store = folder.open().await.unwrap();
    let before = facts(&store).await;
    store.catalog.close().await;
    drop(store);
    let path = folder.path().join("catalog.sqlite");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    let error = folder.open().await.unwrap_err();
    assert!(error.is_catalog_damage() && error.to_string().contains("catalog.sqlite"), "{error:?}");
    let rebuilt = Rebuild::default().run(folder.path()).await.unwrap();
    assert_eq!(rebuilt.unusable[0].0, path);
    assert_eq!(facts(&folder.open().await.unwrap()).await, before);
}

#[tokio::test]
async fn what_stands_in_the_catalogs_place_is_named_with_the_next_step_and_moved_away() {
    let folder = Folder::new().await;
    let store = folder.open().await.unwrap();
    let before = facts(&store).await;
    store.catalog.close().await;
    drop(store);
    folder.lose("catalog");
    let path = folder.path().join("catalog.sqlite");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("kept"), "").unwrap();
    let error = folder.open().await.unwrap_err();
    assert!(error.to_string().contains("catalog.sqlite") && error.hint().is_some(), "{error:?}");
    let rebuilt = Rebuild::default().run(folder.path()).await.unwrap();
    assert_eq!(rebuilt.unusable[0].0, path);
    assert_eq!(facts(&folder.open().await.unwrap()).await, before);
}

#[tokio::test]
async fn a_copy_by_hand_serves_as_well_and_the_journal_goes_on_from_it() {
    let (folder, backup) = (Folder::new().await, tempfile::tempdir().unwrap());
    folder.back_up("catalog", backup.path());
    let store = folder.open().await.unwrap();
    change(&store, "two", 10).await;
    let before = facts(&store).await;
    store.catalog.close().await;
    drop(store);
    folder.lose("catalog");
    // As if the first entries were lost: the copy has their changes.
    let from = Some(backup.path().join("catalog.sqlite"));
    let rebuilt = Rebuild { from: from.clone() }.run(folder.path()).await.unwrap();
    assert_eq!((rebuilt.base, rebuilt.replayed), (from, 4));
    assert_eq!(facts(&folder.open().await.unwrap()).await, before);
}

#[tokio::test]
async fn a_rebuild_says_what_it_could_not_bring_back() {
    let folder = Folder::new().await;
    let store = folder.open().await.unwrap();
    let (layer, kept) = (Digest::of(&Image::new("one").layer), Image::new("two"));
    change(&store, "two", 10).await;
    fs::remove_file(store.blobs.path(&layer)).unwrap();
    fs::remove_file(store.blobs.path(Image::new("one").digest())).unwrap();
    store.catalog.close().await;
    drop(store);
    folder.lose("catalog");
    let journal = folder.path().join("blobs/catalog/00000000000000000001.journal");
    let mut text = fs::read_to_string(&journal).unwrap();
    // Change one letter in the line about the InRelease, and add a cut line.
    text = text.replacen("bookworm", "cookworm", 1) + "0123";
    fs::write(&journal, text).unwrap();
    let rebuilt = Rebuild::default().run(folder.path()).await.unwrap();
    assert_eq!((rebuilt.missing, rebuilt.damaged), (1, 2), "{rebuilt:?}");
    // The layer and the tagged manifest are lost.
    assert_eq!(rebuilt.lost.len(), 2, "{rebuilt:?}");
    let store = folder.open().await.unwrap();
    assert!(has(&store, kept.digest()).await);
    assert!(store.catalog.manifest(&repository(), &by_tag("v1")).await.unwrap().is_some());
    change(&store, "three", 20).await;
}

#[tokio::test]
async fn a_folder_that_somebody_uses_is_not_rebuilt() {
    let folder = Folder::new().await;
    let _store = folder.open().await.unwrap();
    let error = Rebuild::default().run(folder.path()).await.unwrap_err();
    assert!(matches!(error, Error::InUseElsewhere { .. }), "{error:?}");
    let error = accept(folder.path()).await.unwrap_err();
    assert!(matches!(error, Error::InUseElsewhere { .. }), "{error:?}");
}
