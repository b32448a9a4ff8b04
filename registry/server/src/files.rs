//! How many connections the system's limit of open files leaves room for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::ServiceLimits;

/// Open files that are reserved for the store and the mirror, beside those of connections.
const OTHER_FILES: u64 = 128;
/// The fewest connections that are accepted, whatever the room.
const FEWEST: usize = 2;

/// There is room for fewer connections than were configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the system lets this process open {files} files, so there are at most {room} connections, and not the {wanted} \
     that [registry.connections] allows"
)]
pub struct FewFiles {
    /// How many files this process may have open.
    pub files: u64,
    /// How many connections there are at most.
    pub room: usize,
    /// How many connections were configured.
    pub wanted: usize,
}

impl ServiceLimits {
    /// The most connections that an operator may allow: each takes memory, and a number beyond this is a mistake.
    pub const MOST_CONNECTIONS: usize = 65_536;

    /// The same limits, with no more connections than this process may have files open for, and a note if that is
    /// fewer. First raises the limit of open files as far as the system allows.
    pub fn within_open_files(self) -> (Self, Option<FewFiles>) {
        self.within(raised())
    }

    /// Each connection takes two files: itself, and the file that is sent over it.
    fn within(mut self, files: u64) -> (Self, Option<FewFiles>) {
        let room = usize::try_from(files.saturating_sub(OTHER_FILES) / 2).unwrap_or(usize::MAX).max(FEWEST);
        let wanted = self.connections;
        if room >= wanted {
            return (self, None);
        }
        self.connections = room;
        (self, Some(FewFiles { files, room, wanted }))
    }
}

/// Raises the limit of open files as far as the system allows, and returns it.
fn raised() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, ..limit };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    limit.current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_connections_than_files_may_be_open_for() {
        let fitted = |wanted: usize, files: u64| {
            let (limits, few) =
                ServiceLimits { connections: wanted, ..ServiceLimits::default() }.within(files);
            (limits.connections, few.map(|few| (few.files, few.room, few.wanted)))
        };
        assert_eq!(fitted(448, 1024), (448, None));
        assert_eq!(fitted(449, 1024), (448, Some((1024, 448, 449))));
        assert_eq!(
            fitted(ServiceLimits::MOST_CONNECTIONS, u64::MAX),
            (ServiceLimits::MOST_CONNECTIONS, None)
        );
        for files in [0, 20, 131] {
            assert_eq!(fitted(1024, files).0, FEWEST, "{files}");
        }
    }
}
