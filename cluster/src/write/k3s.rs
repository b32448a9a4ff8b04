//! k3s and RKE2: registries.yaml, and the switch that stops them from asking a registry after its mirrors.

use std::collections::{BTreeMap, BTreeSet};

use super::{Files, HEAD, PlanError};
use crate::Runtime;
use crate::check::Flags;
use crate::host::Host;
use crate::yaml::{self, Yaml};

pub(super) fn files(host: &mut Host<'_>, runtime: Runtime) -> Result<Files, PlanError> {
    let flags = Flags::read(host, runtime);
    let path = flags.registries(host);
    let text = host.text(&path).unwrap_or_default();
    let there = yaml::parse(&text)
        .map_err(|e| PlanError::new(&path, format!("is not YAML with a single meaning: {e}")))?;
    let earlier = earlier_farm(&text, &there);
    let (mut files, mut notes) = (BTreeMap::new(), Vec::new());
    let registries = registries_yaml(host, runtime, (&path, &there), earlier, &mut notes)?;
    files.insert(path, registries);
    // A file of its own. Without the switch, k3s would ask each registry itself after its mirrors.
    let config = flags.config().trim_start_matches('/');
    files.insert(switch(config), "disable-default-registry-endpoint: true\n".to_owned());
    let program = flags.program();
    notes.push(format!(
        "{program} reads these when it starts; {config}.d needs v1.21, the flag v1.28 or newer",
        config = config.rsplit('/').next().unwrap_or(config)
    ));
    Ok(Files { files, notes })
}

/// The files that a plan may write: where the settings lead, and where they lead by default.
pub(super) fn written(host: &mut Host<'_>, runtime: Runtime) -> Vec<String> {
    let flags = Flags::read(host, runtime);
    let usual = format!("etc/rancher/{}", flags.program());
    vec![
        flags.registries(host),
        format!("{usual}/registries.yaml"),
        switch(flags.config().trim_start_matches('/')),
        switch(&format!("{usual}/config.yaml")),
        host.registry.authority_path(runtime),
    ]
}

/// The drop-in that has the switch, beside a configuration file.
fn switch(config: &str) -> String {
    format!("{config}.d/hab-build.yaml")
}

/// The address of the farm for which this program wrote the file, if it did.
fn earlier_farm<'a>(text: &str, there: &'a Yaml) -> Option<&'a str> {
    let everything = there.get("mirrors").filter(|_| text.starts_with(HEAD))?.get("*")?;
    everything.get("endpoint")?.elements()?.first()?.text()
}

/// Writes registries.yaml. `earlier` is the address of an earlier farm, whose own name needs no mirror any more.
fn registries_yaml(
    host: &Host<'_>,
    runtime: Runtime,
    (path, there): (&str, &Yaml),
    earlier: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<String, PlanError> {
    let table = |name: &str| match there {
        Yaml::Map(_) => there.get(name).unwrap_or(&Yaml::Null).entries(),
        other => other.entries(),
    };
    let (Some(mirrors), Some(configs)) = (table("mirrors"), table("configs")) else {
        return Err(PlanError::new(path, "has no mapping of mirrors or configs"));
    };
    let registry = host.registry;
    let ours = registry.upstreams.iter().map(String::as_str).chain(["*", registry.host()]);
    let of_earlier = |name: &&str| earlier.is_some_and(|url| url.ends_with(&format!("://{name}")));
    let others = mirrors.iter().map(|(name, _)| name.as_str()).filter(|name| !of_earlier(name));
    let names: BTreeSet<&str> = ours.chain(others).collect();
    let word = |text: &str| Yaml::Scalar { text: text.to_owned(), plain: false };
    let endpoint =
        |_: &str| Yaml::Map(vec![("endpoint".to_owned(), Yaml::List(vec![word(registry.address())]))]);
    let mirrors = names.into_iter().map(|name| (name.to_owned(), endpoint(name))).collect();
    // The host's settings for the farm itself, such as its login there, stay.
    let mut kept: Vec<(String, Yaml)> = Vec::new();
    for (name, settings) in configs {
        if registry.is_here(name) {
            kept.push((name.clone(), settings.clone()));
        } else {
            notes.push(format!(
                "the settings of {name} below configs are left out: with these, {name} itself would still be asked last"
            ));
        }
    }
    if registry.authority.is_some() {
        let file = word(&format!("/{}", registry.authority_path(runtime)));
        let tls = ("tls".to_owned(), Yaml::Map(vec![("ca_file".to_owned(), file)]));
        let mut own = match kept.iter().position(|(name, _)| name == registry.host()) {
            Some(at) => kept.remove(at).1,
            None => Yaml::Null,
        };
        if let Yaml::Map(entries) = &mut own {
            entries.retain(|(name, _)| name != "tls");
            entries.push(tls);
        } else {
            own = Yaml::Map(vec![tls]);
        }
        kept.push((registry.host().to_owned(), own));
    }
    let mut document = vec![("mirrors".to_owned(), Yaml::Map(mirrors))];
    if !kept.is_empty() {
        document.push(("configs".to_owned(), Yaml::Map(kept)));
    }
    Ok(format!("{HEAD}{}", yaml::print(&Yaml::Map(document))))
}
