//! Git upstreams: what they and other local users learn of a password, and what many refs cost.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::harness::{GitServer, Manner, Outcome, Upstream, World, files_below};

const USER: &str = "me@farm";
const PASSWORD: &str = "s3cret/with:all@of=it";
/// The same, escaped as in an address.
const ESCAPED: [&str; 2] = ["me%40farm", "s3cret%2Fwith%3Aall%40of%3Dit"];

fn authorization() -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}")))
}

/// The forms in which the password could appear.
fn forms() -> [String; 4] {
    let basic = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    [PASSWORD.to_owned(), ESCAPED[1].to_owned(), ESCAPED[1].to_lowercase(), basic]
}

#[track_caller]
fn keeps_quiet(what: &str, text: &str) {
    for form in forms() {
        assert!(!text.contains(&form), "{what} has the password:\n{text}");
    }
}

/// A world with an upstream that asks for the password, and a git that logs what it and its helpers are given.
struct Watched {
    world: World,
    upstream: Upstream,
    server: GitServer,
}

impl Watched {
    fn new() -> Self {
        let world = World::new();
        let upstream = Upstream::new(&world.path("served/p.git"));
        upstream.tag("v1.0", upstream.commit("one\n"), None);
        let manner = Manner::Serves { root: world.path("served"), authorization: authorization() };
        let watched = Self { server: GitServer::start(manner), world, upstream };
        watched.write_git();
        watched
    }

    /// Writes wrappers for git and its transports. git uses them for every program that it starts, because it looks for
    /// its programs in this folder.
    fn write_git(&self) {
        let real = Command::new("git").arg("--exec-path").output().unwrap();
        let real = String::from_utf8(real.stdout).unwrap().trim().to_owned();
        let log = self.world.path("log");
        fs::create_dir(self.world.path("fake")).unwrap();
        for name in ["git", "git-remote-http", "git-remote-https"] {
            let text = format!(
                "#!/bin/sh\n{{ echo \"argv: $0 $*\"; env; }} >>'{}'\nexec '{real}/{name}' \"$@\"\n",
                log.display()
            );
            let path = self.world.path("fake").join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    /// Writes what hab.toml says about the project `p`.
    fn configure(&self, urls: &[&str], more: &str) {
        let text = fs::read_to_string(self.world.path("hab.toml")).unwrap();
        let before = text.split("[git.p]").next().unwrap();
        self.world.file("hab.toml", format!("{before}[git.p]\nurls = {urls:?}\n{more}\n"));
    }

    fn password_file(&self) -> String {
        let path = self.world.file("password", format!("{PASSWORD}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        format!("password-file = {path:?}")
    }

    fn run(&self, words: &[&str]) -> Outcome {
        let fake = self.world.path("fake");
        let path = format!("{}:{}", fake.display(), std::env::var("PATH").unwrap());
        let mut command = self.world.command("data", words);
        // Variables that would make git and curl log everything that they send.
        command.env("PATH", path).env("GIT_EXEC_PATH", fake).env("GIT_CURL_VERBOSE", "1");
        command.env("GIT_TRACE_CURL", self.world.path("trace")).env("GIT_TRACE_REDACT", "0");
        let output = command.output().unwrap();
        keeps_quiet("stdout", &String::from_utf8_lossy(&output.stdout));
        Outcome::of(&output)
    }

    /// The log of git and its helpers so far.
    fn log(&self) -> String {
        fs::read_to_string(self.world.path("log")).unwrap_or_default()
    }

    /// How many git processes a run starts.
    fn processes(&self, words: &[&str]) -> usize {
        let before = self.log().matches("argv: ").count();
        self.run(words).good();
        self.log().matches("argv: ").count() - before
    }

    #[track_caller]
    fn nobody_learned_it(&self) {
        keeps_quiet("a command line or environment", &self.log());
        for (path, bytes) in files_below(&self.world.path("data")) {
            keeps_quiet(&path.display().to_string(), &String::from_utf8_lossy(&bytes));
        }
        assert!(!self.world.path("trace").exists(), "git wrote down what it said");
    }
}

#[test]
fn a_password_reaches_no_command_line_no_environment_and_no_file() {
    let watched = Watched::new();
    let host = watched.server.host();
    let [user, password] = ESCAPED;
    let from_file = watched.password_file();
    for (url, more, warns) in [
        (format!("http://{user}:{password}@{host}/p.git"), "", true),
        (format!("http://{user}@{host}/p.git"), from_file.as_str(), false),
    ] {
        watched.configure(&[&url], more);
        // The first clone, and a later sync.
        let first = watched.run(&["mirror", "sync", "p", "--json"]).good();
        watched.upstream.commit("later\n");
        let later = watched.run(&["mirror", "sync", "p", "--json"]).good();
        assert_eq!(later.json[0]["upstream"], format!("http://{host}/p.git"));
        assert_eq!(later.json[0]["moved"], 1);
        for outcome in [&first, &later] {
            assert_eq!(
                outcome.stderr.contains("a password stands in the address of"),
                warns,
                "{}",
                outcome.stderr
            );
            keeps_quiet("stderr", &outcome.stderr);
        }
        for words in [
            &["mirror", "list", "--json"][..],
            &["mirror", "log", "p", "--json"],
            &["mirror", "upkeep", "p", "--json"],
            &["mirror", "export", &watched.world.path("out.tar.zst").display().to_string(), "--json"],
        ] {
            keeps_quiet("stderr", &watched.run(words).good().stderr);
        }
        let exported = zstd::decode_all(fs::File::open(watched.world.path("out.tar.zst")).unwrap()).unwrap();
        keeps_quiet("the export", &String::from_utf8_lossy(&exported));
        watched.nobody_learned_it();
        assert!(watched.log().contains("git-remote-http"), "the transports are watched too");
        fs::remove_dir_all(watched.world.path("data")).unwrap();
    }
    assert!(watched.server.told().iter().all(|told| *told == authorization()));
}

#[test]
fn a_password_is_for_the_host_that_names_its_user_and_for_no_other() {
    let watched = Watched::new();
    let other = GitServer::start(Manner::Asks);
    let good = format!("http://me%40farm@{}/p.git", watched.server.host());
    watched.configure(&[&good, &format!("http://{}/p.git", other.host())], &watched.password_file());
    let synced = watched.run(&["mirror", "sync", "p", "--json"]).good();
    assert_eq!(synced.json[0]["moved"], 2);
    // A redirect by the right host does not send the password elsewhere either.
    let redirects = GitServer::start(Manner::Redirects(format!("http://{}", other.host())));
    watched.configure(&[&format!("http://me%40farm@{}/p.git", redirects.host())], &watched.password_file());
    watched.run(&["mirror", "sync", "p"]).refused(4, &["git ls-remote failed"]);
    // A host that no address gives a user gets an empty user, which tells it nothing.
    assert!(other.told().iter().all(|told| told == "Basic Og=="), "{:?}", other.told());
    assert!(redirects.told().is_empty());
    watched.nobody_learned_it();
}

#[test]
fn an_upstream_that_repeats_the_password_is_not_quoted_with_it() {
    let watched = Watched::new();
    let repeats = GitServer::start(Manner::Repeats);
    let [user, password] = ESCAPED;
    watched.configure(&[&format!("http://{user}:{password}@{}/p.git", repeats.host())], "");
    let outcome = watched.run(&["mirror", "sync", "p", "--json"]);
    keeps_quiet("stderr", &outcome.stderr);
    assert!(!outcome.stderr.contains(['\u{202e}', '\u{1b}']), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("you said"), "what it said is quoted: {}", outcome.stderr);
    outcome.refused(4, &["git ls-remote failed"]);
    watched.run(&["mirror", "list", "--json"]).good();
    assert_eq!(repeats.told().len(), 1);
    watched.nobody_learned_it();
}

#[test]
fn a_password_file_that_is_for_nobody_or_that_others_read_is_refused() {
    let watched = Watched::new();
    let (host, file) = (watched.server.host(), watched.password_file());
    let refuse = |urls: &[&str], words: &[&str]| {
        watched.configure(urls, &file);
        watched.run(&["mirror", "sync", "p"]).refused(2, words);
    };
    refuse(&[&format!("http://{host}/p.git")], &["no address names its user", "https://USER@host"]);
    refuse(&[&format!("http://a@{host}/p.git"), "https://b@h.invalid/p.git"], &["only one of them"]);
    // Addresses from other files do not decide who gets the password.
    refuse(&[], &["[git.p] names a password-file and no urls"]);
    let path = watched.world.path("password");
    for mode in [0o644, 0o602, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        watched.configure(&[&format!("http://me%40farm@{host}/p.git")], &file);
        watched.run(&["mirror", "sync", "p"]).refused(2, &["others may read or change it", "chmod 600"]);
    }
    assert!(watched.server.told().is_empty());
}

#[test]
fn a_password_where_every_user_would_see_it_is_refused_and_not_told() {
    let watched = Watched::new();
    for url in [
        "ssh://me:s3cret-word@h.invalid/p",
        "git://me:s3cret-word@h.invalid/p",
        "me:s3cret-word@h.invalid:p",
        "https://h.invalid/p.git?private_token=s3cret-word",
    ] {
        watched.configure(&[url], "");
        let outcome = watched.run(&["mirror", "sync", "p", "--json"]);
        assert!(
            !outcome.stderr.contains("s3cret") && !outcome.json.to_string().contains("s3cret"),
            "{}",
            outcome.stderr
        );
        outcome.refused(2, &["cannot fetch from", "h.invalid"]);
        assert!(!watched.log().contains("s3cret"));
    }
}

/// Adds tags with new commits.
fn tags(upstream: &Upstream, count: usize, prefix: &str) {
    for n in 0..count {
        upstream.tag(&format!("{prefix}{n}"), upstream.commit(&format!("{prefix}{n}\n")), None);
    }
}

#[test]
fn a_thousand_new_tags_start_as_many_processes_as_one() {
    let watched = Watched::new();
    let url = watched.world.path("served/p.git").display().to_string();
    watched.configure(&[&url], "");
    let sync = ["mirror", "sync", "p"];
    watched.run(&sync).good();
    tags(&watched.upstream, 1, "one");
    let one = watched.processes(&sync);
    tags(&watched.upstream, 1000, "many");
    let many = watched.processes(&sync);
    assert!(many <= one, "{one} for one tag, {many} for a thousand");
    let refs = git(&watched.world.path("data/git/p.git"), &["for-each-ref", "refs/tags"]);
    assert_eq!(refs.lines().count(), 1002);
    // The same holds for an export that is imported.
    let file = watched.world.path("out.tar.zst").display().to_string();
    watched.run(&["mirror", "export", &file]).good();
    fs::rename(watched.world.path("data"), watched.world.path("gone")).unwrap();
    let imported = watched.processes(&["mirror", "import", &file]);
    assert!(imported < 10, "{imported} to import a thousand");
    assert_eq!(git(&watched.world.path("data/git/p.git"), &["for-each-ref", "refs/tags"]), refs);
    watched.run(&["mirror", "verify", "p"]).good();
}

#[test]
fn a_ref_s_name_that_turns_or_hides_text_is_shown_as_what_it_is() {
    let watched = Watched::new();
    let url = watched.world.path("served/p.git").display().to_string();
    watched.configure(&[&url], "");
    watched.upstream.tag("v1.0\u{202e}\u{2066}", watched.upstream.commit("two\n"), None);
    watched.run(&["mirror", "sync", "p"]).good();
    watched.upstream.tag("v1.0\u{202e}\u{2066}", watched.upstream.commit("three\n"), None);
    for words in [
        &["mirror", "sync", "p", "--json"][..],
        &["mirror", "log", "p", "--json"],
        &["mirror", "list", "--json"],
    ] {
        let output = watched.world.command("data", words).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(output.status.success(), "{text}");
        assert!(text.contains("202e"), "{text}");
        assert!(!text.contains(['\u{202e}', '\u{2066}']), "{text}");
    }
}

#[track_caller]
fn git(folder: &Path, words: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
