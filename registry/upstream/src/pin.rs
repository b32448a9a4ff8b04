//! The token service that an upstream named first. A file for each upstream keeps it, so that it outlives a restart.
//! The operator can read the file, and remove it to let the upstream name another one.

use std::error::Error as StdError;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hab_outbound::{BadOrigin, Origin};
use serde::{Deserialize, Serialize};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 4096;

/// The pinned token service of one upstream.
#[derive(Debug)]
pub(crate) struct Pin {
    /// Without a file, the pin lasts as long as the process.
    file: Option<PathBuf>,
    /// The upstream's own origin: a pin for another origin does not count.
    upstream: Origin,
    /// The pinned origin, once it is known. Held while the file is read or written.
    known: Mutex<Option<Origin>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    upstream: String,
    token_service: String,
}

/// Why the token service that an upstream named first cannot be read or pinned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinError {
    #[error(
        "cannot read the pinned token service in {}: {source}; remove it, and the token service that the upstream \
         names next is pinned",
        path.display()
    )]
    Garbled { path: PathBuf, source: Box<dyn StdError + Send + Sync> },
    #[error("the token service cannot be pinned in {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl Pin {
    /// `name` is one part of a repository's name, so it is safe as a file name.
    pub(crate) fn new(folder: Option<&Path>, name: &str, upstream: Origin) -> Self {
        let file = folder.map(|folder| folder.join(format!("{name}.json")));
        Self { file, upstream, known: Mutex::default() }
    }

    /// The token service that was named first.
    pub(crate) fn get(&self) -> Result<Option<Origin>, PinError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = self.read()?;
        }
        Ok(known.clone())
    }

    /// Pins a token service, unless another one was pinned already: then that one is returned, and counts.
    pub(crate) fn set(&self, service: &Origin) -> Result<Origin, PinError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = match self.read()? {
            Some(kept) => kept,
            None => self.write(service)?,
        };
        Ok(known.insert(kept).clone())
    }

    fn read(&self) -> Result<Option<Origin>, PinError> {
        let Some(path) = &self.file else { return Ok(None) };
        let garbled =
            |source: Box<dyn StdError + Send + Sync>| PinError::Garbled { path: path.clone(), source };
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(garbled(e.into())),
        };
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes).map_err(|e| garbled(e.into()))?;
        let written: Written = serde_json::from_slice(&bytes).map_err(|e| garbled(e.into()))?;
        if written.upstream != self.upstream.to_string() {
            // The operator moved the upstream.
            return Ok(None);
        }
        written.token_service.parse().map(Some).map_err(|e: BadOrigin| garbled(e.into()))
    }

    /// Writes a temporary file and moves it into place. If there is no pin yet, only one of several processes succeeds.
    fn write(&self, service: &Origin) -> Result<Origin, PinError> {
        let Some(path) = &self.file else { return Ok(service.clone()) };
        let failed = |source| PinError::Write { path: path.clone(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let written = Written { upstream: self.upstream.to_string(), token_service: service.to_string() };
        let text = serde_json::to_vec_pretty(&written).map_err(|e| failed(e.into()))?;
        let beside = path.with_extension(format!("{}.new", std::process::id()));
        let place = || {
            let mut file = fs::File::create(&beside)?;
            file.write_all(&text)?;
            file.sync_all()?;
            if path.exists() { fs::rename(&beside, path) } else { fs::hard_link(&beside, path) }
        };
        let placed = place();
        let _ = fs::remove_file(&beside);
        match placed {
            Ok(()) => Ok(service.clone()),
            // Another process was first.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Ok(self.read()?.unwrap_or_else(|| service.clone()))
            }
            Err(e) => Err(failed(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_token_service_is_kept_over_restarts_until_its_file_goes_or_the_upstream_moves() {
        let folder = tempfile::tempdir().unwrap();
        let pin = |upstream: &str| Pin::new(Some(folder.path()), "up.example", origin(upstream));
        let (one, two) = (origin("https://auth.example"), origin("https://evil.example"));
        assert_eq!(pin("https://up.example").get().unwrap(), None);
        assert_eq!(pin("https://up.example").set(&one).unwrap(), one);
        assert_eq!(pin("https://up.example").get().unwrap(), Some(one.clone()));
        assert_eq!(pin("https://up.example").set(&two).unwrap(), one, "the first one counts");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // The upstream moved: the pin for its old address does not count.
        assert_eq!(pin("https://other.example").get().unwrap(), None);
        assert_eq!(pin("https://other.example").set(&two).unwrap(), two);
        fs::remove_file(folder.path().join("up.example.json")).unwrap();
        assert_eq!(pin("https://other.example").get().unwrap(), None);
    }

    #[test]
    fn a_pin_that_does_not_read_is_no_licence_to_name_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("up.example.json");
        for text in ["", "{}", "{\"upstream\":\"https://up.example\",\"token-service\":\"x\"}"] {
            fs::write(&path, text).unwrap();
            let pin = Pin::new(Some(folder.path()), "up.example", origin("https://up.example"));
            let said = pin.get().unwrap_err().to_string();
            assert!(said.contains("up.example.json") && said.contains("remove it"), "{said}");
            assert!(pin.set(&origin("https://evil.example")).is_err());
        }
    }
}
