//! What runs on tokio beside the pinned shards: the QUIC listener, the QUIC client that tests whether
//! a node is reached, and what passes onions on to servers.
//!
//! Nothing here knows the shards: [`quic::Endpoints`] is what requests are given to, and
//! [`proxy::ServerProxy`] is asked by whoever has an onion for a server.
#![forbid(unsafe_code)]

mod ledger;
pub mod proxy;
pub mod quic;
