//! `hab-build verify`: who signed this, and does a policy accept it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hab_keys::attestations::Outcome;
use hab_keys::chain::Summary;
use hab_keys::{Attestations, SignatureSeen};

use super::{Global, complete, print_json, terminal, usage};
use hab_farm::trust::decide::{self, By, ChainDecided, Decided, Held, HeldFile, JudgedObject, ObjectKind};
use hab_farm::{Farm, FarmError, counted};

#[derive(Debug, clap::Args)]
#[command(subcommand_required = false, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Make a decision again from kept bytes, without a network: the decision's file, or its digest in the store
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
}

/// The widest column of names, in characters. Longer names shift the text after them.
const WIDTH: usize = 40;

#[derive(Debug, clap::Args)]
struct With {
    /// The policy's name, as in keys/trust
    #[arg(long, value_name = "NAME", add = complete::policies())]
    policy: String,
    /// Certificates besides those that were imported: a file, or a folder of files
    #[arg(long, value_name = "PATH")]
    certificates: Vec<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Verify a tag of a repository, or all in a folder of raw tag objects
    Tag {
        /// A git repository, or a folder of raw objects named by their ids
        repository: PathBuf,
        /// The tag
        #[arg(value_name = "REF")]
        reference: Option<String>,
        #[command(flatten)]
        with: With,
    },
    /// Verify all tags of a repository: a table, and how many have each result
    Tags {
        /// A git repository, or the name of a mirrored project
        repository: PathBuf,
        #[command(flatten)]
        with: With,
    },
    /// Verify a repository's history back to the policy's trusted root, or all in a folder of raw commit objects
    Commits {
        /// A git repository, or a folder of raw objects named by their ids
        repository: PathBuf,
        /// The newest commit
        #[arg(value_name = "REF", default_value = "HEAD")]
        reference: String,
        /// Stop at the first bad commit, instead of counting all bad ones
        #[arg(long)]
        first_failure: bool,
        #[command(flatten)]
        with: With,
    },
    /// Verify a list of hashes by detached signatures, or clearsigned lists, and compare downloaded files with it
    Sums {
        /// SHA256SUMS
        sums: PathBuf,
        /// Signatures over it, recognised by their first bytes or by .asc, .sig, .sign, .gpg or .pgp; and downloaded
        /// files
        files: Vec<PathBuf>,
        #[command(flatten)]
        with: With,
    },
    /// Verify what independent builders say about a version's files
    Attestations {
        /// A folder that has a folder for each version, a git repository of it, or the name of a mirrored project
        folder: PathBuf,
        /// The version
        version: String,
        /// Read it from this commit, branch or tag [default: the folder's files, or else the default branch]
        #[arg(long = "ref", value_name = "REF")]
        reference: Option<String>,
        #[command(flatten)]
        with: With,
    },
    /// Verify a file by its detached signature; without one, as a clearsigned file or one that the policy pins
    File {
        /// The file
        file: PathBuf,
        /// Its signature
        signature: Option<PathBuf>,
        #[command(flatten)]
        with: With,
    },
}

impl With {
    fn by(&self) -> By {
        By { policy: self.policy.clone(), certificates: self.certificates.clone() }
    }
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let farm = global.farm()?;
    let done = match (&args.what, &args.evidence) {
        (Some(what), None) => verify(global, &farm, what),
        (None, Some(evidence)) => again(global, &farm, evidence),
        _ => {
            Err(usage(anyhow::anyhow!("say what to verify, or --evidence FILE; see hab-build verify --help")))
        }
    };
    farm.finish(done)
}

fn verify(global: &Global, farm: &Farm, what: &What) -> anyhow::Result<()> {
    match what {
        What::Tag { repository, reference: None, with } => {
            if !decide::is_raw(repository) {
                return Err(usage(anyhow::anyhow!(
                    "say which tag of {0}, or look at all of them with `hab-build verify tags {0}`",
                    repository.display()
                )));
            }
            let looked = farm.decisions().examine(&with.by(), repository, ObjectKind::Tag)?;
            say_looked(global, "tags", &looked, true)
        }
        What::Tag { repository, reference: Some(name), with } => {
            say(global, &farm.decisions().decide_tag(&with.by(), repository, name)?)
        }
        What::Commits { repository, with, .. } if decide::is_raw(repository) => {
            let looked = farm.decisions().examine(&with.by(), repository, ObjectKind::Commit)?;
            say_looked(global, "commits", &looked, false)
        }
        What::Tags { repository, with } => {
            let looked = farm.decisions().verify_tags(&with.by(), repository)?;
            say_looked(global, "tags", &looked, true)
        }
        What::Commits { repository, reference, first_failure, with } => {
            let report =
                farm.decisions().verify_commits(&with.by(), repository, reference, *first_failure)?;
            say_commits(&report);
            say_with(global, &report.decided, &report)
        }
        What::Sums { sums, files, with } => {
            let (signatures, files): (Vec<_>, Vec<_>) =
                files.iter().cloned().partition(|f| decide::is_signature(f));
            let decided = farm.decisions().decide_sums(&with.by(), sums, &signatures)?;
            match &decided.list {
                Some(list) if !files.is_empty() => {
                    let held = farm.decisions().hold(list, &files)?;
                    say_held(global, &decided, &held)
                }
                _ => say(global, &decided),
            }
        }
        What::Attestations { folder, version, reference, with } => {
            let decided =
                farm.decisions().decide_attestations(&with.by(), folder, version, reference.as_deref())?;
            if let Some(attestations) = &decided.attestations {
                say_attestations(attestations);
            }
            say(global, &decided)
        }
        What::File { file, signature, with } => {
            if signature.is_none()
                && let Some(pinned) = farm.decisions().pinned_file(&with.by(), file)?
            {
                terminal::say(&format!("{}: it is the file that the policy pins", pinned.evidence().asked));
                return if global.json { print_json(pinned.evidence()) } else { Ok(()) };
            }
            say(global, &farm.decisions().decide_file(&with.by(), file, signature.as_deref())?)
        }
    }
}

fn again(global: &Global, farm: &Farm, evidence: &Path) -> anyhow::Result<()> {
    let text = farm.decisions().decision_text(evidence)?;
    let decided = farm.decisions().decide_again(&text)?;
    terminal::say(&format!("decided again as of {}, with the same result", decided.decision.at));
    say(global, &decided)
}

fn say_commits(report: &ChainDecided) {
    if let Some(resumed) = &report.resumed {
        terminal::say(&format!("verified before, up to {resumed}"));
    }
    let failures = &report.failures;
    for (id, why) in &failures.failed {
        terminal::say(&format!("  {id}  refused: {why}"));
    }
    if failures.failures > failures.failed.len() {
        terminal::say(&format!("  and {} more", failures.failures - failures.failed.len()));
    }
    if let Some(summary) = &report.summary {
        say_history(summary);
    }
    if failures.failures > 0 {
        terminal::say(&format!(
            "refused: {} of {}",
            failures.failures,
            counted(failures.looked_at as u64, "commit")
        ));
    }
}

/// Prints what an accepted list says about each file, and then that the list was accepted. If a file does not match,
/// that is the error.
fn say_held(global: &Global, decided: &Decided, held: &[HeldFile]) -> anyhow::Result<()> {
    for file in held {
        let name = file.file.display();
        let listed = match &file.listed_as {
            Some(listed) if *listed != file.file.file_name().unwrap_or_default().to_string_lossy() => {
                format!(" (listed as {listed})")
            }
            _ => String::new(),
        };
        let more = match &file.held {
            Held::Differs { expected } => format!(": the list says {expected}, the file is {}", file.digest),
            _ => String::new(),
        };
        terminal::say(&format!("  {:<10} {name}{listed}{more}", file.held.to_string()));
    }
    let bad = held.iter().filter(|file| file.held != Held::Matches).count();
    let report =
        serde_json::json!({ "decision": decided.decision, "document": decided.document, "files": held });
    if bad == 0 {
        return say_with(global, decided, &report);
    }
    let refusal = format!("{bad} of {} files do not match what the accepted list says", held.len());
    let error = FarmError::Decided { refusal: refusal.clone() };
    terminal::say(&format!("  decision {}: the list is accepted", decided.document));
    if global.json {
        let mut report = report;
        report["error"] = refusal.clone().into();
        report["causes"] = serde_json::json!([refusal]);
        report["exit"] = serde_json::json!(super::ExitStatus::of(&error) as u8);
        print_json(&report)?;
        return Err(super::AlreadyPrinted(error).into());
    }
    Err(error.into())
}

fn say_history(summary: &Summary) {
    let Summary { commits, merges, trees, .. } = summary;
    terminal::say(&format!(
        "{commits} commits are good, {merges} merges made again, {trees} trees hashed again"
    ));
    for (who, count) in &summary.by_key {
        terminal::say(&format!("  {count:>6}  {who}"));
    }
    for (commit, check) in &summary.allowed {
        terminal::say(&format!("  allowed by the policy: {commit} ({check:?})"));
    }
}

/// Prints a decision. If it refuses, the refusal is the error.
fn say(global: &Global, decided: &Decided) -> anyhow::Result<()> {
    say_with(global, decided, decided)
}

/// Prints a decision, with a JSON document that says more.
fn say_with(global: &Global, decided: &Decided, whole: &impl serde::Serialize) -> anyhow::Result<()> {
    let decision = &decided.decision;
    let attested = decided.attestations.is_some();
    for seen in decision.evidence.signatures.iter().filter(|_| !attested) {
        terminal::say(&format!("  {}", signature(seen)));
    }
    terminal::say(&format!("  decision {}", decided.document));
    match &decision.refusal {
        None => {
            let policy = decision.evidence.policy.as_ref().map(|p| p.name.as_str()).unwrap_or_default();
            let met = decision.evidence.met.join(", ");
            terminal::say(&format!(
                "{}: accepted, by requirement {met} of policy {policy}",
                decision.question
            ));
            if global.json { print_json(whole) } else { Ok(()) }
        }
        Some(refusal) => {
            let error = FarmError::Decided { refusal: refusal.clone() };
            if let Some(advice) = &decided.advice {
                terminal::say(&format!("  certificates are missing: {advice}"));
            }
            if global.json {
                // The decision, and the fields that every error's document has.
                let mut document = serde_json::to_value(whole)?;
                document["error"] = refusal.clone().into();
                document["causes"] = serde_json::json!([refusal]);
                document["exit"] = serde_json::json!(super::ExitStatus::of(&error) as u8);
                document["attestations"] = serde_json::to_value(&decided.attestations)?;
                print_json(&document)?;
                return Err(super::AlreadyPrinted(error).into());
            }
            Err(error.into())
        }
    }
}

fn signature(seen: &SignatureSeen) -> String {
    let made = seen.made.as_ref().map_or_else(String::new, |made| format!(", dated {made} by its signer"));
    let basis = match seen.basis {
        hab_keys::Basis::Now => "as of now",
        hab_keys::Basis::FirstSeen => "as of when it was first seen here",
    };
    format!("{seen} ({}{made}; judged {basis}, {})", seen.algorithm, seen.judged)
}

fn say_attestations(attestations: &Attestations) {
    let count = |outcome| attestations.count(outcome);
    terminal::say(&format!(
        "{}: {} files agreed on by {} or more builders, {} files named by too few, {} disputed",
        attestations.version,
        count(Outcome::Agreed),
        attestations.threshold,
        count(Outcome::TooFew),
        count(Outcome::Disputed)
    ));
    for list in attestations.lists.iter().filter(|l| !l.attesters.is_empty()) {
        let counting = list.attesters.iter().filter(|a| a.counts).count();
        let expired = |a: &&hab_keys::Attester| {
            a.signature.as_ref().is_some_and(|s| matches!(s.verdict, hab_keys::Verdict::ExpiredSince(_)))
        };
        let expired = list.attesters.iter().filter(expired).count();
        terminal::say(&format!(
            "{} of {}: {} attesters, {counting} count, {expired} keys expired since",
            list.list.file(),
            attestations.version,
            list.attesters.len()
        ));
        for a in &list.attesters {
            let mark = if a.counts { "counts" } else { "does not" };
            let key = a.signature.as_ref().map_or("", |s| s.key.as_str());
            terminal::say(&format!("  {:<14} {mark:<9} {:>3} files  {key}  {}", a.builder, a.files, a.why));
        }
        for file in &list.files {
            let agree = file.said.values().map(Vec::len).max().unwrap_or(0);
            let outcome = match file.outcome {
                Outcome::Agreed => "agreed",
                Outcome::TooFew => "too few",
                Outcome::Disputed => "DISPUTED",
            };
            terminal::say(&format!("  {outcome:<9} {agree:>3} agree  {}", file.name));
        }
    }
}

/// Prints a table of objects: each that does not count, or with `each` all of them, and then how many have each result.
fn say_looked(global: &Global, what: &str, looked: &[JudgedObject], each: bool) -> anyhow::Result<()> {
    let mut states: BTreeMap<String, usize> = BTreeMap::new();
    let width = looked.iter().map(|object| object.name.chars().count()).max().unwrap_or(0).min(WIDTH);
    for object in looked {
        let who = object.signatures.first().map(|s| match &s.name {
            Some(name) => format!("{} ({name})", s.key),
            None => s.key.clone(),
        });
        let state = who.map_or_else(|| object.state(), |who| format!("{who}: {}", object.state()));
        if each || !object.counts {
            let name =
                if object.name.is_empty() { String::new() } else { format!("  {:<width$}", object.name) };
            terminal::say(&format!("  {:<40}{name}  {state}", object.id));
        }
        *states.entry(state).or_default() += 1;
    }
    for (state, count) in &states {
        terminal::say(&format!("{count:>6}  {state}"));
    }
    let good = looked.iter().filter(|l| l.counts).count();
    terminal::say(&format!("{good} of {} {what} are signed as the policy demands", looked.len()));
    let refusal = (good < looked.len()).then(|| FarmError::Decided {
        refusal: format!(
            "{} of {} {what} are not signed as the policy demands",
            looked.len() - good,
            looked.len()
        ),
    });
    if global.json {
        print_json(&serde_json::json!({ "good": good, "total": looked.len(), what: looked }))?;
    }
    match refusal {
        Some(error) if global.json => Err(super::AlreadyPrinted(error).into()),
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}
