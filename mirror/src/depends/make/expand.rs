//! Expands references to variables and functions in a text.

use std::rc::Rc;

use super::{DependsError, FETCH, Make, PART, Scope, Variable, functions, text};

impl Make<'_> {
    /// Replaces every reference in `text`.
    pub(super) fn expand(&mut self, text: &str) -> Result<String, DependsError> {
        let mut out = String::with_capacity(text.len());
        self.expand_into(text, &mut out)?;
        Ok(out)
    }

    fn expand_into(&mut self, text: &str, out: &mut String) -> Result<(), DependsError> {
        self.work(text.len())?;
        self.enter()?;
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let end = text::reference(rest);
            match rest.as_bytes().get(1) {
                Some(b'$') => out.push('$'),
                Some(open @ (b'(' | b'{')) => {
                    if text::closing(&rest[2..], *open).is_none() {
                        return Err(self.place.error(format!("a reference does not end: {rest:.60}")));
                    }
                    self.reference(&rest[2..end - 1], *open, out)?;
                }
                _ => self.variable(&rest[1..end], out)?,
            }
            self.grown(out)?;
            rest = &rest[end..];
        }
        out.push_str(rest);
        self.leave();
        self.grown(out)
    }

    /// Appends the value of `$(inner)`.
    fn reference(&mut self, inner: &str, open: u8, out: &mut String) -> Result<(), DependsError> {
        let end = inner.find(|c: char| !(c.is_ascii_lowercase() || c == '-')).unwrap_or(inner.len());
        let (name, rest) = inner.split_at(end);
        if rest.starts_with([' ', '\t', '\n'])
            && let Some(most) = functions::arity(name)
        {
            let arguments = text::arguments(rest.trim_start(), open, most);
            return self.function(name, &arguments, out);
        }
        if !inner.contains(['$', ':']) {
            return self.variable(inner, out);
        }
        let name = self.expand(inner)?;
        if let Some(mark) = text::unknown(&name) {
            out.push_str(mark);
        } else if name.split_once(':').is_some_and(|(_, suffixes)| suffixes.contains('=')) {
            out.push_str(&self.mark(format!("because $({name}) is a substitution, which is not evaluated"))?);
        } else {
            self.variable(&name, out)?;
        }
        Ok(())
    }

    /// The value from a `foreach` or `call` that hides a variable of this name.
    fn hidden(&self, name: &str) -> Option<Rc<str>> {
        let number = name.parse::<usize>().ok();
        self.scopes.iter().rev().find_map(|scope| match scope {
            Scope::Named(named, value) => (named == name).then(|| Rc::clone(value)),
            Scope::Arguments(arguments) => {
                number.map(|number| arguments.get(number).cloned().unwrap_or_else(|| "".into()))
            }
        })
    }

    fn variable(&mut self, name: &str, out: &mut String) -> Result<(), DependsError> {
        if let Some(value) = self.hidden(name) {
            out.push_str(&value);
            return self.work(value.len());
        }
        let Some(Variable { value, recursive, place, .. }) = self.variables.get(name) else {
            return Ok(());
        };
        let value = Rc::clone(value);
        if !recursive {
            out.push_str(&value);
            return self.work(value.len());
        }
        let from = std::mem::replace(&mut self.place, place.clone());
        self.expand_into(&value, out)?;
        self.place = from;
        Ok(())
    }

    fn function(&mut self, name: &str, arguments: &[&str], out: &mut String) -> Result<(), DependsError> {
        match name {
            "if" => {
                let [condition, branches @ ..] = arguments else { return Ok(()) };
                let condition = self.expand(condition.trim())?;
                if let Some(mark) = text::unknown(&condition) {
                    return self.either(branches, mark, out);
                }
                let branch = branches.get(usize::from(condition.is_empty()));
                branch.map_or(Ok(()), |branch| self.expand_into(branch, out))
            }
            "or" | "and" => {
                let mut value = String::new();
                for (at, argument) in arguments.iter().enumerate() {
                    value = self.expand(argument.trim())?;
                    if let Some(mark) = text::unknown(&value) {
                        return self.either(&arguments[at + 1..], mark, out);
                    }
                    if value.is_empty() == (name == "and") {
                        break;
                    }
                }
                out.push_str(&value);
                Ok(())
            }
            "foreach" => self.foreach(arguments, out),
            "call" => self.call(arguments, out),
            "eval" => {
                let text = self.expand(arguments.first().copied().unwrap_or_default())?;
                let place = self.place.clone();
                self.enter()?;
                self.read(&text, false)?;
                self.leave();
                self.place = place;
                Ok(())
            }
            _ => {
                let arguments =
                    arguments.iter().map(|argument| self.expand(argument)).collect::<Result<Vec<_>, _>>()?;
                self.work(functions::cost(name, &arguments))?;
                let known = match (arguments.iter().find_map(|argument| text::unknown(argument)), name) {
                    (Some(mark), _) => mark.to_owned(),
                    (None, "origin") => self.origin(arguments[0].trim()).to_owned(),
                    (None, "shell") => self.mark("because only a shell can compute it")?,
                    (None, _) => match functions::pure(name, &arguments) {
                        Some(value) => value,
                        None => self.mark(format!("because the function {name} is not evaluated"))?,
                    },
                };
                out.push_str(&known);
                Ok(())
            }
        }
    }

    fn origin(&self, name: &str) -> &'static str {
        match self.variables.get(name) {
            Some(variable) if variable.given => "command line",
            Some(_) => "file",
            None => "undefined",
        }
    }

    /// The result of a choice between `branches` that cannot be made. It is an unknown text, or an error if a branch
    /// may set a variable.
    fn either(&self, branches: &[&str], mark: &str, out: &mut String) -> Result<(), DependsError> {
        if branches.iter().any(|branch| branch.contains("eval") || branch.contains("call")) {
            return Err(self.refuse("whether something is set", mark));
        }
        out.push_str(mark);
        Ok(())
    }

    fn foreach(&mut self, arguments: &[&str], out: &mut String) -> Result<(), DependsError> {
        let [name, list, body] = arguments else {
            return Err(self.place.error("foreach needs a name, a list and a text"));
        };
        let (name, list) = (self.expand(name)?.trim().to_owned(), self.expand(list)?);
        if let Some(mark) = text::unknown(&list) {
            return self.either(&[body], mark, out);
        }
        for (at, word) in list.split_whitespace().enumerate() {
            if at > 0 {
                out.push(' ');
            }
            self.scopes.push(Scope::Named(name.clone(), word.into()));
            self.expand_into(body, out)?;
            self.scopes.pop();
        }
        Ok(())
    }

    fn call(&mut self, arguments: &[&str], out: &mut String) -> Result<(), DependsError> {
        let arguments =
            arguments.iter().map(|argument| self.expand(argument)).collect::<Result<Vec<_>, _>>()?;
        let [name, given @ ..] = arguments.as_slice() else { return Ok(()) };
        let name = name.trim();
        if let Some(mark) = text::unknown(name) {
            return Err(self.refuse("which function is called", mark));
        }
        let Some(Variable { value, .. }) = self.variables.get(name) else {
            if functions::arity(name).is_some() {
                out.push_str(&self.mark(format!("because calling the function {name} is not evaluated"))?);
            }
            return Ok(());
        };
        if name == "fetch_file" {
            // Only the call's arguments matter here, not how the function fetches.
            out.extend([FETCH]);
            out.push_str(&given.join(&PART.to_string()));
            out.extend([FETCH]);
            return Ok(());
        }
        let value = Rc::clone(value);
        self.scopes
            .push(Scope::Arguments(arguments.iter().map(|argument| argument.as_str().into()).collect()));
        self.expand_into(&value, out)?;
        self.scopes.pop();
        Ok(())
    }
}
