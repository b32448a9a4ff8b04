//! Serves git's smart HTTP protocol, read-only (gitprotocol-http(5)): one `git upload-pack` answers each request.
//!
//! The whole request is received into a file before git starts, so that a slow sender holds no process. git reads the
//! file, and its answer is streamed (`pump`). If the client drops the answer, the process and everything that it
//! started end. Clients get turns fairly, and no client can have all of them.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path as FilePath, PathBuf};
use std::process::Stdio;

use async_compression::tokio::bufread::GzipDecoder;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hab_mirror::git::{Note, is_project_name, note, was_synced};
use hab_turns::{Client, Turn, Turns};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use tokio_util::io::StreamReader;
use tower::ServiceExt as _;
use tower_http::services::ServeFile;

use crate::Mirror;
use crate::error::Error;
use crate::pump::{self, Recipient};

/// The most bytes of git's answer that are passed on at a time: as much as a pipe holds.
pub(crate) const CHUNK: usize = 64 * 1024;

/// The meaning of a path below `/git/`.
struct Target<'a> {
    repository: PathBuf,
    rest: &'a str,
    /// A message for clients that clone a repository with nothing to check out.
    note: Option<Note>,
}

/// Parses `<project>.git/…` or `verified/<project>.git/…`.
fn target<'a>(mirror: &Mirror, path: &'a str) -> Result<Target<'a>, Error> {
    let (verified, path) = match path.strip_prefix("verified/") {
        Some(rest) => (true, rest),
        None => (false, path),
    };
    let (name, rest) = path.split_once('/').ok_or(Error::NotFound)?;
    let project = name.strip_suffix(".git").unwrap_or(name);
    if !is_project_name(project) {
        return Err(Error::NotFound);
    }
    let whole = mirror.git.join(format!("{project}.git"));
    if !whole.is_dir() {
        return Err(Error::NotFound);
    }
    // An empty repository would make a client believe that upstream has nothing.
    if !was_synced(&whole) {
        return Err(Error::NeverSynced(project.to_owned()));
    }
    if !verified {
        let note = note(&whole);
        return Ok(Target { repository: whole, rest, note });
    }
    let repository = mirror.git.join("verified").join(format!("{project}.git"));
    if !repository.is_dir() {
        return Err(Error::NoView(project.to_owned()));
    }
    match note(&repository) {
        Some(note) if note.empty => Err(Error::NothingShown(note.text)),
        note => Ok(Target { repository, rest, note }),
    }
}

/// Whether a repository, or a verified view, is served. The list of repositories uses this too, so it matches.
pub(crate) fn is_served(repository: &FilePath) -> bool {
    let is_view = repository.parent().is_some_and(|folder| folder.ends_with("verified"));
    let empty = || note(repository).is_some_and(|note| note.empty);
    repository.is_dir() && if is_view { !empty() } else { was_synced(repository) }
}

pub(crate) async fn get(
    State(mirror): State<Mirror>,
    Path(path): Path<String>,
    request: Request,
) -> Result<Response, Error> {
    let Target { repository, rest, .. } = target(&mirror, &path)?;
    match rest {
        "info/refs" => {
            let client = client(request.extensions());
            advertise(&mirror, &repository, request.uri(), request.headers(), client).await
        }
        "clone.bundle" => Ok(ServeFile::new(repository.join(rest)).oneshot(request).await.into_response()),
        // Files that git's dumb protocol would ask for.
        "HEAD" => Err(Error::NotSmart),
        rest if rest.starts_with("objects/") => Err(Error::NotSmart),
        _ => Err(Error::NotFound),
    }
}

async fn advertise(
    mirror: &Mirror,
    repository: &FilePath,
    uri: &Uri,
    headers: &HeaderMap,
    client: Client,
) -> Result<Response, Error> {
    match uri.query() {
        Some("service=git-upload-pack") => {}
        Some("service=git-receive-pack") => return Err(Error::ReadOnly),
        _ => return Err(Error::NotSmart),
    }
    let protocol = protocol(headers)?;
    let turn = wait(mirror, &mirror.light, client).await?;
    let running = Running::start(mirror, repository, protocol, Asked::Refs, turn)?;
    let head = match protocol {
        Some(words) if words.split(':').any(|word| word == "version=2") => Bytes::new(),
        _ => Bytes::from_static(b"001e# service=git-upload-pack\n0000"),
    };
    let way = way(mirror, &mirror.light, client);
    Ok(answer("application/x-git-upload-pack-advertisement", head, running, way))
}

pub(crate) async fn post(
    State(mirror): State<Mirror>,
    Path(path): Path<String>,
    request: Request,
) -> Result<Response, Error> {
    let Target { repository, rest, note } = target(&mirror, &path)?;
    match rest {
        "git-upload-pack" => {}
        "git-receive-pack" => return Err(Error::ReadOnly),
        _ => return Err(Error::NotFound),
    }
    let (head, body) = request.into_parts();
    let is = |name: header::HeaderName, value: &str| head.headers.get(name).is_some_and(|v| v == value);
    if !is(header::CONTENT_TYPE, "application/x-git-upload-pack-request") {
        return Err(Error::Malformed("its content type is wrong"));
    }
    let gzip = match head.headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => false,
        Some(b"gzip" | b"x-gzip") => true,
        Some(_) => return Err(Error::Malformed("its content encoding is neither gzip nor identity")),
    };
    let protocol = protocol(&head.headers)?;
    let body = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    let client = client(&head.extensions);
    let receiving = wait(&mirror, &mirror.receiving, client).await?;
    let received = async {
        if gzip {
            receive(&mirror, GzipDecoder::new(BufReader::new(body))).await
        } else {
            receive(&mirror, body).await
        }
    };
    // A slow request ends too, at the latest when the time is over.
    let (file, light) = timeout(mirror.limits.idle, received).await.map_err(|_| Error::Stalled)??;
    drop(receiving);
    let turns = if light { &mirror.light } else { &mirror.packs };
    let turn = wait(&mirror, turns, client).await?;
    let asked = Asked::Pack(file, note.map(|note| note.text));
    let running = Running::start(&mirror, &repository, protocol, asked, turn)?;
    let way = way(&mirror, turns, client);
    Ok(answer("application/x-git-upload-pack-result", Bytes::new(), running, way))
}

/// Receives the request into a file, and says whether it only asks for a list of refs.
async fn receive(mirror: &Mirror, mut body: impl AsyncRead + Unpin) -> Result<(File, bool), Error> {
    let folder = mirror.keep.partial().to_owned();
    let mut file =
        tokio::task::spawn_blocking(move || tempfile::tempfile_in(folder)).await?.map_err(Error::Git)?;
    let mut room = mirror.limits.request;
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = body.read(&mut buffer).await;
        let read = read.map_err(|_| Error::Malformed("its body broke off"))?;
        if read == 0 {
            break;
        }
        room = room.checked_sub(read as u64).ok_or(Error::TooLarge { limit: mirror.limits.request })?;
        // Blocks only briefly: at most 64 KiB go to the page cache.
        file.write_all(&buffer[..read]).map_err(Error::Git)?;
    }
    let mut first = [0; 19];
    file.rewind().map_err(Error::Git)?;
    // A shorter request is another command.
    let light = file.read_exact(&mut first).is_ok() && first[4..].starts_with(b"command=ls-refs");
    file.rewind().map_err(Error::Git)?;
    Ok((file, light))
}

/// The client that a request comes from. If the listener does not say, all requests count as one client's.
fn client(extensions: &Extensions) -> Client {
    let from = extensions.get::<ConnectInfo<SocketAddr>>();
    from.map_or(Client::UNKNOWN, |ConnectInfo(from)| Client::of(from.ip()))
}

async fn wait(mirror: &Mirror, turns: &Turns, client: Client) -> Result<Turn, Error> {
    timeout(mirror.limits.turn, turns.take(client)).await.map_err(|_| Error::Busy)
}

fn way(mirror: &Mirror, turns: &Turns, client: Client) -> Recipient {
    let folder = mirror.keep.partial().to_owned();
    Recipient { client, turns: turns.clone(), budget: mirror.spool.clone(), folder }
}

/// The `Git-Protocol` header. It becomes an environment variable, so only characters that git itself sends are
/// accepted.
fn protocol(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let Some(value) = headers.get("git-protocol") else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| {
        text.len() <= 100
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b':' | b'-' | b'.'))
    });
    text.map(Some).ok_or(Error::Malformed("its Git-Protocol header is malformed"))
}

fn answer(kind: &'static str, head: Bytes, running: Running, way: Recipient) -> Response {
    let head = stream::iter((!head.is_empty()).then_some(Ok(head)));
    let body = head.chain(pump::answer(running, way));
    let headers =
        [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache, max-age=0, must-revalidate")];
    (headers, Body::from_stream(body)).into_response()
}

/// What git is asked for.
enum Asked {
    /// The list of refs.
    Refs,
    /// The request in this file; the text, if any, is a message for a client that gets a pack.
    Pack(File, Option<String>),
}

/// Prints the message in [`NOTE`] to the client before git makes the pack (git-config(1),
/// `uploadpack.packObjectsHook`).
const SAYS_NOTE: &str =
    "uploadpack.packObjectsHook=f() { printf '%s\\n' \"$HAB_CLONE_NOTE\" >&2; exec \"$@\"; }; f";
/// The environment variable that holds the message.
const NOTE: &str = "HAB_CLONE_NOTE";

/// A git process that is answering. Dropping this value ends it.
pub(crate) struct Running {
    child: Child,
    stdout: ChildStdout,
    buffer: BytesMut,
    /// Ends the process when it takes too long, whether or not the client reads.
    watch: tokio::task::AbortHandle,
    _turn: Turn,
}

impl Running {
    fn start(
        mirror: &Mirror,
        repository: &FilePath,
        protocol: Option<&str>,
        asked: Asked,
        turn: Turn,
    ) -> Result<Self, Error> {
        let (advertise, stdin, note) = match asked {
            Asked::Refs => (true, Stdio::null(), None),
            Asked::Pack(file, note) => (false, Stdio::from(file), note),
        };
        let mut command = Command::new("git");
        // The host's own git configuration must not change what is served.
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("LC_ALL", "C")
            .args(["-c", "safe.directory=*", "-c", "core.hooksPath=/dev/null"])
            // Before version 2 of the protocol, a client may fetch objects by id only if that is allowed, and a partial
            // clone needs it; version 2 always allows it.
            .args(["-c", "uploadpack.allowFilter=true", "-c", "uploadpack.allowAnySHA1InWant=true"])
            .args(["-c", "pack.windowMemory=64m", "-c", "pack.deltaCacheSize=64m"])
            .args(note.iter().flat_map(|_| ["-c", SAYS_NOTE]))
            .args(["upload-pack", "--strict", "--stateless-rpc"])
            .args(advertise.then_some("--http-backend-info-refs"))
            .arg(repository)
            .process_group(0)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(note) = note {
            command.env(NOTE, note);
        }
        let graph = repository.join(hab_mirror::git::GRAPH);
        if graph.is_dir() {
            command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", graph);
        }
        if let Some(words) = protocol {
            command.env("GIT_PROTOCOL", words);
        }
        let mut child = command.spawn().map_err(Error::Git)?;
        let stdout = child.stdout.take().ok_or_else(|| Error::Git(std::io::ErrorKind::BrokenPipe.into()))?;
        let (group, wall) = (group(&child), mirror.limits.wall);
        let watch = tokio::spawn(async move {
            tokio::time::sleep(wall).await;
            kill(group);
        });
        Ok(Self { child, stdout, buffer: BytesMut::new(), watch: watch.abort_handle(), _turn: turn })
    }

    pub(crate) async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        self.buffer.reserve(CHUNK);
        if self.stdout.read_buf(&mut self.buffer).await? > 0 {
            return Ok(Some(self.buffer.split().freeze()));
        }
        // git has already told its client about any error, so its exit status changes nothing here.
        self.watch.abort();
        let status = self.child.wait().await?;
        tracing::debug!(status = status.code(), "upload-pack ended");
        Ok(None)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.watch.abort();
        // A process that was waited for has no id any more: its number may belong to another process by now.
        kill(group(&self.child));
    }
}

fn group(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

fn kill(group: Option<Pid>) {
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
}
