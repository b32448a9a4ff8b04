//! Reads lines: conditions, assignments, definitions, includes, and rules, which are skipped.

use super::{DependsError, Make, Variable, text};

/// A condition that is not ended yet.
struct Condition {
    now: State,
    /// The state of the lines around the condition.
    around: State,
}

/// Whether lines count.
#[derive(Clone, PartialEq, Eq)]
enum State {
    Yes,
    No,
    /// They do not, nor will those of a later branch.
    Done,
    /// Nobody knows: a variable that is set here is unknown from here on.
    Unknown(String),
}

impl Make<'_> {
    /// Reads the lines of a file (`numbered`), or of an `eval`, whose errors all name the line of the `eval`.
    pub(super) fn read(&mut self, lines: &str, numbered: bool) -> Result<(), DependsError> {
        self.work(lines.len())?;
        let mut conditions: Vec<Condition> = Vec::new();
        let mut in_rule = false;
        let mut lines = text::lines(lines);
        while let Some((number, raw)) = lines.next() {
            if numbered {
                self.place.line = number;
            }
            if in_rule && raw.starts_with('\t') {
                continue;
            }
            let line = text::without_comment(&raw);
            let trimmed = line.trim();
            if trimmed.is_empty() {
                continue;
            }
            let state = conditions.last().map_or(State::Yes, |condition| condition.now.clone());
            let end = trimmed.find([' ', '\t', '(', '"', '\'']).unwrap_or(trimmed.len());
            let (word, rest) = trimmed.split_at(end);
            if let Some((name, operator, value)) = text::assignment(&line) {
                in_rule = false;
                self.assign(&state, name, operator, value)?;
            } else if self.condition(word, rest, &mut conditions)? {
            } else if word == "define" {
                let mut depth = 1;
                let mut body = Vec::new();
                for (_, line) in lines.by_ref() {
                    match line.trim_start().split([' ', '\t', '#']).next() {
                        Some("define") if !line.starts_with('\t') => depth += 1,
                        Some("endef") if !line.starts_with('\t') => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                    body.push(line);
                }
                if depth > 0 {
                    return Err(self.place.error("a define has no endef"));
                }
                self.assign(&state, rest.trim().trim_end_matches('=').trim_end(), "=", &body.join("\n"))?;
            } else if matches!(state, State::No | State::Done) {
            } else if matches!(word, "include" | "-include" | "sinclude") {
                self.includes(&state, word, rest)?;
            } else if matches!(
                word,
                "export" | "unexport" | "override" | "undefine" | "private" | "vpath" | "load"
            ) {
                return Err(self.place.error(format!("{word} is not supported")));
            } else {
                in_rule = self.rule(&state, &line)?;
            }
        }
        if conditions.is_empty() { Ok(()) } else { Err(self.place.error("a condition has no endif")) }
    }

    fn assign(&mut self, state: &State, name: &str, operator: &str, value: &str) -> Result<(), DependsError> {
        if matches!(state, State::No | State::Done) {
            return Ok(());
        }
        let name = self.expand(name)?;
        if let Some(mark) = text::unknown(&name) {
            return Err(self.refuse("which variable is set", mark));
        }
        let name = name.trim();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(self.place.error(format!("{name:?} is not the name of a variable")));
        }
        let before = self.variables.get(name).cloned();
        if before.as_ref().is_some_and(|variable| variable.given) {
            return Ok(());
        }
        let (value, recursive) = match (state, operator, &before) {
            (State::Unknown(mark), ..) => (mark.clone(), false),
            (_, "?=", Some(_)) => return Ok(()),
            (_, "=" | "?=", _) | (_, "+=", None) => (value.to_owned(), true),
            (_, "+=", Some(Variable { value: old, recursive: true, .. })) => (format!("{old} {value}"), true),
            (_, "+=", Some(Variable { value: old, .. })) => (format!("{old} {}", self.expand(value)?), false),
            (_, "!=", _) => (self.mark("because only a shell can compute it")?, false),
            _ => (self.expand(value)?, false),
        };
        self.grown(&value)?;
        self.work(value.len())?;
        let variable = Variable { value: value.into(), recursive, given: false, place: self.place.clone() };
        self.variables.insert(name.to_owned(), variable);
        Ok(())
    }

    fn includes(&mut self, state: &State, word: &str, rest: &str) -> Result<(), DependsError> {
        if let State::Unknown(mark) = state {
            return Err(self.refuse("whether a file is included", mark));
        }
        let paths = self.expand(rest)?;
        if let Some(mark) = text::unknown(&paths) {
            return Err(self.refuse("which file is included", mark));
        }
        for path in paths.split_whitespace() {
            if word == "include" || self.file(path)?.is_some() {
                self.include(path)?;
            }
        }
        Ok(())
    }

    /// Reads any other line: a rule, which is skipped, or references that are expanded for their side effects. Returns
    /// whether it is a rule.
    fn rule(&mut self, state: &State, line: &str) -> Result<bool, DependsError> {
        if let State::Unknown(mark) = state {
            return if line.contains("eval") || line.contains("call") {
                Err(self.refuse("whether something is set", mark))
            } else {
                Ok(true)
            };
        }
        let line = self.expand(line)?;
        if line.trim().is_empty() {
            return Ok(false);
        }
        if line.contains(':') {
            return Ok(true);
        }
        let mark = text::unknown(&line).map(str::to_owned);
        Err(mark.map_or_else(
            || self.place.error(format!("neither an assignment nor a rule: {:.60}", line.trim())),
            |mark| self.refuse("what this line is", &mark),
        ))
    }

    /// Whether the line belongs to a condition, which it then updates.
    fn condition(
        &mut self,
        word: &str,
        rest: &str,
        conditions: &mut Vec<Condition>,
    ) -> Result<bool, DependsError> {
        let around = conditions.last().map_or(State::Yes, |condition| condition.now.clone());
        match word {
            "ifeq" | "ifneq" | "ifdef" | "ifndef" => {
                let now = match &around {
                    State::Yes => self.holds(word, rest)?,
                    State::Unknown(mark) => State::Unknown(mark.clone()),
                    State::No | State::Done => State::Done,
                };
                conditions.push(Condition { now, around });
            }
            "else" => {
                let outside = self.place.error("an else without a condition");
                let condition = conditions.last_mut().ok_or(outside)?;
                let next = match (&condition.around, &condition.now) {
                    (State::Yes, State::No) => State::Yes,
                    (_, State::Unknown(mark)) => State::Unknown(mark.clone()),
                    _ => State::Done,
                };
                let (word, rest) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
                let conditional = matches!(word, "ifeq" | "ifneq" | "ifdef" | "ifndef");
                if !conditional && !word.is_empty() {
                    return Err(self.place.error("what follows else is not a condition"));
                }
                condition.now =
                    if conditional && next == State::Yes { self.holds(word, rest)? } else { next };
            }
            "endif" => {
                let _ended =
                    conditions.pop().ok_or_else(|| self.place.error("an endif without a condition"))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn holds(&mut self, word: &str, rest: &str) -> Result<State, DependsError> {
        if matches!(word, "ifdef" | "ifndef") {
            let name = self.expand(rest.trim())?;
            if let Some(mark) = text::unknown(&name) {
                return Ok(State::Unknown(mark.to_owned()));
            }
            let set = self.variables.get(name.trim()).is_some_and(|variable| !variable.value.is_empty());
            return Ok(if set == (word == "ifdef") { State::Yes } else { State::No });
        }
        let malformed = || self.place.error(format!("{word} needs two sides: {:.60}", rest.trim()));
        let (left, right) = text::sides(rest).ok_or_else(malformed)?;
        let (left, right) = (self.expand(left)?, self.expand(right)?);
        if let Some(mark) = text::unknown(&left).or_else(|| text::unknown(&right)) {
            return Ok(State::Unknown(mark.to_owned()));
        }
        Ok(if (left == right) == (word == "ifeq") { State::Yes } else { State::No })
    }
}
