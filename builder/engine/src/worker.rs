//! The worker: reads a build's outputs, in a process of its own.
//!
//! The outputs were written by a build, which may be an attacker's. So the code that reads them runs where the build
//! ran: in a sandbox, as its user, with limits, and it sees only the outputs, read-only. This is the inner side,
//! [`crate::check`] the outer one. Each question gets a process of its own, so that an attack on the reader of ELF
//! files cannot change the answer of the comparison.
//!
//! The question is the only word of the command, and the answer goes to standard output; both are JSON.

use std::error::Error;
use std::io::Write as _;
use std::path::Path;

use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::compare::{self, FirstDifference, Folder, Lacking, Tree, TreeLimits, Weak};

/// The folder in the sandbox that shows the first run's files.
pub(crate) const FIRST: &str = "/first";
/// The folder that shows the second run's files.
pub(crate) const SECOND: &str = "/second";
/// The folder that shows the image's files.
pub(crate) const IMAGE: &str = "/image";

/// A question to the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Question {
    /// What a run left in this folder of [`FIRST`].
    Record { folder: String, limits: TreeLimits },
    /// Where the file at this path differs in this folder of [`FIRST`] and [`SECOND`].
    Locate { folder: String, path: String },
    /// Which program in this folder of [`FIRST`] was not linked as a recipe asks.
    Weakest { folder: String, limits: TreeLimits },
    /// Which loaders and libraries the programs of [`IMAGE`] need and the image does not have.
    Missing { limits: TreeLimits },
}

/// A question, and what the process may use for it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub question: Question,
    /// The most bytes of address space, beyond what the program itself takes.
    pub memory: u64,
    /// The most seconds of processor time.
    pub seconds: u64,
}

/// An answer of the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum WorkerReply {
    Record(Tree),
    Locate(Option<FirstDifference>),
    Weakest(Option<Weak>),
    Missing(Lacking),
    /// The outputs cannot be used: the error and all its causes.
    Refused(Vec<String>),
}

/// The address space of the program and its libraries, which are mapped but mostly not in memory.
const PROGRAM: u64 = 2 << 30;

/// Answers the question in `words` on standard output, and returns the exit status. It is for
/// [`hab_sandbox::init_if_requested_with`], which calls it in a sandbox.
pub fn worker(words: &[String]) -> i32 {
    let answered = || -> Result<(), Box<dyn Error>> {
        let request: Request = serde_json::from_str(words.first().ok_or("no question")?)?;
        limit(Resource::As, request.memory.saturating_add(PROGRAM))?;
        limit(Resource::Cpu, request.seconds)?;
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        serde_json::to_writer(&mut out, &answer(&request.question))?;
        Ok(out.flush()?)
    };
    match answered() {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn limit(resource: Resource, most: u64) -> Result<(), rustix::io::Errno> {
    let had = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    setrlimit(resource, Rlimit { current: Some(most.min(had)), maximum: Some(most.min(had)) })
}

fn answer(question: &Question) -> WorkerReply {
    let result = match question {
        Question::Record { folder, limits } => {
            Tree::scan(&below(FIRST, folder), limits).map(WorkerReply::Record)
        }
        Question::Weakest { folder, limits } => {
            compare::weakest(&below(FIRST, folder), limits).map(WorkerReply::Weakest)
        }
        Question::Missing { limits } => {
            compare::missing_libraries(Path::new(IMAGE), limits).map(WorkerReply::Missing)
        }
        Question::Locate { folder, path } => {
            let first = Folder::open(&below(FIRST, folder));
            let place = first.and_then(|first| Ok((first, Folder::open(&below(SECOND, folder))?)));
            // Even if the place cannot be found, the difference is reported.
            place.map(|(a, b)| WorkerReply::Locate(compare::locate(&a, &b, path).ok().flatten()))
        }
    };
    result.unwrap_or_else(|error| WorkerReply::Refused(chain(&error)))
}

fn below(run: &str, folder: &str) -> std::path::PathBuf {
    Path::new(run).join(folder)
}

fn chain(error: &dyn Error) -> Vec<String> {
    std::iter::successors(Some(error), |error| (*error).source()).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_question_and_an_answer_survive_their_journey() {
        let limits = TreeLimits::default();
        let request =
            Request { question: Question::Record { folder: "out".into(), limits }, memory: 1, seconds: 2 };
        let text = serde_json::to_string(&request).unwrap();
        assert!(matches!(
            serde_json::from_str::<Request>(&text).unwrap().question,
            Question::Record { folder, .. } if folder == "out"
        ));
        let refused = answer(&Question::Missing { limits });
        let WorkerReply::Refused(chain) = refused else { panic!("there is no /image here") };
        assert_eq!(chain.len(), 1);
        assert_eq!(worker(&["no JSON".to_owned()]), 1);
        assert_eq!(worker(&[]), 1);
    }
}
