//! Where certificates of pinned keys may be found. A place is never trusted: every certificate is compared with the
//! pinned fingerprint.

use serde::Deserialize;

/// The longest address, in bytes (RFC 5321, section 4.5.3.1.3, without the brackets).
const ADDRESS: usize = 254;

/// A folder of a mirrored project.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFolder {
    /// The project's name, as in mirror/projects.
    pub project: String,
    /// The folder within the project, at the tip of its default branch.
    pub folder: String,
}

impl CertificateFolder {
    /// Checks that both are plain names that lead nowhere else.
    pub(super) fn check(&self) -> Result<(), String> {
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
        if self.project.contains('/') || !plain(&self.project) {
            return Err(format!("certificates: {:?} is not the name of a project", self.project));
        }
        if !self.folder.split('/').all(plain) {
            return Err(format!("certificates: {:?} is not a folder of a project", self.folder));
        }
        Ok(())
    }
}

/// Whether `text` is an e-mail address whose domain is a plain host name, without a port, a user or a path.
pub(crate) fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-')
    };
    let local_is_plain =
        !local.is_empty() && !local.contains('@') && local.bytes().all(|b| b.is_ascii_graphic());
    text.len() <= ADDRESS && local_is_plain && domain.contains('.') && domain.split('.').all(label)
}
