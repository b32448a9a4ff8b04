//! Makes the base: the layer below an image's own files, which every image of a toolchain has.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hab_image::{At, Directory, Layer};
use hab_recipe::{Plan, TOOLCHAIN};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::BuildError;

/// The largest file that an image takes from the toolchain, in bytes.
const BASE_FILE: u64 = 64 << 20;

/// nsswitch.conf(5): only services inside the C library. It would load any other by name, and no image has that.
const NAMES: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n";

/// services(5): the ports that programs ask for by name, as IANA assigned them.
const SERVICES: &str = "ftp 21/tcp\nssh 22/tcp\nsmtp 25/tcp\ndomain 53/tcp\ndomain 53/udp\nhttp 80/tcp www\n\
                        ntp 123/udp\nimap2 143/tcp imap\nldap 389/tcp\nhttps 443/tcp\nhttps 443/udp\n\
                        submission 587/tcp\nldaps 636/tcp\ndomain-s 853/tcp\nimaps 993/tcp\npostgresql 5432/tcp\n";

/// os-release(5). It does not name the farm, because then every farm would make another image.
fn os_release(plan: &Plan) -> String {
    let toolchain = plan.annotations.get(TOOLCHAIN).map_or("", String::as_str);
    format!(
        "NAME=\"hab-build\"\nID=hab-build\nPRETTY_NAME=\"hab-build on {toolchain}\"\nVARIANT_ID={toolchain}\n"
    )
}

/// Makes the base: the C library with the libraries that it loads by name, certificate authorities, the one user, and
/// the few files that programs read through the C library.
pub(crate) fn base(plan: &Plan, root: &Path) -> Result<Layer<'static>, BuildError> {
    let sysroot = root.join(plan.sysroot().trim_start_matches('/'));
    let mut layer = Layer::new(plan.source.epoch)?;
    // Every program holds the path of its loader, which begins with one of these.
    layer.link("lib", "usr/lib")?;
    layer.link("lib64", "usr/lib64")?;
    layer.directory("usr/lib64", Directory::default())?;
    for path in plan.base.files.get(plan.platform.architecture()).into_iter().flatten() {
        let (content, executable) = within(&sysroot, path)?;
        layer.bytes(path, executable, content)?;
    }
    let certificates = &plan.base.certificates;
    let text = bundle(&sysroot, certificates.from.trim_matches('/'))?;
    layer.bytes(&certificates.to, false, text)?;
    let (user, uid, home) = (&plan.image.user, plan.image.uid, &plan.image.home);
    layer.bytes("etc/passwd", false, format!("{user}:x:{uid}:{uid}:{user}:{home}:/nonexistent\n"))?;
    layer.bytes("etc/group", false, format!("{user}:x:{uid}:\n"))?;
    layer.bytes("etc/nsswitch.conf", false, NAMES)?;
    layer.bytes("etc/services", false, SERVICES)?;
    layer.bytes("usr/lib/os-release", false, os_release(plan))?;
    layer.link("etc/os-release", "../usr/lib/os-release")?;
    layer.directory("tmp", Directory { mode: 0o1777, uid: 0, gid: 0 })?;
    Ok(layer)
}

/// The first of `paths` at which the base has something of its own, and what a person can do about it.
pub(crate) fn overlap<'a>(
    base: &Layer<'_>,
    paths: impl Iterator<Item = &'a str>,
) -> Option<(&'a str, String)> {
    for path in paths {
        if path.split('/').next() == Some("tmp") {
            return Some((path, "/tmp is empty at the start; leave it out".to_owned()));
        }
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let (above, rest) = path.split_at(end);
            match base.at(above) {
                None => {}
                Some(At::File) => {
                    return Some((path, format!("every image has its own {above}; leave it out")));
                }
                Some(At::Link(target)) => {
                    let instead = format!("{target}{rest}");
                    return Some((
                        path,
                        format!("{above} is a link to {target} in every image; use {instead}"),
                    ));
                }
            }
        }
    }
    None
}

/// Reads a file of the sysroot, and follows links as if the sysroot were the root.
fn within(sysroot: &Path, path: &str) -> Result<(Vec<u8>, bool), BuildError> {
    let missing = |_| BuildError::MissingBase { path: path.to_owned() };
    let folder = File::open(sysroot).map_err(BuildError::io(sysroot))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat2(folder.as_fd(), path, flags, Mode::empty(), ResolveFlags::IN_ROOT).map_err(missing)?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(BuildError::io(path))?;
    if !metadata.is_file() {
        return Err(BuildError::MissingBase { path: path.to_owned() });
    }
    let mut content = Vec::new();
    file.take(BASE_FILE + 1).read_to_end(&mut content).map_err(BuildError::io(path))?;
    if content.len() as u64 > BASE_FILE {
        return Err(BuildError::MissingBase { path: format!("{path} of at most {BASE_FILE} bytes") });
    }
    Ok((content, metadata.permissions().mode() & 0o100 != 0))
}

/// The bundle of certificates: every `.crt` file of a folder in the order of their names, as ca-certificates makes it.
fn bundle(sysroot: &Path, from: &str) -> Result<Vec<u8>, BuildError> {
    let folder = sysroot.join(from);
    let entries = fs::read_dir(&folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(BuildError::io(&folder))?;
    let mut names: Vec<_> = entries.iter().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.retain(|name| name.ends_with(".crt"));
    names.sort();
    if names.is_empty() {
        return Err(BuildError::MissingBase { path: format!("{from}/*.crt") });
    }
    let mut text = Vec::new();
    for name in names {
        let (certificate, _) = within(sysroot, &format!("{from}/{name}"))?;
        text.extend_from_slice(&certificate);
        if !certificate.ends_with(b"\n") {
            text.push(b'\n');
        }
    }
    Ok(text)
}
