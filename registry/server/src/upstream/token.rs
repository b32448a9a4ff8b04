//! What is sent so that an upstream answers: a password, or tokens that its token service gives (distribution's token
//! authentication specification).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::header::AUTHORIZATION;
use serde::Deserialize;

use super::challenge::Challenge;
use super::client::{Client, Failure};

/// The largest answer of a token service, in bytes.
const LARGEST: usize = 64 << 10;
/// Repositories whose tokens are kept; when there are more, all are got again.
const MOST: usize = 1000;
/// For how long a password is sent unasked.
const PASSWORD: Duration = Duration::from_secs(3600);

/// What was asked for, and what there is to be sent.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// `Authorization` by scope, and until when it is good. Held for a map operation only.
    good: Mutex<HashMap<String, (String, Instant)>>,
    /// How this upstream asks: of one more repository no question is needed to know. Held for a copy only.
    asks: Mutex<Option<Challenge>>,
    /// Whoever gets a token; the others wait for it.
    turn: tokio::sync::Mutex<()>,
}

/// What a token service sends. Some call it by the one name, some by the other.
#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Tokens {
    pub(super) fn get(&self, scope: &str) -> Option<String> {
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.get(scope).filter(|(_, until)| *until > Instant::now()).map(|(text, _)| text.clone())
    }

    fn put(&self, scope: &str, authorization: String, time: Duration) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        good.retain(|_, (_, until)| *until > now);
        if good.len() >= MOST {
            good.clear();
        }
        good.insert(scope.to_owned(), (authorization, now + time));
    }

    /// How it asked before; the scope is another one now.
    pub(super) fn asks(&self) -> Option<Challenge> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn remember(&self, challenge: Option<&Challenge>) {
        let any = challenge.cloned().map(Challenge::for_any_scope);
        *self.asks.lock().unwrap_or_else(PoisonError::into_inner) = any;
    }
}

impl Client {
    /// Gets what is asked for, to be sent with the next request; `refused` is what was sent in vain.
    pub(super) async fn meet(
        &self,
        challenge: Challenge,
        scope: &str,
        refused: Option<&str>,
    ) -> Result<(), Failure> {
        let _turn = self.tokens.turn.lock().await;
        if self.tokens.get(scope).is_some_and(|text| Some(text.as_str()) != refused) {
            return Ok(());
        }
        let user = self.config.username.as_ref().zip(self.config.password.as_ref());
        let (authorization, time) = match challenge.clone() {
            Challenge::Basic => {
                let (name, password) = user.ok_or(Failure::Absent)?;
                let probe = self.http.get(&self.config.url).basic_auth(name, Some(password)).build();
                let header =
                    probe.ok().and_then(|r| r.headers().get(AUTHORIZATION)?.to_str().ok().map(str::to_owned));
                (header.ok_or(Failure::Absent)?, PASSWORD)
            }
            Challenge::Bearer { realm, service, scope: said } => {
                // A password must not go where the upstream itself would not be asked.
                if self.config.url.starts_with("https://") && !realm.starts_with("https://") {
                    return Err(Failure::Wrong("its token service is not https".to_owned()));
                }
                let mut query = vec![("scope", said.unwrap_or_else(|| scope.to_owned()))];
                query.extend(service.map(|service| ("service", service)));
                let url = reqwest::Url::parse_with_params(&realm, &query)
                    .map_err(|_| Failure::Wrong("its token service has no address".to_owned()))?;
                let mut request = self.http.get(url);
                if let Some((name, password)) = user {
                    request = request.basic_auth(name, Some(password));
                }
                self.granted(request).await?
            }
        };
        self.tokens.put(scope, authorization, time);
        self.tokens.remember(Some(&challenge));
        Ok(())
    }

    async fn granted(&self, request: reqwest::RequestBuilder) -> Result<(String, Duration), Failure> {
        let response = request.send().await.map_err(|e| self.away(&e))?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::TOO_MANY_REQUESTS => {
                self.rest.begin_as_asked(response.headers(), self.config.patience.rest);
                return Err(Failure::Away("its token service limits how often it is asked".to_owned()));
            }
            status if status.is_server_error() => {
                self.rest.begin_as_asked(response.headers(), self.config.patience.rest);
                return Err(Failure::Away(format!("its token service answered {status}")));
            }
            _ => return Err(Failure::Absent),
        }
        let none = || Failure::Wrong("its token service sent no token".to_owned());
        let granted: Granted =
            serde_json::from_slice(&self.whole(response, LARGEST).await?).map_err(|_| none())?;
        let text = granted.token.or(granted.access_token).ok_or_else(none)?;
        // The token specification's default is a minute.
        let time = Duration::from_secs(granted.expires_in.unwrap_or(60).clamp(10, 3600) - 5);
        Ok((format!("Bearer {text}"), time))
    }
}
