//! What `[[webhook]]` in the configuration says, and what is wrong with it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::http::Uri;
use grange_protocol::history::HistoryKind;
use serde::{Deserialize, Serialize};
use url::Url;

use super::event::KINDS;
use super::signing::Secret;

/// Receivers of one farm.
const WEBHOOKS_MAX: usize = 16;
/// Pauses between attempts, as the Standard Webhooks specification suggests them: 31 hours in all.
const RETRY_S: [u64; 7] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400];
const RETRIES_MAX: usize = 20;

/// One receiver, as the configuration has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    pub url: String,
    /// A file with the secret in it.
    pub secret_file: Option<PathBuf>,
    /// The secret itself.
    pub secret: Option<Hidden>,
    /// Of what it is told; all unless said.
    pub events: Option<Vec<String>>,
    /// Seconds between attempts; after the last one an event is given up.
    pub retry_s: Option<Vec<u64>>,
}

/// A text that no log shows.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

/// One receiver, checked.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    pub(crate) uri: Uri,
    /// The address without what may be secret in it, for logs and figures.
    pub(crate) name: String,
    pub(crate) secret: Secret,
    pub(crate) events: BTreeSet<HistoryKind>,
    pub(crate) pauses: Arc<[Duration]>,
}

/// Checks all, and reads their secrets.
pub(crate) fn checked(settings: &[WebhookSettings]) -> anyhow::Result<Vec<Webhook>> {
    anyhow::ensure!(
        settings.len() <= WEBHOOKS_MAX,
        "there are {} webhooks in the configuration: {WEBHOOKS_MAX} are the most",
        settings.len()
    );
    let mut webhooks: Vec<Webhook> = Vec::new();
    for one in settings {
        let webhook = one.check()?;
        anyhow::ensure!(
            webhooks.iter().all(|other| other.uri != webhook.uri),
            "the webhook {} is in the configuration twice: give one of them all its `events`",
            webhook.name
        );
        webhooks.push(webhook);
    }
    Ok(webhooks)
}

impl WebhookSettings {
    fn check(&self) -> anyhow::Result<Webhook> {
        let (uri, name) = self.address()?;
        let secret = self.secret(&name)?;
        let events = match &self.events {
            None => KINDS.into(),
            Some(names) => {
                anyhow::ensure!(
                    !names.is_empty(),
                    "the webhook {name} has no `events`: name some, or leave the line away for all"
                );
                names.iter().map(|event| kind(event, &name)).collect::<anyhow::Result<_>>()?
            }
        };
        let retry_s = self.retry_s.as_deref().unwrap_or(&RETRY_S);
        anyhow::ensure!(
            retry_s.len() <= RETRIES_MAX,
            "the webhook {name} has {} pauses in `retry_s`: {RETRIES_MAX} are the most",
            retry_s.len()
        );
        let pauses = retry_s.iter().map(|seconds| Duration::from_secs(*seconds)).collect();
        Ok(Webhook { uri, name, secret, events, pauses })
    }

    /// For requests, and for people.
    fn address(&self) -> anyhow::Result<(Uri, String)> {
        let url = &self.url;
        let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let mut parsed = parsed.with_context(|| {
            format!("the webhook `{url}` has no address like https://example.org/hook as `url`")
        })?;
        parsed.set_fragment(None);
        let uri: Uri = parsed
            .as_str()
            .parse()
            .with_context(|| format!("the webhook `{url}` has an address that cannot be asked"))?;
        let mut name = parsed.clone();
        name.set_query(None);
        let has_user = !parsed.username().is_empty() || parsed.password().is_some();
        // Both only fail for addresses without a host, which those of HTTP have.
        let _ = (name.set_username(""), name.set_password(None));
        let name = name.to_string();
        anyhow::ensure!(
            !has_user,
            "the webhook {name} has a user in its `url`, and nobody is signed in there: leave it away, \
             receivers know the farm by its signature"
        );
        Ok((uri, name))
    }

    fn secret(&self, name: &str) -> anyhow::Result<Secret> {
        let make = "make one by `(printf whsec_; openssl rand -base64 32) > FILE` and name the file \
                    as `secret_file`";
        let text = match (&self.secret, &self.secret_file) {
            (None, None) => anyhow::bail!("the webhook {name} has no secret: {make}"),
            (Some(_), Some(_)) => anyhow::bail!(
                "the webhook {name} has both `secret` and `secret_file`: leave one of them away"
            ),
            (Some(secret), None) => secret.0.clone(),
            (None, Some(file)) => std::fs::read_to_string(file).with_context(|| {
                format!("the secret of the webhook {name} cannot be read from {}", file.display())
            })?,
        };
        let secret = Secret::parse(text.trim());
        secret.map_err(|why| anyhow::anyhow!("the secret of the webhook {name} {why}: {make}"))
    }
}

fn kind(event: &str, name: &str) -> anyhow::Result<HistoryKind> {
    KINDS.into_iter().find(|kind| kind.name() == event).with_context(|| {
        let known = KINDS.map(HistoryKind::name).join(", ");
        format!("`{event}` is no event that the webhook {name} could hear of: there are {known}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn read(text: &str) -> anyhow::Result<Webhook> {
        let settings: WebhookSettings = toml::from_str(text)?;
        Ok(checked(&[settings])?.remove(0))
    }

    #[test]
    fn a_webhook_hears_of_all_and_keeps_its_query_to_itself() {
        let text = format!("url = 'https://example.org/hook?key=1#x'\nsecret = '{SECRET}'");
        let webhook = read(&text).unwrap();
        assert_eq!(webhook.uri, "https://example.org/hook?key=1");
        assert_eq!(webhook.name, "https://example.org/hook");
        assert_eq!(webhook.events, KINDS.into());
        assert_eq!(webhook.pauses.iter().sum::<Duration>(), Duration::from_secs(113_705));
        assert!(!format!("{webhook:?}").contains("MfKQ"));
        let settings: WebhookSettings = toml::from_str(&text).unwrap();
        assert!(!format!("{settings:?}").contains("MfKQ"));
    }

    #[test]
    fn a_secret_file_may_end_with_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, format!("{SECRET}\n")).unwrap();
        let text = format!("url = 'http://host/'\nsecret_file = '{}'", file.display());
        let signed = read(&text).unwrap().secret.sign("a", 1, "b");
        assert_eq!(signed, Secret::parse(SECRET).unwrap().sign("a", 1, "b"));
    }

    #[test]
    fn what_is_wrong_is_said_in_a_sentence() {
        let good = format!("url = 'http://host/'\nsecret = '{SECRET}'\n");
        let cases = [
            (
                format!("url = 'host/x'\nsecret = '{SECRET}'"),
                "`host/x` has no address like https://",
            ),
            (format!("url = 'ftp://host/'\nsecret = '{SECRET}'"), "no address like https://"),
            (format!("url = 'http://me:pw@host/'\nsecret = '{SECRET}'"), "http://host/ has a user"),
            ("url = 'http://host/'".into(), "has no secret: make one by"),
            (format!("{good}secret_file = '/x'"), "leave one of them away"),
            ("url = 'http://host/'\nsecret_file = '/no/x'".into(), "cannot be read from /no/x"),
            ("url = 'http://host/'\nsecret = 'short'".into(), "has 5 bytes and needs 24 to 64"),
            (format!("{good}events = []"), "or leave the line away for all"),
            (format!("{good}events = ['job.done']"), "`job.done` is no event"),
            (format!("{good}retry_s = [{}]", "1,".repeat(21)), "has 21 pauses"),
        ];
        for (text, expected) in cases {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("pw"), "{error}");
        }
        let settings: WebhookSettings = toml::from_str(&good).unwrap();
        let twice = checked(&[settings.clone(), settings]).unwrap_err().to_string();
        assert!(twice.contains("http://host/ is in the configuration twice"), "{twice}");
    }
}
