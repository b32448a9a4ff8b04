//! Authenticates to an upstream: by a password, or by tokens of its token service (distribution's token authentication
//! specification). Both go to the configured origin, the password also to the accepted token service, and neither to
//! anybody else.

use std::time::Duration;

use hab_outbound::{Authorization, Known, Offer, Request, StatusCode, TokenService};
use serde::Deserialize;

use crate::client::Client;
use crate::failure::Failure;
use crate::pin::PinError;
use crate::tokens::{AuthMethod, SentCredentials};

/// The largest answer of a token service, in bytes.
const LARGEST: usize = 64 << 10;
/// How long a password is sent before the upstream asks for it.
const PASSWORD: Duration = Duration::from_secs(3600);

/// The answer of a token service. Some services call the token by the one name, some by the other.
#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Client {
    fn user(&self) -> Option<(&str, &str)> {
        self.config.username.as_deref().zip(self.config.password.as_deref())
    }

    /// Chooses how to authenticate, from what the upstream itself offers: by a token if its token service is accepted,
    /// so that the password is seldom sent, else by the password.
    pub(crate) async fn way(&self, offers: Vec<Offer>) -> Result<AuthMethod, Failure> {
        let pinned = self.pinned().await?;
        let known = match (&self.token_service, &pinned) {
            (Some(configured), _) => Known::Configured(configured),
            (None, Some(pinned)) => Known::Pinned(pinned),
            (None, None) => Known::Nothing,
        };
        let mut basic = false;
        let mut refused = None;
        for offer in offers {
            match offer {
                Offer::Basic => basic = true,
                Offer::Bearer { realm, service: name } => {
                    match TokenService::accept(&self.origin, &realm, known) {
                        Ok(service) => return Ok(AuthMethod::Bearer { service, name }),
                        Err(why) => refused = refused.or(Some(why)),
                    }
                }
            }
        }
        match refused {
            _ if basic && self.user().is_some() => Ok(AuthMethod::Basic),
            Some(why) => Err(Failure::Wrong(why.to_string())),
            None if basic => {
                let sentence = "it asks for a user and a password, and none are configured";
                Err(Failure::denied(sentence, sentence))
            }
            None => {
                let sentence = "it asks for credentials of a kind that is not supported here";
                Err(Failure::denied(sentence, sentence))
            }
        }
    }

    /// Gets credentials to be sent with the next request; `refused` are those that were sent in vain.
    pub(crate) async fn meet(
        &self,
        way: AuthMethod,
        scope: &str,
        refused: Option<&SentCredentials>,
    ) -> Result<(), Failure> {
        let _turn = self.tokens.turn.lock().await;
        if self.tokens.get(scope).is_some_and(|shown| Some(&shown) != refused) {
            return Ok(());
        }
        let (shown, time) = self.obtain(&way, Some(scope)).await?;
        self.tokens.put(scope, shown, time);
        self.tokens.remember(Some(way));
        Ok(())
    }

    /// Gets the credentials for a way, and how long they are valid. The scope is always our own; the scope that the
    /// upstream names is not used.
    pub(crate) async fn obtain(
        &self,
        way: &AuthMethod,
        scope: Option<&str>,
    ) -> Result<(SentCredentials, Duration), Failure> {
        let cannot = |e| Failure::Wrong(format!("the configured credentials cannot be sent: {e}"));
        match (way, self.user()) {
            (AuthMethod::Basic, Some((name, password))) => {
                let basic = Authorization::basic(self.origin.clone(), name, password).map_err(cannot)?;
                Ok((SentCredentials { authorization: basic, anonymous: false }, PASSWORD))
            }
            (AuthMethod::Basic, None) => {
                let sentence = "it asks for a user and a password, and none are configured";
                Err(Failure::denied(sentence, sentence))
            }
            (AuthMethod::Bearer { service, name }, user) => {
                let mut request = Request::get(service.address(name.as_deref(), scope));
                request.named_by = service.named_by();
                // A redirect would lead to somebody whom the upstream did not name.
                request.follow = false;
                if let Some((user, password)) = user {
                    let basic = Authorization::basic(service.origin().clone(), user, password);
                    request.authorization = Some(basic.map_err(cannot)?);
                }
                let (token, time) = self.granted(service, &request).await?;
                let bearer = Authorization::bearer(self.origin.clone(), &token).map_err(|e| {
                    Failure::Wrong(format!("its token service sent no token that can be used: {e}"))
                })?;
                Ok((SentCredentials { authorization: bearer, anonymous: user.is_none() }, time))
            }
        }
    }

    async fn granted(
        &self,
        service: &TokenService,
        request: &Request,
    ) -> Result<(String, Duration), Failure> {
        let answer = self.http.send(request).await.map_err(|problem| self.failed(&problem))?;
        // The token service answered, so it is pinned from now on.
        self.pin(service).await?;
        match answer.status() {
            status if status.is_success() => {}
            StatusCode::TOO_MANY_REQUESTS => {
                let failure = Failure::away("its token service limits how often it is asked");
                self.rest.begin_as_asked(answer.headers(), self.config.patience.rest, &failure);
                return Err(failure);
            }
            status if status.is_server_error() => {
                let failure = Failure::away(format!("its token service answered {status}"));
                self.rest.begin_as_asked(answer.headers(), self.config.patience.rest, &failure);
                return Err(failure);
            }
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(self.not_granted(service, status));
            }
            status => return Err(Failure::Wrong(format!("its token service answered {status}"))),
        }
        let none = || Failure::Wrong("its token service sent no token".to_owned());
        let granted: Granted =
            serde_json::from_slice(&self.whole(answer, LARGEST).await?).map_err(|_| none())?;
        let filled = |text: &String| !text.is_empty();
        let text = granted.token.filter(filled).or(granted.access_token).ok_or_else(none)?;
        // The token specification's default is a minute.
        let time = Duration::from_secs(granted.expires_in.unwrap_or(60).clamp(10, 3600) - 5);
        Ok((text, time))
    }

    fn not_granted(&self, service: &TokenService, status: StatusCode) -> Failure {
        let at = service.origin();
        let Some((user, _)) = self.user() else {
            let sentence = "its token service gives no token to somebody without an account";
            return Failure::denied(sentence, format!("{sentence}: {at} answered {status}"));
        };
        let sentence = "its token service refuses the configured user and password";
        let failure =
            Failure::denied(sentence, format!("{sentence}: {at} answered {status} to user {user:?}"));
        if status == StatusCode::UNAUTHORIZED {
            // Some services lock an account after too many wrong passwords.
            self.rest.begin(self.config.patience.rest, &failure);
        }
        failure
    }

    /// The token service that the upstream named first.
    async fn pinned(&self) -> Result<Option<hab_outbound::Origin>, Failure> {
        if self.token_service.is_some() {
            return Ok(None);
        }
        let pin = self.pin.clone();
        let read = tokio::task::spawn_blocking(move || pin.get()).await;
        unpinned(read)
    }

    async fn pin(&self, service: &TokenService) -> Result<(), Failure> {
        if self.token_service.is_some() || self.pinned().await?.as_ref() == Some(service.origin()) {
            return Ok(());
        }
        let (pin, origin) = (self.pin.clone(), service.origin().clone());
        let kept = unpinned(tokio::task::spawn_blocking(move || pin.set(&origin)).await)?;
        let (upstream, origin) = (&self.config.name, service.origin());
        if kept != *origin {
            return Err(Failure::Wrong(format!(
                "it names the token service {origin}, but first it named {kept}"
            )));
        }
        tracing::warn!(
            "upstream {upstream} names the token service {origin}; from now on no other one is used for it, unless \
             token-service is configured"
        );
        Ok(())
    }
}

/// If the pin cannot be read or written, the right token service is unknown, and none is asked.
fn unpinned<T>(done: Result<Result<T, PinError>, tokio::task::JoinError>) -> Result<T, Failure> {
    let detail = match done {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(lost) => lost.to_string(),
    };
    Err(Failure::denied("the file that pins its token service cannot be used", detail))
}
