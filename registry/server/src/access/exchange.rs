//! `/v2/token`: who shows an account gets a token for what they ask and may (the distribution project's token
//! specification, and its OAuth2 form for clients that post).

use axum::Json;
use axum::extract::Request;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use hab_store::Pattern;
use serde::Serialize;
use tokio::time::timeout;

use super::Guard;
use super::caller::{Answer, Caller, Proof, Refused};
use super::challenge;
use super::credentials::Credentials;
use super::issued::{Claims, Shown};
use super::limit::Who;
use super::peer::{Client, Peer};
use super::rules::{Action, Grant};
use super::scope::{MOST, Scope, names_catalog};
use crate::Registry;
use crate::body;
use crate::clock::now;
use crate::error::Error;

/// Below `/v2/`, so that whatever stands before this service and lets the registry through lets this through.
pub(crate) const PATH: &str = "/v2/token";

/// Seconds that a token is worth something. Clients take 60 where they are not told.
const LIFE: i64 = 300;
/// Bytes of a posted form.
const FORM: usize = 64 * 1024;

#[derive(Serialize)]
struct Answered {
    token: String,
    access_token: String,
    expires_in: i64,
    issued_at: String,
}

/// What is asked for, and by whom.
struct Asked {
    shown: Credentials,
    scopes: Vec<Scope>,
    /// The list of repositories, too.
    catalog: bool,
}

pub(crate) async fn exchange(
    registry: &Registry,
    request: Request,
    client: &mut Client,
) -> Result<Response, Error> {
    let Some(guard) = &registry.guard else { return Err(Error::NoEndpoint) };
    let peer = Peer::of(request.extensions());
    let asked = match *request.method() {
        Method::GET | Method::HEAD => {
            asked(Credentials::of(request.headers()), request.uri().query().unwrap_or_default().as_bytes())
        }
        // As a whole, so that nobody who is not known yet can send it byte by byte.
        Method::POST => match timeout(registry.limits.idle, posted(registry, request)).await {
            Ok(posted) => posted?,
            Err(_) => return Err(Error::Stalled),
        },
        _ => return Err(Error::Method("GET, HEAD, POST")),
    };
    let found = guard.identify(asked.shown, &peer, registry.tls.as_deref(), now()).await;
    client.name = found.as_ref().ok().and_then(|caller| caller.name().cloned());
    if let Some(limiter) = &registry.limiter {
        let who = client.name.as_ref().map_or_else(|| Who::at(peer.address), Who::Account);
        limiter.take(&who).map_err(|wait| Error::TooMany { wait })?;
    }
    let caller = found.map_err(|refused| match refused {
        Refused::Show(problem) => Error::Unauthorized { challenge: challenge::basic(), problem },
        Refused::Wait(wait) => Error::TooMany { wait },
    })?;
    let claims = guard.claims(&caller, &asked.scopes, asked.catalog, now())?;
    let token = claims.sign(&guard.key);
    let issued = jiff::Timestamp::from_second(claims.issued).unwrap_or_default();
    let answered = Answered {
        access_token: token.clone(),
        token,
        expires_in: claims.expires - claims.issued,
        issued_at: issued.to_string(),
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answered)).into_response())
}

fn asked(shown: Credentials, query: &[u8]) -> Asked {
    let (mut scopes, mut catalog) = (Vec::new(), false);
    for (name, value) in form_urlencoded::parse(query) {
        if name == "scope" {
            scopes.extend(Scope::all_of(&value));
            catalog |= names_catalog(&value);
        }
    }
    scopes.truncate(MOST);
    Asked { shown, scopes, catalog }
}

async fn posted(registry: &Registry, request: Request) -> Result<Asked, Error> {
    let bytes = body::read(request.into_body(), FORM, registry.limits.idle).await;
    let bytes = bytes.map_err(|error| match error {
        Error::ManifestTooLarge { limit } => Error::FormTooLarge { limit },
        other => other,
    })?;
    let value = |wanted: &str| {
        let mut pairs = form_urlencoded::parse(&bytes);
        pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
    };
    let shown = match value("grant_type").as_deref() {
        Some("password") => Credentials::Basic {
            name: value("username").unwrap_or_default(),
            password: value("password").unwrap_or_default(),
        },
        // Clients that were given a token instead of a password send it so.
        Some("refresh_token") => Credentials::Bearer(value("refresh_token").unwrap_or_default()),
        _ => return Err(Error::GrantType),
    };
    Ok(asked(shown, &bytes))
}

impl Guard {
    fn claims(&self, caller: &Caller, scopes: &[Scope], catalog: bool, now: i64) -> Result<Claims, Error> {
        let held = caller.claims();
        // Who shows an issued token gets no more and no longer from it.
        let Proof { version, certificate, until } = caller.proof().clone();
        let most = until.map_or(now + LIFE, |until| until.min(now + LIFE));
        let expires = held.map_or(most, |held| held.expires.min(most));
        let id = match held {
            Some(held) => held.id,
            None => Claims::fresh_id().map_err(Error::Access)?,
        };
        let grants = match held {
            Some(held) if caller.shown() == Shown::Operator => held.grants.clone(),
            _ => scopes.iter().filter_map(|scope| self.grant(caller, scope)).collect(),
        };
        let catalog = catalog && held.is_none_or(|held| held.catalog);
        let (name, shown) = (caller.name().cloned(), caller.shown());
        Ok(Claims { name, shown, id, issued: now, expires, grants, catalog, version, certificate })
    }

    /// What of a scope the caller may; what they may not is left out, and told when they try.
    fn grant(&self, caller: &Caller, scope: &Scope) -> Option<Grant> {
        let name = scope.repository.as_str();
        let may = |action: &Action| caller.may(&self.rules, name, *action) == Answer::Yes;
        let actions: Vec<Action> = scope.actions.iter().copied().filter(may).collect();
        // A repository's name has nothing in it that a pattern could not.
        let repository: Pattern = name.parse().ok()?;
        (!actions.is_empty()).then_some(Grant { repository, actions })
    }
}
