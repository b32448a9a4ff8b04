//! Git's smart HTTP protocol, read-only (gitprotocol-http(5)): each request is answered by one `git upload-pack`.
//!
//! The request is taken whole into a file before git starts, so that a slow sender holds no process; git reads it from
//! there and its answer is streamed. Whoever drops the answer ends the process, and everything that it started.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path as FilePath, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use async_compression::tokio::bufread::GzipDecoder;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures_util::{TryStreamExt as _, stream};
use hab_mirror::git::is_project_name;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::io::StreamReader;
use tower::ServiceExt as _;
use tower_http::services::ServeFile;

use crate::Mirror;
use crate::error::Error;

/// How much of git's answer is handed on at a time: as much as a pipe holds.
const CHUNK: usize = 64 * 1024;

/// A path below `/git/`.
struct Target<'a> {
    repository: PathBuf,
    rest: &'a str,
}

/// `<project>.git/…` or `verified/<project>.git/…`.
fn target<'a>(mirror: &Mirror, path: &'a str) -> Result<Target<'a>, Error> {
    let (folder, path) = match path.strip_prefix("verified/") {
        Some(rest) => (mirror.git.join("verified"), rest),
        None => (mirror.git.clone(), path),
    };
    let (name, rest) = path.split_once('/').ok_or(Error::NotFound)?;
    let project = name.strip_suffix(".git").unwrap_or(name);
    if !is_project_name(project) {
        return Err(Error::NotFound);
    }
    let repository = folder.join(format!("{project}.git"));
    if !repository.is_dir() {
        return Err(Error::NotFound);
    }
    Ok(Target { repository, rest })
}

pub(crate) async fn get(
    State(mirror): State<Mirror>,
    Path(path): Path<String>,
    request: Request,
) -> Result<Response, Error> {
    let Target { repository, rest } = target(&mirror, &path)?;
    match rest {
        "info/refs" => advertise(&mirror, &repository, request.uri(), request.headers()).await,
        "clone.bundle" => Ok(ServeFile::new(repository.join(rest)).oneshot(request).await.into_response()),
        // The files that the dumb protocol would ask for.
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
) -> Result<Response, Error> {
    match uri.query() {
        Some("service=git-upload-pack") => {}
        Some("service=git-receive-pack") => return Err(Error::ReadOnly),
        _ => return Err(Error::NotSmart),
    }
    let protocol = protocol(headers)?;
    let permit = turn(mirror, &mirror.light).await?;
    let running = Running::start(mirror, repository, protocol, true, Stdio::null(), permit)?;
    let head = match protocol {
        Some(words) if words.split(':').any(|word| word == "version=2") => Bytes::new(),
        _ => Bytes::from_static(b"001e# service=git-upload-pack\n0000"),
    };
    Ok(answer("application/x-git-upload-pack-advertisement", head, running))
}

pub(crate) async fn post(
    State(mirror): State<Mirror>,
    Path(path): Path<String>,
    request: Request,
) -> Result<Response, Error> {
    let Target { repository, rest } = target(&mirror, &path)?;
    match rest {
        "git-upload-pack" => {}
        "git-receive-pack" => return Err(Error::ReadOnly),
        _ => return Err(Error::NotFound),
    }
    let (head, body) = request.into_parts();
    let is = |name: header::HeaderName, value: &str| head.headers.get(name).is_some_and(|v| v == value);
    if !is(header::CONTENT_TYPE, "application/x-git-upload-pack-request") {
        return Err(Error::Malformed("its content type is another"));
    }
    let gzip = match head.headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => false,
        Some(b"gzip" | b"x-gzip") => true,
        Some(_) => return Err(Error::Malformed("its content encoding is neither gzip nor identity")),
    };
    let protocol = protocol(&head.headers)?;
    let body = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    let (file, light) = if gzip {
        receive(&mirror, GzipDecoder::new(BufReader::new(body))).await?
    } else {
        receive(&mirror, body).await?
    };
    let permit = turn(&mirror, if light { &mirror.light } else { &mirror.packs }).await?;
    let running = Running::start(&mirror, &repository, protocol, false, Stdio::from(file), permit)?;
    Ok(answer("application/x-git-upload-pack-result", Bytes::new(), running))
}

/// The request in a file of its own, and whether it only asks for a list of refs.
async fn receive(mirror: &Mirror, mut body: impl AsyncRead + Unpin) -> Result<(File, bool), Error> {
    let folder = mirror.keep.partial().to_owned();
    let mut file =
        tokio::task::spawn_blocking(move || tempfile::tempfile_in(folder)).await?.map_err(Error::Git)?;
    let mut room = mirror.limits.request;
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = timeout(mirror.limits.idle, body.read(&mut buffer)).await.map_err(|_| Error::Stalled)?;
        let read = read.map_err(|_| Error::Malformed("its body broke off"))?;
        if read == 0 {
            break;
        }
        room = room.checked_sub(read as u64).ok_or(Error::TooLarge { limit: mirror.limits.request })?;
        // At most 64 KiB into the page cache.
        file.write_all(&buffer[..read]).map_err(Error::Git)?;
    }
    let mut first = [0; 19];
    file.rewind().map_err(Error::Git)?;
    // A shorter one is another command.
    let light = file.read_exact(&mut first).is_ok() && first[4..].starts_with(b"command=ls-refs");
    file.rewind().map_err(Error::Git)?;
    Ok((file, light))
}

async fn turn(mirror: &Mirror, slots: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Error> {
    match timeout(mirror.limits.turn, slots.clone().acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(Error::Busy),
    }
}

/// `Git-Protocol`, which becomes an environment variable: only what git itself writes there.
fn protocol(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let Some(value) = headers.get("git-protocol") else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| {
        text.len() <= 100
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b':' | b'-' | b'.'))
    });
    text.map(Some).ok_or(Error::Malformed("its Git-Protocol header"))
}

fn answer(kind: &'static str, head: Bytes, running: Running) -> Response {
    let body = stream::try_unfold((Some(head), running), |(head, mut running)| async move {
        if let Some(head) = head.filter(|head| !head.is_empty()) {
            return Ok(Some((head, (None, running))));
        }
        Ok::<_, std::io::Error>(running.next().await?.map(|chunk| (chunk, (None, running))))
    });
    let headers =
        [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache, max-age=0, must-revalidate")];
    (headers, Body::from_stream(body)).into_response()
}

/// A git that is answering. Ends with its value.
struct Running {
    child: Child,
    stdout: ChildStdout,
    buffer: BytesMut,
    until: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Running {
    fn start(
        mirror: &Mirror,
        repository: &FilePath,
        protocol: Option<&str>,
        advertise: bool,
        stdin: Stdio,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, Error> {
        let mut command = Command::new("git");
        // Nothing of the host's own configuration has a say in what is served.
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("LC_ALL", "C")
            .args(["-c", "safe.directory=*", "-c", "core.hooksPath=/dev/null"])
            .args(["-c", "uploadpack.allowFilter=true", "-c", "pack.windowMemory=64m"])
            .args(["-c", "pack.deltaCacheSize=64m", "upload-pack", "--strict", "--stateless-rpc"])
            .args(advertise.then_some("--http-backend-info-refs"))
            .arg(repository)
            .process_group(0)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let graph = repository.join(hab_mirror::git::GRAPH);
        if graph.is_dir() {
            command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", graph);
        }
        if let Some(words) = protocol {
            command.env("GIT_PROTOCOL", words);
        }
        let mut child = command.spawn().map_err(Error::Git)?;
        let stdout = child.stdout.take().ok_or_else(|| Error::Git(std::io::ErrorKind::BrokenPipe.into()))?;
        let until = Instant::now() + mirror.limits.wall;
        Ok(Self { child, stdout, buffer: BytesMut::new(), until, _permit: permit })
    }

    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        self.buffer.reserve(CHUNK);
        let read = timeout_at(self.until, self.stdout.read_buf(&mut self.buffer)).await;
        if read.map_err(|_| std::io::ErrorKind::TimedOut)?? > 0 {
            return Ok(Some(self.buffer.split().freeze()));
        }
        // What git has to say to its client it has said by its own means, so its status changes nothing here.
        let status = self.child.wait().await?;
        tracing::debug!(status = status.code(), "upload-pack ended");
        Ok(None)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that was waited for has no id any more, and its number may be somebody else's.
        if let Some(group) = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
