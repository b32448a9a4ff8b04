//! A data folder that lost one half, or that other users may read and write.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::harness::{Outcome, Serving, World, files_below};

const CATALOG: [&str; 3] = ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"];

fn store(world: &World, words: &[&str]) -> Outcome {
    world.run("data", &[&["store"], words, &["--json"]].concat())
}

/// The files of the blobs, without the journal and the copies of the catalog.
fn blobs(world: &World) -> Vec<PathBuf> {
    let found = files_below(&world.path("data/blobs"));
    found.into_keys().filter(|path| path.components().any(|part| part.as_os_str() == "sha256")).collect()
}

fn hex(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.rsplit('-').next().unwrap().to_owned()
}

/// Sets the time of every file to two days ago, which a scrub takes for old.
fn age(world: &World) {
    let old = fs::FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(2 * 24 * 60 * 60));
    for path in blobs(world) {
        fs::File::open(path).unwrap().set_times(old).unwrap();
    }
}

fn move_catalog(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in CATALOG.iter().filter(|name| from.join(name).exists()) {
        fs::rename(from.join(name), to.join(name)).unwrap();
    }
}

fn manifest(world: &World) -> (u16, Vec<u8>) {
    Serving::start(world).get("/v2/test/hello/manifests/1.0-1")
}

#[test]
fn a_lost_catalog_stops_serve_and_costs_no_blob_and_is_made_again_whole() {
    let world = World::new();
    world.build("data", "hello").good();
    age(&world);
    let (before, served) = (blobs(&world), manifest(&world));
    assert_eq!(served.0, 200);
    move_catalog(&world.path("data"), &world.path("lost"));
    for words in
        [&["serve", "--listen", "127.0.0.1:0"][..], &["registry", "scrub"], &["registry", "gc"], &["hello"]]
    {
        let words = [words, &["--json"]].concat();
        world.run("data", &words).refused(1, &["cannot use", "data: there are blobs", "it was lost"]);
    }
    let status = store(&world, &["status"]);
    status.refused(1, &["it was lost"]);
    assert!(status.stderr.contains("hint: `hab-build store rebuild`"), "{}", status.stderr);
    assert_eq!(blobs(&world), before);
    let rebuilt = store(&world, &["rebuild"]).good();
    assert_eq!((rebuilt.json["lost"].as_array().unwrap().len(), &rebuilt.json["missing"]), (0, &0.into()));
    assert_eq!(manifest(&world), served);
    let again = world.build("data", "hello").good();
    assert!(again.stderr.contains("cache") || again.json.to_string().contains("cache"), "{}", again.json);
    assert_eq!(blobs(&world), before);
}

#[test]
fn an_empty_catalog_beside_blobs_is_no_reason_to_delete_them() {
    let world = World::new();
    world.build("data", "hello").good();
    age(&world);
    let before = blobs(&world);
    move_catalog(&world.path("data"), &world.path("lost"));
    fs::write(world.path("data/catalog.sqlite"), "").unwrap();
    world.run("data", &["registry", "scrub", "--json"]).refused(1, &["new or empty"]);
    assert_eq!(blobs(&world), before);
    // A person who insists loses nothing either: unknown files are only set aside.
    store(&world, &["accept"]).good();
    world.run("data", &["registry", "scrub", "--json"]).good();
    let left: BTreeSet<_> = blobs(&world).iter().map(|path| hex(path)).collect();
    let aside: BTreeSet<_> =
        files_below(&world.path("data/blobs/strays")).keys().map(|path| hex(path)).collect();
    let before = before.iter().map(|path| hex(path)).collect();
    assert_eq!(left.union(&aside).cloned().collect::<BTreeSet<_>>(), before);
    let strays = store(&world, &["strays"]).good().json;
    assert_eq!(strays["files"].as_array().unwrap().len(), aside.len());
}

#[test]
fn yesterdays_catalog_is_refused_and_brought_up_to_today() {
    let world = World::new();
    world.build("data", "hello").good();
    let yesterday = world.path("yesterday");
    move_catalog(&world.path("data"), &yesterday);
    move_catalog_back(&yesterday, &world.path("data"));
    let digest = retagged(&world);
    move_catalog(&world.path("data"), &world.path("today"));
    move_catalog_back(&yesterday, &world.path("data"));
    let refused = world.run("data", &["registry", "list", "--json"]);
    refused.refused(1, &["the catalog is older than the blobs: it lacks the last"]);
    assert!(refused.json["hint"].as_str().unwrap().contains("store rebuild"), "{}", refused.json);
    let rebuilt = store(&world, &["rebuild"]).good();
    assert!(rebuilt.json["replayed"].as_u64().unwrap() > 0, "{}", rebuilt.json);
    let tags = world.run("data", &["registry", "list", "test/hello", "--json"]).good();
    assert_eq!(tags.json[0]["digest"], digest.as_str());
}

fn move_catalog_back(from: &Path, to: &Path) {
    for name in CATALOG.iter().filter(|name| from.join(name).exists()) {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// Builds another image at the same tag, and returns its index.
fn retagged(world: &World) -> String {
    world.recipe("hello", &format!("{}echo more > $OUT/etc/more\n", crate::harness::GOOD));
    world.build("data", "hello").good().index()
}

#[test]
fn a_damaged_catalog_is_not_ready_and_the_log_names_it_with_the_next_step() {
    let world = World::new();
    world.build("data", "hello").good();
    let mut child = world
        .command("data", &["serve", "--listen", "127.0.0.1:0", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    while !text.contains('}') {
        assert!(std::io::BufRead::read_line(&mut stdout, &mut text).unwrap() > 0, "serve ended: {text}");
    }
    let listen =
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["listen"].as_str().unwrap().to_owned();
    for name in &CATALOG[..2] {
        let file = fs::OpenOptions::new().write(true).open(world.path("data").join(name)).unwrap();
        let junk = vec![0x5a; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        std::os::unix::fs::FileExt::write_all_at(&file, &junk, 0).unwrap();
    }
    let begun = Instant::now();
    let answer = loop {
        let answer = ask(&listen, "/readyz");
        if answer.starts_with("HTTP/1.1 503") || begun.elapsed() > Duration::from_secs(20) {
            break answer;
        }
        let _ = ask(&listen, "/v2/test/hello/manifests/1.0-1");
        std::thread::sleep(Duration::from_millis(200));
    };
    let _ = child.kill();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let _ = child.wait();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("catalog is damaged"), "{answer}\n{said}");
    assert!(said.contains("data/catalog.sqlite") && said.contains("store rebuild"), "{said}");
}

fn ask(address: &str, path: &str) -> String {
    use std::io::Write as _;
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn signals_that_ask_for_something_do_not_end_serve() {
    let world = World::new();
    let serving = Serving::start(&world);
    for signal in ["HUP", "USR1", "USR2", "HUP"] {
        serving.signal(signal);
        assert_eq!(serving.get("/healthz").0, 200, "{signal}");
    }
}

#[test]
fn what_is_kept_is_for_its_owner_alone_whatever_the_umask() {
    let world = World::new();
    let script = "umask 0; exec \"$0\" \"$@\"";
    let command = world.command("data", &["recipes", "--json"]);
    let serve = world.command("data", &["registry", "list", "--json"]);
    for command in [command, serve] {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(command.get_program()).args(command.get_args()).env("NO_COLOR", "1");
        assert!(shell.output().unwrap().status.success());
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&world.path("data")), 0o700);
    for path in files_below(&world.path("data")).into_keys() {
        assert_eq!(mode(&path) & 0o022, 0, "{}", path.display());
    }
    // A data folder as an older version or a person makes it.
    fs::set_permissions(world.path("data"), fs::Permissions::from_mode(0o777)).unwrap();
    let said = world.run("data", &["registry", "list"]).good().stderr;
    assert_eq!(mode(&world.path("data")), 0o750);
    assert!(said.is_empty() || said.contains("could change"), "{said}");
}

#[test]
fn a_configuration_that_anybody_may_write_is_not_believed_and_a_mistake_in_it_shows_no_password() {
    let world = World::new();
    let text = fs::read_to_string(world.path("hab.toml")).unwrap();
    let mistake =
        "[registry.upstream.\"a\"]\nurl = \"https://a.example\"\nproxi = \"http://me:s3cret@p.example\"\n";
    world.file("hab.toml", format!("{text}{mistake}"));
    let refused = world.run("data", &["registry", "list", "--json"]);
    refused.refused(2, &["hab.toml, line", "`proxi`"]);
    assert!(!refused.stderr.contains("s3cret") && !refused.json.to_string().contains("s3cret"));
    world.file("hab.toml", text);
    fs::set_permissions(world.path("hab.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    world.run("data", &["registry", "list", "--json"]).refused(2, &["hab.toml", "chmod"]);
}
