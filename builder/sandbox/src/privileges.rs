//! The privileges that process 1 gives up, and the settings that it fixes, before the command starts.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setpriority_process, setrlimit,
};
use rustix::system::{setdomainname, sethostname};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits, set_name,
    set_no_new_privs,
};

use crate::namespaces::INSIDE_ID;
use crate::spec::RunLimits;
use crate::sys;

/// The stack's limits: soft, the kernel's default on every distribution; hard, the size to which GCC raises its own.
const STACK: (u64, u64) = (8 << 20, 64 << 20);

/// Limits that the command would otherwise inherit from the caller, and could read. Each limit that does not bound what
/// a build uses is the kernel's default, or none.
const PLAIN: [(Resource, u64); 11] = [
    (Resource::Cpu, u64::MAX),
    (Resource::Data, u64::MAX),
    (Resource::As, u64::MAX),
    (Resource::Rss, u64::MAX),
    (Resource::Locks, u64::MAX),
    (Resource::Rttime, u64::MAX),
    (Resource::Memlock, 8 << 20),
    (Resource::Sigpending, 4096),
    (Resource::Msgqueue, 819_200),
    (Resource::Nice, 0),
    (Resource::Rtprio, 0),
];

/// Sets the limits that the kernel enforces.
pub(crate) fn set_limits(limits: &RunLimits) -> io::Result<()> {
    for (resource, value) in PLAIN {
        set(resource, value, value)?;
    }
    // 1 and not 0: with 0 the kernel still starts the host's core dump handler, as root, outside (core(5)).
    set(Resource::Core, 1, 1)?;
    set(Resource::Stack, STACK.0, STACK.1)?;
    set(Resource::Nofile, limits.open_files, limits.open_files)?;
    if let Some(size) = limits.file_size {
        set(Resource::Fsize, size, size)?;
    }
    if let Some(ceiling) = limits.kernel_processes() {
        // The kernel counts the processes of this user namespace alone (Linux 5.14).
        set(Resource::Nproc, ceiling, ceiling)?;
    }
    Ok(())
}

/// Sets a limit, but not above the one that this process inherited, because the kernel refuses that.
fn set(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit { current: Some(soft.min(most)), maximum: Some(hard.min(most)) };
    Ok(setrlimit(resource, limit)?)
}

/// Sets the host's and the domain's name, which are the same everywhere.
pub(crate) fn name_host(hostname: &str) -> io::Result<()> {
    sethostname(hostname.as_bytes())?;
    setdomainname(b"(none)")?;
    // `ps` shows this name for process 1, and not that of the calling program.
    Ok(set_name(c"init")?)
}

/// Enters a user namespace below the one that owns the view, which maps the build user to itself. So a process cannot
/// read in `/proc/self/uid_map` which user it is outside.
pub(crate) fn forget_outside() -> io::Result<()> {
    sys::unshare(UnshareFlags::NEWUSER)?;
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/self/{map}"), format!("{INSIDE_ID} {INSIDE_ID} 1\n"))?;
    }
    Ok(())
}

/// Sets the lowest priority, the only one that every caller may set. Everything else on the machine goes first.
pub(crate) fn be_last() -> io::Result<()> {
    Ok(setpriority_process(None, 19)?)
}

/// Drops every capability from every set, for good.
pub(crate) fn drop_all() -> io::Result<()> {
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // This bit is beyond the last capability that the kernel knows.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    clear_ambient_capability_set()?;
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    set_capabilities_secure_bits(bits)?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    set_no_new_privs(true)?;
    // The command has the same user as process 1, which is a program of the host: it must not be able to
    // read its memory, its descriptors or its executable through /proc.
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
