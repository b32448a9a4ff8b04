//! Properties that people who run images expect, above all with Kubernetes.

use std::collections::BTreeMap;
use std::io::Read as _;

use crate::harness::{GOOD, Serving, World};
use serde_json::{Value, json};

struct File {
    kind: tar::EntryType,
    mode: u32,
    owner: (u64, u64),
    target: String,
    content: Vec<u8>,
}

struct Image {
    config: Value,
    files: BTreeMap<String, File>,
}

fn image(world: &World) -> Image {
    world.build("data", "hello").good();
    let serving = Serving::start(world);
    let document = |path: &str| -> Value { serde_json::from_slice(&serving.get(path).1).unwrap() };
    let index = document("/v2/test/hello/manifests/1.0-1");
    let manifest =
        document(&format!("/v2/test/hello/manifests/{}", index["manifests"][0]["digest"].as_str().unwrap()));
    let config =
        document(&format!("/v2/test/hello/blobs/{}", manifest["config"]["digest"].as_str().unwrap()));
    let mut files = BTreeMap::new();
    for layer in manifest["layers"].as_array().unwrap() {
        let (status, bytes) =
            serving.get(&format!("/v2/test/hello/blobs/{}", layer["digest"].as_str().unwrap()));
        assert_eq!(status, 200);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().trim_end_matches('/').to_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let header = entry.header();
            let target = entry.link_name().unwrap().map_or(String::new(), |t| t.to_str().unwrap().to_owned());
            let file = File {
                kind: header.entry_type(),
                mode: header.mode().unwrap(),
                owner: (header.uid().unwrap(), header.gid().unwrap()),
                target,
                content,
            };
            files.insert(path, file);
        }
    }
    Image { config, files }
}

#[test]
fn it_is_what_kubernetes_users_expect() {
    let world = World::new();
    world.recipe("hello", GOOD);
    let image_table = "[image]\nports = [\"8333/tcp\"]\nstop_signal = \"SIGINT\"\n";
    world.edit_recipe("hello", "[image]\n", image_table);
    let Image { config, files } = image(&world);
    let settings = &config["config"];
    // Kubernetes' runAsNonRoot demands a numeric user.
    let user = settings["User"].as_str().unwrap();
    let (uid, gid) = user.split_once(':').unwrap();
    assert!(uid.parse::<u32>().unwrap() >= 1000 && gid.parse::<u32>().unwrap() >= 1000, "{user}");
    assert_eq!(settings["Entrypoint"], json!(["/usr/bin/hello"]));
    assert_eq!(settings["StopSignal"], "SIGINT");
    assert_eq!(settings["ExposedPorts"], json!({"8333/tcp": {}}));
    assert_eq!(settings["Volumes"], json!({"/home/hello": {}}));
    assert_eq!(settings["WorkingDir"], "/home/hello");
    let env = settings["Env"].as_array().unwrap();
    assert!(env.contains(&json!("HOME=/home/hello")) && env.contains(&json!("PATH=/usr/bin")), "{env:?}");
    for label in ["version", "revision", "source", "licenses", "title", "description"] {
        let label = format!("org.opencontainers.image.{label}");
        assert!(settings["Labels"][&label].is_string(), "{label}");
    }
    // No shell, and no program that changes the user.
    for shell in ["sh", "bash", "dash", "busybox", "su", "sudo"] {
        assert!(!files.keys().any(|path| path.rsplit('/').next() == Some(shell)), "{shell}");
    }
    assert!(files.values().all(|file| file.mode & 0o6000 == 0));
    let passwd = String::from_utf8(files["etc/passwd"].content.clone()).unwrap();
    assert_eq!(passwd, format!("hello:x:{uid}:{gid}:hello:/home/hello:/nonexistent\n"));
    // The root can be read-only: only volumes, and folders for volumes, are writable.
    let writable: Vec<_> = files
        .iter()
        .filter(|(_, file)| file.owner != (0, 0) || file.mode & 0o022 != 0)
        .filter(|(_, file)| !matches!(file.kind, tar::EntryType::Symlink | tar::EntryType::Link))
        .map(|(path, file)| (path.as_str(), file.mode, file.owner))
        .collect();
    let number = uid.parse().unwrap();
    // Any user with group 0 may write to the home folder: OpenShift assigns such users.
    assert_eq!(writable, [("home/hello", 0o770, (number, 0)), ("tmp", 0o1777, (0, 0))]);
    assert!(!files.keys().any(|path| path.starts_with("tmp/") || path.starts_with("home/hello/")));
}

#[test]
fn what_programs_ask_the_c_library_for_is_there() {
    let world = World::new();
    let files = image(&world).files;
    let text = |path: &str| String::from_utf8(files[path].content.clone()).unwrap();
    assert!(text("etc/services").lines().any(|line| line == "https 443/tcp"));
    assert!(text("etc/nsswitch.conf").lines().any(|line| line == "hosts: files dns"));
    let release = text("usr/lib/os-release");
    for line in ["ID=hab-build", "PRETTY_NAME=\"hab-build on tiny\"", "VARIANT_ID=tiny"] {
        assert!(release.lines().any(|there| there == line), "{release}");
    }
    assert_eq!(files["etc/os-release"].target, "../usr/lib/os-release");
    assert!(text("etc/group").starts_with("hello:x:"));
    assert!(text("etc/ssl/certs/ca-certificates.crt").contains("certificate"));
}

#[test]
fn a_file_with_several_names_has_them_in_the_image_too() {
    let world = World::new();
    let script =
        "cd $OUT; echo x >etc/b; ln etc/b etc/a; ln etc/b usr/bin/c; echo y >$WORK/y; ln $WORK/y etc/y\n";
    world.recipe("hello", &format!("{GOOD}{script}"));
    let files = image(&world).files;
    assert_eq!(
        (files["etc/a"].kind, files["etc/a"].content.as_slice()),
        (tar::EntryType::Regular, &b"x\n"[..])
    );
    for path in ["etc/b", "usr/bin/c"] {
        assert_eq!(
            (files[path].kind, files[path].target.as_str()),
            (tar::EntryType::Link, "etc/a"),
            "{path}"
        );
    }
    // The other name of this file is not in the image, so it is a plain file and no hard link.
    assert_eq!(files["etc/y"].kind, tar::EntryType::Regular);
    // One run makes a hard link and the other a copy: the outputs differ.
    let odd = "cd $OUT; echo x >etc/b; if [ \"$(uname -r)\" = 5.11.0 ]; then ln etc/b etc/c; else cp etc/b etc/c; fi\n";
    world.recipe("hello", &format!("{GOOD}{odd}"));
    world.build("data", "hello").refused(5, &["etc/c: a hard link in the first run, a file in the second"]);
}

#[test]
fn outputs_in_the_place_of_what_every_image_has_are_the_recipes_fault_and_the_way_out_is_named() {
    let world = World::new();
    for (script, words) in [
        (
            "mkdir $OUT/lib; cp /usr/bin/cat $OUT/lib/x",
            "hello left lib/x in $OUT, where an image has something else: lib is a link to usr/lib in every image; use usr/lib/x",
        ),
        ("mkdir $OUT/lib", "lib is a link to usr/lib in every image; use usr/lib"),
        ("echo x >$OUT/etc/passwd", "every image has its own etc/passwd; leave it out"),
        ("mkdir $OUT/tmp; echo x >$OUT/tmp/x", "/tmp is empty at the start"),
    ] {
        world.recipe("hello", &format!("{GOOD}{script}\n"));
        world.build("data", "hello").refused(3, &[words]);
    }
}

/// A program that needs libgcc_s at run time, though its ELF file does not name it.
const EXITS: &str = "#include <pthread.h>\n#include <stdio.h>\n\
    static void *leave(void *x) { pthread_exit(x); }\n\
    int main(void) { pthread_t t; void *r; int x = 7; pthread_create(&t, 0, leave, &x); pthread_join(t, &r);\n\
    printf(\"left with %d, as coreutils would\\n\", *(int *)r); return 0; }\n";

#[test]
fn a_thread_that_exits_finds_what_the_c_library_loads_for_it() {
    let world = World::new();
    let (source, program) = (world.file("exits.c", EXITS), world.path("exits"));
    let compiled =
        std::process::Command::new("cc").args([&source, "-pthread", "-o"]).arg(&program).status().unwrap();
    assert!(compiled.success());
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let bytes = std::fs::read(program).unwrap();
    for (path, bytes) in [("tiny-1.2.3/Cargo.toml", &b""[..]), ("tiny-1.2.3/inner/exits", &bytes)] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, bytes).unwrap();
    }
    let bytes = tar.into_inner().unwrap().finish().unwrap();
    let script = "mkdir -p $OUT/usr/bin; cp $SRC/exits $OUT/usr/bin/hello\n";
    world.recipe_over_crate("exits", script, bytes.clone());
    world.build("data", "exits").refused(3, &["exits"]);
    let toolchain = crate::harness::archive::TOOLCHAIN;
    let libc = "\"usr/lib/x86_64-linux-gnu/libc.so.6\"";
    let more = format!("{libc}, {:?}", crate::harness::archive::UNWINDER);
    world.file("recipes/toolchains/tiny.toml", toolchain.replace(libc, &more));
    world.recipe_over_crate("exits", script, bytes);
    let built = world.build("data", "exits").good();
    let said = built.json["platforms"][0]["smoke"]["passed"]["line"].as_str().unwrap();
    assert!(said.contains("left with 7"), "{said}");
}
