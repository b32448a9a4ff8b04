//! What a command prints and how it ends arrive whole.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use hab_sandbox::Outcome;
use support::each_caller;

#[test]
fn both_streams_arrive_complete() {
    each_caller(|world| {
        let finished = world.script("seq 1 400000 & seq 1 300000 >&2; wait").run();
        let expected = |last: u32| (1..=last).map(|n| n.to_string() + "\n").collect::<String>();
        assert!(finished.stdout == expected(400_000), "{} bytes", finished.stdout.len());
        assert!(finished.stderr == expected(300_000), "{} bytes", finished.stderr.len());
    });
}

#[test]
fn output_right_before_the_end_is_not_lost() {
    each_caller(|world| {
        let world =
            world.script("(sleep 5 &); head -c 60000 /dev/zero; head -c 60000 /dev/zero >&2; kill -9 $$");
        let finished = world.run();
        assert_eq!(finished.stdout.len(), 60_000);
        assert!(finished.stderr.len() >= 60_000);
    });
}

#[test]
fn the_exit_status_is_reported() {
    each_caller(|world| {
        let finished = world.script("exit 42").run();
        assert_eq!((finished.status, finished.report.unwrap().outcome), (42, Outcome::Exited(42)));
    });
}

#[test]
fn the_signal_that_ended_the_command_is_reported() {
    each_caller(|world| {
        let finished = world.script("kill -TERM $$").run();
        assert_eq!((finished.status, finished.report.unwrap().outcome), (128 + 15, Outcome::Signaled(15)));
        assert!(finished.stderr.contains("the command was ended by signal 15"), "{}", finished.stderr);
    });
}

#[test]
fn a_command_without_a_shell_gets_its_words_as_they_are() {
    each_caller(|world| {
        let finished =
            world.command(&["perl", "-e", "print \"<$_>\" for @ARGV", "a b", "", "$HOME", "*"]).run();
        assert_eq!(finished.stdout, "<a b><><$HOME><*>");
    });
}

#[test]
fn the_streams_can_be_opened_by_name() {
    each_caller(|world| {
        let finished =
            world.script("echo one >/dev/stdout; echo two >/dev/stderr; echo three >>/proc/self/fd/2").run();
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("one\n", "two\nthree\n"));
    });
}
