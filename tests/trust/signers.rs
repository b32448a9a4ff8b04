//! `hab-build verify`: downloaded files, lists in every form, attestations from a repository, all tags, whole
//! histories.

use crate::harness::{Outcome, Upstream, World, cert, clearsign, detached, export};
use git2::{Repository, Signature, Time};
use hab_oci::Digest;
use sequoia_openpgp::Cert;

const SUMS: &str = "[require.it]\nkind = \"signed-hashes\"\nthreshold = 2";

/// A world in which policy `p` pins `keys`, whose certificates were imported.
fn world(requirements: &str, keys: &[(&str, &Cert)]) -> World {
    let world = World::new();
    world.policy("p", requirements, keys);
    for (who, key) in keys {
        let file = world.file(&format!("exports/{who}.pgp"), export(key));
        run(&world, &["keys", "import", &file]).good();
    }
    world
}

fn run(world: &World, words: &[&str]) -> Outcome {
    world.run("data", &[words, &["--json"]].concat())
}

fn line(name: &str, bytes: &[u8]) -> String {
    format!("{}  {name}\n", Digest::of(bytes).hex())
}

#[test]
fn downloaded_files_are_held_against_an_accepted_list() {
    let (a, b) = (cert("a"), cert("b"));
    let world = world(SUMS, &[("a", &a), ("b", &b)]);
    let list = line("good.tar", b"good") + &line("dist/deep.tar", b"deep") + &line("bad.tar", b"right");
    let list = list + &line("twice.tar", b"one") + &line("twice.tar", b"two");
    let sums = world.file("SHA256SUMS", &list);
    // A signature is recognised by its first bytes, not by its file name.
    let by_a = world.file("by-a", detached(&a, list.as_bytes()));
    let by_b = world.file("b.asc", detached(&b, list.as_bytes()));
    let verify = |files: &[&str]| {
        run(&world, &[&["verify", "sums", &sums, &by_a, &by_b, "--policy", "p"], files].concat())
    };
    let [good, deep] =
        [("good.tar", "good"), ("deep.tar", "deep")].map(|(name, text)| world.file(name, text));
    let all = verify(&[&good, &deep]).good();
    assert!(
        all.stderr.contains("matches    ") && all.stderr.contains("(listed as dist/deep.tar)"),
        "{}",
        all.stderr
    );
    assert_eq!(all.json["files"][1]["state"], "matches");
    let [bad, stray, twice] = ["bad.tar", "stray.tar", "twice.tar"].map(|name| world.file(name, "wrong"));
    let some = verify(&[&good, &bad, &stray, &twice]);
    assert_eq!(some.code, Some(3), "{}", some.stderr);
    let states: Vec<_> =
        some.json["files"].as_array().unwrap().iter().map(|f| f["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["matches", "differs", "not-listed", "contested"]);
    assert!(some.stderr.contains("3 of 4 files do not match what the accepted list says"), "{}", some.stderr);
    assert_eq!(some.json["exit"], 3);
    verify(&["nowhere.tar"]).refused(2, &["nowhere.tar does not exist"]);
    // If the list is not accepted, no file is reported as matching.
    let one = run(&world, &["verify", "sums", &sums, &by_a, &good, "--policy", "p"]);
    assert_eq!(one.code, Some(3));
    assert!(one.stderr.contains("1 of 2 required") && !one.stderr.contains("matches"), "{}", one.stderr);
}

#[test]
fn clearsigned_lists_in_one_file_are_judged_and_the_decision_can_be_made_again() {
    let (a, b) = (cert("a"), cert("b"));
    let world = world(SUMS, &[("a", &a), ("b", &b)]);
    let (x, y) = (line("x.tar", b"x"), line("y.tar", b"y"));
    let text = [clearsign(&a, &(x.clone() + &y)), clearsign(&b, &x)].concat();
    let sums = world.file("SHA256SUMS.asc", text);
    let (x, y) = (world.file("x.tar", "x"), world.file("y.tar", "y"));
    let decided = run(&world, &["verify", "sums", &sums, &x, "--policy", "p"]).good();
    // Only one signer names the file.
    let other = run(&world, &["verify", "sums", &sums, &x, &y, "--policy", "p"]);
    assert_eq!((other.code, &other.json["files"][1]["state"]), (Some(3), &"not-listed".into()));
    let document = decided.json["document"].as_str().unwrap();
    let again = run(&world, &["verify", "--evidence", document]).good();
    assert!(again.stderr.contains("decide again: list of hashes SHA256SUMS.asc"), "{}", again.stderr);
    assert_eq!(again.json["decision"], decided.json["decision"]);
    let plain = world.file("SHA256SUMS", "x");
    run(&world, &["verify", "sums", &plain, "--policy", "p"]).refused(3, &["carries no signature"]);
}

/// A commit with these files on a branch of a bare repository.
fn commit(path: &std::path::Path, branch: &str, files: &[(String, Vec<u8>)]) -> String {
    let git = Repository::init_bare(path).unwrap();
    let mut index = git2::Index::new().unwrap();
    for (name, bytes) in files {
        let time = git2::IndexTime::new(0, 0);
        let entry = git2::IndexEntry {
            ctime: time,
            mtime: time,
            dev: 0,
            ino: 0,
            mode: 0o100_644,
            uid: 0,
            gid: 0,
            file_size: 0,
            id: git.blob(bytes).unwrap(),
            flags: 0,
            flags_extended: 0,
            path: name.clone().into_bytes(),
        };
        index.add(&entry).unwrap();
    }
    let tree = git.find_tree(index.write_tree_to(&git).unwrap()).unwrap();
    let who = Signature::new("n", "e@x.invalid", &Time::new(1_600_000_000, 0)).unwrap();
    let name = format!("refs/heads/{branch}");
    let parent = git.find_reference(&name).ok().map(|r| r.peel_to_commit().unwrap());
    let parents: Vec<_> = parent.iter().collect();
    git.commit(Some(&name), &who, &who, "x", &tree, &parents).unwrap().to_string()
}

#[test]
fn attestations_are_judged_from_a_bare_repository_and_a_mirrored_project_at_a_ref() {
    let (a, b) = (cert("a"), cert("b"));
    let world = world(SUMS, &[("a", &a), ("b", &b)]);
    let said = |byte: &str| -> Vec<(String, Vec<u8>)> {
        let files = [("a", &a, "aa"), ("b", &b, byte)].map(|(who, key, byte)| {
            let list = format!("{}  file-1.0\n", byte.repeat(32));
            let signature = detached(key, list.as_bytes());
            let name = format!("1.0/{who}/all.SHA256SUMS");
            [(name.clone(), list.into_bytes()), (format!("{name}.asc"), signature)]
        });
        files.into_iter().flatten().collect()
    };
    let path = world.path("sigs.git");
    let first = commit(&path, "trunk", &said("bb"));
    commit(&path, "trunk", &said("aa"));
    let bare = path.display().to_string();
    let verify = |place: &str, more: &[&str]| {
        run(&world, &[&["verify", "attestations", place, "1.0", "--policy", "p"], more].concat())
    };
    let good = verify(&bare, &[]).good();
    assert_eq!(good.json["attestations"]["lists"][1]["files"][0]["outcome"], "agreed");
    let before = verify(&bare, &["--ref", &first]);
    assert_eq!(before.code, Some(3));
    assert!(before.stderr.contains("do not agree on file-1.0"), "{}", before.stderr);
    assert_eq!(before.json["decision"]["question"]["commit"], first);
    world.run("data", &["mirror", "add", "sigs", &bare]).good();
    world.run("data", &["mirror", "sync", "sigs"]).good();
    let mirrored = verify("sigs", &[]).good();
    run(&world, &["verify", "--evidence", mirrored.json["document"].as_str().unwrap()]).good();
    verify("sigs", &["--ref", "nowhere"]).refused(2, &["sigs has no commit nowhere"]);
    run(&world, &["verify", "attestations", "sigs", "2.0", "--policy", "p"])
        .refused(2, &["has no folder 2.0"]);
    verify("nowhere", &[]).refused(2, &["nowhere does not exist"]);
}

#[test]
fn all_tags_of_a_repository_are_looked_at_and_counted() {
    let (member, outsider) = (cert("member"), cert("outsider"));
    let tags = "[require.it]\nkind = \"tag\"\nthreshold = 1\ngroup = \"maintainers\"";
    let world = world(SUMS, &[("member", &member), ("outsider", &outsider)]);
    world.policy("p", tags, &[("member", &member), ("outsider", &outsider)]);
    let text = std::fs::read_to_string(world.path("trust/p/policy.toml")).unwrap();
    let text = text.replacen("reason = \"test\"", "reason = \"test\"\ngroups = [\"maintainers\"]", 1);
    world.file("trust/p/policy.toml", text);
    let upstream = Upstream::new(&world.path("node.git"));
    let commit = upstream.commit("one\n");
    upstream.tag("v1", commit, Some(&member));
    upstream.tag("v2", commit, Some(&outsider));
    upstream.tag("v3", commit, None);
    upstream.lightweight_tag("v4", commit);
    let git = Repository::open(world.path("node.git")).unwrap();
    let moved = git.refname_to_id("refs/tags/v1").unwrap();
    upstream.point("v5", &moved.to_string());
    let verify = || run(&world, &["verify", "tags", &upstream.url(), "--policy", "p"]);
    let some = verify();
    assert_eq!(some.code, Some(3), "{}", some.stderr);
    assert_eq!((&some.json["good"], &some.json["total"]), (&1.into(), &5.into()));
    for words in [
        "v1  ",
        "good, but outside group maintainers",
        "v3  unsigned",
        "not signed: it is a lightweight tag",
        "it was signed for another tag",
        "1 of 5 tags are signed as the policy demands",
    ] {
        assert!(some.stderr.contains(words), "no {words:?} in {}", some.stderr);
    }
    for tag in ["v2", "v3", "v4", "v5"] {
        upstream.delete_tag(tag);
    }
    verify().good();
    upstream.delete_tag("v1");
    verify().refused(2, &["has no tags"]);
    run(&world, &["verify", "tag", &upstream.url(), "--policy", "p"]).refused(2, &["hab-build verify tags"]);
}

#[test]
fn a_history_is_looked_at_to_its_end_and_its_bad_commits_are_counted() {
    let key = cert("maintainer");
    let world = World::new();
    let upstream = Upstream::new(&world.path("node.git"));
    let root = upstream.commit("root\n");
    let rule = format!("[require.it]\nkind = \"commit-chain\"\nroot = \"{root}\"\ntree-sha512 = false");
    world.policy("p", &rule, &[("maintainer", &key)]);
    run(&world, &["keys", "import", &world.file("key.pgp", export(&key))]).good();
    upstream.signed_commit("one\n", &key);
    let first = upstream.commit("two\n");
    upstream.signed_commit("three\n", &key);
    let second = upstream.signed_commit("four\n", &cert("stranger"));
    upstream.signed_commit("five\n", &key);
    let verify = |more: &[&str]| {
        run(&world, &[&["verify", "commits", &upstream.url(), "main", "--policy", "p"], more].concat())
    };
    let all = verify(&[]);
    assert_eq!(all.code, Some(3), "{}", all.stderr);
    assert_eq!((&all.json["failures"], &all.json["looked_at"]), (&2.into(), &5.into()));
    assert_eq!(
        (&all.json["failed"][0][0], &all.json["failed"][1][0]),
        (&first.to_string().into(), &second.to_string().into())
    );
    assert_eq!(all.json["summary"]["commits"], 3);
    for words in [
        format!("{first}  refused: it is not signed"),
        format!("{second}  refused: no signature by a key that may sign it"),
        "refused: 2 of 5 commits".to_owned(),
        format!("commit {first} is refused: it is not signed; of 5 commits, 2 are refused"),
    ] {
        assert!(all.stderr.contains(&words), "no {words:?} in {}", all.stderr);
    }
    let one = verify(&["--first-failure"]);
    assert_eq!(one.code, Some(3));
    assert!(
        one.stderr.contains(&first.to_string()) && !one.stderr.contains(&second.to_string()),
        "{}",
        one.stderr
    );
    // A refusal that is made again is the same refusal.
    run(&world, &["verify", "--evidence", all.json["document"].as_str().unwrap()])
        .refused(3, &["it is not signed"]);
}
