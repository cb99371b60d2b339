//! Signing a browser in and out: a token of this API in a cookie that no script can read.
//!
//! The cookie's value is the token, so nothing else has to be remembered, a token that is revoked
//! is good for nothing here as well, and a coordinator that starts anew knows who is there. Its name
//! has the farm in it, because browsers share cookies between the ports of a host.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use grange_protocol::client::Role;
use grange_protocol::connect::parse_token;
use grange_protocol::shot::Label;
use grange_scheduler::{Answer, Event, TokenHash};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::Told;
use super::gate::Caller;
use super::openapi::Problems;
use super::{Api, Problem};

/// How long a browser that followed a link stays signed in.
const LINK_TTL_MS: u64 = 7 * 24 * 3600 * 1_000;
/// In the names of tokens that were made for browsers, before a few digits.
const MADE_FOR_BROWSER: &str = " (browser ";

/// What a person has to show.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub(super) enum Shown {
    /// A token, or the whole connect string that it is in.
    Token(String),
    /// What stands in a link of `grange dashboard`.
    Link(String),
}

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Me {
    name: Label,
    role: Role,
}

/// Whose token this is, and what it may do
#[utoipa::path(
    get, path = "/api/v1/me", operation_id = "me", tag = "tokens",
    responses((status = 200, body = Me), Problems),
)]
pub(super) async fn me(Extension(caller): Extension<Caller>) -> Json<Me> {
    Json(Me { name: caller.name, role: caller.role })
}

/// Signs in, and answers who that is.
pub(super) async fn sign_in(
    State(api): State<Api>,
    Told(shown): Told<Shown>,
) -> Result<Response, Problem> {
    let secret = match shown {
        Shown::Token(text) => token_shown(&text)?,
        Shown::Link(text) => follow(&api, &text).await?,
    };
    let token = TokenHash::of(&secret);
    let look = api.shared.farm.look(move |farm| {
        let known = farm.core.api_token(token, farm.now())?;
        let left_s = known.expires_at.0.saturating_sub(farm.now().0) / 1_000;
        Some((Me { name: known.name.clone(), role: known.role }, left_s))
    });
    let (me, left_s) = look.await?.ok_or_else(unknown)?;
    let value: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let cookie = cookie(&api, &value, left_s)?;
    Ok(([(header::SET_COOKIE, cookie)], Json(me)).into_response())
}

/// Signs out. A token that was made for this browser is good for nothing any more.
pub(super) async fn sign_out(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Some(token) = token_of(&api, &headers) {
        let look =
            api.shared.farm.look(move |farm| Some(farm.core.api_token(token, farm.now())?.clone()));
        let known = look.await?.filter(|token| token.name.as_str().contains(MADE_FOR_BROWSER));
        if let Some(token) = known {
            let name = token.name;
            api.shared.farm.ask(move |request| Event::RevokeApiToken { request, name }).await?;
        }
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie(&api, "", 0)?)]).into_response())
}

/// The token that the request's cookie has.
pub(super) fn token_of(api: &Api, headers: &HeaderMap) -> Option<TokenHash> {
    token_in(&api.cookie, headers)
}

/// The token in the cookie of that name.
pub(super) fn token_in(name: &str, headers: &HeaderMap) -> Option<TokenHash> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.split_once('='));
    let value = pairs.find(|(known, _)| known.trim() == name)?.1;
    parse_token(value.trim()).map(|secret| TokenHash::of(&secret))
}

/// What the farm's cookie is called; browsers take a name with this prefix only if it is secure and
/// the host's own.
pub(super) fn cookie_name(ca: &[u8; 32]) -> String {
    let farm: String = ca[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("__Host-grange-{farm}")
}

/// Makes a token for whoever has followed a link.
async fn follow(api: &Api, text: &str) -> Result<[u8; 16], Problem> {
    let now = api.shared.farm.look(|farm| farm.now()).await?;
    let link = parse_token(text.trim()).and_then(|secret| api.shared.links.take(&secret, now));
    let Some((who, role)) = link else {
        return Err(Problem::unauthorised(
            "the link is unknown, has been used, or is older than five minutes: ask for another \
             with `grange dashboard`",
        ));
    };
    let mut random = [0; 20];
    getrandom::fill(&mut random).map_err(|_| Problem::unexpected())?;
    let mut secret = [0; 16];
    secret.copy_from_slice(&random[..16]);
    let digits: String = random[16..].iter().map(|byte| format!("{byte:02x}")).collect();
    let who: String = who.as_str().chars().take(100).collect();
    let name = format!("{who}{MADE_FOR_BROWSER}{digits})");
    let name: Label = name.parse().map_err(|_| Problem::unexpected())?;
    let (token, expires_at) = (TokenHash::of(&secret), now + LINK_TTL_MS);
    let make = move |request| Event::CreateApiToken { request, token, name, role, expires_at };
    match api.shared.farm.ask(make).await? {
        Answer::Refused(refusal) => Err(refusal.into()),
        _ => Ok(secret),
    }
}

fn cookie(api: &Api, value: &str, max_age_s: u64) -> Result<HeaderValue, Problem> {
    let name = &api.cookie;
    let text =
        format!("{name}={value}; Max-Age={max_age_s}; Path=/; Secure; HttpOnly; SameSite=Strict");
    HeaderValue::from_str(&text).map_err(|_| Problem::unexpected())
}

/// What a person has pasted: a token, or a connect string.
pub(super) fn token_shown(text: &str) -> Result<[u8; 16], Problem> {
    parse_token(bare(text)).ok_or_else(unknown)
}

/// The token in a connect string.
fn bare(text: &str) -> &str {
    let text = text.trim();
    let text = text.strip_prefix("grange+https://").unwrap_or(text);
    text.split_once('@').map_or(text, |(token, _)| token)
}

fn unknown() -> Problem {
    Problem::unauthorised(
        "the token is unknown, has expired or was revoked: ask the farm's admin for a new one \
         (`grange token create --api`), or for a link (`grange dashboard`)",
    )
}
