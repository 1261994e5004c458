//! The state machine. Each stage has its file: recovery, commit, read, expiry.

mod commit;
mod expiry;
mod read;
mod recovery;

use std::collections::{BTreeMap, VecDeque};

use cepa_wire::Timestamp;
use cepa_wire::record::{RECORD_SIZE_MAX, SEGMENT_HEADER_SIZE};
use cepa_wire::request::MESSAGE_SIZE_MAX;

use self::commit::Committer;
use self::read::Reader;
use self::recovery::Recovery;
use crate::catalog::Catalog;
use crate::disk::{BLOCK_SIZE, Completion, DiskError, Done, Operation, SegmentId, Token};
use crate::tail::TailCache;
use crate::{Command, Disk, Outcome, StoreFault, Ticket};

/// How a shard is set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Size of a segment file in bytes. Taken down to whole blocks, and to between
    /// [`Self::SEGMENT_SIZE_MIN`] and [`Self::SEGMENT_SIZE_MAX`].
    pub segment_size: u64,
    /// Most commands that wait for the disk; more are answered `Busy`.
    pub waiting_count_max: usize,
    /// Bytes of the log's tail that are kept in memory, so that fresh messages are read without the
    /// disk.
    pub tail_cache_size: usize,
}

impl Settings {
    /// A segment holds its header and the largest record.
    pub const SEGMENT_SIZE_MIN: u64 =
        (SEGMENT_HEADER_SIZE + RECORD_SIZE_MAX.next_multiple_of(BLOCK_SIZE)) as u64;
    /// A segment is read whole by recovery, and kept for its longest-lived message: more than a
    /// GiB serves nobody.
    pub const SEGMENT_SIZE_MAX: u64 = 1 << 30;
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_size: 64 << 20,
            waiting_count_max: 1024,
            tail_cache_size: 8 << 20,
        }
    }
}

/// Counts and sizes, for operators. Counts are since the shard began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Messages that can be retrieved, and those that expired and are not yet removed.
    pub message_count: u64,
    /// Segment files of the log.
    pub segment_count: u64,
    /// Damaged stretches that recovery stepped over: records whose checksum did not match, and runs
    /// of bytes that are no record.
    pub corrupt_record_count: u64,
    /// Bytes that recovery cut from torn tails.
    pub torn_tail_bytes: u64,
    /// Blocks that recovery could not read.
    pub unread_block_count: u64,
    /// Segments of a later version of the format. They are left as they are, and not read.
    pub foreign_segment_count: u64,
    /// Records that a retrieve skipped: not readable, or damaged. A damaged one is forgotten, so that
    /// it can be stored again.
    pub failed_read_count: u64,
    /// Operations that the disk failed.
    pub disk_fault_count: u64,
    /// Commits that became durable.
    pub commit_count: u64,
    /// Bytes of records in them. Divided into `committed_bytes` it is the write amplification.
    pub record_bytes: u64,
    /// Bytes that they wrote: records, padding to blocks and segment headers.
    pub committed_bytes: u64,
    /// Messages that expired.
    pub expired_count: u64,
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
            || self.torn_tail_bytes > 0
            || self.unread_block_count > 0
            || self.foreign_segment_count > 0
    }
}

/// One shard of the message store.
pub struct Shard<D: Disk> {
    io: Io<D>,
    waiting_count_max: usize,
    /// The latest time seen: a clock that is set back does not bring expired messages back.
    clock: Timestamp,
    /// `None` once it is done.
    recovery: Option<Recovery>,
    catalog: Catalog,
    tail_cache: TailCache,
    committer: Committer,
    reader: Reader,
    outcomes: VecDeque<(Ticket, Outcome)>,
    /// Commands that were taken and have no outcome yet.
    unanswered_count: usize,
    counts: Statistics,
}

impl<D: Disk> Shard<D> {
    /// Begins recovery; commands may be submitted at once and wait until it is done.
    pub fn new(disk: D, settings: Settings) -> Self {
        let Settings {
            segment_size,
            waiting_count_max,
            tail_cache_size,
        } = settings;
        let segment_size = (segment_size - segment_size % BLOCK_SIZE as u64)
            .clamp(Settings::SEGMENT_SIZE_MIN, Settings::SEGMENT_SIZE_MAX);
        let mut shard = Self {
            io: Io {
                disk,
                purposes: BTreeMap::new(),
                next_token: 0,
            },
            waiting_count_max,
            clock: Timestamp::ZERO,
            recovery: Some(Recovery::default()),
            catalog: Catalog::default(),
            tail_cache: TailCache::new(tail_cache_size),
            committer: Committer::new(segment_size),
            reader: Reader::default(),
            outcomes: VecDeque::new(),
            unanswered_count: 0,
            counts: Statistics::default(),
        };
        shard.begin_recovery();
        shard
    }

    /// The disk.
    pub const fn disk_mut(&mut self) -> &mut D {
        &mut self.io.disk
    }

    /// Whether recovery is done.
    pub const fn is_recovered(&self) -> bool {
        self.recovery.is_none()
    }

    /// Takes a command; its outcome comes from [`Self::poll_outcome`].
    pub fn handle_command(&mut self, ticket: Ticket, command: Command, now: Timestamp) {
        self.clock = self.clock.max(now);
        let refusal = match &command {
            Command::Store { data, .. } if data.len() > MESSAGE_SIZE_MAX => StoreFault::TooLarge,
            _ if self.unanswered_count >= self.waiting_count_max => StoreFault::Busy,
            _ => {
                self.unanswered_count += 1;
                self.enqueue(ticket, command);
                self.retry_recovery();
                return;
            }
        };
        self.outcomes.push_back((ticket, Outcome::Failed(refusal)));
    }

    /// Takes what the disk completed and begins what can begin (a group commit, reads, expiry).
    /// Call it after commands and whenever the disk has completions.
    pub fn handle_disk(&mut self, now: Timestamp) {
        self.clock = self.clock.max(now);
        let mut is_expiry_due = true;
        loop {
            if self.is_recovered() {
                if core::mem::take(&mut is_expiry_due) {
                    self.expire();
                }
                self.begin_commit();
                self.begin_retrievals();
                self.begin_removals();
            }
            let Some(completion) = self.io.disk.poll() else {
                break;
            };
            self.handle_completion(completion);
        }
    }

    /// The next outcome.
    pub fn poll_outcome(&mut self) -> Option<(Ticket, Outcome)> {
        self.outcomes.pop_front()
    }

    /// When [`Self::handle_disk`] wants to be called even if nothing happens (the next expiry).
    pub fn poll_deadline(&self) -> Option<Timestamp> {
        if self.is_recovered() {
            self.next_expiry()
        } else {
            None
        }
    }

    /// Counts and sizes.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            message_count: self.catalog.index.len() as u64,
            segment_count: self.catalog.segments.len() as u64,
            ..self.counts
        }
    }

    fn enqueue(&mut self, ticket: Ticket, command: Command) {
        match command {
            Command::Retrieve {
                mailbox,
                namespace,
                after,
                count_max,
                size_max,
            } => self.reader.enqueue(read::Retrieve {
                ticket,
                mailbox,
                namespace,
                after: after.map(read::Cursor::Hash),
                count_max,
                size_max,
            }),
            Command::Store {
                mailbox,
                namespace,
                hash,
                timestamp,
                expiry,
                data,
            } => self.committer.enqueue(
                ticket,
                commit::Change::Store(commit::StoreChange {
                    mailbox,
                    namespace,
                    hash,
                    timestamp,
                    expiry,
                    data,
                }),
            ),
            Command::Delete { mailbox, hashes } => self.committer.enqueue(
                ticket,
                commit::Change::Delete(commit::DeleteChange::new(mailbox, hashes)),
            ),
        }
    }

    fn handle_completion(&mut self, Completion { token, result }: Completion) {
        // A token that we did not give out is the disk's fault, and names nothing.
        let Some(purpose) = self.io.purposes.remove(&token) else {
            return;
        };
        if result.is_err() {
            self.counts.disk_fault_count += 1;
        }
        match purpose {
            Purpose::Recovery => self.handle_recovery(result),
            Purpose::CommitWrite => self.handle_commit_write(done(result)),
            Purpose::CommitSync => self.handle_commit_sync(done(result)),
            Purpose::Create(segment) => self.handle_create(segment, done(result)),
            Purpose::Remove(segment) => self.handle_remove(segment, done(result)),
            Purpose::Read(run) => self.handle_read(&run, read_bytes(result)),
        }
    }

    fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        assert!(self.unanswered_count > 0, "a command has one outcome");
        self.unanswered_count -= 1;
        self.outcomes.push_back((ticket, outcome));
    }
}

/// The disk, and what its operations are for.
struct Io<D> {
    disk: D,
    purposes: BTreeMap<Token, Purpose>,
    next_token: u64,
}

/// What an operation is for.
enum Purpose {
    Recovery,
    CommitWrite,
    CommitSync,
    Create(SegmentId),
    Remove(SegmentId),
    Read(read::Run),
}

impl<D: Disk> Io<D> {
    fn submit(&mut self, purpose: Purpose, operation: Operation) {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.purposes.insert(token, purpose);
        self.disk.submit(token, operation);
    }
}

const fn fault(error: DiskError) -> StoreFault {
    match error {
        DiskError::Full => StoreFault::DiskFull,
        DiskError::Failed => StoreFault::DiskFailed,
    }
}

/// Anything but what the operation gives is a failure of the disk.
fn done(result: Result<Done, DiskError>) -> Result<(), DiskError> {
    match result? {
        Done::Done => Ok(()),
        Done::Listed(_) | Done::Read(_) => Err(DiskError::Failed),
    }
}

fn read_bytes(result: Result<Done, DiskError>) -> Result<bytes::Bytes, DiskError> {
    match result? {
        Done::Read(bytes) => Ok(bytes),
        Done::Listed(_) | Done::Done => Err(DiskError::Failed),
    }
}
