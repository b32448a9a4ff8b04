//! What a command sees of files, and what stays of what it writes.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use hab_sandbox::{Bind, Tmpfs, Vary};
use support::{ROOT_TIME, each_caller, each_volume};

#[test]
fn the_root_is_copied_on_write() {
    each_caller(|world| {
        let root = world.path("root");
        let before = fs::read_dir(root.join("usr/bin")).unwrap().count();
        let seen = world.prints(
            "echo new >/usr/bin/made; echo more >>/usr/bin/env; rm /usr/bin/wc; rm -r /root; \
             cat /usr/bin/made; tail -c 5 /usr/bin/env; test -e /usr/bin/wc -o -e /root || echo gone",
        );
        assert_eq!(seen, "new\nmore\ngone\n");
        assert_eq!(fs::read_dir(root.join("usr/bin")).unwrap().count(), before);
        assert!(
            !root.join("etc/passwd").exists() && !root.join("build").exists() && !root.join("proc").exists()
        );
    });
}

#[test]
fn a_read_only_bind_cannot_be_written_and_a_writable_one_can() {
    each_caller(|world| {
        let inputs = world.path("inputs");
        fs::create_dir(&inputs).unwrap();
        fs::write(inputs.join("file"), "given\n").unwrap();
        world.give_away(&inputs);
        let work = world.path("work");
        let uid = world.uid();
        let world = world.with(|spec| {
            spec.binds.push(Bind { host: inputs.join("file"), inside: "/etc/one".into(), writable: false });
            spec.binds.push(Bind { host: inputs.clone(), inside: "/build/inputs".into(), writable: false });
        });
        let seen = world.prints(
            "cat /build/inputs/file /etc/one; for f in /build/inputs/file /build/inputs/x /etc/one; do \
             (echo bad >$f) 2>/dev/null && echo WRITTEN; done; chmod 777 /build/inputs 2>/dev/null && echo CHANGED; \
             echo kept >/build/out; mkdir -m 0 /build/closed; true",
        );
        assert_eq!(seen, "given\ngiven\n");
        assert_eq!(fs::read_to_string(work.join("out")).unwrap(), "kept\n");
        assert_eq!(fs::metadata(work.join("out")).unwrap().uid(), uid);
        hab_tree::remove(&work).unwrap();
        assert!(!work.exists());
    });
}

#[test]
fn folders_in_memory_are_as_large_as_the_spec_says() {
    each_caller(|world| {
        let world = world.with(|spec| {
            spec.limits.scratch = 4 << 20;
            spec.tmpfs.push(Tmpfs { inside: "/var/cache/x".into(), size: 8 << 20 });
        });
        let seen = world.prints(
            "for f in /usr/big /tmp/big /dev/shm/big /var/cache/x/big; do \
             dd if=/dev/zero of=$f bs=1M count=6 2>/dev/null; stat -c %s $f; rm -f $f; done",
        );
        let sizes: Vec<u64> = seen.lines().map(|line| line.parse().unwrap()).collect();
        assert!(sizes[..3].iter().all(|size| *size < 5 << 20), "{sizes:?}");
        assert_eq!(sizes[3], 6 << 20);
    });
}

#[test]
fn no_file_has_a_time_that_the_root_does_not_have() {
    each_caller(|world| {
        let world = world.with(|spec| {
            spec.binds.push(Bind {
                host: spec.binds[0].host.clone(),
                inside: "/deep/down/below".into(),
                writable: false,
            });
        });
        let seen = world.prints(
            "find / \\( -path /proc -o -path /dev -o -path /tmp -o -path /build -o -path /deep/down/below \\) -prune \
             -o -printf '%T@ %p\\n'",
        );
        let strange: Vec<_> =
            seen.lines().filter(|line| !line.starts_with(&format!("{ROOT_TIME}."))).collect();
        assert!(strange.is_empty(), "{strange:?}");
        for path in ["/", "/etc", "/etc/passwd", "/deep/down", "/usr/bin/sh"] {
            assert!(seen.lines().any(|line| line.ends_with(&format!(" {path}"))), "{path} {seen}");
        }
    });
}

#[test]
fn a_link_in_the_root_leads_no_mount_onto_the_host() {
    each_caller(|world| {
        let elsewhere = world.path("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, world.path("root/trap")).unwrap();
        symlink("/../../../../../../..", world.path("root/up")).unwrap();
        for path in ["root", "elsewhere"] {
            world.give_away(&world.path(path));
        }
        let work = world.path("work");
        let world = world.with(|spec| {
            spec.binds.push(Bind { host: work.clone(), inside: "/trap/folder".into(), writable: true });
        });
        let world = world.script("true");
        assert_eq!(world.run().status, 125);
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);

        let mut world = world.script("ls -d /etc/hosts /up/etc/hosts /inside; echo here >/inside/made");
        world.spec.binds[1].inside = "/up/inside".into();
        let finished = world.run();
        assert_eq!(finished.stdout, "/etc/hosts\n/inside\n/up/etc/hosts\n", "{}", finished.stderr);
        assert!(work.join("made").exists());
    });
}

#[test]
fn devices_are_the_harmless_ones() {
    each_caller(|world| {
        let seen = world.prints(
            "ls /dev; echo x >/dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; \
             (echo x >/dev/full) 2>/dev/null || echo full; (: </dev/tty) 2>/dev/null || echo no terminal; \
             wc -c </proc/cmdline",
        );
        let expected = "fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n3\n3\nfull\nno terminal\n0\n";
        assert_eq!(seen, expected);
    });
}

#[test]
fn file_systems_are_made_up_and_others_in_the_other_run() {
    let script = "for path in / /build . /usr/bin/../lib /tmp /dev/shm; do stat -f -c '%n %T %s %b %f %a %c %d %l' \
         $path; done; stat -f /nothing 2>&1; cd /build; stat -f -c %T /proc; stat -f -c %T ../lib";
    let seen = RefCell::new(BTreeSet::new());
    each_volume(|world, volume| {
        // What the host has, and the view does not.
        let beside = world.path("spec.json").display().to_string();
        let script = format!("{script}; stat -f {beside} 2>&1 | grep -c 'No such file'");
        let world = world.script(&script).with(|spec| spec.limits.disk = Some(64 << 20));
        let finished = world.run_with(&["--volume", volume]);
        assert_eq!(finished.status, 0, "{} {}", finished.stdout, finished.stderr);
        seen.borrow_mut().insert(finished.stdout);
    });
    let seen = seen.into_inner();
    assert_eq!(seen.len(), 1, "{seen:?}");
    let text = seen.first().unwrap();
    assert_eq!(text.matches(" ext2/ext3 4096 16384 14336 14336 ").count(), 4, "{text}");
    assert_eq!(text.matches(" tmpfs 4096 262144 ").count(), 2, "{text}");
    assert!(text.contains("No such file") && text.ends_with("proc\next2/ext3\n1\n"), "{text}");
    each_caller(|world| {
        let kind = |varied: &[Vary]| world.prints_varied(varied.iter().copied(), "stat -f -c %T /build");
        assert_eq!((kind(&[]), kind(&[Vary::Disk])), ("ext2/ext3\n".to_owned(), "xfs\n".to_owned()));
    });
}
