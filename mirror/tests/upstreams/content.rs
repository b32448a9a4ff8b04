//! What an upstream sends.

use super::harness::{Say, Server, World, advertise, git_in};

/// A server that has `commit` on main and sends `pack` for it.
fn serving(commit: &str, pack: Vec<u8>) -> Server {
    let refs = advertise(&[(commit, "refs/heads/main")]);
    Server::start(move |path| {
        Say::Body(if path.contains("info/refs") {
            refs.clone()
        } else {
            [b"0008NAK\n".to_vec(), pack.clone()].concat()
        })
    })
}

#[test]
fn a_pack_without_an_object_that_it_needs_is_refused() {
    let world = World::new();
    let upstream = world.upstream();
    let commit = upstream.git(&["rev-parse", "main"]);
    // At first, and when something is here already: git checks these by other means.
    let server = serving(&commit, upstream.pack(&[&commit]));
    world.refused(&server.url(), &["git clone failed"]);
    world.sync(&[&upstream.url()]).unwrap();
    let next = upstream.commit("two");
    let server = serving(&next, upstream.pack(&[&next]));
    world.refused(&server.url(), &["git fetch failed"]);
    let whole = [next.clone(), format!("{next}^{{tree}}"), format!("{next}:message")];
    let whole = whole.map(|rev| upstream.git(&["rev-parse", &rev]));
    let server = serving(&next, upstream.pack(&whole.each_ref().map(String::as_str)));
    world.sync(&[&server.url()]).unwrap();
    assert_eq!(world.mirror().refs().unwrap()["refs/heads/main"], next);
}

#[test]
fn a_pack_with_a_flipped_bit_is_refused() {
    let world = World::new();
    let upstream = world.upstream();
    let commit = upstream.git(&["rev-parse", "main"]);
    let tree = upstream.git(&["rev-parse", "main^{tree}"]);
    let blob = upstream.git(&["rev-parse", "main:message"]);
    let mut pack = upstream.pack(&[&commit, &tree, &blob]);
    let middle = pack.len() / 2;
    pack[middle] ^= 1;
    let server = serving(&commit, pack);
    world.refused(&server.url(), &["git clone failed"]);
}

#[test]
fn a_small_pack_with_a_huge_object_is_refused() {
    let mut world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    world.bounds.object = 1 << 20;
    upstream.commit_file("zeros", &vec![0; 40 << 20], "100644");
    world.refused(&upstream.url(), &["an object of 41943040 bytes", "more than the 1048576"]);
    // Nor does it come in by the back door, where something else is fetched.
    upstream.git(&["tag", "v2", "main~1"]);
    world.refused(&upstream.url(), &["an object of 41943040 bytes"]);
}

#[test]
fn a_pack_larger_than_is_allowed_is_cut_off() {
    let mut world = World::new();
    let upstream = world.upstream();
    let noise: Vec<u8> = (0_u64..4 << 20)
        .map(|n| {
            (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0]
                ^ (n.wrapping_mul(n) >> 13).to_le_bytes()[0]
        })
        .collect();
    upstream.commit_file("noise", &noise, "100644");
    world.bounds.packs = 64 << 10;
    let commit = upstream.git(&["rev-parse", "main"]);
    let all = upstream.git(&["rev-list", "--objects", "--no-object-names", "main"]);
    let pack = upstream.pack(&all.lines().collect::<Vec<_>>());
    assert!(pack.len() > 1 << 20);
    // It goes on for as long as somebody listens.
    let refs = advertise(&[(&commit, "refs/heads/main")]);
    let head = [b"0008NAK\n".to_vec(), pack[..pack.len() - 1000].to_vec()].concat();
    let server = Server::start(move |path| {
        if path.contains("info/refs") {
            Say::Body(refs.clone())
        } else {
            Say::Half([head.clone(), head.clone()].concat(), true)
        }
    });
    world.refused(&server.url(), &["it sent more than 65536 bytes"]);
}

#[test]
fn a_gitmodules_file_that_would_run_something_is_refused() {
    let world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    let text = "[submodule \"x\"]\n\tpath = x\n\turl = --upload-pack=touch\n";
    upstream.commit_file(".gitmodules", text.as_bytes(), "100644");
    world.refused(&upstream.url(), &["git fetch failed", "gitmodules"]);
}

#[test]
fn a_gitmodules_link_and_a_dot_git_folder_are_refused() {
    for (name, mode) in [(".gitmodules", "120000"), (".git", "100644")] {
        let world = World::new();
        let upstream = world.upstream();
        world.sync(&[&upstream.url()]).unwrap();
        let blob = git_in(&upstream.path, &["hash-object", "-w", "--stdin"], b"../config");
        // `git mktree` would not write such a tree.
        let mut tree = format!("{mode} {name}\0").into_bytes();
        tree.extend((0..20).map(|n| u8::from_str_radix(&blob[2 * n..2 * n + 2], 16).unwrap()));
        let words = ["hash-object", "-w", "-t", "tree", "--literally", "--stdin"];
        let tree = git_in(&upstream.path, &words, &tree);
        upstream.commit_tree(&tree);
        world.refused(&upstream.url(), &["git fetch failed", "fsck"]);
    }
}

#[test]
fn attributes_of_the_mirrored_tree_have_no_say_in_what_is_exported() {
    let world = World::new();
    let upstream = world.upstream();
    let text = b"* export-ignore filter=evil text eol=crlf\nmessage export-subst\n";
    let blob = |content: &[u8]| git_in(&upstream.path, &["hash-object", "-w", "--stdin"], content);
    let (attributes, message) = (blob(text), blob(b"$Format:%H$\n"));
    let tree = format!("100644 blob {attributes}\t.gitattributes\n100644 blob {message}\tmessage\n");
    let commit = upstream.commit_tree(&git_in(&upstream.path, &["mktree"], tree.as_bytes()));
    world.sync(&[&upstream.url()]).unwrap();
    let mut archive = Vec::new();
    world.mirror().export(&commit, 0, &mut archive).unwrap();
    let holds = |needle: &[u8]| archive.windows(needle.len()).any(|window| window == needle);
    assert!(holds(b"$Format:%H$\n") && holds(b"export-ignore"));
}

#[test]
fn a_history_that_fsck_knows_better_than_is_taken_where_the_project_says_so() {
    let world = World::new();
    let upstream = world.upstream();
    let tree = upstream.git(&["rev-parse", "main^{tree}"]);
    let text = format!(
        "tree {tree}\nauthor n <e@x.invalid> 1600000000 +051800\ncommitter n <e@x.invalid> 1600000000 +0000\n\nx\n"
    );
    let words = ["hash-object", "-w", "-t", "commit", "--literally", "--stdin"];
    let commit = git_in(&upstream.path, &words, text.as_bytes());
    upstream.git(&["update-ref", "refs/heads/odd", &commit]);
    world.refused(&upstream.url(), &["badTimezone"]);
    let wish = hab_mirror::git::SyncRequest {
        urls: &[upstream.url()],
        refs: &hab_mirror::git::RefPattern::usual(),
        allow: hab_mirror::git::Allow { file: true, http: false },
        tolerate: &["badTimezone".to_owned()],
        bounds: world.bounds,
        password_file: None,
    };
    world.mirror().sync(&wish, &world.told).unwrap();
    assert_eq!(world.mirror().refs().unwrap()["refs/heads/odd"], commit);
}
