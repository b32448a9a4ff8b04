//! Git tags that the test makes and signs.

use std::collections::BTreeMap;

use crate::world::{Court, cert, court, detached};
use git2::{ObjectType, Oid, Repository, Signature, Time};
use hab_keys::Refusal;
use hab_keys::tag::{Claimed, VerifiedTag};
use sequoia_openpgp::Cert;

struct Tagged {
    name: String,
    id: String,
    object: Vec<u8>,
    commit_id: String,
    commit: Vec<u8>,
}

struct Repo {
    _folder: tempfile::TempDir,
    git: Repository,
    commit: Oid,
}

const FILES: &[(&str, &str)] = &[("README", "text\n"), ("src/a.c", "int a;\n"), ("src.c", "int b;\n")];

fn repo() -> Repo {
    let folder = tempfile::tempdir().unwrap();
    let repo = Repository::init_bare(folder.path()).unwrap();
    let who = Signature::new("n", "e@x.invalid", &Time::new(1_700_000_000, 0)).unwrap();
    let mut builder = git2::build::TreeUpdateBuilder::new();
    for (path, text) in FILES {
        builder.upsert(*path, repo.blob(text.as_bytes()).unwrap(), git2::FileMode::Blob);
    }
    let empty = repo.find_tree(repo.treebuilder(None).unwrap().write().unwrap()).unwrap();
    let tree = builder.create_updated(&repo, &empty).unwrap();
    let commit = {
        let tree = repo.find_tree(tree).unwrap();
        repo.commit(None, &who, &who, "message", &tree, &[]).unwrap()
    };
    drop(empty);
    Repo { _folder: folder, git: repo, commit }
}

impl Repo {
    fn tag(&self, name: &str, signer: Option<&Cert>) -> Tagged {
        let mut object = format!(
            "object {}\ntype commit\ntag {name}\ntagger n <e@x.invalid> 1700000001 +0000\n\nRelease {name}\n",
            self.commit
        )
        .into_bytes();
        if let Some(cert) = signer {
            let signature = detached(cert, &object);
            object.extend_from_slice(&signature);
        }
        self.tagged(name, object)
    }

    fn tagged(&self, name: &str, object: Vec<u8>) -> Tagged {
        let odb = self.git.odb().unwrap();
        let id = odb.write(ObjectType::Tag, &object).unwrap();
        let commit = odb.read(self.commit).unwrap().data().to_vec();
        Tagged {
            name: name.to_owned(),
            id: id.to_string(),
            object,
            commit_id: self.commit.to_string(),
            commit,
        }
    }
}

fn verify(tag: &Tagged, court: &Court) -> Result<VerifiedTag, Refusal> {
    let claimed = Claimed {
        project: "p",
        name: &tag.name,
        id: &tag.id,
        object: Some(&tag.object),
        commit: (&tag.commit_id, &tag.commit),
    };
    VerifiedTag::verify(claimed, &court.judge())
}

fn tar(files: &BTreeMap<&str, &str>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, format!("source/{path}"), text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn a_signed_tag_and_its_tree_make_a_verified_source() {
    let key = cert("maintainer");
    let tag = repo().tag("v1", Some(&key));
    let verified = verify(&tag, &court("tag", 1, &[&key], &[&key])).unwrap();
    assert_eq!((verified.commit(), verified.epoch()), (tag.commit_id.as_str(), 1_700_000_000));
    let source = verified.archive(&mut tar(&FILES.iter().copied().collect()).as_slice()).unwrap();
    assert_eq!(source.revision(), tag.commit_id);
}

#[test]
fn an_archive_with_other_files_is_not_the_signed_tree() {
    let key = cert("maintainer");
    let verified = verify(&repo().tag("v1", Some(&key)), &court("tag", 1, &[&key], &[&key])).unwrap();
    let good: BTreeMap<_, _> = FILES.iter().copied().collect();
    let mut other = good.clone();
    other.insert("README", "other\n");
    let mut more = good.clone();
    more.insert("evil.c", "");
    let mut fewer = good.clone();
    fewer.remove("src/a.c");
    for files in [other, more, fewer] {
        assert!(verified.archive(&mut tar(&files).as_slice()).is_err());
    }
    assert!(verified.archive(&mut tar(&good).as_slice()).is_ok());
}

#[test]
fn an_unsigned_tag_is_refused() {
    let key = cert("maintainer");
    let refusal = verify(&repo().tag("v1", None), &court("tag", 1, &[&key], &[&key])).unwrap_err();
    assert!(matches!(refusal, Refusal::Unsigned { .. }), "{refusal}");
}

#[test]
fn a_tag_by_an_unpinned_key_is_refused() {
    let (key, other) = (cert("maintainer"), cert("other"));
    let refusal =
        verify(&repo().tag("v1", Some(&other)), &court("tag", 1, &[&key], &[&key, &other])).unwrap_err();
    assert!(matches!(refusal, Refusal::Signatures { good: 0, .. }), "{refusal}");
}

#[test]
fn a_good_tag_object_under_another_name_is_refused() {
    let key = cert("maintainer");
    let mut tag = repo().tag("v1", Some(&key));
    tag.name = "v2".to_owned();
    let refusal = verify(&tag, &court("tag", 1, &[&key], &[&key])).unwrap_err();
    assert!(refusal.to_string().contains("signed for another tag"), "{refusal}");
}

#[test]
fn a_signature_over_other_bytes_is_refused() {
    let key = cert("maintainer");
    let repo = repo();
    let signed = repo.tag("v1", Some(&key));
    let text = String::from_utf8(signed.object).unwrap().replace("Release v1", "Release v1 (really)");
    let refusal =
        verify(&repo.tagged("v1", text.into_bytes()), &court("tag", 1, &[&key], &[&key])).unwrap_err();
    assert!(matches!(refusal, Refusal::Signatures { good: 0, .. }), "{refusal}");
}

#[test]
fn headers_in_the_armor_are_not_headers() {
    let key = cert("maintainer");
    let repo = repo();
    // Any text of a pinned key without an empty line, and the tag's headers where armor has comments.
    let text = b"0000  bitcoin.tar.gz\n".to_vec();
    let armor = String::from_utf8(detached(&key, &text)).unwrap();
    let headers = format!("\nComment: x\nobject {}\ntype commit\ntag v1\n\n", repo.commit);
    let forged = [text, armor.replacen("\n\n", &headers, 1).into_bytes()].concat();
    let id = Oid::hash_object(ObjectType::Tag, &forged).unwrap().to_string();
    let commit = repo.git.odb().unwrap().read(repo.commit).unwrap().data().to_vec();
    let tag =
        Tagged { name: "v1".to_owned(), id, object: forged, commit_id: repo.commit.to_string(), commit };
    let refusal = verify(&tag, &court("tag", 1, &[&key], &[&key])).unwrap_err();
    assert!(matches!(refusal, Refusal::Malformed { .. }), "{refusal}");
}

#[test]
fn a_header_that_stands_twice_is_refused() {
    let key = cert("maintainer");
    let repo = repo();
    let commit = repo.commit;
    let mut object = format!(
        "object {commit}\ntype commit\ntag v0\ntag v1\ntagger n <e@x.invalid> 1700000001 +0000\n\nx\n"
    )
    .into_bytes();
    let signature = detached(&key, &object);
    object.extend_from_slice(&signature);
    let refusal = verify(&repo.tagged("v1", object), &court("tag", 1, &[&key], &[&key])).unwrap_err();
    assert!(matches!(refusal, Refusal::Malformed { .. }), "{refusal}");
}

#[test]
fn an_object_that_does_not_have_its_id_is_refused() {
    let key = cert("maintainer");
    let mut tag = repo().tag("v1", Some(&key));
    tag.commit.extend_from_slice(b"more");
    let refusal = verify(&tag, &court("tag", 1, &[&key], &[&key])).unwrap_err();
    assert!(matches!(refusal, Refusal::Malformed { .. }), "{refusal}");
}
