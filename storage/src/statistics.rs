//! Counts and sizes, for operators: declared once, with what they mean.

use std::collections::BTreeMap;

use cepa_wire::Namespace;

use crate::Tally;

/// A number that goes up and down, or one that only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How it is now.
    Gauge,
    /// How often, since the shard began.
    Count,
}

/// A number with its name and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// As the field is called.
    pub name: &'static str,
    /// A sentence.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// The number.
    pub value: u64,
}

macro_rules! statistics {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:ident,)+) => {
        /// Counts and sizes, for operators. Counts are since the shard began.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Statistics {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Statistics {
            /// All of them, in the order of declaration.
            pub fn samples(&self) -> Vec<Sample> {
                vec![$(Sample {
                    name: stringify!($name),
                    help: concat!($($doc),+).trim_ascii(),
                    kind: statistics!(@ $kind),
                    value: self.$name,
                },)+]
            }
        }

        impl core::ops::AddAssign for Statistics {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)+
            }
        }
    };
    (@ gauge) => { Kind::Gauge };
    (@ count) => { Kind::Count };
}

statistics! {
    /// Messages that can be retrieved, and those that expired and are not yet removed.
    gauge message_count,
    /// Bytes of their records.
    gauge message_bytes,
    /// Mailboxes with messages.
    gauge mailbox_count,
    /// Bytes of memory that the index takes.
    gauge index_memory_bytes,
    /// Segment files of the log.
    gauge segment_count,
    /// Damaged stretches that recovery stepped over: records whose checksum did not match, and runs
    /// of bytes that are no record.
    count corrupt_record_count,
    /// Bytes of commits that a crash tore before anybody was answered.
    count torn_tail_bytes,
    /// Blocks that recovery could not read.
    count unread_block_count,
    /// Segments of another version of the format. They are left as they are, and not read.
    count foreign_segment_count,
    /// Reads of messages.
    count read_count,
    /// Records that a read skipped: not readable, or damaged. A damaged one is forgotten, so that it
    /// can be stored again.
    count failed_read_count,
    /// Operations that the disk failed.
    count disk_fault_count,
    /// Syncs that failed after their changes were answered: only with relaxed durability.
    count failed_sync_count,
    /// Commits that ended well.
    count commit_count,
    /// Bytes of records in them. All that was written divided by this is the write amplification.
    count record_bytes,
    /// Bytes of copies in them, by compaction.
    count copied_bytes,
    /// Bytes that they wrote: records, copies, padding to blocks and segment headers.
    count committed_bytes,
    /// Bytes of indexes that were written at the end of segments.
    count index_bytes,
    /// Bytes of segments that were prepared, which writes zeros.
    count prepared_bytes,
    /// Messages that expired.
    count expired_count,
    /// Messages that were removed because their mailbox is not ours.
    count purged_count,
    /// Segments that were ended with an index.
    count sealed_segment_count,
    /// Segments whose live records were copied elsewhere.
    count compacted_segment_count,
    /// Segments that were removed.
    count removed_segment_count,
    /// Messages that were read from the tail in memory, without the disk.
    count tail_read_count,
}

impl Statistics {
    /// Whether recovery found damage. The host looks once, when recovery is done, and logs one
    /// warning with the counts.
    pub const fn is_damaged(&self) -> bool {
        self.corrupt_record_count > 0
            || self.unread_block_count > 0
            || self.foreign_segment_count > 0
    }
}

/// What an operator may know of some shards together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Counts and sizes.
    pub statistics: Statistics,
    /// Messages by namespace.
    pub namespaces: BTreeMap<Namespace, Tally>,
    /// Messages of mailboxes that are not in our territory, when they were last counted.
    pub foreign_message_count: u64,
}

impl core::ops::AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.statistics += other.statistics;
        self.foreign_message_count += other.foreign_message_count;
        for (namespace, tally) in other.namespaces {
            let sum = self.namespaces.entry(namespace).or_default();
            sum.count += tally.count;
            sum.size += tally.size;
        }
    }
}
