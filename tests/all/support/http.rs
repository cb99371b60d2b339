//! A client of the HTTP API that knows nothing but a connect string.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Request, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, SendBody};

use super::farm::Farm;

pub(crate) struct Http {
    agent: Agent,
    pub(crate) base: String,
    pub(crate) token: String,
}

/// An answer that has been read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Http {
    /// With a new token of that role.
    pub(crate) fn of(farm: &Farm, role: &str) -> Self {
        let create = ["token", "create", "--api", "--role", role, "--name", role];
        let connect = farm.grange(&create).well();
        let rest = connect.trim().strip_prefix("grange+https://").expect("a connect string");
        let (token, rest) = rest.split_once('@').expect("a token");
        let (address, _) = rest.split_once("?ca=").expect("an address and a CA");
        let base = format!("https://{address}");
        let pem = agent(None, false).get(format!("{base}/api/v1/ca.pem")).call().expect("the CA");
        let pem = pem.into_body().read_to_vec().unwrap();
        Self { agent: agent(Some(&pem), true), base, token: token.into() }
    }

    /// The same farm with another token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { agent: self.agent.clone(), base: self.base.clone(), token: token.into() }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    pub(crate) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, Vec::new())
    }

    /// With a body of JSON.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("Content-Type", "application/json")];
        self.send(method, path, &headers, body.to_string().into_bytes())
    }

    pub(crate) fn put(&self, path: &str, bytes: &[u8]) -> Answer {
        self.send("PUT", path, &[], bytes.to_vec())
    }

    /// With a body from wherever it comes, of that length if it has one. The body is sent when the
    /// other side asks for it.
    pub(crate) fn send_from(
        &self,
        method: &str,
        path: &str,
        len: Option<u64>,
        body: impl Read + 'static,
    ) -> Result<Answer, ureq::Error> {
        self.send_from_with(method, path, len, &[], body)
    }

    pub(crate) fn send_from_with(
        &self,
        method: &str,
        path: &str,
        len: Option<u64>,
        headers: &[(&str, &str)],
        body: impl Read + 'static,
    ) -> Result<Answer, ureq::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Expect", "100-continue");
        if let Some(len) = len {
            request = request.header("Content-Length", len.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = SendBody::from_owned_reader(body);
        Answer::read(self.agent.run(request.body(body).unwrap())?)
    }

    /// As a browser signs in, with a body that comes when it likes.
    pub(crate) fn sign_in_from(&self, body: impl Read + 'static) -> Result<Answer, ureq::Error> {
        let request = Request::post(format!("{}/session", self.base))
            .header("Origin", &self.base)
            .header("Content-Type", "application/json")
            .header("Expect", "100-continue");
        let body = SendBody::from_owned_reader(body);
        Answer::read(self.agent.run(request.body(body).unwrap())?)
    }

    #[track_caller]
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        let response = self.begin(method, path, headers, body).expect("an answer");
        Answer::read(response).expect("a whole answer")
    }

    /// Fetches a file that may be large. Returns its length and its hash.
    pub(crate) fn download(&self, path: &str) -> (u64, String) {
        let response = self.begin("GET", path, &[], Vec::new()).expect("an answer");
        let mut hasher = blake3::Hasher::new();
        let len = std::io::copy(&mut response.into_body().into_reader(), &mut hasher).unwrap();
        (len, hasher.finalize().to_hex().to_string())
    }

    /// Events of a job or of the farm, as they come.
    pub(crate) fn events(&self, path: &str, last_event_id: Option<&str>) -> Events {
        let id = last_event_id.map(|id| ("Last-Event-ID", id));
        let headers: Vec<(&str, &str)> = id.into_iter().collect();
        let response = self.begin("GET", path, &headers, Vec::new()).expect("events");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let body = Box::new(response.into_body().into_reader());
        Events { body, text: String::new(), broke: None }
    }

    /// Lines of JSON, as they come; empty ones are left out.
    pub(crate) fn lines(&self, path: &str, body: &Value) -> impl Iterator<Item = Value> + use<> {
        let headers = [("Content-Type", "application/json")];
        let body = body.to_string().into_bytes();
        let response = self.begin("POST", path, &headers, body).expect("an answer");
        let status = response.status();
        let mut lines = BufReader::new(response.into_body().into_reader()).lines();
        if status != 200 {
            panic!("{status}: {:?}", lines.next());
        }
        assert_eq!(status, 200);
        lines
            .map_while(Result::ok)
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(&line).expect("JSON"))
    }

    fn begin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Response<Body>, ureq::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Authorization", format!("Bearer {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if matches!(method, "GET" | "HEAD" | "DELETE") {
            return self.agent.run(request.body(()).unwrap());
        }
        self.agent.run(request.body(body).unwrap())
    }
}

impl Answer {
    fn read(response: Response<Body>) -> Result<Self, ureq::Error> {
        let (parts, mut body) = response.into_parts();
        let body = body.read_to_vec()?;
        Ok(Self { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// It has this status, and is JSON.
    #[track_caller]
    pub(crate) fn json(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// It is a problem of this status whose one sentence says this, among other things.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, kind: &str, saying: &str) {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(problem["type"], format!("urn:grange:{kind}"), "{text}");
        assert_eq!(problem["status"], status);
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{text}");
        assert!(problem["detail"].as_str().unwrap().contains(saying), "{text}");
    }
}

/// A stream of server-sent events.
pub(crate) struct Events {
    body: Box<dyn Read>,
    text: String,
    /// Why it ended, unless the farm ended it.
    pub(crate) broke: Option<String>,
}

/// One of them: its id, if it has one, and what it says.
#[derive(Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            let Some(end) = self.text.find("\n\n") else {
                let mut piece = [0; 4096];
                let got = match self.body.read(&mut piece) {
                    Ok(0) => return None,
                    Ok(got) => got,
                    Err(error) => {
                        self.broke = Some(error.to_string());
                        return None;
                    }
                };
                self.text.push_str(std::str::from_utf8(&piece[..got]).expect("ASCII"));
                continue;
            };
            let block: String = self.text.drain(..end + 2).collect();
            let field = |name: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(name));
                line.map(|value| value.trim().to_owned())
            };
            if let Some(data) = field("data:") {
                let data = serde_json::from_str(&data).expect("JSON");
                return Some(Event { id: field("id:"), data });
            }
        }
    }
}

/// Trusts that certificate and nothing else; or anybody at all.
pub(crate) fn agent(ca: Option<&[u8]>, verify: bool) -> Agent {
    let roots = ca.map(|pem| Certificate::from_pem(pem).expect("a certificate"));
    let roots: Vec<Certificate<'static>> = roots.into_iter().collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .disable_verification(!verify)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into()
}
