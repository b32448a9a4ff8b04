//! Platforms as GNU names them.

use std::fmt;
use std::str::FromStr;

use super::DependsError;

/// The architectures that depends has rules for.
const ARCHITECTURES: &[&str] = &[
    "x86_64",
    "i686",
    "aarch64",
    "arm",
    "armv7a",
    "powerpc64",
    "powerpc64le",
    "riscv32",
    "riscv64",
    "s390x",
    "mips",
    "mipsel",
    "loongarch64",
];
const SYSTEMS: &[&str] = &["linux", "darwin", "freebsd", "netbsd", "openbsd", "mingw32"];

/// A platform such as `aarch64-linux-gnu`, as it was given and in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Triplet {
    named: String,
    canonical: String,
}

impl Triplet {
    /// The platform as it was given.
    pub fn named(&self) -> &str {
        &self.named
    }

    /// The architecture, vendor and system, as config.sub writes them.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }
}

impl FromStr for Triplet {
    type Err = DependsError;

    fn from_str(text: &str) -> Result<Self, DependsError> {
        let wrong = |detail: &str| DependsError {
            file: "the command".to_owned(),
            line: 0,
            detail: format!("{text:?} is not a platform such as aarch64-linux-gnu: {detail}"),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.len() > 64 || !text.chars().all(plain) {
            return Err(wrong("it has characters that are not allowed, or too many"));
        }
        let parts: Vec<&str> = text.split('-').collect();
        let architecture = match parts[0] {
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            "i386" | "i486" | "i586" => "i686",
            other => other,
        };
        if !ARCHITECTURES.contains(&architecture) {
            return Err(wrong("its architecture is not known"));
        }
        let vendor = if matches!(architecture, "x86_64" | "i686") { "pc" } else { "unknown" };
        let canonical = match parts.as_slice() {
            [_, "linux", libc] => format!("{architecture}-{vendor}-linux-{libc}"),
            [_, vendor, system] => format!("{architecture}-{vendor}-{system}"),
            [_, vendor, kernel, libc] => format!("{architecture}-{vendor}-{kernel}-{libc}"),
            _ => return Err(wrong("give architecture, vendor and system")),
        };
        let system = canonical.splitn(3, '-').nth(2).unwrap_or_default();
        if !SYSTEMS.iter().any(|known| system.starts_with(known)) {
            return Err(wrong("its system is not known"));
        }
        Ok(Self { named: text.to_owned(), canonical })
    }
}

impl fmt::Display for Triplet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named)
    }
}
