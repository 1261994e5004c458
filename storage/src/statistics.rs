//! Counts and sizes, for operators: declared once, with what they mean.

use std::collections::BTreeMap;

use cepa_meter::{Bounds, Declared, LabelValue, Sample};
use cepa_wire::Namespace;

use crate::Tally;

/// Changes in a commit: at most some 2,000.
static CHANGES: Bounds = Bounds::new(&[0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048], 1);

cepa_meter::numbers! {
    /// Counts and sizes, for operators. Counts are since the shard began.
    #[derive(Copy)]
    pub struct Statistics, named "store_";
    /// Messages that can be retrieved, and those that expired and are not yet removed.
    gauge message_count as messages,
    /// Bytes of their records.
    gauge message_bytes,
    /// Mailboxes with messages.
    gauge mailbox_count as mailboxes,
    /// Bytes of memory that the index takes.
    gauge index_memory_bytes,
    /// Logs of this node: their number is fixed when a data directory is made.
    gauge log_count as logs,
    /// Logs in doubt: a commit failed, and until the next one is durable nothing is answered from memory.
    gauge doubtful_log_count as logs_in_doubt,
    /// Bytes that the segment files take.
    gauge used_bytes,
    /// Bytes that the segment files may take: `store_capacity_mib`.
    gauge capacity_bytes,
    /// Commands that were taken and are not answered yet.
    gauge unanswered_count as commands_running,
    /// Changes that wait for a commit.
    gauge waiting_change_count as changes_waiting,
    /// Commits that are being written.
    gauge running_commit_count as commits_running,
    /// Segment files of the log.
    gauge segment_count as segments,
    /// Damaged stretches that recovery stepped over: records whose checksum did not match, and runs
    /// of bytes that are no record.
    count corrupt_record_count as corrupt_records,
    /// Bytes of commits that a crash tore before anybody was answered.
    count torn_tail_bytes,
    /// Blocks that recovery could not read.
    count unread_block_count as unread_blocks,
    /// Segments of another version of the format. They are left as they are, and not read.
    count foreign_segment_count as foreign_segments,
    /// Reads of messages.
    count read_count as reads,
    /// Records that a read skipped: not readable, or damaged. A damaged one is forgotten, so that it
    /// can be stored again.
    count failed_read_count as failed_reads,
    /// Operations that the disk failed.
    count disk_fault_count as disk_faults,
    /// Syncs that failed after their changes were answered: only with relaxed durability.
    count failed_sync_count as failed_syncs,
    /// Commits that ended well.
    count commit_count as commits,
    /// Changes that one commit answered: of a sole asker it is 1, and the more are answered the more the log has
    /// to do.
    histogram(CHANGES) commit_changes,
    /// Bytes of records in the commits. All that was written divided by this is the write amplification.
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
    count expired_count as expired,
    /// Messages that were removed because their mailbox is not ours.
    count purged_count as purged,
    /// Segments that were ended with an index.
    count sealed_segment_count as sealed_segments,
    /// Segments whose live records were copied elsewhere.
    count compacted_segment_count as compacted_segments,
    /// Segments that were removed.
    count removed_segment_count as removed_segments,
    /// Messages that were read from the tail in memory, without the disk.
    count tail_read_count as tail_reads,
}

impl Statistics {
    /// Counts what one commit answered.
    pub(crate) fn count_changes(&mut self, count: usize) {
        self.commit_changes.record(&CHANGES, count as u64);
    }

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

cepa_meter::numbers! {
    /// What is told of messages beside.
    struct Contents, named "store_";
    /// Messages of mailboxes of other swarms, counted once a minute.
    gauge foreign_messages,
    /// Messages by namespace: of those that Session's clients use, and of all `other` ones together.
    gauges(namespace) namespace_messages,
}

/// Namespaces that Session's clients use (`../shared/protocol/session-client.md`). Any account may use each of 65,536:
/// no stranger is to make labels.
const NAMESPACES: [i16; 11] = [-11, -10, 0, 2, 3, 4, 5, 11, 12, 13, 14];

/// The label of a namespace.
fn namespace_label(namespace: Namespace) -> LabelValue {
    if NAMESPACES.contains(&namespace.0) {
        namespace.0.to_string().into()
    } else {
        "other".into()
    }
}

impl Report {
    /// What is declared of the message store.
    pub fn declared() -> impl Iterator<Item = &'static Declared> {
        Statistics::DECLARED.iter().chain(Contents::DECLARED)
    }

    /// All numbers.
    pub fn samples(&self) -> Vec<Sample> {
        let mut by_label = BTreeMap::<LabelValue, u64>::new();
        for (namespace, tally) in &self.namespaces {
            *by_label.entry(namespace_label(*namespace)).or_default() += tally.count;
        }
        let contents = Contents {
            foreign_messages: self.foreign_message_count,
            namespace_messages: by_label.into_iter().collect(),
        };
        let mut samples = self.statistics.samples();
        samples.extend(contents.samples());
        samples
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_told_by_namespace_and_as_a_whole() {
        let mut report = Report::default();
        report.statistics.message_count = 5;
        report.statistics.count_changes(3);
        report.foreign_message_count = 3;
        let tally = Tally { count: 5, size: 9 };
        report.namespaces.insert(Namespace(-10), tally);
        for strange in [1, 20, i16::MIN] {
            report.namespaces.insert(Namespace(strange), tally);
        }
        report += report.clone();
        let samples = report.samples();
        let told = samples.iter().map(|sample| {
            let label = sample.label.as_deref();
            (sample.name(), label, sample.recorded())
        });
        let told: Vec<_> = told.filter(|(.., value)| *value > 0).collect();
        let expected = [
            ("cepa_store_messages", None, 10),
            ("cepa_store_commit_changes", None, 2),
            ("cepa_store_foreign_messages", None, 6),
            ("cepa_store_namespace_messages", Some("-10"), 10),
            ("cepa_store_namespace_messages", Some("other"), 30),
        ];
        assert_eq!(told, expected);
    }
}
