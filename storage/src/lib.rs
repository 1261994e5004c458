//! The message store of one shard: a segment log, an index in memory, expiry, compaction and
//! recovery.
//!
//! A [`Shard`] is driven: commands and completed disk operations go in, disk operations and outcomes
//! come out, and time is an argument. What is answered as stored is on disk; what is read was
//! checksummed.
//!
//! - **Log.** Segments of a fixed size hold records ([`cepa_wire::record`]). One segment is open for
//!   each expiry class, so that most segments die whole; a block that holds an acknowledged record
//!   is never written again. A sealed segment ends with an index of what stands in it.
//! - **Commit.** What waits when a commit may begin is the next one: a durable write into each
//!   segment that it has records for, then the answers. Several are under way at a time. When one
//!   fails, those under way fail with it, and the next segment's header declares them void.
//! - **Index.** Every live message, by box in the order of arrival and by hash: 64 bytes each and 6
//!   to 11 of tables. Only what is durable is in it.
//! - **Removal.** A segment is removed when no live message needs a record of it, and when every
//!   segment whose records it hides is gone. One that is mostly dead is compacted.
//! - **Recovery.** Of a sealed segment its index is read, any other is read whole. What a checksum
//!   refuses is stepped over and counted in [`Statistics`]; storage itself logs nothing.
//! - **Slices.** Sweeping, purging, compacting, sealing and counting are done in slices of well
//!   under a millisecond.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

mod catalog;
mod class;
pub mod command;
pub mod disk;
mod index;
mod scan;
mod segment;
mod settings;
mod shard;
mod state;
pub mod statistics;
mod tail;
pub mod territory;

pub use command::{Command, DumpedMessage, Outcome, StoreFault, StoredMessage, Ticket};
pub use disk::Disk;
pub use index::Tally;
pub use settings::{Durability, Settings};
pub use shard::Shard;
pub use statistics::{Report, Statistics};
