//! A client of the Session network: accounts write to each other through onions of three relays.
//!
//! What decides stands apart from what waits: paths ([`path`]), onions ([`onion`]), the reading of
//! answers ([`answer`]) and what to do after a failure ([`failure`]) are values and functions that take
//! randomness and time as arguments; [`Client`] carries bytes between them and the network.
#![forbid(unsafe_code)]

pub mod answer;
pub mod bootstrap;
mod client;
pub mod cursors;
mod error;
pub mod failure;
mod http;
mod lane;
pub mod onion;
pub mod packet_lane;
pub mod path;
pub mod state;
mod system;
#[cfg(test)]
mod testing;

pub use bootstrap::Bootstrap;
pub use client::{
    Client, ClientSettings, DeleteReport, NodeInfo, ReceiveReport, StoreReport, direct_info,
    is_ready,
};
pub use cursors::Cursors;
pub use error::ClientError;
pub use lane::{Lane, lane_size};
pub use packet_lane::ExchangeSettings;
