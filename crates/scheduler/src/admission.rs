//! Who is let in, by what secret, and what is let in only once.

use grange_protocol::client::Role;
use grange_protocol::shot::Label;
use grange_protocol::{AgentId, JobId, Millis, Refusal, RefusalCode};

use crate::command::Answer;
use crate::core::Core;
use crate::event::{Once, RequestId};
use crate::fact::Fact;
use crate::token::{ApiToken, TokenHash};

impl Core {
    /// The token of the HTTP API with this secret, if it is good now.
    pub fn api_token(&self, token: TokenHash, now: Millis) -> Option<&ApiToken> {
        self.state.api_tokens.get(&token).filter(|token| token.expires_at > now)
    }

    pub(crate) fn enrol(
        &mut self,
        request: RequestId,
        token: TokenHash,
        identity: AgentId,
        name: Label,
    ) {
        let refusal = |message: &str| {
            Answer::Refused(Refusal::new(
                RefusalCode::BadToken,
                format!("{message}; ask for a new one (`grange token create`)"),
            ))
        };
        let answer = match self.state.tokens.get(&token).copied() {
            None => refusal("the join token is unknown or has been used already"),
            Some(token) if token.expires_at <= self.now => refusal("the join token has expired"),
            Some(known) => {
                self.record(Fact::Enrolled { token, identity, name, role: known.role });
                Answer::Enrolled(known.role)
            }
        };
        self.answer(request, answer);
    }

    pub(crate) fn create_api_token(
        &mut self,
        token: TokenHash,
        name: Label,
        role: Role,
        expires_at: Millis,
    ) -> Answer {
        let refused = |code, message| Answer::Refused(Refusal::new(code, message));
        if name.is_empty() {
            return refused(RefusalCode::Invalid, "the token has no name: give it one".into());
        }
        if role == Role::Agent {
            let message =
                "agents do not use the HTTP API: make a token for a submitter or an admin";
            return refused(RefusalCode::Invalid, message.into());
        }
        if self.has_api_token(&name) {
            let message = format!(
                "there is a token `{name}` already: choose another name, or revoke it first \
                 (`grange token revoke {name}`)"
            );
            return refused(RefusalCode::NameTaken, message);
        }
        self.record(Fact::ApiTokenCreated { token, name, role, expires_at });
        Answer::Done
    }

    pub(crate) fn revoke_api_token(&mut self, name: Label) -> Answer {
        if !self.has_api_token(&name) {
            let message =
                format!("there is no token `{name}`: `grange token list` lists those of this farm");
            return Answer::Refused(Refusal::new(RefusalCode::NotFound, message));
        }
        self.record(Fact::ApiTokenRevoked(name));
        Answer::Done
    }

    /// The job that a submission has become already.
    pub(crate) fn submitted_before(&self, once: Option<Once>) -> Result<Option<JobId>, Refusal> {
        let known = once.and_then(|once| Some((once, self.state.keyed.get(&once.key)?)));
        match known {
            None => Ok(None),
            Some((once, keyed)) if keyed.body == once.body => Ok(Some(keyed.job)),
            Some((_, keyed)) => Err(Refusal::new(
                RefusalCode::KeyReused,
                format!(
                    "the key of this submission came with another one before, which is job {}: use \
                     a new key for a new job",
                    keyed.job
                ),
            )),
        }
    }

    fn has_api_token(&self, name: &Label) -> bool {
        let mut good = self.state.api_tokens.values().filter(|token| token.expires_at > self.now);
        good.any(|token| token.name == *name)
    }
}
