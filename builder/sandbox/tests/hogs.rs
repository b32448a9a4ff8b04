//! Ways to take memory or disk that are easily overlooked: each is refused, or stopped within the limit and a slack.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hab_sandbox::{DiskLimiter, Limit, MemoryLimiter, Outcome};
use support::{Caller, Finished, World, each_caller, each_volume};

const MEMORY: u64 = 100 << 20;
const DISK: u64 = 64 << 20;

/// One hog runs at a time: what one takes of a disk can be taken for another's, where limits are counted.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs the hog, which wants three times what it may have and then stays for twenty seconds.
fn hog(world: World, words: &str, options: &[&str]) -> Finished {
    let words: Vec<_> = ["/usr/bin/hog"].into_iter().chain(words.split(' ')).collect();
    let world = world.with_program("hog").command(&words).with(|spec| {
        spec.limits.memory = Some(MEMORY);
        spec.limits.disk = Some(DISK);
        spec.limits.processes = Some(500);
    });
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let begun = Instant::now();
    let finished = world.run_with(options);
    assert!(begun.elapsed() < Duration::from_secs(20), "too late: {}", finished.stdout);
    finished
}

fn refused(kind: &str, with: &str) {
    each_caller(|world| {
        let finished = hog(world, kind, &[]);
        assert_eq!((finished.status, finished.stdout.trim()), (3, with), "{}", finished.stderr);
    });
}

fn stopped_by_memory(words: &str) {
    each_caller(|world| {
        let caller = world.caller;
        let finished = hog(world, words, &[]);
        let report =
            finished.report.unwrap_or_else(|| panic!("{caller:?} {} {}", finished.stdout, finished.stderr));
        let expected = Outcome::LimitExceeded(Limit::Memory(MEMORY));
        assert_eq!(report.outcome, expected, "{caller:?} {report:?} {}", finished.stdout);
        assert!(finished.stderr.contains("killed by its memory limit"), "{}", finished.stderr);
    });
}

/// The kernel keeps a file system's size; counting sees it within a moment.
fn stopped_by_disk(words: &str, files: bool) {
    each_volume(|world, volume| {
        let caller = world.caller;
        let finished = hog(world, words, &["--volume", volume]);
        let report =
            finished.report.unwrap_or_else(|| panic!("{caller:?} {} {}", finished.stdout, finished.stderr));
        let told = format!("{caller:?} {volume} {report:?} {}", finished.stdout);
        match report.outcome {
            Outcome::LimitExceeded(Limit::Files(_)) if files => {}
            // What the kernel keeps of each file counts as the group's memory; made fast enough, that comes first.
            Outcome::LimitExceeded(Limit::Memory(MEMORY)) if files && volume == "counted" => {}
            Outcome::LimitExceeded(Limit::Disk(DISK)) if !files => {}
            // So fast that the kernel said no before a sample did, and what had no name was gone with its maker.
            Outcome::Exited(3) if volume != "counted" && told.contains("No space left on device") => {}
            _ => panic!("{told}"),
        }
        let limiter = match volume {
            "image" => DiskLimiter::Image,
            "memory" => DiskLimiter::Memory,
            _ => DiskLimiter::Counted,
        };
        assert_eq!(report.disk_limiter, Some(limiter), "{told}");
        // It says how much it holds only when it got all it wanted.
        assert!(limiter == DiskLimiter::Counted || !finished.stdout.contains("holds"), "{told}");
    });
}

#[test]
fn memory_files_are_refused() {
    refused("memfd 300", "memfd_create: Function not implemented");
}

#[test]
fn system_v_memory_is_refused() {
    refused("sysv 300", "shmget: Function not implemented");
}

#[test]
fn message_queues_are_refused() {
    refused("mqueue", "mq_open: Function not implemented");
}

#[test]
fn pages_given_to_a_pipe_are_refused() {
    refused("gift", "vmsplice: Function not implemented");
}

#[test]
fn huge_pages_are_refused() {
    refused("huge", "mmap: Cannot allocate memory");
}

#[test]
fn hiding_from_the_supervisor_is_refused() {
    refused("hiding", "prctl: Operation not permitted");
}

#[test]
fn allocating_disk_without_writing_is_refused() {
    refused("allocated 300", "fallocate: Operation not supported");
}

#[test]
fn full_sockets_are_stopped_by_the_memory_limit() {
    stopped_by_memory("sockets 300");
}

#[test]
fn full_sockets_that_nobody_has_open_are_stopped_by_the_memory_limit() {
    stopped_by_memory("flying 300");
}

#[test]
fn full_pipes_are_stopped_by_the_memory_limit_and_none_is_larger_than_usual() {
    stopped_by_memory("pipes 300");
    each_caller(|world| {
        assert!(!hog(world, "pipes 1 0", &[]).stdout.contains("larger"));
    });
}

#[test]
fn page_tables_are_stopped_by_the_memory_limit() {
    stopped_by_memory("tables 300");
}

#[test]
fn unlinked_open_files_are_stopped_by_the_disk_limit() {
    stopped_by_disk("unlinked 200", false);
}

#[test]
fn unlinked_mapped_files_are_stopped_by_the_disk_limit() {
    stopped_by_disk("mapped 200", false);
}

#[test]
fn files_below_the_longest_path_are_stopped_by_the_disk_limit() {
    stopped_by_disk("deep 200", false);
}

#[test]
fn files_in_a_closed_folder_are_stopped_by_the_disk_limit() {
    stopped_by_disk("closed 200", false);
}

#[test]
fn many_empty_files_are_stopped_by_the_limit_of_files() {
    stopped_by_disk("files 400", true);
}

#[test]
fn a_folder_that_is_exchanged_for_a_link_does_not_lead_the_count_onto_the_host() {
    each_volume(|world, volume| {
        let caller = world.caller;
        let finished = hog(world, "swap", &["--volume", volume]);
        // The host holds more than the limit and would be counted.
        assert_eq!(finished.status, 0, "{caller:?} {volume} {} {}", finished.stdout, finished.stderr);
    });
}

#[test]
fn the_report_says_what_kept_the_limits() {
    let world = World::new(Caller::Itself).with(|spec| spec.limits.memory = Some(MEMORY)).script("true");
    let report = world.run().report.unwrap();
    assert!(report.memory_limiter.is_some() && report.disk_limiter.is_none());
    if std::fs::create_dir("/sys/fs/cgroup/memory/hab-test").is_ok() {
        std::fs::remove_dir("/sys/fs/cgroup/memory/hab-test").unwrap();
        assert_eq!(report.memory_limiter, Some(MemoryLimiter::Cgroup1));
    }
}
