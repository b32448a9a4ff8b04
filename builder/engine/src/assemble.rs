//! From a run's outputs to layers, configuration and manifest in the store.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use hab_image::{Directory, ImageSpec, Layer, PackedLayer};
use hab_oci::Descriptor;
use hab_recipe::{Compression, Plan};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::compare::{Limits, Node, Tree};
use crate::run::Run;
use crate::{BuildError, FinishedLayer, Inputs, Workshop};

/// The largest file that an image takes from the toolchain, in bytes.
const BASE_FILE: u64 = 64 << 20;

/// What was assembled.
pub(crate) struct Image {
    pub manifest: Descriptor,
    pub config: Descriptor,
    pub layers: Vec<FinishedLayer>,
    pub debug: Option<FinishedLayer>,
}

impl Workshop<'_> {
    /// Two layers: what every image of this toolchain and user has, and what the script left.
    pub(crate) fn assemble(&self, given: &Inputs<'_>, run: &Run) -> Result<Image, BuildError> {
        let plan = given.plan;
        self.observer.stage(&format!("assemble the image for {}", plan.platform));
        let epoch = plan.source.epoch;
        let base = self.layer(plan, base(plan, given.root.first())?)?;
        let outputs = self.layer(plan, outputs(plan, &run.out())?)?;
        let debug = files(&run.debug(), epoch)?;
        let debug = if debug.is_empty() { None } else { Some(finished(&self.layer(plan, debug)?)) };
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

    fn layer(&self, plan: &Plan, layer: Layer<'_>) -> Result<PackedLayer, BuildError> {
        let compression = match plan.image.compression {
            Compression::Zstd => hab_image::Compression::Zstd,
            Compression::Gzip => hab_image::Compression::Gzip,
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut writer = self.blobs.writer()?;
        let packed = layer.pack(compression, threads, &mut writer)?;
        writer.commit(Some(&packed.descriptor.digest))?;
        Ok(packed)
    }
}

fn finished(packed: &PackedLayer) -> FinishedLayer {
    let Descriptor { media_type, digest, size, .. } = packed.descriptor.clone();
    FinishedLayer { digest, diff_id: packed.diff_id.clone(), size, media_type }
}

/// The annotations of a plan's image, which the index has too.
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

/// The C library and its loader, certificate authorities, and the one user.
fn base(plan: &Plan, root: &Path) -> Result<Layer<'static>, BuildError> {
    let sysroot = root.join(plan.sysroot().trim_start_matches('/'));
    let mut layer = Layer::new(plan.source.epoch)?;
    // The loader's path is written into every program, and it begins with one of these.
    layer.link("lib", "usr/lib")?;
    layer.link("lib64", "usr/lib64")?;
    layer.directory("usr/lib64", Directory::default())?;
    for path in plan.base.files.get(plan.platform.architecture()).into_iter().flatten() {
        let (content, executable) = within(&sysroot, path)?;
        layer.bytes(path, executable, content)?;
    }
    let certificates = &plan.base.certificates;
    let text = bundle(&sysroot, certificates.from.trim_matches('/'))?;
    layer.bytes(&certificates.to, false, text)?;
    let (user, uid, home) = (&plan.image.user, plan.image.uid, &plan.image.home);
    layer.bytes("etc/passwd", false, format!("{user}:x:{uid}:{uid}:{user}:{home}:/nonexistent\n"))?;
    layer.bytes("etc/group", false, format!("{user}:x:{uid}:\n"))?;
    Ok(layer)
}

/// A file of the sysroot, links followed as if the sysroot were the root.
fn within(sysroot: &Path, path: &str) -> Result<(Vec<u8>, bool), BuildError> {
    use std::os::unix::fs::PermissionsExt as _;
    let missing = |_| BuildError::MissingBase { path: path.to_owned() };
    let folder = File::open(sysroot).map_err(BuildError::io(sysroot))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat2(folder.as_fd(), path, flags, Mode::empty(), ResolveFlags::IN_ROOT).map_err(missing)?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(BuildError::io(path))?;
    if !metadata.is_file() {
        return Err(BuildError::MissingBase { path: path.to_owned() });
    }
    let mut content = Vec::new();
    file.take(BASE_FILE + 1).read_to_end(&mut content).map_err(BuildError::io(path))?;
    if content.len() as u64 > BASE_FILE {
        return Err(BuildError::MissingBase { path: format!("{path} of at most {BASE_FILE} bytes") });
    }
    Ok((content, metadata.permissions().mode() & 0o100 != 0))
}

/// The certificates' bundle: every `.crt` file of a folder in the order of their names, as ca-certificates makes it.
fn bundle(sysroot: &Path, from: &str) -> Result<Vec<u8>, BuildError> {
    let folder = sysroot.join(from);
    let entries = fs::read_dir(&folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(BuildError::io(&folder))?;
    let mut names: Vec<_> = entries.iter().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.retain(|name| name.ends_with(".crt"));
    names.sort();
    if names.is_empty() {
        return Err(BuildError::MissingBase { path: format!("{from}/*.crt") });
    }
    let mut text = Vec::new();
    for name in names {
        let (certificate, _) = within(sysroot, &format!("{from}/{name}"))?;
        text.extend_from_slice(&certificate);
        if !certificate.ends_with(b"\n") {
            text.push(b'\n');
        }
    }
    Ok(text)
}

fn outputs(plan: &Plan, folder: &Path) -> Result<Layer<'static>, BuildError> {
    let mut layer = files(folder, plan.source.epoch)?;
    let uid = plan.image.uid;
    layer.directory(plan.image.home.trim_matches('/'), Directory { mode: 0o700, uid, gid: uid })?;
    Ok(layer)
}

fn files(folder: &Path, epoch: i64) -> Result<Layer<'static>, BuildError> {
    let tree = Tree::scan(folder, &Limits::default())?;
    let mut layer = Layer::new(epoch)?;
    for entry in tree.entries() {
        match &entry.node {
            Node::File { size, executable, .. } => {
                let path = folder.join(&entry.path);
                layer.file(&entry.path, *executable, *size, move || File::open(path))?;
            }
            Node::Link(target) => layer.link(&entry.path, target)?,
            Node::Directory => layer.directory(&entry.path, Directory::default())?,
        }
    }
    Ok(layer)
}
