//! The system call filter. It allows every call except those that a build has no use for and those that past breakouts
//! used. The list follows the default profiles of Docker and systemd-nspawn.

use std::collections::BTreeMap;
use std::io;

use rustix::io::Errno;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// Calls that are refused whatever their arguments are.
const DENIED: &[libc::c_long] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    SYS_OPEN_TREE_ATTR,
    libc::SYS_quotactl,
    SYS_QUOTACTL_FD,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // Namespaces, and handles of files, which ignore namespaces.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // Keys belong to a user, not to a namespace.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Large parts of the kernel that change often.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_fanotify_init,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_syslog,
    // The machine itself.
    libc::SYS_acct,
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
];

/// Calls that fail as in a kernel built without them, because most of them hold memory that belongs to no process and
/// no file system. A control group would count that memory, but a build must not depend on whether its host has one.
const ABSENT: &[libc::c_long] = &[
    libc::SYS_memfd_create,
    SYS_MEMFD_SECRET,
    // System V's segments, queues and semaphores.
    libc::SYS_shmget,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    // A pipe can hold one page of a huge page, and then keeps all of it.
    libc::SYS_vmsplice,
    // The call's flags are in memory, which a filter cannot read; every C library falls back to clone.
    libc::SYS_clone3,
    // The old form of a call that the helper answers; every C library uses the new form.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getdents,
];

/// The command of fcntl(2) that enlarges a pipe. Without it a pipe holds 16 pages.
const F_SETPIPE_SZ: u64 = 1031;

/// The argument of prctl(2) that hides a process, so that its open files cannot be counted.
const NOT_DUMPABLE: u64 = 0;

/// The flag of mmap(2) for huge pages, which nothing counts.
const MAP_HUGETLB: u64 = libc::MAP_HUGETLB.unsigned_abs() as u64;

/// The options of setsockopt(2) for the size of a buffer. A size is a request; if it is ignored, the default stays.
const BUFFER_SIZES: [libc::c_int; 4] =
    [libc::SO_SNDBUF, libc::SO_RCVBUF, libc::SO_SNDBUFFORCE, libc::SO_RCVBUFFORCE];

/// Requests of ioctl(2) that do what fallocate(2) does, linux/falloc.h: RESVSP, UNRESVSP and ZERO_RANGE, the first two
/// in two sizes.
const ALLOCATE: [u64; 5] = [0x4030_5828, 0x4030_582a, 0x4030_5829, 0x4030_582b, 0x4030_5839];

// Call numbers above 423 are the same on every architecture; libc does not name these on all of them.
const SYS_QUOTACTL_FD: libc::c_long = 443;
const SYS_MEMFD_SECRET: libc::c_long = 447;
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;

/// The allowed arguments of personality(2): the default one, and the question which one is set.
const PERSONALITIES: [u64; 2] = [0, 0xffff_ffff];

/// The families of sockets that work without a network around. The others reach rarely used parts of the kernel.
/// Programs that look for interfaces by netlink take the refusal for a kernel without netlink.
const FAMILIES: [libc::c_int; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWCGROUP,
];

/// The filters to load, one for each answer that a refused call gets.
pub(crate) fn filters() -> io::Result<Vec<BpfProgram>> {
    build().map_err(io::Error::other)
}

/// Loads the filters into this process, for it and all its children.
pub(crate) fn load(filters: &[BpfProgram]) -> io::Result<()> {
    filters.iter().try_for_each(|filter| {
        apply_filter(filter).map_err(|error| match error {
            seccompiler::Error::Prctl(source) | seccompiler::Error::Seccomp(source) => source,
            other => io::Error::other(other),
        })
    })
}

fn build() -> Result<Vec<BpfProgram>, BackendError> {
    let mut denied: BTreeMap<i64, Vec<SeccompRule>> = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    let unshared = NAMESPACES.iter().map(|flag| {
        let flag = u64::from(flag.unsigned_abs());
        SeccompRule::new(vec![argument(0, SeccompCmpOp::MaskedEq(flag), flag)?])
    });
    denied.insert(libc::SYS_clone, unshared.collect::<Result<_, _>>()?);
    denied.insert(libc::SYS_personality, vec![none_of(&PERSONALITIES)?]);

    denied.insert(
        libc::SYS_prctl,
        vec![SeccompRule::new(vec![
            is(0, libc::PR_SET_DUMPABLE.unsigned_abs().into())?,
            is(1, NOT_DUMPABLE)?,
        ])?],
    );
    denied.insert(libc::SYS_fcntl, vec![SeccompRule::new(vec![is(1, F_SETPIPE_SZ)?])?]);

    let absent = ABSENT.iter().map(|call| (*call, Vec::new())).collect();
    let allocating = ALLOCATE.iter().map(|request| SeccompRule::new(vec![is(1, *request)?]));
    let allocating = BTreeMap::from([
        // Between two counts, fallocate(2) takes any amount of disk. C libraries write zeros instead.
        (libc::SYS_fallocate, Vec::new()),
        (libc::SYS_ioctl, allocating.collect::<Result<_, _>>()?),
    ]);
    let huge = SeccompRule::new(vec![argument(3, SeccompCmpOp::MaskedEq(MAP_HUGETLB), MAP_HUGETLB)?])?;
    let buffers = BUFFER_SIZES.iter().map(|size| {
        let level = is(1, libc::SOL_SOCKET.unsigned_abs().into())?;
        SeccompRule::new(vec![level, is(2, size.unsigned_abs().into())?])
    });

    let families = FAMILIES.map(|family| u64::from(family.unsigned_abs()));
    let mut programs = vec![
        program(denied, Some(Errno::PERM))?,
        program(absent, Some(Errno::NOSYS))?,
        program(allocating, Some(Errno::OPNOTSUPP))?,
        program(BTreeMap::from([(libc::SYS_mmap, vec![huge])]), Some(Errno::NOMEM))?,
        // These calls do nothing and report success.
        program(BTreeMap::from([(libc::SYS_setsockopt, buffers.collect::<Result<_, _>>()?)]), None)?,
        program(BTreeMap::from([(libc::SYS_socket, vec![none_of(&families)?])]), Some(Errno::AFNOSUPPORT))?,
    ];
    if cfg!(target_arch = "x86_64") {
        programs.push(without_x32());
    }
    Ok(programs)
}

/// Makes a filter. Without an error in `answer`, a matching call does nothing and reports success.
fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    answer: Option<Errno>,
) -> Result<BpfProgram, BackendError> {
    let answer = SeccompAction::Errno(answer.map_or(0, |errno| errno.raw_os_error().unsigned_abs()));
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, answer, arch)?.try_into()
}

fn is(index: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    argument(index, SeccompCmpOp::Eq, value)
}

fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
}

/// Matches when the first argument is none of `values`.
fn none_of(values: &[u64]) -> Result<SeccompRule, BackendError> {
    let conditions = values.iter().map(|value| argument(0, SeccompCmpOp::Ne, *value));
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// Makes the filter that refuses x32. On x86_64 every call has a second number, for programs with 32-bit pointers,
/// under the same architecture value; the other filters would let that one pass (seccomp(2), "Caveats").
fn without_x32() -> BpfProgram {
    const X32_BIT: u32 = 0x4000_0000;
    // The bit pattern of opcodes is in linux/bpf_common.h.
    let (load, jump_ge, answer) = (0x20, 0x35, 0x06);
    let refuse = libc::SECCOMP_RET_ERRNO | Errno::NOSYS.raw_os_error().unsigned_abs();
    let line = |code, jt, jf, k| seccompiler::sock_filter { code, jt, jf, k };
    vec![
        line(load, 0, 0, 0),
        line(jump_ge, 0, 1, X32_BIT),
        line(answer, 0, 0, refuse),
        line(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}
