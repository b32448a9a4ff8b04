//! Checks addresses that a repository may be fetched from, and shows them without secrets.

use crate::MirrorError;

/// Which transports are allowed besides https, ssh and git.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Repositories on this machine: `file://` and paths.
    pub file: bool,
    /// Unencrypted http.
    pub http: bool,
}

impl Allow {
    /// The value of `GIT_ALLOW_PROTOCOL`, which git applies to redirects too (git(1)).
    pub(super) fn words(self) -> String {
        let more = [(self.file, ":file"), (self.http, ":http")];
        more.iter().filter(|(on, _)| *on).fold("https:ssh:git".to_owned(), |all, (_, word)| all + word)
    }

    /// Refuses an address with a transport that is not allowed, and text that git would not read as an address.
    pub fn check(self, url: &str) -> Result<(), MirrorError> {
        let refused =
            |detail: &str| Err(MirrorError::Url { url: without_user(url), detail: detail.to_owned() });
        if url.is_empty() || url.starts_with('-') || url.chars().any(char::is_control) {
            return refused("it is not an address");
        }
        let transport = transport(url);
        let web = matches!(transport, "https" | "http");
        // The address is on the command lines of git's child processes, which everybody on this machine can read.
        if web && url.contains(['?', '#']) {
            return refused(
                "it has a query, which every user of this machine could read; name the repository only",
            );
        }
        if !web && has_password(url) {
            return refused("it has a password, which only https takes; remove it");
        }
        match transport {
            "https" | "ssh" | "git" => Ok(()),
            "file" if self.file => Ok(()),
            "http" if self.http => Ok(()),
            "file" => refused("it is on this machine; set mirror.file = true in hab.toml to allow that"),
            "http" => refused("it is not encrypted; set mirror.http = true in hab.toml to allow that"),
            other => {
                refused(&format!("{other:?} is not a transport that is supported; use https, ssh or git"))
            }
        }
    }
}

/// The transport of an address, as git decides it (connect.c, `parse_connect_url`).
fn transport(url: &str) -> &str {
    if let Some((scheme, _)) = url.split_once("://") {
        return scheme;
    }
    match url.split_once("::") {
        // A remote helper, such as `ext::sh -c …`.
        Some((helper, _)) => helper,
        None => match url.find([':', '/']) {
            Some(at) if url[at..].starts_with(':') => "ssh",
            _ => "file",
        },
    }
}

/// The host in an address; `None` if it is on this machine.
pub fn host(url: &str) -> Option<&str> {
    let (rest, ends): (_, &[char]) = match url.split_once("://") {
        Some(("file", _)) => return None,
        Some((_, rest)) => (rest, &['/', ':']),
        None if transport(url) == "ssh" => (url, &[':']),
        None => return None,
    };
    let rest = &rest[..rest.find('/').unwrap_or(rest.len())];
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let end = if host.starts_with('[') { host.find(']').map(|at| at + 1) } else { host.find(ends) };
    Some(&host[..end.unwrap_or(host.len())])
}

/// Whether an address contains a password before the host, in any form.
pub(super) fn has_password(url: &str) -> bool {
    let user = match url.split_once("://") {
        Some((_, rest)) => authority(rest).rsplit_once('@').map(|(user, _)| user),
        // `user:password@host:path`, which git would read as the host `user`; a path may contain an @, but not before a
        // colon.
        None if url.contains("::") || !url.contains(':') => None,
        None => url.rsplit_once(':').and_then(|(start, _)| start.rsplit_once('@')).map(|(user, _)| user),
    };
    user.is_some_and(|user| user.contains(':'))
}

/// The part before the path: user, host and port.
fn authority(rest: &str) -> &str {
    &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
}

/// An address without user, password and query, for messages and for journals, which everybody may read.
pub fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // git would refuse a password here, and the error must not repeat it.
        return match url.rsplit_once('@') {
            Some((_, rest)) if has_password(url) => rest.to_owned(),
            _ => url.to_owned(),
        };
    };
    let at = authority(rest).rfind('@').map_or(0, |at| at + 1);
    let rest = &rest[at..];
    let (rest, query) = match rest.find(['?', '#']) {
        Some(end) if scheme != "file" => (&rest[..end], "?…"),
        _ => (rest, ""),
    };
    format!("{scheme}://{rest}{query}")
}

/// A message of git or an upstream in which every address is shortened as by [`without_user`]: git's own errors repeat
/// the address that it was given, and an upstream may mention any.
pub fn without_users(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let scheme = rest[..at].rfind(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
        let start =
            scheme.map_or(0, |before| before + rest[before..].chars().next().map_or(1, char::len_utf8));
        let after = at + "://".len();
        let end = rest[after..].find(|c: char| c.is_whitespace() || "'\"`<>".contains(c));
        let end = end.map_or(rest.len(), |end| after + end);
        out.push_str(&rest[..start]);
        out.push_str(&without_user(&rest[start..end]));
        rest = &rest[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_without_its_password() {
        for (url, kept) in [
            ("https://me:secret@host.invalid/a@b.git", "https://host.invalid/a@b.git"),
            ("https://host.invalid/a.git", "https://host.invalid/a.git"),
            ("/srv/a.git", "/srv/a.git"),
            ("https://token@host.invalid?private_token=secret", "https://host.invalid?…"),
            ("https://host.invalid/a.git?private_token=secret#x", "https://host.invalid/a.git?…"),
            ("https://me:p@ss@host.invalid/a", "https://host.invalid/a"),
            ("me:secret@host.invalid:a/b.git", "host.invalid:a/b.git"),
            ("git@host.invalid:a@b/c.git", "git@host.invalid:a@b/c.git"),
        ] {
            assert_eq!(without_user(url), kept);
        }
    }

    #[test]
    fn a_text_is_kept_without_the_passwords_of_its_addresses() {
        for (text, kept) in [
            (
                "fatal: unable to access 'https://me:secret@h.invalid/a.git/': Could not resolve host: h.invalid",
                "fatal: unable to access 'https://h.invalid/a.git/': Could not resolve host: h.invalid",
            ),
            (
                "ask http://u:secret@a.invalid, or https://b.invalid/x?token=secret now",
                "ask http://a.invalid, or https://b.invalid/x?… now",
            ),
            ("“https://me:secret@h.invalid”://", "“https://h.invalid”://"),
            ("://me:secret@h", "://h"),
            ("no address: a@b", "no address: a@b"),
        ] {
            assert_eq!(without_users(text), kept);
        }
    }

    #[test]
    fn a_password_that_a_command_line_would_show_is_refused_and_not_told() {
        let all = Allow { file: true, http: true };
        for url in [
            "ssh://me:secret@h.invalid/a",
            "git://me:secret@h.invalid/a",
            "me:secret@h.invalid:a",
            "file://me:secret@h/a",
            "https://h.invalid/a?private_token=secret",
            "https://h.invalid/a#secret",
        ] {
            let said = all.check(url).unwrap_err().to_string();
            assert!(said.contains("h.invalid") || said.contains("://h/a"), "{said}");
            assert!(!said.contains("secret"), "{said}");
        }
        all.check("https://me:secret@h.invalid/a").unwrap();
        all.check("git@h.invalid:a@b/c.git").unwrap();
        all.check("ssh://git@h.invalid:22/a").unwrap();
    }

    #[test]
    fn only_network_transports_are_allowed_unless_the_operator_says_so() {
        let all = Allow { file: true, http: true };
        for url in
            ["https://h.invalid/a", "ssh://g@h.invalid/a", "git@h.invalid:a/b.git", "git://h.invalid/a"]
        {
            Allow::default().check(url).unwrap();
        }
        for url in ["file:///srv/a", "/srv/a", "./a:b", "../a", "http://h.invalid/a"] {
            assert!(Allow::default().check(url).is_err(), "{url}");
            all.check(url).unwrap();
        }
        for url in
            ["ext::sh -c true", "fd::3", "ftp://h.invalid/a", "--upload-pack=x", "", "https://h.invalid/\n"]
        {
            assert!(all.check(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_host_is_found_in_every_form() {
        for (url, found) in [
            ("https://me@h.invalid:8443/a", Some("h.invalid")),
            ("https://[::1]:80/a", Some("[::1]")),
            ("git@h.invalid:a/b.git", Some("h.invalid")),
            ("ssh://h.invalid", Some("h.invalid")),
            ("file:///srv/a", None),
            ("/srv/a", None),
        ] {
            assert_eq!(host(url), found, "{url}");
        }
    }
}
