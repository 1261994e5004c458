//! The data plane, sans-IO: what happens to an onion request at this hop.
//!
//! No clock, no randomness, no socket, no log line: bytes go in, and each onion ends in exactly one
//! [`onion::Step`], which has a counter in [`counters::Counters`].
#![forbid(unsafe_code)]

pub mod counters;
pub mod onion;
pub mod packet;
pub mod peer_table;

pub use counters::Counters;
pub use peer_table::{PeerIndex, PeerTable};
