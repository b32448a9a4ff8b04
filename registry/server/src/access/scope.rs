//! The scopes that a client asks a token for: `repository:NAME:pull,push` (the distribution project's token
//! specification, "Requesting a Token").

use hab_oci::RepositoryName;

use super::rules::Action;

/// The most repositories of one token; clients ask for one, or for two when they mount a blob.
pub(crate) const MOST: usize = 64;

/// A repository, and the actions that are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) repository: RepositoryName,
    pub(crate) actions: Vec<Action>,
}

/// The scope of the list of repositories, in a challenge and in a request.
pub(crate) const CATALOG: &str = "registry:catalog:*";

/// Whether a text asks for the list of repositories.
pub(crate) fn names_catalog(text: &str) -> bool {
    text.split(' ').any(|scope| scope == CATALOG)
}

impl Scope {
    /// Parses any number of scopes, separated by spaces. Skips scopes that name no repository, and unknown actions, as
    /// the specification demands: the client learns what its token lacks when it uses the token.
    pub(crate) fn all_of(text: &str) -> impl Iterator<Item = Self> + '_ {
        text.split(' ').filter_map(Self::of)
    }

    fn of(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("repository:")?;
        let (name, words) = rest.rsplit_once(':')?;
        let mut actions: Vec<Action> = Vec::new();
        for word in words.split(',') {
            match word {
                "*" => actions = Action::ALL.to_vec(),
                _ => actions.extend(word.parse::<Action>().ok().filter(|action| !actions.contains(action))),
            }
        }
        Some(Self { repository: name.parse().ok()?, actions })
    }

    /// The scope as a challenge writes it.
    pub(crate) fn said(repository: &RepositoryName, action: Action) -> String {
        // A client that pushes also asks what is there already.
        let words = if action == Action::Push { "pull,push" } else { action.word() };
        format!("repository:{repository}:{words}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scopes_are_read_as_clients_write_them() {
        let read = |text: &str| {
            let said = |scope: Scope| (scope.repository.to_string(), scope.actions);
            Scope::all_of(text).map(said).collect::<Vec<_>>()
        };
        let a = |actions: &[Action]| vec![("a/b".to_owned(), actions.to_vec())];
        assert_eq!(read("repository:a/b:pull"), a(&[Action::Pull]));
        assert_eq!(read("repository:a/b:pull,push,pull"), a(&[Action::Pull, Action::Push]));
        assert_eq!(read("repository:a/b:*"), a(&Action::ALL));
        assert_eq!(read("repository:a/b:fly"), a(&[]));
        assert_eq!(read("repository:a:pull repository:b:push").len(), 2);
        for nothing in
            ["", "repository", "repository:a", "registry:catalog:*", "repository:A:pull", "repository::pull"]
        {
            assert_eq!(read(nothing), [], "{nothing}");
        }
    }

    #[test]
    fn the_list_of_repositories_is_a_scope_of_its_own() {
        for (text, named) in [
            ("registry:catalog:*", true),
            ("repository:a:pull registry:catalog:*", true),
            ("registry:catalog:pull", false),
            ("repository:catalog:*", false),
            ("", false),
        ] {
            assert_eq!(names_catalog(text), named, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_a_challenge_says_is_what_is_read(name in "[a-z]{1,9}(/[a-z]{1,9}){0,3}", n in 0usize..3) {
            let (name, action): (RepositoryName, _) = (name.parse().unwrap(), Action::ALL[n]);
            let read: Vec<_> = Scope::all_of(&Scope::said(&name, action)).collect();
            prop_assert_eq!(read.len(), 1);
            prop_assert!(read[0].repository == name && read[0].actions.contains(&action));
        }

        #[test]
        fn scopes_from_outside_never_panic(text in "(repository)?[:a-z,* /]{0,60}") {
            let _ = Scope::all_of(&text).count();
        }
    }
}
