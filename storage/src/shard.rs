//! The state machine. Each stage has its file: recovery, commit, read, expiry, seal, compact, dump.

mod change;
mod commit;
mod compact;
mod dump;
mod expiry;
mod judge;
mod part;
mod pending;
mod quota;
mod read;
mod recovery;
mod relaxed;
mod replay;
mod seal;
mod spare;
mod survey;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use cepa_wire::request::MESSAGE_SIZE_MAX;
use cepa_wire::{Namespace, Timestamp};

use self::change::{
    Change, DeleteAllChange, DeleteChange, ExpireAllChange, ExpireChange, StateChange, StoreChange,
};
use self::commit::Committer;
use self::compact::Compaction;
use self::dump::{DumpOrder, Dumper};
use self::expiry::Sweep;
use self::read::{Choice, Reader, Retrieve};
use self::recovery::Recovery;
use self::relaxed::Relaxed;
use self::seal::Sealing;
use self::survey::{Survey, Surveys};
use crate::catalog::Catalog;
use crate::disk::{Completion, DiskError, Done, Operation, SegmentId, Token};
use crate::index::Tally;
use crate::state::{Revocations, Subject, parse_cursor, peer};
use crate::tail::TailCache;
use crate::territory::{Territories, Territory};
use crate::{Command, Disk, Outcome, Settings, Statistics, StoreFault, Ticket};

/// One shard of the message store.
pub struct Shard<D: Disk> {
    io: Io<D>,
    settings: Settings,
    /// The latest time seen: a clock that is set back does not bring expired messages back.
    clock: Timestamp,
    /// `None` once it is done.
    recovery: Option<Recovery>,
    catalog: Catalog,
    tail_cache: TailCache,
    committer: Committer,
    relaxed: Relaxed,
    reader: Reader,
    dumper: Dumper,
    surveys: Surveys,
    sweep: Sweep,
    sealing: Option<Sealing>,
    compaction: Option<Compaction>,
    next_compaction: Timestamp,
    territories: Territories,
    /// Questions to the index that came before recovery was done.
    early: VecDeque<(Ticket, Command)>,
    outcomes: VecDeque<(Ticket, Outcome)>,
    /// Commands that were taken and have no outcome yet.
    unanswered_count: usize,
    last_fault: Option<StoreFault>,
    counts: Statistics,
}

fn grace_millis(grace: Duration) -> u64 {
    u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)
}

impl<D: Disk> Shard<D> {
    /// Begins recovery; commands may be submitted at once and wait until it is done.
    pub fn new(disk: D, settings: Settings) -> Self {
        let settings = settings.normal();
        let grace = grace_millis(settings.foreign_grace);
        let mut shard = Self {
            io: Io {
                disk,
                purposes: BTreeMap::new(),
                next_token: 0,
            },
            settings,
            clock: Timestamp::ZERO,
            recovery: Some(Recovery::default()),
            catalog: Catalog::new(&settings.table_key),
            tail_cache: TailCache::new(settings.tail_cache_size),
            committer: Committer::new(&settings.table_key),
            relaxed: Relaxed::default(),
            reader: Reader::default(),
            dumper: Dumper::default(),
            surveys: Surveys::new(),
            sweep: Sweep::default(),
            sealing: None,
            compaction: None,
            next_compaction: Timestamp::ZERO,
            territories: Territories::new(grace),
            early: VecDeque::new(),
            outcomes: VecDeque::new(),
            unanswered_count: 0,
            last_fault: None,
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

    /// Says which mailboxes are ours from now on. Messages of others are purged when they have been
    /// foreign for the grace period, without a trace in the log: after a restart they are there
    /// again, for as long.
    pub fn set_territory(&mut self, territory: Territory, now: Timestamp) {
        self.clock = self.clock.max(now);
        self.territories.set(territory, self.clock);
    }

    /// Changes how much a mailbox may hold and how long foreign messages stay, for what is judged from
    /// now on; both as in [`Settings`].
    pub fn set_limits(&mut self, mailbox_size_max: u64, foreign_grace: Duration) {
        self.settings.mailbox_size_max = mailbox_size_max;
        self.settings.foreign_grace = foreign_grace;
        self.territories.set_grace(grace_millis(foreign_grace));
    }

    /// Takes a command; its outcome comes from [`Self::poll_outcome`].
    pub fn handle_command(&mut self, ticket: Ticket, command: Command, now: Timestamp) {
        self.clock = self.clock.max(now);
        let refusal = match &command {
            Command::Store { data, .. } if data.len() > MESSAGE_SIZE_MAX => StoreFault::TooLarge,
            _ if self.unanswered_count >= self.settings.waiting_count_max => {
                self.retry_recovery();
                StoreFault::Busy
            }
            _ => {
                self.unanswered_count += 1;
                self.take(ticket, command);
                self.retry_recovery();
                return;
            }
        };
        self.outcomes.push_back((ticket, Outcome::Failed(refusal)));
    }

    /// Takes what the disk completed and begins what can begin (commits, reads, a slice of what is
    /// due). Call it after commands and whenever the disk has completions.
    pub fn handle_disk(&mut self, now: Timestamp) {
        self.clock = self.clock.max(now);
        let mut is_first = true;
        loop {
            if self.is_recovered() {
                if core::mem::take(&mut is_first) {
                    self.answer_early();
                    self.sweep();
                    self.survey();
                }
                self.begin_commits();
                self.begin_retrievals();
                self.begin_syncs_due();
                self.begin_dumps();
                self.begin_sealing();
                self.compact();
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

    /// When [`Self::handle_disk`] wants to be called even if nothing happens. A time that has come
    /// means that work is left and others may run first.
    pub fn poll_deadline(&self) -> Option<Timestamp> {
        if !self.is_recovered() {
            return None;
        }
        let survey = (!self.surveys.is_empty()).then_some(self.clock);
        let deadlines = [self.next_sweep(), self.next_sync(), survey];
        deadlines.into_iter().flatten().min()
    }

    /// Why stores fail, if they do for want of room or because of the disk; `None` when one succeeded
    /// since.
    pub const fn last_fault(&self) -> Option<StoreFault> {
        self.last_fault
    }

    /// Counts and sizes.
    pub fn statistics(&self) -> Statistics {
        let index = &self.catalog.index;
        Statistics {
            message_count: index.total().count,
            message_bytes: index.total().size,
            mailbox_count: index.mailbox_count(),
            index_memory_bytes: index.memory_size() as u64,
            segment_count: self.catalog.segments.len() as u64,
            log_count: 1,
            doubtful_log_count: u64::from(self.committer.is_in_doubt()),
            used_bytes: self.catalog.segments.len() as u64 * self.settings.segment_size,
            capacity_bytes: self.settings.capacity,
            unanswered_count: self.unanswered_count as u64,
            waiting_change_count: self.committer.waiting.len() as u64,
            running_commit_count: self.committer.in_flight.len() as u64,
            ..self.counts
        }
    }

    /// Messages by namespace. By territory they are counted by [`Command::Survey`].
    pub const fn namespaces(&self) -> &BTreeMap<Namespace, Tally> {
        self.catalog.index.by_namespace()
    }

    fn take(&mut self, ticket: Ticket, command: Command) {
        let change = match command {
            Command::Store {
                mailbox,
                namespace,
                hash,
                timestamp,
                expiry,
                data,
            } => Change::Store(StoreChange {
                mailbox,
                namespace,
                hash,
                timestamp,
                expiry,
                data,
            }),
            Command::Delete { mailbox, hashes } => {
                Change::Delete(DeleteChange::new(mailbox, hashes))
            }
            Command::DeleteAll {
                mailbox,
                scope,
                before,
            } => Change::DeleteAll(DeleteAllChange::new(mailbox, scope, before)),
            Command::Expire {
                mailbox,
                targets,
                direction,
            } => Change::Expire(ExpireChange::new(mailbox, targets, direction)),
            Command::ExpireAll {
                mailbox,
                scope,
                expiry,
            } => Change::ExpireAll(ExpireAllChange::new(mailbox, scope, expiry)),
            Command::Revoke { mailbox, tokens } => {
                Change::State(StateChange::Revoke(mailbox, tokens))
            }
            Command::Unrevoke { mailbox, tokens } => {
                Change::State(StateChange::Unrevoke(mailbox, tokens))
            }
            Command::KeepCursor { peer, cursor } => {
                Change::State(StateChange::Cursor(peer, cursor))
            }
            question => return self.ask(ticket, question),
        };
        self.committer.waiting.push_back((ticket, change));
    }

    /// Takes a command that changes nothing.
    fn ask(&mut self, ticket: Ticket, question: Command) {
        match question {
            Command::Retrieve {
                mailbox,
                namespace,
                after,
                count_max,
                size_max,
            } => self.reader.enqueue(Retrieve {
                ticket,
                mailbox,
                choice: Choice::Box {
                    namespace,
                    after,
                    count_max: count_max.max(1),
                    size_max,
                },
            }),
            Command::Fetch { mailbox, hashes } => self.reader.enqueue(Retrieve {
                ticket,
                mailbox,
                choice: Choice::Hashes(hashes),
            }),
            Command::Dump {
                from,
                territory,
                size_max,
            } => self.dumper.enqueue(DumpOrder {
                ticket,
                from,
                territory,
                size_max,
            }),
            Command::Survey { territories } => {
                self.surveys.push_back(Survey::new(ticket, territories));
            }
            question if self.is_recovered() => {
                let outcome = self.look_up(&question);
                self.answer(ticket, outcome);
            }
            question => self.early.push_back((ticket, question)),
        }
    }

    fn answer_early(&mut self) {
        for (ticket, question) in core::mem::take(&mut self.early) {
            let outcome = self.look_up(&question);
            self.answer(ticket, outcome);
        }
    }

    /// Every question that waits for recovery fails.
    fn fail_early(&mut self, fault: StoreFault) {
        let early = core::mem::take(&mut self.early).into_iter();
        let surveys = core::mem::take(&mut self.surveys).into_iter();
        let tickets = early.map(|(ticket, _)| ticket);
        for ticket in tickets.chain(surveys.map(|survey| survey.ticket())) {
            self.answer(ticket, Outcome::Failed(fault));
        }
    }

    /// What the index knows at once.
    fn look_up(&self, question: &Command) -> Outcome {
        let state = |mailbox, subject| {
            let state = self.catalog.states.get(&(mailbox, subject));
            state.map_or(&[][..], |state| &state.value)
        };
        match question {
            Command::Expiries { mailbox, hashes } => {
                let found = hashes.iter().filter_map(|hash| {
                    let (_, entry) = self.catalog.find_live(*mailbox, *hash, self.clock)?;
                    Some((*hash, entry.expiry))
                });
                Outcome::Expiries(found.collect())
            }
            Command::Revocations { mailbox } => {
                let value = state(*mailbox, Subject::REVOCATIONS);
                Outcome::Revocations(Revocations::parse(value).tokens())
            }
            Command::Cursor { peer: key } => {
                Outcome::Cursor(parse_cursor(state(peer(*key), Subject::CURSOR)))
            }
            // Everything else has its queue.
            _ => Outcome::Failed(StoreFault::Busy),
        }
    }

    fn handle_completion(&mut self, Completion { token, result }: Completion) {
        // A token that we did not give out is the disk's fault, and names nothing.
        let Some(purpose) = self.io.purposes.remove(&token) else {
            return;
        };
        self.counts.disk_fault_count += u64::from(result.is_err());
        match purpose {
            Purpose::Recovery(step) => self.handle_recovery(step, result),
            Purpose::CommitWrite(commit, segment) => {
                self.handle_commit_write(commit, segment, done(result));
            }
            Purpose::Create(segment) => self.handle_create(segment, done(result)),
            Purpose::Remove(segment) => self.handle_remove(segment, done(result)),
            Purpose::Read(run) => self.handle_read(&run, read_bytes(result)),
            Purpose::Seal => self.handle_sealing(done(result)),
            Purpose::Sync(segment) => self.handle_sync(segment, done(result)),
            Purpose::Compact(segment) => self.handle_compact_read(segment, read_bytes(result)),
            Purpose::Dump(segment) => self.handle_dump_read(segment, read_bytes(result)),
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
    Recovery(recovery::Step),
    CommitWrite(u64, SegmentId),
    Create(SegmentId),
    Remove(SegmentId),
    Read(read::Run),
    Seal,
    Sync(SegmentId),
    Compact(SegmentId),
    Dump(SegmentId),
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
