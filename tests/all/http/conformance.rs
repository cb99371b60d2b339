//! The API against its own description, by a tool that knows only that: every path with requests
//! that nobody would think of.

use std::path::Path;
use std::process::Command;

use super::{noop, submission, submit};
use crate::support::farm::Farm;
use crate::support::http::Http;
use crate::support::told::Told;

#[test]
fn the_document_names_every_path_and_its_security() {
    let farm = Farm::new();
    let document = Http::of(&farm, "submitter").get("/openapi.json").json(200);
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    for path in ["/api/v1/jobs/{id}/outputs/{name}", "/api/v1/blobs/{hash}", "/api/v1/events"] {
        assert!(paths.iter().any(|known| *known == path), "{paths:?}");
    }
    assert_eq!(paths.len(), 50, "{paths:?}");
    let operations = document["paths"].as_object().unwrap().values().flat_map(|path| {
        path.as_object().unwrap().values().map(|operation| operation["operationId"].to_string())
    });
    let mut ids: Vec<String> = operations.collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "an id that two operations share: {ids:?}");
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    assert_eq!(document["security"][0]["token"], serde_json::json!([]));
    let submission = &document["components"]["schemas"]["Submission"];
    assert_eq!(submission["required"], serde_json::json!(["name", "kind"]));
}

#[test]
fn every_answer_is_one_that_the_document_names() {
    let farm = Farm::of_fakes(&["host"], 1);
    let http = Http::of(&farm, "admin");
    let job = submit(&http, &submission(&http, "frame_ms = 1", 2));
    farm.wait_for_state(job, "completed");
    submit(&http, &noop("more", 3));
    let ca = farm.home().join("ca.pem");
    std::fs::write(&ca, http.get("/api/v1/ca.pem").body).unwrap();
    let tool = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/runtimes/schemathesis-4.32.5/bin/schemathesis");
    assert!(
        tool.exists(),
        "no {}: run the tests with `cargo xtask test`, which installs it",
        tool.display()
    );
    // A part of an upload is bytes like others, which the tool has to be told.
    let hooks = farm.home().join("hooks.py");
    std::fs::write(&hooks, HOOKS).unwrap();
    let told = Told::by(
        Command::new(tool)
            .current_dir(farm.home())
            .env("SCHEMATHESIS_HOOKS", hooks)
            .args(["run", &format!("{}/openapi.json", http.base)])
            .args(["--header", &format!("Authorization: Bearer {}", http.token)])
            .arg(format!("--tls-verify={}", ca.display()))
            // Events have no end to wait for, and without its token the tool is out.
            .args(["--exclude-path-regex", "/events$"])
            .args(["--exclude-operation-id", "revoke_token"])
            .args(["--checks", CHECKS])
            .args(["--max-examples", "8", "--seed", "1", "--generation-database", "none"])
            .args(["--request-timeout", "10", "--no-color"]),
    );
    told.well();
    assert!(!farm.said("coordinator").contains("panicked"));
}

const HOOKS: &str = r#"
import schemathesis

schemathesis.serializer.alias("application/partial-upload", "application/octet-stream")
"#;

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,ignored_auth,\
                      unsupported_method";
