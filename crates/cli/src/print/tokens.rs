//! Who may do what: members, and tokens of the HTTP API without their secrets.

use std::time::{Duration, SystemTime};

use comfy_table::Cell;
use grange_protocol::Millis;
use grange_protocol::client::{ApiTokenView, MemberView};

use super::{ago, table};

pub(crate) fn tokens(tokens: &[ApiTokenView]) -> String {
    if tokens.is_empty() {
        return "no tokens: `grange token create --api --role submitter` makes one".into();
    }
    let mut table = table(["NAME", "ROLE", "CREATED", "GOOD FOR"]);
    for token in tokens {
        table.add_row(vec![
            Cell::new(&token.name),
            Cell::new(token.role),
            Cell::new(ago(token.created_at)),
            Cell::new(good_for(token.expires_at)),
        ]);
    }
    table.to_string()
}

pub(crate) fn members(members: &[MemberView]) -> String {
    let mut table = table(["NAME", "ROLE", "JOINED", "ID"]);
    for member in members {
        table.add_row(vec![
            Cell::new(&member.name),
            Cell::new(member.role),
            Cell::new(ago(member.joined_at)),
            Cell::new(member.id),
        ]);
    }
    table.to_string()
}

/// In the largest unit that fits, rounded up: nobody plans by the second.
fn good_for(until: Millis) -> String {
    let until = SystemTime::UNIX_EPOCH + Duration::from_millis(until.0);
    match until.duration_since(SystemTime::now()).unwrap_or_default().as_secs() {
        seconds @ 0..3600 => format!("{} min", seconds.div_ceil(60)),
        seconds @ 3600..172_800 => format!("{} h", seconds.div_ceil(3600)),
        seconds => format!("{} days", seconds.div_ceil(86_400)),
    }
}
