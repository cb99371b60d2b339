//! Crowds at the door: they take bounded memory, few lines of the log, and nobody's place.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use grange_protocol::client::Role;
use grange_transport::{Authority, Endpoint, close_code, enrol};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{farm, renders_on};
use crate::support::farm::{FakeJob, Farm};
use crate::support::http::Http;
use crate::support::strangers::{self, Caller, Stranger, source};
use crate::support::{eventually, memory_mib};

/// What a crowd may cost the coordinator, whatever it does and for how long.
const GROWTH_MAX_MIB: u64 = 64;
/// Addresses that it comes from.
const SOURCES: u8 = 8;
/// Strangers of a kind, from each address.
const OF_A_KIND: usize = 250;
/// Strangers that begin a handshake and do not go on with it, from each address.
const HALF_OPEN: usize = 500;

/// Strangers took little memory, and few lines of the log.
#[track_caller]
fn nothing_but_few_lines(farm: &Farm, before: u64, lines_max: usize) {
    let said = farm.said("coordinator");
    let warnings = said.lines().filter(|line| line.contains(" WARN ")).count();
    assert!((1..=lines_max).contains(&warnings), "{warnings} lines:\n{said}");
    let (_, most) = memory_mib(farm.coordinator_pid());
    assert!(most < before + GROWTH_MAX_MIB, "from {before} to {most} MiB");
    crate::support::note(&format!("{warnings} lines, from {before} to at most {most} MiB"));
}

#[test]
fn ten_thousand_strangers_take_little_and_a_farm_renders_on() {
    let farm = farm();
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 50", 60));
    let (before, _) = memory_mib(farm.coordinator_pid());
    let address = farm.address();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let attempts = runtime.block_on(crowd(address));
    assert_eq!(attempts, 10_000);
    // One who belongs to the farm gets in amid all of it.
    assert_eq!(farm.grange(&["jobs", "--json"]).json().as_array().unwrap().len(), 1);
    renders_on(&farm, job, 60);
    // A line for each address and kind at most, and few kinds.
    nothing_but_few_lines(&farm, before, 6 * usize::from(SOURCES + 1));
}

/// Returns how many tried.
async fn crowd(farm: SocketAddr) -> usize {
    let packets = strangers::first_packets(HALF_OPEN * usize::from(SOURCES)).await;
    let mut packets = packets.chunks(HALF_OPEN);
    let csr = Arc::new(strangers::request());
    let mut trying = JoinSet::new();
    for number in 1..=SOURCES {
        let packets = packets.next().unwrap().to_vec();
        trying.spawn_blocking(move || {
            strangers::send_from(source(number), farm, &packets);
            packets.len()
        });
        for kind in [Stranger::NoCertificate, Stranger::ForeignCertificate, Stranger::Newcomer] {
            let csr = csr.clone();
            trying.spawn(async move {
                let caller = Arc::new(Caller::new(kind, source(number)));
                let at_once = Arc::new(Semaphore::new(64));
                let mut trying = JoinSet::new();
                for _ in 0..OF_A_KIND {
                    let (caller, csr) = (caller.clone(), csr.clone());
                    let turn = at_once.clone().acquire_owned().await.unwrap();
                    trying.spawn(async move {
                        let connected = caller.connect(farm).await;
                        if let (Stranger::Newcomer, Ok(connection)) = (kind, connected) {
                            strangers::join(&connection, &csr).await;
                        }
                        drop(turn);
                    });
                }
                trying.join_all().await.len()
            });
        }
    }
    trying.join_all().await.into_iter().sum()
}

#[test]
fn newcomers_who_only_sit_there_keep_nobody_out() {
    let farm = farm();
    let (before, _) = memory_mib(farm.coordinator_pid());
    let address = farm.address();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sitting = runtime.block_on(async {
        let mut connecting = JoinSet::new();
        for number in 1..=SOURCES {
            let caller = Arc::new(Caller::new(Stranger::Newcomer, source(number)));
            for _ in 0..OF_A_KIND {
                let caller = caller.clone();
                connecting.spawn(async move { caller.connect(address).await.ok() });
            }
        }
        connecting.join_all().await.into_iter().flatten().collect::<Vec<_>>()
    });
    assert!(sitting.len() > 256, "only {} got in", sitting.len());
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 5", 4));
    renders_on(&farm, job, 4);
    // Those who came first had to give way, and the rest is sent away when its patience ends.
    runtime.block_on(async {
        for connection in &sitting {
            let closed = tokio::time::timeout(Duration::from_secs(30), connection.closed()).await;
            closed.expect("whoever says nothing is sent away");
        }
    });
    nothing_but_few_lines(&farm, before, 6 * usize::from(SOURCES + 1));
}

/// Hosts that come back at once from behind one address, more than may be strangers at a time.
#[test]
fn hundreds_of_hosts_behind_one_address_come_back_at_once_and_all_get_in() {
    const HOSTS: usize = 300;
    let farm = Farm::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let authority = Authority::open(&farm.home().join("coordinator"), &"test".parse().unwrap());
        let authority = authority.unwrap();
        let client = farm.client().await;
        let joined = client.create_token(Role::Agent, Duration::from_secs(60)).await.unwrap();
        let one =
            enrol::join(&joined.join.parse().unwrap(), "host".parse().unwrap()).await.unwrap();
        let mut coming = JoinSet::new();
        for _ in 0..HOSTS {
            // The same host as often: who it is makes no difference before it has shown that.
            let identity = authority.issue(&one.peer, one.farm.clone()).unwrap();
            coming.spawn(async move {
                let endpoint = Endpoint::new(&identity).unwrap();
                let until = tokio::time::Instant::now() + Duration::from_secs(40);
                while tokio::time::Instant::now() < until {
                    if let Ok(connection) = endpoint.connect().await {
                        // Its place is free for others, and for itself: one identity has only so many.
                        connection.close(close_code::DONE, b"");
                        return true;
                    }
                }
                false
            });
        }
        let came = coming.join_all().await;
        assert_eq!(came.into_iter().filter(|came| *came).count(), HOSTS);
    });
}

#[test]
fn thousands_who_say_nothing_or_half_a_sentence_to_the_http_api_hold_up_nobody() {
    let farm = farm();
    let http = Http::of(&farm, "submitter");
    let (before, _) = memory_mib(farm.coordinator_pid());
    let address: SocketAddr = http.base.strip_prefix("https://").unwrap().parse().unwrap();
    let mut crowd = Vec::new();
    for number in 0..2_400_u32 {
        let mut stream = from(source((number % 8) as u8 + 1), address);
        if number % 2 == 1 {
            // The beginning of a TLS record that never goes on.
            let _ = stream.write_all(&[22, 3, 1, 2, 0, 1]);
        }
        crowd.push(stream);
    }
    for _ in 0..20 {
        assert_eq!(http.get("/api/v1/farm").json(200)["farm"], "test");
    }
    nothing_but_few_lines(&farm, before, 3 * usize::from(SOURCES));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", farm.coordinator_pid()));
    let files: Vec<String> = limits
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("Max open files"))
        .flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(files[0], files[1], "it takes as many files as it may have");
    drop(crowd);
}

/// Somebody who has begun to say who they are, and does not go on while the door is shut.
struct HalfSaid(Arc<AtomicBool>);

impl Read for HalfSaid {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        while !self.0.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(0)
    }
}

/// Lets them go on, also when a test fails.
struct LetsGo(Arc<AtomicBool>);

impl Drop for LetsGo {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn half_said_sign_ins_do_not_make_a_coordinator_look_dead() {
    let farm = farm();
    let http = Http::of(&farm, "viewer");
    let nobody = http.with_token("");
    let over = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _lets_go = LetsGo(over.clone());
        for _ in 0..80 {
            // Each on a connection of its own, as long as none of them is answered.
            scope.spawn(|| nobody.sign_in_from(HalfSaid(over.clone())));
        }
        eventually("all places at the door are taken", || {
            (nobody.get("/").status == 503).then_some(())
        });
        for path in ["/healthz", "/readyz"] {
            assert_eq!(nobody.get(path).status, 200, "{path}");
        }
        assert_eq!(http.get("/api/v1/farm").status, 200, "those who have signed in");
        eventually("they are sent away", || (nobody.get("/").status == 200).then_some(()));
    });
}

/// A connection from an address of this host.
fn from(source: std::net::IpAddr, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::new(source, 0)).unwrap();
    eventually("a connection", || connect(&socket, &to).ok());
    TcpStream::from(socket)
}
