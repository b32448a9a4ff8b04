//! Roots that changed after they were unpacked.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use hab_blobs::Blobs;

use super::{BuildError, Observer, Root, Roots, Seal};

#[derive(Default)]
struct Told {
    notes: Mutex<Vec<String>>,
    cancel: AtomicBool,
}

impl Observer for Told {
    fn stage(&self, _: &str) {}
    fn note(&self, what: &str) {
        self.notes.lock().expect("one thread").push(what.to_owned());
    }
    fn amount(&self, _: &str, _: u64, _: u64) {}
    fn line(&self, _: &str) {}
    fn cancel(&self) -> &AtomicBool {
        &self.cancel
    }
}

struct World {
    folder: tempfile::TempDir,
    blobs: Blobs,
    told: Told,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let blobs = Blobs::open(folder.path()).expect("a store");
        Self { folder, blobs, told: Told::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("roots").join(name)
    }

    /// Gets the root, and says whether it was unpacked for this.
    fn get(&self) -> (Root, bool) {
        let folder = crate::private::private(&self.folder.path().join("roots")).expect("private");
        let owner = (rustix::process::geteuid().as_raw(), None);
        let roots = Roots { folder, blobs: &self.blobs, observer: &self.told, owner };
        let mut unpacked = false;
        let root = roots.get("key", |root| {
            unpacked = true;
            unpack(root).map_err(BuildError::io(root))
        });
        (root.expect("a root"), unpacked)
    }

    fn notes(&self) -> String {
        self.told.notes.lock().expect("one thread").join("\n")
    }

    /// Changes the seal, as a forger or a restored backup would.
    fn seal(&self, change: impl FnOnce(&mut Seal)) {
        let path = self.path("key.seal");
        let mut seal: Seal = serde_json::from_slice(&fs::read(&path).expect("read")).expect("a seal");
        change(&mut seal);
        fs::write(&path, serde_json::to_vec(&seal).expect("text")).expect("written");
    }
}

fn unpack(root: &Path) -> std::io::Result<()> {
    fs::create_dir_all(root.join("usr/bin"))?;
    fs::write(root.join("usr/bin/gcc"), "compiler")?;
    fs::write(root.join("usr/bin/odd\nname %"), "")?;
    fs::hard_link(root.join("usr/bin/gcc"), root.join("usr/bin/gcc-12"))?;
    symlink("usr/bin", root.join("bin"))
}

/// Changes that can happen to a root between two uses.
type Harm = (&'static str, fn(&Path) -> std::io::Result<()>);
const HARM: [Harm; 7] = [
    ("is not what was unpacked", |root| fs::write(root.join("usr/bin/gcc"), "compiles!")),
    // The same size, with the time set back.
    ("is not what was unpacked", |root| {
        let path = root.join("usr/bin/gcc");
        let time = fs::metadata(&path)?.modified()?;
        fs::write(&path, "corrupt.")?;
        fs::File::options().write(true).open(&path)?.set_modified(time)
    }),
    ("is missing", |root| fs::remove_file(root.join("usr/bin/gcc-12"))),
    ("was added later", |root| fs::write(root.join("usr/bin/as"), "")),
    ("is not what was unpacked", |root| {
        fs::remove_file(root.join("bin"))?;
        symlink("../elsewhere", root.join("bin"))
    }),
    ("is not what was unpacked", |root| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(root.join("usr/bin/gcc"), fs::Permissions::from_mode(0o4755))
    }),
    ("root", |root| {
        let elsewhere = root.with_file_name("elsewhere");
        fs::rename(root, &elsewhere)?;
        symlink(elsewhere, root)
    }),
];

#[test]
fn a_root_that_is_what_was_unpacked_is_used_again_in_both_copies() {
    let world = World::new();
    let (root, unpacked) = world.get();
    assert!(unpacked);
    let (again, unpacked) = world.get();
    assert!(!unpacked && again.first() == root.first() && again.second() == root.second());
    assert_eq!(world.notes(), "");
    for name in ["usr/bin/gcc", "usr/bin/gcc-12", "usr", "bin"] {
        let [a, b] =
            [root.first(), root.second()].map(|r| fs::symlink_metadata(r.join(name)).expect("there"));
        assert_ne!(a.ino(), b.ino(), "{name}");
        assert_ne!((a.ctime(), a.ctime_nsec()), (b.ctime(), b.ctime_nsec()), "{name}");
        let same = |m: &fs::Metadata| (m.mode(), m.mtime(), m.uid(), m.nlink());
        assert_eq!(same(&a), same(&b), "{name}");
    }
}

#[test]
fn a_root_that_was_changed_is_set_aside_and_made_anew_whichever_copy_it_was() {
    for (why, harm) in HARM {
        for copy in ["key", "key-again"] {
            let world = World::new();
            world.get();
            harm(&world.path(copy)).expect("harm");
            let (root, unpacked) = world.get();
            assert!(unpacked, "{why} {copy}");
            assert!(why == "root" || world.notes().contains(why), "{why}: {}", world.notes());
            assert!(
                world.notes().contains(world.path("aside/key.0").to_str().expect("text")),
                "{}",
                world.notes()
            );
            // The changed root is kept, so that a person can look at it.
            assert!(fs::symlink_metadata(world.path("aside/key.0").join(copy)).is_ok());
            for root in [root.first(), root.second()] {
                assert_eq!(fs::read(root.join("usr/bin/gcc")).expect("there"), b"compiler");
            }
            assert!(!world.get().1);
        }
    }
}

#[test]
fn a_root_that_is_changed_between_its_check_and_the_image_is_refused() {
    for (_, harm) in HARM {
        let world = World::new();
        let (root, _) = world.get();
        root.still_the_same(&world.told).expect("the same");
        harm(root.second()).expect("harm");
        assert!(matches!(root.still_the_same(&world.told), Err(BuildError::RootChanged { .. })));
    }
}

#[test]
fn a_folder_without_a_seal_is_no_root() {
    let world = World::new();
    world.get();
    fs::remove_file(world.path("key.seal")).expect("removed");
    assert!(world.get().1 && world.notes().contains("it has no seal"), "{}", world.notes());
}

#[test]
fn after_a_day_every_file_is_read_again_so_that_rot_is_found() {
    let world = World::new();
    world.get();
    fs::write(world.path("key/usr/bin/gcc"), "c0mpiler").expect("rot");
    // Rot changes no stamp.
    let stamp = super::Tree::look(&world.path("key"), &world.told.cancel).expect("looked").stamp();
    world.seal(|seal| seal.stamps[0] = stamp);
    assert!(!world.get().1, "a stamp is believed for a day");
    world.seal(|seal| seal.read -= 24 * 60 * 60);
    assert!(
        world.get().1 && world.notes().contains("usr/bin/gcc is not what was unpacked"),
        "{}",
        world.notes()
    );
    // Nor is a time in the future trusted.
    world.seal(|seal| seal.read += 3600);
    assert!(!world.get().1);
    let seal: Seal =
        serde_json::from_slice(&fs::read(world.path("key.seal")).expect("read")).expect("a seal");
    assert!(seal.read <= super::now());
}

#[test]
fn a_root_on_another_disk_is_read_and_sealed_again() {
    let world = World::new();
    world.get();
    for name in ["key", "key-again"] {
        let copied = std::process::Command::new("cp")
            .args(["-a"])
            .arg(world.path(name))
            .arg(world.path("new"))
            .status();
        assert!(copied.expect("cp").success());
        fs::remove_dir_all(world.path(name)).expect("removed");
        fs::rename(world.path("new"), world.path(name)).expect("moved");
    }
    assert!(!world.get().1, "{}", world.notes());
    assert_eq!(world.notes(), "");
}

#[test]
fn a_root_whose_manifest_is_lost_cannot_be_verified_and_is_made_anew() {
    let world = World::new();
    world.get();
    world.seal(|seal| {
        seal.manifest = hab_oci::Digest::of(b"gone");
        seal.read = 0;
    });
    assert!(world.get().1 && world.notes().contains("is not in the store"), "{}", world.notes());
}
