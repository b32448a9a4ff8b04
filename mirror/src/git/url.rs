//! Addresses that a repository may be fetched from.

use crate::MirrorError;

/// Which transports are allowed beside https, ssh and git.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Repositories of this machine: `file://` and paths.
    pub file: bool,
    /// Unencrypted http.
    pub http: bool,
}

impl Allow {
    /// For `GIT_ALLOW_PROTOCOL`, which also holds for what an upstream redirects to (git(1)).
    pub(super) fn words(self) -> String {
        let more = [(self.file, ":file"), (self.http, ":http")];
        more.iter().filter(|(on, _)| *on).fold("https:ssh:git".to_owned(), |all, (_, word)| all + word)
    }

    /// Refuses an address of a transport that is not allowed, and one that git would read as something else.
    pub fn check(self, url: &str) -> Result<(), MirrorError> {
        let refused =
            |detail: &str| Err(MirrorError::Url { url: without_user(url), detail: detail.to_owned() });
        if url.is_empty() || url.starts_with('-') || url.chars().any(char::is_control) {
            return refused("it is not an address");
        }
        match transport(url) {
            "https" | "ssh" | "git" => Ok(()),
            "file" if self.file => Ok(()),
            "http" if self.http => Ok(()),
            "file" => refused("it is on this machine; set mirror.file = true in hab.toml to allow that"),
            "http" => refused("it is not encrypted; set mirror.http = true in hab.toml to allow that"),
            other => {
                refused(&format!("{other:?} is not a transport that is fetched by; use https, ssh or git"))
            }
        }
    }
}

/// As git tells them apart (connect.c, `parse_connect_url`).
fn transport(url: &str) -> &str {
    if let Some((scheme, _)) = url.split_once("://") {
        return scheme;
    }
    match url.split_once("::") {
        // A remote helper, `ext::sh -c …` among them.
        Some((helper, _)) => helper,
        None => match url.find([':', '/']) {
            Some(at) if url[at..].starts_with(':') => "ssh",
            _ => "file",
        },
    }
}

/// The host that an address names; none for one of this machine.
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

/// An address without whatever a person put before the host: a journal is for everybody to read.
pub(super) fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let host = rest.find('/').unwrap_or(rest.len());
    let at = rest[..host].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[at..])
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
        ] {
            assert_eq!(without_user(url), kept);
        }
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
