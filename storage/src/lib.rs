//! The message store of one shard: a segment log, an index in memory, expiry and recovery.
//!
//! A [`Shard`] is driven: commands and completed disk operations go in, disk operations and outcomes
//! come out, and time is an argument. What is answered as stored is on disk; what is read was
//! checksummed.
//!
//! - **Log.** Segments of a fixed size hold records ([`cepa_wire::record`]) in the order of arrival.
//!   Only the open segment is appended to; a block that holds an acknowledged record is never
//!   written again.
//! - **Commit.** What waits when the previous commit ends is the next one: one write of whole
//!   blocks, one sync, then the answers. A commit that fails ends its segment, and the next
//!   segment's header declares void what the failed commit may have left.
//! - **Index.** Every live message, by box in the order of arrival, by hash and by expiry: some
//!   350 bytes each. Only what is durable is in it.
//! - **Removal.** A segment is removed when no live message needs a record of it, and when every
//!   older segment whose records it hides (by a Delete or a void) is gone. A segment lives as long
//!   as its longest-lived message; nothing is compacted.
//! - **Recovery.** Every segment is read once, in chunks. What a checksum refuses is stepped over
//!   and counted in [`Statistics`]; the host logs a warning from there, storage itself logs nothing.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

mod catalog;
pub mod command;
pub mod disk;
mod index;
mod scan;
mod segment;
mod shard;
mod tail;

pub use command::{Command, Outcome, StoreFault, StoredMessage, Ticket};
pub use disk::Disk;
pub use shard::{Settings, Shard, Statistics};
