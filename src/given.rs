//! What this process was given by whoever started it, brought to what it needs; or one sentence, where it is too
//! little.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

/// What it takes to run at all: how much, in which unit, and how a shell and a service say it.
const NEEDS: [(Resource, u64, u64, &str, &str, &str); 4] = [
    (Resource::Nofile, 256, 1, "open files", "-n", "NOFILE"),
    (Resource::As, 1 << 30, 1 << 20, "MiB of address space", "-v", "AS"),
    (Resource::Data, 1 << 30, 1 << 20, "MiB of data", "-d", "DATA"),
    (Resource::Stack, 1 << 20, 1 << 10, "KiB of stack", "-s", "STACK"),
];
/// More of these does no harm, so what may be had is taken.
const WANTS: [(Resource, u64); 2] = [(Resource::Nofile, 65_536), (Resource::Stack, 8 << 20)];

/// Sets the mask of modes, raises limits as far as they may be raised, and says which is too low all the same.
pub fn settle() -> Result<(), String> {
    // Nobody but the operator may change what this program writes, and this program may, whatever the shell says that
    // started it.
    let mask = umask(Mode::empty());
    umask((mask | Mode::WGRP | Mode::WOTH) - Mode::RWXU);
    for (resource, wanted) in WANTS.into_iter().chain(NEEDS.map(|(resource, least, ..)| (resource, least))) {
        raise(resource, wanted);
    }
    // A write beyond the limit is an error then, with a sentence, and not the end of the process.
    raise(Resource::Fsize, u64::MAX);
    if getrlimit(Resource::Fsize).maximum.is_some() {
        let told =
            signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::new(AtomicBool::new(false)));
        told.map_err(|error: io::Error| format!("cannot set what happens at a signal: {error}"))?;
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

/// Raises the soft limit to `wanted` or to the hard one, if it is lower.
fn raise(resource: Resource, wanted: u64) {
    let limit = getrlimit(resource);
    let wanted = wanted.min(limit.maximum.unwrap_or(u64::MAX));
    if limit.current.is_some_and(|current| current < wanted) {
        let current = (wanted < u64::MAX).then_some(wanted);
        // What cannot be raised is looked at afterwards.
        let _ = setrlimit(resource, Rlimit { current, maximum: limit.maximum });
    }
}
