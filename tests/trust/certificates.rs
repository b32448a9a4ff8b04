//! Missing certificates are found by their pinned fingerprints; the place where one is found is never trusted.

use std::time::{Duration, SystemTime};

use crate::harness::{GOOD, Outcome, Server, Upstream, World, cert, detached, export};
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::{CertBuilder, CertRevocationBuilder, CipherSuite};
use sequoia_openpgp::types::{KeyFlags, ReasonForRevocation};

const FILE: &str = "[require.it]\nkind = \"archive-signature\"\nthreshold = 1";

/// A world in which policy `p` pins `key`, whose certificate is nowhere, with a file that the key signed.
pub fn world(key: &Cert) -> World {
    let world = World::new();
    world.policy("p", FILE, &[("signer", key)]);
    world.file("f", "content\n");
    world.file("f.asc", detached(key, b"content\n"));
    world
}

/// Replaces the table `[keys]` of the configuration.
pub fn configure(world: &World, keys: &str) {
    let text = std::fs::read_to_string(world.path("hab.toml")).unwrap();
    let (before, after) = text.split_once("[keys]\n").unwrap();
    let (_, after) = after.split_once("[mirror]").unwrap();
    world.file("hab.toml", format!("{before}[keys]\n{keys}\n[mirror]{after}"));
}

/// The path at which a key server answers for a key.
pub fn asked_for(key: &Cert) -> String {
    format!("pks/lookup?op=get&options=mr&search=0x{:X}", key.fingerprint())
}

pub fn run(world: &World, words: &[&str]) -> Outcome {
    world.run("data", &[words, &["--json"]].concat())
}

pub fn verify(world: &World, more: &[&str]) -> Outcome {
    let (file, signature) =
        (world.path("f").display().to_string(), world.path("f.asc").display().to_string());
    run(world, &[&["verify", "file", &file, &signature, "--policy", "p"], more].concat())
}

pub fn standing(world: &World) -> String {
    run(world, &["keys", "list", "p"]).good().json[0]["standing"]["state"].as_str().unwrap().to_owned()
}

fn revoked(cert: &Cert) -> Cert {
    let mut signer = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let revocation = CertRevocationBuilder::new()
        .set_reason_for_revocation(ReasonForRevocation::KeyCompromised, b"stolen")
        .unwrap()
        .build(&mut signer, cert, None)
        .unwrap();
    cert.clone().insert_packets(revocation).unwrap().0
}

#[test]
fn a_missing_certificate_is_found_at_a_key_server_without_being_asked_for() {
    let key = cert("signer");
    let world = world(&key);
    // One server is away, the next does not know the key, and the third does.
    let [away, ignorant] = [Server::start(), Server::start()];
    away.stop();
    let servers = [away.address(), ignorant.address(), world.server.address()];
    configure(&world, &format!("servers = {servers:?}\ndirectories = false"));
    world.server.put(&asked_for(&key), export(&key));
    let found = verify(&world, &[]).good();
    let told = format!("certificates of signer were found at {}", world.server.address());
    assert!(found.stderr.contains(&told), "{}", found.stderr);
    assert!(found.stderr.contains(&format!("cannot get certificates from {}", away.address())));
    // The certificate is stored, so nobody is asked again.
    let before = world.server.requests().0;
    verify(&world, &[]).good();
    assert_eq!(world.server.requests().0, before);
    verify(&world, &["--offline"]).good();
}

#[test]
fn a_build_whose_maintainers_certificate_is_missing_finds_it() {
    let world = World::new();
    std::fs::remove_file(world.path("certificates/maintainer.gpg")).unwrap();
    let upstream = Upstream::new(&world.path("upstream.git"));
    upstream.tag("v1", upstream.commit("one\n"), Some(&world.maintainer));
    world.git_recipe("node", GOOD, &upstream.url());
    let plan =
        |more: &[&str]| run(&world, &[&["plan", "node", "v1", "--platform", "linux/amd64"], more].concat());
    let refused = plan(&[]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    // This world's configuration names no place to ask.
    assert!(!refused.stderr.contains("look for"), "{}", refused.stderr);
    let hint = refused.json["hint"].as_str().unwrap();
    assert!(
        hint.contains("hab-build keys refresh maintainers") && hint.contains("hab-build keys import"),
        "{hint}"
    );
    configure(&world, &format!("servers = [{:?}]\ndirectories = false", world.server.address()));
    world.server.put(&asked_for(&world.maintainer), export(&world.maintainer));
    plan(&[]).good();
}

#[test]
fn nobody_is_asked_offline_or_where_the_operator_does_not_want_it_or_twice_a_day() {
    let key = cert("signer");
    let world = world(&key);
    let server = world.server.address();
    let asked = || world.server.requests().0;
    let start = asked();
    configure(&world, &format!("search = false\nservers = [{server:?}]\ndirectories = false"));
    verify(&world, &[]).refused(3, &["no certificate of a key that policy p pins"]);
    configure(&world, &format!("servers = [{server:?}]\ndirectories = false"));
    verify(&world, &["--offline"]).refused(3, &["no certificate of a key that policy p pins"]);
    assert_eq!(asked(), start);
    let refused = verify(&world, &[]);
    assert_eq!(refused.code, Some(3));
    assert!(refused.stderr.contains("were not found: those of signer"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("hint: `hab-build keys refresh p` looks for them again"),
        "{}",
        refused.stderr
    );
    assert_eq!(asked(), start + 1);
    verify(&world, &[]).refused(3, &["no certificate"]);
    assert_eq!(asked(), start + 1);
    // `keys refresh` looks again, but not with --offline.
    world.server.put(&asked_for(&key), export(&key));
    run(&world, &["keys", "refresh", "p", "--offline"]).good();
    assert_eq!(asked(), start + 1);
    let refreshed = run(&world, &["keys", "refresh", "p"]).good();
    assert_eq!(refreshed.json["keys"][0]["found"][0], server);
    assert_eq!(refreshed.json["keys"][0]["learned"], true);
    verify(&world, &[]).good();
}

#[test]
fn a_key_server_that_answers_another_key_is_not_believed_and_is_named() {
    let (key, other) = (cert("signer"), cert("signer"));
    let world = world(&key);
    configure(&world, &format!("servers = [{:?}]\ndirectories = false", world.server.address()));
    world.server.put(&asked_for(&key), export(&other));
    world.file("f.asc", detached(&other, b"content\n"));
    let refused = verify(&world, &[]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    let told = format!("{} answered 1 times with another key", world.server.address());
    assert!(refused.stderr.contains(&told), "{}", refused.stderr);
    assert!(crate::harness::files_below(&world.path("data/certificates")).is_empty());
}

#[test]
fn an_answer_that_is_too_large_is_not_taken() {
    let key = cert("signer");
    let world = world(&key);
    configure(&world, &format!("servers = [{:?}]\ndirectories = false", world.server.address()));
    world.server.put(&asked_for(&key), [export(&key), vec![0; 5 << 20]].concat());
    let refused = verify(&world, &[]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("cannot get certificates from "), "{}", refused.stderr);
    assert!(crate::harness::files_below(&world.path("data/certificates")).is_empty());
}

#[test]
fn a_certificate_with_a_hostile_user_id_neither_moves_the_cursor_nor_leads_in() {
    let (key, _) = CertBuilder::new()
        .add_userid("\u{1b}[2J\r\u{202e}evil")
        .add_userid("A <a@h.localhost>")
        .set_cipher_suite(CipherSuite::Cv25519)
        .set_creation_time(SystemTime::now() - Duration::from_hours(24))
        .add_signing_subkey()
        .generate()
        .unwrap();
    let world = world(&key);
    configure(&world, &format!("servers = [{:?}]\ndirectories = true", world.server.address()));
    world.server.put(&asked_for(&key), export(&key));
    verify(&world, &[]).good();
    // The address leads to this machine, and a stranger chose it.
    let refreshed = run(&world, &["keys", "refresh", "p"]).good();
    let silent = refreshed.json["silent"].as_object().unwrap();
    assert!(
        silent["openpgpkey.h.localhost"].as_str().unwrap().contains("this machine or its network"),
        "{silent:?}"
    );
    world.policy("p", FILE, &[("another", &cert("another"))]);
    for words in [&["keys", "audit"][..], &["keys", "list"], &["keys", "refresh"]] {
        let shown = world.run("data", words).good();
        assert!(!shown.stderr.contains(['\u{1b}', '\r', '\u{202e}']), "{}", shown.stderr);
    }
}

#[test]
fn a_certificate_that_is_too_large_hides_no_other() {
    let keys: Vec<Cert> = (0..12).map(|_| cert("signer")).collect();
    let world = World::new();
    let pinned: Vec<(&str, &Cert)> = keys.iter().map(|key| ("signer", key)).collect();
    world.policy("p", FILE, &pinned);
    configure(&world, &format!("servers = [{:?}]\ndirectories = false", world.server.address()));
    let (large, good) = keys.split_at(6);
    for key in large {
        world.server.put(&asked_for(key), vec![0; 5 << 20]);
    }
    for key in good {
        world.server.put(&asked_for(key), export(key));
    }
    let refreshed = run(&world, &["keys", "refresh", "p"]);
    assert_eq!(refreshed.code, Some(4), "{}", refreshed.stderr);
    let learned = |key: &&serde_json::Value| key["learned"] == true;
    let rows = refreshed.json["keys"].as_array().unwrap();
    assert_eq!(rows.iter().filter(learned).count(), 6, "{}", refreshed.json);
    let why = refreshed.json["silent"][world.server.address()].as_str().unwrap();
    assert!(why.contains("more than the 4194304 bytes"), "{why}");
}

#[test]
fn a_certificate_is_found_in_a_folder_of_a_mirrored_project() {
    let key = cert("signer");
    let world = world(&key);
    let policy = std::fs::read_to_string(world.path("trust/p/policy.toml")).unwrap();
    world.file(
        "trust/p/policy.toml",
        format!("{policy}[[certificates]]\nproject = \"sigs\"\nfolder = \"builder-keys\"\n"),
    );
    let refused = verify(&world, &[]);
    assert!(
        refused.stderr.contains("`hab-build mirror sync sigs` brings its folder builder-keys"),
        "{}",
        refused.stderr
    );
    let git = git2::Repository::init_bare(world.path("sigs.git")).unwrap();
    let mut folder = git.treebuilder(None).unwrap();
    for (name, bytes) in
        [("other.gpg", export(&cert("other"))), ("signer.gpg", export(&key)), ("README", b"x".to_vec())]
    {
        folder.insert(name, git.blob(&bytes).unwrap(), 0o100_644).unwrap();
    }
    let mut root = git.treebuilder(None).unwrap();
    root.insert("builder-keys", folder.write().unwrap(), 0o040_000).unwrap();
    let tree = git.find_tree(root.write().unwrap()).unwrap();
    let who = git2::Signature::new("n", "e@x.invalid", &git2::Time::new(1_600_000_000, 0)).unwrap();
    git.commit(Some("refs/heads/trunk"), &who, &who, "keys", &tree, &[]).unwrap();
    let url = world.path("sigs.git").display().to_string();
    world.run("data", &["mirror", "add", "sigs", &url]).good();
    world.run("data", &["mirror", "sync", "sigs"]).good();
    let found = verify(&world, &["--offline"]).good();
    assert!(
        found.stderr.contains("certificates of signer were found in the folder builder-keys of sigs"),
        "{}",
        found.stderr
    );
    // Only pinned certificates are imported from the folder.
    assert_eq!(crate::harness::files_below(&world.path("data/certificates")).len(), 1);
    assert_eq!(standing(&world), "alive");
}

#[test]
fn a_revocation_that_was_found_once_stays() {
    let key = cert("signer");
    let world = world(&key);
    configure(&world, &format!("servers = [{:?}]\ndirectories = false", world.server.address()));
    world.server.put(&asked_for(&key), export(&key));
    verify(&world, &[]).good();
    world.server.put(&asked_for(&key), export(&revoked(&key)));
    let refreshed = run(&world, &["keys", "refresh", "p"]).good();
    assert_eq!(refreshed.json["keys"][0]["before"]["state"], "alive");
    assert_eq!(refreshed.json["keys"][0]["after"]["state"], "revoked");
    verify(&world, &[]).refused(3, &["revoked"]);
    // A server forgets the revocation, or an attacker makes it.
    world.server.put(&asked_for(&key), export(&key));
    let refreshed = run(&world, &["keys", "refresh", "p"]).good();
    assert_eq!(refreshed.json["keys"][0]["learned"], false);
    verify(&world, &[]).refused(3, &["revoked"]);
}

#[test]
fn an_expired_certificate_that_its_owner_extended_is_found_by_itself() {
    let day = Duration::from_hours(24);
    let flags = KeyFlags::empty().set_certification().set_signing();
    let (old, _) = CertBuilder::new()
        .add_userid("signer")
        .set_cipher_suite(CipherSuite::Cv25519)
        .set_creation_time(SystemTime::now() - 10 * day)
        .set_validity_period(5 * day)
        .set_primary_key_flags(flags)
        .generate()
        .unwrap();
    let mut signer = old.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let policy = sequoia_openpgp::policy::StandardPolicy::new();
    let end = Some(SystemTime::now() + 100 * day);
    let extended = old.set_expiration_time(&policy, None, &mut signer, end).unwrap();
    let new = old.clone().insert_packets(extended).unwrap().0;
    let world = World::new();
    world.policy("p", FILE, &[("signer", &old)]);
    world.file("f", "content\n");
    world.file("f.asc", detached(&new, b"content\n"));
    run(&world, &["keys", "import", &world.file("old.pgp", export(&old))]).good();
    let audit = run(&world, &["keys", "audit", "p"]).good();
    assert!(
        audit.stderr.contains("`hab-build keys refresh p` looks for a certificate that its owner extended")
    );
    assert_eq!(verify(&world, &[]).code, Some(3));
    configure(&world, &format!("servers = [{:?}]\ndirectories = false", world.server.address()));
    world.server.put(&asked_for(&new), export(&new));
    verify(&world, &[]).good();
    assert_eq!(standing(&world), "alive");
}

#[test]
fn keys_list_and_audit_say_what_is_missing_and_what_to_do() {
    let key = cert("signer");
    let world = world(&key);
    let what = "for signer: `hab-build keys refresh p` looks for them again; `hab-build keys import FILE`";
    for command in ["list", "audit"] {
        let said = run(&world, &["keys", command, "p"]).good();
        assert!(
            said.stderr.contains("pinned, certificate missing") && said.stderr.contains(what),
            "{}",
            said.stderr
        );
        assert!(said.json[0]["advice"].as_str().unwrap().contains("keys refresh p"), "{}", said.json);
    }
}
