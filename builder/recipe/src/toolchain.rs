//! `toolchains/<name>.toml`: a root filesystem made of packages.

use std::collections::BTreeMap;

use hab_oci::{Digest, Platform};
use serde::{Deserialize, Serialize};

use crate::RecipeError;

/// A toolchain: its packages, where they come from, and what of them images need.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Toolchain {
    /// The toolchain's name, which is also its file's.
    pub name: String,
    /// The codename of the Debian suite that the packages come from.
    pub suite: String,
    /// The policy that says who must have signed the archive.
    pub policy: String,
    /// The architecture of the machine that builds, by Debian's name.
    pub architecture: String,
    /// The packages to resolve for the root itself.
    pub packages: Vec<String>,
    /// Packages that the resolver adds and that must not be unpacked, because programs would find them before the
    /// sysroot.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Symbolic links that the packages' maintainer scripts would have made.
    #[serde(default)]
    pub link: Vec<LinkTable>,
    /// The packages of each platform, which are unpacked under `/sysroot/<architecture>`.
    pub sysroot: SysrootTable,
    /// The files of a sysroot that images need.
    pub base: BaseTable,
}

/// A symbolic link in the root.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkTable {
    /// The link's absolute path.
    pub path: String,
    /// The path that the link points at.
    pub target: String,
}

/// The packages of the platforms that builds are for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SysrootTable {
    /// The packages to resolve, once for each platform.
    pub packages: Vec<String>,
    /// Packages that the resolver adds and that must not be unpacked.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// The files that every image made with this toolchain holds beside the build's outputs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseTable {
    /// For each platform, the files of the sysroot that a dynamically linked program needs: the loader and the C
    /// library. If a file is a link, the image holds the content of its target.
    pub files: BTreeMap<String, Vec<String>>,
    /// How the bundle of certificate authorities is made.
    pub certificates: CertificatesTable,
}

/// How the bundle of certificate authorities is made; this replaces the maintainer script of ca-certificates.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificatesTable {
    /// The folder of the sysroot whose `.crt` files are concatenated in the order of their names.
    pub from: String,
    /// The bundle's path in the image.
    pub to: String,
}

impl Toolchain {
    /// Parses the text of a toolchain's file; `file` is the name that the toolchain must have.
    pub fn parse(file: &str, text: &str) -> Result<Self, RecipeError> {
        let path = format!("toolchains/{file}.toml");
        let this: Self = toml::from_str(text)
            .map_err(|source| RecipeError::Syntax { path: path.clone(), source: Box::new(source) })?;
        let invalid = |detail: String| RecipeError::Invalid { path: path.clone(), detail };
        if this.name != file {
            return Err(invalid(format!("its name is {}, but the file is {file}.toml", this.name)));
        }
        for platform in Platform::ALL {
            if !this.base.files.contains_key(platform.architecture()) {
                return Err(invalid(format!("base.files has no entry for {}", platform.architecture())));
            }
        }
        if this.policy.parse::<crate::RecipeName>().is_err() {
            return Err(invalid(format!("{:?} is not the name of a policy", this.policy)));
        }
        let words =
            this.packages.iter().chain(&this.sysroot.packages).chain([&this.suite, &this.architecture]);
        for word in words {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-.:".contains(&b);
            if word.is_empty() || word.starts_with('-') || !word.bytes().all(plain) {
                return Err(invalid(format!("{word:?} is not a package, suite or architecture")));
            }
        }
        Ok(this)
    }

    /// The digest of everything that a lock depends on.
    pub fn request(&self) -> Digest {
        let text = serde_json::json!({
            "suite": self.suite,
            "architecture": self.architecture,
            "packages": self.packages,
            "exclude": self.exclude,
            "sysroot": self.sysroot,
        });
        Digest::of(text.to_string().as_bytes())
    }
}
