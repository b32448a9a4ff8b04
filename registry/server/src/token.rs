//! `/v2/token`: exchanges a client's credentials for a token that allows what the client asks for and may do (the
//! distribution project's token specification, and its OAuth2 form for clients that post).

use std::time::Duration;

use axum::Json;
use axum::extract::Request;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::timeout;

use crate::access::{Client, Credentials, Gate, Granted, Peer, TokenRequest};
use crate::body;
use crate::error::Error;

/// The most bytes of a posted form.
const FORM: usize = 64 * 1024;

#[derive(Serialize)]
struct TokenBody {
    token: String,
    access_token: String,
    expires_in: i64,
    issued_at: String,
}

/// `idle`: how long a client may take to post a form.
pub(crate) async fn exchange(
    gate: &Gate,
    idle: Duration,
    request: Request,
    client: &mut Client,
) -> Result<Response, Error> {
    let Some(issuer) = gate.issuer() else { return Err(Error::NoEndpoint) };
    let peer = Peer::of(request.extensions());
    let asked = match *request.method() {
        Method::GET | Method::HEAD => {
            let query = request.uri().query().unwrap_or_default().as_bytes();
            TokenRequest::of(Credentials::of(request.headers()), query)
        }
        // One time limit for the whole form, so that an unknown client cannot send it byte by byte.
        Method::POST => match timeout(idle, posted(request, idle)).await {
            Ok(posted) => posted?,
            Err(_) => return Err(Error::Stalled),
        },
        _ => return Err(Error::Method("GET, HEAD, POST")),
    };
    let Granted { token, issued, expires } = issuer.exchange(asked, &peer, client).await?;
    let issued_at = jiff::Timestamp::from_second(issued).unwrap_or_default().to_string();
    let answer = TokenBody { access_token: token.clone(), token, expires_in: expires - issued, issued_at };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

async fn posted(request: Request, idle: Duration) -> Result<TokenRequest, Error> {
    let bytes = body::read(request.into_body(), FORM, idle).await;
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
        // Clients that have a token instead of a password send it like this.
        Some("refresh_token") => Credentials::Bearer(value("refresh_token").unwrap_or_default()),
        _ => return Err(Error::GrantType),
    };
    Ok(TokenRequest::of(shown, &bytes))
}
