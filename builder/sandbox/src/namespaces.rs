//! The ids of the sandbox on the host, its namespaces, and what to enable where the host refuses them.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::exit;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, getegid, geteuid, waitpid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{CapabilitySet, UnshareFlags, capabilities};

use crate::sys;

/// The uid and gid that a sandbox has on the host if root starts it. No distribution assigns this id and no person has
/// it, so a process that breaks out owns nothing but builds.
pub const BUILD_ID: u32 = 872_415_232;

/// The uid and gid that the command has inside; the user is called `build`.
pub const INSIDE_ID: u32 = 1000;

/// The uid and gid that must own the root and the writable binds. The caller is root, and has to change their owner to
/// it. `None` for a normal user, whose own files are right as they are.
///
/// Inside a container that maps fewer ids it is the highest one there, and `None` if there is only one.
pub fn owner() -> Option<(u32, u32)> {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SYS_ADMIN;
    if !geteuid().is_root() || !capabilities(None).is_ok_and(|held| held.effective.contains(needed)) {
        return None;
    }
    Some((usable_id("/proc/self/uid_map")?, usable_id("/proc/self/gid_map")?))
}

fn usable_id(map: &str) -> Option<u32> {
    pick_id(&fs::read_to_string(map).ok()?)
}

/// Chooses from lines of "first here, first outside, count" (user_namespaces(7)).
fn pick_id(map: &str) -> Option<u32> {
    let ranges = map.lines().filter_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(|word| word.parse::<u64>().ok());
        let (first, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some((first, first + count))
    });
    let mut highest = None;
    for (first, end) in ranges {
        if (first..end).contains(&BUILD_ID.into()) {
            return Some(BUILD_ID);
        }
        // 65534 is the user nobody, who owns every file whose owner is unknown.
        let last = if end == 65_535 || end == 65_536 { 65_533 } else { end.saturating_sub(1) };
        highest = highest.max(u32::try_from(last).ok().filter(|id| *id > 0 && u64::from(*id) >= first));
    }
    highest
}

/// The uid and gid that the command has on the host.
pub(crate) fn outside() -> (u32, u32) {
    owner().unwrap_or_else(|| (geteuid().as_raw(), getegid().as_raw()))
}

/// Makes all namespaces in one call: the user namespace comes first and owns the others.
pub(crate) fn unshare_all() -> io::Result<()> {
    sys::unshare(
        UnshareFlags::NEWUSER
            | UnshareFlags::NEWNS
            | UnshareFlags::NEWPID
            | UnshareFlags::NEWIPC
            | UnshareFlags::NEWUTS
            | UnshareFlags::NEWNET
            | UnshareFlags::NEWCGROUP,
    )
}

/// A process that holds a namespace of every kind, so that namespaces made after it get other numbers.
///
/// The kernel gives namespaces, mounts and filesystems in memory the lowest free number. So a run right after another
/// one would get the same numbers, and a command can read them (`/proc/self/ns`, `st_dev`).
pub(crate) struct Decoy {
    pid: Pid,
    /// The decoy ends when this is closed, and so when this process ends.
    life: OwnedFd,
}

impl Decoy {
    /// Starts the decoy, and returns when its namespaces are made.
    pub(crate) fn new() -> io::Result<Self> {
        let (ready, tell) = pipe_with(PipeFlags::CLOEXEC)?;
        let (ended, life) = pipe_with(PipeFlags::CLOEXEC)?;
        let Some(pid) = sys::fork()? else {
            // Close the caller's descriptors, or the caller would wait for this process.
            let moved =
                dup2_stdin(&ended).and_then(|()| dup2_stdout(&tell)).and_then(|()| dup2_stderr(&ended));
            if moved.is_ok() && sys::close_from(3).is_ok() && unshare_all().is_ok() {
                let _ = rustix::io::write(rustix::stdio::stdout(), b"!");
                let _ = rustix::io::read(rustix::stdio::stdin(), &mut [0; 1]);
            }
            exit(0);
        };
        drop((tell, ended));
        // If the decoy gets no namespaces, the sandbox gets none either, and reports that.
        rustix::io::retry_on_intr(|| rustix::io::read(&ready, &mut [0; 1]))?;
        Ok(Self { pid, life })
    }

    /// Ends the decoy, and waits until it is gone.
    pub(crate) fn dismiss(self) {
        drop(self.life);
        // An error means that it is gone already.
        let _ = rustix::io::retry_on_intr(|| waitpid(Some(self.pid), WaitOptions::empty()));
    }
}

/// The time by which clocks are moved: it changes the year, month, day of the week, day, hour, minute and second, and
/// mostly the half of the day.
pub(crate) const SHIFT: Duration = Duration::from_secs(400 * 24 * 3600 + 12 * 3600 + 13 * 60 + 17);

/// Moves the clocks of later child processes; `false` if the kernel has no time namespaces.
pub(crate) fn shift_clocks() -> bool {
    let line = |clock| format!("{clock} {} 0\n", SHIFT.as_secs());
    sys::unshare(UnshareFlags::NEWTIME).is_ok()
        && fs::write("/proc/self/timens_offsets", line("monotonic") + &line("boottime")).is_ok()
}

/// Writes the maps that give the helper's build user its ids on the host. Only the caller may do that.
pub(crate) fn write_maps(helper: Pid) -> io::Result<()> {
    let (uid, gid) = outside();
    let folder = format!("/proc/{}", helper.as_raw_nonzero());
    // Without this a normal user may not write the map of groups (CVE-2014-8989).
    fs::write(format!("{folder}/setgroups"), "deny")?;
    fs::write(format!("{folder}/uid_map"), format!("{INSIDE_ID} {uid} 1\n"))?;
    fs::write(format!("{folder}/gid_map"), format!("{INSIDE_ID} {gid} 1\n"))
}

/// The options that the container around this program needs, as an instruction.
pub(crate) fn container_needs() -> String {
    "start the container around this with `--security-opt seccomp=unconfined --security-opt unmask=ALL` (podman), \
     `--security-opt seccomp=unconfined --security-opt systempaths=unconfined` (docker), or with seccompProfile Unconfined \
     and procMount Unmasked (Kubernetes)"
        .to_owned()
}

/// Whether a system call filter applies to this process, as in containers.
pub(crate) fn is_filtered() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"]))
}

/// Checks that `/proc` shows this process by its own number. The error says what `/proc` is instead.
pub(crate) fn check_proc() -> Result<(), &'static str> {
    match fs::read_link("/proc/self") {
        Err(_) => Err("there is none here"),
        Ok(number) if number.to_str() == Some(&std::process::id().to_string()) => Ok(()),
        Ok(_) => Err("the one here shows those of another namespace"),
    }
}

/// The setting that forbids namespaces here, as an instruction. Call it after a refusal.
pub(crate) fn what_to_enable() -> String {
    let value = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    if !Path::new("/proc/self/ns/user").exists() {
        return "use a kernel with CONFIG_USER_NS".to_owned();
    }
    for kind in ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup"] {
        if value(&format!("/proc/sys/user/max_{kind}_namespaces")) == "0" {
            return format!("set the sysctl user.max_{kind}_namespaces above 0");
        }
    }
    if !geteuid().is_root() {
        if value("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
            return "set the sysctl kernel.unprivileged_userns_clone to 1".to_owned();
        }
        if value("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
            return "give this program an AppArmor profile with `userns,` or set the sysctl \
                    kernel.apparmor_restrict_unprivileged_userns to 0"
                .to_owned();
        }
    }
    if is_filtered() {
        return container_needs();
    }
    "leave the chroot or container that forbids them".to_owned()
}

#[cfg(test)]
mod tests {
    use super::{BUILD_ID, pick_id};

    #[test]
    fn the_build_id_is_taken_where_it_is_mapped() {
        assert_eq!(pick_id("         0          0 4294967295\n"), Some(BUILD_ID));
    }

    #[test]
    fn a_container_with_few_ids_gives_its_highest_that_is_not_nobody() {
        assert_eq!(pick_id("0 1000 1\n1 100000 65536\n"), Some(65_536));
        assert_eq!(pick_id("0 100000 65536\n"), Some(65_533));
    }

    #[test]
    fn a_container_with_one_id_gives_none() {
        assert_eq!(pick_id("0 1000 1\n"), None);
        assert_eq!(pick_id(""), None);
        assert_eq!(pick_id("what is this\n"), None);
    }
}
