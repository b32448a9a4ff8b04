//! A small root made of the host's own programs, and runs in it as each user a test can be.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hab_sandbox::{BUILD_ID, Bind, Report, Spec, Vary};
use tempfile::TempDir;

/// Programs of packages that every Debian system has (Essential: yes).
const PROGRAMS: [&str; 29] = [
    "bash", "cat", "chmod", "date", "dd", "env", "find", "grep", "head", "hostname", "id", "kill", "ls",
    "mkdir", "mount", "perl", "ps", "readlink", "rm", "seq", "sh", "sleep", "stat", "tail", "touch", "true",
    "uname", "unshare", "wc",
];

/// Every file of the root has this time, so that any other seen inside comes from somewhere else.
pub const ROOT_TIME: u64 = 1_234_567_890;

/// A uid that is not root's, for tests that root runs.
const NORMAL: u32 = 1000;

/// Who calls the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Whoever runs the tests.
    Itself,
    /// A normal user, when root runs the tests.
    Normal,
}

/// A root, a work folder and what else a run needs, owned as the caller needs it.
pub struct World {
    pub caller: Caller,
    folder: TempDir,
    pub spec: Spec,
}

/// What a finished run left.
pub struct Finished {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    pub report: Option<Report>,
}

/// Runs a test as each caller that can be had here, with each kind of volume that this caller can have.
pub fn each_volume(test: impl Fn(World, &str)) {
    let root = rustix::process::geteuid().is_root();
    let own = if root { "image" } else { "memory" };
    for kind in [own, "counted"] {
        test(World::new(Caller::Itself), kind);
    }
    for kind in ["memory", "counted"].into_iter().filter(|_| root) {
        test(World::new(Caller::Normal), kind);
    }
}

/// Runs a test as each caller that can be had here.
pub fn each_caller(test: impl Fn(World)) {
    test(World::new(Caller::Itself));
    if rustix::process::geteuid().is_root() {
        test(World::new(Caller::Normal));
    }
}

impl World {
    pub fn new(caller: Caller) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let root = folder.path().join("root");
        make_root(&root);
        let work = folder.path().join("work");
        fs::create_dir(&work).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_hab-sandbox"), folder.path().join("hab-sandbox")).unwrap();
        let mut spec = Spec::new(&root, ["/bin/sh", "-c", "true"]);
        spec.binds.push(Bind { host: work, inside: "/build".into(), writable: true });
        spec.limits.wall = Some(Duration::from_secs(60));
        let world = Self { caller, folder, spec };
        world.give_away(&world.path("root"));
        world.give_away(&world.path("work"));
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The uid outside of what runs inside.
    pub fn uid(&self) -> u32 {
        match self.caller {
            Caller::Normal => NORMAL,
            Caller::Itself if rustix::process::geteuid().is_root() => BUILD_ID,
            Caller::Itself => rustix::process::geteuid().as_raw(),
        }
    }

    pub fn give_away(&self, path: &Path) {
        if rustix::process::geteuid().is_root() {
            let status =
                Command::new("chown").args(["-hR", &format!("{0}:{0}", self.uid())]).arg(path).status();
            assert!(status.unwrap().success());
        }
    }

    pub fn script(mut self, script: &str) -> Self {
        self.spec.command = ["/bin/sh", "-c", script].map(str::to_owned).into();
        self
    }

    pub fn command(mut self, words: &[&str]) -> Self {
        self.spec.command = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Spec)) -> Self {
        change(&mut self.spec);
        self
    }

    /// The program's command line for this world's spec, run by this world's caller.
    pub fn program(&self, options: &[&str]) -> Command {
        self.program_for(&self.spec, options)
    }

    /// Compiles a C program of `tests/` into the root, without libraries.
    pub fn with_program(self, name: &str) -> Self {
        self.compiled(name, &["-static"], &format!("bin/{name}"))
    }

    /// The same with the C library that the root has.
    pub fn with_dynamic_program(self, name: &str) -> Self {
        // What pthread_cancel(3) loads by name.
        let unwinder = Command::new("cc").arg("-print-file-name=libgcc_s.so.1").output().unwrap();
        let unwinder = String::from_utf8(unwinder.stdout).unwrap();
        fs::copy(unwinder.trim(), self.path("root/usr/lib/libgcc_s.so.1")).unwrap();
        // With its cleanup handlers as C++ has them.
        self.compiled(name, &["-pthread", "-fexceptions"], &format!("bin/{name}"))
    }

    /// The same with a library of its own, `/usr/lib/NAME.so`.
    pub fn with_library(self, name: &str) -> Self {
        let soname = format!("-Wl,-soname,{name}.so");
        let world = self.compiled(name, &["-shared", "-fPIC", &soname], &format!("lib/{name}.so"));
        let library = world.path(&format!("root/usr/lib/{name}.so")).display().to_string();
        let how = ["-DPROGRAM", "-Wl,--no-as-needed", &library];
        world.compiled(name, &how, &format!("bin/{name}"))
    }

    fn compiled(self, name: &str, how: &[&str], to: &str) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/{name}.c"));
        let to = self.path("root/usr").join(to);
        let compiled =
            Command::new("cc").args(how).args(["-O1", "-w", "-o"]).arg(&to).arg(source).output().unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        self.give_away(&to);
        self
    }

    fn program_for(&self, what: &Spec, options: &[&str]) -> Command {
        let spec = self.path("spec.json");
        fs::write(&spec, serde_json::to_vec(what).unwrap()).unwrap();
        let report = File::create(self.path("report.json")).unwrap();
        report.set_permissions(Permissions::from_mode(0o666)).unwrap();
        let mut command = Command::new(self.path("hab-sandbox"));
        command.arg(spec).arg("--report").arg(self.path("report.json")).args(options).stdin(Stdio::null());
        if self.caller == Caller::Normal {
            command.uid(NORMAL).gid(NORMAL);
        }
        command
    }

    pub fn run(&self) -> Finished {
        self.run_with(&[])
    }

    pub fn run_with(&self, options: &[&str]) -> Finished {
        self.finish(&self.program(options).output().unwrap())
    }

    pub fn finish(&self, output: &Output) -> Finished {
        Finished {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            report: fs::read(self.path("report.json"))
                .ok()
                .and_then(|json| serde_json::from_slice(&json).ok()),
        }
    }

    /// Runs a script beside the world's own command and returns what it printed, which must go well.
    pub fn prints(&self, script: &str) -> String {
        self.prints_of(self.spec.clone(), script)
    }

    /// The same with something varied.
    pub fn prints_varied(&self, varied: impl IntoIterator<Item = Vary>, script: &str) -> String {
        self.prints_of(Spec { varied: varied.into_iter().collect(), ..self.spec.clone() }, script)
    }

    fn prints_of(&self, spec: Spec, script: &str) -> String {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).into();
        let spec = Spec { command, ..spec };
        let finished = self.finish(&self.program_for(&spec, &[]).output().unwrap());
        assert_eq!(finished.status, 0, "{:?} {}{}", self.caller, finished.stdout, finished.stderr);
        finished.stdout
    }
}

/// Waits until `done`, at most some seconds.
pub fn eventually(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts without waiting, with both outputs in pipes.
pub fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn make_root(root: &Path) {
    for folder in ["usr/bin", "usr/lib", "usr/lib64", "etc", "root"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for name in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name)).unwrap();
    }
    let mut files = BTreeSet::new();
    for program in PROGRAMS {
        let found =
            ["/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(program)).find(|p| p.exists());
        files.insert(found.unwrap_or_else(|| panic!("these tests need {program}")));
    }
    let listed = Command::new("ldd").args(&files).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    files.extend(listed.split_ascii_whitespace().filter(|word| word.starts_with('/')).filter_map(|word| {
        let path = Path::new(word.trim_end_matches(':'));
        path.is_file().then(|| path.to_owned())
    }));
    for file in files {
        let to = root.join(file.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        if !to.exists() {
            fs::copy(&file, &to).unwrap();
        }
    }
    set_times(root);
}

fn set_times(path: &Path) {
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            set_times(&entry.unwrap().path());
        }
    }
    let stamp = rustix::fs::Timespec { tv_sec: i64::try_from(ROOT_TIME).unwrap(), tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: stamp, last_modification: stamp };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Gives a single path away; for what `World::give_away` would walk into.
pub fn chown_one(path: &Path, uid: u32) {
    if rustix::process::geteuid().is_root() {
        chown(path, Some(uid), Some(uid)).unwrap();
    }
}
