//! The view that the command sees: an overlay over the root, with its upper layer in memory, and the binds in it.
//!
//! Every source is first opened as a detached mount (a descriptor). Then the view becomes the only root, and the host's
//! tree is unmounted. Only then are paths looked up in the view, and mounts put there. So no link in a root can ever
//! lead a mount, or a folder made for one, onto the host.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, statvfs};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_change,
    mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};
use rustix::thread::UnshareFlags;

use crate::error::{At, Failure, Step};
use crate::facts::{Facts, Proc};
use crate::places::{Clock, complete_etc, make_folder, make_place};
use crate::preload;
use crate::spec::{Spec, Tmpfs};
use crate::{devices, sys};

/// Folders that every Linux system has and every user may enter. The first that exists is covered by a work area, in
/// our own mount namespace.
const COVERED: [&str; 4] = ["/tmp", "/mnt", "/var", "/usr"];

/// The sources as mounts of this process's namespace, where the build user can reach them.
pub(crate) struct Stage {
    base: PathBuf,
    binds: usize,
    /// The folder of the device nodes.
    nodes: PathBuf,
    /// Second mounts of the volumes, for their next run.
    pub(crate) again: Vec<OwnedFd>,
}

impl Stage {
    /// Makes the mount namespace private and collects the root and the binds of `spec`.
    /// `volumes` are sources that the caller made, by the number of their bind.
    pub(crate) fn gather(spec: &Spec, mut volumes: BTreeMap<usize, OwnedFd>) -> Result<Self, Failure> {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).step(Step::Root)?;
        let root = open_source(&spec.root, true)?;
        let given: BTreeSet<_> = volumes.keys().copied().collect();
        let sources = spec.binds.iter().enumerate().map(|(number, bind)| match volumes.remove(&number) {
            Some(volume) => Ok(volume),
            None => open_source(&bind.host, false),
        });
        let binds: Vec<_> = sources.collect::<Result<_, _>>()?;

        let base = COVERED.iter().map(PathBuf::from).find(|path| path.is_dir());
        let base = base.ok_or(Errno::NOENT).step(Step::Scratch)?;
        mount_memory(&base, 1 << 20).at(Step::Scratch, &base)?;
        let mut stage = Self { base, binds: binds.len(), nodes: PathBuf::from("/dev"), again: Vec::new() };
        stage.hold(&root, &stage.root()).at(Step::Source, &spec.root)?;
        // Changes go to the view's upper layer. This mount is read-only in case a command finds a way to it.
        restrict(&stage.root(), false).at(Step::Source, &spec.root)?;
        for (index, (source, bind)) in binds.iter().zip(&spec.binds).enumerate() {
            stage.hold(source, &stage.bind(index)).at(Step::Source, &bind.host)?;
            if given.contains(&index) {
                stage.again.push(clone_mount(&stage.bind(index)).at(Step::Source, &bind.host)?);
            }
        }
        let clock = Clock::of(&stage.root()).at(Step::Source, &spec.root)?;
        let nodes = stage.base.join("nodes");
        fs::create_dir(&nodes).at(Step::Scratch, &nodes)?;
        if devices::make(&nodes, &clock).at(Step::Scratch, &nodes)? {
            stage.nodes = nodes;
        }
        fs::create_dir(stage.scratch()).at(Step::Scratch, &stage.scratch())?;
        Ok(stage)
    }

    fn hold(&self, source: &OwnedFd, at: &Path) -> io::Result<()> {
        debug_assert!(at.starts_with(&self.base));
        make_place(at, is_folder(source)?)?;
        attach(source, at)
    }

    fn root(&self) -> PathBuf {
        self.base.join("root")
    }

    fn bind(&self, index: usize) -> PathBuf {
        self.base.join(format!("bind-{index}"))
    }

    fn scratch(&self) -> PathBuf {
        self.base.join("scratch")
    }
}

fn open_source(path: &Path, folder: bool) -> Result<OwnedFd, Failure> {
    let source = clone_mount(path).at(Step::Source, path)?;
    if folder && !is_folder(&source).at(Step::Source, path)? {
        return Err(Errno::NOTDIR).at(Step::Source, path);
    }
    Ok(source)
}

/// Descriptors through which the caller watches the run from outside.
pub(crate) struct WatchHandles {
    /// The new `/proc`.
    pub proc: OwnedFd,
    /// A folder on each filesystem in memory, the scratch space first.
    pub memory: Vec<OwnedFd>,
    /// Whether programs get the library of [`preload`].
    pub preloaded: bool,
}

/// A detached mount, and the path where it goes.
struct Planned<'a> {
    mount: OwnedFd,
    inside: &'a Path,
    writable: bool,
}

/// Builds the view in process 1 and makes it the root; afterwards the working folder is `/`.
pub(crate) fn enter_view(spec: &Spec, stage: &Stage) -> Result<WatchHandles, Failure> {
    let scratch = stage.scratch();
    mount_memory(&scratch, spec.limits.scratch).at(Step::Scratch, &scratch)?;
    for (name, mode) in
        [("upper", 0o755), ("work", 0o755), ("view", 0o755), ("tmp", 0o1777), ("facts", 0o755)]
    {
        make_folder(&scratch.join(name), mode).at(Step::Scratch, &scratch)?;
    }
    let dev = scratch.join("dev");
    devices::lay_out(&dev).at(Step::Scratch, &dev)?;
    let view = scratch.join("view");
    let clock = Clock::of(&stage.root()).at(Step::Source, &spec.root)?;
    mount_overlay(&stage.root(), &scratch, &view).at(Step::Overlay, &spec.root)?;

    let facts = scratch.join("facts");
    let facts = Facts::lay_out(spec, &facts, &clock).at(Step::Scratch, &facts)?;
    let proc = Proc::fresh().step(Step::Proc)?;

    let mut planned = vec![Planned {
        mount: clone_mount(&dev).at(Step::Mount, &dev)?,
        inside: Path::new("/dev"),
        writable: true,
    }];
    let nodes = devices::nodes(&stage.nodes).step(Step::Mount)?;
    let is_tmp = |path: &Path| path == Path::new("/tmp");
    if !spec.binds.iter().any(|bind| is_tmp(&bind.inside))
        && !spec.tmpfs.iter().any(|tmp| is_tmp(&tmp.inside))
    {
        let mount = clone_mount(&scratch.join("tmp")).at(Step::Mount, Path::new("/tmp"))?;
        planned.push(Planned { mount, inside: Path::new("/tmp"), writable: true });
    }
    let preloaded = spec.preload && preload_into(&mut planned, spec, stage, &scratch, &clock)?;
    debug_assert_eq!(stage.binds, spec.binds.len());
    for (index, bind) in spec.binds.iter().enumerate() {
        let mount = clone_mount(&stage.bind(index)).at(Step::Mount, &bind.host)?;
        planned.push(Planned { mount, inside: &bind.inside, writable: bind.writable });
    }
    let watched = open_folder(&proc.mount).step(Step::Proc)?;
    let mut memory = vec![folder_at(&scratch).at(Step::Scratch, &scratch)?];
    for tmpfs in &spec.tmpfs {
        let mount = fresh_memory(tmpfs).at(Step::Mount, &tmpfs.inside)?;
        memory.push(open_folder(&mount).at(Step::Mount, &tmpfs.inside)?);
        planned.push(Planned { mount, inside: &tmpfs.inside, writable: true });
    }

    replace_root(&view).step(Step::Root)?;
    // The view's top folder is in the upper layer, which was made just now.
    clock.set("/".as_ref()).step(Step::Root)?;
    complete_etc(&clock)?;
    // Mount a folder before the paths below it.
    planned.sort_by_key(|plan| plan.inside.components().count());
    for plan in &planned {
        place(plan, &clock)?;
    }
    devices::attach_nodes(&nodes).step(Step::Mount)?;
    devices::attach_terminals().step(Step::Mount)?;
    let at = Path::new("/proc");
    clock.keeping(at, |path| make_place(path, true)).at(Step::Place, at)?;
    attach(&proc.mount, at).at(Step::Mount, at)?;
    proc.cover(&facts).at(Step::Proc, at)?;
    Ok(WatchHandles { proc: watched, memory, preloaded })
}

/// Plans the mounts of the preloaded library. Returns `false` if no program of the root would load it.
fn preload_into(
    planned: &mut Vec<Planned<'_>>,
    spec: &Spec,
    stage: &Stage,
    scratch: &Path,
    clock: &Clock,
) -> Result<bool, Failure> {
    let root = folder_at(&stage.root()).at(Step::Source, &spec.root)?;
    if !preload::works_in(&root) {
        return Ok(false);
    }
    let theirs = preload::list_of(&root).at(Step::Source, &spec.root)?;
    for (path, inside) in preload::lay_out(scratch, &spec.varied, &theirs).at(Step::Scratch, scratch)? {
        clock.set(&path).at(Step::Scratch, &path)?;
        let mount = clone_mount(&path).at(Step::Mount, &path)?;
        planned.push(Planned { mount, inside: Path::new(inside), writable: false });
    }
    Ok(true)
}

/// Moves this process to another mount namespace, but leaves its root in the view. `/proc/<pid>/mountinfo` shows the
/// mounts of a process's namespace that its root reaches; now these are none. The view's own table would name the
/// host's disks and the place of each bind on them. The helper, which outlives this process, keeps the view's
/// namespace.
pub(crate) fn leave_table() -> io::Result<()> {
    let top = folder_at(Path::new("/"))?;
    sys::unshare(UnshareFlags::NEWNS)?;
    fchdir(&top)?;
    Ok(chroot(".")?)
}

fn place(plan: &Planned<'_>, clock: &Clock) -> Result<(), Failure> {
    let folder = is_folder(&plan.mount).at(Step::Mount, plan.inside)?;
    clock.keeping(plan.inside, |path| make_place(path, folder)).at(Step::Place, plan.inside)?;
    attach(&plan.mount, plan.inside).at(Step::Mount, plan.inside)?;
    restrict(plan.inside, plan.writable).at(Step::Mount, plan.inside)
}

fn mount_overlay(lower: &Path, scratch: &Path, view: &Path) -> io::Result<()> {
    let (lower, scratch) = (lower.display(), scratch.display());
    // With userxattr the overlay uses only attributes that a user namespace may write.
    let options = format!("lowerdir={lower},upperdir={scratch}/upper,workdir={scratch}/work,userxattr");
    let options = CString::new(options)?;
    mount("overlay", view, "overlay", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?;
    Ok(())
}

fn mount_memory(at: &Path, size: u64) -> io::Result<()> {
    let options = CString::new(format!("size={size},nr_inodes={},mode=0755", inodes(size)))?;
    mount("tmpfs", at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?;
    Ok(())
}

/// The most files for a size: an empty file takes none of it, and yet a kilobyte of the kernel's memory.
fn inodes(size: u64) -> u64 {
    4096 + size / 4096
}

fn fresh_memory(tmpfs: &Tmpfs) -> io::Result<OwnedFd> {
    memory_of(tmpfs.size, inodes(tmpfs.size), "1777")
}

/// A detached mount of a new file system in memory.
pub(crate) fn memory_of(size: u64, files: u64, mode: &str) -> io::Result<OwnedFd> {
    let filesystem = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&filesystem, "source", "tmpfs")?;
    fsconfig_set_string(&filesystem, "size", size.to_string())?;
    fsconfig_set_string(&filesystem, "nr_inodes", files.to_string())?;
    fsconfig_set_string(&filesystem, "mode", mode)?;
    fsconfig_create(&filesystem)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A detached copy of the mount at `path`, without the mounts below it.
pub(crate) fn clone_mount(path: &Path) -> io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
}

/// Puts a detached mount at `path`.
pub(crate) fn attach(mount: &OwnedFd, path: &Path) -> io::Result<()> {
    Ok(move_mount(mount, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Adds nosuid, nodev and, for a bind that is not writable, read-only. The flags of the host's mount stay, because a
/// user namespace may not remove them.
pub(crate) fn restrict(path: &Path, writable: bool) -> io::Result<()> {
    let had = statvfs(path)?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV;
    if had.contains(StatVfsMountFlags::NOEXEC) {
        flags |= MountFlags::NOEXEC;
    }
    if had.contains(StatVfsMountFlags::RDONLY) {
        if writable {
            return Err(Errno::ROFS.into());
        }
        flags |= MountFlags::RDONLY;
    }
    if !writable {
        flags |= MountFlags::RDONLY;
    }
    Ok(mount_remount(path, flags, "")?)
}

/// Makes `view` the root as in pivot_root(2), "pivot_root(".", ".")": the old root lands on top of it and is unmounted.
fn replace_root(view: &Path) -> io::Result<()> {
    chdir(view)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

fn is_folder(mount: impl AsFd) -> io::Result<bool> {
    let stat = rustix::fs::fstat(mount)?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}

fn open_folder(mount: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(mount, ".", flags, Mode::empty())?)
}

fn folder_at(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
