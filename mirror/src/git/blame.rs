//! Decides from git's output whose fault a failure is.

use super::remote::Remote;
use crate::{Failed, MirrorError};

/// Why a run of git with an upstream gave nothing, in words.
pub(super) enum Cause {
    /// git failed; its own words.
    Git(String),
    /// It took too long, and was ended.
    Slow(String),
    /// The upstream answered with something that is not taken.
    NotTaken(String),
}

impl Cause {
    pub(super) fn words(&self) -> &str {
        let (Self::Git(words) | Self::Slow(words) | Self::NotTaken(words)) = self;
        words
    }
}

/// The error for a person's request to stop while git was running: nothing of the fetch is kept.
pub(super) fn stopped(project: &str) -> MirrorError {
    MirrorError::Stopped {
        what: format!("mirroring {project}"),
        then: "every ref is where it was, and the next sync begins anew",
    }
}

/// git's messages about an upstream that cannot send all objects that its own refs need.
const LACKS: [&str; 4] = [
    "repository corruption on the remote side",
    "did not send all necessary objects",
    "upload-pack: not our ref",
    "missing necessary objects",
];

/// The error for git's failure with an upstream.
pub(super) fn failed(action: &'static str, remote: &Remote, cause: &Cause) -> MirrorError {
    let mut stderr = remote.conceal(cause.words());
    if ["301", "302", "303", "307", "308"]
        .iter()
        .any(|code| stderr.ends_with(&format!("returned error: {code}")))
    {
        stderr.push_str("; redirects are not followed; to allow this one, name the address it leads to");
    }
    if LACKS.iter().any(|words| stderr.contains(words)) {
        stderr.push_str("; this upstream cannot give all objects that its own refs need");
    }
    let why = match cause {
        Cause::Git(_) => why(&stderr),
        Cause::Slow(_) => Failed::Away,
        Cause::NotTaken(_) => Failed::NotTaken,
    };
    MirrorError::Git { action, url: remote.name().to_owned(), stderr, why }
}

/// Whether git, which succeeded, left out refs because the upstream's history is cut off.
pub(super) fn says_shallow(said: &str) -> bool {
    said.split("; ").any(|line| !line.starts_with("remote:") && line.contains("shallow roots"))
}

/// Decides whose fault a failure is, by git's own lines. An upstream's own lines begin with `remote:` and are ignored.
fn why(stderr: &str) -> Failed {
    let ours = |line: &&str| !line.starts_with("remote:");
    let lines = stderr.split("; ").map(str::trim).filter(ours);
    let (mut checks, mut fsck) = (Vec::new(), false);
    for line in lines {
        if line.contains("source repository is shallow") {
            return Failed::NotTaken;
        }
        fsck |= line.contains("fsck error");
        // `error: object 1234…: badTimezone: invalid author/committer line - bad time zone`
        let rest = line.strip_prefix("error: object ").and_then(|rest| rest.split_once(": "));
        if let Some((check, _)) = rest.and_then(|(_, rest)| rest.split_once(':'))
            && check.bytes().all(|b| b.is_ascii_alphanumeric())
            && !checks.iter().any(|known| known == check)
        {
            checks.push(check.to_owned());
        }
    }
    if fsck || !checks.is_empty() { Failed::Fsck(checks) } else { Failed::Away }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_of_a_refusal_is_read_and_an_upstream_cannot_say_it() {
        let fsck = |checks: &[&str]| Failed::Fsck(checks.iter().map(|c| (*c).to_owned()).collect());
        for (said, found) in [
            (
                "error: object 12ab: badTimezone: invalid author/committer line - bad time zone; fatal: fsck error in \
                 packed object; fatal: fetch-pack: invalid index-pack output",
                fsck(&["badTimezone"]),
            ),
            ("remote: error: object 12ab: badTimezone: x; fatal: early EOF", Failed::Away),
            ("fatal: fsck error in pack objects", fsck(&[])),
            ("fatal: source repository is shallow, reject to clone.", Failed::NotTaken),
        ] {
            assert_eq!(why(said), found, "{said}");
        }
    }
}
