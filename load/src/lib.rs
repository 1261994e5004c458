//! An open-loop load generator for nodes, without coordinated omission.
//!
//! Requests are due at times that a [`schedule`] says, whatever the answers take, and a latency counts from
//! when its request was *due*: a request that waits because everything before it is slow has waited, and the
//! histogram says so. A generator that sends the next request only after the last answer would leave those
//! out, and call a node that stood still for a second fast.
//!
//! - [`schedule`] says when requests are due, [`workload`] makes them ahead of time on a thread of its own.
//! - [`engine`] hands each to a free connection when it is due, and records what came of it.
//! - [`meter`] reads from `/proc` what the processes of local nodes used meanwhile.
//! - [`report`] is the outcome as one JSON document, [`table`] as text, [`plot`] as a picture.
//! - [`target`] decides who may be aimed at.
#![forbid(unsafe_code)]

mod clock;
pub mod engine;
pub mod https;
pub mod machine;
pub mod meter;
pub mod packets;
pub mod plot;
pub mod report;
pub mod schedule;
pub mod source;
pub mod table;
pub mod target;
pub mod workload;
