//! The library that goes before a program's own: the date, and what files are said to be.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use hab_sandbox::{Varied, Vary};
use support::{World, each_caller};

/// By how many seconds the clock is ahead where it is.
const AHEAD: &str = "34603997";

/// The time outside.
fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_secs().to_string()
}

fn preload(world: &mut World, varied: impl IntoIterator<Item = Vary>) {
    world.spec.preload = true;
    world.spec.varied = Varied::from_iter(varied);
}

#[test]
fn every_way_to_ask_for_the_time_and_to_wait_for_one_goes_by_the_same_clock() {
    each_caller(|world| {
        let mut world = world.with_dynamic_program("clocks");
        for (varied, ahead) in [(vec![], "0"), (Vary::ALL.into(), AHEAD)] {
            preload(&mut world, varied);
            world = world.command(&["/usr/bin/clocks", ahead, &now()]);
            let finished = world.run();
            assert_eq!(
                (finished.status, finished.stdout.as_str()),
                (0, "right\n"),
                "{ahead} {}",
                finished.stderr
            );
            assert!(finished.report.unwrap().preloaded);
        }
    });
}

#[test]
fn it_is_ready_before_the_constructors_of_other_libraries() {
    each_caller(|world| {
        let mut world = world.with_dynamic_program("clocks").with_library("early");
        preload(&mut world, Vary::ALL);
        let seen = world.prints("/usr/bin/early");
        assert_eq!(seen, "early: timed out, locked\n");
    });
}

#[test]
fn without_it_the_clock_is_the_machines() {
    each_caller(|world| {
        let world = world.with_dynamic_program("clocks").command(&["/usr/bin/clocks", AHEAD, &now()]);
        let finished = world.with(|spec| spec.varied = Varied::all()).run();
        assert_eq!(finished.status, 1);
        assert!(finished.stdout.contains("clock_gettime: "), "{}", finished.stdout);
        assert!(!finished.report.unwrap().preloaded);
    });
}

#[test]
fn the_library_and_its_list_can_be_neither_changed_nor_removed_and_are_as_old_as_the_root() {
    each_caller(|mut world| {
        preload(&mut world, []);
        let seen = world.prints(
            "for f in /etc/ld.so.preload /usr/lib/hab-preload.so; do (echo x >$f) 2>/dev/null && echo WRITTEN; \
             rm -f $f 2>/dev/null; test -e $f || echo REMOVED; stat -c %Y $f; done; cat /etc/ld.so.preload",
        );
        let time = support::ROOT_TIME;
        assert_eq!(seen, format!("{time}\n{time}\n/usr/lib/hab-preload.so\n"));
    });
}

#[test]
fn a_roots_own_list_is_read_as_well_and_a_root_without_such_a_loader_gets_nothing() {
    each_caller(|mut world| {
        preload(&mut world, []);
        std::fs::write(world.path("root/etc/ld.so.preload"), "/usr/lib/none.so\n").unwrap();
        world.give_away(&world.path("root/etc"));
        world = world.script("cat /etc/ld.so.preload");
        let finished = world.run();
        assert_eq!(finished.stdout, "/usr/lib/hab-preload.so\n/usr/lib/none.so\n");
        assert!(finished.stderr.contains("/usr/lib/none.so"), "{}", finished.stderr);
        let world = world.with_program("hog");
        for loader in ["lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1"] {
            let _ = std::fs::remove_file(world.path("root").join(loader));
        }
        let finished = world.command(&["/usr/bin/hog"]).run();
        assert!(!finished.report.unwrap().preloaded, "{}", finished.stderr);
    });
}

#[test]
fn names_and_numbers_of_files_agree_between_a_listing_and_a_look() {
    each_caller(|mut world| {
        let script =
            "mkdir -p /build/d; touch /build/d/a /build/d/b; cd /build/d; ls -i1; stat -c '%i %n' a b";
        let seen = [vec![], vec![Vary::Numbers]].map(|varied| {
            preload(&mut world, varied);
            let mut lines: Vec<_> = world.prints(script).lines().map(|line| line.trim().to_owned()).collect();
            lines.sort();
            assert!(lines.len() == 4 && lines[0] == lines[1] && lines[2] == lines[3], "{lines:?}");
            lines
        });
        assert_ne!(seen[0], seen[1]);
    });
}

#[test]
fn a_program_that_is_called_with_a_refused_word_is_not_started_and_is_named() {
    each_caller(|world| {
        let world = world.with(|spec| spec.refused = vec!["-march=native".to_owned()]);
        let pipe = world.path("work/p");
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        world.give_away(&pipe);
        let script = "echo -march=native; grep -e -march=native /dev/null; \
                      /usr/bin/true -march=native || echo \"no: $?\"; \
                      printf ' -O2\\n-march=native' >/tmp/f; env cat @/tmp/f 2>/dev/null || echo \"no: $?\"; \
                      /usr/bin/true -march=natives x=-march=native && echo yes; \
                      exec 7</usr/bin/true; /proc/self/fd/7 -march=native || echo \"no: $?\"; \
                      (echo piped >/build/p) & perl -e 'open(F, substr($ARGV[0], 1)); print <F>' @/build/p";
        let finished = world.script(script).run();
        assert_eq!(
            finished.stdout, "-march=native\nno: 126\nno: 126\nyes\nno: 126\npiped\n",
            "{}",
            finished.stderr
        );
        let refused = finished.report.unwrap().refused;
        let programs: Vec<_> = refused.iter().map(|refused| refused.program.as_str()).collect();
        assert_eq!(programs, ["/usr/bin/true", "/usr/bin/cat", "/proc/self/fd/7"]);
        assert!(refused.iter().all(|refused| refused.word == "-march=native"));
        assert!(finished.stderr.contains("hab-sandbox: not started: /usr/bin/true -march=native"));
    });
}
