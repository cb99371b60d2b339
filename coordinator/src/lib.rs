//! The coordinator: the shell around the scheduler's pure core.
//!
//! One loop owns the core and the journal ([`farm`]); every connection ([`connection`]) talks to it
//! by messages; the HTTP API ([`http`]) says the same in JSON. Instances that people drive have their
//! calls in [`sessions`]; what people should know of what happens is decided by [`history`], and
//! whoever wants to be called hears of it by [`webhooks`].
//! Decisions are the scheduler's, SQL is the journal's, bytes on the wire are the transport's.
//!
//! ```no_run
//! # async fn example(config: grange_coordinator::Config) -> anyhow::Result<()> {
//! let server = grange_coordinator::Server::bind(config).await?;
//! println!("listening on {}", server.local_addr());
//! server.shutdown().await;
//! # Ok(()) }
//! ```

mod backup;
mod check;
pub mod config;
mod connection;
pub mod daemon;
mod farm;
mod history;
mod hours;
pub mod http;
mod journal;
mod keeping;
mod links;
mod news;
mod pictures;
mod rate;
mod refusals;
mod server;
mod sessions;
mod storage;
mod strangers;
mod telling;
mod views;
mod watching;
mod webhooks;

pub use config::{Config, HttpListen, Keep, Settings};
pub use server::Server;
pub use webhooks::{Hidden, WebhookSettings};
