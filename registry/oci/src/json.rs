//! Reads JSON that somebody else wrote, and refuses documents with more than one meaning.
//!
//! The standard does not define an object that has a name twice (RFC 8259, section 4): some programs take the first
//! value, some the last. Most clients of a registry are written in Go, and Go matches the names of fields without
//! regard to case: `"LAYERS"` is `layers` to them and an unknown name to other programs. An ambiguous document can show
//! one image to the program that checks it and another to the program that runs it, under one digest. This module
//! refuses such documents, at every level.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::shown;

/// The field names that a format gives to its objects.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Objects with free names, such as annotations. Names that differ in case are different names.
    Free,
    /// An object with these fields, or a list of such objects. Other fields are allowed, but no name may differ from
    /// one of these, or from another present name, only in case.
    Fields(&'static [(&'static str, Shape)]),
}

/// Reads a document of this shape as a `T`.
///
/// ```
/// # use hab_oci::json::{Shape, read};
/// # #[derive(serde::Deserialize, Debug)]
/// # struct Lists { layers: Vec<u32> }
/// const LISTS: Shape = Shape::Fields(&[("layers", Shape::Free)]);
/// assert!(read::<Lists>(br#"{"layers":[1]}"#, LISTS).is_ok());
/// let error = read::<Lists>(br#"{"layers":[1],"LAYERS":[2]}"#, LISTS).unwrap_err();
/// assert!(error.to_string().contains(r#""LAYERS" is "layers" to programs that ignore case"#));
/// ```
pub fn read<T: DeserializeOwned>(bytes: &[u8], shape: Shape) -> Result<T, serde_json::Error> {
    check(bytes, shape)?;
    serde_json::from_slice(bytes)
}

/// Refuses bytes that are not exactly one JSON document, or that are ambiguous.
pub fn check(bytes: &[u8], shape: Shape) -> Result<(), serde_json::Error> {
    // Check UTF-8 here, because the parser does not look into strings that it skips; all of JSON is UTF-8 (RFC 8259,
    // section 8.1).
    let text =
        std::str::from_utf8(bytes).map_err(|e| serde_json::Error::custom(format_args!("not UTF-8: {e}")))?;
    let mut document = serde_json::Deserializer::from_str(text);
    Reading(shape).deserialize(&mut document)?;
    document.end()
}

/// Visits a value only to check its names.
struct Reading(Shape);

impl<'de> DeserializeSeed<'de> for Reading {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Reading(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = object.next_key::<String>()? {
            let (shape, key) = match self.0 {
                Shape::Free => (Shape::Free, None),
                Shape::Fields(fields) => (field(fields, &name).map_err(A::Error::custom)?, Some(fold(&name))),
            };
            let key = key.unwrap_or_else(|| name.clone());
            if !seen.insert(key) {
                let twice = if matches!(self.0, Shape::Free) { "twice" } else { "twice if case is ignored" };
                return Err(Error::custom(format_args!("{:?} is there {twice}", shown(&name))));
            }
            object.next_value_seed(Reading(shape))?;
        }
        Ok(())
    }
}

/// The shape of the field with this name.
fn field(fields: &[(&'static str, Shape)], name: &str) -> Result<Shape, String> {
    let same = |(known, _): &&(&str, Shape)| known.chars().map(lower).eq(name.chars().map(lower));
    match fields.iter().find(same) {
        None => Ok(Shape::Free),
        Some((known, shape)) if *known == name => Ok(*shape),
        Some((known, _)) => Err(format!("{:?} is {known:?} to programs that ignore case", shown(name))),
    }
}

fn fold(name: &str) -> String {
    name.chars().map(lower).collect()
}

/// Folds case as Go does, by Unicode's simple case folding. Every known name is ASCII, and these two are the only
/// letters outside ASCII that fold to ASCII letters.
fn lower(c: char) -> char {
    match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const SHAPE: Shape = Shape::Fields(&[
        ("size", Shape::Free),
        ("links", Shape::Fields(&[("kind", Shape::Free)])),
        ("notes", Shape::Free),
    ]);

    #[test]
    fn a_name_that_is_there_twice_or_is_a_known_one_but_for_case_is_refused_at_every_level() {
        for (text, words) in [
            (r#"{"size":1,"size":1}"#, r#""size" is there twice"#),
            (r#"{"size":1,"siz\u0065":2}"#, r#""size" is there twice"#),
            (r#"{"Size":1}"#, r#""Size" is "size" to programs that ignore case"#),
            ("{\"\u{17f}ize\":1}", "to programs that ignore case"),
            (r#"{"links":{"\u212aind":1}}"#, "to programs that ignore case"),
            (r#"{"links":[{"kind":1},{"KIND":1}]}"#, r#""KIND" is "kind""#),
            (r#"{"links":[[[{"KIND":1}]]]}"#, r#""KIND" is "kind""#),
            (r#"{"other":1,"OTHER":2}"#, r#""OTHER" is there twice if case is ignored"#),
            (r#"{"notes":{"a":1,"a":1}}"#, r#""a" is there twice"#),
            (r#"{"other":[{"deep":{"x":1,"x":1}}]}"#, r#""x" is there twice"#),
            (r#"{"a\u001b[2J":1,"a\u001b[2J":1}"#, r#""a\u{1b}[2J" is there twice"#),
            (r#"{"size":1} {"size":2}"#, "trailing characters"),
            ("{\"x\":\"\\ud800\"}", "hex escape"),
            ("", "EOF"),
        ] {
            let said = check(text.as_bytes(), SHAPE).expect_err(text).to_string();
            assert!(said.contains(words), "{text}: {said}");
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(check(deep.as_bytes(), SHAPE).is_err());
        assert!(check(b"{\"x\":\"\xff\"}", SHAPE).unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn names_that_anybody_may_choose_are_told_apart_by_case() {
        for good in [
            r#"{"size":1,"sizes":2,"notes":{"a":1,"A":2,"size":1,"SIZE":2,"KIND":3}}"#,
            r#"{"links":[{"kind":1,"more":{"x":null}},{"kind":true}],"other":[1.5,-2,"x"]}"#,
            "[]",
            "null",
        ] {
            check(good.as_bytes(), SHAPE).unwrap();
            read::<Value>(good.as_bytes(), SHAPE).unwrap();
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_has_as_many_names_as_are_written(names in prop::collection::vec("[a-cA-C]{1,2}", 0..5)) {
            let fields: Vec<String> = names.iter().map(|name| format!("{name:?}:0")).collect();
            let text = format!("{{{}}}", fields.join(","));
            let folded: HashSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
            let exact: HashSet<&String> = names.iter().collect();
            prop_assert_eq!(check(text.as_bytes(), Shape::Free).is_ok(), exact.len() == names.len());
            prop_assert_eq!(check(text.as_bytes(), SHAPE).is_ok(), folded.len() == names.len());
        }

        #[test]
        fn bytes_from_outside_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(&bytes, SHAPE);
        }
    }
}
