//! What `ci/bench keys` measures with.
//!
//! bench signatures FOLDER CERTIFICATES POLICY   judge a folder of raw commits, repeatedly, on one thread and on all
//! bench split FOLDER OUT                        the same signatures and payloads as files, for gpg
//! bench history OUT COMMITS FILES               make a repository of signed merges, its policy and certificate
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use git2::{Repository, Signature, Time};
use hab_keys::{Certificates, Examined, Judge, Policy};
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::{CertBuilder, CipherSuite};
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::serialize::stream::{Armorer, Message, Signer};
use sha2::{Digest as _, Sha512};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["signatures", folder, certificates, policy] => signatures(folder, certificates, policy),
        ["split", folder, out] => split(folder, Path::new(out)),
        ["history", out, commits, files] => {
            history(Path::new(out), commits.parse().unwrap(), files.parse().unwrap());
        }
        _ => panic!("see the file's first lines"),
    }
}

fn raw(folder: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.map(|p| (p.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&p).unwrap())).collect()
}

fn signatures(folder: &str, certificates: &str, policy: &str) {
    let commits = raw(folder);
    let name = Path::new(policy).parent().unwrap().file_name().unwrap().to_str().unwrap();
    let policy = Policy::parse(name, &fs::read_to_string(policy).unwrap()).unwrap();
    let certificates = Certificates::find(&policy, &[PathBuf::from(certificates)]).unwrap();
    let judge = Judge::new(&policy, &certificates, SystemTime::now());
    let all = || {
        commits
            .iter()
            .map(|(id, bytes)| Examined::commit(id, bytes, &judge).unwrap().signatures.len())
            .sum::<usize>()
    };
    let rounds = |deadline: Instant| {
        let mut count = 0;
        while Instant::now() < deadline {
            count += all();
        }
        count
    };
    all();
    for threads in [1, std::thread::available_parallelism().unwrap().get()] {
        let start = Instant::now();
        let deadline = start + Duration::from_secs(5);
        let count: usize = std::thread::scope(|scope| {
            let started: Vec<_> = (0..threads).map(|_| scope.spawn(|| rounds(deadline))).collect();
            started.into_iter().map(|t| t.join().unwrap()).sum()
        });
        println!("{threads} {}", count as u128 * 1000 / start.elapsed().as_millis());
    }
}

fn split(folder: &str, out: &Path) {
    fs::create_dir_all(out).unwrap();
    for (id, bytes) in raw(folder) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some(start) = text.find("\ngpgsig ") else { continue };
        let end = start + 1 + text[start + 1..].find('\n').unwrap();
        let mut signature = format!("{}\n", &text[start + 8..end]);
        let mut rest = end + 1;
        while text[rest..].starts_with(' ') {
            let line = rest + text[rest..].find('\n').unwrap() + 1;
            signature.push_str(&text[rest + 1..line]);
            rest = line;
        }
        fs::write(out.join(format!("{id}.asc")), signature).unwrap();
        fs::write(out.join(&id), [&bytes[..=start], &bytes[rest..]].concat()).unwrap();
    }
}

fn sign(cert: &Cert, bytes: &[u8]) -> String {
    let standard = sequoia_openpgp::policy::StandardPolicy::new();
    let key = cert.keys().with_policy(&standard, None).for_signing().secret().next().unwrap();
    let mut out = Vec::new();
    let armor =
        Armorer::new(Message::new(&mut out)).kind(sequoia_openpgp::armor::Kind::Signature).build().unwrap();
    let signer = Signer::new(armor, key.key().clone().into_keypair().unwrap()).unwrap();
    let mut message = signer.detached().build().unwrap();
    message.write_all(bytes).unwrap();
    message.finalize().unwrap();
    String::from_utf8(out).unwrap().trim_end().to_owned()
}

/// Each merge changes three files and adds none, over a tree of `files` files in folders of 25.
fn history(out: &Path, commits: usize, files: usize) {
    let git = Repository::init_bare(out.join("history.git")).unwrap();
    // What Bitcoin Core's maintainers have.
    let cert = CertBuilder::general_purpose(Some("maintainer"))
        .set_cipher_suite(CipherSuite::RSA4k)
        .generate()
        .unwrap()
        .0;
    let path = |n: usize| format!("src/part{:03}/file{n:05}.cpp", n / 25);
    let text = |n: usize, version: usize| {
        let line =
            |line| format!("int f{n}_{line}() {{ return {}; }}\n", version * usize::from(line == n % 120));
        (0..120).map(line).collect::<Vec<_>>().concat()
    };
    let mut content: Vec<String> = (0..files).map(|n| text(n, 0)).collect();
    let mut sha: Vec<String> = content.iter().map(|t| hex::encode(Sha512::digest(t))).collect();
    let who = Signature::new("n", "e@x.invalid", &Time::new(1_700_000_000, 0)).unwrap();
    let mut update = git2::build::TreeUpdateBuilder::new();
    for (n, text) in content.iter().enumerate() {
        update.upsert(path(n), git.blob(text.as_bytes()).unwrap(), git2::FileMode::Blob);
    }
    let empty = git.find_tree(git.treebuilder(None).unwrap().write().unwrap()).unwrap();
    let tree = git.find_tree(update.create_updated(&git, &empty).unwrap()).unwrap();
    let root = git.commit(None, &who, &who, "root", &tree, &[]).unwrap();
    let mut recent = vec![root];
    for version in 1..=commits {
        let tip = git.find_commit(*recent.last().unwrap()).unwrap();
        // A pull request that began a few merges ago.
        let base = git.find_commit(recent[recent.len().saturating_sub(5)]).unwrap();
        let mut update = git2::build::TreeUpdateBuilder::new();
        for k in 0..3 {
            let n = (version * 7 + k * 811) % files;
            content[n] = text(n, version);
            sha[n] = hex::encode(Sha512::digest(&content[n]));
            update.upsert(path(n), git.blob(content[n].as_bytes()).unwrap(), git2::FileMode::Blob);
        }
        let theirs = git.find_tree(update.create_updated(&git, &base.tree().unwrap()).unwrap()).unwrap();
        let branch = git.commit(None, &who, &who, "change", &theirs, &[&base]).unwrap();
        let branch = git.find_commit(branch).unwrap();
        let merged = git.find_tree(update.create_updated(&git, &tip.tree().unwrap()).unwrap()).unwrap();
        let mut lines = Sha512::new();
        for (n, hash) in sha.iter().enumerate() {
            lines.update(format!("{hash}  {}\n", path(n)));
        }
        let message = format!("Merge {version}\n\nTree-SHA512: {}\n", hex::encode(lines.finalize()));
        let buffer = git.commit_create_buffer(&who, &who, &message, &merged, &[&tip, &branch]).unwrap();
        let signed =
            git.commit_signed(std::str::from_utf8(&buffer).unwrap(), &sign(&cert, &buffer), None).unwrap();
        recent.push(signed);
    }
    git.reference("refs/heads/main", *recent.last().unwrap(), true, "bench").unwrap();
    git.set_head("refs/heads/main").unwrap();
    fs::create_dir_all(out.join("trust/bench")).unwrap();
    let policy = format!(
        "name = \"bench\"\n[require.history]\nkind = \"commit-chain\"\nroot = \"{root}\"\ntree-sha512 = true\n[[key]]\n\
         fingerprint = \"{}\"\nname = \"maintainer\"\nreason = \"bench\"\n",
        cert.fingerprint()
    );
    fs::write(out.join("trust/bench/policy.toml"), policy).unwrap();
    fs::write(out.join("maintainer.pgp"), cert.to_vec().unwrap()).unwrap();
}
