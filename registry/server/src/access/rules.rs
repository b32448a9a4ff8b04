//! Which accounts may do what in which repositories. Pure.

use std::str::FromStr;

use hab_store::Pattern;
use serde::{Deserialize, Serialize};

use super::account::{Account, AccountError};
use super::error::AccessError;

/// What can be done in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Reading: manifests, blobs, tags, referrers.
    Pull,
    /// Writing: uploads, manifests, tags; also asking for the state of an upload, and cancelling it.
    Push,
    /// Deleting tags, manifests and blobs.
    Delete,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|action| action.word() == text);
        found.ok_or_else(|| format!("{text:?} is not pull, push or delete"))
    }
}

/// Actions that are allowed in some repositories.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The names of the repositories.
    pub repository: Pattern,
    /// What may be done there.
    pub actions: Vec<Action>,
}

impl Grant {
    pub(crate) fn covers(&self, repository: &str, action: Action) -> bool {
        self.actions.contains(&action) && self.repository.matches(repository)
    }
}

/// Who a rule is for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Who {
    /// `anonymous`: everybody, with or without an account, so that logging in never takes a permission away.
    Everybody,
    /// `any`: every account.
    Accounts,
    /// One account.
    Account(Account),
}

impl TryFrom<String> for Who {
    type Error = AccountError;

    fn try_from(text: String) -> Result<Self, AccountError> {
        match text.as_str() {
            "anonymous" => Ok(Self::Everybody),
            "any" => Ok(Self::Accounts),
            name => name.parse().map(Self::Account),
        }
    }
}

/// Allows some accounts some actions in some repositories.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// Who: `anonymous`, `any`, or the names of accounts.
    pub who: Vec<Who>,
    /// In which repositories; `*` is any run of characters. All of them if this is left out.
    #[serde(default = "everywhere")]
    pub repositories: Vec<Pattern>,
    /// What they may do.
    pub actions: Vec<Action>,
}

fn everywhere() -> Vec<Pattern> {
    vec![Pattern::all()]
}

impl AccessRule {
    /// Whether every list has an entry: an empty list is a mistake, whatever was meant.
    fn is_whole(&self) -> bool {
        !self.who.is_empty() && !self.repositories.is_empty() && !self.actions.is_empty()
    }

    /// Whether it allows everybody to push or delete.
    pub fn lets_everybody_write(&self) -> bool {
        self.who.contains(&Who::Everybody)
            && self.actions.iter().any(|action| matches!(action, Action::Push | Action::Delete))
    }
}

/// All access rules. Whatever no rule allows is refused.
#[derive(Clone, Debug)]
pub(crate) struct Rules(Vec<AccessRule>);

impl Rules {
    /// Without any rule, everybody may pull, and every account may do everything.
    pub(crate) fn new(rules: Vec<AccessRule>) -> Result<Self, AccessError> {
        if let Some(at) = rules.iter().position(|rule| !rule.is_whole()) {
            return Err(AccessError::Rule(at + 1));
        }
        if !rules.is_empty() {
            return Ok(Self(rules));
        }
        let rule = |who, actions: &[Action]| AccessRule {
            who: vec![who],
            repositories: everywhere(),
            actions: actions.to_vec(),
        };
        Ok(Self(vec![rule(Who::Everybody, &[Action::Pull]), rule(Who::Accounts, &Action::ALL)]))
    }

    /// Whether an account may do this; `None` is a caller without an account.
    pub(crate) fn allow(&self, who: Option<&Account>, repository: &str, action: Action) -> bool {
        let meant = |one: &Who| match one {
            Who::Everybody => true,
            Who::Accounts => who.is_some(),
            Who::Account(name) => who == Some(name),
        };
        self.0.iter().any(|rule| {
            rule.actions.contains(&action)
                && rule.who.iter().any(meant)
                && rule.repositories.iter().any(|pattern| pattern.matches(repository))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(who: &[&str], repositories: &[&str], actions: &[&str]) -> AccessRule {
        serde_json::from_value(serde_json::json!({
            "who": who, "repositories": repositories, "actions": actions,
        }))
        .unwrap()
    }

    #[test]
    fn without_rules_everybody_pulls_and_accounts_do_everything() {
        let rules = Rules::new(Vec::new()).unwrap();
        let alice = "alice".parse().unwrap();
        for action in Action::ALL {
            assert_eq!(rules.allow(None, "a/b", action), action == Action::Pull);
            assert!(rules.allow(Some(&alice), "a/b", action));
        }
    }

    #[test]
    fn with_rules_only_what_one_of_them_says_is_allowed() {
        let rules = Rules::new(vec![
            rule(&["anonymous"], &["public/*"], &["pull"]),
            rule(&["any"], &["team/*"], &["pull"]),
            rule(&["ci", "bob"], &["team/*", "hab/x"], &["push", "delete"]),
        ])
        .unwrap();
        let (ci, eve) = ("ci".parse().unwrap(), "eve".parse().unwrap());
        for (who, repository, action, allowed) in [
            (None, "public/a", Action::Pull, true),
            (None, "public/a", Action::Push, false),
            (None, "team/a", Action::Pull, false),
            (None, "public", Action::Pull, false),
            (Some(&eve), "public/a", Action::Pull, true),
            (Some(&eve), "team/a", Action::Pull, true),
            (Some(&eve), "team/a", Action::Push, false),
            (Some(&ci), "team/a/b", Action::Push, true),
            (Some(&ci), "hab/x", Action::Delete, true),
            (Some(&ci), "hab/x", Action::Pull, false),
            (Some(&ci), "hab/xy", Action::Push, false),
        ] {
            assert_eq!(rules.allow(who, repository, action), allowed, "{who:?} {repository} {action:?}");
        }
    }

    #[test]
    fn a_rule_with_an_empty_list_is_refused_by_its_number() {
        let whole = rule(&["any"], &["*"], &["pull"]);
        for empty in
            [rule(&[], &["*"], &["pull"]), rule(&["any"], &[], &["pull"]), rule(&["any"], &["*"], &[])]
        {
            assert!(matches!(Rules::new(vec![whole.clone(), empty]), Err(AccessError::Rule(2))));
        }
        let short = serde_json::json!({ "who": ["any"], "actions": ["pull"] });
        assert_eq!(serde_json::from_value::<AccessRule>(short).unwrap(), whole, "all repositories");
        assert!(!whole.lets_everybody_write());
        assert!(!rule(&["any"], &["*"], &["push"]).lets_everybody_write());
        assert!(rule(&["any", "anonymous"], &["*"], &["pull", "delete"]).lets_everybody_write());
    }

    #[test]
    fn a_rule_for_nobody_real_is_refused_by_name() {
        for bad in ["", "a:b", "ä"] {
            let read: Result<Who, _> = bad.to_owned().try_into();
            assert!(read.is_err(), "{bad}");
        }
        let unknown = serde_json::json!({ "who": ["any"], "actions": ["pull"], "repository": "a" });
        assert!(serde_json::from_value::<AccessRule>(unknown).is_err());
    }
}
