//! Real nodes on loopback, spoken to by hand-made HTTPS and OMQ: what the protocol pages promise.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test ends it"
)]

mod abuse;
mod conformance;
mod convergence;
mod descriptors;
mod doctor;
mod full;
mod https;
mod import;
mod kill;
mod logs;
mod network;
mod omq;
mod oxend;
mod packets;
mod reload;
mod sandbox;
mod supervised;
mod swarm;
