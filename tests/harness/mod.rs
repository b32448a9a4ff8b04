//! [`World`]: everything that the program needs in a test. It has an upstream on loopback that behaves (or misbehaves)
//! like a Debian archive, keys that sign it, a toolchain made of this machine's programs, recipes, and a data folder.
#![allow(dead_code, unused_imports)] // each test file uses a part of it

pub mod archive;
mod cgi;
mod git;
mod outcome;
mod server;
mod serving;
mod signing;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use hab_oci::Digest;
use hab_recipe::{
    LockedFile, LockedFiles, LockedPackage, LockedSource, RecipeLock, RecipeSet, ToolchainLock,
};
use sequoia_openpgp::Cert;
use serde_json::Value;

pub use archive::DATE;
pub use cgi::{GitServer, Manner};
pub use git::Upstream;
pub use outcome::Outcome;
pub use server::Server;
pub use serving::Serving;
pub use signing::{cert, clearsign, detached, export};

/// Everything that one test needs. Dropping it removes its folder.
pub struct World {
    pub folder: tempfile::TempDir,
    pub server: Server,
    pub archive_key: Cert,
    pub maintainer: Cert,
}

/// The uid of an ordinary user.
pub const USER: u32 = 1000;

pub const SOURCE_VERSION: &str = "1.0-1";

/// A build script whose outputs depend only on its source.
pub const GOOD: &str = "mkdir -p $OUT/usr/bin $OUT/etc\n\
    cp /usr/bin/cat $OUT/usr/bin/hello\n\
    cp $SRC/message $OUT/etc/message\n\
    echo said: $VERSION\n";

impl World {
    /// A world with recipe `hello` (a Debian source) and its toolchain, locked.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Self {
            server: Server::start(),
            archive_key: cert("archive"),
            maintainer: cert("maintainer"),
            folder,
        };
        world.write_trust();
        world.write_config();
        world.publish_archive();
        world.recipe("hello", GOOD);
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn write_trust(&self) {
        for (name, kind, key) in
            [("debian", "archive-signature", &self.archive_key), ("maintainers", "tag", &self.maintainer)]
        {
            let policy = format!(
                "name = \"{name}\"\n[require.it]\nkind = \"{kind}\"\nthreshold = 1\n[[key]]\nfingerprint = \"{}\"\n\
                 name = \"test\"\nreason = \"test\"\n",
                key.fingerprint()
            );
            self.write(&format!("trust/{name}/policy.toml"), policy);
        }
        self.write("keyring/archive.gpg", export(&self.archive_key));
        self.write("certificates/maintainer.gpg", export(&self.maintainer));
    }

    /// Writes a policy with these requirements, which pins these keys.
    pub fn policy(&self, name: &str, requirements: &str, keys: &[(&str, &Cert)]) {
        let mut text = format!("name = \"{name}\"\n{requirements}\n");
        for (who, key) in keys {
            text.push_str(&format!(
                "[[key]]\nfingerprint = \"{}\"\nname = \"{who}\"\nreason = \"test\"\nbuilders = [\"{who}\"]\n",
                key.fingerprint()
            ));
        }
        self.write(&format!("trust/{name}/policy.toml"), text);
    }

    /// Changes the text of a recipe. The lock must not depend on the changed part.
    pub fn edit_recipe(&self, name: &str, from: &str, to: &str) {
        let path = format!("recipes/{name}/recipe.toml");
        let text = fs::read_to_string(self.path(&path)).unwrap();
        assert!(text.contains(from), "{text}");
        self.write(&path, text.replace(from, to));
    }

    /// Writes a file of this world.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        self.write(name, bytes);
        self.path(name).display().to_string()
    }

    fn write_config(&self) {
        self.write_config_with(&[]);
    }

    /// Writes a configuration that asks `vendors` for packages before the archive.
    pub fn write_config_with(&self, vendors: &[String]) {
        let bases: Vec<_> = vendors.iter().cloned().chain([self.server.address()]).collect();
        let text = format!(
            "certificates = [{:?}]\nwithout-built-in = true\n[crates]\nindex = \"sparse+{}/\"\n[debian]\nbases = {bases:?}\n\
             keyrings = [{:?}]\n[keys]\nservers = []\ndirectories = false\n[mirror]\nfile = true\nhttp = true\n",
            self.path("certificates"),
            self.server.address(),
            self.path("keyring/archive.gpg")
        );
        self.write("hab.toml", text);
    }

    /// Writes a recipe over the Debian source `hello`, and locks it.
    pub fn recipe(&self, name: &str, script: &str) {
        self.recipe_with(
            name,
            script,
            "kind = \"debian-source\"\npackage = \"hello\"\nsuite = \"stable\"\npolicy = \"debian\"",
        );
    }

    /// Writes a recipe over a git project at `url`, and locks it.
    pub fn git_recipe(&self, name: &str, script: &str, url: &str) {
        let source =
            format!("kind = \"git\"\nproject = \"{name}\"\nurls = [{url:?}]\npolicy = \"maintainers\"");
        self.recipe_with(name, script, &source);
    }

    /// Writes a recipe over the crate `tiny` 1.2.3, publishes the crate, and locks it.
    pub fn crate_recipe(&self, name: &str, script: &str) {
        self.recipe_over_crate(name, script, archive::krate());
    }

    /// Writes a recipe over a crate with these bytes, publishes the crate, and locks it.
    pub fn recipe_over_crate(&self, name: &str, script: &str, bytes: Vec<u8>) {
        let config = format!("{{\"dl\": \"{}/dl/{{crate}}/{{version}}.crate\"}}", self.server.address());
        self.server.put("config.json", config.into_bytes());
        self.server.put("dl/tiny/1.2.3.crate", bytes);
        self.recipe_with(name, script, "kind = \"crate\"\npackage = \"tiny\"\nsubfolder = \"inner\"");
    }

    fn recipe_with(&self, name: &str, script: &str, source: &str) {
        let recipe = format!(
            "name = \"{name}\"\nsummary = \"test\"\nlicenses = \"MIT\"\nhomepage = \"https://test.invalid\"\n\
             [source]\n{source}\n[build]\ntoolchain = \"tiny\"\nhardened = false\nmemory_mib = 512\ndisk_mib = 256\nminutes = 2\n\
             [image]\nrepository = \"test/{name}\"\nentrypoint = [\"/usr/bin/hello\"]\nuser = \"hello\"\nhome = \"/home/hello\"\n\
             [smoke]\ncommand = [\"/usr/bin/hello\", \"--version\"]\nexpect = \"coreutils\"\n"
        );
        self.write(&format!("recipes/{name}/recipe.toml"), recipe);
        self.write(&format!("recipes/{name}/build.sh"), format!("set -eu\n{script}"));
        self.lock(name);
    }

    /// Locks as `hab-build lock` would, without apt.
    fn lock(&self, name: &str) {
        let packages = archive::packages();
        let set = RecipeSet::load(&self.path("recipes"), |path, _| {
            Ok::<_, hab_recipe::RecipeError>(fs::read_to_string(path).unwrap())
        })
        .unwrap();
        let toolchain = set.toolchain("tiny").unwrap();
        let locked = |(root, name, bytes): &(&str, &str, Vec<u8>)| LockedPackage {
            root: (*root).to_owned(),
            name: (*name).to_owned(),
            version: "1".to_owned(),
            architecture: "amd64".to_owned(),
            path: format!("pool/{name}.deb"),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
        };
        let lock = ToolchainLock::new(&toolchain, Digest::of(b""), packages.iter().map(locked).collect());
        self.write("recipes/toolchains/tiny.lock", lock.to_text());
        let recipe = set.recipe(name).unwrap().recipe;
        let source = match recipe.source {
            hab_recipe::SourceTable::Git { .. } => Vec::new(),
            hab_recipe::SourceTable::Crate { .. } => vec![self.locked_crate()],
            hab_recipe::SourceTable::DebianSource { .. } => vec![self.locked_source()],
        };
        let lock = RecipeLock::new(&recipe, lock.digest(), source, Vec::new());
        self.write(&format!("recipes/{name}/recipe.lock"), lock.to_text());
    }

    fn locked_crate(&self) -> LockedSource {
        let bytes = self.server.get("dl/tiny/1.2.3.crate").unwrap();
        let path = "tiny-1.2.3.crate".to_owned();
        LockedSource {
            package: "tiny".to_owned(),
            version: "1.2.3".to_owned(),
            epoch: 1_600_000_000,
            files: LockedFiles::new(
                LockedFile { path, digest: Digest::of(&bytes), size: bytes.len() as u64 },
                Vec::new(),
            ),
        }
    }

    fn locked_source(&self) -> LockedSource {
        let file = |path: &str| {
            let bytes = self.server.get(path).unwrap();
            LockedFile { path: path.to_owned(), digest: Digest::of(&bytes), size: bytes.len() as u64 }
        };
        LockedSource {
            package: "hello".to_owned(),
            version: SOURCE_VERSION.to_owned(),
            epoch: 1_600_000_000,
            files: LockedFiles::new(
                file("pool/h/hello_1.0-1.dsc"),
                vec![file("pool/h/hello_1.0.orig.tar.xz"), file("pool/h/hello_1.0-1.debian.tar.xz")],
            ),
        }
    }

    fn publish_archive(&self) {
        self.write("recipes/toolchains/tiny.toml", archive::TOOLCHAIN);
        self.publish_archive_of(DATE);
    }

    /// Publishes the archive with another date.
    pub fn publish_archive_of(&self, date: &str) {
        self.publish_archive_by(&self.archive_key, date);
    }

    /// Publishes an archive that `key` signs.
    pub fn publish_archive_by(&self, key: &Cert, date: &str) {
        for (path, bytes) in archive::files(key, date) {
            self.server.put(&path, bytes);
        }
    }

    /// A command of the program with this world's configuration and the data folder `data`.
    pub fn command(&self, data: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hab-build"));
        command
            .arg("--data")
            .arg(self.path(data))
            .arg("--config")
            .arg(self.path("hab.toml"))
            .arg("--recipes")
            .arg(self.path("recipes"))
            .arg("--trust")
            .arg(self.path("trust"))
            .args(words)
            .env("NO_COLOR", "1")
            .env_remove("HAB_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, data: &str, words: &[&str]) -> Outcome {
        let asked_json = words.contains(&"--json");
        Outcome { asked_json, ..Outcome::of(&self.command(data, words).output().unwrap()) }
    }

    /// `hab-build NAME --platform linux/amd64 --json` in the data folder `data`.
    pub fn build(&self, data: &str, name: &str) -> Outcome {
        self.run(data, &[name, "--platform", "linux/amd64", "--json"])
    }

    /// As [`World::build`], but as an ordinary user, while root runs the tests.
    pub fn build_as_user(&self, data: &str, name: &str) -> Outcome {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        use std::os::unix::process::CommandExt as _;
        fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // The user cannot reach the program where cargo put it, so copy it.
        let program = self.path("hab-build");
        if !program.exists() {
            fs::copy(env!("CARGO_BIN_EXE_hab-build"), &program).unwrap();
        }
        if fs::create_dir(self.path(data)).is_ok() {
            chown(self.path(data), Some(USER), Some(USER)).unwrap();
        }
        let given = self.command(data, &[name, "--platform", "linux/amd64", "--json"]);
        let mut command = Command::new(&program);
        command
            .args(given.get_args())
            .env("NO_COLOR", "1")
            .env("HOME", self.folder.path())
            .uid(USER)
            .gid(USER);
        Outcome::of(&command.output().unwrap())
    }

    /// Starts the program without waiting.
    pub fn start(&self, data: &str, words: &[&str]) -> Child {
        self.command(data, words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// Every regular file below a folder with its bytes.
pub fn files_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap() {
                t if t.is_dir() => waiting.push(entry.path()),
                t if t.is_file() => {
                    found.insert(entry.path(), fs::read(entry.path()).unwrap());
                }
                _ => {}
            }
        }
    }
    found
}

/// A line of a crates index.
pub fn krate_line(name: &str, version: &str, bytes: &[u8]) -> String {
    format!(
        "{{\"name\":\"{name}\",\"vers\":\"{version}\",\"deps\":[],\"cksum\":\"{}\",\"features\":{{}},\"yanked\":false,\
         \"pubtime\":\"2020-09-13T12:26:40Z\"}}",
        Digest::of(bytes).hex()
    )
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

/// The digest of the InRelease of 11 January 2025 that a build stored in the folder `data`.
pub fn accepted_index(world: &World) -> String {
    let kept = files_below(&world.path("data/blobs"));
    let needle = format!("Date: {DATE}");
    let found = kept.values().find(|bytes| {
        bytes.starts_with(b"-----BEGIN PGP") && bytes.windows(needle.len()).any(|w| w == needle.as_bytes())
    });
    Digest::of(found.unwrap()).to_string()
}
