//! What belongs to a project and is not in its repository.

use hab_mirror::git::Submodule;

use super::harness::{World, git_in};

#[test]
fn submodules_and_what_lfs_keeps_elsewhere_are_found_on_every_branch() {
    let world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    assert!(world.mirror().lacking().unwrap().is_nothing());
    let commit = upstream.git(&["rev-parse", "main"]);
    let blob = |text: &str| git_in(&upstream.path, &["hash-object", "-w", "--stdin"], text.as_bytes());
    let tree = |lines: &str| git_in(&upstream.path, &["mktree", "--missing"], lines.as_bytes());
    let modules = blob("[submodule \"a\"]\n\tpath = src/a\n\turl = https://me:secret@h.invalid/a.git\n");
    let attributes = blob("*.bin filter=lfs diff=lfs merge=lfs -text\n");
    let pointer = blob(
        "version https://git-lfs.github.com/spec/v1\noid sha256:\
         4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n",
    );
    let source = tree(&format!("160000 commit {commit}\ta\n100644 blob {pointer}\tx.bin\n"));
    let root = tree(&format!(
        "100644 blob {attributes}\t.gitattributes\n100644 blob {modules}\t.gitmodules\n040000 tree {source}\tsrc\n"
    ));
    // Not on the branch that HEAD names.
    let with = upstream.git(&["commit-tree", "-m", "with", "-p", "main", &root]);
    upstream.git(&["update-ref", "refs/heads/with", &with]);
    world.sync(&[&upstream.url()]).unwrap();
    let lacking = world.mirror().lacking().unwrap();
    let url = Some("https://h.invalid/a.git".to_owned());
    assert_eq!(lacking.submodules, [Submodule { path: "src/a".to_owned(), url }]);
    assert_eq!((lacking.lfs_files, lacking.lfs_bytes, lacking.partly), (1, 12345, false));
}

#[test]
fn a_file_that_looks_like_lfs_s_is_only_one_where_attributes_say_so() {
    let world = World::new();
    let upstream = world.upstream();
    upstream.commit("version https://git-lfs.github.com/spec/v1\nsize 5\n");
    world.sync(&[&upstream.url()]).unwrap();
    assert!(world.mirror().lacking().unwrap().is_nothing());
}
