//! The limits and the umask that this process inherited, raised to what it needs; or one sentence about a limit that is
//! too low.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

/// The least that the program needs to run: resource, amount, unit, words, the option of `ulimit`, and the name in
/// systemd.
const NEEDS: [(Resource, u64, u64, &str, &str, &str); 4] = [
    (Resource::Nofile, 256, 1, "open files", "-n", "NOFILE"),
    (Resource::As, 1 << 30, 1 << 20, "MiB of address space", "-v", "AS"),
    (Resource::Data, 1 << 30, 1 << 20, "MiB of data", "-d", "DATA"),
    (Resource::Stack, 1 << 20, 1 << 10, "KiB of stack", "-s", "STACK"),
];
/// Limits that are raised as far as allowed, because more does no harm.
const WANTS: [(Resource, u64); 2] = [(Resource::Nofile, 65_536), (Resource::Stack, 8 << 20)];

/// Sets the umask, raises limits as far as allowed, and returns a sentence about one that is still too low.
pub fn prepare() -> Result<(), String> {
    // Nobody but the operator may change what this program writes, but the program itself may, whatever umask its shell
    // has.
    let mask = umask(Mode::empty());
    umask((mask | Mode::WGRP | Mode::WOTH) - Mode::RWXU);
    for (resource, wanted) in WANTS.into_iter().chain(NEEDS.map(|(resource, least, ..)| (resource, least))) {
        raise(resource, wanted);
    }
    // Then a write beyond the limit is an error with a sentence, and does not end the process.
    raise(Resource::Fsize, u64::MAX);
    if getrlimit(Resource::Fsize).maximum.is_some() {
        let told =
            signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::new(AtomicBool::new(false)));
        told.map_err(|error: io::Error| format!("cannot handle the signal SIGXFSZ: {error}"))?;
    }
    for (resource, least, unit, what, option, directive) in NEEDS {
        if let Some(current) = getrlimit(resource).current.filter(|current| *current < least) {
            let (current, least) = (current / unit, least / unit);
            return Err(format!(
                "this process may have {current} {what}, and needs {least}; raise `ulimit {option}`, or Limit{directive}= \
                 of the service, where it is started"
            ));
        }
    }
    Ok(())
}

/// Raises a lower soft limit to `wanted`, or as far as the hard limit allows.
fn raise(resource: Resource, wanted: u64) {
    let limit = getrlimit(resource);
    let wanted = wanted.min(limit.maximum.unwrap_or(u64::MAX));
    if limit.current.is_some_and(|current| current < wanted) {
        let current = (wanted < u64::MAX).then_some(wanted);
        // Whether the limit could be raised is checked afterwards.
        let _ = setrlimit(resource, Rlimit { current, maximum: limit.maximum });
    }
}
