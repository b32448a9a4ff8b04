//! YAML as k3s reads it: one document of plain data.
//!
//! The events are saphyr-parser's, which passes YAML's own test suite, is pure Rust and brings two crates. The tree is
//! made here, because readers differ in some points. Duplicate keys, several documents, tags, and aliases that expand
//! without end are refused, so that what is judged is what k3s does. Scalars keep their text; `yes` and `on` are
//! booleans as in YAML 1.1, which k3s' reader follows.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

/// The most nested levels.
const DEEP: usize = 64;
/// The most nodes, including those that aliases repeat.
const MANY: usize = 100_000;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Yaml {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar, and whether it is written without quotes.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Self>),
    /// A mapping, in the file's order. No key occurs twice.
    Map(Vec<(String, Self)>),
}

impl Yaml {
    /// A mapping's value.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entries()?.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// A mapping's entries; none if it is null.
    pub(crate) fn entries(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Map(entries) => Some(entries),
            Self::Null => Some(&[]),
            _ => None,
        }
    }

    /// A list's elements; none if it is null.
    pub(crate) fn elements(&self) -> Option<&[Self]> {
        match self {
            Self::List(elements) => Some(elements),
            Self::Null => Some(&[]),
            _ => None,
        }
    }

    /// A scalar's text.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The value as a flag on a command line: booleans in any word of YAML 1.1, everything else unchanged.
    pub(crate) fn flag(&self) -> Option<String> {
        match self {
            Self::Null => Some(String::new()),
            Self::Scalar { text, plain: true } => Some(match text.as_str() {
                "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "True" | "TRUE" => "true".to_owned(),
                "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "False" | "FALSE" => {
                    "false".to_owned()
                }
                other => other.to_owned(),
            }),
            Self::Scalar { text, .. } => Some(text.clone()),
            _ => None,
        }
    }
}

/// Reads one document. A document that k3s could understand differently is an error.
pub(crate) fn parse(text: &str) -> Result<Yaml, String> {
    load(text).or_else(|e| indented(text).ok_or(e.clone()).and_then(|text| load(&text).map_err(|_| e)))
}

/// Indents all lines within brackets further. YAML requires that, k3s' reader does not, and it changes no meaning.
/// Returns `None` if it is hard to tell brackets from other characters.
fn indented(text: &str) -> Option<String> {
    let (mut out, mut depth, mut quote) = (String::new(), 0usize, None);
    for line in text.lines() {
        if depth > 0 {
            out.push_str(&" ".repeat(2 * DEEP));
        }
        // The character before this one: a bracket within a word is no bracket.
        let mut before = ' ';
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            out.push(c);
            match (quote, c) {
                (Some('"'), '\\') => out.extend(chars.next()),
                (Some(end), c) if c == end => quote = None,
                (None, '#') if matches!(before, ' ' | '\t') => {
                    out.extend(chars.by_ref());
                }
                (None, '|' | '>') if depth == 0 => return None,
                (None, '"' | '\'') if matches!(before, ' ' | '\t' | '[' | '{' | ',' | ':') => quote = Some(c),
                (None, '[' | '{') if depth > 0 || matches!(before, ' ' | '\t') => depth += 1,
                (None, ']' | '}') if depth > 0 => depth -= 1,
                _ => {}
            }
            before = c;
        }
        out.push('\n');
    }
    (depth == 0 && quote.is_none()).then_some(out)
}

fn load(text: &str) -> Result<Yaml, String> {
    let mut loader = Loader { parser: Parser::new_from_str(text), anchors: BTreeMap::new(), nodes: 0 };
    let mut document = None;
    loop {
        match loader.next()? {
            Event::DocumentStart(_) if document.is_some() => {
                return Err("it has several documents".to_owned());
            }
            Event::DocumentStart(_) => {
                let first = loader.next()?;
                document = Some(loader.node(first, 0)?);
            }
            Event::StreamEnd => return Ok(document.unwrap_or(Yaml::Null)),
            _ => {}
        }
    }
}

/// Prints a document in block style. Words are quoted as in JSON, unless they were written without quotes.
pub(crate) fn print(document: &Yaml) -> String {
    let mut out = String::new();
    write_node(&mut out, document, 0);
    out
}

fn write_node(out: &mut String, node: &Yaml, depth: usize) {
    let space = "  ".repeat(depth);
    match node {
        Yaml::Map(entries) => {
            for (name, value) in entries {
                let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                let name = if bare && depth != 1 { name.clone() } else { quoted(name) };
                out.push_str(&format!("{space}{name}:"));
                write_value(out, value, depth + 1);
            }
        }
        Yaml::List(elements) => {
            for value in elements {
                out.push_str(&format!("{space}-"));
                write_value(out, value, depth + 1);
            }
        }
        leaf => write_value(out, leaf, depth),
    }
}

fn write_value(out: &mut String, value: &Yaml, depth: usize) {
    match value {
        Yaml::Null => out.push('\n'),
        Yaml::Scalar { text, plain: true } if !text.contains('\n') => out.push_str(&format!(" {text}\n")),
        Yaml::Scalar { text, .. } => out.push_str(&format!(" {}\n", quoted(text))),
        Yaml::List(list) if list.is_empty() => out.push_str(" []\n"),
        Yaml::Map(map) if map.is_empty() => out.push_str(" {}\n"),
        nested => {
            out.push('\n');
            write_node(out, nested, depth);
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

struct Loader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: BTreeMap<usize, Yaml>,
    nodes: usize,
}

impl<'a> Loader<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        match self.parser.next_event() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(e)) => Err(format!("line {}: {}", e.marker().line(), e.info())),
            None => Ok(Event::StreamEnd),
        }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Yaml, String> {
        self.count(1)?;
        if depth > DEEP {
            return Err(format!("it has more than {DEEP} levels"));
        }
        let (anchor, node) = match event {
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned().ok_or("an alias stands within its own anchor")?;
                // Aliases may repeat other aliases, so the size of the expanded node counts, not the size of the text.
                self.count(size(&node))?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, scalar(text.into_owned(), style, tag.as_deref())?)
            }
            Event::SequenceStart(anchor, tag) => {
                known(tag.as_deref(), "seq")?;
                (anchor, self.list(depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                known(tag.as_deref(), "map")?;
                (anchor, self.map(depth)?)
            }
            _ => return Err("it ends in the middle".to_owned()),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Yaml, String> {
        let mut elements = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Yaml::List(elements)),
                event => elements.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Yaml, String> {
        let mut entries: Vec<(String, Yaml)> = Vec::new();
        let mut merged: Vec<(String, Yaml)> = Vec::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => break,
                event => self.node(event, depth + 1)?,
            };
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            match key {
                Yaml::Scalar { text, plain: true } if text == "<<" => merged.extend(merge(value)?),
                Yaml::Scalar { text, .. } => {
                    if entries.iter().any(|(name, _)| *name == text) {
                        return Err(format!("{text:?} stands twice"));
                    }
                    entries.push((text, value));
                }
                _ => return Err("a key is not a word".to_owned()),
            }
        }
        // A mapping's own entries override those merged into it, and earlier merges override later ones.
        for (name, value) in merged {
            if !entries.iter().any(|(known, _)| *known == name) {
                entries.push((name, value));
            }
        }
        Ok(Yaml::Map(entries))
    }

    fn count(&mut self, nodes: usize) -> Result<(), String> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MANY { Err(format!("it has more than {MANY} nodes")) } else { Ok(()) }
    }
}

fn merge(value: Yaml) -> Result<Vec<(String, Yaml)>, String> {
    match value {
        Yaml::Map(entries) => Ok(entries),
        Yaml::List(maps) => {
            let maps = maps.into_iter().map(merge).collect::<Result<Vec<_>, _>>()?;
            Ok(maps.into_iter().flatten().collect())
        }
        _ => Err("what << merges is not a mapping".to_owned()),
    }
}

fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>) -> Result<Yaml, String> {
    let plain = style == ScalarStyle::Plain && !is_string(tag)?;
    Ok(if plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
        Yaml::Null
    } else {
        Yaml::Scalar { text, plain }
    })
}

fn is_string(tag: Option<&Tag>) -> Result<bool, String> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(true),
        Some(tag) if tag.is_yaml_core_schema() && matches!(tag.suffix.as_str(), "bool" | "int" | "null") => {
            Ok(false)
        }
        Some(tag) => Err(format!("it has a tag, {tag}")),
    }
}

fn known(tag: Option<&Tag>, kind: &str) -> Result<(), String> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == kind) => {
            Err(format!("it has a tag, {tag}"))
        }
        _ => Ok(()),
    }
}

fn size(node: &Yaml) -> usize {
    1 + match node {
        Yaml::Null | Yaml::Scalar { .. } => 0,
        Yaml::List(elements) => elements.iter().map(size).sum(),
        Yaml::Map(entries) => entries.iter().map(|(_, value)| 1 + size(value)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_meaning_in_every_style_that_yaml_has() {
        let block = parse("mirrors:\n  \"*\":\n    endpoint:\n      - http://farm:5000 # here\n").unwrap();
        for same in [
            "mirrors: {\"*\": {endpoint: [\"http://farm:5000\"]}}",
            "{\"mirrors\": {\"*\": {\"endpoint\": [\"http://farm:5000\"]}}}",
            "mirrors:\n  ? '*'\n  :\n    endpoint: [\n      'http://farm:5000'\n    ]\n",
            "--- # one\nx-end: &end [ \"http://farm:5000\" ]\nmirrors: { '*': { endpoint: *end } }\n",
        ] {
            let read = parse(same).unwrap();
            let end = |y: &Yaml| {
                let list = y.get("mirrors").and_then(|m| m.get("*")).and_then(|m| m.get("endpoint"));
                list.unwrap().elements().unwrap()[0].text().map(str::to_owned)
            };
            assert_eq!(end(&read), end(&block), "{same}");
        }
    }

    #[test]
    fn a_bracket_that_closes_at_the_margin_is_read_as_k3s_reads_it() {
        let read = parse("a: {\n\"b\": [ # ]\n  \"x]\",\n  'y'\n]\n}\nc: d[\n").unwrap();
        let list = read.get("a").and_then(|a| a.get("b")).and_then(Yaml::elements).unwrap();
        assert_eq!(list.iter().filter_map(Yaml::text).collect::<Vec<_>>(), ["x]", "y"]);
        assert_eq!(read.get("c").and_then(Yaml::text), Some("d["));
        assert!(parse("a: [\n1\n]]\n").is_err() && parse("a: |\n [\nb: [\n]\n").is_err());
    }

    #[test]
    fn what_is_printed_reads_as_what_it_was() {
        let text = "a:\n  \"*\":\n    b:\n      - \"http://x: #y\"\n      - true\nc: []\nd: \n";
        let read = parse(text).unwrap();
        assert_eq!(parse(&print(&read)).unwrap(), read, "{}", print(&read));
    }

    #[test]
    fn merged_keys_give_way_to_those_that_stand_there() {
        let read = parse("base: &base {a: 1, b: 2}\nmade:\n  <<: *base\n  b: 3\n").unwrap();
        let made = read.get("made").unwrap();
        assert_eq!(made.get("a").unwrap().text(), Some("1"));
        assert_eq!(made.get("b").unwrap().text(), Some("3"));
    }

    #[test]
    fn what_readers_understand_differently_is_refused() {
        for bad in [
            "a: 1\na: 2\n",
            "a: 1\n---\na: 2\n",
            "a: !!binary aGk=\n",
            "a: !mine b\n",
            "a: [1, 2\n",
            "? [a]\n: b\n",
            "a: &a [*a]\n",
            &format!("{}{}", "[".repeat(100), "]".repeat(100)),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn aliases_of_aliases_end_at_a_limit() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            text.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", ")));
        }
        assert!(parse(&text).unwrap_err().contains("nodes"));
    }

    #[test]
    fn flags_are_what_k3s_makes_of_them() {
        let flag = |text: &str| parse(text).unwrap().get("f").unwrap().flag();
        assert_eq!(flag("f: yes").as_deref(), Some("true"));
        assert_eq!(flag("f: \"yes\"").as_deref(), Some("yes"));
        assert_eq!(flag("f: Off").as_deref(), Some("false"));
        assert_eq!(flag("f:").as_deref(), Some(""));
        assert_eq!(flag("f: [a]"), None);
    }
}
