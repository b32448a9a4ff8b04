//! Why a script failed, where its last lines do not say so.

use std::fmt;

use hab_oci::shown;
use hab_recipe::BuildTable;
use hab_sandbox::Refused;

/// A cause that a run met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A program was not started, because it would compile for this machine's processor.
    Native(Refused),
    /// A write failed, because the disk or a file system in memory was full.
    NoSpace {
        /// The MiB of `/build`: `build.disk_mib`.
        disk_mib: u64,
        /// The MiB of everything else.
        scratch_mib: u64,
    },
    /// A program was killed, as the kernel does when memory runs out.
    Killed {
        /// The MiB of memory: `build.memory_mib`.
        memory_mib: u64,
    },
}

/// A cause that a line of a log names, in the words of the C library, of bash or of GCC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    NoSpace,
    Killed,
}

impl Met {
    pub(crate) fn in_line(line: &str) -> Option<Self> {
        let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
        if has(&["No space left on device", "Disk quota exceeded"]) {
            return Some(Self::NoSpace);
        }
        let memory = ["Cannot allocate memory", "std::bad_alloc", "virtual memory exhausted"];
        let killed = ["Killed signal terminated program", "signal: 9, SIGKILL"];
        let by_shell = line.contains(": line ") && line.contains(" Killed ");
        let by_make = line.starts_with("make") && line.ends_with("] Killed");
        (has(&memory) || has(&killed) || by_shell || by_make).then_some(Self::Killed)
    }

    pub(crate) fn cause(self, limits: &BuildTable) -> Cause {
        match self {
            Self::NoSpace => Cause::NoSpace {
                disk_mib: limits.disk_mib,
                scratch_mib: hab_sandbox::RunLimits::default().scratch >> 20,
            },
            Self::Killed => Cause::Killed { memory_mib: limits.memory_mib },
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native(refused) => write!(
                f,
                "{} was not started with {}, which compiles for the processor of the building machine; name one \
                 that all your machines have, such as -march=x86-64-v2",
                shown(&refused.program),
                shown(&refused.word)
            ),
            Self::NoSpace { disk_mib, scratch_mib } => write!(
                f,
                "a write found no space left: /build has the {disk_mib} MiB of build.disk_mib, and all else \
                 (/tmp, changes to the toolchain) {scratch_mib} MiB"
            ),
            Self::Killed { memory_mib } => write!(
                f,
                "a program was killed or got no more memory: build.memory_mib is {memory_mib}, and this machine may \
                 have had less"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_a_script_is_read_from_its_log() {
        assert_eq!(Met::in_line("cp: error writing '/tmp/x': No space left on device"), Some(Met::NoSpace));
        for line in [
            "g++: fatal error: Killed signal terminated program cc1plus",
            "/build/recipe/build.sh: line 3:    17 Killed                  yes > /dev/null",
            "make: *** [Makefile:3: x] Killed",
            "terminate called after throwing an instance of 'std::bad_alloc'",
        ] {
            assert_eq!(Met::in_line(line), Some(Met::Killed), "{line}");
        }
        assert_eq!(Met::in_line("checking whether Killed is defined... no"), None);
    }
}
