//! Bytes and values of the Session network: what stands on the wire and on the disk, without I/O and
//! without a clock.
//!
//! Everything here reads what a stranger or a broken disk wrote. Bytes are checked once, at the
//! door, and become a type; after that no accessor fails.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

pub mod answer;
pub mod bt;
pub mod bt_stream;
pub mod contact;
pub mod exposition;
pub mod host;
mod json;
pub mod key;
pub mod mailbox;
pub mod missed;
pub mod monitor;
pub mod omq;
pub mod onion;
pub mod oxend;
pub mod packet;
pub mod record;
pub mod request;
pub mod service_node;
pub mod timestamp;
pub mod transfer;
pub mod udp_frame;
pub mod zmtp;

pub use key::{Ed25519PublicKey, Signature, X25519PublicKey};
pub use mailbox::{Direction, Mailbox, MessageHash, Namespace, Scope, SubaccountToken};
pub use service_node::ServiceNode;
pub use timestamp::Timestamp;
