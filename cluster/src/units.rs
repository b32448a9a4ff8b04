//! How a service is started: its command line and environment, read from systemd's files.

use crate::host::Host;

/// Folders of units, in order of precedence.
const FOLDERS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// A service that a unit file starts.
#[derive(Debug)]
pub(crate) struct Service {
    /// The file that has its command line.
    pub(crate) path: String,
    /// The words of its command line.
    pub(crate) words: Vec<String>,
    /// Its environment variables. The last one of a name counts.
    pub(crate) environment: Vec<(String, String)>,
}

impl Service {
    /// The last value of a flag that is given as `--name VALUE` or `--name=VALUE`, by any of its names. Empty if the
    /// flag has no value.
    pub(crate) fn flag(&self, names: &[&str]) -> Option<String> {
        let mut found = None;
        let mut words = self.words.iter().peekable();
        while let Some(word) = words.next() {
            for name in names {
                if word == name {
                    let value = words.peek().filter(|next| !next.starts_with('-'));
                    found = Some(value.map_or_else(String::new, |next| (*next).clone()));
                } else if let Some(value) = word.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
                    found = Some(value.to_owned());
                }
            }
        }
        found
    }

    /// A variable's value.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The service of this name, if any file says how it is started. Reports words that only systemd can expand.
pub(crate) fn service(host: &mut Host<'_>, name: &str) -> Option<Service> {
    let unit = format!("{name}.service");
    let main = FOLDERS.iter().map(|folder| format!("{folder}/{unit}")).find(|path| host.has(path))?;
    let mut files = vec![main.clone()];
    // Of drop-ins with one name, the one in the earlier folder counts. Drop-ins are sorted by name.
    let mut drops: Vec<(String, String)> = Vec::new();
    for folder in FOLDERS {
        for file in host.names(&format!("{folder}/{unit}.d")) {
            if file.ends_with(".conf") && !drops.iter().any(|(known, _)| *known == file) {
                drops.push((file.clone(), format!("{folder}/{unit}.d/{file}")));
            }
        }
    }
    drops.sort();
    files.extend(drops.into_iter().map(|(_, path)| path));
    let mut service = Service { path: main, words: Vec::new(), environment: Vec::new() };
    let mut from_files = Vec::new();
    for path in files {
        let Some(text) = host.text(&path) else { continue };
        for (key, value) in settings(&text) {
            match key.as_str() {
                "ExecStart" if value.is_empty() => service.words.clear(),
                "ExecStart" => {
                    service.words = words(value.trim_start_matches(['-', '@', ':', '+', '!']));
                    service.path.clone_from(&path);
                }
                "Environment" => {
                    let pairs = words(&value);
                    let pairs = pairs.iter().filter_map(|pair| pair.split_once('='));
                    service.environment.extend(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
                }
                "EnvironmentFile" => from_files.push(value.trim_start_matches('-').replace("%N", name)),
                _ => {}
            }
        }
    }
    // Variables in environment files override those in the unit.
    for path in from_files {
        let path = path.trim_start_matches('/').to_owned();
        let text = host.text(&path).unwrap_or_default();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if let Some((key, value)) = line.split_once('=') {
                let value = value.trim().trim_matches(['"', '\'']);
                service.environment.push((key.trim().to_owned(), value.to_owned()));
            }
        }
    }
    expand(host, &mut service);
    Some(service)
}

/// Replaces `$NAME` and `${NAME}` by the variables' values.
fn expand(host: &mut Host<'_>, service: &mut Service) {
    let mut expanded = Vec::new();
    for word in &service.words {
        let name = word.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        match (name, word.strip_prefix('$')) {
            // A variable in braces becomes one word; without braces, it becomes the words of its value.
            (Some(name), _) => expanded.push(service.variable(name).unwrap_or_default().to_owned()),
            (None, Some(name)) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                expanded.extend(words(service.variable(name).unwrap_or_default()));
            }
            _ => expanded.push(word.clone()),
        }
    }
    service.words = expanded;
    if service.words.iter().any(|word| word.contains('$')) {
        let path = service.path.clone();
        host.wonder(
            &path,
            "has a command line with variables within words: look at what the service was started with",
        );
    }
}

/// The settings of `[Service]`, with lines that end in `\` joined.
fn settings(text: &str) -> Vec<(String, String)> {
    let (mut found, mut within, mut open) = (Vec::new(), false, String::new());
    for line in text.lines() {
        let line = line.trim();
        // A comment may stand between two joined lines.
        if line.starts_with(['#', ';']) || (line.is_empty() && open.is_empty()) {
            continue;
        }
        if let Some(begun) = line.strip_suffix('\\') {
            open.push_str(begun);
            open.push(' ');
            continue;
        }
        let line = std::mem::take(&mut open) + line;
        if line.starts_with('[') {
            within = line.trim() == "[Service]";
        } else if let (true, Some((key, value))) = (within, line.split_once('=')) {
            found.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    if let (true, Some((key, value))) = (within, open.split_once('=')) {
        found.push((key.trim().to_owned(), value.trim().to_owned()));
    }
    found
}

/// Splits a text into words at white space. Quotes join words, and `\` keeps the next character as it is.
pub(crate) fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut begun, mut quote) = (Vec::new(), String::new(), false, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => {
                word.extend(chars.next());
                begun = true;
            }
            (c, Some(end)) if c == end => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                begun = true;
            }
            (c, None) if c.is_whitespace() => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            (c, _) => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::Registry;

    #[test]
    fn a_command_line_is_what_the_unit_its_drop_ins_and_its_variables_say() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("usr/lib/systemd/system/k3s.service", "[Service]\nExecStart=/bin/no\n");
        put(
            "etc/systemd/system/k3s.service",
            "[Unit]\nExecStart=no\n[Service]\nEnvironmentFile=-/etc/default/%N\nExecStart=/usr/local/bin/k3s \\\n  # why\n  server \\\n",
        );
        put("etc/default/k3s", "# more\nMORE=\"--config /x --debug\"\nK3S_CONFIG_FILE=/y\n");
        let registry =
            Registry { url: "http://farm:5000".to_owned(), upstreams: Vec::new(), authority: None };
        let none = BTreeMap::new();
        let mut host = Host::new(&registry, root.path(), &none);
        assert_eq!(service(&mut host, "k3s").unwrap().words, ["/usr/local/bin/k3s", "server"]);
        put(
            "etc/systemd/system/k3s.service.d/10.conf",
            "[Service]\nExecStart=\nExecStart=/usr/local/bin/k3s agent $MORE 'a b'\n",
        );
        let found = service(&mut host, "k3s").unwrap();
        assert_eq!(found.words, ["/usr/local/bin/k3s", "agent", "--config", "/x", "--debug", "a b"]);
        assert_eq!(found.flag(&["-c", "--config"]), Some("/x".to_owned()));
        assert_eq!(found.flag(&["--debug"]), Some("a b".to_owned()));
        assert_eq!(found.variable("K3S_CONFIG_FILE"), Some("/y"));
        assert!(host.found.is_empty());
        assert!(service(&mut host, "other").is_none());
    }
}
