//! Join tokens: one use, a short life, one role.

use grange_protocol::client::Role;
use grange_scheduler::{Event, TokenHash};

use crate::farm::{Farm, agent, label};

fn create(farm: &mut Farm, secret: &[u8; 16], minutes: u64) {
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

fn enrol(farm: &mut Farm, secret: &[u8; 16], name: char) -> String {
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
