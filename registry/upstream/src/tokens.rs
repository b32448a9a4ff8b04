//! What is remembered about authenticating to an upstream: the way, and tokens that are still valid.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hab_outbound::{Authorization, TokenService};

/// The most repositories whose tokens are remembered; beyond this, all are forgotten and fetched again.
const MOST: usize = 1000;

/// The way to authenticate to an upstream, and the credentials to send.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    /// Credentials by scope, and until when they are valid. Held for a map operation only.
    good: Mutex<HashMap<String, (SentCredentials, Instant)>>,
    /// The way that this upstream wants, so that a further repository needs no request to learn it. Held for a copy
    /// only.
    asks: Mutex<Option<AuthMethod>>,
    /// Held by the request that gets a token; the others wait for it.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

/// Credentials for the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SentCredentials {
    pub(crate) authorization: Authorization,
    /// It is a token that was got without an account.
    pub(crate) anonymous: bool,
}

/// A way to authenticate, chosen from those that the upstream offers.
#[derive(Clone, Debug)]
pub(crate) enum AuthMethod {
    /// The password goes to the upstream itself.
    Basic,
    /// A token goes to the upstream.
    Bearer { service: TokenService, name: Option<String> },
}

impl Tokens {
    pub(crate) fn get(&self, scope: &str) -> Option<SentCredentials> {
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.get(scope).filter(|(_, until)| *until > Instant::now()).map(|(shown, _)| shown.clone())
    }

    pub(crate) fn put(&self, scope: &str, shown: SentCredentials, time: Duration) {
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

    /// The way that the upstream wanted before.
    pub(crate) fn asks(&self) -> Option<AuthMethod> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn remember(&self, way: Option<AuthMethod>) {
        *self.asks.lock().unwrap_or_else(PoisonError::into_inner) = way;
    }
}
