//! What this machine has and allows, found out by trying: facts for `cepa doctor`, which judges them.
//! Each function asks once, waits for nobody but the kernel and the disk, and leaves nothing behind.

mod clock;
mod disk;
mod ring;
mod system;

pub use self::clock::{ClockState, clock_state};
pub use self::disk::{
    DirectoryFacts, WriteTimes, directory_facts, filesystem_name, time_durable_writes,
};
pub use self::ring::{RingFacts, RingRefusal, ring_facts, try_packet_io};
pub use self::system::{Limit, Limits, allowed_cpus, limits};
pub use crate::lock::is_in_use as is_data_dir_in_use;
