//! The flags that k3s or RKE2 is started with: from its configuration files, then from its service's command line.

use std::collections::BTreeMap;

use crate::host::Host;
use crate::{Runtime, units, yaml};

/// The flags of a service. The last value of a flag counts.
pub(crate) struct Flags {
    /// Values by the flag's name without dashes, each with the file that has it.
    values: BTreeMap<String, Vec<(String, String)>>,
    /// `k3s` or `rke2`
    program: &'static str,
    /// The value of `K3S_DATA_DIR` or `RKE2_DATA_DIR`.
    data: Option<String>,
    /// The path of its configuration file.
    config: String,
}

impl Flags {
    pub(crate) fn read(host: &mut Host<'_>, runtime: Runtime) -> Self {
        let (program, services) = match runtime {
            Runtime::Rke2 => ("rke2", ["rke2-server", "rke2-agent"]),
            _ => ("k3s", ["k3s", "k3s-agent"]),
        };
        let config = format!("/etc/rancher/{program}/config.yaml");
        let mut flags = Self { values: BTreeMap::new(), program, data: None, config };
        let found: Vec<_> = services.iter().filter_map(|name| units::service(host, name)).collect();
        if let [first, second, ..] = found.as_slice() {
            let words = format!("starts {program} too, beside /{}: only the first is judged", first.path);
            host.wonder(&second.path.clone(), words);
        }
        let service = found.into_iter().next();
        let script = format!("etc/init.d/{}", services[0]);
        if service.is_none() && host.has(&script) {
            host.wonder(
                &script,
                format!("starts {program} with a command line that is not read here: look at it"),
            );
        }
        let upper = program.to_uppercase();
        if let Some(service) = &service {
            flags.data = service.variable(&format!("{upper}_DATA_DIR")).map(str::to_owned);
            let variable = service.variable(&format!("{upper}_CONFIG_FILE")).filter(|path| !path.is_empty());
            let named = service.flag(&["--config", "-c"]).filter(|path| !path.is_empty());
            if let Some(path) = variable.map(str::to_owned).or(named) {
                flags.config = path;
            }
            if !flags.config.starts_with('/') {
                let words = format!("takes its settings from {}, which is not read here", flags.config);
                host.wonder(&service.path, words);
            }
        }
        if let Some(config) = flags.config.strip_prefix('/').map(str::to_owned) {
            flags.files(host, &config);
        }
        if let Some(service) = &service {
            flags.words(&service.words, &service.path);
        }
        flags
    }

    /// Reads the file and its drop-ins. The last file that has a key counts, except that keys with `+` add values.
    fn files(&mut self, host: &mut Host<'_>, config: &str) {
        let mut files = vec![config.to_owned()];
        let drops = host.names(&format!("{config}.d"));
        let is_yaml = |name: &String| {
            let name = name.to_ascii_lowercase();
            name.ends_with(".yaml") || name.ends_with(".yml")
        };
        files.extend(drops.into_iter().filter(is_yaml).map(|name| format!("{config}.d/{name}")));
        for path in files {
            let Some(text) = host.text(&path) else { continue };
            let read = yaml::parse(&text);
            let entries = read.as_ref().map(|yaml| yaml.entries().map(<[_]>::to_vec));
            match entries {
                Ok(Some(entries)) => {
                    for (key, value) in entries {
                        self.key(host, &path, &key, &value);
                    }
                }
                Ok(None) => host.wonder(&path, "is not a mapping of flags to values"),
                Err(e) => host.wonder(&path, format!("is not YAML with a single meaning: {e}")),
            }
        }
    }

    fn key(&mut self, host: &mut Host<'_>, path: &str, key: &str, value: &yaml::Yaml) {
        let (name, adds) = key.strip_suffix('+').map_or((key, false), |name| (name, true));
        let values = match value {
            yaml::Yaml::List(list) => list.iter().map(yaml::Yaml::flag).collect(),
            one => one.flag().map_or_else(|| vec![None], |one| vec![Some(one)]),
        };
        let Some(values) = values.into_iter().collect::<Option<Vec<String>>>() else {
            host.wonder(path, format!("has a value of {name} that is not a word or a list of words"));
            return;
        };
        let known = self.values.entry(name.to_owned()).or_default();
        if !adds {
            known.clear();
        }
        known.extend(values.into_iter().map(|value| (value, path.to_owned())));
    }

    /// Adds the flags of a command line, which count after those of the files.
    fn words(&mut self, words: &[String], path: &str) {
        let mut words = words.iter().skip_while(|word| *word != "server" && *word != "agent").peekable();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                // A switch takes no word of its own.
                None if SWITCHES.contains(&flag) => (flag, "true".to_owned()),
                None => match words.peek().filter(|next| !next.starts_with('-')) {
                    Some(next) => (flag, (*next).clone()),
                    None => (flag, "true".to_owned()),
                },
            };
            self.values.entry(name.to_owned()).or_default().push((value, path.to_owned()));
        }
    }

    /// The last value of a flag, and the file that has it.
    pub(crate) fn last(&self, names: &[&str]) -> Option<(&str, &str)> {
        let found = names.iter().find_map(|name| self.values.get(*name)?.last())?;
        Some((&found.0, &found.1))
    }

    /// Whether a switch is on. Reports a value that is neither true nor false, and returns `None` for it.
    pub(crate) fn on(&self, host: &mut Host<'_>, name: &str) -> Option<bool> {
        let Some((value, path)) = self.last(&[name]) else { return Some(false) };
        match value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => {
                host.wonder(path, format!("has {name} neither true nor false, but {value:?}"));
                None
            }
        }
    }

    /// Its data folder, without a leading slash.
    pub(crate) fn data(&self) -> String {
        let set = self.last(&["data-dir", "d"]).map(|(value, _)| value.to_owned());
        let data = set.or_else(|| self.data.clone()).filter(|data| data.starts_with('/'));
        let data = data.unwrap_or_else(|| format!("/var/lib/rancher/{}", self.program));
        data.trim_matches('/').to_owned()
    }

    /// Its registries.yaml, without a leading slash.
    pub(crate) fn registries(&self, host: &mut Host<'_>) -> String {
        let usual = format!("etc/rancher/{}/registries.yaml", self.program);
        let Some((path, says)) = self.last(&["private-registry"]).filter(|(path, _)| !path.is_empty()) else {
            return usual;
        };
        if let Some(path) = path.strip_prefix('/') {
            return path.to_owned();
        }
        host.wonder(
            says,
            format!("names the file of registries {path:?}, which is not a path from the root"),
        );
        usual
    }

    /// Its configuration file, as the host names it.
    pub(crate) fn config(&self) -> &str {
        &self.config
    }

    /// `k3s` or `rke2`
    pub(crate) fn program(&self) -> &'static str {
        self.program
    }
}

/// The switches among the flags that are read here.
const SWITCHES: [&str; 4] = ["disable-default-registry-endpoint", "embedded-registry", "docker", "debug"];
