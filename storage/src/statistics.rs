//! Counts and sizes, for operators.

/// Counts and sizes, for operators. Counts are since the shard began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Messages that can be retrieved, and those that expired and are not yet removed.
    pub message_count: u64,
    /// Bytes of their records.
    pub message_bytes: u64,
    /// Mailboxes with messages.
    pub mailbox_count: u64,
    /// Bytes of memory that the index takes.
    pub index_memory_bytes: u64,
    /// Segment files of the log.
    pub segment_count: u64,
    /// Damaged stretches that recovery stepped over: records whose checksum did not match, and runs
    /// of bytes that are no record.
    pub corrupt_record_count: u64,
    /// Bytes of commits that a crash tore before anybody was answered.
    pub torn_tail_bytes: u64,
    /// Blocks that recovery could not read.
    pub unread_block_count: u64,
    /// Segments of another version of the format. They are left as they are, and not read.
    pub foreign_segment_count: u64,
    /// Reads of messages.
    pub read_count: u64,
    /// Records that a read skipped: not readable, or damaged. A damaged one is forgotten, so that it
    /// can be stored again.
    pub failed_read_count: u64,
    /// Operations that the disk failed.
    pub disk_fault_count: u64,
    /// Syncs that failed after their changes were answered: only with relaxed durability.
    pub failed_sync_count: u64,
    /// Commits that ended well.
    pub commit_count: u64,
    /// Bytes of records in them. All that was written divided by this is the write amplification.
    pub record_bytes: u64,
    /// Bytes of copies in them, by compaction.
    pub copied_bytes: u64,
    /// Bytes that they wrote: records, copies, padding to blocks and segment headers.
    pub committed_bytes: u64,
    /// Bytes of indexes that were written at the end of segments.
    pub index_bytes: u64,
    /// Bytes of segments that were prepared, which writes zeros.
    pub prepared_bytes: u64,
    /// Messages that expired.
    pub expired_count: u64,
    /// Messages that were removed because their mailbox is not ours.
    pub purged_count: u64,
    /// Segments that were ended with an index.
    pub sealed_segment_count: u64,
    /// Segments whose live records were copied elsewhere.
    pub compacted_segment_count: u64,
    /// Segments that were removed.
    pub removed_segment_count: u64,
    /// Messages that were read from the tail in memory, without the disk.
    pub tail_read_count: u64,
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
