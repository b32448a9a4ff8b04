//! An upstream, as git sees it. git gets the address without user and password, because every user of this machine can
//! read git's command line; it gets these in another way.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};

use super::url::{has_password, without_user, without_users};
use crate::MirrorError;

/// The longest password that is read from a file, in bytes.
const PASSWORD: u64 = 4096;
/// A shorter password is not hidden in messages: that would cut words apart.
const SHORT: usize = 4;

/// An upstream.
pub(super) struct Remote {
    /// The address for git; a web address is without user and password.
    address: String,
    /// The upstream's name in messages and journals.
    name: String,
    login: Option<Login>,
    /// Whether the address contains its password.
    exposed: bool,
}

/// Credentials that an upstream may ask for.
struct Login {
    /// The scheme, host and port that they are for.
    origin: String,
    /// The text for git's credential helper (git-credential(1)), in memory: never on a disk, in an environment or on a
    /// command line, and gone with this program. Its path leads through this process, which other users cannot inspect.
    answer: File,
    /// The forms in which the password may appear in an upstream's messages.
    forms: Vec<String>,
}

impl Remote {
    /// Takes an address apart. If a web address names a user without a password, the password comes from
    /// `password_file`.
    pub(super) fn new(url: &str, password_file: Option<&Path>) -> Result<Self, MirrorError> {
        let name = without_user(url);
        let web = ["https", "http"].into_iter().find(|scheme| scheme_of(url) == Some(scheme));
        let Some(scheme) = web else {
            return Ok(Self { address: url.to_owned(), name, login: None, exposed: false });
        };
        let refused = |detail: &str| MirrorError::Url { url: name.clone(), detail: detail.to_owned() };
        let host = name[scheme.len() + "://".len()..].split('/').next().unwrap_or_default();
        // The host becomes part of the setting that decides who gets the password, and a * in it would match any host.
        if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_[]:".contains(&b)) {
            return Err(refused("it names no host"));
        }
        let Some(user) = user_of(url) else {
            return Ok(Self { address: name.clone(), name, login: None, exposed: false });
        };
        let exposed = has_password(url);
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let text =
            |part: &str| decoded(part).ok_or_else(|| refused("its user or password has a bad character"));
        let (user, mut password) = (text(user)?, text(password)?);
        if !exposed && let Some(file) = password_file {
            password = read_password(file)?;
        }
        let origin = format!("{scheme}://{host}");
        let login =
            Login::new(origin, &user, &password).map_err(MirrorError::io("the upstream's password"))?;
        Ok(Self { address: name.clone(), name, login: Some(login), exposed })
    }

    /// A file or repository on this machine.
    pub(super) fn here(path: &Path) -> Self {
        let address = path.display().to_string();
        Self { name: address.clone(), address, login: None, exposed: false }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the address contains its password.
    pub(super) fn is_exposed(&self) -> bool {
        self.exposed
    }

    /// Tells git where to ask for user and password: for this scheme, host and port only, and with no other helper.
    pub(super) fn configure(&self, command: &mut Command) {
        if let Some(login) = &self.login {
            let path = format!("/proc/{}/fd/{}", std::process::id(), login.answer.as_raw_fd());
            command.args(["-c", "credential.helper="]).arg("-c").arg(format!(
                "credential.{}.helper=!f() {{ test \"$1\" != get || cat {path}; }}; f",
                login.origin
            ));
        }
    }

    /// A message of git or of the upstream, without credentials.
    pub(super) fn conceal(&self, text: &str) -> String {
        let text = without_users(text);
        let forms = self.login.iter().flat_map(|login| &login.forms);
        forms.fold(text, |text, form| text.replace(form.as_str(), "…"))
    }
}

impl Login {
    fn new(origin: String, user: &str, password: &str) -> std::io::Result<Self> {
        let mut answer = File::from(memfd_create("git-credential", MemfdFlags::CLOEXEC)?);
        fchmod(&answer, Mode::RUSR)?;
        answer.write_all(format!("username={user}\npassword={password}\n").as_bytes())?;
        let both = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let escaped: String = password
            .bytes()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
            .collect();
        let mut forms = vec![both.trim_end_matches('=').to_owned(), escaped, password.to_owned()];
        // A token may stand in the place of the user.
        if password.is_empty() {
            forms.push(user.to_owned());
        }
        forms.retain(|form| form.len() >= SHORT);
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        Ok(Self { origin, answer, forms })
    }
}

fn scheme_of(url: &str) -> Option<&str> {
    url.split_once("://").map(|(scheme, _)| scheme)
}

/// The user, and perhaps the password, in an address.
fn user_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
    authority.rsplit_once('@').map(|(user, _)| user).filter(|user| !user.is_empty())
}

/// Percent-decoded text (RFC 3986, section 2.1); `None` if it is not valid text of one line.
fn decoded(part: &str) -> Option<String> {
    let bytes = part.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'%' {
            out.extend(hex::decode(bytes.get(at + 1..at + 3)?).ok()?);
            at += 3;
        } else {
            out.push(*byte);
            at += 1;
        }
    }
    String::from_utf8(out).ok().filter(|text| !text.chars().any(char::is_control))
}

/// The first line of a file that no other user may read or change.
fn read_password(path: &Path) -> Result<String, MirrorError> {
    let bad = |detail: String| MirrorError::Password { path: path.to_owned(), detail };
    let file = File::open(path).map_err(MirrorError::io(path))?;
    let mode = file.metadata().map_err(MirrorError::io(path))?.permissions().mode();
    if mode & 0o026 != 0 {
        return Err(bad(format!(
            "others may read or change it (mode {:o}); run chmod 600 on it",
            mode & 0o777
        )));
    }
    let mut text = Vec::new();
    file.take(PASSWORD + 1).read_to_end(&mut text).map_err(MirrorError::io(path))?;
    let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = std::str::from_utf8(line).ok().filter(|line| !line.chars().any(char::is_control));
    match line {
        Some(line) if !line.is_empty() && line.len() as u64 <= PASSWORD => Ok(line.to_owned()),
        _ => Err(bad(format!("its first line is not a password of up to {PASSWORD} bytes"))),
    }
}

/// The upstreams of a project. The password file is for a single scheme, host and port: those of the addresses with a
/// user and no password.
pub(super) fn remotes(urls: &[String], password_file: Option<&Path>) -> Result<Vec<Remote>, MirrorError> {
    let remotes = urls.iter().map(|url| Remote::new(url, password_file)).collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = password_file {
        let mut origins: Vec<&str> = remotes
            .iter()
            .filter(|remote| !remote.exposed)
            .filter_map(|remote| Some(remote.login.as_ref()?.origin.as_str()))
            .collect();
        origins.sort_unstable();
        origins.dedup();
        let detail = match origins.as_slice() {
            [_] => return Ok(remotes),
            [] => "no address names its user; name the user there, as in https://USER@host/project.git"
                .to_owned(),
            several => format!(
                "the addresses name users at {}, but it is for only one of them",
                several.join(" and ")
            ),
        };
        return Err(MirrorError::Password { path: path.to_owned(), detail });
    }
    Ok(remotes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn remote(url: &str) -> Remote {
        Remote::new(url, None).unwrap()
    }

    fn settings(remote: &Remote) -> Vec<String> {
        let mut command = Command::new("git");
        remote.configure(&mut command);
        command.get_args().map(|word| word.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn git_is_told_an_address_without_what_stands_before_the_host() {
        for (url, address, asks) in [
            ("https://me:secret@h.invalid:8443/a@b.git", "https://h.invalid:8443/a@b.git", true),
            ("https://token@h.invalid/a.git", "https://h.invalid/a.git", true),
            ("https://h.invalid/a.git", "https://h.invalid/a.git", false),
            ("https://@[::1]/a.git", "https://[::1]/a.git", false),
            ("ssh://git@h.invalid/a.git", "ssh://git@h.invalid/a.git", false),
            ("git@h.invalid:a.git", "git@h.invalid:a.git", false),
            ("/srv/a.git", "/srv/a.git", false),
        ] {
            let remote = remote(url);
            assert_eq!((remote.address(), remote.login.is_some()), (address, asks), "{url}");
            assert!(!settings(&remote).concat().contains("secret"));
            assert_eq!(remote.is_exposed(), url.contains("secret"));
        }
    }

    #[test]
    fn a_helper_answers_for_one_scheme_host_and_port_and_from_memory() {
        let remote = remote("https://me%40x:p%2F%25%C3%A4@h.invalid:8443/a.git");
        let settings = settings(&remote);
        assert_eq!(settings[..2], ["-c", "credential.helper="]);
        assert!(settings[3].starts_with("credential.https://h.invalid:8443.helper=!f()"), "{settings:?}");
        let path = settings[3].split("cat ").nth(1).unwrap().split(';').next().unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "username=me@x\npassword=p/%ä\n");
    }

    #[test]
    fn an_address_that_would_widen_the_setting_is_refused() {
        for url in [
            "https://me:secret@*.invalid/a",
            "https://me:secret@h.invalid=x/a",
            "https://me:secret@/a",
            "https://me:secret@h invalid/a",
            "https://me:sec%0aret@h.invalid/a",
            "https://me:secret%zz@h.invalid/a",
            "https://me:secret%2@h.invalid/a",
        ] {
            let said = Remote::new(url, None).err().unwrap().to_string();
            assert!(said.contains("cannot fetch from") && !said.contains("sec"), "{url}: {said}");
        }
    }

    #[test]
    fn what_is_said_is_told_without_the_password_in_any_of_its_forms() {
        let remote = remote("https://me:pass%20word@h.invalid/a.git");
        let said = remote.conceal("a pass word, pass%20word, bWU6cGFzcyB3b3Jk and http://x:y@z.invalid/?q=1");
        assert_eq!(said, "a …, …, … and http://z.invalid/?…");
        let token = Remote::new("https://t0ken@h.invalid/a.git", None).unwrap();
        assert_eq!(token.conceal("no t0ken here"), "no … here");
    }
}
