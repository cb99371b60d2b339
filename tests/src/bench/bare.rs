//! A bare sender and receiver over the same QUIC endpoint: a stream per file, hashed and written,
//! and answered with one byte. What is left when everything that makes a farm is taken away.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use bytes::Bytes;
use grange_protocol::client::Role;
use grange_protocol::file::Blob;
use grange_protocol::{AgentId, BlobHash};
use grange_transport::endpoint::Accepted;
use grange_transport::identity::FarmAddress;
use grange_transport::{
    Authority, Connection, Endpoint, Identity, Listener, Peer, RecvStream, SendStream, exchange,
    file,
};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::processes::cpu_s;

/// A receiver process.
pub(crate) struct Receiver {
    child: Child,
    identity: Identity,
}

impl Receiver {
    /// Starts one that writes to `out`.
    pub(crate) fn start(out: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--bare-receiver")
            .arg(out)
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let identity = Identity::load(Path::new(line.trim()))?;
        Ok(Self { child, identity })
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        Ok(Endpoint::new(&self.identity)?.connect().await?)
    }

    pub(crate) fn cpu_s(&self) -> anyhow::Result<f64> {
        cpu_s(self.child.id())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends one file and waits for the answer.
pub(crate) async fn send(
    connection: &Connection,
    name: &str,
    blob: Blob,
    source: File,
) -> anyhow::Result<()> {
    let (mut send, mut recv) = connection.open_bi().await?;
    let mut head = blob.hash.as_bytes().to_vec();
    head.push(name.len() as u8);
    head.extend_from_slice(name.as_bytes());
    send.write_all(&head).await?;
    exchange::send_from(&mut send, source, 0).await?;
    let mut answer = [0];
    recv.read_exact(&mut answer).await?;
    anyhow::ensure!(answer == *b"y", "{name} arrived damaged");
    Ok(())
}

/// The receiver process: prints the directory of an identity to connect with, then serves.
pub(crate) fn receive(out: &Path) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let name = "bare".parse()?;
        let keys = out.join("keys");
        fs::create_dir_all(&keys)?;
        let authority = Authority::open(&keys, &name)?;
        let mut address = FarmAddress { name: name.clone(), addresses: Vec::new() };
        let own = authority.coordinator(address.clone())?;
        let listener = Listener::bind("127.0.0.1:0".parse()?, &own, &authority.reset_key())?;
        address.addresses.push(listener.local_addr()?.to_string());
        let peer = Peer { id: AgentId(Uuid::nil()), role: Role::Agent, name };
        authority.issue(&peer, address)?.save(&keys.join("sender"))?;
        writeln!(std::io::stdout(), "{}", keys.join("sender").display())?;
        while let Some(knock) = listener.knock().await {
            let Ok(Accepted::Member(_, connection)) = knock.accept().await else { continue };
            let out = out.to_owned();
            tokio::spawn(async move {
                while let Ok((send, recv)) = connection.accept_bi().await {
                    tokio::spawn(take(out.clone(), send, recv));
                }
            });
        }
        Ok(())
    })
}

async fn take(out: PathBuf, mut send: SendStream, mut recv: RecvStream) -> anyhow::Result<()> {
    let mut head = [0; 33];
    recv.read_exact(&mut head).await?;
    let mut name = vec![0; usize::from(head[32])];
    recv.read_exact(&mut name).await?;
    let path = out.join(String::from_utf8(name)?);
    let (pieces, mut incoming) = file::incoming();
    let writing = spawn_blocking(move || {
        let mut file = File::create(path)?;
        let mut hasher = blake3::Hasher::new();
        while let Some(piece) = incoming.blocking_recv() {
            for bytes in piece {
                hasher.update(&bytes);
                file.write_all(&bytes)?;
            }
        }
        anyhow::Ok(BlobHash::from(hasher.finalize()))
    });
    file::receive(Bytes::new(), &mut recv, &pieces).await?;
    drop(pieces);
    let good = writing.await??.as_bytes()[..] == head[..32];
    send.write_all(if good { b"y" } else { b"n" }).await?;
    send.finish()?;
    Ok(())
}
