//! What is kept of an upstream's way in: how it asks, and tokens that are still good.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hab_outbound::{Authorization, TokenService};

/// Repositories whose tokens are kept; when there are more, all are got again.
const MOST: usize = 1000;

/// What was asked for, and what there is to be sent.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    /// By scope, and until when it is good. Held for a map operation only.
    good: Mutex<HashMap<String, (Shown, Instant)>>,
    /// How this upstream asks: of one more repository no question is needed to know. Held for a copy only.
    asks: Mutex<Option<Way>>,
    /// Whoever gets a token; the others wait for it.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

/// What is shown to the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) authorization: Authorization,
    /// It is a token that anybody would have got.
    pub(crate) anonymous: bool,
}

/// A way in that this upstream offered and that is taken.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// The password goes to the upstream itself.
    Basic,
    /// A token does.
    Bearer { service: TokenService, name: Option<String> },
}

impl Tokens {
    pub(crate) fn get(&self, scope: &str) -> Option<Shown> {
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.get(scope).filter(|(_, until)| *until > Instant::now()).map(|(shown, _)| shown.clone())
    }

    pub(crate) fn put(&self, scope: &str, shown: Shown, time: Duration) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        good.retain(|_, (_, until)| *until > now);
        if good.len() >= MOST {
            good.clear();
        }
        good.insert(scope.to_owned(), (shown, now + time));
    }

    pub(crate) fn forget(&self, scope: &str) {
        self.good.lock().unwrap_or_else(PoisonError::into_inner).remove(scope);
    }

    /// How it asked before.
    pub(crate) fn asks(&self) -> Option<Way> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn remember(&self, way: Option<Way>) {
        *self.asks.lock().unwrap_or_else(PoisonError::into_inner) = way;
    }
}
