//! Tries the finished image: runs its own command, from its own layers, in the sandbox.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hab_oci::{Platform, shown, shown_bytes};
use hab_recipe::BuildTable;
use hab_sandbox::{Bind, Outcome, RunLimits, Spec, Stream};

use crate::check::Clock;
use crate::unpack::{self, Options, UnpackError};
use crate::{BuildError, FinishedLayer, Inputs, Smoke, Workshop};

/// The emulator's path in the sandbox; no image has such a path.
const EMULATOR: &str = "/.emulator";
/// The most disk that the toolchain's part of an image may take, in bytes.
const BASE: u64 = 1 << 30;
/// The most that the command may use, whatever the recipe allows its build: memory, files that it writes, output (all
/// in bytes), and time. A command that only prints its version needs no more.
const MEMORY: u64 = 2 << 30;
const SCRATCH: u64 = 1 << 30;
const LOG: u64 = 4 << 20;
const WALL: Duration = Duration::from_mins(5);
/// The most bytes of the expected line that the build's record keeps.
const LINE: usize = 1000;

impl Workshop<'_> {
    /// Unpacks the image's files as a container would see them.
    pub(crate) fn unpack_image(
        &self,
        given: &Inputs<'_>,
        layers: &[FinishedLayer],
        scratch: &Path,
        clock: &Clock,
    ) -> Result<PathBuf, BuildError> {
        let root = scratch.join("image");
        // The recipe's limit is for the outputs; the toolchain's files have room beside it.
        let disk = (given.limits.disk_mib << 20).saturating_add(BASE);
        let mut options = Options {
            owner: hab_sandbox::owner(),
            epoch: given.plan.source.epoch,
            until: Some(clock.until),
            ..Options::default()
        };
        options.limits.disk = disk;
        for (number, layer) in layers.iter().enumerate() {
            let name = format!("layer {}", number + 1);
            let path = self.verified(&name, &layer.digest)?;
            let unpacked = unpack::unpack_layer(&name, &path, &root, &options, self.observer.cancel());
            let summary = unpacked.map_err(|e| match e {
                UnpackError::Overtime { .. } => clock.over(),
                e => e.into(),
            })?;
            options.limits.disk = options.limits.disk.saturating_sub(summary.disk);
        }
        Ok(root)
    }

    pub(crate) fn smoke(&self, given: &Inputs<'_>, root: &Path, clock: &Clock) -> Result<Smoke, BuildError> {
        let plan = given.plan;
        let how = match runner(plan.platform) {
            Ok(how) => how,
            Err(why) => return Ok(Smoke::NotRun(why)),
        };
        self.observer.stage(&format!("try the image for {}", plan.platform));
        let mut command = plan.smoke.command.clone();
        let mut binds = Vec::new();
        if let Some(emulator) = &how {
            command.insert(0, EMULATOR.to_owned());
            binds.push(Bind { host: emulator.clone(), inside: EMULATOR.into(), writable: false });
        }
        let left = clock.left();
        if left.is_zero() {
            return Err(clock.over());
        }
        let spec = Spec {
            // The image's own home is not writable for the sandbox's user.
            env: [("HOME".to_owned(), "/tmp".to_owned())].into(),
            binds,
            limits: limits(given.limits, left),
            ..Spec::new(root, command)
        };
        let (mut stdout, mut all) = (Vec::new(), Vec::new());
        let mut output = |stream, bytes: &[u8]| {
            all.extend_from_slice(bytes);
            if stream == Stream::Stdout {
                stdout.extend_from_slice(bytes);
            }
        };
        let report = hab_sandbox::run(&self.launcher, &spec, &mut output, self.observer.cancel())?;
        let stdout = String::from_utf8_lossy(&stdout);
        let line = stdout.lines().find(|line| line.contains(&plan.smoke.expect));
        let problem = match (report.outcome, line) {
            (Outcome::Cancelled, _) => return Err(BuildError::Cancelled),
            (Outcome::Exited(0), Some(line)) => {
                let how = how.map_or_else(
                    || "natively".to_owned(),
                    |p| p.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                );
                return Ok(Smoke::Passed { how, line: kept(line.trim()) });
            }
            (Outcome::Exited(0), None) => format!("did not print {:?}", shown(&plan.smoke.expect)),
            (outcome, _) => format!("did not succeed: {outcome}"),
        };
        Err(BuildError::Smoke {
            recipe: plan.recipe.to_string(),
            platform: plan.platform,
            command: shown(&plan.smoke.command.join(" ")).to_string(),
            problem,
            printed: printed(&all),
        })
    }
}

/// The limits of the command: those that the recipe sets for its build, but no more than any such command needs.
fn limits(recipe: &BuildTable, left: Duration) -> RunLimits {
    let disk = recipe.disk_mib << 20;
    let memory = (recipe.memory_mib << 20).min(MEMORY);
    RunLimits {
        memory: Some(memory),
        processes: Some(256),
        wall: Some(left.min(WALL)),
        disk: Some(disk),
        file_size: Some(disk),
        log: Some(LOG.min(disk)),
        // All files that the command writes are in memory. The kernel needs a size above 0, so this has one.
        scratch: SCRATCH.min(disk).min(memory / 2).max(1 << 20),
        ..RunLimits::default()
    }
}

/// A line for the build's record: as printed, but cut at [`LINE`] bytes.
fn kept(line: &str) -> String {
    let end = (0..=line.len().min(LINE)).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
    line[..end].to_owned()
}

/// The first lines of the output, indented, for an error.
fn printed(all: &[u8]) -> String {
    const LINES: usize = 20;
    let mut lines = all.split(|byte| *byte == b'\n');
    let first = lines.by_ref().take(LINES).filter(|line| !line.is_empty());
    let mut text: Vec<_> = first.map(|line| format!("    {}", shown_bytes(line).at_most(200))).collect();
    match lines.filter(|line| !line.is_empty()).count() {
        0 => {}
        more => text.push(format!("    … and {more} more lines")),
    }
    text.join("\n")
}

/// How to run programs of `platform`: directly (`Ok(None)`), by an emulator (`Ok(Some)`), or why not here (`Err`).
fn runner(platform: Platform) -> Result<Option<PathBuf>, String> {
    if std::env::consts::ARCH == platform.machine() {
        return Ok(None);
    }
    let name = format!("qemu-{}-static", platform.machine());
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(&name))
        .find(|file| file.is_file())
        .map(Some)
        .ok_or_else(|| format!("{name} is not installed"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_command_printed_is_shown_line_by_line_and_cut() {
        let text = printed("ok \u{1b}]0;x\u{7}\n\nRED \u{202e}good\r\n".as_bytes());
        assert_eq!(text, "    ok \\u{1b}]0;x\\u{7}\n    RED \\u{202e}good\\r");
        let many = printed(&b"line\n".repeat(50));
        assert!(many.ends_with("    … and 30 more lines") && many.lines().count() == 21, "{many}");
        assert!(printed(&vec![b'x'; 4 << 20]).len() < 300);
        assert_eq!(kept(&"ä".repeat(900)).len(), LINE);
    }

    #[test]
    fn trying_an_image_may_use_no_more_than_its_build() {
        let recipe: BuildTable =
            serde_json::from_str(r#"{"toolchain": "t", "memory_mib": 100, "disk_mib": 2, "minutes": 1}"#)
                .unwrap();
        let small = limits(&recipe, Duration::from_secs(7));
        assert_eq!((small.memory, small.disk, small.log), (Some(100 << 20), Some(2 << 20), Some(2 << 20)));
        assert_eq!((small.scratch, small.wall), (2 << 20, Some(Duration::from_secs(7))));
        let large: BuildTable = serde_json::from_str(r#"{"toolchain": "t"}"#).unwrap();
        let large = limits(&large, Duration::from_hours(2));
        assert_eq!((large.memory, large.scratch, large.wall), (Some(MEMORY), SCRATCH, Some(WALL)));
    }
}
