//! Random rules, pushes, mounts, pulls and collections, held against a model that only counts who gave bytes to whom: nobody
//! ever reads what he has no right to, and whoever has the right can.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use hab_oci::{Digest, media_type};
use hab_registry::{Access, Rate, ServiceLimits, UpstreamConfig, Upstreams};
use hab_store::{Collection, Span, Store};
use proptest::prelude::*;

use crate::harness::fake::{Fake, Say};
use crate::harness::secure::{Files, basic};
use crate::harness::upstream::config;
use crate::harness::{Server, Setup, manifest};
use crate::holding::part;

/// Two that are pushed to, two of an honest upstream, two of one that says that it has everything.
const REPOSITORIES: [&str; 6] =
    ["a", "b/c", "up.invalid/x/y", "up.invalid/z/y", "liar.invalid/x/y", "liar.invalid/z/y"];
const PUSHED: usize = 2;
/// Nobody, and two accounts.
const WHO: [Option<&str>; 3] = [None, Some("bob"), Some("eve")];
const BLOBS: usize = 3;
const GRACE: i64 = 3600;

#[derive(Clone, Debug)]
enum Step {
    Push {
        who: usize,
        to: usize,
        blob: usize,
    },
    Mount {
        who: usize,
        to: usize,
        from: Option<usize>,
        blob: usize,
    },
    /// An image that is nothing but this blob.
    Image {
        who: usize,
        to: usize,
        blob: usize,
    },
    /// Of an upstream, which may name what it never had.
    Name {
        who: usize,
        of: usize,
        blob: usize,
    },
    /// An upstream's repository gets the blob, or loses it.
    Have {
        of: usize,
        blob: usize,
        has: bool,
    },
    Read {
        who: usize,
        of: usize,
        blob: usize,
        how: How,
    },
    /// By the operator.
    Unlink {
        of: usize,
        blob: usize,
    },
    /// Now, or when everything is old enough to go.
    Collect {
        late: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum How {
    Get,
    Head,
    Part,
}

/// Who may pull from where, and who may push there.
type Allowed = Vec<[bool; 2]>;

fn rules() -> impl Strategy<Value = Allowed> {
    // More often no than yes: what is refused is what matters.
    proptest::collection::vec(
        [proptest::bool::weighted(0.4), proptest::bool::weighted(0.5)],
        WHO.len() * REPOSITORIES.len(),
    )
}

fn step() -> impl Strategy<Value = Step> {
    let (who, any, blob) = (0..WHO.len(), 0..REPOSITORIES.len(), 0..BLOBS);
    let (pushed, pulled) = (0..PUSHED, PUSHED..REPOSITORIES.len());
    let how = prop_oneof![Just(How::Get), Just(How::Head), Just(How::Part)];
    prop_oneof![
        4 => (who.clone(), pushed.clone(), blob.clone()).prop_map(|(who, to, blob)| Step::Push { who, to, blob }),
        4 => (who.clone(), pushed.clone(), proptest::option::of(any.clone()), blob.clone())
            .prop_map(|(who, to, from, blob)| Step::Mount { who, to, from, blob }),
        2 => (who.clone(), pushed, blob.clone()).prop_map(|(who, to, blob)| Step::Image { who, to, blob }),
        3 => (who.clone(), pulled.clone(), blob.clone()).prop_map(|(who, of, blob)| Step::Name { who, of, blob }),
        4 => (pulled, blob.clone(), proptest::bool::ANY).prop_map(|(of, blob, has)| Step::Have { of, blob, has }),
        9 => (who, any.clone(), blob.clone(), how).prop_map(|(who, of, blob, how)| Step::Read { who, of, blob, how }),
        1 => (any, blob).prop_map(|(of, blob)| Step::Unlink { of, blob }),
        1 => proptest::bool::ANY.prop_map(|late| Step::Collect { late }),
    ]
}

fn bytes(blob: usize) -> Vec<u8> {
    format!("blob number {blob}, ").repeat(150).into_bytes()
}

fn digest(blob: usize) -> Digest {
    Digest::of(&bytes(blob))
}

/// What an upstream's repositories have.
type There = Arc<Mutex<BTreeSet<(usize, usize)>>>;

/// An upstream whose repositories' manifests name every blob; one that lies says that it has them all, too.
fn upstream(there: &There, host: &'static str, lies: bool) -> Fake {
    let there = there.clone();
    Fake::start(move |asked| {
        let name = asked.path.strip_prefix("/v2/").unwrap_or_default();
        // Both upstreams have repositories of the same names.
        let own = |own: &str| own.strip_prefix(host).is_some_and(|own| name.starts_with(&own[1..]));
        let of = REPOSITORIES.iter().position(|repository| own(repository));
        let last = name.rsplit('/').next().unwrap_or_default();
        let Some(of) = of else { return Say::status(404) };
        if name.contains("/manifests/") {
            let Some(blob) = last.strip_prefix('v').and_then(|text| text.parse().ok()) else {
                return Say::status(404);
            };
            let body = image(blob);
            return Say::ok(media_type::IMAGE_MANIFEST, &body)
                .with("Docker-Content-Digest", &Digest::of(&body).to_string());
        }
        let Some(blob) = (0..BLOBS).find(|blob| digest(*blob).to_string() == last) else {
            return Say::status(404);
        };
        match (there.lock().unwrap().contains(&(of, blob)), lies) {
            (true, _) => part(asked, &bytes(blob)),
            (false, true) => part(asked, &vec![b'x'; bytes(blob).len()]),
            (false, false) => Say::status(404),
        }
    })
}

fn image(blob: usize) -> Vec<u8> {
    manifest(&bytes(blob), &bytes(blob), "")
}

struct World {
    server: Server,
    _upstreams: [Fake; 2],
    allowed: Allowed,
    there: There,
    /// Who has been given what, and did not lose it by a person's word. A collection may take it away.
    given: BTreeSet<(usize, usize)>,
    /// What of that no collection took.
    held: BTreeSet<(usize, usize)>,
    /// Which host ever sent a blob.
    sent: BTreeSet<(&'static str, usize)>,
}

fn host(of: usize) -> Option<&'static str> {
    if of < PUSHED { None } else { REPOSITORIES[of].split('/').next() }
}

impl World {
    fn new(allowed: Allowed) -> Self {
        let there = There::default();
        let honest = upstream(&there, "up.invalid", false);
        let liar = upstream(&there, "liar.invalid", true);
        let configs = [("up.invalid", &honest), ("liar.invalid", &liar)].map(|(name, fake)| {
            let mut config = UpstreamConfig { name: name.to_owned(), ..config(&fake.url()) };
            config.patience.rest = std::time::Duration::ZERO;
            config.absent = std::time::Duration::ZERO;
            config
        });
        let mut rules = vec![("root", "*", "pull push delete")];
        for (at, [pull, push]) in allowed.iter().enumerate() {
            let who = WHO[at / REPOSITORIES.len()].unwrap_or("anonymous");
            let name = REPOSITORIES[at % REPOSITORIES.len()];
            match (*pull, *push && who != "anonymous") {
                (true, true) => rules.push((who, name, "pull push")),
                (true, false) => rules.push((who, name, "pull")),
                (false, true) => rules.push((who, name, "push")),
                (false, false) => {}
            }
        }
        let files = Files::new();
        let setup = Setup {
            access: Some(files.access(&["root", "bob", "eve"], &rules)),
            upstreams: Upstreams::new(configs.to_vec()).unwrap(),
            rate: Some(Rate { requests: 1_000_000, burst: 1_000_000 }),
            ..Setup::default()
        };
        let server = Server::set_up(Access::ReadWrite, ServiceLimits::default(), setup);
        let (given, held, sent) = Default::default();
        Self { server, _upstreams: [honest, liar], allowed, there, given, held, sent }
    }

    fn may(&self, who: usize, of: usize, push: bool) -> bool {
        let [pull, may_push] = self.allowed[who * REPOSITORIES.len() + of];
        // What is for everybody is for accounts too.
        let everybody = self.allowed[of][0];
        if push { may_push && WHO[who].is_some() } else { pull || everybody }
    }

    fn give(&mut self, of: usize, blob: usize) {
        self.given.insert((of, blob));
        self.held.insert((of, blob));
    }

    /// The status, and the body as far as it came.
    fn send(
        &self,
        who: Option<&str>,
        method: &str,
        path: &str,
        more: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, Vec<u8>) {
        let answer = self.try_send(who, method, path, more, body);
        answer.unwrap_or_else(|| panic!("{method} {path} by {who:?} was not answered"))
    }

    /// The same; `None` where the answer broke off before its head was sent.
    fn try_send(
        &self,
        who: Option<&str>,
        method: &str,
        path: &str,
        more: &[(&str, &str)],
        body: &[u8],
    ) -> Option<(u16, Vec<u8>)> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n");
        if let Some(name) = who {
            head.push_str(&format!("Authorization: {}\r\n", basic(name)));
        }
        for (name, value) in more {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let reply = self.server.try_raw(&[head.as_bytes(), body].concat());
        reply.map(|reply| (reply.status, reply.body))
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Push { who, to, blob } => {
                let path = format!("/v2/{}/blobs/uploads/?digest={}", REPOSITORIES[to], digest(blob));
                let status = self.send(WHO[who], "POST", &path, &[], &bytes(blob)).0;
                assert_eq!(status == 201, self.may(who, to, true), "{status}");
                if status == 201 {
                    self.give(to, blob);
                }
            }
            Step::Mount { who, to, from, blob } => self.mount(who, to, from, blob),
            Step::Image { who, to, blob } => {
                let path = format!("/v2/{}/manifests/v{blob}", REPOSITORIES[to]);
                let kind = [("Content-Type", media_type::IMAGE_MANIFEST)];
                let status = self.send(WHO[who], "PUT", &path, &kind, &image(blob)).0;
                let (least, most) = (self.held.contains(&(to, blob)), self.given.contains(&(to, blob)));
                let may = self.may(who, to, true);
                assert!(status != 201 || may && most, "{status}");
                assert!(status == 201 || !(may && least), "{status}");
            }
            Step::Name { who, of, blob } => {
                let path = format!("/v2/{}/manifests/v{blob}", REPOSITORIES[of]);
                let status = self.send(WHO[who], "GET", &path, &[], b"").0;
                assert_eq!(status == 200, self.may(who, of, false), "{status}");
            }
            Step::Have { of, blob, has } => {
                let mut there = self.there.lock().unwrap();
                if has {
                    there.insert((of, blob));
                } else {
                    there.remove(&(of, blob));
                }
            }
            Step::Read { who, of, blob, how } => self.read(who, of, blob, how),
            Step::Unlink { of, blob } => {
                let path = format!("/v2/{}/blobs/{}", REPOSITORIES[of], digest(blob));
                if self.send(Some("root"), "DELETE", &path, &[], b"").0 == 202 {
                    self.given.remove(&(of, blob));
                    self.held.remove(&(of, blob));
                }
            }
            Step::Collect { late } => {
                collect(&self.server, late);
                if late {
                    self.held.clear();
                }
            }
        }
    }

    fn mount(&mut self, who: usize, to: usize, from: Option<usize>, blob: usize) {
        let mut path = format!("/v2/{}/blobs/uploads/?mount={}", REPOSITORIES[to], digest(blob));
        if let Some(from) = from {
            path.push_str(&format!("&from={}", REPOSITORIES[from]));
        }
        let sources: Vec<usize> = from.map_or((0..REPOSITORIES.len()).collect(), |from| vec![from]);
        let readable = |set: &BTreeSet<(usize, usize)>| {
            sources.iter().any(|from| self.may(who, *from, false) && set.contains(&(*from, blob)))
        };
        let (least, most, may) = (readable(&self.held), readable(&self.given), self.may(who, to, true));
        let status = self.send(WHO[who], "POST", &path, &[], b"").0;
        assert!(status != 201 || may && most, "mounted what could not be read");
        assert!(status == 201 || !(may && least), "{status}: what could be read was not mounted");
        assert!(status == 201 || status == 202 || !may, "{status}");
        if status == 201 {
            self.give(to, blob);
        }
    }

    fn read(&mut self, who: usize, of: usize, blob: usize, how: How) {
        let path = format!("/v2/{}/blobs/{}", REPOSITORIES[of], digest(blob));
        let (method, more): (_, &[(&str, &str)]) = match how {
            How::Get => ("GET", &[]),
            How::Head => ("HEAD", &[]),
            How::Part => ("GET", &[("Range", "bytes=100-199")]),
        };
        // What a liar sends breaks off, and may have done so before anything of it was passed on.
        let answer = if host(of) == Some("liar.invalid") && self.may(who, of, false) {
            self.try_send(WHO[who], method, &path, more, b"").unwrap_or_default()
        } else {
            self.send(WHO[who], method, &path, more, b"")
        };
        let (status, body) = answer;
        let there = self.there.lock().unwrap().contains(&(of, blob));
        // One that lies may say of what it did send once that all of its repositories have it.
        let claimed =
            host(of).is_some_and(|host| host == "liar.invalid" && self.sent.contains(&(host, blob)));
        let may = self.may(who, of, false);
        let least = may && (self.held.contains(&(of, blob)) || there);
        let most = may && (self.given.contains(&(of, blob)) || there || claimed);
        let all = bytes(blob);
        if !most {
            let seen = body.windows(24).any(|some| all.windows(24).next() == Some(some));
            assert!(!seen && body != all, "{status}: bytes were read without the right to them");
            // A liar's answer begins well, and never ends; a HEAD of it is what it said.
            assert!(status >= 400 || host(of) == Some("liar.invalid") && may, "{status}");
        }
        let came = match how {
            How::Get => status == 200 && body == all,
            How::Head => status == 200,
            How::Part => status == 206 && body == all[100..200],
        };
        assert!(came || !least, "{status}: who had the right got {} bytes", body.len());
        if came && most && !matches!(how, How::Head) {
            self.give(of, blob);
            self.sent.extend(host(of).filter(|_| there).map(|host| (host, blob)));
        } else if most {
            // A HEAD may begin a download, which ends by itself.
            self.given.insert((of, blob));
            self.sent.extend(host(of).filter(|_| there).map(|host| (host, blob)));
        }
    }
}

fn collect(server: &Server, late: bool) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap() + if late { 2 * GRACE } else { 0 };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let store = Store::open(server.folder()).await.unwrap();
        let rules = Collection { grace: Span::hours(1), retain: Vec::new() };
        store.collect(&rules, now).await.unwrap();
        store.catalog.close().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn nobody_reads_bytes_without_the_right_to_them_and_whoever_has_it_can(
        allowed in rules(),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut world = World::new(allowed);
        for step in &steps {
            world.take(step);
        }
        for who in 0..WHO.len() {
            for of in 0..REPOSITORIES.len() {
                for blob in 0..BLOBS {
                    world.read(who, of, blob, How::Get);
                }
            }
        }
    }
}
