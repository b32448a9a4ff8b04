//! Syncs and clones that end before their time.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::mirror::{add, git, noise, sync, world};
use crate::harness::Serving;
use git2::Oid;

#[test]
fn a_mirror_killed_at_any_point_keeps_every_ref_and_goes_on() {
    let (world, upstream) = world();
    let mut tips: Vec<Oid> = Vec::new();
    for n in 0..200 {
        tips.push(upstream.commit(&format!("{n}\n")));
        upstream.tag(&format!("t{n}"), tips[n], None);
    }
    upstream.rewind(tips[10]);
    sync(&world);
    let refs =
        || git(&world.path("data/git/node.git"), &["for-each-ref", "--format=%(refname) %(objectname)"]);
    let whole = || {
        git(&world.path("data/git/node.git"), &["fsck", "--connectivity-only", "--no-dangling"]);
        world.run("data", &["mirror", "verify", "node", "--quick", "--json"]).good();
    };
    let mut known = refs();
    // Kill from the first milliseconds to well after a whole sync.
    for (round, pause) in
        [1, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 130, 160, 200].into_iter().enumerate()
    {
        upstream.rewind(tips[20 + round * 10]);
        upstream.tag(&format!("t{round}"), tips[100 + round], None);
        let mut child = world.start("data", &["mirror", "sync", "node"]);
        std::thread::sleep(Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
        let now = refs();
        for line in known.lines() {
            let name = line.split(' ').next().unwrap();
            assert!(now.contains(&format!("{name} ")), "{name} is gone after {pause} ms");
        }
        whole();
        known = now;
    }
    let synced = sync(&world);
    assert_eq!(synced["frozen"].as_array().unwrap().len(), 15);
    let row = world.run("data", &["mirror", "verify", "node", "--json"]).good().json[0].clone();
    assert_eq!(row["refs"], 202);
    let collected = world.run("data", &["mirror", "gc", "--json"]).good();
    assert!(collected.json.is_array());
}

#[test]
fn a_full_disk_keeps_every_ref_that_was_served() {
    if !crate::harness::is_root() {
        return hab_skip::skip(hab_skip::Lack::Root, "only root can mount a small disk");
    }
    let (world, upstream) = world();
    let data = world.path("data");
    fs::remove_dir_all(&data).unwrap();
    fs::create_dir(&data).unwrap();
    let mount = |options: &str| {
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&data).status().unwrap();
        assert!(status.success());
    };
    mount("size=4m");
    add(&world, "node", &upstream.url(), &[]);
    sync(&world);
    let refs = || git(&world.path("data/git/node.git"), &["for-each-ref"]);
    let before = refs();
    let noise = noise(2_000_000);
    let noise = [noise.clone(), noise.chars().rev().collect()].concat();
    let big = upstream.commit(&(noise.clone() + &noise));
    let full = world.run("data", &["mirror", "sync", "node", "--json"]);
    let after = refs();
    mount("remount,size=500m");
    let again = world.run("data", &["mirror", "sync", "node", "--json"]);
    let served = refs();
    let status = Command::new("umount").arg(&data).status().unwrap();
    assert_eq!(full.code, Some(1), "{}", full.stderr);
    assert!(full.stderr.to_lowercase().contains("space"), "{}", full.stderr);
    assert_eq!(after, before);
    again.good();
    assert!(served.contains(&big.to_string()) && status.success());
}

#[test]
fn a_clone_that_its_client_gives_up_ends_the_process_that_served_it() {
    let (world, upstream) = world();
    upstream.commit(&noise(8_000_000));
    sync(&world);
    let serving = Serving::start(&world);
    let packs = || {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let mark = world.path("data/git/node.git").display().to_string();
        entries
            .filter(|p| {
                fs::read(p.path().join("cmdline")).is_ok_and(|c| {
                    let text = String::from_utf8_lossy(&c).into_owned();
                    text.contains("upload-pack") && text.contains(&mark)
                })
            })
            .count()
    };
    // A client asks for everything and then reads nothing.
    let want = upstream.commit("last\n");
    sync(&world);
    let body = format!("0098want {want} ofs-delta side-band-64k agent=a/{}\n00000009done\n", "x".repeat(63));
    let body = format!("{:04x}{}", body[4..].find('\n').unwrap() + 5, &body[4..]);
    let mut stream = std::net::TcpStream::connect(&serving.address).unwrap();
    let head = format!(
        "POST /git/node.git/git-upload-pack HTTP/1.1\r\nHost: x\r\nContent-Type: \
         application/x-git-upload-pack-request\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    std::io::Write::write_all(&mut stream, format!("{head}{body}").as_bytes()).unwrap();
    let start = Instant::now();
    while packs() == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "no git was started");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(packs(), 1, "it waits for its client");
    drop(stream);
    let start = Instant::now();
    while packs() > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "git outlives its client");
        std::thread::sleep(Duration::from_millis(10));
    }
}
