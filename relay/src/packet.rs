//! The packet lane, sans-IO: what happens to a batch of datagrams.

pub mod answers;
pub mod batch;
pub mod bucket;
pub mod delay;
pub mod directory;
pub mod drop_reason;
pub mod io_counters;
pub mod links;
pub mod peeler;
pub mod relay;
pub mod replay;
pub mod replay_epochs;
pub mod terminal;
