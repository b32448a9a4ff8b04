//! The kernel's own limits for a run: a control group, where this process may make one.
//!
//! A control group counts memory that sampling cannot see: memory files, segments and sockets that no process maps,
//! page tables, pipes. With version 2, only a group without processes of its own can pass controllers on. So the run's
//! group lies beside this process's, below the nearest parent that is writable and passes its controllers on. Version 1
//! has a tree for each controller and no such rule.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, geteuid};
use serde::{Deserialize, Serialize};

use crate::spec::RunLimits;

/// The mechanism that keeps a run from using more than its memory limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryLimiter {
    /// The kernel, by a control group of version 2.
    Cgroup2,
    /// The kernel, by control groups of version 1.
    Cgroup1,
    /// Samples, five a second. Memory that a run takes between two samples can exceed the limit.
    Sampled,
}

impl fmt::Display for MemoryLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cgroup2 => "a control group",
            Self::Cgroup1 => "a control group (version 1)",
            Self::Sampled => "sampling",
        })
    }
}

const PREFIX: &str = "hab-run-";

/// A run's control group. Dropping it removes the group; every process in it has ended by then.
pub(crate) struct Cgroup {
    limiter: MemoryLimiter,
    /// The group's folder. With version 1, memory and processes have a folder each.
    memory: PathBuf,
    pids: Option<PathBuf>,
}

impl Cgroup {
    /// Makes a group with the limits of `limits` and `extra` bytes of memory more, and puts `process` into it. `None`
    /// if there is no memory limit, or if this process may not make a group.
    pub(crate) fn around(process: Pid, limits: &RunLimits, extra: u64) -> Option<Self> {
        limits.memory?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        version_2(&mounts, &own, process, limits, extra)
            .or_else(|| version_1(&mounts, &own, process, limits, extra))
    }

    pub(crate) fn limiter(&self) -> MemoryLimiter {
        self.limiter
    }

    /// Whether the kernel has killed a process of the group because memory ran out.
    pub(crate) fn has_killed(&self) -> bool {
        let file =
            if self.limiter == MemoryLimiter::Cgroup2 { "memory.events" } else { "memory.oom_control" };
        counter(&self.memory.join(file), "oom_kill") > 0
    }

    /// Whether the kernel has refused to start a process in the group.
    pub(crate) fn has_refused(&self) -> bool {
        self.pids.as_ref().is_some_and(|pids| counter(&pids.join("pids.events"), "max") > 0)
    }

    fn enter(&self, process: Pid) -> io::Result<()> {
        let number = process.as_raw_nonzero().to_string();
        fs::write(self.memory.join("cgroup.procs"), &number)?;
        match &self.pids {
            Some(pids) if *pids != self.memory => fs::write(pids.join("cgroup.procs"), &number),
            _ => Ok(()),
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in [Some(&self.memory), self.pids.as_ref()].into_iter().flatten() {
            // The last process is gone from the list of processes a moment before it is gone from its group.
            for _ in 0..50 {
                if fs::remove_dir(folder).is_ok() || !folder.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

fn version_2(mounts: &str, own: &str, process: Pid, limits: &RunLimits, extra: u64) -> Option<Cgroup> {
    let (mount, root) = mounted(mounts, "cgroup2", None)?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let own = below(&mount, &root, own)?;
    let above: Vec<_> = own.ancestors().take_while(|folder| folder.starts_with(&mount)).collect();
    // Try the parents first that need no change.
    let ready = above.iter().filter(|parent| hands_down(parent));
    let made =
        above.iter().filter(|parent| !hands_down(parent) && hand_down(parent, &own, **parent == mount));
    ready.chain(made).find_map(|parent| {
        let folder = new_group(parent)?;
        let group = Cgroup { limiter: MemoryLimiter::Cgroup2, memory: folder.clone(), pids: Some(folder) };
        let set = |file: &str, value: String| fs::write(group.memory.join(file), value);
        set("memory.max", limits.memory?.saturating_add(extra).to_string()).ok()?;
        // This fails if the host has no swap, and then there is nothing to forbid.
        let _ = set("memory.swap.max", "0".to_owned());
        let _ = set("memory.oom.group", "1".to_owned());
        if let Some(most) = limits.kernel_processes() {
            set("pids.max", most.to_string()).ok()?;
        }
        group.enter(process).ok()?;
        Some(group)
    })
}

/// Whether groups below `parent` have the two controllers.
fn hands_down(parent: &Path) -> bool {
    let on = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
    ["memory", "pids"].iter().all(|wanted| on.split_ascii_whitespace().any(|name| name == *wanted))
}

/// Passes the two controllers on to groups below `parent`, if this process may decide that: it is not root, so the
/// group was delegated to it; the group is marked as delegated; or there is no group above. Only a group without
/// processes can pass controllers on. So the processes of this program's own unit or container move into a group below.
fn hand_down(parent: &Path, own: &Path, top: bool) -> bool {
    let mut mark = [0; 8];
    let given = rustix::fs::getxattr(parent, "user.delegate", &mut mark).is_ok() || !geteuid().is_root();
    if !given && !top {
        return false;
    }
    let switch = || fs::write(parent.join("cgroup.subtree_control"), "+memory +pids").is_ok();
    switch() || (given && parent == own && step_down(parent).is_some() && switch())
}

fn step_down(group: &Path) -> Option<()> {
    let leaf = group.join("hab-main");
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return None,
        _ => {}
    }
    for process in fs::read_to_string(group.join("cgroup.procs")).ok()?.lines() {
        // A process that ended meanwhile need not be moved.
        let _ = fs::write(leaf.join("cgroup.procs"), process);
    }
    Some(())
}

fn version_1(mounts: &str, own: &str, process: Pid, limits: &RunLimits, extra: u64) -> Option<Cgroup> {
    let most = limits.memory?.saturating_add(extra);
    let memory = new_group(&controller(mounts, own, "memory")?)?;
    let mut group = Cgroup { limiter: MemoryLimiter::Cgroup1, memory, pids: None };
    group.pids = limits.processes.and_then(|_| new_group(&controller(mounts, own, "pids")?));
    let set = |file: &str, value: u64| fs::write(group.memory.join(file), value.to_string());
    set("memory.limit_in_bytes", most).ok()?;
    // This file exists only where the kernel counts swap; its limit is for memory and swap together.
    if set("memory.memsw.limit_in_bytes", most).is_err() {
        let _ = set("memory.swappiness", 0);
    }
    // TCP's buffers are counted separately.
    let _ = set("memory.kmem.tcp.limit_in_bytes", most / 8);
    if let (Some(pids), Some(most)) = (&group.pids, limits.kernel_processes()) {
        fs::write(pids.join("pids.max"), most.to_string()).ok()?;
    }
    group.enter(process).ok()?;
    Some(group)
}

/// This process's own group in the tree of a controller of version 1.
fn controller(mounts: &str, own: &str, name: &str) -> Option<PathBuf> {
    let (mount, root) = mounted(mounts, "cgroup", Some(name))?;
    let own = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|one| one == name).then_some(path)
    })?;
    below(&mount, &root, own)
}

/// Where a tree of groups is mounted, and which of its groups is the top of that mount (proc_pid_mountinfo(5)).
fn mounted(mounts: &str, kind: &str, controller: Option<&str>) -> Option<(PathBuf, PathBuf)> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let (found, options) = (after.next()?, after.nth(1)?);
        if found != kind || controller.is_some_and(|name| options.split(',').all(|option| option != name)) {
            return None;
        }
        let mut before = before.split(' ').skip(3);
        let root = before.next()?;
        Some((PathBuf::from(before.next()?), PathBuf::from(root)))
    })
}

fn below(mount: &Path, root: &Path, own: &str) -> Option<PathBuf> {
    let relative = Path::new(own).strip_prefix(root).ok()?;
    // A group outside of the namespace reads "/../…".
    if relative.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
        return None;
    }
    // Joining an empty path would add a slash at the end.
    Some(if relative.as_os_str().is_empty() { mount.to_owned() } else { mount.join(relative) })
}

/// Makes a group in `parent`, and removes groups whose makers were killed.
fn new_group(parent: &Path) -> Option<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for entry in fs::read_dir(parent).ok()?.flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
        if maker.is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists()) {
            // This fails for a group that is in use.
            let _ = fs::remove_dir(entry.path());
        }
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
    fs::create_dir(&folder).ok()?;
    Some(folder)
}

/// The number after `name` in a file of lines of "name number".
fn counter(file: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{below, controller, mounted};

    const MOUNTS: &str = "\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        39 31 0:36 /docker/abc /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,cpu,pids\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_own_group_is_found_in_every_tree() {
        let own = "5:cpu,pids:/docker/abc/x\n4:memory:/\n0::/user.slice\n";
        assert_eq!(controller(MOUNTS, own, "memory"), Some("/sys/fs/cgroup/memory".into()));
        assert_eq!(controller(MOUNTS, own, "pids"), Some("/sys/fs/cgroup/pids/x".into()));
        let (mount, root) = mounted(MOUNTS, "cgroup2", None).unwrap();
        assert_eq!(below(&mount, &root, "/user.slice"), Some("/sys/fs/cgroup/unified/user.slice".into()));
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_is_none() {
        let own = "5:cpu,pids:/elsewhere\n4:memory:/../other\n";
        assert_eq!(controller(MOUNTS, own, "memory"), None);
        assert_eq!(controller(MOUNTS, own, "pids"), None);
        assert_eq!(below(Path::new("/m"), Path::new("/"), "/"), Some(PathBuf::from("/m")));
    }
}
