//! A Debian archive with two binary packages and one source package.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use hab_oci::Digest;
use sequoia_openpgp::Cert;

use super::signing;

pub const TOOLCHAIN: &str = "name = \"tiny\"\nsuite = \"stable\"\npolicy = \"debian\"\narchitecture = \"amd64\"\n\
    packages = [\"tools\"]\n[sysroot]\npackages = [\"target\"]\n[base.files]\n\
    amd64 = [\"usr/lib64/ld-linux-x86-64.so.2\", \"usr/lib/x86_64-linux-gnu/libc.so.6\"]\narm64 = []\n\
    [base.certificates]\nfrom = \"usr/share/ca-certificates/mozilla\"\nto = \"etc/ssl/certs/ca-certificates.crt\"\n";

/// The path of the library that pthread_exit(3) needs, in the toolchain's target.
pub const UNWINDER: &str = "usr/lib/x86_64-linux-gnu/libgcc_s.so.1";

/// Programs of this machine that build scripts run.
const PROGRAMS: &[&str] = &[
    "bash", "cat", "chmod", "cp", "date", "dd", "df", "getconf", "head", "id", "ln", "ls", "mkdir", "mkfifo",
    "nice", "nproc", "rmdir", "seq", "sleep", "sort", "stat", "tar", "touch", "truncate", "uname", "yes",
];

/// The toolchain's packages: (root, name, bytes).
pub fn packages() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    static MADE: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    let [tools, target] = MADE.get_or_init(|| [tools(), target()]);
    vec![("build", "tools", tools.clone()), ("amd64", "target", target.clone())]
}

fn tools() -> Vec<u8> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for program in PROGRAMS {
        let path = which(program);
        files.push((format!("usr/bin/{program}"), std::fs::read(&path).unwrap()));
        for library in libraries(&path) {
            let place = merged(&library);
            if !files.iter().any(|(p, _)| *p == place) {
                files.push((place, std::fs::read(&library).unwrap()));
            }
        }
    }
    deb(&files)
}

fn target() -> Vec<u8> {
    let mut files: Vec<(String, Vec<u8>)> =
        libraries(&which("cat")).iter().map(|l| (merged(l), std::fs::read(l).unwrap())).collect();
    files.push(("usr/share/ca-certificates/mozilla/Test.crt".to_owned(), b"certificate\n".to_vec()));
    // The C library loads this one by name at run time.
    let found = Command::new("cc").arg("-print-file-name=libgcc_s.so.1").output().unwrap();
    let unwinder = String::from_utf8(found.stdout).unwrap();
    files.push((UNWINDER.to_owned(), std::fs::read(unwinder.trim()).unwrap()));
    deb(&files)
}

fn which(program: &str) -> String {
    ["/usr/bin", "/bin"]
        .map(|folder| format!("{folder}/{program}"))
        .into_iter()
        .find(|p| Path::new(p).exists())
        .unwrap_or_else(|| panic!("{program} is not installed"))
}

/// The libraries that the loader would load, including the loader.
fn libraries(program: &str) -> Vec<String> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut found: Vec<_> =
        text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect();
    found.sort();
    found.dedup();
    found
}

fn merged(path: &str) -> String {
    let path = path.trim_start_matches('/');
    if path.starts_with("usr/") { path.to_owned() } else { format!("usr/{path}") }
}

fn tar_xz(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(liblzma::write::XzEncoder::new(Vec::new(), 0));
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(bytes.len() as u64);
        header.set_mtime(1_500_000_000);
        tar.append_data(&mut header, path, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn xz(text: &str) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// A crate of which the folder `inner` is built.
pub fn krate() -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, text) in [("tiny-1.2.3/Cargo.toml", ""), ("tiny-1.2.3/inner/message", "from a crate\n")] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// A binary package with these files.
pub fn deb(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut ar = ar::Builder::new(Vec::new());
    let parts = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.xz", tar_xz(&[("control".to_owned(), b"Package: x\n".to_vec())])),
        ("data.tar.xz", tar_xz(files)),
    ];
    for (name, bytes) in parts {
        let header = ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64);
        ar.append(&header, bytes.as_slice()).unwrap();
    }
    ar.into_inner().unwrap()
}

fn entry(bytes: &[u8], name: &str) -> String {
    format!(" {} {} {name}\n", Digest::of(bytes).hex(), bytes.len())
}

/// The date of the archive in its InRelease.
pub const DATE: &str = "Sat, 11 Jan 2025 10:05:31 UTC";

/// Every file of the archive, by path.
pub fn files(key: &Cert, date: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> =
        packages().into_iter().map(|(_, name, bytes)| (format!("pool/{name}.deb"), bytes)).collect();

    let mut upstream = vec![("hello-1.0/message".to_owned(), b"hello\n".to_vec())];
    // Enough files that their order in a folder differs between file systems.
    upstream.extend((0..40).map(|n| (format!("hello-1.0/many/{n}"), Vec::new())));
    let orig = tar_xz(&upstream);
    let changelog = b"hello (1.0-1) stable; urgency=low\n\n  * x\n\n -- n <e@x.invalid>  Sun, 13 Sep 2020 12:26:40 +0000\n";
    let debian = tar_xz(&[("debian/changelog".to_owned(), changelog.to_vec())]);
    let lines = entry(&orig, "hello_1.0.orig.tar.xz") + &entry(&debian, "hello_1.0-1.debian.tar.xz");
    let dsc = format!("Format: 3.0 (quilt)\nSource: hello\nVersion: 1.0-1\nChecksums-Sha256:\n{lines}");
    let dsc = signing::clearsign(&signing::cert("uploader"), &dsc);
    let sources = format!(
        "Package: hello\nVersion: 1.0-1\nDirectory: pool/h\nChecksums-Sha256:\n{lines}{}\n",
        entry(&dsc, "hello_1.0-1.dsc")
    );
    let package = |architecture: &str, (_, name, bytes): (&str, &str, Vec<u8>)| {
        format!(
            "Package: {name}\nVersion: 1\nArchitecture: {architecture}\nDescription: as of {date}\nFilename: \
             pool/{name}.deb\n\
             Size: {}\nSHA256: {}\n\n",
            bytes.len(),
            Digest::of(&bytes).hex()
        )
    };
    let binary = packages().into_iter().map(|p| package("amd64", p)).collect::<String>();
    let foreign = packages().into_iter().skip(1).map(|p| package("arm64", p)).collect::<String>();
    let indexes = [
        ("main/source/Sources", sources.as_str()),
        ("main/binary-amd64/Packages", binary.as_str()),
        ("main/binary-arm64/Packages", foreign.as_str()),
        ("main/i18n/Translation-de", ""),
    ];
    // As in Debian's archive, InRelease also lists the uncompressed files, but only compressed ones exist.
    let plain: String = indexes.iter().map(|(path, text)| entry(text.as_bytes(), path)).collect();
    let indexes = indexes.map(|(path, text)| (format!("{path}.xz"), xz(text)));
    let listed: String = indexes.iter().map(|(path, bytes)| entry(bytes, path)).collect();
    let listed = plain + &listed + &entry(b"gone", "main/Contents-amd64.gz");
    let release = format!(
        "Origin: Test\nCodename: stable\nDate: {date}\nAcquire-By-Hash: yes\nArchitectures: amd64 arm64\n\
         Components: main\nSHA256:\n{listed}"
    );
    files.extend(indexes.map(|(path, bytes)| (format!("dists/stable/{path}"), bytes)));
    files.extend([
        ("dists/stable/InRelease".to_owned(), signing::clearsign(key, &release)),
        ("pool/h/hello_1.0-1.dsc".to_owned(), dsc),
        ("pool/h/hello_1.0.orig.tar.xz".to_owned(), orig),
        ("pool/h/hello_1.0-1.debian.tar.xz".to_owned(), debian),
    ]);
    files
}
