//! A function of the program in place of a command.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use hab_sandbox::{Limit, Outcome};
use support::{World, each_caller};

fn worker(world: World, word: &str) -> World {
    let empty = world.path("empty");
    fs::create_dir(&empty).unwrap();
    world.give_away(&empty);
    world.command(&[word, "two"]).with(|spec| {
        spec.worker = true;
        spec.root = empty;
        spec.binds[0].writable = false;
        spec.limits.file_size = Some(0);
        spec.limits.scratch = 1 << 20;
    })
}

#[test]
fn a_worker_sees_what_a_command_sees_and_holds_nothing_of_process_1() {
    let orders = std::cell::RefCell::new(BTreeSet::new());
    each_caller(|world| {
        let finished = worker(world, "one").run();
        let said = |what: &str| {
            let line = finished.stdout.lines().find_map(|line| line.strip_prefix(what));
            line.unwrap_or_else(|| panic!("{} {}", finished.stdout, finished.stderr)).to_owned()
        };
        assert_eq!(said("words "), r#"["one", "two"]"#);
        // The three standard streams and the list itself.
        assert_eq!(said("descriptors "), "4");
        assert_eq!(said("processes "), "2");
        assert_eq!(said("top "), "build dev etc proc tmp");
        let devices = said("in a thread ");
        assert!(devices.split(' ').count() >= 11, "{devices}");
        orders.borrow_mut().insert(devices);
        let map: Vec<_> = said("uid ").split_whitespace().map(str::to_owned).collect();
        assert_eq!(map, ["1000", "1000", "1"]);
        assert_eq!(finished.report.unwrap().outcome, Outcome::Exited(7));
    });
    assert_eq!(orders.borrow().len(), 1);
}

#[test]
fn a_worker_that_panics_hangs_or_writes_ends_as_a_command_would() {
    each_caller(|world| {
        let finished = worker(world, "panic").run();
        assert_eq!(finished.report.unwrap().outcome, Outcome::Exited(101));
        assert!(finished.stderr.contains("panicked"), "{}", finished.stderr);
    });
    each_caller(|world| {
        let most = Duration::from_millis(300);
        let finished = worker(world, "hang").with(|spec| spec.limits.wall = Some(most)).run();
        assert_eq!(finished.report.unwrap().outcome, Outcome::LimitExceeded(Limit::Wall(most)));
    });
    each_caller(|world| {
        let finished = worker(world, "write").run();
        assert_eq!(finished.report.unwrap().outcome, Outcome::Exited(1));
    });
}
