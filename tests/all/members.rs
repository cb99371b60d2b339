//! Who is in a farm, and who is no member any more.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::farm::Farm;
use crate::support::http::Http;
use crate::support::told::Told;
use crate::support::{eventually, program};

/// `grange` as somebody who has joined.
fn grange(identity: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program("grange"));
    command.arg("--identity").arg(identity).args(args);
    command
}

impl Farm {
    fn lets_in(&self, dir: &TempDir, name: &str, role: &str) -> PathBuf {
        let token = self.grange(&["token", "create", "--role", role]).well();
        let identity = dir.path().join(name);
        Told::by(&mut grange(&identity, &["join", token.trim(), "--name", name])).well();
        identity
    }

    fn members(&self) -> Vec<Value> {
        let told = self.grange(&["member", "list", "--json"]).json();
        told.as_array().unwrap().clone()
    }
}

#[test]
fn somebody_who_leaves_is_struck_off_and_ends_where_they_watch() {
    let mut farm = Farm::of_fakes(&["host"], 1);
    let dir = TempDir::new().unwrap();
    let ada = farm.lets_in(&dir, "ada", "submitter");
    let told = farm.grange(&["member", "list"]).well();
    for (name, role) in [("ada", "submitter"), ("host", "agent"), ("admin", "admin")] {
        let line = told.lines().find(|line| line.contains(name));
        assert!(line.is_some_and(|line| line.contains(role)), "{name}: {told}");
    }
    Told::by(&mut grange(&ada, &["member", "list"])).fails(1, "your role (submitter)");
    let mut watch = grange(&ada, &["watch", "--json"]);
    let watching = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    farm.grange(&["member", "remove", "bob"]).fails(1, "there is no member bob");
    let told = farm.grange(&["member", "remove", "ada"]).well();
    assert_eq!(told, "ada is removed; to come back they join anew\n");
    let told = Told::of("grange watch".into(), watching.wait_with_output().unwrap());
    assert_ne!(told.code, 0, "{}", told.stdout);
    for _ in 0..2 {
        let told = Told::by(&mut grange(&ada, &["jobs"]));
        told.fails(1, "does not know this identity any more: join again");
        farm.kill_coordinator();
        farm.start_coordinator();
    }
    assert!(!farm.members().iter().any(|member| member["name"] == "ada"));
    let history = farm.grange(&["history", "--farm"]).well();
    assert!(history.contains("ada was removed from the farm by "), "{history}");
    // She joins anew, under the same name.
    let dir = TempDir::new().unwrap();
    let ada = farm.lets_in(&dir, "ada", "viewer");
    assert_eq!(Told::by(&mut grange(&ada, &["jobs"])).code, 0);
}

#[test]
fn a_farm_keeps_an_admin_and_hosts_are_members_too() {
    let mut farm = Farm::of_fakes(&["host"], 1);
    let http = Http::of(&farm, "admin");
    let members = farm.members();
    let id = |role: &str| {
        let member = members.iter().find(|member| member["role"] == role);
        member.unwrap()["id"].as_str().unwrap().to_owned()
    };
    farm.grange(&["member", "remove", &id("admin")]).fails(1, "is the only admin of this farm");
    assert_eq!(http.get("/api/v1/members").json(200).as_array().unwrap().len(), 2);
    let path = |id: &str| format!("/api/v1/members/{id}");
    assert_eq!(http.send("DELETE", &path(&id("agent")), &[], Vec::new()).status, 204);
    assert!(!farm.wait_for_end_of("host").success());
    http.send("DELETE", &path(&id("agent")), &[], Vec::new()).problem(
        404,
        "not_found",
        "no member",
    );
    let dir = TempDir::new().unwrap();
    let second = farm.lets_in(&dir, "second", "admin");
    Told::by(&mut grange(&second, &["member", "remove", &id("admin")])).well();
    eventually("the first one is unknown", || (farm.grange(&["jobs"]).code != 0).then_some(()));
}
