//! The operator's file of tokens: a name and a token's sha256 on each line, so that the file holds no secret.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use hab_trusted_file::Readers;
use sha2::{Digest as _, Sha256};

use super::account::Account;
use super::error::{AccessError, LineError, lines};
use super::key::Key;
use super::version::Version;

/// Accounts by the digests of their tokens; an account may have several.
///
/// The lookup does not take constant time. That may reveal something about digests, but a digest is no token.
#[derive(Default)]
pub(crate) struct Tokens {
    by_digest: HashMap<[u8; 32], Account>,
    digests: HashMap<Account, Vec<[u8; 32]>>,
}

impl Tokens {
    pub(crate) fn load(path: &Path) -> Result<Self, AccessError> {
        let mut all = Self::default();
        // Everybody may read the file, because a digest is no token.
        lines(path, Readers::Everybody, |line| {
            let mut words = line.split_ascii_whitespace();
            let (Some(name), Some(hex), None) = (words.next(), words.next(), words.next()) else {
                return Err(LineError::NoToken);
            };
            let mut digest = [0; 32];
            hex::decode_to_slice(hex, &mut digest).map_err(|_| LineError::NoToken)?;
            let name: Account = name.parse()?;
            all.digests.entry(name.clone()).or_default().push(digest);
            match all.by_digest.insert(digest, name) {
                Some(_) => Err(LineError::TokenTwice),
                None => Ok(()),
            }
        })?;
        Ok(all)
    }

    /// The account that has this token.
    pub(crate) fn owner(&self, token: &str) -> Option<&Account> {
        self.by_digest.get(<[u8; 32]>::from(Sha256::digest(token)).as_slice())
    }

    /// An identifier of a token that does not reveal it.
    pub(crate) fn version(key: &Key, name: &Account, token: &str) -> Version {
        Version::of(key, "token", name, &Sha256::digest(token))
    }

    /// Whether an account still has the token of this version.
    pub(crate) fn has(&self, key: &Key, name: &Account, version: &Version) -> bool {
        let mut digests = self.digests.get(name).into_iter().flatten();
        digests.any(|digest| Version::of(key, "token", name, digest) == *version)
    }
}

/// A token that was just made.
pub struct NewToken {
    /// The token, for its owner.
    pub token: String,
    /// The line for the file of tokens.
    pub line: String,
}

impl NewToken {
    /// A token of 256 random bits for an account.
    pub fn make(name: &Account) -> Result<Self, AccessError> {
        let token = hex::encode(super::key::random::<32>()?);
        let line = format!("{name} {}", hex::encode(Sha256::digest(&token)));
        Ok(Self { token, line })
    }
}

/// The ids of revoked tokens, one on each line of a file.
#[derive(Default)]
pub(crate) struct Revoked(HashSet<u64>);

impl Revoked {
    /// Reads the file; a missing file revokes nothing.
    pub(crate) fn load(path: &Path) -> Result<Self, AccessError> {
        let mut all = Self::default();
        let read = lines(path, Readers::Everybody, |line| {
            all.0.insert(id_of(line).ok_or(LineError::NoId)?);
            Ok(())
        });
        match read {
            Err(AccessError::File(error)) if error.is_missing() => Ok(all),
            Err(error) => Err(error),
            Ok(()) => Ok(all),
        }
    }

    pub(crate) fn has(&self, id: u64) -> bool {
        self.0.contains(&id)
    }
}

/// Parses an id: 16 hexadecimal digits.
pub(crate) fn id_of(text: &str) -> Option<u64> {
    if text.len() == 16 { u64::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use hab_chain::chain;

    fn write(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn a_token_is_known_by_its_digest_and_the_file_does_not_hold_it() {
        let ci: Account = "ci".parse().unwrap();
        let (one, two) = (NewToken::make(&ci).unwrap(), NewToken::make(&ci).unwrap());
        assert_ne!(one.token, two.token);
        assert!(!one.line.contains(&one.token));
        // The second digest is in capitals, and indented.
        let text = format!("# machines\n{}\n  {}\n", one.line, two.line.to_uppercase().replace("CI", "ci"));
        let (_folder, path) = write(&text);
        let tokens = Tokens::load(&path).unwrap();
        assert_eq!(tokens.owner(&one.token), Some(&ci));
        assert_eq!(tokens.owner(&two.token), Some(&ci));
        let key = Key::random().unwrap();
        let version = Tokens::version(&key, &ci, &two.token);
        assert!(tokens.has(&key, &ci, &version) && !tokens.has(&key, &"eve".parse().unwrap(), &version));
        assert!(!tokens.has(&Key::random().unwrap(), &ci, &version));
        assert_eq!(tokens.owner(one.line.split(' ').nth(1).unwrap()), None, "the digest is no token");
        assert_eq!(tokens.owner(""), None);
    }

    #[test]
    fn broken_lines_are_refused_with_their_number() {
        let digest = "0".repeat(64);
        for (text, said) in [
            ("ci".to_owned(), "is not a name, a space"),
            (format!("ci {digest} x"), "is not a name, a space"),
            (format!("ci {}", &digest[1..]), "is not a name, a space"),
            (format!("ci {}z", &digest[1..]), "is not a name, a space"),
            (format!("a:b {digest}"), "is not an account's name"),
            (format!("b {}1\nc {}1", &digest[1..], &digest[1..]), "on an earlier line"),
        ] {
            let (_folder, path) = write(&format!("a {digest}\n{text}\n"));
            let error = chain(&Tokens::load(&path).map(|_| ()).unwrap_err());
            assert!(error.contains(", line ") && error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn ids_are_revoked_by_a_file_that_need_not_be_there() {
        let (_folder, path) = write("00000000000000ff\n");
        assert!(Revoked::load(&path).unwrap().has(255));
        assert!(!Revoked::load(&path.with_extension("none")).unwrap().has(255));
        std::fs::write(&path, "ff\n").unwrap();
        assert!(chain(&Revoked::load(&path).map(|_| ()).unwrap_err()).contains("line 1"));
    }
}
