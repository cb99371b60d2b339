//! Bytes between the parts of a farm: QUIC with mutual TLS, typed messages, files.
//!
//! Owns identities and how they are made ([`identity`], [`authority`], [`enrol`]), the tuned QUIC
//! endpoint ([`endpoint`]) on its [`socket`], what a coordinator says of connections from before it was started
//! ([`reset`]), streams of messages ([`message`]) and of file bytes ([`file`]). Never
//! decides anything and never touches a disk but for identities.
//!
//! Goals: nobody talks to a farm without a certificate of that farm; a link of any kind is used
//! to its bandwidth; a broken transfer goes on where it broke. Non-goals: passing firewalls,
//! relays, any other transport.

pub mod authority;
pub mod endpoint;
pub mod enrol;
pub mod exchange;
pub mod file;
pub mod identity;
pub mod message;
pub mod reset;
pub mod socket;
mod tls;

pub use authority::Authority;
pub use endpoint::{ConnectError, Endpoint, Listener, close_code};
pub use identity::{Identity, IdentityError, Peer};
pub use message::{Receiver, Sender, StreamError};
pub use reset::ResetKey;
pub use socket::Socket;

/// quinn's handle of one connection; cheap to clone.
pub use quinn::{Connection, ConnectionError};
/// The halves of a raw stream, for those that move files over one.
pub use quinn::{RecvStream, SendStream};
