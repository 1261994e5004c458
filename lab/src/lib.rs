//! A network in a test: a [`Chain`] that a test advances, and an [`Oxend`] for each node, which speaks
//! the chain daemon's side of the protocol (`../shared/protocol/session-node.md`, "Obligations towards
//! `oxend`") over real sockets. For tests alone: nothing here is built into the node.
#![forbid(unsafe_code)]

mod chain;
mod oxend;

pub use chain::Chain;
pub use oxend::{Listen, Oxend};
