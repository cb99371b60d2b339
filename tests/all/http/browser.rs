//! Browsers: a cookie that counts only for the dashboard itself, links that are good once, and a page
//! that runs nobody else's script.

use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{noop, submit};
use crate::support::farm::Farm;
use crate::support::http::{Answer, Http};

/// A browser that has signed in: what it sends along.
struct Browser {
    http: Http,
    cookie: String,
    origin: String,
}

impl Browser {
    fn sign_in(farm: &Farm, role: &str) -> Self {
        let http = Http::of(farm, role);
        let origin = http.base.clone();
        let headers = [("Content-Type", "application/json"), ("Origin", origin.as_str())];
        let shown = json!({ "token": http.token }).to_string().into_bytes();
        let answer = http.with_token("").send("POST", "/session", &headers, shown);
        assert_eq!(answer.status, 200, "{answer:?}");
        let cookie = answer.headers["set-cookie"].to_str().unwrap();
        for attribute in ["Secure", "HttpOnly", "SameSite=Strict", "Path=/"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        assert!(cookie.starts_with("__Host-grange-"), "{cookie}");
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Self { http: http.with_token(""), cookie, origin }
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![("Cookie", self.cookie.as_str())];
        all.extend(headers);
        self.http.send(method, path, &all, Vec::new())
    }
}

#[test]
fn a_cookie_counts_only_for_what_the_dashboard_itself_asks() {
    let farm = Farm::new();
    let browser = Browser::sign_in(&farm, "submitter");
    let job = submit(&Http::of(&farm, "admin"), &noop("a job", 1));
    let own = [("Origin", browser.origin.as_str()), ("Sec-Fetch-Site", "same-origin")];
    let pause = format!("/api/v1/jobs/{job}/pause");

    assert_eq!(browser.send("GET", "/api/v1/me", &[]).json(200)["role"], "submitter");
    browser.send("GET", "/api/v1/me", &[("Sec-Fetch-Site", "cross-site")]).problem(
        403,
        "other_origin",
        "not asked by the dashboard",
    );
    let evil = ("Origin", "https://evil.example");
    for headers in [&[][..], &[evil], &[("Sec-Fetch-Site", "same-site"), own[0]]] {
        browser.send("POST", &pause, headers).problem(403, "other_origin", "dashboard");
    }
    let elsewhere = [("Host", "evil.example")];
    browser.send("GET", "/api/v1/me", &elsewhere).problem(421, "other_host", "`evil.example`");
    browser.send("GET", "/", &elsewhere).problem(421, "other_host", "advertise");
    assert_eq!(browser.send("POST", &pause, &own).json(200)["state"], "paused");

    // Who signs somebody in from elsewhere could have them work under another's name.
    let shown = b"{\"token\":\"\"}".to_vec();
    let headers = [("Content-Type", "application/json"), evil];
    let answer = browser.http.send("POST", "/session", &headers, shown);
    answer.problem(403, "other_origin", "dashboard");
}

#[test]
fn a_link_signs_in_once_with_the_role_of_whoever_asked_for_it() {
    let farm = Farm::new();
    let http = Http::of(&farm, "viewer").with_token("");
    let link = farm.grange(&["dashboard", "--json"]).json();
    assert_eq!(link["role"], "admin");
    let url = link["url"].as_str().unwrap();
    let (page, secret) = url.split_once("#link=").unwrap();
    assert_eq!(page, format!("{}/", http.base));
    let follow = || {
        let headers = [("Content-Type", "application/json"), ("Origin", http.base.as_str())];
        let shown = json!({ "link": secret }).to_string().into_bytes();
        http.send("POST", "/session", &headers, shown)
    };
    let first = follow();
    let cookie =
        first.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let me = first.json(200);
    assert_eq!(me["role"], "admin");
    follow().problem(401, "bad_token", "has been used");

    // It is a token like others, and signing out revokes it.
    let names = |farm: &Farm| -> Vec<String> {
        let listed: Value = farm.grange(&["token", "list", "--json"]).json();
        let listed = listed.as_array().unwrap().iter();
        listed.map(|token| token["name"].as_str().unwrap().to_owned()).collect()
    };
    assert!(names(&farm).contains(&me["name"].as_str().unwrap().to_owned()));
    let headers = [("Cookie", cookie.as_str()), ("Origin", http.base.as_str())];
    let out = http.send("DELETE", "/session", &headers, Vec::new());
    assert_eq!(out.status, 204, "{out:?}");
    assert!(out.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    http.get_with("/api/v1/me", &headers).problem(401, "bad_token", "token");
    assert_eq!(names(&farm), ["viewer"]);
}

#[test]
fn the_page_runs_its_own_scripts_and_peoples_files_run_none() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let page = http.with_token("").get("/");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    let text = String::from_utf8(page.body).unwrap();
    assert!(!text.contains("<script>") && !text.contains("style="), "{text}");

    let script = b"<script>alert(1)</script>".to_vec();
    let blob = http.send("POST", "/api/v1/blobs", &[], script).json(201);
    let got = http.get(&format!("/api/v1/blobs/{}", blob["hash"].as_str().unwrap()));
    assert_eq!(got.headers["content-type"], "application/octet-stream");
    assert_eq!(got.headers["x-content-type-options"], "nosniff");
    assert!(got.headers["content-security-policy"].to_str().unwrap().contains("sandbox"));
}

#[test]
fn a_viewer_reads_and_changes_nothing() {
    let farm = Farm::new();
    let (viewer, admin) = (Http::of(&farm, "viewer"), Http::of(&farm, "admin"));
    let job = submit(&admin, &noop("a job", 2));
    for path in ["farm", "jobs", "agents", "decisions", "footprints", "me"] {
        assert_eq!(viewer.get(&format!("/api/v1/{path}")).status, 200, "{path}");
    }
    let grid = viewer.get(&format!("/api/v1/jobs/{job}/grid")).json(200);
    assert_eq!(grid["steps"][0]["states"], "aa");
    viewer.ask("POST", "/api/v1/jobs", &noop("no", 1)).problem(403, "forbidden", "(viewer)");
    // Who asks before sending a body is not asked for it, and nothing else can come on that connection.
    let refused = viewer.send_from("POST", "/api/v1/jobs", Some(2), &b"{}"[..]).unwrap();
    assert_eq!(refused.headers["connection"], "close");
    refused.problem(403, "forbidden", "(viewer)");
    assert!(admin.get("/api/v1/jobs").headers.get("connection").is_none());
    for (method, path) in [
        ("POST", format!("/api/v1/jobs/{job}/cancel")),
        ("POST", "/api/v1/blobs".into()),
        ("POST", "/api/v1/sessions".into()),
        ("DELETE", "/api/v1/tokens/admin".into()),
    ] {
        viewer.ask(method, &path, &json!({})).problem(403, "forbidden", "(viewer)");
    }
    viewer.get("/api/v1/tokens").problem(403, "forbidden", "(viewer)");
    assert_eq!(admin.get("/api/v1/jobs").json(200)["items"].as_array().unwrap().len(), 1);
}

#[test]
fn small_pictures_are_made_of_what_was_rendered_and_of_nothing_else() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let send = |bytes: Vec<u8>| {
        let blob = http.send("POST", "/api/v1/blobs", &[], bytes).json(201);
        blob["hash"].as_str().unwrap().to_owned()
    };
    let mut png = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_fn(1_000, 500, |x, _| image::Rgb([(x / 4) as u8, 80, 20]));
    picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let hash = send(png.into_inner());
    for (size, width, height) in [("small", 192, 96), ("medium", 480, 240), ("large", 1_000, 500)] {
        let answer = http.get(&format!("/api/v1/pictures/{hash}/{size}"));
        assert_eq!(answer.headers["content-type"], "image/jpeg");
        let shown = image::load_from_memory(&answer.body).unwrap().into_rgb8();
        assert_eq!(shown.dimensions(), (width, height));
        let [red, green, _] = shown.get_pixel(width * 4 / 5, height / 2).0;
        assert!(red.abs_diff(200) < 8 && green.abs_diff(80) < 8, "{red} {green}");
        let etag = answer.headers["etag"].to_str().unwrap().to_owned();
        let again =
            http.get_with(&format!("/api/v1/pictures/{hash}/{size}"), &[("If-None-Match", &etag)]);
        assert_eq!(again.status, 304);
    }
    let text = send(b"no picture".to_vec());
    http.get(&format!("/api/v1/pictures/{text}/small")).problem(422, "no_picture", "shown");
    let none = "0".repeat(64);
    http.get(&format!("/api/v1/pictures/{none}/small")).problem(404, "not_found", "no file");

    // Many at once, as a strip of frames asks for them.
    let http = Arc::new(http);
    let all: Vec<_> = (0..32)
        .map(|_| {
            let (http, hash) = (http.clone(), hash.clone());
            std::thread::spawn(move || http.get(&format!("/api/v1/pictures/{hash}/small")).status)
        })
        .collect();
    assert!(all.into_iter().all(|one| one.join().unwrap() == 200));
}

#[test]
fn all_that_a_job_rendered_comes_as_one_zip() {
    let farm = Farm::of_fakes(&["host"], 1);
    let http = Http::of(&farm, "viewer");
    let scene = crate::support::farm::FakeJob::new("frame_ms = 1\nwidth = 600\nheight = 600", 3);
    let job = farm.submit_fake(&scene);
    farm.wait_for_state(job, "completed");
    let answer = http.get(&format!("/api/v1/jobs/{job}/outputs.zip"));
    assert_eq!(answer.headers["content-type"], "application/zip");
    let zip = farm.home().join("job.zip");
    std::fs::write(&zip, &answer.body).unwrap();
    // Read by somebody else's hand, which checks every CRC.
    let code = "import hashlib, sys, zipfile; zip = zipfile.ZipFile(sys.argv[1]); \
                assert zip.testzip() is None; \
                print(*(f'{name} {len(zip.read(name))}' for name in zip.namelist()), sep='\\n')";
    let told = Command::new("python3.11").args(["-c", code]).arg(&zip).output().unwrap();
    let mut listed: Vec<String> =
        String::from_utf8(told.stdout).unwrap().lines().map(str::to_owned).collect();
    listed.sort();
    let outputs = http.get(&format!("/api/v1/jobs/{job}/outputs")).json(200);
    let mut expected: Vec<String> = outputs["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["output"])
        .map(|output| format!("{} {}", output["name"].as_str().unwrap(), output["blob"]["len"]))
        .collect();
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!(listed.len(), 3);
    http.get("/api/v1/jobs/99/outputs.zip").problem(404, "not_found", "no job 99");
}

#[test]
fn whoever_watches_outputs_is_told_those_of_all_jobs() {
    let farm = Farm::of_fakes(&["host"], 1);
    let http = Http::of(&farm, "viewer");
    let mut events = http.events("/api/v1/events?outputs=true", None);
    assert!(events.any(|event| event.data == "caughtup"));
    let scene = crate::support::farm::FakeJob::new("frame_ms = 1", 2);
    let jobs = [farm.submit_fake(&scene), farm.submit_fake(&scene)];
    let mut told: Vec<u64> =
        events.filter_map(|event| event.data["output"]["job"].as_u64()).take(4).collect();
    told.sort_unstable();
    assert_eq!(told, [jobs[0], jobs[0], jobs[1], jobs[1]]);
}
