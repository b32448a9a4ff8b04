//! What cannot be run is refused with a sentence that says why.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use hab_sandbox::{Bind, Fault, Launcher, SandboxError, Spec, Tmpfs, run};
use support::{Caller, World, chown_one, each_caller};

fn refused(world: &World) -> String {
    let finished = world.run();
    assert_eq!(finished.status, 125, "{}", finished.stdout);
    finished.stderr.trim_start_matches("hab-sandbox: ").trim_end().to_owned()
}

#[test]
fn a_command_that_does_not_exist_is_named() {
    each_caller(|world| {
        let world = world.command(&["no-such-program", "x"]);
        assert_eq!(
            refused(&world),
            "cannot run `no-such-program` in the sandbox: No such file or directory (os error 2)"
        );
        let world = world.command(&["/etc/hosts"]);
        assert_eq!(
            refused(&world),
            "cannot run `/etc/hosts` in the sandbox: Permission denied (os error 13)"
        );
    });
}

#[test]
fn a_root_bind_or_working_folder_that_does_not_exist_is_named() {
    each_caller(|world| {
        let missing = world.path("missing");
        let told = format!(
            "cannot show {} in the sandbox: No such file or directory (os error 2)",
            missing.display()
        );
        let root = world.spec.root.clone();
        let world = world.with(|spec| spec.root.clone_from(&missing));
        assert_eq!(refused(&world), told);
        let world = world.with(|spec| {
            spec.root = root;
            spec.binds.push(Bind { host: missing, inside: "/x".into(), writable: false });
        });
        assert_eq!(refused(&world), told);
        let world = world.with(|spec| {
            spec.binds.pop();
            spec.cwd = "/nowhere".into();
        });
        let told = "the working folder /nowhere cannot be entered in the sandbox: No such file or directory (os error 2)";
        assert_eq!(refused(&world), told);
    });
}

#[test]
fn a_root_that_belongs_to_another_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return hab_skip::skip(hab_skip::Lack::Root, "only root can give files away");
    }
    each_caller(|world| {
        chown_one(&world.path("root/etc"), 4242);
        let told = refused(&world);
        let uid = world.uid();
        let expected = format!(
            "cannot prepare /etc/passwd in the sandbox: everything under the root and the writable binds must belong to \
             uid {uid} and gid {uid}: "
        );
        assert!(told.starts_with(&expected), "{told}");
    });
}

#[test]
fn where_user_namespaces_are_off_it_says_what_to_enable() {
    each_caller(|world| {
        let program = world.program(&[]);
        // The switch is one of the user namespace it is read in, so this one can be turned off for a test.
        let script = "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$@\"";
        let mut outer = Command::new("unshare");
        outer.args(["--user", "--map-root-user", "sh", "-c", script, "sh"]).arg(program.get_program());
        outer.args(program.get_args()).stdin(Stdio::null());
        if world.caller == Caller::Normal {
            use std::os::unix::process::CommandExt;
            outer.uid(world.uid()).gid(world.uid());
        }
        let finished = world.finish(&outer.output().unwrap());
        let told = "the sandbox needs user namespaces, which are refused here; to allow them, \
                    set the sysctl user.max_user_namespaces above 0";
        assert!(finished.stderr.contains(told), "{}", finished.stderr);
    });
}

#[test]
fn a_root_user_of_a_container_with_a_single_id_can_run_it() {
    if !rustix::process::geteuid().is_root() {
        return hab_skip::skip(hab_skip::Lack::Root, "only root can become another user");
    }
    let world = World::new(Caller::Normal).script("id -u; cat /proc/self/uid_map");
    let program = world.program(&[]);
    let mut outer = Command::new("unshare");
    outer.args(["--user", "--map-root-user"]).arg(program.get_program()).args(program.get_args());
    {
        use std::os::unix::process::CommandExt;
        outer.uid(world.uid()).gid(world.uid());
    }
    let finished = world.finish(&outer.output().unwrap());
    assert_eq!(finished.stdout.lines().next(), Some("1000"), "{}", finished.stderr);
}

#[test]
fn a_proc_that_is_not_of_this_namespace_or_hidden_in_part_is_named_with_what_to_do() {
    let world = World::new(Caller::Itself);
    let inner = world.program(&[]);
    let within = |outside: &[&str], before: &str| {
        let mut outer = Command::new("unshare");
        outer.args(outside).args(["bash", "-c", &format!("{before} \"$0\" \"$@\"")]);
        let finished = world.finish(&outer.arg(inner.get_program()).args(inner.get_args()).output().unwrap());
        assert_eq!(finished.status, 125, "{}", finished.stdout);
        finished.stderr
    };
    let said = within(&["--user", "--map-root-user", "--pid", "--fork"], "");
    assert!(
        said.contains("the one here shows those of another namespace; mount it: `mount -t proc proc /proc`"),
        "{said}"
    );
    // As a container hides what is in it.
    let hide = "mount -t tmpfs tmpfs /proc/irq &&";
    let said = within(&["--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc"], hide);
    for word in ["a fresh /proc", "seccomp=unconfined", "unmask=ALL", "systempaths=unconfined", "procMount"] {
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn a_program_that_is_no_helper_is_told_of() {
    let world = World::new(Caller::Itself);
    let with = |program: &str| {
        run(&Launcher::at(program), &world.spec, &mut |_, _| {}, &AtomicBool::new(false)).unwrap_err()
    };
    assert!(matches!(with("/bin/true"), SandboxError::Lost { .. }));
    assert!(with("/bin/true").to_string().contains("init_if_requested"));
    assert!(matches!(with("/no/such/program"), SandboxError::Launch { .. }));
}

#[test]
fn a_spec_that_cannot_be_meant_is_refused_before_anything_runs() {
    let refused = |change: fn(&mut Spec)| {
        let mut spec = Spec::new("/nonexistent", ["true"]);
        change(&mut spec);
        let launcher = Launcher::at("/no/such/program");
        let error = run(&launcher, &spec, &mut |_, _| {}, &AtomicBool::new(false)).unwrap_err();
        assert_eq!(error.fault(), Fault::Input, "{error}");
        error.to_string()
    };
    assert_eq!(refused(|spec| spec.command.clear()), "sandbox spec: `command` names no program");
    assert_eq!(refused(|spec| spec.umask = 0o1000), "sandbox spec: `umask` 1000 is more than 777");
    assert!(
        refused(|spec| spec.root = "relative".into()).contains("`root` relative is not an absolute path")
    );
    assert!(refused(|spec| spec.cwd = "/a/../b".into()).contains("`cwd`"));
    assert!(refused(|spec| spec.hostname = "a b".into()).contains("`hostname`"));
    assert!(refused(|spec| drop(spec.env.insert("A=B".into(), "c".into()))).contains("`env`"));
    assert!(refused(|spec| spec.limits.scratch = 0).contains("`scratch` needs a size"));
    for inside in ["relative", "/", "/proc", "/dev/shm", "/a/../../b"] {
        let mut spec = Spec::new("/nonexistent", ["true"]);
        spec.binds.push(Bind { host: "/x".into(), inside: inside.into(), writable: false });
        let error = run(&Launcher::default(), &spec, &mut |_, _| {}, &AtomicBool::new(false)).unwrap_err();
        assert!(matches!(error, SandboxError::Invalid { field: "binds", .. }), "{inside} {error}");
    }
    assert!(
        refused(|spec| {
            spec.binds.push(Bind { host: "/x".into(), inside: "/y".into(), writable: false });
            spec.tmpfs.push(Tmpfs { inside: "/y".into(), size: 1 });
        })
        .contains("/y is listed twice")
    );
    assert!(
        serde_json::from_str::<Spec>(r#"{"root": "/", "command": ["true"], "colour": 1}"#)
            .unwrap_err()
            .to_string()
            .contains("unknown field `colour`")
    );
}

#[test]
fn a_spec_that_is_too_large_for_a_message_is_refused() {
    let world = World::new(Caller::Itself).with(|spec| {
        spec.env.insert("LARGE".to_owned(), "x".repeat(200_000));
    });
    assert!(refused(&world).contains("are too large"));
}

#[test]
fn a_work_folder_in_another_users_private_folder_works_for_root_alone() {
    each_caller(|world| {
        let private = world.path("private");
        fs::create_dir(&private).unwrap();
        fs::rename(world.path("work"), private.join("work")).unwrap();
        chown_one(&private, 4242);
        fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let world = world.with(|spec| spec.binds[0].host = private.join("work")).script("echo x >/build/x");
        if rustix::process::geteuid().is_root() && world.caller == Caller::Itself {
            assert_eq!(world.run().status, 0);
        } else if world.caller == Caller::Normal {
            assert!(refused(&world).contains("Permission denied"));
        }
    });
}
