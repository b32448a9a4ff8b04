//! Makes layers, configuration and manifest of a run's outputs, and puts them into the store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hab_image::{Directory, ImageSpec, Layer, PackedLayer};
use hab_oci::{Algorithm, Descriptor, Digest, Hasher};
use hab_recipe::{Compression, Plan};

use crate::base::{base, overlap};
use crate::check::Clock;
use crate::compare::{Node, Tree};
use crate::{BuildError, FinishedLayer, Inputs, Workshop};

/// The parts of an assembled image.
pub(crate) struct Image {
    pub manifest: Descriptor,
    pub config: Descriptor,
    pub layers: Vec<FinishedLayer>,
    pub debug: Option<FinishedLayer>,
}

impl Workshop<'_> {
    /// Makes two layers: the base, which every image of this toolchain and user has, and the files that the script
    /// left. Every file is checked against its record, on which both runs agreed, while it is packed.
    pub(crate) fn assemble(
        &self,
        given: &Inputs<'_>,
        outputs: &Tree,
        debug: &Tree,
        clock: &Clock,
    ) -> Result<Image, BuildError> {
        let plan = given.plan;
        self.observer.stage(&format!("assemble the image for {}", plan.platform));
        let epoch = plan.source.epoch;
        let base = base(plan, given.root.first())?;
        if let Some((path, instead)) =
            overlap(&base, outputs.entries().iter().map(|entry| entry.path.as_str()))
        {
            return Err(BuildError::Overlap {
                recipe: plan.recipe.to_string(),
                path: path.to_owned(),
                instead,
            });
        }
        let base = self.layer(plan, base, clock)?;
        let guard = Guard { clock, cancel: self.observer.cancel() };
        let mut layer = files(outputs, epoch, guard)?;
        let uid = plan.image.uid;
        // Group 0 may write too, because a cluster that gives a container a random user gives it this group
        // (OpenShift).
        layer.directory(plan.image.home.trim_matches('/'), Directory { mode: 0o770, uid, gid: 0 })?;
        let outputs = self.layer(plan, layer, clock)?;
        let debug = files(debug, epoch, guard)?;
        let debug = if debug.is_empty() { None } else { Some(finished(&self.layer(plan, debug, clock)?)) };
        let layers = [base, outputs];
        let image = hab_image::assemble(&spec(plan), &layers)?;
        self.blobs.put(&image.config)?;
        self.blobs.put(&image.manifest)?;
        Ok(Image {
            manifest: image.descriptor,
            config: image.config_descriptor,
            layers: layers.iter().map(finished).collect(),
            debug,
        })
    }

    fn layer(&self, plan: &Plan, layer: Layer<'_>, clock: &Clock) -> Result<PackedLayer, BuildError> {
        let compression = match plan.image.compression {
            Compression::Zstd => hab_image::Compression::Zstd,
            Compression::Gzip => hab_image::Compression::Gzip,
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut writer = self.blobs.writer()?;
        let packed = layer.pack(compression, threads, &mut writer).map_err(|e| match e {
            _ if self.observer.cancel().load(Ordering::Relaxed) => BuildError::Cancelled,
            _ if clock.is_over() => clock.over(),
            e => e.into(),
        })?;
        writer.commit(Some(&packed.descriptor.digest))?;
        Ok(packed)
    }
}

fn finished(packed: &PackedLayer) -> FinishedLayer {
    let Descriptor { media_type, digest, size, .. } = packed.descriptor.clone();
    FinishedLayer { digest, diff_id: packed.diff_id.clone(), size, media_type }
}

/// The annotations of a plan's image; the index has the same.
pub fn annotations(plan: &Plan) -> BTreeMap<String, String> {
    plan.annotations.clone()
}

fn spec(plan: &Plan) -> ImageSpec {
    let image = &plan.image;
    let mut env = image.env.clone();
    env.entry("PATH".to_owned()).or_insert_with(|| "/usr/bin".to_owned());
    env.entry("HOME".to_owned()).or_insert_with(|| image.home.clone());
    ImageSpec {
        platform: plan.platform,
        created: plan.source.epoch,
        user: format!("{0}:{0}", image.uid),
        entrypoint: image.entrypoint.clone(),
        cmd: image.cmd.clone(),
        env,
        workdir: image.home.clone(),
        ports: image.ports.clone(),
        volumes: vec![image.home.clone()],
        stop_signal: image.stop_signal.clone().unwrap_or_default(),
        annotations: annotations(plan),
    }
}

/// A layer of a build's files. They are read below the folder's descriptor when the layer is packed.
fn files<'a>(tree: &Tree, epoch: i64, guard: Guard<'a>) -> Result<Layer<'a>, BuildError> {
    let mut layer = Layer::new(epoch)?;
    let folder = tree.folder().ok_or(BuildError::io("the outputs")(io::ErrorKind::NotFound.into()))?;
    for entry in tree.entries() {
        match &entry.node {
            Node::File { size, executable, digest } => {
                let (folder, path, digest) = (Arc::clone(folder), entry.path.clone(), digest.clone());
                layer.file(&entry.path, *executable, *size, move || {
                    let hasher = Some(Hasher::new(Algorithm::Sha256));
                    Ok(Guarded { file: folder.file(&path)?, hasher, digest, guard })
                })?;
            }
            Node::Link(target) => layer.link(&entry.path, target)?,
            Node::HardLink(first) => layer.hard_link(&entry.path, first)?,
            Node::Directory => layer.directory(&entry.path, Directory::default())?,
        }
    }
    Ok(layer)
}

/// What stops the packing of a layer early.
#[derive(Clone, Copy)]
struct Guard<'a> {
    clock: &'a Clock,
    cancel: &'a AtomicBool,
}

/// Reads a file while there is time, and fails if its content is not the recorded one.
struct Guarded<'a> {
    file: File,
    /// The hash so far; `None` after the end of the file.
    hasher: Option<Hasher>,
    digest: Digest,
    guard: Guard<'a>,
}

impl Read for Guarded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.guard.cancel.load(Ordering::Relaxed) || self.guard.clock.is_over() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let read = self.file.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..read]);
        }
        if read == 0
            && !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
            && hasher.finish() != self.digest
        {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its content changed after comparison"));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::path::Path;

    use hab_image::ImageError;

    use super::*;
    use crate::compare::TreeLimits;

    fn pack(root: &Path, tree: &Tree, clock: &Clock) -> Result<PackedLayer, ImageError> {
        let cancel = AtomicBool::new(false);
        let tree = tree.clone().within(crate::compare::Folder::open(root).unwrap());
        let layer = files(&tree, 0, Guard { clock, cancel: &cancel }).unwrap();
        layer.pack(hab_image::Compression::Gzip, 1, &mut Vec::new())
    }

    #[test]
    fn a_file_that_changes_after_the_comparison_is_not_packed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("f"), "good").unwrap();
        let tree = Tree::scan(folder.path(), &TreeLimits::default()).unwrap();
        let clock = Clock::of(1);
        pack(folder.path(), &tree, &clock).unwrap();
        fs::write(folder.path().join("f"), "evil").unwrap();
        let error = pack(folder.path(), &tree, &clock).unwrap_err();
        assert!(matches!(&error, ImageError::Read { path, source } if path == "f"
            && source.to_string().contains("changed after comparison")));
        fs::remove_file(folder.path().join("f")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("f")).unwrap();
        assert!(matches!(pack(folder.path(), &tree, &clock), Err(ImageError::Read { .. })));
    }

    #[test]
    fn packing_ends_when_the_time_for_the_outputs_is_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("f"), "good").unwrap();
        let tree = Tree::scan(folder.path(), &TreeLimits::default()).unwrap();
        let clock = Clock::of(0);
        assert!(clock.is_over() && pack(folder.path(), &tree, &clock).is_err());
        let said = clock.over().to_string();
        assert!(said.contains("took longer than 0 minutes"), "{said}");
    }
}
