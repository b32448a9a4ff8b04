//! Remembers what an upstream recently said that it does not have.
//!
//! Clients ask for the same content again and again until it is there, and many of them at once. Those that waited
//! while one of them asked get the same answer, however old it is. Later clients get it for a short time, which the
//! operator chooses.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hab_oci::RepositoryName;

use super::locked;

/// The most entries that are remembered.
const MOST: usize = 50_000;

/// Absent content by repository and by tag or digest.
#[derive(Debug, Default)]
pub(crate) struct Absent {
    /// When the upstream said so. Held for a map operation, and for a walk over it when it is full.
    said: Mutex<HashMap<(RepositoryName, String), Instant>>,
}

impl Absent {
    /// Whether the upstream said so since `since`, or no longer than `time` ago.
    pub(crate) fn has(&self, key: &(RepositoryName, String), since: Instant, time: Duration) -> bool {
        locked(&self.said).get(key).is_some_and(|at| *at >= since || at.elapsed() < time)
    }

    /// Records that the upstream said so just now.
    pub(crate) fn add(&self, key: (RepositoryName, String), time: Duration) {
        let mut said = locked(&self.said);
        if said.len() >= MOST {
            said.retain(|_, at| at.elapsed() < time);
            if said.len() >= MOST {
                said.clear();
            }
        }
        said.insert(key, Instant::now());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_while_somebody_waited_is_told_to_them_whatever_is_remembered_otherwise() {
        let (absent, key) = (Absent::default(), ("a".parse().unwrap(), "v1".to_owned()));
        let came = Instant::now();
        assert!(!absent.has(&key, came, Duration::MAX));
        absent.add(key.clone(), Duration::ZERO);
        assert!(absent.has(&key, came, Duration::ZERO));
        let later = Instant::now() + Duration::from_secs(1);
        assert!(!absent.has(&key, later, Duration::ZERO));
        assert!(absent.has(&key, later, Duration::from_secs(3600)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let absent = Absent::default();
        for n in 0..=MOST {
            absent.add(("a".parse().unwrap(), n.to_string()), Duration::from_secs(3600));
        }
        assert!(locked(&absent.said).len() <= MOST);
    }
}
