//! `hab-build verify` and `hab-build keys`: questions of people, and decisions that can be made again.

use crate::harness::{GOOD, Outcome, Upstream, World, cert, clearsign, detached, export};
use sequoia_openpgp::Cert;
use sequoia_openpgp::parse::Parse as _;

const FILE: &str = "[require.it]\nkind = \"archive-signature\"\nthreshold = 1";
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

#[test]
fn a_file_is_judged_and_the_decision_can_be_made_again_without_it() {
    let key = cert("signer");
    let world = world(FILE, &[("signer", &key)]);
    let (file, signature) = (world.file("f", "content\n"), world.file("f.asc", detached(&key, b"content\n")));
    let decided = run(&world, &["verify", "file", &file, &signature, "--policy", "p"]).good();
    assert_eq!(decided.json["decision"]["evidence"]["signatures"][0]["verdict"], "good");
    assert!(decided.stderr.contains("accepted, by requirement it of policy p"), "{}", decided.stderr);
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_file(&signature).unwrap();
    std::fs::remove_dir_all(world.path("trust/p")).unwrap();
    std::fs::remove_dir_all(world.path("data/certificates")).unwrap();
    let document = decided.json["document"].as_str().unwrap();
    let again = run(&world, &["verify", "--offline", "--evidence", document]).good();
    assert_eq!(again.json["decision"], decided.json["decision"]);
}

#[test]
fn a_decision_that_was_changed_or_whose_bytes_are_gone_is_refused() {
    let key = cert("signer");
    let world = world(FILE, &[("signer", &key)]);
    let file = world.file("f", "content\n");
    let bad = world.file("f.asc", detached(&key, b"other\n"));
    let refused = run(&world, &["verify", "file", &file, &bad, "--policy", "p"]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert_eq!(refused.json["exit"], 3);
    assert!(refused.json["decision"]["refusal"].is_string());
    let again = |decision: &serde_json::Value| {
        run(&world, &["verify", "--evidence", &world.file("decision.json", decision.to_string())])
    };
    // A refusal that is made again is the same refusal.
    assert_eq!(again(&refused.json["decision"]).code, Some(3));
    // Somebody forges an acceptance, with a time of their choice.
    for (field, value) in [("refusal", serde_json::Value::Null), ("at", "2023-07-01T00:00:00Z".into())] {
        let mut forged = refused.json["decision"].clone();
        forged[field] = value;
        again(&forged).refused(3, &["was not made by this farm"]);
    }
    again(&"{}".into()).refused(3, &["cannot read the decision"]);
    let huge = world.file("huge.json", vec![b' '; 17 << 20]);
    run(&world, &["verify", "--evidence", &huge]).refused(3, &["more than 16777216 bytes"]);
    run(&world, &["verify", "--evidence", "nowhere.json"]).refused(2, &["nowhere.json does not exist"]);
    let digest = hab_oci::Digest::of(b"content\n");
    let blob = world.path("data/blobs/sha256").join(&digest.hex()[..2]).join(digest.hex());
    std::fs::remove_file(blob).unwrap();
    again(&refused.json["decision"]).refused(3, &["is not listed in this store"]);
}

#[test]
fn a_clearsigned_file_and_a_pinned_one_need_no_second_file() {
    let key = cert("signer");
    let world = world(FILE, &[("signer", &key)]);
    let clear = world.file("c", clearsign(&key, "text\n"));
    run(&world, &["verify", "file", &clear, "--policy", "p"]).good();
    let plain = world.file("plain", "text\n");
    run(&world, &["verify", "file", &plain, "--policy", "p"]).refused(3, &["carries no signature"]);
    let digest = hab_oci::Digest::of(b"text\n");
    world.policy("d", &format!("[require.it]\nkind = \"digest\"\nfiles = {{ plain = \"{digest}\" }}"), &[]);
    run(&world, &["verify", "file", &plain, "--policy", "d"]).good();
    let other = world.file("other/plain", "text");
    run(&world, &["verify", "file", &other, "--policy", "d"])
        .refused(3, &["is not the file that policy d names"]);
}

#[test]
fn a_tag_of_a_repository_is_judged() {
    let key = cert("maintainer");
    let world = world("[require.it]\nkind = \"tag\"\nthreshold = 1", &[("maintainer", &key)]);
    let upstream = Upstream::new(&world.path("node.git"));
    let commit = upstream.commit("one\n");
    upstream.tag("v1", commit, Some(&key));
    upstream.tag("v2", commit, None);
    let verify = |tag: &str| run(&world, &["verify", "tag", &upstream.url(), tag, "--policy", "p"]);
    let good = verify("v1").good();
    assert_eq!(good.json["decision"]["question"]["commit"], commit.to_string());
    assert_eq!(verify("v2").code, Some(3));
    verify("v3").refused(2, &["has no tag v3"]);
    run(&world, &["verify", "tag", &upstream.url(), "v1", "--policy", "nobody"])
        .refused(2, &["no policy nobody"]);
    run(&world, &["verify", "tag", &upstream.url(), "v1", "--policy", "../p"])
        .refused(2, &["no policy ../p"]);
    run(&world, &["verify", "tag", &world.path("nowhere").display().to_string(), "v1", "--policy", "p"])
        .refused(2, &["nowhere does not exist"]);
}

#[test]
fn a_list_of_hashes_needs_enough_signers() {
    let (a, b) = (cert("a"), cert("b"));
    let world = world(SUMS, &[("a", &a), ("b", &b)]);
    let list = format!("{}  file\n", "ab".repeat(32));
    let sums = world.file("SHA256SUMS", &list);
    let by_a = world.file("a.asc", detached(&a, list.as_bytes()));
    let by_b = world.file("b.asc", detached(&b, list.as_bytes()));
    run(&world, &["verify", "sums", &sums, &by_a, &by_b, "--policy", "p"]).good();
    let twice = run(&world, &["verify", "sums", &sums, &by_a, &by_a, "--policy", "p"]);
    assert_eq!(twice.code, Some(3));
    assert!(twice.stderr.contains("1 of 2 required"), "{}", twice.stderr);
}

#[test]
fn builders_that_disagree_are_shown_and_refused() {
    let (a, b) = (cert("a"), cert("b"));
    let world = world(SUMS, &[("a", &a), ("b", &b)]);
    let says = |builder: &str, key: &Cert, byte: &str| {
        let list = format!("{}  file-1.0\n", byte.repeat(32));
        world.file(&format!("sigs/1.0/{builder}/all.SHA256SUMS"), &list);
        world.file(&format!("sigs/1.0/{builder}/all.SHA256SUMS.asc"), detached(key, list.as_bytes()));
    };
    let folder = world.path("sigs").display().to_string();
    let verify = || run(&world, &["verify", "attestations", &folder, "1.0", "--policy", "p"]);
    says("a", &a, "aa");
    says("b", &b, "aa");
    let agreed = verify().good();
    assert_eq!(agreed.json["attestations"]["lists"][1]["files"][0]["outcome"], "agreed");
    says("b", &b, "bb");
    let disputed = verify();
    assert_eq!(disputed.code, Some(3));
    assert!(
        disputed.stderr.contains("DISPUTED") && disputed.stderr.contains("a say aaaa"),
        "{}",
        disputed.stderr
    );
    run(&world, &["verify", "attestations", &folder, "2.0", "--policy", "p"])
        .refused(2, &["2.0 does not exist"]);
}

#[test]
fn keys_are_imported_listed_and_audited() {
    let (pinned, missing, stray) = (cert("pinned"), cert("missing"), cert("stray"));
    let world = world(FILE, &[("pinned", &pinned)]);
    world.policy("p", FILE, &[("pinned", &pinned), ("missing", &missing)]);
    let stray_file = world.file("stray.asc", export(&stray));
    let imported = run(&world, &["keys", "import", &stray_file]).good();
    assert_eq!(imported.json["new"][0], stray.fingerprint().to_string());
    let again = run(&world, &["keys", "import", &stray_file]).good();
    assert_eq!(again.json["unchanged"][0], stray.fingerprint().to_string());
    let empty = world.file("empty.asc", "nothing");
    run(&world, &["keys", "import", &empty]).refused(2, &["no OpenPGP certificate"]);

    let states = |rows: &serde_json::Value| -> Vec<String> {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|r| format!("{} {}", r["name"].as_str().unwrap(), r["standing"]["state"].as_str().unwrap()))
            .collect()
    };
    let listed = run(&world, &["keys", "list", "p"]).good();
    assert_eq!(states(&listed.json), ["pinned alive", "missing missing"]);
    assert!(listed.json[0]["last_signed"].is_null());
    let (file, signature) = (world.file("f", "x"), world.file("f.asc", detached(&pinned, b"x")));
    run(&world, &["verify", "file", &file, &signature, "--policy", "p"]).good();
    assert!(run(&world, &["keys", "list", "p"]).good().json[0]["last_signed"].is_u64());

    let audit = run(&world, &["keys", "audit", "p"]).good();
    let found: Vec<_> = audit.json.as_array().unwrap().iter().map(|f| f["words"].as_str().unwrap()).collect();
    assert!(found.contains(&"pinned, certificate missing"), "{found:?}");
    assert!(found.contains(&"imported, but no policy pins it"), "{found:?}");
    let shown = run(&world, &["keys", "show", &pinned.fingerprint().to_string()]).good();
    assert_eq!(shown.json["pins"][0]["policy"], "p");
    run(&world, &["keys", "show", "1234"]).refused(2, &["not a whole fingerprint"]);
}

#[test]
fn an_import_loses_nothing_that_a_certificate_had() {
    let key = cert("key");
    let world = world(FILE, &[]);
    // The certificate with its secret key, as a careless owner exports it.
    let whole =
        world.file("whole.pgp", sequoia_openpgp::serialize::SerializeInto::to_vec(&key.as_tsk()).unwrap());
    run(&world, &["keys", "import", &whole]).good();
    // An export without the subkey, as from a key server that strips certificates.
    let packets: Vec<_> = key.clone().into_packets().collect();
    let cut = packets.iter().position(|p| matches!(p, sequoia_openpgp::Packet::PublicSubkey(_))).unwrap();
    let poor = Cert::from_packets(packets.into_iter().take(cut)).unwrap();
    let poor = world.file("poor.pgp", export(&poor));
    let imported = run(&world, &["keys", "import", &poor]).good();
    assert_eq!(imported.json["unchanged"].as_array().unwrap().len(), 1);
    let kept = crate::harness::files_below(&world.path("data/certificates"));
    let bytes = kept.values().next().unwrap();
    assert_eq!(Cert::from_bytes(bytes).unwrap().keys().count(), 2);
    // Only certificates are stored, never a secret key.
    assert!(!Cert::from_bytes(bytes).unwrap().is_tsk());
}

#[test]
fn unsigned_source_is_built_only_when_it_is_asked_for_and_is_labelled() {
    let world = World::new();
    world.policy(
        "maintainers",
        "accept = \"none\"\n[require.none]\nkind = \"unsigned\"\nreason = \"it signs nothing\"",
        &[],
    );
    let upstream = Upstream::new(&world.path("upstream.git"));
    upstream.tag("v1", upstream.commit("one\n"), None);
    world.git_recipe("node", GOOD, &upstream.url());
    let words = ["node", "v1", "--platform", "linux/amd64"];
    run(&world, &words).refused(3, &["it signs nothing", "--accept-unsigned"]);
    let built = run(&world, &[&words[..], &["--accept-unsigned"]].concat()).good();
    assert_eq!(built.json["source"]["evidence"]["kind"], "unsigned");
    assert_eq!(built.json["index"]["repository"], "unsigned/test/node");
    // The permission is needed at every run.
    run(&world, &words).refused(3, &["--accept-unsigned"]);
    // A policy that demands signatures ignores --accept-unsigned.
    world.policy("maintainers", "[require.it]\nkind = \"tag\"\nthreshold = 1", &[("m", &world.maintainer)]);
    run(&world, &[&words[..], &["--accept-unsigned"]].concat()).refused(3, &["carries no signature"]);
}

#[test]
fn a_history_is_judged_once_and_the_decision_can_be_made_again() {
    let key = cert("maintainer");
    let world = World::new();
    let upstream = Upstream::new(&world.path("node.git"));
    let root = upstream.commit("root\n");
    let rule =
        |root: &str| format!("[require.it]\nkind = \"commit-chain\"\nroot = \"{root}\"\ntree-sha512 = false");
    world.policy("p", &rule(&root.to_string()), &[("maintainer", &key)]);
    let file = world.file("key.pgp", export(&key));
    run(&world, &["keys", "import", &file]).good();
    let good = upstream.signed_commit("one\n", &key);
    let verify = |words: &[&str]| {
        run(&world, &[&["verify", "commits", &upstream.url(), "--policy", "p"], words].concat())
    };
    let first = verify(&["main"]).good();
    assert_eq!(first.json["summary"]["commits"], 1);
    assert_eq!(first.json["summary"]["by_key"]["maintainer"], 1);
    let second = verify(&["main"]).good();
    assert_eq!(
        (&second.json["resumed"], &second.json["summary"]["commits"]),
        (&good.to_string().into(), &0.into())
    );
    let again = run(&world, &["verify", "--evidence", first.json["document"].as_str().unwrap()]).good();
    assert_eq!(again.json["decision"], first.json["decision"]);
    // Add an unsigned commit on top.
    let bad = upstream.commit("two\n");
    let refused = verify(&["main"]);
    assert_eq!(refused.code, Some(3));
    assert!(
        refused.stderr.contains(&format!("commit {bad} is refused: it is not signed")),
        "{}",
        refused.stderr
    );
    verify(&["nowhere"]).refused(2, &["has no commit nowhere"]);
    // The history does not begin at the policy's root.
    world.policy("p", &rule(&"1".repeat(40)), &[("maintainer", &key)]);
    assert_eq!(verify(&[&good.to_string()]).code, Some(3));
}

#[test]
fn a_history_is_judged_anew_when_a_certificate_says_more() {
    let key = cert("maintainer");
    let world = World::new();
    let upstream = Upstream::new(&world.path("node.git"));
    let root = upstream.commit("root\n");
    let rule = format!("[require.it]\nkind = \"commit-chain\"\nroot = \"{root}\"\ntree-sha512 = false");
    world.policy("p", &rule, &[("maintainer", &key)]);
    let file = world.file("key.pgp", export(&key));
    run(&world, &["keys", "import", &file]).good();
    upstream.signed_commit("one\n", &key);
    let verify = || run(&world, &["verify", "commits", &upstream.url(), "main", "--policy", "p"]);
    verify().good();
    let mut signer = key.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let revocation = sequoia_openpgp::cert::CertRevocationBuilder::new()
        .set_reason_for_revocation(sequoia_openpgp::types::ReasonForRevocation::KeyCompromised, b"stolen")
        .unwrap()
        .build(&mut signer, &key, None)
        .unwrap();
    let revoked = world.file("revoked.pgp", export(&key.clone().insert_packets(revocation).unwrap().0));
    let imported = run(&world, &["keys", "import", &revoked]).good();
    assert_eq!(imported.json["grown"][0], key.fingerprint().to_string());
    let refused = verify();
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("revoked"), "{}", refused.stderr);
}

#[test]
fn a_lightweight_unsigned_tag_is_taken_as_often_as_it_is_asked_for() {
    let world = World::new();
    let unsigned = "accept = \"none\"\n[require.none]\nkind = \"unsigned\"\nreason = \"it signs nothing\"";
    world.policy("maintainers", unsigned, &[]);
    let upstream = Upstream::new(&world.path("upstream.git"));
    let commit = upstream.commit("one\n");
    upstream.lightweight_tag("v1", commit);
    world.git_recipe("node", GOOD, &upstream.url());
    let words = ["plan", "node", "v1", "--platform", "linux/amd64", "--accept-unsigned"];
    run(&world, &words).good();
    run(&world, &words).good();
    // A signed tag of the same name is not refused because the name was accepted unsigned before.
    world.policy("maintainers", "[require.it]\nkind = \"tag\"\nthreshold = 1", &[("m", &world.maintainer)]);
    upstream.tag("v1", commit, Some(&world.maintainer));
    run(&world, &["plan", "node", "v1", "--platform", "linux/amd64"]).good();
}

#[test]
fn names_from_outside_do_not_move_the_cursor() {
    let key = cert("a");
    let world = world(SUMS, &[("a", &key), ("b", &cert("b"))]);
    let evil = "evil\u{1b}[2K\rFAKE: agreed";
    world.file(&format!("sigs/1.0/{evil}/all.SHA256SUMS"), "x");
    let folder = world.path("sigs").display().to_string();
    let shown = run(&world, &["verify", "attestations", &folder, "1.0", "--policy", "p"]);
    assert!(
        shown.stderr.contains("FAKE") && !shown.stderr.contains('\u{1b}') && !shown.stderr.contains('\r')
    );
}
