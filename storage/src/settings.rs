//! How a shard is set up.

use core::time::Duration;

use cepa_wire::record::{RECORD_SIZE_MAX, SEGMENT_HEADER_SIZE};

use crate::disk::BLOCK_SIZE;

/// How a shard is set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Size of a segment file in bytes. Taken down to whole blocks, and to between
    /// [`Self::SEGMENT_SIZE_MIN`] and [`Self::SEGMENT_SIZE_MAX`].
    pub segment_size: u64,
    /// Most commands that wait for the disk; more are answered `Busy`.
    pub waiting_count_max: usize,
    /// Commits that may be under way at a time; at least one.
    pub commit_count_max: usize,
    /// Bytes of the log's tail that are kept in memory, so that fresh messages are read without the
    /// disk.
    pub tail_cache_size: usize,
    /// When a change is answered.
    pub durability: Durability,
    /// Bytes of segment files that there may be.
    pub capacity: u64,
    /// Bytes of records of one mailbox. When the store fills up the limit sinks, so that the largest
    /// stop first and the others go on.
    pub mailbox_size_max: u64,
    /// Messages of one mailbox.
    pub mailbox_message_count_max: u32,
    /// How long messages stay whose mailbox is no longer in our territory.
    pub foreign_grace: Duration,
    /// The largest dead share of a sealed segment, of a hundred, that is not worth copying the rest.
    pub dead_percent_max: u8,
    /// Keys the look-up tables, so that nobody can choose hashes that make them slow. The host draws
    /// it at random.
    pub table_key: [u8; 16],
    /// Skips a step of recovery on purpose: proves that the checker finds it. Never set but there.
    #[doc(hidden)]
    pub has_deliberate_bug: bool,
}

/// When a change is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on the disk for sure.
    Durable,
    /// When it is written; it is made durable at most so much later. A crash of the machine may
    /// lose what was acknowledged in that time, a crash of the process does not.
    Relaxed(Duration),
}

impl Settings {
    /// A segment holds its header, the largest record and what is written about it, and its trailer.
    pub const SEGMENT_SIZE_MIN: u64 =
        (2 * SEGMENT_HEADER_SIZE + 3 * RECORD_SIZE_MAX.next_multiple_of(BLOCK_SIZE)) as u64;
    /// Positions in memory have 27 bits, of eight bytes.
    pub const SEGMENT_SIZE_MAX: u64 = 1 << 30;

    pub(crate) const fn normal(self) -> Self {
        let whole = self.segment_size - self.segment_size % BLOCK_SIZE as u64;
        let segment_size = if whole < Self::SEGMENT_SIZE_MIN {
            Self::SEGMENT_SIZE_MIN
        } else if whole > Self::SEGMENT_SIZE_MAX {
            Self::SEGMENT_SIZE_MAX
        } else {
            whole
        };
        let commit_count_max = if self.commit_count_max == 0 {
            1
        } else {
            self.commit_count_max
        };
        Self {
            segment_size,
            commit_count_max,
            ..self
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_size: 64 << 20,
            waiting_count_max: 4096,
            commit_count_max: 2,
            tail_cache_size: 8 << 20,
            durability: Durability::Durable,
            capacity: 10 << 30,
            mailbox_size_max: 64 << 20,
            mailbox_message_count_max: 50_000,
            foreign_grace: Duration::from_hours(24),
            dead_percent_max: 50,
            table_key: [0; 16],
            has_deliberate_bug: false,
        }
    }
}
