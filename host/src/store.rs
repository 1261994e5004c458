//! The logs of the node and the way to them: each mailbox has one log, each log one executor.

use core::cell::{Cell, RefCell};
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;

use cepa_meter::{Buckets, count};
use cepa_relay::Counters;
use cepa_relay::counters::Work;
use cepa_storage::territory::Territory;
use cepa_storage::{Command, Outcome, Report, Settings, Shard, Statistics, StoreFault, Ticket};
use cepa_swarm::monitor::Subscriptions;
use cepa_wire::{Ed25519PublicKey, Mailbox};
use futures_channel::oneshot;
use futures_util::FutureExt as _;
use std::sync::Arc;

use crate::clock;
use crate::disk::SegmentFiles;
use crate::ring::Rings;
use crate::subscribers::{Added, MonitorBound};
use crate::wait::{Notify, within};

/// The longest a log waits before it looks at the clock: expiry is at most so late.
const TICK: Duration = Duration::from_millis(500);

/// A log of this executor.
pub(crate) struct LocalLog {
    shard: RefCell<Shard<SegmentFiles>>,
    waiting: RefCell<BTreeMap<Ticket, oneshot::Sender<Outcome>>>,
    next_ticket: Cell<u64>,
    wake: Rc<Notify>,
    /// Peers that are to get everything anew.
    anew: RefCell<VecDeque<Ed25519PublicKey>>,
    write_seconds: Rc<RefCell<Buckets>>,
}

impl LocalLog {
    /// The log in `dir`, which must be there. [`Self::run`] drives it.
    pub(crate) fn new(dir: PathBuf, settings: Settings) -> Rc<Self> {
        let wake = Rc::new(Notify::default());
        let disk = SegmentFiles::new(dir, Rc::clone(&wake));
        Rc::new(Self {
            write_seconds: disk.write_seconds(),
            shard: RefCell::new(Shard::new(disk, settings)),
            waiting: RefCell::default(),
            next_ticket: Cell::new(0),
            wake,
            anew: RefCell::default(),
        })
    }

    /// Carries out a command.
    pub(crate) async fn execute(&self, command: Command) -> Outcome {
        self.begin(command).await
    }

    /// Hands a command to the log, behind those that were handed before; the future is its outcome.
    pub(crate) fn begin(&self, command: Command) -> impl Future<Output = Outcome> + use<> {
        let ticket = Ticket(self.next_ticket.get());
        self.next_ticket.set(ticket.0 + 1);
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(ticket, sender);
        self.shard
            .borrow_mut()
            .handle_command(ticket, command, clock::now());
        self.wake.notify();
        receiver.map(|outcome| outcome.unwrap_or(Outcome::Failed(StoreFault::DiskFailed)))
    }

    /// Drives the log for as long as the executor lives.
    pub(crate) async fn run(self: Rc<Self>) -> ! {
        self.wake.notify();
        loop {
            let now = clock::now();
            let deadline = self.shard.borrow().poll_deadline();
            let pause = deadline.map_or(TICK, |at| at.saturating_since(now).min(TICK));
            within(pause.max(Duration::from_millis(1)), self.wake.wait()).await;
            self.shard.borrow_mut().handle_disk(clock::now());
            self.deliver_outcomes();
        }
    }

    fn deliver_outcomes(&self) {
        loop {
            let outcome = self.shard.borrow_mut().poll_outcome();
            let Some((ticket, outcome)) = outcome else {
                return;
            };
            if let Some(sender) = self.waiting.borrow_mut().remove(&ticket) {
                // Whoever asked may have gone: a client that hung up.
                drop(sender.send(outcome));
            }
        }
    }

    /// Says which accounts are ours.
    pub(crate) fn set_territory(&self, territory: Territory) {
        self.shard
            .borrow_mut()
            .set_territory(territory, clock::now());
        self.wake.notify();
    }

    /// Lets a peer have all of the log that it is to have.
    pub(crate) fn give_anew(&self, peer: Ed25519PublicKey) {
        let mut anew = self.anew.borrow_mut();
        if !anew.contains(&peer) {
            anew.push_back(peer);
        }
    }

    /// A peer that is to get everything anew.
    pub(crate) fn poll_anew(&self) -> Option<Ed25519PublicKey> {
        self.anew.borrow_mut().pop_front()
    }

    /// Changes how much a mailbox may hold and how long foreign messages stay.
    pub(crate) fn set_limits(&self, mailbox_size_max: u64, foreign_grace: Duration) {
        self.shard
            .borrow_mut()
            .set_limits(mailbox_size_max, foreign_grace);
        self.wake.notify();
    }

    /// Whether recovery is done.
    pub(crate) fn is_recovered(&self) -> bool {
        self.shard.borrow().is_recovered()
    }

    /// Whether commands are under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Counts and sizes.
    pub(crate) fn statistics(&self) -> Statistics {
        self.shard.borrow().statistics()
    }

    /// How long its durable writes took.
    pub(crate) fn write_seconds(&self) -> Buckets {
        *self.write_seconds.borrow()
    }

    /// What an operator may know.
    pub(crate) fn report(&self, foreign_message_count: u64) -> Report {
        let shard = self.shard.borrow();
        Report {
            statistics: shard.statistics(),
            namespaces: shard.namespaces().clone(),
            foreign_message_count,
        }
    }

    /// Why stores fail, if they do.
    pub(crate) fn last_fault(&self) -> Option<StoreFault> {
        self.shard.borrow().last_fault()
    }
}

/// All logs as one executor sees them.
pub(crate) struct Stores {
    /// The logs of this executor, by their number among all logs.
    local: BTreeMap<usize, Rc<LocalLog>>,
    log_count: usize,
    tile_count: usize,
    rings: Rc<Rings>,
    counters: Arc<Counters>,
    /// Who is told of new messages of the local logs.
    subscriptions: RefCell<Subscriptions>,
    bound: MonitorBound,
}

impl Stores {
    pub(crate) fn new(
        local: BTreeMap<usize, Rc<LocalLog>>,
        log_count: usize,
        tile_count: usize,
        rings: Rc<Rings>,
        counters: Arc<Counters>,
        bound: MonitorBound,
    ) -> Self {
        Self {
            local,
            log_count,
            tile_count,
            rings,
            counters,
            subscriptions: RefCell::default(),
            bound,
        }
    }

    /// Carries out a command at a log of ours, and tells who wants to hear of it.
    async fn execute_local(&self, local: &LocalLog, command: Command) -> Outcome {
        let draft = self.subscriptions.borrow().draft(&command);
        let begun = work_of(&command).map(|work| (work, clock::nanos()));
        let outcome = local.execute(command).await;
        if let Some((work, begun)) = begun {
            let taken = clock::nanos().saturating_sub(begun);
            self.counters.store_command_seconds.of(work).record(taken);
        }
        if let Some(draft) = draft
            && let Outcome::Stored {
                already: false,
                expiry,
            } = outcome
        {
            let subscriptions = self.subscriptions.borrow();
            let (told, dropped) = subscriptions.notify(&draft, expiry, clock::now());
            self.counters.monitor_notified.fetch_add(told, Relaxed);
            self.counters.monitor_dropped.fetch_add(dropped, Relaxed);
        }
        outcome
    }

    /// Adds a subscription, here or at the shard that has the mailbox; false when there is no room.
    pub(crate) fn add_subscription(&self, added: Added) -> bool {
        if !self.bound.has_room() {
            return false;
        }
        let log = log_of(&added.authorised.mailbox, self.log_count);
        if self.local.contains_key(&log) {
            self.add_own_subscription(added);
            true
        } else {
            let to = tile_of(log, self.tile_count);
            self.rings.send_subscription(to, added)
        }
    }

    /// Adds a subscription to a mailbox of ours.
    pub(crate) fn add_own_subscription(&self, added: Added) {
        let Added {
            authorised,
            connection,
            subscriber,
        } = added;
        let mut subscriptions = self.subscriptions.borrow_mut();
        if subscriptions.add(authorised, connection, &subscriber, clock::now()) {
            self.bound.add(1);
        }
    }

    /// Ends subscriptions that are over.
    pub(crate) fn sweep_subscriptions(
        &self,
        mailbox_count: usize,
        is_ours: impl Fn(&Mailbox) -> bool,
    ) {
        let mut subscriptions = self.subscriptions.borrow_mut();
        let swept = subscriptions.sweep(mailbox_count, clock::now(), is_ours);
        self.bound.remove(swept.ended);
    }

    /// Carries out a command at the log of its mailbox, here or at another executor.
    pub(crate) async fn execute(&self, command: Command) -> Outcome {
        let Some(mailbox) = command.mailbox() else {
            // What concerns a log as a whole is asked of that log.
            return Outcome::Failed(StoreFault::Busy);
        };
        let log = log_of(mailbox, self.log_count);
        let outcome = match self.local.get(&log) {
            Some(local) => self.execute_local(local, command).await,
            None => {
                self.rings
                    .execute(tile_of(log, self.tile_count), log, command)
                    .await
            }
        };
        self.count(&outcome);
        outcome
    }

    /// Carries out a command that another executor sent here.
    pub(crate) async fn execute_for_other(&self, log: usize, command: Command) -> Outcome {
        match self.local.get(&log) {
            Some(local) => self.execute_local(local, command).await,
            None => Outcome::Failed(StoreFault::DiskFailed),
        }
    }

    /// The logs of this executor with their numbers.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (usize, &Rc<LocalLog>)> {
        self.local.iter().map(|(number, log)| (*number, log))
    }

    pub(crate) fn local(&self) -> impl Iterator<Item = &Rc<LocalLog>> {
        self.local.values()
    }

    fn count(&self, outcome: &Outcome) {
        let add = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        match outcome {
            Outcome::Stored { already: false, .. } => count(&self.counters.message_stored),
            Outcome::Stored { already: true, .. } => count(&self.counters.message_duplicate),
            Outcome::Retrieved { messages, .. } => {
                self.counters
                    .message_retrieved
                    .fetch_add(add(messages.len()), Relaxed);
            }
            Outcome::Deleted(hashes) => {
                self.counters
                    .message_deleted
                    .fetch_add(add(hashes.len()), Relaxed);
            }
            Outcome::Failed(_) => count(&self.counters.store_failed),
            // Their requests come with the methods that need them.
            _ => {}
        }
    }
}

/// What a command does with the log; `None` of what the index answers at once.
const fn work_of(command: &Command) -> Option<Work> {
    match command {
        Command::Store { .. }
        | Command::Delete { .. }
        | Command::DeleteAll { .. }
        | Command::Expire { .. }
        | Command::ExpireAll { .. }
        | Command::Revoke { .. }
        | Command::Unrevoke { .. }
        | Command::KeepCursor { .. } => Some(Work::Change),
        Command::Retrieve { .. } | Command::Fetch { .. } => Some(Work::Read),
        _ => None,
    }
}

/// The log of a mailbox. Keys of accounts are spread evenly; whoever makes keys that are not only
/// crowds a log that holds other mailboxes as well, and gains nothing.
pub(crate) fn log_of(mailbox: &Mailbox, log_count: usize) -> usize {
    let [a, b, c, d, ..] = mailbox.key;
    let spread = u64::from(u32::from_le_bytes([a, b, c, d]));
    usize::try_from(spread).unwrap_or(0) % log_count
}

/// The executor that a log lives at.
pub(crate) const fn tile_of(log: usize, tile_count: usize) -> usize {
    log % tile_count
}
