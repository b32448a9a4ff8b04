//! Words for people: numbers of things, and names that somebody may have meant.

/// A number of things, for people: `1 tag`, `2 tags`.
pub fn counted(number: u64, thing: &str) -> String {
    let many = match (number, thing.strip_suffix('y')) {
        (1, _) => thing.to_owned(),
        // `repositories`, but `days`.
        (_, Some(stem)) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ => format!("{thing}s"),
    };
    format!("{number} {many}")
}

/// The known name that somebody who typed `typed` may have meant. At most two letters, and no more than a third of
/// them, may be wrong, missing, extra or swapped.
pub fn near<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer names are not ours, and the work grows with the product of both lengths.
    const LONGEST: usize = 200;
    let most = (typed.chars().count() / 3).clamp(1, 2);
    let close = |name: &&str| name.len() <= LONGEST && typed.len() <= LONGEST;
    let measured = known.into_iter().filter(close).map(|name| (distance(typed, name), name));
    measured.filter(|(wrong, _)| *wrong <= most).min_by_key(|(wrong, _)| *wrong).map(|(_, name)| name)
}

/// How many letters must be changed, added, removed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_the_name_that_was_meant_and_another_word_finds_none() {
        let known = ["build", "plan", "serve", "secp256k1", "bitcoin", "bitcoin-crate"];
        for (typed, meant) in [
            ("biuld", Some("build")),
            ("secp256k", Some("secp256k1")),
            ("bitcon", Some("bitcoin")),
            ("srve", Some("serve")),
            ("pla", Some("plan")),
            ("x", None),
            ("lightning", None),
            ("", None),
        ] {
            assert_eq!(near(typed, known), meant, "{typed}");
        }
    }

    #[test]
    fn one_thing_is_one_thing() {
        let said = [(1, "tag"), (0, "tag"), (2, "repository"), (1, "repository"), (3, "day")];
        let said = said.map(|(number, thing)| counted(number, thing));
        assert_eq!(said, ["1 tag", "0 tags", "2 repositories", "1 repository", "3 days"]);
    }
}
