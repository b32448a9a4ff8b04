//! A file of passwords, with `name:hash` on each line. The hashes take long to guess: bcrypt, or argon2 in the PHC
//! string format.

use std::collections::HashMap;
use std::path::Path;

use argon2::password_hash::{PasswordHash, PasswordVerifier as _};
use argon2::{Argon2, Params};
use hab_trusted_file::Readers;

use super::account::Account;
use super::error::{AccessError, LineError, lines};

/// The highest cost of bcrypt: 15 takes two seconds of a processor for each login, and for each guess.
const MOST_COST: u32 = 15;
const MOST_MEMORY: u32 = 256 * 1024;
const MOST_PASSES: u32 = 16;
const MOST_LANES: u32 = 16;

/// The longest password that can be right, in bytes; bcrypt looks at 72 of them.
pub(crate) const LONGEST: usize = 1024;

/// Hashes of passwords by name.
#[derive(Default)]
pub(crate) struct Htpasswd {
    accounts: HashMap<Account, Hash>,
    /// The names in the file's order, for [`Htpasswd::somebody`].
    names: Vec<Account>,
}

/// A checked hash: its kind is known, and it takes no more than it may.
#[derive(Clone)]
pub(crate) enum Hash {
    Bcrypt(Box<str>),
    Argon2(Box<str>),
}

impl Htpasswd {
    pub(crate) fn load(path: &Path) -> Result<Self, AccessError> {
        let mut all = Self::default();
        // Others may not read the file, because passwords can be guessed from hashes.
        lines(path, Readers::GroupOfRoot, |line| {
            let (name, hash) = line.split_once(':').ok_or(LineError::NoColon)?;
            let name: Account = name.parse()?;
            let hash = Hash::of(&name, hash)?;
            if all.accounts.insert(name.clone(), hash).is_some() {
                return Err(LineError::Twice(name.to_string()));
            }
            all.names.push(name);
            Ok(())
        })?;
        Ok(all)
    }

    pub(crate) fn hash(&self, name: &Account) -> Option<&Hash> {
        self.accounts.get(name)
    }

    /// The hash of a name as text, to notice when it changes.
    pub(crate) fn written(&self, name: &Account) -> Option<&str> {
        self.accounts.get(name).map(|hash| match hash {
            Hash::Bcrypt(text) | Hash::Argon2(text) => text.as_ref(),
        })
    }

    /// Decoy hash for an unknown account, so that the time of an answer does not reveal that it is unknown. The same
    /// number always gives the same hash.
    pub(crate) fn somebody(&self, number: u64) -> Option<&Hash> {
        let count = u64::try_from(self.names.len()).ok().filter(|count| *count > 0)?;
        let at = usize::try_from(number % count).ok()?;
        self.accounts.get(self.names.get(at)?)
    }
}

impl Hash {
    fn of(name: &Account, text: &str) -> Result<Self, LineError> {
        let garbled = || LineError::Garbled(name.to_string());
        if ["$2a$", "$2b$", "$2y$"].iter().any(|kind| text.starts_with(kind)) {
            let parts: bcrypt::HashParts = text.parse().map_err(|_| garbled())?;
            return match parts.get_cost() {
                4..=MOST_COST => Ok(Self::Bcrypt(text.into())),
                _ => Err(LineError::Costly(name.to_string())),
            };
        }
        if text.starts_with("$argon2") {
            let hash = PasswordHash::new(text).map_err(|_| garbled())?;
            let params = Params::try_from(&hash).map_err(|_| garbled())?;
            if argon2::Algorithm::try_from(hash.algorithm).is_err()
                || hash.salt.is_none()
                || hash.hash.is_none()
            {
                return Err(garbled());
            }
            let fits = params.m_cost() <= MOST_MEMORY
                && params.t_cost() <= MOST_PASSES
                && params.p_cost() <= MOST_LANES;
            return if fits {
                Ok(Self::Argon2(text.into()))
            } else {
                Err(LineError::Costly(name.to_string()))
            };
        }
        Err(LineError::Kind(name.to_string()))
    }

    /// Whether this is the hash of that password. Takes long, and keeps a processor busy.
    pub(crate) fn is_of(&self, password: &[u8]) -> bool {
        match self {
            // As in other programs, only the first 72 bytes count.
            Self::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
            Self::Argon2(text) => PasswordHash::new(text)
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use hab_chain::chain;

    fn load(text: &[u8]) -> Result<Htpasswd, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        crate::access::write_secret(&path, text);
        Htpasswd::load(&path).map_err(|error| chain(&error))
    }

    /// Hashes of the programs that people make them with: `htpasswd -nbB`, `mkpasswd -m bcrypt` and `argon2`.
    const REAL: &str = "\
apache:$2y$05$Jw/cgHmtLymPTPGQMyTT6uA3qSeskq3I51sJecJsPg05BdCsBOEXi
mkpasswd:$2b$05$jBClbKhkq0sYPGCzEC/DQe7ldR67rQhP.1LuqURKOtIEqcknKV6rG
argon2id:$argon2id$v=19$m=4096,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$acbZCckOfABB/s2U/eE8vrM+V9HWTIj4syKxzIwhax8
argon2i:$argon2i$v=19$m=1024,t=3,p=2$c29tZXNhbHRzb21lc2FsdA$K9XHuRXt3OI1O2ctUUie+K03mKscBxCjncoyBCpBkoA
";

    #[test]
    fn hashes_of_the_usual_programs_are_verified() {
        let file = load(REAL.as_bytes()).unwrap();
        for name in ["apache", "mkpasswd", "argon2id", "argon2i"] {
            let hash = file.hash(&name.parse().unwrap()).unwrap();
            assert!(hash.is_of(b"correct horse"), "{name}");
            assert!(!hash.is_of(b"correct horsf") && !hash.is_of(b""), "{name}");
        }
    }

    #[test]
    fn other_hashes_and_broken_lines_are_refused_with_their_line() {
        let good = "# people\n\nalice:$2y$05$abcdefghijklmnopqrstuuZ5xkZQ6iPYSHyvYp0C3YSIb0Fh1Wq9e\n";
        let salt = "c29tZXNhbHRzb21lc2FsdA";
        let hash = "Gt3hO0yTnlB3N3d8Wg0zcTb1bGJ1dM7yVq1nqkXo2vM";
        for (line, said) in [
            ("bob".to_owned(), "the line is not name:hash"),
            ("b b:$2y$".to_owned(), "is not an account's name"),
            ("any:$2y$".to_owned(), "no account can be named any"),
            (good.lines().last().unwrap().to_owned(), "alice has a password already"),
            ("bob:$apr1$abc$def".to_owned(), "neither bcrypt"),
            ("bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned(), "`htpasswd -nB bob`"),
            ("bob:secret".to_owned(), "neither bcrypt"),
            ("bob:$2x$05$abcdefghijklmnopqrstuuZ5xkZQ6iPYSHyvYp0C3YSIb0Fh1Wq9e".to_owned(), "neither bcrypt"),
            ("bob:$2y$05$abc".to_owned(), "cut or garbled"),
            ("bob:$2y$16$abcdefghijklmnopqrstuuZ5xkZQ6iPYSHyvYp0C3YSIb0Fh1Wq9e".to_owned(), "too costly"),
            ("bob:$argon2id$v=19$m=4096".to_owned(), "cut or garbled"),
            (format!("bob:$argon2id$v=19$m=4096,t=3,p=1${salt}"), "cut or garbled"),
            (format!("bob:$argon2x$v=19$m=4096,t=3,p=1${salt}${hash}"), "cut or garbled"),
            (format!("bob:$argon2id$v=19$m=1048576,t=3,p=1${salt}${hash}"), "too costly"),
            (format!("bob:$argon2id$v=19$m=4096,t=99,p=1${salt}${hash}"), "too costly"),
        ] {
            let error = load(format!("{good}{line}\n").as_bytes()).map(|_| ()).unwrap_err();
            assert!(error.contains("line 4") && error.contains(said), "{line}: {error}");
        }
        assert!(load(b"\xff:").is_err());
        assert!(load(&vec![b'#'; 5 << 20]).map(|_| ()).unwrap_err().contains("more than"));
    }

    #[test]
    fn a_name_that_is_not_there_has_a_hash_to_stand_in_for_it() {
        assert!(Htpasswd::default().somebody(7).is_none());
        let file = load(REAL.as_bytes()).unwrap();
        assert!((0..9).all(|number| file.somebody(number).is_some()));
        assert!(file.somebody(u64::MAX).is_some());
    }

    proptest! {
        #[test]
        fn hashes_from_a_file_never_panic(text in "(\\$2y\\$|\\$argon2id\\$)?[$a-z0-9=,./v]{0,90}") {
            let _ = Hash::of(&"a".parse().unwrap(), &text);
        }
    }
}
