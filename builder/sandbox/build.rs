//! Compiles `preload/preload.c` into a library for the sandboxes' programs, which `src/preload.rs` includes. The
//! library is for the machine that runs builds, as this program is.

use std::path::Path;
use std::process::exit;

/// The library links without a C library, has no more writable pages than it needs, and does not depend on where it was
/// made.
const FLAGS: &[&str] = &[
    "-shared",
    "-nostdlib",
    "-ffreestanding",
    "-fvisibility=hidden",
    "-fno-stack-protector",
    // A thread that is cancelled while it waits is unwound through this library.
    "-funwind-tables",
    "-fno-builtin",
    "-Wl,--build-id=none,--hash-style=gnu,-soname,hab-preload.so",
    "-Wl,-z,norelro,-z,noseparate-code,-z,noexecstack,-z,initfirst",
    "-s",
];

fn main() {
    let source = "preload/preload.c";
    println!("cargo::rerun-if-changed={source}");
    let mut build = cc::Build::new();
    build.opt_level(2).debug(false).pic(true).warnings(true).extra_warnings(true);
    let library = Path::new(&std::env::var_os("OUT_DIR").unwrap_or_default()).join("preload.so");
    let mut command = build.get_compiler().to_command();
    command.args(FLAGS).arg("-o").arg(library).arg(source);
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => {
            eprintln!("{command:?}: {status}");
            exit(1);
        }
        Err(error) => {
            eprintln!("{command:?}: {error}; a C compiler is needed");
            exit(1);
        }
    }
}
