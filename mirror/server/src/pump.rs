//! Passes git's answer on to a client that may be slow.
//!
//! A git process that waits for its client holds a turn that others wait for. So whatever the client does not read in
//! time goes to a file, git finishes, and the client reads the file. The file has no name, and is gone when the answer
//! ends.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use hab_turns::{Client, Turns};
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::sleep;

use crate::git::{CHUNK, Running};

/// The most pieces that wait in memory for a client.
const QUEUED: usize = 16;
/// How long git waits for a client that does not read, while nobody waits for a turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that an answer may always have in its file, whatever the budget.
const LEAST: u64 = 1 << 20;

/// How much disk space answers may take. A clone is another handle on the same budget.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Shares>);

#[derive(Debug)]
struct Shares {
    total: u64,
    each: u64,
    /// Guards the bytes of all answers, and those of each client.
    taken: Mutex<(u64, HashMap<Client, u64>)>,
}

impl Budget {
    /// A budget of `total` bytes for all answers, and `each` for those of one client.
    pub(crate) fn new(total: u64, each: u64) -> Self {
        Self(Arc::new(Shares { total, each, taken: Mutex::default() }))
    }

    fn take(&self, client: Client, bytes: u64) -> bool {
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, clients) = &mut *taken;
        let mine = clients.get(&client).copied().unwrap_or(0);
        if *all + bytes > self.0.total || mine + bytes > self.0.each {
            return false;
        }
        *all += bytes;
        clients.insert(client, mine + bytes);
        true
    }

    fn give_back(&self, client: Client, bytes: u64) {
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, clients) = &mut *taken;
        *all -= bytes;
        if let Some(mine) = clients.get_mut(&client) {
            *mine -= bytes;
            if *mine == 0 {
                clients.remove(&client);
            }
        }
    }
}

/// The client that an answer goes to, and what it may use.
pub(crate) struct Recipient {
    pub(crate) client: Client,
    /// The queue that git's turn came from.
    pub(crate) turns: Turns,
    pub(crate) budget: Budget,
    /// The folder for the file.
    pub(crate) folder: PathBuf,
}

/// Streams git's answer. Dropping the stream ends git.
pub(crate) fn answer(git: Running, way: Recipient) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let (sender, receiver) = channel(QUEUED);
    let spool = Arc::new(Spool {
        state: Mutex::default(),
        more: Notify::new(),
        taken: Notify::new(),
        client: way.client,
        budget: way.budget.clone(),
    });
    let pump = tokio::spawn(pump(git, sender, spool.clone(), way));
    let reader = Reader { receiver, spool, pump: pump.abort_handle() };
    stream::try_unfold(
        reader,
        |mut reader| async move { Ok(reader.next().await?.map(|bytes| (bytes, reader))) },
    )
}

/// The part of an answer that the client did not read in time.
struct Spool {
    /// Guards the file and its positions; held only to read or write them.
    state: Mutex<State>,
    /// Notified when there is more to read, or the answer has ended.
    more: Notify,
    /// Notified when the client has read something.
    taken: Notify,
    client: Client,
    budget: Budget,
}

#[derive(Default)]
struct State {
    file: Option<Arc<File>>,
    written: u64,
    read: u64,
    /// Bytes taken from the budget.
    held: u64,
    end: Option<io::Result<()>>,
}

impl Spool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, how: io::Result<()>) {
        self.state().end = Some(how);
        self.more.notify_one();
    }

    /// Writes a piece, once there is room for it.
    async fn add(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        loop {
            let begins_anew = {
                let mut state = self.state();
                if self.budget.take(self.client, length) {
                    state.held += length;
                    break;
                }
                if state.written < LEAST {
                    break;
                }
                state.read == state.written
            };
            if begins_anew {
                // The client has read all of the file, so its space can be used again.
                file.set_len(0)?;
                io::Seek::rewind(&mut file)?;
                let mut state = self.state();
                self.budget.give_back(self.client, std::mem::take(&mut state.held));
                (state.read, state.written) = (0, 0);
            } else {
                self.taken.notified().await;
            }
        }
        // Blocks only briefly: at most 64 KiB go to the page cache.
        file.write_all(bytes)?;
        self.state().written += length;
        self.more.notify_one();
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let held = self.state().held;
        self.budget.give_back(self.client, held);
    }
}

async fn pump(mut git: Running, sender: Sender<Bytes>, spool: Arc<Spool>, way: Recipient) {
    let how = feed(&mut git, sender, &spool, &way).await;
    // Gives the turn back, whether or not the client has everything.
    drop(git);
    spool.end(how);
}

async fn feed(git: &mut Running, sender: Sender<Bytes>, spool: &Spool, way: &Recipient) -> io::Result<()> {
    while let Some(bytes) = git.next().await? {
        let slow = async {
            tokio::select! { () = way.turns.wanted() => {}, () = sleep(PATIENCE) => {} }
        };
        let room = tokio::select! {
            biased;
            room = sender.clone().reserve_owned() => Some(room),
            () = slow => None,
        };
        match room {
            Some(Ok(room)) => drop(room.send(bytes)),
            // The client has gone.
            Some(Err(_)) => return Ok(()),
            None => {
                // The client reads the queue to its end, and then the file.
                drop(sender);
                return keep(git, bytes, spool, way).await;
            }
        }
    }
    Ok(())
}

/// Writes the rest of git's answer into a file.
async fn keep(git: &mut Running, first: Bytes, spool: &Spool, way: &Recipient) -> io::Result<()> {
    let folder = way.folder.clone();
    let made = spawn_blocking(move || tempfile::tempfile_in(folder)).await;
    let file = Arc::new(made.map_err(io::Error::other)??);
    spool.state().file = Some(file.clone());
    let mut next = Some(first);
    while let Some(bytes) = next {
        spool.add(&file, &bytes).await?;
        next = git.next().await?;
    }
    Ok(())
}

struct Reader {
    receiver: Receiver<Bytes>,
    spool: Arc<Spool>,
    pump: AbortHandle,
}

impl Reader {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(bytes) = self.receiver.recv().await {
            return Ok(Some(bytes));
        }
        loop {
            let part = {
                let mut state = self.spool.state();
                match &state.file {
                    Some(file) if state.read < state.written => {
                        let length = (state.written - state.read).min(CHUNK as u64);
                        Some((file.clone(), state.read, length))
                    }
                    _ => match state.end.take() {
                        Some(how) => return how.map(|()| None),
                        None => None,
                    },
                }
            };
            let Some((file, at, length)) = part else {
                self.spool.more.notified().await;
                continue;
            };
            let read = spawn_blocking(move || {
                let mut bytes = vec![0; usize::try_from(length).unwrap_or(CHUNK)];
                file.read_exact_at(&mut bytes, at).map(|()| bytes)
            });
            let bytes = read.await.map_err(io::Error::other)??;
            self.spool.state().read += length;
            self.spool.taken.notify_one();
            return Ok(Some(bytes.into()));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_a_part_of_the_disk_and_gives_back_what_it_took() {
        let budget = Budget::new(10, 4);
        let client = |n| Client::of([192, 0, 2, n].into());
        assert!(budget.take(client(1), 4) && !budget.take(client(1), 1));
        assert!(budget.take(client(2), 4) && !budget.take(client(3), 3) && budget.take(client(3), 2));
        budget.give_back(client(1), 4);
        assert!(budget.take(client(3), 2) && budget.take(client(1), 2));
    }
}
