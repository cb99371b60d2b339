//! Whether a browser's request was made by the coordinator's own page, and under a name of its own.
//!
//! A cookie goes along with every request to a host, whoever made it. So a request that has nothing
//! else to show must have been made by the page itself: browsers say that in `Sec-Fetch-Site` and in
//! `Origin`, which no page can forge. And a name that somebody pointed at this host is not its own
//! (DNS rebinding): `Host` must be one of those that the certificate has.

use std::collections::BTreeSet;

use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};

use super::Problem;

/// The names and addresses by which people call this host.
pub(super) struct Hosts(BTreeSet<String>);

impl Hosts {
    pub(super) fn new(hosts: &BTreeSet<String>) -> Self {
        Self(hosts.iter().map(|host| host.to_ascii_lowercase()).collect())
    }

    /// Refuses what came under a name that is not this host's.
    pub(super) fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
        let shown = authority(headers, uri);
        let own = shown.as_deref().is_some_and(|shown| self.0.contains(&host_of(shown)));
        if own {
            return Ok(());
        }
        let shown: String = shown.unwrap_or_default().chars().take(100).collect();
        let detail = format!(
            "this coordinator does not go by the name `{shown}`: name it in `advertise`, or use \
             one of its own"
        );
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "other_host", detail))
    }
}

/// Refuses what another site's page made. What only reads need not say where it comes from, as long
/// as it does not say that it comes from elsewhere.
pub(super) fn check(method: &Method, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    let text = |name| Some(headers.get(name)?.to_str().unwrap_or("none of these"));
    let own = match (text(header::HeaderName::from_static("sec-fetch-site")), text(header::ORIGIN))
    {
        (Some(site), None) => site == "same-origin" || (site == "none" && method.is_safe()),
        (site, Some(origin)) => {
            let from = origin.strip_prefix("https://").map(str::to_ascii_lowercase);
            from.is_some()
                && from == authority(headers, uri)
                && site.is_none_or(|site| site == "same-origin")
        }
        (None, None) => method.is_safe(),
    };
    if own {
        return Ok(());
    }
    let detail = "this was not asked by the dashboard itself: use a token in `Authorization`";
    Err(Problem::new(StatusCode::FORBIDDEN, "other_origin", detail))
}

/// The same of a whole request.
pub(super) fn check_request(request: &Request) -> Result<(), Problem> {
    check(request.method(), request.headers(), request.uri())
}

/// In HTTP/2 it is a part of the address, before in a header.
fn authority(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let shown = uri.authority().map(|authority| authority.as_str());
    let shown = shown.or_else(|| headers.get(header::HOST)?.to_str().ok())?;
    Some(shown.to_ascii_lowercase())
}

/// Without its port and brackets.
fn host_of(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    host.trim_matches(['[', ']']).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>()
    }

    fn asked(method: Method, pairs: &[(&'static str, &'static str)]) -> bool {
        check(&method, &headers(pairs), &"/session".parse().unwrap()).is_ok()
    }

    #[test]
    fn only_names_of_the_certificate_are_its_own() {
        let hosts = Hosts::new(&["Farm.local".into(), "::1".into()].into());
        let own = |host: &'static str| {
            hosts.check(&headers(&[("host", host)]), &"/".parse().unwrap()).is_ok()
        };
        for good in ["farm.local", "FARM.local:4747", "[::1]:4747", "[::1]"] {
            assert!(own(good), "{good}");
        }
        for bad in ["evil.example", "farm.local.evil.example:4747", "", "::2"] {
            assert!(!own(bad), "{bad}");
        }
        let http2: Uri = "https://farm.local:4747/".parse().unwrap();
        assert!(hosts.check(&HeaderMap::new(), &http2).is_ok());
        assert!(hosts.check(&HeaderMap::new(), &"/".parse().unwrap()).is_err());
    }

    #[test]
    fn nobody_elses_page_makes_a_request() {
        let host = ("host", "farm.local:4747");
        let site = |site| ("sec-fetch-site", site);
        let origin = |origin| ("origin", origin);
        assert!(asked(Method::GET, &[host]));
        assert!(asked(Method::GET, &[host, site("none")]));
        assert!(asked(Method::GET, &[host, site("same-origin")]));
        assert!(!asked(Method::GET, &[host, site("cross-site")]));
        assert!(!asked(Method::GET, &[host, site("same-site")]));
        assert!(!asked(Method::POST, &[host]));
        assert!(!asked(Method::POST, &[host, site("none")]));
        assert!(asked(Method::POST, &[host, origin("https://farm.local:4747")]));
        assert!(asked(
            Method::POST,
            &[host, site("same-origin"), origin("https://farm.local:4747")]
        ));
        for other in ["https://farm.local", "http://farm.local:4747", "null", "https://evil"] {
            assert!(!asked(Method::POST, &[host, origin(other)]), "{other}");
        }
    }
}
