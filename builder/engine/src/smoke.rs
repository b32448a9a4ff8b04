//! Trying the finished image: its own command, from its own layers, in the sandbox.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hab_oci::Platform;
use hab_recipe::Plan;
use hab_sandbox::{Bind, Limits, Outcome, Spec, Stream};

use crate::unpack::{self, Options};
use crate::{BuildError, FinishedLayer, Smoke, Workshop};

/// Where the emulator appears in the sandbox; no image has such a path.
const EMULATOR: &str = "/.emulator";

impl Workshop<'_> {
    /// The image's files as a container would see them.
    pub(crate) fn unpack_image(
        &self,
        plan: &Plan,
        layers: &[FinishedLayer],
        scratch: &Path,
    ) -> Result<PathBuf, BuildError> {
        let root = scratch.join("image");
        let options = Options { owner: hab_sandbox::owner(), epoch: plan.source.epoch, ..Options::default() };
        for (number, layer) in layers.iter().enumerate() {
            let name = format!("layer {}", number + 1);
            let path = self.verified(&name, &layer.digest)?;
            unpack::unpack_layer(&name, &path, &root, &options, self.observer.cancel())?;
        }
        Ok(root)
    }

    pub(crate) fn smoke(&self, plan: &Plan, root: &Path) -> Result<Smoke, BuildError> {
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
        let spec = Spec {
            // The image's own home is not writable for the sandbox's user.
            env: [("HOME".to_owned(), "/tmp".to_owned())].into(),
            binds,
            limits: Limits {
                memory: Some(2 << 30),
                processes: Some(256),
                wall: Some(Duration::from_mins(5)),
                log: Some(4 << 20),
                ..Limits::default()
            },
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
                return Ok(Smoke::Passed { how, line: line.trim().to_owned() });
            }
            (Outcome::Exited(0), None) => format!("did not print {:?}", plan.smoke.expect),
            (outcome, _) => format!("did not succeed: {outcome}"),
        };
        let printed = String::from_utf8_lossy(&all);
        let shown: Vec<_> = printed.lines().take(20).map(|line| format!("    {line}")).collect();
        Err(BuildError::Smoke {
            recipe: plan.recipe.to_string(),
            platform: plan.platform,
            command: plan.smoke.command.join(" "),
            problem,
            printed: shown.join("\n"),
        })
    }
}

/// `Ok(None)`: this machine runs it. `Ok(Some(emulator))`: through that. `Err`: it cannot be run here, and why.
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
