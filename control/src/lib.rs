//! The control plane: what the operator wrote ([`config`], [`options`]), who is in the network
//! ([`network_file`], [`oxend`]), who of them can be reached ([`reachability`]), who has a packet
//! lane ([`packet_lane`]), who may ask us about it ([`seed`]) and how we fare ([`metrics`]).
//!
//! It runs on tokio, on one thread, and is never on a request's way: it publishes, and nobody waits
//! for it. If it stops, traffic flows with the last view.
#![forbid(unsafe_code)]

pub mod config;
mod curve;
pub mod endpoint;
pub mod metrics;
pub mod network_file;
pub mod options;
pub mod oxend;
pub mod packet_lane;
mod peer_https;
pub mod process;
pub mod reachability;
pub mod seed;
pub mod standing;

pub use config::{Config, NetworkSource};
pub use endpoint::Endpoint;
pub use network_file::{Network, NetworkFile};
pub use oxend::{OxendAddress, OxendClient, OxendHandle, OxendView};
pub use standing::Standing;
