//! Join tokens: one use, a short life, one role. Tokens of the HTTP API: many uses until they end.

use grange_protocol::BlobHash;
use grange_protocol::client::Role;
use grange_scheduler::{Event, Once, TokenHash};

use crate::farm::{Farm, agent, label, noops};

pub(crate) fn create(farm: &mut Farm, secret: &[u8; 16], minutes: u64) {
    let request = farm.request();
    let expires_at = farm.now + minutes * 60_000;
    farm.after(Event::CreateToken {
        request,
        token: TokenHash::of(secret),
        role: Role::Agent,
        expires_at,
    })
    .expects(["Done"]);
}

pub(crate) fn enrol(farm: &mut Farm, secret: &[u8; 16], name: char) -> String {
    let request = farm.request();
    let told = farm.after(Event::Enrol {
        request,
        token: TokenHash::of(secret),
        identity: agent(name),
        name: label("host"),
    });
    told.whatever().concat()
}

const UNKNOWN: &str = "no: the join token is unknown or has been used already; ask for a new one (`grange token create`)";

#[test]
fn a_token_lets_one_newcomer_in_with_its_role() {
    let mut farm = Farm::new();
    create(&mut farm, b"0123456789abcdef", 15);
    assert_eq!(enrol(&mut farm, b"0123456789abcdeX", 'B'), UNKNOWN);
    assert_eq!(enrol(&mut farm, b"0123456789abcdef", 'A'), "Enrolled(Agent)");
    assert_eq!(enrol(&mut farm, b"0123456789abcdef", 'B'), UNKNOWN);
    assert_eq!(farm.core.state().identities.len(), 1);
}

#[test]
fn a_token_ends_also_across_a_restart() {
    let mut farm = Farm::new();
    create(&mut farm, b"0123456789abcdef", 15);
    create(&mut farm, b"fedcba9876543210", 15);
    farm.restart();
    assert_eq!(enrol(&mut farm, b"fedcba9876543210", 'A'), "Enrolled(Agent)");
    farm.restart();
    assert_eq!(enrol(&mut farm, b"fedcba9876543210", 'A'), UNKNOWN);
    farm.wait(15 * 60_000).whatever();
    assert_eq!(
        enrol(&mut farm, b"0123456789abcdef", 'B'),
        "no: the join token has expired; ask for a new one (`grange token create`)"
    );
}

fn create_api(farm: &mut Farm, secret: &[u8; 16], name: &str, role: Role) -> String {
    let (request, expires_at) = (farm.request(), farm.now + 60_000);
    let (token, name) = (TokenHash::of(secret), label(name));
    farm.after(Event::CreateApiToken { request, token, name, role, expires_at }).whatever().concat()
}

fn role_of(farm: &Farm, secret: &[u8; 16]) -> Option<Role> {
    farm.core.api_token(TokenHash::of(secret), farm.now).map(|token| token.role)
}

#[test]
fn a_token_of_the_api_is_good_until_it_ends_or_is_revoked() {
    let mut farm = Farm::new();
    let (ada, bob) = (b"0123456789abcdef", b"fedcba9876543210");
    assert_eq!(create_api(&mut farm, ada, "ada", Role::Submitter), "Done");
    assert_eq!(create_api(&mut farm, bob, "bob", Role::Admin), "Done");
    farm.restart();
    assert_eq!(role_of(&farm, ada), Some(Role::Submitter));
    assert_eq!(role_of(&farm, bob), Some(Role::Admin));
    assert_eq!(role_of(&farm, b"somebody else's!"), None);

    let revoke = |farm: &mut Farm| {
        let request = farm.request();
        farm.after(Event::RevokeApiToken { request, name: label("bob") })
    };
    revoke(&mut farm).expects(["Done"]);
    assert_eq!(role_of(&farm, bob), None);
    revoke(&mut farm)
        .expects(["no: there is no token `bob`: `grange token list` lists those of this farm"]);
    farm.restart();
    assert_eq!((role_of(&farm, ada), role_of(&farm, bob)), (Some(Role::Submitter), None));
    farm.wait(60_000).whatever();
    assert_eq!(role_of(&farm, ada), None);
}

#[test]
fn tokens_of_the_api_have_names_of_their_own() {
    let mut farm = Farm::new();
    create_api(&mut farm, b"0123456789abcdef", "ada", Role::Submitter);
    let other = b"fedcba9876543210";
    assert_eq!(
        create_api(&mut farm, other, "ada", Role::Admin),
        "no: there is a token `ada` already: choose another name, or revoke it first \
         (`grange token revoke ada`)"
    );
    assert_eq!(
        create_api(&mut farm, other, "", Role::Admin),
        "no: the token has no name: give it one"
    );
    assert_eq!(
        create_api(&mut farm, other, "host", Role::Agent),
        "no: agents do not use the HTTP API: make a token for a submitter or an admin"
    );
    assert_eq!(role_of(&farm, other), None);
    farm.wait(60_000).whatever();
    assert_eq!(create_api(&mut farm, other, "ada", Role::Admin), "Done");
}

#[test]
fn a_submission_with_a_key_is_one_job_also_across_a_restart() {
    let mut farm = Farm::new();
    let once =
        |key: &[u8], body: &[u8]| Some(Once { key: BlobHash::of(key), body: BlobHash::of(body) });
    farm.submit_once(noops(1), once(b"k", b"body")).expects(["Submitted(JobId(1))"]);
    farm.submit_once(noops(1), once(b"k", b"body")).expects(["Submitted(JobId(1))"]);
    farm.submit_once(noops(1), once(b"l", b"body")).expects(["Submitted(JobId(2))"]);
    farm.restart();
    farm.submit_once(noops(1), once(b"k", b"body")).expects(["Submitted(JobId(1))"]);
    farm.submit_once(noops(2), once(b"k", b"other")).expects([
        "no: the key of this submission came with another one before, which is job 1: use a new key \
         for a new job",
    ]);
    assert_eq!(farm.core.state().jobs.len(), 2);
}
