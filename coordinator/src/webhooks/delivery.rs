//! One attempt: a signed POST, and what the receiver made of it.
//!
//! Redirects are not followed: whoever moves tells the farm's admin. Of answers no more is read than
//! what a log can show.

use std::error::Error;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use axum::http::{HeaderMap, Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;

use super::event::Event;
use super::settings::Webhook;

/// From the first byte to the last, with the name's lookup.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of an answer.
const ANSWER_READ_MAX: usize = 4 << 10;
const ANSWER_SHOWN_MAX: usize = 200;
/// Whatever a receiver asks for, it is asked again after this.
const SPARED_MAX: Duration = Duration::from_secs(3_600);

/// Sends events. Clones share connections.
#[derive(Clone)]
pub(super) struct Client(HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// What came of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Taken(StatusCode),
    /// The receiver wants to hear nothing more.
    Gone,
    /// A sentence's end, and what the receiver asks to be spared.
    Failed(String, Option<Duration>),
}

impl Client {
    /// With the authorities that this host trusts, if any receiver is asked by HTTPS.
    pub(super) fn new<'a>(mut uris: impl Iterator<Item = &'a Uri>) -> anyhow::Result<Self> {
        let builder = HttpsConnectorBuilder::new();
        let is_secure = uris.any(|uri| uri.scheme_str() == Some("https"));
        let builder = if is_secure {
            builder.with_provider_and_native_roots(default_provider()).context(
                "webhooks by https need the certificates that this host trusts: install the package \
                 ca-certificates",
            )?
        } else {
            builder.with_tls_config(without_tls()?)
        };
        let connector = builder.https_or_http().enable_http1().build();
        Ok(Self(HyperClient::builder(TokioExecutor::new()).build(connector)))
    }

    pub(super) async fn send(&self, webhook: &Webhook, event: &Event) -> Outcome {
        match tokio::time::timeout(PATIENCE, self.attempt(webhook, event)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                Outcome::Failed(format!("did not answer within {} s", PATIENCE.as_secs()), None)
            }
        }
    }

    async fn attempt(&self, webhook: &Webhook, event: &Event) -> Outcome {
        // By the clock on the wall, with which the receiver compares it: the farm's own is never set.
        let now_s = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let request = Request::post(webhook.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("grange/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &event.id)
            .header("webhook-timestamp", now_s)
            .header("webhook-signature", webhook.secret.sign(&event.id, now_s, &event.body))
            .body(Full::new(Bytes::from(event.body.clone())));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Outcome::Failed(format!("cannot be asked: {error}"), None),
        };
        match self.0.request(request).await {
            Ok(answer) => {
                let (parts, body) = answer.into_parts();
                let text = Limited::new(body, ANSWER_READ_MAX).collect().await;
                let text = text.map(|text| text.to_bytes()).unwrap_or_default();
                judge(parts.status, &parts.headers, &text)
            }
            Err(error) => Outcome::Failed(format!("was not reached ({})", causes(&error)), None),
        }
    }
}

/// For addresses without TLS: nobody is trusted, and nobody is asked to be.
fn without_tls() -> anyhow::Result<tokio_rustls::rustls::ClientConfig> {
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};
    let config = ClientConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Ok(config)
}

fn judge(status: StatusCode, headers: &HeaderMap, text: &[u8]) -> Outcome {
    if status.is_success() {
        return Outcome::Taken(status);
    }
    if status == StatusCode::GONE {
        return Outcome::Gone;
    }
    let spared = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let spared = spared.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
    let spared = spared.map(|spared| spared.min(SPARED_MAX));
    let shown: String = String::from_utf8_lossy(text)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|char| !char.is_control())
        .take(ANSWER_SHOWN_MAX)
        .collect();
    let why = match status {
        status if status.is_redirection() => {
            let to = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            let to = to.unwrap_or("another address");
            format!("answered {status}: set its `url` to {to}, redirects are not followed")
        }
        status if shown.is_empty() => format!("answered {status}"),
        status => format!("answered {status}: {shown}"),
    };
    Outcome::Failed(why, spared)
}

/// All that errors say of their causes: hyper's own first line does not say what is wrong.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(
        status: StatusCode,
        header: Option<(header::HeaderName, &str)>,
        text: &str,
    ) -> (String, Option<u64>) {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(name, value.parse().unwrap());
        }
        match judge(status, &headers, text.as_bytes()) {
            Outcome::Failed(why, spared) => (why, spared.map(|spared| spared.as_secs())),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_are_taken_as_the_specification_says() {
        let judged = |status| judge(status, &HeaderMap::new(), b"");
        assert_eq!(judged(StatusCode::OK), Outcome::Taken(StatusCode::OK));
        assert_eq!(judged(StatusCode::NO_CONTENT), Outcome::Taken(StatusCode::NO_CONTENT));
        assert_eq!(judged(StatusCode::GONE), Outcome::Gone);
        let error = StatusCode::INTERNAL_SERVER_ERROR;
        let told = failed(error, None, "no\n\x1b[31m  luck");
        assert_eq!(told, ("answered 500 Internal Server Error: no [31m luck".into(), None));
        let moved = Some((header::LOCATION, "https://elsewhere/"));
        let (why, _) = failed(StatusCode::PERMANENT_REDIRECT, moved, "");
        assert!(why.contains("set its `url` to https://elsewhere/"), "{why}");
    }

    #[test]
    fn a_receiver_may_ask_to_be_spared_for_a_while() {
        let after =
            |text| failed(StatusCode::TOO_MANY_REQUESTS, Some((header::RETRY_AFTER, text)), "").1;
        assert_eq!(after("30"), Some(30));
        assert_eq!(after("100000"), Some(3_600));
        assert_eq!(after("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
