//! The registry's tags, and what a collection may remove.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{GOOD, Outcome, Serving, World};
use hab_oci::Digest;
use hab_store::Store;

const TAG: &str = "test/hello:1.0-1";

/// A world with this text about the registry in its configuration.
fn configured(registry: &str) -> World {
    let world = World::new();
    let text = fs::read_to_string(world.path("hab.toml")).unwrap();
    world.file("hab.toml", format!("{text}[registry]\n{registry}\n"));
    world
}

fn registry(world: &World, words: &[&str]) -> Outcome {
    world.run("data", &[&["registry"], words, &["--json"]].concat())
}

/// Builds two different images under one tag, and returns their digests.
fn built_twice(world: &World) -> [String; 2] {
    let first = world.build("data", "hello").good().index().clone();
    world.recipe("hello", &format!("{GOOD}echo more > $OUT/etc/more\n"));
    let second = world.build("data", "hello").good().index().clone();
    assert_ne!(first, second);
    [first, second]
}

/// Pushes a blob without a manifest that needs it.
fn push_blob(world: &World, bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&world.path("data")).await.unwrap();
        let mut writer = store.blobs.writer().unwrap();
        writer.add(bytes).unwrap();
        store.keep_blob(&"pushed".parse().unwrap(), writer, &Digest::of(bytes), 1).await.unwrap();
        store.catalog.close().await;
    });
}

fn blob(world: &World, bytes: &[u8]) -> std::path::PathBuf {
    let hex = Digest::of(bytes).hex().to_owned();
    world.path("data").join("blobs/sha256").join(&hex[..2]).join(&hex)
}

/// An image whose layers are somewhere else, as builders of caches push them.
#[test]
fn an_image_without_its_layers_is_taken_only_where_the_operator_wants_it() {
    let manifest = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\
         \"config\":{{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:{a}\",\"size\":2}},\
         \"layers\":[{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"sha256:{b}\",\"size\":3}}]}}",
        a = "a".repeat(64),
        b = "b".repeat(64)
    );
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let world = World::new();
    for (words, status, reason) in [
        (&["--writable"][..], 400, Some("MANIFEST_BLOB_UNKNOWN")),
        (&["--writable", "--sparse"], 201, None),
        (&[], 405, Some("DENIED")),
    ] {
        let serving = Serving::start_with(&world, "data", words);
        let (found, _, body) = serving.put("/v2/some/cache/manifests/v1", kind, manifest.as_bytes());
        let body = String::from_utf8(body).unwrap();
        assert_eq!(found, status, "{words:?}: {body}");
        assert!(reason.is_none_or(|reason| body.contains(reason)), "{words:?}: {body}");
    }
    let serving = Serving::start_with(&world, "data", &[]);
    assert_eq!(serving.get("/v2/some/cache/manifests/v1"), (200, manifest.into_bytes()));
    assert_eq!(serving.get(&format!("/v2/some/cache/blobs/sha256:{}", "b".repeat(64))).0, 404);
    let refused = world.run("data", &["serve", "--sparse"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("--writable"), "{}", refused.stderr);
}

#[test]
fn a_tag_goes_back_to_where_it_was_and_is_served_there() {
    let world = World::new();
    let [first, second] = built_twice(&world);
    let list = registry(&world, &["list"]).good().json;
    assert_eq!((&list[0]["name"], &list[0]["tags"]), (&"test/hello".into(), &1.into()));
    assert_eq!(registry(&world, &["list", "test/hello"]).good().json[0]["digest"], second.as_str());
    assert_eq!(registry(&world, &["rollback", TAG]).good().json["digest"], first.as_str());
    let serving = Serving::start(&world);
    let (_, served) = serving.get("/v2/test/hello/manifests/1.0-1");
    assert_eq!(Digest::of(&served).to_string(), first);
    registry(&world, &["rollback", TAG, &second]).good();
    let history = registry(&world, &["history", TAG]).good().json;
    let places: Vec<_> = history.as_array().unwrap().iter().map(|m| m["digest"].as_str().unwrap()).collect();
    assert_eq!(places, [&first, &second, &first, &second]);
}

#[test]
fn what_cannot_be_rolled_back_is_said() {
    let world = World::new();
    world.build("data", "hello").good();
    registry(&world, &["rollback", TAG]).refused(2, &["never pointed at anything earlier", "history"]);
    registry(&world, &["rollback", TAG, "0"]).refused(2, &["number of steps"]);
    registry(&world, &["history", "test/hello:v9"]).refused(2, &["never had a tag v9"]);
    registry(&world, &["history", "test/hello"]).refused(2, &["REPO:TAG"]);
    registry(&world, &["list", "other"]).refused(2, &["no repository other"]);
}

#[test]
fn an_immutable_tag_is_not_moved_by_another_build() {
    let world = configured("immutable = [{ repository = \"test/*\", tag = \"1.*\" }]");
    let first = world.build("data", "hello").good().index().clone();
    world.build("data", "hello").good();
    world.recipe("hello", &format!("{GOOD}echo more > $OUT/etc/more\n"));
    world.build("data", "hello").refused(3, &["1.0-1 is immutable", &first]);
    assert_eq!(registry(&world, &["list", "test/hello"]).good().json[0]["digest"], first.as_str());
}

#[test]
fn a_collection_removes_what_was_pushed_for_nothing_and_no_build_or_package() {
    let world = World::new();
    let built = world.build("data", "hello").good();
    push_blob(&world, b"for nothing");
    let kept = |world: &World| crate::harness::files_below(&world.path("data/blobs/sha256")).len();
    let before = kept(&world);
    let dry = registry(&world, &["gc", "--dry-run"]).good().json;
    assert_eq!((&dry["blobs"], &dry["bytes"], kept(&world)), (&1.into(), &11.into(), before));
    assert_eq!(registry(&world, &["gc"]).good().json, dry);
    assert_eq!(kept(&world), before - 1);
    assert!(!blob(&world, b"for nothing").exists());
    // The build is still answered from its record, so everything that it needs is here.
    assert_eq!(world.build("data", "hello").good().index(), built.index());
}

#[test]
fn serve_collects_by_itself() {
    let world = configured("grace = \"0s\"\ncollect = \"1s\"");
    push_blob(&world, b"for nothing");
    let _serving = Serving::start(&world);
    let start = Instant::now();
    while blob(&world, b"for nothing").exists() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_scrub_names_what_is_damaged_and_a_build_makes_it_again() {
    let world = World::new();
    let built = world.build("data", "hello").good();
    registry(&world, &["scrub", "--rate", "1GiB"]).good();
    let layer = built.json["platforms"][0]["layers"][0]["digest"].as_str().unwrap().to_owned();
    let hex = layer.split(':').nth(1).unwrap();
    let path = world.path("data").join("blobs/sha256").join(&hex[..2]).join(hex);
    let mut bytes = fs::read(&path).unwrap();
    bytes[9] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let found = registry(&world, &["scrub"]);
    assert_eq!((found.code, &found.json["damaged"][0]), (Some(1), &layer.as_str().into()));
    assert!(found.stderr.contains("not served until"), "{}", found.stderr);
    let serving = Serving::start(&world);
    assert_eq!(serving.get(&format!("/v2/test/hello/blobs/{layer}")).0, 404);
    world.build("data", "hello").good();
    let (status, served) = serving.get(&format!("/v2/test/hello/blobs/{layer}"));
    assert_eq!((status, Digest::of(&served).to_string()), (200, layer));
    registry(&world, &["scrub"]).good();
}

#[test]
fn a_deleted_tag_can_be_taken_back_and_an_immutable_one_stays() {
    let world = configured("immutable = [{ repository = \"test/*\", tag = \"2*\" }]");
    world.build("data", "hello").good();
    registry(&world, &["delete", TAG]).refused(2, &["not deleted", "--yes"]);
    registry(&world, &["delete", "test/helo:1.0-1", "--yes"])
        .refused(2, &["there is no repository test/helo"]);
    let mistyped = registry(&world, &["list", "test/helo"]);
    assert!(mistyped.stderr.contains("did you mean test/hello?"), "{}", mistyped.stderr);
    let gone = registry(&world, &["delete", TAG, "--yes"]).good();
    assert_eq!(gone.json["tags"][0], "1.0-1");
    assert!(gone.stderr.contains("a collection frees"), "{}", gone.stderr);
    assert!(registry(&world, &["list", "test/hello"]).good().stderr.contains("test/hello has no tags"));
    registry(&world, &["rollback", TAG]).good();
    let world = configured("immutable = [{ tag = \"1*\" }]");
    world.build("data", "hello").good();
    let stays = registry(&world, &["delete", "test/hello", "--yes"]);
    assert_eq!(stays.code, Some(3), "{}", stays.stderr);
    assert_eq!(registry(&world, &["list"]).good().json[0]["tags"], 1);
}

#[test]
fn a_rule_that_is_for_no_repository_is_said_when_it_is_served() {
    let world = configured(
        "immutable = [{ repository = \"hab/*\", tag = \"v*\" }, { repository = \"test/*\", tag = \"v*\" }]",
    );
    let mut child = world.start("data", &["serve", "--listen", "localhost:0", "--no-sync"]);
    let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut said = Vec::new();
    for line in std::io::BufRead::lines(stderr).map_while(Result::ok) {
        let serves = line.starts_with("serving");
        said.push(line);
        if serves {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let said = said.join("\n");
    assert!(said.contains("immutable: no repository is named like \"hab/*\""), "{said}");
    assert!(said.contains("test/hello") && !said.contains("like \"test/*\""), "{said}");
    assert!(said.contains("serving http://127.0.0.1:"), "{said}");
}

#[test]
fn an_empty_list_says_so_and_the_program_says_which_it_is() {
    let world = World::new();
    assert!(registry(&world, &["list"]).good().stderr.contains("there are no repositories yet"));
    assert_eq!(world.run("data", &["version", "--json"]).good().json["version"], env!("CARGO_PKG_VERSION"));
    for (words, has) in [(&["completions", "bash"][..], "HAB_COMPLETE"), (&["man"], "registry")] {
        let output = world.command("data", words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains(has), "{words:?}: {text}");
    }
}

/// What bash is told for the last of `words`, in the farm of the data folder `data`.
fn completed(world: &World, data: &str, words: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_hab-build"))
        .current_dir(world.path("."))
        .env("HAB_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
        .env("_CLAP_IFS", "\n")
        .envs([("HAB_DATA", world.path(data)), ("HAB_CONFIG", world.path("hab.toml"))])
        .envs([("HAB_RECIPES", world.path("recipes")), ("HAB_TRUST", world.path("trust"))])
        .args(["--", "hab-build"])
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_shell_completes_names_of_the_farm_and_makes_none() {
    let world = World::new();
    assert!(!completed(&world, "data", &["build", "hel"]).contains(&"hello".to_owned()));
    assert!(!world.path("data").exists());
    world.build("data", "hello").good();
    for (words, name) in [
        (&["build", "hel"][..], "hello"),
        (&["lock", "recipe", "hel"], "hello"),
        (&["lock", "toolchain", "ti"], "tiny"),
        (&["registry", "history", "test/hello:1"], TAG),
        (&["mirror", "sync", "--offline", "bitc"], "bitcoin"),
    ] {
        assert!(completed(&world, "data", words).iter().any(|found| found == name), "{words:?}");
    }
    assert_eq!(completed(&world, "data", &["build", "no-recipe"]), Vec::<String>::new());
}

#[test]
fn a_recipe_laid_over_a_built_in_one_is_said_aloud_and_the_others_stay() {
    let world = World::new();
    let text = fs::read_to_string(world.path("hab.toml")).unwrap();
    let overlay = text.replace("without-built-in = true", "recipes = [\"more\"]\ntrust = [\"policies\"]");
    world.file("hab.toml", overlay);
    let over = include_str!("../../recipes/bitcoin/recipe.toml")
        .replace("with wallet", "as we have it, with wallet");
    world.file("more/bitcoin/recipe.toml", over);
    world.file("more/bitcoin/build.sh", "true\n");
    world.file("policies/bitcoin-core/policy.toml", "name = \"bitcoin-core\"\nunsigned = true\n");
    let listed = world.run("data", &["recipes", "--json"]).good();
    assert!(
        listed.stderr.contains("recipe bitcoin of") && listed.stderr.contains("takes the place"),
        "{}",
        listed.stderr
    );
    assert!(listed.stderr.contains("policy bitcoin-core of"), "{}", listed.stderr);
    let names = listed.json.to_string();
    for name in ["hello", "secp256k1", "bitcoin-crate"] {
        assert!(names.contains(name), "{names}");
    }
}

#[test]
fn recipes_and_policies_that_others_could_have_written_are_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &std::path::Path, bits| {
        fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
    };
    let world = World::new();
    world.run("data", &["keys", "list", "maintainers"]).good();
    for (loose, bits) in [
        ("trust", 0o777),
        ("trust/maintainers", 0o777),
        ("trust/maintainers/policy.toml", 0o666),
        ("recipes/hello", 0o777),
    ] {
        let path = world.path(loose);
        let before = fs::metadata(&path).unwrap().permissions();
        mode(&path, bits);
        world.run("data", &["plan", "hello"]).refused(2, &["refuse to read", "chmod"]);
        world.run("data", &["keys", "list", "maintainers"]).refused(2, &["refuse to read", "chmod"]);
        fs::set_permissions(&path, before).unwrap();
    }
    world.run("data", &["plan", "hello"]).good();
    // A pipe in place of a file is not waited for.
    fs::remove_file(world.path("trust/maintainers/policy.toml")).unwrap();
    let made = Command::new("mkfifo").arg(world.path("trust/maintainers/policy.toml")).status().unwrap();
    assert!(made.success());
    world.run("data", &["keys", "list", "maintainers"]).refused(2, &["not a regular file"]);
    fs::remove_dir_all(world.path("trust")).unwrap();
    world.run("data", &["keys", "list", "maintainers"]).refused(2, &["folder", "of policies cannot be read"]);
}

#[test]
fn pages_are_written_through_no_link() {
    let world = World::new();
    world.file("man/other", "mine");
    std::os::unix::fs::symlink("other", world.path("man/hab-build.1")).unwrap();
    world.run("data", &["man", world.path("man").to_str().unwrap()]).good();
    assert_eq!(fs::read_to_string(world.path("man/other")).unwrap(), "mine");
    assert!(fs::read_to_string(world.path("man/hab-build.1")).unwrap().starts_with(".ie"));
}
