//! The packet lane, sans-IO: what happens to a batch of datagrams.

pub mod bucket;
pub mod delay;
pub mod directory;
pub mod replay;
