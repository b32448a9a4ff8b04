//! make's functions that depend only on their arguments.

/// The most arguments that a function of make has; `None` if there is no such function.
pub(super) fn arity(name: &str) -> Option<usize> {
    Some(match name {
        "strip" | "sort" | "words" | "firstword" | "lastword" | "dir" | "notdir" | "suffix" | "basename"
        | "eval" | "value" | "origin" | "flavor" | "info" | "warning" | "error" | "shell" | "realpath"
        | "abspath" | "wildcard" | "guile" => 1,
        "findstring" | "filter" | "filter-out" | "word" | "addprefix" | "addsuffix" | "join" | "file" => 2,
        "subst" | "patsubst" | "wordlist" | "if" | "foreach" => 3,
        "call" | "or" | "and" => usize::MAX,
        _ => return None,
    })
}

/// The most bytes that a function reads or makes; some functions multiply their arguments.
pub(super) fn cost(name: &str, arguments: &[String]) -> usize {
    let words = |at: usize| arguments.get(at).map_or(0, |text| text.split_whitespace().count());
    let length = |at: usize| arguments.get(at).map_or(0, String::len);
    let multiplied = match name {
        "subst" if length(0) > 0 => {
            arguments.get(2).map_or(0, |text| text.matches(arguments[0].as_str()).count()) * length(1)
        }
        "filter" | "filter-out" => words(0) * length(1),
        "addprefix" | "addsuffix" => words(1) * length(0),
        _ => 0,
    };
    multiplied + arguments.iter().map(String::len).sum::<usize>()
}

/// The value of a function; `None` if it is not one of those here.
pub(super) fn pure(name: &str, arguments: &[String]) -> Option<String> {
    let argument = |at: usize| arguments.get(at).map_or("", String::as_str);
    let (first, second) = (argument(0), argument(1));
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    Some(match name {
        "strip" => words(first).join(" "),
        "subst" if first.is_empty() => format!("{}{second}", argument(2)),
        "subst" => argument(2).replace(first, second),
        "findstring" => if second.contains(first) { first } else { "" }.to_owned(),
        "filter" | "filter-out" => {
            let keep = |word: &&str| first.split_whitespace().any(|p| fits(p, word)) == (name == "filter");
            second.split_whitespace().filter(keep).collect::<Vec<_>>().join(" ")
        }
        "sort" => {
            let mut words = words(first);
            words.sort();
            words.dedup();
            words.join(" ")
        }
        "word" => {
            let number = first.trim().parse::<usize>().ok().filter(|n| *n > 0)?;
            second.split_whitespace().nth(number - 1).unwrap_or_default().to_owned()
        }
        "firstword" => first.split_whitespace().next().unwrap_or_default().to_owned(),
        "addprefix" => {
            second.split_whitespace().map(|word| format!("{first}{word}")).collect::<Vec<_>>().join(" ")
        }
        "addsuffix" => {
            second.split_whitespace().map(|word| format!("{word}{first}")).collect::<Vec<_>>().join(" ")
        }
        _ => return None,
    })
}

/// Whether a word matches a pattern, in which one `%` stands for any text.
fn fits(pattern: &str, word: &str) -> bool {
    match pattern.split_once('%') {
        Some((start, end)) => {
            word.len() >= start.len() + end.len() && word.starts_with(start) && word.ends_with(end)
        }
        None => pattern == word,
    }
}
