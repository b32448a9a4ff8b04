//! Parses a list of hashes in the formats of sha256sum(1), BSD's sha256(1) and tools of other systems.

use std::collections::{BTreeMap, BTreeSet};

use hab_oci::Digest;

/// The largest list that is read, in bytes.
const LIMIT: usize = 4 << 20;

/// BSD's names of other hashes; lines with these are skipped.
const OTHERS: [&str; 8] = ["MD5", "SHA1", "SHA224", "SHA384", "SHA512", "SHA512/256", "RMD160", "BLAKE2b"];

/// File names with the SHA-256 of their contents. **Unverified** by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HashList {
    entries: BTreeMap<String, Digest>,
    /// Names with several hashes: nobody can say which one is the file's.
    contested: BTreeMap<String, BTreeSet<Digest>>,
}

impl HashList {
    /// Parses a list, one entry a line: 64 hexadecimal digits, a space, a space or `*`, a name; or `SHA256 (name) =
    /// digits`. Lines may end as on Windows. Skips empty lines and comments.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > LIMIT {
            return Err(format!("it has {} bytes, more than the limit of {LIMIT}", bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut list = Self::default();
        for (number, line) in text.split_terminator('\n').enumerate() {
            // Bitcoin Core 22.0rc1 has lists whose lines end in two carriage returns.
            let line = line.trim_end_matches('\r');
            if line.trim().is_empty() || line.starts_with('#') || is_of_another_hash(line) {
                continue;
            }
            let (name, digest) = coreutils(line)
                .or_else(|| bsd(line))
                .ok_or_else(|| format!("line {} is not a hash and a name", number + 1))?;
            list.add(name, digest);
        }
        if list.entries.is_empty() && list.contested.is_empty() {
            return Err("it names no file".to_owned());
        }
        Ok(list)
    }

    /// Adds a hash for a file. A name with a second hash is contested from then on.
    pub(super) fn add(&mut self, name: String, digest: Digest) {
        if let Some(said) = self.contested.get_mut(&name) {
            said.insert(digest);
            return;
        }
        match self.entries.remove(&name) {
            Some(other) if other != digest => {
                self.contested.insert(name, [other, digest].into());
            }
            _ => {
                self.entries.insert(name, digest);
            }
        }
    }

    /// The hash of each file that has only one in the list.
    pub fn entries(&self) -> &BTreeMap<String, Digest> {
        &self.entries
    }

    /// The names that have several hashes in the list, and these hashes.
    pub fn contested(&self) -> &BTreeMap<String, BTreeSet<Digest>> {
        &self.contested
    }

    /// The hash of the file `name`, if it has only one in the list.
    pub fn get(&self, name: &str) -> Option<&Digest> {
        self.entries.get(name)
    }

    /// Every name with every hash that it has.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&String, &Digest)> {
        let contested = self.contested.iter().flat_map(|(name, said)| said.iter().map(move |d| (name, d)));
        self.entries.iter().chain(contested)
    }
}

/// Parses `digits  name` or `digits *name`. A backslash before the digits means that backslashes in the name are
/// doubled.
fn coreutils(line: &str) -> Option<(String, Digest)> {
    let (line, escaped) = match line.strip_prefix('\\') {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let (hex, name) = line.split_at_checked(64)?;
    let name = name.strip_prefix("  ").or_else(|| name.strip_prefix(" *"))?;
    let name = if escaped { unescaped(name)? } else { name.to_owned() };
    Some((plain(name)?, digest(hex)?))
}

/// Parses `SHA256 (name) = digits`.
fn bsd(line: &str) -> Option<(String, Digest)> {
    let (name, hex) = line.strip_prefix("SHA256 (")?.rsplit_once(") = ")?;
    Some((plain(name.to_owned())?, digest(hex)?))
}

fn is_of_another_hash(line: &str) -> bool {
    let Some((algorithm, rest)) = line.split_once(" (") else { return false };
    let digits = rest.rsplit_once(") = ").map(|(_, digits)| digits);
    OTHERS.contains(&algorithm) && digits.is_some_and(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn digest(hex: &str) -> Option<Digest> {
    Digest::from_sha256_hex(&hex.to_ascii_lowercase()).ok()
}

/// Refuses a name that could be displayed as another one.
fn plain(name: String) -> Option<String> {
    let plain = !name.is_empty() && !name.chars().any(char::is_control) && name.trim() == name;
    plain.then_some(name)
}

/// Names have no line breaks, so the only escape is a doubled backslash.
fn unescaped(name: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next() == Some('\\') => out.push('\\'),
            '\\' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ab";
    const B: &str = "cd";

    fn names(text: &str) -> Vec<String> {
        HashList::parse(text.as_bytes()).unwrap().entries().keys().cloned().collect()
    }

    #[test]
    fn a_list_reads_and_a_doubtful_one_does_not() {
        let hash = A.repeat(32);
        let list = HashList::parse(format!("{hash}  a.tar.gz\n{hash} *dir/b c\n").as_bytes()).unwrap();
        assert_eq!(list.entries().len(), 2);
        assert!(list.get("dir/b c").is_some());
        for bad in [
            String::new(),
            "# only a comment\n\n".to_owned(),
            format!("{hash} a"),
            format!("{}  a", &hash[..63]),
            format!("{hash}  "),
            format!("{hash}  a\rb\n"),
            format!("{hash}  a\n; b\n"),
            format!("ä{}  a", &hash[..62]),
            format!("SHA256 (a) = {}", &hash[..63]),
            format!("SHA3 (a) = {hash}"),
            format!("\\{hash}  a\\nb"),
            format!("MD5 (a) = {}", &hash[..32]),
        ] {
            assert!(HashList::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lines_that_end_as_on_windows_are_lines() {
        // Attestations for Bitcoin Core 22.0rc1 and 22.0rc2, and for Knots 26.1, have such lines.
        let hash = A.repeat(32);
        assert_eq!(names(&format!("{hash}  a\r\n{hash} *b\r\r\n")), ["a", "b"]);
        assert_eq!(names(&format!("\u{feff}{hash}  a\r\n\r\n{hash}  b")), ["a", "b"]);
    }

    #[test]
    fn upper_case_digits_bsd_lines_comments_and_marks_of_binary_files_are_read() {
        let (hash, upper) = (A.repeat(32), A.repeat(32).to_uppercase());
        let text = format!(
            "# made by hand\n\n{upper}  a\nSHA256 (b (1)) = {upper}\nSHA512 (b (1)) = {hash}{hash}\n{hash} *c\n\
             \\{hash}  d\\\\e\n"
        );
        let list = HashList::parse(text.as_bytes()).unwrap();
        assert_eq!(list.entries().keys().collect::<Vec<_>>(), ["a", "b (1)", "c", "d\\e"]);
        assert!(list.entries().values().all(|digest| digest.hex() == hash));
    }

    #[test]
    fn a_name_with_two_hashes_fails_alone() {
        let (a, b) = (A.repeat(32), B.repeat(32));
        let text = format!("{a}  x\n{b}  y\n{b}  x\n{a}  x\n{b}  y\n");
        let list = HashList::parse(text.as_bytes()).unwrap();
        assert_eq!(list.entries().keys().collect::<Vec<_>>(), ["y"]);
        assert_eq!(list.get("x"), None);
        assert_eq!(list.contested()["x"].len(), 2);
        assert_eq!(list.all().count(), 3);
    }
}
